//! What every backend of the store must do, written against [`Store`] alone.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::*;

mod audit;
mod life;

const CLI: Actor = Actor::CommandLine;

fn root() -> Actor {
    Actor::Client(Requester {
        account: Some("root".to_owned()),
        token: Some(token_id("ABCDabcd")),
        address: Some([192, 0, 2, 1].into()),
        agent: Some("git/2.47.3".to_owned()),
    })
}

/// A step that does nothing.
fn nothing() -> Step<impl FnOnce() -> Result<(), Error>, impl FnOnce((), Error) -> Error> {
    Step {
        run: || Ok(()),
        undo: |(), cause| cause,
    }
}

struct Fixture {
    store: Store,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(DATABASE_FILE);
    Fixture {
        store: Store::open(&path).unwrap(),
        path,
        _directory: directory,
    }
}

impl Fixture {
    /// Another handle on the same database, as another process has one.
    fn other(&self) -> Store {
        Store::open(&self.path).unwrap()
    }

    fn account(&self, name: &str) -> Account {
        let new = NewAccount {
            name,
            password: None,
            is_admin: false,
            must_change_password: false,
        };
        self.store.create_account(&CLI, &new).unwrap()
    }

    fn token(&self, account: &Account, id: &str) -> Token {
        self.try_token(account, id, hash(id)).unwrap()
    }

    fn try_token(&self, account: &Account, id: &str, hash: TokenHash) -> Result<Token, Error> {
        let new = NewToken {
            id: &token_id(id),
            hash: &hash,
            account: account.id,
            name: "laptop",
            scopes: "vso.code",
            expires_at: in_an_hour(),
            limits: &TokenLimits::default(),
        };
        self.store.create_token(&CLI, &new)
    }

    /// The events of one action, oldest first.
    fn events(&self, action: &str) -> Vec<AuditEvent> {
        let mut events = self.store.audit_events(&AuditFilter::latest(1000)).unwrap();
        events.retain(|event| event.action == action);
        events.reverse();
        events
    }

    /// How many events of one action there are.
    fn events_count(&self, action: &str) -> usize {
        let filter = AuditFilter {
            actions: AuditAction::matching(action).unwrap(),
            ..AuditFilter::latest(u32::MAX)
        };
        self.store.audit_events(&filter).unwrap().len()
    }

    /// The newest event.
    fn event(&self) -> AuditEvent {
        self.store
            .audit_events(&AuditFilter::latest(1))
            .unwrap()
            .remove(0)
    }
}

fn token_id(id: &str) -> TokenId {
    id.parse().unwrap()
}

fn hash(seed: &str) -> TokenHash {
    let mut digest = [0; 32];
    digest
        .iter_mut()
        .zip(seed.bytes())
        .for_each(|(to, from)| *to = from);
    TokenHash::new(digest)
}

/// A rotation without an overlap.
fn to(hash: &TokenHash) -> TokenRotation<'_> {
    TokenRotation {
        hash,
        presented: None,
        is_by_itself: false,
        expires_at: None,
        old_valid_until: None,
        narrowing: None,
    }
}

fn in_an_hour() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + 3600).unwrap()
}

fn repo(path: &str) -> RepoPath {
    RepoPath::parse(path).unwrap()
}

fn access_path(path: &str) -> AccessPath {
    AccessPath::parse(path).unwrap()
}

#[test]
fn an_account_is_found_by_its_name_in_any_case() {
    let f = fixture();
    let made = f.account("Änne");
    assert_eq!(f.store.find_account("äNNE").unwrap(), Some(made.clone()));
    assert_eq!(f.store.find_account("anne").unwrap(), None);
    assert_eq!(f.store.accounts().unwrap(), [made]);
}

#[test]
fn a_name_that_differs_in_case_only_is_taken() {
    let f = fixture();
    f.account("Änne");
    let new = NewAccount {
        name: "ÄNNE",
        password: None,
        is_admin: true,
        must_change_password: false,
    };
    assert!(
        matches!(f.store.create_account(&CLI, &new), Err(Error::AccountExists { name }) if name == "ÄNNE")
    );
}

#[test]
fn names_that_would_mislead_are_refused() {
    let f = fixture();
    let long = "x".repeat(129);
    for name in [
        "",
        " ",
        "a\nb",
        "a\u{1b}[0m",
        "a\u{202e}b",
        "a\u{200b}",
        " a",
        "a ",
        "-a",
        "Everyone",
        &long,
    ] {
        let new = NewAccount {
            name,
            password: None,
            is_admin: false,
            must_change_password: false,
        };
        assert!(
            matches!(f.store.create_account(&CLI, &new), Err(Error::Label { .. })),
            "{name:?}"
        );
    }
    let account = f.account("bob@example.org");
    f.token(&account, "AAAAAAAA");
    let change = TokenChange {
        name: Some("x\u{7}"),
        ..TokenChange::default()
    };
    let outcome = f.store.update_token(&CLI, &token_id("AAAAAAAA"), &change);
    assert!(
        !outcome.unwrap_err().to_string().contains('\u{7}'),
        "the error escapes the name"
    );
}

