//! A personal access token as the interface shows it, and what is said of one and of its change.
//!
//! Names and shapes are those of Azure DevOps's PAT lifecycle API; `tokenId`, `status`, `limits`, `rotatedOn`,
//! `revokedOn`, `revokedBecause` and `lastUse` are patgate's own. A request that makes sense and is not granted is answered
//! with 200 and a [`PatTokenError`], as there. <https://learn.microsoft.com/rest/api/azure/devops/tokens/pats>.

use std::net::IpAddr;

use hyper::header::CACHE_CONTROL;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::call::Call;
use super::ids::authorization_id;
use super::moment;
use super::places::collection_for;
use super::reply::Reply;
use crate::auth::policy::{self, Breach, Policies};
use crate::auth::token::{
    self, ExpiryError, LimitError, LimitField, PlainToken, parse_networks, parse_paths, parse_refs,
};
use crate::http::error::{HttpError, TypeKey};
use crate::names::{AccessPath, Quoted};
use crate::store::{self, RevokeReason, Token, TokenLimits, TokenState, check_label};

/// A token.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(super) struct PatToken {
    /// The id of this resource; it stays when the token gets a new secret.
    authorization_id: Uuid,
    /// What it is for.
    display_name: String,
    /// Names of scopes, separated by spaces.
    scope: String,
    /// The collections that it is limited to, or lie in what it is limited to; null for all.
    target_accounts: Option<Vec<Uuid>>,
    /// The token itself when it was just made or rotated, and null ever after.
    #[serde(serialize_with = "shown")]
    #[schemars(with = "Option<String>")]
    token: Option<PlainToken>,
    /// When it was made.
    valid_from: Timestamp,
    /// When it ends.
    valid_to: Timestamp,
    /// The part of it that is no secret: the 8 characters after `pgt_`, as the command line and the audit trail name it.
    token_id: String,
    /// Whether it opens anything.
    status: PatStatus,
    /// What it is limited to besides.
    limits: PatTokenLimits,
    /// When it got its present secret; null for its first.
    rotated_on: Option<Timestamp>,
    /// When it was revoked.
    revoked_on: Option<Timestamp>,
    /// Why it was revoked, if somebody said.
    revoked_because: Option<PatRevokeReason>,
    /// What it was last used for; null if it never was.
    last_use: Option<PatLastUse>,
}

/// The one way by which a secret leaves over REST.
fn shown<S: Serializer>(token: &Option<PlainToken>, serializer: S) -> Result<S::Ok, S::Error> {
    token.as_ref().map(PlainToken::expose).serialize(serializer)
}

/// Whether a token opens anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum PatStatus {
    Active,
    Expired,
    Revoked,
}

impl From<TokenState> for PatStatus {
    fn from(state: TokenState) -> Self {
        match state {
            TokenState::Active => PatStatus::Active,
            TokenState::Expired => PatStatus::Expired,
            TokenState::Revoked => PatStatus::Revoked,
        }
    }
}

/// Why a token was revoked.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum PatRevokeReason {
    Administrator,
    Asked,
    Leaked,
    Replaced,
    Reuse,
    Unused,
}

impl From<RevokeReason> for PatRevokeReason {
    fn from(reason: RevokeReason) -> Self {
        match reason {
            RevokeReason::Administrator => PatRevokeReason::Administrator,
            RevokeReason::Asked => PatRevokeReason::Asked,
            RevokeReason::Leaked => PatRevokeReason::Leaked,
            RevokeReason::Replaced => PatRevokeReason::Replaced,
            RevokeReason::Reused => PatRevokeReason::Reuse,
            RevokeReason::Unused => PatRevokeReason::Unused,
        }
    }
}

/// What a token is limited to, beyond its scopes and its owner's rights; an empty list limits nothing.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct PatTokenLimits {
    /// What it opens: `COLLECTION`, `COLLECTION/PROJECT` or `COLLECTION/PROJECT/REPO`.
    paths: Vec<String>,
    /// Refs that it may push to, such as `refs/heads/ci/*`.
    refs: Vec<String>,
    /// Networks that it may be used from, such as `10.0.0.0/8`.
    networks: Vec<String>,
}

