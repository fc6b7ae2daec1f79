//! `patgate token`: personal access tokens.

use std::collections::HashSet;

use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::args::CommonArgs;
use super::limits::{self, LimitArgs};
use super::output::{CliError, Console, Table, confirm, minute};
use super::token_rule;
use crate::auth::rule::Rules;
use crate::auth::scope::{self, Need, Operation};
use crate::auth::token::{self, CreateToken, PlainToken, RotateToken, UpdateToken};
use crate::store::{self, Actor, RevokeReason, Store, Token, TokenId, TokenIdError, TokenLimits, TokenState};

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token, and print it on stdout: the only time that it can be seen.
    #[command(after_help = "\
Examples:
  patgate token create --user alice --name laptop --scope vso.code_write
  patgate token create --user ci --name nightly --scope 'vso.code vso.build' --expires 2027-01-31
  patgate token create --user ci --name nightly --scope vso.code > token.txt
  patgate token create --user ci --name release --scope vso.code_write \\
      --repo Fabrikam/Web --ref 'refs/heads/release/*' 'refs/tags/*' --network 10.0.0.0/8

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
        #[command(flatten)]
        limits: LimitArgs,
        /// Print JSON, with the token in it.
        #[arg(long)]
        json: bool,
    },
    /// List tokens, without their secrets; all of them, unless told otherwise.
    #[command(group = clap::ArgGroup::new("states").args(["active", "expired", "revoked", "all"]))]
    List {
        /// Only those of this account.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// Only those that open something.
        #[arg(long)]
        active: bool,
        /// Only those that have come to their end.
        #[arg(long)]
        expired: bool,
        /// Only those that were revoked, by themselves or by a rule.
        #[arg(long)]
        revoked: bool,
        /// Whatever their state, which is the default.
        #[arg(long)]
        all: bool,
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
        group = clap::ArgGroup::new("change")
            .args(["name", "scope", "expires", "repo", "refs", "network", "no_limits"]).required(true).multiple(true),
        after_help = "\
Examples:
  patgate token update AbCd1234 --scope 'vso.work vso.code_write'
  patgate token update AbCd1234 --expires 180d
  patgate token update AbCd1234 --repo Fabrikam/Web Fabrikam/Docs
  patgate token update AbCd1234 --no-limits --network 10.0.0.0/8

Each of --scope, --repo, --ref and --network replaces what the token had of that kind; what is not named stays.
--no-limits takes away all limits first, so that only those of the same command are left.")]
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
        #[command(flatten)]
        limits: LimitArgs,
        /// Take away all limits that this command does not give.
        #[arg(long, help_heading = "Limits")]
        no_limits: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
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
        /// Print JSON, with the token in it.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token for good, or all tokens of an account.
    #[command(after_help = "\
Examples:
  patgate token revoke AbCd1234
  patgate token revoke AbCd1234 --because leaked
  patgate token revoke --all --user alice")]
    Revoke {
        /// Its id.
        #[arg(value_parser = token_id, required_unless_present = "all")]
        id: Option<TokenId>,
        /// All tokens of the account that --user names.
        #[arg(long, requires = "user", conflicts_with = "id")]
        all: bool,
        /// Whose tokens.
        #[arg(long, value_name = "NAME", requires = "all")]
        user: Option<String>,
        /// What its holder is told, and the audit trail keeps.
        #[arg(long, value_name = "REASON", default_value = "administrator", value_parser = revoke_reason())]
        because: RevokeReason,
        /// Do not ask before all are revoked.
        #[arg(long)]
        yes: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a gitleaks rule that finds tokens of patgate.
    #[command(after_help = "\
Example:
  patgate token scanner-rule >> .gitleaks.toml")]
    ScannerRule,
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

/// The reasons that a person can give; that a secret was used again, only the server notices.
fn revoke_reason() -> impl TypedValueParser<Value = RevokeReason> {
    let words = RevokeReason::ALL
        .into_iter()
        .filter(|reason| *reason != RevokeReason::Reused)
        .map(RevokeReason::as_str);
    PossibleValuesParser::new(words).try_map(|word| word.parse::<RevokeReason>())
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
            limits,
            json,
        } => {
            let expires_at = moment(&expires)?;
            let limits = limits.parse()?.into_limits();
            let store = common.open_store()?;
            let new = CreateToken {
                account: &user,
                name: &name,
                scopes: &scope.join(" "),
                expires_at,
                limits: &limits,
            };
            let (token, plain) = token::create(&store, &actor, &new)?;
            print_once(&store, &token, &plain, json, console)?;
            warn_without_rights(&store, &token, console)?;
            limits::warn_about_missing(&limits.paths, common, console)
        }
        TokenCommand::List {
            user,
            active,
            expired,
            revoked,
            all: _,
            json,
        } => {
            let states = [
                (active, TokenState::Active),
                (expired, TokenState::Expired),
                (revoked, TokenState::Revoked),
            ];
            let only = states.into_iter().find(|(is_asked, _)| *is_asked);
            list(
                user.as_deref(),
                only.map(|(_, state)| state),
                json,
                common,
                console,
            )
        }
        TokenCommand::Show { id, json } => show(&id, json, common, console),
        TokenCommand::Update {
            id,
            name,
            scope,
            expires,
            limits,
            no_limits,
            json,
        } => {
            let expires_at = expires.as_deref().map(moment).transpose()?;
            let scopes = (!scope.is_empty()).then(|| scope.join(" "));
            let limits = limits.parse()?;
            let none = TokenLimits::NONE;
            let change = UpdateToken {
                before: None,
                name: name.as_deref(),
                scopes: scopes.as_deref(),
                expires_at,
                limits: no_limits.then_some(&none),
                paths: limits.paths.as_deref(),
                refs: limits.refs.as_deref(),
                networks: limits.networks.as_deref(),
            };
            let store = common.open_store()?;
            let token = token::update(&store, &actor, &id, &change)?;
            if json {
                console.print_json(&to_json(&token, &Standings::load(&store)?))?;
            } else {
                console.note(&describe(&token));
            }
            limits::warn_about_missing(limits.paths.as_deref().unwrap_or_default(), common, console)
        }
        TokenCommand::Rotate {
            id,
            expires,
            overlap,
            json,
        } => {
            let options = RotateToken {
                expires_at: expires.as_deref().map(moment).transpose()?,
                overlap: overlap.as_deref().map(token::parse_overlap).transpose()?,
                ..RotateToken::default()
            };
            let store = common.open_store()?;
            let (token, plain) = token::rotate(&store, &actor, &id, &options)?;
            print_once(&store, &token, &plain, json, console)
        }
        TokenCommand::Revoke {
            id: Some(id),
            because,
            json,
            ..
        } => {
            let store = common.open_store()?;
            let token = store.revoke_token(&actor, &id, because)?;
            if json {
                return console.print_json(&to_json(&token, &Standings::load(&store)?));
            }
            console.note(&format!(
                "the token '{}' ({}) of '{}' is revoked",
                token.name, token.id, token.account
            ));
            Ok(())
        }
        TokenCommand::Rule(command) => token_rule::run(command, common, console),
        TokenCommand::Revoke {
            id: None,
            user,
            because,
            yes,
            json,
            ..
        } => {
            let user = user.ok_or_else(|| CliError::usage("give the id of a token, or --all --user NAME"))?;
            revoke_all(&user, because, yes, json, common, console)
        }
        TokenCommand::ScannerRule => super::scanner_rule::run(console),
        TokenCommand::Scopes { json } => scopes(json, console),
    }
}

