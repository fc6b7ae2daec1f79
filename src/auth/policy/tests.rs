use jiff::SignedDuration;

use super::*;
use crate::store::{DATABASE_FILE, NewAccount, Role};

const CLI: Actor = Actor::CommandLine;

fn stored(all: &[(Option<&str>, &str, &str)]) -> Result<Policies, store::Error> {
    let all: Vec<StoredPolicy> = all
        .iter()
        .map(|(collection, name, value)| StoredPolicy {
            collection: collection.map(str::to_owned),
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        })
        .collect();
    Policies::from_stored(&all)
}

#[track_caller]
fn policies(all: &[(Option<&str>, &str, &str)]) -> Policies {
    stored(all).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-11-22T10:30:00Z")
}

fn in_days(days: i64) -> Timestamp {
    now() + SignedDuration::from_hours(24 * days)
}

fn scopes(text: &str) -> Scopes {
    text.parse().unwrap()
}

fn limited(paths: &[&str]) -> TokenLimits {
    TokenLimits {
        paths: paths
            .iter()
            .map(|path| AccessPath::parse(path).unwrap())
            .collect(),
        ..TokenLimits::NONE
    }
}

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join(DATABASE_FILE)).unwrap();
    for (name, is_admin) in [("bob", false), ("root", true)] {
        let new = NewAccount {
            name,
            password: None,
            is_admin,
            must_change_password: false,
        };
        store.create_account(&CLI, &new).unwrap();
    }
    (directory, store)
}

/// Accounts are made by the store alone.
fn accounts() -> (Account, Account) {
    let (_directory, store) = store();
    let find = |name| store.find_account(name).unwrap().unwrap();
    (find("bob"), find("root"))
}

/// A token of bob's that was made `days` days ago.
fn token(days: i64, scopes: &str, expires_at: Timestamp, limits: &TokenLimits) -> Token {
    Token {
        id: "AAAAAAAA".parse().unwrap(),
        account: "bob".to_owned(),
        name: "laptop".to_owned(),
        scopes: scopes.to_owned(),
        created_at: in_days(-days),
        expires_at,
        limits: limits.clone(),
        rotated_at: None,
        revoked_at: None,
        revoked_because: None,
        last_used_at: None,
        last_used_from: None,
        last_used_with: None,
        last_used_for: None,
    }
}

#[track_caller]
fn says(outcome: Result<(), Refusal>, expected: &str) {
    assert_eq!(outcome.unwrap_err().to_string(), expected);
}

#[test]
fn every_policy_has_one_row_and_a_default_that_it_takes() {
    use std::collections::HashSet;

    assert_eq!(
        ALL.iter().map(|policy| policy.text).collect::<HashSet<_>>().len(),
        9
    );
    assert_eq!(
        ALL.iter().map(|policy| policy.name).collect::<HashSet<_>>().len(),
        9
    );
    for policy in ALL {
        assert_eq!(policy.text.parse(), Ok(policy.name));
        assert_eq!(policy.name.policy().text, policy.text);
        let default = Setting::parse(policy.name, policy.default).unwrap();
        assert_eq!(default.name(), policy.name);
        assert_eq!(default.to_string(), policy.default);
        // What the table says is what holds where nothing is set.
        let mut set = Policies::default();
        set.server.apply(default);
        let none = Policies::default();
        let values = |policies: &Policies| {
            let rules = policies.server();
            (
                rules.max_lifetime(),
                rules.allows_full_scope(),
                rules.allows_creation(&accounts().0, scopes("app_token")),
                rules.revoke_unused(),
                rules.revoke_leaked(),
                rules.allow_secret(),
                rules.alternate_credentials(),
                rules.audit_retention(),
            )
        };
        assert_eq!(values(&set), values(&none), "{}", policy.text);
    }
}

#[test]
fn scopes_that_open_everything_are_there() {
    for name in FULL_SCOPES {
        assert!(crate::auth::scope::find(name).is_some(), "{name}");
        assert!(scopes(FULL_SCOPES[0]).includes(name));
    }
}

