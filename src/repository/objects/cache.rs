//! Bases of deltas that were made lately: one handle's, bounded in bytes.

use std::sync::Arc;

use gix_object::Kind;

/// Slots. Two entries that share one push each other out, as in git's own delta base cache.
const SLOTS: usize = 4096;

/// Bytes that one handle keeps at most. 100 concurrent fetches stay below 1 GiB and a half in the worst case.
const BYTES_MAX: usize = 16 << 20;

/// An object larger than this is not kept: it would push out everything else.
const OBJECT_BYTES_MAX: usize = 4 << 20;

struct Slot {
    pack: u32,
    offset: u64,
    kind: Kind,
    data: Arc<Vec<u8>>,
}

/// Made objects by the place of their entry.
pub(crate) struct DeltaBaseCache {
    slots: Vec<Option<Slot>>,
    bytes: usize,
    hand: usize,
}

impl std::fmt::Debug for DeltaBaseCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeltaBaseCache({} bytes)", self.bytes)
    }
}

impl DeltaBaseCache {
    pub(crate) fn new() -> Self {
        DeltaBaseCache {
            slots: Vec::new(),
            bytes: 0,
            hand: 0,
        }
    }

    fn slot(pack: u32, offset: u64) -> usize {
        let mixed = (offset ^ (u64::from(pack) << 40)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 52) as usize % SLOTS
    }

    pub(crate) fn find(&self, pack: u32, offset: u64) -> Option<(Kind, Arc<Vec<u8>>)> {
        let slot = self.slots.get(Self::slot(pack, offset))?.as_ref()?;
        (slot.pack == pack && slot.offset == offset).then(|| (slot.kind, Arc::clone(&slot.data)))
    }

    pub(crate) fn insert(&mut self, pack: u32, offset: u64, kind: Kind, data: &Arc<Vec<u8>>) {
        if data.len() > OBJECT_BYTES_MAX {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        self.remove(Self::slot(pack, offset));
        while self.bytes + data.len() > BYTES_MAX {
            self.hand = (self.hand + 1) % SLOTS;
            self.remove(self.hand);
        }
        if let Some(slot) = self.slots.get_mut(Self::slot(pack, offset)) {
            self.bytes += data.len();
            *slot = Some(Slot {
                pack,
                offset,
                kind,
                data: Arc::clone(data),
            });
        }
    }

    fn remove(&mut self, at: usize) {
        if let Some(old) = self.slots.get_mut(at).and_then(Option::take) {
            self.bytes -= old.data.len();
        }
    }
}