fn revoke_all(
    user: &str,
    because: RevokeReason,
    is_certain: bool,
    as_json: bool,
    common: &CommonArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let store = common.open_store()?;
    if !is_certain {
        let count = unrevoked_count(&store, user)?;
        let warning = format!("This revokes all tokens of '{user}' for good: {count}.");
        confirm(&warning, &[user], &mut std::io::stdin().lock(), console)?;
    }
    let actor = Actor::CommandLine;
    if as_json {
        let standings = Standings::load(&store)?;
        let mut revoked = Vec::new();
        store.revoke_each_token_of(&actor, user, because, |token| {
            revoked.push(to_json(&token, &standings));
        })?;
        return console.print_json(&Value::Array(revoked));
    }
    console.note(&match store.revoke_tokens_of(&actor, user, because)? {
        0 => format!("'{user}' has no tokens that are not revoked"),
        1 => format!("1 token of '{user}' is revoked"),
        count => format!("{count} tokens of '{user}' are revoked"),
    });
    Ok(())
}

/// Counts by pages, because nothing bounds how many tokens an account has.
fn unrevoked_count(store: &Store, user: &str) -> Result<usize, CliError> {
    const PAGE_COUNT: u32 = 1000;

    let account = store
        .find_account(user)?
        .ok_or_else(|| store::Error::AccountNotFound {
            name: user.to_owned(),
        })?;
    let mut count = 0;
    let mut last: Option<TokenId> = None;
    loop {
        let page = store.tokens_after(account.id, last.as_ref(), PAGE_COUNT)?;
        let Some(end) = page.last() else {
            return Ok(count);
        };
        count += page.iter().filter(|token| token.revoked_at.is_none()).count();
        last = Some(end.id.clone());
    }
}

