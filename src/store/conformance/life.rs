//! The life of a token: rotation, revocation, use.

use super::*;

fn after(hours: i64) -> Timestamp {
    let seconds = Timestamp::now().as_second() + 3600 * hours;
    Timestamp::from_second(seconds).unwrap()
}

impl Fixture {
    /// Rotates a token to the secret of `seed`.
    fn rotate(&self, id: &TokenId, seed: &str, end: Option<Timestamp>, until: Option<Timestamp>) -> Token {
        let secret = hash(seed);
        let rotation = TokenRotation {
            expires_at: end,
            old_valid_until: until,
            ..to(&secret)
        };
        self.store.rotate_token(&CLI, id, &rotation).unwrap()
    }
}

#[test]
fn a_rotated_token_keeps_all_but_its_digest() {
    let f = fixture();
    let made = f.token(&f.account("bob"), "AAAAAAAA");
    let rotated = f.rotate(&made.id, "new", None, None);
    assert!(rotated.rotated_at.is_some());
    let expected = Token {
        rotated_at: rotated.rotated_at,
        ..made.clone()
    };
    assert_eq!(rotated, expected);
    assert!(f.store.find_token_by_hash(&hash("AAAAAAAA")).unwrap().is_none());
    assert_eq!(
        f.store.find_token_by_hash(&hash("new")).unwrap().unwrap().0,
        rotated
    );
    let later = made.expires_at + SignedDuration::from_hours(1);
    let rotated = f.rotate(&made.id, "newer", Some(later), None);
    assert_eq!(rotated.expires_at, later);
    assert_eq!(f.event().action, "token.rotate");
}

#[test]
fn of_many_who_replace_one_secret_at_once_one_does() {
    let f = fixture();
    let made = f.token(&f.account("bob"), "AAAAAAAA");
    let presented = hash("AAAAAAAA");
    assert_eq!(f.store.token_hash(&made.id).unwrap(), Some(presented));
    assert_eq!(f.store.token_hash(&token_id("ZZZZZZZZ")).unwrap(), None);
    let other = f.other();
    let rotate = |store: &Store, seed: &str| {
        let secret = hash(seed);
        let rotation = TokenRotation {
            presented: Some(&presented),
            old_valid_until: Some(after(1)),
            ..to(&secret)
        };
        store.rotate_token(&CLI, &made.id, &rotation)
    };
    let outcomes: Vec<Result<Token, Error>> = std::thread::scope(|scope| {
        let all: Vec<_> = [
            (&f.store, "one"),
            (&other, "two"),
            (&f.store, "three"),
            (&other, "four"),
        ]
        .into_iter()
        .map(|(store, seed)| scope.spawn(move || rotate(store, seed)))
        .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let refused = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(Error::SecretReplaced { .. })));
    assert_eq!((outcomes.len(), refused.count()), (4, 3));
    assert_eq!(f.events("token.rotate").len(), 1);
    // Nor has a refused one left anything: the overlap of the first still runs.
    let retired = f.store.find_retired_secret(&presented).unwrap().unwrap();
    assert!(retired.valid_until.is_some());
}

#[test]
fn a_secret_that_was_replaced_is_remembered_with_its_token_and_opens_nothing_by_itself() {
    let f = fixture();
    let bob = f.account("bob");
    let made = f.token(&bob, "AAAAAAAA");
    assert_eq!(f.store.find_retired_secret(&hash("AAAAAAAA")).unwrap(), None);
    let rotated = f.rotate(&made.id, "new", None, None);
    let retired = f.store.find_retired_secret(&hash("AAAAAAAA")).unwrap().unwrap();
    assert_eq!((&retired.token, &retired.account), (&rotated, &bob));
    assert_eq!(Some(retired.retired_at), rotated.rotated_at);
    assert_eq!(retired.made_at, made.created_at);
    assert_eq!(retired.valid_until, None);
    let at = |seconds| Timestamp::from_second(retired.retired_at.as_second() + seconds).unwrap();
    assert_eq!(retired.promised_until, Some(at(60)));
    assert!(retired.is_excused(at(59)) && !retired.is_excused(at(60)));
    assert_eq!(f.store.find_retired_secret(&hash("new")).unwrap(), None);
}

