//! How often the password of one name may be tried: from one address, and from all of them.
//!
//! Each pair of a name and an address (or /64 of IPv6 addresses) has a bucket of attempts, refilled slowly, and each name
//! has a larger one, so that many addresses together do not guess without end. The larger one is refilled faster than one
//! address can empty it, or whoever knows the name of an account could lock its owner out.
//!
//! An attempt is taken before a password is verified, so that a thousand at once are no more than one after the other, and
//! given back when it was right. Names are counted whether anybody has them or not, or the answer would tell. The tables
//! have a fixed size and forget nothing: what falls into one bucket shares it, and since the hash has a random key nobody
//! can choose that.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// What one address may try of one name. Whoever mistypes has some at once, and libgit2 repeats what was refused.
const FROM_ONE: Rate = Rate {
    burst: 5,
    refill_milliseconds: 12_000,
};

/// What all addresses together may try of one name: as much as four that never stop.
const FROM_ALL: Rate = Rate {
    burst: 50,
    refill_milliseconds: 3_000,
};

/// Buckets of each table; 8 bytes each. To empty them all takes more addresses than a throttled attacker has.
const BUCKETS_COUNT: usize = 1 << 14;

/// Whose password is tried, and from where.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// In lower case.
    name: String,
    /// None where it is not told: then it counts as one.
    address: Option<IpAddr>,
}

impl Source {
    /// `name` tried from `address`.
    pub(super) fn new(name: &str, address: Option<IpAddr>) -> Source {
        let network = |address: IpAddr| match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            // One customer holds it whole.
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        };
        Source {
            name: name.to_lowercase(),
            address: address.map(network),
        }
    }
}

/// Counts attempts by name and address, and by name.
#[derive(Debug)]
pub(super) struct Attempts {
    from_one: Table,
    from_all: Table,
}

impl Attempts {
    pub(super) fn new() -> Attempts {
        Attempts {
            from_one: Table::new(FROM_ONE),
            from_all: Table::new(FROM_ALL),
        }
    }

    /// Takes one attempt.
    ///
    /// # Errors
    ///
    /// How long to wait if there is none.
    pub(super) fn take(&mut self, source: &Source, now: Duration) -> Result<(), Duration> {
        let now = milliseconds(now);
        let key = (&source.name, source.address);
        let wait = self
            .from_one
            .wait(&key, now)
            .max(self.from_all.wait(&source.name, now));
        if wait > 0 {
            return Err(Duration::from_millis(wait));
        }
        self.from_one.take(&key, now);
        self.from_all.take(&source.name, now);
        Ok(())
    }

    /// Gives an attempt back that was right.
    pub(super) fn give_back(&mut self, source: &Source) {
        self.from_one.give_back(&(&source.name, source.address));
        self.from_all.give_back(&source.name);
    }
}

/// How much a bucket holds, and how fast it is filled again.
#[derive(Debug, Clone, Copy)]
struct Rate {
    /// Attempts at once.
    burst: u64,
    /// Until one more attempt is there.
    refill_milliseconds: u64,
}

#[derive(Debug)]
struct Table {
    rate: Rate,
    hasher: RandomState,
    /// For each bucket the moment, in milliseconds, at which it is full again.
    full_at: Vec<u64>,
}

impl Table {
    fn new(rate: Rate) -> Table {
        Table {
            rate,
            hasher: RandomState::new(),
            full_at: vec![0; BUCKETS_COUNT],
        }
    }

    /// Milliseconds until there is an attempt.
    fn wait(&mut self, key: &impl Hash, now: u64) -> u64 {
        let Rate {
            burst,
            refill_milliseconds,
        } = self.rate;
        let borne_until = now.saturating_add(refill_milliseconds.saturating_mul(burst - 1));
        self.bucket(key)
            .map_or(0, |full_at| full_at.saturating_sub(borne_until))
    }

    fn take(&mut self, key: &impl Hash, now: u64) {
        let refill = self.rate.refill_milliseconds;
        if let Some(full_at) = self.bucket(key) {
            *full_at = (*full_at).max(now).saturating_add(refill);
        }
    }

