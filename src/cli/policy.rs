//! `patgate policy`: what tokens may be.

use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::access::{nearest, places_on_disk};
use super::args::CommonArgs;
use super::output::{CliError, Console, Table};
use crate::auth::policy::{self, ALL, Name, Policies, Policy, Setting};
use crate::store::{Actor, Store, StoredPolicy};

/// What can be done with policies.
#[derive(Debug, Subcommand)]
#[command(after_long_help = explain_all())]
pub enum PolicyCommand {
    /// List all policies, what holds, and where something else is set.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say what a policy is for, what it takes and where it is set.
    Show {
        /// The policy.
        #[arg(value_parser = name_parser())]
        name: Name,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Set a policy for the whole server, or for a collection. It holds from the next request on.
    #[command(after_help = "\
The server's policies hold when a token is made or widened: a token that breaks one which is set later goes on to its
end, and no longer. A collection's hold at every use of a token there, at once. Of several the strictest counts, so a
collection can be stricter than the server, and never laxer. They hold for the command line, too.

Examples:
  patgate policy set max-lifetime 90
  patgate policy set max-lifetime 30 --collection Payroll
  patgate policy set creation 'administrators, ci'
  patgate policy set creation-scopes 'vso.packaging_manage'
  patgate policy set full-scope deny
  patgate policy set revoke-unused 90

'patgate policy --help' explains each policy.")]
    Set {
        /// The policy.
        #[arg(value_parser = name_parser())]
        name: Name,
        /// What is to hold.
        value: String,
        /// Only in this collection.
        #[arg(long, value_name = "C")]
        collection: Option<String>,
    },
    /// Take a policy back, so that its default holds again.
    #[command(after_help = "\
Examples:
  patgate policy unset max-lifetime
  patgate policy unset max-lifetime --collection Payroll")]
    Unset {
        /// The policy.
        #[arg(value_parser = name_parser())]
        name: Name,
        /// Only in this collection.
        #[arg(long, value_name = "C")]
        collection: Option<String>,
    },
}

/// Takes the name of a policy. clap names all of them in help, errors and completions.
fn name_parser() -> impl TypedValueParser<Value = Name> {
    PossibleValuesParser::new(ALL.iter().map(|policy| policy.text)).try_map(|text| text.parse::<Name>())
}

fn explain_all() -> String {
    let mut text = "Policies:\n".to_owned();
    for policy in ALL {
        text.push_str(&format!("  {}\n", policy.text));
        let facts = format!(
            "{} Takes {}; {} if not set.",
            policy.about, policy.values, policy.default
        );
        for line in wrap(&facts) {
            text.push_str(&format!("      {line}\n"));
        }
        if !policy.is_for_collections {
            text.push_str("      For the whole server only.\n");
        }
    }
    text
}

/// Breaks `text` into lines of a width that any terminal shows.
fn wrap(text: &str) -> Vec<String> {
    const WIDTH: usize = 74;
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_ascii_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

pub(super) fn run(
    command: PolicyCommand,
    common: &CommonArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    match command {
        PolicyCommand::List { json } => list(json, common, console),
        PolicyCommand::Show { name, json } => show(name, json, common, console),
        PolicyCommand::Set {
            name,
            value,
            collection,
        } => set(name, &value, collection.as_deref(), common, console),
        PolicyCommand::Unset { name, collection } => {
            let collection = collection.as_deref();
            let before = policy::unset(&common.open_store()?, &Actor::CommandLine, collection, name)?;
            let now = match collection {
                None => format!("{}, the default, holds", name.policy().default),
                Some(_) => "what the whole server has holds there".to_owned(),
            };
            console.note(&format!(
                "'{name}' was {before} for {} and is not set any more: {now}",
                place(collection)
            ));
            Ok(())
        }
    }
}

fn set(
    name: Name,
    value: &str,
    collection: Option<&str>,
    common: &CommonArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let setting = Setting::parse(name, value)?;
    let store = common.open_store()?;
    let before = policy::set(&store, &Actor::CommandLine, collection, &setting)?;
    let before = before.map_or_else(String::new, |before| format!(", instead of {before}"));
    console.note(&format!(
        "'{name}' is now {setting} for {}{before}",
        place(collection)
    ));
    if let Setting::RevokeUnused(Some(_)) = setting {
        warn_of_idle_tokens(&store, console)?;
    }
    if let Some(collection) = collection
        && let Some(stricter) = stricter(&Policies::load(&store)?, collection, &setting)
    {
        console.note(&format!(
            "the whole server has {stricter}, which is stricter and counts"
        ));
    }
    if let Some(collection) = collection {
        match places_on_disk(common) {
            Ok((root, places)) => warn_of_nothing(collection, &root, &places, console),
            // The policy is set all the same.
            Err(error) => error.print(console),
        }
    }
    Ok(())
}

/// Tells that there is no such collection yet, and which may have been meant: a slip of the pen protects nothing.
fn warn_of_nothing(collection: &str, root: &str, places: &[String], console: &mut Console) {
    let is_there = |place: &String| place.to_lowercase() == collection.to_lowercase();
    if places.iter().any(is_there) {
        return;
    }
    console.note(&format!(
        "warning: there is no collection '{collection}' below '{root}' yet; the policy holds as soon as there is"
    ));
    let collections: Vec<String> = places
        .iter()
        .filter(|place| !place.contains('/'))
        .cloned()
        .collect();
    if let Some(near) = nearest(collection, &collections) {
        console.note(&format!("hint: did you mean '{near}'?"));
    }
}

/// Says how many tokens end because of what was just set, before they do.
fn warn_of_idle_tokens(store: &Store, console: &mut Console) -> Result<(), CliError> {
    let policies = Policies::load(store)?;
    let Some(shortest) = policies.revoke_unused_min() else {
        return Ok(());
    };
    let now = Timestamp::now();
    let idle = store.idle_tokens(shortest.before(now), now, None, u32::MAX)?;
    let count = idle
        .iter()
        .filter(|token| policies.idle_too_long(token, now).is_some())
        .count();
    if count > 0 {
        let (tokens, them) = if count == 1 {
            ("token has", "it")
        } else {
            ("tokens have", "them")
        };
        console.note(&format!(
            "{count} live {tokens} not been used for so long: a running server revokes {them} within the hour"
        ));
    }
    Ok(())
}

/// What holds in a collection although `setting` was just set for it: what the server has, where that is stricter.
fn stricter(policies: &Policies, collection: &str, setting: &Setting) -> Option<Setting> {
    let rules = policies.for_collection(collection);
    let holds = match setting {
        Setting::MaxLifetime(_) => Setting::MaxLifetime(rules.max_lifetime()),
        Setting::FullScope(_) => Setting::FullScope(rules.allows_full_scope()),
        Setting::RevokeUnused(_) => Setting::RevokeUnused(rules.revoke_unused()),
        Setting::AllowSecret(_) => Setting::AllowSecret(rules.allow_secret()),
        Setting::AlternateCredentials(_) => Setting::AlternateCredentials(rules.alternate_credentials()),
        // Of accounts and scopes neither need be the stricter one.
        Setting::Creation(_) | Setting::CreationScopes(_) => return None,
        Setting::RevokeLeaked(_) | Setting::AuditRetention(_) => return None,
    };
    (holds != *setting).then_some(holds)
}

fn place(collection: Option<&str>) -> String {
    match collection {
        None => "the whole server".to_owned(),
        Some(collection) => format!("the collection '{collection}'"),
    }
}

/// What the whole server has, and whether somebody has set it.
fn of_server<'a>(policy: &'a Policy, stored: &'a [StoredPolicy]) -> (&'a str, bool) {
    let set = stored
        .iter()
        .find(|set| set.collection.is_none() && set.name == policy.text);
    set.map_or((policy.default, false), |set| (set.value.as_str(), true))
}

fn in_collections<'a>(
    policy: &'a Policy,
    stored: &'a [StoredPolicy],
) -> impl Iterator<Item = (&'a str, &'a str)> {
    stored
        .iter()
        .filter(|set| set.name == policy.text)
        .filter_map(|set| Some((set.collection.as_deref()?, set.value.as_str())))
}

