//! The gate as git sees it: every row of the status table, what git prints for it, and whether git's credential
//! helper is told to forget the credential.

use crate::harness::cli::{PASSWORD, basic};
use crate::harness::{Curl, Git, Helper, Remote, Server, Setup, Token};

const REFS: &str = "/info/refs?service=git-upload-pack";
const REPO: &str = "/DefaultCollection/P/_git/repo";

/// A server with one repository that has one commit.
fn with_repo(setup: &Setup, git: &Git) -> (Server, Remote, Token) {
    let server = setup.start();
    let (remote, token) = server.contributor("vso.code_write");
    let source = server.work().join("source");
    git.init(&source);
    git.commit(&source, "file", "text\n");
    remote.copy(git, &source, "repo");
    (server, remote, token)
}

/// Runs `ls-remote` with a helper that has `password`.
fn ls_remote(git: &Git, server: &Server, name: &str, password: &str) -> (crate::harness::Run, Helper) {
    let helper = Helper::new(&server.work(), "anybody", password);
    let remote = server.anonymous();
    let client = helper.client(&remote.client(git));
    (
        client.run(&server.work(), &["ls-remote", &remote.url(name)]),
        helper,
    )
}

#[test]
fn a_live_token_is_stored_by_the_helper() {
    for git in Git::all() {
        let (server, _, token) = with_repo(&Setup::tls(), &git);
        let (run, helper) = ls_remote(&git, &server, "repo", &token.text);
        assert!(run.ok().contains("refs/heads/main"));
        assert_eq!(helper.operations(), ["get", "store"]);
        assert!(
            helper.log().contains(&format!("host={}", server.authority())),
            "{}",
            helper.log()
        );
    }
}

/// 401: git says that the credential is no good and has the helper forget it.
#[test]
fn credentials_that_are_no_live_token_are_erased() {
    for git in Git::all() {
        let (server, _, token) = with_repo(&Setup::tls(), &git);
        let cli = server.cli();
        let (expired, revoked) = (cli.token("anna", "vso.code"), cli.token("anna", "vso.code"));
        cli.expire(&expired);
        cli.ok(&["token", "revoke", &revoked.id]);
        cli.contributor("gone");
        let disabled = cli.token("gone", "vso.code");
        cli.ok(&["user", "disable", "gone"]);
        // The checksum of a token that nobody made: right for an unknown one, wrong for a garbled one.
        let mut garbled = token.text.clone();
        let last = if garbled.pop() == Some('0') { '1' } else { '0' };
        garbled.push(last);
        for (what, password) in [
            ("garbled", garbled.as_str()),
            ("expired", expired.text.as_str()),
            ("revoked", revoked.text.as_str()),
            ("owner disabled", disabled.text.as_str()),
            ("a password", PASSWORD),
        ] {
            let (run, helper) = ls_remote(&git, &server, "repo", password);
            assert_eq!(run.code(), Some(128), "{what}: {run}");
            run.says("remote: ")
                .says("fatal: Authentication failed for 'https://127.0.0.1:");
            run.never_says(password);
            assert_eq!(helper.operations(), ["get", "erase"], "{what}");
        }
    }
}

#[test]
fn an_expired_token_is_told_that_it_expired_and_when() {
    let git = Git::new();
    let (server, _, _) = with_repo(&Setup::tls(), &git);
    let expired = server.cli().token("anna", "vso.code");
    server.cli().expire(&expired);
    let (run, _) = ls_remote(&git, &server, "repo", &expired.text);
    run.says("expired").says("2001-09-09");
}

#[test]
fn an_unknown_token_is_told_no_more_than_that() {
    let git = Git::new();
    let (server, _, token) = with_repo(&Setup::plain(), &git);
    let body = |header: &str| {
        let reply = Curl::get(&server, &format!("{REPO}{REFS}"))
            .header(&format!("Authorization: {header}"))
            .send();
        reply.is_refusal(401).text()
    };
    // Of the right form, and of no token: that of an account that is no more.
    server.cli().ok(&["user", "delete", "anna", "--yes"]);
    for text in [token.text.as_str(), &token.text[..55], "pgt_", "password"] {
        let body = body(&basic("", text));
        for word in ["expired", "revoked", "disabled", "anna", &token.id] {
            assert!(!body.contains(word), "{word}: {body}");
        }
    }
    for header in [
        "",
        "Basic",
        "Basic !!!",
        "Basic cGd0Xw==",
        "Bearer",
        "Bearer x",
        "Digest username=\"x\"",
        "Negotiate",
    ] {
        let reply = Curl::get(&server, &format!("{REPO}{REFS}"))
            .header(&format!("Authorization: {header}"))
            .send();
        reply.is_refusal(401);
    }
}

