//! `audit/auditlog`: the audit trail of the server as Azure DevOps tells its own, for administrators.
//!
//! One table says which action there is which of ours, and whatever else is told of an event is made of the event alone;
//! what the store keeps goes along as it is, in `data`. Invariants: the newest come first; pages hang together by the ids
//! of events, so that what comes in between moves none of them. The log is the server's, whatever collection the URL names.

use std::collections::HashMap;

use hyper::Method;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::call::Call;
use super::endpoint::{ABOVE_PROJECTS, Answer, Endpoint, Kind, Param, Proof, schema};
use super::ids::Ids;
use super::reply::{List, Reply};
use super::version::Versions;
use crate::auth::scope::Operation;
use crate::http::error::HttpError;
use crate::names::AccessPath;
use crate::store::{
    self, Account, Actor, AuditAction, AuditEvent, AuditFilter, Requester, RevokeReason, Store, TokenId,
};

pub(super) const AUDIT: Versions = Versions::Preview(1);

/// Events on one page if nothing is said, and at most.
const PAGE_COUNT: usize = 200;
const PAGE_COUNT_MAX: i64 = 1000;

/// Bytes of details from which on a page is full, and events that are read at a time: a push of a thousand refs has some
/// hundred thousand bytes.
const PAGE_BYTES: usize = 4 << 20;
const READ_COUNT: usize = 64;

const START: Param = Param::new("startTime", Kind::Moment, "Only events from then on.");
const END: Param = Param::new("endTime", Kind::Moment, "Only events before then.");
const BATCH: Param = Param::new(
    "batchSize",
    Kind::Integer(1, PAGE_COUNT_MAX),
    "How many events to list at most; 200 if nothing is said. There can be fewer: 'hasMore' says whether more follow.",
);
const FROM: Param = Param::new(
    "continuationToken",
    Kind::Text(100),
    "Where to go on, as the page before said; the times are to be said again.",
);
const SKIP_AGGREGATION: Param = Param::new(
    "skipAggregation",
    Kind::Boolean,
    "Whether to leave events apart that could be joined. They always are.",
);
const AREA: Param = Param::new("areaName", Kind::Text(100), "Only the actions of this area.");

/// This module's rows.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        id: "audit.query",
        method: Method::GET,
        path: "/audit/auditlog",
        levels: ABOVE_PROJECTS,
        proof: Proof::Token,
        operation: Operation::ReadAuditLog,
        versions: AUDIT,
        params: &[&START, &END, &BATCH, &FROM, &SKIP_AGGREGATION],
        body: None,
        answers: &[Answer::with(
            200,
            schema::<AuditLogQueryResult>,
            "The events, the newest first.",
        )],
        summary: "Read the audit log of the server.",
        run: query,
    },
    Endpoint {
        id: "audit.actions",
        method: Method::GET,
        path: "/audit/actions",
        levels: ABOVE_PROJECTS,
        proof: Proof::Token,
        operation: Operation::ReadAuditLog,
        versions: AUDIT,
        params: &[&AREA],
        body: None,
        answers: &[Answer::with(
            200,
            schema::<List<AuditActionInfo>>,
            "The actions; none if there is no such area.",
        )],
        summary: "List the actions that events of the audit log tell of.",
        run: actions,
    },
];

/// A page of the audit log.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct AuditLogQueryResult {
    /// The events.
    decorated_audit_log_entries: Vec<DecoratedAuditLogEntry>,
    /// Where to go on; null if there was nothing at all. On the last page it leads to nothing.
    continuation_token: Option<String>,
    /// Whether there are older ones.
    has_more: bool,
}

