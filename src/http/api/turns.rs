//! Places for calls that walk the history of a repository, which takes as long as whoever made it wants.
//!
//! They are few and their own, so that whoever fills them shuts nobody out but others who want one, and a caller has one
//! at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::http::permits::{Full, Permit, Permits};
use crate::store::{AccountId, TokenId};

/// Walks that run at once.
const WALKS_AT_ONCE: usize = 3;

/// Callers of whom one waits for them.
const WALKS_QUEUED_MAX: usize = 64;

/// Calls of one caller that wait for the one before them.
const CALLS_QUEUED_MAX: usize = 16;

/// Who can have one walk at a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Walker {
    /// A token, by its public id.
    Token(TokenId),
    /// Somebody without one.
    Account(AccountId),
}

/// The places, and who has one or waits.
#[derive(Debug)]
pub(super) struct Turns {
    walks: Permits,
    /// No more entries than there are requests.
    walkers: Mutex<HashMap<Walker, Arc<Permits>>>,
}

/// The right to one walk, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _walk: Permit,
    _own: Permit,
}

impl Turns {
    pub fn new() -> Turns {
        Turns {
            walks: Permits::new(WALKS_AT_ONCE, WALKS_QUEUED_MAX),
            walkers: Mutex::default(),
        }
    }

    /// Waits for a place, for at most twice `wait_max`: first for the end of what the same caller runs.
    ///
    /// # Errors
    ///
    /// When too many wait already, or none became free in time.
    ///
    /// # Cancel safety
    ///
    /// A caller that goes away leaves the queues.
    pub async fn acquire(&self, walker: Walker, wait_max: Duration) -> Result<Turn, Full> {
        let own = {
            let mut walkers = self.walkers.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever waits has a clone.
            walkers.retain(|_, calls| Arc::strong_count(calls) > 1 || calls.running() > 0);
            let fresh = || Arc::new(Permits::new(1, CALLS_QUEUED_MAX));
            Arc::clone(walkers.entry(walker).or_insert_with(fresh))
        };
        let own = own.acquire(wait_max).await?;
        Ok(Turn {
            _walk: self.walks.acquire(wait_max).await?,
            _own: own,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(10);

    fn token(id: &str) -> Walker {
        Walker::Token(id.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_has_one_place_at_a_time_and_takes_none_of_the_others() {
        let turns = Turns::new();
        let first = turns.acquire(token("AAAAAAAA"), WAIT).await.unwrap();
        assert_eq!(
            turns.acquire(token("AAAAAAAA"), WAIT).await.unwrap_err(),
            Full::Wait
        );
        let second = turns.acquire(token("BBBBBBBB"), WAIT).await.unwrap();
        let third = turns.acquire(token("CCCCCCCC"), WAIT).await.unwrap();
        assert_eq!(
            turns.acquire(token("DDDDDDDD"), WAIT).await.unwrap_err(),
            Full::Wait
        );
        drop(first);
        let again = turns.acquire(token("AAAAAAAA"), WAIT).await.unwrap();
        drop((second, third, again));
        drop(turns.acquire(token("EEEEEEEE"), WAIT).await.unwrap());
        assert_eq!(
            turns.walkers.lock().unwrap().len(),
            1,
            "those that are gone are forgotten"
        );
    }
}