#[test]
fn values_are_read_and_written_in_one_form() {
    for (name, text, written) in [
        ("max-lifetime", "90", "90"),
        ("max-lifetime", " 90d ", "90"),
        ("max-lifetime", "3650", "3650"),
        ("full-scope", "deny", "deny"),
        ("creation", "everyone", "everyone"),
        ("creation", "nobody", "nobody"),
        ("creation", "Administrators", "administrators"),
        (
            "creation",
            "ci,  Änne,administrators,CI",
            "administrators, ci, Änne",
        ),
        ("creation-scopes", "none", "none"),
        (
            "creation-scopes",
            "vso.work vso.packaging",
            "vso.packaging vso.work",
        ),
        ("revoke-unused", "off", "off"),
        ("revoke-unused", "30d", "30"),
        ("revoke-leaked", "off", "off"),
        ("allow-secret", "contributors", "contributors"),
        ("alternate-credentials", "on", "on"),
        ("audit-retention", "400", "400"),
    ] {
        let setting = Setting::parse(name.parse().unwrap(), text).unwrap();
        assert_eq!(setting.to_string(), written, "{name} {text}");
        assert_eq!(Setting::parse(setting.name(), written), Ok(setting));
    }
}

#[test]
fn what_is_no_name_or_value_is_refused_with_what_there_is() {
    let error = "max-lifetimes".parse::<Name>().unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no policy 'max-lifetimes'; there are max-lifetime, full-scope, creation, creation-scopes, \
         revoke-unused, revoke-leaked, allow-secret, alternate-credentials, audit-retention"
    );
    for (name, value) in [
        ("max-lifetime", "0"),
        ("max-lifetime", "3651"),
        ("max-lifetime", "99999999999999"),
        ("max-lifetime", "-1"),
        ("max-lifetime", "off"),
        ("max-lifetime", "d"),
        ("full-scope", "on"),
        ("creation", ""),
        ("creation", "bob,"),
        ("creation", "bob,everyone"),
        ("creation", "bob\u{1b}[0m"),
        ("creation-scopes", ""),
        ("creation-scopes", "vso.codes"),
        ("revoke-unused", "0"),
        ("revoke-leaked", "yes"),
        ("allow-secret", "everyone"),
        ("alternate-credentials", "ON"),
        ("audit-retention", "forever"),
    ] {
        let name: Name = name.parse().unwrap();
        let error = Setting::parse(name, value).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("'{name}' takes {}, not '", name.policy().values)),
            "{error}"
        );
        assert!(!error.contains('\u{1b}'));
    }
    let many: Vec<String> = (0..=ACCOUNTS_COUNT_MAX)
        .map(|number| format!("a{number}"))
        .collect();
    assert!(Setting::parse(Name::Creation, &many.join(",")).is_err());
}

#[test]
fn of_several_policies_the_strictest_counts() {
    let all = policies(&[
        (None, "max-lifetime", "90"),
        (None, "allow-secret", "contributors"),
        (None, "alternate-credentials", "on"),
        (Some("A"), "max-lifetime", "30"),
        (Some("A"), "revoke-unused", "20"),
        (Some("B"), "max-lifetime", "200"),
        (Some("B"), "full-scope", "deny"),
        (Some("B"), "allow-secret", "nobody"),
        (Some("B"), "alternate-credentials", "off"),
        (Some("B"), "revoke-unused", "off"),
    ]);
    let days = |rules: Rules<'_>| rules.max_lifetime().get();
    assert_eq!(days(all.server()), 90);
    assert_eq!(days(all.for_collection("a")), 30, "case does not matter");
    assert_eq!(days(all.for_collection("B")), 90, "the server's is stricter");
    assert_eq!(days(all.for_collection("C")), 90);
    let both = all.for_limits(&limited(&["B", "a/P", "A/P/R"]));
    assert_eq!((both.max_lifetime().get(), both.allows_full_scope()), (30, false));
    assert_eq!(both.collections.len(), 2, "each counts once");
    assert_eq!(both.allow_secret(), AllowSecret::Nobody);
    assert_eq!(both.revoke_unused(), Days::new(20));
    assert_eq!(
        days(all.for_limits(&limited(&["A", ""]))),
        90,
        "a token for everything is for no collection"
    );
    assert_eq!(days(all.for_limits(&TokenLimits::NONE)), 90);
    assert!(all.for_collection("A").alternate_credentials());
    assert!(!all.for_collection("B").alternate_credentials());
    assert_eq!(all.revoke_unused_min(), Days::new(20));
    assert_eq!(all.server().revoke_unused(), None);
}

#[test]
fn a_collection_cannot_turn_on_what_the_server_does_not() {
    let all = policies(&[
        (Some("A"), "alternate-credentials", "on"),
        (Some("A"), "full-scope", "allow"),
        (Some("A"), "max-lifetime", "3650"),
        (Some("A"), "allow-secret", "contributors"),
        (None, "full-scope", "deny"),
    ]);
    let rules = all.for_collection("A");
    assert!(!rules.alternate_credentials() && !rules.allows_full_scope());
    assert_eq!(rules.max_lifetime(), Days::YEAR);
    assert_eq!(rules.allow_secret(), AllowSecret::Administrators);
}

