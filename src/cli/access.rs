//! `patgate access`: who may do what where.

use clap::Subcommand;
use serde_json::{Value, json};

use super::args::CommonArgs;
use super::output::{CliError, Console, Table};
use crate::names::AccessPath;
use crate::store::{Access, Actor, EVERYONE, Role};

/// What can be done with rights.
#[derive(Debug, Subcommand)]
pub enum AccessCommand {
    /// Give an account a role on a path; it replaces the one that it had there.
    #[command(after_help = "\
Roles: a reader may fetch, a contributor may push as well, an administrator may do everything.
A role on a collection or a project holds for everything in it.

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
        AccessCommand::Grant { user, role, path } => {
            let path = parse_path(&path)?;
            common
                .open_store()?
                .grant_access(&Actor::CommandLine, account(&user), &path, role)?;
            console.note(&format!(
                "{} is now {role} of {}",
                who(account(&user)),
                place(&path)
            ));
            Ok(())
        }
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
        other => format!("'{other}'"),
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
