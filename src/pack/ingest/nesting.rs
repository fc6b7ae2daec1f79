//! How deep the trees of a pack lie in one another, as far as that shows while their links pass.
//!
//! A tree that is a delta tells only of entries that its base does not have, so it is taken to hold all that its base
//! holds. What comes out is never less than the depth, and nearly always the depth itself.

use super::records::NONE;

/// Links from tree to tree that are kept: 128 MiB of them. A history of a million commits has some ten million.
pub(super) const EDGES_COUNT_MAX: usize = 1 << 24;

/// One tree below another, or beside it.
#[derive(Debug, Clone, Copy)]
struct Edge {
    /// The other tree, doubled, with one added if it is below.
    to: u32,
    /// The next edge of the same tree.
    next: u32,
}

impl Edge {
    fn tree(self) -> usize {
        (self.to >> 1) as usize
    }

    fn levels(self) -> u16 {
        (self.to & 1) as u16
    }
}

/// Which trees lie in which. Trees are named by the places of their ids, which are below 2³¹.
///
/// # Bounds
///
/// Eight bytes an edge and four a tree, no more than [`EDGES_COUNT_MAX`] edges.
#[derive(Debug, Default)]
pub(super) struct Nesting {
    /// The first edge of each tree.
    first: Vec<u32>,
    edges: Vec<Edge>,
    /// Whether there were too many edges; then none is kept.
    is_lost: bool,
}

impl Nesting {
    /// Takes down that `tree` holds the tree `below`.
    pub fn hold(&mut self, tree: u32, below: u32) {
        self.add(tree, below << 1 | 1);
    }

    /// Takes down that `tree` may hold whatever `base` holds.
    pub fn resemble(&mut self, tree: u32, base: u32) {
        self.add(tree, base << 1);
    }

    fn add(&mut self, tree: u32, to: u32) {
        if self.is_lost {
            return;
        }
        if self.edges.len() >= EDGES_COUNT_MAX {
            *self = Nesting {
                is_lost: true,
                ..Nesting::default()
            };
            return;
        }
        let at = tree as usize;
        if self.first.len() <= at {
            self.first.resize(at + 1, NONE);
        }
        let edge = self.edges.len() as u32;
        if let Some(first) = self.first.get_mut(at) {
            let next = std::mem::replace(first, edge);
            self.edges.push(Edge { to, next });
        }
    }

    /// Tells whether no tree lies more than `max` levels below another. False where that does not show.
    ///
    /// Goes over each edge once, from trees that lie in no other downwards.
    pub fn is_within(&self, max: u16) -> bool {
        let count = self.edges.iter().map(|edge| edge.tree() + 1).max().unwrap_or(0);
        let count = count.max(self.first.len());
        let mut above_count = vec![0u32; count];
        for edge in &self.edges {
            if let Some(count) = above_count.get_mut(edge.tree()) {
                *count += 1;
            }
        }
        let mut ready: Vec<u32> = (0..count as u32)
            .filter(|&tree| above_count.get(tree as usize) == Some(&0))
            .collect();
        let mut depths = vec![0u16; count];
        let mut passed_count = 0;
        while let Some(tree) = ready.pop() {
            let depth = depths.get(tree as usize).copied().unwrap_or(0);
            let mut at = self.first.get(tree as usize).copied().unwrap_or(NONE);
            while let Some(edge) = self.edges.get(at as usize) {
                passed_count += 1;
                at = edge.next;
                let below = depth.saturating_add(edge.levels());
                if below > max {
                    return false;
                }
                let to = edge.tree();
                if let (Some(known), Some(above)) = (depths.get_mut(to), above_count.get_mut(to)) {
                    *known = below.max(*known);
                    *above -= 1;
                    if *above == 0 {
                        ready.push(to as u32);
                    }
                }
            }
        }
        // What is left goes round in a circle: a tree that resembles one in which it lies.
        !self.is_lost && passed_count == self.edges.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of trees from 0 down to `depth`, told in an order that is neither.
    fn line(depth: u32) -> Nesting {
        let mut nesting = Nesting::default();
        for tree in (0..depth).step_by(2).chain((0..depth).skip(1).step_by(2)) {
            nesting.hold(tree, tree + 1);
        }
        nesting
    }

    #[test]
    fn the_deepest_tree_counts_by_its_longest_way() {
        let mut nesting = line(9);
        // Shorter ways to the same trees, and a tree of its own.
        nesting.hold(0, 9);
        nesting.hold(3, 7);
        nesting.hold(20, 21);
        assert!(nesting.is_within(9) && !nesting.is_within(8));
        assert!(Nesting::default().is_within(0));
    }

    #[test]
    fn a_tree_is_taken_to_hold_what_its_base_holds() {
        let mut nesting = line(5);
        nesting.hold(10, 11);
        assert!(nesting.is_within(5));
        nesting.resemble(11, 0);
        assert!(nesting.is_within(6) && !nesting.is_within(5));
    }

    #[test]
    fn what_goes_round_or_was_too_much_is_not_vouched_for() {
        let mut nesting = line(5);
        nesting.resemble(5, 2);
        assert!(!nesting.is_within(100));
        let mut nesting = line(5);
        for _ in nesting.edges.len()..EDGES_COUNT_MAX {
            nesting.hold(0, 1);
        }
        assert!(nesting.is_within(5));
        nesting.hold(0, 1);
        assert!(!nesting.is_within(100) && nesting.edges.is_empty());
    }
}
