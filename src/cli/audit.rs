//! `patgate audit`: who changed what.

use clap::Subcommand;
use serde_json::{Value, json};

use super::args::CommonArgs;
use super::output::{CliError, Console, Table};
use crate::store::{Actor, AuditEvent, AuditFilter, Requester, TokenId};

/// What can be done with the audit trail.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List changes of accounts, tokens, roles and repositories, newest first.
    #[command(after_help = "\
Examples:
  patgate audit list --limit 20
  patgate audit list --json | jq '.[] | select(.action == \"token.create\")'")]
    List {
        /// How many to show at most.
        #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(command: AuditCommand, common: &CommonArgs, console: &mut Console) -> Result<(), CliError> {
    let AuditCommand::List { limit, json } = command;
    let events = common.open_store()?.audit_events(&AuditFilter::latest(limit))?;
    if json {
        return console.print_json(&events.iter().map(to_json).collect::<Value>());
    }
    let mut table = Table::new(&["ID", "TIME", "ACTOR", "ACTION", "SUBJECT", "DETAILS"]);
    for event in events {
        table.row([
            event.id.to_string(),
            event.at.to_string(),
            event.actor.to_string(),
            event.action,
            event.subject,
            event.details.to_string(),
        ]);
    }
    console.print_table(&table, "nothing was changed yet")
}

fn to_json(event: &AuditEvent) -> Value {
    let nobody = Requester::default();
    let (actor, requester) = match &event.actor {
        Actor::Client(requester) => ("client", requester),
        Actor::CommandLine => ("command line", &nobody),
        Actor::Server => ("server", &nobody),
    };
    json!({
        "id": event.id,
        "at": event.at.to_string(),
        "actor": actor,
        "account": requester.account,
        "token": requester.token.as_ref().map(TokenId::as_str),
        "address": requester.address.map(|address| address.to_string()),
        "agent": requester.agent,
        "action": event.action,
        "subject": event.subject,
        "details": event.details,
    })
}
