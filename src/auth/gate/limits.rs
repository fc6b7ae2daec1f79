//! What a token is limited to besides its scopes: paths, networks and, where all refs are meant at once, refs.
//!
//! A limit is decided from the request alone, before anything is looked up, so that its answer is the same whether there
//! is something or not.

use std::borrow::Cow;
use std::net::IpAddr;

use super::{Gate, Principal, Verified};
use crate::auth::refusal::Refusal;
use crate::auth::scope::Operation;
use crate::names::RepoPath;

impl Gate {
    /// Narrows the repositories that a URL can mean down to those that the token of `principal` is not limited to leave
    /// out, in the same order. To be asked before the disk is looked at.
    ///
    /// # Errors
    ///
    /// [`Refusal::PathNotAllowed`] when none is left of one or more.
    pub fn narrow<'a>(
        &self,
        principal: &Principal,
        candidates: &'a [RepoPath],
    ) -> Result<Cow<'a, [RepoPath]>, Refusal> {
        let Some(verified) = principal
            .verified
            .as_deref()
            .filter(|verified| !verified.limits.paths.is_empty())
        else {
            return Ok(Cow::Borrowed(candidates));
        };
        let allowed: Vec<RepoPath> = candidates
            .iter()
            .filter(|path| verified.limits.allow_path(path))
            .cloned()
            .collect();
        if allowed.is_empty() && !candidates.is_empty() {
            return Err(verified.path_not_allowed());
        }
        Ok(Cow::Owned(allowed))
    }
}

impl Verified {
    pub(super) fn require_network(&self, address: IpAddr) -> Result<(), Refusal> {
        if self.limits.allow_address(address) {
            return Ok(());
        }
        Err(Refusal::NetworkNotAllowed {
            name: self.token_name.clone(),
            id: self.token_id.clone(),
            networks: self.limits.networks.clone(),
            address,
        })
    }

    pub(super) fn require_path(&self, repository: &RepoPath) -> Result<(), Refusal> {
        if self.limits.allow_path(repository) {
            Ok(())
        } else {
            Err(self.path_not_allowed())
        }
    }

    pub(super) fn path_not_allowed(&self) -> Refusal {
        Refusal::PathNotAllowed {
            name: self.token_name.clone(),
            id: self.token_id.clone(),
            paths: self.limits.paths.clone(),
        }
    }

    /// Holds what is done to a repository as a whole, and so to all of its refs, against a limit to some of them.
    pub(super) fn require_all_refs(&self) -> Result<(), Refusal> {
        if self.limits.refs.is_empty() {
            return Ok(());
        }
        Err(Refusal::RefsNotAll {
            name: self.token_name.clone(),
            id: self.token_id.clone(),
            refs: self.limits.refs.clone(),
        })
    }

    pub(super) fn scope_too_small(&self, operation: Operation) -> Refusal {
        Refusal::ScopeTooSmall {
            name: self.token_name.clone(),
            id: self.token_id.clone(),
            scopes: self.scopes,
            operation,
        }
    }
}
