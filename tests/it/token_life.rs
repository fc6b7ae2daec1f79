//! The life of a token as git lives it: limits, rotation, reuse, revocation of all, last use.

use crate::harness::{Curl, Git, Helper, Remote, Run, Server, Setup, Token};

const REFS: &str = "/info/refs?service=git-upload-pack";
const PUSH_REFS: &str = "/info/refs?service=git-receive-pack";

/// A server with the repositories `DefaultCollection/P/{repo,other}`, each with one commit, and anna, who may push to
/// all.
fn with_repos(setup: &Setup, git: &Git) -> Server {
    let server = setup.start();
    server.cli().contributor("anna");
    let source = server.work().join("source");
    git.init(&source);
    git.commit(&source, "file", "text\n");
    for name in ["repo", "other"] {
        server.anonymous().copy(git, &source, name);
    }
    server
}

fn status(server: &Server, token: &Token, path: &str) -> u16 {
    Curl::get(server, path).token(token).send().status
}

fn repo(name: &str) -> String {
    format!("/DefaultCollection/P/_git/{name}")
}

fn ls_remote(git: &Git, server: &Server, remote: &Remote, name: &str) -> Run {
    remote
        .client(git)
        .run(&server.work(), &["ls-remote", &remote.url(name)])
}

#[test]
fn a_token_for_one_repository_fetches_and_pushes_there_and_is_told_its_limit_elsewhere() {
    for git in Git::all() {
        let server = with_repos(&Setup::tls(), &git);
        let flags = ["--repo", "DefaultCollection/P/repo"];
        let token = server.cli().token_with("anna", "vso.code_write", &flags);
        let remote = server.remote(&token);
        let client = remote.client(&git);
        client.ok(
            &server.work(),
            &["clone", "--quiet", &remote.url("repo"), "clone"],
        );
        let clone = server.work().join("clone");
        git.commit(&clone, "file", "changed\n");
        client.ok(&clone, &["push", "--quiet", "origin", "main"]);

        let helper = Helper::new(&server.work(), "anybody", &token.text);
        let remote = server.anonymous();
        let client = helper.client(&remote.client(&git));
        for name in ["other", "missing"] {
            helper.clear();
            let run = client.run(&server.work(), &["ls-remote", &remote.url(name)]);
            run.failed()
                .says("remote: The token 'test' is limited to DefaultCollection/P/repo, and this is outside.")
                .says(&format!("patgate token update {} --repo PATH", token.id))
                .says("The requested URL returned error: 403");
            assert_eq!(helper.operations(), ["get"], "git keeps the credential");
        }
    }
}

#[test]
fn outside_of_its_paths_a_token_cannot_tell_what_is_there() {
    let git = Git::new();
    let server = with_repos(&Setup::plain(), &git);
    server.cli().user("stranger");
    let flags = ["--repo", "DefaultCollection/P/repo", "Empty"];
    let tokens = [
        server.cli().token_with("anna", "vso.code_full", &flags),
        server.cli().token_with("stranger", "vso.code_full", &flags),
    ];
    for token in &tokens {
        let answers: Vec<_> = [
            repo("other"),
            repo("missing"),
            "/DefaultCollection/Q/_git/x".to_owned(),
            "/Nowhere/_git/x".to_owned(),
            "/tfs/Nowhere/P/_git/x".to_owned(),
        ]
        .iter()
        .flat_map(|path| [REFS, PUSH_REFS, "/HEAD", "", "/info/refs"].map(|suffix| format!("{path}{suffix}")))
        .map(|path| {
            let reply = Curl::get(&server, &path).token(token).send();
            reply.is_refusal(403);
            let mut headers = reply.headers.clone();
            headers.retain(|(name, _)| name != "date");
            (reply.text(), headers)
        })
        .collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        for path in [repo("other"), repo("missing")] {
            for service in ["git-upload-pack", "git-receive-pack"] {
                let reply = Curl::post(&server, &path, service, b"0000").token(token).send();
                assert_eq!(reply.is_refusal(403).text(), answers[0].0);
            }
        }
    }
    // Inside of them, the owner's rights decide as ever.
    let [anna, stranger] = &tokens;
    assert_eq!(status(&server, anna, &format!("{}{REFS}", repo("repo"))), 200);
    assert_eq!(status(&server, stranger, &format!("{}{REFS}", repo("repo"))), 404);
    assert_eq!(status(&server, anna, &format!("/Empty/_git/x{REFS}")), 404);
}

