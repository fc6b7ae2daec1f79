//! Tokens of others, seen and revoked over REST by administrators.

use serde_json::{Value, json};

use crate::harness::cli::{PASSWORD, basic};
use crate::harness::{Git, Rest, Server, Setup, Token};

const TOKENS: &str = "/_apis/tokenadmin/personalaccesstokens";
const REVOCATIONS: &str = "/_apis/tokenadmin/revocations";
const RULES: &str = "/_apis/tokenadmin/revocationrules";

/// A server with the administrator root, whose token is for administering tokens, and the contributor anna with another.
struct Fixture {
    server: Server,
    root: Token,
    anna: Token,
}

impl Fixture {
    fn new() -> Fixture {
        let server = Setup::plain().start();
        server.cli().administrator("root");
        let root = server.cli().token("root", "vso.tokenadministration");
        let (_, anna) = server.contributor("vso.code_write");
        server.cli().ok(&["repo", "create", "P/repo"]);
        Fixture { server, root, anna }
    }

    fn rest(&self) -> Rest<'_> {
        Rest::new(&self.server, &self.root)
    }

    /// What REST calls a token, as the list of its owner's has it.
    fn authorization(&self, owner: &str, token: &Token) -> Value {
        let entry = self.listed(owner, token);
        entry["authorizationId"].clone()
    }

    fn listed(&self, owner: &str, token: &Token) -> Value {
        let name = self.server.cli().json(&["token", "show", &token.id])["name"].clone();
        let list = self.rest().get(&format!("{TOKENS}/{owner}?pageSize=1000"));
        let entries = list.is(200).json["value"].as_array().unwrap().clone();
        entries
            .into_iter()
            .find(|entry| entry["displayName"] == name)
            .unwrap()
    }

    fn named(&self, owner: &str, scope: &str, name: &str) -> Token {
        let token = self.server.cli().token(owner, scope);
        self.server
            .cli()
            .ok(&["token", "update", &token.id, "--name", name]);
        token
    }

    fn ls_remote(&self, token: &Token) -> crate::harness::Run {
        let url = self.server.remote(token).url("repo");
        Git::new().run(&self.server.work(), &["ls-remote", &url])
    }
}

#[test]
fn an_account_s_tokens_are_listed_as_azure_devops_lists_them() {
    let f = Fixture::new();
    let rest = f.rest();
    let data = rest.with_token(&f.anna).get("/_apis/connectionData").json.clone();
    let user = &data["authenticatedUser"];
    let descriptor = user["subjectDescriptor"].as_str().unwrap();
    let list = rest
        .get(&format!("/acme{TOKENS}/{descriptor}"))
        .is(200)
        .json
        .clone();
    assert_eq!(list["continuationToken"], Value::Null);
    let entry = &list["value"][0];
    let zeros = "00000000-0000-0000-0000-000000000000";
    let shown = f.server.cli().json(&["token", "show", &f.anna.id]);
    assert_eq!(
        entry,
        &json!({
            "clientId": zeros, "accessId": zeros, "hostAuthorizationId": zeros,
            "authorizationId": entry["authorizationId"], "userId": user["id"],
            "validFrom": shown["created_at"], "validTo": shown["expires_at"],
            "displayName": "test", "scope": "vso.code_write", "targetAccounts": null, "token": null,
            "alternateToken": null, "isValid": true, "isPublic": false, "publicData": null, "source": null,
        })
    );
    for name in [
        "anna",
        "ANNA",
        user["id"].as_str().unwrap(),
        &descriptor.to_uppercase().replace("PG.", "pg."),
    ] {
        assert_eq!(rest.get(&format!("{TOKENS}/{name}")).is(200).json, list, "{name}");
    }
    assert_eq!(
        rest.get(&format!("{TOKENS}/anna?isPublic=true")).is(200).json["value"],
        json!([])
    );
    for name in ["nobody", "pg.", "pg.x", zeros, "me", "%00", "a%2fb"] {
        rest.get(&format!("{TOKENS}/{name}")).says(404, &["no account"]);
    }
}

#[test]
fn what_ended_is_listed_as_not_valid_and_limits_as_collections() {
    let f = Fixture::new();
    let cli = f.server.cli();
    let limited = f.named("anna", "vso.code", "limited");
    cli.limit(
        &limited,
        &json!({ "paths": ["Fab/Web", "fab", "Payroll/A/B"], "refs": [], "networks": [] }),
    );
    let collections = f.listed("anna", &limited)["targetAccounts"].clone();
    assert_eq!(collections.as_array().unwrap().len(), 2, "{collections}");
    let (revoked, expired) = (f.named("anna", "vso.code", "r"), f.named("anna", "vso.code", "e"));
    cli.ok(&["token", "revoke", &revoked.id]);
    cli.expire(&expired);
    for token in [&revoked, &expired] {
        assert_eq!(f.listed("anna", token)["isValid"], false);
    }
    assert_eq!(f.listed("anna", &limited)["isValid"], true);
    cli.ok(&["token", "rule", "add", "--scope", "vso.code", "--before", "now"]);
    assert!(f.listed("anna", &limited)["isValid"].is_boolean());
    cli.ok(&["user", "disable", "anna"]);
    assert_eq!(f.listed("anna", &limited)["isValid"], false);
}

