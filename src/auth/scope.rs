//! Scopes: what a token is allowed to be used for, and which of them each operation needs.
//!
//! They are those of Azure DevOps, with its inclusion chain: a scope allows whatever the one it inherits from allows.
//! Only the code family opens anything in git; a few more open something over REST, and the others can be put on a token
//! because people and tools ask for them by name. Two tables, [`ALL`] and the one of [`Operation`], are all there is:
//! checks, help and answers are made from them. Pure; knows neither tokens nor accounts.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use crate::names::Quoted;

/// The scope that allows everything.
const EVERYTHING: &str = "app_token";

/// Said of a scope whose holder can change or give away what is hard to get back; as Azure DevOps marks them.
const HIGH: bool = true;
/// Said of the others.
const USUAL: bool = false;

/// One scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// The name that requests and the command line use.
    pub name: &'static str,
    /// The heading that it is listed under; scopes of one family stand together in [`ALL`].
    pub family: &'static str,
    /// Whether it is to be given with care: its holder can change or give away what is hard to get back.
    pub is_high_privilege: bool,
    /// The name on pages.
    pub title: &'static str,
    /// What it allows; "as well" is in addition to what it inherits.
    pub description: &'static str,
    /// The scope that it includes.
    pub inherits: Option<&'static str>,
}

const fn scope(
    name: &'static str,
    family: &'static str,
    is_high_privilege: bool,
    title: &'static str,
    description: &'static str,
    inherits: Option<&'static str>,
) -> Scope {
    Scope {
        name,
        family,
        is_high_privilege,
        title,
        description,
        inherits,
    }
}

