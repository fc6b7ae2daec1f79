mod alternate;
mod api;
mod book;
mod limits;
mod rotation;
mod trail;
mod uses;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use serde_json::json;

use super::*;
use crate::auth::token::{self, CreateToken, RotateToken, UpdateToken, expiry_in_days};
use crate::names::AccessPath;
use crate::store::{Actor, DATABASE_FILE, NewAccount, RevokeReason, TokenChange, TokenLimits};

const CLI: Actor = Actor::CommandLine;
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// A gate, its clock, and two handles on one database: the gate's own, and one as another process has it.
struct Fixture {
    gate: Gate,
    clock: Clock,
    elsewhere: Store,
    _directory: tempfile::TempDir,
}

fn fixture_with(options: Options) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(DATABASE_FILE);
    let clock = Clock::manual(Timestamp::now());
    let options = Options {
        clock: clock.clone(),
        ..options
    };
    let gate = Gate::new(Store::open(&path).unwrap(), options);
    let f = Fixture {
        gate,
        clock,
        elsewhere: Store::open(&path).unwrap(),
        _directory: directory,
    };
    f.account("bob", false);
    f
}

fn fixture() -> Fixture {
    fixture_with(Options::default())
}

impl Fixture {
    fn account(&self, name: &str, is_admin: bool) {
        let new = NewAccount {
            name,
            password: None,
            is_admin,
            must_change_password: false,
        };
        self.elsewhere.create_account(&CLI, &new).unwrap();
    }

    fn token(&self, account: &str, scopes: &str) -> (TokenId, PlainToken) {
        self.limited_token(account, scopes, &TokenLimits::NONE)
    }

    fn limited_token(&self, account: &str, scopes: &str, limits: &TokenLimits) -> (TokenId, PlainToken) {
        let expires_at = expiry_in_days(90, Timestamp::now()).unwrap();
        let new = CreateToken {
            account,
            name: "laptop",
            scopes,
            expires_at,
            limits,
        };
        let (token, plain) = token::create(&self.elsewhere, &CLI, &new).unwrap();
        (token.id, plain)
    }

    fn grant(&self, account: Option<&str>, path: &str, role: Role) {
        self.elsewhere
            .grant_access(&CLI, account, &AccessPath::parse(path).unwrap(), role)
            .unwrap();
    }

    fn authenticate(&self, plain: &PlainToken) -> Result<Principal, Refusal> {
        self.gate.authenticate(Some(&bearer(plain.expose())), CLIENT)
    }

    fn fetch(&self, plain: &PlainToken, located: Option<&RepoPath>) -> Result<Grant<Fetch>, Refusal> {
        self.gate.authorize_fetch(&self.authenticate(plain)?, located)
    }

    fn push(&self, plain: &PlainToken, located: Option<&RepoPath>) -> Result<Grant<Push>, Refusal> {
        self.gate.authorize_push(&self.authenticate(plain)?, located)
    }
}

fn bearer(text: &str) -> Vec<u8> {
    format!("Bearer {text}").into_bytes()
}

fn repo() -> RepoPath {
    RepoPath::parse("C/P/R").unwrap()
}

#[track_caller]
fn refused<T: fmt::Debug>(outcome: Result<T, Refusal>, status: u16) -> String {
    let refusal = outcome.unwrap_err();
    assert_eq!(refusal.kind().status(), status, "{refusal}");
    refusal.to_string()
}

#[test]
fn what_the_gate_hands_out_can_go_to_any_thread() {
    fn check<T: Send + Sync>() {}
    check::<Gate>();
    check::<Principal>();
    check::<Grant<Push>>();
    check::<Refusal>();
    check::<PlainToken>();
}

#[test]
fn a_token_opens_as_password_as_username_and_as_bearer() {
    let f = fixture();
    let (id, plain) = f.token("bob", "vso.code");
    let text = plain.expose();
    for pair in [
        format!(":{text}"),
        format!("anyone:{text}"),
        format!("{text}:"),
        format!("{text}:x-oauth-basic"),
    ] {
        let header = format!("Basic {}", BASE64_STANDARD.encode(pair));
        let principal = f.gate.authenticate(Some(header.as_bytes()), CLIENT).unwrap();
        assert_eq!(
            (principal.account(), principal.token_id()),
            (Some("bob"), Some(id.as_str()))
        );
    }
    assert_eq!(f.authenticate(&plain).unwrap().account(), Some("bob"));
}

#[test]
fn no_credential_is_unauthorized_and_no_failure() {
    let f = fixture();
    for _ in 0..100 {
        let text = refused(f.gate.authenticate(None, CLIENT), 401);
        assert_eq!(
            text,
            "This server needs a personal access token. Give it as the password, with any username."
        );
    }
}

