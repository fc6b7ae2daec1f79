//! The folder is the truth: repositories that other tools make, change and take away while the server runs.

use std::path::Path;

use crate::harness::{Git, Remote, Server, Setup, run};

fn start() -> (Git, Server, Remote) {
    let (git, server) = (Git::new(), Setup::plain().start());
    let (remote, _) = server.contributor("vso.code_write");
    (git, server, remote)
}

fn source(git: &Git, server: &Server) -> std::path::PathBuf {
    let source = server.work().join("source");
    git.init(&source);
    for number in 0..5 {
        git.commit(&source, "file", &format!("{number}\n"));
    }
    source
}

#[test]
fn a_repository_is_served_from_the_moment_it_is_there_until_it_is_gone() {
    let (git, server, remote) = start();
    let url = remote.url("repo");
    let list = || git.run(&server.work(), &["ls-remote", &url]);
    list().failed().says("not found");
    let source = source(&git, &server);
    let disk = remote.copy(&git, &source, "repo");
    assert!(list().ok().contains("refs/heads/main"));

    // Another repository in the place of the first is another repository.
    std::fs::remove_dir_all(&disk).unwrap();
    list().failed().says("not found");
    remote.init(&git, "repo");
    assert_eq!(list().ok(), "");

    // Under another name, as it is.
    std::fs::remove_dir_all(&disk).unwrap();
    remote.copy(&git, &source, "repo");
    std::fs::rename(&disk, remote.disk("renamed")).unwrap();
    list().failed().says("not found");
    assert!(
        git.ok(&server.work(), &["ls-remote", &remote.url("renamed")])
            .contains("refs/heads/main")
    );
}

#[test]
fn changes_that_stock_git_makes_are_seen_by_the_next_request() {
    let (git, server, remote) = start();
    let source = source(&git, &server);
    let disk = remote.copy(&git, &source, "repo");
    let url = remote.url("repo");
    let clone = server.work().join("clone");
    git.ok(&server.work(), &["clone", "--quiet", "--mirror", &url, "clone"]);
    let steps: [&[&str]; 9] = [
        &["branch", "topic", "main~1"],
        &["pack-refs", "--all"],
        &["update-ref", "refs/heads/topic", "main"],
        &["tag", "--annotate", "--message=v1", "v1"],
        &["gc", "--quiet", "--prune=now"],
        &["symbolic-ref", "HEAD", "refs/heads/topic"],
        &["branch", "--delete", "--force", "main"],
        &["repack", "-a", "-d", "--quiet"],
        &["prune-packed"],
    ];
    for step in steps {
        git.ok(&disk, step);
        git.ok(&clone, &["fetch", "--quiet", "--prune"]);
        assert_eq!(git.refs(&disk), git.refs(&clone), "after {step:?}");
        let listed = git.ok(&clone, &["ls-remote", "--symref", "origin", "HEAD"]);
        let head = git.ok(&disk, &["symbolic-ref", "HEAD"]);
        assert!(
            listed.starts_with(&format!("ref: {head}\tHEAD")),
            "after {step:?}: {listed}"
        );
    }
    git.fsck(&clone);
}

/// `git gc` without pause beside clones without pause: no clone may notice.
#[test]
fn clones_go_on_while_git_gc_runs() {
    let (git, server, remote) = start();
    let source = source(&git, &server);
    let disk = remote.copy(&git, &source, "repo");
    let (url, work) = (remote.url("repo"), server.work());
    std::thread::scope(|scope| {
        let cloner = scope.spawn(|| {
            for number in 0..12 {
                let name = format!("clone-{number}");
                git.ok(&work, &["clone", "--quiet", &url, &name]);
                git.fsck(&work.join(&name));
            }
        });
        let mut number = 0;
        while !cloner.is_finished() {
            number += 1;
            git.ok(
                &disk,
                &["update-ref", &format!("refs/heads/extra/{number}"), "main"],
            );
            git.ok(&disk, &["gc", "--quiet", "--prune=now"]);
        }
        cloner.join().unwrap();
    });
}

#[test]
fn administrators_see_a_new_repository_and_others_once_access_is_granted() {
    let (git, server) = (Git::new(), Setup::plain().start());
    let cli = server.cli();
    run::run(
        &mut cli.command(&["user", "add", "root", "--admin", "--password-stdin"]),
        format!("{}\n", crate::harness::cli::PASSWORD).as_bytes(),
    )
    .ok();
    cli.user("anna");
    let (admin, anna) = (cli.token("root", "vso.code"), cli.token("anna", "vso.code"));
    server.anonymous().init(&git, "repo");
    let list = |token| git.run(&server.work(), &["ls-remote", &server.remote(token).url("repo")]);
    list(&admin).ok();
    list(&anna).failed().says("not found");
    cli.ok(&["access", "grant", "anna", "reader", "DefaultCollection/P/repo"]);
    list(&anna).ok();
}

