//! Tokens, as they are kept: everything but the secret.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use jiff::Timestamp;
use subtle::ConstantTimeEq;

use super::AccountId;

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
pub const TOKEN_ID_BYTES: usize = 8;

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

/// A token to be kept.
#[derive(Debug)]
pub struct NewToken<'a> {
    /// Its public id.
    pub id: &'a TokenId,
    /// The digest that it is found by.
    pub hash: &'a TokenHash,
    /// Its owner.
    pub account: AccountId,
    /// What it is for; see [`check_label`].
    pub name: &'a str,
    /// Names of scopes, separated by spaces. The store does not know what they mean.
    pub scopes: &'a str,
    /// The first moment at which it opens nothing any more.
    pub expires_at: Timestamp,
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
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// When it last opened something; up to a minute late.
    pub last_used_at: Option<Timestamp>,
    /// The address that it was last used from.
    pub last_used_from: Option<IpAddr>,
}

/// What to change about a token; None leaves a field as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokenChange<'a> {
    /// A new name.
    pub name: Option<&'a str>,
    /// New scopes, which replace the old ones.
    pub scopes: Option<&'a str>,
    /// A new end.
    pub expires_at: Option<Timestamp>,
}

/// One use of a token.
#[derive(Debug, Clone)]
pub struct TokenUse {
    /// Which token.
    pub id: TokenId,
    /// When.
    pub at: Timestamp,
    /// From which address.
    pub from: IpAddr,
}