impl From<&TokenLimits> for PatTokenLimits {
    fn from(limits: &TokenLimits) -> Self {
        fn strings<T: ToString>(items: &[T]) -> Vec<String> {
            items.iter().map(ToString::to_string).collect()
        }
        PatTokenLimits {
            paths: strings(&limits.paths),
            refs: strings(&limits.refs),
            networks: strings(&limits.networks),
        }
    }
}

/// What a token is to be limited to. A list that is left out stays as it is; an empty one limits nothing.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct PatTokenLimitsRequest {
    /// What it opens: `COLLECTION`, `COLLECTION/PROJECT` or `COLLECTION/PROJECT/REPO`.
    paths: Option<Vec<String>>,
    /// Refs that it may push to, such as `refs/heads/ci/*`.
    refs: Option<Vec<String>>,
    /// Networks that it may be used from, such as `10.0.0.0/8`, or addresses.
    networks: Option<Vec<String>>,
}

impl PatTokenLimitsRequest {
    /// The limits of a token that had `before`.
    ///
    /// # Errors
    ///
    /// Names the list that makes no sense.
    pub fn apply(&self, before: &TokenLimits) -> Result<TokenLimits, Failure> {
        let TokenLimits {
            paths,
            refs,
            networks,
        } = before.clone();
        Ok(TokenLimits {
            paths: self.paths.as_deref().map_or(Ok(paths), parse_paths)?,
            refs: self.refs.as_deref().map_or(Ok(refs), parse_refs)?,
            networks: self.networks.as_deref().map_or(Ok(networks), parse_networks)?,
        })
    }

    /// Whether it says what the token opens.
    fn has_paths(&self) -> bool {
        self.paths.as_ref().is_some_and(|paths| !paths.is_empty())
    }
}

/// The last use of a token.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct PatLastUse {
    /// When; up to a minute late.
    on: Timestamp,
    /// The address that it came from.
    address: Option<IpAddr>,
    /// The `User-Agent` of the request; a claim of the client.
    client: Option<String>,
    /// What for, such as `fetch DefaultCollection/Web/Web`.
    purpose: Option<String>,
    /// The last five addresses, the latest first.
    addresses: Vec<PatAddress>,
}

/// An address that a token was used from.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
struct PatAddress {
    /// The address.
    address: IpAddr,
    /// When it was last used from there; up to a minute late.
    on: Timestamp,
}

impl PatToken {
    /// Shows `token`, with its text if it has just got one.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn new(
        call: &Call,
        token: Token,
        plain: Option<PlainToken>,
        now: Timestamp,
    ) -> Result<PatToken, HttpError> {
        let ids = call.ids()?;
        let mut collections: Vec<Uuid> = Vec::new();
        for path in &token.limits.paths {
            let id = match path {
                AccessPath::Server => continue,
                AccessPath::Collection(collection) | AccessPath::Project(collection, _) => {
                    ids.collection(collection)
                }
                AccessPath::Repository(path) => ids.collection(path.collection()),
            };
            if !collections.contains(&id) {
                collections.push(id);
            }
        }
        let addresses = match token.last_used_at {
            Some(_) => call.store().token_addresses(&token.id)?,
            None => Vec::new(),
        };
        Ok(PatToken {
            authorization_id: authorization_id(&token.id),
            status: token.state(now).into(),
            target_accounts: (!token.limits.paths.is_empty()).then_some(collections),
            token: plain,
            valid_from: token.created_at,
            valid_to: token.expires_at,
            token_id: token.id.to_string(),
            limits: PatTokenLimits::from(&token.limits),
            rotated_on: token.rotated_at,
            revoked_on: token.revoked_at,
            revoked_because: token.revoked_because.map(PatRevokeReason::from),
            last_use: token.last_used_at.map(|on| PatLastUse {
                on,
                address: token.last_used_from,
                client: token.last_used_with,
                purpose: token.last_used_for,
                addresses: addresses
                    .into_iter()
                    .map(|entry| PatAddress {
                        address: entry.address,
                        on: entry.last_used_at,
                    })
                    .collect(),
            }),
            display_name: token.name,
            scope: token.scopes,
        })
    }
}

