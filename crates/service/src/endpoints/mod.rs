//! HTTP endpoints `/metrics`, `/healthz` and `/readyz` of a worker.
//!
//! `/healthz` shows that the process answers. `/readyz` shows whether it can do its work
//! ([`Readiness`]); a restart does not fix the reasons that it reports.

mod args;
mod certificate;
mod connections;
mod exposition;
mod process;
mod readiness;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use exposition::plain_text;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::secret::Secret;

pub use args::EndpointArgs;
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
    /// Token that `/metrics` needs.
    token: Option<Secret>,
}

/// Starts to serve until the runtime ends. Returns the address, with the chosen port if `--listen`
/// has port 0; fails if the address is not available.
pub async fn serve(
    args: &EndpointArgs,
    registry: Registry,
    readiness: Readiness,
) -> io::Result<SocketAddr> {
    let token = args.token().map_err(io::Error::other)?;
    let certificate = args.certificate()?;
    let listener = TcpListener::bind(args.listen).await?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(show_readiness))
        .with_state(EndpointState { registry: Arc::new(registry), readiness, token });
    tokio::spawn(connections::serve(listener, router, certificate));
    Ok(address)
}

async fn show_metrics(State(served): State<EndpointState>, headers: HeaderMap) -> Response {
    if !served.token.as_ref().is_none_or(|token| is_authorized(&headers, token)) {
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], "token required\n")
            .into_response();
    }
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let text = open_metrics(&served.registry);
    if accept.contains("application/openmetrics-text") {
        ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response()
    } else {
        ([(CONTENT_TYPE, PLAIN_TEXT)], plain_text(&text)).into_response()
    }
}

/// Compares in a time that does not depend on the position of the first difference.
fn is_authorized(headers: &HeaderMap, token: &Secret) -> bool {
    let given = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(7));
    let Some((scheme, given)) = given else { return false };
    let expected = token.expose().as_bytes();
    let difference = given.iter().zip(expected).fold(0, |all, (a, b)| all | (a ^ b));
    scheme.eq_ignore_ascii_case(b"Bearer ") && given.len() == expected.len() && difference == 0
}

async fn show_readiness(State(served): State<EndpointState>) -> Response {
    match served.readiness.reason() {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests;
