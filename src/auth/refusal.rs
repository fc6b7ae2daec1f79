//! Why the gate stays shut, and what a person reads about it.

use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::credential;
use super::policy;
use super::scope::{self, Operation, Scopes};
use super::token::ParseError;
use crate::names::{AccessPath, RefPattern, RepoPath};
use crate::store::{self, RevokeReason, Role, TokenId};

/// Entries of a limit that a refusal names; a token can have a hundred of each kind.
const NAMED_COUNT_MAX: usize = 5;

/// Which class of answer a refusal calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// 401: there is no credential, or it is no live token. git forgets it and asks again.
    Unauthorized,
    /// 403: the token lives, but it or its owner may not do this. git keeps it.
    Forbidden,
    /// 404: there is no such repository, or its owner may not know of it.
    NotFound,
    /// 429: the client has to wait; see [`Refusal::retry_after`].
    TooManyRequests,
    /// 500: the store failed.
    Internal,
}

impl RefusalKind {
    /// The HTTP status of the answer (RFC 9110, RFC 6585).
    pub const fn status(self) -> u16 {
        match self {
            RefusalKind::Unauthorized => 401,
            RefusalKind::Forbidden => 403,
            RefusalKind::NotFound => 404,
            RefusalKind::TooManyRequests => 429,
            RefusalKind::Internal => 500,
        }
    }
}

