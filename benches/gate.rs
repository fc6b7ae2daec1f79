//! The gate's share of a request, with a million tokens in the store: a token that it knows, one that it has to look up,
//! one that there is not, and for comparison the question whether anything changed.
//!
//!     cargo bench --bench gate

#![expect(
    clippy::unwrap_used,
    reason = "a measurement ends by panicking when it cannot be made"
)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::{Criterion, criterion_group, criterion_main};
use patgate::auth::token::{PlainToken, expiry_in_days};
use patgate::auth::{Client, Gate, Options};
use patgate::names::{AccessPath, RepoPath};
use patgate::store::{Actor, DATABASE_FILE, NewAccount, Role, Store};

const TOKENS: usize = 1_000_000;

/// Tokens that are looked up in turn: far more than the gate remembers.
const COLD: usize = 100_000;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn bearer(token: &PlainToken) -> Vec<u8> {
    format!("Bearer {}", token.expose()).into_bytes()
}

/// Fills the store in one transaction: by the front door each token is one of its own, synced to disk.
fn fill(path: &std::path::Path) -> Vec<Vec<u8>> {
    let mut database = rusqlite::Connection::open(path).unwrap();
    let now = jiff::Timestamp::now();
    let expires_at = expiry_in_days(90, now).unwrap().as_second();
    let transaction = database.transaction().unwrap();
    let mut headers = Vec::with_capacity(COLD);
    {
        let mut insert = transaction
            .prepare(
                "INSERT INTO tokens (id, digest, account_id, name, scopes, created_at, expires_at) \
                 VALUES (?1, ?2, 1, ?3, 'vso.code', ?4, ?5)",
            )
            .unwrap();
        for number in 0..TOKENS {
            let token = PlainToken::generate().unwrap();
            let hash = token.hash();
            insert
                .execute(rusqlite::params![
                    token.id().unwrap().as_str(),
                    hash.as_bytes().as_slice(),
                    format!("token {number}"),
                    now.as_second(),
                    expires_at,
                ])
                .unwrap();
            if number % (TOKENS / COLD) == 0 {
                headers.push(bearer(&token));
            }
        }
    }
    transaction.commit().unwrap();
    headers
}

fn gate(criterion: &mut Criterion) {
    // What lists or runs all targets measures nothing.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(DATABASE_FILE);
    let store = Store::open(&path).unwrap();
    let account = NewAccount {
        name: "bob",
        password: None,
        is_admin: false,
        must_change_password: false,
    };
    store.create_account(&Actor::CommandLine, &account).unwrap();
    let collection = AccessPath::parse("C").unwrap();
    store
        .grant_access(&Actor::CommandLine, Some("bob"), &collection, Role::Reader)
        .unwrap();
    let headers = fill(&path);
    let gate = Gate::new(store, Options::default());
    let repository = RepoPath::parse("C/P/R").unwrap();
    let fetch = |header: &[u8]| {
        let principal = gate.authenticate(Some(header), Client::from(CLIENT)).unwrap();
        gate.authorize_fetch(&principal, Some(&repository)).unwrap()
    };
    let mut group = criterion.benchmark_group("gate");
    group.bench_function("a token that it knows", |bencher| {
        bencher.iter(|| fetch(black_box(&headers[0])));
    });
    let mut next = headers.iter().cycle();
    group.bench_function("a token that it looks up", |bencher| {
        bencher.iter(|| fetch(next.next().unwrap()));
    });
    // From ever other addresses, or the throttle would answer.
    let unknown = bearer(&PlainToken::generate().unwrap());
    let mut address = 0x0a00_0000_u32;
    group.bench_function("a token that there is not", |bencher| {
        bencher.iter(|| {
            address += 1;
            let from = Client::from(IpAddr::from(Ipv4Addr::from_bits(address)));
            gate.authenticate(Some(black_box(&unknown)), from).unwrap_err()
        });
    });
    group.bench_function("whether anything changed", |bencher| {
        bencher.iter(|| gate.store().generation().unwrap());
    });
    group.finish();
}

criterion_group!(benches, gate);
criterion_main!(benches);