/// What came of a request about one token.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(super) struct PatTokenResult {
    /// The token; null if the request was not granted.
    pat_token: Option<PatToken>,
    /// `none`, or why it was not.
    pat_token_error: PatTokenError,
    /// The same for people, with the field that it is about; missing where there is no error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pat_token_error_message: Option<String>,
}

impl PatTokenResult {
    /// Answers with a token, which has its text in it if it was just made.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn granted(call: &Call, token: Token, plain: Option<PlainToken>) -> Result<Reply, HttpError> {
        let result = PatTokenResult {
            pat_token: Some(PatToken::new(call, token, plain, Timestamp::now())?),
            pat_token_error: PatTokenError::None,
            pat_token_error_message: None,
        };
        Ok(Reply::ok(&result)?.header(CACHE_CONTROL, "no-store"))
    }

    /// Answers a request that was not granted, in 200 where Azure DevOps has a word for the reason.
    ///
    /// # Errors
    ///
    /// What is to be answered otherwise.
    pub fn refused(failure: Failure) -> Result<Reply, HttpError> {
        match failure {
            Failure::Told(error, message) => Reply::ok(&PatTokenResult {
                pat_token: None,
                pat_token_error: error,
                pat_token_error_message: Some(message),
            }),
            Failure::Http(error) => Err(error),
        }
    }
}

/// Why a request about a token was not granted: `SessionTokenError` of Azure DevOps, of which patgate never says some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(
    dead_code,
    reason = "clients are made from the document, which has all words that Azure DevOps knows"
)]
pub(super) enum PatTokenError {
    None,
    DisplayNameRequired,
    InvalidDisplayName,
    InvalidValidTo,
    InvalidScope,
    UserIdRequired,
    InvalidUserId,
    InvalidUserType,
    AccessDenied,
    FailedToIssueAccessToken,
    InvalidClient,
    InvalidClientType,
    InvalidClientId,
    InvalidTargetAccounts,
    HostAuthorizationNotFound,
    AuthorizationNotFound,
    FailedToUpdateAccessToken,
    SourceNotSupported,
    #[serde(rename = "invalidSourceIP")]
    InvalidSourceIp,
    InvalidSource,
    DuplicateHash,
    SshPolicyDisabled,
    InvalidToken,
    TokenNotFound,
    InvalidAuthorizationId,
    FailedToReadTenantPolicy,
    GlobalPatPolicyViolation,
    FullScopePatPolicyViolation,
    PatLifespanPolicyViolation,
    InvalidTokenType,
    InvalidAudience,
    InvalidSubject,
    DeploymentHostNotSupported,
    DisablePatCreationPolicyViolation,
    FailedToReadOrgPolicy,
    #[serde(rename = "globalPATCreationBlocked")]
    GlobalPatCreationBlocked,
    ExpiredPatCannotBeExtended,
}

/// Why a request about a token is not granted.
#[derive(Debug)]
pub(super) enum Failure {
    /// Azure DevOps has a word for it.
    Told(PatTokenError, String),
    /// It is answered as elsewhere.
    Http(HttpError),
}

