//! The policies there are, the values that they take, and how both are written.
//!
//! One table, [`ALL`], from which validation, help and lists are made. Pure.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};

use crate::auth::scope::Scopes;
use crate::names::Quoted;
use crate::store::{EVERYONE, Role, check_label};

/// The longest time that a policy can name, in days: ten years.
pub const DAYS_MAX: u32 = 3650;

/// Accounts that a policy can name.
pub const ACCOUNTS_COUNT_MAX: usize = 100;

const NOBODY: &str = "nobody";
const ADMINISTRATORS: &str = "administrators";
const CONTRIBUTORS: &str = "contributors";
const OFF: &str = "off";
const ON: &str = "on";
const NONE: &str = "none";

/// Which policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// How long a token may live.
    MaxLifetime,
    /// Whether tokens may have a scope that opens everything.
    FullScope,
    /// Who may make tokens.
    Creation,
    /// What the others may still make tokens for.
    CreationScopes,
    /// After how long an unused token is revoked.
    RevokeUnused,
    /// Whether a token that leaked is revoked.
    RevokeLeaked,
    /// Who may push a secret on purpose.
    AllowSecret,
    /// Whether alternate credentials open anything.
    AlternateCredentials,
    /// How long the audit trail is kept.
    AuditRetention,
}

/// What a person should know about one policy.
#[derive(Debug)]
pub struct Policy {
    /// Which.
    pub name: Name,
    /// The name as it is written.
    pub text: &'static str,
    /// What it takes; the text fits after "takes ".
    pub values: &'static str,
    /// What holds where nothing is set.
    pub default: &'static str,
    /// Whether it can be set for a collection, too.
    pub is_for_collections: bool,
    /// What it does, in a sentence or two.
    pub about: &'static str,
}

/// All policies, in the order in which they are listed.
pub const ALL: &[Policy] = &[
    Policy {
        name: Name::MaxLifetime,
        text: "max-lifetime",
        values: "a number of days from 1 to 3650",
        default: "365",
        is_for_collections: true,
        about: "How long a token may live, from when it was made or rotated. For a collection: how long after that it \
                opens anything there.",
    },
    Policy {
        name: Name::FullScope,
        text: "full-scope",
        values: "allow or deny",
        default: "allow",
        is_for_collections: true,
        about: "Whether a token may have app_token or user_impersonation, which open everything that its owner may do. \
                For a collection: whether such a token opens anything there.",
    },
    Policy {
        name: Name::Creation,
        text: "creation",
        values: "everyone, nobody, or names of accounts with commas between, of which 'administrators' means all \
                 administrators of the server",
        default: "everyone",
        is_for_collections: true,
        about: "Which accounts may have tokens made for them. For a collection: whose tokens open anything there.",
    },
    Policy {
        name: Name::CreationScopes,
        text: "creation-scopes",
        values: "scopes with spaces between, or none",
        default: "none",
        is_for_collections: true,
        about: "The scopes that accounts which 'creation' leaves out may still have tokens with, such as \
                'vso.packaging_manage'.",
    },
    Policy {
        name: Name::RevokeUnused,
        text: "revoke-unused",
        values: "a number of days from 1 to 3650, or off",
        default: "off",
        is_for_collections: true,
        about: "After how many days without use a token is revoked. For a collection: tokens that are limited to it.",
    },
    Policy {
        name: Name::RevokeLeaked,
        text: "revoke-leaked",
        values: "on or off",
        default: "on",
        is_for_collections: false,
        about: "Whether a token that somebody reports as leaked is revoked at once.",
    },
    Policy {
        name: Name::AllowSecret,
        text: "allow-secret",
        values: "nobody, administrators or contributors",
        default: "administrators",
        is_for_collections: true,
        about: "Who may push a live token of this server on purpose, with the push option 'patgate.allow-secret': those \
                who have this role on the repository.",
    },
    Policy {
        name: Name::AlternateCredentials,
        text: "alternate-credentials",
        values: "on or off",
        default: "off",
        is_for_collections: true,
        about: "Whether accounts can use the second name and password that 'patgate alternate set' gives them. A \
                password that opens all of an account's code for ever is worse than any token: leave it off unless a \
                client cannot do better.",
    },
    Policy {
        name: Name::AuditRetention,
        text: "audit-retention",
        values: "a number of days from 1 to 3650, or off",
        default: "off",
        is_for_collections: false,
        about: "After how many days events leave the audit trail; off keeps them for ever.",
    },
];

