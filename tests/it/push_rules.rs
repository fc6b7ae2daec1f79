//! What a push may not do, and the words in which it is refused.

use std::path::{Path, PathBuf};

use crate::harness::wire::{self, Request};
use crate::harness::{Curl, Git, Remote, Setup, Token, backend};

const ZERO: &str = "0000000000000000000000000000000000000000";

struct Bench {
    remote: Remote,
    token: Option<Token>,
    git: Git,
    work: PathBuf,
    source: PathBuf,
    disk: PathBuf,
}

/// Runs `test` with a repository that has three commits on `main` and one branch more, and the work tree that they
/// come from: behind `git http-backend` first, whose words patgate has to find, and then behind patgate.
fn with_both(test: fn(&Bench)) {
    let git = Git::new();
    let dir = tempfile::tempdir().unwrap();
    let (root, work) = (dir.path().join("root"), dir.path().join("work"));
    for path in [&root, &work] {
        std::fs::create_dir_all(path).unwrap();
    }
    let theirs = bench(&git, backend::start(&git, &root), None, &work);
    theirs.configure("receive.fsckObjects", "true");
    test(&theirs);

    let server = Setup::plain().start();
    let (remote, token) = server.contributor("vso.code_write");
    test(&bench(&git, remote, Some(token), &server.work()));
}

fn bench(git: &Git, remote: Remote, token: Option<Token>, work: &Path) -> Bench {
    let source = work.join("source");
    git.init(&source);
    for text in ["one\n", "two\n", "three\n"] {
        git.commit(&source, "file", text);
    }
    git.ok(&source, &["branch", "topic"]);
    let disk = remote.copy(git, &source, "repo");
    git.ok(&source, &["remote", "add", "origin", &remote.url("repo")]);
    Bench {
        remote,
        token,
        git: git.clone(),
        work: work.to_owned(),
        source,
        disk,
    }
}

impl Bench {
    fn push(&self, args: &[&str]) -> crate::harness::Run {
        self.git
            .run(&self.source, &[&["push", "--porcelain", "origin"], args].concat())
    }

    fn configure(&self, key: &str, value: &str) {
        self.git.ok(&self.disk, &["config", key, value]);
    }

    /// Asserts that a push is refused for `reason` and changes nothing.
    #[track_caller]
    fn refused(&self, args: &[&str], reason: &str) {
        let before = self.git.refs(&self.disk);
        let run = self.push(args);
        run.failed();
        assert!(
            run.out().contains("[remote rejected]") && run.out().contains(reason),
            "must say '{reason}': {run}"
        );
        assert_eq!(
            self.git.refs(&self.disk),
            before,
            "a refused push changes nothing"
        );
        self.git.fsck(&self.disk);
    }

    /// Sends commands that git's own client would not send.
    fn command(&self, lines: &[String], pack: &[u8]) -> String {
        let mut request = Request::new();
        for (index, line) in lines.iter().enumerate() {
            let capabilities = if index == 0 {
                "\0report-status atomic delete-refs object-format=sha1"
            } else {
                ""
            };
            request = request.line(format!("{line}{capabilities}"));
        }
        let request = request.flush().raw(pack);
        let curl = Curl::post_to(&self.remote.bare_url("repo"), "git-receive-pack", request.bytes());
        let curl = self.token.iter().fold(curl, |curl, token| curl.token(token));
        wire::text(&curl.send().is(200).body)
    }

    fn pack(&self, ids: &str) -> Vec<u8> {
        self.git
            .feed(
                &self.source,
                &["pack-objects", "--stdout", "--quiet"],
                ids.as_bytes(),
            )
            .bytes()
            .to_vec()
    }
}

#[test]
fn the_repository_s_own_rules_hold_from_the_next_push_on() {
    with_both(|bench| {
        bench.push(&["+main~1:topic"]).ok();
        bench.configure("receive.denyNonFastForwards", "true");
        bench.refused(&["+main~2:topic"], "non-fast-forward");
        bench.push(&["main:topic"]).ok();
        bench.configure("receive.denyDeletes", "true");
        bench.refused(&["--delete", "topic"], "deletion prohibited");
        bench.configure("receive.denyDeletes", "false");
        bench.push(&["--delete", "topic"]).ok();
    });
}

