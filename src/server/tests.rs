//! Real sockets before a backend of the tests' own.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::auth;
use crate::http::backend::{FetchAccess, PushAccess};
use crate::http::error::HttpError;
use crate::http::standing::Standing;
use crate::http::{Capacity, GATE_AT_ONCE, Settings};
use crate::interrupt::Interrupt;
use crate::limits::{FetchLimits, PushLimits, RestLimits};
use crate::names::RepoPath;
use crate::protocol::Version;
use crate::telemetry::Record;

const URL: &str = "/C/P/_git/R";

/// A switch that threads wait for.
#[derive(Debug, Default)]
struct Latch(Mutex<bool>, Condvar);

impl Latch {
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn wait(&self) {
        let mut is_open = self.0.lock().unwrap();
        while !*is_open {
            is_open = self.1.wait(is_open).unwrap();
        }
    }

    async fn opened(self: &Arc<Self>) {
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || this.wait()).await.unwrap();
    }
}

/// Requests that the gate looks at, and that it ever looked at.
#[derive(Debug, Default)]
struct AtGate {
    now: usize,
    ever: usize,
}

#[derive(Debug, Default)]
struct State {
    started: Arc<Latch>,
    go_on: Arc<Latch>,
    ended: Arc<Latch>,
    was_interrupted: AtomicBool,
    at_gate: Mutex<AtGate>,
    gate_moved: Condvar,
    pushed: Mutex<Option<Result<Vec<u8>, io::ErrorKind>>>,
}

/// Lets in who says `Bearer ok`, and `Bearer wait` once the latch is open; knows the repository C/P/R. A fetch of `echo…` sends the request back, of `endless` sends
/// for ever, of `wait` waits for a latch. A push stores what it got, then waits for a latch if it began with `wait`.
#[derive(Debug, Clone, Default)]
struct Double(Arc<State>);

#[derive(Debug)]
struct Access(RepoPath, Arc<State>);

impl Double {
    fn open(&self, candidates: &[RepoPath]) -> Result<Access, HttpError> {
        let path = candidates
            .iter()
            .find(|path| path.key() == "c/p/r")
            .ok_or_else(HttpError::not_found)?;
        Ok(Access(path.clone(), Arc::clone(&self.0)))
    }
}

impl Backend for Double {
    type Principal = ();
    type Fetch = Access;
    type Push = Access;

    fn authenticate(&self, authorization: Option<&[u8]>, _client: auth::Client) -> Result<(), HttpError> {
        match authorization {
            Some(b"Bearer ok") => Ok(()),
            Some(b"Bearer wait") => {
                let move_gate = |change: fn(&mut AtGate)| {
                    change(&mut self.0.at_gate.lock().unwrap());
                    self.0.gate_moved.notify_all();
                };
                move_gate(|at_gate| {
                    at_gate.now += 1;
                    at_gate.ever += 1;
                });
                self.0.go_on.wait();
                move_gate(|at_gate| at_gate.now -= 1);
                Ok(())
            }
            other => Err(HttpError::unauthorized("Use a token.", other.is_some())),
        }
    }

    fn generation(&self) -> Result<u64, HttpError> {
        Ok(1)
    }

    fn note(&self, (): &(), record: &Record) {
        record.set_principal(Some("ann"), Some("0000"));
    }

    fn open_fetch(&self, (): &(), candidates: &[RepoPath]) -> Result<Access, HttpError> {
        self.open(candidates)
    }

    fn open_push(&self, (): &(), candidates: &[RepoPath]) -> Result<Access, HttpError> {
        self.open(candidates)
    }
}

impl FetchAccess for Access {
    fn repository(&self) -> &RepoPath {
        &self.0
    }

    fn standing(&self) -> Standing {
        Standing::new(|| Ok(()))
    }

    fn advertise(&self, _version: Version, out: &mut dyn Write) -> Result<(), HttpError> {
        Ok(out.write_all(b"refs")?)
    }

