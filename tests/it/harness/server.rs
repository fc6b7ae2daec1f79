//! The real server on a port of its own, with a data directory and a repository root that go away with it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;

use super::{Patgate, Remote, Token};

/// Servers that may run at a time: each has a thread pool, and a laptop has few cores.
const SERVERS_MAX: usize = 6;

static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// How long a server may take to listen. The first start hashes a password and makes two key pairs.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a line of the log may take to arrive.
const LOG_LIMIT: Duration = Duration::from_secs(20);

/// How long a server that was told to go may take.
const END_LIMIT: Duration = Duration::from_secs(60);

/// A data directory, a repository root and how to start a server on them.
#[derive(Clone)]
pub struct Setup {
    dir: Arc<TempDir>,
    args: Vec<String>,
    is_plain: bool,
    cli: Patgate,
}

impl Setup {
    fn new(is_plain: bool, args: &[&str]) -> Setup {
        let dir = tempfile::tempdir().expect("a folder for a server");
        for name in ["data", "repos", "work"] {
            std::fs::create_dir(dir.path().join(name)).expect("a folder for a server");
        }
        let cli = Patgate::new(
            &dir.path().join("data"),
            &dir.path().join("repos"),
            &dir.path().join("work"),
        );
        Setup {
            dir: Arc::new(dir),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            is_plain,
            cli,
        }
    }

    /// HTTPS with the certificate that the first start makes; no sample repository.
    pub fn tls() -> Setup {
        Setup::new(false, &["--no-sample"])
    }

    /// HTTP without TLS; no sample repository.
    pub fn plain() -> Setup {
        Setup::new(true, &["--no-sample", "--plain-http"])
    }

    /// As a person starts it: HTTPS and a sample repository.
    pub fn first_start() -> Setup {
        Setup::new(false, &[])
    }

    /// One more argument of `serve`.
    pub fn arg(mut self, arg: &str) -> Setup {
        self.args.push(arg.to_owned());
        self
    }

    /// The command line for this data directory.
    pub fn cli(&self) -> &Patgate {
        &self.cli
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The repository root.
    pub fn repos(&self) -> PathBuf {
        self.dir.path().join("repos")
    }

    /// A folder for clones.
    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// Starts a server and waits until it says where it listens.
    #[track_caller]
    pub fn start(&self) -> Server {
        let permit = Permit::take();
        // Signals go to the server itself, so nothing stands between it and the test.
        let mut command = Command::new(env!("CARGO_BIN_EXE_patgate"));
        let environment = self.cli.command(&[]);
        command.env_clear().envs(
            environment
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(self.data());
        command
            .arg("--repos")
            .arg(self.repos())
            .args(&self.args)
            .current_dir(self.work());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server can be started");

        let log = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let stderr = BufReader::new(child.stderr.take().expect("standard error is piped"));
        let reader = std::thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in stderr.split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    let (lines, grown) = &*log;
                    lines
                        .lock()
                        .expect("no test panics while it reads the log")
                        .push(line);
                    grown.notify_all();
                }
            }
        });
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("standard output is piped"));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // A test that does not look at further lines has dropped its end.
                drop(sender.send(line));
            }
        });
        let mut server = Server {
            setup: self.clone(),
            child,
            base: String::new(),
            lines,
            log,
            reader: Some(reader),
            is_checked: false,
            _permit: permit,
        };
        match server.lines.recv_timeout(START_LIMIT) {
            Ok(line) => match line.strip_prefix("listening on ") {
                Some(base) => server.base = base.trim_end_matches('/').to_owned(),
                None => panic!("the first line must say where the server listens: {line:?}"),
            },
            Err(err) => panic!("the server does not listen ({err}):\n{}", server.log()),
        }
        server
    }
}

/// A server that runs until it is dropped.
pub struct Server {
    setup: Setup,
    child: Child,
    base: String,
    lines: Receiver<String>,
    log: Arc<(Mutex<Vec<String>>, Condvar)>,
    reader: Option<JoinHandle<()>>,
    is_checked: bool,
    _permit: Permit,
}

impl Server {
    /// Scheme, host and port.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Host and port.
    pub fn authority(&self) -> &str {
        self.base.split_once("://").map_or("", |(_, authority)| authority)
    }

