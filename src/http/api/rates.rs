//! How many requests of the REST interface a token, an account and an address may make.
//!
//! Each has a token bucket that holds a minute's worth and is refilled evenly: a burst of that many is served at once,
//! and then as many a minute. Requests that prove nothing count for their address alone, all others for what they proved
//! as well. Every answer says how things stand, in the headers of Azure DevOps. The table is bounded; what overflows it
//! is forgotten. RFC 6585, section 4.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use jiff::Timestamp;

use crate::http::error::{HttpError, TypeKey};
use crate::store::{AccountId, TokenId};

/// Buckets that are remembered; some 100 bytes each.
const BUCKETS_COUNT_MAX: usize = 1 << 16;

/// The time that a bucket is filled in.
const WINDOW: Duration = Duration::from_secs(60);

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const RESOURCE: HeaderName = HeaderName::from_static("x-ratelimit-resource");

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Who {
    /// Those that use a token.
    Token(TokenId),
    /// Those of somebody who has signed in.
    Account(AccountId),
    /// Those from an address, or from a /64 of IPv6 addresses, which one customer holds whole.
    Address(IpAddr),
}

impl Who {
    /// The sender of a request.
    pub fn address(address: IpAddr) -> Who {
        Who::Address(match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
            v4 => v4,
        })
    }

    /// What the headers call it.
    fn resource(&self) -> &'static str {
        match self {
            Who::Token(_) => "rest/token",
            Who::Account(_) => "rest/account",
            Who::Address(_) => "rest/address",
        }
    }
}

/// How things stand after a request was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    resource: &'static str,
    limit: u32,
    remaining: u32,
    /// Until the bucket is full again, if nothing more comes.
    full_in: Duration,
    /// Until one more request is served, if this one was not.
    wait: Option<Duration>,
}

impl Standing {
    /// Says how things stand in the headers of an answer.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let reset = Timestamp::now().as_second().saturating_add(seconds(self.full_in));
        headers.insert(LIMIT, HeaderValue::from(self.limit));
        headers.insert(REMAINING, HeaderValue::from(self.remaining));
        headers.insert(RESET, HeaderValue::from(reset));
        headers.insert(RESOURCE, HeaderValue::from_static(self.resource));
    }

    /// Refuses a request that was one too many.
    ///
    /// # Errors
    ///
    /// 429, with the time to wait.
    pub fn check(&self) -> Result<(), HttpError> {
        let Some(wait) = self.wait else { return Ok(()) };
        Err(HttpError::too_many_requests(
            format!(
                "TF400733: The request has been canceled: more than {} requests a minute of the resource '{}'. Try \
                 again in {} seconds, or ask an administrator of this server to raise the limit.",
                self.limit,
                self.resource,
                seconds(wait)
            ),
            wait,
        )
        .keyed(TypeKey::new(
            "Microsoft.TeamFoundation.Framework.Server",
            "RequestBlockedException",
        )))
    }
}

/// Whole seconds, rounded up, so that whoever waits them out has waited long enough.
fn seconds(wait: Duration) -> i64 {
    i64::try_from(wait.as_secs())
        .unwrap_or(i64::MAX)
        .saturating_add(i64::from(wait.subsec_nanos() > 0))
}

/// Counts requests.
#[derive(Debug)]
pub(super) struct Rates {
    start: Instant,
    /// For each the moment at which its bucket is full again: later by one refill with every request.
    full_at: Mutex<HashMap<Who, Duration>>,
}

impl Rates {
    /// Begins with nothing counted.
    pub fn new() -> Rates {
        Rates {
            start: Instant::now(),
            full_at: Mutex::default(),
        }
    }

    /// Counts a request of `who`, who may make `limit` of them a minute.
    pub fn count(&self, who: Who, limit: u32) -> Standing {
        self.count_at(who, limit, self.start.elapsed())
    }

