//! Refs of one repository: consistent snapshots of them, and transactions that move them.
//!
//! Owns the files backend of gitrepository-layout(5): loose refs, `packed-refs`, `HEAD`, reflogs, and the lock files
//! that stock git takes for them. Does not know which objects there are, nor who may move what.
//!
//! Invariants: a [`RefSnapshot`] shows a state that the refs were in at one moment; a transaction is durable before it
//! is told, and after a crash it is either whole or not there.

mod cache;
mod commit;
mod journal;
mod lock;
mod loose;
mod packed;
mod reflog;
mod scan;
mod snapshot;
mod stat;
mod store;
mod transaction;

#[cfg(test)]
mod tests;

use bstr::{BStr, BString};
use gix_hash::ObjectId;

pub use snapshot::RefSnapshot;
pub(crate) use stat::Stat;
pub(crate) use store::RefStore;

/// Where HEAD points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// At a branch.
    Symbolic {
        /// Full name of the branch; where HEAD leads through further symbolic refs, of the last.
        target: BString,
        /// The branch's tip; none while it is unborn.
        id: Option<ObjectId>,
    },
    /// At a commit.
    Detached(ObjectId),
}

/// One ref of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefEntry<'a> {
    /// Full name.
    pub name: &'a BStr,
    /// What it points at, through symbolic refs.
    pub id: ObjectId,
    /// For a symbolic ref, the full name of the ref that it finally leads to.
    pub symref_target: Option<&'a BStr>,
    /// What is known of the object without reading it.
    pub peeled: Peeled,
}

/// What a ref's tag finally points at, as far as `packed-refs` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peeled {
    /// The ref is no tag object, or one of this object.
    Known(Option<ObjectId>),
    /// `Repository::peel` tells.
    Unknown,
}

/// One ref to move by compare-and-swap; `None` stands for "does not exist".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefChange {
    /// Full name, below `refs/`. A symbolic ref stands for the ref that it leads to.
    pub name: BString,
    /// What the ref must be at.
    pub old: Option<ObjectId>,
    /// What it shall be at.
    pub new: Option<ObjectId>,
}

/// Why one ref did not move. `Display` is what git says in its `error:` line; [`RefChangeError::status`] is the short
/// reason that git-receive-pack puts after `ng`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefChangeError {
    /// Another change of the same atomic transaction failed.
    #[error("atomic transaction failed")]
    Atomic,
    /// Something that is no ref is in the way.
    #[error("cannot lock ref '{name}': there is a non-empty directory '{name}' blocking reference '{name}'")]
    Blocked {
        /// The ref.
        name: BString,
    },
    /// The ref's file holds neither an object id nor the name of another ref.
    #[error("cannot lock ref '{name}': unable to resolve reference '{name}': reference broken")]
    Broken {
        /// The ref.
        name: BString,
    },
    /// It is a symbolic ref that leads nowhere, or in a circle.
    #[error("refusing update to broken symref '{name}'")]
    BrokenSymref {
        /// The ref.
        name: BString,
    },
    /// A ref exists that needs the name as a directory, or the other way round.
    #[error("cannot lock ref '{name}': '{existing}' exists; cannot create '{name}'")]
    Conflict {
        /// The ref.
        name: BString,
        /// The one that exists.
        existing: BString,
    },
    /// Two refs of the same atomic transaction need one name as a file and as a directory.
    #[error("cannot lock ref '{name}': cannot process '{other}' and '{name}' at the same time")]
    ConflictWithin {
        /// The ref.
        name: BString,
        /// The other one.
        other: BString,
    },
    /// An atomic transaction names a ref twice.
    #[error("multiple updates for ref '{name}' not allowed")]
    Duplicate {
        /// The ref.
        name: BString,
    },
    /// It exists and should not.
    #[error("cannot lock ref '{name}': reference already exists")]
    Exists {
        /// The ref.
        name: BString,
    },
    /// A symbolic ref and the ref that it leads to were to move differently.
    #[error("refusing inconsistent update between symref '{name}' and its target '{target}'")]
    InconsistentAlias {
        /// The symbolic ref.
        name: BString,
        /// What it leads to.
        target: BString,
    },
    /// The name is not one that git accepts, or not below `refs/`.
    #[error("refusing to update funny ref '{name}' remotely")]
    InvalidName {
        /// The name.
        name: BString,
    },
    /// Another program holds the lock.
    #[error(
        "cannot lock ref '{name}': Unable to create '{lock}': File exists. Another git process seems to be running \
         in this repository, or the lock file may be stale"
    )]
    Locked {
        /// The ref.
        name: BString,
        /// The lock file, relative to the git directory.
        lock: BString,
    },
    /// It does not exist and should.
    #[error("cannot lock ref '{name}': reference is missing but expected {expected}")]
    Missing {
        /// The ref.
        name: BString,
        /// Where it should have been.
        expected: ObjectId,
    },
    /// It is elsewhere.
    #[error("cannot lock ref '{name}': is at {actual} but expected {expected}")]
    Moved {
        /// The ref.
        name: BString,
        /// Where it is.
        actual: ObjectId,
        /// Where it should have been.
        expected: ObjectId,
    },
    /// The file system refuses the name, for instance because it is too long.
    #[error("cannot lock ref '{name}': unable to create '{name}.lock': {reason}")]
    Unwritable {
        /// The ref.
        name: BString,
        /// What the system says.
        reason: String,
    },
}

impl RefChangeError {
    /// Returns the reason that git-receive-pack reports as `ng <ref> <reason>`.
    pub fn status(&self) -> &'static str {
        match self {
            RefChangeError::Atomic => "atomic transaction failed",
            RefChangeError::BrokenSymref { .. } => "broken symref",
            RefChangeError::InconsistentAlias { .. } => "inconsistent aliased update",
            RefChangeError::InvalidName { .. } => "funny refname",
            RefChangeError::Blocked { .. }
            | RefChangeError::Broken { .. }
            | RefChangeError::Conflict { .. }
            | RefChangeError::ConflictWithin { .. }
            | RefChangeError::Duplicate { .. }
            | RefChangeError::Exists { .. }
            | RefChangeError::Locked { .. }
            | RefChangeError::Missing { .. }
            | RefChangeError::Moved { .. }
            | RefChangeError::Unwritable { .. } => "failed to update ref",
        }
    }
}

/// Tells whether `name` is one that git-check-ref-format(1) accepts and that begins with `refs/`.
pub fn is_valid_name(name: &BStr) -> bool {
    name.starts_with(b"refs/") && gix_validate::reference::name(name).is_ok()
}

/// The proper prefixes of a ref name that would have to be directories: those with two components or more.
fn parents(name: &BStr) -> impl Iterator<Item = &BStr> {
    let slashes = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').skip(1);
    slashes.filter_map(|(at, _)| name.get(..at).map(BStr::new))
}
