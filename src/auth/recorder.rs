//! Writes uses of tokens and audit events, off the way of the requests that they tell of.
//!
//! A bounded queue leads to one thread, which writes whatever has gathered while it wrote before in one transaction:
//! many senders share one wait for the disk. A use that does not fit in the queue is dropped; the next one a little
//! later is noted instead. An event is not: its sender waits for room, so it must be on a thread that may block. An
//! event that cannot be written is counted, and logged as an error with all that it says. Where another process keeps the
//! database to itself, what was taken from the queue is kept and tried again until it is written, and the queue fills up
//! meanwhile.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::secret::redact_tokens;
use crate::store::{self, Actor, NewAuditEvent, Requester, Store, TokenUse};

/// Uses that may wait to be written; some 300 bytes each.
const USES_COUNT_MAX: usize = 1024;

/// Events that may wait to be written, and about how many bytes they may hold.
const EVENTS_COUNT_MAX: usize = 1024;
const EVENTS_BYTES_MAX: usize = 8 << 20;

/// How long a sender waits for room, and how long for its event to be on disk. The store itself waits ten seconds for
/// another process to let go of the database.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(15);
const WRITE_WAIT_MAX: Duration = Duration::from_secs(15);

/// Time before a batch is tried again that another process was in the way of. The store has waited by then.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Longest details of an event that a line of the log holds, in characters.
const LOGGED_DETAILS_MAX: usize = 4000;

/// Where uses and events end.
type Sink = dyn Fn(&[TokenUse], &[NewAuditEvent]) -> Result<(), store::Error> + Send + Sync;