#[test]
fn a_short_url_means_the_repository_inside_the_limit() {
    let git = Git::new();
    let server = with_repos(&Setup::plain(), &git);
    let source = server.work().join("source");
    let twin = server.setup().repos().join("P/repo/repo.git");
    std::fs::create_dir_all(twin.parent().unwrap()).unwrap();
    git.ok(
        &server.work(),
        &[
            "clone",
            "--quiet",
            "--bare",
            source.to_str().unwrap(),
            twin.to_str().unwrap(),
        ],
    );
    git.ok(&twin, &["branch", "only-in-the-twin", "main"]);
    let sees_the_twin = |flags: &[&str]| {
        let token = server.cli().token_with("anna", "vso.code", flags);
        let url = format!(
            "{}/P/_git/repo",
            server.base().replacen("://", &format!("://x:{}@", token.text), 1)
        );
        let run = server
            .anonymous()
            .client(&git)
            .ok(&server.work(), &["ls-remote", &url]);
        run.contains("only-in-the-twin")
    };
    assert!(sees_the_twin(&[]));
    assert!(sees_the_twin(&["--repo", "P"]));
    assert!(!sees_the_twin(&["--repo", "DefaultCollection/P"]));
}

#[test]
fn a_token_works_from_its_networks_only() {
    let git = Git::new();
    let server = with_repos(&Setup::plain(), &git);
    let token = server
        .cli()
        .token_with("anna", "vso.code", &["--network", "127.0.0.2", "10.0.0.0/8"]);
    let from = |address: &str, path: &str| {
        Curl::get(&server, path)
            .args(&["--interface", address])
            .token(&token)
            .send()
    };
    assert_eq!(from("127.0.0.2", &format!("{}{REFS}", repo("repo"))).status, 200);
    let texts: Vec<String> = ["repo", "missing"]
        .iter()
        .map(|name| {
            let reply = from("127.0.0.3", &format!("{}{REFS}", repo(name)));
            reply.is_refusal(403).text()
        })
        .collect();
    assert_eq!(texts[0], texts[1]);
    assert!(
        texts[0].contains(
            "may be used from 127.0.0.2/32 or 10.0.0.0/8 only, and this request came from 127.0.0.3."
        ),
        "{}",
        texts[0]
    );
    // Nor does it get another answer for what is no repository.
    from("127.0.0.3", "/DefaultCollection").is_refusal(403);
    from("127.0.0.2", "/DefaultCollection").is_refusal(404);
    // Changed while it lives.
    server
        .cli()
        .ok(&["token", "update", &token.id, "--network", "127.0.0.3"]);
    assert_eq!(from("127.0.0.2", &format!("{}{REFS}", repo("repo"))).status, 403);
    assert_eq!(from("127.0.0.3", &format!("{}{REFS}", repo("repo"))).status, 200);
    server.cli().ok(&["token", "update", &token.id, "--no-limits"]);
    assert_eq!(from("127.0.0.2", &format!("{}{REFS}", repo("repo"))).status, 200);
}

#[test]
fn behind_a_proxy_the_network_is_that_of_the_client() {
    for git in Git::all() {
        let setup = Setup::plain().arg("--behind-proxy").arg("127.0.0.1/32");
        let server = with_repos(&setup, &git);
        let token = server
            .cli()
            .token_with("anna", "vso.code", &["--network", "192.0.2.0/24"]);
        let remote = server.remote(&token);
        let from = |address: &str| {
            let git = git.with("http.extraHeader", &format!("X-Forwarded-For: {address}"));
            ls_remote(&git, &server, &remote, "repo")
        };
        assert!(from("192.0.2.7").ok().contains("refs/heads/main"));
        from("198.51.100.7")
            .failed()
            .says("remote: The token 'test' may be used from 192.0.2.0/24 only, and this request came from 198.51.100.7.");
        ls_remote(&git, &server, &remote, "repo")
            .failed()
            .says("came from 127.0.0.1.");
    }
}

#[test]
fn a_limit_follows_a_repository_that_is_renamed() {
    let git = Git::new();
    let server = with_repos(&Setup::plain(), &git);
    let flags = ["--repo", "DefaultCollection/P/repo"];
    let token = server.cli().token_with("anna", "vso.code", &flags);
    let ask = |name: &str| status(&server, &token, &format!("{}{REFS}", repo(name)));
    assert_eq!((ask("repo"), ask("renamed")), (200, 403));
    server.cli().ok(&[
        "repo",
        "rename",
        "DefaultCollection/P/repo",
        "DefaultCollection/P/renamed",
    ]);
    assert_eq!((ask("repo"), ask("renamed")), (403, 200));
    server
        .cli()
        .ok(&["repo", "delete", "DefaultCollection/P/renamed", "--yes"]);
    assert_eq!((ask("repo"), ask("renamed"), ask("other")), (403, 404, 403));
}

