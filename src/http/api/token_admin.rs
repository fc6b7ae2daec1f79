//! `tokenadmin`: tokens of others, for administrators of the server.
//!
//! Listing and revoking are as in Azure DevOps, revocation rules too; what it lacks (reading rules, taking one back,
//! revoking all tokens of an account) stands under the same URLs. Invariants: of a token everything is told but its secret;
//! of a list of tokens to revoke all are revoked, or none. What a rule means, `auth::rule` knows.

use hyper::{Method, StatusCode};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::call::Call;
use super::discovery::DESCRIPTOR_PREFIX;
use super::endpoint::{ABOVE_PROJECTS, Answer, Endpoint, Kind, Param, Proof, schema};
use super::ids::{authorization_id, token_of_authorization};
use super::moment;
use super::reply::{List, Reply};
use super::version::Versions;
use crate::auth::rule::{self, Rules};
use crate::auth::scope::Operation;
use crate::http::error::HttpError;
use crate::names::{AccessPath, Quoted};
use crate::store::{self, Account, RevocationRule, RevokeReason, Token, TokenId, TokenState};

pub(super) const TOKEN_ADMIN: Versions = Versions::Preview(1);

/// Tokens on one page if nothing is said, and at most.
const PAGE_COUNT: usize = 100;
const PAGE_COUNT_MAX: i64 = 1000;

/// Tokens that one request revokes at most.
const REVOCATIONS_COUNT_MAX: usize = 1000;

const PAGE_SIZE: Param = Param::new(
    "pageSize",
    Kind::Integer(1, PAGE_COUNT_MAX),
    "How many tokens to list at most; 100 if nothing is said.",
);
const FROM: Param = Param::new(
    "continuationToken",
    Kind::Text(100),
    "Where to go on, as the page before said.",
);
const IS_PUBLIC: Param = Param::new(
    "isPublic",
    Kind::Boolean,
    "True for SSH keys, of which there are none; else personal access tokens are meant.",
);

/// This module's rows.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        id: "token-admin.list-tokens",
        method: Method::GET,
        path: "/tokenadmin/personalaccesstokens/{subjectDescriptor}",
        levels: ABOVE_PROJECTS,
        proof: Proof::Token,
        operation: Operation::AdministerTokens,
        versions: TOKEN_ADMIN,
        params: &[&PAGE_SIZE, &FROM, &IS_PUBLIC],
        body: None,
        answers: &[Answer::with(
            200,
            schema::<TokenAdminPagedSessionTokens>,
            "The tokens, in the order in which they were made; those that have ended, too.",
        )],
        summary: "List the tokens of an account, which is named by its descriptor, its id or its name.",
        run: list,
    },
    Endpoint {
        id: "token-admin.revoke-all-tokens",
        method: Method::DELETE,
        path: "/tokenadmin/personalaccesstokens/{subjectDescriptor}",
        levels: ABOVE_PROJECTS,
        proof: Proof::Token,
        operation: Operation::AdministerTokens,
        versions: TOKEN_ADMIN,
        params: &[],
        body: None,
        answers: &[Answer::empty(204, "They are revoked, for good.")],
        summary: "Revoke all tokens of an account. Azure DevOps does not have this.",
        run: revoke_all,
    },
    Endpoint {
        id: "token-admin.revoke",
        method: Method::POST,
        path: "/tokenadmin/revocations",
        levels: ABOVE_PROJECTS,
        proof: Proof::Token,
        operation: Operation::AdministerTokens,
        versions: TOKEN_ADMIN,
        params: &[&IS_PUBLIC],
        body: Some(schema::<Revocations>),
        answers: &[Answer::empty(
            204,
            "They are revoked, for good; those that were revoked before stay as they were.",
        )],
        summary: "Revoke tokens, all that are named or none.",
        run: revoke,
    },
    Endpoint {
        id: "token-admin.create-rule",
        method: Method::POST,
        path: "/tokenadmin/revocationrules",
        levels: ABOVE_PROJECTS,
        proof: Proof::Token,
        operation: Operation::AdministerTokens,
        versions: TOKEN_ADMIN,
        params: &[],
        body: Some(schema::<TokenAdminRevocationRule>),
        answers: &[Answer::empty(201, "The rule holds from the next request on.")],
        summary: "Make a rule against everything that has one of some scopes and was made before a moment.",
        run: create_rule,
    },
    Endpoint {
        id: "token-admin.list-rules",
        method: Method::GET,
        path: "/tokenadmin/revocationrules",
        levels: ABOVE_PROJECTS,
        proof: Proof::Token,
        operation: Operation::AdministerTokens,
        versions: TOKEN_ADMIN,
        params: &[],
        body: None,
        answers: &[Answer::with(
            200,
            schema::<List<Rule>>,
            "The rules, the oldest first.",
        )],
        summary: "List the revocation rules. Azure DevOps does not have this.",
        run: list_rules,
    },
    Endpoint {
        id: "token-admin.delete-rule",
        method: Method::DELETE,
        path: "/tokenadmin/revocationrules/{ruleId}",
        levels: ABOVE_PROJECTS,
        proof: Proof::Token,
        operation: Operation::AdministerTokens,
        versions: TOKEN_ADMIN,
        params: &[],
        body: None,
        answers: &[Answer::empty(
            204,
            "The rule is taken back: what it was against lives again, unless it has ended otherwise.",
        )],
        summary: "Take a revocation rule back. Azure DevOps does not have this.",
        run: delete_rule,
    },
];

