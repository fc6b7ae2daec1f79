//! Roles on many repositories at once.

use hashbrown::HashMap;

use super::Role;
use crate::names::{AccessPath, RepoPath};

/// The roles that somebody has on a part of the server, by rights above it, on it and below it.
#[derive(Debug, Clone, Default)]
pub struct Roles(HashMap<String, Role>);

impl Roles {
    /// Takes the greatest role that was given on each path, by the path's key.
    pub(in crate::store) fn new(by_key: HashMap<String, Role>) -> Roles {
        Roles(by_key)
    }

    /// The greatest role on one repository of that part, by rights on it or on anything that it lies in.
    pub fn on(&self, repository: &RepoPath) -> Option<Role> {
        let keys = AccessPath::keys_above(repository);
        keys.iter().filter_map(|key| self.0.get(key)).max().copied()
    }
}
