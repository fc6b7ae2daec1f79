//! What refusals leave in the audit trail.

use super::*;
use crate::auth::policy;
use crate::store::{AuditAction, AuditEvent, AuditFilter, NewAuditEvent};

impl Fixture {
    /// The events of one action, oldest first.
    fn events(&self, action: AuditAction) -> Vec<AuditEvent> {
        self.gate.flush();
        let filter = AuditFilter {
            actions: vec![action],
            newest_first: false,
            ..AuditFilter::latest(1000)
        };
        self.elsewhere.audit_events(&filter).unwrap()
    }

    fn refusals(&self) -> Vec<String> {
        let tell = |event: AuditEvent| {
            let Actor::Client(requester) = &event.actor else {
                panic!("{event:?}");
            };
            format!(
                "{} {} {} {} {} {}",
                event.actor,
                requester.token.as_ref().unwrap(),
                event.subject,
                event.details["reason"].as_str().unwrap(),
                event.details["operation"].as_str().unwrap_or("-"),
                event.details["times"]
            )
        };
        self.events(AuditAction::TokenRefuse)
            .into_iter()
            .map(tell)
            .collect()
    }
}

#[test]
fn a_known_token_that_opens_nothing_is_noted_with_its_owner_and_the_reason() {
    let f = fixture();
    let (revoked, plain) = f.token("bob", "vso.code");
    f.elsewhere
        .revoke_token(&CLI, &revoked, RevokeReason::Asked)
        .unwrap();
    let client = Client::new(CLIENT, Some(b"git/2.47.3"));
    for _ in 0..3 {
        let outcome = f.gate.authenticate(Some(&bearer(plain.expose())), client.clone());
        refused(outcome, 401);
    }
    let (expired, plain) = f.token("bob", "vso.code");
    f.clock.advance(Duration::from_secs(91 * 24 * 3600));
    refused(f.authenticate(&plain), 401);
    assert_eq!(
        f.refusals(),
        [
            format!("bob {revoked} {revoked} revoked - 1"),
            format!("bob {expired} {expired} expired - 1"),
        ]
    );
    let expected = Requester {
        account: Some("bob".to_owned()),
        token: Some(revoked.clone()),
        address: Some(CLIENT),
        agent: Some("git/2.47.3".to_owned()),
    };
    assert_eq!(
        f.events(AuditAction::TokenRefuse)[0].actor,
        Actor::Client(expected)
    );
    f.gate.shutdown();
    assert_eq!(
        f.refusals()[2..],
        [format!("anonymous {revoked} {revoked} revoked - 2")],
        "what was left out is told of in the end"
    );
}

#[test]
fn what_is_no_known_token_leaves_no_refusal() {
    let f = fixture();
    let unknown = PlainToken::generate().unwrap();
    refused(f.authenticate(&unknown), 401);
    refused(f.gate.authenticate(None, CLIENT), 401);
    refused(f.gate.authenticate(Some(b"Basic !!!"), CLIENT), 401);
    f.gate.shutdown();
    assert!(f.refusals().is_empty());
}

#[test]
fn a_refused_operation_is_noted_once_a_minute_for_each_reason_and_repository() {
    let f = fixture();
    f.grant(Some("bob"), "C/P/R", Role::Reader);
    let (id, plain) = f.token("bob", "vso.code_write");
    let principal = f.authenticate(&plain).unwrap();
    let push = |asked: Option<&RepoPath>, located: Option<&RepoPath>| {
        let refusal = f.gate.authorize_push(&principal, located).unwrap_err();
        f.gate
            .note_refusal(&principal, Operation::Push, located, asked, &refusal);
    };
    let (here, hidden, nowhere) = (
        repo(),
        RepoPath::parse("C/P/Hidden").unwrap(),
        RepoPath::parse("C/P/No").unwrap(),
    );
    for _ in 0..5 {
        push(Some(&here), Some(&here));
        push(Some(&hidden), Some(&hidden));
        push(Some(&nowhere), None);
    }
    push(None, None);
    assert_eq!(
        f.refusals(),
        [
            format!("bob {id} C/P/R role push 1"),
            format!("bob {id} C/P/Hidden not-found push 1"),
            format!("bob {id} {id} not-found push 1"),
        ]
    );
    let asked: Vec<_> = f
        .events(AuditAction::TokenRefuse)
        .iter()
        .map(|event| event.details["asked"].clone())
        .collect();
    assert_eq!(asked, [json!(null), json!(null), json!("C/P/No")]);
    f.clock.advance(Duration::from_secs(60));
    push(Some(&here), Some(&here));
    assert_eq!(f.refusals()[3..], [format!("bob {id} C/P/R role push 5")]);
}

