//! Clients other than git: what they bring and send, and how each of them reports the rows of the status table.
//!
//! Over TLS, with the authority that the first start makes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::harness::cli::basic;
use crate::harness::client::Kind;
use crate::harness::history::History;
use crate::harness::run::Flag;
use crate::harness::{Client, Curl, Git, Remote, Server, Setup, Token};

const REFS: &str = "/info/refs?service=git-upload-pack";
const REPO: &str = "/DefaultCollection/P/_git/repo";

/// The tests that every client has to pass, in a module with its name.
macro_rules! every_client {
    ($($module:ident: $kind:expr,)*) => {$(
        mod $module {
            #[test]
            fn clones_fetches_and_pushes() {
                super::clones_fetches_and_pushes($kind);
            }

            #[test]
            fn fills_an_empty_repository() {
                super::fills_an_empty_repository($kind);
            }

            #[test]
            fn reports_each_row_of_the_status_table() {
                super::reports_each_row_of_the_status_table($kind);
            }

            #[test]
            fn comes_to_an_end_when_its_address_is_throttled() {
                super::comes_to_an_end_when_its_address_is_throttled($kind);
            }
        }
    )*};
}

every_client! {
    libgit2: super::Kind::Libgit2,
    dulwich: super::Kind::Dulwich,
    isomorphic_git: super::Kind::IsomorphicGit,
    jgit: super::Kind::JGit,
    go_git: super::Kind::GoGit,
}

/// A server with one repository that has two commits, and a contributor to everything.
fn with_repo() -> (Git, Server, Remote) {
    let git = Git::new();
    let server = Setup::tls().start();
    server.cli().contributor("anna");
    let remote = server.anonymous();
    let source = server.work().join("source");
    git.init(&source);
    for text in ["one\n", "two\n"] {
        git.commit(&source, "file", text);
    }
    remote.copy(&git, &source, "repo");
    (git, server, remote)
}

fn on_disk(git: &Git, remote: &Remote, name: &str) -> String {
    git.run(&remote.disk("repo"), &["rev-parse", "--verify", "--quiet", name])
        .out()
}

/// The whole life of a clone: what is there comes over, and what is made there goes back.
fn clones_fetches_and_pushes(kind: Kind) {
    let git = Git::new();
    let server = Setup::tls().start();
    server.cli().contributor("anna");
    let remote = server.anonymous();
    // Merges, tags of tags, deep trees, submodule entries, large and similar files, loose and packed.
    let disk = remote.disk("repo");
    let mut history = History::new(&git, &disk, 11);
    for _ in 0..4 {
        history.step();
        history.rearrange();
    }
    let url = remote.url("repo");
    let client = Client::new(kind, &server).token(&server.cli().token("anna", "vso.code_write"));

    let listed = client.list(&url);
    assert_eq!(
        listed.ok().refs.get("refs/heads/main"),
        Some(&on_disk(&git, &remote, "main"))
    );
    let clone = server.work().join("clone");
    client.clone_to(&url, &clone).ok();
    assert_has_all(&git, &disk, &clone);

    // A commit that the client made, then some that somebody else made.
    let main = "refs/heads/main:refs/heads/main";
    let ours = git.commit(&clone, "new", "pushed\n");
    client.push(&clone, &[main]).ok();
    assert_eq!(on_disk(&git, &remote, "main"), ours);
    let theirs = commit_on_disk(&git, &disk, "main");
    client.fetch(&clone).ok();
    assert_eq!(git.ok(&clone, &["rev-parse", "origin/main"]), theirs);
    assert_has_all(&git, &disk, &clone);

    // What is behind is pushed by force alone.
    client.push(&clone, &[main]);
    assert_eq!(on_disk(&git, &remote, "main"), theirs);
    client.push(&clone, &[&format!("+{main}")]).ok();
    assert_eq!(on_disk(&git, &remote, "main"), ours);

    // A branch and an annotated tag come and go.
    git.ok(&clone, &["branch", "topic/made", "main~1"]);
    git.ok(
        &clone,
        &["tag", "--annotate", "--message", "Made", "made", "main"],
    );
    let made = ["refs/heads/topic/made", "refs/tags/made"];
    client
        .push(
            &clone,
            &[&format!("{0}:{0}", made[0]), &format!("{0}:{0}", made[1])],
        )
        .ok();
    for name in made {
        assert_eq!(on_disk(&git, &remote, name), git.ok(&clone, &["rev-parse", name]));
    }
    client
        .push(&clone, &[&format!(":{}", made[0]), &format!(":{}", made[1])])
        .ok();
    for name in made {
        assert_eq!(on_disk(&git, &remote, name), "");
    }

    // A ref that the server refuses is told in the server's words.
    client.push(&clone, &[":refs/heads/main"]).fails_with("deletion");
    assert_eq!(on_disk(&git, &remote, "main"), ours);
    git.fsck(&disk);
}

