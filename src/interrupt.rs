//! A flag that tells a running engine to stop.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

/// Set once by the side that no longer wants an answer; asked often by the side that makes it.
///
/// An engine that must not be stopped half-way seals it: either it was triggered before, or it never is.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// [`OPEN`], [`TRIGGERED`] or [`SEALED`]; only ever left for one of the other two once.
    state: AtomicU8,
    reason: OnceLock<String>,
}

const OPEN: u8 = 0;
const TRIGGERED: u8 = 1;
const SEALED: u8 = 2;

impl Interrupt {
    /// Makes a flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything that holds this flag to stop, unless it is sealed.
    pub fn trigger(&self) {
        self.leave_open(TRIGGERED);
    }

    /// The same, with words for the client; false if it is sealed. The first reason stays.
    pub fn trigger_because(&self, reason: &str) -> bool {
        // Before the flag: who sees the flag must find the reason.
        self.0.reason.get_or_init(|| reason.to_owned());
        self.leave_open(TRIGGERED) == TRIGGERED
    }

    /// Tells whether somebody asked to stop.
    pub fn is_triggered(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == TRIGGERED
    }

    /// Why to stop, in one or two sentences for the client; none where the client is gone or the server stops.
    pub fn reason(&self) -> Option<&str> {
        let reason = self.0.reason.get().map(String::as_str);
        reason.filter(|_| self.is_triggered())
    }

    /// Keeps the flag from being set any more; false if it was set already.
    pub fn seal(&self) -> bool {
        self.leave_open(SEALED) == SEALED
    }

    /// Goes from open to `state`, and returns where the flag is now.
    fn leave_open(&self, state: u8) -> u8 {
        let left = self
            .0
            .state
            .compare_exchange(OPEN, state, Ordering::AcqRel, Ordering::Acquire);
        left.err().unwrap_or(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_never_triggered_and_what_is_triggered_is_never_sealed() {
        let sealed = Interrupt::new();
        assert!(sealed.seal() && sealed.seal());
        sealed.trigger();
        assert!(!sealed.trigger_because("late"));
        assert_eq!((sealed.is_triggered(), sealed.reason()), (false, None));

        let triggered = Interrupt::new();
        assert!(triggered.trigger_because("first"));
        assert!(triggered.trigger_because("second"), "it is triggered already");
        assert_eq!((triggered.seal(), triggered.reason()), (false, Some("first")));

        let gone = Interrupt::new();
        gone.trigger();
        assert_eq!((gone.is_triggered(), gone.reason()), (true, None));
    }

    #[test]
    fn of_a_seal_and_a_trigger_at_once_one_wins() {
        for _ in 0..1000 {
            let interrupt = Interrupt::new();
            let (is_sealed, is_triggered) = std::thread::scope(|scope| {
                let triggers = scope.spawn(|| interrupt.trigger_because("now"));
                (interrupt.seal(), triggers.join().unwrap())
            });
            assert!(is_sealed != is_triggered);
            assert_eq!(interrupt.reason().is_some(), is_triggered);
        }
    }
}
