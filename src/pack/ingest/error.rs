//! What can go wrong while a pack is taken in, and who is at fault.

use std::io;
use std::path::PathBuf;

use gix_hash::ObjectId;
use gix_object::Kind;

use crate::pack::fsck;
use crate::repository::objects::{self, delta};

/// Who has to do something about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The pack is malformed, or its objects are; sending it again changes nothing.
    Peer,
    /// The pack is larger than this server takes.
    Limit,
    /// The one who asked for it wants no more of it.
    Interrupted,
    /// A disk, the repository or the machine.
    Environment,
}

/// Why a pack was not taken in. No file of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input ends inside the pack.
    #[error("early end of pack at byte {offset}")]
    Truncated {
        /// Bytes that there were.
        offset: u64,
    },
    /// The input could not be read.
    #[error("read pack")]
    Read(#[source] io::Error),
    /// It does not begin with `PACK`.
    #[error("pack signature mismatch")]
    Signature,
    /// Only 2 and 3 are known.
    #[error("pack version {0} unsupported")]
    Version(u32),
    /// An entry has a type that is reserved or not one of an entry.
    #[error("bad object type {kind} at pack offset {offset}")]
    Type {
        /// The three bits.
        kind: u8,
        /// Where the entry begins.
        offset: u64,
    },
    /// A size or distance in an entry's header does not fit 64 bits.
    #[error("impossible number in the object header at pack offset {offset}")]
    Header {
        /// Where the entry begins.
        offset: u64,
    },
    /// An OFS_DELTA points before the pack or between entries.
    #[error("delta base offset is out of bound at pack offset {offset}")]
    BaseOffset {
        /// Where the delta begins.
        offset: u64,
    },
    /// A zlib stream is damaged.
    #[error("inflate returned an error at pack offset {offset}")]
    Inflate {
        /// Where the entry begins.
        offset: u64,
    },
    /// A zlib stream holds more or less than the entry's header says.
    #[error("inflated size differs from the object header at pack offset {offset}")]
    Size {
        /// Where the entry begins.
        offset: u64,
    },
    /// The bytes are not those that were hashed by the sender.
    #[error("pack is corrupted (checksum mismatch)")]
    Checksum,
    /// Something follows the checksum.
    #[error("pack has junk at the end")]
    TrailingGarbage,
    /// The bytes of an object or of the pack carry a SHA-1 collision attack.
    #[error("SHA-1 collision attack at pack offset {offset}")]
    Collision {
        /// Where the entry begins; 0 for the pack as a whole.
        offset: u64,
    },
    /// A delta cannot be applied.
    #[error("failed to apply delta at pack offset {offset}: {source}")]
    Delta {
        /// Where the entry begins.
        offset: u64,
        /// What is wrong with it.
        source: delta::Error,
    },
    /// Bases are neither in the pack nor, for a thin pack, in the repository; or deltas are each other's bases.
    #[error("pack has {count} unresolved delta{}", if *count == 1 { "" } else { "s" })]
    Unresolved {
        /// How many deltas.
        count: u64,
        /// A base that is missing.
        base_id: Option<ObjectId>,
    },
    /// An object is in the pack more than once.
    #[error("the same object {id} appears twice in the pack")]
    Duplicate {
        /// The object.
        id: ObjectId,
    },
    /// Content that git fsck refuses.
    #[error("object {id}: {finding}")]
    Fsck {
        /// The object.
        id: ObjectId,
        /// What is wrong with it.
        finding: fsck::Finding,
    },
    /// Content whose links cannot be read.
    #[error("invalid {kind} {id}")]
    Malformed {
        /// The object.
        id: ObjectId,
        /// What it says it is.
        kind: Kind,
    },
    /// Objects of the pack disagree about what one of them is.
    #[error("object {id} is a {actual}, not a {expected}")]
    LinkKind {
        /// The object.
        id: ObjectId,
        /// What another object refers to it as.
        expected: Kind,
        /// What it is.
        actual: Kind,
    },
    /// More bytes than a pack may have.
    #[error("pack exceeds maximum allowed size of {max} bytes")]
    PackBytes {
        /// The limit.
        max: u64,
    },
    /// More objects than a pack may have.
    #[error("pack of {count} objects exceeds the maximum of {max}")]
    ObjectsCount {
        /// What the header says, or the number with the bases that complete a thin pack.
        count: u64,
        /// The limit.
        max: u32,
    },
    /// An object or a delta is too large.
    #[error("object of {bytes} bytes at pack offset {offset} exceeds the maximum of {max}")]
    ObjectBytes {
        /// What it says of itself.
        bytes: u64,
        /// The limit for its kind.
        max: u64,
        /// Where the entry begins; for a base from the repository, where it would go.
        offset: u64,
    },
    /// A delta is too many deltas away from a whole object.
    #[error("delta chain at pack offset {offset} is longer than {max}")]
    DeltaDepth {
        /// Where the entry begins.
        offset: u64,
        /// The limit.
        max: u32,
    },
    /// All objects together are too large.
    #[error("objects of the pack inflate to more than {max} bytes")]
    InflatedBytes {
        /// The limit.
        max: u64,
    },
    /// Objects refer to too many objects that the pack does not have.
    #[error("objects of the pack refer to more than {max} objects outside it")]
    OutsideCount {
        /// The limit.
        max: u64,
    },
    /// Trees name too many `.gitmodules` that differ.
    #[error("trees of the pack name more than {max} different .gitmodules files")]
    GitmodulesCount {
        /// The limit.
        max: usize,
    },
    /// What must stay free on the file system would not.
    #[error("not enough free disk space for the pack")]
    DiskReserve,
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A base of a thin pack could not be read from the repository.
    #[error("read delta base {id} from the repository")]
    Bases {
        /// The base.
        id: ObjectId,
        /// Why not.
        source: objects::Error,
    },
    /// An object of the repository does not hash to its id.
    #[error("local object {id} is corrupt")]
    CorruptBase {
        /// The object.
        id: ObjectId,
    },
    /// What was written does not read back as it was.
    #[error("pack file changed while it was read, at offset {offset}")]
    Reread {
        /// Where the entry begins.
        offset: u64,
    },
    /// A file could not be written, read back or renamed.
    #[error("cannot write '{path}'")]
    Write {
        /// The file or its directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A thread ended without an answer.
    #[error("a thread that resolves deltas died")]
    Thread,
}

impl Error {
    /// Tells who is at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Error::Truncated { .. }
            | Error::Signature
            | Error::Version(_)
            | Error::Type { .. }
            | Error::Header { .. }
            | Error::BaseOffset { .. }
            | Error::Inflate { .. }
            | Error::Size { .. }
            | Error::Checksum
            | Error::TrailingGarbage
            | Error::Collision { .. }
            | Error::Delta { .. }
            | Error::Unresolved { .. }
            | Error::Duplicate { .. }
            | Error::Fsck { .. }
            | Error::Malformed { .. }
            | Error::LinkKind { .. }
            | Error::Read(_) => Fault::Peer,
            Error::PackBytes { .. }
            | Error::ObjectsCount { .. }
            | Error::ObjectBytes { .. }
            | Error::DeltaDepth { .. }
            | Error::InflatedBytes { .. }
            | Error::OutsideCount { .. }
            | Error::GitmodulesCount { .. } => Fault::Limit,
            Error::Interrupted => Fault::Interrupted,
            Error::DiskReserve
            | Error::Bases { .. }
            | Error::CorruptBase { .. }
            | Error::Reread { .. }
            | Error::Write { .. }
            | Error::Thread => Fault::Environment,
        }
    }
}
