//! Tokens, as they are kept: everything but the secret.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use super::{Account, AccountId};
use crate::names::{AccessPath, RefPattern, RepoPath};

/// The SHA-256 of a whole token, which is all that is kept of it. Compares in constant time.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Wraps a digest.
    pub fn new(digest: [u8; 32]) -> Self {
        TokenHash(digest)
    }

    /// The digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl std::hash::Hash for TokenHash {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// The public part of a token: 8 letters and digits that name it in lists, logs and commands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(String);

/// Length of a [`TokenId`] in bytes.
pub use crate::secret::TOKEN_ID_BYTES;

/// Says that a text is not the id of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token id is 8 letters and digits, as 'patgate token list' shows it")]
pub struct TokenIdError;

impl TokenId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenId {
    type Err = TokenIdError;

    fn from_str(text: &str) -> Result<Self, TokenIdError> {
        if text.len() == TOKEN_ID_BYTES && text.bytes().all(|b| b.is_ascii_alphanumeric()) {
            Ok(TokenId(text.to_owned()))
        } else {
            Err(TokenIdError)
        }
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a token is limited to, beyond its scopes and its owner's rights. An empty list limits nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenLimits {
    /// Collections, projects and repositories that it opens.
    pub paths: Vec<AccessPath>,
    /// Refs that it may push to.
    pub refs: Vec<RefPattern>,
    /// Networks that it may be used from.
    pub networks: Vec<IpNet>,
}

impl TokenLimits {
    /// No limits.
    pub const NONE: TokenLimits = TokenLimits {
        paths: Vec::new(),
        refs: Vec::new(),
        networks: Vec::new(),
    };

    /// Entries of each list at most.
    pub const EACH_COUNT_MAX: usize = 100;

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.refs.is_empty() && self.networks.is_empty()
    }

    /// Whether it opens `repository`.
    pub fn allow_path(&self, repository: &RepoPath) -> bool {
        self.paths.is_empty() || {
            let above = AccessPath::keys_above(repository);
            self.paths.iter().any(|path| above.contains(&path.key()))
        }
    }

    /// Whether it may push to the ref of this full name.
    pub fn allow_ref(&self, name: &[u8]) -> bool {
        self.refs.is_empty() || self.refs.iter().any(|pattern| pattern.matches(name))
    }

    /// Whether it may be used from `address`.
    pub fn allow_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.is_empty() || self.networks.iter().any(|network| network.contains(&address))
    }

    /// The limits as the JSON object that is kept, listed and sent: `paths`, `refs` and `networks`, arrays of strings.
    pub fn to_json(&self) -> Value {
        fn strings<T: fmt::Display>(items: &[T]) -> Value {
            items.iter().map(ToString::to_string).collect()
        }
        json!({
            "paths": strings(&self.paths),
            "refs": strings(&self.refs),
            "networks": strings(&self.networks),
        })
    }

    /// Gives the limit that names the repository `from` its new name; tells whether there is one.
    pub(in crate::store) fn rename(&mut self, from: &RepoPath, to: &RepoPath) -> bool {
        let (old, new) = (from.key(), to.key());
        if !self.paths.iter().any(|path| path.key() == old) {
            return false;
        }
        self.paths.retain(|path| path.key() != old && path.key() != new);
        self.paths.push(AccessPath::Repository(to.clone()));
        true
    }

    /// Reads what [`TokenLimits::to_json`] wrote; None if anything of it cannot be read, because half of the limits
    /// would be none.
    pub(in crate::store) fn from_json(text: &str) -> Option<TokenLimits> {
        fn list<T>(value: &Value, field: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
            let items = value.get(field)?.as_array()?;
            items.iter().map(|item| parse(item.as_str()?)).collect()
        }
        let value: Value = serde_json::from_str(text).ok()?;
        Some(TokenLimits {
            paths: list(&value, "paths", |text| AccessPath::parse(text).ok())?,
            refs: list(&value, "refs", |text| RefPattern::parse(text).ok())?,
            networks: list(&value, "networks", |text| text.parse().ok())?,
        })
    }
}

/// A token to be kept.
#[derive(Debug)]
pub struct NewToken<'a> {
    /// Its public id.
    pub id: &'a TokenId,
    /// The digest that it is found by.
    pub hash: &'a TokenHash,
    /// Its owner.
    pub account: AccountId,
    /// What it is for; see [`check_label`](super::check_label).
    pub name: &'a str,
    /// Names of scopes, separated by spaces. The store does not know what they mean.
    pub scopes: &'a str,
    /// The first moment at which it opens nothing any more.
    pub expires_at: Timestamp,
    /// What it is limited to besides.
    pub limits: &'a TokenLimits,
}

