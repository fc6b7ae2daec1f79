//! What a client of Azure DevOps asks before anything else: where resources are, in which versions, and who it is here.
//!
//! The ids of resources are Azure DevOps's own; its clients have them compiled in and find a resource's URL by them.

use std::collections::BTreeMap;

use hyper::Method;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::audit_log::AUDIT;
use super::call::Call;
use super::endpoint::{ABOVE_PROJECTS, ANYWHERE, Answer, Endpoint, Kind, Param, Proof, schema};
use super::projects::PROJECTS;
use super::reply::{List, Reply};
use super::repositories::GIT;
use super::token_admin::TOKEN_ADMIN;
use super::version::{NEWEST, RELEASED, Versions};
use crate::auth::scope::Operation;
use crate::http::error::HttpError;
use crate::store::Account;

/// The resource of connection data and resource areas.
const LOCATION: Versions = Versions::Preview(1);

const CONNECT_OPTIONS: Param = Param::new(
    "connectOptions",
    Kind::Text(100),
    "What to include; all of it is, whatever is asked for.",
);

const DETAILS: Param = Param::new(
    "details",
    Kind::Boolean,
    "Whether to give coreAttributes: the name, as an attribute.",
);
const WITH_ATTRIBUTES: Param = Param::new(
    "withAttributes",
    Kind::Boolean,
    "Whether to give the attributes of a partition; there are none.",
);
const PARTITION: Param = Param::new(
    "partition",
    Kind::Text(100),
    "The partition whose attributes to give.",
);
const CORE_ATTRIBUTES: Param = Param::new(
    "coreAttributes",
    Kind::Text(100),
    "Which core attributes to give, with commas between; DisplayName is the only one.",
);
const FORCE_REFRESH: Param = Param::new("forceRefresh", Kind::Boolean, "Changes nothing.");

/// This module's rows.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        id: "locations.list",
        method: Method::OPTIONS,
        path: "/",
        levels: ANYWHERE,
        proof: Proof::Token,
        operation: Operation::Discover,
        versions: Versions::Own,
        params: &[],
        body: None,
        answers: &[Answer::with(
            200,
            schema::<List<ApiResourceLocation>>,
            "All resources.",
        )],
        summary: "List the resources that there are, and where they are.",
        run: |_| Reply::ok(&List::from(locations(None))),
    },
    Endpoint {
        id: "locations.list-of-area",
        method: Method::OPTIONS,
        path: "/{area}",
        levels: ANYWHERE,
        proof: Proof::Token,
        operation: Operation::Discover,
        versions: Versions::Own,
        params: &[],
        body: None,
        answers: &[Answer::with(
            200,
            schema::<List<ApiResourceLocation>>,
            "The resources of the area; none if there is no such area.",
        )],
        summary: "List the resources of one area.",
        run: |call| Reply::ok(&List::from(locations(Some(&call.argument("area"))))),
    },
    Endpoint {
        id: "resource-areas.list",
        method: Method::GET,
        path: "/resourceareas",
        levels: ANYWHERE,
        proof: Proof::Token,
        operation: Operation::Discover,
        versions: LOCATION,
        params: &[],
        body: None,
        answers: &[Answer::with(
            200,
            schema::<List<ResourceAreaInfo>>,
            "Always none: every area is on this server.",
        )],
        summary: "List the areas that are on another server.",
        run: |_| Reply::ok(&List::<ResourceAreaInfo>::from(Vec::new())),
    },
    Endpoint {
        id: "connection-data.get",
        method: Method::GET,
        path: "/connectiondata",
        levels: ABOVE_PROJECTS,
        proof: Proof::Token,
        operation: Operation::Discover,
        versions: LOCATION,
        params: &[&CONNECT_OPTIONS],
        body: None,
        answers: &[Answer::with(
            200,
            schema::<ConnectionData>,
            "The caller and the server.",
        )],
        summary: "Tell who calls, and which server this is.",
        run: connection_data,
    },
    Endpoint {
        id: "profiles.get",
        method: Method::GET,
        path: "/profile/profiles/{id}",
        levels: ABOVE_PROJECTS,
        proof: Proof::Token,
        operation: Operation::ReadProfile,
        versions: PROFILE,
        params: &[
            &DETAILS,
            &WITH_ATTRIBUTES,
            &PARTITION,
            &CORE_ATTRIBUTES,
            &FORCE_REFRESH,
        ],
        body: None,
        answers: &[Answer::with(200, schema::<Profile>, "The profile.")],
        summary: "Read the profile of the caller: 'me', or the caller's own id.",
        run: profile,
    },
];

