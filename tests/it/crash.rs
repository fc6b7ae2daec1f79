//! `kill -9` of the server at random moments while it takes pushes: nothing acknowledged is lost, nothing is half
//! done, nothing is left over.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::harness::{Git, Server, Setup};

/// Kills in a run; 200 by hand, fewer where a machine waits for them.
fn rounds() -> u64 {
    std::env::var("PATGATE_CRASH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(30)
}

/// A kind of push: its refspecs and options, and the branches that it moves.
struct Kind {
    name: &'static str,
    args: &'static [&'static str],
    branches: &'static [&'static str],
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "one ref",
        args: &["HEAD:refs/heads/single"],
        branches: &["single"],
    },
    Kind {
        name: "several refs",
        args: &[
            "HEAD:refs/heads/first",
            "HEAD:refs/heads/second",
            "HEAD:refs/heads/dir/third",
        ],
        branches: &["first", "second", "dir/third"],
    },
    Kind {
        name: "several refs, atomic",
        args: &[
            "--atomic",
            "HEAD:refs/heads/left",
            "HEAD:refs/heads/right",
            "HEAD:refs/heads/far/side",
        ],
        branches: &["left", "right", "far/side"],
    },
];

/// What the client of one round did: the last tip that the server acknowledged, and those it was told of.
struct Pushed {
    acknowledged: Option<String>,
    tried: Vec<String>,
    /// What git said when a push failed.
    last_words: String,
}

/// Commits and pushes until a push fails.
fn push_until_it_fails(
    git: &Git,
    client: &Git,
    dir: &Path,
    kind: &Kind,
    url: &str,
    mut rng: StdRng,
) -> Pushed {
    let mut pushed = Pushed {
        acknowledged: None,
        tried: Vec::new(),
        last_words: String::new(),
    };
    loop {
        // Small ones end soon and show the ref transaction, large ones are cut while the pack comes in.
        let size = if rng.random_bool(0.3) { 600_000 } else { 100 };
        let mut bytes = vec![0; size];
        rng.fill(bytes.as_mut_slice());
        let text: String = bytes.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
        let tip = git.commit(dir, &format!("file-{}", rng.random_range(0..50)), &text);
        pushed.tried.push(tip.clone());
        let run = client.run(dir, &[&["push", "--quiet", "--force", url], kind.args].concat());
        if !run.is_ok() {
            pushed.last_words = run.err();
            return pushed;
        }
        pushed.acknowledged = Some(tip);
    }
}

/// Asserts that `dir` holds what a repository holds and nothing that a push was about to add or take away.
fn assert_tidy(dir: &Path, what: &str) {
    // Transactions of all processes take turns by locking `patgate-transaction`; it stays, and says nothing.
    let known = [
        "patgate-transaction",
        "HEAD",
        "config",
        "description",
        "hooks",
        "info",
        "objects",
        "packed-refs",
        "refs",
        "branches",
        "logs",
    ];
    for entry in std::fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            known.contains(&name.as_str()),
            "{what}: '{name}' is left in the repository"
        );
    }
    for entry in std::fs::read_dir(dir.join("objects")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_fanout = name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(
            is_fanout || name == "pack" || name == "info",
            "{what}: 'objects/{name}' is left"
        );
    }
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            assert!(
                !name.ends_with(".lock"),
                "{what}: {} is left",
                entry.path().display()
            );
            assert!(
                !name.starts_with("tmp_") && !name.ends_with(".tmp"),
                "{what}: {} is left",
                entry.path().display()
            );
            assert!(
                !name.ends_with(".keep"),
                "{what}: {} is left",
                entry.path().display()
            );
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    for entry in std::fs::read_dir(dir.join("objects/pack")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "pack") {
            assert!(
                path.with_extension("idx").exists(),
                "{what}: {} has no index",
                path.display()
            );
        }
    }
}

