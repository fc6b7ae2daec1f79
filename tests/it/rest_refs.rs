//! Refs over REST: listed by pages, and moved under the rules of a push.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::rest::Answer;
use crate::harness::{Curl, Git, Rest, Server, Setup, Token};

const REFS: &str = "/P/_apis/git/repositories/repo/refs";
const ZERO: &str = "0000000000000000000000000000000000000000";

/// A server with a repository of two commits on `main`, its folder on disk, and the two.
struct Fixture {
    server: Server,
    token: Token,
    git: Git,
    disk: PathBuf,
    old: String,
    new: String,
}

fn fixture() -> Fixture {
    let (server, git) = (Setup::plain().start(), Git::new());
    let (remote, token) = server.contributor("vso.code_write");
    let source = server.work().join("source");
    git.init(&source);
    git.commit(&source, "file", "one\n");
    let old = git.ok(&source, &["rev-parse", "HEAD"]);
    git.commit(&source, "file", "two\n");
    let new = git.ok(&source, &["rev-parse", "HEAD"]);
    let disk = remote.copy(&git, &source, "repo");
    Fixture {
        server,
        token,
        git,
        disk,
        old,
        new,
    }
}

impl Fixture {
    fn rest(&self) -> Rest<'_> {
        Rest::new(&self.server, &self.token)
    }

    fn git(&self, args: &[&str]) -> String {
        self.git.ok(&self.disk, args)
    }

    fn refs(&self) -> String {
        self.git(&["for-each-ref", "--format=%(refname) %(objectname)"])
    }
}

fn change(name: &str, old: &str, new: &str) -> Value {
    json!({ "name": name, "oldObjectId": old, "newObjectId": new })
}

#[track_caller]
fn statuses(answer: &Answer) -> Vec<&str> {
    answer.is(200);
    for result in answer.list() {
        let status = result["updateStatus"].as_str().unwrap();
        assert_eq!(result["success"], status.starts_with("succeeded"), "{result}");
        assert_eq!(
            result.get("customMessage").is_none(),
            status.starts_with("succeeded"),
            "{result}"
        );
    }
    answer.each("updateStatus")
}

#[test]
fn refs_are_listed_and_filtered() {
    let f = fixture();
    f.git(&["update-ref", "refs/heads/feature/Calc", &f.old]);
    f.git(&["tag", "-m", "annotated", "v1", &f.old]);
    f.git(&["tag", "light", &f.old]);
    f.git(&["update-ref", "refs/hidden/x", &f.old]);
    f.git(&["config", "uploadpack.hideRefs", "refs/hidden"]);
    let rest = f.rest();
    let names = |query: &str| {
        let answer = rest.get(&format!("{REFS}{query}"));
        answer
            .is(200)
            .each("name")
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(""),
        [
            "refs/heads/feature/Calc",
            "refs/heads/main",
            "refs/tags/light",
            "refs/tags/v1"
        ]
    );
    assert_eq!(
        names("?filter=heads/"),
        ["refs/heads/feature/Calc", "refs/heads/main"]
    );
    assert_eq!(
        names("?filter=heads%2Ffeature%2FCalc"),
        ["refs/heads/feature/Calc"]
    );
    assert_eq!(names("/heads/feature/Calc"), ["refs/heads/feature/Calc"]);
    assert!(
        names("/heads/feature/calc").is_empty(),
        "names of refs mind their case"
    );
    assert_eq!(names("?filter=refs/tags"), ["refs/tags/light", "refs/tags/v1"]);
    assert_eq!(names("?filterContains=ain"), ["refs/heads/main"]);
    assert_eq!(names("?filter=tags/&filterContains=1"), ["refs/tags/v1"]);
    assert!(names("?filter=hidden").is_empty());

    let tags = rest.get(&format!(
        "{REFS}?filter=tags/&peelTags=true&includeLinks=true&includeStatuses=true"
    ));
    let (light, v1) = (&tags.list()[0], &tags.list()[1]);
    assert_eq!(v1["peeledObjectId"], f.old);
    assert_ne!(v1["objectId"], f.old);
    assert_eq!(
        (&light["objectId"], &light["peeledObjectId"]),
        (&json!(f.old), &Value::Null)
    );
    assert_eq!(light["statuses"], json!([]));
    let own = v1["url"].as_str().unwrap().strip_prefix(f.server.base()).unwrap();
    assert_eq!(rest.get(own).each("name"), ["refs/tags/v1"]);
    rest.get(&format!("{REFS}?includeMyBranches=true"))
        .says(400, &["'includeMyBranches'"]);
}