const PROFILE: Versions = Versions::Released(3);

/// One resource, as `OPTIONS` lists it.
struct Location {
    id: &'static str,
    area: &'static str,
    resource: &'static str,
    template: &'static str,
    versions: Versions,
}

/// All resources that clients of Azure DevOps know.
const LOCATIONS: &[Location] = &[
    Location {
        id: "00d9565f-ed9c-4a06-9a50-00e7896ccab4",
        area: "Location",
        resource: "ConnectionData",
        template: "_apis/{resource}",
        versions: LOCATION,
    },
    Location {
        id: "e81700f7-3be2-46de-8624-2eb35882fcaa",
        area: "Location",
        resource: "ResourceAreas",
        template: "_apis/{resource}/{areaId}",
        versions: LOCATION,
    },
    Location {
        id: "603fe2ac-9723-48b9-88ad-09305aa6c6e1",
        area: "core",
        resource: "projects",
        template: "_apis/{resource}/{*projectId}",
        versions: PROJECTS,
    },
    Location {
        id: "225f7195-f9c7-4d14-ab28-a83f7ff77e1f",
        area: "git",
        resource: "repositories",
        template: "{project}/_apis/{area}/{resource}/{repositoryId}",
        versions: GIT,
    },
    Location {
        id: "2d874a60-a811-4f62-9c9f-963a6ea0a55b",
        area: "git",
        resource: "refs",
        template: "{project}/_apis/{area}/repositories/{repositoryId}/{resource}/{*filter}",
        versions: GIT,
    },
    Location {
        id: "f83735dc-483f-4238-a291-d45f6080a9af",
        area: "Profile",
        resource: "Profiles",
        template: "_apis/{area}/{resource}/{id}",
        versions: PROFILE,
    },
    Location {
        id: "af68438b-ed04-4407-9eb6-f1dbae3f922e",
        area: "TokenAdmin",
        resource: "PersonalAccessTokens",
        template: "_apis/{area}/{resource}/{subjectDescriptor}",
        versions: TOKEN_ADMIN,
    },
    Location {
        id: "a9c08b2c-5466-4e22-8626-1ff304ffdf0f",
        area: "TokenAdmin",
        resource: "Revocations",
        template: "_apis/{area}/{resource}",
        versions: TOKEN_ADMIN,
    },
    Location {
        id: "ee4afb16-e7ab-4ed8-9d4b-4ef3e78f97e4",
        area: "TokenAdmin",
        resource: "RevocationRules",
        template: "_apis/{area}/{resource}",
        versions: TOKEN_ADMIN,
    },
    Location {
        id: "4e5fa14f-7097-4b73-9c85-00abc7353c61",
        area: "Audit",
        resource: "AuditLog",
        template: "_apis/{area}/{resource}",
        versions: AUDIT,
    },
    Location {
        id: "6fa30b9a-9558-4e3b-a95f-a12572caa6e6",
        area: "Audit",
        resource: "Actions",
        template: "_apis/{area}/{resource}",
        versions: AUDIT,
    },
];

/// The resources of an area, or all.
fn locations(area: Option<&str>) -> Vec<ApiResourceLocation> {
    LOCATIONS
        .iter()
        .filter(|location| area.is_none_or(|area| location.area.eq_ignore_ascii_case(area)))
        .map(ApiResourceLocation::from)
        .collect()
}

/// Where a resource is, and in which versions.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct ApiResourceLocation {
    /// The id by which clients know the resource.
    id: Uuid,
    /// The area that it belongs to.
    area: &'static str,
    /// Its name.
    resource_name: &'static str,
    /// Its URL after that of the collection.
    route_template: &'static str,
    /// The newest revision of its preview.
    resource_version: u32,
    /// The oldest version.
    min_version: String,
    /// The newest version.
    max_version: String,
    /// The newest version that is no preview; `0.0` if there is none.
    released_version: String,
}

impl From<&Location> for ApiResourceLocation {
    fn from(location: &Location) -> Self {
        let text = |(major, minor): (u32, u32)| format!("{major}.{minor}");
        ApiResourceLocation {
            id: Uuid::try_parse(location.id).unwrap_or_default(),
            area: location.area,
            resource_name: location.resource,
            route_template: location.template,
            resource_version: location.versions.revision(),
            min_version: "1.0".to_owned(),
            max_version: text(NEWEST),
            released_version: match location.versions {
                Versions::Preview(_) => "0.0".to_owned(),
                Versions::Released(_) | Versions::Own => text(RELEASED),
            },
        }
    }
}

