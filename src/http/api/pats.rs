//! `tokens/pats`: somebody who has signed in lists, makes, changes, rotates and revokes the tokens of their account.
//!
//! As Azure DevOps's PAT lifecycle API, with rotation besides. No token opens any of it, or a token that leaked could make
//! others that outlive it. Invariants: only the tokens of the account that has signed in are seen or changed, and another's
//! is answered as one that is not there; a list holds a page in memory, however many tokens there are. A list is of all
//! tokens of the account, whichever collection the URL names; a token that is made without `allOrgs` and without paths is
//! limited to that collection. <https://learn.microsoft.com/rest/api/azure/devops/tokens/pats>.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::Method;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::call::Call;
use super::endpoint::{ABOVE_PROJECTS, Answer, Endpoint, Kind, Param, Proof, schema};
use super::ids::token_of_authorization;
use super::pat_token::{
    Failure, PatToken, PatTokenLimitsRequest, PatTokenResult, check_name, no_token, target, valid_to,
};
use super::reply::Reply;
use super::version::Versions;
use crate::auth::policy::{self, Policies};
use crate::auth::scope::Operation;
use crate::auth::token::{self, CreateToken, EXPIRY_DAYS_DEFAULT, RotateToken, UpdateToken};
use crate::http::error::HttpError;
use crate::store::{
    RevokeReason, Token, TokenId, TokenLimits, TokenOrder, TokenPage, TokenPosition, TokenState,
};

/// The versions of the resource.
const PATS: Versions = Versions::Preview(1);

/// Tokens on one page at most, and if nothing is said.
const PAGE_COUNT_MAX: u32 = 100;

/// Longest `continuationToken` that is looked at, in bytes; one with the longest name of a token in it is shorter.
const CONTINUATION_BYTES_MAX: usize = 512;

const ID: Param = Param::new(
    "authorizationId",
    Kind::Uuid,
    "The id of one token, which is then read instead of the list.",
);
const WHICH: Param = Param::required("authorizationId", Kind::Uuid, "The id of the token.");
const FILTER: Param = Param::new(
    "displayFilterOption",
    Kind::Word(&[
        "active", "revoked", "expired", "all", "!active", "!revoked", "!expired",
    ]),
    "Which tokens to list: those in this state, or with ! in any other; active if nothing is said.",
);
const SORT: Param = Param::new(
    "sortByOption",
    Kind::Word(&["displayName", "displayDate", "status"]),
    "What to sort by: the name, the end, or whether it is active, expired or revoked; displayDate if nothing is said.",
);
const ASCENDING: Param = Param::new(
    "isSortAscending",
    Kind::Boolean,
    "Whether the smallest comes first; true if nothing is said.",
);
const FROM: Param = Param::new(
    "continuationToken",
    Kind::Text(CONTINUATION_BYTES_MAX),
    "Where to go on, as the page before said; the other parameters must be the same.",
);
const TOP: Param = Param::new(
    "$top",
    Kind::Integer(1, PAGE_COUNT_MAX as i64),
    "How many tokens to list at most; 100 if nothing is said.",
);

const RESULT: &[Answer] = &[Answer::with(
    200,
    schema::<PatTokenResult>,
    "The token, or in patTokenError why the request was not granted.",
)];