#[test]
fn an_overlap_never_goes_past_an_end_of_its_token() {
    let f = fixture();
    let bob = f.account("bob");
    let ends = |id: &str, expires_at: Option<Timestamp>, until: Timestamp| {
        let made = f.token(&bob, id);
        let new = format!("new {id}");
        f.rotate(&made.id, &new, expires_at, Some(until));
        let retired = f.store.find_retired_secret(&hash(id)).unwrap().unwrap();
        if let Some(until) = retired.valid_until {
            assert!(Some(until) <= retired.promised_until);
            let later = |seconds| Timestamp::from_second(until.as_second() + seconds).unwrap();
            assert!(retired.is_excused(later(59)), "of what began before");
            assert!(!retired.is_excused(later(60)));
        }
        (retired.valid_until, made.expires_at)
    };
    let soon = Timestamp::from_second(Timestamp::now().as_second() + 90).unwrap();
    assert_eq!(ends("AAAAAAAA", None, soon).0, Some(soon));
    let (until, old_end) = ends("BBBBBBBB", None, after(9));
    assert_eq!(until, Some(old_end));
    let (until, old_end) = ends("CCCCCCCC", Some(after(20)), after(9));
    assert_eq!(until, Some(old_end), "what was to end is not prolonged");
    assert_eq!(ends("DDDDDDDD", Some(soon), after(9)).0, Some(soon));
    assert_eq!(
        ends("EEEEEEEE", None, Timestamp::from_second(1).unwrap()).0,
        None,
        "an overlap that is over is none"
    );
}

#[test]
fn a_second_rotation_ends_the_overlap_of_the_first_but_not_what_was_promised() {
    let f = fixture();
    let made = f.token(&f.account("bob"), "AAAAAAAA");
    let soon = Timestamp::from_second(Timestamp::now().as_second() + 600).unwrap();
    for new in ["second", "third"] {
        f.rotate(&made.id, new, None, Some(soon));
    }
    let until = |seed: &str| {
        let retired = f.store.find_retired_secret(&hash(seed)).unwrap().unwrap();
        (retired.valid_until, retired.promised_until)
    };
    assert_eq!(until("AAAAAAAA"), (None, Some(soon)));
    assert_eq!(until("second"), (Some(soon), Some(soon)));
}

#[test]
fn an_overlap_that_a_token_gives_itself_is_no_excuse_once_it_is_cut_short() {
    let f = fixture();
    let made = f.token(&f.account("bob"), "AAAAAAAA");
    let start = Timestamp::now().as_second();
    let at = |minutes: i64| Timestamp::from_second(start + 60 * minutes).unwrap();
    let rotate = |seed: &str, is_by_itself| {
        let secret = hash(seed);
        let rotation = TokenRotation {
            is_by_itself,
            old_valid_until: Some(at(40)),
            ..to(&secret)
        };
        f.store.rotate_token(&CLI, &made.id, &rotation).unwrap();
    };
    let retired = |seed: &str| f.store.find_retired_secret(&hash(seed)).unwrap().unwrap();
    rotate("second", true);
    let first = retired("AAAAAAAA");
    assert!(first.valid_until > Some(at(30)) && first.is_excused(at(30)));
    rotate("third", true);
    for seed in ["AAAAAAAA", "second"] {
        let cut = retired(seed);
        let soon = Timestamp::from_second(cut.retired_at.as_second() + 70).unwrap();
        assert_eq!(cut.is_excused(soon), seed == "second", "{seed}: one runs");
    }
    assert_eq!(retired("AAAAAAAA").valid_until, None);
    // What the owner has said holds, whoever cuts it short.
    rotate("fourth", false);
    rotate("fifth", true);
    assert_eq!(retired("third").valid_until, None);
    assert!(retired("third").is_excused(at(30)));
    assert!(!retired("second").is_excused(at(30)));
}

