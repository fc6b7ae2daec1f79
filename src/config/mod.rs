//! Settings: flag over `PATGATE_…` variable over `patgate.toml` over default.
//!
//! Owns the names of settings, how their values are written, and which of them go together. Does not know what uses
//! them. Invariants: a key that is none is an error that names it; what comes out is consistent; a setting never holds a
//! secret.

mod settings;
mod values;

use std::env;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use self::settings::Settings;
use crate::limits::{FetchLimits, PushLimits, RestLimits};
use crate::telemetry::{self, LogFormat};

/// The file that is read when it is in the current directory and no other is named.
pub const FILE_NAME: &str = "patgate.toml";

/// Variables that are settings begin so.
const VARIABLE_PREFIX: &str = "PATGATE_";

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Settings that do not go together.
    #[error("{0}")]
    Conflict(&'static str),
    /// The file is no TOML, has a key that is no setting, or a value that cannot be read.
    #[error("in '{}': {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// Not a log level.
    #[error(transparent)]
    LogLevel(#[from] telemetry::Error),
    /// The file cannot be read.
    #[error("cannot read '{}': {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A flag's value cannot be read.
    #[error("--{flag}: {message}")]
    Flag {
        /// The flag without its dashes.
        flag: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A variable's value cannot be read.
    #[error("the variable {name}: {message}")]
    Variable {
        /// The variable.
        name: String,
        /// What is wrong.
        message: String,
    },
}

/// What was given on the command line.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The file to read.
    pub config: Option<PathBuf>,
    /// See [`Config::data_dir`].
    pub data_dir: Option<PathBuf>,
    /// See [`Config::repos`].
    pub repos: Option<PathBuf>,
    /// See [`Config::listen`].
    pub listen: Option<String>,
    /// See [`Transport::Tls`].
    pub tls_cert: Option<PathBuf>,
    /// See [`Transport::Tls`].
    pub tls_key: Option<PathBuf>,
    /// See [`Transport::PlainHttp`].
    pub plain_http: Option<bool>,
    /// See [`Config::behind_proxy`].
    pub behind_proxy: Option<Vec<String>>,
    /// The opposite of [`Config::sample`].
    pub no_sample: Option<bool>,
    /// See [`Config::allow_anonymous_read`].
    pub allow_anonymous_read: Option<bool>,
    /// See [`Config::follow_symlinks`].
    pub follow_symlinks: Option<bool>,
    /// See [`Config::ops_listen`].
    pub ops_listen: Option<String>,
    /// See [`Config::log_format`].
    pub log_format: Option<String>,
    /// See [`Config::log_level`].
    pub log_level: Option<String>,
}

/// All settings, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Holds the database and `tls/`.
    pub data_dir: PathBuf,
    /// Holds the bare repositories.
    pub repos: PathBuf,
    /// Where the server listens.
    pub listen: SocketAddr,
    /// Where it answers operators, in plain HTTP.
    pub ops_listen: Option<SocketAddr>,
    /// How it speaks.
    pub transport: Transport,
    /// Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` count.
    pub behind_proxy: Vec<IpNet>,
    /// Whether the first start makes a sample repository.
    pub sample: bool,
    /// Whether public repositories can be fetched without a token.
    pub allow_anonymous_read: bool,
    /// Whether symbolic links may lead out of `repos`.
    pub follow_symlinks: bool,
    /// How log lines look.
    pub log_format: LogFormat,
    /// From which level on there are log lines, or directives as in `RUST_LOG`.
    pub log_level: String,
    /// Bounds.
    pub limits: Limits,
    /// Time limits.
    pub timeouts: Timeouts,
}

/// How the server speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// TLS; with the certificate and key that an operator supplied, or with the server's own.
    Tls(Option<(PathBuf, PathBuf)>),
    /// Plain HTTP: on this machine only, or behind a proxy.
    PlainHttp,
}

/// Bounds of the server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections. Each costs some 100 KiB at most while it is idle.
    pub connections: usize,
    /// Fetches and pushes at once.
    pub transfers: usize,
    /// Fetches and pushes that wait for a place.
    pub transfer_queue: usize,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Bounds of a fetch.
    pub fetch: FetchLimits,
    /// Bounds of a push.
    pub push: PushLimits,
    /// Bounds of the REST interface.
    pub rest: RestLimits,
}

impl PartialEq for Limits {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

impl Eq for Limits {}

impl Default for Limits {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Limits {
            connections: 1024,
            // A transfer waits for its client more than it computes, so there are many for each processor.
            transfers: processors.saturating_mul(16).clamp(32, 256),
            transfer_queue: 256,
            header_bytes: 64 << 10,
            fetch: FetchLimits::default(),
            push: PushLimits {
                threads: processors.clamp(1, 8),
                ..PushLimits::default()
            },
            rest: RestLimits::default(),
        }
    }
}

/// Time limits of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For a TLS handshake.
    pub handshake: Duration,
    /// For a request's head.
    pub head: Duration,
    /// Between two requests on a connection.
    pub idle: Duration,
    /// For a body that stands still, in either direction.
    pub stall: Duration,
    /// For a place among the transfers.
    pub queue: Duration,
    /// For what runs when the server is asked to stop.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            stall: Duration::from_secs(60),
            queue: Duration::from_secs(30),
            drain: Duration::from_secs(60),
        }
    }
}

impl Config {
    /// Reads the file and the variables, and puts `overrides` over them.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or has a key that is no setting, a value cannot be read, or settings do not go
    /// together.
    pub fn resolve(overrides: Overrides) -> Result<Config, Error> {
        let variables = env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            name.starts_with(VARIABLE_PREFIX)
                .then_some((name, value.to_string_lossy().into_owned()))
        });
        Config::resolve_with(overrides, variables, Path::new(FILE_NAME))
    }

    fn resolve_with(
        overrides: Overrides,
        variables: impl Iterator<Item = (String, String)>,
        usual_file: &Path,
    ) -> Result<Config, Error> {
        let variables: Vec<_> = variables.collect();
        let variable = |name: &str| {
            variables
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, value)| PathBuf::from(value))
        };
        let named = overrides.config.clone().or_else(|| variable("PATGATE_CONFIG"));
        let from_file = match &named {
            Some(path) => Some((read(path)?, path.as_path())),
            None if usual_file.exists() => Some((read(usual_file)?, usual_file)),
            None => None,
        };
        let mut settings = match &from_file {
            Some((text, path)) => Settings::from_toml(text).map_err(|error| Error::File {
                path: path.to_path_buf(),
                message: error.to_string(),
            })?,
            None => Settings::default(),
        };
        for source in [
            Settings::from_variables(&variables)?,
            Settings::from_flags(overrides)?,
        ] {
            settings.give_way_to(&source);
            settings.override_with(source);
        }
        settings.check()
    }
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

/// Where the server listens if nothing else is said.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);

#[cfg(test)]
mod tests;
