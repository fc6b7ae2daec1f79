//! Policies: what an administrator lets tokens be, for the whole server and for collections.
//!
//! **Owns** the meaning of each policy and of several at once: the strictest counts. The server's hold when a token is
//! made, and when a change widens it; a token that breaks one which was made later goes on to its end. A collection's
//! hold at every use there, since a token need not name the collections that it is for; a token that is limited to
//! collections is held against theirs when it is made, too. **Does not know** the gate, HTTP or the command line. Pure
//! but for [`Policies::load`], [`set`] and [`unset`].

mod setting;

use std::collections::HashMap;
use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

pub use setting::{
    ACCOUNTS_COUNT_MAX, ALL, AllowSecret, Creation, DAYS_MAX, Days, Name, Policy, Setting, UnknownName,
    ValueError,
};

use super::scope::Scopes;
use crate::names::{self, AccessPath, Quoted, RefPattern};
use crate::store::{self, Account, Actor, IdleToken, Store, StoredPolicy, Token, TokenId, TokenLimits};

/// The scopes that [`Name::FullScope`] is about. The first includes all others.
const FULL_SCOPES: [&str; 2] = ["app_token", "user_impersonation"];

/// What is set in one place; None is not set there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Level {
    /// The collection, spelled as when its first policy was set; None for the server.
    collection: Option<String>,
    max_lifetime: Option<Days>,
    full_scope: Option<bool>,
    creation: Option<Creation>,
    creation_scopes: Option<Scopes>,
    revoke_unused: Option<Days>,
    revoke_leaked: Option<bool>,
    allow_secret: Option<AllowSecret>,
    alternate_credentials: Option<bool>,
    audit_retention: Option<Days>,
}

impl Level {
    fn apply(&mut self, setting: Setting) {
        match setting {
            Setting::MaxLifetime(days) => self.max_lifetime = Some(days),
            Setting::FullScope(is_allowed) => self.full_scope = Some(is_allowed),
            Setting::Creation(who) => self.creation = Some(who),
            Setting::CreationScopes(scopes) => self.creation_scopes = Some(scopes),
            Setting::RevokeUnused(days) => self.revoke_unused = days,
            Setting::RevokeLeaked(is_on) => self.revoke_leaked = Some(is_on),
            Setting::AllowSecret(who) => self.allow_secret = Some(who),
            Setting::AlternateCredentials(is_on) => self.alternate_credentials = Some(is_on),
            Setting::AuditRetention(days) => self.audit_retention = days,
        }
    }

    fn whose(&self) -> Whose {
        Whose(self.collection.clone())
    }

    fn check_creation(&self, account: &str, is_admin: bool, scopes: Scopes) -> Result<(), Breach> {
        let Some(who) = &self.creation else {
            return Ok(());
        };
        let others = self.creation_scopes.unwrap_or_default();
        if who.includes(account, is_admin) || is_within(scopes, others) {
            return Ok(());
        }
        Err(Breach::Creation {
            account: account.to_owned(),
            who: who.clone(),
            others,
        })
    }

    fn check_full_scope(&self, scopes: Scopes) -> Result<(), Breach> {
        let full = FULL_SCOPES.into_iter().find(|name| scopes.includes(name));
        match (self.full_scope, full) {
            (Some(false), Some(scope)) => Err(Breach::FullScope { scope }),
            _ => Ok(()),
        }
    }
}

/// Whether every scope of `inner` is one of `outer` or included in one.
fn is_within(inner: Scopes, outer: Scopes) -> bool {
    inner
        .to_string()
        .split_ascii_whitespace()
        .all(|name| outer.includes(name))
}

/// All policies that are set, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policies {
    server: Level,
    /// By the name in lower case.
    collections: HashMap<String, Level>,
}

impl Policies {
    /// Reads what is set.
    ///
    /// # Errors
    ///
    /// When the database cannot be read, or holds a value that patgate never writes: half of the policies would be none.
    pub fn load(store: &Store) -> Result<Policies, store::Error> {
        Policies::from_stored(&store.policies()?)
    }

    /// Takes what was read. A name that is unknown, as a newer patgate may have stored it, means nothing.
    ///
    /// # Errors
    ///
    /// [`store::Error::Corrupt`].
    pub fn from_stored(stored: &[StoredPolicy]) -> Result<Policies, store::Error> {
        let mut policies = Policies::default();
        for policy in stored {
            let Ok(name) = policy.name.parse::<Name>() else {
                continue;
            };
            let setting =
                Setting::parse(name, &policy.value).map_err(|_| store::Error::Corrupt("a policy's value"))?;
            let level = match &policy.collection {
                None => &mut policies.server,
                Some(collection) => policies
                    .collections
                    .entry(collection.to_lowercase())
                    .or_insert_with(|| Level {
                        collection: Some(collection.clone()),
                        ..Level::default()
                    }),
            };
            level.apply(setting);
        }
        Ok(policies)
    }

