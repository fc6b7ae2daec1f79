//! Sockets: listening, TLS, HTTP/1.1 and HTTP/2, time limits, stopping.
//!
//! Owns every task that a connection runs in. Does not know routes or Git. Invariants: beyond the bound of connections
//! none is accepted; each wait for a client has a limit; when [`Server::run`] returns, no engine runs and no ref
//! transaction was cut.
//!
//! HTTP/2 is chosen by ALPN (`h2`, `http/1.1`), without TLS by prior knowledge. RFC 9112, RFC 9113, RFC 8446.

pub mod authority;
mod connection;
pub mod first_start;
pub mod housekeeping;
pub mod reload;
mod timed_io;
pub mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::connection::Timeouts;
use self::connection::{Shared, Side};
use self::tls::Tls;
use crate::http::App;
use crate::http::backend::Backend;

/// Connections to the address for operation; it has no queue of its own to protect.
const OPERATION_CONNECTIONS_MAX: usize = 32;

/// How long to wait after a failed accept, which is a lack of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long an answer may still take to get out once its engine was told to stop.
const LAST_WORD_MAX: Duration = Duration::from_secs(1);

/// Sockets that wait to be accepted.
const BACKLOG: u32 = 1024;

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where Git's clients connect.
    pub listen: SocketAddr,
    /// Where operators do, in plain HTTP.
    pub ops_listen: Option<SocketAddr>,
    /// Bytes of a request's head.
    pub header_bytes_max: usize,
    /// Open connections.
    pub connections_max: usize,
    /// Time limits.
    pub timeouts: Timeouts,
}

/// What a running server is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Stop: at first running requests may end, the second time they may not.
    Stop,
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// A server that listens, and accepts once it runs.
pub struct Server<B> {
    shared: Arc<Shared<B>>,
    listener: TcpListener,
    operation: Option<TcpListener>,
    address: SocketAddr,
    connections_max: usize,
}

impl<B: Backend> Server<B> {
    /// Listens for `app`'s clients; plain HTTP without `tls`.
    ///
    /// # Errors
    ///
    /// When an address cannot be listened on.
    pub fn bind(app: Arc<App<B>>, tls: Option<Arc<Tls>>, options: &Options) -> Result<Self, Error> {
        let (listener, address) = listen(options.listen)?;
        let operation = options
            .ops_listen
            .map(listen)
            .transpose()?
            .map(|(listener, _)| listener);
        let shared = Arc::new(Shared {
            app,
            tls,
            http: connection::builder(&options.timeouts, options.header_bytes_max),
            timeouts: options.timeouts,
            drain: CancellationToken::new(),
            stop: CancellationToken::new(),
        });
        Ok(Server {
            shared,
            listener,
            operation,
            address,
            connections_max: options.connections_max,
        })
    }

    /// The address that clients reach, with the port it got.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where the listener for operation is, if there is one.
    pub fn ops_addr(&self) -> Option<SocketAddr> {
        self.operation.as_ref()?.local_addr().ok()
    }

    /// Serves until it is told to stop.
    ///
    /// The first [`Command::Stop`] ends accepting and lets running requests end, for at most `timeouts.drain`. The
    /// second, or that limit, interrupts what runs. An engine past its commit point is always waited for.
    pub async fn run(self, mut commands: mpsc::Receiver<Command>) {
        let Server {
            shared,
            listener,
            operation,
            connections_max,
            ..
        } = self;
        let tasks = TaskTracker::new();
        tasks.spawn(accept(
            Arc::clone(&shared),
            listener,
            Side::Main,
            connections_max,
            tasks.clone(),
        ));
        if let Some(operation) = operation {
            let shared = Arc::clone(&shared);
            tasks.spawn(accept(
                shared,
                operation,
                Side::Operation,
                OPERATION_CONNECTIONS_MAX,
                tasks.clone(),
            ));
        }
        // A closed channel means that nobody can ask any more: stop.
        let _first = commands.recv().await;
        tracing::info!("stopping: no new connections, running requests may end");
        shared.app.start_draining();
        shared.drain.cancel();
        tasks.close();
        let finished = async {
            tasks.wait().await;
            shared.app.engines_idle().await;
        };
        let is_drained = tokio::select! {
            outcome = timeout(shared.timeouts.drain, finished) => outcome.is_ok(),
            Some(Command::Stop) = commands.recv() => false,
        };
        if !is_drained {
            tracing::warn!("stopping now: running requests are interrupted");
            shared.app.stop_engines();
            // A push past its commit point can still tell its client.
            let _elapsed = timeout(LAST_WORD_MAX, tasks.wait()).await;
            shared.stop.cancel();
            tasks.wait().await;
            shared.app.engines_idle().await;
        }
        tracing::info!("stopped");
    }
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let socket = || -> io::Result<(TcpListener, SocketAddr)> {
        let socket = if address.is_ipv4() {
            tokio::net::TcpSocket::new_v4()?
        } else {
            tokio::net::TcpSocket::new_v6()?
        };
        // A restart must not wait for the connections of the process before it.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    socket().map_err(|source| Error::Listen { address, source })
}

async fn accept<B: Backend>(
    shared: Arc<Shared<B>>,
    listener: TcpListener,
    side: Side,
    connections_max: usize,
    tasks: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let drain = shared.drain.clone();
    loop {
        // A place first: clients beyond the bound wait in the kernel's queue, and cost nothing here.
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((place, listener.accept().await))
        };
        let (place, accepted) = tokio::select! {
            next = next => match next {
                Some(next) => next,
                None => return,
            },
            () = drain.cancelled() => return,
        };
        match accepted {
            Ok((socket, from)) => {
                let shared = Arc::clone(&shared);
                tasks.spawn(async move {
                    connection::serve(shared, socket, from, side).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(cause = %error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
