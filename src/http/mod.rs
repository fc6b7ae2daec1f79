//! HTTP: routes, the gate's place before them, bodies and errors.
//!
//! Owns how a request becomes an answer. Does not know sockets, TLS or when the server stops, which are `server`'s.
//! Invariants: every path but `/_health/…` passes the gate first (in the REST interface, `api`, every one that does not
//! say otherwise in its row); no engine runs on the async runtime's threads; an error becomes a response in one place
//! ([`error`]).
//!
//! The main address answers `/_health/live` and `/_health/ready` to anyone, with one word. `/_metrics` and the details
//! of health are on the address for operation only.

mod api;
pub mod backend;
pub mod body;
mod bridge;
pub mod error;
pub mod forwarded;
mod git;
mod headers;
mod ops;
mod permits;
mod request_body;
pub mod router;
mod running;
pub mod stall;
pub mod standing;
mod trail;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_LENGTH, EXPECT, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, Version};
use ipnet::IpNet;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use self::api::Api;
use self::backend::Backend;
use self::body::{Content, ResponseBody};
use self::error::HttpError;
use self::forwarded::{Client, Peer, Unencrypted};
use self::git::Exchange;
use self::permits::Permits;
use self::router::{GitRequest, Route, RouteError, ServiceParameter};
use self::running::Engines;
use crate::limits::{FetchLimits, PushLimits, RestLimits};
use crate::protocol::Service;
use crate::telemetry::{Gauges, MethodLabel, Metrics, Record, RequestLog, RouteLabel};

/// What can change while the server runs; a request keeps the settings it began with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bounds of a fetch.
    pub fetch: FetchLimits,
    /// Bounds of a push.
    pub push: PushLimits,
    /// Bounds of the REST interface.
    pub rest: RestLimits,
    /// Who may say where a request came from.
    pub proxies: Vec<IpNet>,
    /// How long a request waits for a place among the transfers.
    pub queue_wait_max: Duration,
    /// How long a body may stand still, in either direction.
    pub stall_max: Duration,
}

/// What is fixed from the start.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Fetches and pushes that run at once.
    pub transfers: usize,
    /// Requests that wait for one of them to end.
    pub queue: usize,
}

/// How many ref advertisements run at once for each transfer that may: they are short, and git asks for one before
/// every transfer.
const ADVERTISEMENTS_PER_TRANSFER: usize = 2;

/// How many requests are before the gate at once. The others wait where they cost no thread, and leave when their client
/// does: work that was handed to a thread is done even if nobody waits for it, so clients that ask and go away again
/// (CVE-2023-44487) would pile it up.
pub const GATE_AT_ONCE: usize = 64;

impl Capacity {
    /// Threads that engines, the gate and the REST interface can block at once.
    pub fn threads_max(self) -> usize {
        self.transfers
            .saturating_mul(1 + ADVERTISEMENTS_PER_TRANSFER)
            .saturating_add(GATE_AT_ONCE + api::CALLS_AT_ONCE)
    }
}

/// The application: answers requests, whatever connection they come from.
#[derive(Debug)]
pub struct App<B> {
    backend: Arc<B>,
    api: Option<Api>,
    settings: RwLock<Arc<Settings>>,
    transfers: Permits,
    advertisements: Permits,
    gate: Arc<Semaphore>,
    engines: Engines,
    tasks: TaskTracker,
    metrics: Arc<Metrics>,
    connections: AtomicUsize,
    is_draining: AtomicBool,
}

/// An open connection, counted until this is dropped.
#[derive(Debug)]
pub struct ConnectionCount<B>(Arc<App<B>>);

