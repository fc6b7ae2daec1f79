//! What an administrator has decided about all tokens: policies and revocation rules, kept in memory for as long as
//! nothing in the store changes.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Found, Gate, Verified, lock};
use crate::auth::client::Client;
use crate::auth::policy::{Policies, Used};
use crate::auth::refusal::Refusal;
use crate::auth::rule::Rules;
use crate::auth::scope::Scopes;
use crate::names::RepoPath;
use crate::store::{self, Actor, TokenId};

/// Tokens that are looked at, and revoked, in one transaction.
const SWEEP_COUNT_MAX: u32 = 1000;

/// Policies and rules as of one generation of the store or a later one.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Generations begin at 1, so one that was never read is replaced at the first question.
    generation: u64,
    pub(super) policies: Arc<Policies>,
    pub(super) rules: Rules,
}

impl Book {
    /// Holds a secret that opens a token against the rules.
    pub(super) fn require_no_rule(&self, found: &Found) -> Result<(), Refusal> {
        let scopes = Scopes::parse_known(&found.token.scopes);
        match self.rules.against(scopes, found.secret_made_at) {
            None => Ok(()),
            Some(rule) => Err(Refusal::RevokedByRule {
                name: found.token.name.clone(),
                id: found.token.id.clone(),
                at: rule.made_at,
            }),
        }
    }
}

impl Gate {
    /// The policies that hold now, from memory unless anything has changed.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn policies(&self) -> Result<Arc<Policies>, store::Error> {
        let generation = self.0.store.generation()?;
        Ok(Arc::clone(&self.book(generation)?.policies))
    }

    /// What is decided at `generation`, or was a moment later.
    pub(super) fn book(&self, generation: u64) -> Result<Arc<Book>, store::Error> {
        let known = Arc::clone(&lock(&self.0.book));
        if known.generation == generation {
            return Ok(known);
        }
        let book = Arc::new(Book {
            generation,
            policies: Arc::new(Policies::load(&self.0.store)?),
            rules: Rules::load(&self.0.store)?,
        });
        let mut latest = lock(&self.0.book);
        // Another request may have read a later one in the meantime.
        if latest.generation < generation {
            *latest = Arc::clone(&book);
        }
        Ok(book)
    }

    /// Revokes a token that is used again after a longer time than its policies bear, and says so; one that was used in
    /// the meantime, by way of another process, lives on.
    pub(super) fn revoke_if_idle(
        &self,
        verified: &Verified,
        since: Timestamp,
        client: &Client,
    ) -> Result<(), Refusal> {
        let actor = Actor::Client(super::requester(None, client));
        let idle = [(verified.token_id.clone(), since)];
        let revoked = self.0.store.revoke_idle_tokens(&actor, &idle)?;
        let Some(token) = revoked.first() else {
            return Ok(());
        };
        lock(&self.0.tokens).remove(&verified.hash);
        Err(Refusal::TokenRevoked {
            name: token.name.clone(),
            id: token.id.clone(),
            at: token.revoked_at.unwrap_or_else(|| self.0.options.clock.now()),
            because: token.revoked_because,
        })
    }

    /// Revokes all tokens that nobody has used for longer than their policies bear, and returns how many those were. A
    /// token that is used again is looked at by itself; this is for those that are not, and may be called at any time.
    ///
    /// # Errors
    ///
    /// When the database cannot be read or written.
    ///
    /// # Blocking
    ///
    /// Reads all tokens if such a policy is set.
    pub fn revoke_idle(&self) -> Result<usize, store::Error> {
        let policies = self.policies()?;
        let Some(shortest) = policies.revoke_unused_min() else {
            return Ok(0);
        };
        // What was used a moment ago may not be written yet.
        self.flush();
        let now = self.0.options.clock.now();
        let mut count = 0;
        let mut last: Option<TokenId> = None;
        loop {
            let store = &self.0.store;
            let page = store.idle_tokens(shortest.before(now), now, last.as_ref(), SWEEP_COUNT_MAX)?;
            let Some(end) = page.last() else {
                if count > 0 {
                    tracing::info!(count, "tokens that nobody used are revoked");
                }
                return Ok(count);
            };
            last = Some(end.id.clone());
            let idle: Vec<(TokenId, Timestamp)> = page
                .into_iter()
                .filter_map(|token| Some((token.id.clone(), policies.idle_too_long(&token, now)?)))
                .collect();
            if !idle.is_empty() {
                count += store.revoke_idle_tokens(&Actor::Server, &idle)?.len();
            }
        }
    }
}

impl Verified {
    /// Since when a token that is used now must not have been unused; None if it has been used since.
    pub(super) fn idle_since(&self, noted_at: i64, now: Timestamp) -> Option<Timestamp> {
        let since = self.revoke_unused?.before(now);
        let last = noted_at.max(self.token_made_at.as_second());
        (last <= since.as_second()).then_some(since)
    }

    /// Holds a use of the token against the policies of the collection that `repository` is in.
    pub(super) fn require_collection(&self, repository: &RepoPath, now: Timestamp) -> Result<(), Refusal> {
        let used = Used {
            name: &self.token_name,
            id: &self.token_id,
            account: &self.account,
            is_admin: self.is_admin,
            scopes: self.scopes,
            made_at: self.secret_made_at,
        };
        self.book
            .policies
            .check_use(repository.collection(), &used, now)
            .map_err(Refusal::Policy)
    }
}