#[test]
fn pages_go_on_where_the_one_before_ended() {
    let f = Fixture::new();
    let rest = f.rest();
    for number in 0..6 {
        f.named("anna", "vso.code", &format!("token {number}"));
    }
    let mut names = Vec::new();
    let mut from = String::new();
    loop {
        let page = rest
            .get(&format!("{TOKENS}/anna?pageSize=3{from}"))
            .is(200)
            .json
            .clone();
        let entries = page["value"].as_array().unwrap();
        names.extend(
            entries
                .iter()
                .map(|entry| entry["displayName"].as_str().unwrap().to_owned()),
        );
        let Some(token) = page["continuationToken"].as_str() else {
            break;
        };
        assert_eq!(entries.len(), 3);
        // What is made or revoked in between moves nothing.
        f.named("anna", "vso.code", &format!("later {}", names.len()));
        from = format!("&continuationToken={token}");
    }
    assert_eq!(names[..2], ["test", "token 0"]);
    assert_eq!(names.len(), 9, "{names:?}");
    let roots = f.authorization("root", &f.root);
    for token in [
        "x",
        "",
        "00000000-0000-8000-8000-000000000000",
        "41414141-0000-8000-8000-000041414141",
        roots.as_str().unwrap(),
    ] {
        rest.get(&format!("{TOKENS}/anna?continuationToken={token}"))
            .says(400, &["'continuationToken'"]);
    }
    for size in ["0", "1001", "-1", "x", ""] {
        rest.get(&format!("{TOKENS}/anna?pageSize={size}"))
            .says(400, &["'pageSize'"]);
    }
}

#[test]
fn tokens_are_revoked_together_or_not_at_all() {
    let f = Fixture::new();
    let rest = f.rest();
    let second = f.named("anna", "vso.code", "second");
    f.server
        .cli()
        .ok(&["token", "update", &f.anna.id, "--name", "first"]);
    let entry = |id: &Value| json!({ "authorizationId": id });
    let ids = [f.authorization("anna", &f.anna), f.authorization("anna", &second)];
    let nobody = json!("41414141-0000-8000-8000-000041414141");
    for unknown in [&nobody, &json!("00000000-0000-0000-0000-000000000000")] {
        rest.post(REVOCATIONS, &json!([entry(&ids[0]), entry(unknown)]))
            .says(404, &["'[1].authorizationId'", "None was revoked"]);
    }
    f.ls_remote(&f.anna).ok();
    f.server.cli().ok(&["token", "revoke", &second.id]);
    let all = json!([entry(&ids[1]), entry(&ids[0]), entry(&ids[0])]);
    rest.post(REVOCATIONS, &all).is(204);
    f.ls_remote(&f.anna)
        .failed()
        .says("was revoked")
        .says("by an administrator");
    rest.post(REVOCATIONS, &all).is(204);
    let events = f
        .server
        .cli()
        .json(&["audit", "list", "--action", "token.revoke"]);
    assert_eq!(events.as_array().unwrap().len(), 2, "{events}");
    assert_eq!(events[0]["account"], "root");
    assert_eq!(events[0]["subject"], f.anna.id);

    for (body, words) in [
        (json!([]), &["0 entries"][..]),
        (json!(vec![entry(&ids[0]); 1001]), &["1001 entries"]),
        (json!({ "authorizationId": ids[0] }), &["body"]),
        (json!([{}]), &["`authorizationId`"]),
        (json!([{ "authorizationId": "x" }]), &["'[0].authorizationId'"]),
        (json!([{ "authorizationId": 5 }]), &["'[0].authorizationId'"]),
        (json!([{ "authorizationId": ids[0], "x": 1 }]), &["`x`"]),
    ] {
        rest.post(REVOCATIONS, &body).says(400, words);
    }
    rest.post(&format!("{REVOCATIONS}?isPublic=true"), &json!([entry(&ids[0])]))
        .says(400, &["'isPublic'"]);
}

#[test]
fn all_tokens_of_an_account_are_revoked_at_once() {
    let f = Fixture::new();
    let second = f.server.cli().token("anna", "vso.code");
    f.rest().delete(&format!("{TOKENS}/anna")).is(204);
    for token in [&f.anna, &second] {
        f.ls_remote(token)
            .failed()
            .says("was revoked")
            .says("by an administrator");
    }
    f.rest().delete(&format!("{TOKENS}/anna")).is(204);
    f.rest().delete(&format!("{TOKENS}/nobody")).is(404);
    f.rest().get(&format!("{TOKENS}/root")).is(200);
}

