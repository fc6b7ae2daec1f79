//! The engines that run now, so that a server that stops can end them and wait for them, and so that none goes on for
//! whom the gate would not open any more.
//!
//! While any runs, one thread looks several times a second whether something changed by which the gate decides, and
//! asks it again for each; whom it refuses is cut. Nothing looks when nothing runs.
//!
//! Invariants: [`Engines::idle`] returns only when no engine runs, so a process that waits for it never cuts a ref
//! transaction: an interrupted engine stops before its commit point, or goes on behind it to its end. A refusal cuts an
//! engine within [`LOOK_EVERY`] and the time that the gate needs, or not at all, when it sealed its interrupt before. A
//! gate that cannot be asked cuts nobody; whoever moves refs asks it once more.

use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::error::HttpError;
use super::standing::{CAUSE_BYTES_MAX, Standing};
use crate::interrupt::Interrupt;
use crate::telemetry::printable;

/// Time between two looks at what runs.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// At each look the gate is asked for those for whom something changed, at every third for all: a token's end, or that
/// of its old secret after a rotation, comes without a change.
const LOOKS_PER_ROUND: u32 = 3;

/// All running engines.
#[derive(Clone)]
pub struct Engines(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    count: watch::Sender<usize>,
    generation: Box<dyn Fn() -> Result<u64, HttpError> + Send + Sync>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    transfers: HashMap<u64, Transfer>,
    is_stopped: bool,
    /// Whether the thread that looks runs, or is about to.
    is_watched: bool,
}

#[derive(Debug)]
struct Transfer {
    interrupt: Interrupt,
    cut: Cut,
    /// None: nobody cuts it.
    standing: Option<Standing>,
    /// The generation at which the gate last let it go on.
    allowed_at: Option<u64>,
    span: Span,
}

impl std::fmt::Debug for Engines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Engines").field(&self.0.state).finish()
    }
}

impl Engines {
    /// Makes a register without entries. `generation` returns another number after each change of what the gate decides
    /// by; it may block.
    pub fn new(generation: impl Fn() -> Result<u64, HttpError> + Send + Sync + 'static) -> Self {
        Engines(Arc::new(Shared {
            state: Mutex::default(),
            count: watch::Sender::new(0),
            generation: Box::new(generation),
        }))
    }

    /// Enters an engine that runs, or will once its request is there, for as long as `standing` holds. After
    /// [`Engines::stop`] it is interrupted at once.
    ///
    /// # Errors
    ///
    /// When nobody could look after it, for want of a thread.
    pub fn enter(&self, standing: Standing) -> Result<Running, HttpError> {
        let mut state = self.lock();
        if !state.is_watched {
            let engines = self.clone();
            std::thread::Builder::new()
                .name("standing".to_owned())
                .spawn(move || engines.watch())
                .map_err(|error| HttpError::internal(format_args!("no thread watches transfers: {error}")))?;
            state.is_watched = true;
        }
        Ok(self.insert(&mut state, Some(standing)))
    }

    /// Enters work that no refusal cuts: only a server that stops waits for it.
    pub fn enter_uncut(&self) -> Running {
        self.insert(&mut self.lock(), None)
    }

    fn insert(&self, state: &mut State, standing: Option<Standing>) -> Running {
        let id = state.next_id;
        state.next_id += 1;
        let (interrupt, cut) = (Interrupt::new(), Cut::default());
        if state.is_stopped {
            interrupt.trigger();
        }
        let transfer = Transfer {
            interrupt: interrupt.clone(),
            cut: cut.clone(),
            standing,
            allowed_at: None,
            span: Span::current(),
        };
        state.transfers.insert(id, transfer);
        self.0.count.send_replace(state.transfers.len());
        Running {
            engines: self.clone(),
            id,
            interrupt,
            cut,
        }
    }

