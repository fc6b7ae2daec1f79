//! One line a request, written when the last byte of its answer is out or its client is gone.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::metrics::{MethodLabel, Metrics, RouteLabel};
use crate::secret::redact_tokens;

/// Longest text of a field, in bytes: three names, their slashes and some escapes.
const FIELD_BYTES_MAX: usize = 512;

/// What is known of a request while it runs. Bytes are counted from both sides of it.
#[derive(Debug)]
pub struct Record {
    id: String,
    method: MethodLabel,
    client: IpAddr,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    details: Mutex<Details>,
}

#[derive(Debug, Default)]
struct Details {
    route: RouteLabel,
    status: Option<u16>,
    account: Option<String>,
    token_id: Option<String>,
    repository: Option<String>,
    summary: Option<String>,
}

impl Record {
    /// Starts a record with a random id.
    pub fn new(method: MethodLabel, client: IpAddr) -> Self {
        Record {
            id: format!("{:016x}", rand::random::<u64>()),
            method,
            client,
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            details: Mutex::default(),
        }
    }

    /// The id by which an administrator finds the request in the log.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Counts bytes of the request's body, as they came over the wire.
    pub fn count_in(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes of the answer's body.
    pub fn count_out(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes what was asked for.
    pub fn set_route(&self, route: RouteLabel) {
        self.with(|details| details.route = route);
    }

    /// Notes the status that is sent.
    pub fn set_status(&self, status: u16) {
        self.with(|details| details.status = Some(status));
    }

    /// Notes who asked: the account's name and the token's public id.
    pub fn set_principal(&self, account: Option<&str>, token_id: Option<&str>) {
        self.with(|details| {
            details.account = account.map(|text| printable(text, FIELD_BYTES_MAX));
            details.token_id = token_id.map(|text| printable(text, FIELD_BYTES_MAX));
        });
    }

    /// Notes which repository was let in to.
    pub fn set_repository(&self, repository: &str) {
        self.with(|details| details.repository = Some(printable(repository, FIELD_BYTES_MAX)));
    }

    /// Notes what an engine did, in its own words.
    pub fn set_summary(&self, summary: &str) {
        self.with(|details| details.summary = Some(printable(summary, FIELD_BYTES_MAX)));
    }

    fn with<T>(&self, change: impl FnOnce(&mut Details) -> T) -> T {
        change(&mut self.details.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a record that nobody logs.
    #[cfg(test)]
    pub fn for_tests() -> Arc<Self> {
        Arc::new(Record::new(MethodLabel::Get, IpAddr::from([127, 0, 0, 1])))
    }
}

/// Writes a request's line when it ends; dropped before that, the request was aborted.
#[derive(Debug)]
pub struct RequestLog {
    record: Arc<Record>,
    metrics: Arc<Metrics>,
    started: Instant,
    is_written: bool,
}

impl RequestLog {
    /// Starts the clock of one request.
    pub fn start(record: Arc<Record>, metrics: Arc<Metrics>) -> Self {
        RequestLog {
            record,
            metrics,
            started: Instant::now(),
            is_written: false,
        }
    }

    /// The request's record.
    pub fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// Says that the whole answer was sent.
    pub fn complete(&mut self) {
        self.write(true);
    }

    fn write(&mut self, is_complete: bool) {
        if std::mem::replace(&mut self.is_written, true) {
            return;
        }
        let duration = self.started.elapsed();
        let record = &self.record;
        let (bytes_in, bytes_out) = (
            record.bytes_in.load(Ordering::Relaxed),
            record.bytes_out.load(Ordering::Relaxed),
        );
        record.with(|details| {
            let status = details.status.unwrap_or(0);
            self.metrics.count_request(
                record.method,
                details.route,
                status,
                duration,
                bytes_in,
                bytes_out,
            );
            tracing::info!(
                request.id = %record.id,
                method = record.method.as_str(),
                route = details.route.as_str(),
                status,
                client = %record.client,
                account = details.account.as_deref(),
                token.id = details.token_id.as_deref(),
                repo.path = details.repository.as_deref(),
                summary = details.summary.as_deref(),
                bytes_in,
                bytes_out,
                duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
                outcome = if is_complete { "complete" } else { "aborted" },
                "request"
            );
        });
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        self.write(false);
    }
}

/// Makes text from outside fit for a log line: control characters and quotes are escaped, of what looks like a token only
/// the public id is left, and it has at most `bytes_max` bytes and an ellipsis.
pub fn printable(text: &str, bytes_max: usize) -> String {
    let mut out = String::new();
    for c in redact_tokens(text, false).chars() {
        let is_plain =
            !c.is_control() && !matches!(c, '"' | '\\' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}');
        let before = out.len();
        if is_plain {
            out.push(c);
        } else {
            // Writing into a String cannot fail.
            let _infallible = write!(out, "{}", c.escape_default());
        }
        if out.len() > bytes_max {
            out.truncate(before);
            out.push('…');
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_forge_a_line_or_flood_the_log() {
        assert_eq!(
            printable("a\nINFO fake\u{1b}[2J\"", 100),
            "a\\nINFO fake\\u{1b}[2J\\\""
        );
        assert_eq!(printable("Git project é", 100), "Git project é");
        assert_eq!(printable(&"é".repeat(100), 5), "éé…");
        let token = format!("pgt_AbCd1234{}", "x".repeat(44));
        for bytes_max in [20, 60, 100] {
            let shown = printable(&format!("C/P/{token}"), bytes_max);
            assert!(
                !shown.contains("xx") && shown.starts_with("C/P/pgt_AbCd1234"),
                "{shown}"
            );
        }
    }

    #[test]
    fn a_request_is_counted_once_however_it_ends() {
        let metrics = Arc::new(Metrics::default());
        let record = Record::for_tests();
        record.set_status(200);
        let mut log = RequestLog::start(Arc::clone(&record), Arc::clone(&metrics));
        log.complete();
        drop(log);
        drop(RequestLog::start(record, Arc::clone(&metrics)));
        let text = metrics.encode(&super::super::Gauges::default());
        assert!(
            text.contains("patgate_requests_total{method=\"GET\",route=\"other\",status=\"200\"} 2"),
            "{text}"
        );
    }
}