/// Asserts that `clone` has every branch as its remote's, every tag, and their objects.
#[track_caller]
fn assert_has_all(git: &Git, disk: &Path, clone: &Path) {
    let refs = |dir: &Path, folder: &str, names: &str| {
        let format = format!("--format=%(objectname) {names}");
        let listed = git.ok(dir, &["for-each-ref", &format, folder]);
        let listed = listed.lines().filter(|line| !line.ends_with(" HEAD"));
        listed.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        refs(disk, "refs/heads", "%(refname:lstrip=2)"),
        refs(clone, "refs/remotes/origin", "%(refname:lstrip=3)"),
        "branches"
    );
    assert_eq!(
        refs(disk, "refs/tags", "%(refname)"),
        refs(clone, "refs/tags", "%(refname)"),
        "tags"
    );
    assert!(
        git.objects(disk) == git.objects(clone),
        "the objects of the clone must be those on the server"
    );
    git.fsck(clone);
}

/// Adds a commit to `branch` of the bare repository `disk`.
fn commit_on_disk(git: &Git, disk: &Path, branch: &str) -> String {
    let tree = format!("{branch}^{{tree}}");
    let commit = git.ok(disk, &["commit-tree", "-p", branch, "-m", "Theirs", &tree]);
    git.ok(disk, &["update-ref", &format!("refs/heads/{branch}"), &commit]);
    commit
}

fn fills_an_empty_repository(kind: Kind) {
    let git = Git::new();
    let server = Setup::tls().start();
    server.cli().contributor("anna");
    let remote = server.anonymous();
    remote.init(&git, "repo");
    let client = Client::new(kind, &server).token(&server.cli().token("anna", "vso.code_write"));

    let report = client.clone_to(&remote.url("repo"), &server.work().join("clone"));
    match words(kind).empty {
        Some(text) => report.fails_with(text),
        None => report.ok(),
    };
    let source = server.work().join("source");
    git.init(&source);
    let tip = git.commit(&source, "file", "first\n");
    git.ok(&source, &["remote", "add", "origin", &remote.url("repo")]);
    client.push(&source, &["refs/heads/main:refs/heads/main"]).ok();
    assert_eq!(on_disk(&git, &remote, "main"), tip);
    git.fsck(&remote.disk("repo"));
}

/// What a client shows of a status.
struct Words {
    /// 401 without a credential.
    missing: &'static str,
    /// 401.
    unauthorized: &'static str,
    /// 403 for a fetch.
    forbidden: &'static str,
    /// 403 for a push.
    forbidden_push: &'static str,
    /// 404.
    not_found: &'static str,
    /// A clone of nothing, which stock git serves with the same effect; None where it succeeds.
    empty: Option<&'static str>,
    /// 429; None where the client waits as long as it is told and tries again.
    throttled: Option<&'static str>,
}

