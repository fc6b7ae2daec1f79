//! The OpenAPI document against the server, by schemathesis, which makes requests of every operation from it, good and
//! bad ones: no answer is an error of the server, and none has a status, a content type or a body that the document does
//! not name.

use std::path::Path;

use crate::harness::client::installed;
use crate::harness::run;
use crate::harness::{Git, Rest, Server, Setup};

const CHECKS: &str =
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

/// What stands in the paths that are asked for, so that there is something to be asked of.
const WHAT_THERE_IS: &str = r#"
[parameters]
"path.collection" = "DefaultCollection"
"path.project" = "P"
"path.projectId" = "P"
"path.repositoryId" = "repo"
"path.repository" = "repo"
"path.id" = "me"
"#;

/// A server with the repository `DefaultCollection/P/repo`, and an administrator; its rate limits are out of reach.
fn with_repo() -> Server {
    let git = Git::new();
    let setup = Setup::tls();
    std::fs::write(
        setup.work().join("patgate.toml"),
        "[limits]\nrest-token-per-minute = 1000000\nrest-address-per-minute = 1000000\n",
    )
    .unwrap();
    let server = setup.start();
    server.cli().user("anna");
    server.cli().ok(&["access", "grant", "anna", "administrator"]);
    let source = server.work().join("source");
    git.init(&source);
    git.commit(&source, "file", "text\n");
    server.anonymous().copy(&git, &source, "repo");
    server
}

/// Asks everything of `server` with a token of `scope`; `settings` are schemathesis's own.
fn every_answer_is_documented(server: &Server, scope: &str, settings: &str) {
    let token = server.cli().token("anna", scope);
    let home = server.work().join("home");
    std::fs::create_dir_all(&home).unwrap();
    let config = home.join("schemathesis.toml");
    std::fs::write(&config, settings).unwrap();
    let rest = Rest::new(server, &token);
    let document = home.join("openapi.json");
    std::fs::write(&document, rest.document().to_string()).unwrap();
    let mut command = run::command(&installed("venv/bin/schemathesis"));
    command
        .current_dir(&home)
        .env("HOME", &home)
        .env("REQUESTS_CA_BUNDLE", server.ca())
        .args([Path::new("--config-file"), &config])
        .args([
            "run",
            "--no-color",
            "--seed",
            "1",
            "--generation-database",
            "none",
        ])
        .args(["--phases", "coverage,fuzzing", "--max-examples", "5"])
        .args(["--no-shrink", "--suppress-health-check", "all"])
        .args(["--checks", CHECKS, "--tls-verify"])
        .arg(server.ca())
        .arg("--header")
        .arg(format!("Authorization: {}", token.basic("")))
        .args(["--url", server.base()])
        .arg(&document);
    let run = run::run(&mut command, b"");
    assert!(run.is_ok(), "{run}");
    run.never_says(&token.text);
    // It has asked something of every operation.
    let paths = rest.document()["paths"].as_object().unwrap();
    let operations: usize = paths.values().map(|path| path.as_object().unwrap().len()).sum();
    let tested = format!("Tested: {operations}\n");
    assert!(
        operations > 10 && run.out().contains(&tested),
        "must say '{tested}': {run}"
    );
}

/// Nobody deletes the repository meanwhile: this token may only read and move refs.
#[test]
fn every_answer_about_what_is_there_is_one_that_the_document_names() {
    let server = with_repo();
    every_answer_is_documented(&server, "vso.code_write vso.project vso.profile", WHAT_THERE_IS);
}

#[test]
fn every_answer_about_anything_at_all_is_one_that_the_document_names() {
    let server = with_repo();
    every_answer_is_documented(&server, "vso.code_full vso.project vso.profile", "");
}
