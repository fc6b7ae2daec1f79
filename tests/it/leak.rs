//! Live tokens are not pushed: found in whatever a push brings, refused with their place, and let in only for those
//! who may and say so.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::wire::{self, Request};
use crate::harness::{Curl, Git, Remote, Run, Server, Setup, Token};

const ZERO: &str = "0000000000000000000000000000000000000000";

/// A server with an empty repository, a work tree for it, and two who push: a contributor and an administrator.
struct Bench {
    server: Server,
    git: Git,
    /// As the contributor sees it.
    remote: Remote,
    pusher: Token,
    administrator: Token,
    /// What must not be pushed.
    secret: Token,
    source: PathBuf,
    disk: PathBuf,
}

fn bench() -> Bench {
    let server = Setup::plain().start();
    let (remote, pusher) = server.contributor("vso.code_write");
    let cli = server.cli();
    cli.user("ada");
    cli.ok(&["access", "grant", "ada", "administrator", "DefaultCollection/P"]);
    cli.contributor("carl");
    let git = Git::new();
    let disk = remote.init(&git, "repo");
    let source = server.work().join("source");
    git.init(&source);
    git.commit(&source, "README", "first\n");
    git.ok(&source, &["remote", "add", "origin", &remote.url("repo")]);
    git.ok(&source, &["push", "--quiet", "origin", "main"]);
    Bench {
        administrator: cli.token("ada", "vso.code_write"),
        secret: cli.token("carl", "vso.code"),
        git,
        remote,
        pusher,
        source,
        disk,
        server,
    }
}

impl Bench {
    fn write(&self, file: &str, data: impl AsRef<[u8]>) {
        let path = self.source.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, data).unwrap();
    }

    /// Commits `data` as `file` and returns the id.
    fn commit(&self, file: &str, data: impl AsRef<[u8]>) -> String {
        self.write(file, data);
        self.git.ok(&self.source, &["add", "--all"]);
        self.git
            .ok(&self.source, &["commit", "--quiet", "--message", "change"]);
        self.head()
    }

    fn head(&self) -> String {
        self.git.ok(&self.source, &["rev-parse", "HEAD"])
    }

    fn push(&self, args: &[&str]) -> Run {
        let run = self.git.run(&self.source, &[&["push", "origin"], args].concat());
        run.never_says(&self.secret.text);
        run
    }

    fn push_as_administrator(&self, args: &[&str]) -> Run {
        let url = self.server.remote(&self.administrator).url("repo");
        let run = self.git.run(&self.source, &[&["push", &url], args].concat());
        run.never_says(&self.secret.text);
        run
    }

    /// Asserts that `run` was refused because of the secret in `place`, and that nothing of it is there.
    #[track_caller]
    fn refused(&self, run: &Run, before: &str, place: &str) {
        run.failed()
            .says("[remote rejected]")
            .says(&format!("(live token {} in the push)", self.secret.id))
            .says(&format!(
                "This push contains a live personal access token ({}, 'test') in {place}.",
                self.secret.id
            ))
            .says(&format!("patgate token revoke {}", self.secret.id));
        assert_eq!(self.git.refs(&self.disk), before, "no ref moved");
    }

    /// Asserts that pushing `main` is refused with `place`, and goes through once the token is revoked.
    #[track_caller]
    fn refused_until_revoked(&self, refs: &[&str], place: &str) {
        let before = self.git.refs(&self.disk);
        self.refused(&self.push(refs), &before, place);
        let incoming = std::fs::read_dir(self.disk.join("objects")).unwrap();
        for entry in incoming {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(
                !name.starts_with("tmp_objdir"),
                "{name} of a refused push is left"
            );
        }
        self.server.cli().ok(&["token", "revoke", &self.secret.id]);
        self.push(refs).ok();
        self.git.fsck(&self.disk);
    }

    /// The newest `token.leak` event of the secret.
    fn leak_event(&self) -> Value {
        let events = self.server.cli().json(&["audit", "list"]);
        let events = events.as_array().unwrap();
        let leak = events
            .iter()
            .find(|event| event["action"] == "token.leak" && event["subject"] == self.secret.id.as_str());
        leak.expect("a token that was found is in the trail").clone()
    }
}

