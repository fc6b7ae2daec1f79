//! Refs of a repository: listed, and moved by compare-and-swap without a push.
//!
//! What may not be fetched is not listed, and what a push may not move is not moved here: the engine behind it is
//! `receive_pack::direct`. A request's changes stand each for itself; what became of each is in a 200.

use std::cell::RefCell;
use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bstr::{BString, ByteSlice};
use gix_hash::ObjectId;
use hyper::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::call::Call;
use super::endpoint::{ANYWHERE, Answer, Endpoint, Kind, Param, Proof, schema};
use super::projects::{Link, collection_url};
use super::reply::{CONTINUATION, List, Reply};
use super::repositories::{self, GIT};
use crate::auth::scope::Operation;
use crate::http::error::HttpError;
use crate::http::standing::Standing;
use crate::http::trail;
use crate::names::{Quoted, RepoPath, url_component};
use crate::protocol::receive::RefCommand;
use crate::receive_pack::Asked;
use crate::receive_pack::direct::{self, Moved, Refusal};
use crate::repository::Repository;
use crate::repository::hidden::is_hidden;
use crate::repository::refs::{Peeled, RefChangeError, RefEntry};

/// Refs on one page at most where the caller says how many.
const PAGE_COUNT_MAX: i64 = 1000;

/// Refs on one page where the caller goes on with one and does not say how many.
const PAGE_COUNT: usize = 100;

/// Refs in an answer whose caller asked for all of them: some 3 MB. More come by pages.
const ANSWER_COUNT_MAX: usize = 10_000;

/// Changes in one request.
const CHANGES_COUNT_MAX: usize = 2000;

/// Longest part of a ref's name that is looked for, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

const FILTER: Param = Param::new(
    "filter",
    Kind::Text(TEXT_BYTES_MAX),
    "What the names begin with, after 'refs/': 'heads/', 'tags/v1'.",
);
const CONTAINS: Param = Param::new(
    "filterContains",
    Kind::Text(TEXT_BYTES_MAX),
    "What the names have in them.",
);
const PEEL: Param = Param::new(
    "peelTags",
    Kind::Boolean,
    "Whether to say what annotated tags point at in the end.",
);
const TOP: Param = Param::new(
    "$top",
    Kind::Integer(1, PAGE_COUNT_MAX),
    "How many refs to list at most. Without it and without a continuationToken up to 10,000 are.",
);
const FROM: Param = Param::new(
    "continuationToken",
    Kind::Text(4 * TEXT_BYTES_MAX),
    "Where to go on, as the header X-MS-ContinuationToken of the page before said.",
);
const LINKS: Param = Param::new(
    "includeLinks",
    Kind::Boolean,
    "Whether to add links to related resources.",
);
const STATUSES: Param = Param::new(
    "includeStatuses",
    Kind::Boolean,
    "Whether to add the statuses of commits; there are none.",
);
const LATEST: Param = Param::new(
    "latestStatusesOnly",
    Kind::Boolean,
    "Whether to leave out older statuses; there are none.",
);
const MINE: Param = Param::new(
    "includeMyBranches",
    Kind::Boolean,
    "Whether to list the caller's own branches only. Nobody owns a branch here, so true is refused.",
);
const PROJECT: Param = Param::new(
    "projectId",
    Kind::Text(TEXT_BYTES_MAX),
    "The project of the repository; not looked at, the URL names the repository.",
);

/// This module's rows.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        id: "refs.list",
        method: Method::GET,
        path: "/git/repositories/{repositoryId}/refs",
        levels: ANYWHERE,
        proof: Proof::Token,
        operation: Operation::ReadRepositories,
        versions: GIT,
        params: LIST_PARAMS,
        body: None,
        answers: LISTED,
        summary: "List the refs of a repository, in the order of their names.",
        run: |call| list(call, call.text(&FILTER)),
    },
    Endpoint {
        id: "refs.list-filtered",
        method: Method::GET,
        path: "/git/repositories/{repositoryId}/refs/{*filter}",
        levels: ANYWHERE,
        proof: Proof::Token,
        operation: Operation::ReadRepositories,
        versions: GIT,
        params: LIST_PARAMS,
        body: None,
        answers: LISTED,
        summary: "List the refs whose names begin with what the path ends in.",
        run: |call| list(call, Some(&call.argument("filter"))),
    },
    Endpoint {
        id: "refs.update",
        method: Method::POST,
        path: "/git/repositories/{repositoryId}/refs",
        levels: ANYWHERE,
        proof: Proof::Token,
        operation: Operation::UpdateRefs,
        versions: GIT,
        params: &[&PROJECT],
        body: Some(schema::<Vec<GitRefUpdate>>),
        answers: &[Answer::with(
            200,
            schema::<List<GitRefUpdateResult>>,
            "What became of each change, in their order.",
        )],
        summary: "Make, move and delete refs, each if it is where the caller says.",
        run: update,
    },
];