/// An area on another server. There are none; clients then stay on this one.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct ResourceAreaInfo {
    /// The id of the area.
    id: Uuid,
    /// Its name.
    name: String,
    /// Where it is.
    location_url: String,
}

/// Who calls, and which server this is.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct ConnectionData {
    /// Whose token was used.
    authenticated_user: Identity,
    /// Whose rights count: the same.
    authorized_user: Identity,
    /// The id of this installation.
    instance_id: Uuid,
    /// The same.
    deployment_id: Uuid,
    /// `onPremises`.
    deployment_type: &'static str,
    /// Where the server is reached.
    location_service_data: LocationServiceData,
    /// The path of the server below its address: none.
    web_application_relative_directory: &'static str,
}

/// An account, as an identity.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct Identity {
    /// The id of the account.
    id: Uuid,
    /// What tells it from identities of other kinds.
    descriptor: String,
    /// The name by which other resources of the interface ask for it.
    subject_descriptor: String,
    /// Its name.
    provider_display_name: String,
    /// Whether its tokens open anything.
    is_active: bool,
    /// Whether it is a group.
    is_container: bool,
    /// Further properties.
    properties: IdentityProperties,
}

/// Further properties of an identity.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
#[schemars(deny_unknown_fields)]
struct IdentityProperties {
    /// The account's name, with its type.
    account: TypedText,
}

/// A text with its type beside it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct TypedText {
    /// `System.String`.
    #[serde(rename = "$type")]
    kind: &'static str,
    /// The text.
    #[serde(rename = "$value")]
    value: String,
}

/// Where the server is reached.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct LocationServiceData {
    /// The service that says so.
    service_owner: Uuid,
    /// Which entry of `accessMappings` to use.
    default_access_mapping_moniker: &'static str,
    /// The number of the last change; -1, because nothing ever changes.
    last_change_id: i32,
    /// The same.
    last_change_id64: i64,
    /// Whether what the client has kept may be used on.
    client_cache_fresh: bool,
    /// How many seconds it may be kept.
    client_cache_time_to_live: u32,
    /// Where the server is reached.
    access_mappings: Vec<AccessMapping>,
}

/// One way to reach the server.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct AccessMapping {
    /// Its name for people.
    display_name: &'static str,
    /// Its name.
    moniker: &'static str,
    /// The URL.
    access_point: String,
    /// The service that says so.
    service_owner: Uuid,
    /// The path below it.
    virtual_directory: &'static str,
}

/// The service that has projects and repositories, for clients that ask.
const SERVICE_OWNER: Uuid = Uuid::from_u128(0x0002_5394_6065_48ca_87d9_7f56_7285_4ef7);

const PUBLIC_MAPPING: &str = "PublicAccessMapping";

/// The account of the caller.
fn own_account(call: &Call) -> Result<Account, HttpError> {
    let name = call.principal()?.account().unwrap_or_default();
    // It was there when the gate looked.
    let found = call.store().find_account(name)?;
    found.ok_or_else(|| HttpError::unauthorized("The account that this token belongs to is gone.", true))
}

fn connection_data(call: &Call) -> Result<Reply, HttpError> {
    let account = own_account(call)?;
    let ids = call.ids()?;
    let identity = || {
        let id = ids.account(account.id);
        Identity {
            id,
            descriptor: format!("Patgate.Account;{id}"),
            subject_descriptor: format!("{DESCRIPTOR_PREFIX}{id}"),
            provider_display_name: account.name.clone(),
            is_active: !account.is_disabled,
            is_container: false,
            properties: IdentityProperties {
                account: TypedText {
                    kind: "System.String",
                    value: account.name.clone(),
                },
            },
        }
    };
    Reply::ok(&ConnectionData {
        authenticated_user: identity(),
        authorized_user: identity(),
        instance_id: ids.instance(),
        deployment_id: ids.instance(),
        deployment_type: "onPremises",
        location_service_data: LocationServiceData {
            service_owner: SERVICE_OWNER,
            default_access_mapping_moniker: PUBLIC_MAPPING,
            last_change_id: -1,
            last_change_id64: -1,
            client_cache_fresh: false,
            client_cache_time_to_live: 3600,
            access_mappings: vec![AccessMapping {
                display_name: "Public Access Mapping",
                moniker: PUBLIC_MAPPING,
                access_point: format!("{}/", call.base()),
                service_owner: SERVICE_OWNER,
                virtual_directory: "",
            }],
        },
        web_application_relative_directory: "",
    })
}