/// An event.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct DecoratedAuditLogEntry {
    /// Its id: a number that grows, and its correlation id.
    id: String,
    /// An id of its own; no two events are joined by one.
    correlation_id: Uuid,
    /// The same.
    activity_id: Uuid,
    /// All zeros.
    #[serde(rename = "actorCUID")]
    actor_cuid: Uuid,
    /// The id of the account that did it; null if none did, or it is gone.
    actor_user_id: Option<Uuid>,
    /// The name of that account, `anonymous`, `command line` or `server`.
    actor_display_name: String,
    /// Null: accounts have no pictures.
    actor_image_url: (),
    /// `PAT` for a token, `Basic` for a password, or nothing.
    authentication_mechanism: &'static str,
    /// When it happened.
    timestamp: Timestamp,
    /// What it happened in: the server, or a collection.
    scope_type: ScopeType,
    /// The name of that.
    scope_display_name: String,
    /// The id of that.
    scope_id: Uuid,
    /// The id of the project that it happened in, if it did in one.
    project_id: Option<Uuid>,
    /// The name of that project.
    project_name: Option<String>,
    /// The address that the request came from.
    ip_address: Option<String>,
    /// The `User-Agent` of the request; a claim of the client.
    user_agent: String,
    /// What was done.
    action_id: String,
    /// What kind of thing it was done to.
    area: String,
    /// What kind of action it was.
    category: Category,
    /// The same for people.
    category_display_name: &'static str,
    /// What was done, for people.
    details: String,
    /// `action` (by its name on the command line), `subject`, `tokenId` (of the token that was used), and what else is kept
    /// of the event.
    data: Map<String, Value>,
}

/// What an event happened in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum ScopeType {
    /// The server.
    Deployment,
    /// A collection.
    Organization,
}

/// What kind of action it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum Category {
    /// A newer patgate wrote it.
    Unknown,
    /// Something was changed.
    Modify,
    /// Something was removed.
    Remove,
    /// Something was made.
    Create,
    /// Something was used.
    Access,
}

impl Category {
    fn display_name(self) -> &'static str {
        match self {
            Category::Unknown => "Unknown",
            Category::Modify => "Modify",
            Category::Remove => "Remove",
            Category::Create => "Create",
            Category::Access => "Access",
        }
    }
}

/// An action.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct AuditActionInfo {
    /// Its name.
    action_id: &'static str,
    /// What kind of thing it is done to.
    area: &'static str,
    /// What kind of action it is.
    category: Category,
}

/// What is said of a revocation that nobody asked for; Azure DevOps has a name of its own for it.
const SYSTEM_REVOKE: Row = Row(
    "Token.PatSystemRevokeEvent",
    "Token",
    Category::Remove,
    "The server revoked the token",
);