/// This module's rows.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        id: "pats.list",
        method: Method::GET,
        path: "/tokens/pats",
        levels: ABOVE_PROJECTS,
        proof: Proof::Password,
        operation: Operation::ManageTokens,
        versions: PATS,
        params: &[&ID, &FILTER, &SORT, &ASCENDING, &FROM, &TOP],
        body: None,
        answers: &[Answer::with(
            200,
            schema::<Listed>,
            "A page of tokens, or with authorizationId one token.",
        )],
        summary: "List the tokens of the account, by pages; or read one of them.",
        run: |call| match call.uuid(&ID) {
            Some(id) => PatTokenResult::granted(call, own(call, id)?, None),
            None => list(call),
        },
    },
    Endpoint {
        id: "pats.create",
        method: Method::POST,
        path: "/tokens/pats",
        levels: ABOVE_PROJECTS,
        proof: Proof::Password,
        operation: Operation::ManageTokens,
        versions: PATS,
        params: &[],
        body: Some(schema::<PatTokenCreateRequest>),
        answers: RESULT,
        summary: "Make a token; this answer alone has it.",
        run: |call| create(call, call.json()?).or_else(PatTokenResult::refused),
    },
    Endpoint {
        id: "pats.update",
        method: Method::PUT,
        path: "/tokens/pats",
        levels: ABOVE_PROJECTS,
        proof: Proof::Password,
        operation: Operation::ManageTokens,
        versions: PATS,
        params: &[],
        body: Some(schema::<PatTokenUpdateRequest>),
        answers: RESULT,
        summary: "Change the name, the scopes, the end or the limits of a live token.",
        run: |call| update(call, call.json()?).or_else(PatTokenResult::refused),
    },
    Endpoint {
        id: "pats.revoke",
        method: Method::DELETE,
        path: "/tokens/pats",
        levels: ABOVE_PROJECTS,
        proof: Proof::Password,
        operation: Operation::ManageTokens,
        versions: PATS,
        params: &[&WHICH],
        body: None,
        answers: &[Answer::empty(204, "The token is revoked, or was so before.")],
        summary: "Revoke a token for good.",
        run: revoke,
    },
    Endpoint {
        id: "pats.rotate",
        method: Method::POST,
        path: "/tokens/pats/rotate",
        levels: ABOVE_PROJECTS,
        proof: Proof::Password,
        operation: Operation::ManageTokens,
        versions: Versions::Own,
        params: &[&WHICH],
        body: Some(schema::<PatTokenRotateRequest>),
        answers: RESULT,
        summary: "Give a token a new secret, which this answer alone has; its id, name, scopes and limits stay.",
        run: |call| rotate(call, call.json()?).or_else(PatTokenResult::refused),
    },
];

/// A page of tokens.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct PagedPatTokens {
    /// Where the next page begins; empty on the last.
    continuation_token: String,
    /// The tokens.
    pat_tokens: Vec<PatToken>,
}

/// What the list's URL answers: a page, or one token where its id is given.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it is for the document alone")]
enum Listed {
    Page(PagedPatTokens),
    One(Box<PatTokenResult>),
}

/// A token to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PatTokenCreateRequest {
    /// What it is for. It must be there.
    display_name: Option<String>,
    /// Names of scopes, separated by spaces. It must be there.
    scope: Option<String>,
    /// When it ends: 90 days from now if nothing is said, and no later than the policies allow, whatever is.
    #[schemars(extend("format" = "date-time"))]
    valid_to: Option<String>,
    /// Whether it is for all collections; if not, and `limits.paths` names none, it is for the collection of the URL.
    all_orgs: Option<bool>,
    /// What it is limited to besides.
    limits: Option<PatTokenLimitsRequest>,
}

/// What to change about a token; what is left out stays.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PatTokenUpdateRequest {
    /// Which token.
    authorization_id: Uuid,
    /// What it is for.
    display_name: Option<String>,
    /// Names of scopes, separated by spaces, which replace the old ones.
    scope: Option<String>,
    /// When it ends: no later than the policies allow, counted from when it got its secret.
    #[schemars(extend("format" = "date-time"))]
    valid_to: Option<String>,
    /// True makes it for all collections; false limits one that is for all of them to the collection of the URL.
    all_orgs: Option<bool>,
    /// What it is limited to besides; each list replaces the old one.
    limits: Option<PatTokenLimitsRequest>,
}

/// How to rotate a token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PatTokenRotateRequest {
    /// How long the old secret opens the token, too: `30m`, `2h` or `1d`, at most 7 days; not at all if nothing is said.
    overlap: Option<String>,
    /// A new end, no later than the policies allow; the old one stays if nothing is said.
    #[schemars(extend("format" = "date-time"))]
    valid_to: Option<String>,
}