fn words(kind: Kind) -> Words {
    match kind {
        Kind::Libgit2 => Words {
            missing: "remote authentication required",
            unauthorized: "remote authentication required",
            forbidden: "unexpected http status code: 403",
            forbidden_push: "unexpected http status code: 403",
            not_found: "unexpected http status code: 404",
            empty: None,
            throttled: Some("unexpected http status code: 429"),
        },
        Kind::Dulwich => Words {
            missing: "HTTPUnauthorized: No valid credentials provided",
            unauthorized: "HTTPUnauthorized: No valid credentials provided",
            forbidden: "unexpected http resp 403",
            forbidden_push: "unexpected http resp 403",
            not_found: "NotGitRepository",
            empty: None,
            throttled: None,
        },
        Kind::IsomorphicGit => Words {
            missing: "UserCanceledError",
            unauthorized: "UserCanceledError",
            forbidden: "HTTP Error: 403 Forbidden",
            forbidden_push: "HTTP Error: 403 Forbidden",
            not_found: "HTTP Error: 404 Not Found",
            empty: None,
            throttled: Some("HTTP Error: 429 Too Many Requests"),
        },
        Kind::JGit => Words {
            // It would ask in a window.
            missing: "HeadlessException",
            unauthorized: "not authorized",
            forbidden: "git-upload-pack not permitted on",
            forbidden_push: "git-receive-pack not permitted on",
            not_found: "/info/refs?service=git-upload-pack not found",
            empty: None,
            throttled: Some("429 Too Many Requests"),
        },
        Kind::GoGit => Words {
            missing: "authentication required",
            unauthorized: "authentication required",
            forbidden: "authorization failed",
            forbidden_push: "authorization failed",
            not_found: "repository not found",
            empty: Some("reference not found"),
            throttled: Some("status code: 429"),
        },
    }
}

/// The server counts failures, and JGit makes four of one; with one row more for 401 it would be throttled.
fn reports_each_row_of_the_status_table(kind: Kind) {
    let (git, server, remote) = with_repo();
    let cli = server.cli();
    cli.contributor("gone");
    cli.user("stranger");
    cli.ok(&["access", "grant", "stranger", "contributor", "Elsewhere"]);
    let [live, rotated, expired, revoked] = [(); 4].map(|()| cli.token("anna", "vso.code"));
    let (narrow, disabled, stranger) = (
        cli.token("anna", "vso.work"),
        cli.token("gone", "vso.code"),
        cli.token("stranger", "vso.code"),
    );
    // From now on its text has the right form and is no token's.
    cli.keep(&cli.ok(&["token", "rotate", &rotated.id]));
    cli.expire(&expired);
    cli.ok(&["token", "revoke", &revoked.id]);
    cli.ok(&["user", "disable", "gone"]);
    let (url, words) = (remote.url("repo"), words(kind));
    let with = |token: &Token| Client::new(kind, &server).token(token);

    Client::new(kind, &server).list(&url).fails_with(words.missing);
    for token in [&rotated, &expired, &revoked, &disabled] {
        with(token).list(&url).fails_with(words.unauthorized);
    }
    let report = with(&narrow).list(&url);
    report.fails_with(words.forbidden);
    if kind == Kind::IsomorphicGit {
        assert!(report.said.contains("lacks the scope vso.code"), "{report:?}");
    }
    let missing = with(&live).list(&remote.url("missing"));
    missing.fails_with(words.not_found);
    let hidden = with(&stranger).list(&url);
    hidden.fails_with(words.not_found);
    assert_eq!(
        (hidden.error.replace("/repo", "/missing"), hidden.said),
        (missing.error, missing.said),
        "what is hidden and what is missing look the same"
    );

    let clone = server.work().join("clone");
    with(&live).clone_to(&url, &clone).ok();
    git.commit(&clone, "file", "changed\n");
    with(&live)
        .push(&clone, &["refs/heads/main:refs/heads/main"])
        .fails_with(words.forbidden_push);
}

fn comes_to_an_end_when_its_address_is_throttled(kind: Kind) {
    let (_, server, remote) = with_repo();
    let guesser = Guesser::new(&server);
    // One failure more is borne after each few seconds, so a slow client may find the gate open again.
    let is_seen = (0..5).any(|_| {
        let token = server.cli().token("anna", "vso.code");
        let client = Client::new(kind, &server).token(&token);
        while guesser.guess() == 401 {}
        let Some(throttled) = words(kind).throttled else {
            client.list(&remote.url("repo")).ok();
            return true;
        };
        let is_over = AtomicBool::new(false);
        let report = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    guesser.guess();
                }
            });
            let _over = Flag(&is_over);
            client.list(&remote.url("repo"))
        });
        if !report.ok {
            report.fails_with(throttled);
        }
        !report.ok
    });
    assert!(
        is_seen,
        "a client that the server does not know must be throttled"
    );
}

