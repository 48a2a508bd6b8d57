//! `/metrics`, `/healthz` and `/readyz` of a worker.
//!
//! `/healthz` is about the process alone: it answers, so it lives; a restart would mend nothing that
//! `/readyz` complains of. `/readyz` is about the work: see [`Readiness`].

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

/// The format that the encoder writes, for scrapers that ask for it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The format that everybody reads: `promtool check metrics`, older scrapers, people.
const PLAIN_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A registry with what every worker exports: the process, its version, and whether it is ready.
#[must_use]
pub fn registry(program: &'static str, readiness: &Readiness) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(process::Process::new(program, readiness.clone())));
    registry
}

#[derive(Clone)]
struct Served {
    registry: Arc<Registry>,
    readiness: Readiness,
}

/// Serves until the runtime ends; errors when it cannot listen there. Returns the address, whose port
/// may have been chosen just now.
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
        .with_state(Served { registry: Arc::new(registry), readiness });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "metrics are not served any more");
        }
    });
    Ok(address)
}

async fn show_metrics(State(served): State<Served>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let text = open_metrics(&served.registry);
    if accept.contains("application/openmetrics-text") {
        ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response()
    } else {
        ([(CONTENT_TYPE, PLAIN_TEXT)], plain_text(&text)).into_response()
    }
}

async fn show_readiness(State(served): State<Served>) -> Response {
    match served.readiness.reason() {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}
