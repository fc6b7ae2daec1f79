//! The second pass: makes objects of the deltas, family by family, a family being a whole object and everything that
//! is a delta upon it or upon one of the family.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

use gix_hash::{ObjectId, oid};
use gix_object::Kind;

use super::input::Output;
use super::inspect::{Inspector, Shared, lock};
use super::records::{NONE, Records, kind_of};
use super::reread::{Reader, Stored};
use super::{Error, Progress};
use crate::repository::objects::delta;

/// Bytes of bases that a thread keeps because they have more deltas upon them. Beyond, those nearest to the whole
/// object are dropped, and made again when their turn comes.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// Bytes that a thread holds without asking. With more it has to be the only one that does.
const UNASKED_BYTES_MAX: usize = 96 << 20;

/// Deltas between two reports of progress.
const PROGRESS_DELTAS: u32 = 256;

/// What the threads of the second pass share.
///
/// # Bounds
///
/// Each thread holds up to [`UNASKED_BYTES_MAX`], and one of them at a time more: up to [`KEPT_BYTES_MAX`] of bases,
/// and a base, a delta and a result, each as large as an object may be.
pub(super) struct Resolve<'a> {
    pub shared: &'a Shared<'a>,
    pub output: Output<'a>,
    next_root: AtomicU32,
    resolved_count: AtomicU32,
    large: Mutex<()>,
}

impl<'a> Resolve<'a> {
    pub fn new(shared: &'a Shared<'a>, output: Output<'a>) -> Self {
        Resolve {
            shared,
            output,
            next_root: AtomicU32::new(0),
            resolved_count: AtomicU32::new(0),
            large: Mutex::new(()),
        }
    }

    pub fn resolved_count(&self) -> u32 {
        self.resolved_count.load(Ordering::Relaxed)
    }

    /// Resolves every delta whose base is in the pack, on this thread and as many more as the limits say.
    pub fn run(&self, records: &Records, progress: &mut dyn FnMut(Progress)) -> Result<(), Error> {
        let total = records.deltas_count;
        if total == 0 {
            return Ok(());
        }
        // A thread costs more than a few deltas.
        let threads = self
            .shared
            .options
            .limits
            .threads
            .clamp(1, 1 + total as usize / 64);
        std::thread::scope(|scope| {
            let helpers: Vec<_> = (1..threads)
                .map(|_| scope.spawn(|| self.check_failed(Worker::new(self).roots(records, &mut |_| {}))))
                .collect();
            let mut tick = |deltas: u32| progress(Progress::Resolving { deltas, total });
            let mut result = self.check_failed(Worker::new(self).roots(records, &mut tick));
            for helper in helpers {
                let helped = helper.join().unwrap_or(Err(Error::Thread));
                // Who saw another thread fail says that it was interrupted; the cause is better.
                if let Err(error) = helped
                    && !matches!(result, Err(ref first) if !matches!(first, Error::Interrupted))
                {
                    result = Err(error);
                }
            }
            result
        })?;
        progress(Progress::Resolving {
            deltas: self.resolved_count(),
            total,
        });
        Ok(())
    }

    fn check_failed(&self, result: Result<(), Error>) -> Result<(), Error> {
        if result.is_err() {
            self.shared.failed.store(true, Ordering::Relaxed);
        }
        result
    }
}

/// An object of the family that is worked at, on the path from the whole object down.
struct Frame {
    entry: u32,
    /// The next OFS_DELTA upon it.
    ofs_child: u32,
    /// The REF_DELTAs upon it that are left.
    ref_children: (u32, u32),
    /// `None` after it was dropped.
    data: Option<Vec<u8>>,
    /// Its id, if its content was checked and its links taken down. Those of a base from the repository were not: it
    /// may be the leftover of a push that failed, without what it refers to.
    inspected: Option<ObjectId>,
}

impl Frame {
    fn has_children(&self) -> bool {
        self.ofs_child != NONE || self.ref_children.0 < self.ref_children.1
    }
}

/// One thread of the second pass.
pub(super) struct Worker<'a> {
    resolve: &'a Resolve<'a>,
    reader: Reader<'a>,
    inspector: Inspector<'a>,
    frames: Vec<Frame>,
    /// Bytes of the frames' data.
    kept_bytes: usize,
    /// Held while this thread has more than [`UNASKED_BYTES_MAX`].
    large: Option<MutexGuard<'a, ()>>,
    delta: Vec<u8>,
    /// A buffer that was used before.
    spare: Vec<u8>,
}

