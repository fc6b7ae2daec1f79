//! The REST interface, as Azure DevOps has it, so that scripts and clients written for it work here.
//!
//! **Owns** what stands after `_apis` in a URL, and `vsts/info` after a repository's: an axum router whose routes are
//! made from the rows in [`endpoint`], mounted behind the same hyper service as git's endpoints, so that limits, log
//! lines and stopping are the same. **Does not know** SQL, or where a repository lies.
//!
//! **Order** of one request: route, rate limit of the address, gate, rate limit of the token, version and query, body, a place among those that run, handler.
//! Nothing is looked up and nothing of the body is read before the gate has spoken; only routing, which needs the URL
//! alone, goes before it. The gate decides three times: here whether the caller may do such a thing at all
//! (`Gate::authorize_api`), the same again when the body is there and the handler's turn has come, because a client can
//! make both last, and in the handler whether it may do it to this repository. What makes or changes tokens is not for
//! tokens: there the gate lets in by name and password (`Gate::sign_in_by_header`), and nowhere else.
//!
//! **Invariants**: whatever is answered is JSON, or nothing; no input makes a 500; a URL without a handler is answered
//! as if there were nothing, to those whom the gate lets in; a change that has begun runs to its end, whoever goes
//! away; what walks through a history before it is cut when its caller goes away, or the gate would not let them in any
//! more. <https://learn.microsoft.com/rest/api/azure/devops>.
//!
//! Routing ignores the case of letters: the router sees the path in lower case, and handlers take their arguments from
//! the path as it was sent.

mod audit_log;
mod body;
mod call;
mod discovery;
mod endpoint;
mod ids;
mod leaked;
mod lent;
mod moment;
mod openapi;
mod own_token;
mod pat_token;
mod pats;
mod places;
mod projects;
mod query;
mod rates;
mod refs;
mod reply;
mod repositories;
mod token_admin;
mod turns;
mod version;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use axum::Router;
use axum::extract::Request;
use axum::response::Response as RouterResponse;
use axum::routing::{MethodRouter, on};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::oneshot;
use tower::ServiceExt as _;

use self::call::{Call, Caller, Context, Presence};
use self::endpoint::{Endpoint, Proof};
use self::ids::Ids;
use self::lent::Lender;
use self::query::Query;
use self::rates::{Rates, Who};
use self::reply::Reply;
use self::turns::{Turn, Turns, Walker};
use super::backend::{Backend, Services};
use super::body::Content;
use super::error::HttpError;
use super::git::Exchange;
use super::permits::{Permit, Permits};
use super::request_body::{self, Encoding};
use super::router::{ApiScope, RouteError};
use super::{forwarded, git, headers};
use crate::auth::scope::Operation;
use crate::auth::{Principal, leak};
use crate::names;

/// Handlers that run at once: each has a thread, and reads the disk.
pub(super) const CALLS_AT_ONCE: usize = 16;

/// Requests that wait for one of them to end.
const CALLS_QUEUED_MAX: usize = 256;

/// The mounted interface.
#[derive(Debug)]
pub(super) struct Api {
    router: Router,
    shared: Arc<Shared>,
}

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    /// What stands behind the interface.
    pub(super) services: Services,
    leaks: leak::Guard,
    ids: OnceLock<Ids>,
    calls: Permits,
    turns: Turns,
    rates: Rates,
}

impl Shared {
    /// The ids of this installation, once read for good.
    fn ids(&self) -> Result<Ids, HttpError> {
        if let Some(ids) = self.ids.get() {
            return Ok(*ids);
        }
        let instance = self.services.gate.store().instance_id()?;
        Ok(*self.ids.get_or_init(|| Ids::new(instance)))
    }
}

impl Api {
    /// Mounts the interface before `services`.
    pub(super) fn new(services: Services) -> Api {
        let gate = &services.gate;
        let leaks = leak::Guard::new(gate.store().clone(), Box::new(gate.clone()));
        Api {
            router: router(),
            shared: Arc::new(Shared {
                services,
                leaks,
                ids: OnceLock::new(),
                calls: Permits::new(CALLS_AT_ONCE, CALLS_QUEUED_MAX),
                turns: Turns::new(),
                rates: Rates::new(),
            }),
        }
    }
}

