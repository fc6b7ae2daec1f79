//! Tokens that somebody found, handed in over REST by whoever it was.

use patgate::auth::token::PlainToken;
use serde_json::{Value, json};

use crate::harness::{Curl, Git, Reply, Rest, Server, Setup, Token};

const PATH: &str = "/_apis/tokens/leaked";

/// A server with a repository, a token of anna's that opens it, and a client without a credential.
struct Fixture {
    server: Server,
    token: Token,
}

impl Fixture {
    fn new() -> Fixture {
        let server = Setup::plain().start();
        let (_, token) = server.contributor("vso.code");
        server.cli().ok(&["repo", "create", "P/repo"]);
        Fixture { server, token }
    }

    fn rest(&self) -> Rest<'_> {
        Rest::new(&self.server, &self.server.cli().token("anna", "vso.work")).with(None)
    }

    /// Waits until a report of `token` was dealt with.
    fn reported(&self, token: &Token, is_revoked: bool) {
        self.server
            .logs(&format!("leaked={} revoked={is_revoked}", token.id));
    }

    fn ls_remote(&self, token: &Token) -> crate::harness::Run {
        let url = self.server.remote(token).url("repo");
        Git::new().run(&self.server.work(), &["ls-remote", &url])
    }

    fn state(&self, token: &Token) -> Value {
        self.server.cli().json(&["token", "show", &token.id])["state"].clone()
    }
}

/// All of an answer but what differs from one request to the next whatever was asked.
fn comparable(reply: &Reply) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let changes = ["date", "x-ratelimit-remaining", "x-ratelimit-reset"];
    let mut headers = reply.headers.clone();
    headers.retain(|(name, _)| !changes.contains(&name.as_str()));
    (reply.status, headers, reply.body.clone())
}

#[test]
fn whoever_hands_in_a_token_hears_the_same_of_all_and_a_live_one_opens_nothing_any_more() {
    let f = Fixture::new();
    let rest = f.rest();
    let cli = f.server.cli();
    let revoked = cli.token("anna", "vso.code");
    cli.ok(&["token", "revoke", &revoked.id]);
    let expired = cli.token("anna", "vso.code");
    cli.expire(&expired);
    let made_up = format!("pgt_{}", "A".repeat(52));
    f.ls_remote(&f.token).ok();
    let texts = [
        f.token.text.as_str(),
        &revoked.text,
        &expired.text,
        &made_up,
        "pgt_",
        "ghp_something",
        "",
        "\u{0}\u{202e}",
    ];
    let answers: Vec<_> = texts
        .iter()
        .map(|text| comparable(&rest.post(PATH, &json!({ "token": text })).reply))
        .collect();
    assert_eq!(answers[0].0, 202);
    assert!(answers[0].2.is_empty());
    for (text, answer) in texts.iter().zip(&answers) {
        assert_eq!(answer, &answers[0], "{text:?}");
    }
    f.reported(&f.token, true);
    f.ls_remote(&f.token)
        .failed()
        .says("revoked")
        .says("found where others could read it");
    let reply = Curl::get(&f.server, "/_apis/connectionData")
        .token(&f.token)
        .send();
    reply.is(401);
    let shown = cli.json(&["token", "show", &f.token.id]);
    assert_eq!(shown["revoked_because"], "leaked");

    // The trail has it: where from, and nothing of the token but its id.
    let trail = cli.ok(&[
        "audit",
        "list",
        "--json",
        "--token",
        &f.token.id,
        "--action",
        "token.revoke,token.leak",
    ]);
    let events: Value = serde_json::from_str(&trail).unwrap();
    let actions: Vec<&str> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["token.revoke", "token.leak"]);
    assert_eq!(events[0]["address"], "127.0.0.1");
    assert_eq!(events[0]["account"], Value::Null);
    for secret in cli.secrets() {
        assert!(!trail.contains(&secret));
    }
}