/// Everything about a token but its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its public id.
    pub id: TokenId,
    /// The name of its owner.
    pub account: String,
    /// What it is for.
    pub name: String,
    /// Names of scopes, separated by spaces.
    pub scopes: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The first moment at which it opens nothing any more.
    pub expires_at: Timestamp,
    /// What it is limited to besides.
    pub limits: TokenLimits,
    /// When it got its present secret, if that is not its first.
    pub rotated_at: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// Why it was revoked, if it was and somebody said.
    pub revoked_because: Option<RevokeReason>,
    /// When it last opened something; up to a minute late.
    pub last_used_at: Option<Timestamp>,
    /// The address that it was last used from.
    pub last_used_from: Option<IpAddr>,
    /// The `User-Agent` that it was last used with; a claim of the client.
    pub last_used_with: Option<String>,
    /// What it was last used for, such as `fetch DefaultCollection/Web/Web`.
    pub last_used_for: Option<String>,
}

/// Whether a token opens anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenState {
    /// It does, if its owner is not disabled.
    Active,
    /// It has come to its end.
    Expired,
    /// It was revoked, before or after its end.
    Revoked,
}

impl TokenState {
    /// All of them, in the order of [`TokenOrder::State`].
    pub const ALL: [TokenState; 3] = [TokenState::Active, TokenState::Expired, TokenState::Revoked];

    /// The state as lists show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            TokenState::Active => "active",
            TokenState::Expired => "expired",
            TokenState::Revoked => "revoked",
        }
    }
}

impl Token {
    /// When it got its present secret.
    pub fn secret_made_at(&self) -> Timestamp {
        self.rotated_at.unwrap_or(self.created_at)
    }

    /// Whether what it opens, and until when, is as it was in `before`; its name and its uses may differ.
    pub(in crate::store) fn opens_as(&self, before: &Token) -> bool {
        self.scopes == before.scopes
            && self.limits == before.limits
            && self.expires_at == before.expires_at
            && self.rotated_at == before.rotated_at
    }

    /// Whether it opens anything at the moment `now`.
    pub fn state(&self, now: Timestamp) -> TokenState {
        if self.revoked_at.is_some() {
            TokenState::Revoked
        } else if self.expires_at <= now {
            TokenState::Expired
        } else {
            TokenState::Active
        }
    }
}

/// Why a token was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RevokeReason {
    /// An administrator of the server did it.
    Administrator,
    /// Its owner, or the program that holds it, did it.
    Asked,
    /// It was found where others could read it.
    Leaked,
    /// Another one was made in its place.
    Replaced,
    /// A secret of it was used that a rotation had replaced.
    Reused,
    /// It was not used for longer than the server bears.
    Unused,
}

impl RevokeReason {
    /// All of them.
    pub const ALL: [RevokeReason; 6] = [
        RevokeReason::Administrator,
        RevokeReason::Asked,
        RevokeReason::Leaked,
        RevokeReason::Replaced,
        RevokeReason::Reused,
        RevokeReason::Unused,
    ];

    /// The reason in one word, as it is kept, listed and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            RevokeReason::Administrator => "administrator",
            RevokeReason::Asked => "asked",
            RevokeReason::Leaked => "leaked",
            RevokeReason::Replaced => "replaced",
            RevokeReason::Reused => "reuse",
            RevokeReason::Unused => "unused",
        }
    }

    /// The reason for a person; fits after "the token was revoked".
    pub const fn explanation(self) -> &'static str {
        match self {
            RevokeReason::Administrator => "by an administrator",
            RevokeReason::Asked => "by its owner",
            RevokeReason::Leaked => "because it was found where others could read it",
            RevokeReason::Replaced => "because another one was made in its place",
            RevokeReason::Reused => {
                "because a secret that a rotation had replaced was used again, so that somebody else may have it"
            }
            RevokeReason::Unused => "because it was not used for too long",
        }
    }
}

impl fmt::Display for RevokeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a page of an account's tokens is made by.
#[derive(Debug, Clone, Copy)]
pub struct TokenPage<'a> {
    /// Whose tokens.
    pub account: AccountId,
    /// In which states, as of `now`.
    pub states: &'a [TokenState],
    /// The moment that decides what has expired.
    pub now: Timestamp,
    /// What comes first.
    pub order: TokenOrder,
    /// Whether the order is turned round.
    pub is_descending: bool,
    /// After which token of the page before this one begins.
    pub after: Option<&'a TokenPosition>,
    /// How many tokens there are on it at most.
    pub count_max: u32,
}

/// An order of tokens; those that are equal in it stand in that of their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenOrder {
    /// By name, whatever the case of ASCII letters.
    Name,
    /// By end.
    End,
    /// By state: active, expired, revoked.
    State,
}

/// Where in any order a token stood when it was listed; it may have changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPosition {
    /// Its name.
    pub name: String,
    /// Its end.
    pub expires_at: Timestamp,
    /// Its state.
    pub state: TokenState,
    /// Its public id.
    pub id: TokenId,
}

impl TokenPosition {
    /// Where `token` stands at the moment `now`.
    pub fn of(token: &Token, now: Timestamp) -> TokenPosition {
        TokenPosition {
            name: token.name.clone(),
            expires_at: token.expires_at,
            state: token.state(now),
            id: token.id.clone(),
        }
    }
}

/// Says that a text is not a [`RevokeReason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a reason is one of administrator, asked, leaked, replaced, reuse and unused")]
pub struct RevokeReasonError;