fn list(as_json: bool, common: &CommonArgs, console: &mut Console) -> Result<(), CliError> {
    let stored = common.open_store()?.policies()?;
    if as_json {
        return console.print_json(
            &ALL.iter()
                .map(|policy| to_json(policy, &stored))
                .collect::<Value>(),
        );
    }
    let mut table = Table::new(&["POLICY", "VALUE", "HOLDS FOR"]);
    for policy in ALL {
        let (value, is_set) = of_server(policy, &stored);
        let server = if is_set {
            "the whole server"
        } else {
            "the whole server (default)"
        };
        table.row([policy.text, value, server].map(str::to_owned));
        for (collection, value) in in_collections(policy, &stored) {
            let cells = [policy.text.to_owned(), value.to_owned(), place(Some(collection))];
            table.row(cells);
        }
    }
    console.print_table(&table, "")
}

fn show(name: Name, as_json: bool, common: &CommonArgs, console: &mut Console) -> Result<(), CliError> {
    let stored = common.open_store()?.policies()?;
    let policy = name.policy();
    if as_json {
        return console.print_json(&to_json(policy, &stored));
    }
    let (value, is_set) = of_server(policy, &stored);
    let mut table = Table::new(&["POLICY", policy.text]);
    let mut row = |title: &str, value: &str| table.row([title.to_owned(), value.to_owned()]);
    for (at, line) in wrap(policy.about).iter().enumerate() {
        row(if at == 0 { "ABOUT" } else { "" }, line);
    }
    row("TAKES", policy.values);
    row("DEFAULT", policy.default);
    row("SERVER", if is_set { value } else { "not set" });
    for (collection, value) in in_collections(policy, &stored) {
        row("COLLECTION", &format!("{collection}: {value}"));
    }
    console.print(&table.to_string())
}

fn to_json(policy: &Policy, stored: &[StoredPolicy]) -> Value {
    let (value, is_set) = of_server(policy, stored);
    let collections = in_collections(policy, stored)
        .map(|(collection, value)| json!({ "collection": collection, "value": value }));
    json!({
        "policy": policy.text,
        "value": value,
        "is_set": is_set,
        "default": policy.default,
        "takes": policy.values,
        "about": policy.about,
        "collections": collections.collect::<Value>(),
    })
}
