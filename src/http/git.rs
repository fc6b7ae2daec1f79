//! The Git endpoints: gate first, then the repository, then the engine.
//!
//! Owns the order in which a request is checked and the head of its answer, which is git http-backend's. Invariants:
//! nothing of a request's body is read, and nothing about a repository is told, before the gate has spoken.
//!
//! A fetch ends when its client goes away; a push only until its whole request has arrived, then it runs to its end.
//! Either ends when the gate takes back what it granted, whether its engine works, waits for its client or has not begun.
//! gitprotocol-http(5); git http-backend(1).

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Response};

use super::backend::{Backend, FetchAccess, PushAccess};
use super::body::Content;
use super::bridge::{self, Answer, Job, ResponseWriter};
use super::error::HttpError;
use super::forwarded::{Client, Peer};
use super::request_body::{self, Encoding};
use super::router::{GitRequest, ServiceParameter};
use super::running::{Cut, Running};
use super::{App, Settings, headers};
use crate::auth;
use crate::names::RepoPath;
use crate::protocol::{Service, Version};
use crate::telemetry::Record;

/// One request, as far as all endpoints need it.
pub(super) struct Exchange<'a, B> {
    /// The server.
    pub app: &'a Arc<App<B>>,
    /// What the server's settings were when the request came in.
    pub settings: Arc<Settings>,
    /// Head of the request.
    pub parts: &'a Parts,
    /// Its body; taken when it is read.
    pub body: &'a mut Option<Incoming>,
    /// Where it came from.
    pub client: Client,
    /// The other side of its connection.
    pub peer: Peer,
    /// What the log is to hold.
    pub record: Arc<Record>,
}

/// Lets the gate look at a request whose path leads nowhere: it gets the answer of a repository that is not there.
pub(super) async fn answer_nothing<B: Backend>(exchange: Exchange<'_, B>) -> HttpError {
    let opened = exchange
        .with_principal(|backend, principal| backend.open_fetch(principal, &[]).map(drop))
        .await;
    opened.err().unwrap_or_else(HttpError::not_found)
}

/// Lets the gate look at a request whose path cannot be read, and tells those whom it lets in.
pub(super) async fn answer_malformed<B: Backend>(exchange: Exchange<'_, B>) -> HttpError {
    let refused = exchange.refuse::<()>(HttpError::bad_request("The URL is not percent-encoded UTF-8."));
    refused.await.err().unwrap_or_else(HttpError::not_found)
}

/// Answers a request for something of a repository.
pub(super) async fn answer<B: Backend>(
    exchange: Exchange<'_, B>,
    candidates: Vec<RepoPath>,
    request: GitRequest,
) -> Result<Response<Content>, HttpError> {
    let method = &exchange.parts.method;
    let reads = method == Method::GET || method == Method::HEAD;
    match request {
        GitRequest::InfoRefs(_) | GitRequest::Dumb | GitRequest::Bare if !reads => {
            exchange.refuse(HttpError::method_not_allowed("GET, HEAD")).await
        }
        GitRequest::Rpc(_) if method != Method::POST => {
            exchange.refuse(HttpError::method_not_allowed("POST")).await
        }
        GitRequest::InfoRefs(ServiceParameter::Known(service)) => {
            info_refs(exchange, candidates, service).await
        }
        GitRequest::InfoRefs(ServiceParameter::Absent) | GitRequest::Dumb => {
            exchange.open_fetch(candidates).await?;
            Err(HttpError::forbidden(
                "This server speaks the smart HTTP protocol only. Use git 1.6.6 or newer, or switch your client to it.",
            ))
        }
        GitRequest::InfoRefs(ServiceParameter::Unknown) => {
            exchange.open_fetch(candidates).await?;
            Err(HttpError::forbidden(
                "This server offers the services git-upload-pack and git-receive-pack only.",
            ))
        }
        GitRequest::Bare => {
            let access = exchange.open_fetch(candidates).await?;
            let text = format!(
                "The Git repository {}. Give this URL to git clone.\n",
                access.repository()
            );
            let mut response = Response::new(Content::Full(Bytes::from(text)));
            headers::no_cache(response.headers_mut());
            let plain = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, plain);
            Ok(response)
        }
        GitRequest::Rpc(Service::UploadPack) => upload_pack(exchange, candidates).await,
        GitRequest::Rpc(Service::ReceivePack) => receive_pack(exchange, candidates).await,
    }
}

