//! What an administrator decides about all tokens: policies, revocation rules, and tokens that nobody uses.

use super::*;
use crate::auth::policy::{self, Setting};
use crate::auth::rule;
use crate::store::{AuditAction, AuditFilter, TokenUse};

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Fixture {
    fn policy(&self, collection: Option<&str>, name: &str, value: &str) {
        let setting = Setting::parse(name.parse().unwrap(), value).unwrap();
        policy::set(&self.elsewhere, &CLI, collection, &setting).unwrap();
    }

    fn rule(&self, scopes: &str, created_before: Timestamp) -> i64 {
        // The store's clock, which tokens are made by, is the system's.
        let far = Timestamp::MAX;
        rule::create(&self.elsewhere, &CLI, scopes, created_before, far)
            .unwrap()
            .id
    }

    fn token_of(&self, id: &TokenId) -> Token {
        self.elsewhere.find_token(id).unwrap().unwrap()
    }
}

fn in_collection(collection: &str) -> RepoPath {
    RepoPath::parse(&format!("{collection}/P/R")).unwrap()
}

/// A moment after everything that a test has made.
fn soon() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(5)
}

#[test]
fn a_collections_policies_hold_there_at_once_and_nowhere_else() {
    let f = fixture();
    f.grant(Some("bob"), "", Role::Contributor);
    let (id, plain) = f.token("bob", "app_token");
    let payroll = in_collection("Payroll");
    f.push(&plain, Some(&payroll)).unwrap();
    let principal = f.authenticate(&plain).unwrap();
    f.policy(Some("payroll"), "full-scope", "deny");
    let text = refused(f.fetch(&plain, Some(&payroll)), 403);
    assert_eq!(
        text,
        format!(
            "The collection 'payroll' takes no token with the scope app_token, as 'laptop' has it. Give it the scopes \
             that it needs instead, such as: patgate token update {id} --scope vso.code_write"
        )
    );
    let refusal = f.gate.authorize_push(&principal, Some(&payroll)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        text,
        "whoever was let in before is held to it"
    );
    assert_eq!(refusal.token(), Some(&id));
    f.push(&plain, Some(&in_collection("Other"))).unwrap();
    f.policy(Some("payroll"), "full-scope", "allow");
    f.push(&plain, Some(&payroll)).unwrap();
    f.policy(Some("Payroll"), "creation", "administrators");
    assert!(refused(f.fetch(&plain, Some(&payroll)), 403).contains("takes tokens of administrators only"));
    f.policy(Some("Payroll"), "creation-scopes", "app_token");
    f.fetch(&plain, Some(&payroll)).unwrap();
}

#[test]
fn a_policy_tells_nothing_of_what_may_not_be_seen() {
    let f = fixture();
    let (_, plain) = f.token("bob", "app_token");
    f.policy(Some("C"), "full-scope", "deny");
    assert_eq!(
        refused(f.fetch(&plain, None), 404),
        refused(f.fetch(&plain, Some(&repo())), 404)
    );
    f.grant(Some("bob"), "C", Role::Reader);
    refused(f.fetch(&plain, Some(&repo())), 403);
}

#[test]
fn a_token_ages_out_of_a_collection_and_a_rotation_brings_it_back() {
    let f = fixture();
    f.grant(Some("bob"), "", Role::Reader);
    let (id, plain) = f.token("bob", "vso.code");
    f.policy(Some("C"), "max-lifetime", "30");
    f.clock.advance(DAY * 29);
    f.fetch(&plain, Some(&repo())).unwrap();
    f.clock.advance(DAY);
    let text = refused(f.fetch(&plain, Some(&repo())), 403);
    assert!(
        text.contains("for 30 days after it got its secret, and 'laptop' is older"),
        "{text}"
    );
    f.fetch(&plain, Some(&in_collection("Other"))).unwrap();
    // The database's clock is the system's, so the rotation is as old as the token; another gate's clock shows it.
    let (_, new) = token::rotate(&f.elsewhere, &CLI, &id, &RotateToken::default()).unwrap();
    assert!(f.token_of(&id).rotated_at.is_some());
    let fresh = Gate::new(f.elsewhere.clone(), Options::default());
    let principal = fresh.authenticate(Some(&bearer(new.expose())), CLIENT).unwrap();
    fresh.authorize_fetch(&principal, Some(&repo())).unwrap();
}