const LIST_PARAMS: &[&Param] = &[
    &FILTER, &CONTAINS, &PEEL, &TOP, &FROM, &LINKS, &STATUSES, &LATEST, &MINE,
];

const LISTED: &[Answer] = &[Answer {
    status: 200,
    body: Some(schema::<List<GitRef>>),
    headers: &[(
        "X-MS-ContinuationToken",
        "Where the next page begins; missing on the last.",
    )],
    description: "The refs.",
}];

/// A ref.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct GitRef {
    /// Its full name.
    name: String,
    /// What it points at.
    object_id: String,
    /// What an annotated tag points at in the end, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    peeled_object_id: Option<String>,
    /// The URL of this resource.
    url: String,
    /// Statuses of the commit, if that was asked for: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    statuses: Option<[String; 0]>,
    /// Where related resources are, if that was asked for.
    #[serde(rename = "_links", skip_serializing_if = "Option::is_none")]
    links: Option<RefLinks>,
}

/// Links of a ref.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct RefLinks {
    /// The ref itself.
    #[serde(rename = "self")]
    own: Link,
    /// Its repository.
    repository: Link,
}

/// One ref to move, if it is where the caller says.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct GitRefUpdate {
    /// Its full name.
    name: String,
    /// Where it is; all zeros if there is no such ref.
    old_object_id: String,
    /// Where it is to be; all zeros to delete it.
    new_object_id: String,
    /// The id of the repository; may be left out, since the URL names it.
    repository_id: Option<Uuid>,
    /// Whether it is to be locked. There are no locks, so true is refused.
    is_locked: Option<bool>,
}

/// What became of one change.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct GitRefUpdateResult {
    /// The id of the repository.
    repository_id: Uuid,
    /// The full name of the ref.
    name: String,
    /// Where it was to be before.
    old_object_id: String,
    /// Where it was to be after.
    new_object_id: String,
    /// False: there are no locks.
    is_locked: bool,
    /// What became of it.
    update_status: UpdateStatus,
    /// Whether the ref is where it should be.
    success: bool,
    /// Why not, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_message: Option<String>,
}

/// What became of a change, as Azure DevOps calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum UpdateStatus {
    /// The ref is where it should be.
    Succeeded,
    /// It was to be deleted, and was not there.
    SucceededNonExistentRef,
    /// The repository takes fast-forwards only.
    ForcePushRequired,
    /// The ref is elsewhere.
    StaleOldObjectId,
    /// No ref can have this name.
    InvalidRefName,
    /// The server could not do it now.
    Unprocessed,
    /// There is no such object, or a branch cannot point at it.
    UnresolvableToCommit,
    /// The token may not change this ref.
    WritePermissionRequired,
    /// Somebody else is changing it.
    Locked,
    /// Another ref has the name, or needs it as a folder.
    RefNameConflict,
    /// A setting of the repository forbids it.
    RejectedByPolicy,
}

fn list(call: &Call, filter: Option<&str>) -> Result<Reply, HttpError> {
    if call.flag(&MINE) {
        return Err(HttpError::bad_request(
            "The query parameter 'includeMyBranches' cannot be taken: nobody owns a branch on this server. Leave it out, \
             or use 'filter'.",
        ));
    }
    let after = call.text(&FROM).map(read_token).transpose()?;
    let count_max = match (call.count(&TOP), &after) {
        (Some(count), _) => count,
        (None, Some(_)) => PAGE_COUNT,
        (None, None) => ANSWER_COUNT_MAX,
    };
    let path = repositories::open(call)?;
    let repository = call.repositories().open(&path)?;
    let refs = repository.refs()?;
    let rules = &repository.settings().upload_hide_refs;
    let prefix: BString = match filter.unwrap_or_default() {
        full if full.starts_with("refs/") => full.into(),
        short => format!("refs/{short}").into(),
    };
    let part = call.text(&CONTAINS).unwrap_or_default();
    let mut found = refs.iter_prefix(prefix.as_bstr()).filter(|entry| {
        after.as_ref().is_none_or(|after| entry.name > after.as_bstr())
            && entry.name.contains_str(part)
            && !is_hidden(rules, entry.name)
    });
    let url = url_of(call, &path)?;
    let mut page = Vec::new();
    let mut last = None;
    for entry in found.by_ref().take(count_max) {
        page.push(describe(call, &repository, &entry, &url)?);
        last = Some(entry.name);
    }
    let has_more = found.next().is_some();
    let reply = Reply::ok(&List::from(page))?;
    Ok(match last.filter(|_| has_more) {
        Some(last) => reply.header(CONTINUATION, &URL_SAFE_NO_PAD.encode(last)),
        None => reply,
    })
}