    /// What holds for the whole server.
    pub fn server(&self) -> Rules<'_> {
        Rules {
            server: &self.server,
            collections: Vec::new(),
        }
    }

    /// What holds in a collection.
    pub fn for_collection(&self, collection: &str) -> Rules<'_> {
        Rules {
            server: &self.server,
            collections: self.collection(collection).into_iter().collect(),
        }
    }

    /// What a token with these limits has to bear: the server's policies, and those of all collections that it is
    /// limited to.
    pub fn for_limits(&self, limits: &TokenLimits) -> Rules<'_> {
        let mut collections: Vec<&Level> = Vec::new();
        for path in &limits.paths {
            let level = match path {
                // One of its paths is everything, so it is for no collection in particular.
                AccessPath::Server => return self.server(),
                AccessPath::Collection(collection) | AccessPath::Project(collection, _) => {
                    self.collection(collection)
                }
                AccessPath::Repository(repository) => self.collection(repository.collection()),
            };
            collections.extend(level.filter(|level| {
                !collections
                    .iter()
                    .any(|known| known.collection == level.collection)
            }));
        }
        Rules {
            server: &self.server,
            collections,
        }
    }

    /// The shortest time without use after which any token is revoked.
    pub fn revoke_unused_min(&self) -> Option<Days> {
        std::iter::once(&self.server)
            .chain(self.collections.values())
            .filter_map(|level| level.revoke_unused)
            .min()
    }

    /// The moment since which `token` must have been used to live on at `now`; None if it has been, or need not.
    pub fn idle_too_long(&self, token: &IdleToken, now: Timestamp) -> Option<Timestamp> {
        let since = self.for_limits(&token.limits).revoke_unused()?.before(now);
        (token.since <= since).then_some(since)
    }

    fn collection(&self, collection: &str) -> Option<&Level> {
        // Where no collection has a policy, as on most servers, its name need not be put into lower case.
        if self.collections.is_empty() {
            return None;
        }
        self.collections.get(&collection.to_lowercase())
    }

    /// Holds a token that asks for something in `collection` against what is set for that collection.
    ///
    /// # Errors
    ///
    /// The first policy that it breaks.
    pub fn check_use(&self, collection: &str, token: &Used<'_>, now: Timestamp) -> Result<(), Barred> {
        let Some(level) = self.collection(collection) else {
            return Ok(());
        };
        let check_age = || match level.max_lifetime {
            Some(days) if days.after(token.made_at) <= now => Err(Breach::Lifetime {
                days,
                latest: days.after(token.made_at),
                made_at: token.made_at,
            }),
            _ => Ok(()),
        };
        level
            .check_creation(token.account, token.is_admin, token.scopes)
            .and_then(|()| level.check_full_scope(token.scopes))
            .and_then(|()| check_age())
            .map_err(|breach| Barred {
                collection: level.collection.clone().unwrap_or_default(),
                name: token.name.to_owned(),
                id: token.id.clone(),
                breach: Box::new(breach),
            })
    }
}

/// What holds in one place: of several policies the strictest.
#[derive(Debug, Clone)]
pub struct Rules<'a> {
    server: &'a Level,
    collections: Vec<&'a Level>,
}

