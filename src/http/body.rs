//! The body of every response: what hyper polls, and what ends with it.
//!
//! Invariant: the request's log line, its place among the transfers and its mark on the connection end when the body
//! ends or is dropped, and not before.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::bridge::{BrokenOff, Stream};
use super::stall::StreamWatch;
use crate::telemetry::RequestLog;

/// What a response carries.
pub enum Content {
    /// Bytes that are all there.
    Full(Bytes),
    /// Bytes that an engine makes.
    Streamed(Pin<Box<Stream>>),
}

/// A response's body.
pub struct ResponseBody {
    content: Content,
    log: Option<RequestLog>,
    watch: Option<Arc<StreamWatch>>,
    /// What the connection wants to know the end of.
    _held: Option<Box<dyn Any + Send>>,
}

impl ResponseBody {
    /// Makes a body whose end is `log`'s.
    pub fn new(content: Content, log: Option<RequestLog>) -> Self {
        ResponseBody {
            content,
            log,
            watch: StreamWatch::current(),
            _held: None,
        }
    }

    /// Keeps `held` until the body ends.
    #[must_use]
    pub fn holding(mut self, held: impl Any + Send) -> Self {
        self._held = Some(Box::new(held));
        self
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        if let Some(watch) = &this.watch {
            watch.wants_a_frame();
        }
        let next = match &mut this.content {
            Content::Full(bytes) if bytes.is_empty() => None,
            Content::Full(bytes) => Some(Ok(std::mem::take(bytes))),
            Content::Streamed(stream) => ready!(stream.poll_next(cx)),
        };
        if let (Some(Ok(bytes)), Some(log)) = (&next, &this.log) {
            log.record().count_out(bytes.len());
        }
        if let (Some(Ok(_)), Some(watch)) = (&next, &this.watch) {
            watch.gave_a_frame();
        }
        Poll::Ready(next.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Full(bytes) => bytes.is_empty(),
            Content::Streamed(stream) => stream.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Streamed(_) => SizeHint::default(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let is_whole = match &self.content {
            Content::Full(bytes) => bytes.is_empty(),
            Content::Streamed(stream) => stream.is_whole(),
        };
        if let (true, Some(log)) = (is_whole, &mut self.log) {
            log.complete();
        }
    }
}
