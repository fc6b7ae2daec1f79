//! The audit trail: filters, batches and removal.

use std::iter;

use super::*;

/// 2027-01-15T08:00:00Z, and so many seconds later.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn client(account: Option<&str>, token: Option<&str>) -> Actor {
    Actor::Client(Requester {
        account: account.map(str::to_owned),
        token: token.map(token_id),
        address: Some([192, 0, 2, 1].into()),
        agent: None,
    })
}

fn event(second: i64, actor: Actor, action: AuditAction, subject: &str) -> NewAuditEvent {
    NewAuditEvent {
        at: at(second),
        actor,
        action,
        subject: subject.to_owned(),
        details: json!({}),
    }
}

impl Fixture {
    fn record(&self, events: &[NewAuditEvent]) {
        self.store.record_batch(&[], events).unwrap();
    }

    fn subjects(&self, filter: &AuditFilter) -> Vec<String> {
        let events = self.store.audit_events(filter).unwrap();
        events.into_iter().map(|event| event.subject).collect()
    }
}

/// What the filters mean, said a second time: by looking at every event.
fn lets_through(filter: &AuditFilter, event: &AuditEvent) -> bool {
    let nobody = Requester::default();
    let requester = match &event.actor {
        Actor::Client(requester) => requester,
        _ => &nobody,
    };
    let family = event.action.split('.').next().unwrap();
    let is_same = |name: &str| name.to_lowercase() == event.subject.to_lowercase();
    let of_token = |id: &TokenId| {
        requester.token.as_ref() == Some(id) || (family == "token" && event.subject == id.as_str())
    };
    let of_account = |name: &String| {
        let by = requester.account.as_ref();
        by.is_some_and(|by| by.to_lowercase() == name.to_lowercase())
            || (family == "account" && is_same(name))
            || event.details["account"]
                .as_str()
                .is_some_and(|about| about.to_lowercase() == name.to_lowercase())
    };
    let of_path = |path: &AccessPath| {
        let has_path =
            ["access", "git", "policy", "repository"].contains(&family) || event.action == "token.refuse";
        let key = path.key();
        has_path && (is_same(&key) || event.subject.to_lowercase().starts_with(&format!("{key}/")))
    };
    filter.since.is_none_or(|since| event.at >= since)
        && filter.until.is_none_or(|until| event.at < until)
        && filter.after_id.is_none_or(|id| event.id > id)
        && filter.before_id.is_none_or(|id| event.id < id)
        && (filter.actions.is_empty()
            || filter
                .actions
                .iter()
                .any(|action| action.as_str() == event.action))
        && filter.token.as_ref().is_none_or(of_token)
        && filter.account.as_ref().is_none_or(of_account)
        && filter.path.as_ref().is_none_or(of_path)
}