#[test]
fn a_long_list_comes_by_pages_and_nothing_is_left_out() {
    let f = fixture();
    let input: String = (0..250)
        .map(|number| format!("create refs/heads/b{number:03} {}\n", f.old))
        .collect();
    f.git
        .feed(&f.disk, &["update-ref", "--stdin"], input.as_bytes())
        .ok();
    let rest = f.rest();
    let mut seen = Vec::new();
    let mut query = "?filter=heads/b&$top=100".to_owned();
    let mut pages = 0;
    loop {
        let page = rest.get(&format!("{REFS}{query}"));
        seen.extend(page.is(200).each("name").into_iter().map(str::to_owned));
        pages += 1;
        match page.reply.header("x-ms-continuationtoken") {
            Some(token) => query = format!("?filter=heads/b&$top=100&continuationToken={token}"),
            None => break,
        }
    }
    assert_eq!((pages, seen.len()), (3, 250));
    assert!(seen.is_sorted());
    assert_eq!(
        rest.get(&format!("{REFS}?filter=heads/b")).list().len(),
        250,
        "all of them without paging"
    );
    for token in ["x", "!!!", "cmVm", "../..", "%00", &"A".repeat(3000)] {
        rest.get(&format!("{REFS}?continuationToken={token}"))
            .says(400, &["'continuationToken'"]);
    }
    for top in ["0", "1001", "-1", "ten", ""] {
        rest.get(&format!("{REFS}?$top={top}"))
            .says(400, &["'$top'", "1 to 1000"]);
    }
}

#[test]
fn branches_and_tags_are_made_moved_and_deleted() {
    let f = fixture();
    let rest = f.rest();
    let answer = rest.post(
        REFS,
        &json!([
            change("refs/heads/new", ZERO, &f.old),
            change("refs/tags/v1", ZERO, &f.new),
            change("refs/heads/main", &f.new, &f.old),
        ]),
    );
    assert_eq!(statuses(&answer), ["succeeded"; 3]);
    assert_eq!(
        answer.list()[0]["repositoryId"],
        rest.get("/P/_apis/git/repositories/repo").json["id"]
    );
    let expected = format!(
        "refs/heads/main {0}\nrefs/heads/new {0}\nrefs/tags/v1 {1}",
        f.old, f.new
    );
    assert_eq!(f.refs(), expected);
    let answer = rest.post(
        REFS,
        &json!([
            change("refs/heads/new", &f.old, ZERO),
            change("refs/heads/absent", &f.old, ZERO),
            change("refs/tags/v1", &f.new, ZERO),
        ]),
    );
    assert_eq!(
        statuses(&answer),
        ["succeeded", "succeededNonExistentRef", "succeeded"]
    );
    assert_eq!(f.refs(), format!("refs/heads/main {}", f.old));
    let events = f.server.cli().json(&["audit", "list"]);
    let event = events
        .as_array()
        .unwrap()
        .iter()
        .find(|event| event["action"] == "git.push")
        .unwrap();
    assert_eq!(
        (&event["account"], &event["subject"]),
        (&json!("anna"), &json!("DefaultCollection/P/repo"))
    );
    assert_eq!(event["details"]["refs"][0]["name"], "refs/heads/new");
}

#[test]
fn what_moves_is_told_as_of_a_push_and_what_does_not_once_a_minute() {
    let f = fixture();
    let rest = f.rest();
    let pushes = || {
        let events = f.server.cli().json(&["audit", "list", "--action", "git.push"]);
        let events = events.as_array().unwrap().iter();
        events.map(|event| event["details"].clone()).collect::<Vec<_>>()
    };
    let long = "x".repeat(200);
    let refused: Vec<Value> = (0..1500)
        .map(|number| change(&format!("refs/heads/{number}/{long}/{long}"), &f.old, &f.new))
        .collect();
    for _ in 0..5 {
        let answer = rest.post(REFS, &Value::Array(refused.clone()));
        assert!(
            statuses(&answer)
                .iter()
                .all(|status| *status == "staleOldObjectId")
        );
    }
    let answer = rest.post(
        REFS,
        &json!([
            change("refs/heads/new", ZERO, &f.old),
            change("refs/heads/main", &f.old, &f.old),
        ]),
    );
    assert_eq!(statuses(&answer), ["succeeded", "staleOldObjectId"]);
    let told = pushes();
    let [moved, unmoved] = told.as_slice() else {
        panic!("{} events", told.len())
    };
    assert_eq!(
        moved,
        &json!({
            "outcome": "partial",
            "commands": 2,
            "refused": 1,
            "refs": [
                { "name": "refs/heads/new", "old": null, "new": f.old, "result": "ok" },
                {
                    "name": "refs/heads/main",
                    "old": f.old,
                    "new": f.old,
                    "result": moved["refs"][1]["result"],
                },
            ],
            "objects": 0,
            "bytes": 0,
        })
    );
    assert_eq!(
        (&unmoved["outcome"], &unmoved["commands"], &unmoved["times"]),
        (&json!("refused"), &json!(1500), &json!(1))
    );
    let kept = unmoved["refs"].as_array().unwrap().len();
    assert!(kept > 100 && kept < 1000, "{kept}");
}