#[test]
fn what_is_no_live_token_is_unauthorized_with_the_reason() {
    let f = fixture();
    let header = |text: &str| f.gate.authenticate(Some(text.as_bytes()), CLIENT);
    assert!(refused(header("Negotiate x"), 401).contains("neither Basic nor Bearer"));
    assert!(refused(header("Bearer hunter2"), 401).contains("not a personal access token"));
    let unknown = PlainToken::generate().unwrap();
    let text = refused(f.authenticate(&unknown), 401);
    assert_eq!(
        text,
        "This server does not know this token. Check it, or create a new one."
    );
    let mut garbled = unknown.expose().to_owned();
    garbled.replace_range(
        20..21,
        if garbled.get(20..21) == Some("a") {
            "b"
        } else {
            "a"
        },
    );
    assert!(refused(header(&format!("Bearer {garbled}")), 401).contains("checksum"));
}

#[test]
fn an_expired_token_says_which_and_when() {
    let f = fixture();
    let (id, plain) = f.token("bob", "vso.code");
    f.authenticate(&plain).unwrap();
    let expires_at = f.elsewhere.find_token(&id).unwrap().unwrap().expires_at;
    let left = expires_at.duration_since(f.clock.now());
    f.clock
        .advance(Duration::try_from(left).unwrap() - Duration::from_millis(1));
    f.authenticate(&plain).unwrap();
    f.clock.advance(Duration::from_millis(1));
    let text = refused(f.authenticate(&plain), 401);
    let day = expires_at.strftime("%Y-%m-%d at %H:%M UTC").to_string();
    assert!(
        text.starts_with(&format!("The token 'laptop' expired on {day}.")),
        "{text}"
    );
    assert!(
        refused(f.authenticate(&plain), 401).contains("expired"),
        "not only the first time"
    );
}

#[test]
fn revocation_and_disabling_elsewhere_hold_at_once() {
    let f = fixture();
    let (id, plain) = f.token("bob", "vso.code");
    f.authenticate(&plain).unwrap();
    f.elsewhere.set_account_disabled(&CLI, "bob", true).unwrap();
    assert!(refused(f.authenticate(&plain), 401).contains("'bob', which this token belongs to, is disabled"));
    f.elsewhere.set_account_disabled(&CLI, "bob", false).unwrap();
    f.authenticate(&plain).unwrap();
    f.elsewhere.revoke_token(&CLI, &id, RevokeReason::Asked).unwrap();
    assert!(refused(f.authenticate(&plain), 401).contains("The token 'laptop' was revoked on "));
    f.elsewhere.delete_account(&CLI, "bob").unwrap();
    assert!(refused(f.authenticate(&plain), 401).contains("does not know"));
}

#[test]
fn why_a_token_was_revoked_is_told_to_its_holder() {
    let f = fixture();
    for reason in RevokeReason::ALL {
        let (id, plain) = f.token("bob", "vso.code");
        f.elsewhere.revoke_token(&CLI, &id, reason).unwrap();
        let text = refused(f.authenticate(&plain), 401);
        assert!(
            text.contains(&format!("UTC, {}. Create", reason.explanation())),
            "{text}"
        );
        let token = f.elsewhere.find_token(&id).unwrap().unwrap();
        assert_eq!(token.revoked_because, Some(reason));
    }
}

#[test]
fn all_tokens_of_an_account_end_at_once_and_those_of_others_live_on() {
    let f = fixture();
    f.account("eve", false);
    let (_, first) = f.token("bob", "vso.code");
    let (_, second) = f.token("bob", "vso.work");
    let (_, other) = f.token("eve", "vso.code");
    for plain in [&first, &second, &other] {
        f.authenticate(plain).unwrap();
    }
    let revoked = f
        .elsewhere
        .revoke_tokens_of(&CLI, "BOB", RevokeReason::Administrator)
        .unwrap();
    assert_eq!(revoked, 2);
    refused(f.authenticate(&first), 401);
    refused(f.authenticate(&second), 401);
    f.authenticate(&other).unwrap();
}

#[test]
fn a_change_by_the_gates_own_store_holds_at_once_too() {
    let f = fixture();
    let (id, plain) = f.token("bob", "vso.code");
    f.authenticate(&plain).unwrap();
    f.gate
        .store()
        .revoke_token(&CLI, &id, RevokeReason::Asked)
        .unwrap();
    refused(f.authenticate(&plain), 401);
}

