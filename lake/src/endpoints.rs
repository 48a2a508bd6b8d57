//! `/metrics`, `/healthz` and `/readyz` of a worker.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

/// Prometheus' text format, in the version that the encoder writes.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Encodes a worker's metrics at the time of a scrape.
pub type Encode = Arc<dyn Fn() -> String + Send + Sync>;

/// Why the worker is not ready, or nothing. Ready means: it could do its work now.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<Option<String>>>);

impl Readiness {
    /// Not ready yet.
    #[must_use]
    pub fn starting() -> Self {
        Self(Arc::new(Mutex::new(Some("starting".to_owned()))))
    }

    /// Ready from now on, or why not.
    pub fn set(&self, ready: Result<(), String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ready.err();
    }

    fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Clone)]
struct Served {
    metrics: Encode,
    readiness: Readiness,
}

/// Serves until the runtime ends; errors when it cannot listen there. Returns the address, whose port may have been chosen just now.
pub async fn serve(
    listen: SocketAddr,
    metrics: Encode,
    readiness: Readiness,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
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
    ([(CONTENT_TYPE, METRICS_TYPE)], (served.metrics)()).into_response()
}

async fn show_readiness(State(served): State<Served>) -> Response {
    match served.readiness.reason() {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}