#[test]
fn passwords_are_kept_apart_from_accounts() {
    let f = fixture();
    let first = PasswordHash::new("$argon2id$first".to_owned());
    let new = NewAccount {
        name: "bob",
        password: Some(&first),
        is_admin: true,
        must_change_password: true,
    };
    let account = f.store.create_account(&CLI, &new).unwrap();
    assert!(account.has_password && account.must_change_password && account.is_admin);
    let second = PasswordHash::new("$argon2id$second".to_owned());
    let account = f.store.set_password(&CLI, "BOB", &second, false).unwrap();
    assert!(!account.must_change_password);
    let found = f.store.find_password_hash("bob").unwrap().unwrap();
    assert_eq!(found.expose(), second.expose());
    assert!(f.store.find_password_hash("eve").unwrap().is_none());
    let (found, hash) = f.store.find_account_with_password("Bob").unwrap().unwrap();
    assert_eq!((found, hash.unwrap().expose()), (account, second.expose()));
    assert!(f.store.find_account_with_password("eve").unwrap().is_none());
    assert!(!f.account("eve").has_password);
    assert!(
        f.store
            .find_account_with_password("eve")
            .unwrap()
            .unwrap()
            .1
            .is_none()
    );
    assert!(f.store.find_password_hash("eve").unwrap().is_none());
}

#[test]
fn what_is_asked_of_a_missing_account_is_refused_by_its_name() {
    let f = fixture();
    let missing = |outcome: Result<(), Error>| {
        assert!(matches!(outcome, Err(Error::AccountNotFound { name }) if name == "eve"));
    };
    missing(f.store.set_account_disabled(&CLI, "eve", true).map(drop));
    missing(f.store.delete_account(&CLI, "eve").map(drop));
    missing(
        f.store
            .set_password(&CLI, "eve", &PasswordHash::new(String::new()), false)
            .map(drop),
    );
    missing(f.store.tokens(Some("eve")).map(drop));
    missing(f.store.access(Some("eve")).map(drop));
    missing(
        f.store
            .grant_access(&CLI, Some("eve"), &AccessPath::Server, Role::Reader),
    );
    missing(f.store.revoke_access(&CLI, Some("eve"), &AccessPath::Server));
    assert!(
        f.store.audit_events(&AuditFilter::latest(10)).unwrap().is_empty(),
        "what is refused leaves no event"
    );
}

#[test]
fn a_token_is_found_by_its_digest_with_its_owner() {
    let f = fixture();
    let account = f.account("bob");
    let made = f.token(&account, "AAAAAAAA");
    assert_eq!(
        f.store.find_token_by_hash(&hash("AAAAAAAA")).unwrap(),
        Some((made.clone(), account))
    );
    assert_eq!(f.store.find_token_by_hash(&hash("BBBBBBBB")).unwrap(), None);
    assert_eq!(f.store.find_token(&token_id("AAAAAAAA")).unwrap(), Some(made));
    assert_eq!(
        f.store.find_token(&token_id("aaaaaaaa")).unwrap(),
        None,
        "ids respect case"
    );
}

#[test]
fn two_tokens_cannot_share_an_id_or_a_digest() {
    let f = fixture();
    let account = f.account("bob");
    f.token(&account, "AAAAAAAA");
    assert!(matches!(
        f.try_token(&account, "AAAAAAAA", hash("other")),
        Err(Error::TokenExists { .. })
    ));
    assert!(matches!(
        f.try_token(&account, "BBBBBBBB", hash("AAAAAAAA")),
        Err(Error::TokenExists { .. })
    ));
}

#[test]
fn a_token_needs_an_owner() {
    let f = fixture();
    let account = f.account("bob");
    f.store.delete_account(&CLI, "bob").unwrap();
    assert!(matches!(
        f.try_token(&account, "AAAAAAAA", hash("x")),
        Err(Error::Database(_))
    ));
}

#[test]
fn tokens_are_listed_by_owner_and_age() {
    let f = fixture();
    let (bob, eve) = (f.account("bob"), f.account("eve"));
    f.token(&bob, "BBBBBBBB");
    f.token(&eve, "EEEEEEEE");
    f.token(&bob, "AAAAAAAA");
    let ids = |account| -> Vec<String> {
        f.store
            .tokens(account)
            .unwrap()
            .iter()
            .map(|token| token.id.to_string())
            .collect()
    };
    assert_eq!(ids(None), ["BBBBBBBB", "EEEEEEEE", "AAAAAAAA"]);
    assert_eq!(ids(Some("BOB")), ["BBBBBBBB", "AAAAAAAA"]);
}

#[test]
fn an_update_changes_what_it_names_and_nothing_else() {
    let f = fixture();
    let made = f.token(&f.account("bob"), "AAAAAAAA");
    let change = TokenChange {
        scopes: Some("vso.work"),
        ..TokenChange::default()
    };
    let changed = f.store.update_token(&CLI, &made.id, &change).unwrap();
    assert_eq!(
        changed,
        Token {
            scopes: "vso.work".to_owned(),
            ..made.clone()
        }
    );
    let event = f.event();
    assert_eq!(
        (event.action.as_str(), event.subject.as_str()),
        ("token.update", "AAAAAAAA")
    );
    assert_eq!(
        event.details,
        json!({ "scopes": { "from": "vso.code", "to": "vso.work" } })
    );
}

#[test]
fn a_revoked_token_stays_known_and_cannot_change() {
    let f = fixture();
    let made = f.token(&f.account("bob"), "AAAAAAAA");
    assert!(
        f.store
            .revoke_token(&CLI, &made.id, RevokeReason::Asked)
            .unwrap()
            .revoked_at
            .is_some()
    );
    let refused = |outcome: Result<Token, Error>| {
        assert!(matches!(outcome, Err(Error::TokenRevoked { .. })), "{outcome:?}");
    };
    refused(f.store.revoke_token(&CLI, &made.id, RevokeReason::Asked));
    refused(f.store.rotate_token(&CLI, &made.id, &to(&hash("new"))));
    refused(f.store.update_token(&CLI, &made.id, &TokenChange::default()));
    assert!(
        f.store
            .find_token_by_hash(&hash("AAAAAAAA"))
            .unwrap()
            .unwrap()
            .0
            .revoked_at
            .is_some()
    );
    let missing = f
        .store
        .revoke_token(&CLI, &token_id("ZZZZZZZZ"), RevokeReason::Asked);
    assert!(matches!(missing, Err(Error::TokenNotFound { .. })));
}