    fn give_back(&mut self, key: &impl Hash) {
        let refill = self.rate.refill_milliseconds;
        if let Some(full_at) = self.bucket(key) {
            *full_at = full_at.saturating_sub(refill);
        }
    }

    fn bucket(&mut self, key: &impl Hash) -> Option<&mut u64> {
        let hash = self.hasher.hash_one(key);
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

    fn bob(address: &str) -> Source {
        Source::new("bob", Some(address.parse().unwrap()))
    }

    /// How many of the attempts that come every `every` for an hour are let through.
    fn taken_in_an_hour(attempts: &mut Attempts, sources: &[Source], every: Duration) -> usize {
        let mut now = START;
        let mut taken = 0;
        for source in sources.iter().cycle() {
            if now >= START + Duration::from_secs(3600) {
                break;
            }
            taken += usize::from(attempts.take(source, now).is_ok());
            now += every;
        }
        taken
    }

    #[test]
    fn after_the_burst_a_name_waits_for_each_refill() {
        let mut attempts = Attempts::new();
        let bob = bob("192.0.2.1");
        for _ in 0..5 {
            assert_eq!(attempts.take(&bob, START), Ok(()));
        }
        let wait = Duration::from_secs(12);
        let upper = Source::new("BOB", Some("::ffff:192.0.2.1".parse().unwrap()));
        assert_eq!(attempts.take(&upper, START), Err(wait), "case does not matter");
        assert_eq!(attempts.take(&bob, START + wait), Ok(()));
        assert_eq!(attempts.take(&bob, START + wait), Err(wait));
        assert_eq!(
            attempts.take(&bob, START + wait / 2 + wait),
            Err(wait / 2),
            "a refused attempt is not counted"
        );
    }

    #[test]
    fn what_is_given_back_was_never_taken() {
        let mut attempts = Attempts::new();
        for _ in 0..100 {
            assert_eq!(attempts.take(&bob("192.0.2.1"), START), Ok(()));
            attempts.give_back(&bob("192.0.2.1"));
        }
    }

    #[test]
    fn however_many_one_address_tries_others_may_try_and_few_are_let_through() {
        let mut attempts = Attempts::new();
        let one = [bob("192.0.2.1")];
        let taken = taken_in_an_hour(&mut attempts, &one, Duration::from_millis(100));
        assert_eq!(taken, 5 + 299);
        let end = START + Duration::from_secs(3600);
        assert!(attempts.take(&one[0], end - Duration::from_secs(1)).is_err());
        for _ in 0..5 {
            assert_eq!(attempts.take(&bob("192.0.2.2"), end), Ok(()));
        }
        assert!(attempts.take(&bob("192.0.2.2"), end).is_err());
    }

    #[test]
    fn however_many_addresses_try_few_are_let_through() {
        let mut attempts = Attempts::new();
        let many: Vec<Source> = (0..64).map(|last| bob(&format!("192.0.2.{last}"))).collect();
        // Each comes seldom enough for its own bucket, also where several share one.
        let taken = taken_in_an_hour(&mut attempts, &many, Duration::from_secs(1));
        assert_eq!(taken, 50 + 1199);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let mut attempts = Attempts::new();
        for last in 1..=5 {
            assert_eq!(attempts.take(&bob(&format!("2001:db8::{last}")), START), Ok(()));
        }
        assert!(attempts.take(&bob("2001:db8::ffff:1"), START).is_err());
        assert_eq!(attempts.take(&bob("2001:db8:0:1::1"), START), Ok(()));
    }

    #[test]
    fn flooding_the_table_with_names_frees_none() {
        let mut attempts = Attempts::new();
        let bob = bob("192.0.2.1");
        for _ in 0..5 {
            let _ = attempts.take(&bob, START);
        }
        for number in 0..100_000 {
            let _ = attempts.take(&Source::new(&format!("name {number}"), bob.address), START);
        }
        assert!(attempts.take(&bob, START).is_err());
    }
}
