//! Alternate credentials: off unless turned on, and then the worse way in.

use super::*;
use crate::auth::policy::{self, Setting};
use crate::auth::{alternate, rule};
use crate::secret::Secret;
use crate::store::{AuditAction, AuditFilter};

const LOGIN: &str = "old ide";
const RIGHT: &str = "battery staple";

fn set(f: &Fixture, collection: Option<&str>, value: &str) {
    let setting = Setting::parse(policy::Name::AlternateCredentials, value).unwrap();
    policy::set(&f.elsewhere, &CLI, collection, &setting).unwrap();
}

fn give(f: &Fixture, account: &str, login: &str, password: &str) {
    let password = Secret::new(password.to_owned());
    alternate::set(&f.elsewhere, &CLI, account, login, &password).unwrap();
}

/// A gate that takes alternate credentials, and bob with one.
fn open_fixture() -> Fixture {
    let f = fixture();
    give(&f, "bob", LOGIN, RIGHT);
    set(&f, None, "on");
    f
}

fn basic(name: &str, password: &str) -> Vec<u8> {
    let pair = BASE64_STANDARD.encode(format!("{name}:{password}"));
    format!("Basic {pair}").into_bytes()
}

fn from(f: &Fixture, client: impl Into<Client>, name: &str, password: &str) -> Result<Principal, Refusal> {
    f.gate.authenticate(Some(&basic(name, password)), client)
}

fn come(f: &Fixture, name: &str, password: &str) -> Result<Principal, Refusal> {
    from(f, CLIENT, name, password)
}

#[test]
fn nothing_is_opened_unless_the_server_and_the_account_want_it() {
    let f = fixture();
    let header = basic(LOGIN, RIGHT);
    let before = refused(f.gate.authenticate(Some(&header), CLIENT), 401);
    give(&f, "bob", LOGIN, RIGHT);
    assert_eq!(
        refused(f.gate.authenticate(Some(&header), CLIENT), 401),
        before,
        "off, there is no such thing"
    );
    assert!(before.contains("passwords do not work here"), "{before}");
    set(&f, None, "on");
    assert_eq!(come(&f, LOGIN, RIGHT).unwrap().account(), Some("bob"));
    f.elsewhere.remove_alternate_credential(&CLI, "bob").unwrap();
    let after = refused(come(&f, LOGIN, RIGHT), 401);
    assert!(
        after.starts_with("This is neither a personal access token of this server nor"),
        "{after}"
    );
    give(&f, "bob", LOGIN, RIGHT);
    come(&f, LOGIN, RIGHT).unwrap();
    set(&f, None, "off");
    assert_eq!(refused(come(&f, LOGIN, RIGHT), 401), before);
}

#[test]
fn it_is_its_account_without_a_token() {
    let f = open_fixture();
    f.grant(Some("bob"), "C", Role::Contributor);
    let principal = come(&f, "OLD IDE", RIGHT).unwrap();
    assert_eq!(
        (principal.account(), principal.token_id(), principal.limits()),
        (Some("bob"), None, None)
    );
    assert_eq!(principal.scopes().to_string(), "vso.code_full");
    assert!(!principal.is_admin() && principal.account_id().is_some());
    let expected = Requester {
        account: Some("bob".to_owned()),
        token: None,
        address: Some(CLIENT),
        agent: None,
    };
    assert_eq!(principal.actor(), Actor::Client(expected.clone()));
    let grant = f.gate.authorize_push(&principal, Some(&repo())).unwrap();
    assert_eq!((grant.account(), grant.token_id()), (Some("bob"), None));
    assert_eq!(grant.actor(), Actor::Client(expected));
    assert!(grant.refs().is_empty() && grant.notice().is_none());
    let printed = format!("{principal:?} {grant:?} {:?}", f.gate);
    assert!(
        !printed.contains(RIGHT) && !printed.contains("argon2"),
        "{printed}"
    );
}

#[test]
fn the_rights_are_those_of_the_account_at_the_moment() {
    let f = open_fixture();
    let principal = come(&f, LOGIN, RIGHT).unwrap();
    let fetch = || f.gate.authorize_fetch(&principal, Some(&repo()));
    assert_eq!(
        refused(fetch(), 404),
        refused(f.gate.authorize_fetch(&principal, None), 404)
    );
    assert_eq!(f.gate.visible_role(&principal, &repo()).unwrap(), None);
    f.grant(Some("bob"), "C/P", Role::Reader);
    fetch().unwrap();
    assert_eq!(
        f.gate.visible_role(&principal, &repo()).unwrap(),
        Some(Role::Reader)
    );
    let text = refused(f.gate.authorize_push(&principal, Some(&repo())), 403);
    assert!(
        text.contains("The account 'bob' is only a reader of 'C/P/R'"),
        "{text}"
    );
    refused(f.gate.authorize_manage(&principal, &repo()), 403);
    f.grant(Some("bob"), "C/P", Role::Administrator);
    f.gate.authorize_manage(&principal, &repo()).unwrap();
    f.elsewhere
        .revoke_access(&CLI, Some("bob"), &AccessPath::parse("C/P").unwrap())
        .unwrap();
    refused(fetch(), 404);
}

