//! Personal access tokens: their text, and their life from creation to rotation.
//!
//! `pgt_`, 8 characters of public id, 38 of secret (over 226 bits), 6 of CRC-32 over the 46 before, all base62. That
//! is 56 characters, since GNU `base64` breaks the line of `:TOKEN` after 57 bytes and git then sends half a header.
//! The checksum lets a mistyped or made-up token be refused without a look-up, and a scanner of leaked files be sure.

mod limits;
mod rotation;

use std::fmt;

use ipnet::IpNet;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

pub use limits::{LimitError, LimitField, check_limits, parse_networks, parse_paths, parse_refs};
pub use rotation::{OVERLAP_HOURS_MAX, OverlapError, RotateToken, Widening, parse_overlap, rotate};

use super::policy::{self, Change, Policies};
use super::scope::{ScopeError, Scopes};
use crate::names::{AccessPath, RefPattern};
use crate::store::{
    self, Account, Actor, NewToken, Store, TOKEN_ID_BYTES, Token, TokenChange, TokenHash, TokenId,
    TokenLimits, TokenState,
};

pub use crate::secret::TOKEN_PREFIX as PREFIX;

/// Length of a token in bytes.
pub const TOKEN_BYTES: usize = 56;

/// How many days a token lives if nothing else is asked for.
pub const EXPIRY_DAYS_DEFAULT: i64 = 90;

/// How many days a token may live at most, whatever the policies say.
pub const EXPIRY_DAYS_MAX: i64 = policy::DAYS_MAX as i64;

const SECRET_BYTES: usize = 38;
const CHECKSUM_BYTES: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Why a text is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It looks like a token, but is mistyped, cut or made up.
    #[error("the checksum of the token is wrong")]
    Checksum,
    /// It is something else.
    #[error("a token is 'pgt_' and 52 letters and digits")]
    Shape,
}

/// The whole text of a token.
///
/// It is wiped when dropped, `Debug` shows nothing, and there is no `Clone`, `Display` or `Serialize`: whoever holds it
/// shows it once and lets go of it.
pub struct PlainToken(Zeroizing<String>);

impl PlainToken {
    /// Makes a new token with a random id.
    ///
    /// # Errors
    ///
    /// When the system gives no random bytes.
    pub fn generate() -> Result<PlainToken, Error> {
        let mut body = Zeroizing::new(String::with_capacity(TOKEN_BYTES));
        push_random(&mut body, TOKEN_ID_BYTES + SECRET_BYTES)?;
        Ok(PlainToken::complete(&body))
    }

    /// Makes a new token with the id of an earlier one.
    ///
    /// # Errors
    ///
    /// When the system gives no random bytes.
    pub fn generate_with_id(id: &TokenId) -> Result<PlainToken, Error> {
        let mut body = Zeroizing::new(String::with_capacity(TOKEN_BYTES));
        body.push_str(id.as_str());
        push_random(&mut body, SECRET_BYTES)?;
        Ok(PlainToken::complete(&body))
    }

    /// Puts prefix and checksum around id and secret.
    fn complete(body: &str) -> PlainToken {
        // The full capacity at once, or growing would leave copies of the secret behind in freed memory.
        let mut text = Zeroizing::new(String::with_capacity(TOKEN_BYTES));
        text.push_str(PREFIX);
        text.push_str(body);
        text.extend(checksum(body.as_bytes()).map(char::from));
        PlainToken(text)
    }

    /// Takes `text` for a token if it has the shape and the checksum of one.
    ///
    /// # Errors
    ///
    /// Says which of the two is missing.
    pub fn parse(text: &str) -> Result<PlainToken, ParseError> {
        let body = text.strip_prefix(PREFIX).ok_or(ParseError::Shape)?;
        if text.len() != TOKEN_BYTES || !body.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(ParseError::Shape);
        }
        let (body, found) = body
            .split_at_checked(TOKEN_ID_BYTES + SECRET_BYTES)
            .ok_or(ParseError::Shape)?;
        if found.as_bytes() != checksum(body.as_bytes()) {
            return Err(ParseError::Checksum);
        }
        Ok(PlainToken(Zeroizing::new(text.to_owned())))
    }

    /// The public part of the token.
    ///
    /// # Errors
    ///
    /// Never for a token that was parsed or made here.
    pub fn id(&self) -> Result<TokenId, ParseError> {
        let id = self
            .0
            .get(PREFIX.len()..PREFIX.len() + TOKEN_ID_BYTES)
            .ok_or(ParseError::Shape)?;
        id.parse().map_err(|_| ParseError::Shape)
    }

    /// The digest that the token is kept and found by.
    pub fn hash(&self) -> TokenHash {
        TokenHash::new(Sha256::digest(self.0.as_bytes()).into())
    }

    /// Lets the caller read the token. Every use is a place to look at in a review.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PlainToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainToken(…)")
    }
}

