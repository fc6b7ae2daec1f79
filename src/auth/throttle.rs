//! How often an address may fail before it has to wait.
//!
//! Each address, or /64 of IPv6 addresses, which one customer holds whole, has a token bucket: a burst that the
//! retries of libgit2 and dulwich fit in, refilled slowly. Only failures take from it; a success gives nothing back,
//! so that owning one good token does not buy guesses. The table is bounded; what overflows it is forgotten.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How much failing is borne.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Failures in a row that are answered as usual. libgit2 asks its callback again and again after a 401, dulwich
    /// three times.
    pub burst: u32,
    /// Time after which one more failure is borne; not zero.
    pub refill: Duration,
    /// Addresses that are remembered; some 64 bytes each.
    pub addresses_count_max: usize,
    /// Whether loopback addresses may fail without end. Behind a proxy on the same machine that is everybody.
    pub is_loopback_exempt: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            burst: 20,
            refill: Duration::from_secs(5),
            addresses_count_max: 1 << 16,
            is_loopback_exempt: false,
        }
    }
}

/// How often the same address is said to have to wait.
const TELL_EVERY: Duration = Duration::from_secs(60 * 60);

/// Counts failures by address.
#[derive(Debug)]
pub(super) struct Throttle {
    settings: Settings,
    debts: Mutex<HashMap<IpAddr, Debt>>,
}

#[derive(Debug, Clone, Copy)]
struct Debt {
    /// When the address's bucket is full again: later by one refill with every failure.
    full_at: Duration,
    /// Failures that nobody was told of.
    failures: u64,
    /// When somebody was told that the address has to wait.
    told_at: Option<Duration>,
}

impl Debt {
    fn none(now: Duration) -> Debt {
        Debt {
            full_at: now,
            failures: 0,
            told_at: None,
        }
    }
}

impl Throttle {
    pub(super) fn new(settings: Settings) -> Throttle {
        Throttle {
            settings,
            debts: Mutex::new(HashMap::new()),
        }
    }

    /// Returns how long `address` has to wait until its next failure is borne, if it has to.
    pub(super) fn wait(&self, address: IpAddr, now: Duration) -> Option<Duration> {
        let key = self.key(address)?;
        let debt = *self
            .debts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)?;
        self.wait_of(debt, now)
    }

    fn wait_of(&self, debt: Debt, now: Duration) -> Option<Duration> {
        let debt_max = self
            .settings
            .refill
            .saturating_mul(self.settings.burst.saturating_sub(1));
        debt.full_at
            .checked_sub(now.saturating_add(debt_max))
            .filter(|wait| !wait.is_zero())
    }

    /// Counts a failure of `address`. When it is the one after which the address has to wait, returns how many there
    /// were since that was last said: once until the address has nothing owing any more, and once an hour till then.
    pub(super) fn fail(&self, address: IpAddr, now: Duration) -> Option<u64> {
        let key = self.key(address)?;
        let mut debts = self.debts.lock().unwrap_or_else(PoisonError::into_inner);
        if debts.len() >= self.settings.addresses_count_max && !debts.contains_key(&key) {
            debts.retain(|_, debt| debt.full_at > now);
            // Sweeping again for the next newcomer would cost more than it holds back.
            if debts.len() > self.settings.addresses_count_max / 2 {
                debts.clear();
            }
        }
        // Capped, or requests that were already past `wait` could pile up hours.
        let debt_max = self.settings.refill.saturating_mul(self.settings.burst);
        let debt = debts.entry(key).or_insert_with(|| Debt::none(now));
        if debt.full_at <= now {
            *debt = Debt::none(now);
        }
        debt.full_at = debt
            .full_at
            .saturating_add(self.settings.refill)
            .min(now.saturating_add(debt_max));
        debt.failures += 1;
        let is_told = debt
            .told_at
            .is_some_and(|told_at| now.saturating_sub(told_at) < TELL_EVERY);
        if is_told || self.wait_of(*debt, now).is_none() {
            return None;
        }
        debt.told_at = Some(now);
        Some(std::mem::take(&mut debt.failures))
    }

    /// What an address is counted under, if it is.
    fn key(&self, address: IpAddr) -> Option<IpAddr> {
        let address = address.to_canonical();
        if self.settings.is_loopback_exempt && address.is_loopback() {
            return None;
        }
        Some(network_of(address))
    }
}