#[test]
fn a_deleted_account_takes_its_tokens_and_rights_along_and_its_number_is_not_given_again() {
    let f = fixture();
    let bob = f.account("bob");
    f.token(&bob, "AAAAAAAA");
    f.store
        .grant_access(&CLI, Some("bob"), &AccessPath::Server, Role::Reader)
        .unwrap();
    f.store.delete_account(&CLI, "bob").unwrap();
    assert!(f.store.tokens(None).unwrap().is_empty());
    assert!(f.store.access(None).unwrap().is_empty());
    assert_eq!(f.event().details, json!({ "tokens": 1, "rights": 1 }));
    assert_ne!(f.account("bob").id, bob.id);
}

#[test]
fn a_role_holds_for_all_that_its_path_contains() {
    let f = fixture();
    let bob = f.account("bob");
    let on = |path: &str| f.store.role_on(Some(bob.id), &repo(path)).unwrap();
    assert_eq!(on("C/P/R"), None);
    for (path, role) in [
        ("c/p/r", Role::Reader),
        ("C/p", Role::Contributor),
        ("c", Role::Reader),
        ("", Role::Administrator),
    ] {
        f.store
            .grant_access(&CLI, Some("bob"), &access_path(path), role)
            .unwrap();
    }
    assert_eq!(on("C/P/R"), Some(Role::Administrator), "the greatest counts");
    f.store
        .revoke_access(&CLI, Some("bob"), &AccessPath::Server)
        .unwrap();
    assert_eq!(on("C/P/R"), Some(Role::Contributor));
    assert_eq!(on("C/P/Other"), Some(Role::Contributor));
    assert_eq!(on("C/Other/R"), Some(Role::Reader));
    assert_eq!(on("Other/P/R"), None);
    f.store
        .revoke_access(&CLI, Some("bob"), &access_path("C/P"))
        .unwrap();
    assert_eq!(on("C/P/R"), Some(Role::Reader));
    assert_eq!(
        f.store.role_on(None, &repo("C/P/R")).unwrap(),
        None,
        "the rights of one are not those of all"
    );
}

#[test]
fn a_grant_replaces_the_role_on_the_same_path() {
    let f = fixture();
    f.account("bob");
    let path = access_path("C/P");
    f.store
        .grant_access(&CLI, Some("bob"), &path, Role::Administrator)
        .unwrap();
    f.store
        .grant_access(&CLI, Some("BOB"), &access_path("c/p"), Role::Reader)
        .unwrap();
    let all = f.store.access(Some("bob")).unwrap();
    let expected = Access {
        account: Some("bob".to_owned()),
        path: access_path("c/p"),
        role: Role::Reader,
    };
    assert_eq!(all, [expected]);
    f.store.revoke_access(&CLI, Some("bob"), &path).unwrap();
    let again = f.store.revoke_access(&CLI, Some("bob"), &path).unwrap_err();
    assert_eq!(again.to_string(), "'bob' has no right of its own on 'C/P'");
}

#[test]
fn everyone_can_be_a_reader_and_no_more() {
    let f = fixture();
    let bob = f.account("bob");
    f.store
        .grant_access(&CLI, None, &access_path("C/P/R"), Role::Reader)
        .unwrap();
    f.store
        .grant_access(&CLI, None, &access_path("C/P/R"), Role::Reader)
        .unwrap();
    let refused = f
        .store
        .grant_access(&CLI, None, &access_path("C"), Role::Contributor);
    assert!(matches!(refused, Err(Error::EveryoneIsReader)));
    assert_eq!(f.store.role_on(None, &repo("C/P/R")).unwrap(), Some(Role::Reader));
    assert_eq!(
        f.store.role_on(Some(bob.id), &repo("C/P/R")).unwrap(),
        Some(Role::Reader)
    );
    assert_eq!(f.store.role_on(None, &repo("C/P/S")).unwrap(), None);
    assert_eq!(f.store.access(None).unwrap().len(), 1);
    f.store.revoke_access(&CLI, None, &access_path("c/p/r")).unwrap();
    assert_eq!(f.store.role_on(None, &repo("C/P/R")).unwrap(), None);
}

#[test]
fn roles_on_many_repositories_are_those_on_each_of_them() {
    let f = fixture();
    let (bob, eve) = (f.account("bob"), f.account("eve"));
    for (who, on, role) in [
        (Some("bob"), "C", Role::Reader),
        (Some("bob"), "C/P/A", Role::Administrator),
        (Some("bob"), "c/p0/A", Role::Administrator),
        (Some("bob"), "C/P!/A", Role::Administrator),
        (Some("bob"), "D/P", Role::Contributor),
        (Some("eve"), "C/P/B", Role::Contributor),
        (None, "D/P/B", Role::Reader),
        (None, "É/P/A", Role::Reader),
    ] {
        f.store.grant_access(&CLI, who, &access_path(on), role).unwrap();
    }
    let all = [
        "C/P/A", "C/P/B", "c/P/b", "C/P0/A", "C/P!/A", "D/P/A", "D/P/B", "D/Q/A", "é/p/a",
    ];
    for account in [None, Some(bob.id), Some(eve.id)] {
        for place in ["C", "c/p", "C/P!", "C/P/A", "D", "D/P", "é/P"] {
            let place = access_path(place);
            let roles = f.store.roles_below(account, &place).unwrap();
            let server = f.store.roles_below(account, &AccessPath::Server).unwrap();
            for path in all.map(repo) {
                let role = f.store.role_on(account, &path).unwrap();
                assert_eq!(server.on(&path), role, "{path}");
                let lies_below = AccessPath::keys_above(&path).contains(&place.key());
                assert!(!lies_below || roles.on(&path) == role, "{path} below {place}");
            }
        }
    }
}

