//! The last snapshot that was made, given out again while nothing changed on disk.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::RefSnapshot;
use super::scan::{PackedFile, Scan};
use crate::repository::Error;

/// How long to try for two equal passes in a row. Only programs beside this one can make it take more than a few.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(3);

/// A snapshot and what it was made from.
#[derive(Debug)]
struct Cached {
    /// No pass of it began before.
    started: Instant,
    scan: Scan,
    snapshot: Arc<RefSnapshot>,
}

/// Makes snapshots, one at a time.
#[derive(Debug, Default)]
pub(super) struct SnapshotCache {
    last: Mutex<Option<Arc<Cached>>>,
    /// Held by whoever makes the next one, so that a crowd that finds the last one outdated waits for one pass instead
    /// of making as many.
    making: Mutex<()>,
}

impl SnapshotCache {
    /// Gives a snapshot of a state that the refs were in during this call. Transactions of this process that change
    /// more than one ref hold `visible` for writing meanwhile.
    ///
    /// `None` when another process is in the middle of such a transaction, or died there.
    pub(super) fn snapshot(
        &self,
        git_dir: &Path,
        hash: gix_hash::Kind,
        visible: &RwLock<()>,
    ) -> Result<Option<Arc<RefSnapshot>>, Error> {
        let asked = Instant::now();
        if let Some(last) = self.last()
            && last.scan.is_current(git_dir)
        {
            return Ok(Some(Arc::clone(&last.snapshot)));
        }
        let _making = lock(&self.making);
        let last = self.last();
        if let Some(last) = &last
            && last.started >= asked
        {
            return Ok(Some(Arc::clone(&last.snapshot)));
        }
        let _visible = visible.read().unwrap_or_else(PoisonError::into_inner);
        let started = Instant::now();
        let Some(scan) = settled_scan(git_dir, hash, last.as_ref().map(|last| &last.scan))? else {
            return Ok(None);
        };
        let snapshot = match &last {
            Some(last) if last.scan.has_same_refs(&scan) => Arc::clone(&last.snapshot),
            _ => Arc::new(RefSnapshot::new(&scan)?),
        };
        *lock(&self.last) = Some(Arc::new(Cached {
            started,
            scan,
            snapshot: Arc::clone(&snapshot),
        }));
        Ok(Some(snapshot))
    }

    /// The `packed-refs` file that was read last; whoever uses it refreshes it.
    pub(super) fn packed(&self) -> Option<PackedFile> {
        self.last().map(|last| last.scan.packed())
    }

    fn last(&self) -> Option<Arc<Cached>> {
        lock(&self.last).clone()
    }
}

/// Reads until a pass is known to show a state that existed: nothing changed since it, or the next pass is equal.
fn settled_scan(
    git_dir: &Path,
    hash: gix_hash::Kind,
    previous: Option<&Scan>,
) -> Result<Option<Scan>, Error> {
    let deadline = Instant::now() + SETTLE_TIME_MAX;
    let mut scan = Scan::read(git_dir, hash, previous)?;
    let mut pause = Duration::from_micros(50);
    loop {
        if scan.met_journal {
            return Ok(None);
        }
        if scan.is_current(git_dir) {
            return Ok(Some(scan));
        }
        let next = Scan::read(git_dir, hash, Some(&scan))?;
        if next.is_same(&scan) {
            return Ok(Some(next));
        }
        if Instant::now() >= deadline {
            return Err(Error::RefsUnsettled);
        }
        scan = next;
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these mutexes guard is replaced whole, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