/// Finds a token of the account by its id.
fn own(call: &Call, id: Uuid) -> Result<Token, HttpError> {
    let id = token_of_authorization(id).ok_or_else(no_token)?;
    let token = call.store().find_token(&id)?;
    token
        .filter(|token| {
            call.signed_in()
                .is_ok_and(|signed_in| token.account == signed_in.account().name)
        })
        .ok_or_else(no_token)
}

fn create(call: &Call, asked: PatTokenCreateRequest) -> Result<Reply, Failure> {
    let name = check_name(asked.display_name.as_deref())?;
    let given = asked.limits.unwrap_or_default();
    let mut limits = given.apply(&TokenLimits::NONE)?;
    if let Some(paths) = target(call, Some(asked.all_orgs.unwrap_or(false)), Some(&given))? {
        limits.paths = paths;
    }
    let now = Timestamp::now();
    let expires_at = match &asked.valid_to {
        Some(text) => valid_to(call, text, &limits, now, None)?,
        None => {
            let default = token::expiry_in_days(EXPIRY_DAYS_DEFAULT, now).map_err(token::Error::from)?;
            policy::clamp(&Policies::load(call.store())?, &limits, now, None, default)
        }
    };
    let new = CreateToken {
        account: &call.signed_in()?.account().name,
        name,
        scopes: asked.scope.as_deref().unwrap_or_default(),
        expires_at,
        limits: &limits,
    };
    let (token, plain) = token::create(call.store(), &call.actor()?, &new)?;
    Ok(PatTokenResult::granted(call, token, Some(plain))?)
}

fn update(call: &Call, asked: PatTokenUpdateRequest) -> Result<Reply, Failure> {
    let before = own(call, asked.authorization_id)?;
    if asked.display_name.is_some() {
        check_name(asked.display_name.as_deref())?;
    }
    let mut limits = match &asked.limits {
        Some(given) => given.apply(&before.limits)?,
        None => before.limits.clone(),
    };
    // One that is limited to some paths is for no more than these already.
    let all_orgs = asked
        .all_orgs
        .filter(|is_for_all| *is_for_all || limits.paths.is_empty());
    if let Some(paths) = target(call, all_orgs, asked.limits.as_ref())? {
        limits.paths = paths;
    }
    let expires_at = asked
        .valid_to
        .as_deref()
        .map(|text| {
            let (made_at, end) = (before.secret_made_at(), before.expires_at);
            valid_to(call, text, &limits, made_at, Some(end))
        })
        .transpose()?;
    let change = UpdateToken {
        before: Some(&before),
        name: asked.display_name.as_deref(),
        scopes: asked.scope.as_deref(),
        expires_at,
        limits: (limits != before.limits).then_some(&limits),
        ..UpdateToken::default()
    };
    let token = token::update(call.store(), &call.actor()?, &before.id, &change)?;
    Ok(PatTokenResult::granted(call, token, None)?)
}

fn rotate(call: &Call, asked: PatTokenRotateRequest) -> Result<Reply, Failure> {
    let before = own(call, call.uuid(&WHICH).unwrap_or_default())?;
    let overlap = asked.overlap.as_deref().map(token::parse_overlap).transpose();
    let expires_at = asked
        .valid_to
        .as_deref()
        .map(|text| {
            let end = Some(before.expires_at);
            valid_to(call, text, &before.limits, Timestamp::now(), end)
        })
        .transpose()?;
    let options = RotateToken {
        expires_at,
        overlap: overlap.map_err(token::Error::from)?,
        ..RotateToken::default()
    };
    let (token, plain) = token::rotate(call.store(), &call.actor()?, &before.id, &options)?;
    Ok(PatTokenResult::granted(call, token, Some(plain))?)
}

fn revoke(call: &Call) -> Result<Reply, HttpError> {
    let token = own(call, call.uuid(&WHICH).unwrap_or_default())?;
    if token.revoked_at.is_none() {
        end(call, &token.id)?;
    }
    Ok(Reply::nothing())
}