#[test]
fn every_combination_of_filters_lists_exactly_what_it_means() {
    let f = fixture();
    f.account("Bob");
    let actors = [
        client(Some("Bob"), Some("AAAAAAAA")),
        client(Some("Bob"), Some("aaaaaaaa")),
        client(Some("eve"), Some("BBBBBBBB")),
        client(None, None),
        CLI,
        Actor::Server,
    ];
    let actions = [
        AuditAction::GitFetch,
        AuditAction::GitPush,
        AuditAction::TokenRevoke,
        AuditAction::TokenRefuse,
        AuditAction::AccountDisable,
        AuditAction::AccessGrant,
        AuditAction::PolicySet,
    ];
    // "C", "bob" and "AAAAAAAA" can each be the name of an account, a collection or, the last, a token.
    let subjects = [
        "C", "c/p", "C/P/R", "C/P/R2", "C/P2/R", "C0/P/R", "bob", "AAAAAAAA", "AAAAaaaa", "/",
    ];
    let mut events = Vec::new();
    for (number, actor) in iter::zip(0.., &actors) {
        for action in actions {
            for subject in subjects {
                // The clock goes back now and then.
                let mut event = event((number * 7) % 20, actor.clone(), action, subject);
                if number % 3 == 0 {
                    event.details = json!({ "account": "BoB" });
                }
                events.push(event);
            }
        }
    }
    f.record(&events);
    let all = f.store.audit_events(&AuditFilter::latest(u32::MAX)).unwrap();
    assert_eq!(all.len(), events.len() + 1, "and the account that was made");

    let some = |items: &[&str]| -> Vec<Option<String>> {
        iter::once(None)
            .chain(items.iter().map(|item| Some((*item).to_owned())))
            .collect()
    };
    let mut found = 0;
    for token in some(&["AAAAAAAA", "ZZZZZZZZ"]) {
        for path in some(&["C", "C/P", "C/P/R", "bob", "AAAAAAAA", "/"]) {
            for account in some(&["BOB", "eve"]) {
                for actions in [
                    vec![],
                    vec![AuditAction::GitPush],
                    AuditAction::matching("token.*").unwrap(),
                ] {
                    for (since, until, after_id, before_id) in [
                        (None, None, None, None),
                        (Some(at(5)), Some(at(15)), None, None),
                        (None, Some(at(1)), Some(100), Some(250)),
                        (Some(at(1000)), None, None, None),
                    ] {
                        for (newest_first, count_max) in [(true, 7), (false, 3), (true, u32::MAX)] {
                            let path = path.as_deref().map(access_path);
                            let filter = AuditFilter {
                                since,
                                until,
                                actions: actions.clone(),
                                token: token.as_deref().map(token_id),
                                // The server's path is no filter.
                                path: path.filter(|path| *path != AccessPath::Server),
                                account: account.clone(),
                                after_id,
                                before_id,
                                newest_first,
                                count_max,
                            };
                            let mut expected: Vec<&AuditEvent> =
                                all.iter().filter(|event| lets_through(&filter, event)).collect();
                            if !newest_first {
                                expected.reverse();
                            }
                            expected.truncate(usize::try_from(count_max).unwrap());
                            let listed = f.store.audit_events(&filter).unwrap();
                            assert_eq!(listed.iter().collect::<Vec<_>>(), expected, "{filter:?}");
                            found += listed.len();
                        }
                    }
                }
            }
        }
    }
    assert!(found > 1000, "the filters let something through: {found}");
}

#[test]
fn what_is_done_to_a_collection_and_to_an_account_is_found_by_them() {
    let f = fixture();
    let bob = f.account("Bob");
    f.token(&bob, "AAAAAAAA");
    f.store
        .grant_access(&CLI, Some("bob"), &access_path("C/P"), Role::Reader)
        .unwrap();
    f.store
        .revoke_tokens_of(&CLI, "bob", RevokeReason::Administrator)
        .unwrap();
    f.store.set_policy(&CLI, Some("C"), "creation", "nobody").unwrap();
    f.store.set_policy(&CLI, Some("D"), "creation", "nobody").unwrap();
    f.store.set_policy(&CLI, None, "creation", "nobody").unwrap();
    f.store.remove_policy(&CLI, Some("c"), "creation").unwrap();
    let actions = |filter: AuditFilter| -> Vec<String> {
        let events = f.store.audit_events(&filter).unwrap().into_iter().rev();
        events
            .map(|event| format!("{} {}", event.action, event.subject))
            .collect()
    };
    let of_bob = AuditFilter {
        account: Some("BOB".to_owned()),
        ..AuditFilter::latest(100)
    };
    assert_eq!(
        actions(of_bob),
        [
            "account.create Bob",
            "token.create AAAAAAAA",
            "access.grant C/P",
            "token.revoke AAAAAAAA"
        ]
    );
    let of_collection = AuditFilter {
        path: Some(access_path("C")),
        ..AuditFilter::latest(100)
    };
    assert_eq!(
        actions(of_collection),
        ["access.grant C/P", "policy.set C", "policy.remove c"]
    );
}

#[test]
fn the_path_of_the_server_lets_everything_through() {
    let f = fixture();
    f.account("bob");
    let filter = AuditFilter {
        path: Some(AccessPath::Server),
        ..AuditFilter::latest(9)
    };
    assert_eq!(f.subjects(&filter), ["bob"]);
}

