//! The body of a request on its way through the router.
//!
//! The router owns what it is given, and drops what no handler reads. A body that was dropped unread cannot be drained,
//! and its client would see a reset instead of the answer; so this one comes back when it is dropped.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// Where a lent body comes back to.
#[derive(Debug, Clone, Default)]
pub(super) struct Lender(Arc<Mutex<Option<Incoming>>>);

impl Lender {
    /// Lends `body`.
    pub fn lend(&self, body: Option<Incoming>) -> Lent {
        Lent {
            body,
            lender: self.clone(),
        }
    }

    /// Takes back what was lent, unless it was read to its end, broke, or is still out.
    pub fn take_back(&self) -> Option<Incoming> {
        self.slot().take()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Incoming>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lent body.
#[derive(Debug)]
pub(super) struct Lent {
    body: Option<Incoming>,
    lender: Lender,
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            this.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.lender.slot() = self.body.take();
    }
}