/// 403: git says what is missing and keeps the credential.
#[test]
fn a_scope_or_a_right_that_is_too_small_keeps_the_credential() {
    for git in Git::all() {
        let (server, _, _) = with_repo(&Setup::tls(), &git);
        let cli = server.cli();
        cli.user("reader");
        cli.ok(&["access", "grant", "reader", "reader", "DefaultCollection"]);
        let (work, read, reader) = (
            cli.token("anna", "vso.work"),
            cli.token("anna", "vso.code"),
            cli.token("reader", "vso.code_full"),
        );

        let (run, helper) = ls_remote(&git, &server, "repo", &work.text);
        assert_eq!(run.code(), Some(128), "{run}");
        run.says("remote: ")
            .says("The requested URL returned error: 403")
            .says("Code (read)");
        assert_eq!(helper.operations(), ["get"], "git neither stores nor erases");

        for token in [&read, &reader] {
            let helper = Helper::new(&server.work(), "anybody", &token.text);
            let remote = server.anonymous();
            let client = helper.client(&remote.client(&git));
            let url = remote.url("repo");
            let clone = format!("clone-{}", token.id);
            client.ok(&server.work(), &["clone", "--quiet", &url, &clone]);
            git.commit(&server.work().join(&clone), "file", "changed\n");
            helper.clear();
            let run = client.run(&server.work().join(&clone), &["push", "origin", "main"]);
            run.failed()
                .says("remote: ")
                .says("The requested URL returned error: 403");
            assert_eq!(helper.operations(), ["get"], "git neither stores nor erases");
        }
    }
}

/// 404, the same for what is not there and for what may not be seen.
#[test]
fn what_is_missing_and_what_is_hidden_look_the_same() {
    for git in Git::all() {
        let (server, _, _) = with_repo(&Setup::tls(), &git);
        let cli = server.cli();
        cli.user("stranger");
        cli.ok(&["access", "grant", "stranger", "contributor", "Elsewhere"]);
        let token = cli.token("stranger", "vso.code_full");
        for name in ["repo", "missing"] {
            let (run, helper) = ls_remote(&git, &server, name, &token.text);
            run.failed()
                .says("remote: ")
                .says(&format!("/{name}/' not found"));
            assert_eq!(helper.operations(), ["get"], "git neither stores nor erases");
        }
        let body = |repo: &str| {
            let reply = Curl::get(&server, &format!("/DefaultCollection/P/_git/{repo}{REFS}"))
                .token(&token)
                .send();
            reply.is_refusal(404);
            let mut headers = reply.headers.clone();
            headers.retain(|(name, _)| name != "date");
            (reply.text(), headers)
        };
        assert_eq!(body("repo"), body("missing"));
    }
}

#[test]
fn without_a_credential_every_path_answers_the_same_challenge() {
    let git = Git::new();
    let (server, _, _) = with_repo(&Setup::tls(), &git);
    let mut answers = Vec::new();
    for path in [
        format!("{REPO}{REFS}"),
        format!("/DefaultCollection/P/_git/missing{REFS}"),
        format!("/Nowhere/_git/missing{REFS}"),
        "/DefaultCollection/P/_git/repo/info/refs?service=git-receive-pack".to_owned(),
        "/DefaultCollection/P/_git/missing/info/refs?service=git-receive-pack".to_owned(),
    ] {
        let reply = Curl::get(&server, &path).send();
        reply.is_refusal(401);
        let challenges = reply.all("www-authenticate");
        assert_eq!(
            challenges.last(),
            Some(&"Basic realm=\"patgate\", charset=\"UTF-8\""),
            "{path}: some clients look at the last one only"
        );
        assert!(
            challenges.iter().any(|value| value.starts_with("Bearer")),
            "{path}: {challenges:?}"
        );
        answers.push((path, reply.text(), challenges.join("|")));
    }
    for pair in answers.windows(2) {
        assert_eq!(pair[0].1, pair[1].1, "{} and {}", pair[0].0, pair[1].0);
        assert_eq!(pair[0].2, pair[1].2, "{} and {}", pair[0].0, pair[1].0);
    }
    for service in ["git-upload-pack", "git-receive-pack"] {
        Curl::post(&server, REPO, service, b"0000").send().is_refusal(401);
        Curl::post(&server, "/DefaultCollection/P/_git/missing", service, b"0000")
            .send()
            .is_refusal(401);
    }
    // git by itself asks for a user name then.
    let remote = server.anonymous();
    let run = remote
        .client(&git)
        .run(&server.work(), &["ls-remote", &remote.url("repo")]);
    run.failed()
        .says("could not read Username for 'https://127.0.0.1:");
}