#[test]
fn both_secrets_of_a_rotated_token_work_until_the_overlap_is_over_and_reuse_ends_it() {
    for git in Git::all() {
        let server = with_repos(&Setup::tls(), &git);
        let old = server.cli().token("anna", "vso.code");
        let new = server.cli().rotate(&old, &["--overlap", "2h"]);
        assert_eq!(new.id, old.id);
        for token in [&old, &new, &old] {
            assert!(
                ls_remote(&git, &server, &server.remote(token), "repo")
                    .ok()
                    .contains("refs/heads/main")
            );
        }
        server.cli().end_overlaps(&old);
        ls_remote(&git, &server, &server.remote(&new), "repo").ok();

        let helper = Helper::new(&server.work(), "anybody", &old.text);
        let remote = server.anonymous();
        let client = helper.client(&remote.client(&git));
        for _ in 0..2 {
            let run = client.run(&server.work(), &["ls-remote", &remote.url("repo")]);
            run.failed()
                .says("remote: The token 'test' was revoked on ")
                .says("because a secret that a rotation had replaced was used again");
            run.never_says(&old.text);
        }
        assert_eq!(helper.operations(), ["get", "erase", "get", "erase"]);
        ls_remote(&git, &server, &server.remote(&new), "repo")
            .failed()
            .says("was used again");
        let shown = server.cli().json(&["token", "show", &old.id]);
        assert_eq!(
            (&shown["state"], &shown["revoked_because"]),
            (&"revoked".into(), &"reuse".into())
        );
        let events = server.cli().json(&["audit", "list"]);
        let of = |action: &str| {
            let all = events.as_array().unwrap().iter();
            all.filter(|event| event["action"] == action).collect::<Vec<_>>()
        };
        let (reuse, revoke) = (of("token.reuse"), of("token.revoke"));
        assert_eq!((reuse.len(), revoke.len()), (1, 1), "{events}");
        for event in [reuse[0], revoke[0]] {
            assert_eq!(event["subject"], old.id.as_str());
            assert_eq!(event["address"], "127.0.0.1");
            assert!(event["agent"].as_str().unwrap().starts_with("git/"), "{event}");
        }
    }
}

#[test]
fn a_fetch_that_a_rotation_comes_into_fails_and_leaves_the_token_alone() {
    let git = Git::new();
    let server = with_repos(&Setup::plain(), &git);
    let old = server.cli().token("anna", "vso.code");
    let advertised = Curl::get(&server, &format!("{}{REFS}", repo("repo")))
        .token(&old)
        .send();
    let advertised = advertised.is(200).text();
    let at = advertised.find(" refs/heads/main").unwrap();
    let want = format!("want {}\n", &advertised[at - 40..at]);
    let body = format!("{:04x}{want}00000009done\n", want.len() + 4);
    let new = server.cli().rotate(&old, &[]);
    let fetch = |token: &Token| {
        Curl::post(&server, &repo("repo"), "git-upload-pack", body.as_bytes())
            .token(token)
            .send()
    };
    for _ in 0..2 {
        let text = fetch(&old).is(401).text();
        assert!(text.contains("has a newer secret"), "{text}");
        fetch(&new).is(200);
    }
    server.cli().end_overlaps(&new);
    assert!(fetch(&old).is(401).text().contains("was used again"));
    fetch(&new).is(401);
}

#[test]
fn a_second_rotation_leaves_the_two_newest_secrets() {
    let git = Git::new();
    let server = with_repos(&Setup::plain(), &git);
    let first = server.cli().token("anna", "vso.code");
    let second = server.cli().rotate(&first, &["--overlap", "1d"]);
    let third = server.cli().rotate(&first, &["--overlap", "1d"]);
    let ask = |token: &Token| status(&server, token, &format!("{}{REFS}", repo("repo")));
    for _ in 0..2 {
        assert_eq!((ask(&first), ask(&second), ask(&third)), (401, 200, 200));
    }
    let text = Curl::get(&server, &format!("{}{REFS}", repo("repo")))
        .token(&first)
        .send()
        .text();
    assert!(text.contains("has a newer secret"), "{text}");
}

#[test]
fn limits_scopes_and_names_survive_a_rotation() {
    let git = Git::new();
    let server = with_repos(&Setup::plain(), &git);
    let flags = ["--repo", "DefaultCollection/P/repo", "--network", "127.0.0.1"];
    let old = server.cli().token_with("anna", "vso.code", &flags);
    let new = server.cli().rotate(&old, &[]);
    assert_eq!(
        (
            status(&server, &new, &format!("{}{REFS}", repo("repo"))),
            status(&server, &new, &format!("{}{PUSH_REFS}", repo("repo"))),
            status(&server, &new, &format!("{}{REFS}", repo("other"))),
        ),
        (200, 403, 403)
    );
}

