//! When, from where, with what and for what tokens are used.

use super::*;

fn from(f: &Fixture, plain: &PlainToken, address: &str) -> Principal {
    let client = Client::new(address.parse().unwrap(), Some(b"git/2.47.3"));
    f.gate
        .authenticate(Some(&bearer(plain.expose())), client)
        .unwrap()
}

fn fetch_from(f: &Fixture, plain: &PlainToken, address: &str) {
    let principal = from(f, plain, address);
    f.gate.authorize_fetch(&principal, Some(&repo())).unwrap();
}

fn token(f: &Fixture, id: &TokenId) -> Token {
    f.gate.flush();
    f.elsewhere.find_token(id).unwrap().unwrap()
}

fn addresses(f: &Fixture, id: &TokenId) -> Vec<String> {
    f.gate.flush();
    let all = f.elsewhere.token_addresses(id).unwrap();
    all.into_iter().map(|one| one.address.to_string()).collect()
}

#[test]
fn a_use_is_written_once_a_minute_and_voids_nothing_that_is_cached() {
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Reader);
    let (id, plain) = f.token("bob", "vso.code");
    let last_used = || token(&f, &id).last_used_at.unwrap().as_second();
    fetch_from(&f, &plain, "192.0.2.1");
    let first = f.clock.now().as_second();
    assert_eq!(last_used(), first);
    let generation = f.gate.store().generation().unwrap();
    f.clock.advance(Duration::from_secs(59));
    fetch_from(&f, &plain, "192.0.2.1");
    assert_eq!(last_used(), first);
    f.clock.advance(Duration::from_secs(1));
    fetch_from(&f, &plain, "192.0.2.1");
    assert_eq!(last_used(), first + 60);
    assert_eq!(f.gate.store().generation().unwrap(), generation);
}

#[test]
fn a_use_says_from_where_with_what_and_what_for() {
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Administrator);
    let (id, plain) = f.token("bob", "vso.code_manage");
    let repository = repo();
    let used_for = |purpose: &dyn Fn(&Principal)| {
        f.clock.advance(Duration::from_secs(60));
        purpose(&from(&f, &plain, "::ffff:198.51.100.7"));
        token(&f, &id).last_used_for.unwrap()
    };
    assert_eq!(
        used_for(&|principal| drop(f.gate.authorize_fetch(principal, Some(&repository)).unwrap())),
        "fetch C/P/R"
    );
    assert_eq!(
        used_for(&|principal| drop(f.gate.authorize_push(principal, Some(&repository)).unwrap())),
        "push C/P/R"
    );
    assert_eq!(
        used_for(&|principal| drop(f.gate.authorize_manage(principal, &repository).unwrap())),
        "api manage C/P/R"
    );
    assert_eq!(
        used_for(&|principal| f.gate.authorize_api(principal, Operation::ReadProfile).unwrap()),
        "api read-profile"
    );
    let token = token(&f, &id);
    assert_eq!(token.last_used_from, Some([198, 51, 100, 7].into()));
    assert_eq!(token.last_used_with.as_deref(), Some("git/2.47.3"));
}

#[test]
fn what_is_refused_is_no_use() {
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Reader);
    let (id, plain) = f.token("bob", "vso.code_write");
    let principal = f.authenticate(&plain).unwrap();
    refused(f.gate.authorize_fetch(&principal, None), 404);
    refused(f.gate.authorize_push(&principal, Some(&repo())), 403);
    refused(f.gate.authorize_api(&principal, Operation::ReadAuditLog), 403);
    f.gate.visible_role(&principal, &repo()).unwrap();
    assert_eq!(token(&f, &id).last_used_at, None);
    assert!(addresses(&f, &id).is_empty());
}

#[test]
fn new_addresses_are_noted_within_the_minute_but_not_without_bound() {
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Reader);
    let (id, plain) = f.token("bob", "vso.code");
    let address = |number: u32| format!("192.0.2.{number}");
    for number in 1..=9 {
        fetch_from(&f, &plain, &address(number));
        fetch_from(&f, &plain, &address(1));
    }
    let mut noted = addresses(&f, &id);
    noted.sort();
    assert_eq!(noted, [1, 2, 3, 4, 5].map(address));
    f.clock.advance(Duration::from_secs(60));
    for number in [8, 9] {
        fetch_from(&f, &plain, &address(number));
    }
    let noted = addresses(&f, &id);
    assert_eq!(noted.len(), 5, "{noted:?}");
    assert_eq!(noted[..2], [8, 9].map(address));
    assert_eq!(token(&f, &id).last_used_from, Some([192, 0, 2, 9].into()));
}

#[test]
fn shutting_down_writes_the_uses_that_wait() {
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Reader);
    let (id, plain) = f.token("bob", "vso.code");
    fetch_from(&f, &plain, "192.0.2.1");
    f.gate.shutdown();
    assert!(token(&f, &id).last_used_at.is_some());
    f.gate.shutdown();
    f.clock.advance(Duration::from_secs(120));
    fetch_from(&f, &plain, "192.0.2.1");
    f.gate.flush();
}

#[test]
fn the_last_gate_to_be_dropped_writes_the_uses_that_wait() {
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Reader);
    let (id, plain) = f.token("bob", "vso.code");
    fetch_from(&f, &plain, "192.0.2.1");
    drop(f.gate);
    let token = f.elsewhere.find_token(&id).unwrap().unwrap();
    assert!(token.last_used_at.is_some());
}