/// Some clients probe an unknown host with `HEAD`.
#[test]
fn a_head_request_is_challenged_as_well() {
    let git = Git::new();
    let (server, _, _) = with_repo(&Setup::plain(), &git);
    let reply = Curl::get(&server, REPO).args(&["--head"]).send();
    reply.is(401);
    assert!(
        reply
            .all("www-authenticate")
            .iter()
            .any(|value| value.starts_with("Basic "))
    );
    assert!(reply.body.is_empty());
}

#[test]
fn refusals_carry_no_markup_and_no_session() {
    let git = Git::new();
    let (server, _, token) = with_repo(&Setup::plain(), &git);
    let work = server.cli().token("anna", "vso.work");
    for (status, reply) in [
        (401, Curl::get(&server, &format!("{REPO}{REFS}")).send()),
        (
            403,
            Curl::get(&server, &format!("{REPO}{REFS}")).token(&work).send(),
        ),
        (
            404,
            Curl::get(&server, &format!("/P/_git/none{REFS}"))
                .token(&token)
                .send(),
        ),
    ] {
        reply.is_refusal(status);
        for name in ["set-cookie", "location", "x-github-request-id", "x-arequestid"] {
            assert_eq!(reply.header(name), None, "{status}");
        }
    }
}

/// Scopes include those below them, and other families open nothing.
#[test]
fn each_scope_opens_what_it_is_for() {
    let git = Git::new();
    let (server, _, _) = with_repo(&Setup::plain(), &git);
    for (scope, fetch, push) in [
        ("vso.code", 200, 403),
        ("vso.code_write", 200, 200),
        ("vso.code_manage", 200, 200),
        ("vso.code_full", 200, 200),
        ("app_token", 200, 200),
        ("vso.work", 403, 403),
        ("vso.packaging_manage", 403, 403),
        ("vso.work vso.code", 200, 403),
    ] {
        let token = server.cli().token("anna", scope);
        for (service, expected) in [("git-upload-pack", fetch), ("git-receive-pack", push)] {
            let reply = Curl::get(&server, &format!("{REPO}/info/refs?service={service}"))
                .token(&token)
                .send();
            assert_eq!(reply.status, expected, "{scope} for {service}");
            let reply = Curl::post(&server, REPO, service, b"0000").token(&token).send();
            assert_eq!(reply.status, expected, "{scope} for a request to {service}");
        }
    }
}

/// Every place in which clients put a token.
#[test]
fn a_token_is_accepted_wherever_clients_put_it() {
    for git in Git::all() {
        let (server, _, token) = with_repo(&Setup::tls(), &git);
        let client = server.anonymous().client(&git);
        let (dir, authority, text) = (server.work(), server.authority().to_owned(), token.text.clone());
        let mut forms = vec![
            format!("anybody:{text}"),
            format!("a%40b.example:{text}"),
            text.clone(),
            format!("{text}:"),
        ];
        // Newer gits send neither half of a credential whose username is empty.
        if !git.is_at_least(2, 40) {
            forms.push(format!(":{text}"));
        }
        for userinfo in forms {
            let url = format!("https://{userinfo}@{authority}{REPO}");
            let run = client.run(&dir, &["ls-remote", &url]);
            assert!(run.is_ok() && run.out().contains("refs/heads/main"), "{run}");
        }
        let url = server.anonymous().url("repo");
        for header in [
            format!("Authorization: Bearer {text}"),
            format!("AUTHORIZATION: bearer {text}"),
            format!("Authorization: {}", token.basic("")),
            format!("authorization: {}", token.basic("x").replace("Basic", "basic")),
            format!("Authorization: {}", basic(&text, "")),
        ] {
            let client = client.with("http.extraHeader", &header);
            let run = client.run(&dir, &["ls-remote", &url]);
            assert!(run.is_ok() && run.out().contains("refs/heads/main"), "{run}");
        }
    }
}

#[test]
fn a_helper_that_hands_out_a_bearer_credential_is_understood() {
    for git in Git::all().into_iter().filter(|git| git.is_at_least(2, 46)) {
        let (server, remote, token) = with_repo(&Setup::tls(), &git);
        let answer = format!(
            "!echo capability[]=authtype; echo authtype=Bearer; echo credential={}; :",
            token.text
        );
        let client = server.anonymous().client(&git).with("credential.helper", &answer);
        assert!(
            client
                .ok(&server.work(), &["ls-remote", &remote.bare_url("repo")])
                .contains("refs/heads/main")
        );
        let client = remote.client(&git).with("http.proactiveAuth", "basic");
        assert!(
            client
                .ok(&server.work(), &["ls-remote", &remote.url("repo")])
                .contains("refs/heads/main")
        );
    }
}