#[test]
fn pushes_of_which_nothing_moved_are_noted_once_a_minute_for_each_end_and_repository() {
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Contributor);
    let (_, plain) = f.token("bob", "vso.code_write");
    let principal = f.authenticate(&plain).unwrap();
    let push = |path: &str, end: &'static str| {
        let repository = RepoPath::parse(path).unwrap();
        let grant = f.gate.authorize_push(&principal, Some(&repository)).unwrap();
        let details = || json!({ "outcome": end, "refs": ["x"] });
        f.gate.note_unmoved(&grant, end, details);
    };
    let told = || -> Vec<String> {
        let events = f.events(AuditAction::GitPush);
        let tell = |event: AuditEvent| {
            let AuditEvent {
                actor,
                subject,
                details,
                ..
            } = event;
            format!("{actor} {subject} {} {}", details["outcome"], details["times"])
        };
        events.into_iter().map(tell).collect()
    };
    for _ in 0..50 {
        push("C/P/R", "refused");
    }
    push("C/P/R", "interrupted");
    push("C/P/Other", "refused");
    let first = [
        "bob C/P/R \"refused\" 1",
        "bob C/P/R \"interrupted\" 1",
        "bob C/P/Other \"refused\" 1",
    ];
    assert_eq!(told(), first);
    f.clock.advance(Duration::from_secs(60));
    push("C/P/R", "refused");
    assert_eq!(told()[3..], ["bob C/P/R \"refused\" 50"]);
    push("C/P/R", "refused");
    f.gate.shutdown();
    assert_eq!(told()[4..], ["bob C/P/R \"refused\" 1"]);
}

#[test]
fn an_address_that_has_to_wait_is_noted_once() {
    let f = fixture();
    let guess = || f.authenticate(&PlainToken::generate().unwrap()).unwrap_err();
    for _ in 0..19 {
        guess();
    }
    assert!(f.events(AuditAction::CredentialRefuse).is_empty());
    for _ in 0..10 {
        guess();
    }
    let events = f.events(AuditAction::CredentialRefuse);
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].subject.as_str(), &events[0].details),
        ("192.0.2.1", &json!({ "failures": 20 }))
    );
    assert_eq!(events[0].actor.to_string(), "anonymous");
}

#[test]
fn a_sweep_tells_of_tokens_that_ended_and_of_refusals_that_were_left_out() {
    let f = fixture();
    let (id, plain) = f.token("bob", "vso.code");
    f.gate.sweep(f.clock.now());
    assert!(f.events(AuditAction::TokenExpire).is_empty());
    f.clock.advance(Duration::from_secs(91 * 24 * 3600));
    for _ in 0..3 {
        refused(f.authenticate(&plain), 401);
    }
    f.gate.sweep(f.clock.now());
    f.gate.sweep(f.clock.now());
    let events = f.events(AuditAction::TokenExpire);
    assert_eq!(events.len(), 1, "once");
    assert_eq!(events[0].subject, id.as_str());
    assert_eq!(f.refusals().len(), 1, "its minute is not over");
    f.clock.advance(Duration::from_secs(60));
    f.gate.sweep(f.clock.now());
    f.gate.sweep(f.clock.now());
    assert_eq!(f.refusals()[1..], [format!("anonymous {id} {id} expired - 2")]);
}

#[test]
fn a_sweep_takes_as_many_transactions_as_it_needs() {
    let f = fixture();
    for _ in 0..501 {
        f.token("bob", "vso.code");
    }
    f.clock.advance(Duration::from_secs(91 * 24 * 3600));
    f.gate.sweep(f.clock.now());
    assert_eq!(f.events(AuditAction::TokenExpire).len(), 501);
}

