//! Which objects go along, and packs going out and coming in.
//!
//! Owns walking the object graph, writing packs, taking them in, and the checks that let a push in, with the search for
//! secrets in it. Does not know who asks, HTTP, or side-band framing. Spec: gitformat-pack(5), git-pack-objects(1), git-index-pack(1), git-fsck(1).

pub mod commits;
pub mod connectivity;
mod copy;
mod depth;
pub mod enumerate;
pub mod fsck;
mod id_hash;
pub mod import;
pub mod index;
pub mod ingest;
pub mod maintain;
pub mod scan;
mod trees;
pub mod verify;
pub mod write;

use gix_hash::ObjectId;

use crate::repository::objects;

/// What can go wrong while the object graph is walked or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// An object names another one of the wrong kind.
    #[error("object {id} is a {actual}, not a {expected}")]
    Kind {
        /// The object.
        id: ObjectId,
        /// What it is.
        actual: gix_object::Kind,
        /// What it was named as.
        expected: gix_object::Kind,
    },
    /// An object that another one needs is not there.
    #[error("object {0} is missing")]
    Missing(ObjectId),
    /// The object database failed.
    #[error(transparent)]
    Objects(#[from] objects::Error),
    /// The taker of the bytes failed.
    #[error("cannot write the pack")]
    Write(#[source] std::io::Error),
    /// A tree lies deeper than git itself would go.
    #[error(
        "exceeded maximum allowed tree depth: tree {0} lies more than {max} levels deep",
        max = trees::DEPTH_MAX
    )]
    TooDeep(ObjectId),
}

#[cfg(test)]
mod tests;
