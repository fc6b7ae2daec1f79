mod token;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use clap::{CommandFactory as _, Parser as _};
use serde_json::Value;

use super::args::{Cli, dispatch};
use super::output::{CliError, Console};
use crate::auth::token::PlainToken;
use crate::store::{Actor, NewAccount, Store};

/// A stream that keeps what is written.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A stream whose reader has gone.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A data directory with the account bob.
struct Fixture {
    data_dir: PathBuf,
    _directory: tempfile::TempDir,
}

/// What a command did.
#[derive(Debug)]
struct Outcome {
    status: u8,
    stdout: String,
    stderr: String,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let f = Fixture {
        data_dir: directory.path().join("data"),
        _directory: directory,
    };
    let new = NewAccount {
        name: "bob",
        password: None,
        is_admin: false,
        must_change_password: false,
    };
    f.store().create_account(&Actor::CommandLine, &new).unwrap();
    f
}

impl Fixture {
    fn store(&self) -> Store {
        Store::open(&self.data_dir.join("patgate.db")).unwrap()
    }

    fn run_with(&self, args: &[&str], console: &mut Console) -> Result<(), CliError> {
        let last = ["--data-dir", self.data_dir.to_str().unwrap()];
        let words = ["patgate"].iter().chain(args).chain(&last);
        match Cli::try_parse_from(words) {
            Ok(cli) => dispatch(cli, console),
            Err(error) => Err(CliError::usage(error)),
        }
    }

    fn run(&self, args: &[&str]) -> Outcome {
        let (stdout, stderr) = (Captured::default(), Captured::default());
        let mut console = Console::new(Box::new(stdout.clone()), Box::new(stderr.clone()));
        let status = match self.run_with(args, &mut console) {
            Ok(()) => 0,
            Err(error) => {
                error.print(&mut console);
                error.status()
            }
        };
        Outcome {
            status,
            stdout: stdout.text(),
            stderr: stderr.text(),
        }
    }

    #[track_caller]
    fn done(&self, args: &[&str]) -> Outcome {
        let outcome = self.run(args);
        assert_eq!(outcome.status, 0, "{args:?}: {outcome:?}");
        outcome
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.done(args).stdout).unwrap()
    }

    fn token(&self) -> PlainToken {
        let outcome = self.done(&[
            "token", "create", "--user", "bob", "--name", "laptop", "--scope", "vso.code",
        ]);
        PlainToken::parse(outcome.stdout.trim_end()).unwrap()
    }
}

#[test]
fn the_definitions_of_the_commands_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn a_created_token_is_all_that_stdout_gets() {
    let f = fixture();
    let outcome = f.done(&[
        "token",
        "create",
        "--user",
        "BOB",
        "--name",
        "laptop",
        "--scope",
        "vso.code_write",
    ]);
    let plain = PlainToken::parse(outcome.stdout.strip_suffix('\n').unwrap()).unwrap();
    let (token, account) = f.store().find_token_by_hash(&plain.hash()).unwrap().unwrap();
    assert_eq!((account.name.as_str(), token.name.as_str()), ("bob", "laptop"));
    let days = token.expires_at.duration_since(token.created_at).as_hours() / 24;
    assert_eq!(days, 90);
    assert!(!outcome.stderr.contains(plain.expose()));
    assert!(
        outcome.stderr.contains(&format!("token 'laptop' ({})", token.id)),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains("patgate access grant 'bob' reader"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_rotated_token_has_another_secret_and_the_same_id() {
    let f = fixture();
    let old = f.token();
    let id = old.id().unwrap().to_string();
    let outcome = f.done(&["token", "rotate", &id]);
    let new = PlainToken::parse(outcome.stdout.trim_end()).unwrap();
    assert_eq!(new.id().unwrap().as_str(), id);
    assert!(f.store().find_token_by_hash(&old.hash()).unwrap().is_none());
}

#[test]
fn a_whole_token_stands_for_its_id_and_is_not_repeated() {
    let f = fixture();
    let plain = f.token();
    let id = plain.id().unwrap();
    assert_eq!(
        f.json(&["token", "show", plain.expose(), "--json"])["id"],
        id.as_str()
    );
    let outcome = f.done(&["token", "revoke", plain.expose()]);
    assert!(!outcome.stderr.contains(plain.expose()), "{}", outcome.stderr);
    assert!(f.store().find_token(&id).unwrap().unwrap().revoked_at.is_some());
}

#[test]
fn keys_in_json_are_lower_case_with_underscores() {
    fn check(value: &Value) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| {
                assert!(key.chars().all(|c| c == '_' || c.is_ascii_lowercase()), "{key}");
                check(value);
            }),
            Value::Array(all) => all.iter().for_each(check),
            _ => {}
        }
    }
    let f = fixture();
    let repos = f.data_dir.join("repos");
    let repos = repos.to_str().unwrap();
    f.token();
    f.done(&["repo", "create", "P/R", "--public", "--repos", repos]);
    f.done(&["token", "rule", "add", "--any-scope", "--before", "2020-01-01"]);
    for words in [
        &["user", "list"][..],
        &["access", "list"],
        &["repo", "list", "--repos", repos],
        &["token", "list"],
        &["token", "scopes"],
        &["policy", "list"],
        &["token", "rule", "list"],
        &["audit", "list"],
        &["repo", "fsck", "P/R", "--repos", repos],
    ] {
        let all = f.json(&[words, &["--json"]].concat());
        assert_ne!(all, Value::Array(Vec::new()), "{words:?}");
        check(&all);
    }
}

