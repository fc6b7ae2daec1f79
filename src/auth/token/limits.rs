//! What a token can be limited to, as people and programs write it.
//!
//! A limit that makes no sense is refused instead of mended, because whoever wrote it believes in something that would
//! not hold: of two that overlap the wider one counts, and a network with bits beyond its prefix is wider than it looks.

use std::fmt::Display;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::names::{self, AccessPath, Quoted, RefPattern, RefPatternError};
use crate::store::TokenLimits;

/// One of the lists of [`TokenLimits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitField {
    /// Collections, projects and repositories.
    Paths,
    /// Refs to push to.
    Refs,
    /// Networks to come from.
    Networks,
}

impl LimitField {
    /// The name of the list in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            LimitField::Paths => "paths",
            LimitField::Refs => "refs",
            LimitField::Networks => "networks",
        }
    }
}

/// Why something is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// The address has bits that the prefix leaves out.
    #[error("the network '{network}' has bits beyond its prefix: give '{}' for the network, or '{}' for the address", .network.trunc(), .network.addr())]
    HostBits {
        /// The network.
        network: IpNet,
    },
    /// It is an IPv4 network in the form of an IPv6 one, which no request ever comes from.
    #[error("the network '{network}' is an IPv4 network written as IPv6: give it as IPv4")]
    Mapped {
        /// The network.
        network: IpNet,
    },
    /// It is no network.
    #[error("{} is no network: give one such as '10.0.0.0/8' or '2001:db8::/32', or an address", Quoted(.text))]
    Network {
        /// The text.
        text: String,
    },
    /// It lies in another one of the list, or is the same.
    #[error("the limit '{inner}' lies in '{outer}', which is wider: leave one of them out")]
    Overlap {
        /// Which list.
        field: LimitField,
        /// The narrower one.
        inner: String,
        /// The wider one.
        outer: String,
    },
    /// It is no path.
    #[error("the path {} {reason}; give COLLECTION, COLLECTION/PROJECT or COLLECTION/PROJECT/REPO", Quoted(.text))]
    Path {
        /// The text.
        text: String,
        /// The rule that it breaks.
        reason: names::Error,
    },
    /// It is no pattern of refs.
    #[error("{} is no ref pattern: {RefPatternError}", Quoted(.text))]
    Ref {
        /// The text.
        text: String,
    },
    /// The list is too long.
    #[error("a token has at most {} limits of each kind", TokenLimits::EACH_COUNT_MAX)]
    TooMany {
        /// Which list.
        field: LimitField,
    },
    /// It is there more than once.
    #[error("the limit '{limit}' is given twice")]
    Twice {
        /// Which list.
        field: LimitField,
        /// The limit.
        limit: String,
    },
    /// It is the whole server.
    #[error(
        "the whole server is no limit: leave it out, or give a collection, COLLECTION/PROJECT or COLLECTION/PROJECT/REPO"
    )]
    WholeServer,
}

impl LimitError {
    /// The list that it is about.
    pub fn field(&self) -> LimitField {
        match self {
            LimitError::Path { .. } | LimitError::WholeServer => LimitField::Paths,
            LimitError::Ref { .. } => LimitField::Refs,
            LimitError::HostBits { .. } | LimitError::Mapped { .. } | LimitError::Network { .. } => {
                LimitField::Networks
            }
            LimitError::Overlap { field, .. }
            | LimitError::TooMany { field }
            | LimitError::Twice { field, .. } => *field,
        }
    }
}

/// Reads paths.
///
/// # Errors
///
/// When one of them is none, or [`check_limits`] refuses them.
pub fn parse_paths<T: AsRef<str>>(texts: &[T]) -> Result<Vec<AccessPath>, LimitError> {
    let parse = |text: &T| {
        AccessPath::parse(text.as_ref()).map_err(|reason| LimitError::Path {
            text: text.as_ref().to_owned(),
            reason,
        })
    };
    let paths = parse_each(LimitField::Paths, texts, parse)?;
    check_paths(&paths)?;
    Ok(paths)
}

/// Reads patterns of refs.
///
/// # Errors
///
/// When one of them is none, or [`check_limits`] refuses them.
pub fn parse_refs<T: AsRef<str>>(texts: &[T]) -> Result<Vec<RefPattern>, LimitError> {
    let parse = |text: &T| {
        RefPattern::parse(text.as_ref()).map_err(|_| LimitError::Ref {
            text: text.as_ref().to_owned(),
        })
    };
    let refs = parse_each(LimitField::Refs, texts, parse)?;
    check_refs(&refs)?;
    Ok(refs)
}

