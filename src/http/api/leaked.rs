//! Tokens that somebody found lying about, handed in by whoever it was.
//!
//! Invariant: the answer depends on the form of the request alone. Whether a token lives is looked up only when the answer
//! is on its way, so that not even the time that it takes tells. What is done about a live one, `auth::leak` decides.

use std::sync::Arc;

use hyper::{Method, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::body;
use super::call::Call;
use super::endpoint::{ABOVE_PROJECTS, Answer, Endpoint, Proof, schema};
use super::reply::Reply;
use super::version::Versions;
use crate::auth::leak::{self, REPORT_TOKENS_MAX};
use crate::auth::scope::Operation;
use crate::http::error::HttpError;
use crate::store::Requester;

/// This module's rows.
pub(super) const ENDPOINTS: &[Endpoint] = &[Endpoint {
    id: "tokens.report-leaked",
    method: Method::POST,
    path: "/tokens/leaked",
    levels: ABOVE_PROJECTS,
    proof: Proof::Nothing,
    operation: Operation::ReportLeaks,
    versions: Versions::Own,
    params: &[],
    body: Some(schema::<Report>),
    answers: &[Answer::empty(
        202,
        "The report is taken. Nothing is said about what is in it.",
    )],
    summary: "Hand in tokens that were found where they should not be; those that live are revoked, if the policy \
              'revoke-leaked' says so.",
    run: report,
}];

/// What was found: one token, some, or a list as GitHub's secret scanning sends it. At most 100 tokens.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "describes what `read` takes")]
enum Report {
    One(Leak),
    Some(Leaks),
    List(#[schemars(length(max = 100))] Vec<Leak>),
}

/// One token that was found.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Leak {
    /// The token, or a text with tokens in it.
    token: String,
    /// What the finder takes it for. Not looked at, as are the others.
    #[serde(default, rename = "type")]
    _kind: Option<String>,
    /// Where it was found.
    #[serde(default, rename = "url")]
    _url: Option<String>,
    /// In what it was found.
    #[serde(default, rename = "source")]
    _source: Option<String>,
}

/// Some tokens that were found.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Leaks {
    /// The tokens.
    #[schemars(length(max = 100))]
    tokens: Vec<String>,
}

/// Takes the tokens out of a body.
fn read(call: &Call) -> Result<Vec<String>, HttpError> {
    let texts: Vec<String> = if call.body.trim_ascii_start().starts_with(b"[") {
        let leaks: Vec<Leak> = call.json()?;
        leaks.into_iter().map(|leak| leak.token).collect()
    } else if has_list(call) {
        call.json::<Leaks>()?.tokens
    } else {
        vec![call.json::<Leak>()?.token]
    };
    if texts.len() > REPORT_TOKENS_MAX {
        return Err(HttpError::bad_request(format!(
            "The request's body has {} tokens, and must have at most {REPORT_TOKENS_MAX}. Send the others in further \
             requests.",
            texts.len()
        )));
    }
    Ok(texts)
}

/// Whether the body is an object with the field `tokens`; the parser then says what else is wrong with it.
fn has_list(call: &Call) -> bool {
    #[derive(Deserialize)]
    struct Probe {
        #[serde(rename = "tokens")]
        _tokens: serde::de::IgnoredAny,
    }
    body::read::<Probe>(&call.body).is_ok()
}

fn report(call: &Call) -> Result<Reply, HttpError> {
    let text = read(call)?.join("\n");
    if leak::has_too_many(text.as_bytes()) {
        return Err(HttpError::bad_request(format!(
            "The request's body has more than {REPORT_TOKENS_MAX} tokens in its texts. Send the others in further requests."
        )));
    }
    let client = &call.context.client;
    let requester = Requester {
        address: Some(client.address),
        agent: client.agent.as_deref().map(str::to_owned),
        ..Requester::default()
    };
    let shared = Arc::clone(&call.context.shared);
    Ok(Reply::empty(StatusCode::ACCEPTED).then(move || shared.leaks.report(text.as_bytes(), &requester)))
}
