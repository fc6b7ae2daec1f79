//! How deep the trees of a push lie, wherever they are met.
//!
//! A tree is walked where it is met first. Met again further down it may be too deep there, and whoever fetches it by
//! another way would find that out; so of every tree that was walked the deepest place is kept at which it may stand.
//! What a tree shares with one that was dealt with before is not walked, and known to be right for where it is only.

use std::collections::HashMap;

use gix_hash::ObjectId;

use super::id_hash::IdHash;
use super::trees::DEPTH_MAX;

/// Where a tree may stand, as far as is known. A root stands at 0, and nothing below [`DEPTH_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    deepest: u16,
    /// Whether a deeper place would be wrong, for all of what it holds was looked at.
    is_exact: bool,
}

impl Room {
    /// Of a tree that holds no other.
    pub(super) const EMPTY: Room = Room {
        deepest: DEPTH_MAX as u16,
        is_exact: true,
    };

    /// Of a tree that stands at `depth` in something that was dealt with before.
    pub(super) fn had_at(depth: usize) -> Room {
        Room {
            deepest: u16::try_from(depth).unwrap_or(u16::MAX),
            is_exact: false,
        }
    }

    /// Takes note that the tree holds one with room `below`.
    pub(super) fn hold(&mut self, below: Room) {
        self.deepest = self.deepest.min(below.deepest.saturating_sub(1));
        self.is_exact &= below.is_exact;
    }

    /// Whether the tree may stand at `depth`; `None` if only a look at all that it holds can tell.
    pub(super) fn allows(self, depth: usize) -> Option<bool> {
        let is_allowed = depth <= usize::from(self.deepest);
        (is_allowed || self.is_exact).then_some(is_allowed)
    }

    /// Whether all of what the tree holds was looked at.
    pub(super) fn is_exact(self) -> bool {
        self.is_exact
    }
}

/// The rooms of trees that were walked to their end: some 40 bytes each.
#[derive(Debug, Default)]
pub(super) struct Rooms(HashMap<ObjectId, Room, IdHash>);

impl Rooms {
    /// What is known of `id`.
    pub(super) fn find(&self, id: &ObjectId) -> Option<Room> {
        self.0.get(id).copied()
    }

    /// Takes down what was found of `id`, unless more is known, and returns what is.
    pub(super) fn insert(&mut self, id: ObjectId, found: Room) -> Room {
        let known = self.0.entry(id).or_insert(found);
        if !known.is_exact {
            *known = found;
        }
        *known
    }

    /// What is known of `id`, which stands at `depth` in something that was dealt with before.
    pub(super) fn had(&self, id: &ObjectId, depth: usize) -> Room {
        match self.find(id) {
            Some(room) if room.allows(depth) == Some(true) => room,
            _ => Room::had_at(depth),
        }
    }
}
