//! What the objects of a pack refer to, each id once, and which of it the pack does not have.

use std::hash::{BuildHasher, RandomState};

use gix_hash::{Kind as HashKind, ObjectId};
use gix_object::Kind;
use hashbrown::HashTable;

use super::Error;
use super::nesting::Nesting;
use super::records::{Ids, Objects, kind_of, number_of};
use crate::pack::index;

/// Objects outside a pack that its objects may refer to. A push of one change refers to the neighbours of what it
/// changed; eight million of them are more than any tree holds.
pub(super) const OUTSIDE_COUNT_MAX: u64 = 8 << 20;

/// An object that objects of a pack refer to and the pack does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The object.
    pub id: ObjectId,
    /// What it is referred to as. An id that is referred to as several kinds is there once for each.
    pub kind: Kind,
}

/// A set of ids with the kinds they are referred to as.
///
/// # Bounds
///
/// A few more than 30 bytes an id, and what [`Nesting`] takes. Every id is either one of an object of the pack or
/// outside, so there are no more than the pack's objects and [`OUTSIDE_COUNT_MAX`].
#[derive(Debug)]
pub(super) struct Links {
    ids: Ids,
    /// A bit for each type number.
    kinds: Vec<u8>,
    table: HashTable<u32>,
    pub nesting: Nesting,
    /// Ids come from the peer; a hash that it can foresee would let it make every look-up a walk.
    state: RandomState,
}

impl Links {
    pub fn new(hash: HashKind) -> Self {
        Links {
            ids: Ids::new(hash),
            kinds: Vec::new(),
            table: HashTable::new(),
            nesting: Nesting::default(),
            state: RandomState::new(),
        }
    }

    /// Adds that something refers to `id` as a `kind`, in a pack of `objects_count` objects. Returns the id's place.
    pub fn insert(&mut self, id: &ObjectId, kind: Kind, objects_count: u32) -> Result<u32, Error> {
        self.add(id, 1u8 << number_of(kind), objects_count)
    }

    /// Returns the place of an object of the pack, whether or not something refers to it.
    pub fn place(&mut self, id: &ObjectId, objects_count: u32) -> Result<u32, Error> {
        self.add(id, 0, objects_count)
    }

    fn add(&mut self, id: &ObjectId, bits: u8, objects_count: u32) -> Result<u32, Error> {
        let (ids, state) = (&self.ids, &self.state);
        let hash = state.hash_one(id.as_slice());
        let entry = self.table.entry(
            hash,
            |&at| ids.get(at) == id.as_slice(),
            |&at| state.hash_one(ids.get(at)),
        );
        match entry {
            hashbrown::hash_table::Entry::Occupied(entry) => {
                let place = *entry.get();
                if let Some(kinds) = self.kinds.get_mut(place as usize) {
                    *kinds |= bits;
                }
                Ok(place)
            }
            hashbrown::hash_table::Entry::Vacant(entry) => {
                if self.kinds.len() as u64 >= OUTSIDE_COUNT_MAX + u64::from(objects_count) {
                    return Err(Error::OutsideCount {
                        max: OUTSIDE_COUNT_MAX,
                    });
                }
                let place = self.kinds.len() as u32;
                entry.insert(place);
                self.kinds.push(bits);
                self.ids.push(id.as_slice());
                Ok(place)
            }
        }
    }

    /// Compares with the first `received_count` entries of the pack, `order` being the numbers of all by id. Those
    /// after them are the repository's: what they refer to was not taken down, so links to them go outside.
    pub fn outside(
        mut self,
        hash: HashKind,
        objects: &Objects,
        order: &[u32],
        received_count: u32,
    ) -> Result<Vec<Link>, Error> {
        self.table = HashTable::new();
        let by_id = index::sort(&self.ids.bytes, hash);
        let mut outside = Vec::new();
        let mut own = order
            .iter()
            .copied()
            .filter(|entry| *entry < received_count)
            .peekable();
        for at in by_id {
            let id = self.ids.get(at);
            while own.next_if(|&entry| objects.ids.get(entry) < id).is_some() {}
            let kinds = self.kinds.get(at as usize).copied().unwrap_or_default();
            let object_id = || self.ids.object_id(at).unwrap_or_else(|| ObjectId::null(hash));
            let expected = (1..=4)
                .filter(|number| kinds & (1 << number) != 0)
                .filter_map(kind_of);
            let actual = own.peek().filter(|&&entry| objects.ids.get(entry) == id);
            match actual
                .and_then(|&entry| objects.kinds.get(entry as usize))
                .and_then(|&kind| kind_of(kind))
            {
                None => outside.extend(expected.map(|kind| Link {
                    id: object_id(),
                    kind,
                })),
                Some(actual) => {
                    if let Some(expected) = expected.into_iter().find(|&expected| expected != actual) {
                        return Err(Error::LinkKind {
                            id: object_id(),
                            expected,
                            actual,
                        });
                    }
                }
            }
            if outside.len() as u64 > OUTSIDE_COUNT_MAX {
                return Err(Error::OutsideCount {
                    max: OUTSIDE_COUNT_MAX,
                });
            }
        }
        Ok(outside)
    }
}
