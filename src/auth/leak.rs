//! Tokens where they should not be: in what is pushed, and in the hands of somebody who found one.
//!
//! **Owns** recognising tokens in any text, whether they live, who may push one all the same, and what is done about
//! one that somebody hands in. **Does not know** objects, refs, packets or HTTP. **Invariants**: a token that is found
//! is looked at where it lies, and only its digest goes further; whoever hands in a text learns nothing about what is
//! in it; a token that expired, was revoked or was never one counts for nothing.

use std::collections::HashSet;
use std::fmt;

use memchr::memmem;
use serde_json::json;

use super::gate::Gate;
use super::grant::{Grant, Push};
pub use super::policy::AllowSecret;
use super::token::{PREFIX, PlainToken, TOKEN_BYTES};
use crate::names::RepoPath;
use crate::store::{self, Actor, AuditAction, LiveToken, Requester, Role, Store, TokenHash};

/// Bytes of a text that is handed in; what lies behind them is not looked at.
pub const REPORT_BYTES_MAX: usize = 1 << 20;

/// Different tokens of one text that is handed in; those that follow are not looked at. See [`has_too_many`].
pub const REPORT_TOKENS_MAX: usize = 100;

/// Letters and digits behind the prefix from which on a text is not shown: the public id and some of a secret.
const REDACTED_BYTES_MIN: usize = 16;

/// What is shown instead.
const REDACTED: &[u8] = b"pgt_***";

/// The policies about leaks.
pub trait Rules: Send + Sync {
    /// Who may push a live token to `repository` if they ask for it.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn allow_secret(&self, repository: &RepoPath) -> Result<AllowSecret, store::Error>;

    /// Whether a token is revoked when somebody hands it in.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn revoke_leaked(&self) -> Result<bool, store::Error>;
}

impl Rules for Gate {
    fn allow_secret(&self, repository: &RepoPath) -> Result<AllowSecret, store::Error> {
        Ok(self
            .policies()?
            .for_collection(repository.collection())
            .allow_secret())
    }

    fn revoke_leaked(&self) -> Result<bool, store::Error> {
        Ok(self.policies()?.server().revoke_leaked())
    }
}

/// Whether a pusher may push a live token, and who else could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// The pusher may.
    pub is_given: bool,
    /// Who may.
    pub who: AllowSecret,
}

/// The digest of `text` if it is a token by its form: prefix, alphabet, length and checksum.
pub fn digest(text: &[u8]) -> Option<TokenHash> {
    let text = std::str::from_utf8(text).ok()?;
    PlainToken::parse(text).ok().map(|token| token.hash())
}

/// Calls `found` with where each token in `text` begins, and its digest; stops when that returns false. What has the
/// form of a token is one, whatever stands around it.
pub fn each_token(text: &[u8], found: &mut dyn FnMut(usize, TokenHash) -> bool) {
    for at in memmem::find_iter(text, PREFIX) {
        let candidate = text.get(at..at.saturating_add(TOKEN_BYTES));
        if let Some(hash) = candidate.and_then(digest)
            && !found(at, hash)
        {
            return;
        }
    }
}

/// The text without the tokens in it, for whatever is shown, logged or kept. What only looks like one, such as one that
/// was cut, is left out too.
pub fn redact(text: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(text.len());
    let mut end = 0;
    for at in memmem::find_iter(text, PREFIX) {
        let body = text.get(at + PREFIX.len()..).unwrap_or_default();
        let len = body
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric())
            .count();
        if len < REDACTED_BYTES_MIN {
            continue;
        }
        clean.extend_from_slice(text.get(end..at).unwrap_or_default());
        clean.extend_from_slice(REDACTED);
        end = at + PREFIX.len() + len;
    }
    clean.extend_from_slice(text.get(end..).unwrap_or_default());
    clean
}

/// Whether there are more different tokens in a text than one report may have, as far as their form tells.
pub fn has_too_many(text: &[u8]) -> bool {
    let mut hashes = HashSet::new();
    each_token(text, &mut |_, hash| {
        hashes.insert(hash);
        hashes.len() <= REPORT_TOKENS_MAX
    });
    hashes.len() > REPORT_TOKENS_MAX
}