/// A page of tokens.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct TokenAdminPagedSessionTokens {
    /// The tokens.
    value: Vec<SessionToken>,
    /// Where the next page begins; null on the last.
    continuation_token: Option<Uuid>,
}

/// A token, as administrators see it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct SessionToken {
    /// The program that it was made for: none, which is all zeros.
    client_id: Uuid,
    /// All zeros.
    access_id: Uuid,
    /// The id by which it is revoked.
    authorization_id: Uuid,
    /// All zeros.
    host_authorization_id: Uuid,
    /// The id of the account that owns it.
    user_id: Uuid,
    /// When it was made.
    valid_from: Timestamp,
    /// The first moment at which it opens nothing any more.
    valid_to: Timestamp,
    /// What it is for.
    display_name: String,
    /// Names of scopes, with spaces between.
    scope: String,
    /// The ids of the collections that it is limited to; null if it is not.
    target_accounts: Option<Vec<Uuid>>,
    /// Null: nobody sees a token twice.
    token: (),
    /// Null.
    alternate_token: (),
    /// Whether it opens anything now: it has not expired, was not revoked, no rule is against it, and its owner is not
    /// disabled.
    is_valid: bool,
    /// False: it is no SSH key.
    is_public: bool,
    /// Null.
    public_data: (),
    /// Null.
    source: (),
}

/// At most 1000 tokens to be revoked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
struct Revocations(#[schemars(length(min = 1, max = 1000))] Vec<TokenAdminRevocation>);

/// A token to be revoked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TokenAdminRevocation {
    /// Its id, as it is listed.
    authorization_id: Uuid,
}

/// A rule to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TokenAdminRevocationRule {
    /// Names of scopes, with spaces between. What has one of them, or one that includes it, is meant.
    #[schemars(length(min = 1))]
    scopes: String,
    /// What got its secret before this moment is meant; the moment of the request if nothing is said. It cannot lie ahead.
    #[serde(default, deserialize_with = "moment::optional")]
    created_before: Option<Timestamp>,
}

/// A rule that holds.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct Rule {
    /// Its number.
    id: i64,
    /// Names of scopes, with spaces between; empty if whatever is meant.
    scopes: String,
    /// What got its secret before this moment is meant.
    created_before: Timestamp,
    /// Since when it holds.
    made_at: Timestamp,
}

impl From<RevocationRule> for Rule {
    fn from(rule: RevocationRule) -> Self {
        Rule {
            id: rule.id,
            scopes: rule.scopes,
            created_before: rule.created_before,
            made_at: rule.made_at,
        }
    }
}

/// Finds the account that the URL names by its descriptor, its id or its name, in this order.
fn account(call: &Call) -> Result<Account, HttpError> {
    let asked = call.argument("subjectDescriptor");
    let id = asked.strip_prefix(DESCRIPTOR_PREFIX).unwrap_or(&asked);
    let mut found = None;
    if let Ok(id) = Uuid::try_parse(id) {
        let ids = call.ids()?;
        let accounts = call.store().accounts()?;
        found = accounts.into_iter().find(|account| ids.account(account.id) == id);
    }
    if found.is_none() {
        found = call.store().find_account(&asked)?;
    }
    found.ok_or_else(|| {
        HttpError::absent(format!(
            "There is no account {}. Name it by its subjectDescriptor, its id or its name.",
            Quoted(&asked)
        ))
    })
}

fn list(call: &Call) -> Result<Reply, HttpError> {
    let account = account(call)?;
    let after = call.text(&FROM).map(read_token).transpose()?;
    if call.flag(&IS_PUBLIC) {
        return Reply::ok(&TokenAdminPagedSessionTokens {
            value: Vec::new(),
            continuation_token: None,
        });
    }
    let count_max = call.count(&PAGE_SIZE).unwrap_or(PAGE_COUNT);
    let asked = u32::try_from(count_max).unwrap_or(u32::MAX).saturating_add(1);
    let mut tokens = call
        .store()
        .tokens_after(account.id, after.as_ref(), asked)
        .map_err(|error| match error {
            store::Error::TokenNotFound { .. } => made_up(),
            error => error.into(),
        })?;
    let has_more = tokens.len() > count_max;
    tokens.truncate(count_max);
    let last = tokens.last().map(|token| authorization_id(&token.id));
    let rules = Rules::load(call.store())?;
    Reply::ok(&TokenAdminPagedSessionTokens {
        value: tokens
            .into_iter()
            .map(|token| describe(call, &account, &rules, token))
            .collect::<Result<_, _>>()?,
        continuation_token: last.filter(|_| has_more),
    })
}

/// Reads the id that a page ended with.
fn read_token(text: &str) -> Result<TokenId, HttpError> {
    let id = Uuid::try_parse(text).ok().and_then(token_of_authorization);
    id.ok_or_else(made_up)
}