#[test]
fn the_branch_that_head_names_is_not_deleted_unless_configured() {
    with_both(|bench| {
        bench.refused(&["--delete", "main"], "deletion of the current branch prohibited");
        bench.configure("receive.denyDeleteCurrent", "ignore");
        bench.push(&["--delete", "main"]).ok();
        assert!(!bench.git.refs(&bench.disk).contains("refs/heads/main"));
    });
}

#[test]
fn hidden_refs_are_neither_listed_nor_pushed_to() {
    with_both(|bench| {
        bench
            .git
            .ok(&bench.disk, &["update-ref", "refs/secret/thing", "main~1"]);
        bench.configure("transfer.hideRefs", "refs/secret");
        let listed = bench.git.ok(&bench.source, &["ls-remote", "origin"]);
        assert!(!listed.contains("refs/secret"), "{listed}");
        bench.refused(&["main:refs/secret/other"], "deny updating a hidden ref");
    });
}

#[test]
fn bad_ref_names_and_stale_ids_are_refused_by_command() {
    with_both(|bench| {
        let before = bench.git.refs(&bench.disk);
        let tip = bench.git.ok(&bench.source, &["rev-parse", "main"]);
        let old = bench.git.ok(&bench.source, &["rev-parse", "main~1"]);
        let empty = bench.pack("");
        for name in [
            "refs/heads/a..b",
            "refs/heads/a.lock",
            "refs/heads/../../config",
            "refs/heads/.a",
            "heads/x",
            "HEAD",
        ] {
            let answer = bench.command(&[format!("{ZERO} {tip} {name}")], &empty);
            assert!(answer.contains(&format!("ng {name} ")), "{name}: {answer}");
            assert_eq!(bench.git.refs(&bench.disk), before, "{name}");
        }
        let answer = bench.command(&[format!("{old} {tip} refs/heads/main")], &empty);
        assert!(
            answer.contains("ng refs/heads/main "),
            "an old id that is not there any more: {answer}"
        );
        let answer = bench.command(&[format!("{ZERO} {tip} refs/heads/topic")], &empty);
        assert!(
            answer.contains("ng refs/heads/topic "),
            "a branch that is there already: {answer}"
        );
        assert_eq!(bench.git.refs(&bench.disk), before);
    });
}

#[test]
fn a_tip_that_nobody_has_is_refused_and_leaves_nothing() {
    with_both(|bench| {
        let (before, count) = (
            bench.git.refs(&bench.disk),
            bench.git.ok(&bench.disk, &["count-objects", "-v"]),
        );
        let missing = "1".repeat(40);
        let answer = bench.command(&[format!("{ZERO} {missing} refs/heads/new")], &bench.pack(""));
        assert!(answer.contains("ng refs/heads/new "), "{answer}");
        // A commit whose tree stays away.
        let tip = bench.git.commit(&bench.source, "more", "more\n");
        let answer = bench.command(
            &[format!("{ZERO} {tip} refs/heads/new")],
            &bench.pack(&format!("{tip}\n")),
        );
        assert!(
            answer.contains("ng refs/heads/new ") || answer.contains("unpack "),
            "{answer}"
        );
        assert!(!answer.contains("ok refs/heads/new"), "{answer}");
        assert_eq!(bench.git.refs(&bench.disk), before);
        assert_eq!(
            bench.git.ok(&bench.disk, &["count-objects", "-v"]),
            count,
            "no object of a refused push stays"
        );
        bench.git.fsck(&bench.disk);
    });
}

