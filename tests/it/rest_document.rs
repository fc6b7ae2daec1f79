//! The OpenAPI document against the server, by schemathesis, which makes requests of every operation from it, good and
//! bad ones: no answer is an error of the server, and none has a status, a content type or a body that the document does
//! not name.

use std::path::Path;

use regex::Regex;
use serde_json::Value;

use crate::harness::cli::{PASSWORD, basic};
use crate::harness::client::installed;
use crate::harness::run;
use crate::harness::{Git, Rest, Server, Setup, Token};

/// A document says neither that a name has to exist nor that a moment must have passed, so what fits it may be refused.
/// That a credential is asked for is shown elsewhere: whoever fails to prove who it is too often hears 429.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,allow_header_conformance";

/// Where what does not fit the document is refused with a status of its own. Of what makes and changes tokens a 200 says
/// so, as with Azure DevOps.
const REFUSED_BY_STATUS: &str = "negative_data_rejection";

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

/// What breaks single rules of the document, one after the other, and what is made up at random.
const ALL: &str = "coverage,fuzzing";

/// Operations that can end the very token that they are asked with, which would then show nothing more.
const ENDS_ITS_TOKEN: &str =
    r"^(token-admin\.(revoke|revoke-all-tokens|create-rule)|own-token\.(revoke|rotate))(\..*)?$";

/// Operations that take a name and a password.
const OF_PASSWORDS: &str = r"^pats\..*$";

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
    server.cli().administrator("anna");
    let source = server.work().join("source");
    git.init(&source);
    git.commit(&source, "file", "text\n");
    server.anonymous().copy(&git, &source, "repo");
    server
}

/// What is asked, and how.
struct Asked<'a> {
    /// The value of the `Authorization` header.
    authorization: Option<String>,
    /// schemathesis's own settings.
    settings: &'a str,
    /// How the requests are thought of.
    phases: &'a str,
    /// Further checks.
    checks: &'a [&'a str],
    /// `include` or `exclude`, and which operations; all without.
    operations: Option<(&'a str, &'a str)>,
}

/// Asks `server` all that the document, which `token` reads, makes schemathesis think of.
fn every_answer_is_documented(server: &Server, token: &Token, asked: &Asked<'_>) {
    let home = server.work().join("home");
    std::fs::create_dir_all(&home).unwrap();
    let config = home.join("schemathesis.toml");
    std::fs::write(&config, asked.settings).unwrap();
    let rest = Rest::new(server, token);
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
        .args(["--phases", asked.phases, "--max-examples", "5"])
        .args(["--no-shrink", "--suppress-health-check", "all"])
        .arg("--checks")
        .arg([&[CHECKS], asked.checks].concat().join(","))
        .arg("--tls-verify")
        .arg(server.ca())
        .args(["--url", server.base()]);
    if let Some(authorization) = &asked.authorization {
        command
            .arg("--header")
            .arg(format!("Authorization: {authorization}"));
    }
    if let Some((which, names)) = asked.operations {
        command.arg(format!("--{which}-operation-id-regex")).arg(names);
    }
    command.arg(&document);
    let run = run::run(&mut command, b"");
    assert!(run.is_ok(), "{run}");
    run.never_says(&token.text);
    // It has asked something of every operation.
    let names = asked
        .operations
        .map(|(which, names)| (which, Regex::new(names).unwrap()));
    let is_asked = |operation: &Value| {
        let id = operation["operationId"].as_str().unwrap();
        match &names {
            Some(("include", names)) => names.is_match(id),
            Some((_, names)) => !names.is_match(id),
            None => true,
        }
    };
    let paths = rest.document()["paths"].as_object().unwrap();
    let operations = paths.values().flat_map(|path| path.as_object().unwrap().values());
    let operations = operations.filter(|operation| is_asked(operation)).count();
    let tested = format!("Tested: {operations}\n");
    assert!(
        operations > 4 && run.out().contains(&tested),
        "must say '{tested}': {run}"
    );
    // Had the credential ended on the way, the rest would have shown nothing.
    if asked.authorization.as_ref() == Some(&token.basic("")) {
        rest.get("/_apis/connectionData").is(200);
    }
    let log = server.log();
    assert!(!log.contains("panicked") && !log.contains(" ERROR "), "{log}");
}

/// Nobody deletes the repository meanwhile: this token may only read and move refs.
#[test]
fn every_answer_about_what_is_there_is_one_that_the_document_names() {
    let server = with_repo();
    let token = server
        .cli()
        .token("anna", "vso.code_write vso.project vso.profile");
    let asked = Asked {
        authorization: Some(token.basic("")),
        settings: WHAT_THERE_IS,
        phases: ALL,
        checks: &[REFUSED_BY_STATUS],
        operations: Some(("exclude", ENDS_ITS_TOKEN)),
    };
    every_answer_is_documented(&server, &token, &asked);
}

#[test]
fn every_answer_to_an_administrator_is_one_that_the_document_names() {
    let server = with_repo();
    let token = server.cli().token("anna", "app_token");
    let asked = Asked {
        authorization: Some(token.basic("")),
        settings: "",
        phases: ALL,
        checks: &[REFUSED_BY_STATUS],
        operations: Some(("exclude", ENDS_ITS_TOKEN)),
    };
    every_answer_is_documented(&server, &token, &asked);
}

#[test]
fn every_answer_to_what_ends_tokens_is_one_that_the_document_names() {
    let server = with_repo();
    let token = server.cli().token("anna", "app_token");
    let other = server.cli().token("anna", "app_token");
    let asked = Asked {
        authorization: Some(other.basic("")),
        settings: "",
        phases: ALL,
        checks: &[],
        operations: Some(("include", ENDS_ITS_TOKEN)),
    };
    every_answer_is_documented(&server, &token, &asked);
}

#[test]
fn every_answer_to_a_name_and_a_password_is_one_that_the_document_names() {
    let server = with_repo();
    let token = server.cli().token("anna", "vso.code");
    let own = Rest::new(&server, &token).get("/_apis/tokens/self");
    let own = &own.is(200).json;
    let settings = format!(
        "[parameters]\n\"query.authorizationId\" = {}\n",
        own["patToken"]["authorizationId"]
    );
    let asked = Asked {
        authorization: Some(basic("anna", PASSWORD)),
        settings: &settings,
        phases: ALL,
        checks: &[],
        operations: Some(("include", OF_PASSWORDS)),
    };
    every_answer_is_documented(&server, &token, &asked);
}

#[test]
fn every_answer_to_nobody_is_one_that_the_document_names() {
    let server = with_repo();
    let token = server.cli().token("anna", "vso.code");
    let asked = Asked {
        authorization: None,
        settings: "",
        // Each is refused before it is read.
        phases: "fuzzing",
        checks: &[REFUSED_BY_STATUS],
        operations: None,
    };
    every_answer_is_documented(&server, &token, &asked);
}
