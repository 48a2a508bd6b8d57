//! HTTP endpoints `/metrics`, `/healthz` and `/readyz` of a worker.
//!
//! `/healthz` shows that the process answers. `/readyz` shows whether it can do its work
//! ([`Readiness`]); a restart does not fix the reasons that it reports.

mod exposition;
mod process;
mod readiness;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use exposition::plain_text;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

pub use exposition::open_metrics;
pub use readiness::Readiness;

/// Content type of the encoder's format, for scrapers that accept it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Content type of the older format, for all other clients: `promtool check metrics`, older scrapers.
const PLAIN_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Creates a registry with the metrics of every worker: process, version and readiness.
#[must_use]
pub fn registry(program: &'static str, readiness: &Readiness) -> Registry {
    let mut registry = Registry::default();
    registry
        .register_collector(Box::new(process::ProcessCollector::new(program, readiness.clone())));
    registry
}

#[derive(Clone)]
struct EndpointState {
    registry: Arc<Registry>,
    readiness: Readiness,
}

/// Starts to serve until the runtime ends. Returns the address, with the chosen port if `listen` has
/// port 0; fails if the address is not available.
pub async fn serve(
    listen: SocketAddr,
    registry: Registry,
    readiness: Readiness,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(show_readiness))
        .with_state(EndpointState { registry: Arc::new(registry), readiness });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "metrics endpoint failed");
        }
    });
    Ok(address)
}

async fn show_metrics(State(served): State<EndpointState>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let text = open_metrics(&served.registry);
    if accept.contains("application/openmetrics-text") {
        ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response()
    } else {
        ([(CONTENT_TYPE, PLAIN_TEXT)], plain_text(&text)).into_response()
    }
}

async fn show_readiness(State(served): State<EndpointState>) -> Response {
    match served.readiness.reason() {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}