#[test]
fn a_trail_can_be_paged_through_and_followed() {
    let f = fixture();
    let push = |second| event(second, CLI, AuditAction::GitPush, &format!("C/P/R{second}"));
    f.record(&(0..5).map(push).collect::<Vec<_>>());
    let mut filter = AuditFilter::latest(2);
    let mut pages = Vec::new();
    loop {
        let page = f.store.audit_events(&filter).unwrap();
        let Some(last) = page.last() else { break };
        filter.before_id = Some(last.id);
        pages.extend(page.into_iter().map(|event| event.subject));
    }
    assert_eq!(pages, ["C/P/R4", "C/P/R3", "C/P/R2", "C/P/R1", "C/P/R0"]);

    let newest = f.store.audit_events(&AuditFilter::latest(1)).unwrap().remove(0);
    let following = AuditFilter {
        after_id: Some(newest.id),
        newest_first: false,
        ..AuditFilter::latest(10)
    };
    assert!(f.subjects(&following).is_empty());
    f.record(&[push(5), push(6)]);
    assert_eq!(f.subjects(&following), ["C/P/R5", "C/P/R6"]);
}

#[test]
fn an_account_that_is_gone_is_found_as_it_was_spelled() {
    let f = fixture();
    f.account("Änne");
    f.record(&[event(
        0,
        client(Some("Änne"), None),
        AuditAction::GitPush,
        "C/P/R",
    )]);
    let by = |name: &str| {
        let filter = AuditFilter {
            account: Some(name.to_owned()),
            actions: vec![AuditAction::GitPush],
            ..AuditFilter::latest(9)
        };
        f.subjects(&filter).len()
    };
    assert_eq!((by("Änne"), by("äNNE"), by("anne")), (1, 1, 0));
    f.store.delete_account(&CLI, "änne").unwrap();
    assert_eq!((by("Änne"), by("äNNE")), (1, 0));
}

#[test]
fn a_batch_is_kept_whole_with_the_times_of_its_events() {
    let f = fixture();
    let made = f.token(&f.account("bob"), "AAAAAAAA");
    let used = TokenUse {
        id: made.id.clone(),
        at: at(3),
        from: [192, 0, 2, 1].into(),
        with: None,
        purpose: "fetch C/P/R".to_owned(),
    };
    let pushed = NewAuditEvent {
        details: json!({ "refs": [{ "name": "refs/heads/\u{202e}\"" }] }),
        ..event(3, root(), AuditAction::GitPush, "C/P/R")
    };
    let fetched = event(4, client(None, None), AuditAction::GitFetch, "C/P/R");
    let before = f.store.generation().unwrap();
    f.store
        .record_batch(&[used], &[pushed.clone(), fetched.clone()])
        .unwrap();
    let events = f.store.audit_events(&AuditFilter::latest(2)).unwrap();
    for (event, new) in iter::zip(events.iter().rev(), [&pushed, &fetched]) {
        assert_eq!((event.at, &event.actor), (new.at, &new.actor));
        assert_eq!(
            (event.action.as_str(), &event.details),
            (new.action.as_str(), &new.details)
        );
    }
    assert_eq!(
        f.store.find_token(&made.id).unwrap().unwrap().last_used_at,
        Some(at(3))
    );
    assert_eq!(
        f.store.generation().unwrap(),
        before,
        "no decision of the gate depends on it"
    );
    f.store.record_batch(&[], &[]).unwrap();
}

#[test]
fn the_oldest_events_are_removed_a_few_at_a_time_and_each_time_it_is_told() {
    let f = fixture();
    let events: Vec<_> = (0..10)
        .map(|second| event(second, CLI, AuditAction::GitPush, &second.to_string()))
        .collect();
    f.record(&events);
    let prune = |before| f.store.prune_audit_events(at(before), at(50), 4).unwrap();
    let told = || -> Vec<serde_json::Value> {
        let events = f.events("audit.prune").into_iter();
        events.map(|event| event.details).collect()
    };
    assert_eq!(prune(7), 4);
    assert_eq!(told(), [json!({ "events": 4, "before": at(7).to_string() })]);
    let pushes = AuditFilter {
        newest_first: false,
        actions: vec![AuditAction::GitPush],
        ..AuditFilter::latest(100)
    };
    assert_eq!(f.subjects(&pushes), ["4", "5", "6", "7", "8", "9"]);
    assert_eq!(prune(7), 3);
    assert_eq!(prune(7), 0);
    assert_eq!(f.subjects(&pushes), ["7", "8", "9"]);
    assert_eq!(told(), [json!({ "events": 7, "before": at(7).to_string() })]);
    assert_eq!(prune(8), 1);
    assert_eq!(told()[1], json!({ "events": 1, "before": at(8).to_string() }));
    assert_eq!(told().len(), 2);
    let event = f.event();
    assert_eq!(
        (event.at, event.actor, event.subject),
        (at(50), Actor::Server, "/".to_owned())
    );
    assert_eq!(prune(100), 4);
    f.record(&events[..1]);
    assert!(f.event().id > event.id, "an id is never given again");
}

