//! `patgate user`: accounts.

use clap::Subcommand;
use serde_json::{Value, json};

use super::args::CommonArgs;
use super::output::{CliError, Console, Table, confirm, minute};
use super::password::read_new;
use crate::auth::password;
use crate::store::{Account, Actor, NewAccount, Store, check_label};

/// What can be done with accounts.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make an account, and ask for its password.
    #[command(after_help = "\
Examples:
  patgate user add alice
  patgate user add root --admin
  pass show patgate/ci | patgate user add ci --password-stdin")]
    Add {
        /// Its name; upper and lower case are the same.
        name: String,
        /// Let it do everything on every repository.
        #[arg(long)]
        admin: bool,
        /// Read the password from the first line of stdin.
        #[arg(long)]
        password_stdin: bool,
    },
    /// List all accounts.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give an account a new password.
    #[command(after_help = "\
Examples:
  patgate user set-password alice
  pass show patgate/alice | patgate user set-password alice --password-stdin")]
    SetPassword {
        /// The account.
        name: String,
        /// Read the password from the first line of stdin.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Disable an account: its tokens open nothing until it is enabled again.
    Disable {
        /// The account.
        name: String,
    },
    /// Enable an account that was disabled.
    Enable {
        /// The account.
        name: String,
    },
    /// Delete an account for good, with its tokens and rights. Repositories stay.
    Delete {
        /// The account.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

pub(super) fn run(command: UserCommand, common: &CommonArgs, console: &mut Console) -> Result<(), CliError> {
    let actor = Actor::CommandLine;
    match command {
        UserCommand::Add {
            name,
            admin,
            password_stdin,
        } => add(&name, admin, password_stdin, common, console),
        UserCommand::List { json } => list(json, common, console),
        UserCommand::SetPassword { name, password_stdin } => {
            let store = common.open_store()?;
            let hash = password::hash(&read_new(password_stdin)?)?;
            let account = store.set_password(&actor, &name, &hash, false)?;
            console.note(&format!("the password of '{}' is set", account.name));
            Ok(())
        }
        UserCommand::Disable { name } => {
            let store = common.open_store()?;
            let account = store.set_account_disabled(&actor, &name, true)?;
            console.note(&format!(
                "'{}' is disabled: its tokens open nothing from now on",
                account.name
            ));
            warn_of_no_administrator(&store, console)
        }
        UserCommand::Enable { name } => {
            let account = common.open_store()?.set_account_disabled(&actor, &name, false)?;
            console.note(&format!("'{}' is enabled", account.name));
            Ok(())
        }
        UserCommand::Delete { name, yes } => {
            if !yes {
                let warning = format!("This deletes '{name}' with all its tokens and rights.");
                confirm(&warning, &[&name], &mut std::io::stdin().lock(), console)?;
            }
            let store = common.open_store()?;
            let account = store.delete_account(&actor, &name)?;
            console.note(&format!(
                "'{}' is deleted, with its tokens and rights",
                account.name
            ));
            warn_of_no_administrator(&store, console)
        }
    }
}

/// Tells when nobody is left who may administer the server but by this command line.
fn warn_of_no_administrator(store: &Store, console: &mut Console) -> Result<(), CliError> {
    let accounts = store.accounts()?;
    if !accounts
        .iter()
        .any(|account| account.is_admin && !account.is_disabled)
    {
        console.note(
            "warning: no account is left that administers the server; make one with 'patgate user add NAME --admin'",
        );
    }
    Ok(())
}

fn add(
    name: &str,
    is_admin: bool,
    password_stdin: bool,
    common: &CommonArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    check_label(name).map_err(|reason| CliError::usage(format!("the name '{name}' {reason}")))?;
    let hash = password::hash(&read_new(password_stdin)?)?;
    let store = common.create_store()?;
    let new = NewAccount {
        name,
        password: Some(&hash),
        is_admin,
        must_change_password: false,
    };
    let account = store.create_account(&Actor::CommandLine, &new)?;
    console.note(&format!("made the account '{}'", account.name));
    if !is_admin {
        console.note(&format!(
            "it may do nothing yet: patgate access grant '{}' reader [PATH]",
            account.name
        ));
    }
    Ok(())
}

fn list(as_json: bool, common: &CommonArgs, console: &mut Console) -> Result<(), CliError> {
    let accounts = common.open_store()?.accounts()?;
    if as_json {
        return console.print_json(&accounts.iter().map(to_json).collect::<Value>());
    }
    let mut table = Table::new(&["NAME", "KIND", "STATE", "CREATED"]);
    for account in accounts {
        let kind = if account.is_admin { "admin" } else { "user" };
        let state = if account.is_disabled {
            "disabled"
        } else {
            "enabled"
        };
        table.row([
            account.name,
            kind.to_owned(),
            state.to_owned(),
            minute(account.created_at),
        ]);
    }
    console.print_table(
        &table,
        "there are no accounts: make one with 'patgate user add NAME'",
    )
}

fn to_json(account: &Account) -> Value {
    json!({
        "name": account.name,
        "admin": account.is_admin,
        "disabled": account.is_disabled,
        "has_password": account.has_password,
        "must_change_password": account.must_change_password,
        "created_at": account.created_at.to_string(),
    })
}
