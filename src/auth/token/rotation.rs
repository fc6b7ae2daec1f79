//! A new secret for a token, and how long the one before it still opens it.

use jiff::{SignedDuration, Timestamp};

use super::{Change, Error, PlainToken, check_change, check_expiry, require, require_live};
use crate::store::{Actor, Store, Token, TokenId, TokenRotation};

/// How many hours a secret can go on opening its token at most after it was replaced: seven days.
pub const OVERLAP_HOURS_MAX: i64 = 7 * 24;

/// How to rotate a token.
#[derive(Debug, Clone, Copy, Default)]
pub struct RotateToken {
    /// A new end; None leaves it as it is.
    pub expires_at: Option<Timestamp>,
    /// How long the secret that is replaced opens the token, too; None: not at all.
    pub overlap: Option<SignedDuration>,
}

/// Gives a token a new secret and keeps its id, name, scopes, limits and, if no other is given, its end.
///
/// The secret that is replaced opens the token until the overlap is over or the token ends, and not at all without an
/// overlap. Whoever uses it later makes the gate revoke the token, because two then have it. At most two secrets open a
/// token: if an overlap still runs, this ends it, and to use what it had been for is refused but no sign of theft until
/// the overlap that had been promised is over.
///
/// # Errors
///
/// When the token is missing or revoked, it is expired and no new end is given, the end or the overlap is not allowed, or
/// a policy forbids a later end.
pub fn rotate(
    store: &Store,
    actor: &Actor,
    id: &TokenId,
    options: &RotateToken,
) -> Result<(Token, PlainToken), Error> {
    let now = Timestamp::now();
    if let Some(overlap) = options.overlap {
        check_overlap(overlap)?;
    }
    match options.expires_at {
        Some(expires_at) => {
            check_expiry(expires_at, now)?;
            let wanted = Change {
                expires_at: Some(expires_at),
                ..Change::default()
            };
            // The new secret begins its life now.
            check_change(store, &require(store, id)?, &wanted, now)?;
        }
        None => {
            require_live(store, id)?;
        }
    }
    let plain = PlainToken::generate_with_id(id)?;
    let rotation = TokenRotation {
        hash: &plain.hash(),
        expires_at: options.expires_at,
        old_valid_until: options
            .overlap
            .map(|overlap| now.checked_add(overlap).unwrap_or(Timestamp::MAX)),
    };
    let token = store.rotate_token(actor, id, &rotation)?;
    Ok((token, plain))
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