/// What the subject descriptor of an account begins with; its id follows.
pub(super) const DESCRIPTOR_PREFIX: &str = "pg.";

/// A person's profile.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct Profile {
    /// The id of the account.
    id: Uuid,
    /// Its name.
    display_name: String,
    /// The same as `id`.
    public_alias: Uuid,
    /// `readOnly`: accounts are changed on the command line.
    profile_state: &'static str,
    /// How often the profile was changed.
    core_revision: u32,
    /// The same.
    revision: u32,
    /// When it was last changed: when the account was made.
    time_stamp: jiff::Timestamp,
    /// The core attributes by their names, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    core_attributes: Option<BTreeMap<&'static str, CoreProfileAttribute>>,
    /// The attributes of a partition, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    application_container: Option<AttributesContainer>,
}

/// A core attribute of a profile.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct CoreProfileAttribute {
    /// Which it is.
    descriptor: AttributeDescriptor,
    /// Its value.
    value: String,
    /// When it was last changed.
    time_stamp: jiff::Timestamp,
    /// How often it was changed.
    revision: u32,
}

/// Which attribute it is.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct AttributeDescriptor {
    /// Its name.
    attribute_name: &'static str,
    /// Where it is kept: `Core`.
    container_name: &'static str,
}

/// The attributes of a partition.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct AttributesContainer {
    /// The name of the partition.
    container_name: String,
    /// None.
    attributes: BTreeMap<String, String>,
    /// 0.
    revision: u32,
}

const DISPLAY_NAME: &str = "DisplayName";

fn profile(call: &Call) -> Result<Reply, HttpError> {
    let account = own_account(call)?;
    let id = call.ids()?.account(account.id);
    let asked = call.argument("id");
    if !asked.eq_ignore_ascii_case("me") && Uuid::try_parse(&asked) != Ok(id) {
        return Err(HttpError::absent(
            "There is no such profile, or it is not yours. Ask for 'me'.",
        ));
    }
    let is_named = |names: &str| {
        names
            .split(',')
            .any(|name| name.trim().eq_ignore_ascii_case(DISPLAY_NAME))
    };
    let has_name = call.text(&CORE_ATTRIBUTES).map_or(call.flag(&DETAILS), is_named);
    let core_attributes = has_name.then(|| {
        let attribute = CoreProfileAttribute {
            descriptor: AttributeDescriptor {
                attribute_name: DISPLAY_NAME,
                container_name: "Core",
            },
            value: account.name.clone(),
            time_stamp: account.created_at,
            revision: 0,
        };
        BTreeMap::from([(DISPLAY_NAME, attribute)])
    });
    let partition = call.text(&PARTITION).filter(|_| call.flag(&WITH_ATTRIBUTES));
    Reply::ok(&Profile {
        id,
        display_name: account.name,
        public_alias: id,
        profile_state: "readOnly",
        core_revision: 0,
        revision: 0,
        time_stamp: account.created_at,
        core_attributes,
        application_container: partition.map(|partition| AttributesContainer {
            container_name: partition.to_owned(),
            attributes: BTreeMap::new(),
            revision: 0,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::api::endpoint;

    #[test]
    fn every_location_leads_to_rows_of_the_same_version() {
        for location in LOCATIONS {
            assert!(Uuid::try_parse(location.id).is_ok(), "{}", location.id);
            let (_, template) = location.template.split_once("_apis").unwrap();
            let path = template
                .replace("{area}", location.area)
                .replace("{resource}", location.resource)
                .to_lowercase();
            // What stands last may be left out.
            let (short, last) = path.rsplit_once('/').unwrap();
            let paths = [path.as_str(), if last.starts_with('{') { short } else { &path }];
            let rows: Vec<_> = endpoint::all()
                .filter(|row| paths.contains(&row.path.to_lowercase().as_str()))
                .collect();
            assert!(!rows.is_empty(), "{path}");
            for row in rows {
                assert_eq!(row.versions, location.versions, "{}", row.path);
            }
        }
    }

    #[test]
    fn ids_of_locations_differ() {
        for (at, location) in LOCATIONS.iter().enumerate() {
            assert!(LOCATIONS[..at].iter().all(|other| other.id != location.id));
        }
    }

    #[test]
    fn an_area_is_found_in_any_case_and_an_unknown_one_is_empty() {
        assert_eq!(locations(Some("LOCATION")).len(), 2);
        assert!(locations(Some("build")).is_empty());
        assert_eq!(locations(None).len(), LOCATIONS.len());
    }
}