impl FromStr for RevokeReason {
    type Err = RevokeReasonError;

    fn from_str(text: &str) -> Result<Self, RevokeReasonError> {
        RevokeReason::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or(RevokeReasonError)
    }
}

/// A new secret for a token.
#[derive(Debug)]
pub struct TokenRotation<'a> {
    /// The digest of the new secret.
    pub hash: &'a TokenHash,
    /// The digest that the token must have until then, so that of several who replace one secret at once one does; None:
    /// whatever it has is replaced.
    pub presented: Option<&'a TokenHash>,
    /// Whether the token rotates itself. Then the overlap is no promise of its owner's: when a further rotation cuts it
    /// short, a use of the old secret is a sign of theft all the same.
    pub is_by_itself: bool,
    /// A new end; None leaves it as it is.
    pub expires_at: Option<Timestamp>,
    /// Until when the secret that is replaced opens the token, too, but never past an end that the token has before or
    /// after; None: not at all.
    pub old_valid_until: Option<Timestamp>,
    /// What is taken away from the token at the same time.
    pub narrowing: Option<TokenNarrowing<'a>>,
}

/// What a rotation takes away from a token.
#[derive(Debug, Clone, Copy)]
pub struct TokenNarrowing<'a> {
    /// The token as it was when somebody made sure that this is less.
    pub before: &'a Token,
    /// New scopes; None leaves them as they are.
    pub scopes: Option<&'a str>,
    /// New limits; None leaves them as they are.
    pub limits: Option<&'a TokenLimits>,
}

/// A secret that a rotation replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetiredSecret {
    /// The token that it was of.
    pub token: Token,
    /// The owner of the token.
    pub account: Account,
    /// When it was made.
    pub made_at: Timestamp,
    /// When it was replaced.
    pub retired_at: Timestamp,
    /// Until when it opens the token all the same; None: not at all.
    pub valid_until: Option<Timestamp>,
    /// Until when using it is no sign of theft, whether it opens the token or not: [`REPLACED_SECONDS`] after it was
    /// replaced, and to the end of an overlap that the owner gave, also if a further rotation has cut it short.
    pub promised_until: Option<Timestamp>,
}

/// How long using a secret that does not open its token any more is no sign of theft. A fetch or a push is several
/// requests, and whoever began one is not a thief because the secret was replaced in between.
pub const REPLACED_SECONDS: i64 = 60;

impl RetiredSecret {
    /// Whether using it at the moment `now` is no sign of theft.
    pub fn is_excused(&self, now: Timestamp) -> bool {
        let is_promised = self.promised_until.is_some_and(|until| now < until);
        let has_just_ended = self
            .valid_until
            .is_some_and(|until| now.as_second() < until.as_second().saturating_add(REPLACED_SECONDS));
        is_promised || has_just_ended
    }
}

/// A token that neither expired nor was revoked, as found by a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveToken {
    /// The digest that it was looked for by.
    pub hash: TokenHash,
    /// Its public id.
    pub id: TokenId,
    /// The name of its owner.
    pub account: String,
    /// What it is for.
    pub name: String,
}

/// What to change about a token; None leaves a field as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokenChange<'a> {
    /// The token as it was when somebody made sure that the change is allowed: scopes, limits, end and secret must still be
    /// those. None: it is changed whatever it is now.
    pub before: Option<&'a Token>,
    /// A new name.
    pub name: Option<&'a str>,
    /// New scopes, which replace the old ones.
    pub scopes: Option<&'a str>,
    /// A new end.
    pub expires_at: Option<Timestamp>,
    /// New limits, which replace the old ones.
    pub limits: Option<&'a TokenLimits>,
    /// New paths to be limited to, which replace those of `limits` or the old ones.
    pub paths: Option<&'a [AccessPath]>,
    /// New refs to be limited to, likewise.
    pub refs: Option<&'a [RefPattern]>,
    /// New networks to be limited to, likewise.
    pub networks: Option<&'a [IpNet]>,
}

impl TokenChange<'_> {
    /// The limits that a token gets by this change if it has `before`.
    pub(in crate::store) fn limits_after(&self, before: &TokenLimits) -> TokenLimits {
        let limits = self.limits.unwrap_or(before);
        TokenLimits {
            paths: self.paths.unwrap_or(&limits.paths).to_vec(),
            refs: self.refs.unwrap_or(&limits.refs).to_vec(),
            networks: self.networks.unwrap_or(&limits.networks).to_vec(),
        }
    }
}

/// One use of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUse {
    /// Which token.
    pub id: TokenId,
    /// When.
    pub at: Timestamp,
    /// From which address.
    pub from: IpAddr,
    /// The `User-Agent` of the request, cut to a bounded length.
    pub with: Option<String>,
    /// What for, such as `fetch DefaultCollection/Web/Web`.
    pub purpose: String,
}

/// An address that a token was used from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenAddress {
    /// The address.
    pub address: IpAddr,
    /// When it was last used from there; up to a minute late.
    pub last_used_at: Timestamp,
}

/// Addresses that are kept of each token: the latest.
pub const TOKEN_ADDRESSES_COUNT: u8 = 5;