/// Revokes a token because its owner asks for it; that somebody else has done so meanwhile is as good.
pub(super) fn end(call: &Call, id: &TokenId) -> Result<(), HttpError> {
    match call.store().revoke_token(&call.actor()?, id, RevokeReason::Asked) {
        Ok(_) | Err(crate::store::Error::TokenRevoked { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn list(call: &Call) -> Result<Reply, HttpError> {
    let account = call.signed_in()?.account().id;
    let filter = call.text(&FILTER).unwrap_or("active");
    let states: Vec<TokenState> = TokenState::ALL
        .into_iter()
        .filter(|state| match filter.strip_prefix('!') {
            Some(other) => state.as_str() != other,
            None => filter == "all" || state.as_str() == filter,
        })
        .collect();
    let sort = call.text(&SORT).unwrap_or("displayDate");
    let order = match sort {
        "displayName" => TokenOrder::Name,
        "status" => TokenOrder::State,
        _ => TokenOrder::End,
    };
    let is_descending = call.is_false(&ASCENDING);
    let list = Chain {
        call,
        options: format!("{filter} {sort} {is_descending}"),
    };
    let after = call
        .text(&FROM)
        .filter(|text| !text.is_empty())
        .map(|text| list.read(text))
        .transpose()?;
    let count = call
        .integer(&TOP)
        .and_then(|count| u32::try_from(count).ok())
        .unwrap_or(PAGE_COUNT_MAX);
    let now = Timestamp::now();
    let mut tokens = call.store().page_of_tokens(&TokenPage {
        account,
        states: &states,
        now,
        order,
        is_descending,
        after: after.as_ref(),
        // One more tells whether there is another page.
        count_max: count + 1,
    })?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let is_last = tokens.len() <= count;
    tokens.truncate(count);
    let continuation_token = match tokens.last() {
        Some(last) if !is_last => list.write(&TokenPosition::of(last, now))?,
        _ => String::new(),
    };
    let pat_tokens = tokens
        .into_iter()
        .map(|token| PatToken::new(call, token, None, now))
        .collect::<Result<_, _>>()?;
    Reply::ok(&PagedPatTokens {
        continuation_token,
        pat_tokens,
    })
}

/// The pages of one list, which belong together by the account and the options that they were asked for with.
///
/// A `continuationToken` is where the last token of a page stood, and a mark by which one is told that was made up, is
/// another account's or of a list with other options. There is nothing in it that was not on the page.
struct Chain<'a> {
    call: &'a Call,
    options: String,
}

impl Chain<'_> {
    fn write(&self, last: &TokenPosition) -> Result<String, HttpError> {
        let place = format!(
            "{} {} {} {}",
            last.id,
            last.expires_at.as_second(),
            last.state.as_str(),
            last.name
        );
        let mut bytes = self.mark(&place)?.to_vec();
        bytes.extend_from_slice(place.as_bytes());
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    fn read(&self, text: &str) -> Result<TokenPosition, HttpError> {
        let refused = || {
            HttpError::bad_request(
                "The query parameter 'continuationToken' is none of this list: take it from the page before, and leave \
                 displayFilterOption, sortByOption and isSortAscending as they were.",
            )
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| refused())?;
        let (mark, place) = bytes.split_first_chunk::<8>().ok_or_else(refused)?;
        let place = str::from_utf8(place).map_err(|_| refused())?;
        if self.mark(place)? != *mark {
            return Err(refused());
        }
        position(place).ok_or_else(refused)
    }

    fn mark(&self, place: &str) -> Result<[u8; 8], HttpError> {
        let account = self.call.signed_in()?.account().id;
        Ok(self
            .call
            .ids()?
            .mark(account, &format!("{} {place}", self.options)))
    }
}

fn position(place: &str) -> Option<TokenPosition> {
    let mut parts = place.splitn(4, ' ');
    let (id, end, state, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    Some(TokenPosition {
        id: id.parse().ok()?,
        expires_at: Timestamp::from_second(end.parse().ok()?).ok()?,
        state: TokenState::ALL
            .into_iter()
            .find(|known| known.as_str() == state)?,
        name: name.to_owned(),
    })
}