/// Why the gate stays shut.
///
/// `Display` is the whole text for a person: one or two sentences with the next step, which git prints as
/// `remote: …`. What it says about a token is said to whoever holds the token.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The owner of the token is disabled.
    #[error(
        "The account '{account}', which this token belongs to, is disabled. Ask an administrator of this server to enable it."
    )]
    AccountDisabled {
        /// The token's id.
        id: TokenId,
        /// The owner.
        account: String,
    },
    /// A policy of the collection takes tokens only.
    #[error(
        "The collection '{collection}' takes no alternate credentials. Give a personal access token as the password, with any username."
    )]
    AlternateBarred {
        /// The collection, whose account may see something in it.
        collection: String,
    },
    /// A rule is against the alternate credential.
    #[error(
        "An administrator of this server has revoked alternate credentials like that of '{account}', by a rule of {}. Use a personal access token instead, or have it set anew: patgate alternate set '{account}'",
        time(*.at)
    )]
    AlternateRevoked {
        /// The account.
        account: String,
        /// When the rule was made.
        at: Timestamp,
    },
    /// An alternate credential is for code.
    #[error(
        "An alternate credential opens code, and nothing else. Use a personal access token that has the scope for this."
    )]
    AlternateTooSmall,
    /// It is no token, and no account has such an alternate credential.
    #[error(
        "This is neither a personal access token of this server nor an account's alternate credential. Give a token as the password, with any username."
    )]
    AlternateWrong,
    /// The `Authorization` header cannot be read.
    #[error(
        "The credential cannot be read: {0}. Give a personal access token as the password, with any username."
    )]
    CredentialMalformed(#[source] credential::Error),
    /// There is no credential.
    #[error("This server needs a personal access token. Give it as the password, with any username.")]
    CredentialMissing,
    /// The token is limited to networks, and the request came from elsewhere.
    #[error(
        "The token '{name}' may be used from {} only, and this request came from {address}. Use it from there, or change where it may be used from: patgate token update {id} --network CIDR",
        named(.networks, "or")
    )]
    NetworkNotAllowed {
        /// The token's name.
        name: String,
        /// The token's id.
        id: TokenId,
        /// What it is limited to.
        networks: Vec<IpNet>,
        /// Where the request came from.
        address: IpAddr,
    },
    /// The account is no administrator of the server.
    #[error(
        "The account '{account}' is no administrator of this server, and this is for administrators. Ask one of them, or use a token of one."
    )]
    NotAdministrator {
        /// The owner of the token.
        account: String,
    },
    /// The credential is no token, such as an account's password.
    #[error(
        "This is not a personal access token of this server, and passwords do not work here. Give a token as the password, with any username."
    )]
    NotAToken,
    /// There is no such repository, or the owner of the token may not know of it.
    #[error(
        "There is no such repository, or this token's owner may not see it. Check the URL, or ask an administrator of this server for access."
    )]
    NotFound,
    /// The token is limited to paths, and what was asked for is outside of them, whether it is there or not.
    #[error(
        "The token '{name}' is limited to {}, and this is outside. Use another token, or change what this one is limited to: patgate token update {id} --repo PATH",
        named(.paths, "and")
    )]
    PathNotAllowed {
        /// The token's name.
        name: String,
        /// The token's id.
        id: TokenId,
        /// What it is limited to.
        paths: Vec<AccessPath>,
    },
    /// The password is right, but was made for a first sign-in alone.
    #[error(
        "The password of '{account}' was made for its first sign-in. Set a new one on the server: patgate user set-password '{account}'"
    )]
    PasswordMustChange {
        /// The account.
        account: String,
    },
    /// A token was given where only a password will do.
    #[error(
        "A token cannot make or change tokens: this needs the name and the password of an account. A token can see, rotate and revoke itself."
    )]
    PasswordNeeded,
    /// The passwords of one name were tried too often.
    #[error("Too many wrong passwords for this name. Try again in {} seconds; tokens work as before.", seconds(*.wait))]
    PasswordThrottled {
        /// How long to wait.
        wait: Duration,
    },
    /// Too many passwords are being checked.
    #[error("The server is checking too many passwords at the moment. Try again in {} seconds; tokens work as before.", seconds(*.wait))]
    PasswordsBusy {
        /// How long to wait.
        wait: Duration,
    },
    /// A policy of the collection keeps the token out.
    #[error(transparent)]
    Policy(policy::Barred),
    /// The token is limited to refs, and this would be done to all of a repository.
    #[error(
        "The token '{name}' may move {} only, and this concerns the whole repository. Use a token that is not limited to refs: patgate token create --scope vso.code_manage",
        named(.refs, "and")
    )]
    RefsNotAll {
        /// The token's name.
        name: String,
        /// The token's id.
        id: TokenId,
        /// What it is limited to.
        refs: Vec<RefPattern>,
    },
    /// A rule is against the token.
    #[error(
        "An administrator of this server has revoked tokens like '{name}', by a rule of {}. Create a new one, or have this one rotated: patgate token rotate {id}",
        time(*.at)
    )]
    RevokedByRule {
        /// The token's name.
        name: String,
        /// The token's id.
        id: TokenId,
        /// When the rule was made.
        at: Timestamp,
    },
    /// The owner may see the repository, but not do this.
    #[error(
        "The account '{account}' is only a {has} of '{repository}', and this needs a {needs}. An administrator of this server can change that: patgate access grant '{account}' {needs} '{repository}'"
    )]
    RoleTooSmall {
        /// The owner.
        account: String,
        /// The repository, which the owner may see.
        repository: RepoPath,
        /// The owner's role.
        has: Role,
        /// The smallest role that would do.
        needs: Role,
    },
    /// The token lacks a scope.
    #[error(
        "The token '{name}' lacks the scope {} ({}). Add it with: patgate token update {id} --scope \"{}\"",
        .operation.scope().unwrap_or_default(), title(*.operation), .scopes.with(*.operation)
    )]
    ScopeTooSmall {
        /// The token's name.
        name: String,
        /// The token's id.
        id: TokenId,
        /// The token's scopes.
        scopes: Scopes,
        /// What was asked for.
        operation: Operation,
    },
    /// The secret was replaced by a rotation, and its overlap is over: because of another rotation, or while something
    /// ran for which it had been given.
    #[error(
        "The token '{name}' has a newer secret: it was rotated on {}, and the time of this one is over. Give the newest.",
        time(*.at)
    )]
    SecretReplaced {
        /// The token's name.
        name: String,
        /// The token's id.
        id: TokenId,
        /// When the token was last rotated.
        at: Timestamp,
    },
    /// There is no account with this name and password that may sign in.
    #[error(
        "There is no account with this name and password. Check both, or ask an administrator of this server."
    )]
    SignInFailed,
    /// There is no credential, or one that cannot be read, where a password is needed.
    #[error(
        "This needs the name and the password of an account. Give them as Basic credentials; a token does not open it."
    )]
    SignInNeeded,
    /// The store failed.
    #[error(
        "The server cannot check this token at the moment. Try again later, or tell an administrator of this server."
    )]
    Store(#[source] store::Error),
    /// The address failed too often.
    #[error("Too many failed attempts from this address. Try again in {} seconds.", seconds(*.wait))]
    Throttled {
        /// How long to wait.
        wait: Duration,
    },
    /// The token has expired.
    #[error("The token '{name}' expired on {}. Create a new one, and give it when you are asked for a password.", time(*.at))]
    TokenExpired {
        /// The token's name.
        name: String,
        /// The token's id.
        id: TokenId,
        /// When it did.
        at: Timestamp,
    },
    /// The token is mistyped or cut.
    #[error(
        "This token is incomplete or mistyped: its checksum is wrong. Copy it again, or create a new one."
    )]
    TokenGarbled,
    /// The token was revoked.
    #[error("The token '{name}' was revoked on {}{}. Create a new one, and give it when you are asked for a password.", time(*.at), explained(*.because))]
    TokenRevoked {
        /// The token's name.
        name: String,
        /// The token's id.
        id: TokenId,
        /// When it was.
        at: Timestamp,
        /// Why, if that is known.
        because: Option<RevokeReason>,
    },
    /// No token of this server has this text.
    #[error("This server does not know this token. Check it, or create a new one.")]
    TokenUnknown,
}