#[test]
fn a_sweep_removes_what_is_older_than_the_policy_says_and_tells_so_once_a_day() {
    let f = fixture();
    let day = |number: i64, second: i64| {
        Timestamp::from_second(20_000 * 86_400 + number * 86_400 + second).unwrap()
    };
    let fetch = |at| NewAuditEvent {
        at,
        actor: CLI,
        action: AuditAction::GitFetch,
        subject: at.to_string(),
        details: json!({}),
    };
    let times = [day(0, 0), day(0, 86_399), day(1, 0), day(1, 1), day(9, 0)];
    f.elsewhere.record_batch(&[], &times.map(fetch)).unwrap();
    let left = || {
        let fetches = f.events(AuditAction::GitFetch);
        fetches.into_iter().map(|event| event.at).collect::<Vec<_>>()
    };
    f.gate.sweep(day(1000, 0));
    assert_eq!(left(), times, "kept for ever, unless somebody says otherwise");
    let set = |value: &str| {
        let setting = policy::Setting::parse(policy::Name::AuditRetention, value).unwrap();
        policy::set(&f.elsewhere, &CLI, None, &setting).unwrap();
    };
    set("7");
    f.gate.sweep(day(7, 86_399));
    assert_eq!(left(), times);
    f.gate.sweep(day(8, 0));
    assert_eq!(left(), times[2..], "a day is kept to its end");
    f.gate.sweep(day(8, 3600));
    f.gate.sweep(day(8, 86_399));
    let told = |f: &Fixture| {
        let events = f.events(AuditAction::AuditPrune);
        events.into_iter().map(|event| event.details).collect::<Vec<_>>()
    };
    let expected = json!({ "events": 2, "before": day(1, 0).to_string() });
    assert_eq!(told(&f), [expected]);
    f.gate.sweep(day(9, 0));
    assert_eq!((left(), told(&f).len()), (times[4..].to_vec(), 2));
    set("off");
    f.gate.sweep(day(1000, 0));
    assert_eq!(left(), times[4..]);
}

#[test]
fn a_long_trail_is_removed_in_many_small_transactions() {
    let f = fixture();
    let old = NewAuditEvent {
        at: Timestamp::from_second(1).unwrap(),
        actor: CLI,
        action: AuditAction::GitFetch,
        subject: "C/P/R".to_owned(),
        details: json!({}),
    };
    f.elsewhere.record_batch(&[], &vec![old; 1001]).unwrap();
    let setting = policy::Setting::parse(policy::Name::AuditRetention, "1").unwrap();
    policy::set(&f.elsewhere, &CLI, None, &setting).unwrap();
    f.gate.sweep(f.clock.now());
    assert!(f.events(AuditAction::GitFetch).is_empty());
    assert_eq!(f.events(AuditAction::AuditPrune)[0].details["events"], 1001);
}

#[test]
fn a_date_that_jumps_takes_nothing_away_at_once() {
    let f = fixture();
    let old = NewAuditEvent {
        at: f.clock.now(),
        actor: CLI,
        action: AuditAction::GitFetch,
        subject: "C/P/R".to_owned(),
        details: json!({}),
    };
    f.elsewhere.record_batch(&[], &[old]).unwrap();
    let (id, _) = f.token("bob", "vso.code");
    for (name, value) in [("audit-retention", "30"), ("revoke-unused", "30")] {
        let setting = policy::Setting::parse(name.parse().unwrap(), value).unwrap();
        policy::set(&f.elsewhere, &CLI, None, &setting).unwrap();
    }
    let sweep = || {
        f.gate.sweep(f.clock.now());
        let token = f.elsewhere.find_token(&id).unwrap().unwrap();
        (
            token.revoked_at.is_some(),
            f.events(AuditAction::GitFetch).is_empty(),
        )
    };
    let hour = Duration::from_secs(3600);
    let right = f.clock.now();
    assert_eq!(sweep(), (false, false));
    f.clock.advance(hour);
    f.clock.set_date(right + SignedDuration::from_hours(24 * 60));
    assert_eq!(sweep(), (false, false), "two months in an hour");
    f.clock.advance(hour);
    f.clock.set_date(right + hour * 2);
    assert_eq!(sweep(), (false, false), "and back");
    f.clock.advance(hour);
    assert_eq!(sweep(), (false, false), "nothing is due");
    f.clock.advance(hour * 24 * 60);
    assert_eq!(sweep(), (true, true), "what time does, it does");
}
