use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::Value;

use super::*;
use crate::auth::token::{self, CreateToken, expiry_in_days};
use crate::auth::{Gate, Options};
use crate::names::AccessPath;
use crate::store::{
    AuditEvent, AuditFilter, DATABASE_FILE, NewAccount, NewToken, RevokeReason, TokenId, TokenLimits,
};

const CLI: Actor = Actor::CommandLine;
const REPOSITORY: &str = "DefaultCollection/P/R";

struct Fixture {
    store: Store,
    _directory: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join(DATABASE_FILE)).unwrap();
    let f = Fixture {
        store,
        _directory: directory,
    };
    f.account("bob", false);
    f
}

/// Rules that say what they are told to.
struct Says(AllowSecret, bool);

impl Rules for Says {
    fn allow_secret(&self, repository: &RepoPath) -> Result<AllowSecret, store::Error> {
        assert_eq!(repository.to_string(), REPOSITORY, "the repository is asked for");
        Ok(self.0)
    }

    fn revoke_leaked(&self) -> Result<bool, store::Error> {
        Ok(self.1)
    }
}

impl Fixture {
    fn account(&self, name: &str, is_admin: bool) {
        let new = NewAccount {
            name,
            password: None,
            is_admin,
            must_change_password: false,
        };
        self.store.create_account(&CLI, &new).unwrap();
    }

    fn token(&self, account: &str) -> (TokenId, PlainToken) {
        let new = CreateToken {
            account,
            name: "ci",
            scopes: "vso.code_write",
            expires_at: expiry_in_days(90, Timestamp::now()).unwrap(),
            limits: &TokenLimits::NONE,
        };
        let (token, plain) = token::create(&self.store, &CLI, &new).unwrap();
        (token.id, plain)
    }

    /// A token whose end lies behind it.
    fn expired(&self) -> PlainToken {
        let plain = PlainToken::generate().unwrap();
        let bob = self.store.find_account("bob").unwrap().unwrap();
        let new = NewToken {
            id: &plain.id().unwrap(),
            hash: &plain.hash(),
            account: bob.id,
            name: "old",
            scopes: "vso.code",
            expires_at: Timestamp::from_second(1_000_000_000).unwrap(),
            limits: &TokenLimits::NONE,
        };
        self.store.create_token(&CLI, &new).unwrap();
        plain
    }

    fn guard(&self) -> Guard {
        Guard::new(
            self.store.clone(),
            Box::new(Gate::new(self.store.clone(), Options::default())),
        )
    }

    fn guard_with(&self, who: AllowSecret, revokes: bool) -> Guard {
        Guard::new(self.store.clone(), Box::new(Says(who, revokes)))
    }

    fn is_revoked(&self, id: &TokenId) -> bool {
        self.store.find_token(id).unwrap().unwrap().revoked_at.is_some()
    }

    /// The events that are about leaks and revocations, oldest first.
    fn events(&self) -> Vec<AuditEvent> {
        let mut events = self.store.audit_events(&AuditFilter::latest(1000)).unwrap();
        events.retain(|event| ["token.leak", "token.revoke"].contains(&event.action.as_str()));
        events.reverse();
        events
    }

    fn grant(&self, account: &str) -> Grant<Push> {
        let (_, plain) = self.token(account);
        let gate = Gate::new(self.store.clone(), Options::default());
        let bearer = format!("Bearer {}", plain.expose());
        let principal = gate
            .authenticate(Some(bearer.as_bytes()), IpAddr::from([192, 0, 2, 7]))
            .unwrap();
        let repository = RepoPath::parse(REPOSITORY).unwrap();
        gate.authorize_push(&principal, Some(&repository)).unwrap()
    }
}

fn stranger() -> Requester {
    Requester {
        address: Some([192, 0, 2, 9].into()),
        agent: Some("curl/8".to_owned()),
        ..Requester::default()
    }
}

/// The same text with another last character: the checksum is wrong then.
fn garbled(plain: &PlainToken) -> String {
    let mut text = plain.expose().to_owned();
    let last = if text.pop() == Some('0') { '1' } else { '0' };
    text.push(last);
    text
}

#[test]
fn a_token_is_recognised_by_its_form_wherever_it_stands() {
    let plain = PlainToken::generate().unwrap();
    let text = plain.expose();
    assert_eq!(digest(text.as_bytes()), Some(plain.hash()));
    for other in [
        garbled(&plain),
        text[..55].to_owned(),
        format!("{text}x"),
        text.replace("pgt_", "PGT_"),
        "é".repeat(28),
    ] {
        assert_eq!(digest(other.as_bytes()), None, "{other}");
    }
    let found = |text: &[u8]| {
        let mut found = Vec::new();
        each_token(text, &mut |at, hash| {
            found.push((at, hash));
            true
        });
        found
    };
    for (before, after) in [
        ("", ""),
        ("https://me:", "@host/"),
        ("x", "x"),
        ("pgt_", ""),
        ("\u{e9}\"", "\""),
    ] {
        let around = format!("{before}{text}{after}");
        assert_eq!(
            found(around.as_bytes()),
            [(before.len(), plain.hash())],
            "{before}…{after}"
        );
    }
    assert_eq!(found(garbled(&plain).as_bytes()), []);
    let binary = [b"\xff\x00\xfe", text.as_bytes(), b"\x80"].concat();
    assert_eq!(found(&binary), [(3, plain.hash())]);
    let mut count = 0;
    each_token(format!("{text} {text} {text}").as_bytes(), &mut |_, _| {
        count += 1;
        count < 2
    });
    assert_eq!(count, 2, "it stops when it is told to");
}

