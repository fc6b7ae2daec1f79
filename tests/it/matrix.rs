//! Every scenario with every git on the machine, every protocol version, both HTTP versions, with TLS and without.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::harness::{Git, Remote, Setup, backend};
use crate::scenarios::{self, Cell};

const PROTOCOLS: [&str; 3] = ["0", "1", "2"];

/// Runs all scenarios for all gits and protocol versions, and fails with the names of those that failed.
fn run_all(remote: &Remote, work: &std::path::Path, gits: &[Git], options: &[(&str, &str)]) {
    let mut failures = Vec::new();
    for git in gits {
        for protocol in PROTOCOLS {
            let mut client = git.with("protocol.version", protocol);
            for (key, value) in options {
                client = client.with(key, value);
            }
            for (name, scenario) in scenarios::ALL {
                let cell = Cell::new(&client, remote, work);
                if catch_unwind(AssertUnwindSafe(|| scenario(&cell))).is_err() {
                    failures.push(format!("{name}: git {}, protocol {protocol}", git.version()));
                }
                // Hundreds of clones would fill the disk.
                drop(std::fs::remove_dir_all(&cell.work));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} cells failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn run_with(setup: &Setup, http_version: &str) {
    let server = setup.start();
    let (remote, _) = server.contributor("vso.code_write");
    run_all(
        &remote,
        &server.work(),
        &Git::all(),
        &[("http.version", http_version)],
    );
}

#[test]
fn everything_works_over_tls_and_http_1() {
    run_with(&Setup::tls(), "HTTP/1.1");
}

#[test]
fn everything_works_over_tls_and_http_2() {
    run_with(&Setup::tls(), "HTTP/2");
}

#[test]
fn everything_works_over_plain_http_1() {
    run_with(&Setup::plain(), "HTTP/1.1");
}

/// Without TLS there is no ALPN: the client offers to upgrade, and goes on in HTTP/1.1 when nobody takes it up.
#[test]
fn everything_works_over_plain_http_with_an_upgrade_offered() {
    run_with(&Setup::plain(), "HTTP/2");
}

#[test]
fn three_thousand_branches_are_pushed_at_once() {
    let server = Setup::plain().start();
    let (remote, _) = server.contributor("vso.code_write");
    for git in Git::all() {
        scenarios::push_of_many_refs(&Cell::new(&git, &remote, &server.work()));
    }
}

/// What the scenarios expect is what git does: stock `git http-backend` passes all of them.
#[test]
fn the_scenarios_hold_for_http_backend() {
    let dir = tempfile::tempdir().unwrap();
    let (root, work) = (dir.path().join("root"), dir.path().join("work"));
    for path in [&root, &work] {
        std::fs::create_dir_all(path).unwrap();
    }
    let git = Git::new();
    run_all(&backend::start(&git, &root), &work, &[git], &[]);
}

#[test]
fn tls_clients_that_can_do_speak_http_2() {
    let server = Setup::tls().start();
    let (remote, _) = server.contributor("vso.code");
    let git = Git::new();
    remote.init(&git, "empty");
    for (version, expected) in [
        ("HTTP/2", "ALPN: server accepted h2"),
        ("HTTP/1.1", "ALPN: server accepted http/1.1"),
    ] {
        let client = remote
            .client(&git)
            .with("http.version", version)
            .with_env("GIT_CURL_VERBOSE", "1");
        let run = client.run(&server.work(), &["ls-remote", &remote.url("empty")]);
        run.ok();
        assert!(run.err().contains(expected), "{version}: {run}");
    }
}

#[test]
fn there_is_at_least_one_git_of_each_kind_that_is_installed() {
    let versions: Vec<String> = Git::all().iter().map(|git| git.version().to_owned()).collect();
    assert!(!versions.is_empty());
    assert!(
        Git::all().iter().all(|git| git.is_at_least(2, 30)),
        "older gits are not what these tests are for: {versions:?}"
    );
}