#[test]
fn links_that_lead_out_of_the_root_are_not_followed() {
    let (git, server, remote) = start();
    let source = source(&git, &server);
    let outside = server.work().join("outside.git");
    git.ok(
        &source,
        &["clone", "--quiet", "--bare", ".", outside.to_str().unwrap()],
    );
    remote.init(&git, "other");
    std::os::unix::fs::symlink(&outside, remote.disk("linked")).unwrap();
    git.run(&server.work(), &["ls-remote", &remote.url("linked")])
        .failed()
        .says("not found");
}

#[test]
fn repositories_of_a_kind_that_is_not_supported_are_refused_by_name() {
    let (git, server, remote) = start();
    let disk = remote.init(&git, "repo");
    git.ok(&disk, &["config", "core.repositoryFormatVersion", "1"]);
    git.ok(&disk, &["config", "extensions.noop", "true"]);
    git.ok(&server.work(), &["ls-remote", &remote.url("repo")]);
    let config = std::fs::read_to_string(disk.join("config")).unwrap();
    for (key, value) in [("fancyNewThing", "true"), ("refStorage", "reftable")] {
        std::fs::write(
            disk.join("config"),
            format!("{config}[extensions]\n\t{key} = {value}\n"),
        )
        .unwrap();
        let run = git.run(&server.work(), &["ls-remote", &remote.url("repo")]);
        run.failed().says(&format!("extensions.{key}"));
        server.logs(&format!("extensions.{key}"));
    }
}

#[test]
fn what_is_no_repository_is_not_there() {
    let (git, server, remote) = start();
    let project = remote.disk("x").parent().unwrap().to_owned();
    std::fs::create_dir_all(project.join("folder.git")).unwrap();
    std::fs::write(project.join("file.git"), "text").unwrap();
    for name in ["folder", "file", "none"] {
        git.run(&server.work(), &["ls-remote", &remote.url(name)])
            .failed()
            .says("not found");
    }
}

/// Replace refs and grafts change what local commands show, never what is sent.
#[test]
fn replace_refs_and_grafts_are_not_applied() {
    let (git, server, remote) = start();
    let source = source(&git, &server);
    let disk = remote.copy(&git, &source, "repo");
    let (tip, first) = (
        git.ok(&disk, &["rev-parse", "main"]),
        git.ok(&disk, &["rev-parse", "main~3"]),
    );
    git.ok(
        &disk,
        &["replace", &git.ok(&disk, &["rev-parse", "main~1"]), &first],
    );
    std::fs::create_dir_all(disk.join("info")).unwrap();
    std::fs::write(disk.join("info/grafts"), format!("{tip}\n")).unwrap();
    git.ok(
        &server.work(),
        &["clone", "--quiet", "--bare", &remote.url("repo"), "clone"],
    );
    assert_eq!(
        git.ok(&server.work().join("clone"), &["rev-list", "--count", "main"]),
        "5"
    );
    git.fsck(&server.work().join("clone"));
}

/// The same history in every way in which stock git stores it.
#[test]
fn every_layout_is_cloned_and_pushed_to() {
    let (git, server, remote) = start();
    let project = remote.disk("x").parent().unwrap().to_owned();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/make_layouts.sh");
    let made = run::run(run::command(Path::new(script)).arg(&project), b"").ok();
    assert!(made.lines().count() >= 8, "{made}");
    for name in made.lines() {
        for protocol in ["0", "2"] {
            let (client, clone) = (
                git.with("protocol.version", protocol),
                format!("{name}-{protocol}"),
            );
            client.ok(
                &server.work(),
                &["clone", "--quiet", "--mirror", &remote.url(name), &clone],
            );
            let clone = server.work().join(&clone);
            assert_eq!(git.refs(&clone), git.refs(&remote.disk(name)), "{name}");
            assert!(git.objects(&clone) == git.objects(&remote.disk(name)), "{name}");
            git.fsck(&clone);
            client.ok(
                &clone,
                &[
                    "push",
                    "--quiet",
                    &remote.url(name),
                    &format!("main~1:refs/heads/new-{protocol}"),
                ],
            );
        }
        git.fsck(&remote.disk(name));
    }
}
