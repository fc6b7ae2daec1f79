//! `patgate audit`: who did what.

use std::time::Duration;

use clap::Subcommand;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::args::CommonArgs;
use super::output::{CliError, Console, Table, escape};
use super::token::token_id;
use crate::names::AccessPath;
use crate::store::{Actor, AuditAction, AuditEvent, AuditFilter, Requester, Store, TokenId};

/// How often a followed trail is asked for news; asking costs a few microseconds.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);

/// Events that are listed, and that are shown before those to come.
const LISTED_DEFAULT: u32 = 100;
const FOLLOWED_DEFAULT: u32 = 10;

/// Events that are read at a time while a trail is followed.
const PAGE_COUNT: u32 = 1000;

/// What can be done with the audit trail.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List fetches, pushes, refusals and changes of accounts, tokens, roles and repositories, newest first.
    #[command(after_help = "\
Examples:
  patgate audit list --limit 20
  patgate audit list --repo Fabrikam/Web/Shop --action git.push --since 7d
  patgate audit list --token AbCd1234 --json
  patgate audit list --follow --action 'git.*,token.refuse'

Actions are named like 'token.create'; 'token.*' means all that begin so. Times are in UTC.")]
    List {
        /// Only from then on: some time ago (30m, 12h, 7d), a day or a moment.
        #[arg(long, value_name = "7d|2027-01-31")]
        since: Option<String>,
        /// Only before then.
        #[arg(long, value_name = "7d|2027-01-31", conflicts_with = "follow")]
        until: Option<String>,
        /// Only what was done with this token, or to it.
        #[arg(long, value_name = "ID", value_parser = token_id)]
        token: Option<TokenId>,
        /// Only what was done to this repository, or to those of COLLECTION or COLLECTION/PROJECT.
        #[arg(long, value_name = "PATH")]
        repo: Option<String>,
        /// Only such actions; can be repeated.
        #[arg(long, value_name = "NAME|git.*", value_delimiter = ',')]
        action: Vec<String>,
        /// Only what was done by this account, or to it.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// How many to show at most, or how many before those to come [default: 100, with --follow 10].
        #[arg(long, value_name = "COUNT")]
        limit: Option<u32>,
        /// Go on with new events as they come, oldest first, until interrupted.
        #[arg(long, short)]
        follow: bool,
        /// Print JSON; with --follow one object a line.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(command: AuditCommand, common: &CommonArgs, console: &mut Console) -> Result<(), CliError> {
    let AuditCommand::List {
        since,
        until,
        token,
        repo,
        action,
        user,
        limit,
        follow: is_followed,
        json,
    } = command;
    let now = Timestamp::now();
    let moment = |text: Option<String>| text.map(|text| moment(&text, now)).transpose();
    let mut actions = Vec::new();
    for pattern in &action {
        let found = AuditAction::matching(pattern).map_err(|error| {
            let all: Vec<&str> = AuditAction::ALL.iter().map(|action| action.as_str()).collect();
            CliError::usage(error).hint(format!("the actions are {}", all.join(", ")))
        })?;
        actions.extend(
            found
                .into_iter()
                .filter(|action| !actions.contains(action))
                .collect::<Vec<_>>(),
        );
    }
    let default = if is_followed {
        FOLLOWED_DEFAULT
    } else {
        LISTED_DEFAULT
    };
    let filter = AuditFilter {
        since: moment(since)?,
        until: moment(until)?,
        actions,
        token,
        path: repo.as_deref().map(AccessPath::parse).transpose()?,
        account: user,
        ..AuditFilter::latest(limit.unwrap_or(default))
    };
    let store = common.open_store()?;
    if is_followed {
        let mut wait = || {
            std::thread::sleep(FOLLOW_INTERVAL);
            true
        };
        return follow(&store, filter, json, console, &mut wait);
    }
    let events = store.audit_events(&filter)?;
    if json {
        return console.print_json(&events.iter().map(to_json).collect::<Value>());
    }
    let mut table = Table::new(&HEADER);
    for event in &events {
        table.row(row(event));
    }
    console.print_table(&table.cut(console.width()), "there are no such events")
}