#[test]
fn it_administers_nothing_not_even_an_administrators() {
    let f = open_fixture();
    f.account("root", true);
    give(&f, "root", "root's old ide", RIGHT);
    let principal = come(&f, "root's old ide", RIGHT).unwrap();
    f.gate.authorize_push(&principal, Some(&repo())).unwrap();
    for operation in Operation::ALL {
        let outcome = f.gate.authorize_api(&principal, operation);
        match operation {
            Operation::AdministerTokens | Operation::ReadAuditLog | Operation::UseOwnToken => {
                assert!(refused(outcome, 403).contains("opens code, and nothing else"));
            }
            Operation::ManageTokens => {
                assert!(refused(outcome, 403).contains("A token cannot make"));
            }
            _ => outcome.unwrap(),
        }
    }
}

#[test]
fn what_looks_like_a_token_is_nothing_else() {
    let f = open_fixture();
    let hash = crate::auth::password::hash(&Secret::new("pgt_ battery staple".to_owned())).unwrap();
    // Past the check of names and passwords, as an older database might have it.
    f.elsewhere
        .set_alternate_credential(&CLI, "bob", "pgt_bob", &hash)
        .unwrap();
    for (name, password) in [
        ("pgt_bob", "pgt_ battery staple"),
        ("bob", "pgt_ battery staple"),
        ("pgt_bob", "x"),
    ] {
        assert!(refused(come(&f, name, password), 401).contains("not a personal access token"));
    }
    let (_, plain) = f.token("bob", "vso.code");
    let principal = come(&f, LOGIN, plain.expose()).unwrap();
    assert!(
        principal.token_id().is_some(),
        "a token is a token with any username"
    );
    refused(
        f.gate.authenticate(
            Some(&bearer(&BASE64_STANDARD.encode(format!("{LOGIN}:{RIGHT}")))),
            CLIENT,
        ),
        401,
    );
}

#[test]
fn a_change_of_the_credential_or_the_account_stops_whoever_was_let_in() {
    let f = open_fixture();
    f.grant(Some("bob"), "C", Role::Contributor);
    let principal = come(&f, LOGIN, RIGHT).unwrap();
    let push = |principal: &Principal| f.gate.authorize_push(principal, Some(&repo()));
    push(&principal).unwrap();
    // Something else has changed: the password need not be verified for what is under way.
    f.account("eve", false);
    push(&principal).unwrap();
    f.elsewhere.set_account_disabled(&CLI, "bob", true).unwrap();
    refused(push(&principal), 401);
    refused(come(&f, LOGIN, RIGHT), 401);
    f.elsewhere.set_account_disabled(&CLI, "bob", false).unwrap();
    push(&principal).unwrap();
    give(&f, "bob", LOGIN, "another password");
    refused(push(&principal), 401);
    refused(come(&f, LOGIN, RIGHT), 401);
    let principal = come(&f, LOGIN, "another password").unwrap();
    f.elsewhere.remove_alternate_credential(&CLI, "bob").unwrap();
    give(&f, "eve", LOGIN, "another password");
    refused(push(&principal), 401);
    f.grant(Some("eve"), "C", Role::Contributor);
    let principal = come(&f, LOGIN, "another password").unwrap();
    push(&principal).unwrap();
    set(&f, None, "off");
    refused(push(&principal), 401);
}

#[test]
fn a_collection_can_take_tokens_only() {
    let f = open_fixture();
    f.grant(Some("bob"), "", Role::Contributor);
    let principal = come(&f, LOGIN, RIGHT).unwrap();
    set(&f, Some("c"), "off");
    let text = refused(f.gate.authorize_fetch(&principal, Some(&repo())), 403);
    assert!(
        text.starts_with("The collection 'C' takes no alternate credentials."),
        "{text}"
    );
    let other = RepoPath::parse("D/P/R").unwrap();
    f.gate.authorize_fetch(&principal, Some(&other)).unwrap();
    let visible = |path: RepoPath| f.gate.visible_role(&principal, &path).unwrap();
    assert_eq!(visible(repo()), None, "lists leave it out, too");
    assert_eq!(visible(other), Some(Role::Contributor));
}

