//! Projects, and to which of them a repository belongs.
//!
//! A project is a folder with repositories: there is one as long as there is a repository in it, and nobody makes or
//! deletes one by itself. So its id is worked out from its name.

use hyper::Method;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::call::Call;
use super::endpoint::{ABOVE_PROJECTS, Answer, Endpoint, Kind, Level, Param, Proof, schema};
use super::places::{self, Project};
use super::reply::{CONTINUATION, List, Reply};
use super::repositories::{self, GitRepository};
use super::version::Versions;
use crate::auth::scope::Operation;
use crate::http::error::HttpError;
use crate::names::{AccessPath, RepoPath, url_component};
use crate::store::Role;

pub(super) const PROJECTS: Versions = Versions::Released(4);

/// Projects on one page if nothing is said; Azure DevOps has as many.
const PAGE_COUNT: usize = 100;

/// Projects on one page at most.
const PAGE_COUNT_MAX: i64 = 10_000;

const STATE: Param = Param::new(
    "stateFilter",
    Kind::Word(&[
        "all",
        "wellFormed",
        "new",
        "createPending",
        "deleting",
        "deleted",
        "unchanged",
    ]),
    "The state of the projects to list; every project is wellFormed.",
);
const TOP: Param = Param::new(
    "$top",
    Kind::Integer(1, PAGE_COUNT_MAX),
    "How many projects to list at most; 100 if nothing is said.",
);
const SKIP: Param = Param::new(
    "$skip",
    Kind::Integer(0, i64::MAX),
    "How many projects to leave out before.",
);
const FROM: Param = Param::new(
    "continuationToken",
    Kind::Integer(0, i64::MAX),
    "Where to go on, as the header X-MS-ContinuationToken of the page before said.",
);
const CAPABILITIES: Param = Param::new(
    "includeCapabilities",
    Kind::Boolean,
    "Whether to say what the project can do.",
);
const HISTORY: Param = Param::new(
    "includeHistory",
    Kind::Boolean,
    "Whether to look among former names, too; there are none.",
);
const IMAGE: Param = Param::new(
    "getDefaultTeamImageUrl",
    Kind::Boolean,
    "Whether to give a picture of the team; there is none.",
);

/// This module's rows.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        id: "projects.list",
        method: Method::GET,
        path: "/projects",
        levels: ABOVE_PROJECTS,
        proof: Proof::Token,
        operation: Operation::ReadProjects,
        versions: PROJECTS,
        params: &[&STATE, &TOP, &SKIP, &FROM, &IMAGE],
        body: None,
        answers: &[Answer {
            status: 200,
            body: Some(schema::<List<TeamProjectReference>>),
            headers: &[(
                "X-MS-ContinuationToken",
                "Where the next page begins; missing on the last.",
            )],
            description: "The projects in which the caller sees a repository.",
        }],
        summary: "List the projects of a collection.",
        run: list,
    },
    Endpoint {
        id: "projects.get",
        method: Method::GET,
        path: "/projects/{projectId}",
        levels: ABOVE_PROJECTS,
        proof: Proof::Token,
        operation: Operation::ReadProjects,
        versions: PROJECTS,
        params: &[&CAPABILITIES, &HISTORY],
        body: None,
        answers: &[Answer::with(200, schema::<TeamProject>, "The project.")],
        summary: "Read a project, by its name or its id.",
        run: get,
    },
    Endpoint {
        id: "vsts.info",
        method: Method::GET,
        path: "/vsts/info",
        levels: &[Level::Repository],
        proof: Proof::Token,
        operation: Operation::ReadRepositories,
        versions: Versions::Own,
        params: &[],
        body: None,
        answers: &[Answer::with(
            200,
            schema::<VstsInfo>,
            "The repository, and the collection that it belongs to.",
        )],
        summary: "Tell to which collection and project the repository of a Git URL belongs.",
        run: info,
    },
];

/// A project, as other resources refer to it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(super) struct TeamProjectReference {
    /// Its id, worked out from its name.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The URL of this resource.
    pub url: String,
    /// `wellFormed`.
    pub state: &'static str,
    /// The same moment, in seconds since 1970.
    pub revision: i64,
    /// `public` if everyone with a token may fetch from every repository in it that the caller sees, else `private`.
    pub visibility: &'static str,
    /// When one of its repositories that the caller sees was last made or changed, as far as its folder tells.
    pub last_update_time: Timestamp,
}

impl TeamProjectReference {
    /// Describes the project of `repositories`, which must not be empty.
    pub fn new(
        call: &Call,
        collection: &str,
        name: &str,
        repositories: &[RepoPath],
    ) -> Result<TeamProjectReference, HttpError> {
        let id = call.ids()?.project(collection, name);
        // The folder of the project would tell of repositories that the caller may not know of.
        let mut changed = Timestamp::UNIX_EPOCH;
        let mut is_public = true;
        let place = AccessPath::Project(collection.to_owned(), name.to_owned());
        let everyones = call.store().roles_below(None, &place)?;
        for repository in repositories {
            // One that is just going has no time any more.
            let time = call.repositories().changed_at(repository)?;
            let time = time.and_then(|time| Timestamp::try_from(time).ok());
            changed = changed.max(time.unwrap_or_default());
            is_public = is_public && everyones.on(repository) >= Some(Role::Reader);
        }
        let changed = Timestamp::from_second(changed.as_second()).unwrap_or_default();
        Ok(TeamProjectReference {
            url: format!("{}/_apis/projects/{id}", collection_url(call, collection)),
            id,
            name: name.to_owned(),
            state: "wellFormed",
            revision: changed.as_second(),
            visibility: if is_public { "public" } else { "private" },
            last_update_time: changed,
        })
    }
}