fn short(id: &str) -> &str {
    &id[..10]
}

#[test]
fn a_token_in_a_text_file_is_refused_with_its_line() {
    let bench = bench();
    let text = format!("# settings\n\ntoken = '{}'\n", bench.secret.text);
    let commit = bench.commit("src/config.py", &text);
    bench.commit("src/config.py", format!("{text}# more\n"));
    bench.commit("other", "later\n");
    let place = format!("src/config.py:3 of commit {}", short(&commit));
    bench.refused_until_revoked(&["main"], &place);
    let event = bench.leak_event();
    assert_eq!(event["details"]["allowed"], false);
    assert_eq!(event["details"]["places"], serde_json::json!([place]));
    assert_eq!(event["details"]["repository"], "DefaultCollection/P/repo");
    assert_eq!(
        event["details"]["account"], "carl",
        "whose token it is, not who pushed it"
    );
    let all = bench.server.cli().ok(&["audit", "list", "--json"]);
    assert!(!all.contains(&bench.secret.text));
}

#[test]
fn a_token_in_a_binary_is_refused_with_its_byte() {
    let bench = bench();
    let data = [
        &[0u8, 1, 2, 255, 10, 10][..],
        bench.secret.text.as_bytes(),
        &[0, 7],
    ]
    .concat();
    let commit = bench.commit("bin/app", data);
    bench.refused_until_revoked(
        &["main"],
        &format!("bin/app at byte 6 of commit {}", short(&commit)),
    );
}

#[test]
fn a_token_in_a_message_is_refused_with_its_commit_or_tag() {
    let bench = bench();
    let message = format!("subject\n\nuse {} for now\n", bench.secret.text);
    bench.git.ok(
        &bench.source,
        &["commit", "--quiet", "--allow-empty", "--message", &message],
    );
    let commit = bench.head();
    let before = bench.git.refs(&bench.disk);
    bench.refused(
        &bench.push(&["main"]),
        &before,
        &format!("the message of commit {}", short(&commit)),
    );
    bench
        .git
        .ok(&bench.source, &["reset", "--quiet", "--hard", "HEAD~1"]);
    bench.git.ok(&bench.source, &["tag", "--message", &message, "v1"]);
    bench.refused_until_revoked(&["v1"], "the message of the tag refs/tags/v1");
}

#[test]
fn a_token_in_the_name_of_an_author_is_refused() {
    let bench = bench();
    let author = format!("{} <a@example.com>", bench.secret.text);
    let args = ["commit", "--quiet", "--allow-empty", "--message", "c", "--author"];
    bench.git.ok(&bench.source, &[&args[..], &[&author]].concat());
    let place = format!("the header of commit {}", short(&bench.head()));
    bench.refused_until_revoked(&["main"], &place);
}