#[test]
fn each_change_that_cannot_be_says_why_and_the_others_are_made() {
    let f = fixture();
    let rest = f.rest();
    let tree = f.git(&["rev-parse", "main^{tree}"]);
    let absent = "1".repeat(40);
    let answer = rest.post(
        REFS,
        &json!([
            change("refs/heads/main", &f.old, &f.old),
            change("refs/heads/main/below", ZERO, &f.old),
            change("refs/heads/other", &f.old, &f.new),
            change("refs/heads/gone", ZERO, &absent),
            change("refs/heads/tree", ZERO, &tree),
            change("refs/tags/tree", ZERO, &tree),
            change("refs/heads/a..b", ZERO, &f.old),
            change("heads/short", ZERO, &f.old),
            change("refs/one", ZERO, &f.old),
            change("HEAD", &f.new, &f.old),
            change("refs/heads/made", ZERO, &f.old),
        ]),
    );
    assert_eq!(
        statuses(&answer),
        [
            "staleOldObjectId",
            "refNameConflict",
            "staleOldObjectId",
            "unresolvableToCommit",
            "unresolvableToCommit",
            "succeeded",
            "invalidRefName",
            "invalidRefName",
            "invalidRefName",
            "invalidRefName",
            "succeeded",
        ]
    );
    assert_eq!(
        f.refs(),
        format!(
            "refs/heads/made {}\nrefs/heads/main {}\nrefs/tags/tree {tree}",
            f.old, f.new
        )
    );
}

#[test]
fn what_a_push_may_not_move_is_not_moved_here() {
    let f = fixture();
    let rest = f.rest();
    f.git(&["branch", "side", &f.old]);
    f.git(&["update-ref", "refs/secret/x", &f.old]);
    f.git(&["config", "receive.hideRefs", "refs/secret"]);
    f.git(&["config", "receive.denyNonFastForwards", "true"]);
    let answer = rest.post(
        REFS,
        &json!([
            change("refs/heads/main", &f.new, ZERO),
            change("refs/secret/x", &f.old, ZERO),
            change("refs/secret/y", ZERO, &f.old),
            change("refs/heads/side", &f.old, &f.new),
        ]),
    );
    assert_eq!(
        statuses(&answer),
        [
            "rejectedByPolicy",
            "rejectedByPolicy",
            "rejectedByPolicy",
            "succeeded"
        ]
    );
    assert!(
        answer.list()[0]["customMessage"]
            .as_str()
            .unwrap()
            .contains("current branch")
    );
    let back = rest.post(REFS, &json!([change("refs/heads/side", &f.new, &f.old)]));
    assert_eq!(statuses(&back), ["forcePushRequired"]);
    f.git(&["config", "receive.denyDeletes", "true"]);
    let delete = rest.post(REFS, &json!([change("refs/heads/side", &f.new, ZERO)]));
    assert_eq!(statuses(&delete), ["rejectedByPolicy"]);
    f.server.cli().limit(
        &f.token,
        &json!({ "paths": [], "refs": ["refs/heads/ci/*"], "networks": [] }),
    );
    let limited = rest.post(
        REFS,
        &json!([
            change("refs/heads/free", ZERO, &f.old),
            change("refs/heads/ci/one", ZERO, &f.old)
        ]),
    );
    assert_eq!(statuses(&limited), ["writePermissionRequired", "succeeded"]);
}

