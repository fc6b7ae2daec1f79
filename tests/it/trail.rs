//! What git, and those who are refused, leave in the audit trail.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::cli::{PASSWORD, basic};
use crate::harness::wire::Request;
use crate::harness::{Curl, Git, Patgate, Remote, Rest, Server, Setup, Token};

/// How long an event may take to be written.
const EVENT_LIMIT: Duration = Duration::from_secs(60);

/// `patgate audit list --follow`, until it is dropped.
struct Follow {
    child: Child,
    lines: Receiver<String>,
}

impl Follow {
    /// Shows what comes from now on.
    fn start(cli: &Patgate, args: &[&str]) -> Follow {
        // Without `timeout` in front, so that the handle is that of the process itself.
        let mut command = Command::new(env!("CARGO_BIN_EXE_patgate"));
        let environment = cli.command(&[]);
        command.env_clear().envs(
            environment
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        command
            .args(["audit", "list", "--follow", "--limit", "1"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("the trail can be followed");
        let stdout = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // A test that does not look at further lines has dropped its end.
                drop(sender.send(line));
            }
        });
        let follow = Follow { child, lines };
        // The last event so far, or the header above it: whatever comes later is new.
        follow.line();
        follow
    }

    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(EVENT_LIMIT).expect("an event must come")
    }

    /// The next event of an action, of those that are followed as JSON.
    #[track_caller]
    fn next(&self, action: &str) -> Value {
        loop {
            let event: Value = serde_json::from_str(&self.line()).expect("each line is a JSON object");
            if event["action"] == action {
                return event;
            }
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn events(cli: &Patgate, args: &[&str]) -> Vec<Value> {
    let listed = cli.json(&[&["audit", "list"][..], args].concat());
    listed.as_array().expect("a list of events").clone()
}

/// A server with an empty repository and a clone of it.
fn cloned(setup: &Setup, git: &Git) -> (Server, Remote, Token, std::path::PathBuf) {
    let server = setup.start();
    let (remote, token) = server.contributor("vso.code_write");
    remote.init(git, "repo");
    let clone = server.work().join("clone");
    let url = remote.url("repo");
    remote
        .client(git)
        .ok(&server.work(), &["clone", "--quiet", &url, "clone"]);
    (server, remote, token, clone)
}

#[test]
fn a_push_is_in_the_trail_when_git_returns_and_a_fetch_soon_after() {
    for git in Git::all() {
        let (server, remote, token, clone) = cloned(&Setup::tls(), &git);
        let (cli, client) = (server.cli(), remote.client(&git));
        let first = git.commit(&clone, "file", "one\n");
        client.ok(&clone, &["push", "--quiet", "origin", "main"]);
        let pushes = events(cli, &["--action", "git.push"]);
        let [event] = pushes.as_slice() else {
            panic!("{pushes:?}")
        };
        assert_eq!(
            (
                &event["account"],
                &event["token"],
                &event["address"],
                &event["subject"]
            ),
            (
                &json!("anna"),
                &json!(token.id),
                &json!("127.0.0.1"),
                &json!("DefaultCollection/P/repo")
            )
        );
        let agent = event["agent"].as_str().unwrap();
        assert_eq!(agent, format!("git/{}", git.version()));
        let details = &event["details"];
        assert_eq!(
            (&details["outcome"], &details["commands"]),
            (&json!("ok"), &json!(1))
        );
        assert_eq!((&details["refused"], &details["objects"]), (&json!(0), &json!(3)));
        assert!(details["bytes"].as_u64().unwrap() > 100, "{details}");
        let made = json!([{ "name": "refs/heads/main", "old": null, "new": first, "result": "ok" }]);
        assert_eq!(details["refs"], made);

        let second = git.commit(&clone, "file", "two\n");
        client.ok(&clone, &["push", "--quiet", "origin", "main", "main:topic"]);
        let event = events(cli, &["--action", "git.push", "--limit", "1"]).remove(0);
        let moved = json!([
            { "name": "refs/heads/main", "old": first, "new": second, "result": "ok" },
            { "name": "refs/heads/topic", "old": null, "new": second, "result": "ok" },
        ]);
        assert_eq!(event["details"]["refs"], moved);
        client.ok(&clone, &["push", "--quiet", "origin", ":topic"]);
        let event = events(cli, &["--action", "git.push", "--limit", "1"]).remove(0);
        let gone = json!([{ "name": "refs/heads/topic", "old": second, "new": null, "result": "ok" }]);
        assert_eq!(event["details"]["refs"], gone);

        let follow = Follow::start(cli, &["--json"]);
        client.ok(&server.work(), &["ls-remote", &remote.url("repo")]);
        client.ok(
            &server.work(),
            &["clone", "--quiet", &remote.url("repo"), "again"],
        );
        let event = follow.next("git.fetch");
        assert_eq!(
            (&event["token"], &event["subject"]),
            (&json!(token.id), &json!("DefaultCollection/P/repo"))
        );
        let details = &event["details"];
        assert_eq!(
            (&details["outcome"], &details["wants"], &details["haves"]),
            (&json!("ok"), &json!(1), &json!(0))
        );
        assert_eq!(details["objects"], 6);
        assert!(details["bytes"].as_u64().unwrap() > 200, "{details}");
        git.commit(&clone, "file", "three\n");
        client.ok(&clone, &["push", "--quiet", "origin", "main"]);
        client.ok(&server.work().join("again"), &["fetch", "--quiet"]);
        assert_eq!(
            follow.next("git.push")["details"]["outcome"],
            "ok",
            "a push while it is followed"
        );
        let details = follow.next("git.fetch")["details"].clone();
        assert_eq!(details["objects"], 3);
        assert!(details["haves"].as_u64().unwrap() > 0, "{details}");
        assert_eq!(
            events(cli, &["--action", "git.fetch"]).len(),
            2,
            "lists of refs and rounds of negotiation are no events"
        );
        assert_eq!(
            events(
                cli,
                &[
                    "--token",
                    &token.id,
                    "--action",
                    "git.*",
                    "--repo",
                    "DefaultCollection"
                ]
            )
            .len(),
            6
        );
    }
}

#[test]
fn a_followed_trail_tells_people_of_pushes_as_they_come() {
    let git = Git::new();
    let (server, remote, token, clone) = cloned(&Setup::plain(), &git);
    let follow = Follow::start(server.cli(), &["--action", "git.push"]);
    let tip = git.commit(&clone, "file", "one\n");
    remote.client(&git).ok(
        &clone,
        &["push", "--quiet", "origin", "main:refs/heads/x\u{202e}y"],
    );
    let line = follow.line();
    let words: Vec<&str> = line.split_whitespace().collect();
    let said = format!("push refs/heads/x\\u{{202e}}y new {}", &tip[..7]);
    assert_eq!(
        words[2..6],
        ["anna", &token.id, "git.push", "DefaultCollection/P/repo"]
    );
    assert!(line.ends_with(&said), "{line}");
}

#[test]
fn a_push_that_the_repository_refuses_says_which_refs_and_why() {
    let git = Git::new();
    let (server, remote, _, clone) = cloned(&Setup::plain(), &git);
    let client = remote.client(&git);
    let tip = git.commit(&clone, "file", "one\n");
    client.ok(&clone, &["push", "--quiet", "origin", "main", "main:topic"]);
    git.ok(&remote.disk("repo"), &["config", "receive.denyDeletes", "true"]);
    let follow = Follow::start(server.cli(), &["--json"]);
    client.run(&clone, &["push", "origin", ":topic"]).failed();
    let refused =
        json!({ "name": "refs/heads/topic", "old": tip, "new": null, "result": "deletion prohibited" });
    let details = follow.next("git.push")["details"].clone();
    assert_eq!(
        (&details["outcome"], &details["refused"]),
        (&json!("refused"), &json!(1))
    );
    assert_eq!(details["refs"], json!([refused]));
    client
        .run(&clone, &["push", "origin", ":topic", "main:new"])
        .failed();
    let details = follow.next("git.push")["details"].clone();
    assert_eq!(
        (&details["outcome"], &details["refused"]),
        (&json!("partial"), &json!(1))
    );
    let results: Vec<&Value> = details["refs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["result"])
        .collect();
    assert_eq!(results.len(), 2);
    assert!(results.contains(&&json!("ok")) && results.contains(&&json!("deletion prohibited")));

    // A request that is no push, and a fetch of what there is not.
    let repo = "/DefaultCollection/P/_git/repo";
    let token = server.cli().token("anna", "vso.code_write");
    let body = Request::new().line("no command").flush();
    Curl::post(&server, repo, "git-receive-pack", body.bytes())
        .token(&token)
        .send()
        .is(200);
    let details = follow.next("git.push")["details"].clone();
    assert_eq!(
        (&details["outcome"], &details["refs"]),
        (&json!("refused"), &json!([]))
    );
    assert!(
        details["reason"].as_str().unwrap().contains("no command"),
        "{details}"
    );
    let follow = Follow::start(server.cli(), &["--json"]);
    let body = Request::new()
        .line("command=fetch")
        .delim()
        .line(format!("want {}\n", "1".repeat(40)))
        .line("done\n")
        .flush();
    Curl::post(&server, repo, "git-upload-pack", body.bytes())
        .header("Git-Protocol: version=2")
        .token(&token)
        .send()
        .is(200);
    let event = follow.next("git.fetch");
    assert_eq!(
        (&event["token"], &event["details"]["outcome"]),
        (&json!(token.id), &json!("refused"))
    );
    assert!(
        event["details"]["reason"]
            .as_str()
            .unwrap()
            .contains("not our ref 1111"),
        "{event}"
    );
}

#[test]
fn tokens_that_are_refused_leave_the_reason() {
    let git = Git::new();
    let (server, remote, _, clone) = cloned(&Setup::plain(), &git);
    let cli = server.cli();
    cli.user("stranger");
    cli.ok(&["access", "grant", "stranger", "contributor", "Elsewhere"]);
    let tokens @ [reading, working, revoked, expired, strange] = &[
        cli.token("anna", "vso.code"),
        cli.token("anna", "vso.work"),
        cli.token("anna", "vso.code_write"),
        cli.token("anna", "vso.code_write"),
        cli.token("stranger", "vso.code_full"),
    ];
    cli.ok(&["token", "revoke", &revoked.id]);
    cli.expire(expired);
    let follow = Follow::start(cli, &["--json"]);
    git.commit(&clone, "file", "one\n");
    let repository = "DefaultCollection/P/repo";
    let refused = |token: &Token, name: &str, reason: &str, operation: Value, subject: &str| {
        let url = server.remote(token).url(name);
        let client = remote.client(&git);
        for _ in 0..2 {
            client.run(&clone, &["push", &url, "main"]).failed();
        }
        let event = follow.next("token.refuse");
        assert_eq!(
            (&event["token"], &event["subject"]),
            (&json!(token.id), &json!(subject))
        );
        let details = &event["details"];
        assert_eq!(
            (&details["reason"], &details["times"]),
            (&json!(reason), &json!(1))
        );
        assert_eq!(details["operation"], operation);
        event
    };
    refused(reading, "repo", "scope", json!("push"), repository);
    refused(working, "repo", "scope", json!("push"), repository);
    let event = refused(revoked, "repo", "revoked", Value::Null, &revoked.id);
    assert_eq!(event["account"], "anna");
    refused(expired, "repo", "expired", Value::Null, &expired.id);
    let event = refused(strange, "repo", "not-found", json!("push"), repository);
    assert_eq!(
        (&event["account"], &event["details"]["asked"]),
        (&json!("stranger"), &Value::Null)
    );
    let event = refused(strange, "nowhere", "not-found", json!("push"), &strange.id);
    assert_eq!(event["details"]["asked"], "DefaultCollection/P/nowhere");
    for token in tokens {
        let all = events(cli, &["--token", &token.id, "--action", "token.refuse"]);
        let expected = if token.id == strange.id { 2 } else { 1 };
        assert_eq!(all.len(), expected, "one a minute: {all:?}");
    }
    assert_eq!(
        events(cli, &["--repo", repository, "--action", "token.refuse"]).len(),
        3
    );

    let follow = Follow::start(cli, &["--json"]);
    for _ in 0..25 {
        let reply = Curl::get(&server, "/x")
            .header("Authorization: Bearer nobody")
            .send();
        assert!([401, 429].contains(&reply.status));
    }
    let event = follow.next("credential.refuse");
    assert_eq!(
        (&event["subject"], &event["token"]),
        (&json!("127.0.0.1"), &Value::Null)
    );
}

#[test]
fn no_token_is_in_the_database_wherever_it_was_sent() {
    let git = Git::new();
    let (mut server, remote, token, clone) = cloned(&Setup::plain(), &git);
    let cli = server.cli().clone();
    let other = cli.token("anna", "vso.code");
    git.commit(&clone, "file", "one\n");
    // As the name of a ref, as the name of the client, and where a path should be.
    let client = remote
        .client(&git)
        .with("http.userAgent", &format!("x {} y", token.text));
    let target = format!("main:refs/heads/{}", other.text);
    client
        .run(&clone, &["push", "--quiet", "origin", &target])
        .failed();
    client.ok(&clone, &["push", "--quiet", "origin", "main"]);
    client
        .run(&clone, &["push", &server.remote(&other).url("repo"), "main"])
        .failed();
    let url = server.remote(&other).url(&token.text);
    client.run(&clone, &["fetch", &url]).failed();
    let follow = Follow::start(&cli, &["--json"]);
    client.ok(
        &server.work(),
        &["clone", "--quiet", &remote.url("repo"), "again"],
    );
    follow.next("git.fetch");
    let pushes = events(&cli, &["--action", "git.push"]);
    let event = pushes
        .iter()
        .find(|event| event["details"]["outcome"] == "refused")
        .expect("the first push was refused");
    let public = |token: &Token| format!("pgt_{}…", token.id);
    assert_eq!(event["agent"], format!("x {} y", public(&token)));
    assert_eq!(
        event["details"]["refs"][0]["name"],
        format!("refs/heads/{}", public(&other))
    );
    // Over REST as the names of a ref and of a token, of which neither is made.
    let rest = Rest::new(&server, &token);
    let (zero, tip) = ("0".repeat(40), git.ok(&clone, &["rev-parse", "HEAD"]));
    let name = format!("refs/heads/{}", other.text);
    let change = json!([{ "name": name, "oldObjectId": zero, "newObjectId": tip }]);
    let made = rest.post("/P/_apis/git/repositories/repo/refs", &change);
    assert_eq!(made.is(200).each("updateStatus"), ["rejectedByPolicy"]);
    let pat = json!({ "displayName": other.text, "scope": "vso.code", "allOrgs": true });
    let made = rest
        .with(Some(&basic("anna", PASSWORD)))
        .post("/_apis/tokens/pats", &pat);
    assert_eq!(made.is(200).json["patTokenError"], "invalidDisplayName");
    let data = server.setup().data();
    let check = || {
        let mut bytes = Vec::new();
        for name in ["patgate.db", "patgate.db-wal"] {
            if let Ok(mut file) = std::fs::File::open(data.join(name)) {
                file.read_to_end(&mut bytes).unwrap();
            }
        }
        let has = |needle: &str| {
            bytes
                .windows(needle.len())
                .any(|window| window == needle.as_bytes())
        };
        assert!(
            has("refs/heads/pgt_") && has("anna"),
            "the database can be searched at all"
        );
        for secret in cli.secrets() {
            assert!(!has(&secret), "a secret is in the database");
        }
        for token in [&token, &other] {
            assert!(!has(&token.text[12..50]), "a secret is in the database");
        }
        assert!(!has(PASSWORD));
    };
    check();
    server.signal("TERM");
    server.wait();
    check();
}

#[test]
fn what_rest_makes_under_the_name_of_a_token_is_told_without_it() {
    let git = Git::new();
    let (server, _, _, _) = cloned(&Setup::plain(), &git);
    let cli = server.cli();
    cli.administrator("root");
    let token = cli.token("root", "vso.code_full");
    let rest = Rest::new(&server, &token);
    rest.post("/P/_apis/git/repositories", &json!({ "name": token.text }))
        .is(201);
    let repository = format!("/P/_apis/git/repositories/{}", token.text);
    let branch = json!({ "defaultBranch": format!("refs/heads/{}", token.text) });
    rest.patch(&repository, &branch);
    rest.get(&repository).is(200);
    let told = cli.ok(&["audit", "list", "--json"]);
    let kept = format!("pgt_{}…", token.id);
    assert!(told.contains(&format!("DefaultCollection/P/{kept}")), "{told}");
    server.logs(&kept);
    for text in [told, server.log()] {
        assert!(!text.contains(&token.text[12..50]), "{text}");
    }
}

/// Sends a request by hand and returns the connection, from which nothing was read.
fn post(server: &Server, token: &Token, service: &str, length: usize, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.authority()).expect("the server listens");
    let head = format!(
        "POST /DefaultCollection/P/_git/repo/{service} HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\
         Git-Protocol: version=2\r\nContent-Type: application/x-{service}-request\r\nContent-Length: {length}\r\n\r\n",
        token.basic("x")
    );
    stream.write_all(head.as_bytes()).expect("a request can be sent");
    stream.write_all(body).expect("a request can be sent");
    stream
}

/// Bytes that no pack makes smaller.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

#[test]
fn transfers_whose_client_goes_away_leave_how_far_they_came() {
    const BYTES: usize = 48 << 20;
    let git = Git::new();
    let (server, remote, token, clone) = cloned(&Setup::plain(), &git);
    std::fs::write(clone.join("noise"), noise(BYTES)).unwrap();
    git.ok(&clone, &["add", "noise"]);
    let tip = git.commit(&clone, "file", "one\n");
    remote
        .client(&git)
        .ok(&clone, &["push", "--quiet", "origin", "main"]);
    let follow = Follow::start(server.cli(), &["--json"]);
    let request = Request::new()
        .line("command=fetch")
        .delim()
        .line(format!("want {tip}\n"))
        .line("done\n")
        .flush();
    let mut stream = post(
        &server,
        &token,
        "git-upload-pack",
        request.bytes().len(),
        request.bytes(),
    );
    stream.read_exact(&mut [0; 100_000]).expect("the pack begins");
    drop(stream);
    let details = follow.next("git.fetch")["details"].clone();
    assert_eq!(
        (&details["outcome"], &details["wants"], &details["objects"]),
        (&json!("interrupted"), &json!(1), &json!(4))
    );
    let bytes = usize::try_from(details["bytes"].as_u64().unwrap()).unwrap();
    assert!(bytes > 50_000 && bytes < BYTES, "{details}");

    let command = format!("{} {tip} refs/heads/new\0 report-status", "0".repeat(40));
    let request = Request::new()
        .line(command)
        .flush()
        .raw(b"PACK\0\0\0\x02\0\0\0\x03");
    let mut stream = post(&server, &token, "git-receive-pack", 1_000_000, request.bytes());
    // The server hears the end of the request before that of the client.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    let details = follow.next("git.push")["details"].clone();
    assert_eq!(
        (&details["outcome"], &details["commands"]),
        (&json!("interrupted"), &json!(1))
    );
    let untouched = json!([{ "name": "refs/heads/new", "old": null, "new": tip, "result": null }]);
    assert_eq!(details["refs"], untouched);
    assert!(!git.refs(&remote.disk("repo")).contains("new"));
}

#[test]
fn what_happened_before_the_server_stops_is_in_the_trail() {
    let git = Git::new();
    let (mut server, remote, _, clone) = cloned(&Setup::plain(), &git);
    let client = remote.client(&git);
    git.commit(&clone, "file", "one\n");
    client.ok(&clone, &["push", "--quiet", "origin", "main"]);
    for name in ["a", "b", "c"] {
        client.ok(&server.work(), &["clone", "--quiet", &remote.url("repo"), name]);
    }
    server.signal("TERM");
    server.wait();
    assert_eq!(events(server.cli(), &["--action", "git.fetch"]).len(), 3);
}

#[test]
fn nobody_in_particular_can_fetch_what_is_public_and_leaves_an_event() {
    let git = Git::new();
    let (server, remote, _, clone) = cloned(&Setup::plain().arg("--allow-anonymous-read"), &git);
    git.commit(&clone, "file", "one\n");
    remote
        .client(&git)
        .ok(&clone, &["push", "--quiet", "origin", "main"]);
    server.cli().ok(&[
        "access",
        "grant",
        "everyone",
        "reader",
        "DefaultCollection/P/repo",
    ]);
    let follow = Follow::start(server.cli(), &["--json"]);
    let anonymous = server.anonymous();
    anonymous.client(&git).ok(
        &server.work(),
        &["clone", "--quiet", &anonymous.url("repo"), "again"],
    );
    let event = follow.next("git.fetch");
    assert_eq!(
        (&event["actor"], &event["account"], &event["token"]),
        (&json!("client"), &Value::Null, &Value::Null)
    );
    assert_eq!(event["address"], "127.0.0.1");
}

#[test]
fn a_server_tells_of_tokens_that_came_to_their_end() {
    let setup = Setup::plain();
    let cli = setup.cli();
    cli.user("anna");
    let (expired, live) = (cli.token("anna", "vso.code"), cli.token("anna", "vso.code"));
    cli.expire(&expired);
    let follow = Follow::start(cli, &["--json"]);
    let _server = setup.start();
    let event = follow.next("token.expire");
    assert_eq!(
        (&event["subject"], &event["actor"]),
        (&json!(expired.id), &json!("server"))
    );
    assert_eq!(
        event["details"],
        json!({ "account": "anna", "name": "test", "expired_at": "2001-09-09T01:46:40Z" })
    );
    assert_eq!(
        events(cli, &["--action", "token.expire"]).len(),
        1,
        "and of no other: {}",
        live.id
    );
}

#[test]
fn a_server_removes_what_is_older_than_the_policy_says() {
    let setup = Setup::plain();
    let cli = setup.cli();
    cli.user("anna");
    let age = |days: i64| {
        let db = rusqlite::Connection::open(setup.data().join("patgate.db")).unwrap();
        db.busy_timeout(EVENT_LIMIT).unwrap();
        db.execute("UPDATE audit_events SET at = at - ?1", [days * 86_400])
            .unwrap();
    };
    age(40);
    cli.token("anna", "vso.code");
    age(20);
    cli.ok(&["policy", "set", "audit-retention", "30"]);
    let follow = Follow::start(cli, &["--json"]);
    let _server = setup.start();
    assert_eq!(follow.next("audit.prune")["details"]["events"], 1);
    let left: Vec<Value> = events(cli, &["--user", "anna", "--action", "account.create"]);
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(
        events(cli, &["--action", "token.create", "--until", "1d"]).len(),
        1
    );
}