#[test]
fn scopes_are_listed_with_what_each_operation_needs() {
    let f = fixture();
    let all = f.json(&["token", "scopes", "--json"]);
    assert_eq!(
        all["scopes"].as_array().unwrap().len(),
        crate::auth::scope::ALL.len()
    );
    let operations = all["operations"].as_array().unwrap();
    let push = operations.iter().find(|row| row["operation"] == "push").unwrap();
    assert_eq!(push["one_of"], serde_json::json!(["vso.code_write"]));
    let text = f.done(&["token", "scopes"]).stdout;
    let line = |start: &str| {
        text.lines()
            .find(|line| line.split_whitespace().next() == Some(start))
            .unwrap_or_else(|| panic!("{start}: {text}"))
    };
    assert!(line("vso.code_write").contains("Code (read and write)"));
    assert!(line("vso.code_write").contains("  yes  "));
    assert!(line("discover").contains("any live token"));
    assert!(line("read-audit-log").contains("vso.auditlog"));
}

#[test]
fn a_token_that_nobody_could_read_is_reported() {
    let f = fixture();
    let stderr = Captured::default();
    let mut console = Console::new(Box::new(Closed), Box::new(stderr.clone()));
    let words = [
        "token", "create", "--user", "bob", "--name", "laptop", "--scope", "vso.code",
    ];
    let error = f.run_with(&words, &mut console).unwrap_err();
    error.print(&mut console);
    assert_eq!(error.status(), 1);
    let id = f.store().tokens(None).unwrap().remove(0).id;
    assert!(
        stderr.text().contains(&format!("patgate token revoke {id}")),
        "{}",
        stderr.text()
    );
}

#[test]
fn a_list_that_nobody_reads_to_its_end_is_no_failure() {
    let f = fixture();
    let stderr = Captured::default();
    let mut console = Console::new(Box::new(Closed), Box::new(stderr.clone()));
    for words in [
        &["user", "list"][..],
        &["user", "list", "--json"],
        &["man"],
        &["completions", "bash"],
    ] {
        let error = f.run_with(words, &mut console).unwrap_err();
        error.print(&mut console);
        assert_eq!(error.status(), 0, "{words:?}");
    }
    assert_eq!(stderr.text(), "");
}

#[test]
fn a_token_goes_through_its_life() {
    let f = fixture();
    let id = f.token().id().unwrap().to_string();
    f.done(&[
        "token",
        "update",
        &id,
        "--name",
        "desk",
        "--scope",
        "vso.work vso.code",
        "--expires",
        "10d",
    ]);
    let shown = f.json(&["token", "show", &id, "--json"]);
    assert_eq!(shown["name"], "desk");
    assert_eq!(shown["scopes"], serde_json::json!(["vso.code", "vso.work"]));
    assert_eq!(shown["state"], "active");
    assert!(shown["last_used_at"].is_null());
    f.done(&["token", "revoke", &id]);
    assert_eq!(f.json(&["token", "list", "--json"])[0]["state"], "revoked");
    assert!(
        f.done(&["token", "list", "--user", "bob"])
            .stdout
            .contains("revoked")
    );
    assert!(f.done(&["token", "show", &id]).stdout.contains("REVOKED"));
    let again = f.run(&["token", "update", &id, "--name", "x"]);
    assert_eq!(again.status, 1);
    assert!(again.stderr.contains("is revoked\nhint: "), "{}", again.stderr);
}