/// All scopes there are, one a line. A set of them is a `u128`, so there is room for 128.
#[rustfmt::skip]
pub const ALL: &[Scope] = &[
    scope("vso.advsec", "Advanced Security", HIGH, "Advanced Security (read)", "Read alerts and analysis results.", None),
    scope("vso.advsec_write", "Advanced Security", HIGH, "Advanced Security (read and write)", "Upload analyses as well.", Some("vso.advsec")),
    scope("vso.advsec_manage", "Advanced Security", HIGH, "Advanced Security (read, write, and manage)", "Manage alerts as well.", Some("vso.advsec_write")),
    scope("vso.agentpools", "Agent Pools", USUAL, "Agent Pools (read)", "See pools, queues, agents and their jobs.", None),
    scope("vso.agentpools_manage", "Agent Pools", HIGH, "Agent Pools (read, manage)", "Manage pools, queues and agents.", Some("vso.agentpools")),
    scope("vso.environment_manage", "Agent Pools", HIGH, "Environment (read, manage)", "Manage environments as well.", Some("vso.agentpools_manage")),
    scope("vso.machinegroup_manage", "Deployment Groups", HIGH, "Deployment group (read, manage)", "Manage deployment groups as well.", Some("vso.agentpools_manage")),
    scope("vso.analytics", "Analytics", USUAL, "Analytics (read)", "Query analytics.", None),
    scope("vso.auditlog", "Auditing", USUAL, "Audit Log (read)", "Read the audit log.", None),
    scope("vso.auditstreams_manage", "Auditing", HIGH, "Audit Streams (read)", "Manage audit streams as well.", Some("vso.auditlog")),
    scope("vso.build", "Build", USUAL, "Build (read)", "Read build definitions, results and artifacts.", Some("vso.hooks_write")),
    scope("vso.build_execute", "Build", HIGH, "Build (read and execute)", "Queue and change builds as well.", Some("vso.build")),
    scope("vso.code", "Code", USUAL, "Code (read)", "Fetch and read repositories.", Some("vso.hooks_write")),
    scope("vso.code_write", "Code", HIGH, "Code (read and write)", "Push to repositories as well.", Some("vso.code")),
    scope("vso.code_manage", "Code", HIGH, "Code (read, write, and manage)", "Create, rename and delete repositories as well.", Some("vso.code_write")),
    scope("vso.code_full", "Code", HIGH, "Code (full)", "Everything about code.", Some("vso.code_manage")),
    scope("vso.code_status", "Code", USUAL, "Code (status)", "Read and write the status of commits and pull requests, and nothing else of them.", None),
    scope("vso.connected_server", "Connected Server", USUAL, "Connected Server", "Reach what a connected server on premises needs.", None),
    scope("vso.entitlements", "Entitlements", USUAL, "Entitlements (Read)", "Read licence entitlements.", None),
    scope("vso.memberentitlementmanagement", "Entitlements", USUAL, "MemberEntitlement Management (read)", "Read members, their licences and extensions.", None),
    scope("vso.memberentitlementmanagement_write", "Entitlements", HIGH, "MemberEntitlement Management (write)", "Manage them as well.", Some("vso.memberentitlementmanagement")),
    scope("vso.extension", "Extensions", USUAL, "Extensions (read)", "Read installed extensions.", Some("vso.profile")),
    scope("vso.extension_manage", "Extensions", HIGH, "Extensions (read and manage)", "Install and remove extensions as well.", Some("vso.extension")),
    scope("vso.extension.data", "Extensions", USUAL, "Extension data (read)", "Read what extensions have stored.", Some("vso.profile")),
    scope("vso.extension.data_write", "Extensions", USUAL, "Extension data (read and write)", "Write it as well.", Some("vso.extension.data")),
    scope("vso.githubconnections", "GitHub Connections", USUAL, "GitHub Connections (read)", "Read connections to GitHub.", None),
    scope("vso.githubconnections_manage", "GitHub Connections", HIGH, "GitHub Connections (read and manage)", "Manage them as well.", Some("vso.githubconnections")),
    scope("vso.graph", "Graph and Identity", USUAL, "Graph (read)", "Read users, groups and memberships.", None),
    scope("vso.graph_manage", "Graph and Identity", HIGH, "Graph (manage)", "Manage them as well.", Some("vso.graph")),
    scope("vso.identity", "Graph and Identity", USUAL, "Identity (read)", "Read identities and groups.", None),
    scope("vso.identity_manage", "Graph and Identity", HIGH, "Identity (manage)", "Manage them as well.", Some("vso.identity")),
    scope("vso.gallery", "Marketplace", USUAL, "Marketplace", "Read items and publishers.", Some("vso.profile")),
    scope("vso.gallery_acquire", "Marketplace", USUAL, "Marketplace (acquire)", "Acquire items as well.", Some("vso.gallery")),
    scope("vso.gallery_publish", "Marketplace", HIGH, "Marketplace (publish)", "Publish items as well.", Some("vso.gallery")),
    scope("vso.gallery_manage", "Marketplace", HIGH, "Marketplace (manage)", "Manage items and publishers as well.", Some("vso.gallery_publish")),
    scope("vso.notification", "Notifications", USUAL, "Notifications (read)", "Read subscriptions and events.", Some("vso.profile")),
    scope("vso.notification_write", "Notifications", USUAL, "Notifications (write)", "Write subscriptions as well.", Some("vso.notification")),
    scope("vso.notification_manage", "Notifications", USUAL, "Notifications (manage)", "Manage subscriptions as well.", Some("vso.notification_write")),
    scope("vso.notification_diagnostics", "Notifications", USUAL, "Notifications (diagnostics)", "Read diagnostic logs of notifications as well.", Some("vso.notification")),
    scope("vso.packaging", "Packaging", USUAL, "Packaging (read)", "Read feeds and packages.", Some("vso.profile")),
    scope("vso.packaging_write", "Packaging", HIGH, "Packaging (read and write)", "Write them as well.", Some("vso.packaging")),
    scope("vso.packaging_manage", "Packaging", HIGH, "Packaging (read, write, and manage)", "Delete them as well.", Some("vso.packaging_write")),
    scope("vso.pipelineresources_use", "Pipeline Resources", HIGH, "Pipeline Resources (use)", "Approve the use of a protected resource.", None),
    scope("vso.pipelineresources_manage", "Pipeline Resources", HIGH, "Pipeline Resources (use and manage)", "Manage protected resources as well.", Some("vso.pipelineresources_use")),
    scope("vso.project", "Project and Team", USUAL, "Project and team (read)", "Read projects and teams.", None),
    scope("vso.project_write", "Project and Team", USUAL, "Project and team (read and write)", "Change them as well.", Some("vso.project")),
    scope("vso.project_manage", "Project and Team", HIGH, "Project and team (read, write and manage)", "Create and delete them as well.", Some("vso.project_write")),
    scope("vso.release", "Release", USUAL, "Release (read)", "Read releases and their definitions.", Some("vso.profile")),
    scope("vso.release_execute", "Release", HIGH, "Release (read, write and execute)", "Change and queue releases as well.", Some("vso.release")),
    scope("vso.release_manage", "Release", HIGH, "Release (read, write, execute and manage)", "Delete and approve releases as well.", Some("vso.release_execute")),
    scope("vso.securefiles_read", "Secure Files", HIGH, "Secure Files (read)", "Read secure files.", None),
    scope("vso.securefiles_write", "Secure Files", HIGH, "Secure Files (read, create)", "Create them as well.", Some("vso.securefiles_read")),
    scope("vso.securefiles_manage", "Secure Files", HIGH, "Secure Files (read, create, and manage)", "Manage them as well.", Some("vso.securefiles_write")),
    scope("vso.security_manage", "Security", HIGH, "Security (manage)", "Read and change permissions.", None),
    scope("vso.serviceendpoint", "Service Connections", USUAL, "Service Endpoints (read)", "Read service endpoints.", Some("vso.profile")),
    scope("vso.serviceendpoint_query", "Service Connections", USUAL, "Service Endpoints (read and query)", "Query them as well.", Some("vso.serviceendpoint")),
    scope("vso.serviceendpoint_manage", "Service Connections", HIGH, "Service Endpoints (read, query and manage)", "Manage them as well.", Some("vso.serviceendpoint_query")),
    scope("vso.hooks", "Service Hooks", USUAL, "Service hooks (read)", "Read service hook subscriptions.", Some("vso.profile")),
    scope("vso.hooks_write", "Service Hooks", USUAL, "Service hooks (read and write)", "Write them as well.", Some("vso.hooks")),
    scope("vso.hooks_interact", "Service Hooks", USUAL, "Service hooks (interact)", "Act on events that came by service hooks.", Some("vso.profile")),
    scope("vso.settings", "Settings", USUAL, "Settings (read)", "Read settings.", None),
    scope("vso.settings_write", "Settings", USUAL, "Settings (read and write)", "Write them as well.", Some("vso.settings")),
    scope("vso.symbols", "Symbols", USUAL, "Symbols (read)", "Read symbols.", Some("vso.profile")),
    scope("vso.symbols_write", "Symbols", USUAL, "Symbols (read and write)", "Write them as well.", Some("vso.symbols")),
    scope("vso.symbols_manage", "Symbols", USUAL, "Symbols (read, write and manage)", "Manage them as well.", Some("vso.symbols_write")),
    scope("vso.taskgroups_read", "Task Groups", USUAL, "Task Groups (read)", "Read task groups.", None),
    scope("vso.taskgroups_write", "Task Groups", USUAL, "Task Groups (read, create)", "Create them as well.", Some("vso.taskgroups_read")),
    scope("vso.taskgroups_manage", "Task Groups", HIGH, "Task Groups (read, create and manage)", "Manage them as well.", Some("vso.taskgroups_write")),
    scope("vso.dashboards", "Team Dashboards", USUAL, "Team dashboards (read)", "Read team dashboards.", None),
    scope("vso.dashboards_manage", "Team Dashboards", USUAL, "Team dashboards (manage)", "Manage them as well.", Some("vso.dashboards")),
    scope("vso.test", "Test Management", USUAL, "Test management (read)", "Read test plans, cases and results.", Some("vso.profile")),
    scope("vso.test_write", "Test Management", USUAL, "Test management (read and write)", "Write them as well.", Some("vso.test")),
    scope("vso.threads_full", "PR Threads", USUAL, "PR threads", "Read and write the comment threads of pull requests.", None),
    scope("vso.tokens", "Tokens", HIGH, "Delegated Authorization Tokens", "Give tokens to users.", None),
    scope("vso.tokenadministration", "Tokens", HIGH, "Token Administration", "See and revoke the tokens of others.", None),
    scope("vso.pats", "Tokens", USUAL, "Personal access tokens (read)", "Read the personal access tokens of a user.", None),
    scope("vso.pats_manage", "Tokens", HIGH, "Personal access tokens (read and manage)", "Manage them as well.", Some("vso.pats")),
    scope("vso.profile", "User Profile", USUAL, "User profile (read)", "Read the own profile, accounts, collections, projects and teams.", None),
    scope("vso.profile_write", "User Profile", USUAL, "User profile (write)", "Write the own profile as well.", Some("vso.profile")),
    scope("vso.variablegroups_read", "Variable Groups", USUAL, "Variable Groups (read)", "Read variable groups.", None),
    scope("vso.variablegroups_write", "Variable Groups", USUAL, "Variable Groups (read, create)", "Create them as well.", Some("vso.variablegroups_read")),
    scope("vso.variablegroups_manage", "Variable Groups", HIGH, "Variable Groups (read, create and manage)", "Manage them as well.", Some("vso.variablegroups_write")),
    scope("vso.wiki", "Wiki", USUAL, "Wiki (read)", "Read and search wikis.", None),
    scope("vso.wiki_write", "Wiki", USUAL, "Wiki (read and write)", "Write them as well.", Some("vso.wiki")),
    scope("vso.work", "Work Items", USUAL, "Work items (read)", "Read work items, queries and boards.", Some("vso.hooks_write")),
    scope("vso.work_write", "Work Items", USUAL, "Work items (read and write)", "Write them as well.", Some("vso.work")),
    scope("vso.work_full", "Work Items", USUAL, "Work items (full)", "Everything about work items.", Some("vso.work_write")),
    scope("user_impersonation", "User Impersonation", HIGH, "User Impersonation", "Use the REST interface as the owner, but for what administrators do; git is not part of it.", None),
    scope("app_token", "Full Access", HIGH, "Full access", "Everything that the owner may do.", None),
];

