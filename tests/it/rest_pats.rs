//! Tokens over REST: `tokens/pats` for whoever gives a password, `tokens/self` for whoever has a token.

use serde_json::{Value, json};

use crate::harness::cli::{PASSWORD, basic};
use crate::harness::{Curl, Rest, Server, Setup, Token};

const PATS: &str = "/_apis/tokens/pats";
const REFS: &str = "/DefaultCollection/P/_git/repo/info/refs?service=git-upload-pack";

/// A server with the account anna, and a client that gives her password.
fn signed_in(server: &Server) -> Rest<'_> {
    server.cli().contributor("anna");
    let token = server.cli().token("anna", "vso.code");
    as_user(&Rest::new(server, &token), "anna")
}

fn as_user<'a>(rest: &Rest<'a>, name: &str) -> Rest<'a> {
    rest.with(Some(&basic(name, PASSWORD)))
}

/// The request for a token with a name.
fn named(name: &str) -> Value {
    json!({ "displayName": name, "scope": "vso.code", "allOrgs": true })
}

/// Makes a token, and returns it as it was shown.
#[track_caller]
fn created(rest: &Rest<'_>, server: &Server, body: &Value) -> (Value, Token) {
    granted(&rest.post(PATS, body).json, server)
}

/// The token of a result, which has its text in it.
#[track_caller]
fn granted(result: &Value, server: &Server) -> (Value, Token) {
    assert_eq!(result["patTokenError"], "none", "{result}");
    let pat = result["patToken"].clone();
    let token = server.cli().keep(pat["token"].as_str().unwrap_or_default());
    assert_eq!(pat["tokenId"], token.id);
    (pat, token)
}

/// Asserts that a result says `error`, with these words.
#[track_caller]
fn refused(rest_says: &crate::harness::rest::Answer, error: &str, words: &[&str]) {
    let result = &rest_says.is(200).json;
    assert_eq!(result["patTokenError"], error, "{result}");
    assert_eq!(result["patToken"], Value::Null);
    let message = result["patTokenErrorMessage"].as_str().unwrap();
    for word in words {
        assert!(message.contains(word), "'{word}' is not in: {message}");
    }
    assert!(message.len() < 600 && !message.contains('\u{1b}'), "{message}");
}

fn id(pat: &Value) -> String {
    pat["authorizationId"].as_str().unwrap().to_owned()
}

/// A moment this many days from now, as a client writes it.
fn in_days(days: i64) -> String {
    let seconds = jiff::Timestamp::now().as_second() + days * 24 * 3600;
    jiff::Timestamp::from_second(seconds).unwrap().to_string()
}

/// How many days from now a moment is, rounded.
fn days_to(moment: &Value) -> i64 {
    let moment: jiff::Timestamp = moment.as_str().unwrap().parse().unwrap();
    (moment.as_second() - jiff::Timestamp::now().as_second() + 12 * 3600).div_euclid(24 * 3600)
}

fn status(server: &Server, token: &Token) -> u16 {
    Curl::get(server, "/_apis/connectionData")
        .token(token)
        .send()
        .status
}

#[test]
fn a_token_is_made_shown_once_read_changed_and_revoked() {
    let server = Setup::tls().start();
    let rest = signed_in(&server);
    let body = json!({
        "displayName": "new_token", "scope": "vso.code_write  vso.code", "validTo": in_days(30), "allOrgs": true,
    });
    let answer = rest.post("/Fabrikam/_apis/Tokens/Pats?api-version=7.1-preview.1", &body);
    assert_eq!(answer.reply.all("cache-control").last(), Some(&"no-store"));
    assert!(answer.json.get("patTokenErrorMessage").is_none());
    let (pat, token) = granted(&answer.json, &server);
    assert_eq!(pat["displayName"], "new_token");
    assert_eq!(pat["scope"], "vso.code vso.code_write");
    assert_eq!(
        (&pat["targetAccounts"], &pat["status"]),
        (&Value::Null, &json!("active"))
    );
    assert_eq!(days_to(&pat["validTo"]), 30);
    assert_eq!(pat["limits"], json!({ "paths": [], "refs": [], "networks": [] }));
    assert_eq!(status(&server, &token), 200);

    let one = format!("{PATS}?authorizationId={}", id(&pat));
    let mut shown = pat.clone();
    shown["token"] = Value::Null;
    let read = rest.get(&one).is(200).json.clone();
    assert_eq!(read["patTokenError"], "none");
    assert_eq!(id(&read["patToken"]), id(&pat));
    assert_eq!(read["patToken"]["token"], Value::Null);
    let listed = rest.get(PATS).is(200).json.clone();
    assert_eq!(listed["continuationToken"], "");
    assert_eq!(listed["patTokens"].as_array().unwrap().len(), 2, "{listed}");

    let change = json!({ "authorizationId": id(&pat), "displayName": "renamed", "scope": "vso.work", "validTo": in_days(60) });
    let changed = rest.put(PATS, &change).is(200).json["patToken"].clone();
    assert_eq!(
        (&changed["displayName"], &changed["scope"]),
        (&json!("renamed"), &json!("vso.work"))
    );
    assert_eq!(
        (days_to(&changed["validTo"]), &changed["token"]),
        (60, &Value::Null)
    );
    // The same text opens other things from the next request on.
    Curl::get(&server, "/_apis/projects").token(&token).send().is(403);

    rest.delete(&one).is(204);
    assert_eq!(status(&server, &token), 401);
    rest.delete(&one).is(204);
    let revoked = rest.get(&one).json["patToken"].clone();
    assert_eq!(
        (&revoked["status"], &revoked["revokedBecause"]),
        (&json!("revoked"), &json!("asked"))
    );
    refused(
        &rest.put(PATS, &change),
        "failedToUpdateAccessToken",
        &["revoked", "'authorizationId'"],
    );
    let events = server.cli().json(&["audit", "list"]);
    let of_token: Vec<&str> = events
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["subject"] == token.id.as_str())
        .map(|event| event["action"].as_str().unwrap())
        .collect();
    for action in ["token.create", "token.update", "token.revoke"] {
        assert_eq!(
            of_token.iter().filter(|found| **found == action).count(),
            1,
            "{action}: {of_token:?}"
        );
    }
    for event in events
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["subject"] == token.id.as_str())
    {
        assert!(event.to_string().contains("anna"), "{event}");
        assert!(!event.to_string().contains(&token.text));
    }
}

