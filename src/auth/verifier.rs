//! Passwords at the gate: verified a few at a time, not too often for one name and address, and remembered for a minute.
//!
//! Verifying one takes tens of milliseconds of a processor and 19 MiB, on purpose. So at most [`RUNNING_MAX`] are
//! verified at once and few requests wait for that; what was right is not verified again for [`REMEMBERED`], unless
//! anything at all has changed in the store; and of equal ones that come at once, one is verified. A right password is
//! remembered as its HMAC-SHA-256 (RFC 2104) under a key that this process alone has, and that nothing writes down.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::attempts::{Attempts, Source};
use super::password;
use crate::secret::Secret;
use crate::store::PasswordHash;

/// Passwords that are verified at once.
const RUNNING_MAX: usize = 2;

/// Requests that wait for that. Each holds one of the gate's threads, which tokens need, too.
const WAITING_MAX: usize = 14;

/// How long a right password is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Right passwords that are remembered at most; some 100 bytes each.
const REMEMBERED_COUNT_MAX: usize = 1024;

/// How long to wait when too many do.
const BUSY: Duration = Duration::from_secs(2);

/// Which kind of password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The account's own.
    Account,
    /// That of an alternate credential.
    Alternate,
}

/// A name and a password that were given together.
pub(super) struct Attempt<'a> {
    kind: Kind,
    name: &'a str,
    password: &'a Secret,
    address: Option<IpAddr>,
    mark: Mark,
}

impl Attempt<'_> {
    /// The same, as given from `address`: then others may go on trying when this one has tried too often.
    pub(super) fn from(self, address: IpAddr) -> Self {
        Attempt {
            address: Some(address),
            ..self
        }
    }
}

/// The keyed digest of kind, name and password.
type Mark = [u8; 32];

/// As long as a block of SHA-256, which is what HMAC uses up.
type Key = [u8; 64];

/// Whether a password is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was right a moment ago, and nothing has changed since.
    Remembered,
    /// It is right.
    Right,
    /// It is not, or nobody has this name.
    Wrong,
}

/// Why a password was not verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// Too many are waiting. How long to wait is a guess.
    Busy(Duration),
    /// The name was tried too often.
    TooOften(Duration),
}

/// Verifies passwords.
pub(super) struct Verifier {
    /// None if the system gave no random bytes: then nothing is remembered.
    key: Option<Zeroizing<Key>>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    attempts: Attempts,
    remembered: HashMap<Mark, Remembered>,
    /// What is being verified: at most [`RUNNING_MAX`].
    running: HashSet<Mark>,
    waiting: usize,
}

/// A password that was right.
struct Remembered {
    generation: u64,
    until: Duration,
}

impl Verifier {
    pub(super) fn new() -> Verifier {
        let mut key = Zeroizing::new([0; 64]);
        let key = match SysRng.try_fill_bytes(key.as_mut_slice()) {
            Ok(()) => Some(key),
            Err(error) => {
                tracing::warn!(%error, "right passwords are not remembered: no random bytes");
                None
            }
        };
        Verifier {
            key,
            state: Mutex::new(State {
                attempts: Attempts::new(),
                remembered: HashMap::new(),
                running: HashSet::new(),
                waiting: 0,
            }),
            changed: Condvar::new(),
        }
    }

    /// Takes what was given.
    pub(super) fn attempt<'a>(&self, kind: Kind, name: &'a str, password: &'a Secret) -> Attempt<'a> {
        Attempt {
            kind,
            name,
            password,
            address: None,
            mark: self.mark(kind, name, password),
        }
    }

