//! Figures for Prometheus, as OpenMetrics text.

use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The method of a request, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MethodLabel {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// Any other.
    Other,
    /// `POST`.
    Post,
}

impl MethodLabel {
    /// The label's text.
    pub fn as_str(self) -> &'static str {
        match self {
            MethodLabel::Get => "GET",
            MethodLabel::Head => "HEAD",
            MethodLabel::Other => "other",
            MethodLabel::Post => "POST",
        }
    }
}

/// What a request asked for, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RouteLabel {
    /// The REST interface.
    Api,
    /// Health and metrics.
    Operation,
    /// Any path that is none of the others.
    #[default]
    Other,
    /// `POST git-receive-pack`.
    ReceivePack,
    /// Its advertisement.
    ReceivePackRefs,
    /// The repository's own URL, and the dumb protocol's.
    Repository,
    /// `POST git-upload-pack`.
    UploadPack,
    /// Its advertisement.
    UploadPackRefs,
}

impl RouteLabel {
    /// The label's text.
    pub fn as_str(self) -> &'static str {
        match self {
            RouteLabel::Api => "api",
            RouteLabel::Operation => "operation",
            RouteLabel::Other => "other",
            RouteLabel::ReceivePack => "receive-pack",
            RouteLabel::ReceivePackRefs => "receive-pack-refs",
            RouteLabel::Repository => "repository",
            RouteLabel::UploadPack => "upload-pack",
            RouteLabel::UploadPackRefs => "upload-pack-refs",
        }
    }
}

impl EncodeLabelValue for MethodLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

impl EncodeLabelValue for RouteLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: MethodLabel,
    route: RouteLabel,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: RouteLabel,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: u16,
}

/// What is true at the moment of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gauges {
    /// Open connections.
    pub connections: usize,
    /// Fetches and pushes whose answers are not out yet.
    pub transfers: usize,
    /// Requests that wait for a place among them.
    pub transfers_queued: usize,
    /// Audit events that could not be written since the start.
    pub audit_events_lost: u64,
}

/// Durations in seconds at which a request is told from a slower one.
const DURATION_BUCKETS: [f64; 12] = [
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0, 300.0, 1800.0,
];

/// All counters of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram>,
    bytes_in: Family<RouteLabels, Counter>,
    bytes_out: Family<RouteLabels, Counter>,
    refusals: Family<StatusLabels, Counter>,
    connections: Gauge,
    transfers: Gauge,
    transfers_queued: Gauge,
    audit_events_lost: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("patgate"),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            bytes_in: Family::default(),
            bytes_out: Family::default(),
            refusals: Family::default(),
            connections: Gauge::default(),
            transfers: Gauge::default(),
            transfers_queued: Gauge::default(),
            audit_events_lost: Counter::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("requests", "Requests that ended", metrics.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from a request's head to the end of its answer",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register_with_unit(
            "request_body",
            "Bodies of requests, as received",
            Unit::Bytes,
            metrics.bytes_in.clone(),
        );
        registry.register_with_unit(
            "response_body",
            "Bodies of answers",
            Unit::Bytes,
            metrics.bytes_out.clone(),
        );
        registry.register(
            "gate_refusals",
            "Requests that the gate refused",
            metrics.refusals.clone(),
        );
        registry.register("connections", "Open connections", metrics.connections.clone());
        registry.register(
            "transfers",
            "Fetches and pushes that run",
            metrics.transfers.clone(),
        );
        registry.register(
            "transfers_queued",
            "Fetches and pushes that wait",
            metrics.transfers_queued.clone(),
        );
        registry.register(
            "audit_events_lost",
            "Audit events that could not be written",
            metrics.audit_events_lost.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// Counts a request that ended; status 0 stands for one that got no answer.
    pub fn count_request(
        &self,
        method: MethodLabel,
        route: RouteLabel,
        status: u16,
        duration: Duration,
        bytes_in: u64,
        bytes_out: u64,
    ) {
        self.requests
            .get_or_create(&RequestLabels {
                method,
                route,
                status,
            })
            .inc();
        let labels = RouteLabels { route };
        self.durations
            .get_or_create(&labels)
            .observe(duration.as_secs_f64());
        self.bytes_in.get_or_create(&labels).inc_by(bytes_in);
        self.bytes_out.get_or_create(&labels).inc_by(bytes_out);
    }

    /// Counts a request that the gate answered with `status`.
    pub fn count_refusal(&self, status: u16) {
        self.refusals.get_or_create(&StatusLabels { status }).inc();
    }

    /// Writes everything as OpenMetrics text.
    pub fn encode(&self, gauges: &Gauges) -> String {
        let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.connections.set(signed(gauges.connections));
        self.transfers.set(signed(gauges.transfers));
        self.transfers_queued.set(signed(gauges.transfers_queued));
        self.audit_events_lost
            .inner()
            .store(gauges.audit_events_lost, Ordering::Relaxed);
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _infallible = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_come_out_as_openmetrics() {
        let metrics = Metrics::default();
        metrics.count_request(
            MethodLabel::Post,
            RouteLabel::UploadPack,
            200,
            Duration::from_millis(20),
            10,
            1000,
        );
        metrics.count_refusal(401);
        let text = metrics.encode(&Gauges {
            connections: 3,
            transfers: 2,
            transfers_queued: 1,
            audit_events_lost: 5,
        });
        for line in [
            "patgate_requests_total{method=\"POST\",route=\"upload-pack\",status=\"200\"} 1",
            "patgate_response_body_bytes_total{route=\"upload-pack\"} 1000",
            "patgate_gate_refusals_total{status=\"401\"} 1",
            "patgate_connections 3",
            "patgate_transfers 2",
            "patgate_transfers_queued 1",
            "patgate_audit_events_lost_total 5",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