#[test]
fn wrong_usage_is_told_apart_from_refusals() {
    let f = fixture();
    let create =
        |rest: &[&str]| f.run(&[&["token", "create", "--user", "bob", "--name", "x"], rest].concat());
    assert_eq!(create(&[]).status, 2, "no scope");
    let outcome = create(&["--scope", "vso.codes"]);
    assert_eq!(outcome.status, 2);
    assert!(
        outcome
            .stderr
            .contains("error: there is no scope 'vso.codes'\nhint: 'patgate token scopes'")
    );
    let outcome = create(&["--scope", "vso.code", "--expires", "366d"]);
    assert_eq!(outcome.status, 2);
    assert!(
        outcome
            .stderr
            .contains("at most 365 days: give '365d' or a date up to 20"),
        "{}",
        outcome.stderr
    );
    assert_eq!(
        f.run(&["token", "update", "AAAAAAAA"]).status,
        2,
        "nothing to change"
    );
    assert_eq!(f.run(&["token", "show", "short"]).status, 2);
    assert_eq!(f.run(&["token", "show", "AAAAAAAA"]).status, 1);
    assert_eq!(f.run(&["access", "grant", "bob", "owner"]).status, 2);
    assert_eq!(f.run(&["access", "grant", "bob", "reader", "a/b/c/d"]).status, 2);
    assert_eq!(f.run(&["access", "grant", "eve", "reader"]).status, 1);
    assert_eq!(f.run(&["user", "disable", "eve"]).status, 1);
    assert_eq!(f.run(&["nonsense"]).status, 2);
    assert!(f.store().tokens(None).unwrap().is_empty());
}

#[test]
fn accounts_are_listed_disabled_enabled_and_deleted() {
    let f = fixture();
    f.done(&["user", "disable", "bob"]);
    assert_eq!(f.json(&["user", "list", "--json"])[0]["disabled"], true);
    assert!(f.done(&["user", "list"]).stdout.contains("disabled"));
    let refused = f.run(&[
        "token", "create", "--user", "bob", "--name", "x", "--scope", "vso.code",
    ]);
    assert_eq!(refused.status, 1);
    assert!(
        refused
            .stderr
            .contains("hint: enable it with: patgate user enable 'bob'"),
        "{}",
        refused.stderr
    );
    f.done(&["user", "enable", "BOB"]);
    assert_eq!(f.json(&["user", "list", "--json"])[0]["disabled"], false);
    f.done(&["user", "delete", "bob", "--yes"]);
    assert_eq!(f.json(&["user", "list", "--json"]), serde_json::json!([]));
    let empty = f.done(&["user", "list"]);
    assert_eq!(empty.stdout, "");
    assert!(empty.stderr.contains("patgate user add NAME"));
}

#[test]
fn it_is_said_when_the_last_administrator_goes() {
    const WARNING: &str = "no account is left that administers the server";
    let f = fixture();
    let root = NewAccount {
        name: "root",
        password: None,
        is_admin: true,
        must_change_password: false,
    };
    f.store().create_account(&Actor::CommandLine, &root).unwrap();
    let said = |args: &[&str]| f.done(args).stderr.contains(WARNING);
    assert!(!said(&["user", "disable", "bob"]));
    assert!(said(&["user", "disable", "root"]));
    f.done(&["user", "enable", "root"]);
    assert!(said(&["user", "delete", "root", "--yes"]));
}

#[test]
fn words_that_stand_for_several_accounts_name_none() {
    let f = fixture();
    for name in ["everyone", "Nobody", "administrators", "mia,ci"] {
        let new = NewAccount {
            name,
            password: None,
            is_admin: false,
            must_change_password: false,
        };
        let refused = f.store().create_account(&Actor::CommandLine, &new);
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("means something else"), "{name}: {text}");
    }
}