#[test]
fn a_text_that_is_shown_holds_no_token_nor_most_of_one() {
    let plain = PlainToken::generate().unwrap();
    let text = plain.expose();
    let redacted = |text: &str| String::from_utf8(redact(text.as_bytes())).unwrap();
    assert_eq!(redacted(&format!("a {text} b {text}")), "a pgt_*** b pgt_***");
    assert_eq!(redacted(&garbled(&plain)), "pgt_***");
    assert_eq!(redacted(&text[..50]), "pgt_***");
    assert_eq!(redacted(&format!("{text}more")), "pgt_***");
    let id = plain.id().unwrap();
    for kept in [&format!("pgt_{id}"), "pgt_", "src/pgt_connection_pool.c", ""] {
        assert_eq!(redacted(kept), kept);
    }
}

#[test]
fn only_tokens_that_open_something_count() {
    let f = fixture();
    let (id, live) = f.token("bob");
    let (revoked_id, revoked) = f.token("bob");
    f.store
        .revoke_token(&CLI, &revoked_id, RevokeReason::Asked)
        .unwrap();
    let expired = f.expired();
    let unknown = PlainToken::generate().unwrap();
    let (_, sleeping) = f.token("bob");
    let hashes = [&live, &revoked, &expired, &unknown, &sleeping].map(PlainToken::hash);
    let guard = f.guard();
    let found = guard.live_among(&hashes).unwrap();
    let expected = LiveToken {
        hash: live.hash(),
        id,
        account: "bob".to_owned(),
        name: "ci".to_owned(),
    };
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], expected);
    f.store.set_account_disabled(&CLI, "bob", true).unwrap();
    assert_eq!(
        guard.live_among(&hashes).unwrap().len(),
        2,
        "an account that is disabled may be enabled again, and its tokens live then"
    );
    assert_eq!(guard.live_among(&[]).unwrap(), []);
}

#[test]
fn who_may_push_a_token_is_what_the_policy_says_and_the_store_knows() {
    let f = fixture();
    let path = AccessPath::parse("DefaultCollection/P").unwrap();
    let role = |name: &str, role| {
        f.account(name, false);
        f.store.grant_access(&CLI, Some(name), &path, role).unwrap();
    };
    role("cora", Role::Contributor);
    role("ada", Role::Administrator);
    f.account("root", true);
    let grants = ["cora", "ada", "root"].map(|name| f.grant(name));
    let given = |who| {
        let guard = f.guard_with(who, true);
        grants.each_ref().map(|grant| {
            let permission = guard.permission(grant).unwrap();
            assert_eq!(permission.who, who);
            permission.is_given
        })
    };
    assert_eq!(given(AllowSecret::Nobody), [false, false, false]);
    assert_eq!(given(AllowSecret::Administrators), [false, true, true]);
    assert_eq!(given(AllowSecret::Contributors), [true, true, true]);
    assert_eq!(
        f.guard().permission(&grants[0]).unwrap().who,
        AllowSecret::Administrators,
        "without a policy"
    );
    f.store
        .grant_access(&CLI, Some("ada"), &path, Role::Contributor)
        .unwrap();
    f.store.delete_account(&CLI, "root").unwrap();
    assert_eq!(
        given(AllowSecret::Administrators),
        [false, false, false],
        "what changed since the grant was made holds"
    );
}

#[test]
fn a_token_that_is_handed_in_is_revoked_and_the_trail_says_why() {
    let f = fixture();
    let (id, plain) = f.token("bob");
    f.guard().report(plain.expose().as_bytes(), &stranger());
    let token = f.store.find_token(&id).unwrap().unwrap();
    assert!(token.revoked_at.is_some());
    assert_eq!(token.revoked_because, Some(RevokeReason::Leaked));
    let events = f.events();
    let actions: Vec<&str> = events.iter().map(|event| event.action.as_str()).collect();
    assert_eq!(actions, ["token.leak", "token.revoke"]);
    for event in &events {
        assert_eq!(event.subject, id.as_str());
        assert_eq!(event.actor, Actor::Client(stranger()));
        assert!(!event.details.to_string().contains(plain.expose()));
    }
    assert_eq!(events[0].details["revoked"], Value::Bool(true));
    assert_eq!(events[1].details["because"], "leaked");
    let generation = f.store.generation().unwrap();
    f.guard().report(plain.expose().as_bytes(), &stranger());
    assert_eq!(f.events().len(), 2, "a token that is revoked is nothing any more");
    assert_eq!(f.store.generation().unwrap(), generation);
}