/// What each scope of [`ALL`] includes, itself among it.
static CLOSURES: LazyLock<Vec<u128>> = LazyLock::new(|| (0..ALL.len()).map(closure).collect());

/// The scopes that open each operation of [`Operation::ALL`], as far as they are named by it.
static OPENERS: LazyLock<Vec<u128>> = LazyLock::new(|| {
    let openers = |operation: &Operation| match operation.need() {
        Need::OneOf(names) => names.iter().filter_map(|name| position(name)).map(bit).sum(),
        Need::LiveToken | Need::SignIn | Need::Nothing => 0,
    };
    Operation::ALL.iter().map(openers).collect()
});

fn closure(at: usize) -> u128 {
    if ALL.get(at).is_some_and(|scope| scope.name == EVERYTHING) {
        return u128::MAX;
    }
    let mut included = 0;
    let mut next = Some(at);
    // A circular chain would end, too.
    while let Some(at) = next.filter(|&at| included & bit(at) == 0) {
        included |= bit(at);
        next = ALL.get(at).and_then(|scope| scope.inherits).and_then(position);
    }
    included
}

/// Finds a scope by its exact name.
pub fn find(name: &str) -> Option<&'static Scope> {
    position(name).and_then(|at| ALL.get(at))
}

fn position(name: &str) -> Option<usize> {
    ALL.iter().position(|scope| scope.name == name)
}

