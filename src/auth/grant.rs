//! Proof of permission, as a type.

use std::fmt;
use std::marker::PhantomData;

use crate::names::RepoPath;

/// Reading a repository: `git fetch`, `git clone`.
#[derive(Debug)]
pub enum Fetch {}

/// Changing a repository: `git push`.
#[derive(Debug)]
pub enum Push {}

/// Proof that the gate let a principal do `Op` on one repository. Only the gate can make one.
pub struct Grant<Op> {
    repository: RepoPath,
    account: Option<String>,
    token_id: Option<String>,
    op: PhantomData<fn() -> Op>,
}

impl<Op> Grant<Op> {
    pub(super) fn new(repository: RepoPath, account: Option<String>, token_id: Option<String>) -> Self {
        Grant {
            repository,
            account,
            token_id,
            op: PhantomData,
        }
    }

    /// The repository, spelled as on disk.
    pub fn repository(&self) -> &RepoPath {
        &self.repository
    }

    /// Name of the account; None for an anonymous reader.
    pub fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// Public id of the token; None for an anonymous reader.
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }
}

impl<Op> fmt::Debug for Grant<Op> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("repository", &self.repository)
            .field("account", &self.account)
            .field("token_id", &self.token_id)
            .finish()
    }
}
