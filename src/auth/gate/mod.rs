//! The one way in: who asks, and may they.

mod alternate;
mod api;
mod book;
mod limits;
mod noted;
mod trail;
mod visible;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use self::alternate::Alternate;
use self::book::Book;
use self::noted::Noted;
use super::client::Client;
use super::clock::Clock;
use super::credential::{self, Credential};
use super::grant::{Fetch, Grant, Push, Terms};
use super::policy::Days;
use super::recorder::Recorder;
use super::refusal::{Refusal, RefusalKind};
use super::scope::{Operation, Scopes};
use super::sign_in::{self, SignedIn};
use super::throttle::{self, Throttle};
use super::token::PlainToken;
use super::trail::Trail;
use super::verifier::Verifier;
use crate::names::RepoPath;
use crate::secret::Secret;
use crate::store::{
    Account, AccountId, Actor, Requester, Role, Store, Token, TokenHash, TokenId, TokenLimits,
};

/// Verified tokens that are kept in memory at most.
const TOKENS_COUNT_MAX: usize = 4096;

/// Repositories whose role is kept in memory, for each token and for anonymous readers. With some 300 bytes each, a
/// full cache takes 80 MB.
const ROLES_COUNT_MAX: usize = 64;

/// Days before its end from which on a token's holder is told of it.
const NOTICE_DAYS: i64 = 7;

/// How the gate behaves.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether public repositories can be fetched without a token.
    pub allow_anonymous_read: bool,
    /// How much failing is borne.
    pub throttle: throttle::Settings,
    /// What time it is.
    pub clock: Clock,
}

/// Who is asking: the owner of a live token, somebody with an alternate credential, or an anonymous reader.
#[derive(Clone)]
pub struct Principal {
    verified: Option<Arc<Verified>>,
    /// Only where there is no token.
    alternate: Option<Arc<Alternate>>,
    client: Client,
}

impl Principal {
    /// Name of the account; None for an anonymous reader.
    pub fn account(&self) -> Option<&str> {
        match (&self.verified, &self.alternate) {
            (Some(verified), _) => Some(verified.account.as_str()),
            (None, Some(alternate)) => Some(alternate.account.name.as_str()),
            (None, None) => None,
        }
    }

    /// Public id of the token; None for an anonymous reader and an alternate credential.
    pub fn token_id(&self) -> Option<&str> {
        self.verified
            .as_deref()
            .map(|verified| verified.token_id.as_str())
    }

    /// The token; None for an anonymous reader and an alternate credential.
    pub fn token(&self) -> Option<&TokenId> {
        self.verified.as_deref().map(|verified| &verified.token_id)
    }

    /// The digest of the token's secret that was presented, the present one or one whose overlap runs; None for an anonymous
    /// reader and an alternate credential.
    pub fn presented(&self) -> Option<&TokenHash> {
        self.verified.as_deref().map(|verified| &verified.hash)
    }

    /// What the token was called when it was checked; None for an anonymous reader and an alternate credential.
    pub fn token_name(&self) -> Option<&str> {
        self.verified
            .as_deref()
            .map(|verified| verified.token_name.as_str())
    }

    /// The scopes of the token when it was checked, or those of alternate credentials; none for an anonymous reader.
    pub fn scopes(&self) -> Scopes {
        match (&self.verified, &self.alternate) {
            (Some(verified), _) => verified.scopes,
            (None, Some(_)) => super::alternate::scopes(),
            (None, None) => Scopes::default(),
        }
    }

    /// What the token was limited to when it was checked; None for an anonymous reader and an alternate credential.
    pub fn limits(&self) -> Option<&TokenLimits> {
        self.verified.as_deref().map(|verified| &verified.limits)
    }

    /// The account's number; None for an anonymous reader.
    pub fn account_id(&self) -> Option<AccountId> {
        match (&self.verified, &self.alternate) {
            (Some(verified), _) => Some(verified.account_id),
            (None, Some(alternate)) => Some(alternate.account.id),
            (None, None) => None,
        }
    }