/// An administrator's rights do not come with a token that has not the scope, and rights end at once.
#[test]
fn a_right_that_is_taken_away_is_gone_at_the_next_request() {
    let git = Git::new();
    let (server, _, token) = with_repo(&Setup::plain(), &git);
    let status = |service: &str| {
        Curl::get(&server, &format!("{REPO}/info/refs?service={service}"))
            .token(&token)
            .send()
            .status
    };
    assert_eq!(
        (status("git-upload-pack"), status("git-receive-pack")),
        (200, 200)
    );
    server.cli().ok(&["access", "grant", "anna", "reader"]);
    assert_eq!(
        (status("git-upload-pack"), status("git-receive-pack")),
        (200, 403)
    );
    server.cli().ok(&["access", "revoke", "anna"]);
    assert_eq!(
        (status("git-upload-pack"), status("git-receive-pack")),
        (404, 404)
    );
    server.cli().ok(&[
        "access",
        "grant",
        "anna",
        "contributor",
        "DefaultCollection/P/repo",
    ]);
    assert_eq!(
        (status("git-upload-pack"), status("git-receive-pack")),
        (200, 200)
    );
    server.cli().ok(&["user", "disable", "anna"]);
    assert_eq!(
        (status("git-upload-pack"), status("git-receive-pack")),
        (401, 401)
    );
    server.cli().ok(&["user", "enable", "anna"]);
    assert_eq!(
        (status("git-upload-pack"), status("git-receive-pack")),
        (200, 200)
    );
    server.cli().ok(&["user", "delete", "anna", "--yes"]);
    assert_eq!(
        (status("git-upload-pack"), status("git-receive-pack")),
        (401, 401)
    );
}

/// The old secret opens nothing, and whoever uses it ends the token, because two have it.
#[test]
fn a_rotated_token_takes_over_and_the_old_one_ends() {
    let git = Git::new();
    let (server, _, old) = with_repo(&Setup::plain(), &git);
    let status = |token: &Token| {
        Curl::get(&server, &format!("{REPO}{REFS}"))
            .token(token)
            .send()
            .status
    };
    assert_eq!(status(&old), 200);
    let new = server.cli().keep(&server.cli().ok(&["token", "rotate", &old.id]));
    assert_ne!(new.text, old.text);
    assert_eq!((status(&new), status(&new)), (200, 200));
    assert_eq!((status(&old), status(&new)), (401, 200));
    server.cli().end_overlaps(&old);
    assert_eq!((status(&old), status(&new)), (401, 401));
}

/// Failures of one address are slowed down; others go on, and a client's few retries are not failures enough.
#[test]
fn too_many_failures_are_throttled_by_address() {
    let git = Git::new();
    let (server, _, token) = with_repo(&Setup::plain(), &git);
    let url = format!("{REPO}{REFS}");
    let from = |address: &str| Curl::get(&server, &url).args(&["--interface", address]);
    let mut tries = 0;
    let throttled = loop {
        let reply = from("127.0.0.2")
            .header(&format!("Authorization: {}", basic("x", "pgt_wrong")))
            .send();
        if reply.status != 401 {
            break reply;
        }
        tries += 1;
        assert!(tries < 2000, "guessing must become slow");
    };
    throttled.is_refusal(429);
    assert!(
        tries >= 10,
        "a client that repeats itself a few times is no attack: {tries}"
    );
    let seconds: u64 = throttled
        .header("retry-after")
        .and_then(|text| text.parse().ok())
        .expect("Retry-After in seconds");
    assert!((1..=3600).contains(&seconds), "{seconds}");
    assert_eq!(
        from("127.0.0.3").token(&token).send().status,
        200,
        "another address is not concerned"
    );
    assert_eq!(
        from("127.0.0.3").send().status,
        401,
        "nor is one that has no credential yet"
    );
}

/// Requests without a credential are how every clone begins: they are no failures.
#[test]
fn clients_that_have_no_credential_yet_are_never_throttled() {
    let git = Git::new();
    let (server, _, _) = with_repo(&Setup::plain(), &git);
    for _ in 0..300 {
        Curl::get(&server, &format!("{REPO}{REFS}")).send().is(401);
    }
}
