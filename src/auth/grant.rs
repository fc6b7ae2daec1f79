//! Proof of permission, as a type.

use std::fmt;
use std::marker::PhantomData;

use crate::names::{RefPattern, RepoPath};
use crate::store::{Actor, Requester, TokenId};

/// Reading a repository: `git fetch`, `git clone`.
#[derive(Debug)]
pub enum Fetch {}

/// Changing a repository: `git push`.
#[derive(Debug)]
pub enum Push {}

/// Making, renaming and deleting a repository, and setting its default branch.
#[derive(Debug)]
pub enum Manage {}

/// Proof that the gate let a principal do `Op` on one repository. Only the gate can make one.
pub struct Grant<Op> {
    repository: RepoPath,
    terms: Terms,
    op: PhantomData<fn() -> Op>,
}

/// What the gate says along with a grant.
#[derive(Debug, Clone, Default)]
pub(super) struct Terms {
    /// Who asked, and how.
    pub requester: Requester,
    /// The refs that may be pushed to; empty for all.
    pub refs: Vec<RefPattern>,
    /// What the person behind the client should hear.
    pub notice: Option<String>,
}

impl<Op> Grant<Op> {
    pub(super) fn new(repository: RepoPath, terms: Terms) -> Self {
        Grant {
            repository,
            terms,
            op: PhantomData,
        }
    }

    /// The repository, spelled as on disk; for [`Manage`] as it was asked for.
    pub fn repository(&self) -> &RepoPath {
        &self.repository
    }

    /// Name of the account; None for an anonymous reader.
    pub fn account(&self) -> Option<&str> {
        self.terms.requester.account.as_deref()
    }

    /// Public id of the token; None for an anonymous reader.
    pub fn token_id(&self) -> Option<&str> {
        self.terms.requester.token.as_ref().map(|id| id.as_str())
    }

    /// The token; None for an anonymous reader and an alternate credential.
    pub(super) fn token(&self) -> Option<&TokenId> {
        self.terms.requester.token.as_ref()
    }

    /// Who the audit trail says it was.
    pub fn actor(&self) -> Actor {
        Actor::Client(self.terms.requester.clone())
    }

    /// Patterns of the refs that may be pushed to; empty for all.
    pub fn refs(&self) -> &[RefPattern] {
        &self.terms.refs
    }

    /// Whether the ref of this full name may be pushed to.
    pub fn allows_ref(&self, name: &[u8]) -> bool {
        self.terms.refs.is_empty() || self.terms.refs.iter().any(|pattern| pattern.matches(name))
    }

    /// A line that the person behind the client should read once an operation, such as that the token ends soon. It
    /// holds no control characters.
    pub fn notice(&self) -> Option<&str> {
        self.terms.notice.as_deref()
    }
}

impl<Op> fmt::Debug for Grant<Op> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("repository", &self.repository)
            .field("account", &self.account())
            .field("token_id", &self.token_id())
            .finish()
    }
}
