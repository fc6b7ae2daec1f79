//! Scopes: what a token is allowed to be used for.
//!
//! They are those of Azure DevOps, with its inclusion chain: a scope allows whatever the one it inherits from allows.
//! Only the code family opens anything in git; the others can be put on a token because people and tools ask for them
//! by name. Pure; knows neither tokens nor accounts.

use std::fmt;
use std::str::FromStr;

/// The scope that allows everything.
const EVERYTHING: &str = "app_token";

/// One scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// The name that requests and the command line use.
    pub name: &'static str,
    /// The name on pages.
    pub title: &'static str,
    /// What it allows; "as well" is in addition to what it inherits.
    pub description: &'static str,
    /// The scope that it includes.
    pub inherits: Option<&'static str>,
}

const fn scope(
    name: &'static str,
    title: &'static str,
    description: &'static str,
    inherits: Option<&'static str>,
) -> Scope {
    Scope {
        name,
        title,
        description,
        inherits,
    }
}

/// All scopes there are, one a line. A set of them is a `u128`, so there is room for 128.
#[rustfmt::skip]
pub const ALL: &[Scope] = &[
    scope("vso.advsec", "Advanced Security (read)", "Read alerts and analysis results.", None),
    scope("vso.advsec_write", "Advanced Security (read and write)", "Upload analyses as well.", Some("vso.advsec")),
    scope("vso.advsec_manage", "Advanced Security (read, write, and manage)", "Manage alerts as well.", Some("vso.advsec_write")),
    scope("vso.agentpools", "Agent Pools (read)", "See pools, queues, agents and their jobs.", None),
    scope("vso.agentpools_manage", "Agent Pools (read, manage)", "Manage pools, queues and agents.", Some("vso.agentpools")),
    scope("vso.environment_manage", "Environment (read, manage)", "Manage environments as well.", Some("vso.agentpools_manage")),
    scope("vso.machinegroup_manage", "Deployment group (read, manage)", "Manage deployment groups as well.", Some("vso.agentpools_manage")),
    scope("vso.analytics", "Analytics (read)", "Query analytics.", None),
    scope("vso.auditlog", "Audit Log (read)", "Read the audit log.", None),
    scope("vso.auditstreams_manage", "Audit Streams (read)", "Manage audit streams as well.", Some("vso.auditlog")),
    scope("vso.build", "Build (read)", "Read build definitions, results and artifacts.", Some("vso.hooks_write")),
    scope("vso.build_execute", "Build (read and execute)", "Queue and change builds as well.", Some("vso.build")),
    scope("vso.code", "Code (read)", "Fetch and read repositories.", Some("vso.hooks_write")),
    scope("vso.code_write", "Code (read and write)", "Push to repositories as well.", Some("vso.code")),
    scope("vso.code_manage", "Code (read, write, and manage)", "Create, rename and delete repositories as well.", Some("vso.code_write")),
    scope("vso.code_full", "Code (full)", "Everything about code.", Some("vso.code_manage")),
    scope("vso.code_status", "Code (status)", "Read and write the status of commits and pull requests, and nothing else of them.", None),
    scope("vso.connected_server", "Connected Server", "Reach what a connected server on premises needs.", None),
    scope("vso.entitlements", "Entitlements (Read)", "Read licence entitlements.", None),
    scope("vso.memberentitlementmanagement", "MemberEntitlement Management (read)", "Read members, their licences and extensions.", None),
    scope("vso.memberentitlementmanagement_write", "MemberEntitlement Management (write)", "Manage them as well.", Some("vso.memberentitlementmanagement")),
    scope("vso.extension", "Extensions (read)", "Read installed extensions.", Some("vso.profile")),
    scope("vso.extension_manage", "Extensions (read and manage)", "Install and remove extensions as well.", Some("vso.extension")),
    scope("vso.extension.data", "Extension data (read)", "Read what extensions have stored.", Some("vso.profile")),
    scope("vso.extension.data_write", "Extension data (read and write)", "Write it as well.", Some("vso.extension.data")),
    scope("vso.githubconnections", "GitHub Connections (read)", "Read connections to GitHub.", None),
    scope("vso.githubconnections_manage", "GitHub Connections (read and manage)", "Manage them as well.", Some("vso.githubconnections")),
    scope("vso.graph", "Graph (read)", "Read users, groups and memberships.", None),
    scope("vso.graph_manage", "Graph (manage)", "Manage them as well.", Some("vso.graph")),
    scope("vso.identity", "Identity (read)", "Read identities and groups.", None),
    scope("vso.identity_manage", "Identity (manage)", "Manage them as well.", Some("vso.identity")),
    scope("vso.gallery", "Marketplace", "Read items and publishers.", Some("vso.profile")),
    scope("vso.gallery_acquire", "Marketplace (acquire)", "Acquire items as well.", Some("vso.gallery")),
    scope("vso.gallery_publish", "Marketplace (publish)", "Publish items as well.", Some("vso.gallery")),
    scope("vso.gallery_manage", "Marketplace (manage)", "Manage items and publishers as well.", Some("vso.gallery_publish")),
    scope("vso.notification", "Notifications (read)", "Read subscriptions and events.", Some("vso.profile")),
    scope("vso.notification_write", "Notifications (write)", "Write subscriptions as well.", Some("vso.notification")),
    scope("vso.notification_manage", "Notifications (manage)", "Manage subscriptions as well.", Some("vso.notification_write")),
    scope("vso.notification_diagnostics", "Notifications (diagnostics)", "Read diagnostic logs of notifications as well.", Some("vso.notification")),
    scope("vso.packaging", "Packaging (read)", "Read feeds and packages.", Some("vso.profile")),
    scope("vso.packaging_write", "Packaging (read and write)", "Write them as well.", Some("vso.packaging")),
    scope("vso.packaging_manage", "Packaging (read, write, and manage)", "Delete them as well.", Some("vso.packaging_write")),
    scope("vso.pats", "Personal access tokens (read)", "Read the personal access tokens of a user.", None),
    scope("vso.pats_manage", "Personal access tokens (read and manage)", "Manage them as well.", Some("vso.pats")),
    scope("vso.pipelineresources_use", "Pipeline Resources (use)", "Approve the use of a protected resource.", None),
    scope("vso.pipelineresources_manage", "Pipeline Resources (use and manage)", "Manage protected resources as well.", Some("vso.pipelineresources_use")),
    scope("vso.project", "Project and team (read)", "Read projects and teams.", None),
    scope("vso.project_write", "Project and team (read and write)", "Change them as well.", Some("vso.project")),
    scope("vso.project_manage", "Project and team (read, write and manage)", "Create and delete them as well.", Some("vso.project_write")),
    scope("vso.release", "Release (read)", "Read releases and their definitions.", Some("vso.profile")),
    scope("vso.release_execute", "Release (read, write and execute)", "Change and queue releases as well.", Some("vso.release")),
    scope("vso.release_manage", "Release (read, write, execute and manage)", "Delete and approve releases as well.", Some("vso.release_execute")),
    scope("vso.securefiles_read", "Secure Files (read)", "Read secure files.", None),
    scope("vso.securefiles_write", "Secure Files (read, create)", "Create them as well.", Some("vso.securefiles_read")),
    scope("vso.securefiles_manage", "Secure Files (read, create, and manage)", "Manage them as well.", Some("vso.securefiles_write")),
    scope("vso.security_manage", "Security (manage)", "Read and change permissions.", None),
    scope("vso.serviceendpoint", "Service Endpoints (read)", "Read service endpoints.", Some("vso.profile")),
    scope("vso.serviceendpoint_query", "Service Endpoints (read and query)", "Query them as well.", Some("vso.serviceendpoint")),
    scope("vso.serviceendpoint_manage", "Service Endpoints (read, query and manage)", "Manage them as well.", Some("vso.serviceendpoint_query")),
    scope("vso.hooks", "Service hooks (read)", "Read service hook subscriptions.", Some("vso.profile")),
    scope("vso.hooks_write", "Service hooks (read and write)", "Write them as well.", Some("vso.hooks")),
    scope("vso.hooks_interact", "Service hooks (interact)", "Act on events that came by service hooks.", Some("vso.profile")),
    scope("vso.settings", "Settings (read)", "Read settings.", None),
    scope("vso.settings_write", "Settings (read and write)", "Write them as well.", Some("vso.settings")),
    scope("vso.symbols", "Symbols (read)", "Read symbols.", Some("vso.profile")),
    scope("vso.symbols_write", "Symbols (read and write)", "Write them as well.", Some("vso.symbols")),
    scope("vso.symbols_manage", "Symbols (read, write and manage)", "Manage them as well.", Some("vso.symbols_write")),
    scope("vso.taskgroups_read", "Task Groups (read)", "Read task groups.", None),
    scope("vso.taskgroups_write", "Task Groups (read, create)", "Create them as well.", Some("vso.taskgroups_read")),
    scope("vso.taskgroups_manage", "Task Groups (read, create and manage)", "Manage them as well.", Some("vso.taskgroups_write")),
    scope("vso.dashboards", "Team dashboards (read)", "Read team dashboards.", None),
    scope("vso.dashboards_manage", "Team dashboards (manage)", "Manage them as well.", Some("vso.dashboards")),
    scope("vso.test", "Test management (read)", "Read test plans, cases and results.", Some("vso.profile")),
    scope("vso.test_write", "Test management (read and write)", "Write them as well.", Some("vso.test")),
    scope("vso.threads_full", "PR threads", "Read and write the comment threads of pull requests.", None),
    scope("vso.tokens", "Delegated Authorization Tokens", "Give tokens to users.", None),
    scope("vso.tokenadministration", "Token Administration", "See and revoke the tokens of others.", None),
    scope("vso.profile", "User profile (read)", "Read the own profile, accounts, collections, projects and teams.", None),
    scope("vso.profile_write", "User profile (write)", "Write the own profile as well.", Some("vso.profile")),
    scope("vso.variablegroups_read", "Variable Groups (read)", "Read variable groups.", None),
    scope("vso.variablegroups_write", "Variable Groups (read, create)", "Create them as well.", Some("vso.variablegroups_read")),
    scope("vso.variablegroups_manage", "Variable Groups (read, create and manage)", "Manage them as well.", Some("vso.variablegroups_write")),
    scope("vso.wiki", "Wiki (read)", "Read and search wikis.", None),
    scope("vso.wiki_write", "Wiki (read and write)", "Write them as well.", Some("vso.wiki")),
    scope("vso.work", "Work items (read)", "Read work items, queries and boards.", Some("vso.hooks_write")),
    scope("vso.work_write", "Work items (read and write)", "Write them as well.", Some("vso.work")),
    scope("vso.work_full", "Work items (full)", "Everything about work items.", Some("vso.work_write")),
    scope("user_impersonation", "User Impersonation", "Use the whole REST interface as the owner; it opens no repository.", None),
    scope("app_token", "Full access", "Everything that the owner may do.", None),
];