    /// The command line for the server's data.
    pub fn cli(&self) -> &Patgate {
        &self.setup.cli
    }

    /// How it was started.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// A folder for clones.
    pub fn work(&self) -> PathBuf {
        self.setup.work()
    }

    /// The server as a client sees it that has `token` in its URLs.
    pub fn remote(&self, token: &Token) -> Remote {
        Remote {
            userinfo: Some(format!("anybody:{}", token.text)),
            ..self.anonymous()
        }
    }

    /// The server as a client sees it that has no credential.
    pub fn anonymous(&self) -> Remote {
        Remote {
            base: self.base.clone(),
            userinfo: None,
            root: self.setup.repos(),
            config: self.client_config(),
            has_git_marker: true,
        }
    }

    fn client_config(&self) -> Vec<(String, String)> {
        if self.setup.is_plain {
            return Vec::new();
        }
        vec![("http.sslCAInfo".to_owned(), self.ca().display().to_string())]
    }

    /// The certificate authority that the first start made.
    pub fn ca(&self) -> PathBuf {
        self.setup.data().join("tls").join("ca.pem")
    }

    /// A contributor to everything, with a token of `scope`, and the server as they see it.
    #[track_caller]
    pub fn contributor(&self, scope: &str) -> (Remote, Token) {
        self.cli().contributor("anna");
        let token = self.cli().token("anna", scope);
        (self.remote(&token), token)
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.log
            .0
            .lock()
            .expect("no test panics while it reads the log")
            .join("\n")
    }

    /// Waits until a line of the log has `text` in it: the client may have its answer before the log is read.
    #[track_caller]
    pub fn logs(&self, text: &str) {
        let (lines, grown) = &*self.log;
        let lines = lines.lock().expect("no test panics while it reads the log");
        let (lines, _) = grown
            .wait_timeout_while(lines, LOG_LIMIT, |lines| {
                !lines.iter().any(|line| line.contains(text))
            })
            .expect("no test panics while it reads the log");
        assert!(
            lines.iter().any(|line| line.contains(text)),
            "the log must have '{text}':\n{}",
            lines.join("\n")
        );
    }

    /// Sends the signal `name`, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        super::run::run(
            super::run::command(Path::new("sh")).args(["-c", "kill -$0 $1", name, &id]),
            b"",
        )
        .ok();
    }

    /// Ends the process without any warning, as a power cut would as far as it is concerned.
    pub fn kill(mut self) -> Setup {
        self.child.kill().expect("the server can be killed");
        self.child.wait().expect("the server ends");
        self.setup.clone()
    }

    /// Waits until the process ends by itself.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        // Standard output closes when the process ends, so this waits for an event and not for time.
        let deadline = std::time::Instant::now() + END_LIMIT;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(std::time::Instant::now()))
            {
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("the server does not end:\n{}", self.log()),
            }
        }
        self.child.wait().expect("the server ends")
    }

    fn check_log(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log can be read");
        }
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("--- log of the server\n{log}");
            return;
        }
        self.is_checked = true;
        assert!(!log.contains("panicked at"), "the server panicked:\n{log}");
        for secret in self.setup.cli.secrets() {
            let encoded = [
                super::cli::basic("", &secret),
                super::cli::basic("anybody", &secret),
            ];
            let encoded = encoded.iter().map(|value| value.trim_start_matches("Basic "));
            for text in encoded.chain([secret.as_str()]) {
                assert!(!log.contains(text), "a credential is in the log:\n{log}");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; both calls fail then, and there is nothing left to end.
        drop(self.child.kill());
        drop(self.child.wait());
        if !self.is_checked {
            self.check_log();
        }
    }
}

/// The right to have one server running.
struct Permit;

impl Permit {
    fn take() -> Permit {
        let (count, changed) = &RUNNING;
        let mut count = count.lock().expect("no test panics while it counts servers");
        while *count >= SERVERS_MAX {
            count = changed
                .wait(count)
                .expect("no test panics while it counts servers");
        }
        *count += 1;
        Permit
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let (count, changed) = &RUNNING;
        *count.lock().unwrap_or_else(std::sync::PoisonError::into_inner) -= 1;
        changed.notify_one();
    }
}
