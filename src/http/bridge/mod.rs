//! The one joint between engines that block and hyper's bodies.
//!
//! Owns the way of an answer: an engine writes into a [`ResponseWriter`] on a thread that may block, its bytes go
//! through a bounded queue, hyper takes them as a [`Stream`]. Does not know what an engine does.
//!
//! Invariants: a client that takes nothing stops its engine at the queue's bound; a client that is gone is noticed at
//! once ([`Disconnect`]); an engine whom the gate cut waits for no client; an answer ends cleanly only when its engine
//! said that it is whole, so that a pack that was cut short looks cut short; what was said before an answer breaks off
//! goes out first; nothing was sent yet when an engine's error becomes an error response.

use std::future::Future;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::HttpError;
use super::permits::Permit;
use super::request_body::Arrival;
use super::running::{Cut, Running};
use crate::interrupt::Interrupt;

/// Bytes that are put together before they go to the client. One write of this size costs hyper and TLS little more
/// than a small one, and four of them are what a transfer holds at most.
const CHUNK_BYTES: usize = 128 << 10;

/// Chunks between an engine and its client.
const CHUNKS_QUEUED_MAX: usize = 3;

/// Chunks beyond them that an engine may leave once it was cut: its last words, and what it wrote before it noticed.
const CHUNKS_AFTER_CUT_MAX: usize = 4;

/// How long an answer that breaks off waits until its last bytes are on their way to the client.
const LAST_WORDS_MAX: Duration = Duration::from_secs(5);

/// How long it waits after that: bytes may still be in a buffer of TLS or HTTP/2 that breaking off would empty.
const LAST_WORDS_PAUSE: Duration = Duration::from_millis(100);

/// What passes from the engine to the body.
struct Chunk {
    bytes: Bytes,
    is_last: bool,
    /// Its place in the queue, free once it is taken out.
    _place: Option<OwnedSemaphorePermit>,
}

/// What an engine writes its answer into.
///
/// # Blocking
///
/// Waits when the client is slow. Fails with `BrokenPipe` once the client is gone, unless the engine has a whole push
/// in its hands: then what it writes is thrown away and it goes on to its end. After the gate has cut the transfer it
/// never waits, and fails when more is written than last words have.
pub struct ResponseWriter {
    queue: mpsc::UnboundedSender<Chunk>,
    places: Arc<Semaphore>,
    runtime: Handle,
    cut: Cut,
    chunks_after_cut: usize,
    buffer: BytesMut,
    has_sent: bool,
    is_gone: bool,
    goes_on_after: Option<Arrival>,
}

impl ResponseWriter {
    fn send(&mut self, bytes: Bytes, is_last: bool) -> io::Result<()> {
        let place = self.place();
        if place.is_none() {
            self.chunks_after_cut += 1;
            if self.chunks_after_cut > CHUNKS_AFTER_CUT_MAX {
                return Err(io::Error::other("the transfer was cut"));
            }
        }
        let chunk = Chunk {
            bytes,
            is_last,
            _place: place,
        };
        match self.queue.send(chunk) {
            Ok(()) => {
                self.has_sent = true;
                Ok(())
            }
            Err(_) if self.goes_on_after.as_ref().is_some_and(Arrival::is_complete) => Ok(()),
            Err(_) => {
                self.is_gone = true;
                Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone"))
            }
        }
    }

    /// Waits for a place in the queue; none if the transfer was cut before there is one.
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        let places = || Arc::clone(&self.places);
        places().try_acquire_owned().ok().or_else(|| {
            let free = self.cut.or(places().acquire_owned());
            // Nobody closes the semaphore.
            self.runtime.block_on(free).ok()?.ok()
        })
    }

    /// Says that the answer is whole.
    fn finish(mut self) {
        let last = self.buffer.split().freeze();
        // A client that is gone needs no end.
        let _gone = self.send(last, true);
    }
}

impl Write for ResponseWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            self.buffer.reserve(CHUNK_BYTES);
        }
        let space = CHUNK_BYTES.saturating_sub(self.buffer.len());
        let (now, _later) = data.split_at(space.min(data.len()));
        self.buffer.extend_from_slice(now);
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(now.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = self.buffer.split().freeze();
        self.send(chunk, false)
    }
}

