//! `patgate alternate`: a second name and password, for clients that cannot use a token.

use clap::Subcommand;
use serde_json::{Value, json};

use super::args::CommonArgs;
use super::output::{CliError, Console, Table, minute};
use super::password::read_new;
use crate::auth::alternate;
use crate::auth::policy::{Name, Policies};
use crate::store::{Actor, AlternateCredential};

/// What can be done with alternate credentials.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
An alternate credential opens all code that its account may touch, has no end, and is not named in the audit trail. A
token does the same for one purpose, until a day, and by name: use one wherever the client lets you. Alternate credentials
open nothing until 'patgate policy set alternate-credentials on'.")]
pub enum AlternateCommand {
    /// Give an account an alternate credential, in place of one that it has, and ask for its password.
    #[command(after_help = "\
It opens all code that the account may touch, for ever. If the client can take a token as its password, use that instead:
patgate token create.

Examples:
  patgate alternate set alice --login alice-old-ide
  pass show patgate/old-ide | patgate alternate set alice --login alice-old-ide --password-stdin")]
    Set {
        /// The account.
        name: String,
        /// The username that the client sends; upper and lower case are the same.
        #[arg(long, value_name = "TEXT")]
        login: String,
        /// Read the password from the first line of stdin.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Show which accounts have an alternate credential, without its password.
    Show {
        /// Only that of this account.
        name: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take the alternate credential of an account away. Its tokens stay.
    Remove {
        /// The account.
        name: String,
    },
}

pub(super) fn run(
    command: AlternateCommand,
    common: &CommonArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let actor = Actor::CommandLine;
    match command {
        AlternateCommand::Set {
            name,
            login,
            password_stdin,
        } => {
            let store = common.open_store()?;
            let password = read_new(password_stdin)?;
            let set = alternate::set(&store, &actor, &name, &login, &password)?;
            console.note(&format!(
                "'{}' has the alternate credential '{}', which opens all of its code; a token would be better",
                set.account, set.name
            ));
            if !Policies::load(&store)?.server().alternate_credentials() {
                console.note(&format!(
                    "it opens nothing yet: patgate policy set {} on",
                    Name::AlternateCredentials
                ));
            }
            Ok(())
        }
        AlternateCommand::Show { name, json } => show(name.as_deref(), json, common, console),
        AlternateCommand::Remove { name } => {
            let removed = common.open_store()?.remove_alternate_credential(&actor, &name)?;
            console.note(&format!(
                "'{}' has no alternate credential any more: '{}' opens nothing from now on",
                removed.account, removed.name
            ));
            Ok(())
        }
    }
}

fn show(
    account: Option<&str>,
    as_json: bool,
    common: &CommonArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let all = common.open_store()?.alternate_credentials(account)?;
    if as_json {
        return console.print_json(&all.iter().map(to_json).collect::<Value>());
    }
    let mut table = Table::new(&["USER", "LOGIN", "SINCE"]);
    for credential in all {
        table.row([credential.account, credential.name, minute(credential.created_at)]);
    }
    let nothing = match account {
        Some(account) => format!("'{account}' has no alternate credential, which is for the better"),
        None => "no account has an alternate credential, which is for the better".to_owned(),
    };
    console.print_table(&table, &nothing)
}

fn to_json(credential: &AlternateCredential) -> Value {
    json!({
        "user": credential.account,
        "login": credential.name,
        "created_at": credential.created_at.to_string(),
    })
}
