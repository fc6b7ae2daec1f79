//! The ways in which clients write the address of a repository.

use crate::harness::{Curl, Git, Setup};

const REFS: &str = "/info/refs?service=git-upload-pack";

#[test]
fn a_repository_is_found_by_every_form_of_its_url() {
    let (git, server) = (Git::new(), Setup::plain().start());
    let (_, token) = server.contributor("vso.code");
    for path in [
        "DefaultCollection/Git project/Répo",
        "DefaultCollection/Same/Same",
        "Other/P/R",
        "Other/Same/Same",
    ] {
        server.cli().ok(&["repo", "create", path]);
        let dir = server.setup().repos().join(format!("{path}.git"));
        assert_eq!(
            git.ok(&dir, &["rev-parse", "--is-bare-repository"]),
            "true",
            "{path}"
        );
    }
    for (path, status) in [
        ("/DefaultCollection/Git%20project/_git/R%C3%A9po", 200),
        ("/DefaultCollection/Git%20project/_git/R%C3%A9po.git", 200),
        ("/defaultcollection/git%20PROJECT/_git/r%C3%A9PO", 200),
        ("/defaultcollection/git%20PROJECT/_GIT/r%C3%A9PO.GIT", 200),
        ("/Git%20project/_git/R%C3%A9po", 200),
        ("/tfs/DefaultCollection/Git%20project/_git/R%C3%A9po", 200),
        ("/TFS/defaultcollection/Git%20project/_git/R%C3%A9po", 200),
        ("/DefaultCollection/Same/_git/Same", 200),
        ("/DefaultCollection/_git/Same", 200),
        ("/_git/Same", 200),
        ("/Same/_git/Same", 200),
        ("/tfs/DefaultCollection/_git/Same", 200),
        ("/Other/P/_git/R", 200),
        ("/other/_git/same.git", 200),
        ("/_git/R", 404),
        ("/P/_git/R", 404),
        ("/Other/_git/R", 404),
        // Decoded once: what is left is part of the name.
        ("/DefaultCollection/Git%2520project/_git/R%C3%A9po", 404),
        ("/DefaultCollection/..%2fOther/_git/Same", 404),
        ("/DefaultCollection/Same/_git/..%2f..%2fOther%2fSame%2fSame", 404),
        ("/DefaultCollection/Same/_git/Same%00", 404),
        ("/DefaultCollection/Same/_git/.", 404),
        ("/DefaultCollection/Same/_git/", 404),
        ("/DefaultCollection/Same/_git/%FF", 404),
        ("/DefaultCollection/Same/Same.git", 404),
    ] {
        let reply = Curl::get(&server, &format!("{path}{REFS}")).token(&token).send();
        let is_bad = status == 404 && reply.status == 400;
        assert!(
            reply.status == status || is_bad,
            "{path}: {} {}",
            reply.status,
            reply.text()
        );
        if reply.status != 200 {
            reply.is_refusal(reply.status);
        }
    }
}

/// A server never sends a client with a credential somewhere else.
#[test]
fn no_form_is_answered_by_a_redirect() {
    let server = Setup::plain().start();
    let (_, token) = server.contributor("vso.code");
    server
        .cli()
        .ok(&["repo", "create", "DefaultCollection/Same/Same"]);
    for path in [
        "/_git/Same/",
        "/_git/Same",
        "//_git/Same",
        "/_git//Same",
        "/DefaultCollection/_git/Same/",
    ] {
        for suffix in ["", REFS, "/info/refs/"] {
            let status = Curl::get(&server, &format!("{path}{suffix}"))
                .token(&token)
                .send()
                .status;
            assert!(!(300..400).contains(&status), "{path}{suffix}: {status}");
        }
    }
}