/// Reads networks; an address is the network of that address alone.
///
/// # Errors
///
/// When one of them is none, or [`check_limits`] refuses them.
pub fn parse_networks<T: AsRef<str>>(texts: &[T]) -> Result<Vec<IpNet>, LimitError> {
    let parse = |text: &T| {
        let text = text.as_ref();
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse()
            .or_else(|_| address())
            .map_err(|_| LimitError::Network {
                text: text.to_owned(),
            })
    };
    let networks = parse_each(LimitField::Networks, texts, parse)?;
    check_networks(&networks)?;
    Ok(networks)
}

/// Checks limits that were put together otherwise.
///
/// # Errors
///
/// When a list is too long, one limit of it lies in another, or one of them limits nothing or allows nothing.
pub fn check_limits(limits: &TokenLimits) -> Result<(), LimitError> {
    check_paths(&limits.paths)?;
    check_refs(&limits.refs)?;
    check_networks(&limits.networks)
}

/// The length is checked first, so that a list without end is not read.
fn parse_each<T, U>(
    field: LimitField,
    texts: &[T],
    parse: impl Fn(&T) -> Result<U, LimitError>,
) -> Result<Vec<U>, LimitError> {
    check_count(field, texts)?;
    texts.iter().map(parse).collect()
}

fn check_count<T>(field: LimitField, items: &[T]) -> Result<(), LimitError> {
    if items.len() > TokenLimits::EACH_COUNT_MAX {
        return Err(LimitError::TooMany { field });
    }
    Ok(())
}