impl Refusal {
    /// The class of answer.
    pub fn kind(&self) -> RefusalKind {
        match self {
            Refusal::AccountDisabled { .. }
            | Refusal::AlternateRevoked { .. }
            | Refusal::AlternateWrong
            | Refusal::CredentialMalformed(_)
            | Refusal::CredentialMissing
            | Refusal::NotAToken
            | Refusal::RevokedByRule { .. }
            | Refusal::SecretReplaced { .. }
            | Refusal::SignInFailed
            | Refusal::SignInNeeded
            | Refusal::TokenExpired { .. }
            | Refusal::TokenGarbled
            | Refusal::TokenRevoked { .. }
            | Refusal::TokenUnknown => RefusalKind::Unauthorized,
            Refusal::AlternateBarred { .. }
            | Refusal::AlternateTooSmall
            | Refusal::NetworkNotAllowed { .. }
            | Refusal::NotAdministrator { .. }
            | Refusal::PasswordMustChange { .. }
            | Refusal::PasswordNeeded
            | Refusal::PathNotAllowed { .. }
            | Refusal::Policy(_)
            | Refusal::RefsNotAll { .. }
            | Refusal::RoleTooSmall { .. }
            | Refusal::ScopeTooSmall { .. } => RefusalKind::Forbidden,
            Refusal::NotFound => RefusalKind::NotFound,
            Refusal::PasswordThrottled { .. } | Refusal::PasswordsBusy { .. } | Refusal::Throttled { .. } => {
                RefusalKind::TooManyRequests
            }
            Refusal::Store(_) => RefusalKind::Internal,
        }
    }

    /// Whether only the name and the password of an account would do, and no token.
    pub fn wants_password(&self) -> bool {
        matches!(self, Refusal::SignInFailed | Refusal::SignInNeeded)
    }