#[test]
fn broken_packs_are_refused_and_leave_nothing() {
    with_both(|bench| {
        let (before, count) = (
            bench.git.refs(&bench.disk),
            bench.git.ok(&bench.disk, &["count-objects", "-v"]),
        );
        let tip = bench.git.commit(&bench.source, "more", "more\n");
        let objects = bench.git.ok(
            &bench.source,
            &["rev-list", "--objects", "--no-object-names", "main", "^topic"],
        );
        let whole = bench.pack(&format!("{objects}\n"));
        let command = [format!("{ZERO} {tip} refs/heads/new")];
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x40;
        let mut many = whole.clone();
        many[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
        for (what, pack) in [
            ("nothing", Vec::new()),
            ("a header", whole[..12].to_vec()),
            ("half", whole[..middle].to_vec()),
            ("all but the last byte", whole[..whole.len() - 1].to_vec()),
            ("a flipped bit", flipped),
            ("four billion objects", many),
            ("text", b"this is no pack".to_vec()),
        ] {
            let answer = bench.command(&command, &pack);
            assert!(!answer.contains("unpack ok"), "{what}: {answer}");
            assert!(!answer.contains("ok refs/heads/new"), "{what}: {answer}");
            assert_eq!(bench.git.refs(&bench.disk), before, "{what}");
            assert_eq!(
                bench.git.ok(&bench.disk, &["count-objects", "-v"]),
                count,
                "{what}: no object stays"
            );
        }
        let answer = bench.command(&command, &whole);
        assert!(
            answer.contains("unpack ok") && answer.contains("ok refs/heads/new"),
            "the whole pack is fine: {answer}"
        );
        bench.git.fsck(&bench.disk);
    });
}

/// CVE-2014-9390 and its kin: a tree with an entry that a checkout on some system writes into `.git`.
#[test]
fn trees_that_attack_whoever_checks_them_out_are_refused() {
    with_both(|bench| {
        let blob = bench
            .git
            .feed(&bench.source, &["hash-object", "-w", "--stdin"], b"[core]\n")
            .ok();
        let tree_of = |mode: &str, name: &[u8]| {
            let mut tree = format!("{mode} ").into_bytes();
            tree.extend_from_slice(name);
            tree.push(0);
            tree.extend((0..20).map(|at| u8::from_str_radix(&blob[at * 2..at * 2 + 2], 16).unwrap()));
            bench
                .git
                .feed(
                    &bench.source,
                    &["hash-object", "-t", "tree", "-w", "--stdin", "--literally"],
                    &tree,
                )
                .ok()
        };
        let cases: [(&str, &[u8]); 9] = [
            ("100644", b".git"),
            ("100644", b".GIT"),
            ("100644", b"git~1"),
            ("100644", b".g\xe2\x80\x8cit"),
            ("100644", b".."),
            ("100644", b"."),
            ("100644", b""),
            ("100644", b"a/b"),
            ("120000", b".gitmodules"),
        ];
        for (mode, name) in cases {
            let tree = tree_of(mode, name);
            let commit = bench.git.ok(&bench.source, &["commit-tree", "-m", "bad", &tree]);
            let before = bench.git.refs(&bench.disk);
            // Sent as it is: git's own client would stumble over some of them.
            let pack = bench.pack(&format!("{blob}\n{tree}\n{commit}\n"));
            let answer = bench.command(&[format!("{ZERO} {commit} refs/heads/bad")], &pack);
            let what = format!("{mode} {:?}", String::from_utf8_lossy(name));
            assert!(
                answer.contains("ng refs/heads/bad "),
                "{what} must be refused: {answer}"
            );
            assert_eq!(bench.git.refs(&bench.disk), before, "{what}");
        }
        bench.git.fsck(&bench.disk);
    });
}

#[test]
fn a_push_says_nothing_more_than_it_has_to() {
    with_both(|bench| {
        let run = bench.git.run(
            &bench.source,
            &["push", "--quiet", "origin", "main:refs/heads/quiet"],
        );
        run.ok();
        assert_eq!(run.err(), "");
    });
}

/// Pushes of different branches at the same time all arrive.
#[test]
fn pushes_at_the_same_time_do_not_lose_each_other() {
    with_both(|bench| {
        let url = bench.remote.url("repo");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (git, source, work, url) = (&bench.git, &bench.source, bench.work.clone(), &url);
                scope.spawn(move || {
                    let clone = work.join(format!("clone-{number}"));
                    git.ok(
                        &work,
                        &[
                            "clone",
                            "--quiet",
                            source.to_str().unwrap(),
                            clone.to_str().unwrap(),
                        ],
                    );
                    for step in 0..4 {
                        git.commit(&clone, &format!("file-{number}"), &format!("{step}\n"));
                        git.ok(
                            &clone,
                            &["push", "--quiet", url, &format!("HEAD:refs/heads/many/{number}")],
                        );
                    }
                });
            }
        });
        let refs = bench.git.refs(&bench.disk);
        for number in 0..8 {
            assert!(refs.contains(&format!("refs/heads/many/{number}")), "{refs}");
            let log = bench.git.ok(
                &bench.disk,
                &["rev-list", "--count", &format!("main..many/{number}")],
            );
            assert_eq!(log, "4");
        }
        bench.git.fsck(&bench.disk);
    });
}

