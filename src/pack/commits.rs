//! Walking commits: the commits that some tips reach and others do not.
//!
//! Commits come from the commit-graph where there is one (gitformat-commit-graph(5)) and are parsed else. The walk is
//! by committer date with slop against skewed clocks, as git's own: a wrong date can make it return commits that it
//! need not, never leave one out.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::hash::BuildHasher;

use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use hashbrown::{HashMap, HashSet, HashTable};

use super::Error;
use super::id_hash::IdHash;
use crate::interrupt::Interrupt;
use crate::repository::objects::Objects;

/// Steps past the point where nothing of interest seems left, against clocks that ran wrong. git's own number.
const SLOP: u32 = 5;

/// A commit's place in a [`Commits`] table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitIndex(u32);

/// The other side has it, or it was excluded in another way.
const UNINTERESTING: u8 = 1;
/// Was put into the queue.
const SEEN: u8 = 1 << 1;
/// Its parents and tree are known.
const PARSED: u8 = 1 << 2;
/// Lies in the queue.
const QUEUED: u8 = 1 << 3;

#[derive(Debug)]
struct Node {
    id: ObjectId,
    tree: ObjectId,
    date: i64,
    /// Where its parents are in `Commits::parents`.
    parents: std::ops::Range<u32>,
    flags: u8,
}

/// The commits that a walk has met.
pub struct Commits<'a> {
    objects: &'a mut Objects,
    graph: Option<&'a gix_commitgraph::Graph>,
    interrupt: &'a Interrupt,
    nodes: Vec<Node>,
    parents: Vec<CommitIndex>,
    by_id: HashTable<u32>,
    hasher: IdHash,
    slop: u32,
}

#[derive(PartialEq, Eq)]
struct Queued {
    date: i64,
    /// Of two with one date the one that came first goes first.
    order: u32,
    commit: CommitIndex,
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> Ordering {
        self.date.cmp(&other.date).then(other.order.cmp(&self.order))
    }
}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Commits by date with a count of those that still matter.
#[derive(Default)]
struct Queue {
    heap: BinaryHeap<Queued>,
    order: u32,
    interesting: usize,
}