fn bit(at: usize) -> u128 {
    u32::try_from(at)
        .ok()
        .and_then(|at| 1u128.checked_shl(at))
        .unwrap_or(0)
}

/// Something that the gate is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Fetching from a repository with git.
    Fetch,
    /// Pushing to a repository with git.
    Push,
    /// Creating, renaming and deleting repositories, and setting their default branch.
    Manage,
    /// Listing and reading repositories and their refs over REST, and `vsts/info`.
    ReadRepositories,
    /// Making, moving and deleting refs over REST.
    UpdateRefs,
    /// Listing and reading projects over REST.
    ReadProjects,
    /// Reading the profile of the token's owner.
    ReadProfile,
    /// What a client asks first: `connectionData`, `ResourceAreas` and the locations of resources.
    Discover,
    /// Inspecting, rotating and revoking the very token that is used: `tokens/self`.
    UseOwnToken,
    /// Making and changing tokens: `tokens/pats`.
    ManageTokens,
    /// Listing and revoking the tokens of others, and revocation rules: `tokenadmin`.
    AdministerTokens,
    /// Reading the audit log of the server.
    ReadAuditLog,
    /// Handing in tokens that somebody found: `tokens/leaked`.
    ReportLeaks,
}

/// What an operation needs of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// One of these scopes, or one that includes one of them. The first is the one to ask for.
    OneOf(&'static [&'static str]),
    /// That it lives; no scope.
    LiveToken,
    /// What no token opens: signing in with the account's name and password.
    SignIn,
    /// No credential at all.
    Nothing,
}

