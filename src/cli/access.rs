//! `patgate access`: who may do what where.
//!
//! Rights are kept by path in the store, whether or not something is there: a collection may be shared before its first
//! repository is made. So the repository root is only looked at to tell of what may be a slip of the pen.

use clap::Subcommand;
use serde_json::{Value, json};

use super::args::CommonArgs;
use super::output::{CliError, Console, Table};
use crate::names::{AccessPath, DEFAULT_COLLECTION, RepoPath};
use crate::repository::Repositories;
use crate::repository::registry::Options;
use crate::store::{Access, Actor, EVERYONE, Role};

/// Edits of one letter, or swaps of two, that are a slip of the pen in a path of six letters or more.
const SLIPS_MAX: usize = 2;

/// Letters of a path for each slip.
const LETTERS_PER_SLIP: usize = 3;

/// What can be done with rights.
#[derive(Debug, Subcommand)]
pub enum AccessCommand {
    /// Give an account a role on a path; it replaces the one that it had there.
    #[command(after_help = "\
Roles: a reader may fetch, a contributor may push as well, an administrator may do everything.
A role on a collection or a project holds for everything in it, also for what is made later. A path that nothing has
yet is taken, with a warning. One or two names are a collection or a project, never a repository in DefaultCollection.

Examples:
  patgate access grant alice contributor DefaultCollection/Web
  patgate access grant bob reader DefaultCollection/Web/site
  patgate access grant ops administrator
  patgate access grant everyone reader DefaultCollection/Web/docs")]
    Grant {
        /// The account; 'everyone' makes the path public to read.
        user: String,
        /// reader, contributor or administrator.
        role: Role,
        /// COLLECTION, COLLECTION/PROJECT or COLLECTION/PROJECT/REPO; none: the whole server.
        #[arg(default_value = "/", hide_default_value = true)]
        path: String,
    },
    /// List roles.
    List {
        /// Only those of this account.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take a role away. Roles on what the path lies in stay.
    #[command(after_help = "\
Examples:
  patgate access revoke alice DefaultCollection/Web
  patgate access revoke everyone DefaultCollection/Web/docs")]
    Revoke {
        /// The account, or 'everyone'.
        user: String,
        /// The path that it was given on; none: the whole server.
        #[arg(default_value = "/", hide_default_value = true)]
        path: String,
    },
}

pub(super) fn run(
    command: AccessCommand,
    common: &CommonArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    match command {
        AccessCommand::Grant { user, role, path } => grant(&user, role, &parse_path(&path)?, common, console),
        AccessCommand::List { user, json } => list(user.as_deref(), json, common, console),
        AccessCommand::Revoke { user, path } => {
            let path = parse_path(&path)?;
            common
                .open_store()?
                .revoke_access(&Actor::CommandLine, account(&user), &path)?;
            console.note(&format!(
                "{} has no role of its own on {} any more",
                who(account(&user)),
                place(&path)
            ));
            Ok(())
        }
    }
}

fn grant(
    user: &str,
    role: Role,
    path: &AccessPath,
    common: &CommonArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let account = account(user);
    common
        .open_store()?
        .grant_access(&Actor::CommandLine, account, path, role)?;
    console.note(&format!(
        "{} is now {} of {}: {}",
        who(account),
        match role {
            Role::Reader => "a reader",
            Role::Contributor => "a contributor",
            Role::Administrator => "an administrator",
        },
        place(path),
        permission(role, path),
    ));
    match places_on_disk(common) {
        Ok((root, places)) => warn_of_nothing(user, path, &root, &places, console),
        // The role is given all the same.
        Err(error) => error.print(console),
    }
    Ok(())
}

/// What `role` permits on `path`, as the end of a sentence.
fn permission(role: Role, path: &AccessPath) -> String {
    let may = match role {
        Role::Reader => "may fetch from",
        Role::Contributor => "may fetch from and push to",
        Role::Administrator => "may do everything with",
    };
    let what = match path {
        AccessPath::Server => "every repository on it",
        AccessPath::Collection(_) | AccessPath::Project(..) => "every repository in it",
        AccessPath::Repository(_) => "it",
    };
    format!("{may} {what}")
}

/// The repository root, and every collection, project and repository below it.
pub(super) fn places_on_disk(common: &CommonArgs) -> Result<(String, Vec<String>), CliError> {
    let config = common.resolve()?;
    let root = config.repos.display().to_string();
    // It is not for this command to make one.
    if !config.repos.is_dir() {
        return Ok((root, Vec::new()));
    }
    let options = Options {
        follow_symlinks: config.follow_symlinks,
        ..Options::default()
    };
    let all = Repositories::at(config.repos, options)?.list()?;
    let mut places: Vec<String> = all.iter().flat_map(prefixes).collect();
    places.sort();
    places.dedup();
    Ok((root, places))
}

fn prefixes(path: &RepoPath) -> [String; 3] {
    [
        path.collection().to_owned(),
        format!("{}/{}", path.collection(), path.project()),
        path.to_string(),
    ]
}

/// Tells that nothing has the path that a role was given on, and what may have been meant.
fn warn_of_nothing(user: &str, path: &AccessPath, root: &str, places: &[String], console: &mut Console) {
    let is_there = |place: &String| place.to_lowercase() == path.key();
    if *path == AccessPath::Server || places.iter().any(is_there) {
        return;
    }
    let when = match path {
        AccessPath::Repository(_) => "as soon as it is made",
        _ => "for every repository that is made in it",
    };
    console.note(&format!(
        "warning: there is no {} below '{root}' yet; the role holds {when}",
        named(path)
    ));
    if let Some(near) = nearest(&path.to_string(), places) {
        console.note(&format!(
            "hint: did you mean '{near}'? Then take this role away again: patgate access revoke '{user}' '{path}'"
        ));
    }
}

/// The place whose path is `text` but for slips of the pen, or with the default collection before it.
pub(super) fn nearest<'a>(text: &str, places: &'a [String]) -> Option<&'a str> {
    let text = text.to_lowercase();
    let max = (text.chars().count() / LETTERS_PER_SLIP).min(SLIPS_MAX);
    let default = format!("{DEFAULT_COLLECTION}/").to_lowercase();
    let slips = |place: &str| {
        let place = place.to_lowercase();
        let short = place.strip_prefix(&default).unwrap_or(&place);
        strsim::osa_distance(&text, &place).min(strsim::osa_distance(&text, short))
    };
    let near = places.iter().map(|place| (slips(place), place.as_str()));
    near.filter(|(slips, _)| *slips <= max)
        .min()
        .map(|(_, place)| place)
}

