use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::store::{NewAccount, RevokeReason};

const CLI: Actor = Actor::CommandLine;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn store_with_bob() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("patgate.db")).unwrap();
    let new = NewAccount {
        name: "bob",
        password: None,
        is_admin: false,
        must_change_password: false,
    };
    store.create_account(&CLI, &new).unwrap();
    (directory, store)
}

fn create_for_bob(store: &Store) -> (Token, PlainToken) {
    let expires_at = expiry_in_days(90, Timestamp::now()).unwrap();
    create(
        store,
        &CLI,
        &CreateToken {
            account: "BOB",
            name: "laptop",
            scopes: "vso.code",
            expires_at,
            limits: &TokenLimits::NONE,
        },
    )
    .unwrap()
}

#[test]
fn a_token_is_56_characters_that_gnu_base64_leaves_on_one_line() {
    let plain = PlainToken::generate().unwrap();
    assert_eq!(plain.expose().len(), TOKEN_BYTES);
    assert!(plain.expose().starts_with("pgt_"));
    // GNU base64 breaks lines after 76 characters, which 57 bytes take: a colon and the token.
    assert_eq!((1 + TOKEN_BYTES).div_ceil(3) * 4, 76);
}

#[test]
fn what_is_made_is_parsed_and_digested_alike() {
    let plain = PlainToken::generate().unwrap();
    let parsed = PlainToken::parse(plain.expose()).unwrap();
    assert_eq!(parsed.hash(), plain.hash());
    assert_eq!(parsed.id().unwrap().as_str(), &plain.expose()[4..12]);
}

#[test]
fn the_checksum_is_the_crc32_of_id_and_secret_in_base62() {
    // The published example of a token format with the same checksum and alphabet.
    assert_eq!(checksum(b"zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ"), *b"0mLq17");
    // 0xcbf43926, the check value of CRC-32 (IEEE).
    let value = checksum(b"123456789").iter().fold(0, |value: u64, digit| {
        let digit = ALPHABET.iter().position(|character| character == digit).unwrap();
        value * 62 + u64::try_from(digit).unwrap()
    });
    assert_eq!(value, 0xcbf4_3926);
    assert_eq!(checksum(b""), *b"000000");
}

#[test]
fn a_wrong_character_anywhere_is_refused_before_any_look_up() {
    let plain = PlainToken::generate().unwrap();
    for position in 0..TOKEN_BYTES {
        let mut text = plain.expose().to_owned().into_bytes();
        text[position] = if text[position] == b'x' { b'y' } else { b'x' };
        let expected = if position < 4 {
            ParseError::Shape
        } else {
            ParseError::Checksum
        };
        assert_eq!(
            PlainToken::parse(str::from_utf8(&text).unwrap()).unwrap_err(),
            expected,
            "{position}"
        );
    }
}

#[test]
fn other_texts_are_no_tokens() {
    let plain = PlainToken::generate().unwrap();
    let longer = format!("{}0", plain.expose());
    let umlaut = format!("pgt_{}ä", "a".repeat(50));
    for text in [
        "",
        "pgt_",
        &plain.expose()[..55],
        &longer,
        &umlaut,
        &plain.expose().to_uppercase(),
    ] {
        assert_eq!(PlainToken::parse(text).unwrap_err(), ParseError::Shape, "{text}");
    }
}

#[test]
fn every_character_of_the_alphabet_is_about_as_likely_as_any_other() {
    const COUNT: usize = 62 * 2000;
    let mut text = String::new();
    push_random(&mut text, COUNT).unwrap();
    assert_eq!(text.len(), COUNT);
    for character in ALPHABET {
        let found = text.bytes().filter(|byte| byte == character).count();
        // 2000 expected with a deviation of 44; a modulo of 256 would give eight of them 2422 and the others 1938.
        assert!(
            (1700..2300).contains(&found),
            "{} was drawn {found} times",
            char::from(*character)
        );
    }
}

#[test]
fn tokens_do_not_repeat() {
    let all: HashSet<String> = (0..1000)
        .map(|_| PlainToken::generate().unwrap().expose().to_owned())
        .collect();
    assert_eq!(all.len(), 1000);
}

#[test]
fn nothing_prints_a_token() {
    let plain = PlainToken::generate().unwrap();
    let printed = format!("{plain:?} {:?} {:#?}", plain.hash(), plain.hash());
    assert!(!printed.contains(&plain.expose()[4..]), "{printed}");
    assert_eq!(format!("{plain:?}"), "PlainToken(…)");
}

