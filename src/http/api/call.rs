//! One call of an endpoint: who calls, of what, with which arguments.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hyper::header::HeaderValue;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::endpoint::{Endpoint, Level, Param, Value};
use super::ids::Ids;
use super::rates::{Standing, Who};
use super::{Shared, body};
use crate::auth::token::PlainToken;
use crate::auth::{self, Gate, Principal, SignedIn};
use crate::http::Settings;
use crate::http::error::HttpError;
use crate::http::forwarded::NoHost;
use crate::http::router::{ApiScope, Place};
use crate::http::running::Engines;
use crate::interrupt::Interrupt;
use crate::names::RepoPath;
use crate::registrar::Registrar;
use crate::repository::Repositories;
use crate::store::{Actor, Store};
use crate::telemetry::{Metrics, Record};

/// What is known of a request before it is routed. Goes through the router as an extension.
pub(super) struct Context {
    /// What all requests share.
    pub shared: Arc<Shared>,
    /// The server's settings when the request came in.
    pub settings: Arc<Settings>,
    /// Where it came from.
    pub client: auth::Client,
    /// The header as it was received.
    pub authorization: Option<HeaderValue>,
    /// The URL, without a path, by which the client reaches the server, if the request says.
    pub base: Result<String, NoHost>,
    /// What the part of the URL before `_apis` names.
    pub scope: ApiScope,
    /// The components after it, as they were sent.
    pub path: Vec<String>,
    /// What the log is to hold.
    pub record: Arc<Record>,
    /// Where refusals are counted.
    pub metrics: Arc<Metrics>,
    /// Where what runs is entered, so that the server waits for it.
    pub engines: Engines,
    /// Places before the gate.
    pub gate_places: Arc<Semaphore>,
    /// How things stand with the rate limit that the answer tells of.
    pub standing: Mutex<Option<Standing>>,
    /// Whether somebody waits for the answer.
    pub presence: Presence,
}

/// Whether the client of a call still waits, and what to interrupt when it does not.
#[derive(Debug, Default)]
pub(super) struct Presence(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    is_gone: bool,
    interrupt: Option<Interrupt>,
}

impl Presence {
    /// Has `interrupt` triggered when the client goes away, or now if it is gone. One that is sealed by then goes on.
    pub fn interrupts(&self, interrupt: &Interrupt) {
        let mut waiting = self.lock();
        if waiting.is_gone {
            interrupt.trigger();
        }
        waiting.interrupt = Some(interrupt.clone());
    }

    /// The client counts as gone when what this returns is dropped.
    pub fn until_dropped(&self) -> Here<'_> {
        Here(self)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The client waits as long as this lives.
pub(super) struct Here<'a>(&'a Presence);

impl Drop for Here<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.is_gone = true;
        if let Some(interrupt) = waiting.interrupt.take() {
            interrupt.trigger();
        }
    }
}

impl Context {
    /// Counts the request for `who`, and keeps how things stand with them for the answer.
    ///
    /// # Errors
    ///
    /// When it is one too many.
    pub fn count(&self, who: Who) -> Result<(), HttpError> {
        let limits = &self.settings.rest;
        let limit = match who {
            Who::Token(_) | Who::Account(_) => limits.token_per_minute,
            Who::Address(_) => limits.address_per_minute,
        };
        let standing = self.shared.rates.count(who, limit);
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = Some(standing);
        standing.check()
    }

    /// Whether the credential has the shape of a token.
    pub fn has_token(&self) -> bool {
        let value = self.authorization.as_ref().map(HeaderValue::as_bytes);
        value
            .and_then(|value| auth::credential::parse(value).ok())
            .is_some_and(|credential| PlainToken::parse(credential.secret().expose()).is_ok())
    }

    /// How things stand with the last limit that the request was counted for.
    pub fn standing(&self) -> Option<Standing> {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the part of the URL before `_apis` names.
    pub fn level(&self) -> Level {
        match &self.scope {
            ApiScope::Repository(_) => Level::Repository,
            ApiScope::Places(places) => match places.first() {
                Some(Place { project: Some(_), .. }) => Level::Project,
                Some(Place {
                    collection: Some(_), ..
                }) => Level::Collection,
                _ => Level::Server,
            },
        }
    }
}

/// Who calls.
#[derive(Debug)]
pub(super) enum Caller {
    /// The owner of a token.
    Token(Principal),
    /// Somebody who has signed in.
    SignedIn(SignedIn),
    /// Somebody who proved nothing.
    Nobody,
}

/// One call, to be answered where it may block.
pub(super) struct Call {
    /// Of which endpoint.
    pub endpoint: &'static Endpoint,
    /// What is known of the request.
    pub context: Arc<Context>,
    /// The URL, without a path, by which the client reaches the server.
    pub base: String,
    /// Who calls.
    pub caller: Caller,
    /// The query's parameters.
    pub values: Vec<(&'static str, Value)>,
    /// The body, inflated; empty where the endpoint takes none.
    pub body: Bytes,
}

impl Call {
    /// Whose token it is.
    ///
    /// # Errors
    ///
    /// When the endpoint asks for none, which is a fault of ours.
    pub fn principal(&self) -> Result<&Principal, HttpError> {
        match &self.caller {
            Caller::Token(principal) => Ok(principal),
            Caller::SignedIn(_) | Caller::Nobody => Err(HttpError::internal(format_args!(
                "'{}' knows no token",
                self.endpoint.id
            ))),
        }
    }