impl<B> Drop for ConnectionCount<B> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<B: Backend> App<B> {
    /// Puts the routes before `backend`.
    pub fn new(backend: B, settings: Settings, capacity: Capacity) -> Arc<Self> {
        let backend = Arc::new(backend);
        let engines = Engines::new({
            let backend = Arc::clone(&backend);
            move || backend.generation()
        });
        Arc::new(App {
            api: backend.services().map(Api::new),
            backend,
            settings: RwLock::new(Arc::new(settings)),
            transfers: Permits::new(capacity.transfers, capacity.queue),
            advertisements: Permits::new(
                capacity.transfers.saturating_mul(ADVERTISEMENTS_PER_TRANSFER),
                capacity.queue,
            ),
            gate: Arc::new(Semaphore::new(GATE_AT_ONCE)),
            engines,
            tasks: TaskTracker::new(),
            metrics: Arc::new(Metrics::default()),
            connections: AtomicUsize::new(0),
            is_draining: AtomicBool::new(false),
        })
    }

    /// Returns the settings that hold now.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the settings, for requests that come from now on.
    pub fn set_settings(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Counts a connection for as long as the result lives.
    pub fn count_connection(self: &Arc<Self>) -> ConnectionCount<B> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        ConnectionCount(Arc::clone(self))
    }

    /// Says at `/_health/ready` that no more requests are wanted.
    pub fn start_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Interrupts all engines. Those that are past their commit point go on.
    pub fn stop_engines(&self) {
        self.engines.stop();
    }

    /// Waits until no engine runs: no ref transaction is under way then.
    pub async fn engines_idle(&self) {
        self.engines.idle().await;
    }

    fn gauges(&self) -> Gauges {
        Gauges {
            connections: self.connections.load(Ordering::Relaxed),
            transfers: self.transfers.running(),
            transfers_queued: self.transfers.waiting(),
            audit_events_lost: self.backend.audit_events_lost(),
        }
    }

    /// Answers one request of the main address. There is always an answer: an error becomes one too.
    pub async fn respond(self: &Arc<Self>, request: Request<Incoming>, peer: Peer) -> Response<ResponseBody> {
        let settings = self.settings();
        let client = forwarded::client(peer, request.headers(), &settings.proxies);
        let address = client.map_or(peer.address, |client| client.address);
        let record = Arc::new(Record::new(method_label(request.method()), address));
        // Whatever is logged on the way carries the id.
        let span = tracing::error_span!("request", id = record.id());
        self.respond_to(request, peer, client, settings, record)
            .instrument(span)
            .await
    }

