//! A new secret for a token, and how long the one before it still opens it.

use jiff::{SignedDuration, Timestamp};

use super::{
    Change, Error, LimitField, PlainToken, check_change, check_expiry, check_limits, policy, require,
    require_live,
};
use crate::auth::scope::Scopes;
use crate::store::{
    self, Actor, Store, Token, TokenHash, TokenId, TokenLimits, TokenNarrowing, TokenRotation,
};

/// How many hours a secret can go on opening its token at most after it was replaced: seven days.
pub const OVERLAP_HOURS_MAX: i64 = 7 * 24;

/// How to rotate a token.
#[derive(Debug, Clone, Copy, Default)]
pub struct RotateToken<'a> {
    /// The digest of the secret by which the token rotates itself, which must be its present one; None where its owner or
    /// an administrator has it rotated.
    pub presented: Option<&'a TokenHash>,
    /// The token that the new values were worked out from; None reads it. If scopes or limits are to be narrowed and have
    /// changed since, nothing is done.
    pub before: Option<&'a Token>,
    /// A new end; None leaves it as it is.
    pub expires_at: Option<Timestamp>,
    /// How long the secret that is replaced opens the token, too; None: not at all.
    pub overlap: Option<SignedDuration>,
    /// Names of scopes, which replace the old ones; none may be more than the token has. None leaves them as they are.
    pub scopes: Option<&'a str>,
    /// New limits, which replace the old ones; none may be wider. None leaves them as they are.
    pub limits: Option<&'a TokenLimits>,
}

/// What a rotation would give a token that it has not got.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Widening {
    /// A scope.
    #[error("the token has no scope that includes {added}, and a rotation gives it nothing new")]
    Scopes {
        /// The scopes that are more.
        added: String,
    },
    /// A limit that is wider, or missing.
    #[error("it is wider than what the token has, and a rotation gives it nothing new")]
    Limits(LimitField),
}

/// Gives a token a new secret and keeps its id, its name and what else no other value is given for.
///
/// The secret that is replaced opens the token until the overlap is over or the token ends, and not at all without an
/// overlap. Whoever uses it later than a minute after that makes the gate revoke the token, because two then have it. At
/// most two secrets open a token: if an overlap still runs, this ends it, and to use what it had been for is refused, but
/// no sign of theft for a minute or, if its owner or an administrator had given the overlap, until that is over.
///
/// # Errors
///
/// When the token is missing or revoked, it is expired and no new end is given, the end or the overlap is not allowed,
/// scopes or limits are more than it has, or a policy forbids a later end; [`store::Error::SecretReplaced`] when the
/// secret that was presented is not the present one, [`store::Error::RotatedTooOften`] when a token has replaced too many
/// secrets by itself, and [`store::Error::TokenChanged`] when somebody else has rotated the
/// token at the same time.
pub fn rotate(
    store: &Store,
    actor: &Actor,
    id: &TokenId,
    options: &RotateToken<'_>,
) -> Result<(Token, PlainToken), Error> {
    let now = Timestamp::now();
    if let Some(overlap) = options.overlap {
        check_overlap(overlap)?;
    }
    let scopes = options.scopes.map(str::parse::<Scopes>).transpose()?;
    // What is replaced is the secret that the token has before anything is checked.
    let replaces = match options.presented {
        Some(presented) => Some(*presented),
        None => store.token_hash(id)?,
    };
    let before = match options.expires_at {
        Some(expires_at) => {
            check_expiry(expires_at, now)?;
            let before = require(store, id)?;
            let wanted = Change {
                expires_at: Some(expires_at),
                ..Change::default()
            };
            // The new secret begins its life now.
            check_change(store, &before, &wanted, now)?;
            before
        }
        None => require_live(store, id)?,
    };
    let before = options.before.unwrap_or(&before);
    check_narrower(before, scopes, options.limits)?;
    let scopes = scopes.map(|scopes| scopes.to_string());
    let plain = PlainToken::generate_with_id(id)?;
    let rotation = TokenRotation {
        hash: &plain.hash(),
        presented: replaces.as_ref(),
        is_by_itself: options.presented.is_some(),
        expires_at: options.expires_at,
        old_valid_until: options
            .overlap
            .map(|overlap| now.checked_add(overlap).unwrap_or(Timestamp::MAX)),
        narrowing: (scopes.is_some() || options.limits.is_some()).then_some(TokenNarrowing {
            before,
            scopes: scopes.as_deref(),
            limits: options.limits,
        }),
    };
    let token = store
        .rotate_token(actor, id, &rotation)
        .map_err(|error| match error {
            // Nobody presented one.
            store::Error::SecretReplaced { id } if options.presented.is_none() => {
                store::Error::TokenChanged { id }
            }
            error => error,
        })?;
    Ok((token, plain))
}