/// Appends `count` random characters of the alphabet to `text`, each as likely as any other: six bits at a time, and
/// the two of 64 values that stand for no character are thrown away.
pub(super) fn push_random(text: &mut String, count: usize) -> Result<(), Error> {
    let mut bytes = [0u8; 64];
    let mut missing = count;
    while missing > 0 {
        SysRng
            .try_fill_bytes(&mut bytes)
            .map_err(|error| Error::Random(error.to_string()))?;
        for character in bytes
            .iter()
            .filter_map(|byte| ALPHABET.get(usize::from(byte & 0x3f)))
            .take(missing)
        {
            text.push(char::from(*character));
            missing -= 1;
        }
    }
    bytes.zeroize();
    Ok(())
}

/// The CRC-32 (IEEE) of `body` in base62, most significant digit first.
fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut rest = crc32fast::hash(body);
    let mut digits = [b'0'; CHECKSUM_BYTES];
    for digit in digits.iter_mut().rev() {
        *digit = usize::try_from(rest % 62)
            .ok()
            .and_then(|at| ALPHABET.get(at))
            .copied()
            .unwrap_or(b'0');
        rest /= 62;
    }
    digits
}

/// Why a token was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The owner is disabled, so the token would open nothing.
    #[error("the account '{name}' is disabled")]
    AccountDisabled {
        /// The account.
        name: String,
    },
    /// The token has expired, so that only a new end could make it live.
    #[error("the token '{id}' expired at {expired_at}")]
    Expired {
        /// The token.
        id: TokenId,
        /// When it did.
        expired_at: Timestamp,
    },
    /// The end is not a moment that is allowed.
    #[error(transparent)]
    Expiry(#[from] ExpiryError),
    /// A limit makes no sense.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A rotation would give the token more than it has.
    #[error(transparent)]
    NotNarrower(#[from] Widening),
    /// The overlap of a rotation is not one that is allowed.
    #[error(transparent)]
    Overlap(#[from] OverlapError),
    /// A policy does not let the token be made or widened.
    #[error(transparent)]
    Policy(#[from] policy::Refusal),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
    /// A scope is unknown, or there is none.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// A token to be made.
#[derive(Debug)]
pub struct CreateToken<'a> {
    /// The name of the owner.
    pub account: &'a str,
    /// What the token is for.
    pub name: &'a str,
    /// Names of scopes, separated by spaces.
    pub scopes: &'a str,
    /// The end; see [`parse_expiry`] and [`expiry_in_days`].
    pub expires_at: Timestamp,
    /// What it is limited to besides.
    pub limits: &'a TokenLimits,
}

/// Makes a token for an account and keeps its digest. This is the only time that its text is there.
///
/// # Errors
///
/// When the account is missing or disabled, a scope is unknown, the name, the end or a limit is not allowed, or a policy forbids
/// it.
pub fn create(store: &Store, actor: &Actor, new: &CreateToken<'_>) -> Result<(Token, PlainToken), Error> {
    let scopes: Scopes = new.scopes.parse()?;
    let now = Timestamp::now();
    check_future(new.expires_at, now)?;
    check_limits(new.limits)?;
    let account = store
        .find_account(new.account)?
        .ok_or_else(|| store::Error::AccountNotFound {
            name: new.account.to_owned(),
        })?;
    if account.is_disabled {
        return Err(Error::AccountDisabled { name: account.name });
    }
    let policies = Policies::load(store)?;
    policy::check_create(&policies, &account, scopes, new.limits, new.expires_at, now)?;
    check_expiry(new.expires_at, now)?;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let plain = PlainToken::generate()?;
        let id = plain.id().map_err(|_| store::Error::Corrupt("a token id"))?;
        let kept = store.create_token(
            actor,
            &NewToken {
                id: &id,
                hash: &plain.hash(),
                account: account.id,
                name: new.name,
                scopes: &scopes.to_string(),
                expires_at: new.expires_at,
                limits: new.limits,
            },
        );
        match kept {
            Ok(token) => return Ok((token, plain)),
            // Among 62^8 ids a second one that is taken means that the random numbers are not random.
            Err(store::Error::TokenExists { .. }) if attempts < 3 => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What to change about a live token; None leaves a field as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct UpdateToken<'a> {
    /// The token that the new values were worked out from; None reads it. If it has changed since, nothing is done.
    pub before: Option<&'a Token>,
    /// A new name.
    pub name: Option<&'a str>,
    /// Names of scopes, which replace the old ones.
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

impl UpdateToken<'_> {
    /// The limits that the token has afterwards; None if they stay.
    fn limits_after(&self, before: &TokenLimits) -> Option<TokenLimits> {
        let is_changed =
            self.limits.is_some() || self.paths.is_some() || self.refs.is_some() || self.networks.is_some();
        is_changed.then(|| {
            let TokenLimits {
                paths,
                refs,
                networks,
            } = self.limits.unwrap_or(before).clone();
            TokenLimits {
                paths: self.paths.map_or(paths, <[_]>::to_vec),
                refs: self.refs.map_or(refs, <[_]>::to_vec),
                networks: self.networks.map_or(networks, <[_]>::to_vec),
            }
        })
    }
}

/// Changes a token that is neither revoked nor expired. The change holds from the next request on.
///
/// # Errors
///
/// When the token is missing or dead, a scope is unknown, the name, the end or a limit is not allowed, or a policy does not let it
/// be widened; [`store::Error::TokenChanged`] when somebody else has changed it at the same time.
pub fn update(store: &Store, actor: &Actor, id: &TokenId, change: &UpdateToken<'_>) -> Result<Token, Error> {
    let scopes = change.scopes.map(str::parse::<Scopes>).transpose()?;
    let now = Timestamp::now();
    if let Some(expires_at) = change.expires_at {
        check_future(expires_at, now)?;
    }
    let now_is = require_live(store, id)?;
    let before = change.before.unwrap_or(&now_is);
    let limits = change.limits_after(&before.limits);
    if let Some(limits) = &limits {
        check_limits(limits)?;
    }
    let wanted = Change {
        scopes,
        limits: limits.as_ref(),
        expires_at: change.expires_at,
    };
    let opens_otherwise = wanted.scopes.is_some() || wanted.limits.is_some() || wanted.expires_at.is_some();
    check_change(store, before, &wanted, before.secret_made_at())?;
    if let Some(expires_at) = change.expires_at {
        check_expiry(expires_at, now)?;
    }
    let scopes = scopes.map(|scopes| scopes.to_string());
    let change = TokenChange {
        // What a new name says of the token does not hang on the rest of it.
        before: Some(before).filter(|_| opens_otherwise),
        name: change.name,
        scopes: scopes.as_deref(),
        expires_at: change.expires_at,
        limits: change.limits,
        paths: change.paths,
        refs: change.refs,
        networks: change.networks,
    };
    Ok(store.update_token(actor, id, &change)?)
}

/// Finds the token, and its owner, of a whole text that opens it at the moment `now`, as its present secret or as one
/// whose overlap runs. The owner may be disabled, since that can change.
///
/// # Errors
///
/// When the store cannot be read.
pub fn find_live(
    store: &Store,
    plain: &PlainToken,
    now: Timestamp,
) -> Result<Option<(Token, Account)>, store::Error> {
    let hash = plain.hash();
    let found = match store.find_token_by_hash(&hash)? {
        Some(found) => Some(found),
        None => store
            .find_retired_secret(&hash)?
            .filter(|retired| retired.valid_until.is_some_and(|until| now < until))
            .map(|retired| (retired.token, retired.account)),
    };
    Ok(found.filter(|(token, _)| token.state(now) == TokenState::Active))
}

/// Holds what widens a token against the policies.
fn check_change(store: &Store, before: &Token, change: &Change<'_>, made_at: Timestamp) -> Result<(), Error> {
    let account = store
        .find_account(&before.account)?
        .ok_or_else(|| store::Error::AccountNotFound {
            name: before.account.clone(),
        })?;
    let policies = Policies::load(store)?;
    Ok(policy::check_change(
        &policies, &account, before, change, made_at,
    )?)
}

fn require(store: &Store, id: &TokenId) -> Result<Token, Error> {
    let token = store.find_token(id)?;
    Ok(token.ok_or_else(|| store::Error::TokenNotFound { id: id.clone() })?)
}

fn require_live(store: &Store, id: &TokenId) -> Result<Token, Error> {
    let token = require(store, id)?;
    if token.revoked_at.is_some() {
        return Err(store::Error::TokenRevoked { id: id.clone() }.into());
    }
    if token.expires_at <= Timestamp::now() {
        return Err(Error::Expired {
            id: id.clone(),
            expired_at: token.expires_at,
        });
    }
    Ok(token)
}

/// Why a text or a moment is not the end of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExpiryError {
    /// It lies behind us.
    #[error("the expiry has passed already: give a date after {today}")]
    Past {
        /// The present day in UTC.
        today: Date,
    },
    /// It is neither a number of days nor a date.
    #[error(
        "the expiry is a number of days like '90d', a date like '2027-01-31' or a time like '2027-01-31T18:00:00Z'"
    )]
    Shape,
    /// It is further off than [`EXPIRY_DAYS_MAX`].
    #[error(
        "a token lives at most {EXPIRY_DAYS_MAX} days: give '{EXPIRY_DAYS_MAX}d' or a date up to {latest}"
    )]
    TooLate {
        /// The last day in UTC that is allowed.
        latest: Date,
    },
}

