//! What the REST interface asks of the gate.

use super::{Gate, Principal, Rights};
use crate::auth::client::Client;
use crate::auth::credential;
use crate::auth::grant::{Fetch, Grant, Manage, Push};
use crate::auth::refusal::Refusal;
use crate::auth::scope::{Need, Operation};
use crate::auth::sign_in::SignedIn;
use crate::auth::token::{ParseError, PlainToken};
use crate::names::RepoPath;
use crate::store::{AccountId, Role};

impl Gate {
    /// Lets somebody in by the value of the `Authorization` header as it was received, where an operation needs the name
    /// and the password of an account ([`Need::SignIn`]); otherwise as [`Gate::sign_in`].
    ///
    /// A token, wherever it stands in the header, is asked about as by [`Gate::authenticate`], and refused if it lives.
    ///
    /// # Errors
    ///
    /// As [`Gate::sign_in`] and [`Gate::authenticate`], and [`Refusal::SignInNeeded`].
    ///
    /// # Blocking
    ///
    /// As [`Gate::sign_in`].
    pub fn sign_in_by_header(
        &self,
        authorization: Option<&[u8]>,
        client: impl Into<Client>,
    ) -> Result<SignedIn, Refusal> {
        let value = authorization.ok_or(Refusal::SignInNeeded)?;
        let Ok(credential) = credential::parse(value) else {
            // It counts as a failure like any other.
            return match self.authenticate(Some(value), client) {
                Err(throttled @ Refusal::Throttled { .. }) => Err(throttled),
                _ => Err(Refusal::SignInNeeded),
            };
        };
        if !matches!(
            PlainToken::parse(credential.secret().expose()),
            Err(ParseError::Shape)
        ) {
            let principal = self.authenticate(Some(value), client)?;
            let operation = Operation::ManageTokens;
            let refusal = match self.authorize_api(&principal, operation) {
                Err(refusal) => refusal,
                Ok(()) => Refusal::PasswordNeeded,
            };
            self.note_refusal(&principal, operation, None, None, &refusal);
            return Err(refusal);
        }
        let (name, password) = credential
            .name_and_password()
            .unwrap_or(("", credential.secret()));
        self.sign_in(name, password, client)
    }

    /// Decides whether `principal` may do `operation` at all: by the scopes of its token and its network and, where the
    /// operation is about the server as a whole, by its owner being an administrator and the token not being limited to
    /// paths. What concerns one repository is to be asked besides, by the other methods.
    ///
    /// # Errors
    ///
    /// A refusal of kind `Unauthorized`, which an anonymous reader always gets, `Forbidden` or `Internal`.
    pub fn authorize_api(&self, principal: &Principal, operation: Operation) -> Result<(), Refusal> {
        if let Some(alternate) = &principal.alternate {
            return self.authorize_api_alternate(alternate, operation);
        }
        let verified = principal.verified.as_ref().ok_or(Refusal::CredentialMissing)?;
        let verified = self.verify_again(verified, &principal.client)?;
        if operation.need() == Need::SignIn {
            return Err(Refusal::PasswordNeeded);
        }
        if !verified.scopes.allows(operation) {
            return Err(verified.scope_too_small(operation));
        }
        if operation.is_server_wide() {
            if !verified.limits.paths.is_empty() {
                return Err(verified.path_not_allowed());
            }
            if !verified.is_admin {
                return Err(Refusal::NotAdministrator {
                    account: verified.account.clone(),
                });
            }
        }
        self.note_use(&verified, &principal.client, operation, None);
        Ok(())
    }

    /// Decides whether `principal` may read a repository over REST ([`Operation::ReadRepositories`]); otherwise as
    /// [`Gate::authorize_fetch`].
    ///
    /// # Errors
    ///
    /// Any kind of refusal but `TooManyRequests`.
    pub fn authorize_read(
        &self,
        principal: &Principal,
        located: Option<&RepoPath>,
    ) -> Result<Grant<Fetch>, Refusal> {
        self.authorize(principal, located, Operation::ReadRepositories, Role::Reader)
    }

    /// Decides whether `principal` may move refs of a repository over REST ([`Operation::UpdateRefs`]); otherwise as
    /// [`Gate::authorize_push`]. Which refs, the grant says.
    ///
    /// # Errors
    ///
    /// Any kind of refusal but `TooManyRequests`.
    pub fn authorize_update_refs(
        &self,
        principal: &Principal,
        located: Option<&RepoPath>,
    ) -> Result<Grant<Push>, Refusal> {
        self.authorize(principal, located, Operation::UpdateRefs, Role::Contributor)
    }

    /// Decides whether `principal` may make, rename or delete the repository `path`, or set its default branch. There
    /// need not be one yet: rights on what it would lie in count, and the answer is the same. To rename takes a grant
    /// on both names. A token that is limited to refs may not: what is done to a repository as a whole is done to all of
    /// its refs.
    ///
    /// # Errors
    ///
    /// Any kind of refusal but `TooManyRequests`.
    pub fn authorize_manage(&self, principal: &Principal, path: &RepoPath) -> Result<Grant<Manage>, Refusal> {
        self.authorize(principal, Some(path), Operation::Manage, Role::Administrator)
    }

    /// The role of `principal` on a repository for lists, whatever the scopes of its token; None if it may not know of
    /// it: its owner has no role, the token is limited to other paths, or a policy of the collection is against it. An anonymous reader has everyone's role where
    /// anonymous reading is allowed.
    ///
    /// Roles that are not in memory are not kept there, so that a long list does not push out what is in use.
    ///
    /// # Errors
    ///
    /// A refusal of kind `Unauthorized` or `Internal`, and [`Refusal::NetworkNotAllowed`].
    pub fn visible_role(
        &self,
        principal: &Principal,
        repository: &RepoPath,
    ) -> Result<Option<Role>, Refusal> {
        if let Some(alternate) = &principal.alternate {
            return self.visible_role_of_alternate(alternate, repository);
        }
        let Some(verified) = &principal.verified else {
            return if self.0.options.allow_anonymous_read {
                self.role_without_keeping(&*self.rights_of_everyone()?, None, repository)
            } else {
                Ok(None)
            };
        };
        let verified = self.verify_again(verified, &principal.client)?;
        let is_let_in = verified.limits.allow_path(repository)
            && verified
                .require_collection(repository, self.0.options.clock.now())
                .is_ok();
        if !is_let_in {
            return Ok(None);
        }
        if verified.is_admin {
            return Ok(Some(Role::Administrator));
        }
        self.role_without_keeping(&verified.rights, Some(verified.account_id), repository)
    }

    fn role_without_keeping(
        &self,
        rights: &Rights,
        account: Option<AccountId>,
        repository: &RepoPath,
    ) -> Result<Option<Role>, Refusal> {
        match rights.known_role(repository) {
            Some(role) => Ok(role),
            None => Ok(self.0.store.role_on(account, repository)?),
        }
    }
}
