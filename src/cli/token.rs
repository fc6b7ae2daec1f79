//! `patgate token`: personal access tokens.

use clap::Subcommand;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::args::CommonArgs;
use super::output::{CliError, Console, Table, minute};
use super::token_rule;
use crate::auth::scope::{self, Need, Operation};
use crate::auth::token::{self, CreateToken, PlainToken, RotateToken, UpdateToken};
use crate::store::{Actor, RevokeReason, Store, Token, TokenId, TokenIdError, TokenLimits};

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token, and print it on stdout: the only time that it can be seen.
    #[command(after_help = "\
Examples:
  patgate token create --user alice --name laptop --scope vso.code_write
  patgate token create --user ci --name nightly --scope 'vso.code vso.build' --expires 2027-01-31
  patgate token create --user ci --name nightly --scope vso.code > token.txt

'patgate token scopes' lists the scopes. vso.code fetches, vso.code_write pushes as well.")]
    Create {
        /// The account that it belongs to.
        #[arg(long, value_name = "NAME")]
        user: String,
        /// What it is for.
        #[arg(long, value_name = "TEXT")]
        name: String,
        /// What it allows: one or more scopes with spaces between.
        #[arg(long, value_name = "SCOPE …", required = true, num_args = 1)]
        scope: Vec<String>,
        /// When it ends: days from now, or a day or moment in UTC; at most 365 days, unless a policy says
        /// otherwise.
        #[arg(long, value_name = "90d|2027-01-31", default_value = "90d")]
        expires: String,
    },
    /// List tokens, without their secrets.
    List {
        /// Only those of this account.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one token, without its secret.
    Show {
        /// Its id, the 8 characters after 'pgt_'; a whole token stands for its id.
        #[arg(value_parser = token_id)]
        id: TokenId,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Change a live token; it stays the same text, and the change holds from the next request on.
    #[command(
        group = clap::ArgGroup::new("change").args(["name", "scope", "expires"]).required(true).multiple(true),
        after_help = "\
Examples:
  patgate token update AbCd1234 --scope 'vso.work vso.code_write'
  patgate token update AbCd1234 --expires 180d")]
    Update {
        /// Its id.
        #[arg(value_parser = token_id)]
        id: TokenId,
        /// What it is for.
        #[arg(long, value_name = "TEXT")]
        name: Option<String>,
        /// What it allows from now on, instead of what it did.
        #[arg(long, value_name = "SCOPE …", num_args = 1)]
        scope: Vec<String>,
        /// When it ends: days from now, or a day or moment in UTC; at most 365 days, unless a policy says
        /// otherwise.
        #[arg(long, value_name = "90d|2027-01-31")]
        expires: Option<String>,
    },
    /// Give a token a new secret and print it on stdout; id, name, scopes and limits stay.
    #[command(after_help = "\
Examples:
  patgate token rotate AbCd1234
  patgate token rotate AbCd1234 --overlap 2h --expires 90d > token.txt

Without --overlap the old secret opens nothing from then on. Using it after that revokes the token, because then two
have it: give an overlap where something still runs with the old one.")]
    Rotate {
        /// Its id, which stays.
        #[arg(value_parser = token_id)]
        id: TokenId,
        /// A new end; without it the old one stays.
        #[arg(long, value_name = "90d|2027-01-31")]
        expires: Option<String>,
        /// How long the old secret opens the token, too; at most 7 days.
        #[arg(long, value_name = "2h|1d")]
        overlap: Option<String>,
    },
    /// Revoke a token for good.
    Revoke {
        /// Its id.
        #[arg(value_parser = token_id)]
        id: TokenId,
    },
    /// Revoke many tokens at once, by scope and age.
    #[command(subcommand, arg_required_else_help = true)]
    Rule(token_rule::RuleCommand),
    /// List the scopes that a token can have, and what each operation needs of them.
    Scopes {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Reads an id, or takes it out of a whole token: whoever revokes one that leaked has just that at hand, and an error
/// would print it once more.
pub(super) fn token_id(text: &str) -> Result<TokenId, TokenIdError> {
    match PlainToken::parse(text) {
        Ok(plain) => plain.id().map_err(|_| TokenIdError),
        Err(_) => text.parse(),
    }
}

pub(super) fn run(command: TokenCommand, common: &CommonArgs, console: &mut Console) -> Result<(), CliError> {
    let actor = Actor::CommandLine;
    let moment = |text: &str| token::parse_expiry(text, Timestamp::now());
    match command {
        TokenCommand::Create {
            user,
            name,
            scope,
            expires,
        } => {
            let expires_at = moment(&expires)?;
            let store = common.open_store()?;
            let new = CreateToken {
                account: &user,
                name: &name,
                scopes: &scope.join(" "),
                expires_at,
                limits: &TokenLimits::NONE,
            };
            let (token, plain) = token::create(&store, &actor, &new)?;
            print_once(&token, &plain, console)?;
            warn_without_rights(&store, &token, console)
        }
        TokenCommand::List { user, json } => list(user.as_deref(), json, common, console),
        TokenCommand::Show { id, json } => show(&id, json, common, console),
        TokenCommand::Update {
            id,
            name,
            scope,
            expires,
        } => {
            let expires_at = expires.as_deref().map(moment).transpose()?;
            let scopes = (!scope.is_empty()).then(|| scope.join(" "));
            let change = UpdateToken {
                name: name.as_deref(),
                scopes: scopes.as_deref(),
                expires_at,
                limits: None,
            };
            let token = token::update(&common.open_store()?, &actor, &id, &change)?;
            console.note(&describe(&token));
            Ok(())
        }
        TokenCommand::Rotate { id, expires, overlap } => {
            let options = RotateToken {
                expires_at: expires.as_deref().map(moment).transpose()?,
                overlap: overlap.as_deref().map(token::parse_overlap).transpose()?,
            };
            let (token, plain) = token::rotate(&common.open_store()?, &actor, &id, &options)?;
            print_once(&token, &plain, console)
        }
        TokenCommand::Revoke { id } => {
            let token = common
                .open_store()?
                .revoke_token(&actor, &id, RevokeReason::Administrator)?;
            console.note(&format!(
                "the token '{}' ({}) of '{}' is revoked",
                token.name, token.id, token.account
            ));
            Ok(())
        }
        TokenCommand::Rule(command) => token_rule::run(command, common, console),
        TokenCommand::Scopes { json } => scopes(json, console),
    }
}

/// Prints the token on stdout and what to know about it on stderr. A token that nobody could read is reported, because
/// it lives.
fn print_once(token: &Token, plain: &PlainToken, console: &mut Console) -> Result<(), CliError> {
    console.write(plain.expose()).map_err(|error| {
        CliError::failure(format!("cannot print the token '{}': {error}", token.id)).hint(format!(
            "get a new secret for it with 'patgate token rotate {0}', or end it with 'patgate token revoke {0}'",
            token.id
        ))
    })?;
    console.note(&describe(token));
    console.note("It is shown this once. Use it as the password in git, with any username.");
    Ok(())
}

fn describe(token: &Token) -> String {
    format!(
        "token '{}' ({}) of '{}', scopes: {}, expires {}",
        token.name,
        token.id,
        token.account,
        token.scopes,
        minute(token.expires_at)
    )
}

/// A new token whose owner may see nothing answers 404 everywhere, which is hard to explain.
fn warn_without_rights(store: &Store, token: &Token, console: &mut Console) -> Result<(), CliError> {
    let is_admin = store
        .find_account(&token.account)?
        .is_some_and(|account| account.is_admin);
    if !is_admin && store.access(Some(&token.account))?.is_empty() {
        console.note(&format!(
            "'{0}' has no rights yet and can see public repositories only: patgate access grant '{0}' reader [PATH]",
            token.account
        ));
    }
    Ok(())
}

fn list(
    user: Option<&str>,
    as_json: bool,
    common: &CommonArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let tokens = common.open_store()?.tokens(user)?;
    if as_json {
        return console.print_json(&tokens.iter().map(to_json).collect::<Value>());
    }
    let mut table = Table::new(&["ID", "USER", "NAME", "SCOPES", "STATE", "EXPIRES", "LAST USED"]);
    for token in tokens {
        let state = state(&token).to_owned();
        table.row([
            token.id.to_string(),
            token.account,
            token.name,
            token.scopes,
            state,
            minute(token.expires_at),
            token.last_used_at.map_or_else(|| "never".to_owned(), minute),
        ]);
    }
    console.print_table(
        &table,
        "there are no tokens: make one with 'patgate token create'",
    )
}

fn show(id: &TokenId, as_json: bool, common: &CommonArgs, console: &mut Console) -> Result<(), CliError> {
    let found = common.open_store()?.find_token(id)?;
    let token = found.ok_or_else(|| crate::store::Error::TokenNotFound { id: id.clone() })?;
    if as_json {
        return console.print_json(&to_json(&token));
    }
    let mut table = Table::new(&["ID", token.id.as_str()]);
    let mut row = |title: &str, value: String| table.row([title.to_owned(), value]);
    row("USER", token.account.clone());
    row("NAME", token.name.clone());
    row("SCOPES", token.scopes.clone());
    row("STATE", state(&token).to_owned());
    row("CREATED", minute(token.created_at));
    row("EXPIRES", minute(token.expires_at));
    if let Some(at) = token.revoked_at {
        row("REVOKED", minute(at));
    }
    row(
        "LAST USED",
        token.last_used_at.map_or_else(|| "never".to_owned(), minute),
    );
    if let Some(address) = token.last_used_from {
        row("FROM", address.to_string());
    }
    console.print(&table.to_string())
}

fn scopes(as_json: bool, console: &mut Console) -> Result<(), CliError> {
    if as_json {
        let scopes = scope::ALL.iter().map(|scope| {
            json!({
                "scope": scope.name,
                "family": scope.family,
                "high_privilege": scope.is_high_privilege,
                "name": scope.title,
                "description": scope.description,
                "inherits": scope.inherits,
            })
        });
        let operations = Operation::ALL.into_iter().map(|operation| {
            let (one_of, needs) = match operation.need() {
                Need::OneOf(names) => (names, "scope"),
                Need::LiveToken => (&[][..], "live token"),
                Need::SignIn => (&[][..], "sign-in"),
            };
            json!({
                "operation": operation.name(),
                "description": operation.description(),
                "needs": needs,
                "one_of": one_of,
            })
        });
        return console.print_json(&json!({
            "scopes": scopes.collect::<Value>(),
            "operations": operations.collect::<Value>(),
        }));
    }
    let mut table = Table::new(&["SCOPE", "NAME", "INCLUDES", "HIGH", "WHAT IT ALLOWS"]);
    for scope in scope::ALL {
        let cells = [
            scope.name,
            scope.title,
            scope.inherits.unwrap_or_default(),
            if scope.is_high_privilege { "yes" } else { "" },
            scope.description,
        ];
        table.row(cells.map(str::to_owned));
    }
    let mut operations = Table::new(&["OPERATION", "NEEDS ONE OF", "WHAT IT IS"]);
    for operation in Operation::ALL {
        let needs = match operation.need() {
            Need::OneOf(names) => names.join(" "),
            Need::LiveToken => "any live token".to_owned(),
            Need::SignIn => "no token: a sign-in".to_owned(),
        };
        operations.row([
            operation.name().to_owned(),
            needs,
            operation.description().to_owned(),
        ]);
    }
    console.print(&format!(
        "{table}\n\n{operations}\n\nA scope does what the one it includes does, and so on; app_token includes all. HIGH: give it with care."
    ))
}

fn state(token: &Token) -> &'static str {
    if token.revoked_at.is_some() {
        "revoked"
    } else if token.expires_at <= Timestamp::now() {
        "expired"
    } else {
        "active"
    }
}

fn to_json(token: &Token) -> Value {
    json!({
        "id": token.id.as_str(),
        "user": token.account,
        "name": token.name,
        "scopes": token.scopes.split_ascii_whitespace().collect::<Vec<_>>(),
        "state": state(token),
        "created_at": token.created_at.to_string(),
        "expires_at": token.expires_at.to_string(),
        "revoked_at": token.revoked_at.map(|at| at.to_string()),
        "last_used_at": token.last_used_at.map(|at| at.to_string()),
        "last_used_from": token.last_used_from.map(|address| address.to_string()),
    })
}