#[test]
fn a_secret_may_be_pushed_by_those_with_the_role() {
    use AllowSecret::{Administrators, Contributors, Nobody};

    for (who, expected) in [
        (Nobody, [false, false, false]),
        (Administrators, [false, false, true]),
        (Contributors, [false, true, true]),
    ] {
        assert_eq!(Role::ALL.map(|role| who.includes(role)), expected, "{who:?}");
    }
}

#[test]
fn a_token_is_made_only_as_the_server_and_its_collections_let_it() {
    let (bob, root) = accounts();
    let all = policies(&[
        (None, "creation", "administrators"),
        (None, "creation-scopes", "vso.packaging_write"),
        (None, "max-lifetime", "90"),
        (Some("A"), "max-lifetime", "30"),
        (Some("A"), "full-scope", "deny"),
    ]);
    let create = |account: &Account, text: &str, paths: &[&str], days: i64| {
        check_create(&all, account, scopes(text), &limited(paths), in_days(days), now())
    };
    assert_eq!(create(&root, "app_token", &[], 90), Ok(()));
    assert_eq!(create(&root, "vso.code", &["A"], 30), Ok(()));
    assert_eq!(create(&bob, "vso.packaging", &[], 90), Ok(()));
    says(
        create(&bob, "vso.packaging vso.code", &[], 1),
        "this server lets tokens be made for administrators only, and for 'bob' with these scopes: \
         vso.packaging_write",
    );
    says(
        create(&root, "vso.code", &[], 91),
        "this server lets a token live at most 90 days: give '90d' or a date up to 2027-02-20",
    );
    says(
        create(&root, "vso.code", &["B", "a"], 31),
        "the collection 'A' lets a token live at most 30 days: give '30d' or a date up to 2026-12-22",
    );
    says(
        create(&root, "app_token", &["A"], 1),
        "the collection 'A' allows no token with the scope app_token, which opens everything: name the scopes that \
         it needs",
    );
    says(
        create(&root, "vso.code user_impersonation", &["A"], 1),
        "the collection 'A' allows no token with the scope user_impersonation, which opens everything: name the \
         scopes that it needs",
    );
}

#[test]
fn who_may_have_tokens_is_told_to_those_who_may_not() {
    let (bob, root) = accounts();
    let refused = |set: &[(Option<&str>, &str, &str)], account: &Account| {
        check_create(
            &policies(set),
            account,
            scopes("vso.code"),
            &TokenLimits::NONE,
            in_days(1),
            now(),
        )
    };
    assert_eq!(refused(&[(None, "creation", "ci, BOB")], &bob), Ok(()));
    assert_eq!(refused(&[(None, "creation", "everyone")], &bob), Ok(()));
    assert_eq!(
        refused(&[(None, "creation-scopes", "vso.work")], &bob),
        Ok(()),
        "nobody is left out"
    );
    says(
        refused(&[(None, "creation", "ci")], &root),
        "this server lets tokens be made for ci only, and not for 'root'",
    );
    says(
        refused(&[(None, "creation", "nobody")], &root),
        "this server lets no tokens be made",
    );
    says(
        refused(
            &[
                (None, "creation", "nobody"),
                (None, "creation-scopes", "vso.work"),
            ],
            &root,
        ),
        "this server lets tokens be made with these scopes only: vso.work",
    );
}

#[test]
fn a_collection_that_names_fewer_accounts_does_not_borrow_the_servers_exceptions() {
    let (bob, _) = accounts();
    let all = policies(&[
        (None, "creation-scopes", "vso.code"),
        (Some("A"), "creation", "administrators"),
    ]);
    assert!(!all.for_collection("A").allows_creation(&bob, scopes("vso.code")));
    assert!(all.server().allows_creation(&bob, scopes("vso.code")));
}

