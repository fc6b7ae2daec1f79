//! Whoever comes with an alternate credential: the worse way in, kept apart from the good one.
//!
//! Only what cannot be a token comes here, and only while the policy `alternate-credentials` is on; otherwise the gate
//! answers as if there were no such thing. Nothing of it is kept between requests but that a password was right.

use std::sync::Arc;

use super::book::Book;
use super::{Gate, Principal, Rights};
use crate::auth::alternate::{looks_like_token, scopes};
use crate::auth::client::Client;
use crate::auth::credential::Credential;
use crate::auth::grant::{Grant, Terms};
use crate::auth::refusal::Refusal;
use crate::auth::scope::{Need, Operation};
use crate::auth::verifier::{Kind, Verdict};
use crate::names::RepoPath;
use crate::secret::Secret;
use crate::store::{Account, AlternateCredential, PasswordHash, Requester, Role};

/// An alternate credential whose password was right, that the policy and the rules allowed and whose account was not
/// disabled at one generation.
pub(super) struct Alternate {
    /// The name that was given.
    login: String,
    /// What the password was verified against. As long as it stays the same, so does the password.
    hash: PasswordHash,
    pub(super) account: Account,
    rights: Rights,
    book: Arc<Book>,
}

impl Alternate {
    pub(super) fn requester(&self, client: &Client) -> Requester {
        client.requester(Some(self.account.name.clone()))
    }
}

/// The name and the password of a credential that neither is nor looks like a token.
fn name_and_password(credential: &Credential) -> Option<(&str, &Secret)> {
    credential
        .name_and_password()
        .filter(|(name, password)| !looks_like_token(name) && !looks_like_token(password.expose()))
}

impl Gate {
    /// Lets somebody in by an alternate credential, if that is what was given and such are let in at all; None if not.
    pub(super) fn authenticate_alternate(
        &self,
        credential: &Credential,
        client: &Client,
    ) -> Option<Result<Principal, Refusal>> {
        let (name, password) = name_and_password(credential)?;
        let opened = self.open_alternate(name, password, client).transpose()?;
        Some(opened.map(|alternate| Principal {
            verified: None,
            alternate: Some(Arc::new(alternate)),
            client: client.clone(),
        }))
    }

    fn open_alternate(
        &self,
        name: &str,
        password: &Secret,
        client: &Client,
    ) -> Result<Option<Alternate>, Refusal> {
        let inner = &self.0;
        // Before anything is read: what changes in between makes it look older than it is, never newer.
        let generation = inner.store.generation()?;
        let book = self.book(generation)?;
        if !book.policies.server().alternate_credentials() {
            return Ok(None);
        }
        let now = inner.options.clock.elapsed();
        let attempt = inner
            .verifier
            .attempt(Kind::Alternate, name, password)
            .from(client.address);
        // Whoever was let in a moment ago does not guess.
        if !inner.verifier.is_remembered(&attempt, generation, now)
            && let Some(wait) = inner.throttle.wait(client.address, now)
        {
            return Err(Refusal::Throttled { wait });
        }
        // A disabled account is verified as one that is not there, or the time would tell that its password was right.
        let found = inner.store.find_alternate_credential(name)?;
        let known = found.as_ref().map(|(_, _, account)| account.name.clone());
        let found = found.filter(|(_, _, account)| !account.is_disabled);
        let hash = found.as_ref().map(|(_, hash, _)| hash);
        let verdict = inner.verifier.verify(&attempt, hash, generation, now)?;
        let outcome = match found.filter(|_| verdict != Verdict::Wrong) {
            Some(found) => checked(name, found, generation, book),
            None => Err(Refusal::AlternateWrong),
        };
        match outcome {
            Ok(alternate) => {
                // A client comes with each of its requests; one event a minute tells as much.
                if verdict == Verdict::Right {
                    let requester = alternate.requester(client);
                    inner
                        .trail
                        .signed_in_by_alternate(requester, &alternate.account.name);
                }
                Ok(Some(alternate))
            }
            Err(refusal) => {
                inner.trail.failed(&inner.throttle, client);
                inner
                    .trail
                    .alternate_refused(client, known.as_deref(), refusal.reason());
                Err(refusal)
            }
        }
    }