#[test]
fn rights_follow_a_renamed_repository_and_end_with_a_deleted_one() {
    let f = fixture();
    let (bob, eve) = (f.account("bob"), f.account("eve"));
    f.store
        .grant_access(&CLI, Some("bob"), &access_path("C/P/Old"), Role::Reader)
        .unwrap();
    f.store
        .grant_access(&CLI, Some("eve"), &access_path("C/P/New"), Role::Reader)
        .unwrap();
    f.store
        .rename_repository(&CLI, &repo("c/p/old"), &repo("C/P/New"), nothing())
        .unwrap();
    let on = |account: &Account, path: &str| f.store.role_on(Some(account.id), &repo(path)).unwrap();
    assert_eq!(on(&bob, "C/P/Old"), None);
    assert_eq!(on(&bob, "C/P/New"), Some(Role::Reader));
    assert_eq!(
        on(&eve, "C/P/New"),
        None,
        "what was given for another repository does not count"
    );
    f.store
        .rename_repository(&CLI, &repo("C/P/New"), &repo("C/P/NEW"), nothing())
        .unwrap();
    assert_eq!(
        f.store.access(None).unwrap().first().unwrap().path.to_string(),
        "C/P/NEW"
    );
    f.store
        .delete_repository(&CLI, &repo("C/P/new"), nothing())
        .unwrap();
    assert!(f.store.access(None).unwrap().is_empty());
}

#[test]
fn a_rename_whose_step_or_commit_fails_leaves_everything_as_it_was() {
    let f = fixture();
    let bob = f.account("bob");
    for (name, role) in [("C/P/Old", Role::Administrator), ("C/P/New", Role::Contributor)] {
        f.store
            .grant_access(&CLI, Some("bob"), &access_path(name), role)
            .unwrap();
    }
    let id = f.token(&bob, "AAAAAAAA").id;
    let limits = TokenLimits {
        paths: vec![access_path("C/P/New")],
        ..TokenLimits::NONE
    };
    let change = TokenChange {
        limits: Some(&limits),
        ..TokenChange::default()
    };
    f.store.update_token(&CLI, &id, &change).unwrap();
    let (old, new) = (repo("C/P/Old"), repo("C/P/New"));
    let ids = f.store.repository_ids(&[old.clone(), new.clone()]).unwrap();
    let state = || {
        let access = f.store.access(None).unwrap();
        let ids = f.store.repository_ids(&[old.clone(), new.clone()]).unwrap();
        let events = f.store.audit_events(&AuditFilter::latest(100)).unwrap();
        (
            access,
            ids,
            events,
            f.store.find_token(&id).unwrap().unwrap().limits,
        )
    };
    let before = state();
    assert_eq!((&before.1, &before.3), (&ids, &limits));

    let refused = f.store.rename_repository(
        &CLI,
        &old,
        &new,
        Step {
            run: || Err::<(), _>(Error::Corrupt("step")),
            undo: |(), _| Error::Corrupt("undone"),
        },
    );
    assert!(matches!(refused, Err(Error::Corrupt("step"))), "{refused:?}");
    assert_eq!(state(), before);

    f.store.fail_commits();
    let mut undone = None;
    let failed = f.store.rename_repository(
        &CLI,
        &old,
        &new,
        Step {
            run: || Ok::<_, Error>("done"),
            undo: |done, cause| {
                undone = Some(done);
                cause
            },
        },
    );
    assert!(matches!(failed, Err(Error::Database(_))), "{failed:?}");
    assert_eq!(undone, Some("done"));
    assert_eq!(state(), before);
}

#[test]
fn every_change_leaves_one_event_of_its_own() {
    let f = fixture();
    let bob = f.account("bob");
    let id = f.token(&bob, "AAAAAAAA").id;
    f.store
        .update_token(
            &CLI,
            &id,
            &TokenChange {
                name: Some("desk"),
                ..TokenChange::default()
            },
        )
        .unwrap();
    f.store.rotate_token(&CLI, &id, &to(&hash("new"))).unwrap();
    f.store.revoke_token(&CLI, &id, RevokeReason::Asked).unwrap();
    f.store
        .grant_access(&CLI, Some("bob"), &access_path("C"), Role::Reader)
        .unwrap();
    f.store
        .revoke_access(&CLI, Some("bob"), &access_path("C"))
        .unwrap();
    f.store
        .rename_repository(&CLI, &repo("C/P/R"), &repo("C/P/S"), nothing())
        .unwrap();
    f.store
        .delete_repository(&CLI, &repo("C/P/S"), nothing())
        .unwrap();
    f.store.set_account_disabled(&CLI, "bob", true).unwrap();
    f.store.set_account_disabled(&CLI, "bob", false).unwrap();
    f.store
        .set_password(&CLI, "bob", &PasswordHash::new("$argon2id$x".to_owned()), false)
        .unwrap();
    f.store.delete_account(&root(), "bob").unwrap();
    f.store
        .record_event(
            &Actor::Server,
            AuditAction::RepositoryCreate,
            "C/P/T",
            &json!({ "public": true }),
        )
        .unwrap();
    let events = f.store.audit_events(&AuditFilter::latest(100)).unwrap();
    let actions: Vec<&str> = events.iter().rev().map(|event| event.action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "account.create",
            "token.create",
            "token.update",
            "token.rotate",
            "token.revoke",
            "access.grant",
            "access.revoke",
            "repository.rename",
            "repository.delete",
            "account.disable",
            "account.enable",
            "account.set-password",
            "account.delete",
            "repository.create"
        ]
    );
    let actors: Vec<Actor> = events.iter().take(3).map(|event| event.actor.clone()).collect();
    assert_eq!(actors, [Actor::Server, root(), CLI]);
    let ids: HashSet<i64> = events.iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), events.len());
    assert!(
        !format!("{events:?}").contains("argon2id"),
        "an event never holds a secret"
    );
    assert_eq!(
        f.store.audit_events(&AuditFilter::latest(2)).unwrap(),
        events[..2]
    );
}

