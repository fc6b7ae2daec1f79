//! Policies as they are kept. What their values mean is for `auth` to know.

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
