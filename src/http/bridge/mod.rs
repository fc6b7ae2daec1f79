//! The one joint between engines that block and hyper's bodies.
//!
//! Owns the way of an answer: an engine writes into a [`ResponseWriter`] on a thread that may block, its bytes go
//! through a bounded queue, hyper takes them as a [`Stream`]. Does not know what an engine does.
//!
//! Invariants: a client that takes nothing stops its engine at the queue's bound; a client that is gone is noticed at
//! once ([`Disconnect`]); an answer ends cleanly only when its engine said that it is whole, so that a pack that was cut
//! short looks cut short; nothing was sent yet when an engine's error becomes an error response.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::error::HttpError;
use super::permits::Permit;
use super::request_body::Arrival;
use super::running::Running;
use crate::interrupt::Interrupt;

/// Bytes that are put together before they go to the client. One write of this size costs hyper and TLS little more
/// than a small one, and four of them are what a transfer holds at most.
const CHUNK_BYTES: usize = 128 << 10;

/// Chunks between an engine and its client.
const CHUNKS_QUEUED_MAX: usize = 3;

/// What passes from the engine to the body.
enum Chunk {
    More(Bytes),
    Last(Bytes),
}

/// What an engine writes its answer into.
///
/// # Blocking
///
/// Waits when the client is slow. Fails with `BrokenPipe` once the client is gone, unless the engine has a whole push
/// in its hands: then what it writes is thrown away and it goes on to its end.
pub struct ResponseWriter {
    queue: mpsc::Sender<Chunk>,
    buffer: BytesMut,
    has_sent: bool,
    is_gone: bool,
    goes_on_after: Option<Arrival>,
}

impl ResponseWriter {
    fn send(&mut self, chunk: Chunk) -> io::Result<()> {
        match self.queue.blocking_send(chunk) {
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

    /// Says that the answer is whole.
    fn finish(mut self) {
        let last = self.buffer.split().freeze();
        // A client that is gone needs no end.
        let _gone = self.send(Chunk::Last(last));
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
        self.send(Chunk::More(chunk))
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
    queue: mpsc::Receiver<Chunk>,
    next: Option<Chunk>,
    end: Option<Result<(), BrokenOff>>,
    _permit: Option<Permit>,
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
    /// When the engine failed, once: hyper then cuts the answer off instead of ending it.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        if self.end.is_some() {
            return Poll::Ready(None);
        }
        let chunk = match self.next.take() {
            Some(chunk) => Some(chunk),
            None => ready!(self.queue.poll_recv(cx)),
        };
        Poll::Ready(match chunk {
            Some(Chunk::More(bytes)) => Some(Ok(bytes)),
            Some(Chunk::Last(bytes)) => {
                self.end = Some(Ok(()));
                (!bytes.is_empty()).then_some(Ok(bytes))
            }
            None => {
                self.end = Some(Err(BrokenOff));
                Some(Err(BrokenOff))
            }
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
    /// Set when nobody wants the answer any more.
    pub interrupt: Interrupt,
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
    let (sender, mut queue) = mpsc::channel(CHUNKS_QUEUED_MAX);
    let Job {
        running,
        permit,
        interrupt,
        goes_on_after,
    } = job;
    let disconnect = Disconnect {
        interrupt,
        goes_on_after: goes_on_after.clone(),
    };
    let writer = ResponseWriter {
        queue: sender,
        buffer: BytesMut::new(),
        has_sent: false,
        is_gone: false,
        goes_on_after,
    };
    let engine_permit = permit.clone();
    let span = tracing::Span::current();
    let engine = tokio::task::spawn_blocking(move || {
        // In this order: who finds no engine running finds its place free.
        let _held = (engine_permit, running);
        span.in_scope(|| run_to_the_end(writer, engine))
    });
    match queue.recv().await {
        Some(Chunk::Last(bytes)) => Ok(Answer::Whole(bytes)),
        Some(first) => Ok(Answer::Streamed(Box::pin(Stream {
            queue,
            next: Some(first),
            end: None,
            _disconnect: disconnect,
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
            // A client that went away is in the request's own line; what the engine said to it is no news.
            if writer.has_sent && !writer.is_gone {
                error.log("the answer broke off");
            }
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests;