#[test]
fn tokens_are_handed_in_one_by_one_or_as_lists() {
    let f = Fixture::new();
    let rest = f.rest();
    let [a, b, c, d] = [(); 4].map(|()| f.server.cli().token("anna", "vso.code"));
    let in_text = format!("https://x:{}@git.example/\n", b.text);
    rest.post(
        "/acme/_apis/tokens/leaked",
        &json!({ "tokens": [a.text, in_text] }),
    )
    .is(202);
    let found = json!([
        { "token": c.text, "type": "patgate", "url": "https://example.com/a/b", "source": "content" },
        { "token": "pgt_nothing", "type": "patgate", "url": null },
    ]);
    rest.post(PATH, &found).is(202);
    // Escapes of JSON hide nothing.
    let escaped = format!("{{\"token\": \"\\u0070{}\"}}", &d.text[1..]);
    rest.send("POST", PATH, Some(escaped.as_bytes())).is(202);
    for token in [&a, &b, &c, &d] {
        f.reported(token, true);
        assert_eq!(f.state(token), "revoked");
    }
    assert_eq!(f.state(&f.token), "active");
}

#[test]
fn a_rotated_secret_that_still_works_counts_and_a_credential_is_not_looked_at() {
    let f = Fixture::new();
    let old = f.server.cli().token("anna", "vso.code");
    let new = f.server.cli().rotate(&old, &["--overlap", "1h"]);
    let rest = f.rest();
    let nonsense = rest.with(Some("Basic !!!"));
    nonsense.post(PATH, &json!({ "token": old.text })).is(202);
    f.reported(&new, true);
    f.ls_remote(&new).failed();
}

#[test]
fn nothing_is_revoked_where_the_policy_says_so() {
    let f = Fixture::new();
    f.server.cli().ok(&["policy", "set", "revoke-leaked", "off"]);
    f.rest().post(PATH, &json!({ "token": f.token.text })).is(202);
    f.reported(&f.token, false);
    f.ls_remote(&f.token).ok();
    let events = f.server.cli().json(&["audit", "list", "--action", "token.leak"]);
    assert_eq!(events[0]["subject"], f.token.id);
    assert_eq!(events[0]["details"]["revoked"], false);
}

#[test]
fn reports_of_another_form_are_refused_by_what_is_wrong_with_them() {
    let f = Fixture::new();
    let rest = f.rest();
    let tokens = |count: usize| -> String {
        let text = |_| PlainToken::generate().unwrap().expose().to_owned();
        (0..count).map(text).collect::<Vec<_>>().join(" ")
    };
    rest.post(PATH, &json!({ "token": tokens(100) })).is(202);
    let many = tokens(101);
    for (body, words) in [
        (json!({}), &["`token`"][..]),
        (json!({ "token": 5 }), &["'token'"]),
        (json!({ "token": "x", "more": 1 }), &["`more`"]),
        (json!({ "tokens": "x" }), &["'tokens'"]),
        (json!({ "tokens": ["x", 5] }), &["'tokens[1]'"]),
        (json!({ "tokens": [], "token": "x" }), &["`token`"]),
        (json!([{ "type": "x" }]), &["'[0]'", "`token`"]),
        (json!([5]), &["'[0]'"]),
        (json!("pgt_"), &["body"]),
        (json!({ "tokens": vec!["x"; 101] }), &["101", "100"]),
        (json!({ "token": many }), &["100"]),
        (json!([{ "token": "x" }, { "token": many }]), &["100"]),
        (json!(vec![json!({ "token": "x" }); 101]), &["101", "100"]),
    ] {
        rest.post(PATH, &body).says(400, words);
    }
    rest.send("POST", PATH, Some(b"{")).says(400, &["not JSON"]);
    rest.send("POST", PATH, None).says(400, &["no body"]);
    let kind = ["Content-Type: text/plain"];
    rest.send_with("POST", PATH, Some(b"{}"), &kind).is(415);
    let large = json!({ "token": "x".repeat(1 << 20) });
    rest.post(PATH, &large).is(413);
    rest.post(PATH, &json!({ "tokens": vec!["x"; 100] })).is(202);
    rest.post(PATH, &json!([])).is(202);
}

#[test]
fn an_address_that_hands_in_too_much_waits() {
    let setup = Setup::plain();
    std::fs::write(
        setup.work().join("patgate.toml"),
        "[limits]\nrest-address-per-minute = 2\n",
    )
    .unwrap();
    let server = setup.start();
    let report = || {
        Curl::get(&server, PATH)
            .header("Content-Type: application/json")
            .body(b"{\"token\": \"x\"}")
            .send()
    };
    report().is(202);
    report().is(202);
    assert!(report().is(429).header("retry-after").is_some());
}