/// The near end of the queue; clones share it.
#[derive(Clone)]
pub struct Recorder(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    sink: Box<Sink>,
    waits: Waits,
    state: Mutex<State>,
    /// Tells the thread that there is something to do.
    work: Condvar,
    /// Tells senders that there is room, or something was written.
    progress: Condvar,
    lost: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Waits {
    room_max: Duration,
    write_max: Duration,
}

#[derive(Default)]
struct State {
    uses: Vec<TokenUse>,
    events: Vec<NewAuditEvent>,
    /// What `events` holds, about.
    bytes: usize,
    /// Of those of them that somebody waits for.
    receipts: Vec<Receipt>,
    /// Batches that the thread took, and that it is done with.
    taken: u64,
    done: u64,
    is_running: bool,
    is_stopping: bool,
}

impl State {
    fn is_empty(&self) -> bool {
        self.uses.is_empty() && self.events.is_empty()
    }

    fn has_room(&self, bytes: usize) -> bool {
        // What is larger than the queue goes through it alone.
        self.events.is_empty()
            || (self.events.len() < EVENTS_COUNT_MAX && self.bytes.saturating_add(bytes) <= EVENTS_BYTES_MAX)
    }
}

/// Says of an event whether it is on disk, once that is known.
type Receipt = Arc<OnceLock<bool>>;

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Recorder {
    /// Starts the thread. If the system has none to give, uses are not noted and senders write their events themselves.
    pub(super) fn start(store: Store) -> Recorder {
        let waits = Waits {
            room_max: ROOM_WAIT_MAX,
            write_max: WRITE_WAIT_MAX,
        };
        Recorder::start_with(
            Box::new(move |uses, events| store.record_batch(uses, events)),
            waits,
        )
    }

    fn start_with(sink: Box<Sink>, waits: Waits) -> Recorder {
        let shared = Arc::new(Shared {
            sink,
            waits,
            state: Mutex::new(State {
                is_running: true,
                ..State::default()
            }),
            work: Condvar::new(),
            progress: Condvar::new(),
            lost: AtomicU64::new(0),
        });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || of_thread.run())
            .inspect_err(|error| {
                tracing::warn!(%error, "uses of tokens are not noted, and events slow requests down: no thread");
                shared.lock().is_running = false;
            })
            .ok();
        Recorder(Arc::new(Handle {
            shared,
            thread: Mutex::new(thread),
        }))
    }

    /// Queues a use; false if there was no room. Never waits.
    pub(super) fn record_use(&self, used: TokenUse) -> bool {
        let shared = &self.0.shared;
        let mut state = shared.lock();
        let has_room = state.is_running && state.uses.len() < USES_COUNT_MAX;
        if has_room {
            state.uses.push(used);
            shared.work.notify_one();
        }
        has_room
    }

    /// Hands an event over, to be written within moments.
    ///
    /// # Blocking
    ///
    /// While the queue is full, for 15 seconds at most.
    pub fn record(&self, event: NewAuditEvent) {
        self.0.shared.send(event, None);
    }

    /// Hands an event over and waits until it is on disk; false if it is not, which the log has then.
    ///
    /// # Blocking
    ///
    /// For a commit of the database, which others share: milliseconds, and 30 seconds at most.
    pub fn record_durably(&self, event: NewAuditEvent) -> bool {
        let shared = &self.0.shared;
        let receipt = Receipt::default();
        shared.send(event, Some(&receipt)) && shared.wait_for(&receipt)
    }

    /// How many events could not be written.
    pub fn lost_count(&self) -> u64 {
        self.0.shared.lost.load(Ordering::Relaxed)
    }

    /// Waits until all that was queued before is written or lost.
    pub(super) fn flush(&self) {
        let shared = &self.0.shared;
        let state = shared.lock();
        let batch = state.taken + u64::from(!state.is_empty());
        let is_pending = |state: &mut State| state.is_running && state.done < batch;
        drop(
            shared
                .progress
                .wait_while(state, is_pending)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// Writes what is queued and ends the thread. Later uses are dropped; later events are written by their senders.
    pub(super) fn stop(&self) {
        self.0.stop();
    }
}

impl Handle {
    fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            self.shared.lock().is_stopping = true;
            self.shared.work.notify_one();
            if thread.join().is_err() {
                tracing::error!("the thread that writes uses and events has panicked");
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// A panic under the lock leaves at most an event less in the queue.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an event when there is room, or writes it where there is no thread to do so; false if it is lost.
    fn send(&self, event: NewAuditEvent, receipt: Option<&Receipt>) -> bool {
        let bytes = weight(&event.details);
        let is_full = |state: &mut State| state.is_running && !state.has_room(bytes);
        let (mut state, _) = self
            .progress
            .wait_timeout_while(self.lock(), self.waits.room_max, is_full)
            .unwrap_or_else(PoisonError::into_inner);
        if !state.is_running {
            drop(state);
            let is_written = self.write(&[], &[event]);
            if let Some(receipt) = receipt {
                receipt.get_or_init(|| is_written);
            }
            return is_written;
        }
        if !state.has_room(bytes) {
            drop(state);
            self.lose(&event, "too many events wait to be written");
            return false;
        }
        state.bytes = state.bytes.saturating_add(bytes);
        state.events.push(event);
        state.receipts.extend(receipt.cloned());
        self.work.notify_one();
        true
    }

    fn wait_for(&self, receipt: &Receipt) -> bool {
        let is_open = |state: &mut State| state.is_running && receipt.get().is_none();
        let waited = self
            .progress
            .wait_timeout_while(self.lock(), self.waits.write_max, is_open);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        if receipt.get().is_none() {
            tracing::error!("an audit event is not on disk yet, and what it tells of goes on without it");
        }
        receipt.get() == Some(&true)
    }

    /// What the thread does.
    fn run(&self) {
        let _ended = Ended(self);
        loop {
            let is_idle = |state: &mut State| state.is_empty() && !state.is_stopping;
            let mut state = self
                .work
                .wait_while(self.lock(), is_idle)
                .unwrap_or_else(PoisonError::into_inner);
            if state.is_empty() {
                // Under this lock, or an event could still come in that nobody takes.
                state.is_running = false;
                return;
            }
            let uses = std::mem::take(&mut state.uses);
            let events = std::mem::take(&mut state.events);
            let receipts = std::mem::take(&mut state.receipts);
            state.bytes = 0;
            state.taken += 1;
            drop(state);
            // There is room again.
            self.progress.notify_all();
            let is_written = self.write(&uses, &events);
            for receipt in receipts {
                receipt.get_or_init(|| is_written);
            }
            self.lock().done += 1;
            self.progress.notify_all();
        }
    }

    /// Writes a batch, as often as it takes where another process has the database. At the end it is tried once more.
    fn write(&self, uses: &[TokenUse], events: &[NewAuditEvent]) -> bool {
        let cause = loop {
            let is_last = self.is_ending();
            // A panic must not take along what is in the queue, nor leave those waiting who sent it.
            let outcome = catch_unwind(AssertUnwindSafe(|| (self.sink)(uses, events)));
            match outcome {
                Ok(Ok(())) => return true,
                Ok(Err(error)) if error.is_busy() && !is_last => {
                    tracing::warn!(
                        %error,
                        events = events.len(),
                        "another process keeps the database to itself; what happened waits to be noted"
                    );
                    self.pause();
                }
                Ok(Err(error)) => break error.to_string(),
                Err(_panic) => break "the store panicked".to_owned(),
            }
        };
        if !uses.is_empty() {
            tracing::warn!(cause, count = uses.len(), "cannot note when tokens were used");
        }
        for event in events {
            self.lose(event, &cause);
        }
        false
    }

    fn is_ending(&self) -> bool {
        let state = self.lock();
        state.is_stopping || !state.is_running
    }

    fn pause(&self) {
        let is_on = |state: &mut State| !state.is_stopping;
        let paused = self.work.wait_timeout_while(self.lock(), RETRY_PAUSE, is_on);
        drop(paused.unwrap_or_else(PoisonError::into_inner));
    }

    /// Says in the log what the trail cannot be told.
    fn lose(&self, event: &NewAuditEvent, cause: &str) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        let nobody = Requester::default();
        let requester = match &event.actor {
            Actor::Client(requester) => requester,
            Actor::CommandLine | Actor::Server => &nobody,
        };
        let details = event.details.to_string();
        let details: String = redact_tokens(&details, false)
            .chars()
            .take(LOGGED_DETAILS_MAX)
            .collect();
        tracing::error!(
            cause,
            at = %event.at,
            action = event.action.as_str(),
            // Escaped: names in them came from outside.
            subject = ?redact_tokens(&event.subject, false),
            account = ?requester.account,
            token.id = requester.token.as_ref().map(|id| id.as_str()),
            client = requester.address.map(tracing::field::display),
            agent = ?requester.agent,
            ?details,
            "an audit event could not be written; this line is all that is left of it"
        );
    }
}

/// However the thread ends, nobody must wait for it any more.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.lock().is_running = false;
        self.0.progress.notify_all();
    }
}

/// About how many bytes a value takes.
fn weight(value: &Value) -> usize {
    const EACH: usize = 32;
    EACH + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| name.len() + weight(value))
            .sum(),
    }
}

#[cfg(test)]
mod tests;