#[test]
fn the_generation_changes_with_every_change_of_a_right_by_whomever() {
    let f = fixture();
    let other = f.other();
    let mut last = f.store.generation().unwrap();
    let mut changed = |what: &str| {
        let now = f.store.generation().unwrap();
        assert_ne!(now, last, "{what}");
        assert_eq!(
            now,
            f.store.generation().unwrap(),
            "it stands still while nothing changes"
        );
        last = now;
    };
    let new = NewAccount {
        name: "bob",
        password: None,
        is_admin: false,
        must_change_password: false,
    };
    let bob = other.create_account(&CLI, &new).unwrap();
    changed("an account made by another");
    let id = f.token(&bob, "AAAAAAAA").id;
    changed("a token made here");
    other
        .update_token(
            &CLI,
            &id,
            &TokenChange {
                scopes: Some("vso.work"),
                ..TokenChange::default()
            },
        )
        .unwrap();
    changed("scopes");
    other.rotate_token(&CLI, &id, &to(&hash("new"))).unwrap();
    changed("a digest");
    f.store.revoke_token(&CLI, &id, RevokeReason::Asked).unwrap();
    changed("a revocation");
    other
        .grant_access(&CLI, None, &access_path("C"), Role::Reader)
        .unwrap();
    changed("a right");
    other
        .rename_repository(&CLI, &repo("C/P/R"), &repo("C/P/S"), nothing())
        .unwrap();
    other.revoke_access(&CLI, None, &access_path("C")).unwrap();
    changed("a right taken away");
    other.set_account_disabled(&CLI, "bob", true).unwrap();
    changed("a disabled account");
    other.delete_account(&CLI, "bob").unwrap();
    changed("a deleted account");
}

#[test]
fn the_generation_does_not_change_with_uses_and_events() {
    let f = fixture();
    let id = f.token(&f.account("bob"), "AAAAAAAA").id;
    let before = f.store.generation().unwrap();
    let used = TokenUse {
        id: id.clone(),
        at: Timestamp::now(),
        from: [127, 0, 0, 1].into(),
        with: None,
        purpose: "fetch C/P/R".to_owned(),
    };
    f.other().record_token_uses(&[used]).unwrap();
    f.store
        .record_event(&CLI, AuditAction::RepositoryCreate, "C/P/R", &json!({}))
        .unwrap();
    assert!(f.store.find_token(&id).unwrap().unwrap().last_used_at.is_some());
    assert_eq!(f.store.generation().unwrap(), before);
}

#[test]
fn handles_on_one_database_write_side_by_side() {
    const EACH: usize = 25;
    let f = fixture();
    std::thread::scope(|scope| {
        for handle in 0..3 {
            let store = if handle == 0 { f.store.clone() } else { f.other() };
            scope.spawn(move || {
                for number in 0..EACH {
                    let name = format!("{handle}-{number}");
                    let new = NewAccount {
                        name: &name,
                        password: None,
                        is_admin: false,
                        must_change_password: false,
                    };
                    store.create_account(&CLI, &new).unwrap();
                    assert!(
                        store.find_account(&name).unwrap().is_some(),
                        "what was written is read"
                    );
                }
            });
        }
    });
    assert_eq!(f.store.accounts().unwrap().len(), 3 * EACH);
    assert_eq!(
        f.store
            .audit_events(&AuditFilter::latest(u32::MAX))
            .unwrap()
            .len(),
        3 * EACH
    );
}

#[test]
fn what_was_written_is_there_when_it_is_opened_again() {
    let f = fixture();
    f.token(&f.account("bob"), "AAAAAAAA");
    let generation = f.store.generation().unwrap();
    let again = f.other();
    assert_eq!(again.accounts().unwrap(), f.store.accounts().unwrap());
    assert_eq!(again.tokens(None).unwrap(), f.store.tokens(None).unwrap());
    assert_eq!(again.generation().unwrap(), generation);
}

#[test]
fn nothing_that_is_kept_prints_a_digest_or_a_password() {
    let f = fixture();
    let password = PasswordHash::new("$argon2id$x".to_owned());
    let new = NewAccount {
        name: "bob",
        password: Some(&password),
        is_admin: true,
        must_change_password: true,
    };
    let printed = format!("{new:?} {:?} {password:?} {:?}", f.store, hash("AAAAAAAA"));
    assert!(
        !printed.contains("argon2id") && !printed.contains("65"),
        "{printed}"
    );
}

