//! The time as the gate sees it: the system's, or one that a test turns by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// A source of the date and of elapsed time.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System { start: Instant },
    Manual(Arc<Hands>),
}

/// Both in milliseconds: the date since 1970-01-01 UTC, and time since no matter when.
#[derive(Debug)]
struct Hands {
    date: AtomicI64,
    elapsed: AtomicI64,
}

impl Clock {
    /// The clocks of the system.
    pub fn system() -> Clock {
        Clock(Source::System {
            start: Instant::now(),
        })
    }

    /// A clock that stands at `now` until [`Clock::advance`] turns it; clones turn with it.
    pub fn manual(now: Timestamp) -> Clock {
        Clock(Source::Manual(Arc::new(Hands {
            date: AtomicI64::new(now.as_millisecond()),
            elapsed: AtomicI64::new(now.as_millisecond()),
        })))
    }

    /// Turns a manual clock forward; the system's clock goes by itself and ignores it.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(hands) = &self.0 {
            let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            hands.date.fetch_add(by, Ordering::Relaxed);
            hands.elapsed.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Sets the date of a manual clock, as somebody does who sets a clock that was wrong; no time passes.
    pub fn set_date(&self, now: Timestamp) {
        if let Source::Manual(hands) = &self.0 {
            hands.date.store(now.as_millisecond(), Ordering::Relaxed);
        }
    }

    /// The date.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System { .. } => Timestamp::now(),
            Source::Manual(hands) => {
                Timestamp::from_millisecond(hands.date.load(Ordering::Relaxed)).unwrap_or(Timestamp::MAX)
            }
        }
    }

    /// Time since some fixed moment. It never goes back, whatever is done to the date.
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Source::System { start } => start.elapsed(),
            Source::Manual(hands) => {
                Duration::from_millis(u64::try_from(hands.elapsed.load(Ordering::Relaxed)).unwrap_or(0))
            }
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::system()
    }
}
