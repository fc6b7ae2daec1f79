//! A socket that does not wait for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// What a connection does, as far as its time limits need to know.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    requests: usize,
    idle_since: Instant,
    head_since: Option<Instant>,
    is_http2: bool,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        // A new connection owes its first request as if it had begun one.
        let now = Instant::now();
        Arc::new(Activity(Mutex::new(State {
            requests: 0,
            idle_since: now,
            head_since: Some(now),
            is_http2: false,
        })))
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes a request until the result is dropped.
    pub(super) fn request(self: &Arc<Self>, is_http2: bool) -> ActiveRequest {
        self.with(|state| {
            state.is_http2 = is_http2;
            state.requests += 1;
            state.head_since = None;
        });
        ActiveRequest(Arc::clone(self))
    }

    /// Notes bytes from the client: outside of requests they begin the head of one, or are HTTP/2's own traffic.
    fn received(&self) {
        self.with(|state| {
            if state.requests == 0 && state.head_since.is_none() && !state.is_http2 {
                state.head_since = Some(Instant::now());
            }
        });
    }

    /// Notes that a client which was slow took bytes: the end of an answer may still be on its way to it.
    fn moved(&self) {
        self.with(|state| state.idle_since = Instant::now());
    }

    /// Returns when the connection is to be closed unless something happens; `None` while a request runs.
    pub(super) fn deadline(&self, head_max: Duration, idle_max: Duration) -> Option<Instant> {
        self.with(|state| match state.head_since {
            _ if state.requests > 0 => None,
            Some(since) => Some(since + head_max),
            None => Some(state.idle_since + idle_max),
        })
    }
}

/// A request that is not answered to its end yet.
#[derive(Debug)]
pub(super) struct ActiveRequest(Arc<Activity>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.with(|state| {
            state.requests = state.requests.saturating_sub(1);
            state.idle_since = Instant::now();
            state.head_since = None;
        });
    }
}

/// Fails a write with `TimedOut` when the peer takes no byte for `stall_max`; a slow peer that takes some goes on.
pub(super) struct TimedIo<S> {
    inner: S,
    activity: Arc<Activity>,
    stall_max: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> TimedIo<S> {
    pub(super) fn new(inner: S, activity: Arc<Activity>, stall_max: Duration) -> Self {
        TimedIo {
            inner,
            activity,
            stall_max,
            stalled: None,
        }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.stalled.take().is_some() {
                self.activity.moved();
            }
            return written;
        }
        let stall_max = self.stall_max;
        let alarm = self.stalled.get_or_insert_with(|| Box::pin(sleep(stall_max)));
        ready!(alarm.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client does not take its answer",
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedIo<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            this.activity.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(cx, data);
        this.watch(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write_vectored(cx, data);
        this.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.inner).poll_flush(cx);
        this.watch(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.watch(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_ends_the_connection() {
        let (ours, _theirs) = duplex(16);
        let mut io = TimedIo::new(ours, Activity::new(), LIMIT);
        let started = Instant::now();
        let error = io.write_all(&[0; 100]).await.unwrap_err();
        assert_eq!(
            (error.kind(), started.elapsed()),
            (io::ErrorKind::TimedOut, LIMIT)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_goes_on() {
        let (ours, mut theirs) = duplex(1);
        let mut io = TimedIo::new(ours, Activity::new(), LIMIT);
        let reader = tokio::spawn(async move {
            let mut got = 0;
            while got < 100 {
                sleep(LIMIT - Duration::from_secs(1)).await;
                got += theirs.read(&mut [0; 1]).await.unwrap();
            }
        });
        io.write_all(&[0; 100]).await.unwrap();
        reader.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn idle_and_head_have_limits_of_their_own() {
        let activity = Activity::new();
        let (head, idle) = (Duration::from_secs(5), Duration::from_secs(60));
        let start = Instant::now();
        assert_eq!(
            activity.deadline(head, idle),
            Some(start + head),
            "the first request"
        );
        let request = activity.request(false);
        activity.received();
        assert_eq!(activity.deadline(head, idle), None, "while a request runs");
        sleep(Duration::from_secs(100)).await;
        drop(request);
        let ended = Instant::now();
        assert_eq!(activity.deadline(head, idle), Some(ended + idle));
        sleep(Duration::from_secs(30)).await;
        activity.received();
        assert_eq!(
            activity.deadline(head, idle),
            Some(Instant::now() + head),
            "the next request's head"
        );
    }
}
