//! The audit trail.
//!
//! Ids grow with time and the indexes on events end in the id, so a filter becomes one or a few walks (*arms*), each
//! along one key of an index and in the order of the answer. A walk stops when it has as many events as are asked for,
//! or comes to one that is further off than those found before.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params, params_from_iter};
use serde_json::{Value, json};

use super::{Sqlite, accounts, now, time, tokens};
use crate::names::AccessPath;
use crate::secret::redact_tokens;
use crate::store::{
    Actor, AuditAction, AuditEvent, AuditFilter, Error, NewAuditEvent, Requester, Step, TokenId, TokenUse,
};

/// Adds an event to the transaction whose change it tells of.
pub(super) fn record(
    transaction: &Transaction<'_>,
    actor: &Actor,
    action: AuditAction,
    subject: &str,
    details: &Value,
) -> Result<(), Error> {
    insert(transaction, now(), actor, action, subject, details)
}

/// The one place where events are written. What looks like a token in them, such as in the name of a ref, a repository or
/// a branch that a client chose, is cut down to its public id here, whoever made the event.
fn insert(
    transaction: &Transaction<'_>,
    at: i64,
    actor: &Actor,
    action: AuditAction,
    subject: &str,
    details: &Value,
) -> Result<(), Error> {
    let nobody = Requester::default();
    let (kind, requester) = match actor {
        Actor::Client(requester) => ("client", requester),
        Actor::CommandLine => ("command line", &nobody),
        Actor::Server => ("server", &nobody),
    };
    let (subject, text) = (redact_tokens(subject, false), details.to_string());
    transaction
        .prepare_cached(
            "INSERT INTO audit_events \
             (at, actor, account, about_account, token_id, address, agent, action, subject, subject_key, details) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            at,
            kind,
            requester.account,
            details
                .get("account")
                .and_then(Value::as_str)
                .map(str::to_lowercase),
            requester.token.as_ref().map(TokenId::as_str),
            requester.address.map(|address| address.to_string()),
            requester.agent,
            action.as_str(),
            subject,
            subject.to_lowercase(),
            redact_tokens(&text, false)
        ])?;
    Ok(())
}

impl Sqlite {
    pub(in crate::store) fn record_event(
        &self,
        actor: &Actor,
        action: AuditAction,
        subject: &str,
        details: &Value,
    ) -> Result<(), Error> {
        self.write(|transaction| record(transaction, actor, action, subject, details))
    }

    pub(in crate::store) fn record_event_with<T, E: From<Error>>(
        &self,
        actor: &Actor,
        action: AuditAction,
        subject: &str,
        details: &Value,
        step: Step<impl FnOnce() -> Result<T, E>, impl FnOnce(T, Error) -> E>,
    ) -> Result<T, E> {
        self.write_with(
            |transaction| record(transaction, actor, action, subject, details),
            step,
        )
    }

    pub(in crate::store) fn record_batch(
        &self,
        uses: &[TokenUse],
        events: &[NewAuditEvent],
    ) -> Result<(), Error> {
        if uses.is_empty() && events.is_empty() {
            return Ok(());
        }
        self.write(|transaction| {
            tokens::record_uses(transaction, uses)?;
            for event in events {
                insert(
                    transaction,
                    event.at.as_second(),
                    &event.actor,
                    event.action,
                    &event.subject,
                    &event.details,
                )?;
            }
            Ok(())
        })
    }

    pub(in crate::store) fn audit_events(&self, filter: &AuditFilter) -> Result<Vec<AuditEvent>, Error> {
        self.read(|connection| list(connection, filter))
    }

