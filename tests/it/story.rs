//! Two users of 2015: a token for work items fails to clone, is edited while it lives, works, and is revoked.

use crate::harness::{Git, Helper, Setup};

#[test]
fn a_token_is_widened_used_and_revoked() {
    for git in Git::all() {
        let server = Setup::tls().start();
        let cli = server.cli();
        cli.contributor("anna");
        cli.ok(&["repo", "create", "DefaultCollection/Fabrikam/Fiber"]);
        let token = cli.token("anna", "vso.work");
        let helper = Helper::new(&server.work(), "it does not matter", &token.text);
        let remote = server.anonymous();
        let client = helper.client(&remote.client(&git));
        let url = format!("{}/DefaultCollection/Fabrikam/_git/Fiber", server.base());
        let clone = server.work().join("Fiber");

        client
            .run(&server.work(), &["clone", &url])
            .failed()
            .says("returned error: 403")
            .says("Code (read");
        assert!(!clone.exists(), "a clone that fails leaves nothing");
        assert_eq!(helper.operations(), ["get"], "the helper keeps the token");

        cli.ok(&["token", "update", &token.id, "--scope", "vso.code_write"]);
        client.ok(&server.work(), &["clone", &url]);
        let tip = git.commit(&clone, "README", "Fiber\n");
        client.ok(&clone, &["push", "--quiet", "origin", "HEAD:main"]);
        let disk = server
            .setup()
            .repos()
            .join("DefaultCollection/Fabrikam/Fiber.git");
        assert_eq!(git.ok(&disk, &["rev-parse", "main"]), tip);
        client.ok(&clone, &["fetch"]);

        cli.ok(&["token", "update", &token.id, "--scope", "vso.code"]);
        git.commit(&clone, "README", "changed\n");
        client
            .run(&clone, &["push", "origin", "HEAD:main"])
            .failed()
            .says("403")
            .says("Code (read and write)");
        client.ok(&clone, &["fetch"]);

        helper.clear();
        cli.ok(&["token", "revoke", &token.id]);
        client
            .run(&clone, &["fetch"])
            .failed()
            .says("Authentication failed");
        assert_eq!(helper.operations(), ["get", "erase"]);
        assert_eq!(git.ok(&disk, &["rev-parse", "main"]), tip);
    }
}

/// SourceTree runs git with these options and leaves the credential to a helper.
#[test]
fn sourcetree_s_way_of_calling_git_works() {
    for git in Git::all() {
        let server = Setup::tls().start();
        let cli = server.cli();
        cli.contributor("anna");
        cli.ok(&["repo", "create", "Fabrikam/Fiber"]);
        let token = cli.token("anna", "vso.code_write");
        let helper = Helper::new(&server.work(), "anna", &token.text);
        let client = helper.client(&server.anonymous().client(&git));
        let as_sourcetree = |args: &[&str]| {
            let prefix = [
                "-c",
                "diff.mnemonicprefix=false",
                "-c",
                "core.quotepath=false",
                "--no-optional-locks",
            ];
            [&prefix, args]
                .concat()
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let run = |dir: &std::path::Path, args: &[&str]| {
            let args = as_sourcetree(args);
            client.ok(dir, &args.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let url = format!("{}/DefaultCollection/Fabrikam/_git/Fiber", server.base());
        let (work, clone) = (server.work(), server.work().join("clone"));
        run(&work, &["ls-remote", &url]);
        run(&work, &["clone", &url, "clone"]);
        let tip = git.commit(&clone, "fichier-é", "text\n");
        run(
            &clone,
            &["push", "-v", "--tags", "--set-upstream", "origin", "main:main"],
        );
        run(&clone, &["fetch", "origin", "--tags", "--prune"]);
        run(&clone, &["pull", "origin", "main"]);
        let disk = server
            .setup()
            .repos()
            .join("DefaultCollection/Fabrikam/Fiber.git");
        assert_eq!(git.ok(&disk, &["rev-parse", "main"]), tip);
    }
}