#[test]
fn a_token_in_a_name_is_refused_and_not_repeated() {
    let bench = bench();
    let commit = bench.commit(&format!("dir/keep-{}.txt", bench.secret.text), "text\n");
    let before = bench.git.refs(&bench.disk);
    bench.refused(
        &bench.push(&["main"]),
        &before,
        &format!("the name of dir/keep-pgt_***.txt of commit {}", short(&commit)),
    );
    // git itself repeats the name of a ref that it pushes, so this one is sent by hand.
    let name = format!("refs/heads/for-{}", bench.secret.text);
    let tip = bench.git.ok(&bench.source, &["rev-parse", "main~1"]);
    let command = format!("{ZERO} {tip} {name}");
    let answer = |bench: &Bench| {
        let request = Request::new()
            .line(format!(
                "{command}\0report-status side-band-64k object-format=sha1"
            ))
            .line(format!("{ZERO} {tip} refs/heads/innocent"))
            .flush()
            .raw(
                bench
                    .git
                    .feed(&bench.source, &["pack-objects", "--stdout", "-q"], b"")
                    .bytes(),
            );
        let curl = Curl::post_to(
            &bench.remote.bare_url("repo"),
            "git-receive-pack",
            request.bytes(),
        );
        let body = curl.token(&bench.pusher).send().is(200).body.clone();
        (
            String::from_utf8(wire::band(&body, 2)).unwrap(),
            wire::text(&wire::band(&body, 1)),
        )
    };
    let (text, report) = answer(&bench);
    assert!(
        text.contains("in the name of refs/heads/for-pgt_***.\nChoose another name, and revoke the token: "),
        "{text}"
    );
    assert!(report.contains(&format!("ng {name} live token")), "{report}");
    assert!(
        report.contains("ng refs/heads/innocent live token"),
        "all refs of the push are refused: {report}"
    );
    assert_eq!(bench.git.refs(&bench.disk), before);
    bench.server.cli().ok(&["token", "revoke", &bench.secret.id]);
    let (_, report) = answer(&bench);
    assert!(report.contains(&format!("ok {name}")), "{report}");
}