    async fn respond_to(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
        client: Result<Client, Unencrypted>,
        settings: Arc<Settings>,
        record: Arc<Record>,
    ) -> Response<ResponseBody> {
        let (parts, body) = request.into_parts();
        let log = RequestLog::start(Arc::clone(&record), Arc::clone(&self.metrics));
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let route = router::parse(target);
        record.set_route(route_label(&route));
        let reads_json = matches!(route, Ok(Route::Api { .. })) || router::is_api(target);
        let mut body = Some(body);
        let answer = match client {
            Err(error) => Err(HttpError::forbidden(
                "This server takes plain HTTP from its own proxy only. Use an https:// URL.",
            )
            .because(error)),
            Ok(client) => {
                let (record, body) = (Arc::clone(&record), &mut body);
                let exchange = Exchange {
                    app: self,
                    settings,
                    parts: &parts,
                    body,
                    client,
                    peer,
                    record,
                };
                self.answer(exchange, route).await
            }
        };
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                error.log("a request was not served");
                let response = if reads_json {
                    error.into_json_response(record.id())
                } else {
                    error.into_response(record.id())
                };
                response.map(Content::Full)
            }
        };
        let is_refusal = response.status().is_client_error() || response.status().is_server_error();
        if is_refusal && let Some(body) = body {
            self.drain(&parts, body).await;
        }
        finish(response, &parts.method, log)
    }

    async fn answer(
        self: &Arc<Self>,
        exchange: Exchange<'_, B>,
        route: Result<Route, RouteError>,
    ) -> Result<Response<Content>, HttpError> {
        match route {
            Ok(Route::Live) => Ok(ops::live()),
            Ok(Route::Ready) => Ok(ops::ready(self.is_draining.load(Ordering::Relaxed), None)),
            Ok(Route::Repository { candidates, request }) => git::answer(exchange, candidates, request).await,
            Ok(Route::Api { scope, path }) => api::answer(exchange, scope, path).await,
            Ok(Route::Metrics) => Err(git::answer_nothing(exchange).await),
            Err(error) if router::is_api(exchange.parts.uri.path()) => {
                api::answer_unroutable(exchange, error).await
            }
            Err(error) => Err(git::answer_nothing(exchange).await.because(error)),
        }
    }

    /// Answers one request of the address for operation.
    pub fn respond_to_operator(&self, request: &Request<Incoming>) -> Response<ResponseBody> {
        let is_draining = self.is_draining.load(Ordering::Relaxed);
        let reads = request.method() == Method::GET || request.method() == Method::HEAD;
        let response = match router::parse(request.uri().path()) {
            _ if !reads => HttpError::method_not_allowed("GET, HEAD")
                .into_response("")
                .map(Content::Full),
            Ok(Route::Live) => ops::live(),
            Ok(Route::Ready) => ops::ready(is_draining, Some(self.gauges())),
            Ok(Route::Metrics) => ops::metrics(self.metrics.encode(&self.gauges())),
            _ => ops::nothing_here(),
        };
        response.map(|content| ResponseBody::new(content, None))
    }

    /// Takes what a refused client still sends, so that it reads the refusal instead of a reset. A client that waits
    /// for `100 Continue` sends nothing, and must not be told to begin.
    async fn drain(&self, parts: &Parts, body: Incoming) {
        if parts.headers.contains_key(EXPECT) || body.is_end_stream() {
            return;
        }
        if parts.version < Version::HTTP_2 {
            self.tasks.spawn(request_body::drain(body));
        } else {
            // An answer that ends before the request resets the stream, and curl up to 8 then drops the answer.
            request_body::drain_first(body).await;
        }
    }
}

/// Gives a response its length and its end in the log.
fn finish(mut response: Response<Content>, method: &Method, log: RequestLog) -> Response<ResponseBody> {
    log.record().set_status(response.status().as_u16());
    if method == Method::HEAD {
        if let Content::Full(bytes) = response.body()
            && !bytes.is_empty()
        {
            let length = HeaderValue::from(bytes.len());
            response.headers_mut().insert(CONTENT_LENGTH, length);
        }
        *response.body_mut() = Content::Full(Bytes::new());
    }
    response.map(|content| ResponseBody::new(content, Some(log)))
}

fn method_label(method: &Method) -> MethodLabel {
    match *method {
        Method::GET => MethodLabel::Get,
        Method::HEAD => MethodLabel::Head,
        Method::POST => MethodLabel::Post,
        _ => MethodLabel::Other,
    }
}

fn route_label(route: &Result<Route, RouteError>) -> RouteLabel {
    match route {
        Ok(Route::Live | Route::Ready | Route::Metrics) => RouteLabel::Operation,
        Ok(Route::Api { .. }) => RouteLabel::Api,
        Ok(Route::Repository { request, .. }) => match request {
            GitRequest::InfoRefs(ServiceParameter::Known(Service::UploadPack)) => RouteLabel::UploadPackRefs,
            GitRequest::InfoRefs(ServiceParameter::Known(Service::ReceivePack)) => {
                RouteLabel::ReceivePackRefs
            }
            GitRequest::Rpc(Service::UploadPack) => RouteLabel::UploadPack,
            GitRequest::Rpc(Service::ReceivePack) => RouteLabel::ReceivePack,
            GitRequest::InfoRefs(_) | GitRequest::Dumb | GitRequest::Bare => RouteLabel::Repository,
        },
        Err(_) => RouteLabel::Other,
    }
}
