//! Transfers that the gate ends while they run, refs that a token leaves out, and what clients hear of a token's end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::wire::{self, Request};
use crate::harness::{Curl, Gauge, Git, Remote, Run, Server, Setup, Token, Valve, run};

/// Longest time from a change of a right to the end of what it covered.
const CUT_MAX: Duration = Duration::from_secs(1);

/// Bytes of the large transfers; nothing on the way can hold nearly as many.
const LARGE_BYTES: usize = 110 << 20;

/// Bytes that sockets, proxies and the server may hold back of a large transfer, generously.
const HELD_BYTES_MAX: u64 = 40 << 20;

const ZERO: &str = "0000000000000000000000000000000000000000";

/// Fills the bare repository `dir` with one commit of `bytes` that nothing can shrink.
fn fill(git: &Git, dir: &Path, bytes: usize) {
    let mut random = std::fs::File::open("/dev/urandom").unwrap();
    let mut stream = Vec::with_capacity(bytes + 10_000);
    let mut files = Vec::new();
    for number in 0..10 {
        let mut data = vec![0; bytes / 10];
        random.read_exact(&mut data).unwrap();
        stream.extend_from_slice(format!("blob\nmark :{}\ndata {}\n", number + 1, data.len()).as_bytes());
        stream.extend_from_slice(&data);
        stream.push(b'\n');
        files.push(format!("M 100644 :{} file-{number}\n", number + 1));
    }
    stream.extend_from_slice(b"commit refs/heads/main\ncommitter a <a@b> 1700000000 +0000\ndata 2\nx\n");
    stream.extend_from_slice(files.concat().as_bytes());
    let git = unpacked(git).with("fastimport.unpackLimit", "0");
    git.feed(dir, &["fast-import", "--quiet"], &stream).ok();
}

/// A git that does not try to make large files smaller, which takes long and fails with these.
fn unpacked(git: &Git) -> Git {
    git.with("core.compression", "0")
        .with("core.bigFileThreshold", "1m")
}

fn start(git: &Git, dir: &Path, args: &[&str]) -> Child {
    run::spawn(&mut git.command(dir, args))
}

/// Waits for the server's word that it cut a transfer, and asserts that this took no longer than it may.
#[track_caller]
fn assert_cut(server: &Server, since: Instant) {
    server.logs("a transfer was cut");
    assert!(since.elapsed() < CUT_MAX, "it took {:?}", since.elapsed());
}

/// Names of the quarantines in a repository.
fn quarantines(repository: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(repository.join("objects")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("tmp_objdir")).collect()
}

/// Waits until a repository has as many quarantines.
#[track_caller]
fn wait_for_quarantines(repository: &Path, count: usize, until: Instant) {
    while quarantines(repository).len() != count {
        assert!(
            Instant::now() < until,
            "there must be {count}: {:?}",
            quarantines(repository)
        );
        std::thread::yield_now();
    }
}

fn packs(repository: &Path) -> usize {
    std::fs::read_dir(repository.join("objects/pack"))
        .unwrap()
        .count()
}

/// The setups over which the large transfers run: HTTP/1.1 in plain, and HTTP/2 in TLS.
fn setups() -> [Setup; 2] {
    [Setup::plain(), Setup::tls()]
}

