//! How often the password of one name may be tried, from however many addresses.
//!
//! Each name has a bucket of attempts, refilled slowly. An attempt is taken before a password is verified, so that a
//! thousand at once are no more than one after the other, and given back when it was right. Names are counted whether
//! anybody has them or not, or the answer would tell. The table has a fixed size and forgets nothing: names that fall
//! into one bucket share it, and since the hash has a random key nobody can choose them to.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Attempts at once. Whoever mistypes has some, and libgit2 repeats what was refused.
const BURST: u64 = 5;

/// Milliseconds until one more attempt is there.
const REFILL_MILLISECONDS: u64 = 12_000;

/// Buckets; 8 bytes each. To empty them all takes more addresses than a throttled attacker has.
const BUCKETS_COUNT: usize = 1 << 14;

/// Counts attempts by name.
#[derive(Debug)]
pub(super) struct Attempts {
    hasher: RandomState,
    /// For each bucket the moment, in milliseconds, at which it is full again.
    full_at: Vec<u64>,
}

impl Attempts {
    pub(super) fn new() -> Attempts {
        Attempts {
            hasher: RandomState::new(),
            full_at: vec![0; BUCKETS_COUNT],
        }
    }

    /// Takes one attempt of `name`.
    ///
    /// # Errors
    ///
    /// How long to wait if there is none.
    pub(super) fn take(&mut self, name: &str, now: Duration) -> Result<(), Duration> {
        let now = milliseconds(now);
        let Some(full_at) = self.bucket(name) else {
            return Ok(());
        };
        let borne_until = now.saturating_add(REFILL_MILLISECONDS.saturating_mul(BURST - 1));
        match full_at.checked_sub(borne_until) {
            Some(wait) if wait > 0 => Err(Duration::from_millis(wait)),
            _ => {
                *full_at = (*full_at).max(now).saturating_add(REFILL_MILLISECONDS);
                Ok(())
            }
        }
    }

    /// Gives an attempt back that was right.
    pub(super) fn give_back(&mut self, name: &str) {
        if let Some(full_at) = self.bucket(name) {
            *full_at = full_at.saturating_sub(REFILL_MILLISECONDS);
        }
    }

    fn bucket(&mut self, name: &str) -> Option<&mut u64> {
        let hash = self.hasher.hash_one(name.to_lowercase());
        let at = usize::try_from(hash % BUCKETS_COUNT as u64).ok()?;
        self.full_at.get_mut(at)
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1000);

    #[test]
    fn after_the_burst_a_name_waits_for_each_refill() {
        let mut attempts = Attempts::new();
        for _ in 0..BURST {
            assert_eq!(attempts.take("bob", START), Ok(()));
        }
        let wait = Duration::from_secs(12);
        assert_eq!(attempts.take("BOB", START), Err(wait), "case does not matter");
        assert_eq!(attempts.take("bob", START + wait), Ok(()));
        assert_eq!(attempts.take("bob", START + wait), Err(wait));
        assert_eq!(
            attempts.take("bob", START + wait / 2 + wait),
            Err(wait / 2),
            "a refused attempt is not counted"
        );
    }

    #[test]
    fn what_is_given_back_was_never_taken() {
        let mut attempts = Attempts::new();
        for _ in 0..100 {
            assert_eq!(attempts.take("bob", START), Ok(()));
            attempts.give_back("bob");
        }
    }

    #[test]
    fn however_many_are_tried_in_an_hour_few_are_let_through() {
        let mut attempts = Attempts::new();
        let taken = (0..36_000)
            .filter(|tenth| {
                attempts
                    .take("bob", START + Duration::from_millis(100 * tenth))
                    .is_ok()
            })
            .count();
        assert_eq!(taken, 5 + 299);
    }

    #[test]
    fn flooding_the_table_with_names_frees_none() {
        let mut attempts = Attempts::new();
        for _ in 0..BURST {
            let _ = attempts.take("bob", START);
        }
        for number in 0..100_000 {
            let _ = attempts.take(&format!("name {number}"), START);
        }
        assert!(attempts.take("bob", START).is_err());
    }
}