/// Prints the last events and then new ones, until `wait` says that it is enough.
fn follow(
    store: &Store,
    filter: AuditFilter,
    json: bool,
    console: &mut Console,
    wait: &mut dyn FnMut() -> bool,
) -> Result<(), CliError> {
    let newest = || -> Result<i64, CliError> {
        let newest = store.audit_events(&AuditFilter::latest(1))?;
        Ok(newest.first().map_or(0, |event| event.id))
    };
    let print = |event: &AuditEvent, console: &mut Console| {
        if json {
            console.print_json_line(&to_json(event))
        } else {
            console.print(&line(&row(event), console.width()))
        }
    };
    // The version is read before the events: what comes in between is looked for again.
    let mut version = store.data_version()?;
    let mut shown = newest()?;
    let first = AuditFilter {
        before_id: Some(shown.saturating_add(1)),
        ..filter.clone()
    };
    if !json {
        console.print(&line(&HEADER.map(str::to_owned), None))?;
    }
    for event in store.audit_events(&first)?.iter().rev() {
        print(event, console)?;
    }
    while wait() {
        let now = store.data_version()?;
        if now == version {
            continue;
        }
        version = now;
        let until = newest()?;
        while shown < until {
            let page = store.audit_events(&AuditFilter {
                after_id: Some(shown),
                before_id: Some(until.saturating_add(1)),
                newest_first: false,
                count_max: PAGE_COUNT,
                ..filter.clone()
            })?;
            for event in &page {
                print(event, console)?;
            }
            let is_full = u32::try_from(page.len()).is_ok_and(|count| count == PAGE_COUNT);
            shown = page.last().filter(|_| is_full).map_or(until, |event| event.id);
        }
    }
    Ok(())
}

/// Reads a moment in the past: `30m`, `12h`, `7d` before `now`, the beginning of a day in UTC, or a moment itself.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, CliError> {
    let shape = || {
        CliError::usage(format!("'{}' is no moment", text.escape_debug()))
            .hint("give some time ago like '30m', '12h' or '7d', a date like '2027-01-31' or a time like '2027-01-31T18:00:00Z'")
    };
    let minutes_each = match text.chars().next_back() {
        Some('m') => Some(1),
        Some('h') => Some(60),
        Some('d') => Some(24 * 60),
        _ => None,
    };
    if let Some(each) = minutes_each {
        let count = text.get(..text.len() - 1).unwrap_or_default();
        if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(shape());
        }
        // More than there is time for means all of it.
        let minutes = count
            .parse::<i64>()
            .ok()
            .and_then(|count| count.checked_mul(each));
        let ago = minutes.and_then(SignedDuration::try_from_mins);
        return Ok(ago
            .and_then(|ago| now.checked_sub(ago).ok())
            .unwrap_or(Timestamp::MIN));
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    let date: Date = text.parse().map_err(|_| shape())?;
    Ok(date.to_zoned(TimeZone::UTC).map_err(|_| shape())?.timestamp())
}

const HEADER: [&str; 5] = ["TIME", "WHO", "ACTION", "SUBJECT", "DETAILS"];

fn row(event: &AuditEvent) -> [String; 5] {
    let who = match &event.actor {
        Actor::Client(Requester {
            token: Some(token), ..
        }) => format!("{} {token}", event.actor),
        actor => actor.to_string(),
    };
    [
        event
            .at
            .to_zoned(TimeZone::UTC)
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string(),
        who,
        event.action.clone(),
        event.subject.clone(),
        describe(event),
    ]
}

/// A row in columns of fixed width: those to come cannot be measured.
fn line(cells: &[String; 5], width: Option<usize>) -> String {
    const WIDTHS: [usize; 5] = [19, 17, 12, 26, 0];
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(WIDTHS) {
        line.push_str(&format!("{:<width$}  ", escape(cell)));
    }
    cut(line.trim_end(), width)
}

