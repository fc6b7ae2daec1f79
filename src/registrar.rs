//! Changes of which repositories there are, together with what the store keeps of them: rights, ids, limits, the trail.
//!
//! **Owns** the order: the disk is changed as the last step of the store's transaction, so that both change or neither
//! does. **Does not know** who may ask. **Invariants**: a change that fails leaves disk and store as they were, or the
//! error says what is left; only a crash within the milliseconds between the two can leave a change of the disk of which
//! the store knows nothing. The store's lock is taken before the registry's.

use crate::names::RepoPath;
use crate::repository::{self, Repositories};
use crate::store::{self, Actor, Step, Store};

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed after the disk was changed, and the disk could not be changed back.
    #[error("{left}: {undo}; before that: {cause}")]
    Left {
        /// What is not as it was, and what to do.
        left: String,
        /// Why it could not be undone.
        undo: repository::Error,
        /// Why it was to be undone.
        cause: store::Error,
    },
    /// The disk refused.
    #[error(transparent)]
    Repository(#[from] repository::Error),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Changes repositories on somebody's behalf.
#[derive(Debug)]
pub struct Registrar<'a> {
    /// What is kept of them.
    pub store: &'a Store,
    /// The repositories.
    pub repositories: &'a Repositories,
    /// Who changes them, for the trail.
    pub actor: &'a Actor,
}

impl Registrar<'_> {
    /// Gives a repository another name, and takes along its id, the rights on it and the limits that name it. Rights on
    /// the new name were given for another repository, and are dropped. Both are spelled as on disk.
    ///
    /// # Errors
    ///
    /// As [`Repositories::rename`], or when the store cannot be written.
    pub fn rename(&self, from: &RepoPath, to: &RepoPath) -> Result<(), Error> {
        let step = Step {
            run: || Ok(self.repositories.rename(from, to)?),
            undo: |(), cause| {
                undone(self.repositories.rename(to, from), cause, || {
                    format!("'{to}' should be '{from}' again: rename its folder by hand")
                })
            },
        };
        self.store.rename_repository(self.actor, from, to, step)
    }
}

/// The error of a change that was undone because of `cause`, or could not be.
fn undone(outcome: Result<(), repository::Error>, cause: store::Error, left: impl Fn() -> String) -> Error {
    match outcome {
        Ok(()) => Error::Store(cause),
        Err(undo) => Error::Left {
            left: left(),
            undo,
            cause,
        },
    }
}

#[cfg(test)]
mod tests;