    /// Seconds for a `Retry-After` header.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Refusal::PasswordThrottled { wait }
            | Refusal::PasswordsBusy { wait }
            | Refusal::Throttled { wait } => Some(seconds(*wait)),
            _ => None,
        }
    }

    /// The id of the token that was refused, where one was known.
    pub fn token(&self) -> Option<&TokenId> {
        match self {
            Refusal::AccountDisabled { id, .. }
            | Refusal::NetworkNotAllowed { id, .. }
            | Refusal::PathNotAllowed { id, .. }
            | Refusal::RefsNotAll { id, .. }
            | Refusal::RevokedByRule { id, .. }
            | Refusal::ScopeTooSmall { id, .. }
            | Refusal::SecretReplaced { id, .. }
            | Refusal::TokenExpired { id, .. }
            | Refusal::TokenRevoked { id, .. } => Some(id),
            Refusal::Policy(barred) => Some(&barred.id),
            Refusal::AlternateBarred { .. }
            | Refusal::AlternateRevoked { .. }
            | Refusal::AlternateTooSmall
            | Refusal::AlternateWrong
            | Refusal::CredentialMalformed(_)
            | Refusal::CredentialMissing
            | Refusal::NotAToken
            | Refusal::NotAdministrator { .. }
            | Refusal::NotFound
            | Refusal::RoleTooSmall { .. }
            | Refusal::PasswordMustChange { .. }
            | Refusal::PasswordNeeded
            | Refusal::PasswordThrottled { .. }
            | Refusal::PasswordsBusy { .. }
            | Refusal::SignInFailed
            | Refusal::SignInNeeded
            | Refusal::Store(_)
            | Refusal::Throttled { .. }
            | Refusal::TokenGarbled
            | Refusal::TokenUnknown => None,
        }
    }

    /// Why, in a word for the audit trail; None where nobody can be named who was refused, or nobody was.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Refusal::AccountDisabled { .. } => Some("account-disabled"),
            Refusal::AlternateBarred { .. } => Some("policy"),
            Refusal::AlternateRevoked { .. } => Some("rule"),
            Refusal::AlternateTooSmall => Some("scope"),
            Refusal::AlternateWrong => Some("password"),
            Refusal::NetworkNotAllowed { .. } => Some("network"),
            Refusal::NotAdministrator { .. } => Some("no-administrator"),
            Refusal::NotFound => Some("not-found"),
            Refusal::PathNotAllowed { .. } => Some("path"),
            Refusal::PasswordNeeded => Some("password-needed"),
            Refusal::Policy(_) => Some("policy"),
            Refusal::RefsNotAll { .. } => Some("refs"),
            Refusal::RevokedByRule { .. } => Some("rule"),
            Refusal::RoleTooSmall { .. } => Some("role"),
            Refusal::ScopeTooSmall { .. } => Some("scope"),
            Refusal::SecretReplaced { .. } => Some("replaced"),
            Refusal::TokenExpired { .. } => Some("expired"),
            Refusal::TokenRevoked { .. } => Some("revoked"),
            // Of these none has a token.
            Refusal::CredentialMalformed(_)
            | Refusal::CredentialMissing
            | Refusal::NotAToken
            | Refusal::PasswordMustChange { .. }
            | Refusal::PasswordThrottled { .. }
            | Refusal::PasswordsBusy { .. }
            | Refusal::SignInFailed
            | Refusal::SignInNeeded
            | Refusal::Store(_)
            | Refusal::Throttled { .. }
            | Refusal::TokenGarbled
            | Refusal::TokenUnknown => None,
        }
    }

    /// The scope for the `scope` attribute of an `insufficient_scope` challenge (RFC 6750, section 3.1).
    pub fn missing_scope(&self) -> Option<&'static str> {
        match self {
            Refusal::ScopeTooSmall { operation, .. } => operation.scope(),
            _ => None,
        }
    }
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        Refusal::Store(error)
    }
}

impl From<credential::Error> for Refusal {
    fn from(error: credential::Error) -> Self {
        Refusal::CredentialMalformed(error)
    }
}

impl From<ParseError> for Refusal {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::Checksum => Refusal::TokenGarbled,
            ParseError::Shape => Refusal::NotAToken,
        }
    }
}

/// Whole seconds, rounded up, so that whoever waits them out has waited long enough.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs()
        .saturating_add(u64::from(wait.subsec_nanos() > 0))
        .max(1)
}

/// The first entries of a limit, and how many more there are.
fn named<T: Display>(entries: &[T], and: &str) -> String {
    let mut text = String::new();
    let shown = entries.len().min(NAMED_COUNT_MAX);
    for (at, entry) in entries.iter().take(shown).enumerate() {
        let separator = match at {
            0 => String::new(),
            _ if at + 1 == entries.len() => format!(" {and} "),
            _ => ", ".to_owned(),
        };
        text.push_str(&format!("{separator}{entry}"));
    }
    match entries.len() - shown {
        0 => text,
        more => format!("{text} {and} {more} more"),
    }
}

fn explained(because: Option<RevokeReason>) -> String {
    because.map_or_else(String::new, |because| format!(", {}", because.explanation()))
}

fn time(at: Timestamp) -> impl Display {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d at %H:%M UTC")
}

fn title(operation: Operation) -> &'static str {
    operation
        .scope()
        .and_then(scope::find)
        .map_or("", |scope| scope.title)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_limits_are_named_in_part() {
        let paths =
            |count: usize| -> Vec<String> { (1..=count).map(|number| format!("C{number}")).collect() };
        assert_eq!(named(&paths(1), "and"), "C1");
        assert_eq!(named(&paths(2), "or"), "C1 or C2");
        assert_eq!(named(&paths(5), "and"), "C1, C2, C3, C4 and C5");
        assert_eq!(named(&paths(100), "and"), "C1, C2, C3, C4, C5 and 95 more");
    }
}