/// Prints the token on stdout and what to know about it on stderr. A token that nobody could read is reported, because
/// it lives.
fn print_once(
    store: &Store,
    token: &Token,
    plain: &PlainToken,
    as_json: bool,
    console: &mut Console,
) -> Result<(), CliError> {
    // The token lives: what cannot be told of it must not keep it from being printed.
    let standings = Standings::load(store).unwrap_or_default();
    let printed = if as_json {
        let mut value = to_json(token, &standings);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("token".to_owned(), json!(plain.expose()));
        }
        console.write_json(&value)
    } else {
        console.write(plain.expose())
    };
    printed.map_err(|error| {
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
    let mut text = format!(
        "token '{}' ({}) of '{}', scopes: {}, expires {}",
        token.name,
        token.id,
        token.account,
        token.scopes,
        minute(token.expires_at)
    );
    if !token.limits.is_empty() {
        text.push_str(&format!(", limited to: {}", limits::describe(&token.limits)));
    }
    text
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
    only: Option<TokenState>,
    as_json: bool,
    common: &CommonArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let store = common.open_store()?;
    let standings = Standings::load(&store)?;
    let now = Timestamp::now();
    let mut tokens = store.tokens(user)?;
    if let Some(only) = only {
        tokens.retain(|token| standings.of(token, now).state() == Some(only));
    }
    if as_json {
        let tokens = tokens.iter().map(|token| to_json(token, &standings));
        return console.print_json(&tokens.collect::<Value>());
    }
    let mut table = Table::new(&[
        "ID",
        "USER",
        "NAME",
        "SCOPES",
        "LIMITS",
        "STATE",
        "EXPIRES",
        "LAST USED",
    ]);
    for token in tokens {
        let limits = limits::kinds(&token.limits);
        let state = standings.of(&token, now).describe(&token);
        table.row([
            token.id.to_string(),
            token.account,
            token.name,
            token.scopes,
            limits,
            state,
            minute(token.expires_at),
            token.last_used_at.map_or_else(|| "never".to_owned(), minute),
        ]);
    }
    let nothing = match only {
        None => "there are no tokens: make one with 'patgate token create'".to_owned(),
        Some(state) => format!("there are no {} tokens", state.as_str()),
    };
    console.print_table(&table, &nothing)
}

fn show(id: &TokenId, as_json: bool, common: &CommonArgs, console: &mut Console) -> Result<(), CliError> {
    let store = common.open_store()?;
    let token = store
        .find_token(id)?
        .ok_or_else(|| store::Error::TokenNotFound { id: id.clone() })?;
    let addresses = store.token_addresses(id)?;
    let standings = Standings::load(&store)?;
    if as_json {
        let mut value = to_json(&token, &standings);
        if let Some(fields) = value.as_object_mut() {
            let addresses = addresses.iter().map(|one| {
                json!({
                    "address": one.address.to_string(),
                    "last_used_at": one.last_used_at.to_string(),
                })
            });
            fields.insert("addresses".to_owned(), addresses.collect());
        }
        return console.print_json(&value);
    }
    let mut table = Table::new(&["ID", token.id.as_str()]);
    let mut row = |title: &str, value: String| table.row([title.to_owned(), value]);
    row("USER", token.account.clone());
    row("NAME", token.name.clone());
    row("SCOPES", token.scopes.clone());
    row("STATE", standings.of(&token, Timestamp::now()).describe(&token));
    row("CREATED", minute(token.created_at));
    if let Some(at) = token.rotated_at {
        row("ROTATED", minute(at));
    }
    row("EXPIRES", minute(token.expires_at));
    if let Some(at) = token.revoked_at {
        let because = token.revoked_because.map(RevokeReason::explanation);
        row(
            "REVOKED",
            format!("{} {}", minute(at), because.unwrap_or_default())
                .trim_end()
                .to_owned(),
        );
    }
    for (title, entries) in [
        ("ONLY IN", limits::strings(&token.limits.paths)),
        ("ONLY TO", limits::strings(&token.limits.refs)),
        ("ONLY FROM", limits::strings(&token.limits.networks)),
    ] {
        for entry in entries {
            row(title, entry);
        }
    }
    row(
        "LAST USED",
        token.last_used_at.map_or_else(|| "never".to_owned(), minute),
    );
    for (title, value) in [("FOR", &token.last_used_for), ("WITH", &token.last_used_with)] {
        if let Some(value) = value {
            row(title, value.clone());
        }
    }
    for one in addresses {
        row("FROM", format!("{} at {}", one.address, minute(one.last_used_at)));
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
                Need::Nothing => (&[][..], "nothing"),
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
            Need::Nothing => "nothing".to_owned(),
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

/// What decides, besides a token itself, whether it opens anything.
#[derive(Debug, Default)]
struct Standings {
    rules: Rules,
    /// Names of disabled accounts, as tokens have them.
    disabled: HashSet<String>,
}

/// Whether a token opens anything, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// By itself it does so or not, and nothing else is against it.
    Own(TokenState),
    /// A rule of this moment is against it.
    Rule(Timestamp),
    /// Its owner is disabled.
    OwnerDisabled,
}

impl Standings {
    fn load(store: &Store) -> Result<Standings, store::Error> {
        let accounts = store.accounts()?.into_iter();
        Ok(Standings {
            rules: Rules::load(store)?,
            disabled: accounts
                .filter(|account| account.is_disabled)
                .map(|account| account.name)
                .collect(),
        })
    }

    fn of(&self, token: &Token, now: Timestamp) -> Standing {
        match token.state(now) {
            TokenState::Active => {}
            ended => return Standing::Own(ended),
        }
        if let Some(rule) = self.rules.against_token(token) {
            return Standing::Rule(rule.made_at);
        }
        if self.disabled.contains(&token.account) {
            return Standing::OwnerDisabled;
        }
        Standing::Own(TokenState::Active)
    }
}

impl Standing {
    /// The state that it is listed under; None for one that comes back to life with its owner.
    fn state(self) -> Option<TokenState> {
        match self {
            Standing::Own(state) => Some(state),
            Standing::Rule(_) => Some(TokenState::Revoked),
            Standing::OwnerDisabled => None,
        }
    }

    fn as_str(self) -> &'static str {
        self.state().map_or("owner disabled", TokenState::as_str)
    }

    /// `active`, `expired`, `owner disabled`, `revoked` or, with its reason, `revoked (leaked)`.
    fn describe(self, token: &Token) -> String {
        match (self, token.revoked_because) {
            (Standing::Rule(at), _) => format!("revoked (rule of {})", minute(at)),
            (_, Some(because)) => format!("{} ({because})", self.as_str()),
            (_, None) => self.as_str().to_owned(),
        }
    }
}

fn to_json(token: &Token, standings: &Standings) -> Value {
    let standing = standings.of(token, Timestamp::now());
    let rule = match standing {
        Standing::Rule(at) => Some(at.to_string()),
        _ => None,
    };
    json!({
        "id": token.id.as_str(),
        "user": token.account,
        "name": token.name,
        "scopes": token.scopes.split_ascii_whitespace().collect::<Vec<_>>(),
        "limits": token.limits.to_json(),
        "state": standing.as_str(),
        "created_at": token.created_at.to_string(),
        "rotated_at": token.rotated_at.map(|at| at.to_string()),
        "expires_at": token.expires_at.to_string(),
        "revoked_at": token.revoked_at.map(|at| at.to_string()),
        "revoked_because": token.revoked_because.map(RevokeReason::as_str),
        "revoked_by_rule_of": rule,
        "last_used_at": token.last_used_at.map(|at| at.to_string()),
        "last_used_from": token.last_used_from.map(|address| address.to_string()),
        "last_used_with": token.last_used_with,
        "last_used_for": token.last_used_for,
    })
}
