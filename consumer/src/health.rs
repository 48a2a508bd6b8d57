//! `/metrics`, `/healthz` and `/readyz`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::error::ConsumerError;
use crate::metrics::Metrics;

/// Prometheus' text format, in the version that the encoder writes.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why the worker is not ready, or nothing. Ready means: it could commit now.
#[derive(Clone, Debug)]
pub(crate) struct Readiness(Arc<Mutex<Option<String>>>);

impl Readiness {
    pub(crate) fn starting() -> Self {
        Self(Arc::new(Mutex::new(Some("starting".to_owned()))))
    }

    pub(crate) fn set(&self, ready: Result<(), String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ready.err();
    }

    fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Clone)]
struct Served {
    metrics: Arc<Metrics>,
    readiness: Readiness,
}

/// Serves until the runtime ends; returns the address, whose port may have been chosen just now.
pub(crate) async fn serve(
    listen: SocketAddr,
    metrics: Arc<Metrics>,
    readiness: Readiness,
) -> Result<SocketAddr, ConsumerError> {
    let listener = TcpListener::bind(listen).await.map_err(ConsumerError::Listen)?;
    let address = listener.local_addr().map_err(ConsumerError::Listen)?;
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(show_readiness))
        .with_state(Served { metrics, readiness });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "metrics are not served any more");
        }
    });
    Ok(address)
}

async fn show_metrics(State(served): State<Served>) -> Response {
    ([(CONTENT_TYPE, METRICS_TYPE)], served.metrics.encode()).into_response()
}

async fn show_readiness(State(served): State<Served>) -> Response {
    match served.readiness.reason() {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}
