//! The engines that run now, so that a server that stops can end them and wait for them.
//!
//! Invariant: [`Engines::idle`] returns only when no engine runs, so a process that waits for it never cuts a ref
//! transaction: an interrupted engine stops before its commit point, or goes on behind it to its end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::interrupt::Interrupt;

/// All running engines.
#[derive(Debug, Clone)]
pub struct Engines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    interrupts: HashMap<u64, Interrupt>,
    is_stopped: bool,
}

impl Default for Engines {
    fn default() -> Self {
        Engines(Arc::new(Shared {
            state: Mutex::default(),
            count: watch::Sender::new(0),
        }))
    }
}

impl Engines {
    /// Enters an engine that stops when `interrupt` is triggered. After [`Engines::stop`] it is triggered at once.
    pub fn enter(&self, interrupt: &Interrupt) -> Running {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let id = state.next_id;
        state.next_id += 1;
        state.interrupts.insert(id, interrupt.clone());
        if state.is_stopped {
            interrupt.trigger();
        }
        self.0.count.send_replace(state.interrupts.len());
        Running {
            engines: self.clone(),
            id,
        }
    }

    /// Interrupts all engines, those that start later too.
    pub fn stop(&self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_stopped = true;
        for interrupt in state.interrupts.values() {
            interrupt.trigger();
        }
    }

    /// Waits until none runs.
    pub async fn idle(&self) {
        let mut count = self.0.count.subscribe();
        // The sender lives as long as `self`.
        let _closed = count.wait_for(|count| *count == 0).await;
    }
}

/// One running engine; it left when this is dropped.
#[derive(Debug)]
pub struct Running {
    engines: Engines,
    id: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        let shared = &self.engines.0;
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.interrupts.remove(&self.id);
        shared.count.send_replace(state.interrupts.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stopping_interrupts_engines_and_waits_for_them() {
        let engines = Engines::default();
        let interrupt = Interrupt::new();
        let running = engines.enter(&interrupt);
        engines.stop();
        assert!(interrupt.is_triggered());
        let waiter = tokio::spawn({
            let engines = engines.clone();
            async move { engines.idle().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        drop(running);
        waiter.await.unwrap();
        let late = Interrupt::new();
        let _late = engines.enter(&late);
        assert!(
            late.is_triggered(),
            "an engine that starts after the stop ends at once"
        );
    }
}
