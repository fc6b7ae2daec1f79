//! Every setting by its name, as far as one source gives it.

use serde::Deserialize;

use super::values::{Count, FromText, Size, Span, Value};
use super::{Config, DEFAULT_LISTEN, Error, Limits, Overrides, Timeouts, Transport, VARIABLE_PREFIX};
use crate::telemetry::{self, LogFormat};

/// The least that `header-bytes` stands for.
const HEADER_BYTES_MIN: usize = 8 << 10;

/// Declares settings once, for the file, for variables and for putting one source over another.
macro_rules! settings {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty = $key:literal,)* } tables { $($table:ident: $inner:ty = $table_key:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            $(#[serde(rename = $key)] pub(super) $field: Option<Value<$type>>,)*
            $(#[serde(rename = $table_key, default)] pub(super) $table: $inner,)*
        }

        impl $name {
            /// Takes from `other` what it gives.
            pub(super) fn override_with(&mut self, other: Self) {
                $(if other.$field.is_some() { self.$field = other.$field; })*
                $(self.$table.override_with(other.$table);)*
            }

            /// Takes the value of the variable `key`, which is written as in the file; tells whether there is such a key.
            fn set(&mut self, key: &str, text: &str) -> Result<bool, &'static str> {
                match key {
                    $($key => {
                        self.$field = Some(Value(<$type>::from_text(text).ok_or(<$type>::EXPECTED)?));
                        Ok(true)
                    })*
                    _ => {
                        $(if let Some(key) = key.strip_prefix(concat!($table_key, "-")) {
                            return self.$table.set(key, text);
                        })*
                        Ok(false)
                    }
                }
            }
        }
    };
}

settings! {
    /// What one source says.
    Settings {
        data_dir: std::path::PathBuf = "data-dir",
        repos: std::path::PathBuf = "repos",
        listen: std::net::SocketAddr = "listen",
        ops_listen: std::net::SocketAddr = "ops-listen",
        tls_cert: std::path::PathBuf = "tls-cert",
        tls_key: std::path::PathBuf = "tls-key",
        plain_http: bool = "plain-http",
        behind_proxy: Vec<ipnet::IpNet> = "behind-proxy",
        no_sample: bool = "no-sample",
        allow_anonymous_read: bool = "allow-anonymous-read",
        follow_symlinks: bool = "follow-symlinks",
        log_format: LogFormat = "log-format",
        log_level: String = "log-level",
    } tables {
        limits: LimitSettings = "limits",
        timeouts: TimeoutSettings = "timeouts",
    }
}

settings! {
    /// The table `[limits]`.
    LimitSettings {
        connections: Count = "connections",
        transfers: Count = "transfers",
        transfer_queue: Count = "transfer-queue",
        header_bytes: Size = "header-bytes",
        fetch_request_bytes: Size = "fetch-request-bytes",
        fetch_wants: Count = "fetch-wants",
        fetch_haves: Count = "fetch-haves",
        push_commands_bytes: Size = "push-commands-bytes",
        push_commands: Count = "push-commands",
        push_pack_bytes: Size = "push-pack-bytes",
        push_object_bytes: Size = "push-object-bytes",
        push_objects: Count = "push-objects",
        push_delta_depth: Count = "push-delta-depth",
        push_inflated_bytes: Size = "push-inflated-bytes",
        push_threads: Count = "push-threads",
        disk_reserve: Size = "disk-reserve",
        rest_token_per_minute: Count = "rest-token-per-minute",
        rest_address_per_minute: Count = "rest-address-per-minute",
    } tables {}
}

settings! {
    /// The table `[timeouts]`.
    TimeoutSettings {
        handshake: Span = "handshake",
        head: Span = "head",
        idle: Span = "idle",
        stall: Span = "stall",
        queue: Span = "queue",
        drain: Span = "drain",
    } tables {}
}