#[test]
fn a_change_is_held_against_the_policies_as_far_as_it_widens_the_token() {
    let (bob, _) = accounts();
    let all = policies(&[
        (None, "creation", "administrators"),
        (None, "creation-scopes", "vso.packaging"),
        (None, "full-scope", "deny"),
        (None, "max-lifetime", "30"),
    ]);
    let limits = limited(&["C/P"]);
    // It was made before any of this.
    let before = token(10, "app_token", in_days(80), &limits);
    let code = token(10, "vso.code", in_days(15), &limits);
    let change =
        |before: &Token, change: Change<'_>| check_change(&all, &bob, before, &change, before.created_at);
    let scoped = |text: &str| Change {
        scopes: Some(scopes(text)),
        ..Change::default()
    };
    let ending = |end| Change {
        expires_at: Some(end),
        ..Change::default()
    };
    assert_eq!(change(&before, Change::default()), Ok(()));
    assert_eq!(
        change(&before, scoped("vso.code_write")),
        Ok(()),
        "it is less than everything"
    );
    assert_eq!(change(&before, ending(in_days(79))), Ok(()));
    assert_eq!(change(&before, ending(before.expires_at)), Ok(()));
    assert_eq!(change(&code, scoped("vso.code vso.packaging")), Ok(()));
    let refused = change(&code, scoped("vso.code_write")).unwrap_err();
    assert!(matches!(*refused.breach, Breach::Creation { .. }), "{refused}");
    let refused = change(&code, ending(in_days(16))).unwrap_err();
    assert!(
        matches!(*refused.breach, Breach::Creation { .. }),
        "an end that is later is a new token's: {refused}"
    );
    for (paths, is_allowed) in [
        (&["C/P/R"][..], true),
        (&["c/p"], true),
        (&["C/P/R", "C/P/S"], true),
        (&[], false),
        (&["C"], false),
        (&["C/P2"], false),
        (&["C/P/R", "C/Q"], false),
    ] {
        let limits = limited(paths);
        let wanted = Change {
            limits: Some(&limits),
            ..Change::default()
        };
        assert_eq!(change(&code, wanted).is_ok(), is_allowed, "{paths:?}");
    }
}

#[test]
fn limits_are_narrower_only_if_each_of_them_is() {
    let limits = |refs: &[&str], networks: &[&str]| TokenLimits {
        refs: refs.iter().map(|text| RefPattern::parse(text).unwrap()).collect(),
        networks: networks.iter().map(|text| text.parse().unwrap()).collect(),
        ..TokenLimits::NONE
    };
    let wide = limits(&["refs/heads/*"], &["10.0.0.0/8"]);
    assert!(is_narrower(&wide, &wide));
    assert!(is_narrower(&wide, &TokenLimits::NONE));
    assert!(!is_narrower(&TokenLimits::NONE, &wide));
    assert!(is_narrower(
        &limits(&["refs/heads/main"], &["10.1.0.0/16"]),
        &wide
    ));
    assert!(!is_narrower(&limits(&["refs/tags/v1"], &["10.1.0.0/16"]), &wide));
    assert!(!is_narrower(
        &limits(&["refs/heads/main"], &["10.1.0.0/16", "11.0.0.0/16"]),
        &wide
    ));
    assert!(!is_narrower(&limits(&["refs/heads/main"], &[]), &wide));
    assert!(is_narrower(&limited(&["C"]), &limited(&[""])));
}

#[test]
fn an_end_is_bounded_from_the_day_on_which_the_token_got_its_secret() {
    let (bob, _) = accounts();
    let all = policies(&[(None, "max-lifetime", "30")]);
    let ending = |before: &Token, days: i64, made_at: Timestamp| {
        let change = Change {
            expires_at: Some(in_days(days)),
            ..Change::default()
        };
        check_change(&all, &bob, before, &change, made_at)
    };
    let before = token(10, "vso.code", in_days(5), &TokenLimits::NONE);
    assert_eq!(ending(&before, 20, before.created_at), Ok(()));
    says(
        ending(&before, 21, before.created_at),
        "this server lets a token live at most 30 days, and this one has had its secret since 2026-11-12: give a date \
         up to 2026-12-12, or rotate it",
    );
    assert_eq!(
        ending(&before, 30, now()),
        Ok(()),
        "a rotation gives it a new secret"
    );
    assert!(ending(&before, 31, now()).is_err());
    let long = token(10, "vso.code", in_days(60), &TokenLimits::NONE);
    says(
        ending(&long, 61, long.created_at),
        "this server lets a token live at most 30 days, and this one has had its secret since 2026-11-12: rotate it",
    );
}

#[test]
fn an_end_is_clamped_but_never_cut_short() {
    let all = policies(&[(None, "max-lifetime", "30"), (Some("A"), "max-lifetime", "7")]);
    let free = TokenLimits::NONE;
    let clamped = |limits: &TokenLimits, made: i64, before: Option<i64>, wanted: i64| {
        let end = clamp(&all, limits, in_days(made), before.map(in_days), in_days(wanted));
        end.duration_since(now()).as_hours() / 24
    };
    assert_eq!(clamped(&free, 0, None, 10), 10);
    assert_eq!(clamped(&free, 0, None, 300), 30);
    assert_eq!(clamped(&limited(&["A/P"]), 0, None, 300), 7);
    assert_eq!(clamped(&free, -10, Some(5), 300), 20, "from its creation");
    assert_eq!(clamped(&free, -10, Some(60), 300), 60);
    assert_eq!(clamped(&free, -10, Some(60), 40), 40);
    assert_eq!(
        clamp(&all, &free, Timestamp::MAX, None, Timestamp::MAX),
        Timestamp::MAX
    );
    assert_eq!(
        all.server().latest_end(now()),
        in_days(30),
        "what is clamped passes the check"
    );
}

