//! Tokens as people live with them.

use serde_json::json;

use super::*;
use crate::names::RepoPath;
use crate::store::{RevokeReason, TokenUse};

impl Fixture {
    /// Makes a token of bob with further flags and returns its id.
    #[track_caller]
    fn token_with(&self, flags: &[&str]) -> String {
        let words = [
            "token", "create", "--user", "bob", "--name", "ci", "--scope", "vso.code",
        ];
        let outcome = self.done(&[&words, flags].concat());
        let plain = PlainToken::parse(outcome.stdout.trim_end()).unwrap();
        plain.id().unwrap().to_string()
    }

    fn limits(&self, id: &str) -> Value {
        self.json(&["token", "show", id, "--json"])["limits"].clone()
    }
}

#[test]
fn a_token_is_made_with_limits_and_shows_them() {
    let f = fixture();
    let flags = [
        "--repo",
        "Fabrikam/Web",
        "Docs",
        "--ref",
        "refs/heads/ci/*",
        "--network",
        "10.0.0.0/8",
        "--network",
        "::1",
    ];
    let id = f.token_with(&flags);
    let limits = json!({
        "paths": ["Fabrikam/Web", "Docs"],
        "refs": ["refs/heads/ci/*"],
        "networks": ["10.0.0.0/8", "::1/128"],
    });
    assert_eq!(f.limits(&id), limits);
    assert_eq!(f.json(&["token", "list", "--json"])[0]["limits"], limits);
    let text = f.done(&["token", "show", &id]).stdout;
    for line in [
        "ONLY IN    Fabrikam/Web",
        "ONLY TO    refs/heads/ci/*",
        "ONLY FROM  ::1/128",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let list = f.done(&["token", "list"]).stdout;
    assert!(list.contains("2 repositories, 1 refs, 2 networks"), "{list}");
    let free = f.token_with(&[]);
    assert_eq!(
        f.limits(&free),
        json!({ "paths": [], "refs": [], "networks": [] })
    );
}

#[test]
fn a_limit_that_is_not_there_is_warned_about_and_no_more() {
    let f = fixture();
    let repos = f.data_dir.join("repos");
    let repos = repos.to_str().unwrap();
    f.done(&["repo", "create", "C/P/R", "--repos", repos]);
    let words = [
        "token", "create", "--user", "bob", "--name", "ci", "--scope", "vso.code", "--repos", repos,
        "--repo", "c/p/r", "C2/P", "D",
    ];
    let outcome = f.done(&words);
    let warnings: Vec<&str> = outcome
        .stderr
        .lines()
        .filter(|line| line.starts_with("warning: "))
        .collect();
    assert_eq!(warnings.len(), 2, "{outcome:?}");
    assert!(warnings[0].contains("'C2/P'") && warnings[1].contains("'D'"));
    let missing = f.data_dir.join("nowhere");
    let outcome = f.done(&[
        "token",
        "update",
        &outcome.stdout[4..12],
        "--repo",
        "C/P/R",
        "--repos",
        missing.to_str().unwrap(),
    ]);
    assert!(outcome.stderr.contains("warning: "));
    assert!(!missing.exists(), "a look makes no folder");
}

#[test]
fn an_update_replaces_the_limits_that_it_names_and_leaves_the_others() {
    let f = fixture();
    let id = f.token_with(&["--repo", "C", "--ref", "refs/heads/a", "--network", "10.0.0.0/8"]);
    let update = |flags: &[&str]| {
        f.done(&[&["token", "update", &id], flags].concat());
        let limits = f.limits(&id);
        let list = |field: &str| {
            let entries = limits[field].as_array().unwrap().iter();
            entries
                .map(|entry| entry.as_str().unwrap())
                .collect::<Vec<_>>()
                .join(" ")
        };
        [list("paths"), list("refs"), list("networks")]
    };
    assert_eq!(
        update(&["--repo", "D", "E/P"]),
        ["D E/P", "refs/heads/a", "10.0.0.0/8"]
    );
    assert_eq!(
        update(&["--network", "::1", "--ref", "refs/tags/*"]),
        ["D E/P", "refs/tags/*", "::1/128"]
    );
    assert_eq!(update(&["--name", "other"]), ["D E/P", "refs/tags/*", "::1/128"]);
    assert_eq!(
        update(&["--no-limits", "--network", "10.0.0.0/8"]),
        ["", "", "10.0.0.0/8"]
    );
    assert_eq!(update(&["--no-limits"]), ["", "", ""]);
}

#[test]
fn limits_that_make_no_sense_are_refused_by_their_flag() {
    let f = fixture();
    let refused = |flags: &[&str]| {
        let words = [
            "token", "create", "--user", "bob", "--name", "ci", "--scope", "vso.code",
        ];
        let outcome = f.run(&[&words, flags].concat());
        assert_eq!(outcome.status, 2, "{flags:?}: {outcome:?}");
        outcome.stderr
    };
    for (flags, expected) in [
        (&["--repo", "a/b/c/d"][..], "error: --repo: the path 'a/b/c/d'"),
        (&["--repo", ""], "error: --repo: the whole server is no limit"),
        (
            &["--repo", "C", "c/p"],
            "error: --repo: the limit 'c/p' lies in 'C'",
        ),
        (&["--ref", "main"], "error: --ref: 'main' is no ref pattern"),
        (&["--network", "10.0.0.1/8"], "error: --network: the network"),
        (
            &["--network", "example.org"],
            "error: --network: 'example.org' is no network",
        ),
        (&["--repo"], "--repo <PATH>"),
    ] {
        let text = refused(flags);
        assert!(text.contains(expected), "{flags:?}: {text}");
    }
    assert!(f.store().tokens(None).unwrap().is_empty());
    let id = f.token_with(&["--repo", "C"]);
    let outcome = f.run(&["token", "update", &id, "--repo", "/"]);
    assert_eq!(outcome.status, 2);
    assert_eq!(f.limits(&id)["paths"], json!(["C"]));
}

#[test]
fn what_is_wrong_with_a_token_is_told_by_what_it_is() {
    let f = fixture();
    let long = "x".repeat(10_000);
    let create = |name: &str, scope: &str, expires: &str| {
        let outcome = f.run(&[
            "token",
            "create",
            "--user",
            "bob",
            "--name",
            name,
            "--scope",
            scope,
            "--expires",
            expires,
        ]);
        assert_ne!(outcome.status, 0, "{name:?} {scope:?} {expires:?}");
        assert!(
            outcome.stderr.len() < 1000 && !outcome.stderr.contains('\u{1b}'),
            "{}",
            outcome.stderr
        );
        outcome.stderr
    };
    assert!(create("", "vso.code", "1d").contains("error: the name '' is empty"));
    assert!(create(&long, "vso.code", "1d").contains("is longer than 128 bytes"));
    assert!(create("a\u{1b}[2J", "vso.code", "1d").contains("error: the name 'a\\u{1b}[2J' holds a control"));
    assert!(create("x", &long, "1d").contains("error: there is no scope 'xxx"));
    assert!(create("x", " ", "1d").contains("error: a token needs at least one scope"));
    assert!(create("x", "vso.code", "2020-01-01").contains("error: the expiry has passed already"));
    assert!(create("x", "vso.code", "400d").contains("at most 365 days"));
    assert!(create("x", "vso.code", "2999-01-01").contains("at most 365 days"));
    assert!(create("x", "vso.code", "2027-02-30").contains("error: the expiry is a number of days"));
    assert!(create("x", "vso.code", &long).contains("error: the expiry is a number of days"));
    assert!(f.store().tokens(None).unwrap().is_empty());
}

#[test]
fn presets_and_dates_are_the_end_of_a_token_and_ninety_days_the_default() {
    let f = fixture();
    let days = |flags: &[&str]| {
        let id = f.token_with(flags);
        let shown = f.json(&["token", "show", &id, "--json"]);
        let time = |field: &str| shown[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        time("expires_at").duration_since(time("created_at")).as_secs() / 86_400
    };
    assert_eq!(days(&[]), 90);
    for preset in ["30", "60", "90", "180", "365"] {
        assert_eq!(
            days(&["--expires", &format!("{preset}d")]),
            preset.parse::<i64>().unwrap()
        );
    }
}

#[test]
fn tokens_are_listed_by_their_state() {
    let f = fixture();
    let (active, expired, revoked) = (f.token_with(&[]), f.token_with(&[]), f.token_with(&[]));
    f.done(&["token", "revoke", &revoked, "--because", "leaked"]);
    let past = crate::store::TokenChange {
        expires_at: Some("2020-01-01T00:00:00Z".parse().unwrap()),
        ..Default::default()
    };
    f.store()
        .update_token(&Actor::CommandLine, &expired.parse().unwrap(), &past)
        .unwrap();
    let ids = |flags: &[&str]| -> Vec<String> {
        let all = f.json(&[&["token", "list", "--json"], flags].concat());
        all.as_array()
            .unwrap()
            .iter()
            .map(|token| token["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = [active.clone(), expired.clone(), revoked.clone()];
    assert_eq!(ids(&[]), all);
    assert_eq!(ids(&["--all"]), all);
    assert_eq!(ids(&["--active"]), [active]);
    assert_eq!(ids(&["--expired"]), [expired]);
    assert_eq!(ids(&["--revoked", "--user", "BOB"]), all[2..]);
    assert_eq!(
        f.run(&["token", "list", "--active", "--revoked"]).status,
        2,
        "one at a time"
    );
    assert!(f.done(&["token", "list"]).stdout.contains("revoked (leaked)"));
    let shown = f.done(&["token", "show", &revoked]).stdout;
    assert!(
        shown.contains("UTC because it was found where others could read it"),
        "{shown}"
    );
    assert_eq!(
        f.json(&["token", "show", &revoked, "--json"])["revoked_because"],
        "leaked"
    );
}

#[test]
fn tokens_that_open_nothing_for_a_rule_or_their_owner_are_not_active() {
    let f = fixture();
    let id = f.token_with(&[]);
    let count = |flag: &str| {
        let listed = f.json(&["token", "list", flag, "--json"]);
        listed.as_array().unwrap().len()
    };
    let state = || {
        let shown = f.json(&["token", "show", &id, "--json"]);
        (shown["state"].clone(), shown["revoked_by_rule_of"].is_string())
    };
    assert_eq!((count("--active"), state()), (1, (json!("active"), false)));

    f.done(&["user", "disable", "bob"]);
    assert_eq!((count("--active"), count("--revoked"), count("--all")), (0, 0, 1));
    assert_eq!(state(), (json!("owner disabled"), false));
    assert!(f.done(&["token", "list"]).stdout.contains("owner disabled"));
    f.done(&["user", "enable", "bob"]);
    assert_eq!(count("--active"), 1);

    // Not 'now': what is meant is whole seconds, and the token was made in this one.
    f.store()
        .create_revocation_rule(&Actor::CommandLine, "vso.code", jiff::Timestamp::MAX)
        .unwrap();
    assert_eq!((count("--active"), count("--revoked")), (0, 1));
    assert_eq!(state(), (json!("revoked"), true));
    for words in [&["token", "list"][..], &["token", "show", &id]] {
        let text = f.done(words).stdout;
        assert!(text.contains("revoked (rule of 20"), "{text}");
    }
}

#[test]
fn all_tokens_of_one_account_are_revoked_together() {
    let f = fixture();
    let (first, second) = (f.token_with(&[]), f.token_with(&[]));
    f.done(&["token", "revoke", &first]);
    for words in [
        &["token", "revoke"][..],
        &["token", "revoke", "--all"],
        &["token", "revoke", "--user", "bob"],
        &["token", "revoke", &second, "--all", "--user", "bob"],
        &["token", "revoke", &second, "--because", "reuse"],
        &["token", "revoke", &second, "--because", "whim"],
    ] {
        assert_eq!(f.run(words).status, 2, "{words:?}");
    }
    assert_eq!(
        f.run(&["token", "revoke", "--all", "--user", "eve", "--yes"])
            .status,
        1
    );
    let outcome = f.done(&["token", "revoke", "--all", "--user", "bob", "--yes"]);
    assert_eq!(outcome.stderr, "1 token of 'bob' is revoked\n");
    let reasons: Vec<Option<RevokeReason>> = f
        .store()
        .tokens(None)
        .unwrap()
        .iter()
        .map(|token| token.revoked_because)
        .collect();
    assert_eq!(reasons, [Some(RevokeReason::Administrator); 2]);
    let none = f.json(&["token", "revoke", "--all", "--user", "bob", "--yes", "--json"]);
    assert_eq!(none, json!([]));
}

#[test]
fn what_prints_a_token_prints_it_in_json_as_well() {
    let f = fixture();
    let made = f.json(&[
        "token", "create", "--user", "bob", "--name", "ci", "--scope", "vso.code", "--json",
    ]);
    let plain = PlainToken::parse(made["token"].as_str().unwrap()).unwrap();
    assert_eq!(made["id"], plain.id().unwrap().as_str());
    let id = made["id"].as_str().unwrap();
    let updated = f.json(&["token", "update", id, "--name", "desk", "--json"]);
    assert_eq!(
        (&updated["name"], &updated["token"]),
        (&json!("desk"), &Value::Null)
    );
    let rotated = f.json(&["token", "rotate", id, "--overlap", "2h", "--json"]);
    let new = PlainToken::parse(rotated["token"].as_str().unwrap()).unwrap();
    let found = f.store().find_token_by_hash(&new.hash()).unwrap().unwrap().0;
    assert_eq!(
        (found.name.as_str(), rotated["rotated_at"].is_string()),
        ("desk", true)
    );
    let revoked = f.json(&["token", "revoke", id, "--json"]);
    assert_eq!(revoked["state"], "revoked");
}

#[test]
fn a_rotation_can_leave_the_old_secret_for_a_while() {
    let f = fixture();
    let old = f.token();
    let id = old.id().unwrap().to_string();
    f.done(&["token", "rotate", &id, "--overlap", "1d"]);
    let retired = f.store().find_retired_secret(&old.hash()).unwrap().unwrap();
    let left = retired
        .valid_until
        .unwrap()
        .duration_since(retired.retired_at)
        .as_hours();
    assert_eq!(left, 24);
    for (text, expected) in [
        ("8d", "at most 7 days"),
        ("1w", "a number of minutes, hours or days"),
    ] {
        let outcome = f.run(&["token", "rotate", &id, "--overlap", text]);
        assert_eq!(outcome.status, 2);
        assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
    }
}

#[test]
fn a_token_shows_what_it_was_last_used_for_and_from_where() {
    let f = fixture();
    let id = f.token_with(&[]);
    let uses: Vec<TokenUse> = (1..=7)
        .map(|number| TokenUse {
            id: id.parse().unwrap(),
            at: format!("2026-01-0{number}T10:00:00Z").parse().unwrap(),
            from: [192, 0, 2, number].into(),
            with: Some("git/2.47.3".to_owned()),
            purpose: "push C/P/R".to_owned(),
        })
        .collect();
    f.store().record_token_uses(&uses).unwrap();
    let shown = f.json(&["token", "show", &id, "--json"]);
    assert_eq!(shown["last_used_for"], "push C/P/R");
    assert_eq!(shown["last_used_with"], "git/2.47.3");
    assert_eq!(shown["last_used_from"], "192.0.2.7");
    let addresses = shown["addresses"].as_array().unwrap();
    assert_eq!(addresses.len(), 5);
    assert_eq!(
        addresses[4],
        json!({ "address": "192.0.2.3", "last_used_at": "2026-01-03T10:00:00Z" })
    );
    let text = f.done(&["token", "show", &id]).stdout;
    for line in [
        "FOR        push C/P/R",
        "WITH       git/2.47.3",
        "FROM       192.0.2.7 at 2026-01-07 10:00 UTC",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn limits_follow_a_repository_to_its_new_name_and_outlive_it() {
    let f = fixture();
    let repos = f.data_dir.join("repos");
    let repos = repos.to_str().unwrap();
    f.done(&["repo", "create", "C/P/R", "--repos", repos]);
    let id = f.token_with(&["--repo", "c/p/r", "D", "--repos", repos]);
    f.done(&["repo", "rename", "C/P/R", "C/Q/S", "--repos", repos]);
    assert_eq!(f.limits(&id)["paths"], json!(["D", "C/Q/S"]));
    f.done(&["repo", "delete", "C/Q/S", "--yes", "--repos", repos]);
    assert_eq!(f.limits(&id)["paths"], json!(["D", "C/Q/S"]));
    let token = f.store().find_token(&id.parse().unwrap()).unwrap().unwrap();
    assert!(!token.limits.allow_path(&RepoPath::parse("C/P/R").unwrap()));
}
