//! The REST interface before it is about anything: who may ask, versions, where resources are, who one is, the document.

use serde_json::{Value, json};

use crate::harness::cli::{PASSWORD, basic};
use crate::harness::{Curl, Rest, Server, Setup};

/// Resources as Azure DevOps's clients have them compiled in.
const CONNECTION_DATA: &str = "00d9565f-ed9c-4a06-9a50-00e7896ccab4";

fn with_token(setup: &Setup, scope: &str) -> (Server, crate::harness::Token) {
    let server = setup.start();
    let (_, token) = server.contributor(scope);
    (server, token)
}

#[test]
fn without_a_live_token_every_url_is_challenged_in_json() {
    let (server, token) = with_token(&Setup::plain(), "vso.code");
    let rest = Rest::new(&server, &token);
    let wrong = format!("pgt_{}", "0".repeat(52));
    for authorization in [None, Some(basic("anna", PASSWORD)), Some(basic("", &wrong))] {
        let rest = rest.with(authorization.as_deref());
        for (method, path) in [
            ("GET", "/_apis/connectionData"),
            ("OPTIONS", "/acme/_apis"),
            ("GET", "/acme/proj/_apis/git/repositories"),
            ("POST", "/_apis/git/repositories"),
            ("GET", "/_apis/openapi.json"),
            ("GET", "/_apis/there/is/no/such/thing"),
            ("PUT", "/_apis/connectionData"),
            ("GET", "/acme/_git/x/vsts/info"),
        ] {
            let answer = rest.send_with(method, path, None, &["Accept: text/html"]);
            answer.is_error(401, "UnauthorizedRequestException");
            let challenges = answer.reply.all("www-authenticate");
            // JGit 4.11 keeps the last alone.
            assert_eq!(
                challenges.last(),
                Some(&"Basic realm=\"patgate\", charset=\"UTF-8\"")
            );
            assert!(
                challenges.len() == 2 && challenges[0].starts_with("Bearer "),
                "{challenges:?}"
            );
            assert_eq!(answer.reply.header("location"), None);
        }
    }
}

#[test]
fn a_token_that_is_over_is_told_so_by_the_name_that_clients_know() {
    let (server, token) = with_token(&Setup::plain(), "vso.code");
    let rest = Rest::new(&server, &token);
    rest.get("/_apis/connectionData").is(200);
    let expired = server.cli().token("anna", "vso.code");
    server.cli().expire(&expired);
    let answer = rest.with_token(&expired).get("/_apis/connectionData");
    answer
        .is_error(401, "AccessCheckException")
        .says(401, &["expired", "2001-09-09"]);
    server.cli().ok(&["token", "revoke", &token.id]);
    rest.get("/_apis/connectionData")
        .is_error(401, "AccessCheckException")
        .says(401, &["revoked"]);
}

#[test]
fn urls_mind_neither_case_nor_prefix_and_what_is_not_there_is_said_in_json() {
    let (server, token) = with_token(&Setup::tls(), "vso.code");
    let rest = Rest::new(&server, &token);
    for path in [
        "/_apis/connectionData",
        "/_apis/ConnectionData/",
        "/_APIS/CONNECTIONDATA",
        "/acme/_apis/connectionData",
        "/DefaultCollection/_apis/connection%44ata",
        "/tfs/acme/_apis/connectionData",
        "/tfs/_apis/connectionData",
    ] {
        rest.get(path).is(200);
    }
    for path in [
        "/_apis/nothing",
        "/_apis",
        "/_apis/",
        "/_apis//connectionData",
        "/_apis/connectionData/x",
        "/a/b/c/_apis/connectionData",
        "/acme/proj/_apis/connectionData",
        "/_apis/..%2fconnectionData",
        "/acme/_git/x/vsts/info/x/_apis",
    ] {
        let answer = rest.get(path);
        assert!(
            [404, 405].contains(&answer.reply.status),
            "{path}: {:?}",
            answer.reply
        );
    }
    rest.get("/_apis/%ff").says(400, &["percent-encoded"]);
    rest.get("/_apis/connectionData?x=%ff").says(400, &["query"]);
    // git's own URLs go on speaking plain text.
    let reply = Curl::get(&server, "/acme/_git/x/info/refs?service=git-upload-pack")
        .token(&token)
        .send();
    reply.is_refusal(404);
}

