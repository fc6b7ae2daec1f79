//! Alternate credentials, as git sends them.

use crate::harness::cli::basic;
use crate::harness::{Curl, Git, Helper, Server, Setup};

const LOGIN: &str = "anna's old ide";
const SECRET: &str = "an alternate password";
const REFS: &str = "/DefaultCollection/P/_git/R/info/refs?service=git-upload-pack";

/// A server with the repository `R`, and anna, who has an alternate credential that nobody has turned on.
fn server(git: &Git) -> Server {
    let server = Setup::tls().start();
    let (remote, _) = server.contributor("vso.code");
    let source = server.work().join("source");
    git.init(&source);
    git.commit(&source, "file", "text\n");
    remote.copy(git, &source, "R");
    let run = server
        .cli()
        .with_password(&["alternate", "set", "anna", "--login", LOGIN], SECRET);
    run.ok();
    run.says("a token would be better")
        .says("it opens nothing yet: patgate policy set alternate-credentials on");
    server
}

fn turn(server: &Server, state: &str) {
    server
        .cli()
        .ok(&["policy", "set", "alternate-credentials", state]);
}

#[test]
fn git_clones_and_pushes_with_one_once_it_is_turned_on_and_not_before() {
    for git in Git::all() {
        let server = server(&git);
        let helper = Helper::new(&server.work(), LOGIN, SECRET);
        let remote = server.anonymous();
        let client = helper.client(&remote.client(&git));
        let url = remote.url("R");
        client
            .run(&server.work(), &["ls-remote", &url])
            .failed()
            .says(
                "remote: This is not a personal access token of this server, and passwords do not work here.",
            )
            .says("Authentication failed");
        assert_eq!(helper.operations(), ["get", "erase"]);
        turn(&server, "on");
        helper.clear();
        let clone = server.work().join("clone");
        client.ok(&server.work(), &["clone", "--quiet", &url, "clone"]);
        assert_eq!(helper.operations(), ["get", "store"]);
        let tip = git.commit(&clone, "file", "changed\n");
        client.ok(&clone, &["push", "--quiet", "origin", "HEAD:main"]);
        assert_eq!(git.ok(&remote.disk("R"), &["rev-parse", "main"]), tip);
        // Who it was is in the log; which token is not, for there is none.
        server.logs("anna");
        server.cli().ok(&["access", "grant", "anna", "reader"]);
        git.commit(&clone, "file", "changed again\n");
        client
            .run(&clone, &["push", "origin", "HEAD:main"])
            .failed()
            .says("403");
        client.ok(&clone, &["fetch", "--quiet"]);
        helper.clear();
        server.cli().ok(&["alternate", "remove", "anna"]);
        client
            .run(&clone, &["fetch"])
            .failed()
            .says("remote: This is neither a personal access token of this server nor");
        assert_eq!(helper.operations(), ["get", "erase"]);
    }
}

#[test]
fn one_account_is_not_guessed_at_and_its_tokens_go_on() {
    let git = Git::new();
    let server = server(&git);
    turn(&server, "on");
    let token = server.cli().token("anna", "vso.code");
    let come = |password: &str| {
        let header = format!("Authorization: {}", basic(LOGIN, password));
        Curl::get(&server, REFS).header(&header).send()
    };
    come(SECRET).is(200);
    for number in 0..5 {
        come(&format!("guess {number}")).is_refusal(401);
    }
    let reply = come("one guess more");
    let text = reply.is_refusal(429).text();
    assert!(text.contains("tokens work as before"), "{text}");
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=12).contains(&wait), "{wait}");
    come(SECRET).is(200);
    Curl::get(&server, REFS).token(&token).send().is(200);
    // A token is a token, whatever the name beside it.
    let header = format!("Authorization: {}", token.basic(LOGIN));
    Curl::get(&server, REFS).header(&header).send().is(200);
    let bearer = basic(LOGIN, SECRET).replace("Basic ", "Bearer ");
    let header = format!("Authorization: {bearer}");
    Curl::get(&server, REFS).header(&header).send().is_refusal(401);
}

#[test]
fn the_command_line_takes_no_password_that_the_gate_could_take_for_something_else() {
    let setup = Setup::plain();
    let cli = setup.cli();
    cli.user("anna");
    let set = |login: &str, password: &str| {
        let args = ["alternate", "set", "anna", "--login", login];
        cli.with_password(&args, password)
    };
    set("pgt_x", SECRET).failed().says("begins like a token");
    set("a:b", SECRET).failed().says("holds a colon");
    set("old ide", "pgt_password").failed().says("as only tokens do");
    set("old ide", crate::harness::cli::PASSWORD)
        .failed()
        .says("the password is that of the account itself");
    set("old ide", "short").failed().says("shorter than 8 characters");
    assert_eq!(cli.json(&["alternate", "show"]), serde_json::json!([]));
    set("old ide", SECRET).ok();
    assert_eq!(cli.json(&["alternate", "show"])[0]["login"], "old ide");
    assert!(!cli.ok(&["audit", "list", "--json"]).contains(SECRET));
}
