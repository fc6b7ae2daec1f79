//! Logs and metrics.
//!
//! Owns how a log line looks, the one line that each request gets, and the figures for Prometheus. Does not know what
//! makes a request succeed. Invariants: no credential, query string or user part of a URL is ever handed in; text that
//! came from outside is escaped and bounded; metric labels come from closed sets.

mod metrics;
mod request_log;

use std::io::{self, IsTerminal};
use std::panic;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

pub use metrics::{Gauges, MethodLabel, Metrics, RouteLabel};
pub use request_log::{Record, RequestLog, printable};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For a person.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a level or a list of `target=level`.
    #[error("cannot read the log level '{level}': {source}; use error, warn, info, debug or trace")]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// A word that is no level.
    #[error("'{0}' is not a log level: use error, warn, info, debug or trace")]
    NoLevel(String),
    /// The logger is gone.
    #[error("cannot change the log level: {0}")]
    Reload(#[from] reload::Error),
    /// The process has a logger already.
    #[error("cannot start logging: {0}")]
    Start(#[from] tracing_subscriber::util::TryInitError),
}

/// Changes the level of a running log.
#[derive(Debug, Clone)]
pub struct LogControl(reload::Handle<EnvFilter, Registry>);

impl LogControl {
    /// Logs from `level` on, as [`start`] takes it.
    ///
    /// # Errors
    ///
    /// When `level` is none; the old one stays.
    pub fn set_level(&self, level: &str) -> Result<(), Error> {
        Ok(self.0.reload(filter(level)?)?)
    }
}

/// Starts logging to standard error, for the whole process; panics are logged too.
///
/// `level` is `error`, `warn`, `info`, `debug`, `trace`, or directives as in `RUST_LOG`
/// (`info,patgate::http=debug`).
///
/// # Errors
///
/// When `level` is none of that, or the process logs already.
pub fn start(format: LogFormat, level: &str) -> Result<LogControl, Error> {
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Human => {
            let layer = fmt::layer()
                .with_writer(io::stderr)
                .with_ansi(io::stderr().is_terminal());
            registry.with(layer.with_target(false)).try_init()?;
        }
        LogFormat::Json => {
            registry
                .with(fmt::layer().json().flatten_event(true).with_writer(io::stderr))
                .try_init()?;
        }
    }
    panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let message = text
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or_default();
        let place = panic.location().map(ToString::to_string);
        tracing::error!(cause = printable(message, 300), place, "panic");
    }));
    Ok(LogControl(handle))
}

fn filter(level: &str) -> Result<EnvFilter, Error> {
    // A word alone that is no level would be taken for a target, and silence everything else.
    let is_word = |part: &str| !part.contains(['=', '[', ':']);
    if let Some(word) = level
        .split(',')
        .map(str::trim)
        .find(|part| is_word(part) && !is_level(part))
    {
        return Err(Error::NoLevel(printable(word, 100)));
    }
    EnvFilter::builder().parse(level).map_err(|source| Error::Level {
        level: printable(level, 100),
        source,
    })
}

fn is_level(word: &str) -> bool {
    ["off", "error", "warn", "info", "debug", "trace"]
        .iter()
        .any(|level| word.eq_ignore_ascii_case(level))
}

/// Checks a level without using it.
///
/// # Errors
///
/// When [`start`] would refuse it.
pub fn check_level(level: &str) -> Result<(), Error> {
    filter(level).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused_instead_of_silencing_the_log() {
        for level in ["info", "WARN", "off", "patgate=debug", "warn,hyper=trace"] {
            assert!(check_level(level).is_ok(), "{level}");
        }
        for level in ["loud", "", "info,loud", "patgate"] {
            assert!(check_level(level).is_err(), "{level}");
        }
    }
}
