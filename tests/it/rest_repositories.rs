//! Projects and repositories over REST: what is listed to whom, and every way to make, change and delete one.

use serde_json::{Value, json};

use crate::harness::{Git, Rest, Server, Setup, Token};

/// A server, an administrator of it and a token of theirs that may do everything.
fn with_administrator(setup: &Setup) -> (Server, Token) {
    let server = setup.start();
    server.cli().administrator("root");
    let token = server.cli().token("root", "app_token");
    (server, token)
}

fn repositories(server: &Server, paths: &[&str]) {
    for path in paths {
        server.cli().ok(&["repo", "create", path]);
    }
}

#[test]
fn repositories_are_listed_by_collection_and_project_with_every_field() {
    let (server, token) = with_administrator(&Setup::plain());
    let git = Git::new();
    repositories(
        &server,
        &[
            "Acme/Web/Shop",
            "Acme/Web/Web",
            "Acme/Tools/Shop",
            "DefaultCollection/Web/Other",
        ],
    );
    let source = server.work().join("source");
    git.init(&source);
    git.commit(&source, "file", "text\n");
    git.ok(
        &source,
        &[
            "push",
            "--quiet",
            &format!(
                "http://x:{}@{}/Acme/Web/_git/Shop",
                token.text,
                server.authority()
            ),
            "HEAD:refs/heads/main",
        ],
    );
    let rest = Rest::new(&server, &token);

    let all = rest.get("/Acme/_apis/git/repositories");
    assert_eq!(all.is(200).each("name"), ["Shop", "Shop", "Web"]);
    let web = rest.get("/acme/WEB/_apis/git/repositories?includeLinks=true&includeAllUrls=true");
    assert_eq!(web.is(200).each("name"), ["Shop", "Web"]);
    let (shop, own) = (&web.list()[0], &web.list()[1]);
    let base = server.base();
    assert_eq!(shop["remoteUrl"], format!("{base}/Acme/Web/_git/Shop"));
    assert_eq!(
        own["remoteUrl"],
        format!("{base}/Acme/_git/Web"),
        "project and repository have one name"
    );
    assert_eq!(own["validRemoteUrls"][1], format!("{base}/Acme/Web/_git/Web"));
    assert_eq!(
        (&shop["defaultBranch"], &own["defaultBranch"]),
        (&json!("refs/heads/main"), &Value::Null)
    );
    assert!(shop["size"].as_u64().unwrap() > 100 && own["size"] == 0, "{shop}");
    assert_eq!(
        (&shop["isDisabled"], &shop["project"]["name"]),
        (&json!(false), &json!("Web"))
    );
    assert_eq!(shop["project"]["visibility"], "private");
    let url = shop["url"].as_str().unwrap().strip_prefix(base).unwrap();
    assert_eq!(rest.get(url).is(200).json["id"], shop["id"]);
    assert_eq!(shop["_links"]["refs"]["href"], format!("{base}{url}/refs"));
    assert_eq!(all.list()[1]["_links"], Value::Null);

    // Without a collection the default one is meant; a name alone can be a project of it.
    assert_eq!(rest.get("/_apis/git/repositories").each("name"), ["Other"]);
    assert_eq!(rest.get("/Web/_apis/git/repositories").each("name"), ["Other"]);
    assert_eq!(
        rest.get("/tfs/Acme/Tools/_apis/git/repositories").each("name"),
        ["Shop"]
    );
    let project = shop["project"]["id"].as_str().unwrap();
    assert_eq!(
        rest.get(&format!("/Acme/{project}/_apis/git/repositories"))
            .each("name"),
        ["Shop", "Web"]
    );
    assert!(
        rest.get("/Nobody/_apis/git/repositories")
            .is(200)
            .list()
            .is_empty()
    );
    rest.get("/Acme/Nothing/_apis/git/repositories")
        .is_error(404, "ProjectDoesNotExistWithNameException");
}