#[test]
fn what_cannot_be_granted_is_told_by_its_word_and_its_field() {
    let server = Setup::plain().start();
    let rest = signed_in(&server);
    let with = |field: &str, value: Value| {
        let mut body = named("x");
        body[field] = value;
        rest.post(PATS, &body)
    };
    for (value, error) in [
        (Value::Null, "displayNameRequired"),
        (json!(""), "displayNameRequired"),
        (json!("   "), "displayNameRequired"),
        (json!("a\u{1b}[31mb"), "invalidDisplayName"),
        (json!("a\nb"), "invalidDisplayName"),
        (json!("a\u{202e}b"), "invalidDisplayName"),
        (json!("x".repeat(10_000)), "invalidDisplayName"),
        (json!("-x"), "invalidDisplayName"),
    ] {
        refused(&with("displayName", value), error, &["'displayName'"]);
    }
    for value in [
        Value::Null,
        json!(""),
        json!("vso.nonsense"),
        json!("vso.code,vso.work"),
        json!("vso.code evil\u{1b}[31m"),
        json!("x".repeat(10_000)),
    ] {
        refused(&with("scope", value), "invalidScope", &["'scope'"]);
    }
    for value in [
        "2020-12-01T23:46:23.32Z",
        "yesterday",
        "",
        "90d",
        "2027-13-01T00:00:00Z",
        "\u{1b}[31m",
        &"9".repeat(10_000),
    ] {
        refused(&with("validTo", json!(value)), "invalidValidTo", &["'validTo'"]);
    }
    for (limits, error, field) in [
        (
            json!({ "paths": ["a/../b"] }),
            "invalidTargetAccounts",
            "'limits.paths'",
        ),
        (json!({ "paths": ["C", "C/P"] }), "invalidTargetAccounts", "wider"),
        (
            json!({ "paths": ["C/P", "c/p"] }),
            "invalidTargetAccounts",
            "twice",
        ),
        (
            json!({ "refs": ["main"] }),
            "invalidTargetAccounts",
            "'limits.refs'",
        ),
        (
            json!({ "networks": ["10.0.0.1/8"] }),
            "invalidSourceIP",
            "'limits.networks'",
        ),
        (
            json!({ "networks": ["::/0", "10.0.0.0/8", "10.1.0.0/16"] }),
            "invalidSourceIP",
            "wider",
        ),
        (
            json!({ "networks": vec!["10.0.0.1"; 101] }),
            "invalidSourceIP",
            "at most 100",
        ),
    ] {
        let mut body = json!({ "displayName": "x", "scope": "vso.code" });
        body["limits"] = limits;
        refused(&rest.post(PATS, &body), error, &[field]);
    }
    refused(
        &with("limits", json!({ "paths": ["C"] })),
        "invalidTargetAccounts",
        &["'allOrgs'", "limits.paths"],
    );
    // What is no request of this kind at all is a 400 as elsewhere.
    for (field, value) in [
        ("displayName", json!(5)),
        ("scope", json!(["vso.code"])),
        ("validTo", json!(1_234_567)),
        ("allOrgs", json!("yes")),
        ("limits", json!([])),
        ("nonsense", json!(1)),
    ] {
        with(field, value).says(400, &[field]);
    }
    with("limits", json!({ "path": ["C"] })).says(400, &["limits", "`path`"]);
    with("limits", json!({ "paths": "C" })).says(400, &["'limits.paths'"]);
    rest.send("POST", PATS, Some(b"")).says(400, &["no body"]);
    rest.send_with("POST", PATS, Some(b"{}"), &["Accept: */*"])
        .is_error(400, "VssVersionNotSpecifiedException");
    assert_eq!(
        rest.get(&format!("{PATS}?displayFilterOption=all")).json["patTokens"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn ends_are_read_as_clients_write_them_and_brought_down_to_what_policies_allow() {
    let server = Setup::plain().start();
    let rest = signed_in(&server);
    let end_of = |valid_to: Value| {
        let mut body = named("x");
        body["validTo"] = valid_to;
        let (pat, _) = created(&rest, &server, &body);
        days_to(&pat["validTo"])
    };
    assert_eq!(end_of(Value::Null), 90);
    assert_eq!(end_of(json!(in_days(10))), 10);
    assert_eq!(end_of(json!(in_days(10).replace('Z', ".1234567Z"))), 10);
    assert_eq!(
        end_of(json!(in_days(10).trim_end_matches('Z'))),
        10,
        "UTC where nothing is said"
    );
    assert_eq!(end_of(json!("9999-12-31T23:59:59Z")), 365);
    let day = in_days(10)[..10].to_owned();
    assert!((9..=10).contains(&end_of(json!(day))));

    let (pat, _) = created(&rest, &server, &named("y"));
    server.cli().ok(&["policy", "set", "max-lifetime", "30"]);
    assert_eq!(end_of(Value::Null), 30);
    assert_eq!(end_of(json!(in_days(200))), 30);
    let update = |days| {
        let body = json!({ "authorizationId": id(&pat), "validTo": in_days(days) });
        days_to(&rest.put(PATS, &body).json["patToken"]["validTo"])
    };
    assert_eq!(update(200), 90, "what a token has, no policy takes");
    assert_eq!(update(10), 10);
    assert_eq!(update(200), 30);
    // A collection's policy counts for a token that is limited to it.
    server.cli().ok(&[
        "repo",
        "create",
        "Payroll/P/R",
        "--repos",
        &server.setup().repos().display().to_string(),
    ]);
    server
        .cli()
        .ok(&["policy", "set", "max-lifetime", "7", "--collection", "Payroll"]);
    let body = json!({ "displayName": "z", "scope": "vso.code" });
    let (pat, _) = granted(&rest.post("/Payroll/_apis/tokens/pats", &body).json, &server);
    assert_eq!(days_to(&pat["validTo"]), 7);
}

#[test]
fn policies_on_who_may_have_which_token_hold_by_their_words() {
    let server = Setup::plain().start();
    let rest = signed_in(&server);
    server.cli().administrator("root");
    server.cli().ok(&["policy", "set", "full-scope", "deny"]);
    let full = json!({ "displayName": "x", "scope": "app_token" });
    refused(
        &rest.post(PATS, &full),
        "fullScopePatPolicyViolation",
        &["'scope'", "app_token"],
    );
    let (pat, _) = created(&rest, &server, &named("narrow"));
    server.cli().ok(&["policy", "set", "creation", "administrators"]);
    refused(
        &rest.post(PATS, &named("x")),
        "disablePatCreationPolicyViolation",
        &["administrators"],
    );
    let wider = json!({ "authorizationId": id(&pat), "scope": "vso.code_full" });
    refused(&rest.put(PATS, &wider), "disablePatCreationPolicyViolation", &[]);
    created(&as_user(&rest, "root"), &server, &named("x"));
    server.cli().ok(&["policy", "unset", "full-scope"]);
    let (pat, token) = created(&as_user(&rest, "root"), &server, &full);
    assert_eq!(pat["scope"], "app_token");
    assert_eq!(status(&server, &token), 200);
}

#[test]
fn all_orgs_and_limits_say_what_a_token_opens() {
    let server = Setup::plain().start();
    let rest = signed_in(&server);
    server.cli().ok(&["repo", "create", "Fabrikam/Web/Web"]);
    let make = |path: &str, body: Value| {
        let mut whole = json!({ "displayName": "x", "scope": "vso.code_write" });
        whole
            .as_object_mut()
            .unwrap()
            .extend(body.as_object().unwrap().clone());
        granted(&rest.post(path, &whole).is(200).json, &server)
    };
    let paths = |pat: &Value| pat["limits"]["paths"].clone();
    let fabrikam = "/Fabrikam/_apis/tokens/pats";
    assert_eq!(paths(&make(fabrikam, json!({})).0), json!(["Fabrikam"]));
    assert_eq!(
        paths(&make(fabrikam, json!({ "allOrgs": false })).0),
        json!(["Fabrikam"])
    );
    assert_eq!(paths(&make(fabrikam, json!({ "allOrgs": true })).0), json!([]));
    assert_eq!(
        paths(&make("/fabrikam/_apis/tokens/pats", json!({})).0),
        json!(["Fabrikam"])
    );
    let nowhere = json!({ "displayName": "x", "scope": "vso.code" });
    refused(
        &rest.post("/Nowhere/_apis/tokens/pats", &nowhere),
        "invalidTargetAccounts",
        &["'allOrgs'", "collection"],
    );
    make("/Nowhere/_apis/tokens/pats", json!({ "allOrgs": true }));
    assert_eq!(paths(&make(PATS, json!({})).0), json!(["DefaultCollection"]));
    assert_eq!(
        paths(&make("/tfs/_apis/tokens/pats", json!({})).0),
        json!(["DefaultCollection"])
    );
    let limits = json!({ "limits": {
        "paths": ["Fabrikam/Web", "Fabrikam/Docs/Book"], "refs": ["refs/heads/ci/*"], "networks": ["10.0.0.0/8", "127.0.0.1"],
    } });
    let (pat, token) = make(PATS, limits);
    assert_eq!(
        pat["limits"],
        json!({
            "paths": ["Fabrikam/Web", "Fabrikam/Docs/Book"], "refs": ["refs/heads/ci/*"],
            "networks": ["10.0.0.0/8", "127.0.0.1/32"],
        })
    );
    assert_eq!(
        pat["targetAccounts"].as_array().unwrap().len(),
        1,
        "one collection"
    );
    let other = make(fabrikam, json!({})).0;
    assert_eq!(pat["targetAccounts"], other["targetAccounts"]);
    Curl::get(&server, REFS).token(&token).send().is_refusal(403);

    let change = |body: Value| {
        let mut whole = json!({ "authorizationId": id(&pat) });
        whole
            .as_object_mut()
            .unwrap()
            .extend(body.as_object().unwrap().clone());
        rest.put(fabrikam, &whole).is(200).json["patToken"]["limits"].clone()
    };
    assert_eq!(
        change(json!({ "allOrgs": false }))["paths"],
        json!(["Fabrikam/Web", "Fabrikam/Docs/Book"])
    );
    let kept = change(json!({ "limits": { "refs": [] } }));
    assert_eq!(
        kept,
        json!({ "paths": ["Fabrikam/Web", "Fabrikam/Docs/Book"], "refs": [], "networks": ["10.0.0.0/8", "127.0.0.1/32"] })
    );
    assert_eq!(change(json!({ "allOrgs": true }))["paths"], json!([]));
    assert_eq!(change(json!({ "allOrgs": false }))["paths"], json!(["Fabrikam"]));
    change(json!({ "limits": { "networks": ["192.0.2.0/24"] } }));
    assert_eq!(status(&server, &token), 403, "from the next request on");
}

#[test]
fn another_s_token_is_answered_as_one_that_is_not_there() {
    let server = Setup::plain().start();
    let rest = signed_in(&server);
    server.cli().administrator("root");
    let (pat, token) = created(&rest, &server, &named("hers"));
    let root = as_user(&rest, "root");
    let unknown = "00000000-0000-8000-8000-000000000000";
    let mut texts = Vec::new();
    for id in [&id(&pat), unknown, "41624364-0000-8000-8000-000031327a5a"] {
        let one = format!("{PATS}?authorizationId={id}");
        for answer in [
            root.get(&one),
            root.delete(&one),
            root.put(PATS, &json!({ "authorizationId": id, "displayName": "mine" })),
            root.post(&format!("{PATS}/rotate?authorizationId={id}"), &json!({})),
        ] {
            answer.is_error(404, "SessionTokenNotFoundException");
            texts.push(answer.message().to_owned());
        }
    }
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    assert_eq!(status(&server, &token), 200);
    assert_eq!(root.get(PATS).json["patTokens"], json!([]));
    for id in ["", "x", "00000000"] {
        rest.get(&format!("{PATS}?authorizationId={id}"))
            .says(400, &["'authorizationId'"]);
        rest.put(PATS, &json!({ "authorizationId": id }))
            .says(400, &["'authorizationId'"]);
    }
    rest.delete(PATS).says(400, &["'authorizationId'", "missing"]);
    rest.put(PATS, &json!({})).says(400, &["authorizationId"]);
}

#[test]
fn many_tokens_are_listed_by_pages_each_once() {
    let server = Setup::plain().start();
    let rest = signed_in(&server);
    server.cli().user("eve");
    let now = jiff::Timestamp::now().as_second();
    let tokens: Vec<(String, i64, bool)> = (0..250)
        .map(|number| {
            let end = if number % 5 == 0 {
                now - 1000 - number
            } else {
                now + 100_000 + (number * 7919) % 5000
            };
            (format!("token {:03}", (number * 37) % 250), end, number % 7 == 0)
        })
        .collect();
    server.cli().fill("anna", &tokens);
    // Everything with these parameters, and how many pages that took.
    let all = |query: &str| {
        let mut found: Vec<Value> = Vec::new();
        let (mut pages, mut from) = (0, String::new());
        loop {
            let page = rest
                .get(&format!("{PATS}?{query}&continuationToken={from}"))
                .is(200)
                .json
                .clone();
            found.extend(page["patTokens"].as_array().unwrap().clone());
            pages += 1;
            from = page["continuationToken"].as_str().unwrap().to_owned();
            assert!(!from.contains("token"), "{from}");
            if from.is_empty() {
                return (found, pages);
            }
            assert!(pages < 100);
        }
    };
    let names = |found: &[Value]| -> Vec<String> {
        found
            .iter()
            .map(|pat| pat["displayName"].as_str().unwrap().to_owned())
            .collect()
    };
    let revoked = tokens.iter().filter(|(_, _, is_revoked)| *is_revoked).count();
    let expired = tokens
        .iter()
        .filter(|(_, end, is_revoked)| !is_revoked && *end < now)
        .count();
    let (found, pages) = all("displayFilterOption=all&sortByOption=displayName&$top=100");
    assert_eq!((found.len(), pages), (251, 3));
    let sorted = names(&found);
    assert!(sorted.is_sorted());
    assert_eq!(sorted.iter().collect::<std::collections::HashSet<_>>().len(), 251);
    let (mut found, _) =
        all("displayFilterOption=All&SORTBYOPTION=displayname&isSortAscending=false&$top=17");
    found.reverse();
    assert_eq!(names(&found), sorted);
    for (filter, count) in [
        ("revoked", revoked),
        ("expired", expired),
        ("active", 251 - revoked - expired),
        ("!revoked", 251 - revoked),
    ] {
        let (found, _) = all(&format!("displayFilterOption={filter}&$top=50"));
        assert_eq!(found.len(), count, "{filter}");
        let states: Vec<&str> = found.iter().map(|pat| pat["status"].as_str().unwrap()).collect();
        assert!(
            states.iter().all(|state| match filter.strip_prefix('!') {
                Some(other) => *state != other,
                None => *state == filter,
            }),
            "{filter}"
        );
        let ends: Vec<&str> = found.iter().map(|pat| pat["validTo"].as_str().unwrap()).collect();
        assert!(ends.is_sorted(), "by the end unless something else is said");
    }
    let (found, _) = all("");
    assert_eq!(
        found.len(),
        251 - revoked - expired,
        "active unless something else is said"
    );
    let (found, _) = all("displayFilterOption=all&sortByOption=status");
    let states: Vec<&str> = found.iter().map(|pat| pat["status"].as_str().unwrap()).collect();
    assert!(states.is_sorted());
    assert_eq!(
        as_user(&rest, "eve")
            .get(&format!("{PATS}?displayFilterOption=all"))
            .json["patTokens"],
        json!([])
    );

    // A place in one list is none in another, and none that was made up.
    let first = rest.get(&format!("{PATS}?$top=1")).json.clone();
    let from = first["continuationToken"].as_str().unwrap();
    rest.get(&format!("{PATS}?$top=2&continuationToken={from}"))
        .is(200);
    let flipped = format!("{}{}", if from.starts_with('A') { 'B' } else { 'A' }, &from[1..]);
    let other_list = format!("{from}&displayFilterOption=all");
    let other_order = format!("{from}&isSortAscending=false");
    for made_up in [
        "x",
        "%00",
        "AAAAAAAAAAAAAAAAAAAA",
        "%F0%9F%A6%80",
        &flipped,
        &from[..from.len() - 1],
        &other_list,
        &other_order,
    ] {
        rest.get(&format!("{PATS}?continuationToken={made_up}"))
            .says(400, &["'continuationToken'"]);
    }
    as_user(&rest, "eve")
        .get(&format!("{PATS}?continuationToken={from}"))
        .says(400, &["'continuationToken'"]);
    for (query, word) in [
        ("$top=0", "'$top'"),
        ("$top=101", "'$top'"),
        ("displayFilterOption=some", "'displayFilterOption'"),
        ("sortByOption=scope", "'sortByOption'"),
        ("isSortAscending=maybe", "'isSortAscending'"),
    ] {
        rest.get(&format!("{PATS}?{query}")).says(400, &[word]);
    }
}

#[test]
fn a_token_makes_and_changes_no_tokens() {
    let server = Setup::plain().start();
    let rest = signed_in(&server);
    let (pat, own) = created(&rest, &server, &named("x"));
    server.cli().administrator("root");
    let strong = server.cli().token("root", "app_token");
    let one = format!("{PATS}?authorizationId={}", id(&pat));
    let change = json!({ "authorizationId": id(&pat), "scope": "app_token" });
    for token in [&own, &strong] {
        let bearer = format!("Bearer {}", token.text);
        let as_name = basic(&token.text, "");
        for authorization in [token.basic("anna"), token.basic(""), bearer, as_name] {
            let rest = rest.with(Some(&authorization));
            for answer in [
                rest.get(PATS),
                rest.get(&one),
                rest.post(PATS, &named("more")),
                rest.put(PATS, &change),
                rest.delete(&one),
                rest.post(&format!("{PATS}/rotate?authorizationId={}", id(&pat)), &json!({})),
            ] {
                answer.is_error(403, "AccessCheckException").says(
                    403,
                    &["A token cannot make or change tokens", "name and the password"],
                );
            }
        }
    }
    // It is in the trail, which a thread of its own writes.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let is_told = || {
        let events = server.cli().json(&["audit", "list", "--action", "token.refuse"]);
        [&own, &strong].iter().all(|token| {
            let mut of_token = events
                .as_array()
                .unwrap()
                .iter()
                .filter(|event| event["subject"] == token.id.as_str());
            of_token.any(|event| event.to_string().contains("password-needed"))
        })
    };
    while !is_told() {
        assert!(std::time::Instant::now() < deadline, "the trail must tell of it");
    }
    // One that does not live is answered as everywhere.
    server.cli().ok(&["token", "revoke", &strong.id]);
    rest.with_token(&strong).get(PATS).says(401, &["was revoked"]);
    let garbled = format!("pgt_{}", "0".repeat(52));
    rest.with(Some(&basic("anna", &garbled))).get(PATS).is(401);
    assert_eq!(rest.get(&one).json["patToken"]["scope"], "vso.code");
}

#[test]
fn only_the_password_of_an_account_that_may_sign_in_opens_it() {
    let server = Setup::plain().start();
    let rest = signed_in(&server);
    let without = rest.with(None).get(PATS);
    without.says(401, &["the name and the password of an account"]);
    assert_eq!(
        without.reply.all("www-authenticate"),
        ["Basic realm=\"patgate\", charset=\"UTF-8\""],
        "no token, so no Bearer"
    );
    for authorization in ["Basic !!!", "Digest x", "Basic ", "Bearer nonsense"] {
        rest.with(Some(authorization)).get(PATS).is(401);
    }
    server.cli().user("gone");
    created(&as_user(&rest, "gone"), &server, &named("x"));
    server.cli().ok(&["user", "disable", "gone"]);
    let disabled = as_user(&rest, "gone").get(PATS);
    let unknown = as_user(&rest, "nobody").get(PATS);
    let wrong = rest.with(Some(&basic("anna", "wrong"))).get(PATS);
    for answer in [&disabled, &unknown, &wrong] {
        answer.is_error(401, "UnauthorizedRequestException");
        assert_eq!(answer.message(), wrong.message());
    }
    rest.with(Some(&basic("ANNA", PASSWORD))).get(PATS).is(200);
    // Elsewhere a password opens nothing.
    rest.get("/_apis/connectionData").is(401);
    rest.get("/_apis/tokens/self").is(401);
    server.logs("pats.list");
    assert!(server.log().contains("account=\"anna\""));
}

#[test]
fn a_first_password_has_to_be_changed_before() {
    let setup = Setup::plain();
    let server = setup.start();
    let rest = signed_in(&server);
    let banner = server.log();
    let password = banner
        .lines()
        .find_map(|line| line.trim().strip_prefix("password"))
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap()
        .to_owned();
    rest.with(Some(&basic("admin", &password)))
        .get(PATS)
        .says(403, &["patgate user set-password 'admin'"]);
    server
        .cli()
        .with_password(&["user", "set-password", "admin"], "another long password")
        .ok();
    rest.with(Some(&basic("admin", "another long password")))
        .get(PATS)
        .is(200);
}

#[test]
fn wrong_passwords_are_throttled_and_tokens_work_on() {
    let server = Setup::plain().start();
    let rest = signed_in(&server);
    let token = server.cli().token("anna", "vso.code");
    let guess = |number: usize| {
        rest.with(Some(&basic("anna", &format!("guess {number}"))))
            .get(PATS)
    };
    let answers: Vec<_> = (0..8).map(guess).collect();
    assert_eq!(answers[0].reply.status, 401);
    let last = answers.last().unwrap();
    last.says(429, &["Too many wrong passwords for this name"]);
    assert!(last.reply.header("retry-after").is_some());
    assert_eq!(status(&server, &token), 200);
}

#[test]
fn methods_and_heads_are_answered_as_elsewhere() {
    let server = Setup::plain().start();
    let rest = signed_in(&server);
    for (method, path, allow) in [
        ("PATCH", PATS, "DELETE,GET,HEAD,POST,PUT"),
        ("OPTIONS", PATS, "DELETE,GET,HEAD,POST,PUT"),
        ("GET", "/_apis/tokens/pats/rotate", "POST"),
    ] {
        let answer = rest.send(method, path, None);
        let mut found: Vec<&str> = answer.is(405).reply.header("allow").unwrap().split(',').collect();
        found.sort_unstable();
        assert_eq!(found.join(","), allow, "{method} {path}");
    }
    let authorization = format!("Authorization: {}", basic("anna", PASSWORD));
    let head = Curl::get(&server, PATS)
        .header(&authorization)
        .args(&["--head"])
        .send();
    head.is(200);
    assert!(head.header("content-length").unwrap().parse::<u64>().unwrap() > 100);
    assert_eq!(head.header("x-ratelimit-resource"), Some("rest/account"));
    for path in ["/acme/proj/_apis/tokens/pats", "/_apis/tokens/pats/x"] {
        let token = server.cli().token("anna", "vso.code");
        rest.with_token(&token).get(path).is(404);
    }
}

#[test]
fn a_rotation_gives_a_new_secret_and_the_old_one_an_overlap() {
    let server = Setup::plain().start();
    let rest = signed_in(&server);
    let (pat, first) = created(&rest, &server, &named("x"));
    let rotate = format!("{PATS}/rotate?authorizationId={}", id(&pat));
    let answer = rest.send_with("POST", &rotate, Some(br#"{"overlap":"2h"}"#), &["Accept: */*"]);
    let (rotated, second) = granted(&answer.is(200).json, &server);
    assert_eq!(id(&rotated), id(&pat));
    assert_eq!(
        (&rotated["validTo"], &rotated["scope"]),
        (&pat["validTo"], &pat["scope"])
    );
    assert!(rotated["rotatedOn"].is_string());
    assert_eq!((status(&server, &first), status(&server, &second)), (200, 200));
    let (rotated, third) = granted(
        &rest.post(&rotate, &json!({ "validTo": in_days(5000) })).json,
        &server,
    );
    assert_eq!(days_to(&rotated["validTo"]), 365);
    assert_eq!(status(&server, &third), 200);
    for overlap in ["8d", "", "1", "-1h", "\u{1b}"] {
        rest.post(&rotate, &json!({ "overlap": overlap }))
            .says(400, &["'overlap'"]);
    }
    rest.post(&rotate, &json!({ "overlap": 5 }))
        .says(400, &["'overlap'"]);
    refused(
        &rest.post(&rotate, &json!({ "validTo": "2001-01-01T00:00:00Z" })),
        "invalidValidTo",
        &["'validTo'"],
    );
    server.cli().expire(&third);
    refused(
        &rest.post(&rotate, &json!({})),
        "expiredPatCannotBeExtended",
        &["expired"],
    );
    let extend = json!({ "authorizationId": id(&pat), "validTo": in_days(30) });
    refused(
        &rest.put(PATS, &extend),
        "expiredPatCannotBeExtended",
        &["expired"],
    );
    let (_, fourth) = granted(
        &rest.post(&rotate, &json!({ "validTo": in_days(30) })).json,
        &server,
    );
    assert_eq!(status(&server, &fourth), 200);
    // The first one's time was over long ago, so somebody else may have it.
    server.cli().end_overlaps(&fourth);
    assert_eq!(status(&server, &first), 401);
    assert_eq!(status(&server, &fourth), 401);
    let gone = rest.get(&format!("{PATS}?authorizationId={}", id(&pat))).json["patToken"].clone();
    assert_eq!(gone["revokedBecause"], "reuse");
}

#[test]
fn the_last_use_is_told() {
    let server = Setup::plain().arg("--behind-proxy").arg("127.0.0.1/32").start();
    let rest = signed_in(&server);
    let (pat, token) = created(&rest, &server, &named("x"));
    assert_eq!(pat["lastUse"], Value::Null);
    for last in [1, 2] {
        Curl::get(&server, "/_apis/connectionData")
            .token(&token)
            .header(&format!("X-Forwarded-For: 192.0.2.{last}"))
            .header("User-Agent: script/1")
            .send()
            .is(200);
    }
    let one = format!("{PATS}?authorizationId={}", id(&pat));
    // Uses are written by a thread of their own, which reads of the same store do not wait for.
    let mut shown = rest.get(&one).json["patToken"].clone();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while shown["lastUse"]["addresses"].as_array().map_or(0, Vec::len) < 2 {
        assert!(std::time::Instant::now() < deadline, "{shown}");
        shown = rest.get(&one).json["patToken"].clone();
    }
    assert_eq!(shown["lastUse"]["client"], "script/1");
    assert_eq!(shown["lastUse"]["purpose"], "api discover");
    assert!(
        shown["lastUse"]["address"]
            .as_str()
            .unwrap()
            .starts_with("192.0.2.")
    );
}

#[test]
fn a_token_looks_at_rotates_and_revokes_itself() {
    let server = Setup::plain().start();
    let rest = signed_in(&server);
    let body = json!({
        "displayName": "ci", "scope": "vso.code_write vso.work", "allOrgs": false, "validTo": in_days(30),
        "limits": { "paths": ["Fabrikam/Web", "Contoso"], "refs": ["refs/heads/*"], "networks": ["127.0.0.0/8"] },
    });
    let (pat, first) = created(&rest, &server, &body);
    let own = rest.with_token(&first);
    let seen = own.get("/_apis/tokens/self").is(200).json["patToken"].clone();
    assert_eq!(seen["token"], Value::Null);
    assert_eq!((id(&seen), &seen["limits"]), (id(&pat), &pat["limits"]));
    own.get("/Fabrikam/_apis/Tokens/Self").is(200);

    let rotate = "/_apis/tokens/self/rotate";
    for (change, error, words) in [
        (
            json!({ "scope": "vso.code_full" }),
            "invalidScope",
            ["'scope'", "vso.code_full"],
        ),
        (
            json!({ "scope": "app_token" }),
            "invalidScope",
            ["'scope'", "app_token"],
        ),
        (
            json!({ "scope": "nonsense" }),
            "invalidScope",
            ["'scope'", "nonsense"],
        ),
        (
            json!({ "limits": { "paths": [] } }),
            "invalidTargetAccounts",
            ["'limits.paths'", "wider"],
        ),
        (
            json!({ "limits": { "paths": ["Fabrikam"] } }),
            "invalidTargetAccounts",
            ["'limits.paths'", "wider"],
        ),
        (
            json!({ "limits": { "refs": ["refs/*"] } }),
            "invalidTargetAccounts",
            ["'limits.refs'", "wider"],
        ),
        (
            json!({ "limits": { "networks": ["0.0.0.0/0"] } }),
            "invalidSourceIP",
            ["'limits.networks'", "wider"],
        ),
        (
            json!({ "validTo": "2001-01-01" }),
            "invalidValidTo",
            ["'validTo'", "passed"],
        ),
    ] {
        refused(&own.post(rotate, &change), error, &words);
    }
    own.post(rotate, &json!({ "overlap": "1y" }))
        .says(400, &["'overlap'"]);
    own.post(rotate, &json!({ "displayName": "x" }))
        .says(400, &["displayName"]);
    let still = own.get("/_apis/tokens/self").json["patToken"].clone();
    for field in ["scope", "validTo", "limits", "rotatedOn"] {
        assert_eq!(still[field], seen[field], "nothing has changed");
    }

    let narrower = json!({
        "scope": "vso.code", "overlap": "10m", "validTo": in_days(4000),
        "limits": { "paths": ["Fabrikam/Web"], "refs": ["refs/heads/main"] },
    });
    let (rotated, second) = granted(&own.post(rotate, &narrower).is(200).json, &server);
    assert_eq!((id(&rotated), &rotated["scope"]), (id(&pat), &json!("vso.code")));
    assert_eq!(days_to(&rotated["validTo"]), 365);
    assert_eq!(
        rotated["limits"],
        json!({ "paths": ["Fabrikam/Web"], "refs": ["refs/heads/main"], "networks": ["127.0.0.0/8"] })
    );
    // Both secrets open the same token, with what it has now.
    assert_eq!(
        own.get("/_apis/tokens/self").is(200).json["patToken"]["scope"],
        "vso.code"
    );
    let own = rest.with_token(&second);
    let (_, third) = granted(&own.post(rotate, &json!({})).json, &server);
    let own = rest.with_token(&third);
    own.delete("/_apis/tokens/self").is(204);
    own.get("/_apis/tokens/self").says(401, &["was revoked"]);
    assert_eq!(
        rest.get(&format!("{PATS}?authorizationId={}", id(&pat))).json["patToken"]["revokedBecause"],
        "asked"
    );
}

#[test]
fn of_many_rotations_by_one_secret_one_is_granted() {
    let server = Setup::plain().start();
    signed_in(&server);
    for overlap in [json!({}), json!({ "overlap": "1h" })] {
        let token = server.cli().token("anna", "vso.code");
        let requests: Vec<Curl> = (0..4)
            .map(|_| {
                Curl::get(&server, "/_apis/tokens/self/rotate")
                    .token(&token)
                    .header("Content-Type: application/json")
                    .body(overlap.to_string().as_bytes())
            })
            .collect();
        let mut statuses: Vec<u16> = std::thread::scope(|scope| {
            let all: Vec<_> = requests
                .into_iter()
                .map(|request| scope.spawn(move || request.send().status))
                .collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        statuses.sort_unstable();
        // Without an overlap, one that comes late is not let in any more.
        assert_eq!(statuses[0], 200, "{statuses:?}");
        assert!(
            statuses[1..].iter().all(|status| [401, 403].contains(status)),
            "{statuses:?}"
        );
    }
}

#[test]
fn a_secret_in_its_overlap_can_end_its_token_and_not_renew_it() {
    let server = Setup::plain().start();
    let rest = signed_in(&server);
    let old = server.cli().token("anna", "vso.code");
    let new = server.cli().rotate(&old, &["--overlap", "1h"]);
    let own = rest.with_token(&old);
    let rotate = "/_apis/tokens/self/rotate";
    for body in [json!({}), json!({ "overlap": "7d", "validTo": in_days(300) })] {
        own.post(rotate, &body).says(
            403,
            &["This secret was replaced by a rotation; use the newer one"],
        );
    }
    let seen = rest.with_token(&new).get("/_apis/tokens/self").is(200).json["patToken"].clone();
    assert_eq!(days_to(&seen["validTo"]), 90, "its end has not moved");
    own.get("/_apis/tokens/self").is(200);
    let (_, newest) = granted(
        &rest
            .with_token(&new)
            .post(rotate, &json!({ "overlap": "1h" }))
            .json,
        &server,
    );
    rest.with_token(&new).delete("/_apis/tokens/self").is(204);
    for token in [&new, &newest] {
        rest.with_token(token)
            .get("/_apis/tokens/self")
            .says(401, &["was revoked"]);
    }
}

#[test]
fn any_live_token_and_nothing_else_is_a_self() {
    let server = Setup::plain().start();
    let rest = signed_in(&server);
    for scope in ["vso.work", "vso.graph", "app_token"] {
        let token = server.cli().token("anna", scope);
        let own = rest.with_token(&token);
        assert_eq!(
            own.get("/_apis/tokens/self").is(200).json["patToken"]["tokenId"],
            token.id
        );
    }
    for method in ["GET", "DELETE"] {
        rest.with(None).send(method, "/_apis/tokens/self", None).is(401);
        rest.send(method, "/_apis/tokens/self", None).is(401);
    }
    // Nor does a policy let a token widen its life beyond it.
    server.cli().ok(&["policy", "set", "max-lifetime", "10"]);
    let token = server.cli().token_with("anna", "vso.code", &["--expires", "5d"]);
    let own = rest.with_token(&token);
    let answer = own.post("/_apis/tokens/self/rotate", &json!({ "validTo": in_days(100) }));
    let (rotated, _) = granted(&answer.json, &server);
    assert_eq!(days_to(&rotated["validTo"]), 10);
}