#[test]
fn a_policy_for_a_collection_that_is_not_there_is_said_to_be_one() {
    let f = fixture();
    let repos = f.data_dir.join("repos");
    let repos = repos.to_str().unwrap();
    f.done(&["repo", "create", "Fabrikam/Web/Shop", "--repos", repos]);
    let set = |collection: &str| {
        let args = [
            "policy",
            "set",
            "full-scope",
            "deny",
            "--collection",
            collection,
            "--repos",
            repos,
        ];
        f.done(&args).stderr
    };
    assert!(!set("fabrikam").contains("warning"));
    let told = set("Fabrikan");
    assert!(
        told.contains("warning: there is no collection 'Fabrikan'"),
        "{told}"
    );
    assert!(told.contains("did you mean 'Fabrikam'?"), "{told}");
}

#[test]
fn rights_are_given_listed_and_taken_away() {
    let f = fixture();
    f.done(&["access", "grant", "bob", "administrator"]);
    f.done(&["access", "grant", "bob", "contributor", "C/P"]);
    f.done(&["access", "grant", "everyone", "reader", "C/P/R"]);
    let all = f.json(&["access", "list", "--json"]);
    assert_eq!(
        all,
        serde_json::json!([
            { "user": "bob", "role": "administrator", "path": "/" },
            { "user": "bob", "role": "contributor", "path": "C/P" },
            { "user": null, "role": "reader", "path": "C/P/R" },
        ])
    );
    assert_eq!(
        f.json(&["access", "list", "--user", "everyone", "--json"])
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        f.json(&["access", "list", "--user", "bob", "--json"])
            .as_array()
            .unwrap()
            .len(),
        2
    );
    f.done(&["access", "revoke", "everyone", "c/p/r"]);
    f.done(&["access", "revoke", "bob"]);
    assert_eq!(f.json(&["access", "list", "--json"]).as_array().unwrap().len(), 1);
    let outcome = f.run(&["access", "grant", "everyone", "contributor", "C"]);
    assert_eq!(outcome.status, 1);
    assert!(
        outcome.stderr.contains("everyone can be a reader"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_role_is_told_in_words() {
    let f = fixture();
    for (role, path, words) in [
        (
            "reader",
            "C/P/R",
            "'bob' is now a reader of the repository 'C/P/R': may fetch from it",
        ),
        (
            "contributor",
            "C/P",
            "'bob' is now a contributor of the project 'C/P': may fetch from and push to every repository in it",
        ),
        (
            "administrator",
            "C",
            "'bob' is now an administrator of the collection 'C': may do everything with every repository in it",
        ),
        (
            "contributor",
            "/",
            "'bob' is now a contributor of the whole server: may fetch from and push to every repository on it",
        ),
    ] {
        let told = f.done(&["access", "grant", "bob", role, path]).stderr;
        assert_eq!(told.lines().next(), Some(words));
    }
    let told = f.done(&["access", "grant", "everyone", "reader"]).stderr;
    assert!(
        told.starts_with("everyone is now a reader of the whole server"),
        "{told}"
    );
}

#[test]
fn a_role_on_what_is_not_there_is_given_with_a_warning_that_names_what_may_be_meant() {
    let f = fixture();
    let repos = f.data_dir.join("repos");
    let grant = |path: &str| {
        let outcome = f.done(&[
            "access",
            "grant",
            "bob",
            "reader",
            path,
            "--repos",
            repos.to_str().unwrap(),
        ]);
        let lines: Vec<String> = outcome.stderr.lines().skip(1).map(str::to_owned).collect();
        lines
    };
    assert!(
        grant("Fabrikam/Web/Shop")[0]
            .starts_with("warning: there is no repository 'Fabrikam/Web/Shop' below '")
    );
    assert!(!repos.exists(), "a look makes no directory");
    for path in ["Fabrikam/Web/Shop", "DefaultCollection/Docs/guide"] {
        f.done(&["repo", "create", path, "--repos", repos.to_str().unwrap()]);
    }
    for there in [
        "/",
        "fabrikam",
        "Fabrikam/WEB",
        "fabrikam/web/shop",
        "Fabrikam/Web/Shop.git",
    ] {
        assert_eq!(grant(there), [""; 0], "{there}");
    }
    let root = repos.display();
    for (path, what, when, near) in [
        (
            "Fabrikam/Web/Shpo",
            "repository",
            "as soon as it is made",
            Some("Fabrikam/Web/Shop"),
        ),
        (
            "fabrikan/web",
            "project",
            "for every repository that is made in it",
            Some("Fabrikam/Web"),
        ),
        (
            "Fabirkam",
            "collection",
            "for every repository that is made in it",
            Some("Fabrikam"),
        ),
        // Elsewhere a path without a collection is one in the default collection.
        (
            "Docs/guide",
            "project",
            "for every repository that is made in it",
            Some("DefaultCollection/Docs/guide"),
        ),
        ("Fabrikam/Web/Blog", "repository", "as soon as it is made", None),
        (
            "Northwind",
            "collection",
            "for every repository that is made in it",
            None,
        ),
        ("X", "collection", "for every repository that is made in it", None),
    ] {
        let mut expected = vec![format!(
            "warning: there is no {what} '{path}' below '{root}' yet; the role holds {when}"
        )];
        expected.extend(near.map(|near| {
            format!("hint: did you mean '{near}'? Then take this role away again: patgate access revoke 'bob' '{path}'")
        }));
        assert_eq!(grant(path), expected);
        f.done(&["access", "revoke", "bob", path]);
    }
}

#[test]
fn the_audit_trail_is_listed_newest_first_without_secrets() {
    let f = fixture();
    let plain = f.token();
    f.done(&["access", "grant", "bob", "reader", "C"]);
    let events = f.json(&["audit", "list", "--json"]);
    let actions: Vec<&str> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["access.grant", "token.create", "account.create"]);
    assert_eq!(events[0]["actor"], "command line");
    assert_eq!(
        f.json(&["audit", "list", "--limit", "1", "--json"])
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let table = f.done(&["audit", "list"]).stdout;
    assert_eq!(table.lines().count(), 4);
    assert!(!table.contains(&plain.expose()[12..50]));
}

#[test]
fn the_audit_trail_is_filtered() {
    let f = fixture();
    let plain = f.token();
    f.done(&["access", "grant", "bob", "reader", "C/P"]);
    let actions = |args: &[&str]| -> Vec<String> {
        let events = f.json(&[&["audit", "list", "--json"], args].concat());
        let actions = events
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["action"].as_str().unwrap());
        actions.map(str::to_owned).collect()
    };
    assert_eq!(
        actions(&["--token", plain.expose()]),
        ["token.create"],
        "a whole token stands for its id"
    );
    assert_eq!(actions(&["--repo", "c"]), ["access.grant"]);
    assert_eq!(actions(&["--repo", "C/P/R"]), [""; 0]);
    assert_eq!(
        actions(&["--user", "BOB"]),
        ["access.grant", "token.create", "account.create"]
    );
    assert_eq!(
        actions(&["--action", "token.*,access.grant"]),
        ["access.grant", "token.create"]
    );
    assert_eq!(actions(&["--since", "1h", "--limit", "1"]), ["access.grant"]);
    assert_eq!(actions(&["--until", "1h"]), [""; 0]);
    for (args, says) in [
        (
            ["--action", "token.make\u{7}"],
            "there is no action 'token.make\\u{7}'",
        ),
        (["--since", "soon"], "'soon' is no moment"),
        (["--repo", "a/b/c/d"], "COLLECTION/PROJECT/REPO"),
        (["--token", "short"], "a token id is 8 letters and digits"),
    ] {
        let outcome = f.run(&[&["audit", "list"][..], &args].concat());
        assert_eq!(outcome.status, 2, "{outcome:?}");
        assert!(outcome.stderr.contains(says), "{outcome:?}");
    }
}

#[test]
fn names_reach_no_terminal_unescaped() {
    let f = fixture();
    for words in [
        &["user", "disable", "eve\u{1b}[2J"][..],
        &["access", "grant", "eve\u{1b}[2J", "reader"],
        &["access", "grant", "bob", "reader", "C/\u{1b}[2J"],
        &[
            "token",
            "create",
            "--user",
            "bob",
            "--name",
            "x\u{1b}[2J",
            "--scope",
            "vso.code",
        ],
        &[
            "token",
            "create",
            "--user",
            "bob",
            "--name",
            "x",
            "--scope",
            "vso.\u{1b}[2J",
        ],
    ] {
        let outcome = f.run(words);
        assert_ne!(outcome.status, 0, "{words:?}");
        assert!(!outcome.stderr.contains('\u{1b}'), "{outcome:?}");
    }
}

#[test]
fn a_mistyped_data_directory_is_no_empty_server() {
    let directory = tempfile::tempdir().unwrap();
    let f = Fixture {
        data_dir: directory.path().join("typo"),
        _directory: directory,
    };
    let outcome = f.run(&["user", "list"]);
    assert_eq!(outcome.status, 1);
    assert!(
        outcome.stderr.contains("hint: check --data-dir"),
        "{}",
        outcome.stderr
    );
    assert!(!f.data_dir.exists());
}

#[test]
fn options_for_all_commands_go_before_or_after_their_names() {
    let parse = |words: &[&str]| Cli::try_parse_from(words).unwrap().common.data_dir;
    let expected = Some(PathBuf::from("d"));
    assert_eq!(parse(&["patgate", "--data-dir", "d", "user", "list"]), expected);
    assert_eq!(parse(&["patgate", "user", "--data-dir", "d", "list"]), expected);
    assert_eq!(parse(&["patgate", "user", "list", "--data-dir", "d"]), expected);
}

#[test]
fn completions_and_pages_know_the_commands() {
    let f = fixture();
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            f.done(&["completions", shell]).stdout.contains("set-password"),
            "{shell}"
        );
    }
    assert!(f.done(&["man"]).stdout.contains("patgate"));
    let page = f.done(&["man", "token", "create"]).stdout;
    assert!(
        page.contains("\\-\\-scope") && page.contains("patgate\\-token\\-create"),
        "{page}"
    );
    assert_eq!(f.run(&["man", "nonsense"]).status, 2);
}