    pub(in crate::store) fn record_expired_tokens(
        &self,
        now: Timestamp,
        count_max: u32,
    ) -> Result<usize, Error> {
        let now = now.as_second();
        self.write(|transaction| {
            // All are read before the first changes, or the index would change under the walk.
            let mut expired = Vec::new();
            let mut statement = transaction.prepare_cached(EXPIRED)?;
            let mut rows = statement.query(params![now, count_max])?;
            while let Some(row) = rows.next()? {
                let id: String = row.get(0)?;
                let details = json!({
                    "account": row.get::<_, String>(1)?,
                    "name": row.get::<_, String>(2)?,
                    "expired_at": time(row.get(3)?)?.to_string(),
                });
                expired.push((id, details));
            }
            let mut note =
                transaction.prepare_cached("UPDATE tokens SET end_noted = expires_at WHERE id = ?1")?;
            for (id, details) in &expired {
                insert(
                    transaction,
                    now,
                    &Actor::Server,
                    AuditAction::TokenExpire,
                    id,
                    details,
                )?;
                note.execute([id])?;
            }
            Ok(expired.len())
        })
    }

    pub(in crate::store) fn prune_audit_events(
        &self,
        before: Timestamp,
        now: Timestamp,
        count_max: u32,
    ) -> Result<usize, Error> {
        self.write(|transaction| {
            let count = transaction
                .prepare_cached(PRUNE)?
                .execute(params![before.as_second(), count_max])?;
            if count > 0 {
                note_pruned(transaction, before, now, count)?;
            }
            Ok(count)
        })
    }
}