#[test]
fn an_expiry_is_days_a_day_or_a_moment() {
    let now = at("2026-11-22T10:30:00Z");
    assert_eq!(parse_expiry("90d", now), Ok(at("2027-02-20T10:30:00Z")));
    assert_eq!(parse_expiry("365d", now), Ok(at("2027-11-22T10:30:00Z")));
    assert_eq!(parse_expiry("2036-11-19", now), Ok(at("2036-11-19T00:00:00Z")));
    assert_eq!(parse_expiry("2027-01-31", now), Ok(at("2027-01-31T00:00:00Z")));
    assert_eq!(
        parse_expiry("2027-01-31T18:00:00+02:00", now),
        Ok(at("2027-01-31T16:00:00Z"))
    );
    assert_eq!(parse_expiry("2027-11-22", now), Ok(at("2027-11-22T00:00:00Z")));
}

#[test]
fn an_expiry_that_is_none_or_has_passed_is_refused() {
    let now = at("2026-11-22T10:30:00Z");
    assert_eq!(parse_expiry("99999999999999999999d", now), Ok(Timestamp::MAX));
    assert_eq!(
        expiry_in_days(3651, now).unwrap_err().to_string(),
        "a token lives at most 3650 days: give '3650d' or a date up to 2036-11-19"
    );
    for text in ["0d", "2026-11-22", "2020-01-01", "2026-11-22T10:30:00Z"] {
        assert!(
            matches!(parse_expiry(text, now), Err(ExpiryError::Past { .. })),
            "{text}"
        );
    }
    for text in [
        "",
        "d",
        "-1d",
        "+5d",
        "1.5d",
        "90",
        "soon",
        "2027-02-30",
        "31.01.2027",
    ] {
        assert_eq!(parse_expiry(text, now), Err(ExpiryError::Shape), "{text}");
    }
    assert!(expiry_in_days(i64::MIN, now).is_err());
}

#[test]
fn a_created_token_is_kept_as_its_digest_alone() {
    let (directory, store) = store_with_bob();
    let (token, plain) = create_for_bob(&store);
    assert_eq!(
        (token.account.as_str(), token.scopes.as_str()),
        ("bob", "vso.code")
    );
    assert_eq!(plain.id().unwrap(), token.id);
    assert_eq!(store.find_token_by_hash(&plain.hash()).unwrap().unwrap().0, token);
    let secret = &plain.expose().as_bytes()[12..];
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(
            !bytes.windows(secret.len()).any(|window| window == secret),
            "the secret is on disk"
        );
    }
}

#[test]
fn a_token_is_not_made_of_what_makes_no_sense() {
    let (_directory, store) = store_with_bob();
    let now = Timestamp::now();
    let expires_at = expiry_in_days(1, now).unwrap();
    let new = |account, name, scopes, expires_at| {
        create(
            &store,
            &CLI,
            &CreateToken {
                account,
                name,
                scopes,
                expires_at,
                limits: &TokenLimits::NONE,
            },
        )
        .unwrap_err()
    };
    assert!(matches!(
        new("eve", "x", "vso.code", expires_at),
        Error::Store(store::Error::AccountNotFound { .. })
    ));
    assert!(matches!(
        new("bob", "x", "vso.codes", expires_at),
        Error::Scope(ScopeError::Unknown { .. })
    ));
    assert!(matches!(
        new("bob", "x\n", "vso.code", expires_at),
        Error::Store(store::Error::Label { .. })
    ));
    assert!(matches!(
        new("bob", "x", "vso.code", now),
        Error::Expiry(ExpiryError::Past { .. })
    ));
    assert!(matches!(
        new("bob", "x", "vso.code", Timestamp::MAX),
        Error::Policy(_)
    ));
    store.set_account_disabled(&CLI, "bob", true).unwrap();
    assert!(matches!(
        new("bob", "x", "vso.code", expires_at),
        Error::AccountDisabled { .. }
    ));
    assert!(store.tokens(None).unwrap().is_empty());
}

#[test]
fn a_rotated_token_has_its_id_and_another_secret() {
    let (_directory, store) = store_with_bob();
    let (token, old) = create_for_bob(&store);
    let (rotated, new) = rotate(&store, &CLI, &token.id, &RotateToken::default()).unwrap();
    let expected = Token {
        rotated_at: rotated.rotated_at,
        ..token.clone()
    };
    assert_eq!(rotated, expected);
    assert!(rotated.rotated_at.is_some());
    assert_eq!(new.id().unwrap(), token.id);
    assert_ne!(new.expose(), old.expose());
    assert!(store.find_token_by_hash(&old.hash()).unwrap().is_none());
}