async fn info_refs<B: Backend>(
    exchange: Exchange<'_, B>,
    candidates: Vec<RepoPath>,
    service: Service,
) -> Result<Response<Content>, HttpError> {
    let version = version(&exchange.parts.headers);
    let media_type = headers::advertisement(service);
    let is_head = exchange.parts.method == Method::HEAD;
    let app = exchange.app;
    let answer = match service {
        Service::UploadPack => {
            let access = exchange.open_fetch(candidates).await?;
            if is_head {
                return Ok(head_of(media_type, Answer::Whole(Bytes::new())));
            }
            let running = app.engines.enter(access.standing())?;
            advertise(&exchange, running, move |out| access.advertise(version, out)).await?
        }
        Service::ReceivePack => {
            let access = exchange.open_push(candidates).await?;
            if is_head {
                return Ok(head_of(media_type, Answer::Whole(Bytes::new())));
            }
            let running = app.engines.enter(access.standing())?;
            advertise(&exchange, running, move |out| access.advertise(version, out)).await?
        }
    };
    Ok(head_of(media_type, answer))
}

async fn advertise<B, F>(exchange: &Exchange<'_, B>, running: Running, engine: F) -> Result<Answer, HttpError>
where
    F: FnOnce(&mut ResponseWriter) -> Result<(), HttpError> + Send + 'static,
{
    let cut = running.cut().clone();
    let places = &exchange.app.advertisements;
    let permit = cut.or(places.acquire(exchange.settings.queue_wait_max)).await??;
    let job = Job {
        running,
        permit: Some(permit),
        goes_on_after: None,
    };
    run(job, &cut, engine).await
}

async fn upload_pack<B: Backend>(
    exchange: Exchange<'_, B>,
    candidates: Vec<RepoPath>,
) -> Result<Response<Content>, HttpError> {
    let access = exchange.open_fetch(candidates).await?;
    let encoding = check_post(exchange.parts, Service::UploadPack)?;
    let version = version(&exchange.parts.headers);
    let Exchange {
        app,
        settings,
        body,
        record,
        ..
    } = exchange;
    // From here on the gate can take back what it granted, whatever is waited for.
    let running = app.engines.enter(access.standing())?;
    let (cut, interrupt) = (running.cut().clone(), running.interrupt().clone());
    let permit = cut.or(app.transfers.acquire(settings.queue_wait_max)).await??;
    let bytes_max = settings.fetch.request_bytes_max;
    let collected = match body.as_mut() {
        Some(incoming) => {
            cut.or(request_body::collect(
                incoming,
                bytes_max,
                settings.stall_max,
                &record,
            ))
            .await
        }
        None => Ok(Ok(Bytes::new())),
    };
    let collected = match collected {
        Ok(collected) => collected,
        Err(refusal) => {
            // The answer must not wait for a client that may have stopped sending.
            if let Some(body) = body.take() {
                app.tasks.spawn(request_body::drain(body));
            }
            return Err(refusal);
        }
    };
    if matches!(
        collected,
        Err(request_body::Error::Stalled | request_body::Error::Broken)
    ) {
        // Nothing more will come, so there is nothing to drain.
        *body = None;
    }
    let request = collected?;
    let job = Job {
        running,
        permit: Some(permit),
        goes_on_after: None,
    };
    let answer = run(job, &cut, move |out| {
        let request = request_body::decode(request, encoding, bytes_max)?;
        access.serve(version, &request, &settings.fetch, out, &interrupt, &record)
    });
    Ok(head_of(headers::result(Service::UploadPack), answer.await?))
}

async fn receive_pack<B: Backend>(
    exchange: Exchange<'_, B>,
    candidates: Vec<RepoPath>,
) -> Result<Response<Content>, HttpError> {
    let access = exchange.open_push(candidates).await?;
    let encoding = check_post(exchange.parts, Service::ReceivePack)?;
    let Exchange {
        app,
        settings,
        parts,
        body,
        record,
        ..
    } = exchange;
    let push = &settings.push;
    let bytes_max = push.pack_bytes_max.saturating_add(push.commands_bytes_max as u64);
    if content_length(&parts.headers).is_some_and(|length| length > bytes_max) {
        return Err(request_body::Error::TooLarge.into());
    }
    // From here on the gate can take back what it granted, whatever is waited for.
    let running = app.engines.enter(access.standing())?;
    let (cut, interrupt) = (running.cut().clone(), running.interrupt().clone());
    let permit = cut.or(app.transfers.acquire(settings.queue_wait_max)).await??;
    let Some(body) = body.take() else {
        return Err(HttpError::internal("the request's body was read before"));
    };
    let (pump, mut reader, arrival) = request_body::stream(
        body,
        encoding,
        bytes_max,
        settings.stall_max,
        cut.clone(),
        Arc::clone(&record),
    );
    app.tasks.spawn(pump.run());
    let job = Job {
        running,
        permit: Some(permit),
        goes_on_after: Some(arrival),
    };
    let answer = run(job, &cut, move |out| {
        let served = access.serve(&mut reader, &settings.push, out, &interrupt, &record);
        served.map_err(|error| reader.failure().map_or(error, HttpError::from))
    });
    Ok(head_of(headers::result(Service::ReceivePack), answer.await?))
}

/// Runs `engine`; if the gate cut it before it said anything, the answer is the gate's refusal.
async fn run<F>(job: Job, cut: &Cut, engine: F) -> Result<Answer, HttpError>
where
    F: FnOnce(&mut ResponseWriter) -> Result<(), HttpError> + Send + 'static,
{
    let answer = bridge::run(job, engine).await;
    answer.map_err(|error| cut.refusal().cloned().unwrap_or(error))
}

impl<B: Backend> Exchange<'_, B> {
    /// Runs the gate, and what `then` asks of it, on a thread that may block: both can read the database and the disk.
    async fn with_principal<T, F>(&self, then: F) -> Result<T, HttpError>
    where
        T: Send + 'static,
        F: FnOnce(&B, &B::Principal) -> Result<T, HttpError> + Send + 'static,
    {
        let place = Arc::clone(&self.app.gate).acquire_owned().await;
        let place = place.map_err(|error| HttpError::internal(format_args!("the gate: {error}")))?;
        let backend = Arc::clone(&self.app.backend);
        let authorization = authorization(&self.parts.headers);
        let client = client(self.client.address, &self.parts.headers);
        let record = Arc::clone(&self.record);
        let task = tokio::task::spawn_blocking(move || {
            let _place = place;
            let principal =
                backend.authenticate(authorization.as_ref().map(HeaderValue::as_bytes), client)?;
            backend.note(&principal, &record);
            then(&backend, &principal)
        });
        let outcome = task
            .await
            .unwrap_or_else(|error| Err(HttpError::internal(format_args!("the gate: {error}"))));
        if let Err(error) = &outcome {
            self.app.metrics.count_refusal(error.status().as_u16());
        }
        outcome
    }

    async fn open_fetch(&self, candidates: Vec<RepoPath>) -> Result<B::Fetch, HttpError> {
        let opened = self
            .with_principal(move |backend, principal| backend.open_fetch(principal, &candidates))
            .await;
        opened.inspect(|access| self.record.set_repository(&access.repository().to_string()))
    }

    async fn open_push(&self, candidates: Vec<RepoPath>) -> Result<B::Push, HttpError> {
        let opened = self
            .with_principal(move |backend, principal| backend.open_push(principal, &candidates))
            .await;
        opened.inspect(|access| self.record.set_repository(&access.repository().to_string()))
    }

    /// Refuses what has nothing to do with a repository, to those whom the gate lets in.
    async fn refuse<T>(&self, error: HttpError) -> Result<T, HttpError> {
        self.with_principal(|_, _| Ok(())).await?;
        Err(error)
    }
}

