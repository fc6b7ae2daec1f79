//! The audit log over REST, as Azure DevOps tells its own.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::harness::{Git, Rest, Server, Setup, Token};

const LOG: &str = "/_apis/audit/auditlog";

/// A server with the administrator root, and a token of theirs for the audit log.
fn fixture() -> (Server, Token) {
    let server = Setup::plain().start();
    server.cli().administrator("root");
    let token = server.cli().token("root", "vso.auditlog");
    (server, token)
}

fn entries(page: &Value) -> &[Value] {
    page["decoratedAuditLogEntries"].as_array().unwrap()
}

#[test]
fn three_hundred_events_are_paged_through_each_once_and_in_order() {
    let (server, token) = fixture();
    let cli = server.cli();
    cli.user("anna");
    for number in 0..150 {
        let path = format!("Fab/P/R{number}");
        cli.ok(&["access", "grant", "anna", "reader", &path]);
        cli.ok(&["access", "revoke", "anna", &path]);
    }
    let rest = Rest::new(&server, &token);
    let mut ids = Vec::new();
    let mut from = String::new();
    let mut pages = 0;
    loop {
        let page = rest
            .get(&format!("/Fab{LOG}?batchSize=70{from}"))
            .is(200)
            .json
            .clone();
        ids.extend(
            entries(&page)
                .iter()
                .map(|entry| entry["id"].as_str().unwrap().to_owned()),
        );
        pages += 1;
        let next = page["continuationToken"].as_str().unwrap().to_owned();
        assert_eq!(Some(&next), ids.last());
        from = format!("&continuationToken={}", next.replace(';', "%3B"));
        // What happens meanwhile comes before the first page.
        cli.ok(&[
            "access",
            "grant",
            "anna",
            "reader",
            &format!("Fab/P/later{pages}"),
        ]);
        if page["hasMore"] == false {
            break;
        }
        assert_eq!(entries(&page).len(), 70);
    }
    assert!(
        ids.len() > 300 && pages == ids.len().div_ceil(70),
        "{} on {pages}",
        ids.len()
    );
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    let numbers: Vec<i64> = ids
        .iter()
        .map(|id| id.split(';').next().unwrap().parse().unwrap())
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a > b), "the newest first");
    // Behind the last page there is nothing, however often one asks.
    let after = rest
        .get(&format!("{LOG}?batchSize=70{from}"))
        .is(200)
        .json
        .clone();
    assert!(entries(&after).is_empty());
    assert_eq!(after["hasMore"], false);
    assert_eq!(after["continuationToken"], json!(ids.last().unwrap()));
}