/// Reads the end of a token: `90d` is that many days from `now`, `2027-01-31` the beginning of that day in UTC, and
/// `2027-01-31T18:00:00Z` that moment.
///
/// # Errors
///
/// When it is none of these or is not after `now`. How far off it may be, the policies say.
pub fn parse_expiry(text: &str, now: Timestamp) -> Result<Timestamp, ExpiryError> {
    let expires_at = if let Some(days) = text.strip_suffix(['d', 'D']) {
        if days.is_empty() || !days.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ExpiryError::Shape);
        }
        // More digits than fit are more days than time has.
        let hours = days.parse().unwrap_or(i64::MAX).checked_mul(24);
        hours
            .and_then(SignedDuration::try_from_hours)
            .and_then(|hours| now.checked_add(hours).ok())
            .unwrap_or(Timestamp::MAX)
    } else if let Ok(moment) = text.parse::<Timestamp>() {
        moment
    } else {
        let date: Date = text.parse().map_err(|_| ExpiryError::Shape)?;
        date.to_zoned(TimeZone::UTC)
            .map_err(|_| ExpiryError::Shape)?
            .timestamp()
    };
    check_future(expires_at, now)?;
    Ok(expires_at)
}

/// Returns the moment `days` days of 24 hours after `now`.
///
/// # Errors
///
/// When `days` is not between 1 and [`EXPIRY_DAYS_MAX`].
pub fn expiry_in_days(days: i64, now: Timestamp) -> Result<Timestamp, ExpiryError> {
    if days > EXPIRY_DAYS_MAX {
        return Err(ExpiryError::TooLate {
            latest: date(latest(now)),
        });
    }
    if days < 1 {
        return Err(ExpiryError::Past { today: date(now) });
    }
    let expires_at = now
        .checked_add(SignedDuration::from_hours(24 * days))
        .unwrap_or(now);
    check_expiry(expires_at, now)?;
    Ok(expires_at)
}

fn check_future(expires_at: Timestamp, now: Timestamp) -> Result<(), ExpiryError> {
    if expires_at <= now {
        return Err(ExpiryError::Past { today: date(now) });
    }
    Ok(())
}

fn check_expiry(expires_at: Timestamp, now: Timestamp) -> Result<(), ExpiryError> {
    check_future(expires_at, now)?;
    if expires_at > latest(now) {
        return Err(ExpiryError::TooLate {
            latest: date(latest(now)),
        });
    }
    Ok(())
}

fn latest(now: Timestamp) -> Timestamp {
    now.checked_add(SignedDuration::from_hours(24 * EXPIRY_DAYS_MAX))
        .unwrap_or(Timestamp::MAX)
}

fn date(moment: Timestamp) -> Date {
    moment.to_zoned(TimeZone::UTC).date()
}

#[cfg(test)]
mod tests;