#[test]
fn a_token_is_taken_out_of_json_and_out_of_any_other_text() {
    for wrap in [
        |tokens: &[&str]| tokens.concat(),
        |tokens: &[&str]| serde_json::to_string(tokens).unwrap(),
        |tokens: &[&str]| serde_json::to_string_pretty(tokens).unwrap(),
        |tokens: &[&str]| format!("found\r\n{}\u{1f511}", tokens.join("\\n-")),
    ] {
        let f = fixture();
        let (one, two) = (f.token("bob"), f.token("bob"));
        let text = wrap(&[one.1.expose(), two.1.expose(), one.1.expose()]);
        f.guard().report(text.as_bytes(), &stranger());
        assert!(
            f.is_revoked(&one.0) && f.is_revoked(&two.0),
            "{}",
            f.events().len()
        );
        assert_eq!(f.events().len(), 4);
    }
}

#[test]
fn what_is_no_live_token_leaves_no_trace() {
    let f = fixture();
    let (id, plain) = f.token("bob");
    let (expired, unknown) = (f.expired(), PlainToken::generate().unwrap());
    for text in [
        "",
        "[]",
        "hello",
        &garbled(&plain),
        expired.expose(),
        unknown.expose(),
        &plain.expose()[..55],
    ] {
        f.guard().report(text.as_bytes(), &stranger());
    }
    f.guard().report(&[0xff; 1000], &stranger());
    assert!(!f.is_revoked(&id));
    assert_eq!(f.events(), []);
}

#[test]
fn a_report_is_read_up_to_its_bounds() {
    let f = fixture();
    let (last, last_plain) = f.token("bob");
    let unknown: Vec<PlainToken> = (0..REPORT_TOKENS_MAX)
        .map(|_| PlainToken::generate().unwrap())
        .collect();
    let join = |tokens: &[PlainToken]| {
        tokens
            .iter()
            .map(|plain| format!("{} ", plain.expose()))
            .collect::<String>()
    };
    let after = format!("{}{}", join(&unknown), last_plain.expose());
    f.guard().report(after.as_bytes(), &stranger());
    assert!(!f.is_revoked(&last), "one more than is looked at");
    assert!(has_too_many(after.as_bytes()) && !has_too_many(join(&unknown).as_bytes()));
    let far = format!("{}{}", " ".repeat(REPORT_BYTES_MAX - 55), last_plain.expose());
    f.guard().report(far.as_bytes(), &stranger());
    assert!(!f.is_revoked(&last), "further than is looked at");
    let repeated = format!("{0}{0}{0}{1}", join(&unknown[1..]), last_plain.expose());
    assert!(!has_too_many(repeated.as_bytes()));
    f.guard().report(repeated.as_bytes(), &stranger());
    assert!(f.is_revoked(&last), "the same token counts once");
}

#[test]
fn a_policy_can_keep_what_leaked_alive_and_the_trail_does_not_fill() {
    let f = fixture();
    let (id, plain) = f.token("bob");
    let guard = f.guard_with(AllowSecret::Administrators, false);
    for _ in 0..5 {
        guard.report(plain.expose().as_bytes(), &stranger());
    }
    assert!(!f.is_revoked(&id));
    let events = f.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].action, "token.leak");
    assert_eq!(events[0].details["revoked"], Value::Bool(false));
    f.guard().report(plain.expose().as_bytes(), &stranger());
    assert!(f.is_revoked(&id), "the policy of the moment holds");
    assert_eq!(f.events().len(), 3);
}

#[test]
fn a_push_is_noted_with_its_places() {
    let f = fixture();
    f.account("root", true);
    let grant = f.grant("root");
    let (id, plain) = f.token("bob");
    let token = f.guard().live_among(&[plain.hash()]).unwrap().remove(0);
    let places = ["src/config.py:12 of commit 1234abc".to_owned()];
    let guard = f.guard();
    let notes = guard.notes(&grant);
    notes.token(&token, &places, true).unwrap();
    notes.unchecked().unwrap();
    let events = f.events();
    assert_eq!(events[0].subject, id.as_str());
    assert_eq!(events[0].actor.to_string(), "root");
    assert_eq!(events[0].details["allowed"], Value::Bool(true));
    assert_eq!(events[0].details["places"][0], places[0]);
    assert_eq!(events[0].details["repository"], REPOSITORY);
    assert_eq!(events[1].subject, REPOSITORY);
    assert!(!f.is_revoked(&id), "a push that was let in is no leak");
}
