//! What an administrator decides about tokens, as git and the command line hear of it.

use crate::harness::{Curl, Git, Helper, Remote, Server, Setup, Token};

/// A server with the repository `R` in the collections `DefaultCollection` and `Payroll`, for which anna has `token`.
struct Fixture {
    server: Server,
    remote: Remote,
    token: Token,
}

impl Fixture {
    fn new(git: &Git, scope: &str) -> Fixture {
        let server = Setup::tls().start();
        let (remote, token) = server.contributor(scope);
        let source = server.work().join("source");
        git.init(&source);
        git.commit(&source, "file", "text\n");
        for path in ["DefaultCollection/P/R", "Payroll/P/R"] {
            let (from, to) = (source.to_str().unwrap(), path);
            server.cli().ok(&["repo", "import", from, to]);
        }
        Fixture {
            server,
            remote,
            token,
        }
    }

    fn url(&self, collection: &str) -> String {
        self.remote
            .url("R")
            .replace("/DefaultCollection/", &format!("/{collection}/"))
    }

    fn ls_remote(&self, git: &Git, collection: &str) -> crate::harness::Run {
        let client = self.remote.client(git);
        client.run(&self.server.work(), &["ls-remote", &self.url(collection)])
    }

    fn set(&self, args: &[&str]) {
        self.server.cli().ok(&[&["policy", "set"], args].concat());
    }
}

#[test]
fn a_collections_policy_keeps_a_token_out_of_it_and_git_keeps_the_token() {
    for git in Git::all() {
        let f = Fixture::new(&git, "app_token");
        f.ls_remote(&git, "Payroll").ok();
        f.set(&["full-scope", "deny", "--collection", "payroll"]);
        f.ls_remote(&git, "Payroll")
            .failed()
            .says("remote: The collection 'payroll' takes no token with the scope app_token")
            .says("The requested URL returned error: 403");
        f.ls_remote(&git, "DefaultCollection").ok();

        // A push that is under way by then is refused, too, and the helper is not told to forget anything.
        let helper = Helper::new(&f.server.work(), "anybody", &f.token.text);
        let client = helper.client(&f.server.anonymous().client(&git));
        let source = f.server.work().join("source");
        let url = f
            .server
            .anonymous()
            .url("R")
            .replace("/DefaultCollection/", "/Payroll/");
        git.commit(&source, "file", "changed\n");
        client
            .run(&source, &["push", &url, "HEAD:main"])
            .failed()
            .says("403");
        assert_eq!(helper.operations(), ["get"], "git neither stores nor erases");

        let cli = f.server.cli();
        cli.ok(&["token", "update", &f.token.id, "--scope", "vso.code_write"]);
        client.ok(&source, &["push", "--quiet", &url, "HEAD:main"]);
    }
}

#[test]
fn a_token_that_breaks_a_later_policy_of_the_server_goes_on_and_no_other_is_made_like_it() {
    let git = Git::new();
    let f = Fixture::new(&git, "app_token");
    f.set(&["full-scope", "deny"]);
    f.set(&["max-lifetime", "30"]);
    f.ls_remote(&git, "DefaultCollection").ok();
    let create = |scope: &str, expires: &str| {
        f.server.cli().run(&[
            "token",
            "create",
            "--user",
            "anna",
            "--name",
            "x",
            "--scope",
            scope,
            "--expires",
            expires,
        ])
    };
    let refused = create("app_token", "30d");
    assert_eq!(refused.code(), Some(1));
    refused.says("error: this server allows no token with the scope app_token");
    let refused = create("vso.code", "31d");
    assert_eq!(refused.code(), Some(2));
    refused.says("error: this server lets a token live at most 30 days: give '30d' or a date up to 2");
    create("vso.code", "30d").ok();
    // It has 90 days, and keeps them.
    let cli = f.server.cli();
    let extend = ["token", "update", &f.token.id, "--expires", "100d"];
    cli.run(&extend)
        .failed()
        .says("this server allows no token with the scope app_token");
    cli.ok(&["token", "update", &f.token.id, "--scope", "vso.code_write"]);
    cli.run(&extend)
        .failed()
        .says("this server lets a token live at most 30 days, and this one has had its secret since 2");
    cli.ok(&["policy", "unset", "max-lifetime"]);
    cli.ok(&extend);
    f.ls_remote(&git, "DefaultCollection").ok();
}

#[test]
fn a_revocation_rule_ends_tokens_at_once_and_a_rotation_or_its_removal_brings_them_back() {
    for git in Git::all() {
        let f = Fixture::new(&git, "vso.code_write");
        let cli = f.server.cli();
        let work = cli.token("anna", "vso.work");
        cli.age(&f.token, 3);
        cli.age(&work, 3);
        f.ls_remote(&git, "DefaultCollection").ok();
        let yesterday = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24);
        let before = yesterday.to_string();
        let run = cli.run(&["token", "rule", "add", "--scope", "vso.code", "--before", &before]);
        run.ok();
        run.says("rule 1: everything with vso.code made before 2")
            .says("that is 1 live token");
        let helper = Helper::new(&f.server.work(), "anybody", &f.token.text);
        let client = helper.client(&f.server.anonymous().client(&git));
        let url = f.server.anonymous().url("R");
        let ls_remote = ["ls-remote", url.as_str()];
        client
            .run(&f.server.work(), &ls_remote)
            .failed()
            .says("remote: An administrator of this server has revoked tokens like 'test', by a rule of 2")
            .says("Authentication failed");
        assert_eq!(helper.operations(), ["get", "erase"]);
        let other = Curl::get(
            &f.server,
            "/DefaultCollection/P/_git/R/info/refs?service=git-upload-pack",
        );
        other.token(&work).send().is_refusal(403);
        let rotated = cli.keep(&cli.ok(&["token", "rotate", &f.token.id]));
        helper.answer("anybody", &rotated.text);
        client.ok(&f.server.work(), &ls_remote);
        cli.age(&rotated, 3);
        client.run(&f.server.work(), &ls_remote).failed();
        cli.ok(&["token", "rule", "remove", "1"]);
        client.ok(&f.server.work(), &ls_remote);
    }
}

#[test]
fn a_token_that_was_not_used_for_too_long_is_revoked_when_it_is_used() {
    for git in Git::all() {
        let f = Fixture::new(&git, "vso.code_write");
        let cli = f.server.cli();
        cli.age(&f.token, 31);
        f.set(&["revoke-unused", "30", "--collection", "Payroll"]);
        f.ls_remote(&git, "Payroll").ok();
        let idle = cli.token("anna", "vso.code");
        cli.age(&idle, 31);
        f.server
            .cli()
            .run(&["policy", "set", "revoke-unused", "30"])
            .says("'revoke-unused' is now 30 for the whole server")
            .says("not been used for so long");
        f.ls_remote(&git, "DefaultCollection").ok();
        let remote = f.server.remote(&idle);
        remote
            .client(&git)
            .run(&f.server.work(), &["ls-remote", &remote.url("R")])
            .failed()
            .says("remote: The token 'test' was revoked on 2")
            .says("because it was not used for too long")
            .says("Authentication failed");
        let state = |token: &Token| cli.json(&["token", "show", &token.id])["state"].clone();
        assert_eq!(
            (state(&idle), state(&f.token)),
            ("revoked".into(), "active".into())
        );
    }
}
