//! What is done with the content of every object: hashing, checks, links. Shared by all threads of one ingest.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use gix_hash::ObjectId;
use gix_object::Kind;

use super::links::Links;
use super::records::Objects;
use super::{Error, Options};
use crate::interrupt::Interrupt;
use crate::pack::fsck;
use crate::pack::scan::Scanner;
use crate::pack::trees::DEPTH_MAX;

/// Bytes of a commit, tag or tree, all of which are held in memory whole. A tree of a million entries is 40 MiB.
pub(super) const STRUCTURED_BYTES_MAX: u64 = 64 << 20;

/// `.gitmodules` that differ in one pack. A history that changes it every day has some thousand.
pub(super) const GITMODULES_COUNT_MAX: usize = 1 << 17;

/// Results that a thread keeps before it hands them over.
const PENDING_COUNT: usize = 1 << 10;

/// What all threads of one ingest add to.
pub(super) struct Shared<'a> {
    pub options: &'a Options,
    /// Looks at what every object holds that was sent.
    pub scanner: Option<&'a Scanner<'a>>,
    pub interrupt: &'a Interrupt,
    pub objects: Mutex<Objects>,
    pub links: Mutex<Links>,
    /// Blobs that trees call `.gitmodules`.
    pub gitmodules: Mutex<HashSet<ObjectId>>,
    inflated_bytes: AtomicU64,
    /// Set by a thread that ends in an error, for the others to end soon.
    pub failed: AtomicBool,
    /// What the pack's header says, held against the limit.
    pub objects_count: std::sync::atomic::AtomicU32,
}

/// Locks; what a thread that died has left is still whole, since every change under these locks is one insertion.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Shared<'a> {
    pub fn new(options: &'a Options, scanner: Option<&'a Scanner<'a>>, interrupt: &'a Interrupt) -> Self {
        Shared {
            options,
            scanner,
            interrupt,
            objects: Mutex::new(Objects::new(options.object_hash)),
            links: Mutex::new(Links::new(options.object_hash)),
            gitmodules: Mutex::default(),
            inflated_bytes: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            objects_count: std::sync::atomic::AtomicU32::new(0),
        }
    }

    /// Counts bytes that are about to be made against the limit on all of them.
    pub fn spend(&self, bytes: u64) -> Result<(), Error> {
        let max = self.options.limits.inflated_bytes_max;
        let before = self.inflated_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > max {
            Err(Error::InflatedBytes { max })
        } else {
            Ok(())
        }
    }

    /// Holds the size of an object of `kind` at `offset` against the limits, before room is made for it.
    pub fn check_object_bytes(&self, kind: Kind, bytes: u64, offset: u64) -> Result<(), Error> {
        let max = self.options.limits.object_bytes_max;
        let max = if kind == Kind::Blob {
            max
        } else {
            max.min(STRUCTURED_BYTES_MAX)
        };
        if bytes > max {
            Err(Error::ObjectBytes { bytes, max, offset })
        } else {
            Ok(())
        }
    }

    /// Tells whether the pack has enough objects for a tree that lies too deep.
    fn may_nest_too_deep(&self) -> bool {
        self.objects_count.load(Ordering::Relaxed) as usize > DEPTH_MAX
    }

    /// Tells whether to stop: because somebody asked to, or because another thread failed.
    pub fn check_stop(&self) -> Result<(), Error> {
        if self.interrupt.is_triggered() || self.failed.load(Ordering::Relaxed) {
            Err(Error::Interrupted)
        } else {
            Ok(())
        }
    }
}

/// Begins the hash of an object of `size` bytes.
pub(super) fn object_hasher(hash: gix_hash::Kind, kind: Kind, size: u64) -> gix_hash::Hasher {
    let mut hasher = gix_hash::hasher(hash);
    hasher.update(&gix_object::encode::loose_header(kind, size));
    hasher
}

/// One thread's view of [`Shared`].
pub(super) struct Inspector<'a> {
    pub shared: &'a Shared<'a>,
    results: Vec<(u32, ObjectId, Kind)>,
    links: Vec<(ObjectId, Kind)>,
    trees: Vec<Tree>,
}

/// A tree whose place among others is to be taken down.
struct Tree {
    id: ObjectId,
    /// What it resembles.
    base: Option<ObjectId>,
    /// Which of the links are its own.
    links: Range<usize>,
}