#[test]
fn the_servers_policies_let_a_token_go_on_that_was_made_before() {
    let f = fixture();
    f.grant(Some("bob"), "", Role::Contributor);
    let (_, plain) = f.token("bob", "app_token");
    f.policy(None, "full-scope", "deny");
    f.policy(None, "max-lifetime", "1");
    f.policy(None, "creation", "nobody");
    f.clock.advance(DAY * 60);
    f.push(&plain, Some(&repo())).unwrap();
}

#[test]
fn a_policy_that_cannot_be_read_opens_nothing() {
    let f = fixture();
    let (_, plain) = f.token("bob", "app_token");
    f.authenticate(&plain).unwrap();
    f.elsewhere
        .set_policy(&CLI, None, "full-scope", "perhaps")
        .unwrap();
    refused(f.authenticate(&plain), 500);
    assert!(f.gate.policies().is_err());
    f.policy(None, "full-scope", "allow");
    f.authenticate(&plain).unwrap();
}

#[test]
fn policies_are_read_once_a_change() {
    let f = fixture();
    let first = f.gate.policies().unwrap();
    assert!(Arc::ptr_eq(&first, &f.gate.policies().unwrap()));
    f.policy(None, "max-lifetime", "7");
    let second = f.gate.policies().unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(second.server().max_lifetime().get(), 7);
}

#[test]
fn a_rule_is_against_old_secrets_with_its_scope_until_it_is_taken_back() {
    let f = fixture();
    let (_, code) = f.token("bob", "vso.code_write");
    let (_, work) = f.token("bob", "vso.work");
    f.authenticate(&code).unwrap();
    let id = f.rule("vso.code", soon());
    let text = refused(f.authenticate(&code), 401);
    assert!(
        text.starts_with("An administrator of this server has revoked tokens like 'laptop', by a rule of 20"),
        "{text}"
    );
    refused(f.authenticate(&code), 401);
    f.authenticate(&work).unwrap();
    f.elsewhere.delete_revocation_rule(&CLI, id).unwrap();
    f.authenticate(&code).unwrap();
    f.rule("vso.code", Timestamp::from_second(1_000_000_000).unwrap());
    f.authenticate(&code).unwrap();
}

#[test]
fn a_rule_stops_whoever_was_let_in_before() {
    let f = fixture();
    f.grant(Some("bob"), "", Role::Contributor);
    let (id, plain) = f.token("bob", "vso.code_write");
    let principal = f.authenticate(&plain).unwrap();
    f.rule("", soon());
    let refusal = f.gate.authorize_push(&principal, Some(&repo())).unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::Unauthorized);
    assert_eq!(refusal.token(), Some(&id));
}

#[test]
fn a_secret_is_as_old_as_itself_and_not_as_its_token() {
    let f = fixture();
    let (id, _) = f.token("bob", "vso.code");
    let moment = Timestamp::from_second(1_000_000_000).unwrap();
    f.rule("vso.code", moment);
    let book = f.gate.book(f.gate.0.store.generation().unwrap()).unwrap();
    let found = |secret_made_at| Found {
        token: f.token_of(&id),
        account: f.elsewhere.find_account("bob").unwrap().unwrap(),
        secret_made_at,
        ends_at: Timestamp::MAX,
    };
    // As in an overlap, in which the token is newer than what opens it.
    let older = found(moment - SignedDuration::from_secs(1));
    assert!(refused(book.require_no_rule(&older), 401).contains("by a rule of"));
    book.require_no_rule(&found(moment)).unwrap();
}

