//! The way from tips to an object among what is new: by which commit, under which path.

use std::ops::ControlFlow;

use bstr::BString;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use hashbrown::HashSet;

use crate::interrupt::Interrupt;
use crate::pack::trees::{DEPTH_MAX, EntryMode, TreeCursor};
use crate::pack::{Error, fsck};
use crate::repository::objects::Objects;

/// Commits and tags that are read. Beyond, their parents count as known, so that an object may get its place in a later
/// commit than the one that brought it.
const COMMITS_COUNT_MAX: usize = 1 << 18;

/// Trees that are read. Reading so many takes seconds.
const TREES_COUNT_MAX: usize = 1 << 18;

/// Places that are returned.
const PLACES_COUNT_MAX: usize = 1000;

/// Bytes of a path in a place; a longer one is cut.
const PATH_BYTES_MAX: usize = 4096;

/// Bytes of the trees between a root and one of its directories, which are held together. A subtree that passes the
/// bound is passed over.
const HELD_BYTES_MAX: usize = 128 << 20;

/// Objects that are read between two calls of `progress`.
const READ_PER_PROGRESS: usize = 256;

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The object.
    pub object: ObjectId,
    /// The commit; none for what a ref or a tag names without one.
    pub commit: Option<ObjectId>,
    /// The path from the commit's root; empty for the root itself.
    pub path: BString,
}

/// A walk in progress.
struct Walk<'a> {
    objects: &'a mut Objects,
    known: &'a mut Objects,
    progress: &'a mut dyn FnMut(),
    interrupt: &'a Interrupt,
    /// Wanted objects that have no place yet.
    missing: HashSet<ObjectId>,
    /// Wanted objects that got one in the commit that is looked at.
    found_here: HashSet<ObjectId>,
    places: Vec<Place>,
    seen: HashSet<ObjectId>,
    commits_count: usize,
    trees_count: usize,
}

/// A commit or a tree without one, to be looked at after what is below it on the stack.
enum Step {
    Open(ObjectId),
    Close { commit: ObjectId, tree: ObjectId },
}

/// Finds where `tips` lead to `wanted` blobs and trees, among what `objects` have and `known` have not. An object has
/// the place in the commit that brought it, parents coming before their children, and more than one only if that commit
/// has more. Those that cannot be found within the bounds are left out, as are those behind an object that is missing.
///
/// # Errors
///
/// When an object cannot be read, or the interrupt was triggered.
pub fn places(
    objects: &mut Objects,
    known: &mut Objects,
    tips: &[ObjectId],
    wanted: impl IntoIterator<Item = ObjectId>,
    progress: &mut dyn FnMut(),
    interrupt: &Interrupt,
) -> Result<Vec<Place>, Error> {
    let mut walk = Walk {
        objects,
        known,
        progress,
        interrupt,
        missing: wanted.into_iter().collect(),
        found_here: HashSet::new(),
        places: Vec::new(),
        seen: HashSet::new(),
        commits_count: 0,
        trees_count: 0,
    };
    let mut stack: Vec<Step> = tips.iter().rev().map(|tip| Step::Open(*tip)).collect();
    while let Some(step) = stack.pop() {
        let flow = match step {
            Step::Open(id) => walk.open(id, &mut stack)?,
            Step::Close { commit, tree } => walk.root(Some(commit), tree)?,
        };
        if flow.is_break() {
            break;
        }
    }
    Ok(walk.places)
}

