//! Repositories: listed, read, made, renamed, deleted, and their default branch.
//!
//! Invariants: what is absent and what the caller may not know of is answered alike; every change is asked of the gate by
//! `authorize_manage`, for a rename on both names, and is in the audit trail.

use bstr::{BStr, ByteSlice};
use hyper::{Method, StatusCode};
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::call::Call;
use super::endpoint::{ANYWHERE, Answer, Endpoint, Kind, Param, Proof, schema};
use super::places::{self, Project, collection_of, find_repository, git_key, no_project, no_repository};
use super::projects::{Link, TeamProjectReference, collection_url};
use super::reply::{CONTINUATION, List, Reply};
use super::version::Versions;
use crate::auth::scope::Operation;
use crate::auth::{Refusal, RefusalKind};
use crate::http::error::HttpError;
use crate::names::{self, Quoted, RepoPath, url_component};
use crate::registrar;
use crate::repository::refs::Head;
use crate::repository::registry::CreateOptions;
use crate::repository::{self, Repository};

pub(super) const GIT: Versions = Versions::Released(2);

/// Longest name of a repository that is looked for, in bytes; a URL can hold no longer one.
const TEXT_BYTES_MAX: usize = 1024;

/// Repositories on one page at most, and if nothing is said.
const PAGE_COUNT_MAX: i64 = 10_000;

const LINKS: Param = Param::new(
    "includeLinks",
    Kind::Boolean,
    "Whether to add links to related resources.",
);
const ALL_URLS: Param = Param::new(
    "includeAllUrls",
    Kind::Boolean,
    "Whether to add every URL by which the repository can be fetched.",
);
const HIDDEN: Param = Param::new(
    "includeHidden",
    Kind::Boolean,
    "Whether to list hidden repositories, too; there are none.",
);
const TOP: Param = Param::new(
    "$top",
    Kind::Integer(1, PAGE_COUNT_MAX),
    "How many repositories to list at most; 10000 if nothing is said.",
);
const SKIP: Param = Param::new(
    "$skip",
    Kind::Integer(0, i64::MAX),
    "How many repositories to leave out before.",
);
const FROM: Param = Param::new(
    "continuationToken",
    Kind::Integer(0, i64::MAX),
    "Where to go on, as the header X-MS-ContinuationToken of the page before said.",
);
const SOURCE_REF: Param = Param::new(
    "sourceRef",
    Kind::Text(TEXT_BYTES_MAX),
    "What a fork is to begin with; there are no forks here, so this is refused.",
);

/// This module's rows.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        id: "repositories.list",
        method: Method::GET,
        path: "/git/repositories",
        levels: ANYWHERE,
        proof: Proof::Token,
        operation: Operation::ReadRepositories,
        versions: GIT,
        params: &[&LINKS, &ALL_URLS, &HIDDEN, &TOP, &SKIP, &FROM],
        body: None,
        answers: &[Answer {
            status: 200,
            body: Some(schema::<List<GitRepository>>),
            headers: &[(
                "X-MS-ContinuationToken",
                "Where the next page begins; missing on the last.",
            )],
            description: "The repositories that the caller may know of.",
        }],
        summary: "List the repositories of a collection or a project.",
        run: list,
    },
    Endpoint {
        id: "repositories.create",
        method: Method::POST,
        path: "/git/repositories",
        levels: ANYWHERE,
        proof: Proof::Token,
        operation: Operation::Manage,
        versions: GIT,
        params: &[&SOURCE_REF],
        body: Some(schema::<GitRepositoryCreateOptions>),
        answers: &[Answer::with(
            201,
            schema::<GitRepository>,
            "The new repository; it is empty.",
        )],
        summary: "Make a repository; its project is made with it, if it is new.",
        run: create,
    },
    Endpoint {
        id: "repositories.get",
        method: Method::GET,
        path: "/git/repositories/{repositoryId}",
        levels: ANYWHERE,
        proof: Proof::Token,
        operation: Operation::ReadRepositories,
        versions: GIT,
        params: &[&LINKS, &ALL_URLS],
        body: None,
        answers: &[Answer::with(200, schema::<GitRepository>, "The repository.")],
        summary: "Read a repository, by its name or its id.",
        run: get,
    },
    Endpoint {
        id: "repositories.update",
        method: Method::PATCH,
        path: "/git/repositories/{repositoryId}",
        levels: ANYWHERE,
        proof: Proof::Token,
        operation: Operation::Manage,
        versions: GIT,
        params: &[],
        body: Some(schema::<GitRepositoryUpdate>),
        answers: &[Answer::with(
            200,
            schema::<GitRepository>,
            "The repository as it is now.",
        )],
        summary: "Rename a repository, set its default branch, or both.",
        run: update,
    },
    Endpoint {
        id: "repositories.delete",
        method: Method::DELETE,
        path: "/git/repositories/{repositoryId}",
        levels: ANYWHERE,
        proof: Proof::Token,
        operation: Operation::Manage,
        versions: GIT,
        params: &[],
        body: None,
        answers: &[Answer::empty(204, "It is gone, with all its history.")],
        summary: "Delete a repository for good.",
        run: delete,
    },
];