impl Operation {
    /// All operations.
    pub const ALL: [Operation; 13] = [
        Operation::Fetch,
        Operation::Push,
        Operation::Manage,
        Operation::ReadRepositories,
        Operation::UpdateRefs,
        Operation::ReadProjects,
        Operation::ReadProfile,
        Operation::Discover,
        Operation::UseOwnToken,
        Operation::ManageTokens,
        Operation::AdministerTokens,
        Operation::ReadAuditLog,
        Operation::ReportLeaks,
    ];

    /// The one table of what each operation is called, what it is for a person, and what it needs.
    #[rustfmt::skip]
    const fn row(self) -> (&'static str, &'static str, Need) {
        use Need::{LiveToken, Nothing, OneOf, SignIn};

        match self {
            Operation::Fetch => ("fetch", "Clone and fetch with git.", OneOf(&["vso.code"])),
            Operation::Push => ("push", "Push with git.", OneOf(&["vso.code_write"])),
            Operation::Manage => ("manage", "Create, rename and delete repositories, and set their default branch.", OneOf(&["vso.code_manage", "user_impersonation"])),
            Operation::ReadRepositories => ("read-repositories", "List and read repositories and their refs (REST).", OneOf(&["vso.code", "user_impersonation"])),
            Operation::UpdateRefs => ("update-refs", "Make, move and delete refs (REST).", OneOf(&["vso.code_write", "user_impersonation"])),
            Operation::ReadProjects => ("read-projects", "List and read projects (REST).", OneOf(&["vso.project", "vso.code", "user_impersonation"])),
            Operation::ReadProfile => ("read-profile", "Read the own profile (REST).", OneOf(&["vso.profile", "user_impersonation"])),
            Operation::Discover => ("discover", "Ask what the server is and offers: connectionData, ResourceAreas, locations (REST).", LiveToken),
            Operation::UseOwnToken => ("use-own-token", "Inspect, rotate and revoke the token that is used: tokens/self (REST).", LiveToken),
            Operation::ManageTokens => ("manage-tokens", "Make and change tokens: tokens/pats (REST).", SignIn),
            Operation::AdministerTokens => ("administer-tokens", "List and revoke the tokens of others: tokenadmin (REST); for administrators.", OneOf(&["vso.tokenadministration"])),
            Operation::ReadAuditLog => ("read-audit-log", "Read the audit log (REST); for administrators.", OneOf(&["vso.auditlog"])),
            Operation::ReportLeaks => ("report-leaks", "Hand in tokens that somebody found: tokens/leaked (REST).", Nothing),
        }
    }

    /// Its name, of lower-case letters and dashes.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// What it is, in a sentence.
    pub const fn description(self) -> &'static str {
        self.row().1
    }

    /// What it needs of a token.
    pub const fn need(self) -> Need {
        self.row().2
    }

    /// The scope to ask for; None where no scope helps or none is needed.
    pub const fn scope(self) -> Option<&'static str> {
        match self.need() {
            Need::OneOf([first, ..]) => Some(first),
            Need::OneOf([]) | Need::LiveToken | Need::SignIn | Need::Nothing => None,
        }
    }

    /// Whether it is about the server as a whole: then it is for administrators, and not for a token that is limited to
    /// some paths.
    pub const fn is_server_wide(self) -> bool {
        matches!(self, Operation::AdministerTokens | Operation::ReadAuditLog)
    }
}

/// Why a text names no scopes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// There is not one.
    #[error("a token needs at least one scope, such as 'vso.code' or 'vso.code_write'")]
    Empty,
    /// There is no scope of this name.
    #[error("there is no scope {}", Quoted(.name))]
    Unknown {
        /// The name.
        name: String,
    },
}

/// A set of scopes: those that were named, and all that they include.
///
/// `Display` prints the named ones, in the order of [`ALL`], with spaces between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes {
    named: u128,
    included: u128,
}

