//! Policies, revocation rules and alternate credentials as they are kept. What values and scopes mean is for `auth` to
//! know.

use jiff::Timestamp;

use super::{TokenId, TokenLimits};

/// A policy that somebody has set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPolicy {
    /// The collection that it holds for, spelled as when it was set; None for the whole server.
    pub collection: Option<String>,
    /// Which policy.
    pub name: String,
    /// What was set.
    pub value: String,
}

/// A rule that revokes all tokens of a kind at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationRule {
    /// Its number; it is never used again.
    pub id: i64,
    /// Names of scopes, separated by spaces; none means any.
    pub scopes: String,
    /// Only what was made before this moment is meant.
    pub created_before: Timestamp,
    /// When the rule was made.
    pub made_at: Timestamp,
}

/// An account's second name and password, without the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlternateCredential {
    /// The name of the account.
    pub account: String,
    /// The second name.
    pub name: String,
    /// When it was set.
    pub created_at: Timestamp,
}

/// A token that nobody has used for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleToken {
    /// Its public id.
    pub id: TokenId,
    /// What it is limited to.
    pub limits: TokenLimits,
    /// When it was last used; if it never was, when it got its secret.
    pub since: Timestamp,
}