    fn mark(&self, kind: Kind, name: &str, password: &Secret) -> Mark {
        let key: &Key = self.key.as_deref().unwrap_or(&[0; 64]);
        let mut mac = Hmac::<Sha256>::new(key.into());
        let name = name.to_lowercase();
        mac.update(&[kind as u8]);
        // With its length, or two pairs could run together into one.
        mac.update(&(name.len() as u64).to_be_bytes());
        mac.update(name.as_bytes());
        mac.update(password.expose().as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Whether this was right a moment ago, and nothing has changed since.
    pub(super) fn is_remembered(&self, attempt: &Attempt<'_>, generation: u64, now: Duration) -> bool {
        self.lock().is_remembered(&attempt.mark, generation, now)
    }

    /// Tells whether a password is the one that `hash` was made of; None where nobody has the name, which takes as long.
    /// `hash` must have been read at `generation` or later.
    ///
    /// # Errors
    ///
    /// When this name was tried too often, or too many wait already.
    ///
    /// # Blocking
    ///
    /// Tens of milliseconds, and until those before it are done.
    pub(super) fn verify(
        &self,
        attempt: &Attempt<'_>,
        hash: Option<&PasswordHash>,
        generation: u64,
        now: Duration,
    ) -> Result<Verdict, Denied> {
        let mut state = self.lock();
        loop {
            if hash.is_some() && state.is_remembered(&attempt.mark, generation, now) {
                return Ok(Verdict::Remembered);
            }
            if state.running.len() < RUNNING_MAX && !state.running.contains(&attempt.mark) {
                break;
            }
            if state.waiting >= WAITING_MAX {
                return Err(Denied::Busy(BUSY));
            }
            state.waiting += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        let source = Source::new(&format!("{:?} {}", attempt.kind, attempt.name), attempt.address);
        state.attempts.take(&source, now).map_err(Denied::TooOften)?;
        state.running.insert(attempt.mark);
        drop(state);
        let running = Running {
            verifier: self,
            mark: attempt.mark,
        };
        let is_right = password::verify(attempt.password, hash);
        if is_right {
            let mut state = self.lock();
            state.attempts.give_back(&source);
            if self.key.is_some() {
                state.remember(attempt.mark, generation, now);
            }
        }
        drop(running);
        Ok(if is_right { Verdict::Right } else { Verdict::Wrong })
    }

    /// Takes both places by hand, so that nothing depends on how long a password takes.
    #[cfg(test)]
    pub(super) fn take_all_places(&self) -> impl Sized + use<'_> {
        [[1; 32], [2; 32]].map(|mark| {
            self.lock().running.insert(mark);
            Running { verifier: self, mark }
        })
    }

    /// Waits until so many wait to be verified.
    #[cfg(test)]
    pub(super) fn await_waiting(&self, count: usize) {
        while self.lock().waiting < count {
            std::thread::yield_now();
        }
    }

    /// Nothing that is held under this lock is left half-changed by a panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_remembered(&self, mark: &Mark, generation: u64, now: Duration) -> bool {
        self.remembered
            .get(mark)
            .is_some_and(|entry| entry.generation == generation && now < entry.until)
    }

    fn remember(&mut self, mark: Mark, generation: u64, now: Duration) {
        if self.remembered.len() >= REMEMBERED_COUNT_MAX {
            self.remembered
                .retain(|_, entry| entry.generation == generation && now < entry.until);
            if self.remembered.len() > REMEMBERED_COUNT_MAX / 2 {
                self.remembered.clear();
            }
        }
        let until = now.saturating_add(REMEMBERED);
        self.remembered.insert(mark, Remembered { generation, until });
    }
}

/// A place among those that are verified, free again when dropped.
struct Running<'a> {
    verifier: &'a Verifier,
    mark: Mark,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.verifier.lock().running.remove(&self.mark);
        self.verifier.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn verify(verifier: &Verifier, name: &str, text: &str, hash: &PasswordHash) -> Result<Verdict, Denied> {
        let password = secret(text);
        let attempt = verifier.attempt(Kind::Account, name, &password);
        verifier.verify(&attempt, Some(hash), 1, NOW)
    }