#[test]
fn a_rule_refuses_what_was_made_before_it_and_is_taken_back() {
    let f = Fixture::new();
    let rest = f.rest();
    f.server.cli().age(&f.anna, 1);
    f.ls_remote(&f.anna).ok();
    let before = "2018-07-18T00:51:26.5557358-07:00";
    rest.post(
        RULES,
        &json!({ "scopes": "vso.code vso.packaging", "createdBefore": before }),
    )
    .is(201);
    f.ls_remote(&f.anna).ok();
    rest.post(RULES, &json!({ "scopes": "vso.code" })).is(201);
    f.ls_remote(&f.anna).failed().says("rule");
    let rules = rest.get(RULES).is(200).list().to_vec();
    assert_eq!(rules.len(), 2);
    assert_eq!(rules[0]["scopes"], "vso.code vso.packaging");
    assert_eq!(rules[0]["createdBefore"], "2018-07-18T07:51:27Z");
    assert_eq!(f.listed("anna", &f.anna)["isValid"], false);
    rest.delete(&format!("{RULES}/{}", rules[1]["id"])).is(204);
    f.ls_remote(&f.anna).ok();
    rest.delete(&format!("{RULES}/{}", rules[1]["id"])).is(404);
    rest.delete(&format!("{RULES}/x")).is(404);
    let events = f
        .server
        .cli()
        .json(&["audit", "list", "--action", "revocation-rule.*"]);
    assert_eq!(events.as_array().unwrap().len(), 3);
    assert_eq!(events[0]["account"], "root");

    for (body, words) in [
        (json!({}), &["`scopes`"][..]),
        (json!({ "scopes": "" }), &["'scopes'"]),
        (json!({ "scopes": " " }), &["'scopes'"]),
        (json!({ "scopes": "vso.nonsense" }), &["'scopes'", "vso.nonsense"]),
        (json!({ "scopes": ["vso.code"] }), &["'scopes'"]),
        (
            json!({ "scopes": "vso.code", "createdBefore": "now" }),
            &["'createdBefore'"],
        ),
        (
            json!({ "scopes": "vso.code", "createdBefore": 5 }),
            &["'createdBefore'"],
        ),
        (
            json!({ "scopes": "vso.code", "createdBefore": "2999-01-01T00:00:00Z" }),
            &["'createdBefore'", "passed"],
        ),
        (
            json!({ "scopes": "vso.code", "createdAfter": before }),
            &["`createdAfter`"],
        ),
    ] {
        rest.post(RULES, &body).says(400, words);
    }
    rest.post(RULES, &json!({ "scopes": "x".repeat(1 << 20) }))
        .is(413);
    rest.post(
        RULES,
        &json!({ "scopes": "vso.packaging", "createdBefore": null }),
    )
    .is(201);
}

#[test]
fn only_an_administrator_s_token_of_the_right_scope_gets_there() {
    let f = Fixture::new();
    let cli = f.server.cli();
    let rest = f.rest();
    let limited = cli.token("root", "vso.tokenadministration");
    cli.limit(&limited, &json!({ "paths": ["Fab"], "refs": [], "networks": [] }));
    let callers = [
        (cli.token("anna", "app_token").basic(""), 403),
        (cli.token("anna", "vso.tokenadministration").basic(""), 403),
        (cli.token("root", "vso.code_full").basic(""), 403),
        (cli.token("root", "user_impersonation").basic(""), 403),
        (limited.basic(""), 403),
        (basic("root", PASSWORD), 401),
    ];
    let body = json!([{ "authorizationId": f.authorization("anna", &f.anna) }]);
    for (authorization, status) in &callers {
        let rest = rest.with(Some(authorization));
        rest.get(&format!("{TOKENS}/anna")).is(*status);
        rest.get(&format!("{TOKENS}/nobody")).is(*status);
        rest.delete(&format!("{TOKENS}/anna")).is(*status);
        rest.post(REVOCATIONS, &body).is(*status);
        rest.post(RULES, &json!({ "scopes": "vso.code" })).is(*status);
        rest.get(RULES).is(*status);
        rest.delete(&format!("{RULES}/1")).is(*status);
        rest.get("/_apis/audit/auditlog").is(*status);
        rest.get("/_apis/audit/actions").is(*status);
    }
    rest.with(None).get(&format!("{TOKENS}/anna")).is(401);
    rest.get("/_apis/audit/auditlog").says(403, &["vso.auditlog"]);
    f.ls_remote(&f.anna).ok();
    rest.with_token(&cli.token("root", "app_token"))
        .get(&format!("{TOKENS}/anna"))
        .is(200);
}