#[test]
fn an_object_that_is_not_whole_gets_no_name() {
    let f = fixture();
    let tree = f.git(&["rev-parse", "main^{tree}"]);
    let lonely = f.git(&["commit-tree", "-m", "lonely", &tree]);
    let broken = f.git.feed(
        &f.disk,
        &["hash-object", "-w", "--literally", "-t", "commit", "--stdin"],
        format!(
            "tree {}\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nx\n",
            "2".repeat(40)
        )
        .as_bytes(),
    );
    let broken = broken.ok();
    let answer = f.rest().post(
        REFS,
        &json!([
            change("refs/heads/broken", ZERO, broken.trim()),
            change("refs/heads/lonely", ZERO, &lonely),
        ]),
    );
    assert_eq!(statuses(&answer), ["unresolvableToCommit", "succeeded"]);
    f.git(&["fsck", "--connectivity-only"]);
}

#[test]
fn to_move_refs_takes_the_scope_and_the_role() {
    let f = fixture();
    let rest = f.rest();
    let body = json!([change("refs/heads/new", ZERO, &f.old)]);
    let reader = rest.with_token(&f.server.cli().token("anna", "vso.code"));
    reader.get(REFS).is(200);
    reader.post(REFS, &body).says(403, &["vso.code_write"]);
    f.server.cli().user("bob");
    f.server
        .cli()
        .ok(&["access", "grant", "bob", "reader", "DefaultCollection/P/repo"]);
    let bob = rest.with_token(&f.server.cli().token("bob", "app_token"));
    bob.get(REFS).is(200);
    bob.post(REFS, &body)
        .is_error(403, "GitNeedsPermissionException")
        .says(403, &["contributor"]);
    assert_eq!(f.refs(), format!("refs/heads/main {}", f.new));
}

#[test]
fn what_makes_no_sense_in_a_change_is_named_with_its_place() {
    let f = fixture();
    let rest = f.rest();
    let good = || change("refs/heads/x", ZERO, &f.old);
    let with = |field: &str, value: Value| {
        let mut other = change("refs/heads/y", ZERO, &f.old);
        other[field] = value;
        json!([good(), other])
    };
    for (body, words) in [
        (json!([]), &["1 to 2000"][..]),
        (json!({}), &["body"]),
        (json!([{ "name": "refs/heads/x" }]), &["[0]", "oldObjectId"]),
        (with("newObjectId", json!("abc")), &["'[1].newObjectId'", "40"]),
        (with("oldObjectId", json!("g".repeat(40))), &["'[1].oldObjectId'"]),
        (with("newObjectId", json!("0".repeat(64))), &["'[1].newObjectId'"]),
        (with("newObjectId", json!(ZERO)), &["'[1].newObjectId'"]),
        (with("isLocked", json!(true)), &["'[1].isLocked'"]),
        (with("isLocked", json!("no")), &["'[1].isLocked'"]),
        (
            with("repositoryId", json!("00000000-0000-4000-8000-000000000000")),
            &["'[1].repositoryId'"],
        ),
        (with("name", json!("")), &["'[1].name'"]),
        (with("name", json!("refs/heads/x")), &["'[1].name'", "twice"]),
        (with("force", json!(true)), &["[1]", "force"]),
        (Value::Array(vec![good(); 3000]), &["1 to 2000"]),
    ] {
        rest.post(REFS, &body).says(400, words);
    }
    assert_eq!(
        f.refs(),
        format!("refs/heads/main {}", f.new),
        "nothing of a request that makes no sense is done"
    );
}

#[test]
fn of_many_that_move_one_ref_at_once_one_wins() {
    let f = fixture();
    let requests: Vec<Curl> = (0..8)
        .map(|number| {
            let name = format!("refs/heads/winner{number}");
            let body = json!([
                change("refs/heads/main", &f.new, &f.old),
                change(&name, ZERO, &f.new)
            ]);
            Curl::get(&f.server, &format!("{REFS}?api-version=7.1"))
                .token(&f.token)
                .header("Content-Type: application/json")
                .body(body.to_string().as_bytes())
        })
        .collect();
    let answers: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = requests
            .into_iter()
            .map(|request| {
                scope.spawn(move || {
                    let reply = request.send();
                    let all: Value = serde_json::from_slice(&reply.is(200).body).unwrap();
                    assert_eq!(all["value"][1]["updateStatus"], "succeeded");
                    all["value"][0]["updateStatus"].as_str().unwrap().to_owned()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(
        answers.iter().filter(|status| *status == "succeeded").count(),
        1,
        "{answers:?}"
    );
    assert!(
        answers
            .iter()
            .all(|status| ["succeeded", "staleOldObjectId", "locked"].contains(&status.as_str()))
    );
    assert_eq!(f.refs().lines().count(), 9);
}