    /// Whether the account was an administrator of the server when its credential was checked.
    pub fn is_admin(&self) -> bool {
        match (&self.verified, &self.alternate) {
            (Some(verified), _) => verified.is_admin,
            (None, Some(alternate)) => alternate.account.is_admin,
            (None, None) => false,
        }
    }

    /// Where the request came from.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Who the audit trail says it was.
    pub fn actor(&self) -> Actor {
        Actor::Client(match (&self.verified, &self.alternate) {
            (None, Some(alternate)) => alternate.requester(&self.client),
            (verified, _) => requester(verified.as_deref(), &self.client),
        })
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("account", &self.account())
            .field("token_id", &self.token_id())
            .finish()
    }
}

/// A token that the store knew, that was not revoked and whose owner was not disabled at one generation.
struct Verified {
    hash: TokenHash,
    token_id: TokenId,
    token_name: String,
    scopes: Scopes,
    expires_at: Timestamp,
    /// When the secret ends: with the token, or before it when the secret was replaced.
    ends_at: Timestamp,
    limits: TokenLimits,
    account: String,
    account_id: AccountId,
    is_admin: bool,
    rights: Rights,
    /// What is decided about all tokens.
    book: Arc<Book>,
    /// When this secret was made.
    secret_made_at: Timestamp,
    /// When the token got its present secret, which may be another.
    token_made_at: Timestamp,
    /// After how long without use it is revoked.
    revoke_unused: Option<Days>,
    /// Shared with the entry that replaces this one.
    noted: Arc<Noted>,
}

/// What a digest opens at one moment.
struct Found {
    token: Token,
    account: Account,
    /// When the secret was made.
    secret_made_at: Timestamp,
    /// When the secret ends.
    ends_at: Timestamp,
}

/// Roles on repositories, as of one generation of the store or a later one.
#[derive(Debug)]
struct Rights {
    generation: u64,
    roles: Mutex<HashMap<RepoPath, Option<Role>>>,
}

impl Rights {
    fn new(generation: u64) -> Rights {
        Rights {
            generation,
            roles: Mutex::new(HashMap::new()),
        }
    }

    fn known_role(&self, repository: &RepoPath) -> Option<Option<Role>> {
        lock(&self.roles).get(repository).copied()
    }

    fn role_on(
        &self,
        store: &Store,
        account: Option<AccountId>,
        repository: &RepoPath,
    ) -> Result<Option<Role>, Refusal> {
        if let Some(role) = self.known_role(repository) {
            return Ok(role);
        }
        let role = store.role_on(account, repository)?;
        let mut roles = lock(&self.roles);
        if roles.len() >= ROLES_COUNT_MAX {
            roles.clear();
        }
        roles.insert(repository.clone(), role);
        Ok(role)
    }
}

