//! The audit trail: who did what, when.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;

use super::TokenId;
use crate::names::AccessPath;

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

macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident = $name:literal,)*) => {
        /// What was done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum AuditAction {
            $($(#[$doc])* $action,)*
        }

        impl AuditAction {
            /// All of them.
            pub const ALL: &[AuditAction] = &[$(AuditAction::$action,)*];

            /// The name under which events of this kind are kept and listed.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(AuditAction::$action => $name,)*
                }
            }
        }
    };
}

actions! {
    /// A right was given or replaced.
    AccessGrant = "access.grant",
    /// A right was taken away.
    AccessRevoke = "access.revoke",
    /// An account was made.
    AccountCreate = "account.create",
    /// An account was deleted, with its tokens and rights.
    AccountDelete = "account.delete",
    /// An account was disabled.
    AccountDisable = "account.disable",
    /// An account was enabled again.
    AccountEnable = "account.enable",
    /// A password was set.
    AccountSetPassword = "account.set-password",
    /// An account gave up its alternate credential, or it was taken away.
    AlternateCredentialRemove = "alternate-credential.remove",
    /// An account got an alternate credential, or a new one.
    AlternateCredentialSet = "alternate-credential.set",
    /// Old events were removed from the trail.
    AuditPrune = "audit.prune",
    /// An address failed so often that it has to wait.
    CredentialRefuse = "credential.refuse",
    /// A fetch: what was asked for and how it ended.
    GitFetch = "git.fetch",
    /// A push: which refs moved and how it ended.
    GitPush = "git.push",
    /// A policy was taken back.
    PolicyRemove = "policy.remove",
    /// A policy was set.
    PolicySet = "policy.set",
    /// A repository was made.
    RepositoryCreate = "repository.create",
    /// A repository was deleted.
    RepositoryDelete = "repository.delete",
    /// A repository was imported.
    RepositoryImport = "repository.import",
    /// A repository got another name.
    RepositoryRename = "repository.rename",
    /// A repository got another default branch.
    RepositoryUpdate = "repository.update",
    /// A rule was made that revokes many tokens at once.
    RevocationRuleCreate = "revocation-rule.create",
    /// Such a rule was taken back.
    RevocationRuleDelete = "revocation-rule.delete",
    /// Somebody signed in with the password of an account.
    SignIn = "account.sign-in",
    /// Somebody failed to sign in.
    SignInRefuse = "account.sign-in-refuse",
    /// A token was made.
    TokenCreate = "token.create",
    /// A token came to its end.
    TokenExpire = "token.expire",
    /// A token was found where it should not be.
    TokenLeak = "token.leak",
    /// A known token was used for something that it does not open.
    TokenRefuse = "token.refuse",
    /// A secret was used that a rotation had replaced.
    TokenReuse = "token.reuse",
    /// A token was revoked.
    TokenRevoke = "token.revoke",
    /// A token got a new secret; the old one opens nothing any more.
    TokenRotate = "token.rotate",
    /// A token's name, scopes, limits or end were changed.
    TokenUpdate = "token.update",
}

/// Says that no action is called so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no action '{}'", .0.escape_debug())]
pub struct UnknownAction(pub String);

impl AuditAction {
    /// Finds the actions that `pattern` means: one by its name, such as `token.create`, or all that begin alike, such as
    /// `token.*`.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn matching(pattern: &str) -> Result<Vec<AuditAction>, UnknownAction> {
        let is_meant = |action: &&AuditAction| match pattern.strip_suffix('*') {
            Some(beginning) => action.as_str().starts_with(beginning),
            None => action.as_str() == pattern,
        };
        let found: Vec<AuditAction> = AuditAction::ALL.iter().filter(is_meant).copied().collect();
        if found.is_empty() {
            return Err(UnknownAction(pattern.to_owned()));
        }
        Ok(found)
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
    /// The new values, as a JSON object; `account` is whose token or right it is.
    pub details: serde_json::Value,
}

/// Something that happened and is to be kept, as it was at that moment.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAuditEvent {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What.
    pub action: AuditAction,
    /// To what: an account's name, a token's id or a path.
    pub subject: String,
    /// A JSON object. The store keeps it whatever its size: whoever makes it bounds what comes from outside.
    pub details: serde_json::Value,
}

/// Which events to list. All that is given must hold for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFilter {
    /// Not before this second.
    pub since: Option<Timestamp>,
    /// Before this second.
    pub until: Option<Timestamp>,
    /// One of these actions; any, if there is none. See [`AuditAction::matching`].
    pub actions: Vec<AuditAction>,
    /// Done with this token, or to it.
    pub token: Option<TokenId>,
    /// Done to this repository, or to something of this project or collection, or to its rights. The server stands for
    /// everything, as None does.
    pub path: Option<AccessPath>,
    /// Done by this account, or to it, to a token or to a right of it. What it did is found without regard to case while
    /// there is such an account, and as it was spelled afterwards.
    pub account: Option<String>,
    /// Behind this event.
    pub after_id: Option<i64>,
    /// In front of this event.
    pub before_id: Option<i64>,
    /// Whether the newest come first, and are those that are kept where there are too many.
    pub newest_first: bool,
    /// How many at most; what the answer takes of memory is bounded by this alone.
    pub count_max: u32,
}

impl AuditFilter {
    /// The latest events, newest first, and a base for other filters.
    pub fn latest(count_max: u32) -> AuditFilter {
        AuditFilter {
            since: None,
            until: None,
            actions: Vec::new(),
            token: None,
            path: None,
            account: None,
            after_id: None,
            before_id: None,
            newest_first: true,
            count_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn actions_are_found_by_their_name_and_by_its_beginning() {
        assert_eq!(AuditAction::matching("git.push"), Ok(vec![AuditAction::GitPush]));
        assert_eq!(
            AuditAction::matching("git.*"),
            Ok(vec![AuditAction::GitFetch, AuditAction::GitPush])
        );
        assert_eq!(AuditAction::matching("*").unwrap(), AuditAction::ALL);
        for unknown in ["", "git", "git.", "git.pull", "x*", "git.push*x"] {
            assert_eq!(
                AuditAction::matching(unknown),
                Err(UnknownAction(unknown.to_owned()))
            );
        }
    }

    #[test]
    fn no_two_actions_share_a_name() {
        let names: HashSet<&str> = AuditAction::ALL.iter().map(|action| action.as_str()).collect();
        assert_eq!(names.len(), AuditAction::ALL.len());
    }
}