#[test]
fn a_server_killed_during_pushes_has_everything_it_acknowledged_and_nothing_else() {
    let seed = std::env::var("PATGATE_CRASH_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_u64);
    let mut rng = StdRng::seed_from_u64(seed);
    let git = Git::new();
    let setup = Setup::plain();
    let mut server = setup.start();
    let (remote, token) = server.contributor("vso.code_write");
    let disk = remote.init(&git, "repo");
    git.ok(&disk, &["config", "gc.auto", "0"]);
    let source = server.work().join("source");
    git.init(&source);
    git.commit(&source, "file", "text\n");

    // What each branch must be at, as of the last acknowledged push.
    let mut tips: BTreeMap<&str, Option<String>> = BTreeMap::new();
    let mut acknowledged = 0;
    let mut last_words = String::new();
    for round in 0..rounds() {
        let kind = &KINDS[rng.random_range(0..KINDS.len())];
        let what = format!("seed {seed}, round {round}, {}", kind.name);
        let url = server.remote(&token).url("repo");
        let delay = Duration::from_micros(rng.random_range(0..1_500_000));
        let pusher_rng = StdRng::seed_from_u64(rng.random());
        let (done, gone) = mpsc::channel::<()>();
        let pushed = std::thread::scope(|scope| {
            let pusher = scope.spawn(|| {
                let pushed = push_until_it_fails(&git, &git, &source, kind, &url, pusher_rng);
                drop(done);
                pushed
            });
            // The moment is random; a push that fails before it ends the wait as well.
            let _ = gone.recv_timeout(delay);
            server.kill();
            pusher.join().unwrap()
        });
        acknowledged += usize::from(pushed.acknowledged.is_some());
        last_words = pushed.last_words;

        server = setup.start();
        check(&server, &git, &token, &disk, &what);
        let ids: Vec<String> = kind
            .branches
            .iter()
            .map(|name| git.run(&disk, &["rev-parse", "--verify", "--quiet", name]).out())
            .collect();
        let last_tried = pushed.tried.last().cloned().unwrap();
        for (name, id) in kind.branches.iter().zip(&ids) {
            let expected = pushed
                .acknowledged
                .clone()
                .or_else(|| tips.get(name).cloned().flatten());
            let is_expected = *id == expected.clone().unwrap_or_default() || *id == last_tried;
            assert!(
                is_expected,
                "{what}: {name} is at '{id}', was acknowledged at {expected:?}"
            );
            tips.insert(*name, Some(id.clone()).filter(|id| !id.is_empty()));
        }
        if kind.args.contains(&"--atomic") {
            assert!(
                ids.windows(2).all(|pair| pair[0] == pair[1]),
                "{what}: an atomic push is half done: {ids:?}"
            );
        }
        for (name, tip) in &tips {
            let id = git.run(&disk, &["rev-parse", "--verify", "--quiet", name]).out();
            assert_eq!(
                id,
                tip.clone().unwrap_or_default(),
                "{what}: {name} moved by itself"
            );
        }
    }
    assert!(acknowledged > 0, "no push was ever acknowledged: {last_words}");
}

/// After the first requests the repository is tidy and healthy, and can be fetched and pushed to.
fn check(server: &Server, git: &Git, token: &crate::harness::Token, disk: &Path, what: &str) {
    let remote = server.remote(token);
    let url = remote.url("repo");
    let listed = git.run(&server.work(), &["ls-remote", &url]);
    assert!(listed.is_ok(), "{what}: {listed}");
    let probe = git.run(
        &server.work().join("source"),
        &["push", "--quiet", &url, ":refs/heads/never-there"],
    );
    assert!(!probe.err().contains("lock"), "{what}: {probe}");
    assert_tidy(disk, what);
    git.fsck(disk);
}

/// A client that goes away in the middle of a push leaves nothing either.
#[test]
fn a_push_whose_client_is_killed_leaves_nothing() {
    let git = Git::new();
    let server = Setup::plain().start();
    let (remote, token) = server.contributor("vso.code_write");
    let disk = remote.init(&git, "repo");
    let before = git.refs(&disk);
    // A command, the beginning of a pack that says it has a thousand objects, and then nothing more.
    let id = "1".repeat(40);
    let request = crate::harness::wire::Request::new()
        .line(format!(
            "{} {id} refs/heads/main\0report-status atomic",
            "0".repeat(40)
        ))
        .flush()
        .raw(b"PACK\x00\x00\x00\x02\x00\x00\x03\xe8");
    let head = format!(
        "POST /DefaultCollection/P/_git/repo/git-receive-pack HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\n\
         Content-Type: application/x-git-receive-pack-request\r\nContent-Length: 1000000\r\n\r\n",
        server.authority(),
        token.basic("x")
    );
    for _ in 0..5 {
        use std::io::Write as _;
        let mut stream = std::net::TcpStream::connect(server.authority()).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(request.bytes()).unwrap();
        drop(stream);
    }
    // The next push waits for nobody and the one after a drain finds no trace.
    let source = server.work().join("source");
    git.init(&source);
    git.commit(&source, "file", "text\n");
    git.ok(&source, &["push", "--quiet", &remote.url("repo"), "main"]);
    assert_ne!(git.refs(&disk), before);
    let mut server = server;
    server.signal("TERM");
    assert!(server.wait().success());
    assert_tidy(&disk, "after clients that went away");
    git.fsck(&disk);
}