#[test]
fn a_secret_is_live_until_it_is_replaced_or_its_overlap_is_over() {
    let (_directory, store) = store_with_bob();
    let (token, first) = create_for_bob(&store);
    let now = Timestamp::now();
    let live = |plain: &PlainToken, at: Timestamp| {
        find_live(&store, plain, at)
            .unwrap()
            .map(|(token, account)| (token.id, account.name))
    };
    let expected = Some((token.id.clone(), "bob".to_owned()));
    assert_eq!(live(&first, now), expected);
    let overlap = RotateToken {
        overlap: Some(SignedDuration::from_hours(2)),
        ..RotateToken::default()
    };
    let (_, second) = rotate(&store, &CLI, &token.id, &overlap).unwrap();
    assert_eq!(
        (live(&first, now), live(&second, now)),
        (expected.clone(), expected.clone())
    );
    assert_eq!(live(&first, now + SignedDuration::from_hours(3)), None);
    let (_, third) = rotate(&store, &CLI, &token.id, &RotateToken::default()).unwrap();
    assert_eq!((live(&first, now), live(&second, now)), (None, None));
    assert_eq!(live(&third, token.expires_at), None, "it ends with the token");
    store.set_account_disabled(&CLI, "bob", true).unwrap();
    assert_eq!(live(&third, now), expected);
    store.revoke_token(&CLI, &token.id, RevokeReason::Asked).unwrap();
    assert_eq!(live(&third, now), None);
}

#[test]
fn overlaps_are_minutes_hours_or_days_and_at_most_a_week() {
    for (text, minutes) in [
        ("30m", 30),
        ("2h", 120),
        ("1d", 1440),
        ("7d", 10_080),
        ("168h", 10_080),
        ("0m", 0),
    ] {
        assert_eq!(
            parse_overlap(text),
            Ok(SignedDuration::from_mins(minutes)),
            "{text}"
        );
    }
    for text in [
        "8d",
        "169h",
        "10081m",
        "99999999999999999999d",
        "9223372036854775807h",
    ] {
        assert_eq!(parse_overlap(text), Err(OverlapError::TooLong), "{text}");
    }
    for text in ["", "h", "2", "-1h", "+1h", "1.5h", "2 h", "2w", "soon", "1h30m"] {
        assert_eq!(parse_overlap(text), Err(OverlapError::Shape), "{text}");
    }
    let (_directory, store) = store_with_bob();
    let (token, _) = create_for_bob(&store);
    for hours in [-1, OVERLAP_HOURS_MAX + 1] {
        let options = RotateToken {
            overlap: Some(SignedDuration::from_hours(hours)),
            ..RotateToken::default()
        };
        assert!(matches!(
            rotate(&store, &CLI, &token.id, &options),
            Err(Error::Overlap(_))
        ));
    }
}

#[test]
fn an_expired_token_comes_back_only_with_a_new_secret_and_end() {
    let (_directory, store) = store_with_bob();
    let (token, _plain) = create_for_bob(&store);
    let past = TokenChange {
        expires_at: Some(at("2020-01-01T00:00:00Z")),
        ..TokenChange::default()
    };
    store.update_token(&CLI, &token.id, &past).unwrap();
    let end = expiry_in_days(1, Timestamp::now()).unwrap();
    let change = UpdateToken {
        expires_at: Some(end),
        ..UpdateToken::default()
    };
    assert!(matches!(
        update(&store, &CLI, &token.id, &change),
        Err(Error::Expired { .. })
    ));
    assert!(matches!(
        rotate(&store, &CLI, &token.id, &RotateToken::default()),
        Err(Error::Expired { .. })
    ));
    let (rotated, _plain) = rotate(
        &store,
        &CLI,
        &token.id,
        &RotateToken {
            expires_at: Some(end),
            ..RotateToken::default()
        },
    )
    .unwrap();
    assert_eq!(rotated.expires_at.as_second(), end.as_second());
}

