//! What fetches and pushes leave in the audit trail. A push of which nothing moved leaves an event a minute, because its
//! client can repeat it as fast as it likes.
//!
//! Names and reasons come from outside or from engines; they are bounded here and kept as they are otherwise.

use std::fmt::Display;

use gix_hash::ObjectId;
use serde_json::{Value, json};

use crate::auth::trail::claim;
use crate::auth::{Gate, Grant, Push};
use crate::receive_pack::{self, RefEnd, RefOutcome};
use crate::store::AuditAction;
use crate::upload_pack;

/// Longest name of a ref, in bytes. git itself stops at about 4000, file systems at 255 for each part.
const NAME_BYTES_MAX: usize = 1024;

/// Longest reason, in bytes.
const REASON_BYTES_MAX: usize = 300;

/// Tells of a fetch; None of a request that is no event: a list of refs, or a round of negotiation that went well.
pub(super) fn fetch(outcome: &upload_pack::Outcome, error: Option<&upload_pack::Error>) -> Option<Value> {
    let end = match error {
        Some(error) if is_interrupted_fetch(error) => "interrupted",
        Some(_) => "failed",
        None if outcome.refusal.is_some() => "refused",
        None => "ok",
    };
    let is_event = outcome.has_pack || outcome.refusal.is_some() || (error.is_some() && outcome.wants > 0);
    is_event.then(|| {
        let mut details = json!({
            "outcome": end,
            "wants": outcome.wants,
            "haves": outcome.haves,
            "objects": outcome.objects,
            "bytes": outcome.pack_bytes,
        });
        add_reason(
            &mut details,
            outcome.refusal.as_deref(),
            error.map(|error| error as &dyn Display),
        );
        details
    })
}

/// Writes what became of a push, or of refs that were moved without one, before its client hears of it.
///
/// # Blocking
///
/// Until it is on disk where refs moved.
pub(super) fn settle_push(
    gate: &Gate,
    grant: &Grant<Push>,
    outcome: &receive_pack::Outcome,
    error: Option<&receive_pack::Error>,
) {
    if error.is_some() || (outcome.refused == outcome.commands && !outcome.is_unsure) {
        gate.note_unmoved(grant, end_of_push(outcome, error), || push(outcome, error));
        return;
    }
    let event = gate.event(
        grant.actor(),
        AuditAction::GitPush,
        &grant.repository().to_string(),
        push(outcome, error),
    );
    // Refs did move, and their client hears of it whether the trail could be written or not: what could not be is in the
    // log, as an error.
    let _is_written = gate.recorder().record_durably(event);
}

/// How a push ended, in a word.
fn end_of_push(outcome: &receive_pack::Outcome, error: Option<&receive_pack::Error>) -> &'static str {
    match error {
        Some(error) if is_interrupted_push(error) => "interrupted",
        Some(_) => "failed",
        None if outcome.is_unsure => "failed",
        None if outcome.refused == outcome.commands => "refused",
        None if outcome.refused > 0 => "partial",
        None => "ok",
    }
}

/// Tells of a push.
fn push(outcome: &receive_pack::Outcome, error: Option<&receive_pack::Error>) -> Value {
    let mut details = json!({
        "outcome": end_of_push(outcome, error),
        "commands": outcome.commands,
        "refused": outcome.refused,
        "refs": outcome.refs.iter().map(reference).collect::<Value>(),
        "objects": outcome.objects,
        "bytes": outcome.pack_bytes,
    });
    add_reason(
        &mut details,
        outcome.refusal.as_deref(),
        error.map(|error| error as &dyn Display),
    );
    details
}

fn reference(outcome: &RefOutcome) -> Value {
    let id = |id: Option<ObjectId>| id.map(|id| id.to_string());
    let result = match &outcome.end {
        RefEnd::Moved => Some("ok".to_owned()),
        RefEnd::Refused(reason) => Some(claim(reason.as_bytes(), REASON_BYTES_MAX)),
        RefEnd::Untouched => None,
    };
    json!({
        "name": claim(&outcome.name, NAME_BYTES_MAX),
        "old": id(outcome.old),
        "new": id(outcome.new),
        "result": result,
    })
}

/// Whether the client, or the server that stops, ended it. What goes wrong while an answer is written is the client's
/// doing: it is written into a queue that only its end closes.
fn is_interrupted_fetch(error: &upload_pack::Error) -> bool {
    use crate::pack;
    use upload_pack::Error;

    matches!(
        error,
        Error::Write(_) | Error::Pack(pack::Error::Interrupted | pack::Error::Write(_))
    )
}

fn is_interrupted_push(error: &receive_pack::Error) -> bool {
    use crate::pack;
    use receive_pack::Error;

    matches!(
        error,
        Error::Interrupted | Error::Read(_) | Error::Write(_) | Error::Pack(pack::Error::Interrupted)
    )
}