/// Says that events were removed: adds them to what the newest such event says, if it is about the same removal, which
/// goes by many transactions.
fn note_pruned(
    transaction: &Transaction<'_>,
    before: Timestamp,
    now: Timestamp,
    count: usize,
) -> Result<(), Error> {
    let action = AuditAction::AuditPrune;
    let last: Option<(i64, String)> = transaction
        .prepare_cached(LAST_OF_ACTION)?
        .query_row([action.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let before = before.to_string();
    let told = last.and_then(|(id, details)| {
        let details: Value = serde_json::from_str(&details).ok()?;
        let is_same = details.get("before").and_then(Value::as_str) == Some(&before);
        let so_far = details.get("events").and_then(Value::as_u64)?;
        is_same.then_some((id, so_far))
    });
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    let details = |so_far: u64| json!({ "events": so_far.saturating_add(count), "before": before });
    match told {
        Some((id, so_far)) => {
            transaction
                .prepare_cached("UPDATE audit_events SET details = ?2 WHERE id = ?1")?
                .execute(params![id, details(so_far).to_string()])?;
            Ok(())
        }
        None => insert(
            transaction,
            now.as_second(),
            &Actor::Server,
            action,
            "/",
            &details(0),
        ),
    }
}

/// A condition, or a whole statement, with the values that it has places for.
#[derive(Debug, Clone)]
struct Sql {
    sql: String,
    values: Vec<SqlValue>,
}

impl Sql {
    fn new<const N: usize>(sql: &str, values: [SqlValue; N]) -> Sql {
        Sql {
            sql: sql.to_owned(),
            values: values.into(),
        }
    }

    /// Holds if one of `parts` does.
    fn any(parts: impl IntoIterator<Item = Sql>) -> Sql {
        let mut any = Sql::new("(", []);
        for (at, part) in parts.into_iter().enumerate() {
            any.push(if at == 0 { "" } else { " OR " }, part);
        }
        any.sql.push(')');
        any
    }

    fn push(&mut self, before: &str, part: Sql) {
        self.sql.push_str(before);
        self.sql.push_str(&part.sql);
        self.values.extend(part.values);
    }
}

/// Events that lie together in an index, or under a few of its keys.
#[derive(Debug, Clone)]
enum Arm {
    /// All whose key in this index is one, which the condition says.
    Key(&'static str, Sql),
    /// Whose subject is a path below this one; the condition says that the subject is one.
    Below(String, Sql),
}

impl Arm {
    /// Which events it has, for where another arm leads.
    fn condition(self) -> Sql {
        match self {
            Arm::Key(_, condition) => condition,
            Arm::Below(key, is_path) => {
                let [from, to] = range_below(&key);
                let mut condition = Sql::new("subject_key > ? AND subject_key < ? AND ", [from, to]);
                condition.push("", is_path);
                condition
            }
        }
    }
}

/// What the keys of all paths below the path `key` lie between. '0' is what comes after '/'.
fn range_below(key: &str) -> [SqlValue; 2] {
    [format!("{key}/").into(), format!("{key}0").into()]
}

/// The columns that [`from_row`] reads.
const COLUMNS: &str = "id, at, actor, account, token_id, address, agent, action, subject, details";

/// Finds the first subject between two others.
const NEXT_SUBJECT: &str = "SELECT subject_key FROM audit_events INDEXED BY audit_events_of_subject \
     WHERE subject_key > ? AND subject_key < ? ORDER BY subject_key LIMIT 1";

fn list(connection: &Connection, filter: &AuditFilter) -> Result<Vec<AuditEvent>, Error> {
    let Some(ids) = id_bounds(connection, filter)? else {
        return Ok(Vec::new());
    };
    let (lead, rest) = arms(connection, filter)?;
    let mut search = Search {
        connection,
        filter,
        rest,
        ids,
        found: BTreeMap::new(),
    };
    match lead {
        None => search.walk(None)?,
        Some(arms) => {
            for arm in arms {
                match arm {
                    Arm::Key(index, condition) => search.walk(Some((index, condition)))?,
                    Arm::Below(key, is_path) => search.walk_below(&key, &is_path)?,
                }
            }
        }
    }
    let events = search.found.into_values();
    Ok(if filter.newest_first {
        events.rev().collect()
    } else {
        events.collect()
    })
}

struct Search<'a> {
    connection: &'a Connection,
    filter: &'a AuditFilter,
    /// What is asked of an event besides that it lies in the arm.
    rest: Vec<Sql>,
    /// The first and the last id that can still matter.
    ids: (i64, i64),
    found: BTreeMap<i64, AuditEvent>,
}

impl Search<'_> {
    fn walk(&mut self, arm: Option<(&str, Sql)>) -> Result<(), Error> {
        let select = select(arm, self.ids, &self.rest, self.filter);
        let mut statement = self.connection.prepare_cached(&select.sql)?;
        let mut rows = statement.query(params_from_iter(select.values))?;
        while let Some(row) = rows.next()? {
            let event = from_row(row)?;
            self.found.insert(event.id, event);
        }
        let count_max = usize::try_from(self.filter.count_max).unwrap_or(usize::MAX);
        while self.found.len() > count_max {
            if self.filter.newest_first {
                self.found.pop_first();
            } else {
                self.found.pop_last();
            }
        }
        if self.found.len() == count_max {
            if self.filter.newest_first {
                self.ids.0 = self.found.keys().next().copied().unwrap_or(i64::MAX);
            } else {
                self.ids.1 = self.found.keys().next_back().copied().unwrap_or(i64::MIN);
            }
        }
        Ok(())
    }

    /// Walks along each key that there is below a path. Between them lie not so many as there are events.
    fn walk_below(&mut self, key: &str, is_path: &Sql) -> Result<(), Error> {
        let [mut from, to] = range_below(key);
        loop {
            let next: Option<String> = self
                .connection
                .prepare_cached(NEXT_SUBJECT)?
                .query_row([&from, &to], |row| row.get(0))
                .optional()?;
            let Some(next) = next.map(SqlValue::from) else {
                return Ok(());
            };
            let mut condition = Sql::new("subject_key = ? AND ", [next.clone()]);
            condition.push("", is_path.clone());
            self.walk(Some((OF_SUBJECT, condition)))?;
            from = next;
        }
    }
}

/// Makes the statement that walks along one key of an index, or along all events.
fn select(arm: Option<(&str, Sql)>, ids: (i64, i64), rest: &[Sql], filter: &AuditFilter) -> Sql {
    let index = arm.as_ref().map_or("NOT INDEXED".to_owned(), |(index, _)| {
        format!("INDEXED BY {index}")
    });
    let mut select = Sql::new(
        &format!("SELECT {COLUMNS} FROM audit_events {index} WHERE id >= ? AND id <= ?"),
        [ids.0.into(), ids.1.into()],
    );
    let lead = arm.map(|(_, condition)| condition);
    for condition in lead.into_iter().chain(rest.iter().cloned()) {
        select.push(" AND ", condition);
    }
    let order = if filter.newest_first { "DESC" } else { "ASC" };
    select.push(
        "",
        Sql::new(
            &format!(" ORDER BY id {order} LIMIT ?"),
            [filter.count_max.into()],
        ),
    );
    select
}

/// Where the search goes, and what is asked of the events that it finds there. The filter that leaves the fewest events
/// leads.
fn arms(connection: &Connection, filter: &AuditFilter) -> Result<(Option<Vec<Arm>>, Vec<Sql>), Error> {
    let of_account = filter
        .account
        .as_deref()
        .map(|name| account(connection, name))
        .transpose()?;
    let filters = [
        filter.token.as_ref().map(token),
        filter.path.as_ref().and_then(path),
        of_account,
        actions(&filter.actions),
    ];
    let mut filters = filters.into_iter().flatten();
    let lead = filters.next();
    let mut rest: Vec<Sql> = filters
        .map(|arms| Sql::any(arms.into_iter().map(Arm::condition)))
        .collect();
    if let Some(since) = filter.since {
        rest.push(Sql::new("at >= ?", [since.as_second().into()]));
    }
    if let Some(until) = filter.until {
        rest.push(Sql::new("at < ?", [until.as_second().into()]));
    }
    Ok((lead, rest))
}

/// Between which ids the events lie; None where no id does. Ids grow with time, but not where somebody set the clock
/// back, so the bounds of a time are looked up instead of searched for: some 0.1 s for a million events in between.
fn id_bounds(connection: &Connection, filter: &AuditFilter) -> Result<Option<(i64, i64)>, Error> {
    let bound = |sql: &str, at: Timestamp| -> Result<Option<i64>, Error> {
        Ok(connection
            .prepare_cached(sql)?
            .query_row([at.as_second()], |row| row.get(0))?)
    };
    let mut first = filter.after_id.map_or(i64::MIN, |id| id.saturating_add(1));
    let mut last = filter.before_id.map_or(i64::MAX, |id| id.saturating_sub(1));
    if let Some(since) = filter.since {
        match bound(FIRST_SINCE, since)? {
            Some(id) => first = first.max(id),
            None => return Ok(None),
        }
    }
    if let Some(until) = filter.until {
        match bound(LAST_UNTIL, until)? {
            Some(id) => last = last.min(id),
            None => return Ok(None),
        }
    }
    Ok((first <= last).then_some((first, last)))
}

const FIRST_SINCE: &str = "SELECT min(id) FROM audit_events INDEXED BY audit_events_at WHERE at >= ?";
const LAST_UNTIL: &str = "SELECT max(id) FROM audit_events INDEXED BY audit_events_at WHERE at < ?";

/// Tokens that ended without an event.
const EXPIRED: &str = "SELECT tokens.id, accounts.name, tokens.name, tokens.expires_at \
     FROM tokens INDEXED BY tokens_ending JOIN accounts ON accounts.id = tokens.account_id \
     WHERE tokens.revoked_at IS NULL AND tokens.end_noted IS NOT tokens.expires_at AND tokens.expires_at <= ? \
     ORDER BY tokens.expires_at LIMIT ?";
const PRUNE: &str = "DELETE FROM audit_events WHERE id IN \
     (SELECT id FROM audit_events WHERE at < ? ORDER BY at, id LIMIT ?)";

const LAST_OF_ACTION: &str = "SELECT id, details FROM audit_events INDEXED BY audit_events_of_action \
     WHERE action = ? ORDER BY id DESC LIMIT 1";

const OF_SUBJECT: &str = "audit_events_of_subject";

fn actions(actions: &[AuditAction]) -> Option<Vec<Arm>> {
    let arm = |action: &AuditAction| {
        let condition = Sql::new("action = ?", [action.as_str().to_owned().into()]);
        Arm::Key("audit_events_of_action", condition)
    };
    (!actions.is_empty()).then(|| actions.iter().map(arm).collect())
}

/// Holds if the action is one of these or of a family of them, which tells what its subject is: an account, a
/// collection and the id of a token can have one name.
fn action_in(families: &[&str]) -> Sql {
    let is_in = |name: &str, family: &str| {
        name.strip_prefix(family)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let values: Vec<SqlValue> = AuditAction::ALL
        .iter()
        .map(|action| action.as_str())
        .filter(|name| families.iter().any(|family| is_in(name, family)))
        .map(|name| name.to_owned().into())
        .collect();
    Sql {
        sql: format!("action IN ({})", vec!["?"; values.len()].join(", ")),
        values,
    }
}

/// The arm of a subject, in lower case, of certain actions.
fn subject(key: String, families: &[&str]) -> Arm {
    let mut condition = Sql::new("subject_key = ?", [key.into()]);
    condition.push(" AND ", action_in(families));
    Arm::Key(OF_SUBJECT, condition)
}

fn token(id: &TokenId) -> Vec<Arm> {
    let used = Sql::new("token_id = ?", [id.as_str().to_owned().into()]);
    let mut meant = Sql::new(
        "subject_key = ? AND subject = ? AND ",
        [id.as_str().to_lowercase().into(), id.as_str().to_owned().into()],
    );
    meant.push("", action_in(&["token"]));
    vec![
        Arm::Key("audit_events_of_token", used),
        Arm::Key(OF_SUBJECT, meant),
    ]
}

fn path(path: &AccessPath) -> Option<Vec<Arm>> {
    const FAMILIES: [&str; 5] = ["access", "git", "policy", "repository", "token.refuse"];
    let itself = subject(path.key(), &FAMILIES);
    match path {
        AccessPath::Server => None,
        AccessPath::Repository(_) => Some(vec![itself]),
        AccessPath::Collection(_) | AccessPath::Project(..) => {
            Some(vec![itself, Arm::Below(path.key(), action_in(&FAMILIES))])
        }
    }
}

fn account(connection: &Connection, name: &str) -> Result<Vec<Arm>, Error> {
    let spelled = accounts::find(connection, name)?.map_or_else(|| name.to_owned(), |account| account.name);
    let by = Sql::new("account = ?", [spelled.into()]);
    let about = Sql::new("about_account = ?", [name.to_lowercase().into()]);
    Ok(vec![
        Arm::Key("audit_events_of_account", by),
        Arm::Key("audit_events_of_about_account", about),
        subject(name.to_lowercase(), &["account", "alternate-credential"]),
    ])
}

fn from_row(row: &Row<'_>) -> Result<AuditEvent, Error> {
    let corrupt = || Error::Corrupt("an audit event");
    let actor = match row.get::<_, String>(2)?.as_str() {
        "client" => Actor::Client(Requester {
            account: row.get(3)?,
            token: row
                .get::<_, Option<String>>(4)?
                .map(|id| id.parse())
                .transpose()
                .map_err(|_| corrupt())?,
            address: row
                .get::<_, Option<String>>(5)?
                .map(|address| address.parse())
                .transpose()
                .map_err(|_| corrupt())?,
            agent: row.get(6)?,
        }),
        "command line" => Actor::CommandLine,
        "server" => Actor::Server,
        _ => return Err(corrupt()),
    };
    let details: String = row.get(9)?;
    Ok(AuditEvent {
        id: row.get(0)?,
        at: time(row.get(1)?)?,
        actor,
        action: row.get(7)?,
        subject: row.get(8)?,
        details: serde_json::from_str(&details).map_err(|_| corrupt())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::RepoPath;

    fn database() -> (tempfile::TempDir, Sqlite) {
        let directory = tempfile::tempdir().unwrap();
        let database = Sqlite::open(&directory.path().join("patgate.db")).unwrap();
        (directory, database)
    }

    /// How SQLite means to run a statement; that it can at all is checked as well.
    fn plan(connection: &Connection, sql: &str, values: Vec<SqlValue>) -> Vec<String> {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement
            .query_map(params_from_iter(values), |row| row.get(3))
            .unwrap();
        steps.collect::<Result<_, _>>().unwrap()
    }

    /// The statements that answer `filter`.
    fn statements(connection: &Connection, filter: &AuditFilter) -> Vec<Sql> {
        let (lead, rest) = arms(connection, filter).unwrap();
        let select = |arm| select(arm, (1, 2), &rest, filter);
        let Some(lead) = lead else {
            return vec![select(None)];
        };
        let walks = lead.into_iter().map(|arm| match arm {
            Arm::Key(index, condition) => select(Some((index, condition))),
            Arm::Below(_, is_path) => {
                let mut condition = Sql::new("subject_key = ? AND ", ["c/p".to_owned().into()]);
                condition.push("", is_path);
                select(Some((OF_SUBJECT, condition)))
            }
        });
        walks.collect()
    }

    #[test]
    fn no_filter_scans_or_sorts_events() {
        let (_directory, database) = database();
        let repository = AccessPath::Repository(RepoPath::parse("C/P/R").unwrap());
        let mut checked = 0;
        // Each filter leads once alone, and once with all that can follow it.
        for lead in 0..5 {
            for is_followed in [false, true] {
                for newest_first in [false, true] {
                    for path in [&repository, &AccessPath::Collection("C".to_owned())] {
                        let has = |rank: usize| rank == lead || (is_followed && rank > lead);
                        let filter = AuditFilter {
                            token: has(0).then(|| "AAAAAAAA".parse().unwrap()),
                            path: has(1).then(|| path.clone()),
                            account: has(2).then(|| "bob".to_owned()),
                            actions: AuditAction::ALL.iter().copied().filter(|_| has(3)).collect(),
                            since: has(4).then_some(Timestamp::UNIX_EPOCH),
                            until: has(4).then_some(Timestamp::MAX),
                            newest_first,
                            ..AuditFilter::latest(100)
                        };
                        let all = database.read(|connection| {
                            let statements = statements(connection, &filter).into_iter();
                            Ok(statements
                                .map(|sql| (sql.sql.clone(), plan(connection, &sql.sql, sql.values)))
                                .collect::<Vec<_>>())
                        });
                        for (sql, steps) in all.unwrap() {
                            let [step] = steps.as_slice() else {
                                panic!("{sql}: {steps:#?}");
                            };
                            let searches = if lead == 4 {
                                step.ends_with("USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)")
                            } else {
                                step.contains("USING INDEX audit_events_of_")
                                    && step.ends_with("=? AND id>? AND id<?)")
                            };
                            assert!(
                                step.starts_with("SEARCH audit_events") && searches,
                                "{sql}: {step}"
                            );
                            checked += 1;
                        }
                    }
                }
            }
        }
        assert!(checked > 100, "{checked}");
    }

    #[test]
    fn times_subjects_and_what_has_passed_are_found_in_an_index() {
        let (_directory, database) = database();
        let one = || SqlValue::from(1);
        for (sql, values, search) in [
            (FIRST_SINCE, vec![one()], "audit_events_at (at>?)"),
            (LAST_UNTIL, vec![one()], "audit_events_at (at<?)"),
            (
                NEXT_SUBJECT,
                vec![one(), one()],
                "audit_events_of_subject (subject_key>? AND subject_key<?)",
            ),
            (PRUNE, vec![one(), one()], "audit_events_at (at<?)"),
            (LAST_OF_ACTION, vec![one()], "audit_events_of_action (action=?)"),
            (EXPIRED, vec![one(), one()], "tokens_ending (expires_at<?)"),
        ] {
            let steps = database
                .read(|connection| Ok(plan(connection, sql, values)))
                .unwrap();
            assert!(
                steps
                    .iter()
                    .any(|step| step.ends_with(&format!("INDEX {search}"))),
                "{sql}: {steps:#?}"
            );
            let is_slow = |step: &String| step.starts_with("SCAN") || step.contains("TEMP");
            assert!(!steps.iter().any(is_slow), "{sql}: {steps:#?}");
        }
    }
}