/// A repository.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(super) struct GitRepository {
    /// Its id, which stays when it is renamed.
    pub id: Uuid,
    /// Its name.
    name: String,
    /// The URL of this resource.
    url: String,
    /// The project that it belongs to.
    project: TeamProjectReference,
    /// The full name of the branch that a clone checks out; missing as long as there is no such branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    default_branch: Option<String>,
    /// Bytes of its packs.
    size: u64,
    /// The URL for git.
    remote_url: String,
    /// The URL for a browser.
    web_url: String,
    /// Whether the server cannot serve it, because of something in its configuration.
    is_disabled: bool,
    /// False: nothing that is done to a repository keeps it from being used.
    is_in_maintenance: bool,
    /// Every URL for git, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_remote_urls: Option<Vec<String>>,
    /// Where related resources are, if that was asked for.
    #[serde(rename = "_links", skip_serializing_if = "Option::is_none")]
    links: Option<RepositoryLinks>,
}

/// Links of a repository.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct RepositoryLinks {
    /// The repository itself.
    #[serde(rename = "self")]
    own: Link,
    /// Its project.
    project: Link,
    /// Its refs.
    refs: Link,
    /// Where a browser finds it.
    web: Link,
}

/// What a new repository is to be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct GitRepositoryCreateOptions {
    /// Its name.
    name: String,
    /// The project that it is to belong to; may be left out if the URL names one.
    project: Option<ProjectChoice>,
    /// What it is to be a fork of: nothing, because there are no forks.
    #[schemars(schema_with = "null")]
    parent_repository: Option<Value>,
}

/// A project, by its id or its name. The other fields of a project may be there, and do not matter.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct ProjectChoice {
    /// The id of a project that there is.
    id: Option<String>,
    /// The name of a project, which may be new.
    name: Option<String>,
    #[schemars(schema_with = "anything")]
    abbreviation: IgnoredAny,
    #[schemars(schema_with = "anything")]
    default_team_image_url: IgnoredAny,
    #[schemars(schema_with = "anything")]
    description: IgnoredAny,
    #[schemars(schema_with = "anything")]
    last_update_time: IgnoredAny,
    #[schemars(schema_with = "anything")]
    revision: IgnoredAny,
    #[schemars(schema_with = "anything")]
    state: IgnoredAny,
    #[schemars(schema_with = "anything")]
    url: IgnoredAny,
    #[schemars(schema_with = "anything")]
    visibility: IgnoredAny,
}

fn null(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "null" })
}

fn anything(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::Schema::default()
}

/// What of a repository is to change. Any other field of a repository may be there if it is as it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct GitRepositoryUpdate {
    /// Its new name.
    name: Option<String>,
    /// The full name of the branch that a clone is to check out; there must be such a branch, unless there is none at
    /// all.
    default_branch: Option<String>,
}

/// What the gate says of a repository, for a client of the REST interface.
pub(super) fn refused(refusal: Refusal, asked: &str) -> HttpError {
    match refusal.kind() {
        RefusalKind::NotFound => no_repository(asked),
        RefusalKind::Forbidden => HttpError::from(refusal).keyed(git_key("GitNeedsPermissionException")),
        _ => HttpError::from(refusal),
    }
}