/// The URL of a collection.
pub(super) fn collection_url(call: &Call, collection: &str) -> String {
    format!("{}/{}", call.base(), url_component(collection))
}

/// A project.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct TeamProject {
    #[serde(flatten)]
    reference: TeamProjectReference,
    /// What it can do, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Capabilities>,
    /// Where related resources are.
    #[serde(rename = "_links")]
    links: ProjectLinks,
}

/// What a project can do.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Capabilities {
    /// Its version control.
    versioncontrol: VersionControl,
}

/// The version control of a project.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct VersionControl {
    /// `Git`.
    source_control_type: &'static str,
    /// `True`.
    git_enabled: &'static str,
    /// `False`.
    tfvc_enabled: &'static str,
}

/// A link.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Link {
    /// Where it leads.
    pub href: String,
}

/// Links of a project.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct ProjectLinks {
    /// The project itself.
    #[serde(rename = "self")]
    own: Link,
    /// Its repositories.
    repositories: Link,
}

/// To which collection and project a repository belongs.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct VstsInfo {
    /// The URL that clients take for the server's: that of the collection.
    server_url: String,
    /// The collection.
    collection: CollectionReference,
    /// The repository.
    repository: GitRepository,
}

/// A collection, as other resources refer to it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct CollectionReference {
    /// Its id, worked out from its name.
    id: Uuid,
    /// Its name.
    name: String,
    /// Its URL.
    url: String,
}

fn reference(call: &Call, project: &Project) -> Result<TeamProjectReference, HttpError> {
    TeamProjectReference::new(call, &project.collection, &project.name, &project.repositories)
}

fn list(call: &Call) -> Result<Reply, HttpError> {
    let found = places::find(call)?;
    let is_asked_for = matches!(call.text(&STATE), None | Some("all" | "wellFormed"));
    let skipped = call
        .count(&FROM)
        .unwrap_or(0)
        .saturating_add(call.count(&SKIP).unwrap_or(0));
    let count_max = call.count(&TOP).unwrap_or(PAGE_COUNT);
    let projects: &[Project] = if is_asked_for { &found.projects } else { &[] };
    let page = projects.iter().skip(skipped).take(count_max);
    let page = page
        .map(|project| reference(call, project))
        .collect::<Result<Vec<_>, _>>()?;
    let next = skipped.saturating_add(page.len());
    let has_more = next < projects.len() && !page.is_empty();
    let reply = Reply::ok(&List::from(page))?;
    Ok(if has_more {
        reply.header(CONTINUATION, &next.to_string())
    } else {
        reply
    })
}

fn get(call: &Call) -> Result<Reply, HttpError> {
    let asked = call.argument("projectId");
    let id = Uuid::try_parse(&asked).ok();
    let name = asked.to_lowercase();
    let found = places::find(call)?;
    let by_name = |project: &&Project| project.name.to_lowercase() == name;
    let by_id = |project: &&Project| Some(project.id) == id;
    let project = found.projects.iter().find(by_name);
    let Some(project) = project.or_else(|| found.projects.iter().find(by_id)) else {
        return Err(places::no_project(&asked));
    };
    let reference = reference(call, project)?;
    let url = |rest: &str| format!("{}/{rest}", collection_url(call, &project.collection));
    Reply::ok(&TeamProject {
        capabilities: call.flag(&CAPABILITIES).then_some(Capabilities {
            versioncontrol: VersionControl {
                source_control_type: "Git",
                git_enabled: "True",
                tfvc_enabled: "False",
            },
        }),
        links: ProjectLinks {
            own: Link {
                href: reference.url.clone(),
            },
            repositories: Link {
                href: url(&format!(
                    "{}/_apis/git/repositories",
                    url_component(&project.name)
                )),
            },
        },
        reference,
    })
}

fn info(call: &Call) -> Result<Reply, HttpError> {
    let (gate, principal) = (call.gate(), call.principal()?);
    let mut found = None;
    for candidate in gate.narrow(principal, call.candidates())?.iter() {
        if let Some(path) = call.repositories().locate(candidate)?
            && gate.visible_role(principal, &path)?.is_some()
        {
            found = Some(path);
            break;
        }
    }
    let path = found.ok_or_else(|| {
        let asked = call.candidates().first().map(RepoPath::repository);
        places::no_repository(asked.unwrap_or_default())
    })?;
    gate.authorize_read(principal, Some(&path))?;
    call.context.record.set_repository(&path.to_string());
    let url = collection_url(call, path.collection());
    Reply::ok(&VstsInfo {
        collection: CollectionReference {
            id: call.ids()?.collection(path.collection()),
            name: path.collection().to_owned(),
            url: url.clone(),
        },
        server_url: url,
        repository: repositories::describe(call, &path)?,
    })
}