#[test]
fn an_event_says_who_did_what_where_and_from_where() {
    let (server, token) = fixture();
    let rest = Rest::new(&server, &token);
    let manager = rest.with_token(&server.cli().token("root", "vso.code_manage"));
    let body = json!({ "name": "Shop", "project": { "name": "Web" } });
    manager
        .send_with(
            "POST",
            "/Fab/_apis/git/repositories",
            Some(body.to_string().as_bytes()),
            &["User-Agent: tester/1"],
        )
        .is(201);
    let me = rest.get("/_apis/connectionData").json["authenticatedUser"]["id"].clone();
    let page = rest.get(LOG).is(200).json.clone();
    let made = entries(&page)
        .iter()
        .find(|entry| entry["actionId"] == "Git.RepositoryCreated")
        .unwrap();
    for (field, value) in [
        ("area", json!("Git")),
        ("category", json!("create")),
        ("categoryDisplayName", json!("Create")),
        ("actorDisplayName", json!("root")),
        ("actorUserId", me),
        ("authenticationMechanism", json!("PAT")),
        ("ipAddress", json!("127.0.0.1")),
        ("userAgent", json!("tester/1")),
        ("scopeType", json!("organization")),
        ("scopeDisplayName", json!("Fab (Organization)")),
        ("projectName", json!("Web")),
        ("details", json!("Made the repository Fab/Web/Shop")),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    assert_eq!(made["data"]["action"], "repository.create");
    assert!(
        made["id"]
            .as_str()
            .unwrap()
            .ends_with(made["correlationId"].as_str().unwrap())
    );
    let project = rest
        .with_token(&server.cli().token("root", "vso.project"))
        .get("/Fab/_apis/projects/Web")
        .is(200)
        .json["id"]
        .clone();
    assert_eq!(made["projectId"], project);
    let by_hand = entries(&page)
        .iter()
        .find(|entry| entry["actionId"] == "Account.Created")
        .unwrap();
    assert_eq!(by_hand["actorDisplayName"], "command line");
    assert_eq!(
        (&by_hand["actorUserId"], &by_hand["ipAddress"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        (&by_hand["userAgent"], &by_hand["authenticationMechanism"]),
        (&json!(""), &json!(""))
    );
    assert_eq!(by_hand["scopeType"], "deployment");

    // Whoever has the name of a deleted account did not do what that one did.
    let cli = server.cli();
    cli.administrator("eve");
    cli.ok(&["user", "delete", "eve", "--yes"]);
    assert!(
        entries(&rest.get(LOG).json)[0]["details"]
            .as_str()
            .unwrap()
            .contains("eve")
    );
}

#[test]
fn a_window_of_time_and_what_is_no_time() {
    let (server, token) = fixture();
    let rest = Rest::new(&server, &token);
    let count = |query: &str| entries(&rest.get(&format!("{LOG}?{query}")).is(200).json).len();
    let all = count("skipAggregation=true");
    assert!(all >= 2);
    assert_eq!(
        count("startTime=2001-01-01T00:00:00Z&endTime=2999-01-01T00:00:00%2B02:00"),
        all
    );
    assert_eq!(count("startTime=2999-01-01T00:00:00"), 0);
    assert_eq!(count("endTime=2001-01-01T00:00:00Z"), 0);
    assert_eq!(
        count("startTime=2999-01-01T00:00:00Z&endTime=2001-01-01T00:00:00Z"),
        0
    );
    let nothing = rest
        .get(&format!("{LOG}?endTime=2001-01-01T00:00:00Z"))
        .json
        .clone();
    assert_eq!(
        (&nothing["continuationToken"], &nothing["hasMore"]),
        (&Value::Null, &json!(false))
    );
    for (query, field) in [
        ("startTime=now", "'startTime'"),
        ("endTime=", "'endTime'"),
        ("batchSize=0", "'batchSize'"),
        ("batchSize=1001", "'batchSize'"),
        ("skipAggregation=x", "'skipAggregation'"),
        ("continuationToken=", "'continuationToken'"),
        ("continuationToken=1", "'continuationToken'"),
        (
            "continuationToken=1;00000000-0000-0000-0000-000000000000",
            "'continuationToken'",
        ),
        ("continuationToken=-9223372036854775808", "'continuationToken'"),
        ("continuationToken=%27%20OR%201=1", "'continuationToken'"),
    ] {
        rest.get(&format!("{LOG}?{query}")).says(400, &[field]);
    }
}

#[test]
fn every_action_has_a_name_and_an_area() {
    let (server, token) = fixture();
    let rest = Rest::new(&server, &token);
    let all = rest.get("/_apis/audit/actions").is(200).each("actionId").len();
    assert!(all > 30);
    let answer = rest.get("/_apis/audit/actions?areaName=token");
    let tokens = answer.is(200).each("actionId");
    assert!(
        tokens.contains(&"Token.PatCreateEvent") && tokens.len() < all,
        "{tokens:?}"
    );
    assert!(
        rest.get("/_apis/audit/actions?areaName=Moon")
            .is(200)
            .list()
            .is_empty()
    );
}

#[test]
fn no_secret_is_in_the_log_whatever_happened() {
    let (server, token) = fixture();
    let rest = Rest::new(&server, &token);
    let cli = server.cli();
    cli.contributor("anna");
    cli.ok(&["repo", "create", "P/repo"]);
    let old = cli.token("anna", "vso.code_write");
    let new = cli.rotate(&old, &["--overlap", "1h"]);
    cli.end_overlaps(&new);
    let git = Git::new();
    let url = server.remote(&old).url("repo");
    git.run(&server.work(), &["ls-remote", &url]).failed();
    let leaked = cli.token("anna", "vso.code");
    rest.with(None)
        .post("/_apis/tokens/leaked", &json!({ "token": leaked.text }))
        .is(202);
    server.logs(&format!("leaked={}", leaked.id));
    let text = rest.get(&format!("{LOG}?batchSize=1000")).is(200).reply.text();
    for id in [&old.id, &leaked.id] {
        assert!(text.contains(id.as_str()), "{id}");
    }
    for (action, subject) in [
        ("Token.PatReuseEvent", &old.id),
        ("Token.PatSystemRevokeEvent", &leaked.id),
    ] {
        let page: Value = serde_json::from_str(&text).unwrap();
        let found = entries(&page)
            .iter()
            .any(|entry| entry["actionId"] == action && entry["data"]["subject"] == subject.as_str());
        assert!(found, "{action}: {text}");
    }
    for secret in cli.secrets() {
        assert!(!text.contains(&secret));
    }
}
