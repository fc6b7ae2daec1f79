//! Which uses of a token are worth noting.
//!
//! The first of a minute is, and within it the first from each further address, as many as are kept. So a token that is
//! busy costs a write a minute, and one that wanders from address to address a few.

use std::net::IpAddr;
use std::sync::Mutex;

use jiff::Timestamp;

use super::{Gate, Verified, lock};
use crate::auth::client::Client;
use crate::auth::scope::Operation;
use crate::names::RepoPath;
use crate::store::{TOKEN_ADDRESSES_COUNT, Token, TokenUse};

/// Seconds within which a further use from the same address is not noted again.
const USE_SECONDS: i64 = 60;

/// What was noted of a token lately.
#[derive(Debug)]
pub(super) struct Noted(Mutex<Minute>);

#[derive(Debug)]
struct Minute {
    /// Seconds since 1970-01-01 UTC.
    began_at: i64,
    addresses: Vec<IpAddr>,
}

impl Noted {
    /// Begins with what the store says.
    pub(super) fn new(token: &Token) -> Noted {
        Noted(Mutex::new(Minute {
            began_at: token.last_used_at.map_or(i64::MIN, Timestamp::as_second),
            addresses: token.last_used_from.into_iter().collect(),
        }))
    }

    /// Tells whether a use is to be noted, and remembers that it was: of many at once only one hears so.
    fn is_news(&self, now: Timestamp, from: IpAddr) -> bool {
        let mut minute = lock(&self.0);
        if now.as_second() >= minute.began_at.saturating_add(USE_SECONDS) {
            minute.began_at = now.as_second();
            minute.addresses.clear();
        } else if minute.addresses.contains(&from)
            || minute.addresses.len() >= usize::from(TOKEN_ADDRESSES_COUNT)
        {
            return false;
        }
        minute.addresses.push(from);
        true
    }

    /// When the last minute with a use began, in seconds since 1970-01-01 UTC. It may be too early, never too late.
    pub(super) fn last_at(&self) -> i64 {
        lock(&self.0).began_at
    }

    /// Forgets what was remembered, because it could not be noted.
    fn forget(&self) {
        lock(&self.0).began_at = i64::MIN;
    }
}

impl Gate {
    /// Notes that a token was let through to an operation.
    pub(super) fn note_use(
        &self,
        verified: &Verified,
        client: &Client,
        operation: Operation,
        repository: Option<&RepoPath>,
    ) {
        let now = self.0.options.clock.now();
        if !verified.noted.is_news(now, client.address) {
            return;
        }
        let used = TokenUse {
            id: verified.token_id.clone(),
            at: now,
            from: client.address,
            with: client.agent.as_deref().map(str::to_owned),
            purpose: purpose(operation, repository),
        };
        if !self.0.recorder.record_use(used) {
            verified.noted.forget();
        }
    }
}

/// `fetch C/P/R`, `push C/P/R`, `api read-profile`, `api manage C/P/R`.
fn purpose(operation: Operation, repository: Option<&RepoPath>) -> String {
    let verb = match operation {
        Operation::Fetch | Operation::Push => operation.name().to_owned(),
        _ => format!("api {}", operation.name()),
    };
    match repository {
        Some(repository) => format!("{verb} {repository}"),
        None => verb,
    }
}