/// Finds the repository that a call names in its path, for one who may read it.
pub(super) fn open(call: &Call) -> Result<RepoPath, HttpError> {
    let asked = call.argument("repositoryId");
    let found = find_repository(call, &asked)?;
    let grant = call
        .gate()
        .authorize_read(call.principal()?, found.as_ref())
        .map_err(|refusal| refused(refusal, &asked))?;
    call.context
        .record
        .set_repository(&grant.repository().to_string());
    Ok(grant.repository().clone())
}

/// Finds the repository that a call names in its path, for one who may manage it.
fn open_to_manage(call: &Call) -> Result<RepoPath, HttpError> {
    let path = open(call)?;
    may_manage(call, &path)?;
    Ok(path)
}

fn may_manage(call: &Call, path: &RepoPath) -> Result<(), HttpError> {
    let grant = call.gate().authorize_manage(call.principal()?, path);
    grant
        .map(drop)
        .map_err(|refusal| refused(refusal, path.repository()))
}

/// The id of a repository, which gets one if it has none.
pub(super) fn id_of(call: &Call, path: &RepoPath) -> Result<Uuid, HttpError> {
    let ids = call.store().repository_ids(std::slice::from_ref(path))?;
    Ok(ids.first().copied().unwrap_or_default())
}

/// Describes one repository.
pub(super) fn describe(call: &Call, path: &RepoPath) -> Result<GitRepository, HttpError> {
    let id = id_of(call, path)?;
    let siblings = places::repositories_of(call, path.collection(), path.project())?;
    let project = TeamProjectReference::new(call, path.collection(), path.project(), &siblings)?;
    describe_as(call, path, id, project)
}

fn describe_as(
    call: &Call,
    path: &RepoPath,
    id: Uuid,
    project: TeamProjectReference,
) -> Result<GitRepository, HttpError> {
    // One that cannot be opened is listed, too: it is what its owner is looking for.
    let opened = call.repositories().open(path).ok();
    let state = opened.as_deref().map(state).transpose().unwrap_or_default();
    let (default_branch, size) = state.clone().unwrap_or_default();
    let remote_url = format!("{}{}", call.base(), path.url_path());
    let url = format!(
        "{}/_apis/git/repositories/{id}",
        collection_url(call, path.collection())
    );
    let link = |href: &str| Link {
        href: href.to_owned(),
    };
    Ok(GitRepository {
        id,
        name: path.repository().to_owned(),
        default_branch,
        size,
        is_disabled: state.is_none(),
        is_in_maintenance: false,
        valid_remote_urls: call.flag(&ALL_URLS).then(|| valid_remote_urls(call, path)),
        links: call.flag(&LINKS).then(|| RepositoryLinks {
            own: link(&url),
            project: link(&project.url),
            refs: link(&format!("{url}/refs")),
            web: link(&remote_url),
        }),
        web_url: remote_url.clone(),
        remote_url,
        url,
        project,
    })
}

/// The default branch, if there is such a branch, and the bytes of the packs.
fn state(repository: &Repository) -> Result<(Option<String>, u64), repository::Error> {
    let branch = match repository.refs()?.head() {
        Head::Symbolic {
            target, id: Some(_), ..
        } => Some(target.to_str_lossy().into_owned()),
        Head::Symbolic { .. } | Head::Detached(_) => None,
    };
    Ok((branch, repository.packs_bytes()?))
}

/// Every form of the URL that git can use.
fn valid_remote_urls(call: &Call, path: &RepoPath) -> Vec<String> {
    let long = format!(
        "{}/{}/{}/_git/{}",
        call.base(),
        url_component(path.collection()),
        url_component(path.project()),
        url_component(path.repository())
    );
    let short = format!("{}{}", call.base(), path.url_path());
    if short == long {
        vec![long]
    } else {
        vec![short, long]
    }
}