#[test]
fn every_command_that_makes_a_list_can_print_json_and_has_help() {
    fn visit(command: &clap::Command, path: &str) {
        let name = command.get_name();
        assert!(command.get_about().is_some(), "{path} {name} has no help");
        if ["list", "show"].contains(&name) && !path.ends_with("repo") {
            assert!(
                command.get_arguments().any(|arg| arg.get_id() == "json"),
                "{path} {name} has no --json"
            );
        }
        for argument in command.get_arguments() {
            assert!(
                argument.get_help().is_some(),
                "{path} {name}: {} has no help",
                argument.get_id()
            );
        }
        for inner in command.get_subcommands() {
            visit(inner, &format!("{path} {name}"));
        }
    }
    visit(&Cli::command(), "");
}

#[test]
fn a_policy_is_explained_set_listed_and_taken_back() {
    let f = fixture();
    let outcome = f.done(&["policy", "set", "max-lifetime", "90d"]);
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("", "'max-lifetime' is now 90 for the whole server\n")
    );
    let outcome = f.done(&["policy", "set", "max-lifetime", "200", "--collection", "Payroll"]);
    assert_eq!(
        outcome.stderr,
        "'max-lifetime' is now 200 for the collection 'Payroll'\n\
         the whole server has 90, which is stricter and counts\n\
         warning: there is no collection 'Payroll' below 'repos' yet; the policy holds as soon as there is\n"
    );
    let outcome = f.done(&["policy", "set", "max-lifetime", "30", "--collection", "payroll"]);
    assert_eq!(
        outcome.stderr,
        "'max-lifetime' is now 30 for the collection 'payroll', instead of 200\n\
         warning: there is no collection 'payroll' below 'repos' yet; the policy holds as soon as there is\n"
    );
    f.done(&["policy", "set", "creation", "administrators, BOB"]);
    let table = f.done(&["policy", "list"]).stdout;
    assert!(
        table.contains("max-lifetime           90                   the whole server\n"),
        "{table}"
    );
    assert!(
        table.contains("30                   the collection 'payroll'\n"),
        "{table}"
    );
    assert!(
        table.contains("administrators, bob  the whole server\n"),
        "{table}"
    );
    assert!(
        table.contains("off                  the whole server (default)\n"),
        "{table}"
    );
    let shown = f.json(&["policy", "show", "max-lifetime", "--json"]);
    assert_eq!(
        (&shown["value"], &shown["is_set"], &shown["default"]),
        (&"90".into(), &true.into(), &"365".into())
    );
    assert_eq!(
        shown["collections"],
        serde_json::json!([{ "collection": "payroll", "value": "30" }])
    );
    let text = f.done(&["policy", "show", "max-lifetime"]).stdout;
    assert!(
        text.contains("SERVER      90") && text.contains("payroll: 30"),
        "{text}"
    );
    let outcome = f.done(&["policy", "unset", "max-lifetime", "--collection", "Payroll"]);
    assert_eq!(
        outcome.stderr,
        "'max-lifetime' was 30 for the collection 'Payroll' and is not set any more: what the whole server has holds \
         there\n"
    );
    let outcome = f.done(&["policy", "unset", "max-lifetime"]);
    assert!(outcome.stderr.contains("365, the default, holds"), "{outcome:?}");
    let events = f.json(&["audit", "list", "--limit", "2", "--json"]);
    assert_eq!(
        (
            &events[0]["action"],
            &events[0]["subject"],
            &events[0]["details"]["policy"]
        ),
        (&"policy.remove".into(), &"/".into(), &"max-lifetime".into())
    );
}