#[test]
fn the_limits_of_a_token_are_kept_and_replaced_as_a_whole() {
    let f = fixture();
    let limits = TokenLimits {
        paths: vec![AccessPath::parse("C/P").unwrap()],
        refs: vec![crate::names::RefPattern::parse("refs/heads/ci/*").unwrap()],
        networks: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
    };
    let bob = f.account("bob");
    let new = NewToken {
        id: &token_id("AAAAAAAA"),
        hash: &hash("AAAAAAAA"),
        account: bob.id,
        name: "ci",
        scopes: "vso.code",
        expires_at: in_an_hour(),
        limits: &limits,
    };
    assert_eq!(f.store.create_token(&CLI, &new).unwrap().limits, limits);
    assert_eq!(f.event().details["limits"], limits.to_json());
    let change = |limits| TokenChange {
        limits,
        ..TokenChange::default()
    };
    let unchanged = f.store.update_token(&CLI, new.id, &change(None)).unwrap();
    assert_eq!(unchanged.limits, limits);
    let before = f.store.generation().unwrap();
    let free = f
        .store
        .update_token(&CLI, new.id, &change(Some(&TokenLimits::NONE)))
        .unwrap();
    assert!(free.limits.is_empty());
    assert_ne!(f.store.generation().unwrap(), before);
}

#[test]
fn an_event_tells_by_which_token_and_from_where() {
    let f = fixture();
    f.store
        .record_event(&root(), AuditAction::RepositoryCreate, "C/P/R", &json!({}))
        .unwrap();
    assert_eq!(f.event().actor, root());
}

#[test]
fn a_policy_is_set_replaced_and_taken_back_with_an_event_each() {
    let f = fixture();
    assert_eq!(f.store.policies().unwrap(), []);
    assert_eq!(f.store.set_policy(&CLI, None, "b", "1").unwrap(), None);
    assert_eq!(f.store.set_policy(&root(), Some("Änne"), "a", "2").unwrap(), None);
    assert_eq!(f.event().actor, root());
    let before = f.store.set_policy(&CLI, Some("äNNE"), "a", "3").unwrap();
    assert_eq!(before.as_deref(), Some("2"), "case does not matter");
    assert_eq!(
        (
            f.event().action.as_str(),
            f.event().subject.as_str(),
            f.event().details
        ),
        (
            "policy.set",
            "äNNE",
            json!({ "policy": "a", "collection": "äNNE", "from": "2", "to": "3" })
        )
    );
    f.store.set_policy(&CLI, None, "a", "4").unwrap();
    let stored = |collection: Option<&str>, name: &str, value: &str| StoredPolicy {
        collection: collection.map(str::to_owned),
        name: name.to_owned(),
        value: value.to_owned(),
    };
    assert_eq!(
        f.store.policies().unwrap(),
        [
            stored(None, "a", "4"),
            stored(None, "b", "1"),
            stored(Some("äNNE"), "a", "3")
        ]
    );
    assert_eq!(f.store.remove_policy(&CLI, Some("ÄNNE"), "a").unwrap(), "3");
    assert_eq!(
        (f.event().action.as_str(), f.event().details),
        (
            "policy.remove",
            json!({ "policy": "a", "collection": "ÄNNE", "from": "3" })
        )
    );
    let events = f.store.audit_events(&AuditFilter::latest(10)).unwrap().len();
    let missing = f.store.remove_policy(&CLI, Some("Änne"), "a").unwrap_err();
    assert_eq!(
        missing.to_string(),
        "the policy 'a' is not set for the collection 'Änne'"
    );
    assert_eq!(
        f.store.audit_events(&AuditFilter::latest(10)).unwrap().len(),
        events
    );
    assert_eq!(f.store.policies().unwrap().len(), 2, "the server's stay");
}

#[test]
fn the_generation_changes_with_every_change_of_a_policy_by_whomever() {
    let f = fixture();
    let other = f.other();
    let before = f.store.generation().unwrap();
    other.set_policy(&CLI, None, "a", "1").unwrap();
    let set = f.store.generation().unwrap();
    other.set_policy(&CLI, None, "a", "2").unwrap();
    let replaced = f.store.generation().unwrap();
    other.remove_policy(&CLI, None, "a").unwrap();
    let all = [before, set, replaced, f.store.generation().unwrap()];
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 4, "{all:?}");
}

#[test]
fn a_revocation_rule_is_kept_until_it_is_taken_back() {
    let f = fixture();
    let generation = f.store.generation().unwrap();
    let before = in_an_hour();
    let first = f
        .store
        .create_revocation_rule(&CLI, "vso.code vso.work", before)
        .unwrap();
    assert_eq!(
        (first.scopes.as_str(), first.created_before),
        ("vso.code vso.work", before)
    );
    assert_eq!(
        (f.event().action.as_str(), f.event().subject, f.event().details),
        (
            "revocation-rule.create",
            first.id.to_string(),
            json!({ "scopes": "vso.code vso.work", "created_before": before.to_string() })
        )
    );
    let made = f.store.generation().unwrap();
    assert_ne!(made, generation);
    let second = f.other().create_revocation_rule(&root(), "", before).unwrap();
    assert_eq!(
        f.store.revocation_rules().unwrap(),
        [first.clone(), second.clone()]
    );
    assert_eq!(f.store.delete_revocation_rule(&CLI, second.id).unwrap(), second);
    assert_eq!(f.event().action, "revocation-rule.delete");
    assert_eq!(f.store.revocation_rules().unwrap(), [first]);
    let missing = f.store.delete_revocation_rule(&CLI, second.id).unwrap_err();
    assert_eq!(
        missing.to_string(),
        format!("there is no revocation rule {}", second.id)
    );
    let third = f.store.create_revocation_rule(&CLI, "", before).unwrap();
    assert_ne!(third.id, second.id, "a number is not given again");
}