fn check_paths(paths: &[AccessPath]) -> Result<(), LimitError> {
    check_count(LimitField::Paths, paths)?;
    if paths.contains(&AccessPath::Server) {
        return Err(LimitError::WholeServer);
    }
    check_apart(LimitField::Paths, paths, |outer, inner| {
        let (outer, inner) = (outer.key(), inner.key());
        inner
            .strip_prefix(&outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn check_refs(refs: &[RefPattern]) -> Result<(), LimitError> {
    check_count(LimitField::Refs, refs)?;
    // To the wider one, the `*` of the narrower is a character like any other.
    check_apart(LimitField::Refs, refs, |outer, inner| {
        outer.matches(inner.to_string().as_bytes())
    })
}

fn check_networks(networks: &[IpNet]) -> Result<(), LimitError> {
    check_count(LimitField::Networks, networks)?;
    for network in networks.iter().copied() {
        if network.trunc() != network {
            return Err(LimitError::HostBits { network });
        }
        if matches!(network.addr(), IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
            return Err(LimitError::Mapped { network });
        }
    }
    check_apart(LimitField::Networks, networks, |outer, inner| {
        outer.contains(inner)
    })
}

/// Refuses limits of which one contains another.
fn check_apart<T: Display>(
    field: LimitField,
    limits: &[T],
    contains: impl Fn(&T, &T) -> bool,
) -> Result<(), LimitError> {
    for (at, inner) in limits.iter().enumerate() {
        let mut others = limits.iter().enumerate().filter(|(other, _)| *other != at);
        let Some((_, outer)) = others.find(|(_, outer)| contains(outer, inner)) else {
            continue;
        };
        return Err(if contains(inner, outer) {
            LimitError::Twice {
                field,
                limit: inner.to_string(),
            }
        } else {
            LimitError::Overlap {
                field,
                inner: inner.to_string(),
                outer: outer.to_string(),
            }
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(texts: &[&str]) -> Result<Vec<String>, String> {
        let parsed = parse_paths(texts).map_err(|error| {
            assert_eq!(error.field(), LimitField::Paths);
            error.to_string()
        })?;
        Ok(parsed.iter().map(ToString::to_string).collect())
    }

    fn networks(texts: &[&str]) -> Result<Vec<String>, String> {
        let parsed = parse_networks(texts).map_err(|error| {
            assert_eq!(error.field(), LimitField::Networks);
            error.to_string()
        })?;
        Ok(parsed.iter().map(ToString::to_string).collect())
    }

    fn refs(texts: &[&str]) -> Result<Vec<String>, String> {
        let parsed = parse_refs(texts).map_err(|error| {
            assert_eq!(error.field(), LimitField::Refs);
            error.to_string()
        })?;
        Ok(parsed.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn limits_are_read_as_they_are_shown() {
        assert_eq!(paths(&[]), Ok(Vec::new()));
        assert_eq!(paths(&["C", "D/P", "E/P/R.git"]).unwrap(), ["C", "D/P", "E/P/R"]);
        assert_eq!(
            paths(&["C/P", "C/P2", "CC"]).unwrap().len(),
            3,
            "neighbours do not overlap"
        );
        assert_eq!(
            refs(&["refs/heads/ci/*", "refs/tags/v1"]).unwrap(),
            ["refs/heads/ci/*", "refs/tags/v1"]
        );
        assert_eq!(
            networks(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1"]).unwrap(),
            ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "::1/128"]
        );
    }

    #[test]
    fn what_would_limit_nothing_is_refused() {
        for text in ["", "/"] {
            let error = paths(&["C", text]).unwrap_err();
            assert!(error.starts_with("the whole server is no limit"), "{error}");
        }
    }

    #[test]
    fn what_is_no_limit_is_refused_by_what_it_is() {
        let error = paths(&["C/P/R/x"]).unwrap_err();
        assert!(error.contains("'C/P/R/x' is not of the form"), "{error}");
        let error = paths(&["C/..\u{1b}[2J"]).unwrap_err();
        assert!(error.contains("\\u{1b}") && !error.contains('\u{1b}'), "{error}");
        let error = paths(&[&"x".repeat(10_000)]).unwrap_err();
        assert!(error.len() < 300, "{error}");
        for text in ["main", "refs/heads/a b", "refs/*/*", ""] {
            let error = refs(&[text]).unwrap_err();
            assert!(error.contains("is no ref pattern: a ref pattern is"), "{error}");
        }
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/",
            "example.org",
            "10.0.0",
            "10.0.0.0/8/8",
        ] {
            let error = networks(&[text]).unwrap_err();
            assert!(error.contains("is no network: give one such as"), "{error}");
        }
        assert_eq!(
            networks(&["10.0.0.1/8"]).unwrap_err(),
            "the network '10.0.0.1/8' has bits beyond its prefix: give '10.0.0.0/8' for the network, or '10.0.0.1' \
             for the address"
        );
        assert!(
            networks(&["::ffff:10.0.0.0/104"])
                .unwrap_err()
                .contains("give it as IPv4")
        );
    }

    #[test]
    fn of_limits_that_overlap_both_are_named() {
        assert_eq!(
            paths(&["C/P/R", "D", "c/p"]).unwrap_err(),
            "the limit 'C/P/R' lies in 'c/p', which is wider: leave one of them out"
        );
        assert_eq!(
            paths(&["C/P", "c/p"]).unwrap_err(),
            "the limit 'C/P' is given twice"
        );
        assert_eq!(
            refs(&["refs/heads/*", "refs/heads/ci/*"]).unwrap_err(),
            "the limit 'refs/heads/ci/*' lies in 'refs/heads/*', which is wider: leave one of them out"
        );
        assert_eq!(
            refs(&["refs/heads/a*", "refs/heads/*b"]).unwrap().len(),
            2,
            "neither is wider"
        );
        assert_eq!(
            networks(&["10.0.0.0/8", "10.1.0.0/16"]).unwrap_err(),
            "the limit '10.1.0.0/16' lies in '10.0.0.0/8', which is wider: leave one of them out"
        );
        assert_eq!(
            networks(&["10.0.0.1", "10.0.0.1/32"]).unwrap_err(),
            "the limit '10.0.0.1/32' is given twice"
        );
    }

    #[test]
    fn a_list_that_is_too_long_is_not_read() {
        let many: Vec<String> = (0..=TokenLimits::EACH_COUNT_MAX)
            .map(|number| format!("C{number}"))
            .collect();
        assert_eq!(
            parse_paths(&many[1..]).unwrap().len(),
            TokenLimits::EACH_COUNT_MAX
        );
        assert_eq!(
            parse_paths(&many),
            Err(LimitError::TooMany {
                field: LimitField::Paths
            })
        );
        let nonsense = vec!["?"; 101];
        assert!(matches!(
            parse_networks(&nonsense),
            Err(LimitError::TooMany { .. })
        ));
        assert!(matches!(parse_refs(&nonsense), Err(LimitError::TooMany { .. })));
    }
}