impl Rules<'_> {
    fn levels(&self) -> impl Iterator<Item = &Level> {
        std::iter::once(self.server).chain(self.collections.iter().copied())
    }

    /// How long a token may live.
    pub fn max_lifetime(&self) -> Days {
        self.lifetime().0
    }

    /// The same, and who says so.
    fn lifetime(&self) -> (Days, &Level) {
        let server = self.server.max_lifetime.unwrap_or(Days::YEAR);
        self.collections
            .iter()
            .filter_map(|level| Some((level.max_lifetime?, *level)))
            .fold((server, self.server), |strictest, next| {
                if next.0 < strictest.0 { next } else { strictest }
            })
    }

    /// The latest end of a token that was made, or got its secret, at `made_at`.
    pub fn latest_end(&self, made_at: Timestamp) -> Timestamp {
        self.max_lifetime().after(made_at)
    }

    /// Whether tokens may have scopes that open everything.
    pub fn allows_full_scope(&self) -> bool {
        self.levels().all(|level| level.full_scope != Some(false))
    }

    /// Whether `account` may have a token made for it that has `scopes`.
    pub fn allows_creation(&self, account: &Account, scopes: Scopes) -> bool {
        self.levels().all(|level| {
            level
                .check_creation(&account.name, account.is_admin, scopes)
                .is_ok()
        })
    }

    /// After how long without use a token is revoked.
    pub fn revoke_unused(&self) -> Option<Days> {
        self.levels().filter_map(|level| level.revoke_unused).min()
    }

    /// Whether a leaked token is revoked.
    pub fn revoke_leaked(&self) -> bool {
        self.server.revoke_leaked.unwrap_or(true)
    }

    /// Who may push a secret on purpose.
    pub fn allow_secret(&self) -> AllowSecret {
        let server = self.server.allow_secret.unwrap_or(AllowSecret::Administrators);
        self.collections
            .iter()
            .filter_map(|level| level.allow_secret)
            .fold(server, AllowSecret::min)
    }

    /// Whether alternate credentials open anything.
    pub fn alternate_credentials(&self) -> bool {
        self.server.alternate_credentials == Some(true)
            && self
                .collections
                .iter()
                .all(|level| level.alternate_credentials != Some(false))
    }

    /// How long events stay in the audit trail; None is for ever.
    pub fn audit_retention(&self) -> Option<Days> {
        self.server.audit_retention
    }
}

/// Who has set a policy. `Display` is the text for the beginning of a sentence's subject: "this server".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whose(Option<String>);

impl Whose {
    /// The collection; None for the server.
    pub fn collection(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("this server"),
            Some(collection) => write!(f, "the collection '{collection}'"),
        }
    }
}

/// How a token breaks a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Breach {
    /// Its owner is not among those who may have it.
    Creation {
        /// The owner.
        account: String,
        /// Those who may.
        who: Creation,
        /// The scopes that others may have.
        others: Scopes,
    },
    /// It has a scope that opens everything.
    FullScope {
        /// The scope.
        scope: &'static str,
    },
    /// It would live too long, or has.
    Lifetime {
        /// How long it may.
        days: Days,
        /// The last moment that would do.
        latest: Timestamp,
        /// When it was made, or got its secret.
        made_at: Timestamp,
    },
}

/// Why a policy does not let a token be made or widened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Whose policy it is.
    pub whose: Whose,
    /// How the token breaks it.
    pub breach: Box<Breach>,
    /// The present end of a token that is there already.
    pub ends_at: Option<Timestamp>,
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = &self.whose;
        match &*self.breach {
            Breach::Creation { account, who, others } => {
                let is_none = *others == Scopes::default();
                match (*who == Creation::NOBODY, is_none) {
                    (true, true) => write!(f, "{whose} lets no tokens be made"),
                    (true, false) => {
                        write!(f, "{whose} lets tokens be made with these scopes only: {others}")
                    }
                    (false, true) => write!(
                        f,
                        "{whose} lets tokens be made for {who} only, and not for '{account}'"
                    ),
                    (false, false) => write!(
                        f,
                        "{whose} lets tokens be made for {who} only, and for '{account}' with these scopes: {others}"
                    ),
                }
            }
            Breach::FullScope { scope } => write!(
                f,
                "{whose} allows no token with the scope {scope}, which opens everything: name the scopes that it needs"
            ),
            Breach::Lifetime {
                days,
                latest,
                made_at,
            } => {
                let latest_day = date(*latest);
                write!(f, "{whose} lets a token live at most {days} days")?;
                match self.ends_at {
                    None => write!(f, ": give '{days}d' or a date up to {latest_day}"),
                    Some(ends_at) => {
                        write!(f, ", and this one has had its secret since {}: ", date(*made_at))?;
                        if *latest > ends_at {
                            write!(f, "give a date up to {latest_day}, or ")?;
                        }
                        f.write_str("rotate it")
                    }
                }
            }
        }
    }
}

/// A token that asks for something in a collection.
#[derive(Debug, Clone, Copy)]
pub struct Used<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its id.
    pub id: &'a TokenId,
    /// The name of its owner.
    pub account: &'a str,
    /// Whether its owner is an administrator of the server.
    pub is_admin: bool,
    /// Its scopes.
    pub scopes: Scopes,
    /// When it was made, or got its secret.
    pub made_at: Timestamp,
}