fn list(call: &Call) -> Result<Reply, HttpError> {
    let found = places::find(call)?.require_project()?;
    let from = call.count(&FROM).unwrap_or(0);
    let skipped = from.saturating_add(call.count(&SKIP).unwrap_or(0));
    let count_max = call
        .integer(&TOP)
        .unwrap_or(PAGE_COUNT_MAX)
        .try_into()
        .unwrap_or(usize::MAX);
    let mut rest = found.repositories().skip(skipped);
    let page: Vec<(&Project, &RepoPath)> = rest.by_ref().take(count_max).collect();
    let has_more = rest.next().is_some();
    let paths: Vec<RepoPath> = page.iter().map(|(_, path)| (*path).clone()).collect();
    let mut ids = call.store().repository_ids(&paths)?.into_iter();
    let mut all = Vec::with_capacity(page.len());
    for of_project in page.chunk_by(|(one, _), (next, _)| std::ptr::eq(*one, *next)) {
        let Some((project, _)) = of_project.first() else {
            continue;
        };
        let reference =
            TeamProjectReference::new(call, &project.collection, &project.name, &project.repositories)?;
        for (_, path) in of_project {
            let id = ids.next().unwrap_or_default();
            all.push(describe_as(call, path, id, reference.clone())?);
        }
    }
    let next = skipped.saturating_add(all.len());
    let reply = Reply::ok(&List::from(all))?;
    Ok(if has_more {
        reply.header(CONTINUATION, &next.to_string())
    } else {
        reply
    })
}

fn get(call: &Call) -> Result<Reply, HttpError> {
    let path = open(call)?;
    Reply::ok(&describe(call, &path)?)
}

/// Checks the name of a repository or a project.
fn check_name(field: &str, name: &str) -> Result<(), HttpError> {
    names::check(name).map_err(|error| {
        HttpError::bad_request(format!(
            "The field '{field}' cannot be taken: the name {} {error}.",
            Quoted(name)
        ))
    })
}

fn create(call: &Call) -> Result<Reply, HttpError> {
    let options: GitRepositoryCreateOptions = call.json()?;
    if options
        .parent_repository
        .as_ref()
        .is_some_and(|parent| !parent.is_null())
    {
        return Err(HttpError::bad_request(
            "The field 'parentRepository' cannot be taken: there are no forks on this server. Make an empty repository, \
             and push to it.",
        ));
    }
    if call.text(&SOURCE_REF).is_some() {
        return Err(HttpError::bad_request(
            "The query parameter 'sourceRef' cannot be taken: there are no forks on this server.",
        ));
    }
    check_name("name", &options.name)?;
    let path = place_of_new(call, &options)?;
    may_manage(call, &path)?;
    let taken = || {
        HttpError::conflict(format!(
            "TF400948: A Git repository with the name {} already exists.",
            Quoted(&options.name)
        ))
        .keyed(git_key("GitRepositoryNameAlreadyExistsException"))
    };
    if call.repositories().locate(&path)?.is_some() {
        return Err(taken());
    }
    let new = CreateOptions {
        object_hash: gix_hash::Kind::Sha1,
        default_branch: "main".to_owned(),
    };
    match call.registrar(&call.actor()?).create(&path, &new) {
        Ok(()) => {}
        // Another caller was a moment faster.
        Err(registrar::Error::Repository(
            repository::Error::Exists { .. } | repository::Error::CaseConflict { .. },
        )) => return Err(taken()),
        Err(error) => return Err(error.into()),
    }
    call.context.record.set_repository(&path.to_string());
    Reply::json(StatusCode::CREATED, &describe(call, &path)?)
}

/// Works out the full name of a new repository: its project is named in the body, by the URL, or by both.
fn place_of_new(call: &Call, options: &GitRepositoryCreateOptions) -> Result<RepoPath, HttpError> {
    let choice = options.project.as_ref();
    let chosen_name = choice.and_then(|choice| choice.name.as_deref());
    if let Some(name) = chosen_name {
        check_name("project.name", name)?;
    }
    let chosen_id = match choice.and_then(|choice| choice.id.as_deref()) {
        Some(id) => Some(Uuid::try_parse(id).map_err(|_| {
            HttpError::bad_request(format!(
                "The field 'project.id' cannot be taken: {} is not a UUID.",
                Quoted(id)
            ))
        })?),
        None => None,
    };
    let found = places::find(call)?;
    let seen = |id: Uuid| found.projects.iter().find(|project| project.id == id);
    let chosen = match chosen_id {
        Some(id) => {
            let project = seen(id).ok_or_else(|| no_project(&id.to_string()))?;
            if chosen_name.is_some_and(|name| name.to_lowercase() != project.name.to_lowercase()) {
                return Err(HttpError::bad_request(
                    "The fields 'project.id' and 'project.name' name two projects. Give one of them.",
                ));
            }
            Some(project.name.as_str())
        }
        None => chosen_name,
    };
    // The URL can name a project where a collection of the name could be meant, too.
    let of_project = call.places().iter().find(|place| place.project.is_some());
    let (place, project) = match (&found.place.project, chosen) {
        (Some(_), None) if found.projects.is_empty() => {
            (&found.place, found.place.project.as_deref().unwrap_or_default())
        }
        (Some(named), _) => {
            let project = found
                .projects
                .first()
                .map_or(named.as_str(), |project| &project.name);
            if chosen.is_some_and(|chosen| chosen.to_lowercase() != project.to_lowercase()) {
                return Err(HttpError::bad_request(format!(
                    "The field 'project' names another project than the URL, which names {}.",
                    Quoted(project)
                )));
            }
            (&found.place, project)
        }
        (None, Some(chosen)) => (&found.place, chosen),
        (None, None) => match of_project {
            Some(place) if found.projects.is_empty() => (place, place.project.as_deref().unwrap_or_default()),
            _ => {
                return Err(HttpError::bad_request(
                    "The field 'project' is missing: name the project by its id or its name, or in the URL.",
                ));
            }
        },
    };
    let path = RepoPath::new(collection_of(place), project, &options.name)
        .map_err(|error| HttpError::bad_request(format!("The name of the repository {error}.")))?;
    Ok(call.repositories().spell(&path)?)
}