#[test]
fn whoever_lets_unused_tokens_be_revoked_is_told_how_many_end() {
    let f = fixture();
    f.token();
    let outcome = f.done(&["policy", "set", "revoke-unused", "90"]);
    assert_eq!(
        outcome.stderr, "'revoke-unused' is now 90 for the whole server\n",
        "a token that was just made is not one of them"
    );
}

#[test]
fn a_policy_that_makes_no_sense_is_refused_with_what_there_is() {
    let f = fixture();
    let refused = |args: &[&str], status: u8, text: &str| {
        let outcome = f.run(args);
        assert_eq!(outcome.status, status, "{args:?}: {outcome:?}");
        assert!(outcome.stderr.contains(text), "{args:?}: {}", outcome.stderr);
    };
    refused(
        &["policy", "set", "lifetime", "1"],
        2,
        "max-lifetime, full-scope, creation",
    );
    refused(
        &["policy", "set", "max-lifetime", "never"],
        2,
        "error: 'max-lifetime' takes a number of days from 1 to 3650, not 'never'\nhint: 'patgate policy show",
    );
    refused(
        &["policy", "set", "revoke-leaked", "off", "--collection", "C"],
        2,
        "holds for the whole server, and cannot be set for a collection",
    );
    refused(
        &["policy", "set", "full-scope", "deny", "--collection", "a/b"],
        2,
        "the collection 'a/b' holds a character",
    );
    refused(
        &["policy", "set", "creation", "eve"],
        1,
        "there is no account named 'eve'\nhint: 'patgate user list'",
    );
    refused(
        &["policy", "unset", "full-scope"],
        1,
        "the policy 'full-scope' is not set for the whole server\nhint: 'patgate policy list'",
    );
    assert!(f.store().policies().unwrap().is_empty());
}