    fn serve(
        &self,
        _version: Version,
        request: &[u8],
        _limits: &FetchLimits,
        out: &mut dyn Write,
        interrupt: &Interrupt,
        _record: &Record,
    ) -> Result<(), HttpError> {
        self.1.started.open();
        let ends = || {
            self.1
                .was_interrupted
                .store(interrupt.is_triggered(), Ordering::SeqCst);
            self.1.ended.open();
        };
        match request {
            b"endless" => {
                let chunk = vec![0; 64 << 10];
                while out.write_all(&chunk).is_ok() {}
                ends();
                Err(HttpError::internal("nobody listens"))
            }
            b"wait" => {
                out.write_all(b"before ")?;
                out.flush()?;
                self.1.go_on.wait();
                ends();
                Ok(out.write_all(b"after")?)
            }
            echo => Ok(out.write_all(echo)?),
        }
    }
}

impl PushAccess for Access {
    fn repository(&self) -> &RepoPath {
        &self.0
    }

    fn standing(&self) -> Standing {
        Standing::new(|| Ok(()))
    }

    fn advertise(&self, _version: Version, out: &mut dyn Write) -> Result<(), HttpError> {
        Ok(out.write_all(b"refs")?)
    }

    fn serve(
        &self,
        request: &mut dyn Read,
        _limits: &PushLimits,
        out: &mut dyn Write,
        interrupt: &Interrupt,
        _record: &Record,
    ) -> Result<(), HttpError> {
        self.1.started.open();
        let mut got = Vec::new();
        let read = request.read_to_end(&mut got);
        let is_waiting = got.starts_with(b"wait");
        *self.1.pushed.lock().unwrap() = Some(read.map(|_| got).map_err(|error| error.kind()));
        if is_waiting {
            self.1.go_on.wait();
        }
        self.1
            .was_interrupted
            .store(interrupt.is_triggered(), Ordering::SeqCst);
        self.1.ended.open();
        Ok(out.write_all(b"ok refs")?)
    }
}

struct Running {
    double: Double,
    address: SocketAddr,
    ops: SocketAddr,
    commands: mpsc::Sender<Command>,
    task: tokio::task::JoinHandle<()>,
    ca: Option<PathBuf>,
    _dir: tempfile::TempDir,
}

#[derive(Clone)]
struct Setup {
    is_tls: bool,
    connections_max: usize,
    capacity: Capacity,
    timeouts: Timeouts,
    settings: Settings,
}

impl Default for Setup {
    fn default() -> Self {
        let long = Duration::from_secs(60);
        let fetch = FetchLimits {
            request_bytes_max: 1 << 20,
            ..FetchLimits::default()
        };
        let push = PushLimits {
            pack_bytes_max: 1 << 20,
            commands_bytes_max: 1 << 10,
            ..PushLimits::default()
        };
        Setup {
            is_tls: false,
            connections_max: 100,
            capacity: Capacity {
                transfers: 4,
                queue: 4,
            },
            timeouts: Timeouts {
                handshake: long,
                head: long,
                idle: long,
                stall: long,
                drain: long,
            },
            settings: Settings {
                fetch,
                push,
                rest: RestLimits::default(),
                proxies: Vec::new(),
                queue_wait_max: long,
                stall_max: long,
            },
        }
    }
}

async fn start(setup: Setup) -> Running {
    let double = Double::default();
    let dir = tempfile::tempdir().unwrap();
    let app = App::new(double.clone(), setup.settings, setup.capacity);
    let (tls, ca) = if setup.is_tls {
        let ensured = authority::ensure(dir.path(), [127, 0, 0, 1].into()).unwrap();
        (
            Some(Arc::new(Tls::new(ensured.files).unwrap())),
            ensured.authority,
        )
    } else {
        (None, None)
    };
    let options = Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        ops_listen: Some("127.0.0.1:0".parse().unwrap()),
        header_bytes_max: 16 << 10,
        connections_max: setup.connections_max,
        timeouts: setup.timeouts,
    };
    let server = Server::bind(app, tls, &options).unwrap();
    let (address, ops) = (server.local_addr(), server.ops_addr().unwrap());
    let (commands, receiver) = mpsc::channel(4);
    let task = tokio::spawn(server.run(receiver));
    Running {
        double,
        address,
        ops,
        commands,
        task,
        ca,
        _dir: dir,
    }
}