#[test]
fn a_method_that_a_url_does_not_take_is_answered_with_those_that_it_does() {
    let (server, token) = with_token(&Setup::plain(), "app_token");
    let rest = Rest::new(&server, &token);
    for (method, path, allow) in [
        ("POST", "/_apis/connectionData", "GET,HEAD"),
        ("GET", "/_apis", "OPTIONS"),
        ("PUT", "/_apis/git/repositories", "GET,HEAD,POST"),
        ("POST", "/_apis/git/repositories/x", "GET,HEAD,PATCH,DELETE"),
        ("BREW", "/_apis/connectionData", "GET,HEAD"),
    ] {
        let answer = rest.send(method, path, None);
        answer.is(405);
        let mut found: Vec<&str> = answer.reply.header("allow").unwrap().split(',').collect();
        let mut expected: Vec<&str> = allow.split(',').collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{method} {path}");
    }
    let head = Curl::get(&server, "/_apis/connectionData")
        .token(&token)
        .args(&["--head"])
        .send();
    head.is(200);
    assert!(head.header("content-length").unwrap().parse::<u64>().unwrap() > 100);
}

#[test]
fn versions_are_asked_for_as_clients_do_and_the_answer_says_which_it_is() {
    let (server, token) = with_token(&Setup::plain(), "vso.code");
    let rest = Rest::new(&server, &token);
    let version = |path: &str, accept: &str| {
        let answer = rest.send_with("GET", path, None, &[accept]);
        answer.is(200);
        let kind = answer.reply.header("content-type").unwrap().to_owned();
        kind.split_once("api-version=").unwrap().1.to_owned()
    };
    let none = "Accept: */*";
    assert_eq!(version("/_apis/projects", none), "7.1");
    assert_eq!(version("/_apis/projects?api-version=5.0", none), "5.0");
    assert_eq!(
        version("/_apis/projects?API-Version=7.2-preview", none),
        "7.2-preview.4"
    );
    let accept = "Accept: application/json;api-version=7.1-preview.4";
    assert_eq!(version("/_apis/projects", accept), "7.1-preview.4");
    assert_eq!(version("/_apis/connectionData", none), "7.2-preview.1");
    for (path, key) in [
        (
            "/_apis/projects?api-version=99.0",
            "VssVersionOutOfRangeException",
        ),
        (
            "/_apis/projects?api-version=7.2",
            "VssInvalidPreviewVersionException",
        ),
        (
            "/_apis/connectionData?api-version=7.1",
            "VssInvalidPreviewVersionException",
        ),
        (
            "/_apis/projects?api-version=x",
            "VssInvalidApiResourceVersionException",
        ),
        (
            "/_apis/projects?api-version=",
            "VssInvalidApiResourceVersionException",
        ),
        (
            "/_apis/projects?api-version=0.9",
            "VssVersionNotSupportedException",
        ),
    ] {
        rest.send_with("GET", path, None, &[none]).is_error(400, key);
    }
    rest.send_with("POST", "/_apis/git/repositories", Some(b"{}"), &[none])
        .is(403);
    let manager = rest.with_token(&server.cli().token("anna", "vso.code_manage"));
    manager
        .send_with("POST", "/_apis/git/repositories", Some(b"{}"), &[none])
        .is_error(400, "VssVersionNotSpecifiedException");
}

#[test]
fn locations_are_listed_whole_and_by_area() {
    let (server, token) = with_token(&Setup::plain(), "vso.work");
    let rest = Rest::new(&server, &token);
    let all = rest.options("/acme/_apis");
    all.is(200);
    let found = all
        .list()
        .iter()
        .find(|location| location["id"] == CONNECTION_DATA)
        .unwrap();
    assert_eq!(
        found,
        &json!({
            "id": CONNECTION_DATA, "area": "Location", "resourceName": "ConnectionData",
            "routeTemplate": "_apis/{resource}", "resourceVersion": 1, "minVersion": "1.0", "maxVersion": "7.2",
            "releasedVersion": "0.0",
        })
    );
    for (area, ids) in [
        (
            "Location",
            vec![CONNECTION_DATA, "e81700f7-3be2-46de-8624-2eb35882fcaa"],
        ),
        ("core", vec!["603fe2ac-9723-48b9-88ad-09305aa6c6e1"]),
        ("nonsense", vec![]),
    ] {
        assert_eq!(
            rest.options(&format!("/acme/_apis/{area}")).is(200).each("id"),
            ids,
            "{area}"
        );
    }
    assert!(
        rest.options("/_apis/GIT")
            .each("resourceName")
            .contains(&"repositories")
    );
    rest.get("/_apis/ResourceAreas").is(200);
    assert!(
        rest.get("/acme/_apis/resourceareas").list().is_empty(),
        "clients stay on this server"
    );
}

