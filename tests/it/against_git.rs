//! The same work done by patgate and by stock `git http-backend`: what the clients end up with must be equal.

use std::path::Path;

use crate::harness::history::History;
use crate::harness::{Git, Remote, Setup, backend};

/// Histories that are compared; `PATGATE_HISTORIES` asks for more.
fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("PATGATE_HISTORIES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(4);
    0..count
}

/// Steps of one history.
const STEPS: usize = 10;

#[track_caller]
fn assert_same(git: &Git, seed: u64, step: usize, what: &str, expected: &Path, actual: &Path) {
    assert_eq!(
        git.refs(expected),
        git.refs(actual),
        "refs of {what}, history {seed}, step {step}"
    );
    assert!(
        git.objects(expected) == git.objects(actual),
        "the objects of {what} must be those of the original, history {seed}, step {step}"
    );
    git.fsck(actual);
}

fn mirror(git: &Git, remote: &Remote, dir: &Path, options: &[&str]) {
    let url = remote.url("history");
    let client = remote.client(git);
    if dir.exists() {
        client.ok(
            dir,
            &[
                &["fetch", "--quiet", "--prune", "--force"],
                options,
                &[&url, "+refs/*:refs/*"],
            ]
            .concat(),
        );
    } else {
        let work = dir.parent().expect("a folder for clones");
        let name = dir.file_name().and_then(|name| name.to_str()).expect("a name");
        client.ok(work, &["clone", "--quiet", "--mirror", &url, name]);
    }
}

#[test]
fn clones_and_fetches_bring_what_http_backend_brings() {
    for seed in seeds() {
        let server = Setup::plain().start();
        let (ours, _) = server.contributor("vso.code");
        let git = Git::new().with("protocol.version", ["2", "0"][usize::from(seed % 2 == 1)]);
        let theirs = backend::start(&git, &ours.root);
        let mut history = History::new(&git, &ours.disk("history"), seed);
        let work = server.work();
        for step in 0..STEPS {
            history.step();
            history.rearrange();
            for (name, remote) in [("patgate", &ours), ("backend", &theirs)] {
                let grown = work.join(format!("{name}-grown"));
                mirror(&git, remote, &grown, &[]);
                assert_same(
                    &git,
                    seed,
                    step,
                    &format!("a mirror of {name}, fetched"),
                    history.dir(),
                    &grown,
                );
            }
            // One branch alone brings what it reaches and the tags on the way, and nothing is missing.
            let url = ours.url("history");
            let single = work.join(format!("single-{step}"));
            ours.client(&git).ok(
                &work,
                &[
                    "clone",
                    "--quiet",
                    "--bare",
                    "--single-branch",
                    "--branch=main",
                    &url,
                    single.to_str().expect("a path"),
                ],
            );
            git.fsck(&single);
            let reached = |dir: &Path| {
                git.ok(
                    dir,
                    &["rev-list", "--objects", "--no-object-names", "refs/heads/main"],
                )
            };
            assert_eq!(
                reached(history.dir()),
                reached(&single),
                "what main reaches, history {seed}, step {step}"
            );
        }
        let whole = work.join("whole");
        mirror(&git, &ours, &whole, &[]);
        assert_same(
            &git,
            seed,
            STEPS,
            "a mirror of patgate, cloned",
            history.dir(),
            &whole,
        );
    }
}

#[test]
fn pushes_leave_what_they_leave_behind_http_backend() {
    for seed in seeds() {
        let server = Setup::plain().start();
        let (ours, _) = server.contributor("vso.code_write");
        let git = Git::new();
        // Thin packs on every other history; git sends them by default.
        let thin = ["--thin", "--no-thin"][usize::from(seed % 2 == 1)];
        let backend_root = server.work().join("backend");
        std::fs::create_dir_all(&backend_root).expect("a root");
        let theirs = backend::start(&git, &backend_root);
        let mut history = History::new(&git, &server.work().join("source.git"), seed + 1000);
        for remote in [&ours, &theirs] {
            let dir = remote.init(&git, "history");
            git.ok(&dir, &["config", "gc.auto", "0"]);
        }
        for step in 0..STEPS {
            history.step();
            for (name, remote) in [("patgate", &ours), ("backend", &theirs)] {
                remote.client(&git).ok(
                    history.dir(),
                    &["push", "--quiet", "--mirror", thin, &remote.url("history")],
                );
                let what = format!("{name}, pushed to");
                assert_same(&git, seed, step, &what, history.dir(), &remote.disk("history"));
            }
            if step % 3 == 2 {
                git.ok(&ours.disk("history"), &["gc", "--quiet", "--prune=now"]);
            }
        }
    }
}

#[test]
fn http_backend_behind_the_bridge_serves_random_histories() {
    let git = Git::new();
    let dir = tempfile::tempdir().expect("a folder");
    let (root, work) = (dir.path().join("root"), dir.path().join("work"));
    std::fs::create_dir_all(&work).expect("a folder");
    std::fs::create_dir_all(&root).expect("a folder");
    let theirs = backend::start(&git, &root);
    let mut history = History::new(&git, &theirs.disk("history"), 7);
    for step in 0..STEPS {
        history.step();
        history.rearrange();
        mirror(&git, &theirs, &work.join("grown"), &[]);
        assert_same(
            &git,
            7,
            step,
            "a mirror of the backend",
            history.dir(),
            &work.join("grown"),
        );
    }
    assert!(
        git.objects(history.dir()).len() > 100,
        "a history must be worth comparing"
    );
}