#[test]
fn a_token_in_a_collection_is_held_against_that_collections_policies_alone() {
    let all = policies(&[
        (None, "full-scope", "deny"),
        (None, "max-lifetime", "1"),
        (None, "creation", "nobody"),
        (Some("A"), "max-lifetime", "30"),
        (Some("B"), "full-scope", "deny"),
        (Some("C"), "creation", "administrators, eve"),
        (Some("C"), "creation-scopes", "vso.code"),
        (Some("D"), "creation", "nobody"),
    ]);
    let id = "AAAAAAAA".parse().unwrap();
    let used = |collection: &str, text: &str, days: i64, is_admin| {
        let token = Used {
            name: "laptop",
            id: &id,
            account: "bob",
            is_admin,
            scopes: scopes(text),
            made_at: in_days(-days),
        };
        all.check_use(collection, &token, now())
            .map_err(|barred| barred.to_string())
    };
    assert_eq!(
        used("Other", "app_token", 400, false),
        Ok(()),
        "the server's were for when it was made"
    );
    assert_eq!(used("a", "app_token", 29, false), Ok(()));
    assert_eq!(
        used("a", "app_token", 30, false).unwrap_err(),
        "The collection 'A' takes a token for 30 days after it got its secret, and 'laptop' is older. Give it a new \
         one: patgate token rotate AAAAAAAA"
    );
    assert_eq!(used("B", "vso.code_full", 0, false), Ok(()));
    assert!(
        used("B", "app_token", 0, false)
            .unwrap_err()
            .contains("patgate token update AAAAAAAA --scope")
    );
    assert_eq!(used("C", "vso.code", 0, false), Ok(()));
    assert_eq!(used("C", "vso.code_write", 0, true), Ok(()));
    assert_eq!(
        used("C", "vso.code_write", 0, false).unwrap_err(),
        "The collection 'C' takes tokens of administrators, eve only, and the token 'laptop' belongs to 'bob'. Ask an \
         administrator of this server whether that can change."
    );
    assert!(
        used("D", "vso.code", 0, true)
            .unwrap_err()
            .starts_with("The collection 'D' takes no tokens, such as 'laptop'.")
    );
}

#[test]
fn policies_are_kept_and_read_back() {
    let (_directory, store) = store();
    let put = |collection, name: &str, value: &str| {
        let setting = Setting::parse(name.parse().unwrap(), value).unwrap();
        set(&store, &CLI, collection, &setting)
    };
    assert_eq!(put(None, "max-lifetime", "90d").unwrap(), None);
    assert_eq!(put(None, "max-lifetime", "30").unwrap().as_deref(), Some("90"));
    put(Some("C"), "creation", "BOB, administrators").unwrap();
    let all = Policies::load(&store).unwrap();
    assert_eq!(
        all,
        policies(&[
            (None, "max-lifetime", "30"),
            (Some("C"), "creation", "administrators, bob")
        ])
    );
    assert_eq!(
        unset(&store, &CLI, Some("c"), Name::Creation).unwrap(),
        "administrators, bob"
    );
    assert!(matches!(
        unset(&store, &CLI, Some("c"), Name::Creation),
        Err(Error::Store(store::Error::PolicyNotFound { .. }))
    ));
    assert!(matches!(
        put(None, "creation", "bob, eve"),
        Err(Error::Store(store::Error::AccountNotFound { name })) if name == "eve"
    ));
    assert!(matches!(
        put(Some("C"), "revoke-leaked", "off"),
        Err(Error::ServerOnly(Name::RevokeLeaked))
    ));
    assert!(matches!(
        put(Some("../x"), "max-lifetime", "1"),
        Err(Error::Collection { .. })
    ));
    assert_eq!(store.policies().unwrap().len(), 1, "what is refused is not kept");
}

#[test]
fn what_cannot_be_read_is_no_policy_that_lets_everything_through() {
    assert!(matches!(
        stored(&[(None, "max-lifetime", "soon")]),
        Err(store::Error::Corrupt(_))
    ));
    assert_eq!(
        policies(&[(None, "of-a-newer-patgate", "x")]),
        Policies::default()
    );
}