type Sender1 = hyper::client::conn::http1::SendRequest<Full<Bytes>>;
type Sender2 = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

async fn http1(address: SocketAddr) -> Sender1 {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn http2(address: SocketAddr) -> Sender2 {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(16 << 20)
        .handshake(io)
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

fn post(service: &str, body: &'static [u8]) -> Request<Full<Bytes>> {
    Request::post(format!("http://localhost{URL}/git-{service}-pack"))
        .header("host", "localhost")
        .header("authorization", "Bearer ok")
        .header(
            "content-type",
            format!("application/x-git-{service}-pack-request"),
        )
        .body(Full::new(Bytes::from_static(body)))
        .unwrap()
}

/// Sends bytes as they are and returns everything until the server closes.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ok\r\n\r\n")
}

#[tokio::test]
async fn without_a_credential_every_path_answers_401() {
    let server = start(Setup::default()).await;
    for request in [
        format!("GET {URL}/info/refs?service=git-upload-pack HTTP/1.1"),
        "GET /C/P/_git/none/info/refs?service=git-upload-pack HTTP/1.1".into(),
        format!("HEAD {URL} HTTP/1.1"),
        "GET / HTTP/1.1".into(),
        "GET /_metrics HTTP/1.1".into(),
        "GET /C/P/_git/%zz HTTP/1.1".into(),
        format!("DELETE {URL} HTTP/1.1"),
        format!("PUT {URL}/git-upload-pack HTTP/1.1"),
        format!("POST {URL}/git-receive-pack HTTP/1.1\r\nContent-Length: 0"),
        format!("POST {URL}/git-upload-pack HTTP/1.1\r\nContent-Type: text/html\r\nContent-Length: 0"),
    ] {
        let answer = raw(
            server.address,
            &format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n"),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{request}: {answer}");
        assert!(
            answer.contains("www-authenticate: Basic realm=\"patgate\", charset=\"UTF-8\"\r\n"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn heads_are_those_of_git_http_backend_in_its_order() {
    let server = start(Setup::default()).await;
    let answer = raw(
        server.address,
        &get(&format!("{URL}/info/refs?service=git-upload-pack")),
    )
    .await;
    let head = answer.split("\r\n\r\n").next().unwrap();
    let names: Vec<_> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .collect();
    assert_eq!(
        names.get(..4).unwrap(),
        [
            ("expires", "Fri, 01 Jan 1980 00:00:00 GMT"),
            ("pragma", "no-cache"),
            ("cache-control", "no-cache, max-age=0, must-revalidate"),
            ("content-type", "application/x-git-upload-pack-advertisement"),
        ]
    );
    let others: Vec<_> = names.iter().skip(4).map(|(name, _)| *name).collect();
    assert_eq!(others, ["connection", "content-length", "date"]);
}

#[tokio::test]
async fn wrong_methods_types_services_and_paths_get_their_status() {
    let server = start(Setup::default()).await;
    for (request, status) in [
        (get(URL), 200),
        (get(&format!("{URL}/HEAD")), 403),
        (get(&format!("{URL}/info/refs")), 403),
        (get(&format!("{URL}/info/refs?service=git-evil")), 403),
        (get("/C/P/_git/none/info/refs?service=git-evil"), 404),
        (get("/C/P/_git/none"), 404),
        (get("/nothing"), 404),
        (get("/_metrics"), 404),
        (get(&format!("{URL}/git-upload-pack")), 405),
        (get(URL).replace("GET", "DELETE"), 405),
        (get(&format!("{URL}/git-upload-pack")).replace("GET", "POST"), 415),
        (get("/_health/live"), 200),
        (get("/_health/ready").replace("Authorization", "X"), 200),
    ] {
        let answer = raw(server.address, &request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}{answer}"
        );
        if status == 405 {
            assert!(answer.contains("\r\nallow: "), "{answer}");
        }
    }
    let mut encoded = post("upload", b"x");
    encoded
        .headers_mut()
        .insert("content-encoding", "br".parse().unwrap());
    let response = http1(server.address).await.send_request(encoded).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let metrics = raw(server.ops, &get("/_metrics")).await;
    assert!(
        metrics.contains("patgate_requests_total{method=\"GET\",route=\"other\",status=\"404\"} 1"),
        "{metrics}"
    );
    let ready = raw(server.ops, &get("/_health/ready")).await;
    assert!(ready.contains("connections "), "{ready}");
    assert!(raw(server.ops, &get(URL)).await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn both_versions_of_http_share_the_port() {
    let server = start(Setup::default()).await;
    let response = http1(server.address)
        .await
        .send_request(post("upload", b"one"))
        .await
        .unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "one");
    let response = http2(server.address)
        .await
        .send_request(post("upload", b"two"))
        .await
        .unwrap();
    assert_eq!(response.version(), hyper::Version::HTTP_2);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "two");
    let response = http2(server.address)
        .await
        .send_request(post("receive", b"pack"))
        .await
        .unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "ok refs"
    );
    assert_eq!(
        *server.double.0.pushed.lock().unwrap(),
        Some(Ok(b"pack".to_vec()))
    );
}

#[tokio::test]
async fn a_push_that_breaks_off_reaches_its_engine_as_an_error() {
    let server = start(Setup::default()).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST {URL}/git-receive-pack HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ok\r\n\
         Content-Type: application/x-git-receive-pack-request\r\nContent-Length: 100\r\n\r\nhalf"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    server.double.0.started.opened().await;
    drop(socket);
    server.double.0.ended.opened().await;
    assert_eq!(
        *server.double.0.pushed.lock().unwrap(),
        Some(Err(io::ErrorKind::ConnectionReset))
    );
}

#[tokio::test]
async fn a_push_whose_client_leaves_after_the_last_byte_is_finished() {
    let server = start(Setup::default()).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST {URL}/git-receive-pack HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ok\r\n\
         Content-Type: application/x-git-receive-pack-request\r\nContent-Length: 4\r\n\r\nwait"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    while server.double.0.pushed.lock().unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    drop(socket);
    // Another request's answer shows that the server has seen the first one go, or will.
    assert!(raw(server.address, &get(URL)).await.starts_with("HTTP/1.1 200"));
    server.double.0.go_on.open();
    server.double.0.ended.opened().await;
    assert!(!server.double.0.was_interrupted.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_fetch_whose_client_leaves_is_interrupted() {
    for is_http2 in [false, true] {
        let server = start(Setup::default()).await;
        let request = post("upload", b"endless");
        if is_http2 {
            drop(http2(server.address).await.send_request(request).await.unwrap());
        } else {
            drop(http1(server.address).await.send_request(request).await.unwrap());
        }
        server.double.0.ended.opened().await;
        assert!(server.double.0.was_interrupted.load(Ordering::SeqCst));
    }
}

#[tokio::test]
async fn expect_100_continue_is_answered_only_after_the_gate() {
    let server = start(Setup::default()).await;
    let head = |token: &str| {
        format!(
            "POST {URL}/git-receive-pack HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
             Expect: 100-continue\r\nContent-Type: application/x-git-receive-pack-request\r\nContent-Length: 4\r\n\r\n"
        )
    };
    let refused = raw(server.address, &head("bad")).await;
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(head("ok").as_bytes()).await.unwrap();
    let mut line = [0; 25];
    socket.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"0000").await.unwrap();
    let mut rest = String::new();
    socket.read_to_string(&mut rest).await.unwrap();
    assert!(
        rest.starts_with("HTTP/1.1 200 ") && rest.ends_with("ok refs"),
        "{rest}"
    );
}

#[tokio::test]
async fn a_refused_client_that_still_writes_reads_its_refusal() {
    let server = start(Setup::default()).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let length = 4 << 20;
    let head = format!("POST {URL}/git-receive-pack HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&vec![0; length]).await.unwrap();
    let mut status = [0; 12];
    socket.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 401");
}

#[tokio::test]
async fn bodies_and_heads_have_bounds() {
    let server = start(Setup::default()).await;
    let large: &'static [u8] = Box::leak(vec![b'x'; (1 << 20) + 1].into_boxed_slice());
    let response = http2(server.address)
        .await
        .send_request(post("upload", large))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let head = format!(
        "GET {URL} HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
        "a".repeat(40 << 10)
    );
    assert!(raw(server.address, &head).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn beyond_the_queue_clients_are_told_to_come_again() {
    let setup = Setup {
        capacity: Capacity {
            transfers: 1,
            queue: 0,
        },
        ..Setup::default()
    };
    let server = start(setup).await;
    let running = http1(server.address)
        .await
        .send_request(post("upload", b"wait"))
        .await
        .unwrap();
    let refused = http1(server.address)
        .await
        .send_request(post("upload", b"x"))
        .await
        .unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    server.double.0.go_on.open();
    assert_eq!(
        running.into_body().collect().await.unwrap().to_bytes(),
        "before after"
    );
    loop {
        let next = http1(server.address)
            .await
            .send_request(post("upload", b"x"))
            .await
            .unwrap();
        if next.status() == StatusCode::OK {
            break;
        }
    }
}

#[tokio::test]
async fn beyond_the_connections_clients_wait_to_be_accepted() {
    let server = start(Setup {
        connections_max: 1,
        ..Setup::default()
    })
    .await;
    let mut first = http1(server.address).await;
    let response = first.send_request(post("upload", b"x")).await.unwrap();
    response.into_body().collect().await.unwrap();
    let second = tokio::spawn(raw(server.address, Box::leak(get(URL).into_boxed_str())));
    first.ready().await.unwrap();
    assert!(!second.is_finished());
    drop(first);
    assert!(second.await.unwrap().starts_with("HTTP/1.1 200 "));
}

/// Asks until that many connections are open beside the one that asks.
async fn connections(server: &Running, count: usize) {
    let wanted = format!("connections {}\n", count + 1);
    while !raw(server.ops, &get("/_health/ready")).await.contains(&wanted) {}
}

#[tokio::test]
async fn a_request_whose_client_left_before_its_turn_never_comes_to_the_gate() {
    let server = start(Setup {
        connections_max: GATE_AT_ONCE + 40,
        ..Setup::default()
    })
    .await;
    let request = get(URL).replace("Bearer ok", "Bearer wait");
    let mut clients = Vec::new();
    for _ in 0..GATE_AT_ONCE + 40 {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        clients.push(socket);
    }
    connections(&server, clients.len()).await;
    let until = |is_so: fn(&AtGate) -> bool| {
        let state = Arc::clone(&server.double.0);
        tokio::task::spawn_blocking(move || {
            let at_gate = state.at_gate.lock().unwrap();
            let at_gate = state.gate_moved.wait_while(at_gate, |at_gate| !is_so(at_gate));
            at_gate.unwrap().ever
        })
    };
    until(|at_gate| at_gate.now >= GATE_AT_ONCE).await.unwrap();
    drop(clients);
    connections(&server, 0).await;
    server.double.0.go_on.open();
    let ever = until(|at_gate| at_gate.now == 0).await.unwrap();
    assert_eq!(ever, GATE_AT_ONCE);
}

#[tokio::test]
async fn a_silent_slow_or_idle_client_is_let_go() {
    let short = Duration::from_millis(100);
    let mut setup = Setup::default();
    setup.timeouts.head = short;
    setup.timeouts.idle = short;
    let server = start(setup).await;
    assert_eq!(raw(server.address, "").await, "");
    let answer = raw(server.address, &get(URL).replace("Connection: close\r\n", "")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_answer_on_both_versions() {
    let short = Duration::from_millis(200);
    let mut setup = Setup::default();
    setup.timeouts.stall = short;
    setup.settings.stall_max = short;
    let server = start(setup.clone()).await;
    let _unread = http1(server.address)
        .await
        .send_request(post("upload", b"endless"))
        .await
        .unwrap();
    server.double.0.ended.opened().await;
    let server = start(setup).await;
    let mut sender = http2(server.address).await;
    let _unread = sender.send_request(post("upload", b"endless")).await.unwrap();
    server.double.0.ended.opened().await;
    let other = sender.send_request(post("upload", b"still here")).await.unwrap();
    assert_eq!(
        other.into_body().collect().await.unwrap().to_bytes(),
        "still here",
        "only the stream was reset"
    );
}

#[tokio::test]
async fn a_request_body_that_stalls_is_given_up() {
    let mut setup = Setup::default();
    setup.settings.stall_max = Duration::from_millis(100);
    let server = start(setup).await;
    let head = format!(
        "POST {URL}/git-upload-pack HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ok\r\nConnection: close\r\n\
         Content-Type: application/x-git-upload-pack-request\r\nContent-Length: 100\r\n\r\nhalf"
    );
    assert!(raw(server.address, &head).await.starts_with("HTTP/1.1 408 "));
}

#[tokio::test]
async fn a_drain_lets_running_requests_end_and_takes_no_new_ones() {
    let server = start(Setup::default()).await;
    let mut kept = http1(server.address).await;
    let running = kept.send_request(post("upload", b"wait")).await.unwrap();
    let idle = TcpStream::connect(server.address).await.unwrap();
    server.commands.send(Command::Stop).await.unwrap();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!server.task.is_finished());
    server.double.0.go_on.open();
    assert_eq!(
        running.into_body().collect().await.unwrap().to_bytes(),
        "before after"
    );
    server.task.await.unwrap();
    drop(idle);
}

#[tokio::test]
async fn a_second_stop_interrupts_fetches_but_waits_for_engines() {
    let server = start(Setup::default()).await;
    let fetch = http2(server.address)
        .await
        .send_request(post("upload", b"wait"))
        .await
        .unwrap();
    server.commands.send(Command::Stop).await.unwrap();
    server.commands.send(Command::Stop).await.unwrap();
    let broken = fetch.into_body().collect().await;
    assert!(broken.is_err(), "an answer that was cut must not look whole");
    assert!(!server.task.is_finished(), "the engine still runs");
    server.double.0.go_on.open();
    server.task.await.unwrap();
    assert!(server.double.0.was_interrupted.load(Ordering::SeqCst));
}

#[tokio::test]
async fn tls_offers_both_versions_by_alpn_and_takes_a_new_certificate() {
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    let server = start(Setup {
        is_tls: true,
        ..Setup::default()
    })
    .await;
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(server.ca.as_ref().unwrap()).unwrap())
        .unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    for (alpn, expected) in [
        ("h2", Some(&b"h2"[..])),
        ("http/1.1", Some(b"http/1.1")),
        ("", None),
    ] {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        if !alpn.is_empty() {
            config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        }
        let socket = TcpStream::connect(server.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, socket)
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), expected);
        let request = Request::get(format!("https://localhost{URL}"))
            .header("host", "localhost")
            .header("authorization", "Bearer ok")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let io = TokioIo::new(stream);
        let response = if alpn == "h2" {
            let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                .await
                .unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        };
        assert_eq!(response.status(), StatusCode::OK);
    }
    assert!(
        !raw(server.address, &get(URL)).await.contains("HTTP"),
        "no plain HTTP on a TLS port"
    );
}

#[test]
fn a_broken_certificate_does_not_replace_a_working_one() {
    let dir = tempfile::tempdir().unwrap();
    let files = authority::ensure(dir.path(), [127, 0, 0, 1].into())
        .unwrap()
        .files;
    let tls = Tls::new(files.clone()).unwrap();
    assert!(!tls.reload_if_changed().unwrap());
    let good = std::fs::read(&files.cert).unwrap();
    std::fs::write(&files.cert, "no certificate").unwrap();
    assert!(tls.reload_if_changed().is_err());
    assert!(
        !tls.reload_if_changed().unwrap(),
        "what was wrong once is not reported again"
    );
    std::fs::write(&files.cert, [good.as_slice(), b"\n"].concat()).unwrap();
    assert!(tls.reload_if_changed().unwrap());
}