fn update(call: &Call) -> Result<Reply, HttpError> {
    let sent: Map<String, Value> = call.json()?;
    let path = open_to_manage(call)?;
    let now = serde_json::to_value(describe(call, &path)?).map_err(HttpError::internal)?;
    let update = changes(sent, &now)?;
    let repository = call.repositories().open(&path)?;
    if let Some(branch) = &update.default_branch {
        check_branch(&repository, branch)?;
    }
    let path = match &update.name {
        Some(name) => rename(call, &path, name)?,
        None => path,
    };
    if let Some(branch) = &update.default_branch {
        set_default_branch(call, &path, branch)?;
    }
    Reply::ok(&describe(call, &path)?)
}

/// Finds out what is to change. Clients send back whole what they have read, so what is as it is may be there; whatever
/// else would have to be changed and cannot be is refused by its name.
fn changes(sent: Map<String, Value>, now: &Value) -> Result<GitRepositoryUpdate, HttpError> {
    let mut update = GitRepositoryUpdate {
        name: None,
        default_branch: None,
    };
    let mut is_empty = true;
    for (field, value) in sent {
        is_empty = false;
        if now.get(&field) == Some(&value) || value.is_null() {
            continue;
        }
        let text = value.as_str();
        match (field.as_str(), text) {
            ("name", Some(text)) => update.name = Some(text.to_owned()),
            ("defaultBranch", Some(text)) => update.default_branch = Some(text.to_owned()),
            ("name" | "defaultBranch", None) => {
                return Err(HttpError::bad_request(format!(
                    "The field '{field}' of the request's body cannot be taken: it must be a string."
                )));
            }
            ("project", _) if same_project(&value, now) => {}
            ("isDisabled", _) => {
                return Err(HttpError::bad_request(
                    "The field 'isDisabled' cannot be changed: repositories are not disabled on this server. Take the \
                     rights on it away instead.",
                ));
            }
            ("project", _) => {
                return Err(HttpError::bad_request(
                    "The field 'project' cannot be changed over REST. Use: patgate repo rename",
                ));
            }
            _ => {
                return Err(HttpError::bad_request(format!(
                    "The field {} of the request's body cannot be changed: 'name' and 'defaultBranch' can.",
                    Quoted(&field)
                )));
            }
        }
    }
    if is_empty {
        return Err(HttpError::bad_request(
            "The request's body says nothing that is to change: give 'name', 'defaultBranch' or both.",
        ));
    }
    Ok(update)
}

fn same_project(sent: &Value, now: &Value) -> bool {
    let is = |field: &str| {
        let sent = sent.get(field).and_then(Value::as_str);
        let now = now
            .get("project")
            .and_then(|project| project.get(field))
            .and_then(Value::as_str);
        sent.is_none_or(|sent| now.is_some_and(|now| now.to_lowercase() == sent.to_lowercase()))
    };
    sent.is_object() && is("id") && is("name")
}