/// Somebody on this machine who tries one credential after the other.
struct Guesser {
    url: String,
    ca: String,
    tries: AtomicU64,
}

impl Guesser {
    fn new(server: &Server) -> Guesser {
        Guesser {
            url: format!("{}{REPO}{REFS}", server.base()),
            ca: server.ca().display().to_string(),
            tries: AtomicU64::new(0),
        }
    }

    /// Sends a credential that was not sent before, and returns the status.
    fn guess(&self) -> u16 {
        let number = self.tries.fetch_add(1, Ordering::Relaxed);
        assert!(number < 5000, "guessing must become slow");
        let header = format!("Authorization: {}", basic("", &format!("guess-{number}")));
        let curl = Curl::url(&self.url).args(&["--cacert", &self.ca]);
        curl.header(&header).send().status
    }
}

/// Programs that use libgit2 answer its question with the same credential again and again.
#[test]
fn libgit2_s_repetitions_end_and_shut_nobody_out() {
    let (_, server, remote) = with_repo();
    let cli = server.cli();
    let [live, fresh, revoked] = [(); 3].map(|()| cli.token("anna", "vso.code"));
    cli.ok(&["token", "revoke", &revoked.id]);
    let url = remote.url("repo");
    let with = |token: &Token| {
        Client::new(Kind::Libgit2, &server)
            .token(token)
            .with_env("CLIENT_IS_STUBBORN", "1")
    };
    with(&live).list(&url).ok();

    let report = with(&revoked).list(&url);
    report.fails_with("too many redirects or authentication replays");
    assert!((2..=20).contains(&report.asked), "{report:?}");
    // What one such client fails is less than an address may, so that another one gets in.
    with(&fresh).list(&url).ok();

    // With more of them the server has had enough; but not of tokens that it has seen alive.
    let mut report = report;
    for _ in 0..20 {
        if report.error.contains("429") {
            break;
        }
        report = with(&revoked).list(&url);
    }
    report.fails_with("unexpected http status code: 429");
    with(&live).list(&url).ok();
    with(&fresh).list(&url).ok();
    let unseen = Curl::get(&server, &format!("{REPO}{REFS}"))
        .token(&cli.token("anna", "vso.code"))
        .send();
    let wait = unseen
        .header("retry-after")
        .map_or(0, |text| text.parse().unwrap());
    assert!(
        wait <= 5,
        "others wait seconds, not minutes: {wait}, {}",
        unseen.status
    );
}

#[test]
fn each_client_can_send_the_token_as_the_user_name() {
    let (_, server, remote) = with_repo();
    let token = server.cli().token("anna", "vso.code");
    for kind in [
        Kind::Libgit2,
        Kind::Dulwich,
        Kind::IsomorphicGit,
        Kind::JGit,
        Kind::GoGit,
    ] {
        // JGit takes no empty password from where its command line looks for one.
        let password = if kind == Kind::JGit { "x-oauth-basic" } else { "" };
        let client = Client::new(kind, &server).credential(&token.text, password);
        let report = client.list(&remote.url("repo"));
        assert!(
            report.ok().refs.contains_key("refs/heads/main"),
            "{kind:?}: {report:?}"
        );
    }
}

#[test]
fn clients_that_speak_more_than_one_version_get_the_same_from_each() {
    let (git, server, remote) = with_repo();
    let token = server.cli().token("anna", "vso.code");
    let url = remote.url("repo");
    let with = |kind: Kind, version: &str| {
        Client::new(kind, &server)
            .token(&token)
            .with_env("CLIENT_PROTOCOL", version)
    };
    for version in ["0", "1", "2"] {
        let clone = server.work().join(format!("clone-{version}"));
        with(Kind::Dulwich, version).clone_to(&url, &clone).ok();
        assert_has_all(&git, &remote.disk("repo"), &clone);
    }
    let main = on_disk(&git, &remote, "main");
    for version in ["1", "2"] {
        let report = with(Kind::IsomorphicGit, version).list(&url);
        assert_eq!(report.ok().refs.get("refs/heads/main"), Some(&main), "{version}");
    }
}
