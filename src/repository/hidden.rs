//! Refs that are neither shown nor moved: `transfer.hideRefs` and its kin, as git-config(1) describes them.

use bstr::{BStr, BString, ByteSlice};

/// Tells whether `name` is hidden by `rules`: prefixes of whole path components, the last that matches wins, `!` shows
/// again, `^` (full names, in repositories with namespaces) is the same as without.
pub fn is_hidden(rules: &[BString], name: &BStr) -> bool {
    for rule in rules.iter().rev() {
        let (shows, rule) = match rule.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, rule.as_bytes()),
        };
        let rule = rule.strip_prefix(b"^").unwrap_or(rule);
        let rule = rule.strip_suffix(b"/").unwrap_or(rule);
        if let Some(rest) = name.strip_prefix(rule)
            && (rest.is_empty() || rest.starts_with(b"/"))
        {
            return !shows;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rule_that_matches_whole_components_decides() {
        let rules: Vec<BString> = ["refs/pull", "!refs/pull/kept", "^refs/x/"]
            .map(BString::from)
            .into();
        for (name, hidden) in [
            ("refs/pull/1", true),
            ("refs/pull", true),
            ("refs/pulls/1", false),
            ("refs/pull/kept/1", false),
            ("refs/x/y", true),
            ("refs/heads/main", false),
        ] {
            assert_eq!(is_hidden(&rules, name.into()), hidden, "{name}");
        }
    }
}