impl Name {
    /// What a person should know about it.
    pub fn policy(self) -> &'static Policy {
        // The table has a row for each, which a test holds.
        ALL.iter().find(|policy| policy.name == self).unwrap_or(&ALL[0])
    }

    /// The name as it is written.
    pub fn as_str(self) -> &'static str {
        self.policy().text
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// There is no policy of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no policy {}; there are {}", Quoted(.name), names())]
pub struct UnknownName {
    /// The name.
    pub name: String,
}

fn names() -> String {
    let all: Vec<&str> = ALL.iter().map(|policy| policy.text).collect();
    all.join(", ")
}

impl FromStr for Name {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        ALL.iter()
            .find(|policy| policy.text == text)
            .map(|policy| policy.name)
            .ok_or_else(|| UnknownName {
                name: text.to_owned(),
            })
    }
}

/// A text is no value of a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' takes {}, not {}", .name.policy().values, Quoted(.value))]
pub struct ValueError {
    /// The policy.
    pub name: Name,
    /// The text.
    pub value: String,
}

/// A number of days, 1 to [`DAYS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Days(u32);

impl Days {
    /// What a token may live where nothing is set.
    pub const YEAR: Days = Days(365);

    /// That many, if there can be.
    pub const fn new(days: u32) -> Option<Days> {
        if 1 <= days && days <= DAYS_MAX {
            Some(Days(days))
        } else {
            None
        }
    }

    /// How many.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The moment so many days of 24 hours after `moment`.
    pub fn after(self, moment: Timestamp) -> Timestamp {
        moment.checked_add(self.duration()).unwrap_or(Timestamp::MAX)
    }

    /// The moment so many days of 24 hours before `moment`.
    pub fn before(self, moment: Timestamp) -> Timestamp {
        moment.checked_sub(self.duration()).unwrap_or(Timestamp::MIN)
    }

    fn duration(self) -> SignedDuration {
        SignedDuration::from_hours(24 * i64::from(self.0))
    }

    fn parse(text: &str) -> Option<Days> {
        let digits = text.strip_suffix(['d', 'D']).unwrap_or(text);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number
            .then(|| digits.parse().ok())
            .flatten()
            .and_then(Days::new)
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who may make tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    /// Every account.
    Everyone,
    /// Those that are named. Nobody, if neither administrators nor anybody else is.
    Only {
        /// All administrators of the server.
        administrators: bool,
        /// Names of accounts, without regard to case.
        accounts: Vec<String>,
    },
}

impl Creation {
    /// Nobody.
    pub const NOBODY: Creation = Creation::Only {
        administrators: false,
        accounts: Vec::new(),
    };

    /// Whether the account of this name is among them.
    pub fn includes(&self, account: &str, is_admin: bool) -> bool {
        match self {
            Creation::Everyone => true,
            Creation::Only {
                administrators,
                accounts,
            } => (*administrators && is_admin) || accounts.iter().any(|name| is_same_name(name, account)),
        }
    }

    fn parse(text: &str) -> Option<Creation> {
        if is_same_name(text, EVERYONE) {
            return Some(Creation::Everyone);
        }
        if is_same_name(text, NOBODY) {
            return Some(Creation::NOBODY);
        }
        let mut has_administrators = false;
        let mut accounts: Vec<String> = Vec::new();
        for name in text.split(',').map(str::trim) {
            if is_same_name(name, ADMINISTRATORS) {
                has_administrators = true;
                continue;
            }
            // Both make no sense among others.
            let is_all_or_none = is_same_name(name, EVERYONE) || is_same_name(name, NOBODY);
            if is_all_or_none || check_label(name).is_err() {
                return None;
            }
            if !accounts.iter().any(|known| is_same_name(known, name)) {
                accounts.push(name.to_owned());
            }
        }
        (accounts.len() <= ACCOUNTS_COUNT_MAX).then_some(Creation::Only {
            administrators: has_administrators,
            accounts,
        })
    }
}

fn is_same_name(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

impl fmt::Display for Creation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Creation::Everyone => f.write_str(EVERYONE),
            Creation::Only {
                administrators,
                accounts,
            } => {
                let first = administrators.then_some(ADMINISTRATORS);
                let all: Vec<&str> = first
                    .into_iter()
                    .chain(accounts.iter().map(String::as_str))
                    .collect();
                f.write_str(if all.is_empty() { NOBODY } else { "" })?;
                f.write_str(&all.join(", "))
            }
        }
    }
}

/// Who may push a secret on purpose; a later one includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AllowSecret {
    /// Nobody.
    Nobody,
    /// Whoever is administrator of the repository.
    Administrators,
    /// Whoever may push to it.
    Contributors,
}

impl AllowSecret {
    const ALL: [AllowSecret; 3] = [
        AllowSecret::Nobody,
        AllowSecret::Administrators,
        AllowSecret::Contributors,
    ];

