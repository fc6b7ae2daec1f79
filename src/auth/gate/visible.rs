//! Which of many repositories somebody may know of.

use super::{Gate, Principal};
use crate::auth::refusal::Refusal;
use crate::names::{AccessPath, RepoPath};
use crate::store::Role;

impl Gate {
    /// The roles of `principal` on `repositories`, in their order, as [`Gate::visible_role`] tells them. They must lie in
    /// `place`. The store is asked once, however many there are.
    ///
    /// # Errors
    ///
    /// As [`Gate::visible_role`].
    pub fn visible_roles(
        &self,
        principal: &Principal,
        place: &AccessPath,
        repositories: &[RepoPath],
    ) -> Result<Vec<Option<Role>>, Refusal> {
        if principal.alternate.is_some() {
            return repositories
                .iter()
                .map(|repository| self.visible_role(principal, repository))
                .collect();
        }
        let Some(verified) = &principal.verified else {
            if !self.0.options.allow_anonymous_read {
                return Ok(vec![None; repositories.len()]);
            }
            let roles = self.0.store.roles_below(None, place)?;
            return Ok(repositories
                .iter()
                .map(|repository| roles.on(repository))
                .collect());
        };
        let verified = self.verify_again(verified, &principal.client)?;
        let roles = if verified.is_admin {
            None
        } else {
            Some(self.0.store.roles_below(Some(verified.account_id), place)?)
        };
        let role = |repository: &RepoPath| {
            if !verified.limits.allow_path(repository) {
                return None;
            }
            match &roles {
                Some(roles) => roles.on(repository),
                None => Some(Role::Administrator),
            }
        };
        Ok(repositories.iter().map(role).collect())
    }
}