#[test]
fn connection_data_and_the_profile_say_who_one_is() {
    let (server, token) = with_token(&Setup::plain(), "vso.code");
    let rest = Rest::new(&server, &token);
    let data = rest
        .get("/acme/_apis/connectionData?connectOptions=1")
        .is(200)
        .json
        .clone();
    let user = &data["authenticatedUser"];
    assert_eq!(user["providerDisplayName"], "anna");
    assert_eq!(
        user["properties"]["Account"],
        json!({ "$type": "System.String", "$value": "anna" })
    );
    assert_eq!(user, &data["authorizedUser"]);
    assert_eq!(data["instanceId"], data["deploymentId"]);
    assert_eq!(
        data["locationServiceData"]["accessMappings"][0]["accessPoint"],
        format!("{}/", server.base())
    );
    // A code scope includes the profile's, as in Azure DevOps.
    let me = rest.get("/_apis/profile/profiles/me").is(200).json.clone();
    assert_eq!((&me["displayName"], &me["id"]), (&json!("anna"), &user["id"]));
    let own = format!(
        "/_apis/profile/profiles/{}",
        me["id"].as_str().unwrap().to_uppercase()
    );
    rest.get(&own).is(200);
    server.cli().contributor("bob");
    let bob = rest.with_token(&server.cli().token("bob", "app_token"));
    assert_ne!(bob.get("/_apis/profile/profiles/me").json["id"], me["id"]);
    bob.get(&own).is(404);
    let work = rest.with_token(&server.cli().token("anna", "vso.graph"));
    work.get("/_apis/profile/profiles/me").says(403, &["vso.profile"]);
    work.get("/_apis/connectionData").is(200);

    // Ids stay when the server is started again.
    let setup = server.setup().clone();
    drop(server);
    let server = setup.start();
    let again = Rest::new(&server, &token).get("/_apis/connectionData").json;
    assert_eq!(again["instanceId"], data["instanceId"]);
    assert_eq!(again["authenticatedUser"]["id"], user["id"]);
}

#[test]
fn links_name_the_server_as_its_client_does() {
    let (server, token) = with_token(
        &Setup::plain().arg("--behind-proxy").arg("127.0.0.1/32"),
        "vso.code",
    );
    let rest = Rest::new(&server, &token);
    let point = |headers: &[&str]| {
        let data = rest.send_with("GET", "/_apis/connectionData", None, headers).json;
        data["locationServiceData"]["accessMappings"][0]["accessPoint"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(point(&["Host: git.example:8443"]), "http://git.example:8443/");
    let proxied = [
        "Host: inner",
        "X-Forwarded-Host: git.example",
        "X-Forwarded-Proto: https",
    ];
    assert_eq!(point(&proxied), "https://git.example/");
    rest.send_with("GET", "/_apis/connectionData", None, &["Host: a/b"])
        .is(400);
    rest.send_with("GET", "/_apis/connectionData", None, &["X-Forwarded-Host: <x>"])
        .says(400, &["Host"]);
}

/// What the document says must be what the server does; the answers of all other tests are held against it, too.
#[test]
fn the_document_names_every_route_and_no_other() {
    let (server, token) = with_token(&Setup::plain(), "app_token");
    let rest = Rest::new(&server, &token);
    let document = rest.document();
    assert_eq!(document["openapi"], "3.1.1");
    let mut ids = Vec::new();
    for (template, operations) in document["paths"].as_object().unwrap() {
        let mut documented: Vec<String> = operations.as_object().unwrap().keys().cloned().collect();
        if documented.iter().any(|method| method == "get") {
            documented.push("head".to_owned());
        }
        documented.sort();
        let path: Vec<&str> = template
            .split('/')
            .map(|part| if part.starts_with('{') { "zzz" } else { part })
            .collect();
        let answer = rest.send("BREW", &path.join("/"), None);
        answer.is(405);
        let allowed = answer.reply.header("allow").unwrap().to_lowercase();
        let mut allowed: Vec<&str> = allowed.split(',').collect();
        allowed.sort_unstable();
        assert_eq!(allowed, documented, "{template}");
        for operation in operations.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(!ids.contains(&id), "{id} is there twice");
            ids.push(id);
            let named = operation["parameters"].as_array().unwrap();
            let in_path = named.iter().filter(|parameter| parameter["in"] == "path").count();
            assert_eq!(in_path, template.matches('{').count(), "{template}");
        }
    }
    assert!(ids.len() > 10, "{ids:?}");
    let unresolved = unresolved(document, document);
    assert!(unresolved.is_empty(), "{unresolved:?}");
    let work = server.cli().token("anna", "vso.work");
    Curl::get(&server, "/Acme/_apis/OpenAPI.json")
        .token(&work)
        .send()
        .is(200);
}

/// References of the document that lead nowhere.
fn unresolved(document: &Value, part: &Value) -> Vec<String> {
    match part {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match value.as_str().filter(|_| name == "$ref") {
                Some(target) => {
                    let pointer = target.trim_start_matches('#');
                    let is_there = document.pointer(pointer).is_some();
                    if is_there {
                        Vec::new()
                    } else {
                        vec![target.to_owned()]
                    }
                }
                None => unresolved(document, value),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(|item| unresolved(document, item)).collect(),
        _ => Vec::new(),
    }
}