fn rename(call: &Call, from: &RepoPath, name: &str) -> Result<RepoPath, HttpError> {
    check_name("name", name)?;
    let to = RepoPath::new(from.collection(), from.project(), name)
        .map_err(|error| HttpError::bad_request(format!("The field 'name' cannot be taken: it {error}.")))?;
    may_manage(call, &to)?;
    let taken = || {
        HttpError::conflict(format!(
            "TF400948: A Git repository with the name {} already exists.",
            Quoted(name)
        ))
        .keyed(git_key("GitRepositoryNameAlreadyExistsException"))
    };
    if call
        .repositories()
        .locate(&to)?
        .is_some_and(|existing| existing != *from)
    {
        return Err(taken());
    }
    match call.registrar(&call.actor()?).rename(from, &to) {
        Ok(()) => Ok(to),
        Err(registrar::Error::Repository(
            repository::Error::Exists { .. } | repository::Error::CaseConflict { .. },
        )) => Err(taken()),
        // Another caller was a moment faster.
        Err(registrar::Error::Repository(repository::Error::Missing { .. })) => {
            Err(no_repository(from.repository()))
        }
        Err(error) => Err(error.into()),
    }
}

fn check_branch(repository: &Repository, branch: &str) -> Result<(), HttpError> {
    let wrong = |why: &str| {
        HttpError::bad_request(format!(
            "The field 'defaultBranch' cannot be taken: {} {why}.",
            Quoted(branch)
        ))
    };
    if !branch.starts_with("refs/heads/") {
        return Err(wrong(
            "must be the full name of a branch, such as refs/heads/main",
        ));
    }
    let refs = repository.refs()?;
    let has_branches = refs.iter_prefix(BStr::new("refs/heads/")).next().is_some();
    if has_branches && refs.find(BStr::new(branch)).is_none() {
        return Err(wrong("is not among the branches of the repository"));
    }
    Ok(())
}

fn set_default_branch(call: &Call, path: &RepoPath, branch: &str) -> Result<(), HttpError> {
    match call.registrar(&call.actor()?).set_default_branch(path, branch) {
        Err(registrar::Error::Repository(error @ repository::Error::BranchName { .. })) => Err(
            HttpError::bad_request(format!("The field 'defaultBranch' cannot be taken: {error}.")),
        ),
        outcome => Ok(outcome?),
    }
}

fn delete(call: &Call) -> Result<Reply, HttpError> {
    let path = open_to_manage(call)?;
    match call.registrar(&call.actor()?).delete(&path) {
        Ok(()) => Ok(Reply::nothing()),
        // Another caller was a moment faster.
        Err(registrar::Error::Repository(repository::Error::Missing { .. })) => {
            Err(no_repository(&call.argument("repositoryId")))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Value {
        json!({
            "name": "R", "size": 5, "isDisabled": false, "defaultBranch": "refs/heads/main",
            "project": { "id": "1", "name": "P", "state": "wellFormed" },
        })
    }

    fn ask(sent: Value) -> Result<(Option<String>, Option<String>), String> {
        let Value::Object(sent) = sent else {
            panic!("an object")
        };
        changes(sent, &now())
            .map(|update| (update.name, update.default_branch))
            .map_err(|error| {
                assert_eq!(error.status(), 400);
                String::from_utf8(error.into_response("").into_body().to_vec()).unwrap()
            })
    }

    #[test]
    fn what_a_client_read_may_come_back_whole() {
        let mut sent = now();
        sent["name"] = "S".into();
        assert_eq!(ask(sent), Ok((Some("S".to_owned()), None)));
        assert_eq!(ask(json!({ "name": "R" })), Ok((None, None)));
        let project = json!({ "name": "S", "project": { "name": "p" }, "size": null });
        assert!(ask(project).is_ok());
    }

    #[test]
    fn what_cannot_be_changed_is_refused_by_its_name() {
        for (sent, word) in [
            (json!({ "isDisabled": true }), "isDisabled"),
            (json!({ "size": 6 }), "size"),
            (json!({ "project": { "name": "Q" } }), "project"),
            (json!({ "project": "P" }), "project"),
            (json!({ "name": 5 }), "name"),
            (json!({ "defaultBranch": ["main"] }), "defaultBranch"),
            (json!({ "colour": "red" }), "colour"),
            (json!({ "isFork": true }), "isFork"),
            (json!({}), "name"),
        ] {
            let text = ask(sent).unwrap_err();
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}