/// An IPv4 address, also where it is mapped, or the first of the /64 that an IPv6 address is in, which one customer holds
/// whole.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address @ IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1000);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn exhausted(throttle: &Throttle, by: &str) {
        for _ in 0..20 {
            assert_eq!(throttle.wait(address(by), START), None, "the burst is borne");
            throttle.fail(address(by), START);
        }
    }

    #[test]
    fn after_the_burst_an_address_waits_for_each_refill() {
        let throttle = Throttle::new(Settings::default());
        exhausted(&throttle, "192.0.2.1");
        let wait = throttle.wait(address("192.0.2.1"), START).unwrap();
        assert_eq!(wait, Duration::from_secs(5));
        assert_eq!(throttle.wait(address("192.0.2.1"), START + wait), None);
        throttle.fail(address("192.0.2.1"), START + wait);
        assert_eq!(
            throttle.wait(address("192.0.2.1"), START + wait),
            Some(Duration::from_secs(5))
        );
    }

    #[test]
    fn other_addresses_are_not_held_back() {
        let throttle = Throttle::new(Settings::default());
        exhausted(&throttle, "192.0.2.1");
        assert_eq!(throttle.wait(address("192.0.2.2"), START), None);
    }

    #[test]
    fn ipv6_counts_by_its_first_64_bits_and_mapped_ipv4_as_ipv4() {
        let throttle = Throttle::new(Settings::default());
        exhausted(&throttle, "2001:db8:0:1::1");
        assert!(throttle.wait(address("2001:db8:0:1:ffff::9"), START).is_some());
        assert_eq!(throttle.wait(address("2001:db8:0:2::1"), START), None);
        exhausted(&throttle, "192.0.2.1");
        assert!(throttle.wait(address("::ffff:192.0.2.1"), START).is_some());
    }

    #[test]
    fn loopback_counts_unless_it_is_exempt() {
        let throttle = Throttle::new(Settings::default());
        exhausted(&throttle, "127.0.0.1");
        assert!(throttle.wait(address("127.0.0.1"), START).is_some());
        let throttle = Throttle::new(Settings {
            is_loopback_exempt: true,
            ..Settings::default()
        });
        exhausted(&throttle, "::1");
        assert_eq!(throttle.wait(address("::1"), START), None);
    }

    #[test]
    fn failures_at_once_never_pile_up_more_than_a_full_burst() {
        let throttle = Throttle::new(Settings::default());
        for _ in 0..1000 {
            throttle.fail(address("192.0.2.1"), START);
        }
        assert_eq!(
            throttle.wait(address("192.0.2.1"), START),
            Some(Duration::from_secs(5))
        );
    }

    #[test]
    fn the_table_stays_bounded() {
        let throttle = Throttle::new(Settings {
            addresses_count_max: 16,
            ..Settings::default()
        });
        for last in 0..=255u8 {
            throttle.fail(IpAddr::from([192, 0, 2, last]), START);
            assert!(throttle.debts.lock().unwrap().len() <= 16);
        }
        let later = START + Duration::from_secs(6);
        throttle.fail(address("198.51.100.1"), later);
        assert!(throttle.debts.lock().unwrap().len() <= 16);
    }

    #[test]
    fn that_an_address_has_to_wait_is_said_once_and_then_once_an_hour() {
        let throttle = Throttle::new(Settings::default());
        let fail = |now| throttle.fail(address("192.0.2.1"), now);
        for _ in 0..19 {
            assert_eq!(fail(START), None);
        }
        assert_eq!(fail(START), Some(20));
        assert_eq!(fail(START), None);
        // It fails on with every refill, so that it never has nothing owing.
        let mut now = START;
        let mut told = Vec::new();
        while now < START + 2 * TELL_EVERY {
            now += Duration::from_secs(5);
            told.extend(fail(now));
        }
        assert_eq!(told, [721, 720]);
        now += Duration::from_secs(100);
        for _ in 0..19 {
            assert_eq!(fail(now), None, "the address begins anew");
        }
        assert_eq!(fail(now), Some(20));
    }
}
