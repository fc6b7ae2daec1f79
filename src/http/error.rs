//! The only place where an error becomes a response.
//!
//! Owns statuses, challenges and the text a client reads. Invariants: the public text is written here or by the gate
//! for a person, and never holds a path, a database error or the name of something the client may not see; internal
//! text goes to the log alone; a body is `text/plain`, because git prints no other (`remote: …`), or, for the REST
//! interface, the object in which Azure DevOps tells errors and its clients look for them.

use std::borrow::Cow;
use std::fmt::Display;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::{permits, request_body};
use crate::auth::{Refusal, RefusalKind};
use crate::{receive_pack, registrar, repository, store, upload_pack};

/// The challenge that git answers, and the realm by which no credential manager takes patgate for another server.
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"patgate\", charset=\"UTF-8\"");

/// The name by which clients of the REST interface tell one error from another: that of an exception of Azure DevOps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeKey {
    /// Where the exception is declared there.
    namespace: &'static str,
    /// Its own name.
    name: &'static str,
}

impl TypeKey {
    /// Names the exception `name` of `namespace`.
    pub const fn new(namespace: &'static str, name: &'static str) -> Self {
        TypeKey { namespace, name }
    }

    /// What an error of this status is where nothing more is known.
    fn of_status(status: StatusCode) -> Self {
        const FRAMEWORK: &str = "Microsoft.TeamFoundation.Framework.Server";
        const WEB_API: &str = "Microsoft.VisualStudio.Services.WebApi";
        match status {
            StatusCode::UNAUTHORIZED => TypeKey::new(FRAMEWORK, "UnauthorizedRequestException"),
            StatusCode::FORBIDDEN => {
                TypeKey::new("Microsoft.VisualStudio.Services.Security", "AccessCheckException")
            }
            StatusCode::NOT_FOUND => TypeKey::new(WEB_API, "VssResourceNotFoundException"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                TypeKey::new(WEB_API, "VssRequestContentTypeNotSupportedException")
            }
            StatusCode::TOO_MANY_REQUESTS => TypeKey::new(FRAMEWORK, "RequestBlockedException"),
            status if status.is_server_error() => TypeKey::new(FRAMEWORK, "TeamFoundationServerException"),
            _ => TypeKey::new(WEB_API, "VssPropertyValidationException"),
        }
    }
}

/// A refusal or a failure: what the client hears and what the log does.
#[derive(Debug, Clone)]
pub struct HttpError {
    status: StatusCode,
    public: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
    internal: Option<String>,
    type_key: Option<TypeKey>,
}

impl HttpError {
    fn new(status: StatusCode, public: impl Into<Cow<'static, str>>) -> Self {
        HttpError {
            status,
            public: public.into(),
            headers: Vec::new(),
            internal: None,
            type_key: None,
        }
    }

    /// Adds a header to the response.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Names the error for clients of the REST interface.
    #[must_use]
    pub fn keyed(mut self, key: TypeKey) -> Self {
        self.type_key = Some(key);
        self
    }

    /// 400: the request makes no sense, and `public` says what of it.
    pub fn bad_request(public: impl Into<Cow<'static, str>>) -> Self {
        HttpError::new(StatusCode::BAD_REQUEST, public)
    }

    /// 404 in words of the caller's own, which must be the same for what is absent and for what is not to be seen.
    pub fn absent(public: impl Into<Cow<'static, str>>) -> Self {
        HttpError::new(StatusCode::NOT_FOUND, public)
    }

    /// 409: what is asked for goes against what is there.
    pub fn conflict(public: impl Into<Cow<'static, str>>) -> Self {
        HttpError::new(StatusCode::CONFLICT, public)
    }

    fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.header(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// 401: no usable token. git asks for a credential and forgets the one it sent.
    ///
    /// `was_sent` tells a token that is not usable from none at all (RFC 6750, section 3.1). Basic comes last: JGit
    /// 4.11, which Debian 12 has, sees no challenge but the last one.
    pub fn unauthorized(public: impl Into<Cow<'static, str>>, was_sent: bool) -> Self {
        let bearer = if was_sent {
            HeaderValue::from_static("Bearer realm=\"patgate\", error=\"invalid_token\"")
        } else {
            HeaderValue::from_static("Bearer realm=\"patgate\"")
        };
        HttpError::new(StatusCode::UNAUTHORIZED, public)
            .header(WWW_AUTHENTICATE, bearer)
            .header(WWW_AUTHENTICATE, BASIC)
    }

    /// 401 where the name and the password of an account are needed, which Bearer cannot carry.
    pub fn password_needed(public: impl Into<Cow<'static, str>>) -> Self {
        HttpError::new(StatusCode::UNAUTHORIZED, public).header(WWW_AUTHENTICATE, BASIC)
    }

    /// 403: a live token that may not do this. git keeps its credential.
    pub fn forbidden(public: impl Into<Cow<'static, str>>) -> Self {
        HttpError::new(StatusCode::FORBIDDEN, public)
    }

    /// 403 with the scope that is missing (RFC 6750, section 3.1).
    pub fn insufficient_scope(public: impl Into<Cow<'static, str>>, scope: &'static str) -> Self {
        let challenge = format!("Bearer realm=\"patgate\", error=\"insufficient_scope\", scope=\"{scope}\"");
        let error = HttpError::forbidden(public);
        match HeaderValue::from_str(&challenge) {
            Ok(challenge) => error.header(WWW_AUTHENTICATE, challenge),
            Err(_) => error,
        }
    }

    /// 404: no such repository, or none that the token may see; the same answer for both, and for every other path.
    pub fn not_found() -> Self {
        HttpError::new(
            StatusCode::NOT_FOUND,
            "There is no such repository here, or your token may not see it. Check the URL, and which repositories \
             the token's owner has access to.",
        )
    }

    /// 405 where the router names the methods that would do.
    pub fn method_unknown() -> Self {
        HttpError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "This URL does not take requests of this method; the header Allow names those that it takes.",
        )
    }

    /// 405, with the methods that would do.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        HttpError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("This URL takes {allow} requests only."),
        )
        .header(ALLOW, HeaderValue::from_static(allow))
    }

    /// 415, as git http-backend answers a POST of another type.
    pub fn unsupported_media_type(expected: &'static str) -> Self {
        HttpError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("This URL takes POST requests with the Content-Type '{expected}' only."),
        )
    }

    /// 429: the gate asks an address to wait.
    pub fn too_many_requests(public: impl Into<Cow<'static, str>>, wait: Duration) -> Self {
        HttpError::new(StatusCode::TOO_MANY_REQUESTS, public).retry_after(wait)
    }

    /// 503, and when to come again.
    pub fn unavailable(public: impl Into<Cow<'static, str>>, wait: Duration) -> Self {
        HttpError::new(StatusCode::SERVICE_UNAVAILABLE, public).retry_after(wait)
    }

    /// 500: something here is broken; `internal` goes to the log.
    pub fn internal(internal: impl Display) -> Self {
        HttpError {
            internal: Some(internal.to_string()),
            ..HttpError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something went wrong on the server; it is not your token. Try again, and if it stays, give the \
                 administrator this request id:",
            )
        }
    }

    /// Adds text for the log.
    #[must_use]
    pub fn because(mut self, internal: impl Display) -> Self {
        self.internal = Some(internal.to_string());
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What the client hears: one or two sentences with the next step.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// Writes the internal text to the log, if there is one: as an error where the server is at fault.
    pub fn log(&self, what: &str) {
        let Some(internal) = &self.internal else { return };
        if self.status.is_server_error() && self.status != StatusCode::SERVICE_UNAVAILABLE {
            tracing::error!(status = self.status.as_u16(), cause = %internal, "{what}");
        } else {
            tracing::info!(status = self.status.as_u16(), cause = %internal, "{what}");
        }
    }

    /// Makes the response; `request_id` lets an administrator find an internal error in the log.
    pub fn into_response(self, request_id: &str) -> Response<Bytes> {
        let text = format!("{}\n", self.text(request_id));
        self.respond(text, HeaderValue::from_static("text/plain; charset=utf-8"))
    }

    /// Makes the response for a client of the REST interface: what Azure DevOps calls a wrapped exception.
    pub fn into_json_response(self, request_id: &str) -> Response<Bytes> {
        let key = self.type_key.unwrap_or_else(|| TypeKey::of_status(self.status));
        let body = json!({
            "$id": "1",
            "innerException": null,
            "message": self.text(request_id),
            "typeName": format!("{0}.{1}, {0}", key.namespace, key.name),
            "typeKey": key.name,
            "errorCode": 0,
            "eventId": 3000,
        });
        self.respond(
            body.to_string(),
            HeaderValue::from_static("application/json; charset=utf-8"),
        )
    }

    fn text(&self, request_id: &str) -> String {
        let mut text = self.public.clone().into_owned();
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            text.push(' ');
            text.push_str(request_id);
        }
        text
    }

    fn respond(self, body: String, content_type: HeaderValue) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        super::headers::no_cache(headers);
        headers.insert(CONTENT_TYPE, content_type);
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        response
    }
}

