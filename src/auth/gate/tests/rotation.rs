//! Secrets that a rotation replaced.

use super::*;
use crate::store::{AuditAction, AuditFilter};

fn rotate(f: &Fixture, id: &TokenId, overlap: Option<SignedDuration>) -> PlainToken {
    let options = RotateToken {
        overlap,
        ..RotateToken::default()
    };
    token::rotate(&f.elsewhere, &CLI, id, &options).unwrap().1
}

fn hours(hours: i64) -> Option<SignedDuration> {
    Some(SignedDuration::from_hours(hours))
}

/// How long a secret that was replaced is refused and nothing more. The store's clock is the system's, and goes on while a
/// test runs, so tests keep seconds away from the moment itself.
const MINUTE: Duration = Duration::from_secs(60);

/// Rotates a token by its own present secret.
fn rotate_itself(f: &Fixture, plain: &PlainToken, overlap: Option<SignedDuration>) -> PlainToken {
    let principal = f.authenticate(plain).unwrap();
    let options = RotateToken {
        presented: principal.presented(),
        overlap,
        ..RotateToken::default()
    };
    let rotated = token::rotate(
        &f.elsewhere,
        &principal.actor(),
        principal.token().unwrap(),
        &options,
    );
    rotated.unwrap().1
}

fn actions(f: &Fixture) -> Vec<String> {
    let events = f.elsewhere.audit_events(&AuditFilter::latest(100)).unwrap();
    let actions = events.into_iter().rev().map(|event| event.action);
    // What was refused comes when the recorder has written it.
    actions.filter(|action| action != "token.refuse").collect()
}

#[test]
fn a_rotated_token_opens_with_its_new_secret_at_once() {
    let f = fixture();
    let (id, old) = f.token("bob", "vso.code");
    f.authenticate(&old).unwrap();
    let new = rotate(&f, &id, None);
    assert_eq!(f.authenticate(&new).unwrap().token(), Some(&id));
    f.authenticate(&new).unwrap();
}

#[test]
fn a_replaced_secret_that_is_used_again_ends_the_token_for_everybody() {
    let f = fixture();
    let (id, old) = f.token("bob", "vso.code");
    f.authenticate(&old).unwrap();
    let new = rotate(&f, &id, None);
    f.clock.advance(2 * MINUTE);
    let principal = f.authenticate(&new).unwrap();
    let client = Client::new([198, 51, 100, 7].into(), Some(b"curl/8"));
    let text = refused(
        f.gate.authenticate(Some(&bearer(old.expose())), client.clone()),
        401,
    );
    assert!(
        text.contains("because a secret that a rotation had replaced was used again"),
        "{text}"
    );
    assert_eq!(refused(f.authenticate(&new), 401), text);
    refused(f.gate.authorize_fetch(&principal, Some(&repo())), 401);
    // Once more, and with either: nothing more happens.
    refused(f.authenticate(&old), 401);
    refused(f.authenticate(&new), 401);
    assert_eq!(
        actions(&f),
        [
            "account.create",
            "token.create",
            "token.rotate",
            "token.reuse",
            "token.revoke"
        ]
    );
    let event = f
        .elsewhere
        .audit_events(&AuditFilter {
            actions: vec![AuditAction::TokenRevoke],
            ..AuditFilter::latest(1)
        })
        .unwrap()
        .remove(0);
    let expected = Requester {
        address: Some(client.address),
        agent: Some("curl/8".to_owned()),
        ..Requester::default()
    };
    assert_eq!(event.actor, Actor::Client(expected));
}

#[test]
fn within_a_minute_a_replaced_secret_is_refused_and_ends_nothing() {
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Reader);
    let (id, old) = f.token("bob", "vso.code");
    f.fetch(&old, Some(&repo())).unwrap();
    let new = rotate(&f, &id, None);
    // The second request of a fetch that began before.
    for _ in 0..3 {
        let text = refused(f.authenticate(&old), 401);
        assert!(text.contains("'laptop' has a newer secret"), "{text}");
    }
    f.clock.advance(MINUTE - Duration::from_secs(5));
    refused(f.authenticate(&old), 401);
    f.fetch(&new, Some(&repo())).unwrap();
    f.clock.advance(MINUTE);
    assert!(refused(f.authenticate(&old), 401).contains("was revoked on"));
    refused(f.authenticate(&new), 401);
}

#[test]
fn a_secret_whose_overlap_has_just_ended_is_refused_and_ends_nothing() {
    let f = fixture();
    let (id, old) = f.token("bob", "vso.code");
    let new = rotate(&f, &id, hours(2));
    f.clock.advance(Duration::from_secs(2 * 3600) + MINUTE / 2);
    assert!(refused(f.authenticate(&old), 401).contains("has a newer secret"));
    f.authenticate(&new).unwrap();
    f.clock.advance(MINUTE);
    assert!(refused(f.authenticate(&old), 401).contains("was revoked on"));
    refused(f.authenticate(&new), 401);
}

#[test]
fn a_thief_cannot_keep_the_owners_secret_from_ending_the_token() {
    let f = fixture();
    for overlap in [hours(7 * 24), None] {
        let (_, owners) = f.token("bob", "vso.code");
        let mut thiefs = rotate_itself(&f, &owners, overlap);
        for _ in 0..205 {
            thiefs = rotate_itself(&f, &thiefs, None);
        }
        f.clock.advance(2 * MINUTE);
        let text = refused(f.authenticate(&owners), 401);
        assert!(text.contains("was used again"), "{text}");
        refused(f.authenticate(&thiefs), 401);
    }
}