/// Rotates a token from its `first` secret to `last`, of which each number is one.
fn rotate_many(
    f: &Fixture,
    id: &TokenId,
    is_by_itself: bool,
    first: usize,
    last: usize,
) -> Result<(), Error> {
    for number in first..=last {
        let secret = hash(&format!("secret {number}"));
        let rotation = TokenRotation {
            is_by_itself,
            old_valid_until: Some(after(1)),
            ..to(&secret)
        };
        f.store.rotate_token(&CLI, id, &rotation)?;
    }
    Ok(())
}

/// The numbers of the secrets up to `last` that are known as replaced.
fn retired_numbers(f: &Fixture, last: usize) -> Vec<usize> {
    let is_known = |number: &usize| {
        let retired = f.store.find_retired_secret(&hash(&format!("secret {number}")));
        retired.unwrap().is_some()
    };
    (1..=last).filter(is_known).collect()
}

#[test]
fn when_its_owner_rotates_a_token_the_latest_hundred_secrets_stay_known() {
    let f = fixture();
    let made = f.token(&f.account("bob"), "AAAAAAAA");
    rotate_many(&f, &made.id, false, 1, 130).unwrap();
    // 130 is the present one. All were within a second or two: the order is not that of the clock.
    assert_eq!(retired_numbers(&f, 130), (30..=129).collect::<Vec<_>>());
    assert_eq!(f.store.find_retired_secret(&hash("AAAAAAAA")).unwrap(), None);
}

#[test]
fn a_token_that_rotates_itself_pushes_no_older_secret_out() {
    let f = fixture();
    let made = f.token(&f.account("bob"), "AAAAAAAA");
    rotate_many(&f, &made.id, true, 1, 1000).unwrap();
    let first = || f.store.find_retired_secret(&hash("AAAAAAAA")).unwrap();
    assert_eq!(retired_numbers(&f, 1000).len(), 999, "and the first of all");
    for _ in 0..2 {
        assert!(matches!(
            rotate_many(&f, &made.id, true, 1001, 1001),
            Err(Error::RotatedTooOften { .. })
        ));
    }
    assert!(first().is_some());
    assert!(
        f.store
            .find_token_by_hash(&hash("secret 1000"))
            .unwrap()
            .is_some()
    );
    // Its owner vouches for it, and it can go on.
    rotate_many(&f, &made.id, false, 1001, 1001).unwrap();
    assert_eq!(retired_numbers(&f, 1001), (901..=1000).collect::<Vec<_>>());
    rotate_many(&f, &made.id, true, 1002, 1003).unwrap();
    assert_eq!(retired_numbers(&f, 1003).len(), 102);
}