    /// Interrupts all engines, those that start later too.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.is_stopped = true;
        for transfer in state.transfers.values() {
            transfer.interrupt.trigger();
        }
    }

    /// Waits until none runs.
    pub async fn idle(&self) {
        let mut count = self.0.count.subscribe();
        // The sender lives as long as `self`.
        let _closed = count.wait_for(|count| *count == 0).await;
    }

    /// Looks until nothing runs any more.
    fn watch(&self) {
        let mut is_failing = false;
        for look in 1.. {
            std::thread::sleep(LOOK_EVERY);
            let asks_all = u32::is_multiple_of(look, LOOKS_PER_ROUND);
            match self.look(asks_all) {
                Ok(true) => is_failing = false,
                Ok(false) => return,
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        error.log("the gate cannot be asked about running transfers");
                    }
                }
            }
        }
    }

    /// Cuts whoever the gate refuses; false if nothing runs.
    ///
    /// # Errors
    ///
    /// When the gate could not be asked about all of them.
    fn look(&self, asks_all: bool) -> Result<bool, HttpError> {
        {
            let mut state = self.lock();
            if state
                .transfers
                .values()
                .all(|transfer| transfer.standing.is_none())
            {
                // Whoever enters next starts another thread.
                state.is_watched = false;
                return Ok(false);
            }
        }
        // Before the questions: what changes meanwhile is another generation.
        let generation = ask(|| (self.0.generation)())?;
        let asked: Vec<(u64, Standing)> = self
            .lock()
            .transfers
            .iter()
            .filter(|(_, transfer)| transfer.cut.refusal().is_none())
            .filter(|(_, transfer)| asks_all || transfer.allowed_at != Some(generation))
            .filter_map(|(id, transfer)| Some((*id, transfer.standing.clone()?)))
            .collect();
        let mut failure = None;
        for (id, standing) in asked {
            match ask(|| standing.ask()) {
                Ok(()) => self.change(id, |transfer| transfer.allowed_at = Some(generation)),
                Err(error) if error.status().is_server_error() => failure = Some(error),
                Err(refusal) => self.change(id, |transfer| transfer.refuse(refusal)),
            }
        }
        failure.map_or(Ok(true), Err)
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Transfer)) {
        if let Some(transfer) = self.lock().transfers.get_mut(&id) {
            change(transfer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transfer {
    fn refuse(&self, refusal: HttpError) {
        let reason = refusal.public().to_owned();
        if self.interrupt.trigger_because(&reason) {
            self.cut.happen(refusal);
            self.span.in_scope(
                || tracing::info!(cause = %printable(&reason, CAUSE_BYTES_MAX), "a transfer was cut"),
            );
        }
    }
}

/// Asks the gate; the thread that looks after all must not end with one question.
fn ask<T>(question: impl FnOnce() -> Result<T, HttpError>) -> Result<T, HttpError> {
    catch_unwind(AssertUnwindSafe(question))
        .unwrap_or_else(|_panic| Err(HttpError::internal("the gate panicked")))
}

/// One running engine; it left when this is dropped.
#[derive(Debug)]
pub struct Running {
    engines: Engines,
    id: u64,
    interrupt: Interrupt,
    cut: Cut,
}

impl Running {
    /// What the engine is to ask whether to go on.
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// What the others hear who wait for the engine or its client.
    pub fn cut(&self) -> &Cut {
        &self.cut
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.engines.lock();
        state.transfers.remove(&self.id);
        self.engines.0.count.send_replace(state.transfers.len());
    }
}

/// The end of a transfer by the gate, for those who wait where no interrupt reaches them; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cut(Arc<Ended>);

#[derive(Debug, Default)]
struct Ended {
    signal: CancellationToken,
    refusal: OnceLock<HttpError>,
}

impl Cut {
    pub(super) fn happen(&self, refusal: HttpError) {
        // The first refusal stays.
        self.0.refusal.get_or_init(|| refusal);
        self.0.signal.cancel();
    }

    /// The gate's refusal, once it cut the transfer.
    pub fn refusal(&self) -> Option<&HttpError> {
        self.0.refusal.get()
    }

    /// Waits until the gate cuts the transfer.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn happened(&self) {
        self.0.signal.cancelled().await;
    }

    /// Waits for `wanted` unless the transfer is cut.
    ///
    /// # Errors
    ///
    /// The gate's refusal.
    pub async fn or<F: Future>(&self, wanted: F) -> Result<F::Output, HttpError> {
        tokio::select! {
            biased;
            () = self.happened() => Err(self.refusal().cloned().unwrap_or_else(HttpError::not_found)),
            output = wanted => Ok(output),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;
    use crate::auth::{self, token};
    use crate::names::RepoPath;
    use crate::store::{Actor, DATABASE_FILE, NewAccount, Store, TokenLimits};

    /// Longest that a cut may take.
    const CUT_MAX: Duration = Duration::from_secs(1);

    fn always() -> Standing {
        Standing::new(|| Ok(()))
    }

    fn still() -> Engines {
        Engines::new(|| Ok(1))
    }

    /// A gate of which a test says what it thinks, and that says when it was asked.
    #[derive(Clone, Default)]
    struct Gate {
        generation: Arc<AtomicU64>,
        refuses: Arc<AtomicBool>,
        is_broken: Arc<AtomicBool>,
    }

    impl Gate {
        fn engines(&self) -> Engines {
            let gate = self.clone();
            Engines::new(move || Ok(gate.generation.load(Ordering::SeqCst)))
        }

        fn standing(&self, asked: mpsc::Sender<()>) -> Standing {
            let gate = self.clone();
            Standing::new(move || {
                // A test that has seen enough has dropped its end.
                let _seen = asked.send(());
                if gate.is_broken.load(Ordering::SeqCst) {
                    return Err(HttpError::internal("the disk"));
                }
                if gate.refuses.load(Ordering::SeqCst) {
                    return Err(HttpError::forbidden("No more."));
                }
                Ok(())
            })
        }

        fn change(&self) {
            self.generation.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn stopping_interrupts_engines_and_waits_for_them() {
        let engines = still();
        let running = engines.enter(always()).unwrap();
        engines.stop();
        assert!(running.interrupt().is_triggered());
        assert!(running.cut().refusal().is_none(), "a stop is no refusal");
        let waiter = tokio::spawn({
            let engines = engines.clone();
            async move { engines.idle().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        drop(running);
        waiter.await.unwrap();
        let late = engines.enter(always()).unwrap();
        assert!(
            late.interrupt().is_triggered(),
            "an engine that starts after the stop ends at once"
        );
    }

    #[tokio::test]
    async fn whoever_the_gate_refuses_is_cut_with_its_words_and_nobody_else() {
        let (gate, (asked, _hear)) = (Gate::default(), mpsc::channel());
        let engines = gate.engines();
        let other = engines.enter(always()).unwrap();
        let running = engines.enter(gate.standing(asked)).unwrap();
        gate.refuses.store(true, Ordering::SeqCst);
        gate.change();
        let started = Instant::now();
        let waited = running.cut().or(std::future::pending::<()>()).await;
        assert!(started.elapsed() < CUT_MAX);
        assert_eq!(waited.unwrap_err().status().as_u16(), 403);
        assert_eq!(running.interrupt().reason(), Some("No more."));
        assert!(!other.interrupt().is_triggered() && other.cut().refusal().is_none());
    }

    #[tokio::test]
    async fn what_ends_with_time_alone_is_noticed() {
        let (gate, (asked, hear)) = (Gate::default(), mpsc::channel());
        let engines = gate.engines();
        let running = engines.enter(gate.standing(asked)).unwrap();
        // It was let go on at this generation, and nothing changes from here on but the answer.
        let first = tokio::task::spawn_blocking(move || hear.recv()).await;
        first.unwrap().unwrap();
        gate.refuses.store(true, Ordering::SeqCst);
        let started = Instant::now();
        running.cut().happened().await;
        assert!(started.elapsed() < CUT_MAX);
    }

    #[tokio::test]
    async fn what_was_sealed_or_cannot_be_asked_about_goes_on() {
        let (gate, (asked, hear)) = (Gate::default(), mpsc::channel());
        let engines = gate.engines();
        let sealed = engines.enter(gate.standing(asked.clone())).unwrap();
        assert!(sealed.interrupt().seal());
        gate.refuses.store(true, Ordering::SeqCst);
        let broken = Gate::default();
        broken.is_broken.store(true, Ordering::SeqCst);
        let unknown = engines.enter(broken.standing(asked)).unwrap();
        // At the third question both transfers were dealt with once.
        let asked = tokio::task::spawn_blocking(move || (0..3).try_for_each(|_| hear.recv()));
        asked.await.unwrap().unwrap();
        for running in [&sealed, &unknown] {
            assert!(!running.interrupt().is_triggered());
            assert!(running.cut().refusal().is_none());
        }
    }

    #[test]
    fn nothing_looks_when_nothing_runs_and_the_next_transfer_is_looked_after_again() {
        let (gate, (asked, hear)) = (Gate::default(), mpsc::channel());
        let engines = gate.engines();
        for _ in 0..2 {
            let running = engines.enter(gate.standing(asked.clone())).unwrap();
            hear.recv().unwrap();
            drop(running);
            let deadline = Instant::now() + Duration::from_secs(10);
            while engines.lock().is_watched {
                assert!(Instant::now() < deadline, "the thread must end");
                std::thread::yield_now();
            }
        }
    }

    #[tokio::test]
    async fn a_question_that_panics_leaves_no_other_transfer_alone() {
        let (gate, (asked, _hear)) = (Gate::default(), mpsc::channel());
        let engines = gate.engines();
        let panics = |_| engines.enter(Standing::new(|| panic!("on purpose"))).unwrap();
        let _bad: Vec<Running> = (0..20).map(panics).collect();
        let running = engines.enter(gate.standing(asked)).unwrap();
        gate.refuses.store(true, Ordering::SeqCst);
        running.cut().happened().await;
    }

    #[test]
    fn one_look_cuts_all_that_a_change_ends() {
        const TOKENS: usize = 50;
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join(DATABASE_FILE)).unwrap();
        let account = NewAccount {
            name: "bob",
            password: None,
            is_admin: true,
            must_change_password: false,
        };
        store.create_account(&Actor::CommandLine, &account).unwrap();
        let gate = auth::Gate::new(store.clone(), auth::Options::default());
        let engines = Engines::new({
            let store = store.clone();
            move || store.generation().map_err(HttpError::internal)
        });
        // Nobody else looks.
        engines.lock().is_watched = true;
        let expires_at = token::parse_expiry("1d", jiff::Timestamp::now()).unwrap();
        let mut running = Vec::new();
        for name in 0..TOKENS {
            let new = token::CreateToken {
                account: "bob",
                name: &format!("{name}"),
                scopes: "vso.code",
                expires_at,
                limits: &TokenLimits::NONE,
            };
            let (_, plain) = token::create(&store, &Actor::CommandLine, &new).unwrap();
            let bearer = format!("Bearer {}", plain.expose());
            let address = std::net::IpAddr::from([127, 0, 0, 1]);
            let principal = gate.authenticate(Some(bearer.as_bytes()), address).unwrap();
            for number in 0..1000 / TOKENS {
                let (gate, principal) = (gate.clone(), principal.clone());
                let repository = RepoPath::parse(&format!("C/P/R{number}")).unwrap();
                let standing = Standing::new(move || {
                    Ok(gate.authorize_fetch(&principal, Some(&repository)).map(drop)?)
                });
                running.push(engines.enter(standing).unwrap());
            }
        }
        assert!(engines.look(true).unwrap());
        assert!(running.iter().all(|running| running.cut().refusal().is_none()));
        store
            .set_account_disabled(&Actor::CommandLine, "bob", true)
            .unwrap();
        assert!(engines.look(false).unwrap());
        assert!(running.iter().all(|running| running.cut().refusal().is_some()));
    }
}
