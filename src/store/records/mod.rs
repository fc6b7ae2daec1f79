//! What the store keeps, as values: accounts, tokens, access and audit events.
//!
//! None of them holds a secret in a form that prints: [`TokenHash`] and [`PasswordHash`] show nothing in `Debug` and
//! are not part of [`Token`] and [`Account`].

mod audit;
mod policy;
mod roles;
mod token;

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

pub use audit::{Actor, AuditAction, AuditEvent, AuditFilter, NewAuditEvent, Requester, UnknownAction};
pub use policy::{AlternateCredential, IdleToken, RevocationRule, StoredPolicy};
pub use roles::Roles;
pub use token::{
    LiveToken, NewToken, REPLACED_SECONDS, RetiredSecret, RevokeReason, RevokeReasonError,
    TOKEN_ADDRESSES_COUNT, TOKEN_ID_BYTES, Token, TokenAddress, TokenChange, TokenHash, TokenId,
    TokenIdError, TokenLimits, TokenNarrowing, TokenOrder, TokenPage, TokenPosition, TokenRotation,
    TokenState, TokenUse,
};

use crate::names::AccessPath;
use crate::secret::holds_token;

/// Longest name of an account or a token, in bytes.
pub const LABEL_BYTES_MAX: usize = 128;

/// Why the name of an account or a token was refused. The text fits after "the name '…' ".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Nothing, or only spaces.
    #[error("is empty")]
    Empty,
    /// More than [`LABEL_BYTES_MAX`] bytes.
    #[error("is longer than 128 bytes")]
    TooLong,
    /// A control character, or one that changes how the text around it is shown.
    #[error("holds a control character or an invisible one")]
    Control,
    /// What looks like a token: names are kept, listed and logged.
    #[error("holds the text of a token")]
    Token,
    /// A word that means something else where accounts are named, or two such names.
    #[error(
        "means something else where accounts are named: take one without a comma that is not 'everyone', 'nobody' or 'administrators'"
    )]
    Reserved,
    /// A space at either end, or a leading dash, which the command line reads as an option.
    #[error("starts with a dash or a space, or ends in a space")]
    Edge,
}

/// What stands for all accounts where the name of one is asked for.
pub const EVERYONE: &str = "everyone";

/// What no account can be named: it stands for several accounts, or for none, where accounts are listed.
pub const RESERVED_ACCOUNT_NAMES: [&str; 3] = [EVERYONE, "nobody", "administrators"];

/// Checks the name of an account or a token: it is printed on terminals, in logs and in answers to clients.
///
/// # Errors
///
/// Names the first rule that `text` breaks.
pub fn check_label(text: &str) -> Result<(), LabelError> {
    if text.trim().is_empty() {
        return Err(LabelError::Empty);
    }
    if text.len() > LABEL_BYTES_MAX {
        return Err(LabelError::TooLong);
    }
    if text.chars().any(|c| c.is_control() || is_invisible(c)) {
        return Err(LabelError::Control);
    }
    if text.trim() != text || text.starts_with('-') {
        return Err(LabelError::Edge);
    }
    if holds_token(text) {
        return Err(LabelError::Token);
    }
    Ok(())
}

/// Tells whether `c` is shown as nothing or reorders its neighbours (line and paragraph separators, zero-width
/// characters, bidirectional controls), which lets one name look like another.
pub fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The number of an account; it is never used again after the account is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub(in crate::store) i64);

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An account to be made.
#[derive(Debug)]
pub struct NewAccount<'a> {
    /// Unique without regard to case; see [`check_label`].
    pub name: &'a str,
    /// None: nobody can sign in with a password.
    pub password: Option<&'a PasswordHash>,
    /// Administrators have every right on every repository.
    pub is_admin: bool,
    /// The first sign-in asks for a new password.
    pub must_change_password: bool,
}

/// One person or program that owns tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub id: AccountId,
    /// Its name, as it was given.
    pub name: String,
    /// Whether it has every right on every repository.
    pub is_admin: bool,
    /// Whether its tokens and password open nothing.
    pub is_disabled: bool,
    /// Whether the next sign-in asks for a new password.
    pub must_change_password: bool,
    /// Whether it has a password at all.
    pub has_password: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A password hash in PHC string format.
#[derive(Clone)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Wraps a PHC string.
    pub fn new(phc: String) -> Self {
        PasswordHash(phc)
    }

    /// The PHC string.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// What an account may do on a path; a greater role includes the smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// May fetch.
    Reader,
    /// May push, too.
    Contributor,
    /// May create, rename and delete repositories, too.
    Administrator,
}

impl Role {
    /// All roles, smallest first.
    pub const ALL: [Role; 3] = [Role::Reader, Role::Contributor, Role::Administrator];

    /// The role as the command line writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Contributor => "contributor",
            Role::Administrator => "administrator",
        }
    }

    pub(in crate::store) fn number(self) -> i64 {
        match self {
            Role::Reader => 1,
            Role::Contributor => 2,
            Role::Administrator => 3,
        }
    }

    pub(in crate::store) fn from_number(number: i64) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.number() == number)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Says that a text is not a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is one of reader, contributor and administrator")]
pub struct RoleError;

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        Role::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(RoleError)
    }
}

/// One right: who may do what where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The account's name; None for everyone.
    pub account: Option<String>,
    /// What the right is on.
    pub path: AccessPath,
    /// The right.
    pub role: Role,
}