#[test]
fn an_update_checks_scopes_and_end() {
    let (_directory, store) = store_with_bob();
    let (token, _plain) = create_for_bob(&store);
    let scopes = |scopes| UpdateToken {
        scopes: Some(scopes),
        ..UpdateToken::default()
    };
    let updated = update(&store, &CLI, &token.id, &scopes("vso.work vso.code_write")).unwrap();
    assert_eq!(updated.scopes, "vso.code_write vso.work");
    assert!(matches!(
        update(&store, &CLI, &token.id, &scopes("vso")),
        Err(Error::Scope(_))
    ));
    let change = UpdateToken {
        expires_at: Some(Timestamp::MAX),
        ..UpdateToken::default()
    };
    assert!(matches!(
        update(&store, &CLI, &token.id, &change),
        Err(Error::Policy(_))
    ));
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "(pgt_)?[ -~é]{0,60}") {
        prop_assert!(PlainToken::parse(&text).is_err());
    }

    #[test]
    fn any_expiry_is_read_or_refused(text in ".{0,30}", days in any::<i64>()) {
        let now = at("2026-11-22T10:30:00Z");
        let _ = parse_expiry(&text, now);
        let _ = parse_overlap(&text);
        let _ = parse_expiry(&format!("{days}d"), now);
        let _ = expiry_in_days(days, now);
    }
}

#[test]
fn what_is_made_or_widened_is_held_against_the_policies() {
    use policy::Setting;

    let (_directory, store) = store_with_bob();
    let set = |name: &str, value: &str| {
        let setting = Setting::parse(name.parse().unwrap(), value).unwrap();
        policy::set(&store, &CLI, None, &setting).unwrap();
    };
    let days = |days| expiry_in_days(days, Timestamp::now()).unwrap();
    let new = |scopes, expires_at| {
        create(
            &store,
            &CLI,
            &CreateToken {
                account: "bob",
                name: "x",
                scopes,
                expires_at,
                limits: &TokenLimits::NONE,
            },
        )
        .map(|(token, _)| token)
    };
    let refused = |outcome: Result<Token, Error>| match outcome.unwrap_err() {
        Error::Policy(refusal) => refusal.to_string(),
        error => panic!("{error}"),
    };
    let long = new("app_token", days(365)).unwrap();
    assert!(
        refused(new("app_token", days(366))).starts_with("this server lets a token live at most 365 days")
    );
    let short = new("vso.code", days(20)).unwrap();
    set("max-lifetime", "30");
    set("full-scope", "deny");
    refused(new("vso.code", days(31)));
    refused(new("app_token", days(30)));
    new("vso.code", days(30)).unwrap();

    let change = |token: &Token, change: UpdateToken<'_>| update(&store, &CLI, &token.id, &change);
    let scoped = |scopes| UpdateToken {
        scopes: Some(scopes),
        ..UpdateToken::default()
    };
    let ending = |end| UpdateToken {
        expires_at: Some(end),
        ..UpdateToken::default()
    };
    refused(change(&short, scoped("app_token")));
    change(&short, scoped("vso.code_write")).unwrap();
    change(&short, ending(days(29))).unwrap();
    refused(change(&short, ending(days(31))));
    change(&long, ending(days(200))).unwrap();
    refused(change(&long, ending(days(201))));
    let rotated = |token: &Token, expires_at| {
        let options = RotateToken {
            expires_at,
            ..RotateToken::default()
        };
        rotate(&store, &CLI, &token.id, &options).map(|(token, _)| token)
    };
    rotated(&long, None).unwrap();
    rotated(&long, Some(days(100))).unwrap();
    refused(rotated(&long, Some(days(101))));
    rotated(&short, Some(days(30))).unwrap();
    refused(rotated(&short, Some(days(31))));
    let missing = rotated(
        &Token {
            id: "ZZZZZZZZ".parse().unwrap(),
            ..short
        },
        Some(days(1)),
    );
    assert!(matches!(
        missing,
        Err(Error::Store(store::Error::TokenNotFound { .. }))
    ));
}