fn parse_path(text: &str) -> Result<AccessPath, CliError> {
    AccessPath::parse(text).map_err(|error| {
        CliError::usage(format!("the path '{text}' {error}")).hint(
            "give COLLECTION, COLLECTION/PROJECT or COLLECTION/PROJECT/REPO, or nothing for the whole server",
        )
    })
}

fn account(user: &str) -> Option<&str> {
    (!user.eq_ignore_ascii_case(EVERYONE)).then_some(user)
}

fn who(account: Option<&str>) -> String {
    account.map_or_else(|| EVERYONE.to_owned(), |name| format!("'{name}'"))
}

fn place(path: &AccessPath) -> String {
    match path {
        AccessPath::Server => "the whole server".to_owned(),
        other => format!("the {}", named(other)),
    }
}

/// What kind of place `path` is, and its name.
fn named(path: &AccessPath) -> String {
    match path {
        AccessPath::Server => "server".to_owned(),
        AccessPath::Collection(_) => format!("collection '{path}'"),
        AccessPath::Project(..) => format!("project '{path}'"),
        AccessPath::Repository(_) => format!("repository '{path}'"),
    }
}

fn list(
    user: Option<&str>,
    as_json: bool,
    common: &CommonArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let mut all = common.open_store()?.access(user.and_then(account))?;
    if user.is_some_and(|user| account(user).is_none()) {
        all.retain(|access| access.account.is_none());
    }
    if as_json {
        return console.print_json(&all.iter().map(to_json).collect::<Value>());
    }
    let mut table = Table::new(&["USER", "ROLE", "PATH"]);
    for access in all {
        let user = access.account.unwrap_or_else(|| EVERYONE.to_owned());
        table.row([user, access.role.to_string(), access.path.to_string()]);
    }
    console.print_table(
        &table,
        "no roles are given: give one with 'patgate access grant USER ROLE [PATH]'",
    )
}

fn to_json(access: &Access) -> Value {
    json!({ "user": access.account, "role": access.role.as_str(), "path": access.path.to_string() })
}