#[test]
fn a_repository_is_found_by_name_and_by_an_id_that_outlives_its_name() {
    let (server, token) = with_administrator(&Setup::plain());
    repositories(
        &server,
        &[
            "Acme/Web/Shop",
            "Acme/Tools/Shop",
            "Acme/Web/Web",
            "Acme/Tools/Only",
        ],
    );
    let rest = Rest::new(&server, &token);
    let id = |path: &str| rest.get(path).is(200).json["id"].as_str().unwrap().to_owned();
    let shop = id("/Acme/Web/_apis/git/repositories/shop");
    for path in [
        "/Acme/_apis/git/repositories/",
        "/_apis/git/repositories/",
        "/Acme/Web/_apis/git/repositories/",
    ] {
        assert_eq!(id(&format!("{path}{}", shop.to_uppercase())), shop, "{path}");
    }
    rest.get(&format!("/Acme/Tools/_apis/git/repositories/{shop}"))
        .is(404);
    rest.get(&format!("/Other/_apis/git/repositories/{shop}")).is(404);
    assert_eq!(
        id("/Acme/_apis/git/repositories/Web"),
        id("/Acme/Web/_apis/git/repositories/Web")
    );
    assert_eq!(
        id("/Acme/_apis/git/repositories/only"),
        id("/Acme/Tools/_apis/git/repositories/Only")
    );
    rest.get("/Acme/_apis/git/repositories/Shop")
        .says(400, &["Several projects", "'Shop'"]);

    server
        .cli()
        .ok(&["repo", "rename", "Acme/Web/Shop", "Acme/Tools/Store"]);
    assert_eq!(id("/Acme/Tools/_apis/git/repositories/Store"), shop);
    assert_eq!(
        rest.get(&format!("/Acme/_apis/git/repositories/{shop}")).json["name"],
        "Store"
    );
    server.cli().ok(&["repo", "delete", "Acme/Tools/Store", "--yes"]);
    rest.get(&format!("/Acme/_apis/git/repositories/{shop}"))
        .is_error(404, "GitRepositoryNotFoundException");
    repositories(&server, &["Acme/Tools/Store"]);
    assert_ne!(
        id("/Acme/Tools/_apis/git/repositories/Store"),
        shop,
        "a new repository is another one"
    );
}

