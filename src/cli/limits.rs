//! `--repo`, `--ref` and `--network`: what a token is limited to.

use clap::Args;
use ipnet::IpNet;

use super::args::CommonArgs;
use super::output::{CliError, Console};
use crate::auth::token::{LimitError, LimitField, parse_networks, parse_paths, parse_refs};
use crate::names::{AccessPath, RefPattern, RepoPath};
use crate::repository::Repositories;
use crate::repository::registry::Options;
use crate::store::TokenLimits;

/// The flags.
#[derive(Debug, Clone, Default, Args)]
pub struct LimitArgs {
    /// Let it open these collections, projects or repositories only.
    #[arg(long, value_name = "PATH", num_args = 1.., help_heading = "Limits")]
    repo: Vec<String>,
    /// Let it push to refs of these names only; one '*' stands for any characters.
    #[arg(long = "ref", value_name = "PATTERN", num_args = 1.., help_heading = "Limits")]
    refs: Vec<String>,
    /// Let it be used from these networks only.
    #[arg(long, value_name = "CIDR", num_args = 1.., help_heading = "Limits")]
    network: Vec<String>,
}

/// What the flags say; None for a flag that was not given.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) paths: Option<Vec<AccessPath>>,
    pub(super) refs: Option<Vec<RefPattern>>,
    pub(super) networks: Option<Vec<IpNet>>,
}

impl LimitArgs {
    /// Reads the flags.
    pub(super) fn parse(&self) -> Result<Given, CliError> {
        Ok(Given {
            paths: given(&self.repo, parse_paths)?,
            refs: given(&self.refs, parse_refs)?,
            networks: given(&self.network, parse_networks)?,
        })
    }
}

fn given<T>(
    texts: &[String],
    parse: impl Fn(&[String]) -> Result<Vec<T>, LimitError>,
) -> Result<Option<Vec<T>>, LimitError> {
    if texts.is_empty() {
        return Ok(None);
    }
    parse(texts).map(Some)
}

impl Given {
    /// The limits of a token that has none yet.
    pub(super) fn into_limits(self) -> TokenLimits {
        TokenLimits {
            paths: self.paths.unwrap_or_default(),
            refs: self.refs.unwrap_or_default(),
            networks: self.networks.unwrap_or_default(),
        }
    }
}

impl From<LimitError> for CliError {
    fn from(error: LimitError) -> Self {
        let flag = match error.field() {
            LimitField::Paths => "--repo",
            LimitField::Refs => "--ref",
            LimitField::Networks => "--network",
        };
        CliError::usage(format!("{flag}: {error}"))
    }
}

/// Says which of `paths` are not there. That is no error: a token can be made before the repository that it is for.
pub(super) fn warn_about_missing(
    paths: &[AccessPath],
    common: &CommonArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    if paths.is_empty() {
        return Ok(());
    }
    let config = common.resolve()?;
    // A root that is missing must not be made by a look at it.
    let all: Vec<RepoPath> = if config.repos.is_dir() {
        let options = Options {
            follow_symlinks: config.follow_symlinks,
            ..Options::default()
        };
        Repositories::at(config.repos, options)?.list()?
    } else {
        Vec::new()
    };
    for path in paths {
        let key = path.key();
        if !all
            .iter()
            .any(|repository| AccessPath::keys_above(repository).contains(&key))
        {
            console.note(&format!(
                "warning: there is no repository in '{path}' yet; until there is one, this limit leaves nothing to open"
            ));
        }
    }
    Ok(())
}

/// The limits of a token for a person, such as `repositories C/P; refs refs/heads/ci/*`; empty without limits.
pub(super) fn describe(limits: &TokenLimits) -> String {
    let mut parts = Vec::new();
    let mut part = |title: &str, entries: Vec<String>| {
        if !entries.is_empty() {
            parts.push(format!("{title} {}", entries.join(" ")));
        }
    };
    part("repositories", strings(&limits.paths));
    part("refs", strings(&limits.refs));
    part("networks", strings(&limits.networks));
    parts.join("; ")
}

/// Which kinds of limits there are, for a column of a list.
pub(super) fn kinds(limits: &TokenLimits) -> String {
    let kinds = [
        ("repositories", limits.paths.len()),
        ("refs", limits.refs.len()),
        ("networks", limits.networks.len()),
    ];
    let given = kinds.iter().filter(|(_, count)| *count > 0);
    given
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect::<Vec<_>>()
        .join(", ")
}

pub(super) fn strings<T: ToString>(entries: &[T]) -> Vec<String> {
    entries.iter().map(ToString::to_string).collect()
}
