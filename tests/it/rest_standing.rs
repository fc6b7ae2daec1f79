//! What a change of rights means for a REST request that was let in before it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::harness::cli::{PASSWORD, basic};
use crate::harness::{Rest, Server, Setup};

const PATS: &str = "/_apis/tokens/pats";

/// A request of which the gate has let the head in, and whose body is not sent yet.
struct Held {
    socket: TcpStream,
    body: String,
}

impl Held {
    fn new(server: &Server, authorization: &str, path: &str, body: &serde_json::Value) -> Held {
        let body = body.to_string();
        let mut socket = TcpStream::connect(server.authority()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = format!(
            "POST {path}?api-version=7.1-preview.1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n\
             Content-Type: application/json\r\nExpect: 100-continue\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all(head.as_bytes()).unwrap();
        let mut go_on = [0; 25];
        socket.read_exact(&mut go_on).unwrap();
        assert_eq!(
            &go_on, b"HTTP/1.1 100 Continue\r\n\r\n",
            "the gate must let it in"
        );
        Held { socket, body }
    }

    /// Sends the body, and returns the status of the answer.
    fn finish(mut self) -> (u16, String) {
        self.socket.write_all(self.body.as_bytes()).unwrap();
        let mut answer = String::new();
        self.socket.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }
}

fn pat() -> serde_json::Value {
    json!({ "displayName": "late", "scope": "vso.code", "allOrgs": true })
}

/// A server with the accounts anna and root, an administrator.
fn server() -> Server {
    let server = Setup::plain().start();
    server.cli().contributor("anna");
    server.cli().administrator("root");
    server
}

#[test]
fn a_token_is_made_only_with_the_password_that_holds_when_the_request_is_whole() {
    let server = server();
    let cli = server.cli();
    let authorization = basic("anna", PASSWORD);
    let tokens = || {
        cli.json(&["token", "list", "--user", "anna"])
            .as_array()
            .unwrap()
            .len()
    };

    let held = Held::new(&server, &authorization, PATS, &pat());
    cli.user("somebody");
    assert_eq!(held.finish().0, 200, "what changed meanwhile was another's");
    assert_eq!(tokens(), 1);

    let held = Held::new(&server, &authorization, PATS, &pat());
    cli.ok(&["user", "disable", "anna"]);
    assert_eq!(held.finish().0, 401);
    cli.ok(&["user", "enable", "anna"]);

    let held = Held::new(&server, &authorization, PATS, &pat());
    cli.with_password(&["user", "set-password", "anna"], "another good password")
        .ok();
    let (status, answer) = held.finish();
    assert_eq!(status, 401, "{answer}");
    assert_eq!(tokens(), 1, "only the first was made");
}

#[test]
fn tokens_are_revoked_only_by_a_token_that_lives_when_the_request_is_whole() {
    let server = server();
    let cli = server.cli();
    let root = cli.token("root", "vso.tokenadministration");
    let rule = json!({ "scopes": "vso.code" });
    let path = "/_apis/tokenadmin/revocationrules";
    let held = Held::new(&server, &root.basic("x"), path, &rule);
    cli.ok(&["token", "revoke", &root.id]);
    let (status, answer) = held.finish();
    assert_eq!(status, 401, "{answer}");
    assert!(answer.contains("revoked"), "{answer}");
    let other = cli.token("root", "vso.tokenadministration");
    assert!(Rest::new(&server, &other).get(path).is(200).list().is_empty());
}