fn cut(text: &str, width: Option<usize>) -> String {
    super::output::cut(text, width.unwrap_or(usize::MAX))
}

/// What happened, in words that fit in a line.
fn describe(event: &AuditEvent) -> String {
    let details = &event.details;
    match event.action.as_str() {
        "git.push" => describe_push(details),
        "git.fetch" => describe_fetch(details),
        "token.refuse" => describe_refusal(details),
        _ => describe_fields(details),
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn count(value: &Value, field: &str) -> u64 {
    value.get(field).and_then(Value::as_u64).unwrap_or_default()
}

/// `push refs/heads/main 1234567..89abcde`
fn describe_push(details: &Value) -> String {
    let refs = details
        .get("refs")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let mut words = match refs.first() {
        Some(first) => describe_move(first),
        None => "push".to_owned(),
    };
    let further = count(details, "commands").saturating_sub(1);
    if further > 0 {
        words.push_str(&format!(
            " and {further} more, {} refused",
            count(details, "refused")
        ));
    }
    end(&mut words, details);
    times(&mut words, details);
    words
}

fn describe_move(moved: &Value) -> String {
    let short = |field| -> &str {
        let id = text(moved, field);
        id.get(..7).unwrap_or(id)
    };
    let name = text(moved, "name");
    let mut words = match (short("old"), short("new")) {
        ("", new) => format!("push {name} new {new}"),
        (old, "") => format!("delete {name} was {old}"),
        (old, new) => format!("push {name} {old}..{new}"),
    };
    match text(moved, "result") {
        "" | "ok" => {}
        reason => words.push_str(&format!(" refused: {reason}")),
    }
    words
}

/// `fetch 120 objects, 1.2 MiB`
fn describe_fetch(details: &Value) -> String {
    let mut words = "fetch".to_owned();
    if text(details, "outcome") != "refused" {
        words.push_str(&format!(
            " {} objects, {}",
            count(details, "objects"),
            size(count(details, "bytes"))
        ));
    }
    end(&mut words, details);
    words
}

/// Adds how it ended, if not well, and why.
fn end(words: &mut String, details: &Value) {
    let outcome = text(details, "outcome");
    let reason = text(details, "reason");
    if !matches!(outcome, "" | "ok" | "partial") && (outcome != "refused" || !reason.is_empty()) {
        words.push_str(&format!(" {outcome}"));
    }
    if !reason.is_empty() {
        words.push_str(&format!(": {reason}"));
    }
}

/// `push refused: scope`
fn describe_refusal(details: &Value) -> String {
    let what = match text(details, "operation") {
        "" => String::new(),
        operation => format!("{operation} "),
    };
    let mut words = format!("{what}refused: {}", text(details, "reason"));
    times(&mut words, details);
    words
}

/// Adds of how many alike it tells.
fn times(words: &mut String, details: &Value) {
    match count(details, "times") {
        0 | 1 => {}
        times => words.push_str(&format!(", {times} times")),
    }
}

/// `name: laptop, scopes: vso.code -> vso.code_write`
fn describe_fields(details: &Value) -> String {
    let value = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let field = |(name, field): (&String, &Value)| match (field.get("from"), field.get("to")) {
        (Some(from), Some(to)) => format!("{name}: {} -> {}", value(from), value(to)),
        _ => format!("{name}: {}", value(field)),
    };
    let fields = details.as_object().into_iter().flatten();
    fields
        .filter(|(_, value)| !value.is_null())
        .map(field)
        .collect::<Vec<_>>()
        .join(", ")
}

fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut tenths = bytes.saturating_mul(10) / 1024;
    let mut unit = "KiB";
    for larger in ["MiB", "GiB", "TiB"] {
        if tenths < 10 * 1024 {
            break;
        }
        tenths /= 1024;
        unit = larger;
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

fn to_json(event: &AuditEvent) -> Value {
    let nobody = Requester::default();
    let (actor, requester) = match &event.actor {
        Actor::Client(requester) => ("client", requester),
        Actor::CommandLine => ("command line", &nobody),
        Actor::Server => ("server", &nobody),
    };
    json!({
        "id": event.id,
        "at": event.at.to_string(),
        "actor": actor,
        "account": requester.account,
        "token": requester.token.as_ref().map(TokenId::as_str),
        "address": requester.address.map(|address| address.to_string()),
        "agent": requester.agent,
        "action": event.action,
        "subject": event.subject,
        "details": event.details,
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::store::{DATABASE_FILE, NewAuditEvent};

    fn event(action: AuditAction, subject: &str, details: Value) -> NewAuditEvent {
        NewAuditEvent {
            at: "2027-01-31T18:00:00Z".parse().unwrap(),
            actor: Actor::Client(Requester {
                account: Some("anna".to_owned()),
                token: Some("AbCd1234".parse().unwrap()),
                ..Requester::default()
            }),
            action,
            subject: subject.to_owned(),
            details,
        }
    }

    fn described(action: AuditAction, details: Value) -> String {
        let event = event(action, "", details);
        describe(&AuditEvent {
            id: 1,
            at: event.at,
            actor: event.actor,
            action: action.as_str().to_owned(),
            subject: event.subject,
            details: event.details,
        })
    }

    #[test]
    fn moments_are_ages_dates_or_times() {
        let now: Timestamp = "2027-01-31T18:00:00Z".parse().unwrap();
        let read = |text: &str| moment(text, now).unwrap().to_string();
        assert_eq!(read("30m"), "2027-01-31T17:30:00Z");
        assert_eq!(read("12h"), "2027-01-31T06:00:00Z");
        assert_eq!(read("7d"), "2027-01-24T18:00:00Z");
        assert_eq!(read("2027-01-02"), "2027-01-02T00:00:00Z");
        assert_eq!(read("2027-01-02T03:04:05+01:00"), "2027-01-02T02:04:05Z");
        for long in ["99999999999d", "99999999999999999999999h"] {
            assert_eq!(moment(long, now).unwrap(), Timestamp::MIN);
        }
        for text in ["", "d", "-1d", "7", "7 d", "1.5h", "yesterday", "2027-02-30", "é"] {
            assert!(moment(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn pushes_are_told_in_git_s_words() {
        let push = |refs: Value, commands: u32, refused: u32, outcome: &str| {
            let details =
                json!({ "refs": refs, "commands": commands, "refused": refused, "outcome": outcome });
            described(AuditAction::GitPush, details)
        };
        let (old, new) = ("1234567890".repeat(4), "89abcdef00".repeat(4));
        let moved = json!({ "name": "refs/heads/main", "old": old, "new": new, "result": "ok" });
        assert_eq!(
            push(json!([moved]), 1, 0, "ok"),
            "push refs/heads/main 1234567..89abcde"
        );
        let made = json!({ "name": "refs/heads/x", "old": null, "new": new, "result": "ok" });
        assert_eq!(push(json!([made]), 1, 0, "ok"), "push refs/heads/x new 89abcde");
        let gone = json!({ "name": "refs/heads/x", "old": old, "new": null, "result": "ok" });
        assert_eq!(push(json!([gone]), 1, 0, "ok"), "delete refs/heads/x was 1234567");
        let refused = json!({ "name": "refs/heads/x", "old": old, "new": new, "result": "non-fast-forward" });
        assert_eq!(
            push(json!([refused]), 1, 1, "refused"),
            "push refs/heads/x 1234567..89abcde refused: non-fast-forward"
        );
        assert_eq!(
            push(json!([moved, made, refused]), 3, 1, "partial"),
            "push refs/heads/main 1234567..89abcde and 2 more, 1 refused"
        );
        assert_eq!(
            push(json!([made]), 1, 1, "interrupted"),
            "push refs/heads/x new 89abcde interrupted"
        );
        assert_eq!(
            described(
                AuditAction::GitPush,
                json!({ "outcome": "refused", "reason": "unsupported object format" })
            ),
            "push refused: unsupported object format"
        );
    }

    #[test]
    fn other_events_are_told_in_few_words() {
        let fetched = json!({ "outcome": "ok", "wants": 1, "objects": 120, "bytes": 1_300_000 });
        assert_eq!(
            described(AuditAction::GitFetch, fetched),
            "fetch 120 objects, 1.2 MiB"
        );
        let cut = json!({ "outcome": "interrupted", "objects": 120, "bytes": 1000 });
        assert_eq!(
            described(AuditAction::GitFetch, cut),
            "fetch 120 objects, 1000 bytes interrupted"
        );
        let refused = json!({ "outcome": "refused", "reason": "not our ref" });
        assert_eq!(
            described(AuditAction::GitFetch, refused),
            "fetch refused: not our ref"
        );
        let scope = json!({ "operation": "push", "reason": "scope", "times": 3 });
        assert_eq!(
            described(AuditAction::TokenRefuse, scope),
            "push refused: scope, 3 times"
        );
        let changed =
            json!({ "name": "x", "scopes": { "from": "vso.code", "to": "vso.work" }, "limits": null });
        assert_eq!(
            described(AuditAction::TokenUpdate, changed),
            "name: x, scopes: vso.code -> vso.work"
        );
        assert_eq!(described(AuditAction::TokenRotate, json!({})), "");
        assert_eq!(described(AuditAction::GitPush, json!("no object")), "push");
    }

    #[test]
    fn sizes_have_one_decimal() {
        assert_eq!(size(1023), "1023 bytes");
        assert_eq!(size(1024), "1.0 KiB");
        assert_eq!(size(1_048_575), "1023.9 KiB");
        assert_eq!(size(1_048_576), "1.0 MiB");
        assert_eq!(size(u64::MAX), "1677721.5 TiB");
    }

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_followed_trail_shows_every_event_once_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(DATABASE_FILE);
        let store = Store::open(&path).unwrap();
        let elsewhere = Store::open(&path).unwrap();
        let push = |number: u32| event(AuditAction::GitPush, &format!("C/P/R{number}"), json!({}));
        let fetch = || event(AuditAction::GitFetch, "C/P/R", json!({}));
        elsewhere
            .record_batch(&[], &[push(1), push(2), push(3), fetch()])
            .unwrap();
        let filter = AuditFilter {
            actions: vec![AuditAction::GitPush],
            ..AuditFilter::latest(2)
        };
        let stdout = Captured::default();
        let mut console = Console::new(Box::new(stdout.clone()), Box::new(io::sink()));
        let mut rounds = 0;
        let mut wait = || {
            rounds += 1;
            match rounds {
                1 => elsewhere.record_batch(&[], &[fetch()]).unwrap(),
                2 => {}
                // More than a page.
                3 => {
                    let many: Vec<_> = (4..=PAGE_COUNT + 10)
                        .flat_map(|number| [push(number), fetch()])
                        .collect();
                    elsewhere.record_batch(&[], &many).unwrap();
                }
                _ => return false,
            }
            true
        };
        follow(&store, filter, true, &mut console, &mut wait).unwrap();
        let text = String::from_utf8(stdout.0.lock().unwrap().clone()).unwrap();
        let subjects: Vec<String> = text
            .lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["subject"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        let expected: Vec<String> = (2..=PAGE_COUNT + 10)
            .map(|number| format!("C/P/R{number}"))
            .collect();
        assert_eq!(subjects, expected);
    }

    #[test]
    fn lines_of_a_followed_trail_fit_and_are_escaped() {
        let cells = ["2027", "anna", "git.push", "C/P/R", "push refs/heads/\u{1b}[2J"].map(str::to_owned);
        let whole = line(&cells, None);
        assert!(whole.ends_with("  push refs/heads/\\u{1b}[2J"), "{whole}");
        let short = line(&cells, Some(90));
        assert_eq!(short.chars().count(), 90);
        assert!(short.ends_with('…'), "{short}");
    }
}