/// Finds a scope by its exact name.
pub fn find(name: &str) -> Option<&'static Scope> {
    position(name).and_then(|at| ALL.get(at))
}

fn position(name: &str) -> Option<usize> {
    ALL.iter().position(|scope| scope.name == name)
}

/// Something that needs a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Reading a repository.
    Fetch,
    /// Changing a repository.
    Push,
    /// Creating, renaming and deleting repositories.
    Manage,
}

impl Operation {
    /// The smallest scope that allows it.
    pub const fn scope(self) -> &'static str {
        match self {
            Operation::Fetch => "vso.code",
            Operation::Push => "vso.code_write",
            Operation::Manage => "vso.code_manage",
        }
    }
}

/// Why a text names no scopes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// There is not one.
    #[error("a token needs at least one scope, such as 'vso.code' or 'vso.code_write'")]
    Empty,
    /// There is no scope of this name.
    #[error("there is no scope '{}'", .name.escape_debug())]
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
        if ALL.get(at).is_some_and(|scope| scope.name == EVERYTHING) {
            self.included = u128::MAX;
        }
        let mut next = Some(at);
        // A scope that is in the set already has its chain there, too; this ends a circular chain as well.
        while let Some(at) = next.filter(|&at| self.included & bit(at) == 0) {
            self.included |= bit(at);
            next = ALL.get(at).and_then(|scope| scope.inherits).and_then(position);
        }
    }

    /// Tells whether a scope is in the set, named or included.
    pub fn includes(&self, name: &str) -> bool {
        position(name).is_some_and(|at| self.included & bit(at) != 0)
    }

    /// Tells whether the set has what `operation` needs.
    pub fn allows(&self, operation: Operation) -> bool {
        self.includes(operation.scope())
    }

    /// Returns the set with what `operation` needs added.
    #[must_use]
    pub fn with(mut self, operation: Operation) -> Scopes {
        if let Some(at) = position(operation.scope()) {
            self.insert(at);
        }
        self
    }
}

fn bit(at: usize) -> u128 {
    u32::try_from(at)
        .ok()
        .and_then(|at| 1u128.checked_shl(at))
        .unwrap_or(0)
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
        for (at, scope) in ALL.iter().enumerate() {
            if self.named & bit(at) != 0 {
                write!(f, "{separator}{}", scope.name)?;
                separator = " ";
            }
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
    fn operations_need_the_code_chain_and_nothing_else_opens_them() {
        use Operation::{Fetch, Manage, Push};

        for scope in ALL {
            let set = scopes(scope.name);
            let allowed: Vec<Operation> = [Fetch, Push, Manage]
                .into_iter()
                .filter(|operation| set.allows(*operation))
                .collect();
            let expected: &[Operation] = match scope.name {
                "vso.code" => &[Fetch],
                "vso.code_write" => &[Fetch, Push],
                "vso.code_manage" | "vso.code_full" | "app_token" => &[Fetch, Push, Manage],
                _ => &[],
            };
            assert_eq!(allowed, expected, "{}", scope.name);
        }
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
