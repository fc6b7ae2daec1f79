//! `tokens/self`: a live token looks at itself, gives itself a new secret, or ends itself.
//!
//! patgate's own; Azure DevOps has nothing like it. Whatever its scopes, a token may do this and nothing to any other
//! token, and it never gets more than it has: a rotation can take scopes away and narrow limits, and its end can be as
//! late as the policies let a new token live. To rotate takes its present secret: one whose overlap runs is on its way
//! out, and whoever found it must not get a new one. To revoke takes either, because it opens nothing to anybody.

use hyper::Method;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::call::Call;
use super::endpoint::{ABOVE_PROJECTS, Answer, Endpoint, Proof, schema};
use super::pat_token::{Failure, PatTokenError, PatTokenLimitsRequest, PatTokenResult, no_token, valid_to};
use super::pats;
use super::reply::Reply;
use super::version::Versions;
use crate::auth::scope::Operation;
use crate::auth::token::{self, RotateToken};
use crate::http::error::HttpError;
use crate::store::{self, Token, TokenId};

/// This module's rows.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        id: "own-token.get",
        method: Method::GET,
        path: "/tokens/self",
        levels: ABOVE_PROJECTS,
        proof: Proof::Token,
        operation: Operation::UseOwnToken,
        versions: Versions::Own,
        params: &[],
        body: None,
        answers: &[Answer::with(
            200,
            schema::<PatTokenResult>,
            "The token, without its secret.",
        )],
        summary: "Look at the token that is used.",
        run: |call| PatTokenResult::granted(call, own(call)?, None),
    },
    Endpoint {
        id: "own-token.rotate",
        method: Method::POST,
        path: "/tokens/self/rotate",
        levels: ABOVE_PROJECTS,
        proof: Proof::Token,
        operation: Operation::UseOwnToken,
        versions: Versions::Own,
        params: &[],
        body: Some(schema::<OwnTokenRotateRequest>),
        answers: &[Answer::with(
            200,
            schema::<PatTokenResult>,
            "The token with its new secret, or in patTokenError why the request was not granted.",
        )],
        summary: "Give the token that is used a new secret, which this answer alone has, and take from it what is no \
                  longer needed. It takes the present secret: one that was replaced cannot, even while it still opens \
                  the token.",
        run: |call| rotate(call, &call.json()?).or_else(PatTokenResult::refused),
    },
    Endpoint {
        id: "own-token.revoke",
        method: Method::DELETE,
        path: "/tokens/self",
        levels: ABOVE_PROJECTS,
        proof: Proof::Token,
        operation: Operation::UseOwnToken,
        versions: Versions::Own,
        params: &[],
        body: None,
        answers: &[Answer::empty(204, "The token is revoked.")],
        summary: "Revoke the token that is used, for good; a secret that was replaced and still opens it can, too.",
        run: |call| {
            pats::end(call, id(call)?)?;
            Ok(Reply::nothing())
        },
    },
];

/// How a token rotates itself.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct OwnTokenRotateRequest {
    /// How long the old secret opens the token, too: `30m`, `2h` or `1d`, at most 7 days; not at all if nothing is said.
    overlap: Option<String>,
    /// A new end, no later than the policies allow; the old one stays if nothing is said.
    #[schemars(extend("format" = "date-time"))]
    valid_to: Option<String>,
    /// Names of scopes, separated by spaces, which replace the old ones; none may be more than the token has.
    scope: Option<String>,
    /// New limits, of which none may be wider than the token's; a list that is left out stays.
    limits: Option<PatTokenLimitsRequest>,
}

fn id(call: &Call) -> Result<&TokenId, HttpError> {
    let token = call.principal()?.token();
    token.ok_or_else(|| HttpError::internal("'tokens/self' was opened by something else than a token"))
}

fn own(call: &Call) -> Result<Token, HttpError> {
    call.store().find_token(id(call)?)?.ok_or_else(no_token)
}

fn rotate(call: &Call, asked: &OwnTokenRotateRequest) -> Result<Reply, Failure> {
    let before = own(call)?;
    let overlap = asked.overlap.as_deref().map(token::parse_overlap).transpose();
    let limits = asked
        .limits
        .as_ref()
        .map(|given| given.apply(&before.limits))
        .transpose()?;
    let expires_at = asked
        .valid_to
        .as_deref()
        .map(|text| {
            let limits = limits.as_ref().unwrap_or(&before.limits);
            valid_to(call, text, limits, Timestamp::now(), Some(before.expires_at))
        })
        .transpose()?;
    let options = RotateToken {
        presented: call.principal()?.presented(),
        before: Some(&before),
        expires_at,
        overlap: overlap.map_err(token::Error::from)?,
        scopes: asked.scope.as_deref(),
        limits: limits.as_ref(),
    };
    let rotated = token::rotate(call.store(), &call.actor()?, &before.id, &options);
    let (token, plain) = rotated.map_err(|error| match error {
        token::Error::Store(store::Error::SecretReplaced { .. }) => Failure::Http(HttpError::forbidden(
            "This secret was replaced by a rotation; use the newer one. No other can rotate the token.",
        )),
        token::Error::Store(store::Error::RotatedTooOften { id }) => Failure::Told(
            PatTokenError::FailedToUpdateAccessToken,
            format!(
                "The token has rotated itself too often. Have its owner rotate it over 'tokens/pats', or an administrator: \
                 patgate token rotate {id}"
            ),
        ),
        error => error.into(),
    })?;
    Ok(PatTokenResult::granted(call, token, Some(plain))?)
}