/// What is to happen when the client goes away: dropped with the answer, it interrupts the engine.
#[derive(Debug)]
pub struct Disconnect {
    interrupt: Interrupt,
    goes_on_after: Option<Arrival>,
}

impl Drop for Disconnect {
    fn drop(&mut self) {
        // An interrupt after the engine's end reaches nobody, so a finished answer needs no exception here.
        if !self.goes_on_after.as_ref().is_some_and(Arrival::is_complete) {
            self.interrupt.trigger();
        }
    }
}

/// An answer that an engine still writes.
pub struct Stream {
    // Before the queue: an engine whose write fails must find itself interrupted.
    _disconnect: Disconnect,
    queue: mpsc::UnboundedReceiver<Chunk>,
    next: Option<Chunk>,
    /// Cancelled when what was given out last is no longer needed.
    given: CancellationToken,
    /// What the end must wait for.
    ending: Option<Ending>,
    unfinished: Unfinished,
    end: Option<Result<(), BrokenOff>>,
    _permit: SharedPermit,
}

/// The engine stopped before its answer was whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer broke off")]
pub struct BrokenOff;

impl Stream {
    /// Polls for the next bytes; `None` when the answer is whole.
    ///
    /// # Errors
    ///
    /// When the engine failed, once, and what it wrote by then is out or not taken: hyper then cuts the answer off
    /// instead of ending it, and throws away what it has not sent.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        while self.end.is_none() {
            if let Some(ending) = &mut self.ending {
                self.end = Some(ready!(ending.as_mut().poll(cx)));
                return Poll::Ready(self.end.and_then(Result::err).map(Err));
            }
            let chunk = match self.next.take() {
                Some(chunk) => Some(chunk),
                None => ready!(self.queue.poll_recv(cx)),
            };
            match chunk {
                Some(Chunk {
                    bytes,
                    is_last: false,
                    ..
                }) => return Poll::Ready(Some(Ok(self.give(bytes)))),
                Some(Chunk { bytes, .. }) => {
                    match self.unfinished.request() {
                        Some(request) => self.ending = Some(Box::pin(end_after(request))),
                        None => self.end = Some(Ok(())),
                    }
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
                None => self.ending = Some(Box::pin(break_off(self.given.clone()))),
            }
        }
        Poll::Ready(None)
    }

    /// Notes when nobody holds `bytes` any more.
    fn give(&mut self, bytes: Bytes) -> Bytes {
        self.given = CancellationToken::new();
        Bytes::from_owner(Given {
            bytes,
            _taken: self.given.clone().drop_guard(),
        })
    }

    /// Tells whether the end of the answer was reached.
    pub fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Tells whether all of the answer was given out.
    pub fn is_whole(&self) -> bool {
        self.end == Some(Ok(()))
    }
}

/// Bytes that tell when nobody holds them any more.
struct Given {
    bytes: Bytes,
    _taken: DropGuard,
}