    /// Whether somebody with `role` on the repository may.
    pub fn includes(self, role: Role) -> bool {
        match self {
            AllowSecret::Nobody => false,
            AllowSecret::Administrators => role >= Role::Administrator,
            AllowSecret::Contributors => role >= Role::Contributor,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            AllowSecret::Nobody => NOBODY,
            AllowSecret::Administrators => ADMINISTRATORS,
            AllowSecret::Contributors => CONTRIBUTORS,
        }
    }
}

/// A policy with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// See [`Name::MaxLifetime`].
    MaxLifetime(Days),
    /// See [`Name::FullScope`]: whether it is allowed.
    FullScope(bool),
    /// See [`Name::Creation`].
    Creation(Creation),
    /// See [`Name::CreationScopes`].
    CreationScopes(Scopes),
    /// See [`Name::RevokeUnused`]; None is off.
    RevokeUnused(Option<Days>),
    /// See [`Name::RevokeLeaked`].
    RevokeLeaked(bool),
    /// See [`Name::AllowSecret`].
    AllowSecret(AllowSecret),
    /// See [`Name::AlternateCredentials`].
    AlternateCredentials(bool),
    /// See [`Name::AuditRetention`]; None is for ever.
    AuditRetention(Option<Days>),
}

impl Setting {
    /// Reads the value of the policy `name`.
    ///
    /// # Errors
    ///
    /// Says what the policy takes.
    pub fn parse(name: Name, value: &str) -> Result<Setting, ValueError> {
        let text = value.trim();
        let setting = match name {
            Name::MaxLifetime => Days::parse(text).map(Setting::MaxLifetime),
            Name::FullScope => switch(text, "allow", "deny").map(Setting::FullScope),
            Name::Creation => Creation::parse(text).map(Setting::Creation),
            Name::CreationScopes if text == NONE => Some(Setting::CreationScopes(Scopes::default())),
            Name::CreationScopes => text.parse().ok().map(Setting::CreationScopes),
            Name::RevokeUnused => days_or_off(text).map(Setting::RevokeUnused),
            Name::RevokeLeaked => switch(text, ON, OFF).map(Setting::RevokeLeaked),
            Name::AllowSecret => AllowSecret::ALL
                .into_iter()
                .find(|who| who.as_str() == text)
                .map(Setting::AllowSecret),
            Name::AlternateCredentials => switch(text, ON, OFF).map(Setting::AlternateCredentials),
            Name::AuditRetention => days_or_off(text).map(Setting::AuditRetention),
        };
        setting.ok_or_else(|| ValueError {
            name,
            value: value.to_owned(),
        })
    }

    /// Which policy it is.
    pub fn name(&self) -> Name {
        match self {
            Setting::MaxLifetime(_) => Name::MaxLifetime,
            Setting::FullScope(_) => Name::FullScope,
            Setting::Creation(_) => Name::Creation,
            Setting::CreationScopes(_) => Name::CreationScopes,
            Setting::RevokeUnused(_) => Name::RevokeUnused,
            Setting::RevokeLeaked(_) => Name::RevokeLeaked,
            Setting::AllowSecret(_) => Name::AllowSecret,
            Setting::AlternateCredentials(_) => Name::AlternateCredentials,
            Setting::AuditRetention(_) => Name::AuditRetention,
        }
    }
}

/// The value, as [`Setting::parse`] reads it.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let switch = |is_on: bool, on, off| if is_on { on } else { off };
        match self {
            Setting::MaxLifetime(days) => days.fmt(f),
            Setting::FullScope(is_allowed) => f.write_str(switch(*is_allowed, "allow", "deny")),
            Setting::Creation(who) => who.fmt(f),
            Setting::CreationScopes(scopes) if *scopes == Scopes::default() => f.write_str(NONE),
            Setting::CreationScopes(scopes) => scopes.fmt(f),
            Setting::RevokeUnused(days) | Setting::AuditRetention(days) => match days {
                Some(days) => days.fmt(f),
                None => f.write_str(OFF),
            },
            Setting::RevokeLeaked(is_on) | Setting::AlternateCredentials(is_on) => {
                f.write_str(switch(*is_on, ON, OFF))
            }
            Setting::AllowSecret(who) => f.write_str(who.as_str()),
        }
    }
}

fn switch(text: &str, on: &str, off: &str) -> Option<bool> {
    (text == on || text == off).then_some(text == on)
}

fn days_or_off(text: &str) -> Option<Option<Days>> {
    if text == OFF {
        return Some(None);
    }
    Days::parse(text).map(Some)
}