    #[test]
    fn a_right_password_is_remembered_for_a_minute_and_until_anything_changes() {
        let verifier = Verifier::new();
        let hash = password::hash(&secret("correct horse")).unwrap();
        assert_eq!(
            verify(&verifier, "bob", "correct horse", &hash),
            Ok(Verdict::Right)
        );
        assert_eq!(
            verify(&verifier, "BOB", "correct horse", &hash),
            Ok(Verdict::Remembered)
        );
        let password = secret("correct horse");
        let attempt = verifier.attempt(Kind::Account, "bob", &password);
        let last = NOW + REMEMBERED - Duration::from_millis(1);
        assert!(verifier.is_remembered(&attempt, 1, last));
        assert!(!verifier.is_remembered(&attempt, 1, NOW + REMEMBERED));
        assert!(!verifier.is_remembered(&attempt, 2, NOW), "something has changed");
        assert_eq!(
            verifier.verify(&attempt, None, 1, NOW),
            Ok(Verdict::Wrong),
            "nobody has the name any more"
        );
        let other = secret("correct hors");
        assert!(!verifier.is_remembered(&verifier.attempt(Kind::Account, "bob", &other), 1, NOW));
        let moved = secret("bcorrect horse");
        assert!(!verifier.is_remembered(&verifier.attempt(Kind::Account, "bo", &moved), 1, NOW));
    }

    #[test]
    fn a_name_is_tried_five_times_and_then_has_to_wait_whether_it_is_there_or_not() {
        let verifier = Verifier::new();
        let hash = password::hash(&secret("correct horse")).unwrap();
        for hash in [Some(&hash), None] {
            let name = if hash.is_some() { "bob" } else { "nobody" };
            let wrong = secret("battery staple");
            let attempt = verifier.attempt(Kind::Account, name, &wrong);
            for _ in 0..5 {
                assert_eq!(verifier.verify(&attempt, hash, 1, NOW), Ok(Verdict::Wrong));
            }
            let wait = Duration::from_secs(12);
            assert_eq!(
                verifier.verify(&attempt, hash, 1, NOW),
                Err(Denied::TooOften(wait))
            );
            assert_eq!(verifier.verify(&attempt, hash, 1, NOW + wait), Ok(Verdict::Wrong));
        }
        assert!(matches!(
            verify(&verifier, "bob", "correct horse", &hash),
            Err(Denied::TooOften(_))
        ));
    }

    #[test]
    fn equal_passwords_at_once_are_verified_once_and_the_right_ones_all_pass() {
        const CLIENTS: usize = 1 + WAITING_MAX;
        let verifier = Verifier::new();
        let hash = password::hash(&secret("correct horse")).unwrap();
        let verified = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| match verify(&verifier, "bob", "correct horse", &hash) {
                    Ok(Verdict::Right) => {
                        verified.fetch_add(1, Ordering::Relaxed);
                    }
                    outcome => assert_eq!(outcome, Ok(Verdict::Remembered)),
                });
            }
        });
        assert_eq!(verified.into_inner(), 1);
    }

    #[test]
    fn at_most_two_run_and_beyond_those_who_may_wait_nobody_does() {
        let verifier = Verifier::new();
        let places = verifier.take_all_places();
        let hash = password::hash(&secret("correct horse")).unwrap();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..WAITING_MAX)
                .map(|number| {
                    let (verifier, hash) = (&verifier, &hash);
                    scope.spawn(move || verify(verifier, &format!("user {number}"), "correct horse", hash))
                })
                .collect();
            verifier.await_waiting(WAITING_MAX);
            assert_eq!(
                verify(&verifier, "late", "correct horse", &hash),
                Err(Denied::Busy(BUSY))
            );
            drop(places);
            for one in waiting {
                assert_eq!(one.join().unwrap(), Ok(Verdict::Right));
            }
        });
        assert!(verifier.lock().running.is_empty());
    }

    #[test]
    fn what_is_remembered_stays_bounded() {
        let verifier = Verifier::new();
        for number in 0..3 * REMEMBERED_COUNT_MAX {
            let mut mark = [0; 32];
            mark.iter_mut()
                .zip(number.to_be_bytes())
                .for_each(|(to, from)| *to = from);
            verifier.lock().remember(mark, 1, NOW);
            assert!(verifier.lock().remembered.len() <= REMEMBERED_COUNT_MAX);
        }
    }
}