#[test]
fn a_work_items_token_fetches_once_code_is_added_to_it() {
    let f = fixture();
    f.grant(Some("bob"), "C/P/R", Role::Contributor);
    let (id, plain) = f.token("bob", "vso.work");
    let repository = repo();
    let text = refused(f.fetch(&plain, Some(&repository)), 403);
    assert_eq!(
        text,
        format!(
            "The token 'laptop' lacks the scope vso.code (Code (read)). \
             Add it with: patgate token update {id} --scope \"vso.code vso.work\""
        )
    );
    let change = UpdateToken {
        scopes: Some("vso.work vso.code_write"),
        ..UpdateToken::default()
    };
    token::update(&f.elsewhere, &CLI, &id, &change).unwrap();
    let grant = f.fetch(&plain, Some(&repository)).unwrap();
    assert_eq!(grant.repository(), &repository);
    assert_eq!(
        (grant.account(), grant.token_id()),
        (Some("bob"), Some(id.as_str()))
    );
    f.push(&plain, Some(&repository)).unwrap();
}

#[test]
fn refusals_come_in_an_order_that_tells_nothing_of_what_may_not_be_seen() {
    let f = fixture();
    let repository = repo();
    let (_, work) = f.token("bob", "vso.work");
    let (_, read) = f.token("bob", "vso.code");
    let (_, write) = f.token("bob", "vso.code_write");
    // Without any scope on code: forbidden, whatever the path.
    assert_eq!(
        refused(f.fetch(&work, None), 403),
        refused(f.fetch(&work, Some(&repository)), 403)
    );
    assert_eq!(
        refused(f.push(&work, None), 403),
        refused(f.push(&work, Some(&repository)), 403)
    );
    // Absent and hidden: one text.
    assert_eq!(
        refused(f.fetch(&read, None), 404),
        refused(f.fetch(&read, Some(&repository)), 404)
    );
    assert_eq!(
        refused(f.push(&read, None), 404),
        refused(f.push(&write, Some(&repository)), 404)
    );
    assert_eq!(
        refused(f.fetch(&read, None), 404),
        refused(f.push(&write, None), 404)
    );
    // Visible: first the scope, then the role.
    f.grant(Some("bob"), "C/P", Role::Reader);
    f.fetch(&read, Some(&repository)).unwrap();
    assert!(refused(f.push(&read, Some(&repository)), 403).contains("lacks the scope vso.code_write"));
    let text = refused(f.push(&write, Some(&repository)), 403);
    assert_eq!(
        text,
        "The account 'bob' is only a reader of 'C/P/R', and this needs a contributor. An administrator of this \
         server can change that: patgate access grant 'bob' contributor 'C/P/R'"
    );
    f.grant(Some("bob"), "C", Role::Contributor);
    f.push(&write, Some(&repository)).unwrap();
}

#[test]
fn missing_scopes_are_named_for_the_challenge() {
    let f = fixture();
    let (_, work) = f.token("bob", "vso.work");
    assert_eq!(
        f.fetch(&work, None).unwrap_err().missing_scope(),
        Some("vso.code")
    );
    assert_eq!(
        f.push(&work, None).unwrap_err().missing_scope(),
        Some("vso.code_write")
    );
}

#[test]
fn a_role_taken_away_elsewhere_is_gone_at_once_and_what_was_gone_comes_back() {
    let f = fixture();
    let (_, plain) = f.token("bob", "app_token");
    f.grant(Some("bob"), "", Role::Contributor);
    let principal = f.authenticate(&plain).unwrap();
    f.gate.authorize_push(&principal, Some(&repo())).unwrap();
    f.elsewhere
        .revoke_access(&CLI, Some("bob"), &AccessPath::Server)
        .unwrap();
    // The principal is older than the change, and does not help.
    refused(f.gate.authorize_push(&principal, Some(&repo())), 404);
    f.grant(Some("bob"), "c/p", Role::Contributor);
    f.gate.authorize_push(&principal, Some(&repo())).unwrap();
}

#[test]
fn a_token_revoked_between_authentication_and_authorization_opens_nothing() {
    let f = fixture();
    f.grant(Some("bob"), "", Role::Contributor);
    let (id, plain) = f.token("bob", "vso.code_write");
    let principal = f.authenticate(&plain).unwrap();
    f.elsewhere.revoke_token(&CLI, &id, RevokeReason::Asked).unwrap();
    refused(f.gate.authorize_push(&principal, Some(&repo())), 401);
}

#[test]
fn administrators_see_everything_as_far_as_their_token_goes() {
    let f = fixture();
    f.account("root", true);
    let (_, read) = f.token("root", "vso.code");
    f.fetch(&read, Some(&repo())).unwrap();
    refused(f.fetch(&read, None), 404);
    refused(f.push(&read, Some(&repo())), 403);
}

