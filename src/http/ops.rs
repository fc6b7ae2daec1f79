//! What operators and load balancers ask: health and metrics.

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use super::body::Content;
use crate::telemetry::Gauges;

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Content> {
    let mut response = Response::new(Content::Full(text.into()));
    *response.status_mut() = status;
    super::headers::no_cache(response.headers_mut());
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// The process is up.
pub(super) fn live() -> Response<Content> {
    text(StatusCode::OK, "ok\n")
}

/// The process takes requests, or it is about to stop. `details` are for operators only.
pub(super) fn ready(is_draining: bool, details: Option<Gauges>) -> Response<Content> {
    let (status, word) = if is_draining {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        (StatusCode::OK, "ok")
    };
    let details = details.map_or_else(String::new, |gauges| {
        format!(
            "connections {}\ntransfers {}\ntransfers_queued {}\n",
            gauges.connections, gauges.transfers, gauges.transfers_queued
        )
    });
    text(status, format!("{word}\n{details}"))
}

/// All figures.
pub(super) fn metrics(encoded: String) -> Response<Content> {
    let mut response = text(StatusCode::OK, encoded);
    let openmetrics = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, openmetrics);
    response
}

/// Any other path of the address for operation.
pub(super) fn nothing_here() -> Response<Content> {
    text(
        StatusCode::NOT_FOUND,
        "There is /_health/live, /_health/ready and /_metrics here.\n",
    )
}