/// Stands between tokens and where they should not be.
pub struct Guard {
    store: Store,
    rules: Box<dyn Rules>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

impl Guard {
    /// Guards the tokens of `store` by `rules`.
    pub fn new(store: Store, rules: Box<dyn Rules>) -> Guard {
        Guard { store, rules }
    }

    /// Tells which of the tokens with these digests live, as [`Store::live_tokens`] does.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn live_among(&self, hashes: &[TokenHash]) -> Result<Vec<LiveToken>, store::Error> {
        self.store.live_tokens(hashes)
    }

    /// Tells whether the holder of `grant` may push a live token, by what the store says now.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn permission(&self, grant: &Grant<Push>) -> Result<Permission, store::Error> {
        let who = self.rules.allow_secret(grant.repository())?;
        let is_given = match who {
            AllowSecret::Nobody => false,
            AllowSecret::Administrators => self.administers(grant)?,
            AllowSecret::Contributors => true,
        };
        Ok(Permission { is_given, who })
    }

    fn administers(&self, grant: &Grant<Push>) -> Result<bool, store::Error> {
        let account = match grant.account() {
            Some(name) => self.store.find_account(name)?,
            None => None,
        };
        let Some(account) = account else {
            return Ok(false);
        };
        let role = self.store.role_on(Some(account.id), grant.repository())?;
        Ok(account.is_admin || role >= Some(Role::Administrator))
    }

    /// What notes in the trail what the push of `grant` brought; it can be kept until it is known whether it is let in.
    pub fn notes(&self, grant: &Grant<Push>) -> Notes {
        Notes {
            store: self.store.clone(),
            actor: grant.actor(),
            repository: grant.repository().to_string(),
        }
    }

    /// Takes a text that somebody found, and does with each live token in it what the policy `revoke-leaked` says. The
    /// text may be a token alone, JSON, or anything else with tokens in it.
    ///
    /// It says nothing, because what it could say would tell whether a token lives.
    ///
    /// # Bounds
    ///
    /// [`REPORT_BYTES_MAX`] and [`REPORT_TOKENS_MAX`]; what is beyond them is passed over.
    pub fn report(&self, text: &[u8], requester: &Requester) {
        let text = text.get(..REPORT_BYTES_MAX).unwrap_or(text);
        let mut hashes = HashSet::new();
        each_token(text, &mut |_, hash| {
            hashes.insert(hash);
            hashes.len() < REPORT_TOKENS_MAX
        });
        if hashes.is_empty() {
            return;
        }
        let actor = Actor::Client(requester.clone());
        let revokes = match self.rules.revoke_leaked() {
            Ok(revokes) => revokes,
            Err(err) => {
                tracing::error!(
                    err = &err as &dyn std::error::Error,
                    count = hashes.len(),
                    "tokens that were handed in could not be dealt with"
                );
                return;
            }
        };
        for hash in &hashes {
            match self.store.report_leaked_token(&actor, hash, revokes) {
                Ok(Some(token)) => {
                    tracing::info!(leaked = %token.id, revoked = revokes, "a live token was handed in");
                }
                Ok(None) => {}
                // The next one may go well, and may be the one that matters.
                Err(err) => tracing::error!(
                    err = &err as &dyn std::error::Error,
                    "a token that was handed in could not be dealt with"
                ),
            }
        }
    }
}

/// Notes in the trail what one push brought.
#[derive(Debug)]
pub struct Notes {
    store: Store,
    actor: Actor,
    repository: String,
}

impl Notes {
    /// Notes that it brought a live token, where in it, and whether it was let in.
    ///
    /// # Errors
    ///
    /// When the store cannot be written.
    pub fn token(&self, token: &LiveToken, places: &[String], is_allowed: bool) -> Result<(), store::Error> {
        let details = json!({
            "account": token.account,
            "name": token.name,
            "found": "pushed",
            "repository": self.repository,
            "places": places,
            "allowed": is_allowed,
        });
        self.store
            .record_event(&self.actor, AuditAction::TokenLeak, token.id.as_str(), &details)
    }

    /// Notes that it was let in, and not all of its tokens could be checked.
    ///
    /// # Errors
    ///
    /// When the store cannot be written.
    pub fn unchecked(&self) -> Result<(), store::Error> {
        let details = json!({ "found": "unchecked", "repository": self.repository, "allowed": true });
        self.store
            .record_event(&self.actor, AuditAction::TokenLeak, &self.repository, &details)
    }
}

#[cfg(test)]
mod tests;