impl<'a> Inspector<'a> {
    pub fn new(shared: &'a Shared<'a>) -> Self {
        Inspector {
            shared,
            results: Vec::new(),
            links: Vec::new(),
            trees: Vec::new(),
        }
    }

    /// Hashes and checks an object that begins at `offset`; `base` is one of the same kind, in the same pack, that
    /// was inspected, and that it may resemble, with its id.
    pub fn object(
        &mut self,
        entry: u32,
        offset: u64,
        kind: Kind,
        data: &[u8],
        base: Option<(ObjectId, &[u8])>,
    ) -> Result<ObjectId, Error> {
        let mut hasher = object_hasher(self.shared.options.object_hash, kind, data.len() as u64);
        hasher.update(data);
        let id = hasher.try_finalize().map_err(|_| Error::Collision { offset })?;
        self.content(&id, kind, data, base)?;
        if let Some(scanner) = self.shared.scanner {
            scanner.object(&id, kind, data);
        }
        self.hashed(entry, id, kind)?;
        Ok(id)
    }

    /// Takes down the id of an object.
    pub fn hashed(&mut self, entry: u32, id: ObjectId, kind: Kind) -> Result<(), Error> {
        self.results.push((entry, id, kind));
        if self.results.len() >= PENDING_COUNT || self.links.len() >= PENDING_COUNT * 4 {
            self.flush()?;
        }
        Ok(())
    }

    /// Hands over what this thread has found.
    pub fn flush(&mut self) -> Result<(), Error> {
        let mut objects = lock(&self.shared.objects);
        for (entry, id, kind) in self.results.drain(..) {
            objects.set(entry, &id, kind);
        }
        drop(objects);
        let count = self.shared.objects_count.load(Ordering::Relaxed);
        let mut links = lock(&self.shared.links);
        let mut places = Vec::with_capacity(self.links.len());
        for (id, kind) in &self.links {
            places.push((links.insert(id, *kind, count)?, *kind));
        }
        self.links.clear();
        for tree in self.trees.drain(..) {
            let at = links.place(&tree.id, count)?;
            if let Some(base) = &tree.base {
                let base = links.place(base, count)?;
                links.nesting.resemble(at, base);
            }
            let own = places.get(tree.links).unwrap_or_default();
            for (below, _) in own.iter().filter(|(_, kind)| *kind == Kind::Tree) {
                links.nesting.hold(at, *below);
            }
        }
        Ok(())
    }

    fn content(
        &mut self,
        id: &ObjectId,
        kind: Kind,
        data: &[u8],
        base: Option<(ObjectId, &[u8])>,
    ) -> Result<(), Error> {
        let hash = self.shared.options.object_hash;
        let first_link = self.links.len();
        let links = &mut self.links;
        let mut gitmodules = Vec::new();
        let mut link = |link: fsck::Link<'_>| {
            if link.is_gitmodules {
                gitmodules.push(link.id.to_owned());
            }
            links.push((link.id.to_owned(), link.kind));
        };
        let read = match kind {
            Kind::Blob => return Ok(()),
            Kind::Tree => {
                let base = base.map(|(_, data)| data);
                fsck::tree::read(data, base, hash, self.shared.options.fsck.as_ref(), &mut link)
            }
            Kind::Commit => fsck::commit::read(data, hash, self.shared.options.fsck.as_ref(), &mut link),
            Kind::Tag => fsck::tag::read(data, hash, self.shared.options.fsck.as_ref(), &mut link),
        };
        read.map_err(|finding| match self.shared.options.fsck {
            Some(_) => Error::Fsck { id: *id, finding },
            None => Error::Malformed { id: *id, kind },
        })?;
        if kind == Kind::Tree && self.shared.may_nest_too_deep() {
            self.trees.push(Tree {
                id: *id,
                base: base.map(|(id, _)| id),
                links: first_link..self.links.len(),
            });
        }
        if !gitmodules.is_empty() && self.shared.options.fsck.is_some() {
            let mut all = lock(&self.shared.gitmodules);
            all.extend(gitmodules);
            if all.len() > GITMODULES_COUNT_MAX {
                return Err(Error::GitmodulesCount {
                    max: GITMODULES_COUNT_MAX,
                });
            }
        }
        Ok(())
    }
}