#[test]
fn a_rotation_takes_away_and_gives_nothing() {
    let (_directory, store) = store_with_bob();
    let networks = parse_networks(&["10.0.0.0/8"]).unwrap();
    let limits = TokenLimits {
        paths: parse_paths(&["C/P", "D"]).unwrap(),
        refs: parse_refs(&["refs/heads/*"]).unwrap(),
        networks,
    };
    let new = CreateToken {
        account: "bob",
        name: "ci",
        scopes: "vso.code_write vso.work",
        expires_at: expiry_in_days(90, Timestamp::now()).unwrap(),
        limits: &limits,
    };
    let (token, _) = create(&store, &CLI, &new).unwrap();
    let attempt = |scopes: Option<&str>, limits: Option<&TokenLimits>| {
        let options = RotateToken {
            scopes,
            limits,
            ..RotateToken::default()
        };
        rotate(&store, &CLI, &token.id, &options).map(|(token, _)| token)
    };
    for scopes in ["app_token", "vso.code_manage", "vso.code vso.build"] {
        let error = attempt(Some(scopes), None).unwrap_err();
        assert!(
            matches!(error, Error::NotNarrower(Widening::Scopes { .. })),
            "{error}"
        );
    }
    assert!(matches!(attempt(Some("nonsense"), None), Err(Error::Scope(_))));
    for (paths, refs, networks, field) in [
        (
            &[][..],
            &["refs/heads/*"][..],
            &["10.0.0.0/8"][..],
            LimitField::Paths,
        ),
        (&["C"], &["refs/heads/*"], &["10.0.0.0/8"], LimitField::Paths),
        (&["D"], &[], &["10.0.0.0/8"], LimitField::Refs),
        (&["D"], &["refs/tags/x"], &["10.0.0.0/8"], LimitField::Refs),
        (&["D"], &["refs/heads/x"], &["0.0.0.0/0"], LimitField::Networks),
    ] {
        let wider = TokenLimits {
            paths: parse_paths(paths).unwrap(),
            refs: parse_refs(refs).unwrap(),
            networks: parse_networks(networks).unwrap(),
        };
        let error = attempt(None, Some(&wider)).unwrap_err();
        assert!(
            matches!(&error, Error::NotNarrower(Widening::Limits(found)) if *found == field),
            "{error}"
        );
    }
    assert_eq!(store.find_token(&token.id).unwrap().unwrap(), token);
    let narrower = TokenLimits {
        paths: parse_paths(&["C/P/R"]).unwrap(),
        refs: parse_refs(&["refs/heads/main"]).unwrap(),
        networks: parse_networks(&["10.1.0.0/16"]).unwrap(),
    };
    let rotated = attempt(Some("vso.code"), Some(&narrower)).unwrap();
    assert_eq!(
        (rotated.scopes.as_str(), &rotated.limits),
        ("vso.code", &narrower)
    );
}

#[test]
fn a_secret_that_was_presented_rotates_its_token_once() {
    let (_directory, store) = store_with_bob();
    let (token, first) = create_for_bob(&store);
    let by = |plain: &PlainToken| {
        let options = RotateToken {
            presented: Some(&plain.hash()),
            overlap: Some(SignedDuration::from_hours(1)),
            ..RotateToken::default()
        };
        rotate(&store, &CLI, &token.id, &options).map(|(_, plain)| plain)
    };
    let second = by(&first).unwrap();
    let error = by(&first).unwrap_err();
    assert!(
        matches!(error, Error::Store(store::Error::SecretReplaced { .. })),
        "{error}"
    );
    by(&second).unwrap();
}

#[test]
fn what_was_worked_out_from_a_token_that_has_changed_since_undoes_nothing() {
    let (_directory, store) = store_with_bob();
    let (before, _plain) = create_for_bob(&store);
    let networks = parse_networks(&["10.0.0.0/8"]).unwrap();
    let narrower = UpdateToken {
        networks: Some(&networks),
        ..UpdateToken::default()
    };
    let narrowed = update(&store, &CLI, &before.id, &narrower).unwrap();
    // Somebody who had read it before limits it to a path, and means all the rest to stay.
    let limits = TokenLimits {
        paths: parse_paths(&["C"]).unwrap(),
        ..before.limits.clone()
    };
    let change = UpdateToken {
        before: Some(&before),
        limits: Some(&limits),
        ..UpdateToken::default()
    };
    let is_changed = |error: &Error| matches!(error, Error::Store(store::Error::TokenChanged { .. }));
    let error = update(&store, &CLI, &before.id, &change).unwrap_err();
    assert!(is_changed(&error), "{error}");
    let rotation = RotateToken {
        before: Some(&before),
        limits: Some(&limits),
        ..RotateToken::default()
    };
    let error = rotate(&store, &CLI, &before.id, &rotation).unwrap_err();
    assert!(is_changed(&error), "{error}");
    assert_eq!(store.find_token(&before.id).unwrap().unwrap(), narrowed);
}