/// What Azure DevOps calls an action, its area there, its category, and what it is in words before its subject.
struct Row(&'static str, &'static str, Category, &'static str);

/// The one table of what each of our actions is called there. What Azure DevOps does not have is named in its manner.
#[rustfmt::skip]
const fn row(action: AuditAction) -> Row {
    use Category::{Access, Create, Modify, Remove};

    match action {
        AuditAction::AccessGrant => Row("Security.ModifyPermission", "Security", Modify, "Gave a role on"),
        AuditAction::AccessRevoke => Row("Security.RemovePermission", "Security", Remove, "Took away a role on"),
        AuditAction::AccountCreate => Row("Account.Created", "Account", Create, "Made the account"),
        AuditAction::AccountDelete => Row("Account.Deleted", "Account", Remove, "Deleted the account"),
        AuditAction::AccountDisable => Row("Account.Disabled", "Account", Modify, "Disabled the account"),
        AuditAction::AccountEnable => Row("Account.Enabled", "Account", Modify, "Enabled the account"),
        AuditAction::AccountSetPassword => Row("Account.PasswordSet", "Account", Modify, "Set the password of"),
        AuditAction::AlternateCredentialRemove => Row("Account.AlternateCredentialRemoved", "Account", Remove, "Took away the alternate credential of"),
        AuditAction::AlternateCredentialSet => Row("Account.AlternateCredentialSet", "Account", Modify, "Set the alternate credential of"),
        AuditAction::AuditPrune => Row("AuditLog.Pruned", "Auditing", Remove, "Removed old events from"),
        AuditAction::CredentialRefuse => Row("Token.CredentialsRefused", "Token", Access, "Failed to prove who it is too often:"),
        AuditAction::GitFetch => Row("Git.Fetched", "Git", Access, "Fetched from"),
        AuditAction::GitPush => Row("Git.Pushed", "Git", Modify, "Pushed to"),
        AuditAction::PolicyRemove => Row("OrganizationPolicy.PolicyValueRemoved", "OrganizationPolicy", Remove, "Took back the policy"),
        AuditAction::PolicySet => Row("OrganizationPolicy.PolicyValueUpdated", "OrganizationPolicy", Modify, "Set the policy"),
        AuditAction::RepositoryCreate => Row("Git.RepositoryCreated", "Git", Create, "Made the repository"),
        AuditAction::RepositoryDelete => Row("Git.RepositoryDeleted", "Git", Remove, "Deleted the repository"),
        AuditAction::RepositoryImport => Row("Git.RepositoryImported", "Git", Create, "Imported the repository"),
        AuditAction::RepositoryRename => Row("Git.RepositoryRenamed", "Git", Modify, "Renamed the repository"),
        AuditAction::RepositoryUpdate => Row("Git.RepositoryDefaultBranchChanged", "Git", Modify, "Set the default branch of"),
        AuditAction::RevocationRuleCreate => Row("Token.RevocationRuleCreated", "Token", Create, "Made the revocation rule"),
        AuditAction::RevocationRuleDelete => Row("Token.RevocationRuleDeleted", "Token", Remove, "Took back the revocation rule"),
        AuditAction::SignIn => Row("Account.SignedIn", "Account", Access, "Signed in as"),
        AuditAction::SignInRefuse => Row("Account.SignInRefused", "Account", Access, "Failed to sign in as"),
        AuditAction::TokenCreate => Row("Token.PatCreateEvent", "Token", Create, "Made the token"),
        AuditAction::TokenExpire => Row("Token.PatExpiredEvent", "Token", Modify, "There came to its end the token"),
        AuditAction::TokenLeak => Row("Token.PatPublicDiscoveryEvent", "Token", Access, "Found where it should not be the token"),
        AuditAction::TokenRefuse => Row("Token.PatAccessRefused", "Token", Access, "Was refused"),
        AuditAction::TokenReuse => Row("Token.PatReuseEvent", "Token", Access, "Used a replaced secret of the token"),
        AuditAction::TokenRevoke => Row("Token.PatRevokeEvent", "Token", Remove, "Revoked the token"),
        AuditAction::TokenRotate => Row("Token.PatRotateEvent", "Token", Modify, "Gave a new secret to the token"),
        AuditAction::TokenUpdate => Row("Token.PatUpdateEvent", "Token", Modify, "Changed the token"),
    }
}

/// The row of an event; None if a newer patgate wrote it.
fn row_of(event: &AuditEvent) -> Option<Row> {
    let action = AuditAction::ALL
        .iter()
        .find(|action| action.as_str() == event.action)?;
    let because = event.details.get("because").and_then(Value::as_str);
    let is_system = [RevokeReason::Leaked, RevokeReason::Reused, RevokeReason::Unused]
        .iter()
        .any(|reason| because == Some(reason.as_str()));
    Some(if *action == AuditAction::TokenRevoke && is_system {
        SYSTEM_REVOKE
    } else {
        row(*action)
    })
}

fn actions(call: &Call) -> Result<Reply, HttpError> {
    let area = call.text(&AREA);
    let rows = AuditAction::ALL.iter().map(|action| row(*action));
    let all: Vec<AuditActionInfo> = rows
        .chain([SYSTEM_REVOKE])
        .filter(|Row(_, of, ..)| area.is_none_or(|area| area.eq_ignore_ascii_case(of)))
        .map(|Row(action_id, area, category, _)| AuditActionInfo {
            action_id,
            area,
            category,
        })
        .collect();
    Reply::ok(&List::from(all))
}

fn query(call: &Call) -> Result<Reply, HttpError> {
    let ids = call.ids()?;
    let after = call.text(&FROM).map(|text| read_token(ids, text)).transpose()?;
    let filter = AuditFilter {
        since: call.moment(&START).map(whole_second_from),
        until: call.moment(&END).map(whole_second_from),
        before_id: after,
        ..AuditFilter::latest(0)
    };
    let count_max = call.count(&BATCH).unwrap_or(PAGE_COUNT);
    let (events, has_more) = gather(call.store(), filter, count_max)?;
    let accounts = Accounts::load(call)?;
    let entries: Vec<DecoratedAuditLogEntry> = events
        .into_iter()
        .map(|event| decorate(ids, &accounts, event))
        .collect();
    let last = entries.last().map(|entry| entry.id.clone());
    Reply::ok(&AuditLogQueryResult {
        // The last page leads nowhere, but a client that asks on is not sent back to the first.
        continuation_token: last.or_else(|| call.text(&FROM).map(str::to_owned)),
        decorated_audit_log_entries: entries,
        has_more,
    })
}

/// Reads a page of events, and whether there are more: `count_max` of them, or fewer that are large.
fn gather(
    store: &Store,
    mut filter: AuditFilter,
    count_max: usize,
) -> Result<(Vec<AuditEvent>, bool), store::Error> {
    let mut page = Vec::new();
    let mut bytes = 0;
    let mut has_more = true;
    while has_more && page.len() < count_max && bytes < PAGE_BYTES {
        let count = READ_COUNT.min(count_max - page.len());
        filter.count_max = u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
        let mut events = store.audit_events(&filter)?;
        has_more = events.len() > count;
        events.truncate(count);
        filter.before_id = events.last().map(|event| event.id).or(filter.before_id);
        bytes += events
            .iter()
            .map(|event| event.details.to_string().len())
            .sum::<usize>();
        page.append(&mut events);
    }
    Ok((page, has_more))
}

/// Events are of whole seconds, and one of the second that a moment lies in was before it.
fn whole_second_from(moment: Timestamp) -> Timestamp {
    let is_whole = moment.subsec_nanosecond() <= 0;
    let second = moment.as_second() + i64::from(!is_whole);
    Timestamp::from_second(second).unwrap_or(moment)
}

/// The id of an event, which is also where a page goes on that ends with it.
fn id_of(ids: Ids, event: i64) -> String {
    format!("{event};{}", ids.event(event))
}

/// Reads the id that a page ended with.
fn read_token(ids: Ids, text: &str) -> Result<i64, HttpError> {
    let number = text.split(';').next().unwrap_or_default();
    let id: Option<i64> = number.parse().ok();
    id.filter(|id| id_of(ids, *id) == text).ok_or_else(|| {
        HttpError::bad_request(
            "The query parameter 'continuationToken' is none that this server gave. Begin with the first page.",
        )
    })
}

/// Accounts by their names, to tell their ids: events keep names.
struct Accounts(HashMap<String, Account>);

impl Accounts {
    fn load(call: &Call) -> Result<Accounts, HttpError> {
        let all = call.store().accounts()?;
        let by_name = all.into_iter().map(|account| (account.name.clone(), account));
        Ok(Accounts(by_name.collect()))
    }

    /// The account that had this name then, if it is still there. A later one of the same name did nothing before it was
    /// made.
    fn find(&self, name: &str, at: Timestamp) -> Option<&Account> {
        self.0.get(name).filter(|account| account.created_at <= at)
    }
}

fn decorate(ids: Ids, accounts: &Accounts, event: AuditEvent) -> DecoratedAuditLogEntry {
    let nobody = Requester::default();
    let requester = match &event.actor {
        Actor::Client(requester) => requester,
        Actor::CommandLine | Actor::Server => &nobody,
    };
    let account = requester.account.as_deref();
    let row = row_of(&event);
    let place = place(&event);
    let project = place.as_ref().and_then(|place| match place {
        AccessPath::Project(collection, project) => Some((collection.as_str(), project.as_str())),
        AccessPath::Repository(path) => Some((path.collection(), path.project())),
        AccessPath::Server | AccessPath::Collection(_) => None,
    });
    let collection = place.as_ref().and_then(|place| match place {
        AccessPath::Server => None,
        AccessPath::Collection(collection) | AccessPath::Project(collection, _) => Some(collection.as_str()),
        AccessPath::Repository(path) => Some(path.collection()),
    });
    let (scope_type, scope_display_name, scope_id) = match collection {
        Some(name) => (
            ScopeType::Organization,
            format!("{name} (Organization)"),
            ids.collection(name),
        ),
        None => (
            ScopeType::Deployment,
            "patgate (Deployment)".to_owned(),
            ids.instance(),
        ),
    };
    let correlation_id = ids.event(event.id);
    let category = row.as_ref().map_or(Category::Unknown, |row| row.2);
    DecoratedAuditLogEntry {
        id: id_of(ids, event.id),
        correlation_id,
        activity_id: correlation_id,
        actor_cuid: Uuid::nil(),
        actor_user_id: account
            .and_then(|name| accounts.find(name, event.at))
            .map(|account| ids.account(account.id)),
        actor_display_name: event.actor.to_string(),
        actor_image_url: (),
        authentication_mechanism: match (&requester.token, account) {
            (Some(_), _) => "PAT",
            (None, Some(_)) => "Basic",
            (None, None) => "",
        },
        timestamp: event.at,
        scope_type,
        scope_display_name,
        scope_id,
        project_id: project.map(|(collection, name)| ids.project(collection, name)),
        project_name: project.map(|(_, name)| name.to_owned()),
        ip_address: requester.address.map(|address| address.to_string()),
        user_agent: requester.agent.clone().unwrap_or_default(),
        action_id: row
            .as_ref()
            .map_or_else(|| format!("Patgate.{}", event.action), |row| row.0.to_owned()),
        area: row.as_ref().map_or("Patgate", |row| row.1).to_owned(),
        category,
        category_display_name: category.display_name(),
        details: tell(row.as_ref(), &event),
        data: data(
            requester.token.clone(),
            event.action,
            event.subject,
            event.details,
        ),
    }
}

/// What an event happened in, where its action is about paths.
fn place(event: &AuditEvent) -> Option<AccessPath> {
    let family = event.action.split('.').next().unwrap_or_default();
    match family {
        "access" | "git" | "repository" => AccessPath::parse(&event.subject).ok(),
        "policy" => {
            let collection = event.details.get("collection").and_then(Value::as_str)?;
            Some(AccessPath::Collection(collection.to_owned()))
        }
        _ => None,
    }
}

/// `Revoked the token AbCd1234 ('ci' of 'anna')`.
fn tell(row: Option<&Row>, event: &AuditEvent) -> String {
    let field = |name: &str| event.details.get(name).and_then(Value::as_str);
    let words = row.map_or(event.action.as_str(), |row| row.3);
    // A policy's event is about the place; what was done to it is in the details.
    let about = field("policy").unwrap_or(&event.subject);
    let mut text = format!("{words} {about}").trim_end().to_owned();
    match (field("name"), field("account")) {
        (Some(name), Some(account)) => text.push_str(&format!(" ('{name}' of '{account}')")),
        (None, Some(account)) => text.push_str(&format!(" ('{account}')")),
        (Some(name), None) => text.push_str(&format!(" ('{name}')")),
        (None, None) => {}
    }
    text
}

fn data(token: Option<TokenId>, action: String, subject: String, details: Value) -> Map<String, Value> {
    let mut data = match details {
        Value::Object(fields) => fields,
        Value::Null => Map::new(),
        other => Map::from_iter([("details".to_owned(), other)]),
    };
    data.insert("action".to_owned(), action.into());
    data.insert("subject".to_owned(), subject.into());
    data.insert(
        "tokenId".to_owned(),
        token.map_or(Value::Null, |id| json!(id.as_str())),
    );
    data
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::store::DATABASE_FILE;

    fn ids() -> Ids {
        Ids::new(Uuid::from_u128(7))
    }

    fn event(action: &str, subject: &str, details: Value) -> AuditEvent {
        AuditEvent {
            id: 5,
            at: "2027-01-31T18:00:00Z".parse().unwrap(),
            actor: Actor::CommandLine,
            action: action.to_owned(),
            subject: subject.to_owned(),
            details,
        }
    }

    fn told(event: AuditEvent) -> Value {
        let entry = decorate(ids(), &Accounts(HashMap::new()), event);
        serde_json::to_value(entry).unwrap()
    }

    #[test]
    fn no_two_actions_have_one_name() {
        let names: HashSet<&str> = AuditAction::ALL
            .iter()
            .map(|action| row(*action))
            .chain([SYSTEM_REVOKE])
            .map(|row| row.0)
            .collect();
        assert_eq!(names.len(), AuditAction::ALL.len() + 1);
    }

    #[test]
    fn events_of_paths_name_their_collection_and_project() {
        let entry = told(event("git.push", "Fab/Web/Shop", json!({ "refs": [] })));
        assert_eq!(entry["scopeType"], "organization");
        assert_eq!(entry["scopeDisplayName"], "Fab (Organization)");
        assert_eq!(entry["scopeId"], ids().collection("fab").to_string());
        assert_eq!(entry["projectName"], "Web");
        assert_eq!(entry["projectId"], ids().project("Fab", "Web").to_string());
        assert_eq!(entry["details"], "Pushed to Fab/Web/Shop");
        assert_eq!(
            entry["data"],
            json!({ "action": "git.push", "subject": "Fab/Web/Shop", "tokenId": null, "refs": [] })
        );
        let entry = told(event(
            "policy.set",
            "Fab",
            json!({ "policy": "full-scope", "collection": "Fab" }),
        ));
        assert_eq!(
            (&entry["scopeType"], &entry["projectName"]),
            (&json!("organization"), &Value::Null)
        );
        let entry = told(event(
            "policy.set",
            "/",
            json!({ "policy": "full-scope", "collection": null }),
        ));
        assert_eq!(entry["scopeType"], "deployment");
        assert_eq!(entry["details"], "Set the policy full-scope");
    }

    #[test]
    fn a_token_that_nobody_asked_to_be_revoked_was_revoked_by_the_system() {
        let revoked = |because: &str| {
            let details = json!({ "account": "anna", "name": "ci", "because": because });
            told(event("token.revoke", "AbCd1234", details))
        };
        for because in ["leaked", "reuse", "unused"] {
            assert_eq!(revoked(because)["actionId"], "Token.PatSystemRevokeEvent");
        }
        let asked = revoked("asked");
        assert_eq!(asked["actionId"], "Token.PatRevokeEvent");
        assert_eq!(asked["details"], "Revoked the token AbCd1234 ('ci' of 'anna')");
    }

    #[test]
    fn what_a_newer_patgate_wrote_is_told_all_the_same() {
        let entry = told(event("moon.land", "crater", json!("x")));
        assert_eq!(
            (&entry["actionId"], &entry["area"], &entry["category"]),
            (&json!("Patgate.moon.land"), &json!("Patgate"), &json!("unknown"))
        );
        assert_eq!(entry["details"], "moon.land crater");
        assert_eq!(entry["data"]["details"], "x");
    }

    #[test]
    fn a_page_ends_early_where_events_are_large_and_nothing_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join(DATABASE_FILE)).unwrap();
        for number in 0..2 * READ_COUNT {
            let details = json!({ "text": "x".repeat(PAGE_BYTES / READ_COUNT), "number": number });
            store
                .record_event(&Actor::Server, AuditAction::GitPush, "C/P/R", &details)
                .unwrap();
        }
        let mut numbers = Vec::new();
        let mut sizes = Vec::new();
        let mut filter = AuditFilter::latest(0);
        loop {
            let (page, has_more) = gather(&store, filter.clone(), READ_COUNT + 5).unwrap();
            numbers.extend(page.iter().map(|event| event.details["number"].as_u64().unwrap()));
            sizes.push(page.len());
            filter.before_id = page.last().map(|event| event.id);
            if !has_more {
                break;
            }
        }
        assert_eq!(sizes, [READ_COUNT, READ_COUNT]);
        let all: Vec<u64> = (0..2 * READ_COUNT as u64).rev().collect();
        assert_eq!(numbers, all);
        let (page, has_more) = gather(&store, AuditFilter::latest(0), 3).unwrap();
        assert_eq!((page.len(), has_more), (3, true));
    }

    #[test]
    fn the_manual_says_of_every_action_what_it_is_called() {
        let manual = include_str!("../../../docs/OPERATIONS.md");
        for action in AuditAction::ALL {
            let Row(name, area, category, _) = row(*action);
            let line = format!(
                "| `{}` | `{name}` | {area} | {} |",
                action.as_str(),
                category.display_name()
            );
            assert!(manual.contains(&line), "{line}");
        }
    }

    #[test]
    fn only_the_ids_of_events_lead_to_pages() {
        let token = id_of(ids(), 300);
        assert_eq!(read_token(ids(), &token).unwrap(), 300);
        for made_up in [
            "",
            "300",
            "x",
            "301;",
            &token.replace("300", "301"),
            &format!("0{token}"),
            &format!("{token};"),
        ] {
            assert!(read_token(ids(), made_up).is_err(), "{made_up}");
        }
        assert!(read_token(Ids::new(Uuid::from_u128(8)), &token).is_err());
    }

    #[test]
    fn a_moment_within_a_second_leaves_that_second_behind() {
        let from = |text: &str| whole_second_from(text.parse().unwrap()).to_string();
        assert_eq!(from("2027-01-31T18:00:00Z"), "2027-01-31T18:00:00Z");
        assert_eq!(from("2027-01-31T18:00:00.1Z"), "2027-01-31T18:00:01Z");
    }
}