/// Says of a field why it cannot be taken.
pub(super) fn wrong(error: PatTokenError, field: &str, why: impl std::fmt::Display) -> Failure {
    Failure::Told(error, format!("The field '{field}' cannot be taken: {why}."))
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        Failure::Http(error)
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        use PatTokenError::{AccessDenied, FailedToUpdateAccessToken, InvalidDisplayName};
        match &error {
            store::Error::Label { reason, .. } => {
                wrong(InvalidDisplayName, "displayName", format!("it {reason}"))
            }
            store::Error::TokenRevoked { .. } => Failure::Told(
                FailedToUpdateAccessToken,
                format!(
                    "The field 'authorizationId' names a token that cannot be changed: {error}. Create another one."
                ),
            ),
            store::Error::TokenChanged { .. } => Failure::Http(HttpError::conflict(
                "Somebody else changed the token at the same time. Try again.",
            )),
            store::Error::TokenNotFound { .. } => Failure::Http(no_token()),
            store::Error::AccountNotFound { .. } => {
                Failure::Told(AccessDenied, format!("It is refused: {error}."))
            }
            _ => Failure::Http(error.into()),
        }
    }
}

impl From<LimitError> for Failure {
    fn from(error: LimitError) -> Self {
        let field = error.field();
        // What may be pushed to is a part of what the token is for; there is no word of its own for it.
        let word = match field {
            LimitField::Paths | LimitField::Refs => PatTokenError::InvalidTargetAccounts,
            LimitField::Networks => PatTokenError::InvalidSourceIp,
        };
        wrong(word, &format!("limits.{}", field.as_str()), error)
    }
}

impl From<policy::Refusal> for Failure {
    fn from(refusal: policy::Refusal) -> Self {
        match *refusal.breach {
            Breach::Creation { .. } => wrong(
                PatTokenError::DisablePatCreationPolicyViolation,
                "scope",
                &refusal,
            ),
            Breach::FullScope { .. } => wrong(PatTokenError::FullScopePatPolicyViolation, "scope", &refusal),
            Breach::Lifetime { .. } => wrong(PatTokenError::PatLifespanPolicyViolation, "validTo", &refusal),
        }
    }
}

impl From<token::Error> for Failure {
    fn from(error: token::Error) -> Self {
        use token::Error;
        match error {
            Error::AccountDisabled { .. } => {
                Failure::Told(PatTokenError::AccessDenied, format!("It is refused: {error}."))
            }
            Error::Expired { expired_at, .. } => Failure::Told(
                PatTokenError::ExpiredPatCannotBeExtended,
                format!(
                    "The field 'authorizationId' names a token that cannot be changed: it expired at {expired_at}. Create \
                     another one."
                ),
            ),
            Error::Expiry(
                error @ (ExpiryError::Past { .. } | ExpiryError::Shape | ExpiryError::TooLate { .. }),
            ) => wrong(PatTokenError::InvalidValidTo, "validTo", error),
            Error::Limit(error) => error.into(),
            Error::NotNarrower(widening) => {
                let (word, field) = match widening {
                    token::Widening::Scopes { .. } => (PatTokenError::InvalidScope, "scope".to_owned()),
                    token::Widening::Limits(field) => (
                        match field {
                            LimitField::Paths | LimitField::Refs => PatTokenError::InvalidTargetAccounts,
                            LimitField::Networks => PatTokenError::InvalidSourceIp,
                        },
                        format!("limits.{}", field.as_str()),
                    ),
                };
                wrong(word, &field, widening)
            }
            Error::Overlap(error) => Failure::Http(HttpError::bad_request(format!(
                "The field 'overlap' cannot be taken: {error}."
            ))),
            Error::Policy(refusal) => refusal.into(),
            Error::Random(_) => Failure::Http(HttpError::internal(error)),
            Error::Scope(error) => wrong(PatTokenError::InvalidScope, "scope", error),
            Error::Store(error) => error.into(),
        }
    }
}

/// Says that there is no such token, or that it is another's.
pub(super) fn no_token() -> HttpError {
    HttpError::absent(
        "There is no token with this authorizationId, or it is not yours. List yours with GET /_apis/tokens/pats.",
    )
    .keyed(TypeKey::new(
        "Microsoft.VisualStudio.Services.DelegatedAuthorization",
        "SessionTokenNotFoundException",
    ))
}