/// Makes a router of all rows.
fn router() -> Router {
    let mut methods: BTreeMap<&'static str, MethodRouter> = BTreeMap::new();
    for endpoint in endpoint::all() {
        let Some(filter) = endpoint.filter() else { continue };
        let before = methods.remove(endpoint.path).unwrap_or_default();
        let handler = move |request: Request| handle(Asked::Endpoint(endpoint), request);
        methods.insert(endpoint.path, before.merge(on(filter, handler)));
    }
    let router = methods
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| {
            router.route(path, methods)
        });
    router
        .fallback(|request: Request| handle(Asked::Nothing, request))
        .method_not_allowed_fallback(|request: Request| handle(Asked::OtherMethod, request))
}

/// What a request turned out to be for.
#[derive(Clone, Copy)]
enum Asked {
    /// An endpoint, which may not be at this level all the same.
    Endpoint(&'static Endpoint),
    /// No path that there is.
    Nothing,
    /// A path that there is, by a method that it does not take.
    OtherMethod,
}

/// Answers a request for something of the REST interface. What it leaves unread of the body is given back.
pub(super) async fn answer<B: Backend>(
    exchange: Exchange<'_, B>,
    scope: ApiScope,
    path: Vec<String>,
) -> Result<Response<Content>, HttpError> {
    let Some(api) = &exchange.app.api else {
        return Err(git::answer_nothing(exchange).await);
    };
    let uri = canonical(&path);
    let context = context(api, &exchange, scope, path);
    let Exchange { parts, body, .. } = exchange;
    let lender = Lender::default();
    let mut request = Request::new(axum::body::Body::new(lender.lend(body.take())));
    *request.method_mut() = parts.method.clone();
    *request.headers_mut() = parts.headers.clone();
    *request.uri_mut() = match parts.uri.query() {
        Some(query) => format!("{uri}?{query}"),
        None => uri,
    }
    .parse()
    .map_err(|error| HttpError::bad_request("The URL cannot be read.").because(error))?;
    request.extensions_mut().insert(Arc::new(context));
    let routed = match api.router.clone().oneshot(request).await {
        Ok(routed) => routed,
        Err(never) => match never {},
    };
    *body = lender.take_back();
    let (head, content) = routed.into_parts();
    let content = content.collect().await.map_err(HttpError::internal)?.to_bytes();
    Ok(Response::from_parts(head, Content::Full(content)))
}

/// Answers a request for a URL of the REST interface that names nothing: counted and asked about at the gate like any
/// other.
pub(super) async fn answer_unroutable<B: Backend>(
    exchange: Exchange<'_, B>,
    error: RouteError,
) -> Result<Response<Content>, HttpError> {
    let Some(api) = &exchange.app.api else {
        let told = match error {
            RouteError::Encoding => git::answer_malformed(exchange).await,
            _ => git::answer_nothing(exchange).await,
        };
        return Err(told.because(error));
    };
    let context = Arc::new(context(api, &exchange, ApiScope::Places(Vec::new()), Vec::new()));
    let told = match error {
        RouteError::Encoding => HttpError::bad_request("The URL is not percent-encoded UTF-8."),
        RouteError::Name(_) | RouteError::TooLong | RouteError::Unknown => nothing_here(),
    };
    let refused = async { Err(refuse(&context, told.because(error)).await) };
    Ok(count_and_answer(&context, refused).await.map(Content::Full))
}

/// Gathers what is known of a request before it is routed.
fn context<B: Backend>(api: &Api, exchange: &Exchange<'_, B>, scope: ApiScope, path: Vec<String>) -> Context {
    let Exchange {
        app,
        settings,
        parts,
        client,
        peer,
        record,
        ..
    } = exchange;
    Context {
        shared: Arc::clone(&api.shared),
        settings: Arc::clone(settings),
        client: git::client(client.address, &parts.headers),
        authorization: git::authorization(&parts.headers),
        base: forwarded::base_url(*peer, *client, parts, &settings.proxies),
        scope,
        path,
        record: Arc::clone(record),
        metrics: Arc::clone(&app.metrics),
        engines: app.engines.clone(),
        gate_places: Arc::clone(&app.gate),
        standing: Mutex::default(),
        presence: Presence::default(),
    }
}

/// The path as the router sees it: in lower case, and each component percent-encoded, so that none has a slash in it.
fn canonical(path: &[String]) -> String {
    let mut text = String::from("/");
    for (at, component) in path.iter().enumerate() {
        if at > 0 {
            text.push('/');
        }
        text.push_str(&names::url_component(&component.to_lowercase()));
    }
    text
}

/// Answers what the router has found a handler for, or none.
async fn handle(asked: Asked, request: Request) -> RouterResponse {
    let Some(context) = request.extensions().get::<Arc<Context>>().map(Arc::clone) else {
        return HttpError::internal("a request came to the router without its context")
            .into_json_response("")
            .map(axum::body::Body::from);
    };
    let answer = answer_asked(asked, &context, request);
    count_and_answer(&context, answer)
        .await
        .map(axum::body::Body::from)
}

/// Counts a request for its address before it is answered, and tells with the answer how things stand.
async fn count_and_answer(
    context: &Context,
    answer: impl Future<Output = Result<Response<Bytes>, HttpError>>,
) -> Response<Bytes> {
    let outcome = match context.count(Who::address(context.client.address)) {
        Err(error) => Err(error),
        Ok(()) => answer.await,
    };
    let mut response = match outcome {
        Ok(response) => response,
        Err(error) => {
            error.log("a request was not served");
            error.into_json_response(context.record.id())
        }
    };
    if let Some(standing) = context.standing() {
        standing.tell(response.headers_mut());
    }
    response
}

async fn answer_asked(
    asked: Asked,
    context: &Arc<Context>,
    request: Request,
) -> Result<Response<Bytes>, HttpError> {
    match asked {
        Asked::Endpoint(endpoint) if endpoint.levels.contains(&context.level()) => {
            context.record.set_summary(endpoint.id);
            serve(endpoint, context, request).await
        }
        Asked::Endpoint(_) | Asked::Nothing => Err(refuse(context, nothing_here()).await),
        Asked::OtherMethod => Err(refuse(context, HttpError::method_unknown()).await),
    }
}

fn nothing_here() -> HttpError {
    HttpError::absent(
        "There is nothing at this URL. /_apis/openapi.json of this server says what there is, and OPTIONS /_apis lists \
         its resources.",
    )
}

/// Refuses what there is no handler for, to those whom the gate lets in; the others hear the gate.
async fn refuse(context: &Arc<Context>, error: HttpError) -> HttpError {
    // What takes no token says so to a token, and to a password what it would say to any caller that it takes.
    let takes_password =
        endpoint::all().any(|endpoint| endpoint.proof == Proof::Password && endpoint.is_at(&context.path));
    let proof = if takes_password && !context.has_token() {
        Proof::Password
    } else {
        Proof::Token
    };
    match authenticate(context, proof, Operation::Discover).await {
        Ok(_) => error,
        Err(refusal) => refusal,
    }
}

async fn serve(
    endpoint: &'static Endpoint,
    context: &Arc<Context>,
    request: Request,
) -> Result<Response<Bytes>, HttpError> {
    let (parts, mut body) = request.into_parts();
    let caller = authenticate(context, endpoint.proof, endpoint.operation).await?;
    let base = context.base.clone().map_err(|error| {
        HttpError::bad_request("The request does not say which host it is for. Send a Host header.")
            .because(error)
    })?;
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    let version = version::negotiate(&parts.method, query.version(), &parts.headers, endpoint.versions)?;
    let values = query.read(endpoint.params)?;
    let sent = match endpoint.body {
        Some(_) => {
            body::check_type(&parts.headers)?;
            let encoding = Encoding::from_headers(&parts.headers)?;
            let times = (context.settings.stall_max, body::TIME_MAX);
            let sent = request_body::collect_within(&mut body, body::BYTES_MAX, times, &context.record);
            Some((sent.await?, encoding))
        }
        None => None,
    };
    drop(body);
    let place = place(context, endpoint.operation, &caller).await?;
    // Whoever stops the server waits for what runs; a change is never cut once it began.
    let running = context.engines.enter_uncut();
    let (answer, answered) = oneshot::channel();
    let call = move |context: Arc<Context>| {
        let body = match sent {
            Some((sent, encoding)) => request_body::decode(sent, encoding, body::BYTES_MAX)?,
            None => Bytes::new(),
        };
        let caller = authorize_again(&context, caller, endpoint.operation)?;
        let call = Call {
            endpoint,
            context,
            base,
            caller,
            values,
            body,
        };
        (endpoint.run)(&call)
    };
    let task = tokio::task::spawn_blocking({
        let context = Arc::clone(context);
        move || {
            let _held = (place, running);
            let mut reply = call(context);
            let then = reply.as_mut().ok().and_then(|reply| reply.then.take());
            // Nobody may be there any more to hear it; what follows is done all the same.
            let _ = answer.send(reply);
            if let Some(then) = then {
                then.run();
            }
        }
    });
    // Dropped where nobody waits for the answer any more.
    let _here = context.presence.until_dropped();
    let reply = match answered.await {
        Ok(reply) => reply?,
        Err(_) => {
            let cause = task.await.err().map(|error| error.to_string());
            return Err(HttpError::internal(format_args!("{}: {cause:?}", endpoint.id)));
        }
    };
    Ok(respond(
        reply,
        &format!("application/json; charset=utf-8; api-version={version}"),
    ))
}

/// Waits for a place among the handlers that run: what walks through a history has its own.
async fn place(context: &Context, operation: Operation, caller: &Caller) -> Result<Place, HttpError> {
    let shared = &context.shared;
    let wait_max = context.settings.queue_wait_max;
    if operation == Operation::UpdateRefs
        && let Caller::Token(principal) = caller
        && let Some(walker) = walker(principal)
    {
        return Ok(Place::Turn(shared.turns.acquire(walker, wait_max).await?));
    }
    Ok(Place::Call(shared.calls.acquire(wait_max).await?))
}

fn walker(principal: &Principal) -> Option<Walker> {
    let account = || principal.account_id().map(Walker::Account);
    principal.token().cloned().map(Walker::Token).or_else(account)
}

/// A place among the handlers that run, held until it is dropped.
#[expect(dead_code, reason = "only held")]
enum Place {
    Call(Permit),
    Turn(Turn),
}

/// Asks the gate who calls, and whether they may do `operation` at all.
async fn authenticate(
    context: &Arc<Context>,
    proof: Proof,
    operation: Operation,
) -> Result<Caller, HttpError> {
    if proof == Proof::Nothing {
        return Ok(Caller::Nobody);
    }
    let place = Arc::clone(&context.gate_places).acquire_owned().await;
    let place = place.map_err(|error| HttpError::internal(format_args!("the gate: {error}")))?;
    let task = tokio::task::spawn_blocking({
        let context = Arc::clone(context);
        move || {
            let _place = place;
            let gate = &context.shared.services.gate;
            let authorization = context.authorization.as_ref().map(HeaderValue::as_bytes);
            if proof == Proof::Password {
                let signed_in = gate.sign_in_by_header(authorization, context.client.clone())?;
                let account = signed_in.account();
                context.record.set_principal(Some(&account.name), None);
                context.count(Who::Account(account.id))?;
                return Ok(Caller::SignedIn(signed_in));
            }
            let principal = gate.authenticate(authorization, context.client.clone())?;
            context
                .record
                .set_principal(principal.account(), principal.token_id());
            if let Some(token) = principal.token() {
                context.count(Who::Token(token.clone()))?;
            }
            gate.authorize_api(&principal, operation)?;
            Ok(Caller::Token(principal))
        }
    });
    let outcome = task
        .await
        .unwrap_or_else(|error| Err(HttpError::internal(format_args!("the gate: {error}"))));
    if let Err(error) = &outcome {
        context.metrics.count_refusal(error.status().as_u16());
    }
    outcome
}

/// Asks the gate once more, by what holds when the request is there and its turn has come, which may be long after it
/// was let in.
fn authorize_again(context: &Context, caller: Caller, operation: Operation) -> Result<Caller, HttpError> {
    let gate = &context.shared.services.gate;
    let asked = match caller {
        Caller::Token(principal) => gate
            .authorize_api(&principal, operation)
            .map(|()| Caller::Token(principal)),
        Caller::SignedIn(signed_in) => gate.sign_in_again(&signed_in).map(Caller::SignedIn),
        Caller::Nobody => Ok(Caller::Nobody),
    };
    asked.map_err(|refusal| {
        let error = HttpError::from(refusal);
        context.metrics.count_refusal(error.status().as_u16());
        error
    })
}

fn respond(reply: Reply, content_type: &str) -> Response<Bytes> {
    let has_body = reply.body.is_some();
    let mut response = Response::new(Bytes::from(reply.body.unwrap_or_default()));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers::no_cache(headers);
    if has_body && let Ok(content_type) = HeaderValue::from_str(content_type) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    for (name, value) in reply.headers {
        headers.append(name, value);
    }
    response
}