/// Reads the name that a page ended with.
fn read_token(text: &str) -> Result<BString, HttpError> {
    let name = URL_SAFE_NO_PAD.decode(text).map(BString::from);
    name.ok().filter(|name| name.starts_with(b"refs/")).ok_or_else(|| {
        HttpError::bad_request(
            "The query parameter 'continuationToken' is none that this server gave. Begin with the first page.",
        )
    })
}

/// The URL of a repository's refs.
fn url_of(call: &Call, path: &RepoPath) -> Result<String, HttpError> {
    let id = repositories::id_of(call, path)?;
    Ok(format!(
        "{}/_apis/git/repositories/{id}",
        collection_url(call, path.collection())
    ))
}

fn describe(
    call: &Call,
    repository: &Repository,
    entry: &RefEntry<'_>,
    url: &str,
) -> Result<GitRef, HttpError> {
    let name = entry.name.to_str_lossy().into_owned();
    let short = name.strip_prefix("refs/").unwrap_or(&name);
    let own = format!("{url}/refs?filter={}", query_component(short));
    let peeled = match (call.flag(&PEEL), entry.peeled) {
        (false, _) => None,
        (true, Peeled::Known(peeled)) => peeled,
        (true, Peeled::Unknown) => repository.peel(entry.id)?,
    };
    Ok(GitRef {
        object_id: entry.id.to_string(),
        peeled_object_id: peeled.map(|id| id.to_string()),
        statuses: call.flag(&STATUSES).then_some([]),
        links: call.flag(&LINKS).then(|| RefLinks {
            own: Link { href: own.clone() },
            repository: Link { href: url.to_owned() },
        }),
        url: own,
        name,
    })
}

/// Percent-encodes a text as a value in a query.
fn query_component(text: &str) -> String {
    url_component(text).replace('&', "%26").replace('+', "%2B")
}

fn update(call: &Call) -> Result<Reply, HttpError> {
    let updates: Vec<GitRefUpdate> = call.json()?;
    let path = repositories::open(call)?;
    let grant = call
        .gate()
        .authorize_update_refs(call.principal()?, Some(&path))
        .map_err(|refusal| repositories::refused(refusal, path.repository()))?;
    let repository = call.repositories().open(&path)?;
    let id = repositories::id_of(call, &path)?;
    let commands = commands(&updates, id, repository.object_hash())?;
    let standing = standing(call, &path)?;
    let running = call.context.engines.enter(standing.clone())?;
    call.context.presence.interrupts(running.interrupt());
    // In words for the trail; as it is for the answer.
    let closed = RefCell::new(None);
    let ask = || {
        standing.ask().map_err(|refusal| {
            let reason = refusal.public().to_owned();
            closed.replace(Some(refusal));
            reason
        })
    };
    let asked = Asked {
        guard: &call.context.shared.leaks,
        standing: &ask,
        settle: &mut |outcome, error| trail::settle_push(call.gate(), &grant, outcome, error),
    };
    let moved = direct::update_refs(&grant, asked, &repository, &commands, running.interrupt());
    if let Some(refusal) = closed.take().or_else(|| running.cut().refusal().cloned()) {
        return Err(refusal);
    }
    let moved = moved?;
    let results: Vec<GitRefUpdateResult> = commands
        .iter()
        .zip(&moved)
        .map(|(command, moved)| {
            let (status, message) = status(moved);
            GitRefUpdateResult {
                repository_id: id,
                name: command.name.to_str_lossy().into_owned(),
                old_object_id: command.old_id.to_string(),
                new_object_id: command.new_id.to_string(),
                is_locked: false,
                update_status: status,
                success: matches!(moved, Moved::Done | Moved::Absent),
                custom_message: message,
            }
        })
        .collect();
    Reply::ok(&List::from(results))
}

