//! What the server does by itself from time to time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::auth::{Clock, Gate};

/// How often things are swept.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// How often the clock is asked whether it is time.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Sweeps the gate at once and then every hour of its clock, until it is dropped.
pub async fn keep(gate: Gate) {
    let clock = gate.clock().clone();
    every_hour(&clock, move || gate.sweep(gate.clock().now())).await;
}

async fn every_hour(clock: &Clock, sweep: impl Fn() + Send + Sync + 'static) {
    let sweep = Arc::new(sweep);
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut swept_at = None;
    loop {
        look.tick().await;
        let now = clock.elapsed();
        if swept_at.is_some_and(|swept_at| now.saturating_sub(swept_at) < SWEEP_INTERVAL) {
            continue;
        }
        swept_at = Some(now);
        let sweep = Arc::clone(&sweep);
        if tokio::task::spawn_blocking(move || sweep()).await.is_err() {
            tracing::error!("a sweep failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use jiff::Timestamp;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_swept_at_the_start_and_after_every_hour_of_the_clock_whatever_happens() {
        let clock = Clock::manual(Timestamp::now());
        let count = Arc::new(AtomicU32::new(0));
        let sweep = {
            let count = Arc::clone(&count);
            move || assert_ne!(count.fetch_add(1, Ordering::Relaxed), 1, "the second one fails")
        };
        let task = tokio::spawn({
            let clock = clock.clone();
            async move { every_hour(&clock, sweep).await }
        });
        // The runtime's clock stands still but for these looks.
        let after_looks = async |looks: u32| {
            sleep(LOOK_INTERVAL * looks).await;
            count.load(Ordering::Relaxed)
        };
        assert_eq!(after_looks(1).await, 1);
        assert_eq!(after_looks(200).await, 1, "time is what the clock says");
        clock.advance(SWEEP_INTERVAL - Duration::from_secs(1));
        assert_eq!(after_looks(2).await, 1);
        clock.advance(Duration::from_secs(1));
        assert_eq!(after_looks(2).await, 2);
        clock.advance(2 * SWEEP_INTERVAL);
        assert_eq!(after_looks(5).await, 3, "what was slept through is swept once");
        task.abort();
    }
}