#[test]
fn a_token_that_was_not_used_for_too_long_is_revoked_when_it_is() {
    let f = fixture();
    f.grant(Some("bob"), "", Role::Reader);
    let (id, plain) = f.token("bob", "vso.code");
    f.policy(None, "revoke-unused", "30");
    // As long as it is used now and then it lives.
    for _ in 0..2 {
        f.clock.advance(DAY * 29);
        f.fetch(&plain, Some(&repo())).unwrap();
    }
    let generation = f.gate.store().generation().unwrap();
    f.clock.advance(DAY * 30);
    let client = Client::new([198, 51, 100, 7].into(), Some(b"git/2"));
    let header = bearer(plain.expose());
    let text = refused(f.gate.authenticate(Some(&header), client.clone()), 401);
    assert!(
        text.contains("The token 'laptop' was revoked on 20")
            && text.contains("because it was not used for too long"),
        "{text}"
    );
    assert_ne!(f.gate.store().generation().unwrap(), generation);
    assert_eq!(refused(f.authenticate(&plain), 401), text);
    assert_eq!(f.token_of(&id).revoked_because, Some(RevokeReason::Unused));
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
        agent: Some("git/2".to_owned()),
        ..Requester::default()
    };
    assert_eq!(
        (event.action.as_str(), event.actor),
        ("token.revoke", Actor::Client(expected))
    );
    assert_eq!(event.details["because"], "unused");
}

#[test]
fn a_token_that_was_never_used_counts_from_when_it_got_its_secret() {
    let f = fixture();
    let (_, one) = f.token("bob", "vso.code");
    let (_, other) = f.token("bob", "vso.code");
    f.grant(Some("bob"), "C/P/R", Role::Reader);
    f.policy(None, "revoke-unused", "10");
    f.clock.advance(DAY * 9);
    f.fetch(&one, Some(&repo())).unwrap();
    f.clock.advance(DAY * 2);
    f.authenticate(&one).unwrap();
    refused(f.authenticate(&other), 401);
}

#[test]
fn a_use_by_another_process_keeps_a_token_alive() {
    let f = fixture();
    let (id, plain) = f.token("bob", "vso.code");
    f.policy(None, "revoke-unused", "10");
    f.authenticate(&plain).unwrap();
    f.gate.flush();
    f.clock.advance(DAY * 11);
    let used = TokenUse {
        id: id.clone(),
        at: f.clock.now() - SignedDuration::from_hours(1),
        from: CLIENT,
        with: None,
        purpose: "fetch C/P/R".to_owned(),
    };
    f.elsewhere.record_token_uses(&[used]).unwrap();
    f.authenticate(&plain).unwrap();
    assert_eq!(f.token_of(&id).revoked_at, None);
}

#[test]
fn tokens_that_nobody_uses_are_revoked_without_being_used() {
    let f = fixture();
    let (idle, _) = f.token("bob", "vso.code");
    let (used, plain) = f.token("bob", "vso.code");
    let to_c = TokenLimits {
        paths: vec![AccessPath::parse("C/P").unwrap()],
        ..TokenLimits::NONE
    };
    let (limited, _) = f.limited_token("bob", "vso.code", &to_c);
    let is_revoked = |id: &TokenId| f.token_of(id).revoked_at.is_some();
    f.clock.advance(DAY * 20);
    assert_eq!(f.gate.revoke_idle().unwrap(), 0, "nothing is set");
    f.policy(Some("C"), "revoke-unused", "15");
    f.policy(None, "revoke-unused", "30");
    assert_eq!(f.gate.revoke_idle().unwrap(), 1);
    assert!(is_revoked(&limited) && !is_revoked(&idle));
    f.clock.advance(DAY * 5);
    // This use may wait to be written, and counts all the same.
    f.grant(Some("bob"), "C/P/R", Role::Reader);
    f.fetch(&plain, Some(&repo())).unwrap();
    f.clock.advance(DAY * 5);
    f.gate.sweep(f.clock.now());
    assert!(is_revoked(&idle) && !is_revoked(&used));
    assert_eq!(f.gate.revoke_idle().unwrap(), 0);
    let event = f
        .elsewhere
        .audit_events(&AuditFilter::latest(1))
        .unwrap()
        .remove(0);
    assert_eq!(
        (event.action.as_str(), event.actor, event.subject),
        ("token.revoke", Actor::Server, idle.to_string())
    );
}