/// The question whether the caller may still move refs of this repository.
fn standing(call: &Call, path: &RepoPath) -> Result<Standing, HttpError> {
    let (gate, principal, path) = (call.gate().clone(), call.principal()?.clone(), path.clone());
    Ok(Standing::new(move || {
        let grant = gate.authorize_update_refs(&principal, Some(&path));
        grant
            .map(drop)
            .map_err(|refusal| repositories::refused(refusal, path.repository()))
    }))
}

/// Checks the changes of a request; what is wrong is named with its place.
fn commands(
    updates: &[GitRefUpdate],
    repository: Uuid,
    hash: gix_hash::Kind,
) -> Result<Vec<RefCommand>, HttpError> {
    if updates.is_empty() || updates.len() > CHANGES_COUNT_MAX {
        return Err(HttpError::bad_request(format!(
            "The request's body has {} changes, and must have 1 to {CHANGES_COUNT_MAX}.",
            updates.len()
        )));
    }
    let mut names = HashSet::new();
    let mut commands = Vec::with_capacity(updates.len());
    for (place, update) in updates.iter().enumerate() {
        let wrong = |field: &str, why: String| {
            HttpError::bad_request(format!("The field '[{place}].{field}' cannot be taken: {why}."))
        };
        let object = |field: &str, text: &str| {
            let id = ObjectId::from_hex(text.as_bytes())
                .ok()
                .filter(|id| id.kind() == hash);
            id.ok_or_else(|| {
                let length = hash.len_in_hex();
                wrong(
                    field,
                    format!("{} is not {length} hexadecimal digits", Quoted(text)),
                )
            })
        };
        let command = RefCommand {
            old_id: object("oldObjectId", &update.old_object_id)?,
            new_id: object("newObjectId", &update.new_object_id)?,
            name: update.name.as_str().into(),
        };
        if update.is_locked == Some(true) {
            return Err(wrong("isLocked", "there are no locks on this server".to_owned()));
        }
        if update.repository_id.is_some_and(|id| id != repository) {
            return Err(wrong(
                "repositoryId",
                "it is not the repository that the URL names".to_owned(),
            ));
        }
        if update.name.is_empty() || update.name.len() > TEXT_BYTES_MAX {
            return Err(wrong("name", format!("it must have 1 to {TEXT_BYTES_MAX} bytes")));
        }
        if !names.insert(update.name.as_str()) {
            return Err(wrong("name", format!("{} is there twice", Quoted(&update.name))));
        }
        if command.old_id.is_null() && command.new_id.is_null() {
            return Err(wrong(
                "newObjectId",
                "a ref that is not there cannot be deleted; say where it is in 'oldObjectId'".to_owned(),
            ));
        }
        commands.push(command);
    }
    Ok(commands)
}

/// What became of a change in the words of Azure DevOps, and for people.
fn status(moved: &Moved) -> (UpdateStatus, Option<String>) {
    let refusal = match moved {
        Moved::Done => return (UpdateStatus::Succeeded, None),
        Moved::Absent => return (UpdateStatus::SucceededNonExistentRef, None),
        Moved::Refused(refusal) => refusal,
    };
    let status = match refusal {
        Refusal::Denied(_) | Refusal::Closed(_) | Refusal::Secret(_) | Refusal::Unchecked => {
            UpdateStatus::RejectedByPolicy
        }
        Refusal::Busy => UpdateStatus::Locked,
        Refusal::Unsure => UpdateStatus::Unprocessed,
        Refusal::Limited => UpdateStatus::WritePermissionRequired,
        Refusal::Missing | Refusal::NotACommit => UpdateStatus::UnresolvableToCommit,
        Refusal::Name => UpdateStatus::InvalidRefName,
        Refusal::NotAFastForward => UpdateStatus::ForcePushRequired,
        Refusal::Change(error) => match error {
            RefChangeError::Exists { .. } | RefChangeError::Missing { .. } | RefChangeError::Moved { .. } => {
                UpdateStatus::StaleOldObjectId
            }
            RefChangeError::Conflict { .. }
            | RefChangeError::ConflictWithin { .. }
            | RefChangeError::Blocked { .. }
            | RefChangeError::Duplicate { .. }
            | RefChangeError::InconsistentAlias { .. } => UpdateStatus::RefNameConflict,
            RefChangeError::InvalidName { .. } | RefChangeError::Unwritable { .. } => {
                UpdateStatus::InvalidRefName
            }
            RefChangeError::Locked { .. } => UpdateStatus::Locked,
            RefChangeError::Atomic | RefChangeError::Broken { .. } | RefChangeError::BrokenSymref { .. } => {
                UpdateStatus::Unprocessed
            }
        },
    };
    (status, Some(refusal.to_string()))
}
