//! Microsoft's own clients for Azure DevOps, unmodified: tfx, azure-devops-node-api, and azure-devops for Python.
//!
//! Over TLS, with the authority that the first start makes.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::client::{installed, node, python};
use crate::harness::run::{self, Run};
use crate::harness::{Git, Server, Setup};

/// A server with the repository `DefaultCollection/P/repo`, which has one commit on `main`, and its id.
fn with_repo() -> (Server, String) {
    let git = Git::new();
    let server = Setup::tls().start();
    server.cli().user("anna");
    server.cli().ok(&["access", "grant", "anna", "administrator"]);
    let source = server.work().join("source");
    git.init(&source);
    let tip = git.commit(&source, "file", "text\n");
    server.anonymous().copy(&git, &source, "repo");
    (server, tip)
}

/// Adds what a program in JavaScript or Python needs to know `server`, and `home` as its home.
fn prepare(command: &mut Command, server: &Server, home: &Path) {
    std::fs::create_dir_all(home).unwrap();
    command
        .current_dir(home)
        .env("HOME", home)
        .env("NODE_EXTRA_CA_CERTS", server.ca())
        .env("REQUESTS_CA_BUNDLE", server.ca());
}

fn fresh_home(server: &Server) -> PathBuf {
    server.work().join(format!("home-{}", run::unique()))
}

/// `tfx login`, with a home of its own.
fn tfx_login(server: &Server, path: &str, token: &str) -> Run {
    let mut command = run::command(&installed("node"));
    prepare(&mut command, server, &fresh_home(server));
    command.arg(installed("javascript/node_modules/tfx-cli/_build/tfx-cli.js"));
    command.args([
        "login",
        "--no-prompt",
        "--no-color",
        "--auth-type",
        "pat",
        "--service-url",
    ]);
    command.arg(format!("{}{path}", server.base()));
    command.args(["--token", token]);
    let run = run::run(&mut command, b"");
    run.never_says(token);
    run
}

#[test]
fn tfx_logs_in_with_a_live_token_and_not_with_a_revoked_one() {
    let (server, _) = with_repo();
    let token = server.cli().token("anna", "vso.code");
    for path in ["/DefaultCollection", "/tfs/DefaultCollection", ""] {
        let run = tfx_login(&server, path, &token.text);
        assert!(run.ok().contains("Logged in successfully"), "{run}");
    }
    server.cli().ok(&["token", "revoke", &token.id]);
    for (text, words) in [
        (token.text.as_str(), "revoked"),
        ("not-a-token", "not a personal access token"),
    ] {
        let run = tfx_login(&server, "/DefaultCollection", text);
        let shown = format!("{}{}", run.failed().out(), run.err());
        assert!(
            shown.contains("Invalid credentials") && shown.contains(words),
            "it shows the server's words: {run}"
        );
    }
}

/// Microsoft's library in one language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Library {
    Node,
    Python,
}

/// What a driver printed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    ok: bool,
    value: Value,
    error: String,
    /// The HTTP status of an error; only the library for Node.js tells.
    status: Option<u16>,
}

/// One library with one token at one URL, and a home, in which that for Python keeps what it discovers.
struct Api<'a> {
    library: Library,
    server: &'a Server,
    token: &'a str,
    url: String,
    home: PathBuf,
}

impl Api<'_> {
    fn new<'a>(library: Library, server: &'a Server, token: &'a str) -> Api<'a> {
        Api {
            library,
            server,
            token,
            url: format!("{}/DefaultCollection", server.base()),
            home: fresh_home(server),
        }
    }

    #[track_caller]
    fn call(&self, verb: &str, args: &[&str]) -> Report {
        let mut command = match self.library {
            Library::Node => node("drive_azure_devops.mjs"),
            Library::Python => python("drive_azure_devops.py"),
        };
        prepare(&mut command, self.server, &self.home);
        command
            .args([verb, &self.url])
            .args(args)
            .env("CLIENT_PASSWORD", self.token);
        let run = run::run(&mut command, b"");
        run.never_says(self.token);
        let out = run.ok();
        let line = out.lines().last().unwrap_or_default();
        serde_json::from_str(line)
            .unwrap_or_else(|err| panic!("a driver prints its report, not {err}: {run}"))
    }

    #[track_caller]
    fn value(&self, verb: &str, args: &[&str]) -> Value {
        let report = self.call(verb, args);
        assert!(report.ok, "{:?} {verb} must succeed: {report:?}", self.library);
        report.value
    }

    /// Asserts that the library reports an error that came with `status`, and shows `words`.
    #[track_caller]
    fn fails(&self, verb: &str, args: &[&str], status: u16, words: &str) {
        let report = self.call(verb, args);
        let (words, status) = match self.library {
            // It makes one error of all that are missing.
            Library::Node if status == 404 => ("null", Some(404)),
            Library::Node => (words, Some(status)),
            Library::Python => (words, None),
        };
        assert!(
            !report.ok && report.error.contains(words) && report.status == status,
            "{:?} {verb} must fail with '{words}': {report:?}",
            self.library
        );
    }
}

const PROJECT: &str = "P";