#[test]
fn a_running_clone_is_cut_within_a_second_of_its_tokens_end_and_others_go_on() {
    for setup in setups() {
        let git = Git::new();
        let server = setup.start();
        let (remote, token) = server.contributor("vso.code");
        let other = server.remote(&server.cli().token("anna", "vso.code"));
        let disk = remote.init(&git, "repo");
        fill(&git, &disk, LARGE_BYTES);

        let valves = [&remote, &other].map(|remote| {
            let valve = Valve::new(&server, Gauge::EVERYTHING, 8 << 20);
            let url = valve.remote(remote).url("repo");
            let name = run::unique().to_string();
            let client = unpacked(&remote.client(&git));
            let child = start(&client, &server.work(), &["clone", "--bare", &url, &name]);
            (valve, child, server.work().join(name))
        });
        for (valve, ..) in &valves {
            valve.down().wait_for(8 << 20);
        }
        server.cli().ok(&["token", "revoke", &token.id]);
        assert_cut(&server, Instant::now());

        let [(valve, child, cut), (other_valve, other_child, whole)] = valves;
        valve.down().allow(Gauge::EVERYTHING);
        let run = run::finish(child, "git clone");
        run.failed()
            .says("remote: The token 'test' was revoked on ")
            .says("early EOF");
        assert_eq!(run.out(), "", "{run}");
        assert!(
            valve.down().passed() < HELD_BYTES_MAX,
            "{} bytes",
            valve.down().passed()
        );
        assert!(!cut.exists(), "a clone that was cut must not look whole");
        server.logs("outcome=\"aborted\"");

        other_valve.down().allow(Gauge::EVERYTHING);
        run::finish(other_child, "git clone").ok();
        git.fsck(&whole);
        assert_eq!(git.refs(&whole), git.refs(&disk));
        assert_eq!(
            server.log().matches("a transfer was cut").count(),
            1,
            "{}",
            server.log()
        );
    }
}

/// A push of much to a branch that is there already.
struct LargePush {
    server: Server,
    git: Git,
    token: Token,
    disk: std::path::PathBuf,
    valve: Valve,
    child: Child,
    before: String,
}

impl LargePush {
    /// Starts a push of which the first `up` bytes arrive.
    fn start(setup: &Setup, up: u64) -> LargePush {
        let git = Git::new();
        let server = setup.start();
        let (remote, token) = server.contributor("vso.code_write");
        let source = server.work().join("source");
        git.init_bare(&source);
        fill(&git, &source, LARGE_BYTES);
        let small = server.work().join("small");
        git.init(&small);
        git.commit(&small, "file", "small\n");
        let disk = remote.copy(&git, &small, "repo");
        let before = git.refs(&disk);
        let valve = Valve::new(&server, up, Gauge::EVERYTHING);
        let url = valve.remote(&remote).url("repo");
        let client = unpacked(&remote.client(&git));
        let push = ["push", "--porcelain", &url, "+main", "main:refs/heads/new"];
        let child = start(&client, &source, &push);
        valve.up().wait_for(up);
        wait_for_quarantines(&disk, 1, Instant::now() + Duration::from_secs(60));
        LargePush {
            server,
            git,
            token,
            disk,
            valve,
            child,
            before,
        }
    }

    /// Asserts that nothing of the push is left and that its client says why.
    fn end(self, since: Instant) {
        wait_for_quarantines(&self.disk, 0, since + CUT_MAX);
        assert_eq!(self.git.refs(&self.disk), self.before, "no ref may move");
        self.valve.up().allow(Gauge::EVERYTHING);
        let run = run::finish(self.child, "git push");
        run.failed();
        for (name, from) in [("main", "main"), ("new", "main")] {
            let line = format!(
                "!\trefs/heads/{from}:refs/heads/{name}\t[remote rejected] (The token 'test' was revoked"
            );
            assert!(run.out().contains(&line), "{run}");
        }
        assert_eq!(self.git.refs(&self.disk), self.before, "no ref may move");
        assert_eq!(packs(&self.disk), 0, "no object may stay");
        self.git.fsck(&self.disk);
    }
}

#[test]
fn a_push_whose_client_has_stopped_sending_is_cut_within_a_second() {
    for setup in setups() {
        let push = LargePush::start(&setup, 12 << 20);
        push.server.cli().ok(&["token", "revoke", &push.token.id]);
        let since = Instant::now();
        assert_cut(&push.server, since);
        push.end(since);
    }
}