#[test]
fn a_rule_against_code_is_against_alternate_credentials() {
    let f = open_fixture();
    f.grant(Some("bob"), "", Role::Contributor);
    let principal = come(&f, LOGIN, RIGHT).unwrap();
    let soon = Timestamp::now() + SignedDuration::from_secs(60);
    let add = |scopes: &str| rule::create(&f.elsewhere, &CLI, scopes, soon, Timestamp::MAX).unwrap();
    add("vso.work app_token");
    come(&f, LOGIN, RIGHT).unwrap();
    let rule = add("vso.code_manage");
    let text = refused(come(&f, LOGIN, RIGHT), 401);
    assert!(
        text.contains("revoked alternate credentials like that of 'bob', by a rule of 20"),
        "{text}"
    );
    refused(f.gate.authorize_fetch(&principal, Some(&repo())), 401);
    f.elsewhere.delete_revocation_rule(&CLI, rule.id).unwrap();
    come(&f, LOGIN, RIGHT).unwrap();
}

#[test]
fn guesses_at_one_account_wait_wherever_they_come_from_and_its_tokens_do_not() {
    let f = open_fixture();
    let (_, plain) = f.token("bob", "vso.code");
    let guess = |last: u8, text: &str| from(&f, IpAddr::from([198, 51, 100, last]), LOGIN, text);
    for last in 0..50 {
        refused(guess(last, "wrong password"), 401);
    }
    let refusal = guess(50, RIGHT).unwrap_err();
    assert_eq!(
        (refusal.kind(), refusal.retry_after()),
        (RefusalKind::TooManyRequests, Some(3))
    );
    assert!(refusal.to_string().contains("tokens work as before"), "{refusal}");
    f.authenticate(&plain).unwrap();
    f.clock.advance(Duration::from_secs(3));
    guess(51, RIGHT).unwrap();
}

#[test]
fn an_address_that_fails_too_often_waits_unless_it_was_let_in_a_moment_ago() {
    let f = open_fixture();
    come(&f, LOGIN, RIGHT).unwrap();
    for _ in 0..20 {
        refused(f.gate.authenticate(Some(b"Bearer wrong"), CLIENT), 401);
    }
    come(&f, LOGIN, RIGHT).unwrap();
    refused(come(&f, LOGIN, "wrong password"), 429);
    f.clock.advance(Duration::from_secs(61));
    for _ in 0..20 {
        let _ = f.gate.authenticate(Some(b"Bearer wrong"), CLIENT);
    }
    refused(come(&f, LOGIN, RIGHT), 429);
}

/// Not a benchmark: what a password costs would be seen even on a busy machine.
#[test]
fn a_password_that_was_right_a_moment_ago_is_not_verified_again() {
    const COUNT: u32 = 200;
    let f = open_fixture();
    f.grant(Some("bob"), "C", Role::Reader);
    come(&f, LOGIN, RIGHT).unwrap();
    let start = Instant::now();
    for _ in 0..COUNT {
        let principal = come(&f, LOGIN, RIGHT).unwrap();
        f.gate.authorize_fetch(&principal, Some(&repo())).unwrap();
    }
    let each = start.elapsed() / COUNT;
    assert!(each < Duration::from_millis(5), "{each:?}");
}

#[test]
fn whoever_comes_in_or_guesses_leaves_an_event_and_not_one_for_each_time() {
    let f = open_fixture();
    f.grant(Some("bob"), "C", Role::Reader);
    let events = |action: AuditAction| {
        f.gate.flush();
        let filter = AuditFilter {
            actions: vec![action],
            ..AuditFilter::latest(100)
        };
        let mut events = f.elsewhere.audit_events(&filter).unwrap();
        events.reverse();
        events
    };
    for _ in 0..3 {
        come(&f, LOGIN, RIGHT).unwrap();
    }
    let right = events(AuditAction::SignIn);
    assert_eq!(right.len(), 1);
    assert_eq!(
        (
            right[0].subject.as_str(),
            &right[0].actor.to_string()[..],
            &right[0].details
        ),
        ("bob", "bob", &json!({ "alternate": true }))
    );
    for (name, account) in [(LOGIN, "bob"), ("nobody", "")] {
        for _ in 0..2 {
            refused(come(&f, name, "a wrong guess"), 401);
        }
        let wrong = events(AuditAction::SignInRefuse).pop().unwrap();
        assert_eq!(wrong.subject, account);
        assert_eq!(
            wrong.details,
            json!({ "alternate": true, "reason": "password", "times": 1 })
        );
    }
    assert_eq!(events(AuditAction::SignInRefuse).len(), 2);

    let principal = come(&f, LOGIN, RIGHT).unwrap();
    let refusal = f.gate.authorize_push(&principal, Some(&repo())).unwrap_err();
    for _ in 0..2 {
        let place = Some(repo());
        f.gate.note_refusal(
            &principal,
            Operation::Push,
            place.as_ref(),
            place.as_ref(),
            &refusal,
        );
    }
    let events = events(AuditAction::SignInRefuse);
    assert_eq!(events.len(), 3);
    assert_eq!(
        (
            events[2].subject.as_str(),
            &events[2].details["reason"],
            &events[2].details["repository"]
        ),
        ("bob", &json!("role"), &json!("C/P/R"))
    );
}
