//! How many transfers run at once, and how many may wait for their turn.
//!
//! A [`Permit`] belongs into the response body and into the engine that fills it: the place is free only when both
//! are gone. A limit that ends with the handler would count no transfer at all, since a body streams after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The right to one transfer; hand it on by cloning, the last clone gives it back.
#[derive(Debug, Clone)]
pub struct Permit {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// The server has no place for another transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// As many requests wait as may wait.
    #[error("the queue for transfers is full")]
    Queue,
    /// No place became free in time.
    #[error("waited too long for a place among the transfers")]
    Wait,
}

/// A bounded number of places with a bounded queue before them.
#[derive(Debug)]
pub struct Permits {
    places: Arc<Semaphore>,
    running_max: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
}

impl Permits {
    /// Makes `running_max` places for which at most `waiting_max` requests wait.
    pub fn new(running_max: usize, waiting_max: usize) -> Self {
        let running_max = running_max.clamp(1, Semaphore::MAX_PERMITS);
        Permits {
            places: Arc::new(Semaphore::new(running_max)),
            running_max,
            waiting: AtomicUsize::new(0),
            waiting_max,
        }
    }

    /// Waits for a place, in the order of arrival, at most `wait_max`.
    ///
    /// # Errors
    ///
    /// At once when the queue is full, after `wait_max` when none became free.
    ///
    /// # Cancel safety
    ///
    /// A caller that goes away leaves the queue.
    pub async fn acquire(&self, wait_max: Duration) -> Result<Permit, Full> {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(Permit {
                _permit: Arc::new(permit),
            });
        }
        let _place = Waiting::enter(&self.waiting, self.waiting_max).ok_or(Full::Queue)?;
        match tokio::time::timeout(wait_max, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Permit {
                _permit: Arc::new(permit),
            }),
            Ok(Err(_closed)) => Err(Full::Queue),
            Err(_elapsed) => Err(Full::Wait),
        }
    }

    /// Counts those that run.
    pub fn running(&self) -> usize {
        self.running_max.saturating_sub(self.places.available_permits())
    }

    /// Counts those that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// A place in the queue, left when dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(waiting: &'a AtomicUsize, waiting_max: usize) -> Option<Self> {
        waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                (n < waiting_max).then_some(n + 1)
            })
            .ok()
            .map(|_| Waiting(waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn beyond_the_places_requests_queue_and_beyond_the_queue_they_are_refused() {
        let permits = Arc::new(Permits::new(1, 1));
        let first = permits.acquire(Duration::ZERO).await.unwrap();
        let body = first.clone();
        let second = tokio::spawn({
            let permits = Arc::clone(&permits);
            async move { permits.acquire(Duration::from_secs(60)).await.map(drop) }
        });
        while permits.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            permits.acquire(Duration::from_secs(60)).await.unwrap_err(),
            Full::Queue
        );
        drop(first);
        assert_eq!(permits.running(), 1, "the body still holds its clone");
        drop(body);
        assert_eq!(second.await.unwrap(), Ok(()));
        assert_eq!((permits.running(), permits.waiting()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_at_its_limit() {
        let permits = Permits::new(1, 5);
        let _first = permits.acquire(Duration::ZERO).await.unwrap();
        assert_eq!(
            permits.acquire(Duration::from_secs(10)).await.unwrap_err(),
            Full::Wait
        );
        assert_eq!(permits.waiting(), 0);
    }
}