#[test]
fn a_token_in_a_version_that_is_sent_as_a_delta_is_refused() {
    let bench = bench();
    let lines: Vec<String> = (0u64..3000)
        .map(|number| format!("{:016x}\n", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    bench.commit("table", lines.concat());
    bench.push(&["main"]).ok();
    let mut changed = lines.clone();
    changed.insert(1500, format!("{}\n", bench.secret.text));
    let commit = bench.commit("table", changed.concat());
    let objects = bench.git.feed(
        &bench.source,
        &["pack-objects", "--thin", "--revs", "--stdout", "-q"],
        b"main\n^main~1\n",
    );
    assert!(
        objects.bytes().len() < 2000,
        "what is sent must be a delta: {} bytes",
        objects.bytes().len()
    );
    bench.refused_until_revoked(&["main"], &format!("table:1501 of commit {}", short(&commit)));
}

#[test]
fn a_token_that_a_thin_pack_builds_upon_is_not_new() {
    let bench = bench();
    let lines: Vec<String> = (0u64..3000)
        .map(|number| format!("{:016x}\n", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    bench.commit("table", format!("{}\n{}", bench.secret.text, lines.concat()));
    bench
        .push_as_administrator(&["-o", "patgate.allow-secret", "main"])
        .ok();
    bench.commit("table", lines.concat());
    bench.push(&["main"]).ok();
    // An old version comes back: the repository has it already.
    bench
        .git
        .ok(&bench.source, &["checkout", "--quiet", "HEAD~1", "--", "table"]);
    bench
        .git
        .ok(&bench.source, &["commit", "--quiet", "--message", "back"]);
    bench.push(&["main"]).ok();
    let again = bench.server.work().join("again.git");
    bench.git.init_bare(&again);
    let args = ["pack-objects", "--revs", "--stdout", "-q"];
    let whole = bench.git.feed(&bench.source, &args, b"main\n");
    let tip = bench.head();
    let request = Request::new()
        .line(format!(
            "{ZERO} {tip} refs/heads/all\0report-status object-format=sha1"
        ))
        .flush()
        .raw(whole.bytes());
    let curl = Curl::post_to(
        &bench.remote.bare_url("repo"),
        "git-receive-pack",
        request.bytes(),
    );
    let answer = wire::text(&curl.token(&bench.pusher).send().is(200).body);
    assert!(
        answer.contains("ok refs/heads/all"),
        "sent again, it is no newer: {answer}"
    );
}

#[test]
fn a_token_that_only_a_merge_brings_is_refused() {
    let bench = bench();
    bench
        .git
        .ok(&bench.source, &["checkout", "--quiet", "-b", "side"]);
    bench.commit("one", "by the side\n");
    bench.git.ok(&bench.source, &["checkout", "--quiet", "main"]);
    bench.commit("two", "by main\n");
    bench
        .git
        .ok(&bench.source, &["merge", "--quiet", "--no-commit", "side"]);
    let merge = bench.commit("merged/file", format!("\n{}", bench.secret.text));
    assert_eq!(
        bench
            .git
            .ok(&bench.source, &["rev-list", "--count", "--merges", "main"]),
        "1"
    );
    bench.refused_until_revoked(
        &["main", "side"],
        &format!("merged/file:2 of commit {}", short(&merge)),
    );
}

#[test]
fn a_token_in_a_large_blob_is_refused_wherever_it_lies() {
    let bench = bench();
    bench.git.ok(&bench.source, &["config", "core.compression", "0"]);
    // Noise, which hardly compresses, in lines of 64 bytes.
    let mut state = 88_172_645_463_325_252u64;
    let mut data = Vec::with_capacity(50 << 20);
    while data.len() < 50 << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend(state.to_ne_bytes().map(|byte| byte & 0x7f | 0x40));
        if data.len() % 64 == 56 {
            data.extend_from_slice(b"0123456\n");
        }
    }
    let line = data.len() / 64 / 3 * 2;
    data[line * 64..line * 64 + 56].copy_from_slice(bench.secret.text.as_bytes());
    let commit = bench.commit("large", data);
    bench.refused_until_revoked(
        &["main"],
        &format!("large:{} of commit {}", line + 1, short(&commit)),
    );
}

#[test]
fn only_tokens_of_this_server_that_live_count() {
    let bench = bench();
    let cli = bench.server.cli();
    let (revoked, expired) = (cli.token("carl", "vso.code"), cli.token("carl", "vso.code"));
    cli.ok(&["token", "revoke", &revoked.id]);
    cli.expire(&expired);
    let elsewhere = Setup::plain();
    elsewhere.cli().contributor("carl");
    let foreign = elsewhere.cli().token("carl", "vso.code");
    let mut garbled = bench.secret.text.clone();
    let last = if garbled.pop() == Some('0') { '1' } else { '0' };
    garbled.push(last);
    for text in [
        &revoked.text,
        &expired.text,
        &foreign.text,
        &garbled,
        "pgt_",
        "pgt_AbCd1234",
    ] {
        bench.commit("notes", format!("token: {text}\n"));
        let run = bench.push(&["main"]);
        run.ok();
        assert!(!run.err().contains("token"), "{run}");
    }
    let events = cli.ok(&["audit", "list", "--json"]);
    assert!(!events.contains("token.leak"), "{events}");
}

#[test]
fn an_administrator_who_asks_for_it_may_push_a_token_and_a_contributor_may_not() {
    let bench = bench();
    let before = bench.git.refs(&bench.disk);
    let commit = bench.commit("config", &bench.secret.text);
    let place = format!("config:1 of commit {}", short(&commit));
    let with_option = ["-o", "ci.skip", "-o", "patgate.allow-secret", "main"];

    let run = bench.push(&["main"]);
    bench.refused(&run, &before, &place);
    run.says("An administrator of this repository could push it.")
        .never_says("push -o");
    let run = bench.push(&with_option);
    bench.refused(&run, &before, &place);
    run.says("Only an administrator of this repository may push with patgate.allow-secret.");
    assert_eq!(bench.leak_event()["details"]["allowed"], false);

    let run = bench.push_as_administrator(&["main"]);
    bench.refused(&run, &before, &place);
    run.says("If it must be pushed: git push -o patgate.allow-secret");
    let run = bench.push_as_administrator(&["-o", "patgate.allow-secrets", "main"]);
    bench.refused(&run, &before, &place);

    let run = bench.push_as_administrator(&with_option);
    run.ok();
    run.says(&format!("in {place}."))
        .says("It is let in because of patgate.allow-secret.");
    assert_eq!(bench.git.ok(&bench.disk, &["rev-parse", "main"]), commit);
    let event = bench.leak_event();
    assert_eq!(event["details"]["allowed"], true);
    assert_eq!(event["account"], "ada", "who pushed it");
    assert_eq!(event["details"]["places"], serde_json::json!([place]));
    let token = bench.server.cli().json(&["token", "show", &bench.secret.id]);
    assert_eq!(token["state"], "active", "nobody revoked it");

    // What may be let in can be refused for another reason.
    bench.commit("again", format!("{} again\n", bench.secret.text));
    let below = ["-o", "patgate.allow-secret", "main:refs/heads/main/below"];
    bench.push_as_administrator(&below).failed();
    let event = bench.leak_event();
    assert_eq!(
        (&event["details"]["allowed"], &event["account"]),
        (&false.into(), &"ada".into())
    );
}

#[test]
fn push_options_can_be_turned_off_for_a_repository() {
    let bench = bench();
    let configure = |value: &str| {
        bench
            .git
            .ok(&bench.disk, &["config", "receive.advertisePushOptions", value])
    };
    configure("false");
    let commit = bench.commit("config", &bench.secret.text);
    let before = bench.git.refs(&bench.disk);
    bench
        .push_as_administrator(&["-o", "patgate.allow-secret", "main"])
        .failed()
        .says("the receiving end does not support push options");
    let run = bench.push_as_administrator(&["main"]);
    bench.refused(&run, &before, &format!("config:1 of commit {}", short(&commit)));
    run.never_says("push -o");
    // A client that sends them all the same, here to a repository without a token in sight.
    let request = Request::new()
        .line(format!(
            "{ZERO} {ZERO} refs/heads/none\0report-status delete-refs side-band-64k push-options object-format=sha1"
        ))
        .flush()
        .line("ci.skip")
        .flush();
    let send = || {
        let curl = Curl::post_to(
            &bench.remote.bare_url("repo"),
            "git-receive-pack",
            request.bytes(),
        );
        let body = curl.token(&bench.pusher).send().is(200).body.clone();
        (wire::band(&body, 3), wire::band(&body, 1))
    };
    let (error, report) = send();
    assert!(
        String::from_utf8_lossy(&error).starts_with("the receiving end does not support push options"),
        "{}",
        String::from_utf8_lossy(&error)
    );
    assert!(report.is_empty());
    configure("true");
    let (error, report) = send();
    assert!(error.is_empty(), "{}", String::from_utf8_lossy(&error));
    assert!(wire::text(&report).contains("ok refs/heads/none"));
}

#[test]
fn every_git_sends_options_that_are_taken_and_tells_of_a_refusal() {
    let bench = bench();
    let commit = bench.commit("config", &bench.secret.text);
    let before = bench.git.refs(&bench.disk);
    for git in Git::all() {
        let push = |args: &[&str], token: &Token| {
            let url = bench.server.remote(token).url("repo");
            git.run(&bench.source, &[&["push", &url], args].concat())
        };
        let place = format!("config:1 of commit {}", short(&commit));
        for options in [&["--atomic"][..], &["--quiet"], &["-c"][..0]] {
            let args = [options, &["main", "main:refs/heads/second"]].concat();
            bench.refused(&push(&args, &bench.pusher), &before, &place);
        }
        let large = git.with("http.postBuffer", "1000");
        let url = bench.server.remote(&bench.administrator).url("repo");
        let name = format!("main:refs/heads/{}", git.version());
        large.ok(
            &bench.source,
            &["push", "-o", "patgate.allow-secret", &url, &name],
        );
        git.ok(
            &bench.source,
            &["push", &url, &format!(":refs/heads/{}", git.version())],
        );
        wipe(&git, &bench.disk);
        assert_eq!(git.refs(&bench.disk), before);
    }
}

/// Drops what no ref reaches, so that it is new again when it is pushed.
fn wipe(git: &Git, disk: &Path) {
    git.ok(disk, &["reflog", "expire", "--expire=now", "--all"]);
    git.ok(disk, &["gc", "--quiet", "--prune=now"]);
}