#[test]
fn what_one_may_not_know_of_is_answered_as_what_is_not_there() {
    let (server, admin) = with_administrator(&Setup::plain());
    repositories(
        &server,
        &[
            "Acme/Web/Shop",
            "Acme/Web/Secret",
            "Acme/Hidden/Secret",
            "Acme/Open/Open",
        ],
    );
    let cli = server.cli();
    cli.user("anna");
    cli.ok(&["access", "grant", "anna", "reader", "Acme/Web/Shop"]);
    cli.ok(&["access", "grant", "everyone", "reader", "Acme/Open"]);
    let all = Rest::new(&server, &admin);
    let secret = all.get("/Acme/Hidden/_apis/git/repositories/Secret").json["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let rest = all.with_token(&cli.token("anna", "vso.code_full"));

    assert_eq!(
        rest.get("/Acme/_apis/git/repositories").each("name"),
        ["Open", "Shop"]
    );
    assert_eq!(rest.get("/Acme/_apis/projects").each("name"), ["Open", "Web"]);
    let open = rest.get("/Acme/_apis/projects/Open").json;
    assert_eq!(open["visibility"], "public");
    for (hidden, absent) in [
        (
            "/Acme/Web/_apis/git/repositories/Secret",
            "/Acme/Web/_apis/git/repositories/Absent",
        ),
        (
            "/Acme/Hidden/_apis/git/repositories",
            "/Acme/Absent/_apis/git/repositories",
        ),
        (
            "/Acme/Hidden/_apis/git/repositories/Secret",
            "/Acme/Absent/_apis/git/repositories/Absent",
        ),
        ("/Acme/_apis/projects/Hidden", "/Acme/_apis/projects/Absent"),
        (
            "/Acme/Web/_apis/git/repositories/Secret/refs",
            "/Acme/Web/_apis/git/repositories/Absent/refs",
        ),
        (
            "/Acme/Web/_git/Secret/vsts/info",
            "/Acme/Web/_git/Absent/vsts/info",
        ),
    ] {
        let bodies = [hidden, absent].map(|path| {
            let text = rest.get(path).is(404).reply.text();
            ["Secret", "Hidden", "Absent"]
                .iter()
                .fold(text, |text, name| text.replace(name, "X"))
        });
        assert_eq!(bodies[0], bodies[1], "{hidden}");
    }
    let (hidden, absent) = (
        rest.get(&format!("/Acme/_apis/git/repositories/{secret}")),
        rest.get("/Acme/_apis/git/repositories/00000000-0000-4000-8000-000000000000"),
    );
    hidden
        .is_error(404, "GitRepositoryNotFoundException")
        .says(404, &["TF401019"]);
    absent.is_error(404, "GitRepositoryNotFoundException");
    for (method, path) in [
        ("DELETE", "/Acme/Web/_apis/git/repositories/Secret"),
        ("PATCH", "/Acme/Web/_apis/git/repositories/Secret"),
        ("POST", "/Acme/Web/_apis/git/repositories/Secret/refs"),
    ] {
        let body: &[u8] = if method == "POST" {
            b"[]"
        } else {
            b"{\"name\":\"x\"}"
        };
        rest.send(method, path, Some(body))
            .is_error(404, "GitRepositoryNotFoundException");
    }
    // What one may see and not manage is another matter.
    rest.delete("/Acme/Web/_apis/git/repositories/Shop")
        .is_error(403, "GitNeedsPermissionException")
        .says(403, &["reader", "administrator"]);
    rest.patch(
        "/Acme/Web/_apis/git/repositories/Shop",
        &json!({ "name": "Mine" }),
    )
    .is(403);
}

#[test]
fn a_token_that_is_limited_to_paths_sees_and_does_nothing_outside() {
    let (server, admin) = with_administrator(&Setup::plain());
    repositories(&server, &["Acme/Web/Shop", "Acme/Tools/Tool", "Other/Web/Shop"]);
    let all = Rest::new(&server, &admin);
    let tool = all.get("/Acme/Tools/_apis/git/repositories/Tool").json["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let limited = server.cli().token("root", "app_token");
    server.cli().limit(
        &limited,
        &json!({ "paths": ["Acme/Web"], "refs": [], "networks": [] }),
    );
    let rest = all.with_token(&limited);
    assert_eq!(rest.get("/Acme/_apis/git/repositories").each("name"), ["Shop"]);
    assert_eq!(rest.get("/Acme/_apis/projects").each("name"), ["Web"]);
    rest.get("/Acme/Tools/_apis/git/repositories/Tool")
        .says(403, &["limited to", "Acme/Web"]);
    rest.get("/Acme/Tools/_apis/git/repositories/Absent")
        .says(403, &["limited to"]);
    rest.get(&format!("/_apis/git/repositories/{tool}")).is(404);
    rest.post("/Acme/Tools/_apis/git/repositories", &json!({ "name": "New" }))
        .is(403);
    rest.post(
        "/Acme/_apis/git/repositories",
        &json!({ "name": "New", "project": { "name": "Tools" } }),
    )
    .is(403);
    rest.post("/Acme/Web/_apis/git/repositories", &json!({ "name": "New" }))
        .is(201);
    rest.patch(
        "/Acme/Web/_apis/git/repositories/New",
        &json!({ "name": "Newer" }),
    )
    .is(200);
    rest.delete("/Acme/Web/_apis/git/repositories/Newer").is(204);
    let networks = server.cli().token("root", "app_token");
    server.cli().limit(
        &networks,
        &json!({ "paths": [], "refs": [], "networks": ["192.0.2.0/24"] }),
    );
    all.with_token(&networks).get("/_apis/connectionData").is(403);
}

#[test]
fn a_repository_is_made_in_a_project_that_may_be_new() {
    let (server, token) = with_administrator(&Setup::tls());
    let rest = Rest::new(&server, &token);
    let made = rest.post(
        "/Acme/_apis/git/repositories",
        &json!({ "name": "Shop", "project": { "name": "Web" } }),
    );
    made.is(201);
    assert_eq!(
        (&made.json["name"], &made.json["project"]["name"]),
        (&json!("Shop"), &json!("Web"))
    );
    assert_eq!(made.json["defaultBranch"], Value::Null);
    let dir = server.setup().repos().join("Acme/Web/Shop.git");
    assert_eq!(
        Git::new().ok(&dir, &["rev-parse", "--is-bare-repository"]),
        "true"
    );

    let project = made.json["project"]["id"].as_str().unwrap();
    let by_id =
        json!({ "name": "Second", "project": { "id": project, "state": "wellFormed", "revision": 7 } });
    rest.post("/Acme/_apis/git/repositories", &by_id).is(201);
    rest.post(
        "/acme/web/_apis/git/repositories",
        &json!({ "name": "Third", "parentRepository": null }),
    )
    .is(201);
    rest.post(
        &format!("/Acme/{project}/_apis/git/repositories"),
        &json!({ "name": "Fourth", "project": { "name": "web" } }),
    )
    .is(201);
    rest.post("/Acme/Fresh/_apis/git/repositories", &json!({ "name": "Fifth" }))
        .is(201);
    assert_eq!(
        rest.get("/Acme/Web/_apis/git/repositories").each("name"),
        ["Fourth", "Second", "Shop", "Third"]
    );
    rest.post("/Web/_apis/git/repositories", &json!({ "name": "Sixth" }))
        .is(201);
    assert_eq!(
        rest.get("/DefaultCollection/Web/_apis/git/repositories")
            .each("name"),
        ["Sixth"]
    );
    rest.post(
        "/_apis/git/repositories",
        &json!({ "name": "Seventh", "project": { "name": "Root" } }),
    )
    .is(201);
    assert_eq!(rest.get("/_apis/projects").each("name"), ["Root", "Web"]);

    let taken = json!({ "name": "SHOP", "project": { "name": "web" } });
    rest.post("/acme/_apis/git/repositories", &taken)
        .is_error(409, "GitRepositoryNameAlreadyExistsException")
        .says(409, &["TF400948"]);
    let events = server.cli().json(&["audit", "list"]);
    let created = events
        .as_array()
        .unwrap()
        .iter()
        .find(|event| event["subject"] == "Acme/Web/Shop")
        .unwrap();
    assert_eq!(
        (&created["action"], &created["account"]),
        (&json!("repository.create"), &json!("root"))
    );
}

#[test]
fn what_makes_no_sense_in_a_new_repository_is_refused_by_its_name() {
    let (server, token) = with_administrator(&Setup::plain());
    repositories(&server, &["Acme/Web/Shop"]);
    let rest = Rest::new(&server, &token);
    let other = "00000000-0000-4000-8000-000000000000";
    for (path, body, words) in [
        ("/Acme/_apis/git/repositories", json!({}), &["name"][..]),
        (
            "/Acme/_apis/git/repositories",
            json!({ "name": "x" }),
            &["project"],
        ),
        (
            "/Acme/_apis/git/repositories",
            json!({ "name": 5, "project": { "name": "P" } }),
            &["'name'"],
        ),
        (
            "/Acme/Web/_apis/git/repositories",
            json!({ "name": "" }),
            &["'name'", "empty"],
        ),
        (
            "/Acme/Web/_apis/git/repositories",
            json!({ "name": "a/b" }),
            &["'name'"],
        ),
        (
            "/Acme/Web/_apis/git/repositories",
            json!({ "name": ".." }),
            &["'name'"],
        ),
        (
            "/Acme/Web/_apis/git/repositories",
            json!({ "name": "a\u{1b}[2J\n" }),
            &["'name'", "\\u{1b}"],
        ),
        (
            "/Acme/Web/_apis/git/repositories",
            json!({ "name": "x".repeat(10_000) }),
            &["'name'", "128"],
        ),
        (
            "/Acme/Web/_apis/git/repositories",
            json!({ "name": "x", "colour": "red" }),
            &["colour"],
        ),
        (
            "/Acme/Web/_apis/git/repositories",
            json!({ "name": "x", "isDisabled": true }),
            &["isDisabled"],
        ),
        (
            "/Acme/Web/_apis/git/repositories",
            json!({ "name": "x", "parentRepository": { "id": other } }),
            &["'parentRepository'"],
        ),
        (
            "/Acme/Web/_apis/git/repositories?sourceRef=main",
            json!({ "name": "x" }),
            &["'sourceRef'"],
        ),
        (
            "/Acme/Web/_apis/git/repositories",
            json!({ "name": "x", "project": { "name": "Tools" } }),
            &["'project'"],
        ),
        (
            "/Acme/_apis/git/repositories",
            json!({ "name": "x", "project": { "name": "_x" } }),
            &["'project.name'"],
        ),
        (
            "/Acme/_apis/git/repositories",
            json!({ "name": "x", "project": { "id": "7" } }),
            &["'project.id'"],
        ),
        (
            "/Acme/_apis/git/repositories",
            json!({ "name": "x", "project": { "size": 7 } }),
            &["project", "size"],
        ),
        (
            "/Acme/_apis/git/repositories",
            json!({ "name": "x", "project": "Web" }),
            &["'project'"],
        ),
    ] {
        rest.post(path, &body).says(400, words);
    }
    let unknown = json!({ "name": "x", "project": { "id": other } });
    rest.post("/Acme/_apis/git/repositories", &unknown)
        .is_error(404, "ProjectDoesNotExistWithNameException");
    assert_eq!(rest.get("/Acme/_apis/git/repositories").each("name"), ["Shop"]);
}

#[test]
fn to_manage_takes_the_scope_and_the_role() {
    let (server, admin) = with_administrator(&Setup::plain());
    repositories(&server, &["Acme/Web/Shop"]);
    let cli = server.cli();
    cli.user("anna");
    cli.ok(&["access", "grant", "anna", "administrator", "Acme/Web"]);
    let rest = Rest::new(&server, &admin);
    let shop = "/Acme/Web/_apis/git/repositories/Shop";
    for scope in ["vso.code", "vso.code_write", "vso.project_manage"] {
        let rest = rest.with_token(&cli.token("anna", scope));
        rest.delete(shop).says(403, &["vso.code_manage"]);
        rest.patch(shop, &json!({ "name": "x" }))
            .says(403, &["vso.code_manage"]);
        rest.post("/Acme/Web/_apis/git/repositories", &json!({ "name": "x" }))
            .says(403, &["vso.code_manage"]);
        let status = if scope == "vso.project_manage" { 403 } else { 200 };
        rest.get(shop).is(status);
        rest.get("/Acme/_apis/projects").is(200);
    }
    let manager = rest.with_token(&cli.token("anna", "vso.code_manage"));
    manager
        .post("/Acme/Web/_apis/git/repositories", &json!({ "name": "New" }))
        .is(201);
    // A right on one project is none on another, whether it is there or not.
    for project in ["Tools", "Absent"] {
        let body = json!({ "name": "New", "project": { "name": project } });
        manager.post("/Acme/_apis/git/repositories", &body).is(404);
    }
    manager.delete("/Acme/Web/_apis/git/repositories/New").is(204);
    rest.with_token(&cli.token("anna", "user_impersonation"))
        .delete(shop)
        .is(204);
}

#[test]
fn a_repository_is_renamed_with_its_rights_and_its_id_and_only_to_a_name_that_is_free() {
    let (server, token) = with_administrator(&Setup::plain());
    repositories(&server, &["Acme/Web/Shop", "Acme/Web/Other"]);
    let cli = server.cli();
    cli.user("anna");
    cli.ok(&["access", "grant", "anna", "reader", "Acme/Web/Shop"]);
    let rest = Rest::new(&server, &token);
    let before = rest.get("/Acme/Web/_apis/git/repositories/Shop").json;
    let by_id = format!("/Acme/_apis/git/repositories/{}", before["id"].as_str().unwrap());
    let after = rest.patch(&by_id, &json!({ "name": "Store" }));
    after.is(200);
    assert_eq!(
        (&after.json["id"], &after.json["name"]),
        (&before["id"], &json!("Store"))
    );
    assert!(server.setup().repos().join("Acme/Web/Store.git/HEAD").exists());
    rest.get("/Acme/Web/_apis/git/repositories/Shop").is(404);
    let anna = rest.with_token(&cli.token("anna", "vso.code"));
    assert_eq!(anna.get("/Acme/_apis/git/repositories").each("name"), ["Store"]);

    rest.patch(&by_id, &json!({ "name": "OTHER" }))
        .is_error(409, "GitRepositoryNameAlreadyExistsException");
    rest.patch(&by_id, &json!({ "name": "STORE" })).is(200);
    // A client may send back whole what it read.
    let mut whole = rest.get(&by_id).json;
    whole["name"] = json!("Shop");
    assert_eq!(rest.patch(&by_id, &whole).is(200).json["name"], "Shop");
    for (body, words) in [
        (json!({ "isDisabled": true }), &["'isDisabled'"][..]),
        (json!({ "name": "a/b" }), &["'name'"]),
        (json!({ "name": "x.git" }), &["'name'"]),
        (json!({ "project": { "name": "Tools" } }), &["'project'"]),
        (json!({ "colour": 1 }), &["'colour'"]),
        (json!([]), &["body"]),
        (json!({}), &["'name'"]),
    ] {
        rest.patch(&by_id, &body).says(400, words);
    }
    let actions: Vec<Value> = cli.json(&["audit", "list"]).as_array().unwrap().clone();
    assert!(
        actions
            .iter()
            .any(|event| event["action"] == "repository.rename" && event["account"] == "root")
    );
}

#[test]
fn the_default_branch_is_one_that_there_is() {
    let (server, token) = with_administrator(&Setup::plain());
    let git = Git::new();
    repositories(&server, &["DefaultCollection/P/repo"]);
    let rest = Rest::new(&server, &token);
    let path = "/P/_apis/git/repositories/repo";
    rest.patch(path, &json!({ "defaultBranch": "refs/heads/trunk" }))
        .is(200);
    let source = server.work().join("source");
    git.init(&source);
    git.commit(&source, "file", "text\n");
    let url = server.remote(&token).url("repo");
    git.ok(
        &source,
        &[
            "push",
            "--quiet",
            &url,
            "HEAD:refs/heads/trunk",
            "HEAD:refs/heads/live",
            "HEAD:refs/tags/v1",
        ],
    );
    assert_eq!(rest.get(path).json["defaultBranch"], "refs/heads/trunk");
    let changed = rest.patch(
        path,
        &json!({ "name": "renamed", "defaultBranch": "refs/heads/live" }),
    );
    assert_eq!(changed.is(200).json["defaultBranch"], "refs/heads/live");
    assert_eq!(
        git.ok(&server.remote(&token).disk("renamed"), &["symbolic-ref", "HEAD"]),
        "refs/heads/live"
    );
    for branch in [
        "live",
        "refs/tags/v1",
        "refs/heads/absent",
        "refs/heads/",
        "refs/heads/a..b",
        "",
        "HEAD",
    ] {
        rest.patch(
            "/P/_apis/git/repositories/renamed",
            &json!({ "defaultBranch": branch }),
        )
        .says(400, &["'defaultBranch'"]);
    }
    // Nothing is half done: a branch that is refused keeps the name, too.
    rest.patch(
        "/P/_apis/git/repositories/renamed",
        &json!({ "name": "again", "defaultBranch": "refs/heads/absent" }),
    )
    .is(400);
    rest.get("/P/_apis/git/repositories/renamed").is(200);
    let events = server.cli().json(&["audit", "list"]);
    let event = events
        .as_array()
        .unwrap()
        .iter()
        .find(|event| event["action"] == "repository.update")
        .unwrap();
    assert_eq!(
        event["details"],
        json!({ "default_branch": "refs/heads/live", "before": "refs/heads/trunk" })
    );
}

#[test]
fn a_deleted_repository_is_gone_with_its_rights() {
    let (server, token) = with_administrator(&Setup::plain());
    repositories(&server, &["Acme/Web/Shop"]);
    server.cli().user("anna");
    server
        .cli()
        .ok(&["access", "grant", "anna", "reader", "Acme/Web/Shop"]);
    let rest = Rest::new(&server, &token);
    let id = rest.get("/Acme/Web/_apis/git/repositories/Shop").json["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let gone = rest.delete(&format!("/Acme/Web/_apis/git/repositories/{id}"));
    assert!(gone.is(204).reply.body.is_empty());
    assert!(
        !server.setup().repos().join("Acme").exists(),
        "an empty project goes, too"
    );
    rest.delete(&format!("/Acme/Web/_apis/git/repositories/{id}"))
        .is(404);
    assert!(
        server
            .cli()
            .json(&["access", "list"])
            .as_array()
            .unwrap()
            .is_empty()
    );
    let events = server.cli().json(&["audit", "list"]);
    assert!(
        events
            .as_array()
            .unwrap()
            .iter()
            .any(|event| event["action"] == "repository.delete")
    );
}

#[test]
fn what_is_put_in_the_folder_is_listed_and_what_cannot_be_served_says_so() {
    let (server, token) = with_administrator(&Setup::plain());
    let git = Git::new();
    git.init_bare(&server.setup().repos().join("Acme/Web/Plain.git"));
    let odd = server.setup().repos().join("Acme/Web/Odd.git");
    git.init_bare(&odd);
    git.ok(&odd, &["config", "core.repositoryFormatVersion", "7"]);
    let rest = Rest::new(&server, &token);
    let all = rest.get("/Acme/_apis/git/repositories");
    assert_eq!(all.is(200).each("name"), ["Odd", "Plain"]);
    assert_eq!(
        (&all.list()[0]["isDisabled"], &all.list()[1]["isDisabled"]),
        (&json!(true), &json!(false))
    );
    let ids = all.each("id");
    assert_eq!(
        rest.get("/Acme/_apis/git/repositories").each("id"),
        ids,
        "ids stay"
    );
    rest.get("/Acme/Web/_apis/git/repositories/Odd/refs").is(501);
}

#[test]
fn projects_are_listed_by_pages_and_read_by_name_or_id() {
    let (server, token) = with_administrator(&Setup::plain());
    let names: Vec<String> = (0..5).map(|number| format!("P{number}")).collect();
    for name in &names {
        repositories(&server, &[&format!("Acme/{name}/R")]);
    }
    let rest = Rest::new(&server, &token);
    assert_eq!(
        rest.get("/Acme/_apis/projects?stateFilter=All").each("name"),
        names
    );
    assert!(
        rest.get("/Acme/_apis/projects?stateFilter=deleted")
            .list()
            .is_empty()
    );
    let first = rest.get("/Acme/_apis/projects?$top=2&$skip=1");
    assert_eq!(first.each("name"), ["P1", "P2"]);
    let next = first.reply.header("x-ms-continuationtoken").unwrap();
    let second = rest.get(&format!("/Acme/_apis/projects?$top=2&continuationToken={next}"));
    assert_eq!(second.each("name"), ["P3", "P4"]);
    assert_eq!(second.reply.header("x-ms-continuationtoken"), None);
    let one = rest
        .get("/Acme/_apis/projects/p3?includeCapabilities=true")
        .is(200)
        .json
        .clone();
    assert_eq!(one["capabilities"]["versioncontrol"]["sourceControlType"], "Git");
    assert_eq!(
        (&one["name"], &one["state"]),
        (&json!("P3"), &json!("wellFormed"))
    );
    let id = one["id"].as_str().unwrap();
    assert_eq!(rest.get(&format!("/Acme/_apis/projects/{id}")).json["name"], "P3");
    rest.get(&format!("/Other/_apis/projects/{id}")).is(404);
    for query in [
        "$top=0",
        "$top=x",
        "$skip=-1",
        "stateFilter=mine",
        "continuationToken=abc",
        "$top=1&$top=2",
    ] {
        let name = query.split('=').next().unwrap();
        rest.get(&format!("/Acme/_apis/projects?{query}"))
            .says(400, &[&format!("'{name}'")]);
    }
    rest.with_token(&server.cli().token("root", "vso.work"))
        .get("/Acme/_apis/projects")
        .says(403, &["vso.project"]);
}

#[test]
fn a_git_url_tells_its_collection_and_project() {
    let (server, token) = with_administrator(&Setup::plain());
    repositories(&server, &["Acme/Web/Shop"]);
    let rest = Rest::new(&server, &token);
    let info = rest.get("/acme/web/_git/shop/vsts/info").is(200).json.clone();
    assert_eq!(info["serverUrl"], format!("{}/Acme", server.base()));
    assert_eq!(
        (&info["collection"]["name"], &info["repository"]["name"]),
        (&json!("Acme"), &json!("Shop"))
    );
    assert_eq!(
        info["repository"]["id"],
        rest.get("/Acme/Web/_apis/git/repositories/Shop").json["id"]
    );
    rest.with_token(&server.cli().token("root", "vso.work"))
        .get("/acme/web/_git/shop/vsts/info")
        .says(403, &["vso.code"]);
}

#[test]
fn a_rename_that_is_refused_leaves_limits_rights_and_the_trail_as_they_were() {
    let (server, admin) = with_administrator(&Setup::plain());
    repositories(&server, &["Acme/Web/Hidden"]);
    let cli = server.cli();
    cli.user("carol");
    cli.ok(&["access", "grant", "carol", "contributor", "Acme/Web/Tgt"]);
    let limited = cli.token("root", "app_token");
    cli.limit(
        &limited,
        &json!({ "paths": ["Acme/Web/Tgt"], "refs": [], "networks": [] }),
    );
    // Something that is no repository has the name.
    std::fs::create_dir(server.setup().repos().join("Acme/Web/Tgt.git")).unwrap();
    let rest = Rest::new(&server, &admin);
    let hidden = "/Acme/Web/_apis/git/repositories/Hidden";
    rest.patch(hidden, &json!({ "name": "Tgt" }))
        .is_error(409, "GitRepositoryNameAlreadyExistsException");
    rest.with_token(&limited).get(hidden).is(403);
    let again = cli.run(&["repo", "rename", "Acme/Web/Hidden", "Acme/Web/Tgt"]);
    again.failed();
    rest.with_token(&limited).get(hidden).is(403);
    let access = cli.json(&["access", "list"]);
    assert_eq!(access[0]["path"], "Acme/Web/Tgt");
    let events = cli.json(&["audit", "list"]);
    assert!(
        events
            .as_array()
            .unwrap()
            .iter()
            .all(|event| event["action"] != "repository.rename")
    );
}

#[test]
fn the_time_of_a_project_tells_nothing_of_hidden_repositories() {
    let (server, _admin) = with_administrator(&Setup::plain());
    repositories(&server, &["Acme/Web/Shop", "Acme/Web/Hidden"]);
    let cli = server.cli();
    cli.user("anna");
    cli.ok(&["access", "grant", "anna", "reader", "Acme/Web/Shop"]);
    let set = |name: &str, seconds: u64| {
        let dir = std::fs::File::open(server.setup().repos().join("Acme/Web").join(name)).unwrap();
        dir.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
            .unwrap();
    };
    set("Shop.git", 1_000_000_000);
    set("Hidden.git", 1_200_000_000);
    let rest = Rest::new(&server, &cli.token("anna", "vso.code"));
    let project = || rest.get("/Acme/_apis/projects/Web").is(200).json.clone();
    assert_eq!(
        (&project()["lastUpdateTime"], &project()["revision"]),
        (&json!("2001-09-09T01:46:40Z"), &json!(1_000_000_000))
    );
    cli.ok(&["access", "grant", "anna", "reader", "Acme/Web/Hidden"]);
    assert_eq!(project()["revision"], 1_200_000_000);
}

#[test]
fn repositories_are_listed_by_pages() {
    let (server, admin) = with_administrator(&Setup::plain());
    repositories(
        &server,
        &["Acme/A/One", "Acme/A/Two", "Acme/B/Three", "Acme/B/Two"],
    );
    server.cli().user("anna");
    server.cli().ok(&["access", "grant", "anna", "reader", "Acme/B"]);
    server
        .cli()
        .ok(&["access", "grant", "anna", "reader", "Acme/A/Two"]);
    let all = Rest::new(&server, &admin);
    let list = "/Acme/_apis/git/repositories";
    let first = all.get(&format!("{list}?$top=3"));
    assert_eq!(first.is(200).each("name"), ["One", "Two", "Three"]);
    let next = first.reply.header("x-ms-continuationtoken").unwrap();
    let second = all.get(&format!("{list}?$top=3&continuationToken={next}"));
    assert_eq!(second.each("name"), ["Two"]);
    assert_eq!(second.list()[0]["project"]["name"], "B");
    assert_eq!(second.reply.header("x-ms-continuationtoken"), None);
    let whole = all.get(list);
    assert_eq!(whole.list().len(), 4);
    assert_eq!(whole.reply.header("x-ms-continuationtoken"), None);
    assert_eq!(whole.list()[3]["id"], second.list()[0]["id"]);

    let rest = all.with_token(&server.cli().token("anna", "vso.code"));
    let page = rest.get(&format!("{list}?$top=2&$skip=1"));
    assert_eq!(
        page.each("name"),
        ["Three", "Two"],
        "only what one sees is counted"
    );
    assert_eq!(page.reply.header("x-ms-continuationtoken"), None);
    for query in ["$top=0", "$top=10001", "$skip=-1", "continuationToken=x"] {
        let name = query.split('=').next().unwrap();
        all.get(&format!("{list}?{query}"))
            .says(400, &[&format!("'{name}'")]);
    }
}
