//! Tells a client that does not take its answer from an engine that is not ready with it.
//!
//! On HTTP/1.1 the socket shows the difference. On HTTP/2 a stream whose window stays shut is invisible from outside:
//! hyper holds one frame and asks the body for no more. So the body notes when it was asked, and the task that drives
//! the stream (the server's executor) looks at the note and drops the stream when nothing moved for too long; dropping
//! resets it and frees what the body holds.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

tokio::task_local! {
    static WATCH: Arc<StreamWatch>;
}

/// What the body of one HTTP/2 stream notes: even while it waits for its engine, odd while a frame it gave waits for
/// the client; it grows with every change.
#[derive(Debug, Default)]
pub struct StreamWatch(AtomicU64);

impl StreamWatch {
    /// Returns the watch of the stream whose task this is; none on HTTP/1.1.
    pub fn current() -> Option<Arc<StreamWatch>> {
        WATCH.try_with(Arc::clone).ok()
    }

    /// Notes that a frame was handed out.
    pub fn gave_a_frame(&self) {
        self.0
            .fetch_add(if self.is_waiting() { 2 } else { 1 }, Ordering::Relaxed);
    }

    /// Notes that the frame went out, and the engine is to give the next.
    pub fn wants_a_frame(&self) {
        if self.is_waiting() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn is_waiting(&self) -> bool {
        self.0.load(Ordering::Relaxed) % 2 == 1
    }
}

/// Drives the task of one stream, and ends it when its client stalls.
pub struct Watched<F> {
    task: Pin<Box<F>>,
    watch: Arc<StreamWatch>,
    seen: u64,
    stall_max: Duration,
    alarm: Pin<Box<Sleep>>,
}

impl<F: Future<Output = ()>> Watched<F> {
    /// Watches over `task`, which ends at most twice `stall_max` after its client took the last bytes.
    pub fn new(task: F, stall_max: Duration) -> Self {
        Watched {
            task: Box::pin(task),
            watch: Arc::default(),
            seen: 0,
            stall_max,
            alarm: Box::pin(sleep(stall_max)),
        }
    }
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let watch = Arc::clone(&this.watch);
        if WATCH.sync_scope(watch, || this.task.as_mut().poll(cx)).is_ready() {
            return Poll::Ready(());
        }
        while this.alarm.as_mut().poll(cx).is_ready() {
            let now = this.watch.0.load(Ordering::Relaxed);
            if now % 2 == 1 && now == this.seen {
                tracing::info!("an HTTP/2 stream was reset: its client did not take the answer");
                return Poll::Ready(());
            }
            this.seen = now;
            this.alarm.as_mut().reset(Instant::now() + this.stall_max);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_its_client_takes_nothing() {
        let started = Instant::now();
        let task = async {
            StreamWatch::current().unwrap().gave_a_frame();
            std::future::pending::<()>().await;
        };
        Watched::new(task, Duration::from_secs(10)).await;
        assert_eq!(started.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_engine_or_a_slow_but_moving_client_is_no_stall() {
        let task = async {
            let watch = StreamWatch::current().unwrap();
            sleep(Duration::from_secs(1000)).await;
            for _ in 0..100 {
                watch.gave_a_frame();
                sleep(Duration::from_secs(9)).await;
            }
            watch.wants_a_frame();
            sleep(Duration::from_secs(1000)).await;
            watch.gave_a_frame();
        };
        let started = Instant::now();
        Watched::new(task, Duration::from_secs(10)).await;
        assert_eq!(started.elapsed().as_secs(), 2900);
    }
}