impl<'a> Worker<'a> {
    pub fn new(resolve: &'a Resolve<'a>) -> Self {
        Worker {
            resolve,
            reader: Reader::new(resolve.output),
            inspector: Inspector::new(resolve.shared),
            frames: Vec::new(),
            kept_bytes: 0,
            large: None,
            delta: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Takes one whole object after another until there are none left.
    fn roots(&mut self, records: &Records, tick: &mut dyn FnMut(u32)) -> Result<(), Error> {
        loop {
            let root = self.resolve.next_root.fetch_add(1, Ordering::Relaxed);
            let Some(&number) = records.types.get(root as usize) else {
                break;
            };
            let Some(kind) = kind_of(number) else { continue };
            if records.ref_deltas.is_empty()
                && records
                    .first_child
                    .get(root as usize)
                    .is_none_or(|child| *child == NONE)
            {
                continue;
            }
            self.family(records, root, kind, None, tick)?;
        }
        self.inspector.flush()
    }

    /// Resolves all deltas of the family of `root`, whose content is given if it comes from the repository.
    pub fn family(
        &mut self,
        records: &Records,
        root: u32,
        kind: Kind,
        data: Option<Vec<u8>>,
        tick: &mut dyn FnMut(u32),
    ) -> Result<(), Error> {
        let frame = {
            let objects = lock(&self.resolve.shared.objects);
            frame(records, root, objects.ids.get(root))
        };
        if !frame.has_children() {
            return Ok(());
        }
        self.kept_bytes = data.as_ref().map_or(0, Vec::len);
        self.frames.clear();
        self.frames.push(Frame {
            inspected: frame.inspected.filter(|_| data.is_none()),
            data,
            ..frame
        });
        while let Some(top) = self.frames.last_mut() {
            let Some(child) = next_child(records, top) else {
                self.pop();
                continue;
            };
            self.resolve.shared.check_stop()?;
            self.child(records, child, kind)?;
            let resolved = self.resolve.resolved_count.fetch_add(1, Ordering::Relaxed) + 1;
            if resolved.is_multiple_of(PROGRESS_DELTAS) {
                tick(resolved);
            }
        }
        self.large = None;
        Ok(())
    }

    /// Hands over what was found.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.reader.reset();
        self.inspector.flush()
    }

    /// Makes the object of `child`, a delta upon the last frame.
    fn child(&mut self, records: &Records, child: u32, kind: Kind) -> Result<(), Error> {
        let (offset, _) = records.range(child);
        let max = self.resolve.shared.options.limits.delta_depth_max;
        if self.frames.len() as u64 > u64::from(max) {
            return Err(Error::DeltaDepth { offset, max });
        }
        let at = self.frames.len() - 1;
        self.require_data(records, at, kind)?;
        let mut result = std::mem::take(&mut self.spare);
        let base = self
            .frames
            .last_mut()
            .and_then(|frame| frame.data.take())
            .unwrap_or_default();
        self.kept_bytes -= base.len();
        self.apply(records, child, kind, &base, &mut result)?;
        let base_id = self.frames.last().and_then(|frame| frame.inspected);
        let known = base_id.map(|id| (id, base.as_slice()));
        let id = self.inspector.object(child, offset, kind, &result, known)?;
        let is_last = self.frames.last().is_none_or(|frame| !frame.has_children());
        if is_last {
            // Nothing but this child's family needs the base from here on, and that is rarely.
            self.recycle(base);
        } else {
            self.kept_bytes += base.len();
            if let Some(frame) = self.frames.last_mut() {
                frame.data = Some(base);
            }
        }
        let frame = frame(records, child, id.as_slice());
        if frame.has_children() {
            // A small object in a large used buffer would be kept as if it were small.
            if result.capacity() / 2 > result.len() {
                result.shrink_to_fit();
            }
            self.kept_bytes += result.len();
            self.frames.push(Frame {
                data: Some(result),
                ..frame
            });
            self.prune();
        } else {
            self.recycle(result);
        }
        self.release();
        Ok(())
    }

    /// Makes sure that the frame `at` has its data.
    fn require_data(&mut self, records: &Records, at: usize, kind: Kind) -> Result<(), Error> {
        let Some(held) = (0..=at)
            .rev()
            .find(|&at| self.frames.get(at).is_some_and(|frame| frame.data.is_some()))
        else {
            let mut data = std::mem::take(&mut self.spare);
            let root = self.frames.first().map_or(NONE, |frame| frame.entry);
            let stored = self.stored(records, root)?;
            self.admit(stored.size, 0)?;
            self.resolve.shared.spend(stored.size)?;
            self.reader.inflate(&stored, &mut data)?;
            return self.rebuild(records, 0, at, kind, data);
        };
        if held == at {
            return Ok(());
        }
        let base = self
            .frames
            .get_mut(held)
            .and_then(|frame| frame.data.take())
            .unwrap_or_default();
        self.kept_bytes -= base.len();
        let entry = self.frames.get(held + 1).map_or(NONE, |frame| frame.entry);
        let mut data = Vec::new();
        self.apply(records, entry, kind, &base, &mut data)?;
        self.kept_bytes += base.len();
        if let Some(frame) = self.frames.get_mut(held) {
            frame.data = Some(base);
        }
        self.rebuild(records, held + 1, at, kind, data)
    }

    /// Applies the deltas of the frames after `from`, whose data is given, up to `to`, and keeps the last result.
    fn rebuild(
        &mut self,
        records: &Records,
        from: usize,
        to: usize,
        kind: Kind,
        mut data: Vec<u8>,
    ) -> Result<(), Error> {
        let mut result = Vec::new();
        for at in from + 1..=to {
            let entry = self.frames.get(at).map_or(NONE, |frame| frame.entry);
            self.apply(records, entry, kind, &data, &mut result)?;
            std::mem::swap(&mut data, &mut result);
        }
        self.kept_bytes += data.len();
        if let Some(frame) = self.frames.get_mut(to) {
            frame.data = Some(data);
        }
        Ok(())
    }

    /// Reads the delta `entry` and applies it to `base`.
    fn apply(
        &mut self,
        records: &Records,
        entry: u32,
        kind: Kind,
        base: &[u8],
        result: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let shared = self.resolve.shared;
        let (offset, _) = records.range(entry);
        let stored = self.stored(records, entry)?;
        self.admit(stored.size, base.len())?;
        self.reader.inflate(&stored, &mut self.delta)?;
        let malformed = |source| Error::Delta { offset, source };
        let header = delta::header(&self.delta).map_err(malformed)?;
        shared.check_object_bytes(kind, header.result_size, offset)?;
        shared.spend(header.result_size)?;
        self.admit(stored.size.saturating_add(header.result_size), base.len())?;
        result.clear();
        delta::apply(base, &self.delta, result).map_err(malformed)
    }

    fn stored(&mut self, records: &Records, entry: u32) -> Result<Stored, Error> {
        self.reader.header(
            records,
            entry,
            self.resolve.shared.options.object_hash.len_in_bytes(),
        )
    }

    /// Waits, if this thread is about to hold much, until no other does.
    fn admit(&mut self, bytes: u64, held_bytes: usize) -> Result<(), Error> {
        let bytes = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .saturating_add(held_bytes);
        if self.large.is_none() && bytes.saturating_add(self.kept_bytes) > UNASKED_BYTES_MAX {
            self.large = Some(lock(&self.resolve.large));
            self.resolve.shared.check_stop()?;
        }
        Ok(())
    }

    fn release(&mut self) {
        if self.large.is_some() {
            self.delta = Vec::new();
            self.spare = Vec::new();
            if self.kept_bytes <= KEPT_BYTES_MAX {
                self.large = None;
            }
        }
    }

    fn pop(&mut self) {
        if let Some(data) = self.frames.pop().and_then(|frame| frame.data) {
            self.kept_bytes -= data.len();
            self.recycle(data);
        }
        self.release();
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() > self.spare.capacity() && buffer.capacity() <= UNASKED_BYTES_MAX / 16 {
            self.spare = buffer;
        }
    }

    /// Drops data of the frames but the last, the first of them first: those are needed last and made quickest.
    fn prune(&mut self) {
        let last = self.frames.len().saturating_sub(1);
        for frame in self.frames.iter_mut().take(last) {
            if self.kept_bytes <= KEPT_BYTES_MAX {
                break;
            }
            if let Some(data) = frame.data.take() {
                self.kept_bytes -= data.len();
            }
        }
    }
}

fn frame(records: &Records, entry: u32, id: &[u8]) -> Frame {
    Frame {
        entry,
        ofs_child: records.first_child.get(entry as usize).copied().unwrap_or(NONE),
        ref_children: records.ref_deltas.upon(id),
        data: None,
        inspected: oid::try_from_bytes(id).ok().map(ToOwned::to_owned),
    }
}

/// Takes the next delta upon the object of `frame` that nobody has taken.
fn next_child(records: &Records, frame: &mut Frame) -> Option<u32> {
    while frame.ref_children.0 < frame.ref_children.1 {
        let at = frame.ref_children.0;
        frame.ref_children.0 += 1;
        if let Some(child) = records.ref_deltas.claim(at) {
            return Some(child);
        }
    }
    let child = frame.ofs_child;
    if child == NONE {
        return None;
    }
    frame.ofs_child = records.next_sibling.get(child as usize).copied().unwrap_or(NONE);
    Some(child)
}
