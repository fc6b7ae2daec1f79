//! Input that nobody should send: every answer is a 4xx in JSON that says what is wrong, and the server goes on.

use serde_json::json;

use crate::harness::{Rest, Setup};

#[test]
fn bodies_that_are_no_json_of_the_right_size_are_refused() {
    let server = Setup::plain().start();
    let (_, token) = server.contributor("app_token");
    let rest = Rest::new(&server, &token);
    let path = "/_apis/git/repositories";
    let post = |body: &[u8], headers: &[&str]| {
        let mut all = vec!["Accept: application/json;api-version=7.1"];
        all.extend(headers);
        rest.send_with("POST", path, Some(body), &all)
    };
    post(b"", &[]).says(400, &["no body"]);
    post(b"{", &[]).says(400, &["not JSON"]);
    post(b"\xff\xfe", &[]).says(400, &["not JSON"]);
    post(b"nonsense", &[]).says(400, &["not JSON"]);
    post("[".repeat(100_000).as_bytes(), &[]).is(400);
    post(format!("{{\"name\":{}", "{\"a\":".repeat(10_000)).as_bytes(), &[]).is(400);
    post(json!({ "name": "x".repeat(1 << 20) }).to_string().as_bytes(), &[]).says(413, &["larger"]);
    post(&vec![b' '; 8 << 20], &[]).says(413, &["larger"]);
    post(&vec![b' '; 8 << 20], &["Transfer-Encoding: chunked"]).says(413, &["larger"]);
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/xml",
    ] {
        post(b"{}", &[&format!("Content-Type: {kind}")])
            .is_error(415, "VssRequestContentTypeNotSupportedException");
    }
    post(b"{}", &["Content-Encoding: br"]).is(415);
    post(b"{}", &["Content-Encoding: gzip"]).says(400, &["gzip"]);
    // The gate comes first: whoever has no token hears nothing of what is wrong.
    rest.with(None)
        .send("POST", path, Some(&vec![b' '; 8 << 20]))
        .is(401);
    server.logs("status=413");
    rest.get("/_apis/connectionData").is(200);
}

#[test]
fn a_packed_body_is_unpacked_within_the_same_bounds() {
    let server = Setup::plain().start();
    server.cli().administrator("root");
    let token = server.cli().token("root", "app_token");
    let rest = Rest::new(&server, &token);
    let gzip = ["Content-Encoding: gzip"];
    let body = packed(
        json!({ "name": "R", "project": { "name": "P" } })
            .to_string()
            .as_bytes(),
    );
    rest.send_with("POST", "/_apis/git/repositories", Some(&body), &gzip)
        .is(201);
    let bomb = packed(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 1 << 20);
    rest.send_with("POST", "/_apis/git/repositories", Some(&bomb), &gzip)
        .is(413);
}

/// What `gzip` makes of some bytes.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut command = crate::harness::run::command(std::path::Path::new("gzip"));
    crate::harness::run::run(command.arg("-c"), bytes)
        .bytes()
        .to_vec()
}

#[test]
fn urls_and_headers_of_any_kind_are_answered() {
    let server = Setup::plain().start();
    let (_, token) = server.contributor("app_token");
    let rest = Rest::new(&server, &token);
    let long = "a".repeat(7000);
    for path in [
        "/_apis/git/repositories/%00",
        "/_apis/git/repositories/%0a%0d",
        "/_apis/git/repositories/%252e%252e",
        "/_apis/git/repositories/..%2f..%2fx",
        "/_apis/git/repositories/{repositoryId}",
        "/_apis/git/repositories/*",
        "/_apis/git/repositories/%F0%9F%A6%80",
        "/_apis/git/repositories/x/refs/%00",
        "/_apis/projects/%ef%bf%bf",
        "/%e2%80%ae/_apis/projects",
        "/_apis/profile/profiles/%20",
        "/_apis/git/repositories//refs",
        "/_apis/git//repositories",
        &format!("/_apis/git/repositories/{long}"),
        &format!("/_apis/git/repositories/{long}{long}"),
    ] {
        let answer = rest.get(path);
        assert!(
            (400..500).contains(&answer.reply.status),
            "{path}: {:?}",
            answer.reply
        );
    }
    for query in [
        "?",
        "?&&&",
        "?=",
        "?a=%00",
        "?%61pi-version=7.1-preview",
        "?$top",
        "?x=1&x=2",
    ] {
        rest.get(&format!("/_apis/resourceAreas{query}&api-version=7.1-preview"))
            .is(200);
    }
    rest.get("/_apis/projects?$top").says(400, &["'$top'"]);
    rest.get("/_apis/projects?includeHistory=%ff")
        .says(400, &["query"]);
    let odd = [
        "Accept: application/json;api-version=\u{e9}",
        "Content-Type: \u{e9}",
    ];
    let answer = rest.send_with("GET", "/_apis/projects", None, &odd);
    assert!(answer.reply.status < 500);
    for line in server.log().lines() {
        assert!(!line.contains('\u{202e}') && !line.contains('\0'), "{line:?}");
    }
}

#[test]
fn what_a_client_sends_reaches_no_log_unescaped() {
    let server = Setup::plain().start();
    let (_, token) = server.contributor("app_token");
    let rest = Rest::new(&server, &token);
    let name = "evil\u{1b}[31m\nlevel=ERROR fake";
    let body = json!({ "name": name, name: name });
    rest.post("/_apis/git/repositories", &body).is(400);
    rest.get("/_apis/git/repositories/evil%1b%5b31m%0alevel=ERROR%20fake")
        .is(404);
    rest.send_with(
        "GET",
        "/_apis/projects?api-version=%1b%5b31m",
        None,
        &["Accept: */*"],
    )
    .is(400);
    server.logs("repositories.create");
    let log = server.log();
    assert!(
        !log.contains('\u{1b}') && !log.lines().any(|line| line.starts_with("level=ERROR fake")),
        "{log}"
    );
}
