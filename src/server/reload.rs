//! What changes while the server runs: settings on SIGHUP, certificates when their files do.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, interval};

use super::authority;
use super::tls::{Tls, TlsFiles};
use crate::config::{Config, Transport};
use crate::http::App;
use crate::http::Settings;
use crate::http::backend::Backend;
use crate::telemetry::LogControl;

/// How often the certificate's files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How often the server's own certificate is asked whether it is near its end.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// The settings of requests that `config` asks for.
pub fn settings(config: &Config) -> Settings {
    Settings {
        fetch: config.limits.fetch.clone(),
        push: config.limits.push.clone(),
        rest: config.limits.rest.clone(),
        proxies: config.behind_proxy.clone(),
        queue_wait_max: config.timeouts.queue,
        stall_max: config.timeouts.stall,
    }
}

/// Finds the certificate that `config` names, or sees to the server's own; `None` for plain HTTP.
///
/// # Errors
///
/// When the server's own certificate can be neither found nor made.
pub fn tls_files(config: &Config) -> Result<Option<authority::Ensured>, authority::Error> {
    match &config.transport {
        Transport::PlainHttp => Ok(None),
        Transport::Tls(Some((cert, key))) => {
            let files = TlsFiles {
                cert: cert.clone(),
                key: key.clone(),
            };
            Ok(Some(authority::Ensured {
                files,
                authority: None,
            }))
        }
        Transport::Tls(None) => authority::ensure(&tls_dir(&config.data_dir), config.listen.ip()).map(Some),
    }
}

fn tls_dir(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("tls")
}

/// A running server, as far as it can be changed.
#[derive(Debug)]
pub struct Reload<B> {
    /// What answers requests.
    pub app: Arc<App<B>>,
    /// Its certificate.
    pub tls: Option<Arc<Tls>>,
    /// Its log.
    pub log: LogControl,
    /// What it was started with, or last changed to.
    pub config: Config,
}

impl<B: Backend> Reload<B> {
    /// Takes over what can change in `config`, and says in the log what needs a restart.
    ///
    /// # Blocking
    ///
    /// Reads files.
    pub fn apply(&mut self, config: Config) {
        if let Err(error) = self.log.set_level(&config.log_level) {
            tracing::error!(cause = %error, "the log level stays");
        }
        for setting in needs_restart(&self.config, &config) {
            tracing::warn!(setting, "a changed setting holds after a restart");
        }
        let config = until_restart(&self.config, config);
        self.app.set_settings(settings(&config));
        if let Some(tls) = &self.tls {
            match tls_files(&config) {
                Ok(Some(ensured)) => {
                    if let Err(error) = tls.reload(ensured.files) {
                        tracing::error!(cause = %error, "the certificate stays");
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::error!(cause = %error, "the certificate stays"),
            }
        }
        tracing::info!("settings and certificate were read again");
        self.config = config;
    }
}

/// Leaves what the certificate depends on as it was: this server listens where it did, and its authority is where it
/// was. Another one would shut out every client that trusts it.
fn until_restart(running: &Config, new: Config) -> Config {
    Config {
        data_dir: running.data_dir.clone(),
        listen: running.listen,
        ..new
    }
}

/// Names the settings that differ and cannot change in a running server.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let limits = |config: &Config| {
        let limits = &config.limits;
        (
            limits.connections,
            limits.transfers,
            limits.transfer_queue,
            limits.header_bytes,
        )
    };
    let timeouts = |config: &Config| {
        let timeouts = &config.timeouts;
        // The limit for bodies is read with each request, and once for sockets.
        (
            timeouts.handshake,
            timeouts.head,
            timeouts.idle,
            timeouts.stall,
            timeouts.drain,
        )
    };
    let is_plain = |config: &Config| config.transport == Transport::PlainHttp;
    [
        ("data-dir", old.data_dir != new.data_dir),
        ("repos", old.repos != new.repos),
        ("listen", old.listen != new.listen),
        ("ops-listen", old.ops_listen != new.ops_listen),
        ("plain-http", is_plain(old) != is_plain(new)),
        (
            "allow-anonymous-read",
            old.allow_anonymous_read != new.allow_anonymous_read,
        ),
        ("follow-symlinks", old.follow_symlinks != new.follow_symlinks),
        ("log-format", old.log_format != new.log_format),
        ("limits", limits(old) != limits(new)),
        ("timeouts", timeouts(old) != timeouts(new)),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

/// Looks after the certificate until it is dropped: takes over changed files, and renews the server's own.
pub async fn watch_certificate(tls: Arc<Tls>, config: Config) {
    let mut look = interval(LOOK_INTERVAL);
    let mut renewed_at = Instant::now();
    loop {
        look.tick().await;
        let is_renewal_due = renewed_at.elapsed() >= RENEWAL_INTERVAL;
        if is_renewal_due {
            renewed_at = Instant::now();
        }
        let (tls, config) = (Arc::clone(&tls), config.clone());
        let looked = tokio::task::spawn_blocking(move || {
            if is_renewal_due && let Err(error) = tls_files(&config) {
                tracing::error!(cause = %error, "cannot renew the certificate");
            }
            match tls.reload_if_changed() {
                Ok(true) => tracing::info!("took over a new certificate"),
                Ok(false) => {}
                Err(error) => tracing::error!(cause = %error, "the certificate stays"),
            }
        });
        if looked.await.is_err() {
            tracing::error!("looking at the certificate failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn config(data_dir: &Path, port: u16) -> Config {
        let empty = data_dir.join("patgate.toml");
        std::fs::write(&empty, "").unwrap();
        Config::resolve(Overrides {
            config: Some(empty),
            data_dir: Some(data_dir.to_owned()),
            listen: Some(format!("127.0.0.1:{port}")),
            ..Overrides::default()
        })
        .unwrap()
    }

    #[test]
    fn another_data_directory_brings_no_other_authority_before_a_restart() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let running = config(old.path(), 1);
        let mut changed = config(new.path(), 2);
        changed.limits.fetch.wants_count_max = 7;
        assert_eq!(needs_restart(&running, &changed), ["data-dir", "listen"]);
        let taken_over = until_restart(&running, changed.clone());
        let files = |config: &Config| tls_files(config).unwrap().unwrap();
        assert_eq!(files(&taken_over), files(&running));
        assert_ne!(files(&taken_over), files(&changed));
        assert_eq!(taken_over.limits.fetch.wants_count_max, 7);
        assert_eq!(
            needs_restart(&taken_over, &changed),
            ["data-dir", "listen"],
            "it is said again at the next SIGHUP"
        );
    }
}