#[test]
fn a_secret_in_its_overlap_rotates_nothing() {
    let f = fixture();
    let (id, old) = f.token("bob", "vso.code");
    let new = rotate(&f, &id, hours(2));
    let principal = f.authenticate(&old).unwrap();
    let options = RotateToken {
        presented: principal.presented(),
        ..RotateToken::default()
    };
    let error = token::rotate(&f.elsewhere, &CLI, &id, &options).unwrap_err();
    assert!(error.to_string().contains("use the newer one"), "{error}");
    rotate_itself(&f, &new, None);
}

#[test]
fn both_secrets_open_while_the_overlap_runs_and_then_the_old_one_is_a_reuse() {
    let f = fixture();
    let (id, old) = f.token("bob", "vso.code");
    let new = rotate(&f, &id, hours(2));
    for _ in 0..2 {
        f.authenticate(&old).unwrap();
        f.authenticate(&new).unwrap();
        f.clock.advance(Duration::from_secs(3500));
    }
    f.clock.advance(Duration::from_secs(300));
    f.authenticate(&new).unwrap();
    assert!(refused(f.authenticate(&old), 401).contains("was revoked on"));
    refused(f.authenticate(&new), 401);
}

#[test]
fn an_overlap_that_runs_out_unused_leaves_the_token_alone() {
    let f = fixture();
    let (id, old) = f.token("bob", "vso.code");
    let new = rotate(&f, &id, hours(2));
    f.authenticate(&old).unwrap();
    f.clock.advance(Duration::from_secs(3 * 3600));
    f.authenticate(&new).unwrap();
    assert_eq!(actions(&f), ["account.create", "token.create", "token.rotate"]);
}

#[test]
fn a_rotation_ends_what_runs_with_the_old_secret_and_is_no_reuse_of_it() {
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Reader);
    let (id, old) = f.token("bob", "vso.code");
    let principal = f.authenticate(&old).unwrap();
    f.gate.authorize_fetch(&principal, Some(&repo())).unwrap();
    let second = rotate(&f, &id, None);
    for _ in 0..2 {
        let text = refused(f.gate.authorize_fetch(&principal, Some(&repo())), 401);
        assert!(text.contains("'laptop' has a newer secret"), "{text}");
    }

    let principal = f.authenticate(&second).unwrap();
    let third = rotate(&f, &id, hours(2));
    f.gate.authorize_fetch(&principal, Some(&repo())).unwrap();
    f.clock.advance(Duration::from_secs(3 * 3600));
    refused(f.gate.authorize_fetch(&principal, Some(&repo())), 401);

    f.fetch(&third, Some(&repo())).unwrap();
    assert!(!actions(&f).iter().any(|action| action == "token.reuse"));
    refused(f.authenticate(&old), 401);
    assert!(
        actions(&f).iter().any(|action| action == "token.reuse"),
        "a use from outside is"
    );
}

#[test]
fn at_most_the_two_newest_secrets_open_and_a_shortened_promise_is_no_theft() {
    let f = fixture();
    let (id, first) = f.token("bob", "vso.code");
    let second = rotate(&f, &id, hours(10));
    let third = rotate(&f, &id, hours(1));
    let text = refused(f.authenticate(&first), 401);
    assert!(
        text.contains("The token 'laptop' has a newer secret: it was rotated on"),
        "{text}"
    );
    f.authenticate(&second).unwrap();
    f.authenticate(&third).unwrap();
    // What had been promised is over.
    f.clock.advance(Duration::from_secs(11 * 3600));
    assert!(refused(f.authenticate(&first), 401).contains("was revoked on"));
    refused(f.authenticate(&third), 401);
}

#[test]
fn a_principal_of_an_old_secret_ends_with_its_overlap() {
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Contributor);
    let (id, old) = f.token("bob", "vso.code_write");
    let _new = rotate(&f, &id, hours(1));
    let principal = f.authenticate(&old).unwrap();
    f.gate.authorize_push(&principal, Some(&repo())).unwrap();
    f.clock.advance(Duration::from_secs(2 * 3600));
    refused(f.gate.authorize_push(&principal, Some(&repo())), 401);
}

#[test]
fn old_secrets_of_a_dead_token_say_what_it_died_of() {
    let f = fixture();
    let (id, old) = f.token("bob", "vso.code");
    let new = rotate(&f, &id, None);
    f.elsewhere.set_account_disabled(&CLI, "bob", true).unwrap();
    assert!(refused(f.authenticate(&old), 401).contains("is disabled"));
    f.elsewhere.set_account_disabled(&CLI, "bob", false).unwrap();
    f.clock.advance(Duration::from_secs(91 * 24 * 3600));
    assert!(refused(f.authenticate(&old), 401).contains("expired on"));
    assert!(refused(f.authenticate(&new), 401).contains("expired on"));
    f.elsewhere.revoke_token(&CLI, &id, RevokeReason::Unused).unwrap();
    assert!(refused(f.authenticate(&old), 401).contains("not used for too long"));
    assert!(!actions(&f).contains(&"token.reuse".to_owned()));
}

#[test]
fn limits_and_scopes_hold_for_both_secrets() {
    let f = fixture();
    f.grant(Some("bob"), "", Role::Contributor);
    let limits = TokenLimits {
        paths: vec![AccessPath::parse("C/P/R").unwrap()],
        ..TokenLimits::NONE
    };
    let (id, old) = f.limited_token("bob", "vso.code", &limits);
    let new = rotate(&f, &id, hours(1));
    for plain in [&old, &new] {
        f.fetch(plain, Some(&repo())).unwrap();
        refused(f.push(plain, Some(&repo())), 403);
        refused(f.fetch(plain, Some(&RepoPath::parse("C/P/S").unwrap())), 403);
    }
}