impl AsRef<[u8]> for Given {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The request of a push, of which the answer to a cut is ahead.
struct Unfinished {
    cut: Cut,
    request: Option<Arrival>,
}

impl Unfinished {
    /// The request, if the push was cut before all of it was there.
    fn request(&self) -> Option<Arrival> {
        let request = self.request.as_ref().filter(|request| !request.is_complete());
        request.filter(|_| self.cut.refusal().is_some()).cloned()
    }
}

/// What the end of an answer waits for, and what end it is.
type Ending = Pin<Box<dyn Future<Output = Result<(), BrokenOff>> + Send>>;

/// Breaks an answer off once the bytes that were `given` out last are on their way, or could long have been.
async fn break_off(given: CancellationToken) -> Result<(), BrokenOff> {
    // A client that takes nothing does not take the last words either.
    let _elapsed = timeout(LAST_WORDS_MAX, given.cancelled()).await;
    sleep(LAST_WORDS_PAUSE).await;
    Err(BrokenOff)
}

/// Ends an answer that came before the end of its request. Only then: on HTTP/2 curl up to 8 reads nothing more once an
/// answer has ended, not even that the server takes more, and sends the rest of its request for ever.
async fn end_after(request: Arrival) -> Result<(), BrokenOff> {
    request.over().await;
    Ok(())
}

/// A place among the transfers that both sides of the bridge hold. An engine that fails or is cut gives it back for
/// both: what then is left of the answer makes no work.
type SharedPermit = Arc<Mutex<Option<Permit>>>;

/// The start of an answer.
pub enum Answer {
    /// All of it: the engine ended within the first chunk.
    Whole(Bytes),
    /// Its first chunk, and the rest to come.
    Streamed(Pin<Box<Stream>>),
}

/// What an engine runs with.
#[derive(Debug)]
pub struct Job {
    /// Makes the server wait for the engine when it stops.
    pub running: Running,
    /// The engine's place among the transfers.
    pub permit: Option<Permit>,
    /// A push's request: once it is all there, the engine goes on without its client.
    pub goes_on_after: Option<Arrival>,
}

/// Runs `engine` on a thread that may block, until its first chunk is there.
///
/// # Errors
///
/// When it fails before any of its bytes were sent: its own error, or an internal one if it panicked. Later failures
/// break the stream off.
///
/// # Cancel safety
///
/// A caller that goes away is a client that is gone.
pub async fn run<F>(job: Job, engine: F) -> Result<Answer, HttpError>
where
    F: FnOnce(&mut ResponseWriter) -> Result<(), HttpError> + Send + 'static,
{
    let (sender, mut queue) = mpsc::unbounded_channel();
    let Job {
        running,
        permit,
        goes_on_after,
    } = job;
    let cut = running.cut().clone();
    let unfinished = Unfinished {
        cut: cut.clone(),
        request: goes_on_after.clone(),
    };
    let disconnect = Disconnect {
        interrupt: running.interrupt().clone(),
        goes_on_after: goes_on_after.clone(),
    };
    let writer = ResponseWriter {
        queue: sender,
        places: Arc::new(Semaphore::new(CHUNKS_QUEUED_MAX)),
        runtime: Handle::current(),
        cut,
        chunks_after_cut: 0,
        buffer: BytesMut::new(),
        has_sent: false,
        is_gone: false,
        goes_on_after,
    };
    let permit: SharedPermit = Arc::new(Mutex::new(permit));
    let engine_permit = Arc::clone(&permit);
    let span = tracing::Span::current();
    let engine = tokio::task::spawn_blocking(move || {
        // In this order: who finds no engine running finds its place free.
        let held = (engine_permit, running);
        let outcome = span.in_scope(|| run_to_the_end(writer, engine));
        if outcome.is_err() || held.1.cut().refusal().is_some() {
            held.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        outcome
    });
    match queue.recv().await {
        Some(Chunk {
            bytes, is_last: true, ..
        }) if unfinished.request().is_none() => Ok(Answer::Whole(bytes)),
        Some(first) => Ok(Answer::Streamed(Box::pin(Stream {
            _disconnect: disconnect,
            queue,
            next: Some(first),
            given: CancellationToken::new(),
            ending: None,
            unfinished,
            end: None,
            _permit: permit,
        }))),
        None => match engine.await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) => Err(HttpError::internal("the engine ended without an answer")),
            Err(error) => Err(HttpError::internal(format_args!(
                "the engine did not end: {error}"
            ))),
        },
    }
}

/// Runs `engine`; an error comes back only if nothing was sent.
fn run_to_the_end<F>(mut writer: ResponseWriter, engine: F) -> Result<(), HttpError>
where
    F: FnOnce(&mut ResponseWriter) -> Result<(), HttpError>,
{
    // The writer is only dropped after a panic, which no invariant of it depends on.
    let outcome = catch_unwind(AssertUnwindSafe(|| engine(&mut writer)))
        .unwrap_or_else(|_panic| Err(HttpError::internal("an engine panicked")));
    match outcome {
        Ok(()) => {
            writer.finish();
            Ok(())
        }
        Err(error) => {
            // A client that went away is in the request's own line, and a cut in a line of its own.
            if writer.has_sent && !writer.is_gone && writer.cut.refusal().is_none() {
                error.log("the answer broke off");
            }
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests;
