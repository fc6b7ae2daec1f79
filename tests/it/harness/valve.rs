//! A wire between clients and a server that lets through as much as a test says.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::{Remote, Server};

/// How long bytes that a test waits for may take to pass.
const PASS_LIMIT: Duration = Duration::from_secs(120);

/// Both directions of all connections that go through one port; they end with the test's process.
pub struct Valve {
    address: SocketAddr,
    up: Arc<Gauge>,
    down: Arc<Gauge>,
}

/// One direction: what may pass, and what has.
#[derive(Default)]
pub struct Gauge {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    allowed: u64,
    passed: u64,
}

impl Valve {
    /// A wire to `server` that lets `up` bytes pass from its clients and `down` bytes to them.
    pub fn new(server: &Server, up: u64, down: u64) -> Valve {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let gauge = |allowed| {
            let gauge = Gauge::default();
            gauge.allow(allowed);
            Arc::new(gauge)
        };
        let valve = Valve {
            address: listener.local_addr().expect("the port has an address"),
            up: gauge(up),
            down: gauge(down),
        };
        let (up, down) = (Arc::clone(&valve.up), Arc::clone(&valve.down));
        let target = server.authority().to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(&target).expect("the server listens");
                for (gauge, from, to) in [(&up, &client, &server), (&down, &server, &client)] {
                    let gauge = Arc::clone(gauge);
                    let (from, to) = (from.try_clone(), to.try_clone());
                    let (from, to) = (from.expect("a socket"), to.expect("a socket"));
                    std::thread::spawn(move || gauge.carry(from, to));
                }
            }
        });
        valve
    }

    /// What clients send.
    pub fn up(&self) -> &Gauge {
        &self.up
    }

    /// What the server sends.
    pub fn down(&self) -> &Gauge {
        &self.down
    }

    /// `remote`, at the other end of this wire.
    pub fn remote(&self, remote: &Remote) -> Remote {
        let scheme = remote.base.split("://").next().expect("a scheme");
        Remote {
            base: format!("{scheme}://{}", self.address),
            ..remote.clone()
        }
    }
}

impl Gauge {
    /// Lets everything pass.
    pub const EVERYTHING: u64 = u64::MAX;

    /// Lets `bytes` more pass.
    pub fn allow(&self, bytes: u64) {
        let mut state = self.lock();
        state.allowed = state.allowed.saturating_add(bytes);
        self.changed.notify_all();
    }

    /// How much has passed.
    pub fn passed(&self) -> u64 {
        self.lock().passed
    }

    /// Waits until `bytes` have passed.
    #[track_caller]
    pub fn wait_for(&self, bytes: u64) {
        let is_short = |state: &mut State| state.passed < bytes;
        let waited = self.changed.wait_timeout_while(self.lock(), PASS_LIMIT, is_short);
        let (state, elapsed) = waited.expect("no test panics while it holds a gauge");
        assert!(!elapsed.timed_out(), "only {} bytes passed", state.passed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds a gauge")
    }

    /// Nothing is read that may not pass, so that the sender feels it.
    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let is_shut = |state: &mut State| state.passed >= state.allowed;
            let state = self.changed.wait_while(self.lock(), is_shut);
            let state = state.expect("no test panics while it holds a gauge");
            let room = usize::try_from(state.allowed - state.passed).unwrap_or(usize::MAX);
            drop(state);
            let end = buffer.len().min(room);
            let count = from.read(&mut buffer[..end]).unwrap_or(0);
            if count == 0 || to.write_all(&buffer[..count]).is_err() {
                break;
            }
            self.lock().passed += count as u64;
            self.changed.notify_all();
        }
        // Either end may be gone already.
        drop(to.shutdown(Shutdown::Write));
        drop(from.shutdown(Shutdown::Read));
    }
}