#[test]
fn the_help_of_policies_explains_each() {
    let mut command = Cli::command();
    let policy = command.find_subcommand_mut("policy").unwrap();
    let help = policy.render_long_help().to_string();
    for policy in crate::auth::policy::ALL {
        assert!(help.contains(&format!("\n  {}\n      ", policy.text)), "{help}");
    }
    let help = help.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        help.contains("Takes a number of days from 1 to 3650; 365 if not set."),
        "{help}"
    );
}

#[test]
fn a_revocation_rule_is_made_listed_and_taken_back() {
    let f = fixture();
    f.token();
    let add = |rest: &[&str]| f.run(&[&["token", "rule", "add"], rest].concat());
    let outcome = add(&["--scope", "vso.work vso.code", "--before", "2020-01-31"]);
    assert_eq!(
        outcome.stderr,
        "rule 1: everything with vso.code or vso.work made before 2020-01-31 00:00 UTC opens nothing from now on; that \
         is 0 live tokens\n"
    );
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let store = f.store();
    let rule = store
        .create_revocation_rule(&Actor::CommandLine, "vso.profile", later)
        .unwrap();
    drop(store);
    let all = f.json(&["token", "rule", "list", "--json"]);
    assert_eq!(all[0]["scopes"], serde_json::json!(["vso.code", "vso.work"]));
    assert_eq!(all[0]["created_before"], "2020-01-31T00:00:00Z");
    assert_eq!(all[1]["id"], rule.id);
    assert!(
        f.done(&["token", "rule", "list"])
            .stdout
            .contains("vso.code vso.work  2020-01-31 00:00 UTC")
    );
    let outcome = f.done(&["token", "rule", "remove", "2"]);
    assert!(
        outcome.stderr.contains("everything with vso.profile"),
        "{outcome:?}"
    );
    assert_eq!(f.run(&["token", "rule", "remove", "2"]).status, 1);
    for wrong in [
        &["--before", "2020-01-31"][..],
        &["--any-scope"],
        &["--any-scope", "--scope", "vso.code", "--before", "now"],
        &["--scope", "vso.codes", "--before", "now"],
        &["--any-scope", "--before", "2999-01-01"],
        &["--any-scope", "--before", "90d"],
    ] {
        assert_eq!(add(wrong).status, 2, "{wrong:?}");
    }
    assert_eq!(f.store().revocation_rules().unwrap().len(), 1);
}

