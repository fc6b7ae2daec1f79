//! What the store keeps, as values: accounts, tokens, access and audit events.
//!
//! None of them holds a secret in a form that prints: [`TokenHash`] and [`PasswordHash`] show nothing in `Debug` and
//! are not part of [`Token`] and [`Account`].

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use jiff::Timestamp;
use subtle::ConstantTimeEq;

use crate::names::AccessPath;

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
    /// A word that means something else on the command line.
    #[error("means all accounts, and cannot be the name of one")]
    Reserved,
    /// A space at either end, or a leading dash, which the command line reads as an option.
    #[error("starts with a dash or a space, or ends in a space")]
    Edge,
}

/// What stands for all accounts where the name of one is asked for.
pub const EVERYONE: &str = "everyone";

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
pub struct AccountId(pub(super) i64);

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

    pub(super) fn number(self) -> i64 {
        match self {
            Role::Reader => 1,
            Role::Contributor => 2,
            Role::Administrator => 3,
        }
    }

    pub(super) fn from_number(number: i64) -> Option<Role> {
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

/// Who changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// An account, by name.
    Account(String),
    /// Somebody with access to the data directory.
    CommandLine,
    /// patgate itself, such as on its first start.
    Server,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Account(name) => f.write_str(name),
            Actor::CommandLine => f.write_str("command line"),
            Actor::Server => f.write_str("server"),
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditAction {
    /// A right was given or replaced.
    AccessGrant,
    /// A right was taken away.
    AccessRevoke,
    /// An account was made.
    AccountCreate,
    /// An account was deleted, with its tokens and rights.
    AccountDelete,
    /// An account was disabled.
    AccountDisable,
    /// An account was enabled again.
    AccountEnable,
    /// A password was set.
    AccountSetPassword,
    /// A repository was made.
    RepositoryCreate,
    /// A repository was deleted.
    RepositoryDelete,
    /// A repository was imported.
    RepositoryImport,
    /// A repository got another name.
    RepositoryRename,
    /// A token was made.
    TokenCreate,
    /// A token was revoked.
    TokenRevoke,
    /// A token got a new secret; the old one opens nothing any more.
    TokenRotate,
    /// A token's name, scopes or end were changed.
    TokenUpdate,
}

impl AuditAction {
    /// The name under which events of this kind are kept and listed.
    pub fn as_str(self) -> &'static str {
        match self {
            AuditAction::AccessGrant => "access.grant",
            AuditAction::AccessRevoke => "access.revoke",
            AuditAction::AccountCreate => "account.create",
            AuditAction::AccountDelete => "account.delete",
            AuditAction::AccountDisable => "account.disable",
            AuditAction::AccountEnable => "account.enable",
            AuditAction::AccountSetPassword => "account.set-password",
            AuditAction::RepositoryCreate => "repository.create",
            AuditAction::RepositoryDelete => "repository.delete",
            AuditAction::RepositoryImport => "repository.import",
            AuditAction::RepositoryRename => "repository.rename",
            AuditAction::TokenCreate => "token.create",
            AuditAction::TokenRevoke => "token.revoke",
            AuditAction::TokenRotate => "token.rotate",
            AuditAction::TokenUpdate => "token.update",
        }
    }
}

/// One line of the audit trail. It never holds a secret.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEvent {
    /// Grows with every event.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What; see [`AuditAction::as_str`].
    pub action: String,
    /// To what: an account's name, a token's id or a path.
    pub subject: String,
    /// The new values, as a JSON object.
    pub details: serde_json::Value,
}