/// Why a collection's policy keeps a live token out. `Display` is the whole text for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barred {
    /// The collection, whose owner may see something in it.
    pub collection: String,
    /// The token's name.
    pub name: String,
    /// The token's id.
    pub id: TokenId,
    /// The policy that it breaks.
    pub breach: Box<Breach>,
}

impl std::error::Error for Barred {}

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Barred {
            collection,
            name,
            id,
            breach,
        } = self;
        match &**breach {
            Breach::Creation { who, .. } if *who == Creation::NOBODY => write!(
                f,
                "The collection '{collection}' takes no tokens, such as '{name}'. Ask an administrator of this server \
                 whether that can change."
            ),
            Breach::Creation { account, who, .. } => write!(
                f,
                "The collection '{collection}' takes tokens of {who} only, and the token '{name}' belongs to \
                 '{account}'. Ask an administrator of this server whether that can change."
            ),
            Breach::FullScope { scope } => write!(
                f,
                "The collection '{collection}' takes no token with the scope {scope}, as '{name}' has it. Give it the \
                 scopes that it needs instead, such as: patgate token update {id} --scope vso.code_write"
            ),
            Breach::Lifetime { days, .. } => write!(
                f,
                "The collection '{collection}' takes a token for {days} days after it got its secret, and '{name}' is \
                 older. Give it a new one: patgate token rotate {id}"
            ),
        }
    }
}

fn date(moment: Timestamp) -> Date {
    moment.to_zoned(TimeZone::UTC).date()
}

/// Holds a token that is to be made against the server's policies and those of the collections that it is limited to.
/// That it ends after `now` is for the caller to see to.
///
/// # Errors
///
/// The first policy that it breaks; who may make tokens comes before what they may be.
pub fn check_create(
    policies: &Policies,
    account: &Account,
    scopes: Scopes,
    limits: &TokenLimits,
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<(), Refusal> {
    let rules = policies.for_limits(limits);
    check_kind(&rules, account, scopes, None)?;
    check_lifetime(&rules, expires_at, now, None)
}

/// What is to change about a token; None leaves it as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change<'a> {
    /// New scopes.
    pub scopes: Option<Scopes>,
    /// New limits.
    pub limits: Option<&'a TokenLimits>,
    /// A new end.
    pub expires_at: Option<Timestamp>,
}

/// Holds a change of a token against the policies, as far as it widens the token: new scopes are held as those of a new
/// token, and wider limits or a later end as if all of it were made anew. What narrows a token is always allowed, and so
/// is a new secret that keeps its end.
///
/// `made_at` is when the token got its secret; for a rotation that is now.
///
/// # Errors
///
/// The first policy that it breaks.
pub fn check_change(
    policies: &Policies,
    account: &Account,
    before: &Token,
    change: &Change<'_>,
    made_at: Timestamp,
) -> Result<(), Refusal> {
    let rules = policies.for_limits(change.limits.unwrap_or(&before.limits));
    let ends_at = Some(before.expires_at);
    let had = Scopes::parse_known(&before.scopes);
    let has = change.scopes.unwrap_or(had);
    let later = change.expires_at.filter(|&end| end > before.expires_at);
    let has_wider_limits = change
        .limits
        .is_some_and(|limits| !is_narrower(limits, &before.limits));
    if later.is_some() || has_wider_limits {
        check_kind(&rules, account, has, ends_at)?;
    } else if let Some(added) = without(has, had) {
        check_kind(&rules, account, added, ends_at)?;
    }
    match later {
        Some(end) => check_lifetime(&rules, end, made_at, ends_at),
        None => Ok(()),
    }
}

/// Brings the end that is asked for a token down to the latest that the policies allow, as Azure DevOps does.
///
/// `made_at` is when the token got its secret, and `before` its present end, for a token that is there: that one is
/// never cut short by a policy.
pub fn clamp(
    policies: &Policies,
    limits: &TokenLimits,
    made_at: Timestamp,
    before: Option<Timestamp>,
    expires_at: Timestamp,
) -> Timestamp {
    let latest = policies.for_limits(limits).latest_end(made_at);
    expires_at.min(before.map_or(latest, |before| before.max(latest)))
}

fn check_kind(
    rules: &Rules<'_>,
    account: &Account,
    scopes: Scopes,
    ends_at: Option<Timestamp>,
) -> Result<(), Refusal> {
    for level in rules.levels() {
        level
            .check_creation(&account.name, account.is_admin, scopes)
            .and_then(|()| level.check_full_scope(scopes))
            .map_err(|breach| Refusal {
                whose: level.whose(),
                breach: Box::new(breach),
                ends_at,
            })?;
    }
    Ok(())
}

