//! `patgate serve`: starts the server, says where it is, and stops it in order.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::args::CommonArgs;
use super::output::CliError;
use crate::auth::{self, Gate};
use crate::config::{Config, Overrides, Transport};
use crate::http::backend::Patgate;
use crate::http::{App, Capacity};
use crate::names::RepoPath;
use crate::repository::{Repositories, registry};
use crate::server::first_start::{self, FirstStart};
use crate::server::housekeeping;
use crate::server::reload::{self, Reload};
use crate::server::tls::Tls;
use crate::server::{Command, Options, Server, Timeouts};
use crate::store::{DATABASE_FILE, Store};
use crate::telemetry::{self, LogControl};

/// Threads that may block beside those of requests: for reading settings and certificates, and for sweeping.
const OTHER_THREADS_MAX: usize = 3;

/// How long threads that still block may take when the process ends; no engine is among them.
const RUNTIME_GOODBYE: Duration = Duration::from_secs(2);

/// What `patgate serve` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  patgate serve
  patgate serve --listen 0.0.0.0:443 --tls-cert cert.pem --tls-key key.pem
  patgate serve --listen 127.0.0.1:8080 --plain-http
  patgate serve --listen 10.0.0.5:8080 --plain-http --behind-proxy 10.0.0.1

SIGTERM and SIGINT let running requests end, a second one stops at once. SIGHUP reads settings and certificates again.")]
pub struct ServeArgs {
    /// Listen here; port 0 takes any that is free [default: 127.0.0.1:8443].
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// The server's certificate, PEM; without it the server makes its own.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Speak HTTP without TLS: on a loopback address, or behind a proxy.
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key"])]
    pub plain_http: bool,
    /// Believe X-Forwarded-For and X-Forwarded-Proto from these networks; can be repeated.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub behind_proxy: Vec<String>,
    /// Make no sample repository on the first start.
    #[arg(long)]
    pub no_sample: bool,
    /// Let public repositories be fetched without a token.
    #[arg(long)]
    pub allow_anonymous_read: bool,
    /// Follow symbolic links out of the directory of repositories.
    #[arg(long)]
    pub follow_symlinks: bool,
    /// Answer /_metrics and the details of /_health here, in plain HTTP and without a credential.
    #[arg(long, value_name = "ADDR:PORT")]
    pub ops_listen: Option<String>,
    /// Write log lines for people or as JSON [default: human].
    #[arg(long, value_name = "human|json")]
    pub log_format: Option<String>,
    /// Log from this level on: error, warn, info, debug or trace [default: info].
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

impl ServeArgs {
    fn overrides(self, common: &CommonArgs) -> Overrides {
        // A flag that is not there leaves the variable and the file their say.
        let flag = |is_set: bool| is_set.then_some(true);
        Overrides {
            listen: self.listen,
            tls_cert: self.tls_cert,
            tls_key: self.tls_key,
            plain_http: flag(self.plain_http),
            behind_proxy: (!self.behind_proxy.is_empty()).then_some(self.behind_proxy),
            no_sample: flag(self.no_sample),
            allow_anonymous_read: flag(self.allow_anonymous_read),
            follow_symlinks: flag(self.follow_symlinks),
            ops_listen: self.ops_listen,
            log_format: self.log_format,
            log_level: self.log_level,
            ..common.overrides()
        }
    }
}

/// Runs the server until it is told to stop.
///
/// # Errors
///
/// When it cannot start.
pub fn run(args: ServeArgs, common: &CommonArgs) -> Result<(), CliError> {
    let overrides = args.overrides(common);
    let config = Config::resolve(overrides.clone())?;
    let log = telemetry::start(config.log_format, &config.log_level).map_err(fail)?;
    let connections = connections_max(config.limits.connections, raise_open_files_max());
    if connections < config.limits.connections {
        tracing::warn!(
            connections,
            "fewer connections than configured: the limit of open files is too low (ulimit -Hn)"
        );
    }
    // The store makes the data directory, for its owner only, so it goes before the certificates in it.
    let store = Store::open(&config.data_dir.join(DATABASE_FILE))?;
    let tls = reload::tls_files(&config).map_err(fail)?;
    let options = registry::Options {
        follow_symlinks: config.follow_symlinks,
        ..registry::Options::default()
    };
    let repositories = Repositories::at(config.repos.clone(), options).map_err(fail)?;
    repositories.sweep().map_err(fail)?;
    let first = first_start::prepare(&config.data_dir, &store, &repositories, config.sample).map_err(fail)?;
    let gate_options = auth::Options {
        allow_anonymous_read: config.allow_anonymous_read,
        ..auth::Options::default()
    };
    let gate = Gate::new(store, gate_options);
    let capacity = Capacity {
        transfers: config.limits.transfers,
        queue: config.limits.transfer_queue,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(capacity.threads_max().saturating_add(OTHER_THREADS_MAX))
        .build()?;
    let authority = tls.as_ref().and_then(|ensured| ensured.authority.clone());
    let tls = tls
        .map(|ensured| Tls::new(ensured.files).map(Arc::new))
        .transpose()
        .map_err(fail)?;
    let app = App::new(
        Patgate::new(gate.clone(), repositories),
        reload::settings(&config),
        capacity,
    );
    let served = runtime.block_on(serve(Start {
        app,
        gate: gate.clone(),
        tls,
        authority,
        first,
        log,
        config,
        connections,
        overrides,
    }));
    gate.shutdown();
    runtime.shutdown_timeout(RUNTIME_GOODBYE);
    served
}

/// Lets this process open as many files as it may, and returns how many that are. The soft limit of 1024 that most
/// systems start with is there for programs that use select(2).
fn raise_open_files_max() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(cause = %error, "cannot raise the limit of open files");
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many connections there may be with at most `files` open files: half of them are kept for repositories and the
/// database, or idle connections alone could make every request fail.
fn connections_max(configured: usize, files: u64) -> usize {
    usize::try_from(files / 2).map_or(configured, |half| configured.min(half.max(1)))
}

/// All that a server starts with.
struct Start {
    app: Arc<App<Patgate>>,
    gate: Gate,
    tls: Option<Arc<Tls>>,
    authority: Option<PathBuf>,
    first: Option<FirstStart>,
    log: LogControl,
    config: Config,
    connections: usize,
    overrides: Overrides,
}

async fn serve(start: Start) -> Result<(), CliError> {
    let Start {
        app,
        gate,
        tls,
        authority,
        first,
        log,
        config,
        connections,
        overrides,
    } = start;
    // From here on a signal ends the server in order.
    let mut signals = Signals::listen()?;
    let server = Server::bind(Arc::clone(&app), tls.clone(), &options(&config, connections)).map_err(fail)?;
    let address = server.local_addr();
    let scheme = if config.transport == Transport::PlainHttp {
        "http"
    } else {
        "https"
    };
    if let Some(first) = first {
        let mut text = welcome(&first, scheme, address, authority.as_deref())?;
        text.push('\n');
        io::stderr().write_all(text.as_bytes())?;
        first.shown().map_err(fail)?;
    }
    if let Some(address) = server.ops_addr() {
        tracing::info!(%address, "answering operators");
    }
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on {scheme}://{address}").and_then(|()| stdout.flush())?;
    let watcher = tls
        .clone()
        .map(|tls| tokio::spawn(reload::watch_certificate(tls, config.clone())));
    let housekeeper = tokio::spawn(housekeeping::keep(gate));
    let (commands, receiver) = mpsc::channel(1);
    let mut running = Reload {
        app,
        tls,
        log,
        config,
    };
    let signals = tokio::spawn(async move {
        while let Some(signal) = signals.next().await {
            match signal {
                // The second one waits for room, which the server makes when it takes the first.
                Asked::Stop => {
                    if commands.send(Command::Stop).await.is_err() {
                        return;
                    }
                }
                Asked::Reload => running = read_again(running, overrides.clone()).await,
            }
        }
    });
    server.run(receiver).await;
    signals.abort();
    housekeeper.abort();
    if let Some(watcher) = watcher {
        watcher.abort();
    }
    Ok(())
}

async fn read_again(mut running: Reload<Patgate>, overrides: Overrides) -> Reload<Patgate> {
    let kept = (
        Arc::clone(&running.app),
        running.tls.clone(),
        running.log.clone(),
        running.config.clone(),
    );
    let task = tokio::task::spawn_blocking(move || {
        match Config::resolve(overrides) {
            Ok(config) => running.apply(config),
            Err(error) => tracing::error!(cause = %error, "settings stay as they are"),
        }
        running
    });
    task.await.unwrap_or_else(|_panic| {
        let (app, tls, log, config) = kept;
        Reload {
            app,
            tls,
            log,
            config,
        }
    })
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Reload,
    Stop,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Option<Asked> {
        tokio::select! {
            asked = self.terminate.recv() => asked.map(|()| Asked::Stop),
            asked = self.interrupt.recv() => asked.map(|()| Asked::Stop),
            asked = self.hangup.recv() => asked.map(|()| Asked::Reload),
        }
    }
}

fn options(config: &Config, connections_max: usize) -> Options {
    let timeouts = &config.timeouts;
    Options {
        listen: config.listen,
        ops_listen: config.ops_listen,
        header_bytes_max: config.limits.header_bytes,
        connections_max,
        timeouts: Timeouts {
            handshake: timeouts.handshake,
            head: timeouts.head,
            idle: timeouts.idle,
            stall: timeouts.stall,
            drain: timeouts.drain,
        },
    }
}

fn fail(error: impl std::error::Error) -> CliError {
    CliError::from_error(&error)
}

/// What a new server's owner reads, once.
fn welcome(
    first: &FirstStart,
    scheme: &str,
    address: SocketAddr,
    authority: Option<&Path>,
) -> Result<String, CliError> {
    let authority = authority.map(std::path::absolute).transpose()?;
    let mut text = format!(
        "\nThis is the first start. Keep what follows: it is shown only once.\n\n\
         administrator   {}\npassword        {} (Git takes the token only; change it with 'patgate user set-password admin')\n\
         token           {} (Code, read and write; 30 days)\n",
        first_start::ADMIN,
        first.password.expose(),
        first.token.expose(),
    );
    if let Some(authority) = &authority {
        text.push_str(&format!("authority       {}\n", authority.display()));
    }
    if let Some(sample) = &first.sample {
        let command = clone_command(
            scheme,
            reachable(address),
            first.token.expose(),
            sample,
            authority.as_deref(),
            std::env::var_os("GIT_SSL_CAINFO").is_some(),
        );
        text.push_str(&format!("\nClone the sample repository:\n\n  {command}\n"));
        if let Some(path) = authority
            .as_deref()
            .filter(|_| std::env::var_os("GIT_SSL_CAINFO").is_some())
        {
            text.push_str(&format!(
                "\nGIT_SSL_CAINFO is set here, and git prefers it to what the clone keeps. For push and fetch:\n\n  \
                 export GIT_SSL_CAINFO={}\n",
                quote(&path.display().to_string())
            ));
        }
    }
    Ok(text)
}

/// The address under which this machine reaches `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The command to paste. Where `GIT_SSL_CAINFO` is set (`has_other_authorities`), git prefers it to the configuration
/// that the clone keeps, so it is set for the clone too.
fn clone_command(
    scheme: &str,
    address: SocketAddr,
    token: &str,
    repository: &RepoPath,
    authority: Option<&Path>,
    has_other_authorities: bool,
) -> String {
    let trust = authority.map_or_else(String::new, |path| {
        format!("-c {} ", quote(&format!("http.sslCAInfo={}", path.display())))
    });
    let environment = match authority {
        Some(path) if has_other_authorities => {
            format!("GIT_SSL_CAINFO={} ", quote(&path.display().to_string()))
        }
        _ => String::new(),
    };
    let url = format!("{scheme}://pat:{token}@{address}{}", repository.url_path());
    format!("{environment}git clone {trust}{}", quote(&url))
}

/// Quotes `text` for a POSIX shell if it needs that.
fn quote(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@,%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_half_of_the_files_to_repositories() {
        assert_eq!(connections_max(1024, 1 << 20), 1024);
        assert_eq!(connections_max(1024, 1024), 512);
        assert_eq!(connections_max(10, 1), 1);
        assert_eq!(connections_max(1024, u64::MAX), 1024);
    }

    #[test]
    fn the_clone_command_works_as_pasted() {
        let sample = RepoPath::parse("DefaultCollection/Sample/Sample").unwrap();
        let address = reachable("0.0.0.0:8443".parse().unwrap());
        assert_eq!(
            clone_command(
                "https",
                address,
                "pgt_x",
                &sample,
                Some(Path::new("/srv/pat gate/it's/ca.pem")),
                false
            ),
            "git clone -c 'http.sslCAInfo=/srv/pat gate/it'\\''s/ca.pem' \
             https://pat:pgt_x@127.0.0.1:8443/DefaultCollection/_git/Sample"
        );
        let address = reachable("[::]:80".parse().unwrap());
        assert_eq!(
            clone_command("http", address, "pgt_x", &sample, None, true),
            "git clone 'http://pat:pgt_x@[::1]:80/DefaultCollection/_git/Sample'"
        );
        let command = clone_command(
            "https",
            address,
            "pgt_x",
            &sample,
            Some(Path::new("/ca.pem")),
            true,
        );
        assert!(
            command.starts_with("GIT_SSL_CAINFO=/ca.pem git clone -c http.sslCAInfo=/ca.pem "),
            "{command}"
        );
    }
}