/// Of pushes that all want to move one branch from where it is, one wins and the others hear it.
#[test]
fn pushes_that_race_for_a_branch_have_one_winner() {
    with_both(|bench| {
        let url = bench.remote.url("repo");
        let wins: Vec<Option<String>> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..6)
                .map(|number| {
                    let (git, source, work, url) = (&bench.git, &bench.source, bench.work.clone(), &url);
                    scope.spawn(move || {
                        let clone = work.join(format!("racer-{number}"));
                        git.ok(
                            &work,
                            &[
                                "clone",
                                "--quiet",
                                source.to_str().unwrap(),
                                clone.to_str().unwrap(),
                            ],
                        );
                        let tip = git.commit(&clone, &format!("racer-{number}"), "x\n");
                        let run = git.run(&clone, &["push", "--quiet", url, "HEAD:main"]);
                        run.is_ok().then_some(tip)
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        let winners: Vec<&String> = wins.iter().flatten().collect();
        assert_eq!(winners.len(), 1, "{wins:?}");
        assert_eq!(&bench.git.ok(&bench.disk, &["rev-parse", "main"]), winners[0]);
        bench.git.fsck(&bench.disk);
    });
}

/// A disk that takes the pack but not where it belongs, as one that is full or mounted read-only.
#[test]
fn objects_that_cannot_be_moved_in_are_told_for_each_ref() {
    with_both(|bench| {
        bench.configure("receive.unpackLimit", "1");
        let pack_dir = bench.disk.join("objects/pack");
        std::fs::remove_dir(&pack_dir).expect("no packs yet");
        std::os::unix::fs::symlink("/nonexistent", &pack_dir).unwrap();
        bench.git.commit(&bench.source, "more", "more\n");
        let before = bench.git.refs(&bench.disk);
        let run = bench.push(&["main", "main:refs/heads/new"]);
        run.failed();
        let words = "[remote rejected] (unable to migrate objects to permanent storage)";
        assert_eq!(run.out().matches(words).count(), 2, "{run}");
        assert_eq!(bench.git.refs(&bench.disk), before);
        std::fs::remove_file(&pack_dir).unwrap();
        std::fs::create_dir(&pack_dir).unwrap();
        bench.push(&["main", "main:refs/heads/new"]).ok();
        bench.git.fsck(&bench.disk);
    });
}

#[test]
fn trees_are_taken_as_deep_as_git_walks_them_and_not_deeper() {
    with_both(|bench| {
        // Older gits know no bound, and are no measure of it.
        if !bench.remote.has_git_marker && !bench.git.is_at_least(2, 43) {
            return;
        }
        let deep = |levels: usize| {
            let script = format!(
                "commit refs/heads/deep\ncommitter a <a@b> 1700000000 +0000\ndata 1\nc\nM 100644 inline {}f\ndata 1\nx\n",
                "d/".repeat(levels)
            );
            bench
                .git
                .feed(
                    &bench.source,
                    &["fast-import", "--quiet", "--force"],
                    script.as_bytes(),
                )
                .ok();
            bench
                .git
                .with("core.maxTreeDepth", "4096")
                .run(&bench.source, &["push", "--porcelain", "origin", "+deep"])
        };
        let before = bench.git.refs(&bench.disk);
        let run = deep(2049);
        run.failed();
        assert!(run.out().contains("[remote rejected]"), "{run}");
        assert!(
            run.err().contains("fatal: exceeded maximum allowed tree depth"),
            "{run}"
        );
        assert_eq!(bench.git.refs(&bench.disk), before);
        deep(2048).ok();
        for git in Git::all() {
            let name = format!("clone-{}", git.version());
            git.ok(
                &bench.work,
                &["clone", "--quiet", "--bare", &bench.remote.url("repo"), &name],
            );
            git.fsck(&bench.work.join(name));
        }
        bench.git.fsck(&bench.disk);
    });
}
