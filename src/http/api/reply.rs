//! What a handler answers with.

use std::fmt;

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Serialize;

use crate::http::error::HttpError;

/// The header by which a list says where it goes on.
pub(super) const CONTINUATION: HeaderName = HeaderName::from_static("x-ms-continuationtoken");

/// An answer that is no error.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: StatusCode,
    /// JSON; None for no body at all.
    pub body: Option<Vec<u8>>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What is left to do when the answer is on its way.
    pub then: Option<Then>,
}

/// Work whose time must not show in the answer. It runs where the handler ran, and in its place among those that run.
pub(super) struct Then(Box<dyn FnOnce() + Send>);

impl Then {
    /// Does it.
    pub fn run(self) {
        (self.0)();
    }
}

impl fmt::Debug for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Then(…)")
    }
}

impl Reply {
    /// Answers with `value` as JSON.
    ///
    /// # Errors
    ///
    /// When it cannot be written as JSON, which is a fault of ours.
    pub fn json(status: StatusCode, value: &impl Serialize) -> Result<Reply, HttpError> {
        Ok(Reply {
            status,
            body: Some(serde_json::to_vec(value).map_err(HttpError::internal)?),
            ..Reply::empty(status)
        })
    }

    /// Answers 200 with `value` as JSON.
    ///
    /// # Errors
    ///
    /// As [`Reply::json`].
    pub fn ok(value: &impl Serialize) -> Result<Reply, HttpError> {
        Reply::json(StatusCode::OK, value)
    }

    /// Answers 204.
    pub fn nothing() -> Reply {
        Reply::empty(StatusCode::NO_CONTENT)
    }

    /// Answers `status` without a body.
    pub fn empty(status: StatusCode) -> Reply {
        Reply {
            status,
            body: None,
            headers: Vec::new(),
            then: None,
        }
    }

    /// Leaves `work` for when the answer is on its way.
    #[must_use]
    pub fn then(mut self, work: impl FnOnce() + Send + 'static) -> Reply {
        self.then = Some(Then(Box::new(work)));
        self
    }

    /// Adds a header. What no header can hold, because it is not visible ASCII, is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Reply {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }
}

/// A list, as Azure DevOps wraps one.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "ListOf{T}")]
pub(super) struct List<T> {
    /// How many entries `value` has.
    pub count: usize,
    /// The entries.
    pub value: Vec<T>,
}

impl<T> From<Vec<T>> for List<T> {
    fn from(value: Vec<T>) -> Self {
        List {
            count: value.len(),
            value,
        }
    }
}