/// The gate; clones share it.
///
/// An answer about a token that was seen before costs microseconds: the store is asked whether anything changed, and
/// if nothing did, memory answers. Any change, by this process or another, voids what memory holds.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    store: Store,
    options: Options,
    throttle: Throttle,
    verifier: Verifier,
    recorder: Recorder,
    trail: Trail,
    tokens: Mutex<HashMap<TokenHash, Arc<Verified>>>,
    everyone: Mutex<Arc<Rights>>,
    book: Mutex<Arc<Book>>,
    /// The date and the elapsed time at the last sweep.
    swept_at: Mutex<Option<(Timestamp, Duration)>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// Makes a gate for the accounts of `store`, and starts the thread that writes uses of tokens and events.
    pub fn new(store: Store, options: Options) -> Gate {
        let recorder = Recorder::start(store.clone());
        Gate(Arc::new(Inner {
            throttle: Throttle::new(options.throttle.clone()),
            verifier: Verifier::new(),
            trail: Trail::new(recorder.clone(), options.clock.clone()),
            recorder,
            tokens: Mutex::new(HashMap::new()),
            // Generations begin at 1, so this one is replaced at the first question.
            everyone: Mutex::new(Arc::new(Rights::new(0))),
            book: Mutex::default(),
            swept_at: Mutex::default(),
            store,
            options,
        }))
    }

    /// The store behind the gate.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// What time it is, as the gate sees it.
    pub fn clock(&self) -> &Clock {
        &self.0.options.clock
    }

    /// Writes what is left of uses and events. Later uses are not noted. Dropping the last clone does the same.
    pub fn shutdown(&self) {
        self.0.trail.flush();
        self.0.recorder.stop();
    }

    /// Waits until every use of a token and every event so far is written.
    pub fn flush(&self) {
        self.0.recorder.flush();
    }

    /// Tells who asks, by the value of the `Authorization` header as it was received.
    ///
    /// A credential that is no live token counts as a failure of `client`; after too many of them only tokens that
    /// this gate has seen alive before get an answer other than [`Refusal::Throttled`]. A missing one is no failure,
    /// because git's first request never has one.
    ///
    /// # Errors
    ///
    /// A refusal of kind `Unauthorized`, `TooManyRequests` or `Internal`, and [`Refusal::NetworkNotAllowed`].
    ///
    /// # Blocking
    ///
    /// Microseconds for a token that is known; else the database is read.
    pub fn authenticate(
        &self,
        authorization: Option<&[u8]>,
        client: impl Into<Client>,
    ) -> Result<Principal, Refusal> {
        let client = client.into();
        self.identify(authorization, client.clone())
            .inspect_err(|refusal| self.note_refused_credential(&client, refusal))
    }

    fn identify(&self, authorization: Option<&[u8]>, client: Client) -> Result<Principal, Refusal> {
        let address = client.address;
        let Some(authorization) = authorization else {
            return if self.0.options.allow_anonymous_read {
                Ok(Principal {
                    verified: None,
                    alternate: None,
                    client,
                })
            } else {
                Err(Refusal::CredentialMissing)
            };
        };
        let credential = credential::parse(authorization);
        if let Ok(credential) = &credential
            && let Some(outcome) = self.authenticate_alternate(credential, &client)
        {
            return outcome;
        }
        let hash = hash_of(credential);
        // Whoever sends a token that was alive a moment ago does not guess. Without this, one neighbour behind the
        // same address could shut everybody out.
        let known = hash
            .as_ref()
            .ok()
            .and_then(|hash| lock(&self.0.tokens).get(hash).cloned());
        if known.is_none()
            && let Some(wait) = self.0.throttle.wait(address, self.0.options.clock.elapsed())
        {
            return Err(Refusal::Throttled { wait });
        }
        let verified = hash
            .and_then(|hash| self.verify(&hash, known, Some(&client)))
            .inspect_err(|refusal| {
                if refusal.kind() == RefusalKind::Unauthorized {
                    self.0.trail.failed(&self.0.throttle, &client);
                }
            })?;
        verified.require_network(address)?;
        Ok(Principal {
            verified: Some(verified),
            alternate: None,
            client,
        })
    }

    /// Lets somebody in by the name and the password of an account, for what no token may do.
    ///
    /// Failures count for the address, for the name from that address and, more laxly, for the name from whatever address. A right password opens until anything
    /// changes, and a minute at most, without being verified again.
    ///
    /// # Errors
    ///
    /// [`Refusal::SignInFailed`] for a wrong password, a name that nobody has and a disabled account alike;
    /// [`Refusal::PasswordMustChange`], [`Refusal::PasswordNeeded`], or a refusal of kind `TooManyRequests` or
    /// `Internal`.
    ///
    /// # Blocking
    ///
    /// Tens of milliseconds, and until the passwords before this one are verified.
    pub fn sign_in(
        &self,
        name: &str,
        password: &Secret,
        client: impl Into<Client>,
    ) -> Result<SignedIn, Refusal> {
        let door = sign_in::Door {
            store: &self.0.store,
            throttle: &self.0.throttle,
            verifier: &self.0.verifier,
            trail: &self.0.trail,
            clock: &self.0.options.clock,
        };
        sign_in::sign_in(&door, name, password, client.into())
    }

    /// What holds now for somebody who has signed in: to be asked before something is done for which the request took
    /// long to arrive. The password is not verified again; it holds as long as the account has the same.
    ///
    /// # Errors
    ///
    /// [`Refusal::SignInFailed`] where the account is gone or disabled or has another password,
    /// [`Refusal::PasswordMustChange`], or a refusal of kind `Internal`.
    ///
    /// # Blocking
    ///
    /// Reads the database if something changed.
    pub fn sign_in_again(&self, signed_in: &SignedIn) -> Result<SignedIn, Refusal> {
        sign_in::sign_in_again(&self.0.store, signed_in)
    }

    /// Decides whether `principal` may fetch. `located` is the repository as it is spelled on disk, None where there is
    /// none by the name that was asked for.
    ///
    /// The decision is made by what the store says now, whatever it said when the principal was authenticated; so it
    /// can be asked again before something is made final.
    ///
    /// # Errors
    ///
    /// Any kind of refusal but `TooManyRequests`.
    pub fn authorize_fetch(
        &self,
        principal: &Principal,
        located: Option<&RepoPath>,
    ) -> Result<Grant<Fetch>, Refusal> {
        self.authorize(principal, located, Operation::Fetch, Role::Reader)
    }

    /// Decides whether `principal` may push; otherwise as [`Gate::authorize_fetch`].
    ///
    /// # Errors
    ///
    /// Any kind of refusal but `TooManyRequests`.
    pub fn authorize_push(
        &self,
        principal: &Principal,
        located: Option<&RepoPath>,
    ) -> Result<Grant<Push>, Refusal> {
        self.authorize(principal, located, Operation::Push, Role::Contributor)
    }

    /// The order of the checks decides what is given away: a token without any right on code learns nothing about
    /// which repositories there are, and neither does one that is limited to other paths or networks, or an owner
    /// without a role.
    fn authorize<Op>(
        &self,
        principal: &Principal,
        located: Option<&RepoPath>,
        operation: Operation,
        needs: Role,
    ) -> Result<Grant<Op>, Refusal> {
        if let Some(alternate) = &principal.alternate {
            return self.authorize_alternate(alternate, &principal.client, located, needs);
        }
        let Some(verified) = &principal.verified else {
            return self.authorize_anonymous(&principal.client, located, needs);
        };
        let verified = self.verify_again(verified, &principal.client)?;
        let reading = match operation {
            Operation::Fetch | Operation::Push => Operation::Fetch,
            _ => Operation::ReadRepositories,
        };
        if !verified.scopes.allows(reading) {
            return Err(verified.scope_too_small(operation));
        }
        let repository = located.ok_or(Refusal::NotFound)?;
        verified.require_path(repository)?;
        let has = self.role_of(&verified, repository)?.ok_or(Refusal::NotFound)?;
        verified.require_collection(repository, self.0.options.clock.now())?;
        if !verified.scopes.allows(operation) {
            return Err(verified.scope_too_small(operation));
        }
        if operation == Operation::Manage {
            verified.require_all_refs()?;
        }
        if has < needs {
            let account = verified.account.clone();
            return Err(Refusal::RoleTooSmall {
                account,
                repository: repository.clone(),
                has,
                needs,
            });
        }
        let terms = Terms {
            requester: requester(Some(&verified), &principal.client),
            refs: verified.limits.refs.clone(),
            notice: self.expiry_notice(&verified),
        };
        self.note_use(&verified, &principal.client, operation, Some(repository));
        Ok(Grant::new(repository.clone(), terms))
    }

    /// What holds for the token of a principal now, if it may still be used from where it is.
    fn verify_again(&self, verified: &Arc<Verified>, client: &Client) -> Result<Arc<Verified>, Refusal> {
        // What is known by now may be newer: who is asked about again and again costs one look-up a change.
        let known = lock(&self.0.tokens).get(&verified.hash).cloned();
        let known = known.unwrap_or_else(|| Arc::clone(verified));
        let verified = self.verify(&verified.hash, Some(known), None)?;
        verified.require_network(client.address)?;
        Ok(verified)
    }

    fn role_of(&self, verified: &Verified, repository: &RepoPath) -> Result<Option<Role>, Refusal> {
        if verified.is_admin {
            return Ok(Some(Role::Administrator));
        }
        verified
            .rights
            .role_on(&self.0.store, Some(verified.account_id), repository)
    }

    /// An anonymous reader may fetch what is public. Everything else is answered as if nothing had been asked for, so
    /// that nobody without a token learns which other repositories there are.
    fn authorize_anonymous<Op>(
        &self,
        client: &Client,
        located: Option<&RepoPath>,
        needs: Role,
    ) -> Result<Grant<Op>, Refusal> {
        let repository = located
            .filter(|_| self.0.options.allow_anonymous_read)
            .ok_or(Refusal::CredentialMissing)?;
        match self
            .rights_of_everyone()?
            .role_on(&self.0.store, None, repository)?
        {
            Some(role) if role >= needs => {
                let terms = Terms {
                    requester: requester(None, client),
                    ..Terms::default()
                };
                Ok(Grant::new(repository.clone(), terms))
            }
            _ => Err(Refusal::CredentialMissing),
        }
    }

    fn rights_of_everyone(&self) -> Result<Arc<Rights>, Refusal> {
        let generation = self.0.store.generation()?;
        let mut everyone = lock(&self.0.everyone);
        if everyone.generation != generation {
            *everyone = Arc::new(Rights::new(generation));
        }
        Ok(Arc::clone(&everyone))
    }

    /// Returns what holds for a token now: `known` if nothing changed since it was read, else what the store says.
    /// `client` is who has just presented it, and None where the question is about somebody who was let in before.
    fn verify(
        &self,
        hash: &TokenHash,
        known: Option<Arc<Verified>>,
        client: Option<&Client>,
    ) -> Result<Arc<Verified>, Refusal> {
        // Before the token is read: what changes in between makes the entry look older than it is, never newer.
        let generation = self.0.store.generation()?;
        let verified = match known {
            Some(known) if known.rights.generation == generation => known,
            known => self.load(hash, generation, known.as_deref(), client)?,
        };
        let now = self.0.options.clock.now();
        if verified.ends_at <= now {
            lock(&self.0.tokens).remove(hash);
            // Only the secret may have ended, and then it matters that it was used.
            return self.load(hash, generation, Some(&verified), client);
        }
        // Whoever was let in a while ago is no idler.
        if let Some(client) = client
            && let Some(since) = verified.idle_since(verified.noted.last_at(), now)
        {
            self.revoke_if_idle(&verified, since, client)?;
        }
        Ok(verified)
    }

    fn load(
        &self,
        hash: &TokenHash,
        generation: u64,
        before: Option<&Verified>,
        client: Option<&Client>,
    ) -> Result<Arc<Verified>, Refusal> {
        let book = self.book(generation)?;
        let found = self.find(hash, client);
        let verified = match found.and_then(|found| book.require_no_rule(&found).map(|()| found)) {
            Ok(found) => Arc::new(Verified::new(*hash, generation, found, book, before)),
            Err(refusal) => {
                lock(&self.0.tokens).remove(hash);
                return Err(refusal);
            }
        };
        let mut tokens = lock(&self.0.tokens);
        if tokens.len() >= TOKENS_COUNT_MAX && !tokens.contains_key(hash) {
            tokens.retain(|_, verified| verified.rights.generation == generation);
            if tokens.len() > TOKENS_COUNT_MAX / 2 {
                tokens.clear();
            }
        }
        tokens.insert(*hash, Arc::clone(&verified));
        Ok(verified)
    }

    /// Finds what a digest opens at this moment. One that a rotation replaced takes a second look-up.
    fn find(&self, hash: &TokenHash, client: Option<&Client>) -> Result<Found, Refusal> {
        let store = &self.0.store;
        let now = self.0.options.clock.now();
        if let Some((token, account)) = store.find_token_by_hash(hash)? {
            require_alive(&token, &account, now)?;
            return Ok(Found {
                secret_made_at: token.secret_made_at(),
                ends_at: token.expires_at,
                token,
                account,
            });
        }
        let retired = store.find_retired_secret(hash)?.ok_or(Refusal::TokenUnknown)?;
        let is_excused = retired.is_excused(now);
        let token = retired.token;
        require_alive(&token, &retired.account, now)?;
        if let Some(until) = retired.valid_until.filter(|until| now < *until) {
            return Ok(Found {
                secret_made_at: retired.made_at,
                ends_at: token.expires_at.min(until),
                token,
                account: retired.account,
            });
        }
        let Some(client) = client.filter(|_| !is_excused) else {
            // What runs since the secret was good ends with it, but is no use of it afterwards.
            return Err(Refusal::SecretReplaced {
                at: token.rotated_at.unwrap_or(retired.retired_at),
                name: token.name,
                id: token.id,
            });
        };
        // Two have this token: whoever rotated it, and whoever uses what was before.
        let actor = Actor::Client(requester(None, client));
        let token = store.revoke_reused(&actor, hash)?.ok_or(Refusal::TokenUnknown)?;
        Err(revoked(&token).unwrap_or(Refusal::TokenUnknown))
    }

    /// What the holder of a token should hear when it ends soon.
    fn expiry_notice(&self, verified: &Verified) -> Option<String> {
        let left = verified.expires_at.duration_since(self.0.options.clock.now());
        if left > SignedDuration::from_hours(24 * NOTICE_DAYS) {
            return None;
        }
        let when = match left.as_hours() / 24 {
            0 => "in less than a day".to_owned(),
            1 => "in 1 day".to_owned(),
            days => format!("in {days} days"),
        };
        Some(format!(
            "token '{}' expires {when}; rotate it with 'patgate token rotate {}'",
            verified.token_name, verified.token_id
        ))
    }
}