#[test]
fn a_secret_that_is_used_again_revokes_its_token_once() {
    let f = fixture();
    let made = f.token(&f.account("bob"), "AAAAAAAA");
    f.rotate(&made.id, "new", None, None);
    let thief = Actor::Client(Requester {
        address: Some([198, 51, 100, 7].into()),
        agent: Some("curl/8".to_owned()),
        ..Requester::default()
    });
    assert_eq!(f.store.revoke_reused(&thief, &hash("new")).unwrap(), None);
    assert_eq!(f.store.revoke_reused(&thief, &hash("other")).unwrap(), None);
    let other = f.other();
    let outcomes: Vec<Token> = std::thread::scope(|scope| {
        let all: Vec<_> = [&f.store, &other, &f.store, &other]
            .into_iter()
            .map(|store| scope.spawn(|| store.revoke_reused(&thief, &hash("AAAAAAAA")).unwrap().unwrap()))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for token in outcomes {
        assert_eq!(token.revoked_because, Some(RevokeReason::Reused));
        assert!(token.revoked_at.is_some());
    }
    let reuse = f.events("token.reuse");
    let revoke = f.events("token.revoke");
    assert_eq!((reuse.len(), revoke.len()), (1, 1), "never twice");
    assert_eq!((&reuse[0].actor, &revoke[0].actor), (&thief, &thief));
    assert_eq!(reuse[0].subject, "AAAAAAAA");
    assert_eq!(revoke[0].details["because"], "reuse");
}

#[test]
fn all_tokens_of_an_account_are_revoked_with_an_event_each() {
    let f = fixture();
    let (bob, eve) = (f.account("bob"), f.account("eve"));
    f.token(&bob, "AAAAAAAA");
    f.token(&bob, "BBBBBBBB");
    f.token(&bob, "CCCCCCCC");
    f.token(&eve, "EEEEEEEE");
    f.store
        .revoke_token(&CLI, &token_id("BBBBBBBB"), RevokeReason::Asked)
        .unwrap();
    let past = TokenChange {
        expires_at: Some(Timestamp::from_second(1).unwrap()),
        ..TokenChange::default()
    };
    f.store.update_token(&CLI, &token_id("CCCCCCCC"), &past).unwrap();
    let mut revoked = Vec::new();
    f.store
        .revoke_each_token_of(&root(), "BOB", RevokeReason::Leaked, |token| revoked.push(token))
        .unwrap();
    let ids: Vec<&str> = revoked.iter().map(|token| token.id.as_str()).collect();
    assert_eq!(ids, ["AAAAAAAA", "CCCCCCCC"]);
    assert!(
        revoked
            .iter()
            .all(|token| token.revoked_because == Some(RevokeReason::Leaked))
    );
    let states: Vec<TokenState> = f
        .store
        .tokens(None)
        .unwrap()
        .iter()
        .map(|token| token.state(Timestamp::now()))
        .collect();
    assert_eq!(
        states,
        [
            TokenState::Revoked,
            TokenState::Revoked,
            TokenState::Revoked,
            TokenState::Active
        ]
    );
    let reasons: Vec<String> = f
        .events("token.revoke")
        .iter()
        .map(|event| format!("{} {}", event.subject, event.details["because"].as_str().unwrap()))
        .collect();
    assert_eq!(reasons, ["BBBBBBBB asked", "AAAAAAAA leaked", "CCCCCCCC leaked"]);
    assert!(matches!(
        f.store.revoke_tokens_of(&CLI, "nobody", RevokeReason::Asked),
        Err(Error::AccountNotFound { .. })
    ));
    assert_eq!(
        f.store
            .revoke_tokens_of(&CLI, "bob", RevokeReason::Asked)
            .unwrap(),
        0
    );
}

#[test]
fn others_write_while_many_tokens_are_revoked() {
    let f = fixture();
    let bob = f.account("bob");
    let count = 1100;
    for number in 0..count {
        f.token(&bob, &format!("{number:0>8}"));
    }
    let other = f.other();
    let (mut revoked, mut written) = (0, 0);
    f.store
        .revoke_each_token_of(&CLI, "bob", RevokeReason::Administrator, |_| {
            revoked += 1;
            if revoked % 500 == 0 {
                // Under the same transaction this would wait in vain.
                other
                    .record_event(&CLI, AuditAction::GitPush, "C/P/R", &json!({}))
                    .unwrap();
                written += 1;
                assert_eq!(
                    f.events_count("token.revoke"),
                    revoked,
                    "what came before is done"
                );
            }
        })
        .unwrap();
    assert_eq!((revoked, written), (count, 2));
    assert!(
        f.store
            .tokens(None)
            .unwrap()
            .iter()
            .all(|token| token.revoked_at.is_some())
    );
}

#[test]
fn tokens_are_revoked_together_or_not_at_all() {
    let f = fixture();
    let (bob, eve) = (f.account("bob"), f.account("eve"));
    f.token(&bob, "AAAAAAAA");
    f.token(&bob, "BBBBBBBB");
    f.token(&eve, "CCCCCCCC");
    let revoke = |ids: &[&str]| {
        let ids: Vec<TokenId> = ids.iter().map(|id| token_id(id)).collect();
        let revoked = f
            .store
            .revoke_tokens(&root(), &ids, RevokeReason::Administrator)?;
        Ok::<_, Error>(
            revoked
                .into_iter()
                .map(|token| token.id.to_string())
                .collect::<Vec<_>>(),
        )
    };
    assert!(matches!(
        revoke(&["AAAAAAAA", "ZZZZZZZZ"]),
        Err(Error::TokenNotFound { id }) if id.as_str() == "ZZZZZZZZ"
    ));
    assert!(f.events("token.revoke").is_empty(), "the first of them, too");
    assert_eq!(revoke(&["BBBBBBBB"]).unwrap(), ["BBBBBBBB"]);
    assert_eq!(
        revoke(&["CCCCCCCC", "BBBBBBBB", "AAAAAAAA", "CCCCCCCC"]).unwrap(),
        ["CCCCCCCC", "AAAAAAAA"],
        "one that is revoked, or named twice, is passed over"
    );
    assert_eq!(f.events("token.revoke").len(), 3);
    assert!(revoke(&[]).unwrap().is_empty());
}

#[test]
fn tokens_of_an_account_are_paged_in_the_order_in_which_they_were_made() {
    let f = fixture();
    let (bob, eve) = (f.account("bob"), f.account("eve"));
    for id in ["DDDDDDDD", "AAAAAAAA", "CCCCCCCC"] {
        f.token(&bob, id);
        f.token(&eve, &id.to_lowercase());
    }
    let page = |after: Option<&str>, count_max| {
        let after = after.map(token_id);
        let found = f.store.tokens_after(bob.id, after.as_ref(), count_max)?;
        Ok::<_, Error>(
            found
                .into_iter()
                .map(|token| token.id.to_string())
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(page(None, 2).unwrap(), ["DDDDDDDD", "AAAAAAAA"]);
    assert_eq!(page(Some("AAAAAAAA"), 2).unwrap(), ["CCCCCCCC"]);
    assert!(page(Some("CCCCCCCC"), 2).unwrap().is_empty());
    assert!(page(None, 0).unwrap().is_empty());
    for other in ["aaaaaaaa", "ZZZZZZZZ"] {
        assert!(matches!(page(Some(other), 2), Err(Error::TokenNotFound { .. })));
    }
}

#[test]
fn reasons_are_read_as_they_are_written() {
    for reason in RevokeReason::ALL {
        assert_eq!(reason.as_str().parse(), Ok(reason));
    }
    assert_eq!("because".parse::<RevokeReason>(), Err(RevokeReasonError));
}

#[test]
fn a_deleted_account_takes_its_retired_secrets_along() {
    let f = fixture();
    let made = f.token(&f.account("bob"), "AAAAAAAA");
    f.rotate(&made.id, "new", None, None);
    f.store.delete_account(&CLI, "bob").unwrap();
    assert_eq!(f.store.find_retired_secret(&hash("AAAAAAAA")).unwrap(), None);
    assert_eq!(f.store.revoke_reused(&CLI, &hash("AAAAAAAA")).unwrap(), None);
}

fn use_of(id: &TokenId, second: i64, from: &str) -> TokenUse {
    TokenUse {
        id: id.clone(),
        at: Timestamp::from_second(1_800_000_000 + second).unwrap(),
        from: from.parse().unwrap(),
        with: Some(format!("git at {second}")),
        purpose: "fetch C/P/R".to_owned(),
    }
}

#[test]
fn uses_are_noted_at_most_once_a_minute_from_one_address() {
    let f = fixture();
    let made = f.token(&f.account("bob"), "AAAAAAAA");
    let used = |second, from: &str| {
        f.store
            .record_token_uses(&[use_of(&made.id, second, from)])
            .unwrap();
        let token = f.store.find_token(&made.id).unwrap().unwrap();
        (
            token.last_used_at.unwrap().as_second() - 1_800_000_000,
            token.last_used_from.unwrap().to_string(),
            token.last_used_with.unwrap(),
        )
    };
    let noted = |second: i64, from: &str| (second, from.to_owned(), format!("git at {second}"));
    assert_eq!(used(0, "192.0.2.1"), noted(0, "192.0.2.1"));
    assert_eq!(used(59, "192.0.2.1"), noted(0, "192.0.2.1"));
    assert_eq!(used(60, "192.0.2.1"), noted(60, "192.0.2.1"));
    assert_eq!(used(61, "2001:db8::1"), noted(61, "2001:db8::1"));
    assert_eq!(
        used(30, "192.0.2.3"),
        noted(61, "2001:db8::1"),
        "an older use does not turn the time back"
    );
    let token = f.store.find_token(&made.id).unwrap().unwrap();
    assert_eq!(token.last_used_for.as_deref(), Some("fetch C/P/R"));
    let addresses: Vec<String> = f
        .store
        .token_addresses(&made.id)
        .unwrap()
        .iter()
        .map(|one| one.address.to_string())
        .collect();
    assert_eq!(addresses, ["2001:db8::1", "192.0.2.1", "192.0.2.3"]);
}

#[test]
fn the_last_five_addresses_are_kept() {
    let f = fixture();
    let bob = f.account("bob");
    let (made, other) = (f.token(&bob, "AAAAAAAA"), f.token(&bob, "BBBBBBBB"));
    let uses: Vec<TokenUse> = (0..9)
        .flat_map(|number| {
            let from = format!("192.0.2.{number}");
            [
                use_of(&made.id, number * 100, &from),
                use_of(&other.id, 0, "192.0.2.200"),
            ]
        })
        .collect();
    f.store.record_token_uses(&uses).unwrap();
    let addresses = f.store.token_addresses(&made.id).unwrap();
    let last: Vec<(String, i64)> = addresses
        .iter()
        .map(|one| {
            let second = one.last_used_at.as_second() - 1_800_000_000;
            (one.address.to_string(), second)
        })
        .collect();
    let expected: Vec<(String, i64)> = (4..9)
        .rev()
        .map(|number| (format!("192.0.2.{number}"), number * 100))
        .collect();
    assert_eq!(last, expected);
    assert_eq!(f.store.token_addresses(&other.id).unwrap().len(), 1);
}

#[test]
fn a_use_of_a_token_that_is_gone_keeps_no_other_from_being_noted() {
    let f = fixture();
    let made = f.token(&f.account("bob"), "AAAAAAAA");
    let gone = token_id("ZZZZZZZZ");
    f.store
        .record_token_uses(&[use_of(&gone, 0, "192.0.2.1"), use_of(&made.id, 0, "192.0.2.1")])
        .unwrap();
    let token = f.store.find_token(&made.id).unwrap().unwrap();
    assert!(token.last_used_at.is_some());
    assert!(f.store.token_addresses(&gone).unwrap().is_empty());
    f.store.delete_account(&CLI, "bob").unwrap();
    assert!(f.store.token_addresses(&made.id).unwrap().is_empty());
}

fn limited(paths: &[&str]) -> TokenLimits {
    TokenLimits {
        paths: paths.iter().map(|path| access_path(path)).collect(),
        ..TokenLimits::NONE
    }
}

#[test]
fn limits_are_replaced_one_list_at_a_time() {
    let f = fixture();
    let id = f.token(&f.account("bob"), "AAAAAAAA").id;
    let networks = ["10.0.0.0/8".parse().unwrap()];
    let (one, two) = ([access_path("C")], [access_path("D"), access_path("E/P")]);
    let change = |change: TokenChange<'_>| f.store.update_token(&CLI, &id, &change).unwrap().limits;
    let after = change(TokenChange {
        paths: Some(&one),
        networks: Some(&networks),
        ..TokenChange::default()
    });
    assert_eq!((after.paths.as_slice(), after.networks.len()), (&one[..], 1));
    let after = change(TokenChange {
        paths: Some(&two),
        ..TokenChange::default()
    });
    assert_eq!((after.paths.as_slice(), after.networks.len()), (&two[..], 1));
    let after = change(TokenChange {
        limits: Some(&TokenLimits::NONE),
        paths: Some(&one),
        ..TokenChange::default()
    });
    assert_eq!(after, limited(&["C"]));
    assert_eq!(
        f.event().details["limits"]["to"],
        json!({ "paths": ["C"], "refs": [], "networks": [] })
    );
}

#[test]
fn limits_follow_a_renamed_repository_and_stay_with_a_deleted_one() {
    let f = fixture();
    let bob = f.account("bob");
    let make = |id: &str, paths: &[&str]| {
        let id = f.token(&bob, id).id;
        let limits = limited(paths);
        let change = TokenChange {
            limits: Some(&limits),
            ..TokenChange::default()
        };
        f.store.update_token(&CLI, &id, &change).unwrap();
        id
    };
    let exact = make("AAAAAAAA", &["c/p/old", "D"]);
    let wider = make("BBBBBBBB", &["C/P"]);
    let new = make("CCCCCCCC", &["C/P/New"]);
    let both = make("DDDDDDDD", &["C/P/Old", "C/P/New"]);
    let free = f.token(&bob, "EEEEEEEE").id;
    let before = f.store.generation().unwrap();
    f.store
        .rename_repository(&CLI, &repo("C/P/Old"), &repo("C/P/New"), nothing())
        .unwrap();
    assert_eq!(f.event().details["limited_tokens"], 2);
    assert_ne!(f.store.generation().unwrap(), before, "the gate hears of it");
    let limits = |id: &TokenId| f.store.find_token(id).unwrap().unwrap().limits;
    assert_eq!(limits(&exact), limited(&["D", "C/P/New"]));
    assert_eq!(limits(&wider), limited(&["C/P"]));
    assert_eq!(limits(&new), limited(&["C/P/New"]));
    assert_eq!(limits(&both), limited(&["C/P/New"]));
    assert!(limits(&free).is_empty());
    f.store
        .rename_repository(&CLI, &repo("c/p/new"), &repo("C/P/NEW"), nothing())
        .unwrap();
    assert_eq!(limits(&new), limited(&["C/P/NEW"]), "the spelling, too");
    let elsewhere = limited(&["D"]);
    let change = TokenChange {
        limits: Some(&elsewhere),
        ..TokenChange::default()
    };
    f.store.update_token(&CLI, &both, &change).unwrap();
    f.store
        .rename_repository(&CLI, &repo("C/P/NEW"), &repo("É/P/K"), nothing())
        .unwrap();
    assert_eq!(f.event().details["limited_tokens"], 2, "a former limit is none");
    f.store
        .rename_repository(&CLI, &repo("é/p/k"), &repo("C/P/NEW"), nothing())
        .unwrap();
    assert_eq!(limits(&exact), limited(&["D", "C/P/NEW"]));
    assert_eq!(limits(&both), elsewhere);
    f.store
        .delete_repository(&CLI, &repo("C/P/NEW"), nothing())
        .unwrap();
    assert_eq!(
        limits(&new),
        limited(&["C/P/NEW"]),
        "a limit never turns into none"
    );
}

/// What a page holds, by id.
fn page_of(f: &Fixture, page: &TokenPage<'_>) -> Vec<String> {
    let tokens = f.store.page_of_tokens(page).unwrap();
    tokens.into_iter().map(|token| token.id.to_string()).collect()
}

#[test]
fn the_pages_of_an_account_s_tokens_hold_each_once_whatever_the_order() {
    let f = fixture();
    let bob = f.account("bob");
    f.token(&f.account("eve"), "EEEEEEEE");
    let names = ["b", "A", "a", "B", "Ä", "c", "b"];
    for (number, name) in names.into_iter().enumerate() {
        let (id, secret) = (format!("AAAAAAA{number}"), format!("secret {number}"));
        let new = NewToken {
            id: &token_id(&id),
            hash: &hash(&secret),
            account: bob.id,
            name,
            scopes: "vso.code",
            expires_at: after(1 + i64::try_from(number % 3).unwrap()),
            limits: &TokenLimits::NONE,
        };
        f.store.create_token(&CLI, &new).unwrap();
    }
    f.store
        .revoke_token(&CLI, &token_id("AAAAAAA4"), RevokeReason::Asked)
        .unwrap();
    // Those that end in an hour have expired by then: 0, 3 and 6.
    let now = after(1);
    let all = |order, is_descending, states: &[TokenState], count_max| {
        let page = TokenPage {
            account: bob.id,
            states,
            now,
            order,
            is_descending,
            after: None,
            count_max,
        };
        let mut found = page_of(&f, &page);
        let mut last = found.last().cloned();
        while let Some(id) = last {
            let token = f.store.find_token(&token_id(&id)).unwrap().unwrap();
            let position = TokenPosition::of(&token, now);
            let next = page_of(
                &f,
                &TokenPage {
                    after: Some(&position),
                    ..page
                },
            );
            last = next.last().cloned();
            found.extend(next);
        }
        let digits: String = found.iter().map(|id| id.chars().next_back().unwrap()).collect();
        digits
    };
    let every = TokenState::ALL;
    for count_max in [1, 2, 3, 100] {
        assert_eq!(all(TokenOrder::Name, false, &every, count_max), "1203654");
        assert_eq!(all(TokenOrder::Name, true, &every, count_max), "4563021");
        assert_eq!(all(TokenOrder::End, false, &every, count_max), "0361425");
        assert_eq!(all(TokenOrder::State, false, &every, count_max), "1250364");
        assert_eq!(
            all(TokenOrder::Name, false, &[TokenState::Active], count_max),
            "125"
        );
        assert_eq!(
            all(TokenOrder::Name, false, &[TokenState::Expired], count_max),
            "036"
        );
        assert_eq!(
            all(TokenOrder::Name, false, &[TokenState::Revoked], count_max),
            "4"
        );
        assert_eq!(all(TokenOrder::Name, false, &[], count_max), "");
    }
}

#[test]
fn a_token_is_changed_that_is_as_it_was_when_the_change_was_checked() {
    let f = fixture();
    let made = f.token(&f.account("bob"), "AAAAAAAA");
    let limits = TokenLimits {
        networks: vec!["10.0.0.0/8".parse().unwrap()],
        ..TokenLimits::NONE
    };
    let nothing = TokenChange::default();
    let changes = [
        TokenChange {
            limits: Some(&limits),
            ..nothing
        },
        TokenChange {
            scopes: Some("vso.work"),
            ..nothing
        },
        TokenChange {
            expires_at: Some(after(3)),
            ..nothing
        },
    ];
    let mut before = made;
    for change in changes {
        let name = TokenChange {
            before: Some(&before),
            name: Some("renamed"),
            ..nothing
        };
        let renamed = f.store.update_token(&CLI, &before.id, &name).unwrap();
        let now_is = f.store.update_token(&CLI, &before.id, &change).unwrap();
        let stale = TokenChange {
            before: Some(&renamed),
            limits: Some(&TokenLimits::NONE),
            ..nothing
        };
        assert!(matches!(
            f.store.update_token(&CLI, &before.id, &stale),
            Err(Error::TokenChanged { .. })
        ));
        assert_eq!(f.store.find_token(&before.id).unwrap().unwrap(), now_is);
        before = now_is;
    }
}

#[test]
fn a_rotation_narrows_a_token_that_is_as_it_was_when_that_was_checked() {
    let f = fixture();
    let made = f.token(&f.account("bob"), "AAAAAAAA");
    let limits = TokenLimits {
        paths: vec![access_path("C")],
        ..TokenLimits::NONE
    };
    let rotate = |before: &Token, seed: &str| {
        let secret = hash(seed);
        let rotation = TokenRotation {
            narrowing: Some(TokenNarrowing {
                before,
                scopes: Some("vso.work"),
                limits: Some(&limits),
            }),
            ..to(&secret)
        };
        f.store.rotate_token(&CLI, &made.id, &rotation)
    };
    let rotated = rotate(&made, "new").unwrap();
    assert_eq!((rotated.scopes.as_str(), &rotated.limits), ("vso.work", &limits));
    let details = f.event().details.to_string();
    assert!(
        details.contains("vso.work") && details.contains("limits"),
        "{details}"
    );
    // Its owner has changed it in between: what was checked is not what it has now.
    assert!(matches!(rotate(&made, "newer"), Err(Error::TokenChanged { .. })));
    assert!(f.store.find_token_by_hash(&hash("new")).unwrap().is_some());
    assert!(f.store.find_token_by_hash(&hash("newer")).unwrap().is_none());
}
