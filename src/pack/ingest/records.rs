//! What is kept of each entry of a pack while it is taken in: 26 bytes, and its id and kind.

use std::sync::atomic::{AtomicBool, Ordering};

use gix_hash::{Kind as HashKind, ObjectId};
use gix_object::Kind;

/// No entry.
pub(super) const NONE: u32 = u32::MAX;

/// The type numbers of gitformat-pack(5).
pub(super) const OFS_DELTA: u8 = 6;
/// A delta that names its base by id.
pub(super) const REF_DELTA: u8 = 7;

/// Returns the kind of object that a type number stands for; `None` for deltas and reserved numbers.
pub(super) fn kind_of(number: u8) -> Option<Kind> {
    match number {
        1 => Some(Kind::Commit),
        2 => Some(Kind::Tree),
        3 => Some(Kind::Blob),
        4 => Some(Kind::Tag),
        _ => None,
    }
}

/// Returns the type number of a whole object.
pub(super) fn number_of(kind: Kind) -> u8 {
    match kind {
        Kind::Commit => 1,
        Kind::Tree => 2,
        Kind::Blob => 3,
        Kind::Tag => 4,
    }
}

/// Raw ids without gaps.
#[derive(Debug)]
pub(super) struct Ids {
    pub bytes: Vec<u8>,
    len: usize,
}

impl Ids {
    pub fn new(hash: HashKind) -> Self {
        Ids {
            bytes: Vec::new(),
            len: hash.len_in_bytes(),
        }
    }

    pub fn get(&self, at: u32) -> &[u8] {
        let from = at as usize * self.len;
        self.bytes.get(from..from + self.len).unwrap_or_default()
    }

    pub fn object_id(&self, at: u32) -> Option<ObjectId> {
        gix_hash::oid::try_from_bytes(self.get(at))
            .ok()
            .map(ToOwned::to_owned)
    }

    pub fn push(&mut self, id: &[u8]) {
        self.bytes.extend_from_slice(id);
    }

    pub fn set(&mut self, at: u32, id: &[u8]) {
        let from = at as usize * self.len;
        let to = from + self.len;
        if self.bytes.len() < to {
            self.bytes.resize(to, 0);
        }
        if let Some(slot) = self.bytes.get_mut(from..to) {
            slot.copy_from_slice(id);
        }
    }
}

/// What becomes known of the entries when they are hashed; written by all threads.
#[derive(Debug)]
pub(super) struct Objects {
    pub ids: Ids,
    /// Type numbers of whole objects; 0 while unknown.
    pub kinds: Vec<u8>,
}

impl Objects {
    pub fn new(hash: HashKind) -> Self {
        Objects {
            ids: Ids::new(hash),
            kinds: Vec::new(),
        }
    }

    pub fn set(&mut self, entry: u32, id: &ObjectId, kind: Kind) {
        self.ids.set(entry, id.as_slice());
        let at = entry as usize;
        if self.kinds.len() <= at {
            self.kinds.resize(at + 1, 0);
        }
        self.kinds[at] = number_of(kind);
    }

    /// Makes room for the results of all `count` entries.
    pub fn grow(&mut self, count: usize) {
        self.kinds.resize(count.max(self.kinds.len()), 0);
        self.ids
            .bytes
            .resize((count * self.ids.len).max(self.ids.bytes.len()), 0);
    }
}

/// What the stream says of the entries, in pack order, a column each.
#[derive(Debug)]
pub(super) struct Records {
    pub offsets: Vec<u64>,
    pub crcs: Vec<u32>,
    /// Type numbers, deltas included.
    pub types: Vec<u8>,
    /// The first OFS_DELTA upon this entry.
    pub first_child: Vec<u32>,
    /// The next OFS_DELTA upon the same base.
    pub next_sibling: Vec<u32>,
    /// REF_DELTAs by the ids of their bases.
    pub ref_deltas: RefDeltas,
    /// How many of the entries are deltas.
    pub deltas_count: u32,
    /// Where the last entry ends.
    pub end: u64,
}

impl Records {
    pub fn new(hash: HashKind) -> Self {
        Records {
            offsets: Vec::new(),
            crcs: Vec::new(),
            types: Vec::new(),
            first_child: Vec::new(),
            next_sibling: Vec::new(),
            ref_deltas: RefDeltas::new(hash),
            deltas_count: 0,
            end: 0,
        }
    }

    pub fn len(&self) -> u32 {
        self.offsets.len() as u32
    }

    /// Adds an entry; its checksum is set when it has passed.
    pub fn push(&mut self, offset: u64, number: u8) -> u32 {
        let entry = self.len();
        self.offsets.push(offset);
        self.crcs.push(0);
        self.types.push(number);
        self.first_child.push(NONE);
        self.next_sibling.push(NONE);
        entry
    }

