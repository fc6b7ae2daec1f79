//! What the REST interface offers, as tables: one row an operation.
//!
//! Routes, `Allow` headers, the locations that clients ask for, the OpenAPI document and what is checked of a request
//! before its handler runs are all made from these rows, so none of them can say something else than another.

use axum::routing::MethodFilter;
use hyper::Method;
use jiff::Timestamp;
use schemars::{Schema, SchemaGenerator};
use uuid::Uuid;

use super::call::Call;
use super::reply::Reply;
use super::version::Versions;
use crate::auth::scope::Operation;
use crate::http::error::HttpError;

/// One operation of the REST interface.
pub(super) struct Endpoint {
    /// What it is called in the log, in the document and for the gate's questions.
    pub id: &'static str,
    /// Its method; `GET` answers `HEAD`, too.
    pub method: Method,
    /// Its path after `_apis`, in lower case, with `{name}` for one component and `{*name}` for all that follow.
    pub path: &'static str,
    /// Where `_apis` may stand.
    pub levels: &'static [Level],
    /// How a client proves who it is.
    pub proof: Proof,
    /// What the gate is asked about whoever it is; a handler never runs without its consent.
    pub operation: Operation,
    /// The versions that there are of it.
    pub versions: Versions,
    /// What the query may hold.
    pub params: &'static [&'static Param],
    /// What the body must be; None where there is none.
    pub body: Option<SchemaOf>,
    /// What can be answered besides what every endpoint can answer.
    pub answers: &'static [Answer],
    /// What it does, in a line.
    pub summary: &'static str,
    /// Does it. Runs where it may block.
    pub run: fn(&Call) -> Result<Reply, HttpError>,
}

/// Makes the JSON schema of a type.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// By a token.
    Token,
    /// By signing in: with the name and the password of an account. No token will do.
    Password,
    /// Not at all.
    Nothing,
}

/// What the part of a URL before `_apis` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// Nothing.
    Server,
    /// A collection.
    Collection,
    /// A collection and a project, or a project of the default collection.
    Project,
    /// A repository, by the URL that git uses, without `_apis`.
    Repository,
}

/// Every level but a repository's.
pub(super) const ANYWHERE: &[Level] = &[Level::Server, Level::Collection, Level::Project];

/// The server and collections.
pub(super) const ABOVE_PROJECTS: &[Level] = &[Level::Server, Level::Collection];

/// One parameter of a query.
#[derive(Debug)]
pub(super) struct Param {
    /// Its name; case does not matter in a request.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What it means.
    pub description: &'static str,
    /// Whether it must be there.
    pub is_required: bool,
}

impl Param {
    /// A parameter that may be left out.
    pub const fn new(name: &'static str, kind: Kind, description: &'static str) -> Param {
        Param {
            name,
            kind,
            description,
            is_required: false,
        }
    }

    /// A parameter that must be there.
    pub const fn required(name: &'static str, kind: Kind, description: &'static str) -> Param {
        Param {
            is_required: true,
            ..Param::new(name, kind, description)
        }
    }
}

/// What a parameter may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Any text of at most this many bytes.
    Text(usize),
    /// A number between these two.
    Integer(i64, i64),
    /// `true` or `false`.
    Boolean,
    /// A UUID.
    Uuid,
    /// One of these words, in any case of letters.
    Word(&'static [&'static str]),
    /// A moment as RFC 3339 writes it.
    Moment,
}

/// A parameter that was given.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    Uuid(Uuid),
    Word(&'static str),
    Moment(Timestamp),
}

/// One answer that is no error.
pub(super) struct Answer {
    /// Its status.
    pub status: u16,
    /// What its body is; None where there is none.
    pub body: Option<SchemaOf>,
    /// Its headers beyond those of every answer, with what they say.
    pub headers: &'static [(&'static str, &'static str)],
    /// When it comes.
    pub description: &'static str,
}

impl Answer {
    /// An answer with a body.
    pub const fn with(status: u16, body: SchemaOf, description: &'static str) -> Answer {
        Answer {
            status,
            body: Some(body),
            headers: &[],
            description,
        }
    }

    /// An answer without one.
    pub const fn empty(status: u16, description: &'static str) -> Answer {
        Answer {
            status,
            body: None,
            headers: &[],
            description,
        }
    }
}

/// Makes the schema of `T`, for a row.
pub(super) fn schema<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// All rows.
pub(super) fn all() -> impl Iterator<Item = &'static Endpoint> {
    [
        super::discovery::ENDPOINTS,
        super::projects::ENDPOINTS,
        super::repositories::ENDPOINTS,
        super::refs::ENDPOINTS,
        super::leaked::ENDPOINTS,
        super::token_admin::ENDPOINTS,
        super::audit_log::ENDPOINTS,
        super::pats::ENDPOINTS,
        super::own_token::ENDPOINTS,
        super::openapi::ENDPOINTS,
    ]
    .into_iter()
    .flatten()
}

impl Endpoint {
    /// The method as the router wants it; None for one that no row may have.
    pub fn filter(&self) -> Option<MethodFilter> {
        MethodFilter::try_from(self.method.clone()).ok()
    }

    /// The components of [`Endpoint::path`].
    pub fn components(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter(|component| !component.is_empty())
    }

    /// Tells whether the row is about `path`, the components of a request as they were sent.
    pub fn is_at(&self, path: &[String]) -> bool {
        let mut sent = path.iter();
        let fits = self.components().all(|component| {
            sent.next()
                .is_some_and(|sent| component.starts_with('{') || component.eq_ignore_ascii_case(sent))
        });
        fits && sent.next().is_none()
    }

    /// Finds what stands in `path`, the components of a request as they were sent, for `{name}` or `{*name}`.
    pub fn argument(&self, path: &[String], name: &str) -> Option<String> {
        for (at, component) in self.components().enumerate() {
            let Some(inner) = component
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'))
            else {
                continue;
            };
            match inner.strip_prefix('*') {
                Some(rest) if rest == name => return Some(path.get(at..)?.join("/")),
                None if inner == name => return path.get(at).cloned(),
                _ => {}
            }
        }
        None
    }
}