#[test]
fn the_data_version_changes_with_every_event() {
    let f = fixture();
    let first = f.store.data_version().unwrap();
    assert_eq!(f.store.data_version().unwrap(), first);
    f.record(&[event(0, CLI, AuditAction::GitPush, "C/P/R")]);
    let second = f.store.data_version().unwrap();
    assert_ne!(second, first, "by this handle");
    f.other()
        .record_event(&CLI, AuditAction::GitPush, "C/P/R", &json!({}))
        .unwrap();
    assert_ne!(f.store.data_version().unwrap(), second, "by another");
}

#[test]
fn the_end_of_a_token_is_told_once_and_again_after_another_end() {
    let f = fixture();
    let bob = f.account("bob");
    for id in ["AAAAAAAA", "BBBBBBBB", "CCCCCCCC", "DDDDDDDD"] {
        f.token(&bob, id);
    }
    f.store
        .revoke_token(&CLI, &token_id("DDDDDDDD"), RevokeReason::Asked)
        .unwrap();
    let end = f
        .store
        .find_token(&token_id("AAAAAAAA"))
        .unwrap()
        .unwrap()
        .expires_at;
    let later = |seconds| end + SignedDuration::from_secs(seconds);
    let generation = f.store.generation().unwrap();
    let expire = |now, count_max| f.store.record_expired_tokens(now, count_max).unwrap();
    assert_eq!(expire(later(-1), 10), 0);
    assert_eq!(expire(later(0), 2), 2, "no more than are asked for");
    assert_eq!(expire(later(1), 2), 1);
    assert_eq!(expire(later(1), 2), 0);
    let change = TokenChange {
        expires_at: Some(later(100)),
        ..TokenChange::default()
    };
    let before = f.store.generation().unwrap();
    assert_eq!(before, generation, "the gate knows by itself when a token ends");
    f.store
        .update_token(&CLI, &token_id("BBBBBBBB"), &change)
        .unwrap();
    assert_eq!(expire(later(99), 10), 0);
    assert_eq!(expire(later(100), 10), 1);
    let events: Vec<_> = f.events("token.expire");
    let mut subjects: Vec<&str> = events.iter().map(|event| event.subject.as_str()).collect();
    assert_eq!(subjects.pop(), Some("BBBBBBBB"));
    subjects.sort_unstable();
    assert_eq!(subjects, ["AAAAAAAA", "BBBBBBBB", "CCCCCCCC"]);
    let last = events.last().unwrap();
    assert_eq!((&last.actor, last.at), (&Actor::Server, later(100)));
    assert_eq!(
        last.details,
        json!({ "account": "bob", "name": "laptop", "expired_at": later(100).to_string() })
    );
}

#[test]
fn of_a_token_in_an_event_only_its_public_id_is_kept() {
    let f = fixture();
    let token = format!("pgt_AbCd1234{}", "x".repeat(44));
    let details = json!({ "refs": [{ "name": format!("refs/heads/{token}") }], "from": token });
    let path = format!("C/P/{token}");
    f.record(&[NewAuditEvent {
        details: details.clone(),
        ..event(1, CLI, AuditAction::GitPush, &path)
    }]);
    f.store
        .record_event(&CLI, AuditAction::RepositoryRename, &path, &details)
        .unwrap();
    let kept = json!({ "refs": [{ "name": "refs/heads/pgt_AbCd1234…" }], "from": "pgt_AbCd1234…" });
    let events = f.store.audit_events(&AuditFilter::latest(2)).unwrap();
    assert_eq!(events.len(), 2);
    for event in events {
        assert_eq!(
            (event.subject.as_str(), &event.details),
            ("C/P/pgt_AbCd1234…", &kept)
        );
    }
}