impl Scopes {
    /// Reads what was stored. A name that is unknown, as a newer patgate may have stored it, allows nothing.
    pub fn parse_known(text: &str) -> Scopes {
        let mut scopes = Scopes::default();
        for at in text.split_ascii_whitespace().filter_map(position) {
            scopes.insert(at);
        }
        scopes
    }

    fn insert(&mut self, at: usize) {
        self.named |= bit(at);
        self.included |= CLOSURES.get(at).copied().unwrap_or(0);
    }

    /// Tells whether a scope is in the set, named or included.
    pub fn includes(&self, name: &str) -> bool {
        position(name).is_some_and(|at| self.included & bit(at) != 0)
    }

    /// Tells whether every scope of `other` is in the set, named or included.
    pub fn include_all(&self, other: &Scopes) -> bool {
        other.named & !self.included == 0
    }

    /// Tells whether the set has what `operation` needs.
    pub fn allows(&self, operation: Operation) -> bool {
        match operation.need() {
            Need::LiveToken | Need::Nothing => true,
            Need::SignIn => false,
            Need::OneOf(_) => {
                let openers = OPENERS.get(operation as usize).copied().unwrap_or(0);
                self.included & openers != 0
            }
        }
    }

    /// Returns the set with the scope added that `operation` asks for.
    #[must_use]
    pub fn with(mut self, operation: Operation) -> Scopes {
        if let Some(at) = operation.scope().and_then(position) {
            self.insert(at);
        }
        self
    }

    /// The scopes that were named, in the order of [`ALL`].
    pub fn iter(&self) -> impl Iterator<Item = &'static Scope> + use<> {
        let named = self.named;
        ALL.iter()
            .enumerate()
            .filter(move |(at, _)| named & bit(*at) != 0)
            .map(|(_, scope)| scope)
    }
}

impl FromStr for Scopes {
    type Err = ScopeError;

    /// Reads names with spaces between; order and repetition do not matter.
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let mut scopes = Scopes::default();
        for name in text.split_ascii_whitespace() {
            scopes.insert(position(name).ok_or_else(|| ScopeError::Unknown {
                name: name.to_owned(),
            })?);
        }
        if scopes.named == 0 {
            return Err(ScopeError::Empty);
        }
        Ok(scopes)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for scope in self.iter() {
            write!(f, "{separator}{}", scope.name)?;
            separator = " ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn scopes(text: &str) -> Scopes {
        text.parse().unwrap()
    }

    #[test]
    fn every_scope_has_one_row_and_inherits_from_one_that_exists() {
        assert!(ALL.len() <= 128, "a set of scopes is a u128");
        assert_eq!(
            ALL.iter().map(|scope| scope.name).collect::<HashSet<_>>().len(),
            ALL.len()
        );
        for scope in ALL {
            assert!(
                scope.inherits.is_none_or(|name| find(name).is_some()),
                "{scope:?}"
            );
            let mut chain = vec![scope.name];
            while let Some(next) = chain
                .last()
                .and_then(|name| find(name))
                .and_then(|scope| scope.inherits)
            {
                assert!(!chain.contains(&next), "{scope:?} includes itself");
                chain.push(next);
            }
        }
    }

    #[test]
    fn scopes_of_one_family_stand_together() {
        let mut families: Vec<&str> = ALL.iter().map(|scope| scope.family).collect();
        families.dedup();
        assert_eq!(
            families.iter().collect::<HashSet<_>>().len(),
            families.len(),
            "{families:?}"
        );
    }