/// Checks a name before anything else is looked at.
///
/// # Errors
///
/// When it is missing, empty or breaks a rule.
pub(super) fn check_name(name: Option<&str>) -> Result<&str, Failure> {
    let name = name.unwrap_or_default();
    if name.trim().is_empty() {
        return Err(wrong(
            PatTokenError::DisplayNameRequired,
            "displayName",
            "say what the token is for",
        ));
    }
    check_label(name).map_err(|reason| {
        wrong(
            PatTokenError::InvalidDisplayName,
            "displayName",
            format!("it {reason}"),
        )
    })?;
    Ok(name)
}

/// Reads the end of a token, and brings it down to what the policies allow, as Azure DevOps does.
///
/// `made_at` is when the token gets or got its secret, and `before` the end that it has.
///
/// # Errors
///
/// When it is no moment. Whether it has passed is for others to say.
pub(super) fn valid_to(
    call: &Call,
    text: &str,
    limits: &TokenLimits,
    made_at: Timestamp,
    before: Option<Timestamp>,
) -> Result<Timestamp, Failure> {
    let wanted = moment::parse_end(text).ok_or_else(|| {
        wrong(
            PatTokenError::InvalidValidTo,
            "validTo",
            format!("{} is no moment like 2027-01-31T18:00:00Z", Quoted(text)),
        )
    })?;
    let policies = Policies::load(call.store())?;
    Ok(policy::clamp(&policies, limits, made_at, before, wanted))
}

/// The paths that a token is to be limited to by `allOrgs`: those of `limits` where it names any, else the collection of
/// the URL if the token is not for all; None if nothing is said.
///
/// # Errors
///
/// When both are said, or the URL names no collection of which its caller sees something.
pub(super) fn target(
    call: &Call,
    all_orgs: Option<bool>,
    limits: Option<&PatTokenLimitsRequest>,
) -> Result<Option<Vec<AccessPath>>, Failure> {
    match (all_orgs, limits.is_some_and(PatTokenLimitsRequest::has_paths)) {
        (Some(true), true) => Err(wrong(
            PatTokenError::InvalidTargetAccounts,
            "allOrgs",
            "it is true, and 'limits.paths' limits the token: leave one of them out",
        )),
        (Some(true), false) => Ok(Some(Vec::new())),
        (Some(false), false) => {
            let collection = collection_for(call, call.signed_in()?.account())?.ok_or_else(|| {
                wrong(
                    PatTokenError::InvalidTargetAccounts,
                    "allOrgs",
                    "it is not true, and there is no such collection as the URL names, or none in which you may see a \
                     repository: name another, or say in 'limits.paths' what the token opens",
                )
            })?;
            Ok(Some(vec![AccessPath::Collection(collection)]))
        }
        (Some(false), true) | (None, _) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_the_word_that_azure_devops_has_for_it() {
        let word = |error: PatTokenError| serde_json::to_string(&error).unwrap();
        assert_eq!(word(PatTokenError::None), "\"none\"");
        assert_eq!(word(PatTokenError::InvalidSourceIp), "\"invalidSourceIP\"");
        assert_eq!(
            word(PatTokenError::GlobalPatCreationBlocked),
            "\"globalPATCreationBlocked\""
        );
        let told = |failure: Failure| match failure {
            Failure::Told(error, message) => (word(error), message),
            Failure::Http(error) => (error.status().to_string(), String::new()),
        };
        let disabled = token::Error::AccountDisabled {
            name: "anna".to_owned(),
        };
        assert_eq!(told(disabled.into()).0, "\"accessDenied\"");
        let id = || "AbCd1234".parse().unwrap();
        let changed = store::Error::TokenChanged { id: id() };
        assert_eq!(told(changed.into()).0, "409 Conflict");
        let gone = store::Error::TokenNotFound { id: id() };
        assert_eq!(told(gone.into()).0, "404 Not Found");
        assert_eq!(
            told(store::Error::Corrupt("x").into()).0,
            "500 Internal Server Error"
        );
    }
}
