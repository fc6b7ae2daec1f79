//! The OpenAPI document (3.1), made from the rows in [`endpoint`](super::endpoint).
//!
//! Invariant: it says of every path, method, parameter, body and status what the rows say, because it is made of
//! nothing else. Whoever has a live token may read it: it tells what every instance of this version has, and nothing of
//! this one. <https://spec.openapis.org/oas/v3.1.1>.

use std::sync::LazyLock;

use hyper::{Method, StatusCode};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::endpoint::{self, ANYWHERE, Answer, Endpoint, Kind, Level, Param, Proof};
use super::reply::Reply;
use super::version::{NEWEST, Versions};
use crate::auth::scope::{Need, Operation};

/// This module's rows.
pub(super) const ENDPOINTS: &[Endpoint] = &[Endpoint {
    id: "openapi.get",
    method: Method::GET,
    path: "/openapi.json",
    levels: ANYWHERE,
    proof: Proof::Token,
    operation: Operation::Discover,
    versions: Versions::Own,
    params: &[],
    body: None,
    answers: &[Answer::with(200, any_object, "This document.")],
    summary: "Read this document.",
    run: |_| Reply::ok(&*DOCUMENT),
}];

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

fn any_object(_: &mut SchemaGenerator) -> schemars::Schema {
    json_schema!({ "type": "object" })
}

/// What every error is told by.
#[derive(Debug, serde::Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct WrappedException {
    /// `1`.
    #[serde(rename = "$id")]
    id: String,
    /// Nothing.
    inner_exception: (),
    /// What went wrong and what to do, for people.
    message: String,
    /// The name of the exception with its namespace and assembly, as Azure DevOps has it.
    type_name: String,
    /// The name of the exception alone.
    type_key: String,
    /// 0.
    error_code: i32,
    /// 3000.
    event_id: i32,
}

/// What every endpoint can answer, by the proof that it takes.
fn common(endpoint: &Endpoint) -> Vec<(StatusCode, &'static str)> {
    let mut all = vec![
        (
            StatusCode::BAD_REQUEST,
            "Something in the request makes no sense; the message names it.",
        ),
        (
            StatusCode::FORBIDDEN,
            match endpoint.proof {
                Proof::Password => {
                    "A token was given, or a password that was made for a first sign-in; or the connection is not \
                     encrypted."
                }
                Proof::Token | Proof::Nothing => {
                    "The token lacks a scope, or its owner a right; or the connection is not encrypted."
                }
            },
        ),
        (
            StatusCode::NOT_FOUND,
            "There is no such thing, or the caller may not see it.",
        ),
        (
            StatusCode::TOO_MANY_REQUESTS,
            "Too many requests, or too many failures to prove who calls.",
        ),
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            "Something is broken on the server.",
        ),
        (StatusCode::SERVICE_UNAVAILABLE, "The server has too much to do."),
    ];
    if endpoint.path.contains("{repositoryId}") || endpoint.levels.contains(&Level::Repository) {
        all.push((
            StatusCode::NOT_IMPLEMENTED,
            "The repository uses something that this server does not know.",
        ));
    }
    all.push((
        StatusCode::UNAUTHORIZED,
        match endpoint.proof {
            Proof::Nothing => "The URL names what cannot be, which only the holder of a live token is told.",
            Proof::Password => "There is no credential, or it is not the name and password of an account.",
            Proof::Token => "There is no credential, or it is no live token.",
        },
    ));
    if endpoint.body.is_some() {
        all.extend([
            (StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time."),
            (StatusCode::CONFLICT, "It goes against what is there."),
            (StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than 1 MiB."),
            (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The body is not said to be application/json.",
            ),
        ]);
    }
    all
}

/// What the document says of a parameter that has slashes in it.
const REST_OF_PATH: &str = "All that follows in the path, with its slashes as they are.";

/// Makes the document.
fn document() -> Value {
    let settings = |settings: SchemaSettings| {
        settings.with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
    };
    // What is sent and what is answered differ in which fields must be there.
    let mut answered = settings(SchemaSettings::draft2020_12().for_serialize()).into_generator();
    let mut sent = settings(SchemaSettings::draft2020_12().for_deserialize()).into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in endpoint::all() {
        for level in endpoint.levels {
            let operation = operation(endpoint, *level, &mut sent, &mut answered);
            // A template knows no parameter that goes over several components.
            let template = endpoint.path.trim_end_matches('/').replace("{*", "{");
            let path = paths
                .entry(format!("{}{template}", prefix(*level)))
                .or_insert_with(|| json!({}));
            if let Some(path) = path.as_object_mut() {
                path.insert(endpoint.method.as_str().to_lowercase(), operation);
            }
        }
    }
    answered.subschema_for::<WrappedException>();
    let mut schemas = sent.take_definitions(true);
    schemas.extend(answered.take_definitions(true));
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "patgate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The REST interface of patgate, a Git server whose every request passes one gate: the \
                            personal access token. Resources that Azure DevOps has are as they are there. The path \
                            does not mind the case of letters.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }, { "tokenAsBearer": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": HEADERS
                .iter()
                .map(|(name, description)| {
                    let header = json!({ "description": description, "schema": { "type": "string" } });
                    ((*name).to_owned(), header)
                })
                .collect::<Map<_, _>>(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "Any user name, and a personal access token as the password.",
                },
                "password": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The name and the password of an account.",
                },
                "tokenAsBearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A personal access token.",
                },
            },
        },
    })
}

/// What stands before a row's path at a level.
fn prefix(level: Level) -> &'static str {
    match level {
        Level::Server => "/_apis",
        Level::Collection => "/{collection}/_apis",
        Level::Project => "/{collection}/{project}/_apis",
        Level::Repository => "/{collection}/{project}/_git/{repository}",
    }
}