impl From<request_body::Error> for HttpError {
    fn from(error: request_body::Error) -> Self {
        use request_body::Error;
        match error {
            Error::Broken => HttpError::new(StatusCode::BAD_REQUEST, "The request was cut short. Try again."),
            Error::Gzip => HttpError::new(StatusCode::BAD_REQUEST, "The request's body is not valid gzip."),
            Error::Encoding => HttpError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The request's body has a Content-Encoding that this server does not know. Send it as it is, or as gzip.",
            ),
            Error::Stalled => HttpError::new(
                StatusCode::REQUEST_TIMEOUT,
                "The request's body did not arrive in time. Try again on a better connection.",
            ),
            Error::TooLarge => HttpError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "The request is larger than this server takes. Ask its administrator to raise the limit, or send less \
                 at a time.",
            ),
        }
        .because(error)
    }
}

impl From<permits::Full> for HttpError {
    fn from(error: permits::Full) -> Self {
        let wait = match error {
            permits::Full::Queue => Duration::from_secs(15),
            permits::Full::Wait => Duration::from_secs(30),
        };
        HttpError::unavailable(
            "The server has too much to do at the moment. Try again in a minute.",
            wait,
        )
        .because(error)
    }
}

impl From<Refusal> for HttpError {
    fn from(refusal: Refusal) -> Self {
        let public = refusal.to_string();
        let is_over = matches!(
            refusal,
            Refusal::TokenExpired { .. } | Refusal::TokenRevoked { .. }
        );
        let error = match refusal.kind() {
            RefusalKind::Unauthorized if refusal.wants_password() => HttpError::password_needed(public),
            RefusalKind::Unauthorized => {
                HttpError::unauthorized(public, !matches!(refusal, Refusal::CredentialMissing))
            }
            RefusalKind::Forbidden => match refusal.missing_scope() {
                Some(scope) => HttpError::insufficient_scope(public, scope),
                None => HttpError::forbidden(public),
            },
            RefusalKind::NotFound => HttpError::not_found(),
            RefusalKind::TooManyRequests => {
                HttpError::too_many_requests(public, Duration::from_secs(refusal.retry_after().unwrap_or(1)))
            }
            RefusalKind::Internal => HttpError::internal(chain(&refusal)),
        };
        // There a token that was good once is told from one that never was.
        if is_over {
            error.keyed(TypeKey::of_status(StatusCode::FORBIDDEN))
        } else {
            error
        }
    }
}

impl From<store::Error> for HttpError {
    /// Takes what no handler has an answer of its own for.
    fn from(error: store::Error) -> Self {
        HttpError::internal(chain(&error))
    }
}

impl From<registrar::Error> for HttpError {
    fn from(error: registrar::Error) -> Self {
        use registrar::Error;
        match error {
            Error::Repository(error) => HttpError::from(error),
            Error::Store(error) => HttpError::from(error),
            Error::Left { .. } => HttpError::internal(chain(&error)),
        }
    }
}

/// An error and its causes, for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl From<upload_pack::Error> for HttpError {
    fn from(error: upload_pack::Error) -> Self {
        use upload_pack::Error;
        match error {
            Error::Repository(error) => HttpError::from(error),
            Error::Write(error) => HttpError::from(error),
            Error::Objects(_) | Error::Pack(_) | Error::Encode(_) => HttpError::internal(chain(&error)),
        }
    }
}

impl From<receive_pack::Error> for HttpError {
    fn from(error: receive_pack::Error) -> Self {
        use receive_pack::Error;
        match error {
            Error::Repository(error) => HttpError::from(error),
            Error::Read(error) | Error::Write(error) => HttpError::from(error),
            Error::Interrupted => HttpError::unavailable(
                "The push was interrupted; no ref moved. Try again.",
                Duration::from_secs(5),
            )
            .because(error),
            Error::Objects(_) | Error::Pack(_) | Error::Encode(_) => HttpError::internal(chain(&error)),
        }
    }
}