impl<'a> Commits<'a> {
    /// An empty table over `objects`; `graph` spares parsing where it knows a commit.
    pub fn new(
        objects: &'a mut Objects,
        graph: Option<&'a gix_commitgraph::Graph>,
        interrupt: &'a Interrupt,
    ) -> Commits<'a> {
        Commits {
            objects,
            graph,
            interrupt,
            nodes: Vec::new(),
            parents: Vec::new(),
            by_id: HashTable::new(),
            hasher: IdHash::default(),
            slop: SLOP,
        }
    }

    /// The objects that the walk reads from.
    pub fn objects(&mut self) -> &mut Objects {
        self.objects
    }

    /// The commit's id.
    pub fn id(&self, commit: CommitIndex) -> ObjectId {
        self.node(commit).id
    }

    /// The commit's root tree; the null id before it was visited.
    pub fn tree(&self, commit: CommitIndex) -> ObjectId {
        self.node(commit).tree
    }

    /// The commit's parents; none before it was visited.
    pub fn parents(&self, commit: CommitIndex) -> &[CommitIndex] {
        let range = &self.node(commit).parents;
        self.parents
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default()
    }

    /// Whether the other side has the commit, as far as the walk went.
    pub fn is_uninteresting(&self, commit: CommitIndex) -> bool {
        self.node(commit).flags & UNINTERESTING != 0
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "indexes are only made by `insert`, and nodes are never removed"
    )]
    fn node(&self, commit: CommitIndex) -> &Node {
        &self.nodes[commit.0 as usize]
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "indexes are only made by `insert`, and nodes are never removed"
    )]
    fn node_mut(&mut self, commit: CommitIndex) -> &mut Node {
        &mut self.nodes[commit.0 as usize]
    }

    /// The commit's place if the walk has met it.
    pub fn find(&self, id: &oid) -> Option<CommitIndex> {
        let hash = self.hasher.hash_one(id.as_bytes());
        let nodes = &self.nodes;
        let is_id = |&at: &u32| nodes.get(at as usize).is_some_and(|node| *node.id == *id);
        self.by_id.find(hash, is_id).copied().map(CommitIndex)
    }

    fn insert(&mut self, id: ObjectId) -> CommitIndex {
        if let Some(known) = self.find(&id) {
            return known;
        }
        let at = self.nodes.len() as u32;
        let tree = ObjectId::null(id.kind());
        self.nodes.push(Node {
            id,
            tree,
            date: 0,
            parents: 0..0,
            flags: 0,
        });
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        let rehash = |&at: &u32| {
            nodes
                .get(at as usize)
                .map_or(0, |node| hasher.hash_one(node.id.as_bytes()))
        };
        self.by_id
            .insert_unique(hasher.hash_one(id.as_bytes()), at, rehash);
        CommitIndex(at)
    }

    /// Learns parents, tree and date of `commit`.
    fn parse(&mut self, commit: CommitIndex) -> Result<(), Error> {
        if self.node(commit).flags & PARSED != 0 {
            return Ok(());
        }
        let id = self.node(commit).id;
        let mut parent_ids: Vec<ObjectId> = Vec::new();
        let (tree, date) = match self.parse_from_graph(&id, &mut parent_ids) {
            Some(found) => found,
            None => self.parse_from_object(&id, &mut parent_ids)?,
        };
        let start = self.parents.len() as u32;
        for parent in parent_ids {
            let parent = self.insert(parent);
            self.parents.push(parent);
        }
        let end = self.parents.len() as u32;
        let node = self.node_mut(commit);
        node.tree = tree;
        node.date = date;
        node.parents = start..end;
        node.flags |= PARSED;
        Ok(())
    }

    fn parse_from_graph(&self, id: &oid, parents: &mut Vec<ObjectId>) -> Option<(ObjectId, i64)> {
        let graph = self.graph?;
        let commit = graph.commit_at(graph.lookup(id)?);
        for parent in commit.iter_parents() {
            parents.push(graph.id_at(parent.ok()?).to_owned());
        }
        Some((
            commit.root_tree_id().to_owned(),
            i64::try_from(commit.committer_timestamp()).ok()?,
        ))
    }

    fn parse_from_object(&mut self, id: &oid, parents: &mut Vec<ObjectId>) -> Result<(ObjectId, i64), Error> {
        parents.clear();
        let object = self
            .objects
            .read(id)?
            .ok_or_else(|| Error::Missing(id.to_owned()))?;
        if object.kind != Kind::Commit {
            return Err(Error::Kind {
                id: id.to_owned(),
                actual: object.kind,
                expected: Kind::Commit,
            });
        }
        let corrupt = |what: &str| crate::repository::objects::Error::corrupt(id, what);
        let hash = self.objects.object_hash();
        let mut rest = object.data.as_slice();
        let tree = header_id(&mut rest, b"tree ", hash).ok_or_else(|| corrupt("the commit names no tree"))?;
        while let Some(parent) = header_id(&mut rest, b"parent ", hash) {
            parents.push(parent);
        }
        Ok((tree, committer_date(rest)))
    }

    fn push(&mut self, queue: &mut Queue, commit: CommitIndex) -> Result<(), Error> {
        if self.node(commit).flags & SEEN != 0 {
            return Ok(());
        }
        match self.parse(commit) {
            // What the other side has need not be whole here: then it merely vouches for less.
            Err(Error::Missing(_)) if self.is_uninteresting(commit) => {}
            parsed => parsed?,
        }
        let node = self.node_mut(commit);
        node.flags |= SEEN | QUEUED;
        queue.interesting += usize::from(node.flags & UNINTERESTING == 0);
        queue.order += 1;
        queue.heap.push(Queued {
            date: node.date,
            order: queue.order,
            commit,
        });
        Ok(())
    }

    /// Marks `commit` and everything below it that was visited already.
    fn mark_uninteresting(&mut self, queue: &mut Queue, commit: CommitIndex) {
        let mut todo = vec![commit];
        while let Some(commit) = todo.pop() {
            let node = self.node_mut(commit);
            if node.flags & UNINTERESTING != 0 {
                continue;
            }
            node.flags |= UNINTERESTING;
            queue.interesting -= usize::from(node.flags & QUEUED != 0);
            // A commit that was not popped hands its mark on when it is.
            if node.flags & (SEEN | QUEUED) == SEEN {
                todo.extend_from_slice(self.parents(commit));
            }
        }
    }

    /// Returns the commits that `tips` reach and `excluded` do not, newest first.
    ///
    /// All ids are of commits that exist. Afterwards [`Commits::is_uninteresting`] tells the boundary.
    ///
    /// # Errors
    ///
    /// When a commit on the way is missing or corrupt, or the interrupt was triggered.
    pub fn walk(
        &mut self,
        tips: &[ObjectId],
        excluded: &[ObjectId],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<CommitIndex>, Error> {
        let mut queue = Queue::default();
        for &id in excluded {
            let commit = self.insert(id);
            self.mark_uninteresting(&mut queue, commit);
            self.push(&mut queue, commit)?;
        }
        for &id in tips {
            let commit = self.insert(id);
            self.push(&mut queue, commit)?;
        }
        let mut found = Vec::new();
        let mut last_date = i64::MAX;
        let mut slop = self.slop;
        while let Some(Queued { commit, date, .. }) = queue.heap.pop() {
            if self.interrupt.is_triggered() {
                return Err(Error::Interrupted);
            }
            let node = self.node_mut(commit);
            node.flags &= !QUEUED;
            let is_uninteresting = node.flags & UNINTERESTING != 0;
            queue.interesting -= usize::from(!is_uninteresting);
            let parents = self.node(commit).parents.clone();
            for at in parents {
                let Some(&parent) = self.parents.get(at as usize) else {
                    continue;
                };
                if is_uninteresting {
                    self.mark_uninteresting(&mut queue, parent);
                }
                self.push(&mut queue, parent)?;
            }
            if !is_uninteresting {
                last_date = date;
                found.push(commit);
                progress(found.len());
                slop = self.slop;
                continue;
            }
            if queue.interesting > 0 {
                slop = self.slop;
            } else if found.is_empty() && self.slop == SLOP {
                break;
            } else if queue.heap.peek().is_some_and(|next| next.date >= last_date) {
                // Something newer than what was already taken may still lead down to it.
                slop = self.slop;
            } else {
                slop -= 1;
                if slop == 0 {
                    break;
                }
            }
        }
        found.retain(|&commit| !self.is_uninteresting(commit));
        Ok(found)
    }

    /// Returns the commits that `tips` reach, newest first, without going on below those of which `is_known` says that
    /// it knows all that they reach; these are not returned.
    ///
    /// # Errors
    ///
    /// As [`Commits::walk`].
    pub fn reach(
        &mut self,
        tips: &[ObjectId],
        is_known: &mut dyn FnMut(&oid) -> bool,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<CommitIndex>, Error> {
        let mut queue = Queue::default();
        let mut found = Vec::new();
        let mut next: Vec<CommitIndex> = tips.iter().map(|&id| self.insert(id)).collect();
        loop {
            for commit in next.drain(..) {
                let is_seen = self.node(commit).flags & SEEN != 0;
                if is_seen || is_known(&self.node(commit).id) {
                    continue;
                }
                self.push(&mut queue, commit)?;
            }
            let Some(Queued { commit, .. }) = queue.heap.pop() else {
                return Ok(found);
            };
            if self.interrupt.is_triggered() {
                return Err(Error::Interrupted);
            }
            found.push(commit);
            progress(found.len());
            next.extend_from_slice(self.parents(commit));
        }
    }

    /// Tells whether each of `tips` reaches one of `targets`, or is one, over commits that are not older than `oldest`,
    /// in seconds. A "no" may be wrong where dates are; it only makes a client say more of what it has.
    ///
    /// No commit is visited twice, however many tips there are.
    ///
    /// # Errors
    ///
    /// As [`Commits::walk`].
    pub fn all_reach(
        &mut self,
        tips: &[ObjectId],
        targets: &HashSet<ObjectId>,
        oldest: i64,
    ) -> Result<bool, Error> {
        // Whether a commit reaches a target: known for all that were visited, but for those on the path.
        let mut reaches: HashMap<CommitIndex, bool> = HashMap::new();
        for &tip in tips {
            let tip = self.insert(tip);
            let mut path: Vec<(CommitIndex, usize)> = Vec::new();
            let mut next = Some(tip);
            loop {
                if let Some(commit) = next.take() {
                    if targets.contains(&self.id(commit)) || reaches.get(&commit) == Some(&true) {
                        reaches.insert(commit, true);
                        reaches.extend(path.iter().map(|&(above, _)| (above, true)));
                        break;
                    }
                    if reaches.insert(commit, false).is_none() {
                        if self.interrupt.is_triggered() {
                            return Err(Error::Interrupted);
                        }
                        self.parse(commit)?;
                        if self.node(commit).date >= oldest {
                            path.push((commit, 0));
                        }
                    }
                }
                let Some((commit, at)) = path.last_mut() else {
                    return Ok(false);
                };
                let (commit, parent) = (*commit, std::mem::replace(at, *at + 1));
                next = self.parents(commit).get(parent).copied();
                if next.is_none() {
                    path.pop();
                }
            }
        }
        Ok(true)
    }

    /// The committer's time of a commit, in seconds.
    ///
    /// # Errors
    ///
    /// As [`Commits::walk`].
    pub fn date(&mut self, id: ObjectId) -> Result<i64, Error> {
        let commit = self.insert(id);
        self.parse(commit)?;
        Ok(self.node(commit).date)
    }

    /// Sorts what [`Commits::walk`] found so that every commit comes after those of its parents that are among them.
    pub fn parents_first(&self, found: &[CommitIndex]) -> Vec<CommitIndex> {
        let mut is_open: HashSet<CommitIndex> = found.iter().copied().collect();
        let mut sorted = Vec::with_capacity(found.len());
        let mut stack: Vec<(CommitIndex, bool)> = Vec::new();
        for &start in found.iter().rev() {
            stack.push((start, false));
            while let Some((commit, parents_done)) = stack.pop() {
                if parents_done {
                    sorted.push(commit);
                } else if is_open.remove(&commit) {
                    stack.push((commit, true));
                    stack.extend(self.parents(commit).iter().map(|&parent| (parent, false)));
                }
            }
        }
        sorted
    }
}

/// Tells which of `ids` some of `tips` reach. All are ids of commits that exist.
///
/// # Errors
///
/// As [`Commits::walk`].
pub fn reachable(
    objects: &mut Objects,
    graph: Option<&gix_commitgraph::Graph>,
    tips: &[ObjectId],
    ids: &[ObjectId],
    interrupt: &Interrupt,
) -> Result<Vec<bool>, Error> {
    let mut answer = Vec::new();
    // Wrong dates can make the short walk miss that an id is reachable, so a "no" is only said after a whole one.
    for slop in [SLOP, u32::MAX] {
        let mut commits = Commits::new(objects, graph, interrupt);
        commits.slop = slop;
        let left: HashSet<CommitIndex> = commits.walk(ids, tips, &mut |_| ())?.into_iter().collect();
        answer = ids
            .iter()
            .map(|id| commits.find(id).is_some_and(|commit| !left.contains(&commit)))
            .collect();
        if left.is_empty() {
            break;
        }
    }
    Ok(answer)
}

fn header_id(rest: &mut &[u8], name: &[u8], hash: gix_hash::Kind) -> Option<ObjectId> {
    let line = rest.strip_prefix(name)?;
    let (hex, after) = line.split_at_checked(hash.len_in_hex())?;
    *rest = after.strip_prefix(b"\n")?;
    ObjectId::from_hex(hex).ok()
}

/// The committer's time in seconds; 0 where the line is malformed, as git takes it.
fn committer_date(headers: &[u8]) -> i64 {
    use bstr::ByteSlice;
    for line in headers.lines() {
        if line.is_empty() {
            break;
        }
        if let Some(committer) = line.strip_prefix(b"committer ") {
            let after = committer
                .rfind_byte(b'>')
                .and_then(|at| committer.get(at + 1..))
                .unwrap_or_default();
            let digits = after.trim().split(|&b| b == b' ').next().unwrap_or_default();
            return std::str::from_utf8(digits)
                .ok()
                .and_then(|text| text.parse().ok())
                .unwrap_or(0);
        }
    }
    0
}