fn made_up() -> HttpError {
    HttpError::bad_request(
        "The query parameter 'continuationToken' is none that this server gave for this account. Begin with the first \
         page.",
    )
}

fn describe(call: &Call, account: &Account, rules: &Rules, token: Token) -> Result<SessionToken, HttpError> {
    let ids = call.ids()?;
    let is_valid = token.state(Timestamp::now()) == TokenState::Active
        && !account.is_disabled
        && rules.against_token(&token).is_none();
    Ok(SessionToken {
        client_id: Uuid::nil(),
        access_id: Uuid::nil(),
        authorization_id: authorization_id(&token.id),
        host_authorization_id: Uuid::nil(),
        user_id: ids.account(account.id),
        valid_from: token.created_at,
        valid_to: token.expires_at,
        target_accounts: collections(&token.limits.paths)
            .map(|names| names.iter().map(|name| ids.collection(name)).collect()),
        display_name: token.name,
        scope: token.scopes,
        token: (),
        alternate_token: (),
        is_valid,
        is_public: false,
        public_data: (),
        source: (),
    })
}

/// The collections that some paths lie in, each once; None if they are all.
fn collections(paths: &[AccessPath]) -> Option<Vec<&str>> {
    let mut names: Vec<&str> = Vec::new();
    for path in paths {
        let name = match path {
            AccessPath::Server => return None,
            AccessPath::Collection(name) | AccessPath::Project(name, _) => name.as_str(),
            AccessPath::Repository(path) => path.collection(),
        };
        if !names
            .iter()
            .any(|known| known.to_lowercase() == name.to_lowercase())
        {
            names.push(name);
        }
    }
    (!names.is_empty()).then_some(names)
}

fn revoke_all(call: &Call) -> Result<Reply, HttpError> {
    let account = account(call)?;
    call.store()
        .revoke_tokens_of(&call.actor()?, &account.name, RevokeReason::Administrator)?;
    Ok(Reply::nothing())
}

fn revoke(call: &Call) -> Result<Reply, HttpError> {
    let Revocations(revocations) = call.json()?;
    if call.flag(&IS_PUBLIC) {
        return Err(HttpError::bad_request(
            "The query parameter 'isPublic' cannot be true: there are no SSH keys on this server.",
        ));
    }
    if revocations.is_empty() || revocations.len() > REVOCATIONS_COUNT_MAX {
        return Err(HttpError::bad_request(format!(
            "The request's body has {} entries, and must have 1 to {REVOCATIONS_COUNT_MAX}.",
            revocations.len()
        )));
    }
    let mut ids = Vec::with_capacity(revocations.len());
    for (place, revocation) in revocations.iter().enumerate() {
        let id = token_of_authorization(revocation.authorization_id).ok_or_else(|| no_token(place))?;
        ids.push(id);
    }
    call.store()
        .revoke_tokens(&call.actor()?, &ids, RevokeReason::Administrator)
        .map_err(|error| match error {
            store::Error::TokenNotFound { id } => {
                no_token(ids.iter().position(|other| *other == id).unwrap_or_default())
            }
            error => error.into(),
        })?;
    Ok(Reply::nothing())
}

fn no_token(place: usize) -> HttpError {
    HttpError::absent(format!(
        "The field '[{place}].authorizationId' names no token. None was revoked: leave it out and try again."
    ))
}

fn create_rule(call: &Call) -> Result<Reply, HttpError> {
    let asked: TokenAdminRevocationRule = call.json()?;
    if asked.scopes.trim().is_empty() {
        return Err(HttpError::bad_request(
            "The field 'scopes' is empty, and must name at least one scope.",
        ));
    }
    let now = Timestamp::now();
    let before = asked.created_before.unwrap_or(now);
    let wrong = |field: &str, error: rule::Error| {
        HttpError::bad_request(format!("The field '{field}' cannot be taken: {error}."))
    };
    rule::create(call.store(), &call.actor()?, &asked.scopes, before, now).map_err(|error| match error {
        rule::Error::Store(error) => error.into(),
        rule::Error::Future | rule::Error::Moment(_) => wrong("createdBefore", error),
        rule::Error::Scope(_) => wrong("scopes", error),
    })?;
    Ok(Reply::empty(StatusCode::CREATED))
}

fn list_rules(call: &Call) -> Result<Reply, HttpError> {
    let rules = call.store().revocation_rules()?;
    let rules: Vec<Rule> = rules.into_iter().map(Rule::from).collect();
    Reply::ok(&List::from(rules))
}

fn delete_rule(call: &Call) -> Result<Reply, HttpError> {
    let asked = call.argument("ruleId");
    let absent = || HttpError::absent(format!("There is no revocation rule {}.", Quoted(&asked)));
    let id = asked.parse().map_err(|_| absent())?;
    call.store()
        .delete_revocation_rule(&call.actor()?, id)
        .map_err(|error| match error {
            store::Error::RevocationRuleNotFound { .. } => absent(),
            error => error.into(),
        })?;
    Ok(Reply::nothing())
}
