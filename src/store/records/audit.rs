//! The audit trail: who did what, when.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;

use super::TokenId;

/// Who asked the server for something, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requester {
    /// The account's name; None for somebody without a credential.
    pub account: Option<String>,
    /// The token that proved it, if one did.
    pub token: Option<TokenId>,
    /// Where the request came from.
    pub address: Option<IpAddr>,
    /// The `User-Agent` of the request, cut to a bounded length; a claim of the client.
    pub agent: Option<String>,
}

/// Who changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// Somebody who asked the server for it.
    Client(Requester),
    /// Somebody with access to the data directory.
    CommandLine,
    /// patgate itself, such as on its first start.
    Server,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Client(requester) => f.write_str(requester.account.as_deref().unwrap_or("anonymous")),
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
    /// An account gave up its alternate credential, or it was taken away.
    AlternateCredentialRemove,
    /// An account got an alternate credential, or a new one.
    AlternateCredentialSet,
    /// An address failed so often that it has to wait.
    CredentialRefuse,
    /// A fetch: what was asked for and how it ended.
    GitFetch,
    /// A push: which refs moved and how it ended.
    GitPush,
    /// A policy was taken back.
    PolicyRemove,
    /// A policy was set.
    PolicySet,
    /// A repository was made.
    RepositoryCreate,
    /// A repository was deleted.
    RepositoryDelete,
    /// A repository was imported.
    RepositoryImport,
    /// A repository got another name.
    RepositoryRename,
    /// A repository got another default branch.
    RepositoryUpdate,
    /// A rule was made that revokes many tokens at once.
    RevocationRuleCreate,
    /// Such a rule was taken back.
    RevocationRuleDelete,
    /// Somebody signed in with the password of an account.
    SignIn,
    /// Somebody failed to sign in.
    SignInRefuse,
    /// A token was made.
    TokenCreate,
    /// A token came to its end.
    TokenExpire,
    /// A token was found where it should not be.
    TokenLeak,
    /// A known token was used for something that it does not open.
    TokenRefuse,
    /// A secret was used that a rotation had replaced.
    TokenReuse,
    /// A token was revoked.
    TokenRevoke,
    /// A token got a new secret; the old one opens nothing any more.
    TokenRotate,
    /// A token's name, scopes, limits or end were changed.
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
            AuditAction::AlternateCredentialRemove => "alternate-credential.remove",
            AuditAction::AlternateCredentialSet => "alternate-credential.set",
            AuditAction::CredentialRefuse => "credential.refuse",
            AuditAction::GitFetch => "git.fetch",
            AuditAction::GitPush => "git.push",
            AuditAction::PolicyRemove => "policy.remove",
            AuditAction::PolicySet => "policy.set",
            AuditAction::RepositoryCreate => "repository.create",
            AuditAction::RepositoryDelete => "repository.delete",
            AuditAction::RepositoryImport => "repository.import",
            AuditAction::RepositoryRename => "repository.rename",
            AuditAction::RepositoryUpdate => "repository.update",
            AuditAction::RevocationRuleCreate => "revocation-rule.create",
            AuditAction::RevocationRuleDelete => "revocation-rule.delete",
            AuditAction::SignIn => "account.sign-in",
            AuditAction::SignInRefuse => "account.sign-in-refuse",
            AuditAction::TokenCreate => "token.create",
            AuditAction::TokenExpire => "token.expire",
            AuditAction::TokenLeak => "token.leak",
            AuditAction::TokenRefuse => "token.refuse",
            AuditAction::TokenReuse => "token.reuse",
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
