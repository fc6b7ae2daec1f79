//! One connection: handshake, HTTP/1.1 or HTTP/2, time limits, shutdown.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::timed_io::{Activity, TimedIo};
use super::tls::Tls;
use crate::http::App;
use crate::http::backend::Backend;
use crate::http::body::ResponseBody;
use crate::http::forwarded::Peer;
use crate::http::stall::Watched;

/// Window of one HTTP/2 stream: at 1 MiB a push fills 100 Mbit/s over 80 ms.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// Window of an HTTP/2 connection, for a few streams at once.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Requests at once on one HTTP/2 connection; git has one.
const STREAMS_MAX: u32 = 64;

/// Bytes that hyper keeps of each HTTP/2 answer.
const SEND_BUFFER_BYTES_MAX: usize = 256 << 10;

/// Streams that a client may reset before they are looked at (CVE-2023-44487), and that it may make the server reset
/// (CVE-2025-8671), before its connection is closed.
const RESET_STREAMS_MAX: usize = 64;

/// How often a silent HTTP/2 client is asked whether it is there, and how long it may take.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How long a connection that is told to end may take before it is cut.
const GOODBYE_MAX: Duration = Duration::from_secs(15);

/// Time limits of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the head of a request, from its first byte; for the first one, from the handshake on.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// For a body that stands still.
    pub stall: Duration,
    /// For what still runs when the server is asked to stop.
    pub drain: Duration,
}

/// Which application a connection reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Clients of Git.
    Main,
    /// Operators: health and metrics.
    Operation,
}

/// What all connections share.
pub(super) struct Shared<B> {
    pub(super) app: Arc<App<B>>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) http: Builder<StreamExecutor>,
    pub(super) timeouts: Timeouts,
    /// No new requests; running ones end.
    pub(super) drain: CancellationToken,
    /// Nothing any more.
    pub(super) stop: CancellationToken,
}

/// Runs HTTP/2 streams as tasks that end when their client stalls.
#[derive(Debug, Clone)]
pub(super) struct StreamExecutor {
    stall_max: Duration,
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        // The stream's task ends with its connection, which the server owns.
        tokio::spawn(Watched::new(stream, self.stall_max));
    }
}

/// Sets HTTP up: every bound that hyper can hold is set here.
pub(super) fn builder(timeouts: &Timeouts, header_bytes_max: usize) -> Builder<StreamExecutor> {
    let mut builder = Builder::new(StreamExecutor {
        stall_max: timeouts.stall,
    });
    builder
        .http1()
        .timer(TokioTimer::new())
        // Activity measures heads, and unlike hyper tells a slow head from an idle connection.
        .header_read_timeout(None)
        .max_buf_size(header_bytes_max.max(8 << 10));
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .max_header_list_size(u32::try_from(header_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(RESET_STREAMS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(timeouts.stall);
    builder
}

/// Serves one accepted socket to its end.
pub(super) async fn serve<B: Backend>(
    shared: Arc<Shared<B>>,
    socket: TcpStream,
    from: SocketAddr,
    side: Side,
) {
    let _count = shared.app.count_connection();
    // Small answers would wait for the client's delayed acknowledgement: 40 ms each.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(cause = %error, "TCP_NODELAY");
    }
    let activity = Activity::new();
    let io = TimedIo::new(socket, Arc::clone(&activity), shared.timeouts.stall);
    match (&shared.tls, side) {
        (Some(tls), Side::Main) => {
            let handshake = timeout(shared.timeouts.handshake, tls.accept(io));
            let accepted = tokio::select! {
                accepted = handshake => accepted,
                () = shared.drain.cancelled() => return,
            };
            match accepted {
                Ok(Ok(stream)) => drive(&shared, stream, from, side, activity).await,
                Ok(Err(error)) => {
                    tracing::debug!(client = %from.ip(), cause = %error, "TLS handshake failed")
                }
                Err(_elapsed) => tracing::debug!(client = %from.ip(), "TLS handshake took too long"),
            }
        }
        (None, _) | (_, Side::Operation) => drive(&shared, io, from, side, activity).await,
    }
}

async fn drive<B, S>(shared: &Arc<Shared<B>>, io: S, from: SocketAddr, side: Side, activity: Arc<Activity>)
where
    B: Backend,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = Peer {
        address: from.ip(),
        is_tls: shared.tls.is_some(),
    };
    let service = service_fn({
        let activity = Arc::clone(&activity);
        move |request: Request<Incoming>| {
            let active = activity.request(request.version() == Version::HTTP_2);
            answer(Arc::clone(&shared.app), side, request, peer, active)
        }
    });
    let timeouts = shared.timeouts;
    let mut connection = pin!(shared.http.serve_connection(TokioIo::new(io), service));
    // When the connection was told to end.
    let mut goodbye_at = None;
    loop {
        let deadline = match goodbye_at {
            // Once more from the end of the last request on: the last of its answer may still be on its way.
            Some(at) => activity
                .deadline(GOODBYE_MAX, GOODBYE_MAX)
                .map(|idle| idle.max(at + GOODBYE_MAX)),
            None => activity.deadline(timeouts.head, timeouts.idle),
        };
        // A request can begin and end without a word to this loop, so it looks again now and then.
        let wake_at =
            deadline.unwrap_or_else(|| Instant::now() + timeouts.head.min(timeouts.idle).min(GOODBYE_MAX));
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(client = %from.ip(), cause = %error, "connection ended");
                }
                return;
            }
            () = shared.stop.cancelled() => return,
            () = shared.drain.cancelled(), if goodbye_at.is_none() => {
                connection.as_mut().graceful_shutdown();
                goodbye_at = Some(Instant::now());
            }
            () = sleep_until(wake_at) => {
                // Bytes may have come since the deadline was worked out.
                let is_over = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= Instant::now());
                if goodbye_at.is_some() {
                    if deadline.is_some() && is_over(activity.deadline(GOODBYE_MAX, GOODBYE_MAX)) {
                        return;
                    }
                } else if is_over(activity.deadline(timeouts.head, timeouts.idle)) {
                    connection.as_mut().graceful_shutdown();
                    goodbye_at = Some(Instant::now());
                }
            }
        }
    }
}

async fn answer<B: Backend>(
    app: Arc<App<B>>,
    side: Side,
    request: Request<Incoming>,
    peer: Peer,
    active: super::timed_io::ActiveRequest,
) -> Result<Response<ResponseBody>, Infallible> {
    let response = match side {
        Side::Main => app.respond(request, peer).await,
        Side::Operation => app.respond_to_operator(&request),
    };
    Ok(response.map(|body| body.holding(active)))
}