impl Verified {
    fn new(
        hash: TokenHash,
        generation: u64,
        found: Found,
        book: Arc<Book>,
        before: Option<&Verified>,
    ) -> Self {
        let Found {
            token,
            account,
            secret_made_at,
            ends_at,
        } = found;
        Verified {
            hash,
            secret_made_at,
            token_made_at: token.secret_made_at(),
            revoke_unused: book.policies.for_limits(&token.limits).revoke_unused(),
            book,
            noted: before.map_or_else(
                || Arc::new(Noted::new(&token)),
                |before| Arc::clone(&before.noted),
            ),
            token_id: token.id,
            token_name: token.name,
            scopes: Scopes::parse_known(&token.scopes),
            expires_at: token.expires_at,
            ends_at,
            limits: token.limits,
            account: account.name,
            account_id: account.id,
            is_admin: account.is_admin,
            rights: Rights::new(generation),
        }
    }
}

fn requester(verified: Option<&Verified>, client: &Client) -> Requester {
    Requester {
        token: verified.map(|verified| verified.token_id.clone()),
        ..client.requester(verified.map(|verified| verified.account.clone()))
    }
}

/// Takes a token out of the header; one with a wrong checksum never reaches the store.
fn hash_of(credential: Result<Credential, credential::Error>) -> Result<TokenHash, Refusal> {
    Ok(PlainToken::parse(credential?.secret().expose())?.hash())
}

fn require_alive(token: &Token, account: &Account, now: Timestamp) -> Result<(), Refusal> {
    if let Some(refusal) = revoked(token) {
        return Err(refusal);
    }
    if account.is_disabled {
        return Err(Refusal::AccountDisabled {
            id: token.id.clone(),
            account: account.name.clone(),
        });
    }
    if token.expires_at <= now {
        return Err(Refusal::TokenExpired {
            name: token.name.clone(),
            id: token.id.clone(),
            at: token.expires_at,
        });
    }
    Ok(())
}

fn revoked(token: &Token) -> Option<Refusal> {
    token.revoked_at.map(|at| Refusal::TokenRevoked {
        name: token.name.clone(),
        id: token.id.clone(),
        at,
        because: token.revoked_because,
    })
}

/// Nothing that is held under these locks is left half-changed by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