#[test]
fn public_repositories_are_read_with_any_live_code_token_and_written_by_none() {
    let f = fixture();
    f.grant(None, "C/P/R", Role::Reader);
    let (_, plain) = f.token("bob", "vso.code_write");
    f.fetch(&plain, Some(&repo())).unwrap();
    refused(f.push(&plain, Some(&repo())), 403);
    refused(f.fetch(&plain, Some(&RepoPath::parse("C/P/S").unwrap())), 404);
    let (_, work) = f.token("bob", "vso.work");
    refused(f.fetch(&work, Some(&repo())), 403);
    refused(f.gate.authenticate(None, CLIENT), 401);
}

#[test]
fn anonymous_readers_fetch_what_is_public_and_learn_nothing_else() {
    let f = fixture_with(Options {
        allow_anonymous_read: true,
        ..Options::default()
    });
    let anonymous = f.gate.authenticate(None, CLIENT).unwrap();
    assert_eq!((anonymous.account(), anonymous.token_id()), (None, None));
    let hidden = refused(f.gate.authorize_fetch(&anonymous, Some(&repo())), 401);
    assert_eq!(hidden, refused(f.gate.authorize_fetch(&anonymous, None), 401));
    f.grant(None, "C/P/R", Role::Reader);
    let grant = f.gate.authorize_fetch(&anonymous, Some(&repo())).unwrap();
    assert_eq!((grant.account(), grant.token_id()), (None, None));
    refused(f.gate.authorize_push(&anonymous, Some(&repo())), 401);
    f.elsewhere
        .revoke_access(&CLI, None, &AccessPath::parse("C/P/R").unwrap())
        .unwrap();
    refused(f.gate.authorize_fetch(&anonymous, Some(&repo())), 401);
    refused(f.gate.authenticate(Some(b"Bearer nonsense"), CLIENT), 401);
}

#[test]
fn an_anonymous_principal_of_another_gate_opens_nothing() {
    let open = fixture_with(Options {
        allow_anonymous_read: true,
        ..Options::default()
    });
    let shut = fixture();
    shut.grant(None, "C/P/R", Role::Reader);
    let anonymous = open.gate.authenticate(None, CLIENT).unwrap();
    refused(shut.gate.authorize_fetch(&anonymous, Some(&repo())), 401);
}

#[test]
fn too_many_failures_are_told_to_wait_and_waiting_helps() {
    let f = fixture();
    for _ in 0..20 {
        refused(f.gate.authenticate(Some(b"Bearer wrong"), CLIENT), 401);
    }
    let refusal = f.gate.authenticate(Some(b"Bearer wrong"), CLIENT).unwrap_err();
    assert_eq!(
        (refusal.kind(), refusal.retry_after()),
        (RefusalKind::TooManyRequests, Some(5))
    );
    assert!(
        refusal.to_string().contains("Try again in 5 seconds"),
        "{refusal}"
    );
    f.clock.advance(Duration::from_millis(4500));
    assert_eq!(
        f.gate
            .authenticate(Some(b"Bearer wrong"), CLIENT)
            .unwrap_err()
            .retry_after(),
        Some(1)
    );
    f.clock.advance(Duration::from_millis(500));
    refused(f.gate.authenticate(Some(b"Bearer wrong"), CLIENT), 401);
    refused(f.gate.authenticate(Some(b"Bearer wrong"), CLIENT), 429);
}

#[test]
fn a_throttled_address_still_gets_in_with_a_token_that_was_seen_alive() {
    let f = fixture();
    let (id, seen) = f.token("bob", "vso.code");
    let (_, unseen) = f.token("bob", "vso.code");
    f.authenticate(&seen).unwrap();
    for _ in 0..20 {
        refused(f.gate.authenticate(Some(b"Bearer wrong"), CLIENT), 401);
    }
    f.authenticate(&seen).unwrap();
    refused(f.authenticate(&unseen), 429);
    f.gate
        .authenticate(Some(&bearer(unseen.expose())), IpAddr::from([192, 0, 2, 2]))
        .unwrap();
    refused(f.gate.authenticate(None, CLIENT), 401);
    // A change elsewhere voids the entry, not the memory that it was alive.
    f.account("eve", false);
    f.authenticate(&seen).unwrap();
    f.elsewhere.revoke_token(&CLI, &id, RevokeReason::Asked).unwrap();
    refused(f.authenticate(&seen), 401);
    refused(f.authenticate(&seen), 429);
}

