//! Rate limits of the REST interface.

use crate::harness::{Curl, Git, Rest, Setup};

#[test]
fn a_token_that_asks_too_often_waits_and_others_do_not() {
    let setup = Setup::plain();
    std::fs::write(
        setup.work().join("patgate.toml"),
        "[limits]\nrest-token-per-minute = 5\n",
    )
    .unwrap();
    let server = setup.start();
    let (_, token) = server.contributor("vso.code");
    let other = server.cli().token("anna", "vso.code");
    let ask = || Curl::get(&server, "/_apis/connectionData").token(&token).send();
    for left in ["4", "3", "2", "1", "0"] {
        let reply = ask();
        reply.is(200);
        assert_eq!(reply.header("x-ratelimit-limit"), Some("5"));
        assert_eq!(reply.header("x-ratelimit-remaining"), Some(left));
        assert_eq!(reply.header("x-ratelimit-resource"), Some("rest/token"));
    }
    let refused = ask();
    let wait: u64 = refused.is(429).header("retry-after").unwrap().parse().unwrap();
    assert!((1..=12).contains(&wait), "{wait}");
    assert!(refused.text().contains("TF400733") && refused.text().contains("RequestBlockedException"));
    assert_eq!(refused.header("x-ratelimit-remaining"), Some("0"));
    // Another token of the same owner, and git with this one, are not held back.
    Rest::new(&server, &other).get("/_apis/connectionData").is(200);
    server.cli().ok(&["repo", "create", "P/repo"]);
    let git = Git::new();
    git.ok(&server.work(), &["ls-remote", &server.remote(&token).url("repo")]);
    server.logs("status=429");
}

#[test]
fn an_address_that_asks_too_often_waits_whatever_it_proves() {
    let setup = Setup::plain().arg("--behind-proxy").arg("127.0.0.1/32");
    std::fs::write(
        setup.work().join("patgate.toml"),
        "[limits]\nrest-address-per-minute = 4\n",
    )
    .unwrap();
    let server = setup.start();
    let (_, token) = server.contributor("vso.code");
    let ask = |from: &str, has_token: bool| {
        let curl = Curl::get(&server, "/_apis/projects/nothing").header(&format!("X-Forwarded-For: {from}"));
        if has_token { curl.token(&token) } else { curl }.send()
    };
    let first = ask("192.0.2.1", false);
    assert_eq!(first.is(401).header("x-ratelimit-resource"), Some("rest/address"));
    ask("192.0.2.1", true).is(404);
    ask("192.0.2.1", false).is(401);
    ask("192.0.2.1", true).is(404);
    for has_token in [false, true] {
        let reply = ask("192.0.2.1", has_token);
        assert!(reply.is(429).header("retry-after").is_some());
    }
    ask("192.0.2.2", true).is(404);
}

#[test]
fn a_new_limit_holds_after_a_reload() {
    let setup = Setup::plain();
    let file = setup.work().join("patgate.toml");
    std::fs::write(&file, "[limits]\nrest-token-per-minute = 1\n").unwrap();
    let server = setup.start();
    let (_, token) = server.contributor("vso.code");
    let ask = || Curl::get(&server, "/_apis/connectionData").token(&token).send();
    ask().is(200);
    ask().is(429);
    std::fs::write(&file, "[limits]\nrest-token-per-minute = 100000\n").unwrap();
    server.signal("HUP");
    server.logs("were read again");
    let reply = ask();
    assert_eq!(reply.header("x-ratelimit-limit"), Some("100000"));
}