/// The sender of a request, as the gate knows it.
pub(super) fn client(address: IpAddr, headers: &HeaderMap) -> auth::Client {
    auth::Client::new(address, headers.get(USER_AGENT).map(HeaderValue::as_bytes))
}

/// The one `Authorization` header. Of several, none can be meant, and the gate is told of one that it cannot read.
pub(super) fn authorization(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (first, None) => first.cloned(),
        (_, Some(_)) => Some(HeaderValue::from_static("")),
    }
}

/// Checks the head of a POST as git http-backend does.
fn check_post(parts: &Parts, service: Service) -> Result<Encoding, HttpError> {
    let expected = headers::request(service);
    if parts
        .headers
        .get(CONTENT_TYPE)
        .is_none_or(|value| value.as_bytes() != expected.as_bytes())
    {
        return Err(HttpError::unsupported_media_type(expected));
    }
    Ok(Encoding::from_headers(&parts.headers)?)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(hyper::header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// The protocol version that the client asks for: the highest one that it names, 0 without the header.
fn version(headers: &HeaderMap) -> Version {
    headers
        .get("git-protocol")
        .map_or(Version::V0, |value| Version::from_header(Some(value.as_bytes())))
}

/// Makes the response of an engine's answer, with the headers of git http-backend.
fn head_of(media_type: &'static str, answer: Answer) -> Response<Content> {
    let mut response = Response::new(match answer {
        Answer::Whole(bytes) => Content::Full(bytes),
        Answer::Streamed(stream) => Content::Streamed(stream),
    });
    headers::no_cache(response.headers_mut());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