/// Makes sure that new scopes and limits are no more than the token has.
fn check_narrower(before: &Token, scopes: Option<Scopes>, limits: Option<&TokenLimits>) -> Result<(), Error> {
    if let Some(scopes) = scopes {
        let had = Scopes::parse_known(&before.scopes);
        let added: Vec<&str> = scopes
            .iter()
            .map(|scope| scope.name)
            .filter(|name| !had.includes(name))
            .collect();
        if !added.is_empty() {
            let added = added.join(" ");
            return Err(Widening::Scopes { added }.into());
        }
    }
    let Some(limits) = limits else { return Ok(()) };
    check_limits(limits)?;
    let fields = [LimitField::Paths, LimitField::Refs, LimitField::Networks];
    match fields
        .into_iter()
        .find(|field| !policy::is_narrower(&only(limits, *field), &only(&before.limits, *field)))
    {
        Some(field) => Err(Widening::Limits(field).into()),
        None => Ok(()),
    }
}

/// One of the lists alone.
fn only(limits: &TokenLimits, field: LimitField) -> TokenLimits {
    let mut only = TokenLimits::NONE;
    match field {
        LimitField::Paths => only.paths.clone_from(&limits.paths),
        LimitField::Refs => only.refs.clone_from(&limits.refs),
        LimitField::Networks => only.networks.clone_from(&limits.networks),
    }
    only
}

/// Why a text or a duration is not an overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverlapError {
    /// It is no duration.
    #[error("the overlap is a number of minutes, hours or days, like '30m', '2h' or '1d'")]
    Shape,
    /// It is longer than [`OVERLAP_HOURS_MAX`].
    #[error("the overlap is at most 7 days: give '7d' or less")]
    TooLong,
}

/// Reads an overlap: `30m`, `2h` or `1d`.
///
/// # Errors
///
/// When it is none of these, or more than [`OVERLAP_HOURS_MAX`].
pub fn parse_overlap(text: &str) -> Result<SignedDuration, OverlapError> {
    let (number, minutes) = [("m", 1), ("h", 60), ("d", 24 * 60)]
        .into_iter()
        .find_map(|(unit, minutes)| Some((text.strip_suffix(unit)?, minutes)))
        .ok_or(OverlapError::Shape)?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(OverlapError::Shape);
    }
    // More digits than fit are more than is allowed.
    let number: i64 = number.parse().unwrap_or(i64::MAX);
    let minutes = number.checked_mul(minutes).ok_or(OverlapError::TooLong)?;
    let overlap = SignedDuration::try_from_mins(minutes).ok_or(OverlapError::TooLong)?;
    check_overlap(overlap)?;
    Ok(overlap)
}

fn check_overlap(overlap: SignedDuration) -> Result<(), OverlapError> {
    if overlap.is_negative() {
        return Err(OverlapError::Shape);
    }
    if overlap > SignedDuration::from_hours(OVERLAP_HOURS_MAX) {
        return Err(OverlapError::TooLong);
    }
    Ok(())
}