#[test]
fn all_tokens_of_an_account_end_at_the_next_request_and_only_those() {
    let git = Git::new();
    let server = with_repos(&Setup::plain(), &git);
    let cli = server.cli();
    cli.contributor("ben");
    let annas = [cli.token("anna", "vso.code"), cli.token("anna", "vso.code_write")];
    let bens = cli.token("ben", "vso.code");
    let ask = |token: &Token| status(&server, token, &format!("{}{REFS}", repo("repo")));
    assert_eq!((ask(&annas[0]), ask(&annas[1]), ask(&bens)), (200, 200, 200));
    cli.run(&["token", "revoke", "--all", "--user", "anna"])
        .failed()
        .says("Type its name to go on");
    assert_eq!(ask(&annas[0]), 200, "nobody typed a name");
    cli.ok(&[
        "token",
        "revoke",
        "--all",
        "--user",
        "anna",
        "--because",
        "leaked",
        "--yes",
    ]);
    assert_eq!((ask(&annas[0]), ask(&annas[1]), ask(&bens)), (401, 401, 200));
    ls_remote(&git, &server, &server.remote(&annas[1]), "repo")
        .failed()
        .says("because it was found where others could read it");
}

#[test]
fn what_a_token_was_used_for_is_kept() {
    for git in Git::all() {
        let mut server = with_repos(&Setup::plain(), &git);
        let (read, write, refused) = (
            server.cli().token("anna", "vso.code"),
            server.cli().token("anna", "vso.code_write"),
            server.cli().token("anna", "vso.work"),
        );
        let remote = server.remote(&read);
        let client = remote.client(&git);
        client.ok(
            &server.work(),
            &["clone", "--quiet", &remote.url("repo"), "clone"],
        );
        let clone = server.work().join("clone");
        git.commit(&clone, "file", "changed\n");
        client.ok(
            &clone,
            &["push", "--quiet", &server.remote(&write).url("repo"), "main"],
        );
        ls_remote(&git, &server, &server.remote(&refused), "repo").failed();
        let other = Curl::get(&server, &format!("{}{REFS}", repo("other")))
            .args(&["--interface", "127.0.0.2"])
            .token(&read)
            .send();
        other.is(200);
        // It is written off the way of requests; a server that ends has written all of it.
        server.signal("TERM");
        assert!(server.wait().success());

        let show = |token: &Token| server.cli().json(&["token", "show", &token.id]);
        let (read, write, refused) = (show(&read), show(&write), show(&refused));
        assert_eq!(read["last_used_for"], "fetch DefaultCollection/P/other");
        assert_eq!(read["last_used_from"], "127.0.0.2");
        let addresses: Vec<&str> = read["addresses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["address"].as_str().unwrap())
            .collect();
        assert_eq!(addresses.len(), 2, "{read}");
        assert!(addresses.contains(&"127.0.0.1") && addresses.contains(&"127.0.0.2"));
        assert_eq!(write["last_used_for"], "push DefaultCollection/P/repo");
        assert_eq!(write["last_used_from"], "127.0.0.1");
        let agent = format!("git/{}", git.version());
        assert_eq!(write["last_used_with"], agent.as_str());
        assert!(refused["last_used_at"].is_null() && refused["last_used_for"].is_null());
    }
}

#[test]
fn a_token_that_is_limited_to_refs_moves_only_these() {
    for git in Git::all() {
        let server = with_repos(&Setup::tls(), &git);
        let flags = ["--ref", "refs/heads/ci/*", "refs/tags/*"];
        let token = server.cli().token_with("anna", "vso.code_write", &flags);
        let remote = server.remote(&token);
        let client = remote.client(&git);
        client.ok(
            &server.work(),
            &["clone", "--quiet", &remote.url("repo"), "clone"],
        );
        let clone = server.work().join("clone");
        git.commit(&clone, "file", "changed\n");
        let push = |args: &[&str]| client.run(&clone, &[&["push", "--porcelain", "origin"], args].concat());

        let run = push(&["HEAD:refs/heads/main", "HEAD:refs/heads/ci/a/b"]);
        run.failed();
        let limited = "token limited to refs/heads/ci/*, refs/tags/*";
        assert!(
            run.out()
                .contains(&format!("refs/heads/main\t[remote rejected] ({limited})")),
            "{run}"
        );
        assert!(run.out().contains("refs/heads/ci/a/b\t[new branch]"), "{run}");

        let run = push(&["--atomic", "HEAD:refs/heads/main", "HEAD:refs/heads/ci/c"]);
        run.failed();
        assert!(!run.out().contains("[new branch]"), "{run}");
        push(&["--delete", "main"]).failed();
        let listed = client.ok(&clone, &["ls-remote", "origin"]);
        assert!(!listed.contains("refs/heads/ci/c"), "{listed}");
        assert!(listed.contains("refs/heads/main"), "{listed}");
    }
}