#[test]
fn a_push_that_moves_is_cut_within_a_second_of_its_tokens_end() {
    let push = LargePush::start(&Setup::plain(), 4 << 20);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let since = std::thread::scope(|scope| {
        scope.spawn(|| {
            // A slow line: a quarter of a megabyte, as soon as the last one has passed, at most every 20 ms.
            let (_keep, never) = std::sync::mpsc::channel::<()>();
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                push.valve.up().allow(256 << 10);
                let _elapsed = never.recv_timeout(Duration::from_millis(20));
            }
        });
        push.server.cli().ok(&["token", "revoke", &push.token.id]);
        let since = Instant::now();
        assert_cut(&push.server, since);
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        since
    });
    assert!(
        push.valve.up().passed() < LARGE_BYTES as u64 / 2,
        "the push must still have been under way"
    );
    push.end(since);
}

/// A request whose end does not come, on a socket of its own.
struct Waiting {
    socket: TcpStream,
    token: Token,
    /// An account of which it is the only request.
    account: &'static str,
}

impl Waiting {
    /// Sends `head` and then `body`, once the server asks for it.
    fn send(server: &Server, token: &Token, account: &'static str, service: &str, body: &[u8]) -> Waiting {
        let mut socket = TcpStream::connect(server.authority()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = format!(
            "POST /DefaultCollection/P/_git/repo/{service} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n\
             Content-Type: application/x-{service}-request\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n",
            token.basic("x")
        );
        socket.write_all(head.as_bytes()).unwrap();
        let mut go_on = [0; 25];
        socket.read_exact(&mut go_on).unwrap();
        assert_eq!(
            &go_on, b"HTTP/1.1 100 Continue\r\n\r\n",
            "the gate must let it in"
        );
        socket
            .write_all(format!("{:x}\r\n", body.len()).as_bytes())
            .unwrap();
        socket.write_all(&[body, b"\r\n"].concat()).unwrap();
        Waiting {
            socket,
            token: token.clone(),
            account,
        }
    }

    /// The answer, which has `end` in it.
    fn answer(&mut self, end: &str) -> String {
        let mut got = Vec::new();
        while !String::from_utf8_lossy(&got).contains(end) {
            let mut buffer = [0; 4096];
            let count = self.socket.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "{}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8_lossy(&got).into_owned()
    }
}

/// The beginning of a push that makes a branch, up to somewhere in its pack.
fn half_a_push(branch: &str) -> Vec<u8> {
    let id = "1".repeat(40);
    let command = format!("{ZERO} {id} refs/heads/{branch}\0report-status side-band-64k object-format=sha1");
    Request::new()
        .line(command)
        .flush()
        .raw(b"PACK\0\0\0\x02\0\0\0\x01")
        .bytes()
        .to_vec()
}

#[test]
fn every_change_that_takes_a_right_away_cuts_the_push_that_it_covered_and_no_other() {
    type Act = fn(&Server, &Waiting);
    let acts: [(&str, Act, &str); 8] = [
        (
            "rotated",
            |server, push| {
                let new = server.cli().ok(&["token", "rotate", &push.token.id]);
                server.cli().keep(&new);
            },
            "has a newer secret",
        ),
        (
            "revoked",
            |server, push| drop(server.cli().ok(&["token", "revoke", &push.token.id])),
            "was revoked",
        ),
        (
            "expired",
            |server, push| server.cli().expire(&push.token),
            "expired on 2001-09-09",
        ),
        (
            "narrowed",
            |server, push| {
                drop(
                    server
                        .cli()
                        .ok(&["token", "update", &push.token.id, "--scope", "vso.code"]),
                )
            },
            "lacks the scope vso.code_write",
        ),
        (
            "disabled",
            |server, push| drop(server.cli().ok(&["user", "disable", push.account])),
            "is disabled",
        ),
        (
            "deleted",
            |server, push| drop(server.cli().ok(&["user", "delete", push.account, "--yes"])),
            "does not know this token",
        ),
        (
            "reader",
            |server, push| drop(server.cli().ok(&["access", "grant", push.account, "reader"])),
            "is only a reader",
        ),
        (
            "stranger",
            |server, push| drop(server.cli().ok(&["access", "revoke", push.account])),
            "There is no such repository here, or your token may not see it",
        ),
    ];
    let git = Git::new();
    let server = Setup::plain().start();
    let (remote, bystander) = server.contributor("vso.code_write");
    let disk = remote.init(&git, "repo");
    let _other = Waiting::send(
        &server,
        &bystander,
        "anna",
        "git-receive-pack",
        &half_a_push("other"),
    );
    let mut pushes = Vec::new();
    for (account, act, reason) in acts {
        server.cli().contributor(account);
        let token = server.cli().token(account, "vso.code_write");
        let push = Waiting::send(
            &server,
            &token,
            account,
            "git-receive-pack",
            &half_a_push(account),
        );
        pushes.push((push, act, reason));
    }
    let mut left = pushes.len() + 1;
    wait_for_quarantines(&disk, left, Instant::now() + Duration::from_secs(60));
    for (mut push, act, reason) in pushes {
        act(&server, &push);
        let since = Instant::now();
        let answer = push.answer(reason);
        assert!(
            since.elapsed() < CUT_MAX,
            "{}: {:?}",
            push.account,
            since.elapsed()
        );
        let is_report = answer.starts_with("HTTP/1.1 200 OK\r\n")
            && answer.contains("unpack ")
            && answer.contains(&format!("ng refs/heads/{}", push.account));
        assert!(is_report, "{}: {answer}", push.account);
        left -= 1;
        wait_for_quarantines(&disk, left, since + CUT_MAX);
    }
    assert_eq!(left, 1, "the other push goes on");
    let trail = server.cli().json(&["audit", "list"]).to_string();
    assert!(
        !trail.contains("token.reuse"),
        "what ran before a rotation is no theft"
    );
    assert_eq!(git.refs(&disk), "");
}

/// No change of the database tells of it.
#[test]
fn a_push_whose_token_expires_meanwhile_is_cut_within_a_second() {
    let git = Git::new();
    let server = Setup::plain().start();
    let (remote, token) = server.contributor("vso.code_write");
    let disk = remote.init(&git, "repo");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let end = now + Duration::from_secs(4);
    server
        .cli()
        .expire_at(&token, i64::try_from(end.as_secs()).unwrap());
    let mut push = Waiting::send(&server, &token, "anna", "git-receive-pack", &half_a_push("new"));
    wait_for_quarantines(&disk, 1, Instant::now() + Duration::from_secs(60));
    push.answer("expired on ");
    let late = std::time::UNIX_EPOCH.elapsed().unwrap() - Duration::from_secs(end.as_secs());
    assert!(late < CUT_MAX, "{late:?}");
    assert_eq!(git.refs(&disk), "");
}

#[test]
fn a_request_that_has_not_arrived_is_answered_with_the_refusal() {
    let git = Git::new();
    let server = Setup::plain().start();
    let (remote, token) = server.contributor("vso.code_write");
    remote.init(&git, "repo");
    for (service, body) in [
        ("git-upload-pack", "0011command=fetch"),
        ("git-receive-pack", "00a0"),
    ] {
        let token = server.cli().token("anna", "vso.code_write");
        let mut request = Waiting::send(&server, &token, "anna", service, body.as_bytes());
        server.cli().ok(&["token", "revoke", &token.id]);
        let since = Instant::now();
        let answer = request.answer("was revoked");
        assert!(since.elapsed() < CUT_MAX, "{service}: {:?}", since.elapsed());
        assert!(
            answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"),
            "{service}: {answer}"
        );
    }
    git.ok(&server.work(), &["ls-remote", &server.remote(&token).url("repo")]);
}

/// A repository with one commit on `main`, its work tree with one more, and a client of it.
fn workshop(server: &Server, git: &Git, remote: &Remote) -> (std::path::PathBuf, std::path::PathBuf, Git) {
    let source = server.work().join("source");
    git.init(&source);
    git.commit(&source, "file", "one\n");
    let disk = remote.copy(git, &source, "repo");
    git.ok(&source, &["remote", "add", "origin", &remote.url("repo")]);
    git.commit(&source, "file", "two\n");
    (source, disk, remote.client(git))
}

#[test]
fn a_token_limited_to_some_refs_pushes_to_those_alone() {
    let git = Git::new();
    let server = Setup::plain().start();
    let (remote, token) = server.contributor("vso.code_write");
    let (source, disk, client) = workshop(&server, &git, &remote);
    server.cli().limit(
        &token,
        &json!({ "refs": ["refs/heads/ci/*", "refs/tags/v1"], "paths": [], "networks": [] }),
    );
    let refused = |name: &str| {
        format!("!\tHEAD:{name}\t[remote rejected] (token limited to refs/heads/ci/*, refs/tags/v1)")
    };
    let push = |args: &[&str]| client.run(&source, &[&["push", "--porcelain", "origin"], args].concat());

    // Nothing of it may be used, so nothing of it is taken in.
    let before = git.refs(&disk);
    let run = push(&["HEAD:refs/heads/main", "HEAD:refs/tags/v2", "HEAD:refs/heads/ci"]);
    run.failed();
    for name in ["refs/heads/main", "refs/tags/v2", "refs/heads/ci"] {
        assert!(run.out().contains(&refused(name)), "{run}");
    }
    assert_eq!((git.refs(&disk), packs(&disk)), (before.clone(), 0));

    let atomic = push(&["--atomic", "HEAD:refs/heads/main", "HEAD:refs/heads/ci/a"]);
    atomic.failed();
    assert!(atomic.out().contains(&refused("refs/heads/main")), "{atomic}");
    assert!(
        atomic
            .out()
            .contains("HEAD:refs/heads/ci/a\t[remote rejected] (atomic push failure)"),
        "{atomic}"
    );
    assert_eq!((git.refs(&disk), packs(&disk)), (before, 0));

    // Some of it may.
    let run = push(&[
        "HEAD:refs/heads/main",
        "HEAD:refs/heads/ci/a/b",
        "HEAD:refs/tags/v1",
    ]);
    run.failed();
    assert!(run.out().contains(&refused("refs/heads/main")), "{run}");
    let tip = git.ok(&source, &["rev-parse", "HEAD"]);
    for name in ["refs/heads/ci/a/b", "refs/tags/v1"] {
        assert_eq!(git.ok(&disk, &["rev-parse", name]), tip, "{name}");
    }
    assert_ne!(git.ok(&disk, &["rev-parse", "main"]), tip);
    push(&["--delete", "refs/heads/main"]).failed();
    push(&["--delete", "refs/heads/ci/a/b"]).ok();
    git.fsck(&disk);

    // It reads everything, and a change of its limits holds from the next request on.
    client.ok(&source, &["fetch", "--quiet", "origin"]);
    server.cli().limit(
        &token,
        &json!({ "refs": ["refs/heads/*"], "paths": [], "networks": [] }),
    );
    push(&["HEAD:refs/heads/main"]).ok();
}

/// How often a run tells of the token's end.
fn notices(run: &Run) -> usize {
    run.err().matches("remote: token 'test' expires in ").count()
}

#[test]
fn a_token_near_its_end_is_announced_once_by_each_fetch_and_push_and_by_nothing_else() {
    let server = Setup::plain().start();
    let (far, _) = server.contributor("vso.code_write");
    let token = server.cli().token_for("anna", "vso.code_write", "5d");
    let near = server.remote(&token);
    for git in Git::all() {
        for version in ["0", "1", "2"] {
            let git = git.with("protocol.version", version);
            let name = format!("repo-{}", run::unique());
            let source = server.work().join(format!("source-{name}"));
            git.init(&source);
            git.commit(&source, "file", "one\n");
            near.copy(&git, &source, &name);
            let (near_url, far_url) = (near.url(&name), far.url(&name));
            let what = format!("git {} with version {version}", git.version());

            for (url, expected) in [(&near_url, 1), (&far_url, 0)] {
                for quiet in [&[][..], &["--quiet"], &["--progress"]] {
                    let to = run::unique().to_string();
                    let run = git.run(&server.work(), &[&["clone"], quiet, &[url, &to]].concat());
                    assert_eq!(
                        (run.ok().as_str(), notices(&run)),
                        ("", expected),
                        "{what}: {run}"
                    );
                    assert!(
                        expected == 0
                            || run
                                .err()
                                .contains(&format!("rotate it with 'patgate token rotate {}'", token.id)),
                        "{run}"
                    );
                    let clone = server.work().join(&to);
                    // Nothing to fetch, nothing to tell.
                    let run = git.run(&clone, &["fetch"]);
                    assert_eq!((run.ok().as_str(), notices(&run)), ("", 0), "{what}: {run}");
                }
            }
            let listed = |url: &str| {
                let run = git.run(&server.work(), &["ls-remote", url]);
                assert_eq!(run.err(), "", "{what}");
                run.ok()
            };
            assert_eq!(listed(&near_url), listed(&far_url));

            // A push says it, whatever becomes of it, and what scripts read is the same for both tokens.
            let pushed = |url: &str, args: &[&str]| {
                let run = git.run(&source, &[&["push", "--porcelain", url], args].concat());
                let out = run.out().replace(url, "URL");
                (run.code(), out, notices(&run))
            };
            for (number, quiet) in [&[][..], &["--quiet"], &["--progress"]].into_iter().enumerate() {
                git.commit(&source, "file", &format!("{number}\n"));
                let branch = |name| format!("HEAD:refs/heads/{name}-{number}");
                let (code, out, count) = pushed(&near_url, &[quiet, &[&branch("b")]].concat());
                let (far_code, far_out, far_count) = pushed(&far_url, &[quiet, &[&branch("c")]].concat());
                assert_eq!((code, count, far_count), (Some(0), 1, 0), "{what}");
                assert_eq!((code, out), (far_code, far_out.replace("/c-", "/b-")), "{what}");
            }
            git.ok(&near.disk(&name), &["config", "receive.denyDeletes", "true"]);
            let (code, out, count) = pushed(&near_url, &["--delete", "b-0"]);
            assert_eq!((code, count), (Some(1), 1), "{what}: {out}");
            assert!(out.contains("[remote rejected] (deletion prohibited)"), "{out}");
        }
    }
}

/// Where there is no band for it, there is no notice: what it would go into is the pack, or the report.
#[test]
fn a_client_without_a_sideband_hears_nothing_of_a_tokens_end() {
    let git = Git::new();
    let server = Setup::plain().start();
    let (remote, _) = server.contributor("vso.code_write");
    let (source, disk, _) = workshop(&server, &git, &remote);
    let token = server.cli().token_for("anna", "vso.code_write", "5d");
    let tip = git.ok(&disk, &["rev-parse", "main"]);
    let path = "/DefaultCollection/P/_git/repo";

    let request = Request::new()
        .line(format!("want {tip} ofs-delta\n"))
        .flush()
        .line("done\n");
    let reply = Curl::post(&server, path, "git-upload-pack", request.bytes());
    let reply = reply.token(&token).send();
    let (nak, pack) = reply.body.split_at(8);
    assert_eq!((reply.status, nak), (200, &b"0008NAK\n"[..]));
    git.feed(&source, &["index-pack", "--stdin", "--strict"], pack)
        .ok();

    let command = format!("{ZERO} {tip} refs/heads/new\0report-status");
    let pack = git.feed(&source, &["pack-objects", "-q", "--stdout"], b"");
    let request = Request::new().line(command).flush().raw(pack.bytes());
    let reply = Curl::post(&server, path, "git-receive-pack", request.bytes());
    let reply = reply.token(&token).send();
    assert_eq!(wire::text(&reply.body), "unpack ok\nok refs/heads/new");
    assert_eq!(git.ok(&disk, &["rev-parse", "new"]), tip);
}