#[test]
fn an_account_has_one_alternate_credential_under_a_name_that_no_other_has() {
    let f = fixture();
    let bob = f.account("bob");
    f.account("eve");
    let password = |text: &str| PasswordHash::new(format!("$argon2id${text}"));
    let set = |account: &str, name: &str| {
        f.store
            .set_alternate_credential(&root(), account, name, &password(name))
    };
    let generation = f.store.generation().unwrap();
    let made = set("BOB", "Bob at home").unwrap();
    assert_eq!(
        (made.account.as_str(), made.name.as_str()),
        ("bob", "Bob at home")
    );
    assert_eq!(
        (
            f.event().action.as_str(),
            f.event().subject.as_str(),
            f.event().details
        ),
        (
            "alternate-credential.set",
            "bob",
            json!({ "name": "Bob at home" })
        )
    );
    assert_eq!(f.event().actor, root());
    let changed = f.store.generation().unwrap();
    assert_ne!(changed, generation);
    assert!(matches!(
        set("eve", "bob AT home"),
        Err(Error::AlternateNameTaken { name }) if name == "bob AT home"
    ));
    assert!(matches!(set("nobody", "x"), Err(Error::AccountNotFound { .. })));
    assert!(matches!(set("eve", "x\u{1b}"), Err(Error::Label { .. })));
    set("bob", "BOB AT HOME").unwrap();
    let (found, hash, account) = f.store.find_alternate_credential("bob at home").unwrap().unwrap();
    assert_eq!(
        (found.name.as_str(), hash.expose(), account),
        ("BOB AT HOME", "$argon2id$BOB AT HOME", bob)
    );
    set("bob", "bobby").unwrap();
    assert!(
        f.store
            .find_alternate_credential("bob at home")
            .unwrap()
            .is_none()
    );
    set("eve", "Bob at home").unwrap();
    let names = |account| -> Vec<String> {
        let all = f.store.alternate_credentials(account).unwrap();
        all.into_iter().map(|credential| credential.name).collect()
    };
    assert_eq!(names(None), ["bobby", "Bob at home"]);
    assert_eq!(names(Some("EVE")), ["Bob at home"]);
    let generation = f.store.generation().unwrap();
    let removed = f.other().remove_alternate_credential(&CLI, "eve").unwrap();
    assert_eq!(removed.name, "Bob at home");
    assert_ne!(f.store.generation().unwrap(), generation);
    assert_eq!(f.event().action, "alternate-credential.remove");
    let missing = f.store.remove_alternate_credential(&CLI, "eve").unwrap_err();
    assert_eq!(missing.to_string(), "'eve' has no alternate credential");
    f.store.delete_account(&CLI, "bob").unwrap();
    assert!(names(None).is_empty());
    let events = f.store.audit_events(&AuditFilter::latest(100)).unwrap();
    assert!(!format!("{events:?}").contains("argon2id"));
}

#[test]
fn tokens_that_nobody_uses_are_found_page_by_page_and_revoked_unless_they_were_used() {
    let f = fixture();
    let bob = f.account("bob");
    for id in ["CCCCCCCC", "AAAAAAAA", "BBBBBBBB", "DDDDDDDD", "EEEEEEEE"] {
        f.token(&bob, id);
    }
    f.store
        .revoke_token(&CLI, &token_id("DDDDDDDD"), RevokeReason::Asked)
        .unwrap();
    let end = TokenChange {
        expires_at: Some(Timestamp::from_second(1).unwrap()),
        ..TokenChange::default()
    };
    f.store.update_token(&CLI, &token_id("EEEEEEEE"), &end).unwrap();
    let later = in_an_hour() + SignedDuration::from_hours(-1) + SignedDuration::from_secs(60);
    let used = TokenUse {
        id: token_id("BBBBBBBB"),
        at: later,
        from: [127, 0, 0, 1].into(),
        with: None,
        purpose: "fetch C/P/R".to_owned(),
    };
    f.store.record_token_uses(&[used]).unwrap();
    let now = Timestamp::now();
    let idle = |since: Timestamp, after: Option<&str>, count: u32| -> Vec<String> {
        let after = after.map(token_id);
        let all = f.store.idle_tokens(since, now, after.as_ref(), count).unwrap();
        all.into_iter().map(|token| token.id.to_string()).collect()
    };
    let before = later + SignedDuration::from_secs(-1);
    assert_eq!(idle(before, None, 10), ["AAAAAAAA", "CCCCCCCC"]);
    assert_eq!(idle(later, None, 2), ["AAAAAAAA", "BBBBBBBB"]);
    assert_eq!(idle(later, Some("BBBBBBBB"), 2), ["CCCCCCCC"]);
    assert!(idle(now + SignedDuration::from_hours(-1), None, 10).is_empty());
    let found = f.store.idle_tokens(later, now, None, 2).unwrap();
    assert_eq!(found[1].since, later);
    assert!(found[0].since < later && found[0].limits.is_empty());

    let all: Vec<_> = ["AAAAAAAA", "BBBBBBBB", "DDDDDDDD", "ZZZZZZZZ"]
        .map(|id| (token_id(id), before))
        .into();
    let revoked = f.store.revoke_idle_tokens(&Actor::Server, &all).unwrap();
    assert_eq!(
        revoked.len(),
        1,
        "of one that was used, one that is revoked and none"
    );
    assert_eq!(
        (revoked[0].id.as_str(), revoked[0].revoked_because),
        ("AAAAAAAA", Some(RevokeReason::Unused))
    );
    assert_eq!(
        (f.event().action.as_str(), f.event().actor),
        ("token.revoke", Actor::Server)
    );
    assert_eq!(f.event().details["because"], "unused");
    assert_eq!(idle(later, None, 10), ["BBBBBBBB", "CCCCCCCC"]);
}

