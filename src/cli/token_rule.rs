//! `patgate token rule`: rules that revoke many tokens at once.

use clap::Subcommand;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::args::CommonArgs;
use super::output::{CliError, Console, Table, minute};
use crate::auth::rule::{self, Rules};
use crate::store::{Actor, RevocationRule, Store};

/// What can be done with revocation rules.
#[derive(Debug, Subcommand)]
pub enum RuleCommand {
    /// Revoke everything that has a scope and was made before a moment, from the next request on.
    #[command(
        group = clap::ArgGroup::new("which").args(["scope", "any_scope"]).required(true),
        after_help = "\
A token has a scope if it names it or one that includes it: a rule against vso.code is against vso.code_write, too. What
counts is when a token got its secret, so that rotating one brings it past the rule. No token is changed: 'patgate token
rule remove' brings them all to life again. Alternate credentials count as vso.code_full.

Examples:
  patgate token rule add --scope 'vso.code_write vso.packaging' --before 2027-01-31
  patgate token rule add --any-scope --before now")]
    Add {
        /// Against tokens with any of these scopes, names with spaces between.
        #[arg(long, value_name = "SCOPE …", num_args = 1)]
        scope: Vec<String>,
        /// Against tokens with whatever scopes.
        #[arg(long)]
        any_scope: bool,
        /// Against those made before this day or moment in UTC; 'now' for all that there are.
        #[arg(long, value_name = "2027-01-31|now")]
        before: String,
    },
    /// List all rules.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take a rule back: what it was against lives again, unless it has ended otherwise.
    Remove {
        /// Its number.
        id: i64,
    },
}

pub(super) fn run(command: RuleCommand, common: &CommonArgs, console: &mut Console) -> Result<(), CliError> {
    match command {
        RuleCommand::Add { scope, before, .. } => {
            let now = Timestamp::now();
            let before = rule::parse_moment(&before, now).map_err(rule::Error::from)?;
            let store = common.open_store()?;
            let rule = rule::create(&store, &Actor::CommandLine, &scope.join(" "), before, now)?;
            let count = count_against(&store, &rule)?;
            console.note(&format!(
                "rule {}: {} made before {} opens nothing from now on; that is {count} live {}",
                rule.id,
                what(&rule),
                minute(rule.created_before),
                if count == 1 { "token" } else { "tokens" }
            ));
            Ok(())
        }
        RuleCommand::List { json } => list(json, common, console),
        RuleCommand::Remove { id } => {
            let store = common.open_store()?;
            let rule = store.delete_revocation_rule(&Actor::CommandLine, id)?;
            console.note(&format!(
                "rule {id} is taken back: {} made before {} lives again, unless it has ended otherwise",
                what(&rule),
                minute(rule.created_before)
            ));
            Ok(())
        }
    }
}

fn what(rule: &RevocationRule) -> String {
    if rule.scopes.is_empty() {
        "everything".to_owned()
    } else {
        format!("everything with {}", rule.scopes.replace(' ', " or "))
    }
}

/// Counts the tokens that would open something without the rule, if no other one is against them.
fn count_against(store: &Store, rule: &RevocationRule) -> Result<usize, CliError> {
    let rules = Rules::from(vec![rule.clone()]);
    let now = Timestamp::now();
    let tokens = store.tokens(None)?;
    let is_live = |token: &&crate::store::Token| token.revoked_at.is_none() && now < token.expires_at;
    Ok(tokens
        .iter()
        .filter(is_live)
        .filter(|token| rules.against_token(token).is_some())
        .count())
}

fn list(as_json: bool, common: &CommonArgs, console: &mut Console) -> Result<(), CliError> {
    let rules = common.open_store()?.revocation_rules()?;
    if as_json {
        return console.print_json(&rules.iter().map(to_json).collect::<Value>());
    }
    let mut table = Table::new(&["ID", "SCOPES", "MADE BEFORE", "SINCE"]);
    for rule in rules {
        let scopes = if rule.scopes.is_empty() {
            "any".to_owned()
        } else {
            rule.scopes
        };
        table.row([
            rule.id.to_string(),
            scopes,
            minute(rule.created_before),
            minute(rule.made_at),
        ]);
    }
    console.print_table(
        &table,
        "there are no rules: make one with 'patgate token rule add'",
    )
}

fn to_json(rule: &RevocationRule) -> Value {
    json!({
        "id": rule.id,
        "scopes": rule.scopes.split_ascii_whitespace().collect::<Vec<_>>(),
        "created_before": rule.created_before.to_string(),
        "made_at": rule.made_at.to_string(),
    })
}