    /// Returns the entry that begins at `offset`.
    pub fn at_offset(&self, offset: u64) -> Option<u32> {
        self.offsets.binary_search(&offset).ok().map(|at| at as u32)
    }

    /// Returns where `entry` begins and ends.
    pub fn range(&self, entry: u32) -> (u64, u64) {
        let at = entry as usize;
        let start = self.offsets.get(at).copied().unwrap_or(self.end);
        (start, self.offsets.get(at + 1).copied().unwrap_or(self.end))
    }

    /// Makes `child` an OFS_DELTA upon `base`.
    pub fn link(&mut self, base: u32, child: u32) {
        self.next_sibling[child as usize] = self.first_child[base as usize];
        self.first_child[base as usize] = child;
    }

    /// Orders the children of every entry so that the one with most deltas below it comes last and the others come
    /// in pack order. A family is then resolved with no more than log2(entries) bases waiting for a second child.
    pub fn order_children(&mut self) {
        let count = self.offsets.len();
        let mut weights = vec![1u32; count];
        for base in (0..count).rev() {
            // `link` puts later entries first, so this walks them backwards, and turning them gives pack order.
            let (mut turned, mut heaviest, mut heaviest_weight) = (NONE, NONE, 0);
            let mut child = self.first_child[base];
            while child != NONE {
                let next = self.next_sibling[child as usize];
                let weight = weights[child as usize];
                weights[base] = weights[base].saturating_add(weight);
                let put_back = if weight > heaviest_weight {
                    heaviest_weight = weight;
                    std::mem::replace(&mut heaviest, child)
                } else {
                    child
                };
                if put_back != NONE {
                    self.next_sibling[put_back as usize] = turned;
                    turned = put_back;
                }
                child = next;
            }
            if heaviest == NONE {
                continue;
            }
            self.next_sibling[heaviest as usize] = NONE;
            self.first_child[base] = heaviest;
            let Some(mut last) = (turned != NONE).then_some(turned) else {
                continue;
            };
            self.first_child[base] = turned;
            while self.next_sibling[last as usize] != NONE {
                last = self.next_sibling[last as usize];
            }
            self.next_sibling[last as usize] = heaviest;
        }
    }
}

/// REF_DELTAs, which may come before their base and whose base's id may be known only after it is resolved.
#[derive(Debug)]
pub(super) struct RefDeltas {
    pub base_ids: Ids,
    pub entries: Vec<u32>,
    /// Set by whoever resolves the delta: its base may be in the pack twice.
    claimed: Vec<AtomicBool>,
}

impl RefDeltas {
    fn new(hash: HashKind) -> Self {
        RefDeltas {
            base_ids: Ids::new(hash),
            entries: Vec::new(),
            claimed: Vec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn push(&mut self, base_id: &[u8], entry: u32) {
        self.base_ids.push(base_id);
        self.entries.push(entry);
    }

    /// Sorts by base, then by place in the pack; to be called once, when all are known.
    pub fn sort(&mut self) {
        let mut order: Vec<u32> = (0..self.entries.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| {
            self.base_ids
                .get(a)
                .cmp(self.base_ids.get(b))
                .then_with(|| a.cmp(&b))
        });
        let mut base_ids = Ids {
            bytes: Vec::with_capacity(self.base_ids.bytes.len()),
            len: self.base_ids.len,
        };
        for &at in &order {
            base_ids.push(self.base_ids.get(at));
        }
        self.entries = order.iter().map(|&at| self.entries[at as usize]).collect();
        self.base_ids = base_ids;
        self.claimed = order.iter().map(|_| AtomicBool::new(false)).collect();
    }

    /// Returns which of them, first and one past the last, have `id` as their base.
    pub fn upon(&self, id: &[u8]) -> (u32, u32) {
        if self.entries.is_empty() {
            return (0, 0);
        }
        let bound = |past: bool| {
            let (mut low, mut high) = (0u32, self.entries.len() as u32);
            while low < high {
                let middle = low + (high - low) / 2;
                let base_id = self.base_ids.get(middle);
                if base_id < id || (past && base_id == id) {
                    low = middle + 1
                } else {
                    high = middle
                }
            }
            low
        };
        (bound(false), bound(true))
    }

    /// Takes one of them to be resolved; `None` if somebody has.
    pub fn claim(&self, at: u32) -> Option<u32> {
        let claimed = self.claimed.get(at as usize)?;
        if claimed.swap(true, Ordering::Relaxed) {
            None
        } else {
            self.entries.get(at as usize).copied()
        }
    }

    pub fn is_claimed(&self, at: u32) -> bool {
        self.claimed
            .get(at as usize)
            .is_some_and(|claimed| claimed.load(Ordering::Relaxed))
    }
}
