//! Notes when tokens were used, off the way of the request that uses them.
//!
//! A bounded queue leads to one thread, which writes what has gathered in one transaction. What does not fit in the
//! queue is dropped; the next use a little later is noted instead.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::store::{Store, TokenUse};

/// Uses that may wait to be written; some 100 bytes each.
const QUEUE_COUNT_MAX: usize = 1024;

enum Message {
    Use(TokenUse),
    /// Asks for an answer when all that was sent before is written.
    Flush(SyncSender<()>),
    Stop,
}

/// The near end of the queue.
#[derive(Debug)]
pub(super) struct Recorder {
    queue: SyncSender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Recorder {
    /// Starts the thread. If the system has none to give, uses are not noted.
    pub(super) fn start(store: Store) -> Recorder {
        let (queue, messages) = sync_channel(QUEUE_COUNT_MAX);
        let thread = std::thread::Builder::new()
            .name("last-used".to_owned())
            .spawn(move || run(&store, &messages))
            .inspect_err(|error| tracing::warn!(%error, "cannot note when tokens are used: no thread"))
            .ok();
        Recorder {
            queue,
            thread: Mutex::new(thread),
        }
    }

    /// Queues a use; false if there was no room. Never waits.
    pub(super) fn record(&self, used: TokenUse) -> bool {
        match self.queue.try_send(Message::Use(used)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// Waits until all that was queued before is written.
    pub(super) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.queue.send(Message::Flush(done)).is_ok() {
            // An error means that the thread has ended, and with it the queue.
            let _ = wait.recv();
        }
    }

    /// Writes what is queued and ends the thread. Later uses are dropped.
    pub(super) fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = self.queue.send(Message::Stop);
            if thread.join().is_err() {
                tracing::error!("the thread that notes when tokens are used has panicked");
            }
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(store: &Store, messages: &Receiver<Message>) {
    let mut uses = Vec::new();
    let mut answers = Vec::new();
    let mut is_running = true;
    while is_running {
        let Ok(first) = messages.recv() else { return };
        for message in std::iter::once(first)
            .chain(messages.try_iter())
            .take(QUEUE_COUNT_MAX)
        {
            match message {
                Message::Use(used) => uses.push(used),
                Message::Flush(done) => answers.push(done),
                Message::Stop => is_running = false,
            }
        }
        if let Err(error) = store.record_token_uses(&uses) {
            tracing::warn!(%error, count = uses.len(), "cannot note when tokens were used");
        }
        uses.clear();
        for done in answers.drain(..) {
            // Whoever asked may have stopped waiting.
            let _ = done.try_send(());
        }
    }
}