    #[test]
    fn every_operation_is_in_the_table_once_and_needs_scopes_that_exist() {
        for (at, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, at, "{operation:?} has its place in the list");
            if let Need::OneOf(names) = operation.need() {
                assert!(!names.is_empty(), "{operation:?}");
                assert!(names.iter().all(|name| find(name).is_some()), "{operation:?}");
            }
        }
        let names: HashSet<&str> = Operation::ALL.into_iter().map(Operation::name).collect();
        assert_eq!(names.len(), Operation::ALL.len());
    }

    #[test]
    fn every_scope_opens_what_it_is_for_and_nothing_else() {
        use Operation::{
            AdministerTokens, Discover, Fetch, Manage, ManageTokens, Push, ReadAuditLog, ReadProfile,
            ReadProjects, ReadRepositories, ReportLeaks, UpdateRefs, UseOwnToken,
        };

        for scope in ALL {
            let set = scopes(scope.name);
            let mut expected = vec![Discover, UseOwnToken, ReportLeaks];
            if set.includes("vso.profile") {
                expected.push(ReadProfile);
            }
            expected.extend_from_slice(match scope.name {
                "vso.code" => &[Fetch, ReadRepositories, ReadProjects][..],
                "vso.code_write" => &[Fetch, Push, ReadRepositories, UpdateRefs, ReadProjects],
                "vso.code_manage" | "vso.code_full" => {
                    &[Fetch, Push, Manage, ReadRepositories, UpdateRefs, ReadProjects]
                }
                "vso.project" | "vso.project_write" | "vso.project_manage" => &[ReadProjects],
                "vso.tokenadministration" => &[AdministerTokens],
                "vso.auditlog" | "vso.auditstreams_manage" => &[ReadAuditLog],
                "user_impersonation" => &[Manage, ReadRepositories, UpdateRefs, ReadProjects, ReadProfile],
                _ => &[],
            });
            if scope.name == "app_token" {
                expected = Operation::ALL.to_vec();
                expected.retain(|operation| *operation != ManageTokens);
            }
            for operation in Operation::ALL {
                assert_eq!(
                    set.allows(operation),
                    expected.contains(&operation),
                    "{} and {}",
                    scope.name,
                    operation.name()
                );
            }
        }
    }

    #[test]
    fn an_operation_asks_for_the_smallest_scope_that_opens_it() {
        for operation in Operation::ALL {
            let asked = Scopes::default().with(operation);
            assert_eq!(
                asked.allows(operation),
                operation.need() != Need::SignIn,
                "{operation:?}"
            );
            if let Some(name) = operation.scope() {
                let inherited = find(name).and_then(|scope| scope.inherits);
                assert!(
                    inherited.is_none_or(|name| !scopes(name).allows(operation)),
                    "{operation:?}: what '{name}' inherits would do"
                );
            }
        }
    }

    #[test]
    fn a_set_includes_another_if_it_includes_each_of_its_scopes() {
        assert!(scopes("vso.code_write").include_all(&scopes("vso.code vso.profile")));
        assert!(!scopes("vso.code vso.work").include_all(&scopes("vso.code_write")));
        assert!(scopes("app_token").include_all(&scopes("app_token")));
        assert!(!scopes("vso.code_full").include_all(&scopes("app_token")));
    }

    #[test]
    fn a_long_or_hostile_name_is_refused_by_a_short_and_printable_part_of_it() {
        let text = format!("vso.code \u{1b}[2J{}", "x".repeat(10_000));
        let error = text.parse::<Scopes>().unwrap_err().to_string();
        assert!(error.starts_with("there is no scope '\\u{1b}[2Jxxx"), "{error}");
        assert!(error.len() < 200, "{error}");
    }

    #[test]
    fn a_scope_includes_its_chain_and_full_access_includes_all() {
        for name in [
            "vso.code_full",
            "vso.code",
            "vso.hooks_write",
            "vso.hooks",
            "vso.profile",
        ] {
            assert!(scopes("vso.code_full").includes(name), "{name}");
        }
        assert!(!scopes("vso.code").includes("vso.code_write"));
        assert!(ALL.iter().all(|scope| scopes("app_token").includes(scope.name)));
        assert!(!scopes("app_token").includes("vso.nonsense"));
    }

    #[test]
    fn sets_are_read_and_written_with_spaces() {
        assert_eq!(
            scopes("  vso.work   vso.code vso.work ").to_string(),
            "vso.code vso.work"
        );
        assert_eq!(
            "vso.code vso.codes".parse::<Scopes>(),
            Err(ScopeError::Unknown {
                name: "vso.codes".to_owned()
            })
        );
        assert_eq!(
            "vso.code,vso.work"
                .parse::<Scopes>()
                .map_err(|error| error.to_string()),
            Err("there is no scope 'vso.code,vso.work'".to_owned())
        );
        assert_eq!(" ".parse::<Scopes>(), Err(ScopeError::Empty));
        assert_eq!(Scopes::parse_known("vso.code vso.later").to_string(), "vso.code");
        assert_eq!(
            scopes("vso.work").with(Operation::Push).to_string(),
            "vso.code_write vso.work"
        );
    }
}