/// Lists projects, repositories and refs; makes, changes and deletes a repository, whose name a URL has to escape.
fn manages_repositories(library: Library) {
    let (server, tip) = with_repo();
    let token = server
        .cli()
        .token("anna", "vso.code_manage vso.project vso.profile");
    let api = Api::new(library, &server, &token.text);
    assert_eq!(api.value("connect", &[]), json!("anna"));
    assert_eq!(api.value("projects", &[]), json!([PROJECT]));
    assert_eq!(api.value("repositories", &[PROJECT]), json!(["repo"]));
    assert_eq!(
        api.value("refs", &[PROJECT, "repo"]),
        json!({ "refs/heads/main": tip })
    );

    let made = api.value("create", &[PROJECT, "Nëw one"]);
    assert_eq!(
        (&made["name"], &made["project"]),
        (&json!("Nëw one"), &json!(PROJECT))
    );
    assert_eq!(api.value("repositories", &[PROJECT]), json!(["Nëw one", "repo"]));
    assert_eq!(api.value("refs", &[PROJECT, "Nëw one"]), json!({}));
    // The URL that the answer names is one that git can use.
    let url = made["remoteUrl"].as_str().unwrap_or_default();
    let url = url.replacen("://", &format!("://anybody:{}@", token.text), 1);
    let git = Git::new();
    let remote = server.remote(&token);
    let source = server.work().join("source");
    remote
        .client(&git)
        .ok(&source, &["push", "--quiet", &url, "main"]);

    let branch = [PROJECT, "Nëw one", "refs/heads/topic/a"];
    let nothing = "0".repeat(40);
    let moved = |old: &str, new: &str| api.value("move", &[&branch[..], &[old, new]].concat());
    assert_eq!(
        moved(&nothing, &tip),
        json!({ "success": true, "status": "succeeded" })
    );
    assert_eq!(
        moved(&nothing, &tip),
        json!({ "success": false, "status": "staleOldObjectId" })
    );
    assert_eq!(
        api.value("refs", &[PROJECT, "Nëw one"]),
        json!({ "refs/heads/main": tip, "refs/heads/topic/a": tip })
    );
    let change = |name: &str, field: &str, value: &str| {
        let changed = api.value("update", &[PROJECT, name, field, value]);
        assert_eq!((&changed["id"], &changed[field]), (&made["id"], &json!(value)));
    };
    change("Nëw one", "defaultBranch", "refs/heads/topic/a");
    change("Nëw one", "name", "other");
    assert_eq!(
        git.ok(&remote.disk("other"), &["symbolic-ref", "HEAD"]),
        "refs/heads/topic/a"
    );

    assert_eq!(api.value("delete", &[PROJECT, "other"]), Value::Null);
    assert_eq!(api.value("repositories", &[PROJECT]), json!(["repo"]));
    api.fails("refs", &[PROJECT, "other"], 404, "TF401019");
    assert!(!remote.disk("other").exists());
    // What it was told of where things are served all of these calls.
    let kept = api.home.join(".azure-devops/python-sdk/cache/options.json");
    assert_eq!(kept.exists(), library == Library::Python);
}

#[test]
fn both_libraries_work_with_every_url_of_a_server() {
    let (server, _) = with_repo();
    let token = server.cli().token("anna", "vso.code");
    for library in [Library::Node, Library::Python] {
        for path in ["", "/tfs/DefaultCollection", "/defaultcollection/"] {
            let mut api = Api::new(library, &server, &token.text);
            api.url = format!("{}{path}", server.base());
            assert_eq!(
                api.value("repositories", &[PROJECT]),
                json!(["repo"]),
                "{library:?}: {path}"
            );
        }
    }
}

#[test]
fn azure_devops_node_api_manages_repositories() {
    manages_repositories(Library::Node);
}

#[test]
fn azure_devops_for_python_manages_repositories() {
    manages_repositories(Library::Python);
}

/// What is refused is told by the server's message, and changes nothing.
fn reports_refusals(library: Library) {
    let (server, _) = with_repo();
    let cli = server.cli();
    let scopes = ["vso.code", "vso.code", "vso.work", "vso.code_manage"];
    let [revoked, read, work, manage] = scopes.map(|scope| cli.token("anna", scope));
    cli.ok(&["token", "revoke", &revoked.id]);
    let with = |token| Api::new(library, &server, token);
    let list = ["repositories", PROJECT];

    with("not-a-token").fails(list[0], &list[1..], 401, "not a personal access token");
    with(&revoked.text).fails(list[0], &list[1..], 401, "revoked");
    with(&work.text).fails(list[0], &list[1..], 403, "vso.code");
    let reader = with(&read.text);
    reader.fails("create", &[PROJECT, "made"], 403, "vso.code_manage");
    reader.fails("delete", &[PROJECT, "repo"], 403, "vso.code_manage");
    reader.fails(
        "update",
        &[PROJECT, "repo", "name", "made"],
        403,
        "vso.code_manage",
    );

    let manager = with(&manage.text);
    manager.fails("refs", &[PROJECT, "missing"], 404, "TF401019");
    manager.fails("repositories", &["missing"], 404, "TF200016");
    manager.fails("create", &[PROJECT, "repo"], 409, "repo");
    manager.fails("create", &[PROJECT, "../up"], 400, "'name'");
    assert_eq!(reader.value(list[0], &list[1..]), json!(["repo"]));
}

#[test]
fn azure_devops_node_api_reports_refusals() {
    reports_refusals(Library::Node);
}

#[test]
fn azure_devops_for_python_reports_refusals() {
    reports_refusals(Library::Python);
}