impl Settings {
    pub(super) fn from_toml(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Takes `PATGATE_DATA_DIR`, `PATGATE_LIMITS_TRANSFERS` and so on. Others that begin so are not ours.
    pub(super) fn from_variables(variables: &[(String, String)]) -> Result<Self, Error> {
        let mut settings = Settings::default();
        for (name, text) in variables {
            let Some(key) = name.strip_prefix(VARIABLE_PREFIX) else {
                continue;
            };
            let key = key.to_ascii_lowercase().replace('_', "-");
            settings.set(&key, text).map_err(|expected| Error::Variable {
                name: name.clone(),
                message: format!("expected {expected}"),
            })?;
        }
        Ok(settings)
    }

    pub(super) fn from_flags(flags: Overrides) -> Result<Self, Error> {
        fn parse<T: FromText>(flag: &'static str, text: Option<String>) -> Result<Option<Value<T>>, Error> {
            let Some(text) = text else { return Ok(None) };
            let value = T::from_text(&text);
            value.map(|value| Some(Value(value))).ok_or_else(|| Error::Flag {
                flag,
                message: format!("'{}' is not {}", telemetry::printable(&text, 100), T::EXPECTED),
            })
        }
        if let Some(level) = &flags.log_level {
            telemetry::check_level(level).map_err(|error| Error::Flag {
                flag: "log-level",
                message: error.to_string(),
            })?;
        }
        Ok(Settings {
            data_dir: flags.data_dir.map(Value),
            repos: flags.repos.map(Value),
            listen: parse("listen", flags.listen)?,
            ops_listen: parse("ops-listen", flags.ops_listen)?,
            tls_cert: flags.tls_cert.map(Value),
            tls_key: flags.tls_key.map(Value),
            plain_http: flags.plain_http.map(Value),
            behind_proxy: parse("behind-proxy", flags.behind_proxy.map(|list| list.join(",")))?,
            no_sample: flags.no_sample.map(Value),
            allow_anonymous_read: flags.allow_anonymous_read.map(Value),
            follow_symlinks: flags.follow_symlinks.map(Value),
            log_format: parse("log-format", flags.log_format)?,
            log_level: flags.log_level.map(Value),
            ..Settings::default()
        })
    }

    /// Drops what `source` decides otherwise under another name: a TLS certificate and plain HTTP exclude each other.
    pub(super) fn give_way_to(&mut self, source: &Settings) {
        if source.plain_http == Some(Value(true)) {
            self.tls_cert = None;
            self.tls_key = None;
        }
        if source.tls_cert.is_some() || source.tls_key.is_some() {
            self.plain_http = None;
        }
    }

    /// Fills in defaults and checks what goes together.
    pub(super) fn check(self) -> Result<Config, Error> {
        let listen = or(self.listen, DEFAULT_LISTEN);
        let behind_proxy = or(self.behind_proxy, Vec::new());
        let plain_http = or(self.plain_http, false);
        let transport = match (plain_http, self.tls_cert, self.tls_key) {
            (false, None, None) => Transport::Tls(None),
            (false, Some(Value(cert)), Some(Value(key))) => Transport::Tls(Some((cert, key))),
            (true, None, None) => Transport::PlainHttp,
            (false, _, _) => {
                return Err(Error::Conflict(
                    "tls-cert and tls-key go together: give both, or none of them",
                ));
            }
            (true, _, _) => {
                return Err(Error::Conflict(
                    "plain-http and a TLS certificate exclude each other: leave one of them out",
                ));
            }
        };
        if plain_http && !listen.ip().is_loopback() && behind_proxy.is_empty() {
            return Err(Error::Conflict(
                "plain-http on an address that others reach would send tokens in the open: listen on 127.0.0.1, leave \
                 plain-http out, or name the proxy that does TLS with behind-proxy",
            ));
        }
        let log_level = or(self.log_level, "info".to_owned());
        telemetry::check_level(&log_level)?;
        Ok(Config {
            data_dir: or(self.data_dir, "data".into()),
            repos: or(self.repos, "repos".into()),
            listen,
            ops_listen: self.ops_listen.map(|Value(address)| address),
            transport,
            behind_proxy,
            sample: !or(self.no_sample, false),
            allow_anonymous_read: or(self.allow_anonymous_read, false),
            follow_symlinks: or(self.follow_symlinks, false),
            log_format: or(self.log_format, LogFormat::Human),
            log_level,
            limits: self.limits.check(),
            timeouts: self.timeouts.check(),
        })
    }
}

impl LimitSettings {
    fn check(self) -> Limits {
        let mut limits = Limits::default();
        let Limits {
            connections,
            transfers,
            transfer_queue,
            header_bytes,
            fetch,
            push,
            rest,
        } = &mut limits;
        count(connections, self.connections);
        count(transfers, self.transfers);
        count(transfer_queue, self.transfer_queue);
        size(header_bytes, self.header_bytes);
        // HTTP/1 cannot do with less, and HTTP/2 would refuse everything.
        *header_bytes = (*header_bytes).max(HEADER_BYTES_MIN);
        size(&mut fetch.request_bytes_max, self.fetch_request_bytes);
        count(&mut fetch.wants_count_max, self.fetch_wants);
        count(&mut fetch.haves_count_max, self.fetch_haves);
        size(&mut push.commands_bytes_max, self.push_commands_bytes);
        count(&mut push.commands_count_max, self.push_commands);
        size(&mut push.pack_bytes_max, self.push_pack_bytes);
        size(&mut push.object_bytes_max, self.push_object_bytes);
        count(&mut push.objects_count_max, self.push_objects);
        count(&mut push.delta_depth_max, self.push_delta_depth);
        size(&mut push.inflated_bytes_max, self.push_inflated_bytes);
        count(&mut push.threads, self.push_threads);
        size(&mut push.disk_reserve_bytes, self.disk_reserve);
        count(&mut rest.token_per_minute, self.rest_token_per_minute);
        count(&mut rest.address_per_minute, self.rest_address_per_minute);
        limits
    }
}

impl TimeoutSettings {
    fn check(self) -> Timeouts {
        let default = Timeouts::default();
        let span = |value: Option<Value<Span>>, default| value.map_or(default, |Value(Span(span))| span);
        Timeouts {
            handshake: span(self.handshake, default.handshake),
            head: span(self.head, default.head),
            idle: span(self.idle, default.idle),
            stall: span(self.stall, default.stall),
            queue: span(self.queue, default.queue),
            drain: span(self.drain, default.drain),
        }
    }
}

fn or<T>(value: Option<Value<T>>, default: T) -> T {
    value.map_or(default, |Value(value)| value)
}

/// Sets a bound; one that is too large for its type means as much as fits.
fn count<T: TryFrom<u64>>(bound: &mut T, value: Option<Value<Count>>) {
    if let Some(Value(Count(value))) = value {
        set(bound, value);
    }
}

fn size<T: TryFrom<u64>>(bound: &mut T, value: Option<Value<Size>>) {
    if let Some(Value(Size(value))) = value {
        set(bound, value);
    }
}

fn set<T: TryFrom<u64>>(bound: &mut T, value: u64) {
    if let Ok(value) = T::try_from(value).or_else(|_| T::try_from(u64::from(u32::MAX))) {
        *bound = value;
    }
}
