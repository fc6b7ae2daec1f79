//! Changes of which repositories there are, together with what the store keeps of them: rights, ids, limits, the trail.
//!
//! **Owns** the order: the disk is changed as the last step of the store's transaction, so that both change or neither
//! does. **Does not know** who may ask. **Invariants**: a change that fails leaves disk and store as they were, or the
//! error says what is left; only a crash within the milliseconds between the two can leave a change of the disk of which
//! the store knows nothing. The store's lock is taken before the registry's.

use bstr::{BStr, ByteSlice};
use serde_json::{Value, json};

use crate::names::RepoPath;
use crate::repository::refs::Head;
use crate::repository::registry::{CreateOptions, New};
use crate::repository::{self, Repositories};
use crate::store::{self, Actor, AuditAction, Step, Store};

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed after the disk was changed, and the disk could not be changed back.
    #[error("{left}: {undo}; before that: {cause}")]
    Left {
        /// What is not as it was, and what to do.
        left: String,
        /// Why it could not be undone.
        undo: String,
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
    /// Makes an empty repository.
    ///
    /// # Errors
    ///
    /// As [`Repositories::create`], or when the store cannot be written.
    pub fn create(&self, path: &RepoPath, options: &CreateOptions) -> Result<(), Error> {
        self.repositories.require_free(path)?;
        let new = self.repositories.prepare(options)?;
        let details = json!({
            "object_format": options.object_hash.to_string(),
            "default_branch": options.default_branch,
        });
        self.place(&new, path, AuditAction::RepositoryCreate, &details)
    }

    /// Gives a new repository its name; the trail tells of it by `action` and `details`.
    ///
    /// # Errors
    ///
    /// As [`Repositories::place`], or when the store cannot be written.
    pub fn place(
        &self,
        new: &New,
        path: &RepoPath,
        action: AuditAction,
        details: &Value,
    ) -> Result<(), Error> {
        let step = Step {
            run: || Ok(self.repositories.place(new, path)?),
            undo: |(), cause| {
                undone(self.repositories.delete(path), cause, || {
                    format!("'{path}' was made although it could not be noted: delete it")
                })
            },
        };
        let subject = path.to_string();
        self.store
            .record_event_with(self.actor, action, &subject, details, step)
    }

    /// Deletes a repository with its id and the rights on it; limits that name it stay. It is spelled as on disk.
    ///
    /// # Errors
    ///
    /// As [`Repositories::delete`], or when the store cannot be written.
    pub fn delete(&self, path: &RepoPath) -> Result<(), Error> {
        let step = Step {
            run: || Ok(self.repositories.discard(path)?),
            undo: |discarded, cause| match self.repositories.restore(discarded) {
                Ok(()) => Error::Store(cause),
                Err((undo, place)) => Error::Left {
                    left: format!("'{path}' lies in '{}': move it back by hand", place.display()),
                    undo: undo.to_string(),
                    cause,
                },
            },
        };
        let discarded = self.store.delete_repository(self.actor, path, step)?;
        // Not before: a large one takes its time, and nobody else could write.
        discarded.remove();
        Ok(())
    }

    /// Points HEAD of a repository, spelled as on disk, at a branch.
    ///
    /// # Errors
    ///
    /// As [`Repository::set_head`](repository::Repository::set_head), or when the store cannot be written.
    pub fn set_default_branch(&self, path: &RepoPath, branch: &str) -> Result<(), Error> {
        let repository = self.repositories.open(path)?;
        let refs = repository.refs()?;
        let before = match refs.head() {
            Head::Symbolic { target, .. } => Ok(target),
            Head::Detached(id) => Err(id),
        };
        let step = Step {
            run: || Ok(repository.set_head(BStr::new(branch))?),
            undo: |(), cause| {
                let left = || format!("HEAD of '{path}' points at '{branch}' although it could not be noted");
                match before {
                    Ok(before) => undone(repository.set_head(before.as_bstr()), cause, left),
                    Err(id) => Error::Left {
                        left: left(),
                        undo: format!("it was detached at {id}"),
                        cause,
                    },
                }
            },
        };
        let details =
            json!({ "default_branch": branch, "before": before.ok().map(|name| name.to_str_lossy()) });
        self.store.record_event_with(
            self.actor,
            AuditAction::RepositoryUpdate,
            &path.to_string(),
            &details,
            step,
        )
    }

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
            undo: undo.to_string(),
            cause,
        },
    }
}

#[cfg(test)]
mod tests;
