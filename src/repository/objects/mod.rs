//! The object database of one repository: loose objects, packs, the multi-pack-index and alternates, read as stock git
//! leaves them.
//!
//! Owns finding an object and making its bytes. Does not know refs, who asks, or how packs travel.
//!
//! Invariants: a set of packs is immutable, packs are only ever added to a handle, so a [`Location`] stays good for as
//! long as the handle that gave it. Sizes that a file claims are held against the bytes it has before memory is taken.
//! Spec: gitformat-pack(5), gitrepository-layout(5).

pub mod bitmap;
mod cache;
pub mod delta;
pub mod ewah;
mod handle;
mod loose;
mod pack_file;
mod pack_set;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

pub use bitmap::PackBitmaps;
pub use handle::{Location, Object, Objects};
pub use loose::LooseReader;
pub use pack_file::{EntryKind, Pack, RawEntry};
use pack_set::PackSet;

/// What can go wrong with the object database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes of an object contradict themselves. The repository needs `git fsck`.
    #[error("object {id} is corrupt: {what}")]
    Corrupt {
        /// The object, or where it lies if its id is not known.
        id: String,
        /// What does not fit.
        what: String,
    },
    /// A file of the database cannot be read.
    #[error("cannot read '{}'", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An object is larger than the server reads into memory.
    #[error("object {id} has {size} bytes, more than this server reads at once")]
    TooLarge {
        /// The object.
        id: String,
        /// Its size as its header has it.
        size: u64,
    },
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    }

    pub(crate) fn corrupt(id: impl ToString, what: impl ToString) -> Error {
        Error::Corrupt {
            id: id.to_string(),
            what: what.to_string(),
        }
    }
}

/// Most bytes of one object that are held in memory at once. Larger whole objects are streamed where they can be.
pub const OBJECT_BYTES_MAX: u64 = 4 << 30;

/// The object database, shared between all tasks that read one repository.
#[derive(Debug)]
pub struct ObjectStore {
    hash: gix_hash::Kind,
    set: RwLock<Arc<PackSet>>,
    graph: RwLock<KnownGraph>,
}

/// A commit-graph and what the files said that it was read from.
#[derive(Default)]
struct KnownGraph {
    stamps: Option<[Option<pack_set::Stamp>; 2]>,
    graph: Option<Arc<gix_commitgraph::Graph>>,
}

impl std::fmt::Debug for KnownGraph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "KnownGraph({})",
            if self.graph.is_some() { "some" } else { "none" }
        )
    }
}

impl ObjectStore {
    /// Lists the packs of `objects_dir` and of its alternates.
    ///
    /// # Errors
    ///
    /// When a directory cannot be read. A pack that is gone or broken is left out, as git does.
    pub fn open(objects_dir: &Path, hash: gix_hash::Kind) -> Result<ObjectStore, Error> {
        let set = PackSet::read(objects_dir, hash, None)?;
        Ok(ObjectStore {
            hash,
            set: RwLock::new(Arc::new(set)),
            graph: RwLock::default(),
        })
    }

    /// A store that sees what this one sees and, before it, what lies in `objects_dir`: a quarantine.
    ///
    /// # Errors
    ///
    /// When a directory cannot be read.
    pub fn overlay(&self, objects_dir: &Path) -> Result<ObjectStore, Error> {
        let set = PackSet::overlay(objects_dir, &*self.current()?)?;
        Ok(ObjectStore {
            hash: self.hash,
            set: RwLock::new(Arc::new(set)),
            graph: RwLock::default(),
        })
    }

    /// A handle for one task.
    ///
    /// # Errors
    ///
    /// When the packs changed and cannot be listed anew.
    pub fn handle(self: &Arc<Self>) -> Result<Objects, Error> {
        Ok(Objects::new(Arc::clone(self), self.current()?))
    }

    /// The hash that names objects here.
    pub fn object_hash(&self) -> gix_hash::Kind {
        self.hash
    }

    /// The commit-graph of the repository's own object directory, if there is one that can be used.
    ///
    /// It only spares work: commits that it does not know are read as objects.
    pub fn commit_graph(&self) -> Option<Arc<gix_commitgraph::Graph>> {
        let info = self
            .set
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .own_dir()?
            .join("info");
        let stamps = [
            info.join("commit-graph"),
            info.join("commit-graphs/commit-graph-chain"),
        ]
        .map(|path| pack_set::Stamp::of(&path));
        {
            let known = self.graph.read().unwrap_or_else(PoisonError::into_inner);
            if known.stamps == Some(stamps) {
                return known.graph.clone();
            }
        }
        let graph = match stamps {
            [None, None] => None,
            _ => match gix_commitgraph::Graph::from_info_dir(&info, self.hash) {
                Ok(graph) => Some(Arc::new(graph)),
                Err(err) => {
                    tracing::warn!(path = %info.display(), %err, "the commit-graph cannot be used");
                    None
                }
            },
        };
        let mut known = self.graph.write().unwrap_or_else(PoisonError::into_inner);
        *known = KnownGraph {
            stamps: Some(stamps),
            graph: graph.clone(),
        };
        graph
    }

    /// Lists packs anew if a pack directory changed since they were listed.
    ///
    /// # Errors
    ///
    /// When a directory cannot be read.
    pub fn refresh(&self) -> Result<(), Error> {
        self.current().map(drop)
    }

    /// The packs as they are on disk now.
    pub(crate) fn current(&self) -> Result<Arc<PackSet>, Error> {
        let known = Arc::clone(&self.set.read().unwrap_or_else(PoisonError::into_inner));
        if known.is_current() {
            return Ok(known);
        }
        let mut slot = self.set.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&known, &slot) && slot.is_current() {
            return Ok(Arc::clone(&slot));
        }
        let fresh = Arc::new(slot.reread()?);
        *slot = Arc::clone(&fresh);
        Ok(fresh)
    }
}

#[cfg(test)]
mod tests;