#[test]
fn an_alternate_credential_is_shown_without_its_password_and_removed() {
    let f = fixture();
    let empty = f.done(&["alternate", "show"]);
    assert_eq!(
        (empty.stdout.as_str(), empty.stderr.as_str()),
        (
            "",
            "no account has an alternate credential, which is for the better\n"
        )
    );
    let password = crate::secret::Secret::new("battery staple".to_owned());
    crate::auth::alternate::set(&f.store(), &Actor::CommandLine, "bob", "old ide", &password).unwrap();
    let all = f.json(&["alternate", "show", "--json"]);
    assert_eq!(
        (&all[0]["user"], &all[0]["login"]),
        (&"bob".into(), &"old ide".into())
    );
    assert_eq!(all[0].as_object().unwrap().len(), 3, "{all}");
    assert!(
        f.done(&["alternate", "show", "BOB"])
            .stdout
            .contains("bob   old ide  20")
    );
    assert_eq!(f.run(&["alternate", "show", "eve"]).status, 1);
    let outcome = f.done(&["alternate", "remove", "bob"]);
    assert!(
        outcome.stderr.contains("'old ide' opens nothing from now on"),
        "{outcome:?}"
    );
    let again = f.run(&["alternate", "remove", "bob"]);
    assert_eq!(again.status, 1);
    assert!(
        again.stderr.contains("hint: 'patgate alternate show'"),
        "{again:?}"
    );
    assert_eq!(f.run(&["alternate", "set", "bob"]).status, 2, "no name for it");
}

#[test]
fn the_command_line_is_held_to_the_policies_and_told_what_would_do() {
    let f = fixture();
    f.done(&["policy", "set", "max-lifetime", "30"]);
    f.done(&["policy", "set", "creation", "nobody"]);
    f.done(&["policy", "set", "creation-scopes", "vso.packaging"]);
    let create = |scope: &str, expires: &str| {
        f.run(&[
            "token",
            "create",
            "--user",
            "bob",
            "--name",
            "x",
            "--scope",
            scope,
            "--expires",
            expires,
        ])
    };
    let outcome = create("vso.code", "30d");
    assert_eq!(outcome.status, 1);
    assert_eq!(
        outcome.stderr,
        "error: this server lets tokens be made with these scopes only: vso.packaging\nhint: 'patgate policy list' \
         shows what holds\n"
    );
    let outcome = create("vso.packaging", "31d");
    assert_eq!(outcome.status, 2);
    assert!(
        outcome
            .stderr
            .contains("this server lets a token live at most 30 days: give '30d' or a date up to 20"),
        "{}",
        outcome.stderr
    );
    assert_eq!(create("vso.packaging", "30d").status, 0);
}