fn check_lifetime(
    rules: &Rules<'_>,
    expires_at: Timestamp,
    made_at: Timestamp,
    ends_at: Option<Timestamp>,
) -> Result<(), Refusal> {
    let (days, level) = rules.lifetime();
    let latest = days.after(made_at);
    if expires_at <= latest {
        return Ok(());
    }
    Err(Refusal {
        whose: level.whose(),
        breach: Box::new(Breach::Lifetime {
            days,
            latest,
            made_at,
        }),
        ends_at,
    })
}

/// The scopes of `has` that are not in `had`; None if there are none.
fn without(has: Scopes, had: Scopes) -> Option<Scopes> {
    let text = has.to_string();
    let added: Vec<&str> = text
        .split_ascii_whitespace()
        .filter(|name| !had.includes(name))
        .collect();
    (!added.is_empty()).then(|| Scopes::parse_known(&added.join(" ")))
}

/// Whether a token with the limits `inner` opens nothing that one with `outer` does not.
pub(super) fn is_narrower(inner: &TokenLimits, outer: &TokenLimits) -> bool {
    fn each_within<T>(inner: &[T], outer: &[T], is_within: impl Fn(&T, &T) -> bool) -> bool {
        outer.is_empty()
            || (!inner.is_empty()
                && inner
                    .iter()
                    .all(|inner| outer.iter().any(|outer| is_within(inner, outer))))
    }
    let path = |inner: &AccessPath, outer: &AccessPath| {
        let (inner, outer) = (inner.key(), outer.key());
        outer.is_empty()
            || inner
                .strip_prefix(&outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // A pattern within another one is not worked out: it counts as wider, and is held against the policies.
    let pattern = |inner: &RefPattern, outer: &RefPattern| {
        let name = inner.to_string();
        inner == outer || (!name.contains('*') && outer.matches(name.as_bytes()))
    };
    each_within(&inner.paths, &outer.paths, path)
        && each_within(&inner.refs, &outer.refs, pattern)
        && each_within(&inner.networks, &outer.networks, |inner, outer| {
            outer.contains(inner)
        })
}

/// Why a policy was not set or taken back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No collection can have this name.
    #[error("the collection {} {reason}", Quoted(.collection))]
    Collection {
        /// The name.
        collection: String,
        /// The rule that it breaks.
        reason: names::Error,
    },
    /// The policy is for the whole server.
    #[error("the policy '{0}' holds for the whole server, and cannot be set for a collection")]
    ServerOnly(Name),
    /// The store refused, or an account that is named is not there.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Sets a policy for a collection or the whole server, and returns the value that it had there. It need not be one
/// that holds anything yet.
///
/// # Errors
///
/// When the policy is not for collections, or an account that it names does not exist.
pub fn set(
    store: &Store,
    actor: &Actor,
    collection: Option<&str>,
    setting: &Setting,
) -> Result<Option<String>, Error> {
    check_place(setting.name(), collection)?;
    let value = match setting {
        Setting::Creation(who) => Setting::Creation(spelled(store, who)?).to_string(),
        other => other.to_string(),
    };
    Ok(store.set_policy(actor, collection, setting.name().as_str(), &value)?)
}

/// The same accounts with their names as they are kept; all of them must be there.
fn spelled(store: &Store, who: &Creation) -> Result<Creation, store::Error> {
    let mut who = who.clone();
    if let Creation::Only { accounts, .. } = &mut who {
        for name in accounts {
            let account = store.find_account(name)?;
            *name = account
                .ok_or_else(|| store::Error::AccountNotFound { name: name.clone() })?
                .name;
        }
    }
    Ok(who)
}

/// Takes a policy back, so that its default holds, and returns the value that it had.
///
/// # Errors
///
/// [`store::Error::PolicyNotFound`] if it is not set there.
pub fn unset(store: &Store, actor: &Actor, collection: Option<&str>, name: Name) -> Result<String, Error> {
    check_place(name, collection)?;
    Ok(store.remove_policy(actor, collection, name.as_str())?)
}

fn check_place(name: Name, collection: Option<&str>) -> Result<(), Error> {
    let Some(collection) = collection else {
        return Ok(());
    };
    names::check(collection).map_err(|reason| Error::Collection {
        collection: collection.to_owned(),
        reason,
    })?;
    if !name.policy().is_for_collections {
        return Err(Error::ServerOnly(name));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