impl Walk<'_> {
    /// Whether `id` is to be looked at: it is new, and it was not before.
    fn enter(&mut self, id: &oid) -> bool {
        self.known.locate_known(id).is_none() && self.seen.insert(id.to_owned())
    }

    /// To be called before an object is read.
    fn tick(&mut self) -> Result<(), Error> {
        if (self.commits_count + self.trees_count).is_multiple_of(READ_PER_PROGRESS) {
            (self.progress)();
            if self.interrupt.is_triggered() {
                return Err(Error::Interrupted);
            }
        }
        Ok(())
    }

    /// Follows a commit or a tag to what is to be looked at before it.
    fn open(&mut self, id: ObjectId, stack: &mut Vec<Step>) -> Result<ControlFlow<()>, Error> {
        if self.known.locate_known(&id).is_some() || self.seen.contains(&id) {
            return Ok(ControlFlow::Continue(()));
        }
        self.tick()?;
        let Some(kind) = self.objects.kind(&id)? else {
            return Ok(ControlFlow::Continue(()));
        };
        if kind == Kind::Tree {
            return self.root(None, id);
        }
        self.commits_count += 1;
        if self.commits_count > COMMITS_COUNT_MAX {
            return Ok(ControlFlow::Continue(()));
        }
        self.seen.insert(id);
        let Some(object) = self.objects.read(&id)? else {
            return Ok(ControlFlow::Continue(()));
        };
        let hash = self.objects.object_hash();
        let (mut tree, mut next) = (None, Vec::new());
        let mut link = |link: fsck::Link<'_>| match link.kind {
            Kind::Tree if kind == Kind::Commit => tree = Some(link.id.to_owned()),
            Kind::Blob => {}
            _ => next.push(Step::Open(link.id.to_owned())),
        };
        let read = match kind {
            Kind::Commit => fsck::commit::read(&object.data, hash, None, &mut link),
            Kind::Tag => fsck::tag::read(&object.data, hash, None, &mut link),
            Kind::Blob | Kind::Tree => Ok(()),
        };
        // What cannot be read leads nowhere.
        if read.is_ok() {
            stack.extend(tree.map(|tree| Step::Close { commit: id, tree }));
            stack.extend(next.into_iter().rev());
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Looks through all that is new below one root.
    fn root(&mut self, commit: Option<ObjectId>, tree: ObjectId) -> Result<ControlFlow<()>, Error> {
        let mut path = Vec::new();
        let mut held_bytes = 0usize;
        // With each tree how long its path is.
        let mut levels: Vec<(TreeCursor, usize)> = Vec::new();
        let mut next = Some(tree);
        loop {
            if let Some(id) = next.take()
                && self.enter(&id)
            {
                self.note(commit, &id, &path);
                self.tick()?;
                self.trees_count += 1;
                if self.trees_count > TREES_COUNT_MAX {
                    return Ok(ControlFlow::Break(()));
                }
                let cursor = match TreeCursor::read(self.objects, &id) {
                    Ok(cursor) => Some(cursor),
                    Err(Error::Missing(_) | Error::Kind { .. }) => None,
                    Err(error) => return Err(error),
                };
                if let Some(cursor) = cursor
                    && levels.len() <= DEPTH_MAX
                    && held_bytes.saturating_add(cursor.byte_len()) <= HELD_BYTES_MAX
                {
                    held_bytes += cursor.byte_len();
                    levels.push((cursor, path.len()));
                }
            }
            let Some((cursor, path_len)) = levels.last_mut() else {
                break;
            };
            path.truncate(*path_len);
            let Some((entry, end)) = cursor.peek()? else {
                held_bytes = held_bytes.saturating_sub(cursor.byte_len());
                levels.pop();
                continue;
            };
            let (id, mode) = (entry.id.to_owned(), entry.mode);
            if mode == EntryMode::Tree || mode == EntryMode::Blob && self.missing.contains(&id) {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(entry.name);
            }
            cursor.advance_to(end);
            match mode {
                EntryMode::Tree => next = Some(id),
                EntryMode::Blob => self.note(commit, &id, &path),
                EntryMode::Gitlink => {}
            }
        }
        for found in self.found_here.drain() {
            self.missing.remove(&found);
        }
        Ok(
            if self.missing.is_empty() || self.places.len() >= PLACES_COUNT_MAX {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            },
        )
    }

    fn note(&mut self, commit: Option<ObjectId>, id: &oid, path: &[u8]) {
        if self.missing.contains(id) && self.places.len() < PLACES_COUNT_MAX {
            self.found_here.insert(id.to_owned());
            self.places.push(Place {
                object: id.to_owned(),
                commit,
                path: path.get(..PATH_BYTES_MAX).unwrap_or(path).into(),
            });
        }
    }
}