    /// Who has signed in.
    ///
    /// # Errors
    ///
    /// When the endpoint asks for something else, which is a fault of ours.
    pub fn signed_in(&self) -> Result<&SignedIn, HttpError> {
        match &self.caller {
            Caller::SignedIn(signed_in) => Ok(signed_in),
            Caller::Token(_) | Caller::Nobody => Err(HttpError::internal(format_args!(
                "'{}' knows nobody who has signed in",
                self.endpoint.id
            ))),
        }
    }

    /// Who the audit trail says it was.
    pub fn actor(&self) -> Result<Actor, HttpError> {
        match &self.caller {
            Caller::SignedIn(signed_in) => Ok(signed_in.actor()),
            Caller::Token(_) | Caller::Nobody => Ok(self.principal()?.actor()),
        }
    }

    /// The gate.
    pub fn gate(&self) -> &Gate {
        &self.context.shared.services.gate
    }

    /// The store.
    pub fn store(&self) -> &Store {
        self.gate().store()
    }

    /// All repositories.
    pub fn repositories(&self) -> &Repositories {
        &self.context.shared.services.repositories
    }

    /// What changes repositories on behalf of `actor`.
    pub fn registrar<'a>(&'a self, actor: &'a Actor) -> Registrar<'a> {
        Registrar {
            store: self.store(),
            repositories: self.repositories(),
            actor,
        }
    }

    /// The ids of this installation.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn ids(&self) -> Result<Ids, HttpError> {
        self.context.shared.ids()
    }

    /// The URL, without a path, by which the client reaches the server.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The places that the URL can mean, the likeliest first; none for a repository's URL.
    pub fn places(&self) -> &[Place] {
        match &self.context.scope {
            ApiScope::Places(places) => places,
            ApiScope::Repository(_) => &[],
        }
    }

    /// The repositories that a repository's URL can mean.
    pub fn candidates(&self) -> &[RepoPath] {
        match &self.context.scope {
            ApiScope::Places(_) => &[],
            ApiScope::Repository(candidates) => candidates,
        }
    }

    /// What stands in the path for `{name}`; empty if nothing does.
    pub fn argument(&self, name: &str) -> String {
        self.endpoint
            .argument(&self.context.path, name)
            .unwrap_or_default()
    }

    fn value(&self, param: &Param) -> Option<&Value> {
        self.values
            .iter()
            .find(|(name, _)| *name == param.name)
            .map(|(_, value)| value)
    }

    /// A parameter that is text or one of some words.
    pub fn text(&self, param: &Param) -> Option<&str> {
        match self.value(param)? {
            Value::Text(text) => Some(text),
            Value::Word(word) => Some(word),
            _ => None,
        }
    }

    /// A parameter that is a number.
    pub fn integer(&self, param: &Param) -> Option<i64> {
        match self.value(param)? {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// A parameter that is a UUID.
    pub fn uuid(&self, param: &Param) -> Option<Uuid> {
        match self.value(param)? {
            Value::Uuid(id) => Some(*id),
            _ => None,
        }
    }

    /// A parameter that is a number of things.
    pub fn count(&self, param: &Param) -> Option<usize> {
        usize::try_from(self.integer(param)?).ok()
    }

    /// A parameter that is a moment.
    pub fn moment(&self, param: &Param) -> Option<Timestamp> {
        match self.value(param)? {
            Value::Moment(moment) => Some(*moment),
            _ => None,
        }
    }

    /// Whether a parameter is there and true.
    pub fn flag(&self, param: &Param) -> bool {
        self.value(param) == Some(&Value::Boolean(true))
    }

    /// Whether a parameter is there and false.
    pub fn is_false(&self, param: &Param) -> bool {
        self.value(param) == Some(&Value::Boolean(false))
    }

    /// Reads the body.
    ///
    /// # Errors
    ///
    /// As [`body::read`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        body::read(&self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_interrupted_when_its_client_goes_away_unless_it_is_sealed() {
        let interrupt = Interrupt::new();
        let presence = Presence::default();
        let here = presence.until_dropped();
        presence.interrupts(&interrupt);
        assert!(!interrupt.is_triggered());
        drop(here);
        assert!(interrupt.is_triggered());
        let late = Interrupt::new();
        presence.interrupts(&late);
        assert!(late.is_triggered(), "the client went before the work began");

        let presence = Presence::default();
        let (here, sealed) = (presence.until_dropped(), Interrupt::new());
        presence.interrupts(&sealed);
        assert!(sealed.seal());
        drop(here);
        assert!(!sealed.is_triggered());
    }
}