#[test]
fn the_installation_has_one_id_for_good() {
    let f = fixture();
    let id = f.store.instance_id().unwrap();
    assert!(!id.is_nil());
    assert_eq!(f.other().instance_id().unwrap(), id);
    assert_ne!(fixture().store.instance_id().unwrap(), id);
}

#[test]
fn a_repository_keeps_its_id_through_a_rename_and_leaves_it_to_nobody() {
    let f = fixture();
    let repo = |text: &str| RepoPath::parse(text).unwrap();
    let (a, b) = (repo("C/P/A"), repo("C/P/B"));
    let generation = f.store.generation().unwrap();
    let ids = f
        .store
        .repository_ids(&[a.clone(), b.clone(), repo("c/p/a")])
        .unwrap();
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids[0], ids[2], "names mean the same in any case");
    assert_eq!(
        f.store.generation().unwrap(),
        generation,
        "no decision depends on an id"
    );
    assert_eq!(
        f.other().repository_ids(&[b.clone(), a.clone()]).unwrap(),
        [ids[1], ids[0]]
    );
    assert_eq!(f.store.find_repository(ids[0]).unwrap(), Some(a.clone()));
    assert_eq!(f.store.find_repository(Uuid::nil()).unwrap(), None);

    f.store
        .rename_repository(&CLI, &a, &repo("C/Q/New"), nothing())
        .unwrap();
    assert_eq!(f.store.find_repository(ids[0]).unwrap(), Some(repo("C/Q/New")));
    assert_ne!(
        f.store.repository_ids(std::slice::from_ref(&a)).unwrap()[0],
        ids[0]
    );
    f.store
        .rename_repository(&CLI, &repo("C/Q/New"), &repo("C/Q/NEW"), nothing())
        .unwrap();
    assert_eq!(f.store.find_repository(ids[0]).unwrap(), Some(repo("C/Q/NEW")));
    f.store
        .rename_repository(&CLI, &repo("C/Q/NEW"), &b, nothing())
        .unwrap();
    assert_eq!(
        f.store.repository_ids(std::slice::from_ref(&b)).unwrap(),
        [ids[0]]
    );
    assert_eq!(f.store.find_repository(ids[1]).unwrap(), None);

    f.store.delete_repository(&CLI, &b, nothing()).unwrap();
    assert_eq!(f.store.find_repository(ids[0]).unwrap(), None);
    assert_ne!(f.store.repository_ids(&[b]).unwrap(), [ids[0]]);
    assert!(f.store.repository_ids(&[]).unwrap().is_empty());
}

#[test]
fn what_ends_with_an_account_is_told_and_its_name_means_nobody_any_more() {
    let f = fixture();
    let (bob, eve) = (f.account("Bob"), f.account("eve"));
    let count = 1100;
    for number in 0..count {
        f.token(&bob, &format!("{number:0>8}"));
    }
    f.store
        .revoke_token(&CLI, &token_id("00000007"), RevokeReason::Leaked)
        .unwrap();
    f.token(&eve, "EEEEEEEE");
    let password = PasswordHash::new("$argon2id$x".to_owned());
    f.store
        .set_alternate_credential(&CLI, "bob", "bobby", &password)
        .unwrap();
    for (collection, value) in [
        (None, "administrators, bob, eve"),
        (Some("C"), "BOB"),
        (Some("D"), "bobby"),
    ] {
        f.store.set_policy(&CLI, collection, "creation", value).unwrap();
    }
    let generation = f.store.generation().unwrap();
    f.store.delete_account(&root(), "bob").unwrap();
    assert_ne!(f.store.generation().unwrap(), generation);
    assert_eq!(f.store.tokens(None).unwrap().len(), 1, "those of others stay");

    assert_eq!(f.events_count("token.revoke"), count, "each of them once");
    let of_one = AuditFilter {
        token: Some(token_id("00000042")),
        ..AuditFilter::latest(1)
    };
    let event = f.store.audit_events(&of_one).unwrap().remove(0);
    assert_eq!(
        (event.actor, event.details),
        (
            root(),
            json!({ "account": "Bob", "name": "laptop", "because": "account-deleted" })
        )
    );
    let removed = f.events("alternate-credential.remove").remove(0);
    assert_eq!(
        (removed.subject.as_str(), &removed.details["name"]),
        ("Bob", &json!("bobby"))
    );
    let values: Vec<String> = f
        .store
        .policies()
        .unwrap()
        .into_iter()
        .map(|policy| policy.value)
        .collect();
    assert_eq!(values, ["administrators, eve", "nobody", "bobby"]);
    let of_policies = AuditFilter {
        actions: vec![AuditAction::PolicySet],
        ..AuditFilter::latest(2)
    };
    let changes: Vec<String> = f
        .store
        .audit_events(&of_policies)
        .unwrap()
        .iter()
        .rev()
        .map(|event| format!("{}: {}", event.subject, event.details["to"]))
        .collect();
    assert_eq!(changes, ["/: \"administrators, eve\"", "C: \"nobody\""]);
    let last = f.event();
    assert_eq!(
        (last.action.as_str(), &last.details["tokens"]),
        ("account.delete", &json!(count))
    );
}