    /// What holds for an alternate credential now, whose password was right before.
    fn open_again(&self, before: &Arc<Alternate>) -> Result<Arc<Alternate>, Refusal> {
        let generation = self.0.store.generation()?;
        if before.rights.generation == generation {
            return Ok(Arc::clone(before));
        }
        let book = self.book(generation)?;
        if !book.policies.server().alternate_credentials() {
            return Err(Refusal::AlternateWrong);
        }
        let found = self.0.store.find_alternate_credential(&before.login)?;
        let same = found.filter(|(_, hash, account)| {
            // Of one of another account, or with another password, nothing was proven.
            !account.is_disabled && account.id == before.account.id && hash.expose() == before.hash.expose()
        });
        let found = same.ok_or(Refusal::AlternateWrong)?;
        checked(&before.login, found, generation, book).map(Arc::new)
    }

    /// Decides as `Gate::authorize` does for a token: what may not be seen is not there.
    pub(super) fn authorize_alternate<Op>(
        &self,
        alternate: &Arc<Alternate>,
        client: &Client,
        located: Option<&RepoPath>,
        needs: Role,
    ) -> Result<Grant<Op>, Refusal> {
        let alternate = self.open_again(alternate)?;
        let repository = located.ok_or(Refusal::NotFound)?;
        let has = self
            .role_of_alternate(&alternate, repository)?
            .ok_or(Refusal::NotFound)?;
        let rules = alternate.book.policies.for_collection(repository.collection());
        if !rules.alternate_credentials() {
            return Err(Refusal::AlternateBarred {
                collection: repository.collection().to_owned(),
            });
        }
        if has < needs {
            return Err(Refusal::RoleTooSmall {
                account: alternate.account.name.clone(),
                repository: repository.clone(),
                has,
                needs,
            });
        }
        let terms = Terms {
            requester: alternate.requester(client),
            ..Terms::default()
        };
        Ok(Grant::new(repository.clone(), terms))
    }

    /// Decides as [`Gate::authorize_api`] does for a token. What is about the server as a whole, or about tokens, is out of
    /// its reach, whoever's it is.
    pub(super) fn authorize_api_alternate(
        &self,
        alternate: &Arc<Alternate>,
        operation: Operation,
    ) -> Result<(), Refusal> {
        self.open_again(alternate)?;
        if operation.need() == Need::SignIn {
            return Err(Refusal::PasswordNeeded);
        }
        // There is no token to inspect, rotate or revoke.
        let is_about_tokens = operation == Operation::UseOwnToken || operation.is_server_wide();
        if is_about_tokens || !scopes().allows(operation) {
            return Err(Refusal::AlternateTooSmall);
        }
        Ok(())
    }

    /// The role on a repository.
    fn role_of_alternate(
        &self,
        alternate: &Alternate,
        repository: &RepoPath,
    ) -> Result<Option<Role>, Refusal> {
        if alternate.account.is_admin {
            return Ok(Some(Role::Administrator));
        }
        let account = Some(alternate.account.id);
        alternate.rights.role_on(&self.0.store, account, repository)
    }

    /// The same for lists, as it is now; None, too, where the collection takes no alternate credentials.
    pub(super) fn visible_role_of_alternate(
        &self,
        alternate: &Arc<Alternate>,
        repository: &RepoPath,
    ) -> Result<Option<Role>, Refusal> {
        let alternate = self.open_again(alternate)?;
        let rules = alternate.book.policies.for_collection(repository.collection());
        if !rules.alternate_credentials() {
            return Ok(None);
        }
        self.role_of_alternate(&alternate, repository)
    }
}

/// Holds what was found against the rules, as if it were a token that was made when the credential was set.
fn checked(
    login: &str,
    found: (AlternateCredential, PasswordHash, Account),
    generation: u64,
    book: Arc<Book>,
) -> Result<Alternate, Refusal> {
    let (credential, hash, account) = found;
    if let Some(rule) = book.rules.against(scopes(), credential.created_at) {
        return Err(Refusal::AlternateRevoked {
            account: account.name,
            at: rule.made_at,
        });
    }
    Ok(Alternate {
        login: login.to_owned(),
        hash,
        account,
        rights: Rights::new(generation),
        book,
    })
}