impl From<repository::Error> for HttpError {
    /// What only the repository's administrator can mend is told by name to those who may see it; what passes is a
    /// reason to come again; the rest is ours.
    fn from(error: repository::Error) -> Self {
        use repository::Error;
        match &error {
            Error::Config { .. }
            | Error::Extension { .. }
            | Error::FormatVersion { .. }
            | Error::Head
            | Error::PackedRefs { .. }
            | Error::Shallow => HttpError::new(
                StatusCode::NOT_IMPLEMENTED,
                format!("This server cannot serve it: {error}"),
            )
            .because(&error),
            Error::Locked { .. } | Error::RefsUnsettled | Error::TransactionBusy => HttpError::unavailable(
                "The repository is busy. Try again in a moment.",
                Duration::from_secs(2),
            )
            .because(&error),
            Error::Missing { .. } | Error::NotARepository { .. } => HttpError::not_found().because(&error),
            Error::BranchName { .. }
            | Error::CaseConflict { .. }
            | Error::Exists { .. }
            | Error::Io { .. }
            | Error::Journal { .. }
            | Error::NotEmpty { .. }
            | Error::Objects(_)
            | Error::Withdrawn => HttpError::internal(chain(&error)),
        }
    }
}

impl From<io::Error> for HttpError {
    /// Takes an error of reading a request or writing an answer: the client's where it says so, ours otherwise.
    fn from(error: io::Error) -> Self {
        match error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<request_body::Error>())
        {
            Some(inner) => HttpError::from(*inner),
            None if error.kind() == io::ErrorKind::BrokenPipe => {
                HttpError::new(StatusCode::BAD_REQUEST, "The client went away.").because(error)
            }
            None => HttpError::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;

    fn text(error: HttpError) -> (u16, String, HeaderMap) {
        let response = error.into_response("7f00");
        let body = String::from_utf8(response.body().to_vec()).unwrap();
        (response.status().as_u16(), body, response.headers().clone())
    }

    #[test]
    fn a_missing_token_and_a_bad_one_are_challenged_alike_for_basic() {
        let (status, _, none) = text(HttpError::unauthorized("x", false));
        let (_, _, bad) = text(HttpError::unauthorized("x", true));
        assert_eq!(status, 401);
        let challenges = |headers: &HeaderMap| {
            headers
                .get_all(WWW_AUTHENTICATE)
                .iter()
                .map(|v| v.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            challenges(&none),
            [
                "Bearer realm=\"patgate\"",
                "Basic realm=\"patgate\", charset=\"UTF-8\""
            ]
        );
        assert_eq!(
            challenges(&bad),
            [
                "Bearer realm=\"patgate\", error=\"invalid_token\"",
                "Basic realm=\"patgate\", charset=\"UTF-8\""
            ]
        );
    }

    #[test]
    fn internal_text_stays_inside_and_the_request_id_goes_out() {
        let (status, body, headers) = text(HttpError::internal("/srv/repos/x: no space left on device"));
        assert_eq!(status, 500);
        assert!(body.contains("7f00") && !body.contains("/srv"), "{body}");
        assert_eq!(headers.get(CONTENT_TYPE).unwrap(), "text/plain; charset=utf-8");
    }

    #[test]
    fn clients_of_the_rest_interface_read_a_wrapped_exception() {
        let error = HttpError::not_found().keyed(TypeKey::new("A.B", "CException"));
        let response = error.into_json_response("7f00");
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(
            response.headers().get(CONTENT_TYPE).unwrap(),
            "application/json; charset=utf-8"
        );
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["$id"], "1");
        assert_eq!(body["typeKey"], "CException");
        assert_eq!(body["typeName"], "A.B.CException, A.B");
        assert_eq!((&body["errorCode"], &body["eventId"]), (&json!(0), &json!(3000)));
        assert!(body["innerException"].is_null());
        assert!(
            body["message"]
                .as_str()
                .unwrap()
                .starts_with("There is no such repository")
        );
        let response = HttpError::internal("/srv").into_json_response("7f00");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        let message = body["message"].as_str().unwrap();
        assert!(
            message.ends_with(" 7f00") && !message.contains("/srv"),
            "{message}"
        );
    }

    #[test]
    fn whoever_is_to_come_again_hears_when() {
        for error in [
            HttpError::from(permits::Full::Queue),
            HttpError::from(permits::Full::Wait),
            HttpError::too_many_requests("x", Duration::from_millis(1)),
        ] {
            let (_, _, headers) = text(error);
            let seconds: u64 = headers
                .get(RETRY_AFTER)
                .unwrap()
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
            assert!(seconds >= 1);
        }
    }

    #[test]
    fn a_body_that_was_too_large_is_the_clients_even_through_a_reader() {
        let error = io::Error::from(request_body::Error::TooLarge);
        assert_eq!(HttpError::from(error).status(), StatusCode::PAYLOAD_TOO_LARGE);
        let disk = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(HttpError::from(disk).status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