/// Headers of answers, with what they say.
const HEADERS: &[(&str, &str)] = &[
    ("Retry-After", "How many seconds to wait."),
    ("WWW-Authenticate", "What proves who calls."),
    ("X-RateLimit-Limit", "How many requests a minute may be made."),
    (
        "X-RateLimit-Remaining",
        "How many of them are left at the moment.",
    ),
    (
        "X-RateLimit-Reset",
        "When all of them are left again if no more are made, in seconds since 1970.",
    ),
    (
        "X-RateLimit-Resource",
        "Whose requests are counted: rest/token, rest/account or rest/address.",
    ),
];

/// References to the headers of an answer of `status`: those of the rate limit, and what the status calls for.
fn headers(status: &str) -> Map<String, Value> {
    let is_there = |name: &str| match name {
        "Retry-After" => matches!(status, "429" | "503"),
        "WWW-Authenticate" => status == "401",
        _ => true,
    };
    HEADERS
        .iter()
        .filter(|(name, _)| is_there(name))
        .map(|(name, _)| {
            let reference = json!({ "$ref": format!("#/components/headers/{name}") });
            ((*name).to_owned(), reference)
        })
        .collect()
}

fn operation(
    endpoint: &Endpoint,
    level: Level,
    sent: &mut SchemaGenerator,
    answered: &mut SchemaGenerator,
) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    let path = format!("{}{}", prefix(level), endpoint.path);
    for name in path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    {
        let mut parameter = json!({
            "name": name.trim_start_matches('*'),
            "in": "path",
            "required": true,
            "schema": { "type": "string", "minLength": 1 },
        });
        if let (true, Some(object)) = (name.starts_with('*'), parameter.as_object_mut()) {
            object.insert("description".to_owned(), REST_OF_PATH.into());
            object.insert("x-rest-of-path".to_owned(), true.into());
        }
        parameters.push(parameter);
    }
    parameters.extend(endpoint.params.iter().map(|param| parameter(param)));
    parameters.push(version(endpoint));
    let mut responses = Map::new();
    for (status, description) in common(endpoint) {
        let response = json!({
            "description": description,
            "headers": headers(status.as_str()),
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/WrappedException" } } },
        });
        responses.insert(status.as_str().to_owned(), response);
    }
    for answer in endpoint.answers {
        let status = answer.status.to_string();
        let mut headers = headers(&status);
        for (name, description) in answer.headers {
            let header = json!({ "description": description, "schema": { "type": "string" } });
            headers.insert((*name).to_owned(), header);
        }
        let mut response = Map::new();
        response.insert("description".to_owned(), answer.description.into());
        response.insert("headers".to_owned(), headers.into());
        if let Some(body) = answer.body {
            let content = json!({ "application/json": { "schema": body(answered) } });
            response.insert("content".to_owned(), content);
        }
        responses.insert(status, response.into());
    }
    let mut operation = json!({
        "operationId": match level {
            Level::Server | Level::Repository => endpoint.id.to_owned(),
            Level::Collection => format!("{}.of-collection", endpoint.id),
            Level::Project => format!("{}.of-project", endpoint.id),
        },
        "tags": [endpoint.id.split('.').next().unwrap_or_default()],
        "summary": endpoint.summary,
        "description": needs(endpoint),
        "parameters": parameters,
        "responses": responses,
    });
    if let (Some(object), Some(body)) = (operation.as_object_mut(), endpoint.body) {
        object.insert(
            "requestBody".to_owned(),
            json!({
                "required": true,
                "content": { "application/json": { "schema": body(sent) } },
            }),
        );
    }
    let security = match endpoint.proof {
        // What the whole document says.
        Proof::Token => None,
        Proof::Password => Some(json!([{ "password": [] }])),
        Proof::Nothing => Some(json!([])),
    };
    if let (Some(object), Some(security)) = (operation.as_object_mut(), security) {
        object.insert("security".to_owned(), security);
    }
    operation
}

/// What the gate asks for, in a sentence.
fn needs(endpoint: &Endpoint) -> String {
    match (endpoint.proof, endpoint.operation.need()) {
        (Proof::Nothing, _) | (_, Need::Nothing) => "Needs no credential.".to_owned(),
        (_, Need::OneOf(scopes)) => format!("Needs a token with one of the scopes {}.", scopes.join(", ")),
        (_, Need::LiveToken) => "Needs any live token.".to_owned(),
        (_, Need::SignIn) => "Needs the account's name and password; no token will do.".to_owned(),
    }
}

fn parameter(param: &Param) -> Value {
    let schema = match param.kind {
        Kind::Text(bytes_max) => json!({ "type": "string", "maxLength": bytes_max }),
        Kind::Integer(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Uuid => json!({ "type": "string", "format": "uuid" }),
        Kind::Word(words) => json!({ "type": "string", "enum": words }),
        Kind::Moment => json!({ "type": "string", "format": "date-time" }),
    };
    json!({
        "name": param.name,
        "in": "query",
        "required": param.is_required,
        "description": param.description,
        "schema": schema,
    })
}

fn version(endpoint: &Endpoint) -> Value {
    let (newest, is_optional) = match endpoint.versions {
        Versions::Own => ("7.1".to_owned(), true),
        Versions::Released(_) => ("7.1".to_owned(), endpoint.method == Method::GET),
        Versions::Preview(revision) => (
            format!("{}.{}-preview.{revision}", NEWEST.0, NEWEST.1),
            endpoint.method == Method::GET,
        ),
    };
    json!({
        "name": "api-version",
        "in": "query",
        "required": !is_optional,
        "description": "The version of the interface; it may stand in the header Accept as well.",
        "schema": { "type": "string", "enum": [newest] },
    })
}