#[test]
fn successes_do_not_pay_for_failures() {
    let f = fixture();
    let (_, plain) = f.token("bob", "vso.code");
    for _ in 0..20 {
        refused(f.gate.authenticate(Some(b"Bearer wrong"), CLIENT), 401);
        f.authenticate(&plain).unwrap();
    }
    refused(f.gate.authenticate(Some(b"Bearer wrong"), CLIENT), 429);
}

#[test]
fn refusals_of_live_tokens_are_no_failures() {
    let f = fixture();
    let (_, plain) = f.token("bob", "vso.work");
    for _ in 0..100 {
        refused(f.fetch(&plain, None), 403);
    }
}

#[test]
fn whoever_is_asked_about_again_and_again_is_looked_up_once_a_change() {
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Reader);
    let (_, plain) = f.token("bob", "vso.code");
    let principal = f.authenticate(&plain).unwrap();
    f.account("eve", false);
    let entry_after_a_question = || {
        f.gate.authorize_fetch(&principal, Some(&repo())).unwrap();
        lock(&f.gate.0.tokens).values().next().map(Arc::clone).unwrap()
    };
    let first = entry_after_a_question();
    assert!(Arc::ptr_eq(&first, &entry_after_a_question()));
    f.account("mallory", false);
    assert!(!Arc::ptr_eq(&first, &entry_after_a_question()));
}

#[test]
fn what_is_kept_in_memory_stays_bounded() {
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Reader);
    let (_, plain) = f.token("bob", "vso.code");
    for number in 0..3 * ROLES_COUNT_MAX {
        let repository = RepoPath::parse(&format!("C/P/R{number}")).unwrap();
        f.fetch(&plain, Some(&repository)).unwrap();
    }
    let tokens = lock(&f.gate.0.tokens);
    assert_eq!(tokens.len(), 1);
    assert!(
        tokens
            .values()
            .all(|verified| lock(&verified.rights.roles).len() <= ROLES_COUNT_MAX)
    );
}

#[test]
fn scopes_that_a_newer_patgate_stored_open_nothing_and_break_nothing() {
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Reader);
    let (id, plain) = f.token("bob", "vso.code");
    let change = TokenChange {
        scopes: Some("vso.later vso.code"),
        ..TokenChange::default()
    };
    f.elsewhere.update_token(&CLI, &id, &change).unwrap();
    f.fetch(&plain, Some(&repo())).unwrap();
    let change = TokenChange {
        scopes: Some("vso.later"),
        ..TokenChange::default()
    };
    f.elsewhere.update_token(&CLI, &id, &change).unwrap();
    refused(f.fetch(&plain, Some(&repo())), 403);
}

#[test]
fn nothing_that_the_gate_hands_out_prints_a_token() {
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Reader);
    let (id, plain) = f.token("bob", "vso.code");
    let principal = f.authenticate(&plain).unwrap();
    let grant = f.gate.authorize_fetch(&principal, Some(&repo())).unwrap();
    let mut printed = format!("{:?} {principal:?} {grant:?} {:?}", f.gate, plain);
    let push = f.gate.authorize_push(&principal, Some(&repo())).unwrap_err();
    printed += &format!("{push} {push:?}");
    f.elsewhere.revoke_token(&CLI, &id, RevokeReason::Asked).unwrap();
    let revoked = f.authenticate(&plain).unwrap_err();
    printed += &format!("{revoked} {revoked:?}");
    for header in [
        format!("Bearer {}x", plain.expose()),
        format!("Basic {}", plain.expose()),
        plain.expose().to_owned(),
    ] {
        let refusal = f.gate.authenticate(Some(header.as_bytes()), CLIENT).unwrap_err();
        printed += &format!("{refusal} {refusal:?}");
    }
    assert!(!printed.contains(&plain.expose()[12..50]), "{printed}");
    assert!(!printed.contains("pgt_"), "{printed}");
}

/// Not a benchmark: a debug build on a busy machine must stay far below what a look-up with an fsync or a password
/// hash would cost.
#[test]
fn a_known_token_is_answered_without_waiting_for_the_disk() {
    const COUNT: u32 = 2000;
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Reader);
    let (_, plain) = f.token("bob", "vso.code");
    let header = bearer(plain.expose());
    let repository = repo();
    f.fetch(&plain, Some(&repository)).unwrap();
    let start = Instant::now();
    for _ in 0..COUNT {
        let principal = f.gate.authenticate(Some(&header), CLIENT).unwrap();
        f.gate.authorize_fetch(&principal, Some(&repository)).unwrap();
    }
    let each = start.elapsed() / COUNT;
    assert!(each < Duration::from_millis(1), "{each:?}");
}
