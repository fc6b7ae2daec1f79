//! Checks of what objects hold, under git's names for what can be wrong (git-fsck(1), "FSCK MESSAGES").
//!
//! Looks at one object at a time and does not know where it comes from. Reading an object yields what it refers to
//! ([`Link`]) and, with [`Options`], refuses content that would hurt those who fetch it. The default is what
//! `git fsck --strict` calls an error, except for what [`TOLERATED`] lists.

pub mod commit;
pub mod gitmodules;
mod ident;
mod message;
mod names;
pub mod tag;
pub mod tree;

use gix_hash::{Kind as HashKind, oid};
use gix_object::Kind;

pub use message::{Finding, Message, TOLERATED};

/// Which findings refuse an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// A bit for each [`Message`].
    tolerated: u64,
}

impl Default for Options {
    fn default() -> Self {
        TOLERATED
            .iter()
            .fold(Options { tolerated: 0 }, |options, (message, _)| {
                options.tolerate(*message)
            })
    }
}

impl Options {
    /// Refuses whatever has a name.
    pub fn strictest() -> Self {
        Options { tolerated: 0 }
    }

    /// Lets objects with this finding pass.
    pub fn tolerate(self, message: Message) -> Self {
        Options {
            tolerated: self.tolerated | (1 << message as u8),
        }
    }

    /// Refuses objects with this finding.
    pub fn refuse(self, message: Message) -> Self {
        Options {
            tolerated: self.tolerated & !(1 << message as u8),
        }
    }

    pub(super) fn report(&self, message: Message) -> Result<(), Finding> {
        if self.tolerated & (1 << message as u8) != 0 {
            Ok(())
        } else {
            Err(Finding::new(message))
        }
    }
}

/// Reports to `options`, if there are any.
fn report(options: Option<&Options>, message: Message) -> Result<(), Finding> {
    options.map_or(Ok(()), |options| options.report(message))
}

/// An object that another refers to.
#[derive(Debug, Clone, Copy)]
pub struct Link<'a> {
    /// The object.
    pub id: &'a oid,
    /// What it is referred to as.
    pub kind: Kind,
    /// Whether it is a file that git reads as `.gitmodules`.
    pub is_gitmodules: bool,
}

/// Checks one object. Blobs are not looked into; see [`gitmodules::check`] for those that a tree calls that.
///
/// # Errors
///
/// The first finding that `options` refuse, and syntax that leaves no way to read on.
pub fn check(kind: Kind, data: &[u8], hash: HashKind, options: &Options) -> Result<(), Finding> {
    match kind {
        Kind::Blob => Ok(()),
        Kind::Tree => tree::read(data, None, hash, Some(options), &mut |_| {}),
        Kind::Commit => commit::read(data, hash, Some(options), &mut |_| {}),
        Kind::Tag => tag::read(data, hash, Some(options), &mut |_| {}),
    }
}

#[cfg(test)]
mod tests;