    fn count_at(&self, who: Who, limit: u32, now: Duration) -> Standing {
        let limit = limit.max(1);
        let refill = WINDOW / limit;
        let resource = who.resource();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= BUCKETS_COUNT_MAX && !full_at.contains_key(&who) {
            full_at.retain(|_, full_at| *full_at > now);
            // Sweeping again for the next newcomer would cost more than it holds back.
            if full_at.len() > BUCKETS_COUNT_MAX / 2 {
                full_at.clear();
            }
        }
        let entry = full_at.entry(who).or_insert(now);
        let filled = (*entry).max(now).saturating_add(refill);
        let full_in = filled.saturating_sub(now);
        let bucket = refill.saturating_mul(limit);
        match full_in.checked_sub(bucket).filter(|wait| !wait.is_zero()) {
            // What is refused is not counted: whoever asks on and on is served again at the same moment.
            Some(wait) => Standing {
                resource,
                limit,
                remaining: 0,
                full_in: full_in.saturating_sub(refill),
                wait: Some(wait),
            },
            None => {
                *entry = filled;
                let left = bucket.saturating_sub(full_in).as_nanos() / refill.as_nanos().max(1);
                Standing {
                    resource,
                    limit,
                    remaining: u32::try_from(left).unwrap_or(limit),
                    full_in,
                    wait: None,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1000);

    fn who(text: &str) -> Who {
        Who::address(text.parse().unwrap())
    }

    #[test]
    fn a_minute_s_worth_is_served_at_once_and_then_evenly() {
        let rates = Rates::new();
        for left in (0..60).rev() {
            let standing = rates.count_at(who("192.0.2.1"), 60, START);
            assert_eq!((standing.remaining, standing.wait), (left, None));
        }
        let refused = rates.count_at(who("192.0.2.1"), 60, START);
        assert_eq!(
            (refused.remaining, refused.wait),
            (0, Some(Duration::from_secs(1)))
        );
        assert_eq!(refused.full_in, Duration::from_secs(60));
        for _ in 0..100 {
            rates.count_at(who("192.0.2.1"), 60, START);
        }
        let later = START + Duration::from_secs(1);
        assert_eq!(
            rates.count_at(who("192.0.2.1"), 60, later).wait,
            None,
            "asking on costs nothing"
        );
        assert!(rates.count_at(who("192.0.2.1"), 60, later).wait.is_some());
        let minute = START + Duration::from_secs(61);
        assert_eq!(rates.count_at(who("192.0.2.1"), 60, minute).remaining, 59);
    }

    #[test]
    fn tokens_and_addresses_are_counted_each_for_itself() {
        let rates = Rates::new();
        let token = |id: &str| Who::Token(id.parse().unwrap());
        assert!(rates.count_at(token("AAAAAAAA"), 1, START).check().is_ok());
        assert!(rates.count_at(token("AAAAAAAA"), 1, START).check().is_err());
        assert!(rates.count_at(token("BBBBBBBB"), 1, START).check().is_ok());
        assert!(rates.count_at(who("2001:db8::1"), 1, START).check().is_ok());
        assert!(
            rates.count_at(who("2001:db8::2"), 1, START).check().is_err(),
            "one /64"
        );
        assert!(rates.count_at(who("2001:db8:0:1::1"), 1, START).check().is_ok());
        assert_eq!(who("::ffff:192.0.2.1"), who("192.0.2.1"));
    }

    #[test]
    fn a_limit_that_changes_holds_at_once() {
        let rates = Rates::new();
        for _ in 0..10 {
            rates.count_at(who("192.0.2.1"), 10, START);
        }
        assert!(rates.count_at(who("192.0.2.1"), 10, START).wait.is_some());
        assert!(
            rates
                .count_at(who("192.0.2.1"), 1000, START)
                .wait
                .is_some_and(|wait| wait < WINDOW)
        );
        assert!(
            rates
                .count_at(who("192.0.2.1"), u32::MAX, START)
                .wait
                .is_some_and(|wait| wait < WINDOW)
        );
        assert_eq!(rates.count_at(who("192.0.2.2"), 0, START).limit, 1);
    }

    #[test]
    fn every_answer_says_how_things_stand() {
        let mut headers = HeaderMap::new();
        let standing = Rates::new().count_at(who("192.0.2.1"), 60, START);
        standing.tell(&mut headers);
        let text = |name: &str| headers.get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(
            (
                text("x-ratelimit-limit").as_str(),
                text("x-ratelimit-remaining").as_str()
            ),
            ("60", "59")
        );
        assert_eq!(text("x-ratelimit-resource"), "rest/address");
        let reset: i64 = text("x-ratelimit-reset").parse().unwrap();
        assert!((0..=2).contains(&(reset - Timestamp::now().as_second())));
    }

    #[test]
    fn the_table_stays_bounded() {
        let rates = Rates::new();
        for number in 0..(BUCKETS_COUNT_MAX as u32 + 10) {
            rates.count_at(Who::Address(IpAddr::from(number.to_be_bytes())), 60, START);
        }
        assert!(rates.full_at.lock().unwrap().len() <= BUCKETS_COUNT_MAX);
    }
}