/// Adds why it did not go well. Of an error only what it says itself: its causes are for the log.
fn add_reason(details: &mut Value, refusal: Option<&str>, error: Option<&dyn Display>) {
    let reason = refusal
        .map(str::to_owned)
        .or_else(|| error.map(ToString::to_string));
    if let (Some(reason), Some(details)) = (reason, details.as_object_mut()) {
        details.insert(
            "reason".to_owned(),
            claim(reason.as_bytes(), REASON_BYTES_MAX).into(),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::pack;

    fn id(digit: &str) -> ObjectId {
        ObjectId::from_hex(digit.repeat(40).as_bytes()).unwrap()
    }

    #[test]
    fn a_fetch_is_an_event_when_it_comes_to_the_pack_or_ends_badly() {
        let outcome = upload_pack::Outcome {
            command: "fetch",
            wants: 2,
            haves: 16,
            ..upload_pack::Outcome::default()
        };
        assert_eq!(fetch(&outcome, None), None, "a round of negotiation");
        assert_eq!(
            fetch(&upload_pack::Outcome::default(), None),
            None,
            "a list of refs"
        );
        let gone = || upload_pack::Error::Write(io::ErrorKind::BrokenPipe.into());
        assert_eq!(fetch(&upload_pack::Outcome::default(), Some(&gone())), None);
        let sent = upload_pack::Outcome {
            has_pack: true,
            objects: 3,
            pack_bytes: 400,
            ..outcome.clone()
        };
        let expected = json!({ "outcome": "ok", "wants": 2, "haves": 16, "objects": 3, "bytes": 400 });
        assert_eq!(fetch(&sent, None), Some(expected));
        for (error, end) in [
            (gone(), "interrupted"),
            (upload_pack::Error::Pack(pack::Error::Interrupted), "interrupted"),
            (
                upload_pack::Error::Pack(pack::Error::Write(io::ErrorKind::BrokenPipe.into())),
                "interrupted",
            ),
            (upload_pack::Error::Pack(pack::Error::Missing(id("1"))), "failed"),
        ] {
            let details = fetch(&sent, Some(&error)).unwrap();
            assert_eq!(
                (&details["outcome"], &details["bytes"]),
                (&json!(end), &json!(400))
            );
            assert_eq!(details["reason"], json!(error.to_string()));
            assert_eq!(fetch(&outcome, Some(&error)).unwrap()["outcome"], end);
        }
        let refused = upload_pack::Outcome {
            refusal: Some("upload-pack: not our ref".to_owned()),
            ..outcome
        };
        let details = fetch(&refused, None).unwrap();
        assert_eq!(
            (&details["outcome"], &details["reason"]),
            (&json!("refused"), &json!("upload-pack: not our ref"))
        );
    }

    #[test]
    fn a_push_tells_of_each_ref_where_it_was_and_is() {
        let moved = RefOutcome {
            name: b"refs/heads/\xff\x1b".into(),
            old: Some(id("1")),
            new: Some(id("2")),
            end: RefEnd::Moved,
        };
        let refused = RefOutcome {
            name: "refs/heads/x".into(),
            old: None,
            new: Some(id("2")),
            end: RefEnd::Refused("non-fast-forward".to_owned()),
        };
        let untouched = RefOutcome {
            end: RefEnd::Untouched,
            new: None,
            ..moved.clone()
        };
        let mut outcome = receive_pack::Outcome {
            commands: 3,
            refused: 1,
            objects: 5,
            pack_bytes: 600,
            refs: vec![moved, refused, untouched],
            refusal: None,
            is_unsure: false,
        };
        let (one, two) = ("1".repeat(40), "2".repeat(40));
        let name = "refs/heads/\u{fffd}\u{1b}";
        let expected = json!({
            "outcome": "partial",
            "commands": 3,
            "refused": 1,
            "refs": [
                { "name": name, "old": one, "new": two, "result": "ok" },
                { "name": "refs/heads/x", "old": null, "new": two, "result": "non-fast-forward" },
                { "name": name, "old": one, "new": null, "result": null },
            ],
            "objects": 5,
            "bytes": 600,
        });
        assert_eq!(push(&outcome, None), expected);
        let ends =
            |outcome: &receive_pack::Outcome| push(outcome, None)["outcome"].as_str().map(str::to_owned);
        outcome.refused = 3;
        assert_eq!(ends(&outcome).unwrap(), "refused");
        outcome.refused = 0;
        assert_eq!(ends(&outcome).unwrap(), "ok");
        let details = push(&outcome, Some(&receive_pack::Error::Interrupted));
        assert_eq!(details["outcome"], "interrupted");
        let pack = receive_pack::Error::Pack(pack::Error::Missing(id("1")));
        assert_eq!(push(&outcome, Some(&pack))["outcome"], "failed");
        let not_understood = receive_pack::Outcome {
            refusal: Some("protocol error".to_owned()),
            ..receive_pack::Outcome::default()
        };
        assert_eq!(ends(&not_understood).unwrap(), "refused");
    }
}
