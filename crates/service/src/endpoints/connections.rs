//! Connections of the endpoints, with limits: slow or many clients must not use up memory, file
//! descriptors or tasks of a worker.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::certificate::Certificate;

/// Maximum number of connections; further clients wait. Far above the number of scrapers and probes.
const MAX_CONNECTIONS: usize = 64;

/// Time limit of a request's head, also of the next one on an open connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit of a whole connection, for clients that do not read their answers. Scrapers connect
/// again.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(1);

/// Maximum size of a request's head, bytes. hyper needs at least 8 KiB.
const MAX_HEAD: usize = 16 << 10;

/// Pause after an error such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves connections until the runtime ends, encrypted if there is a certificate.
pub(super) async fn serve(listener: TcpListener, router: Router, certificate: Option<Certificate>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                let acceptor = certificate.as_ref().map(Certificate::acceptor);
                tokio::spawn(async move {
                    match acceptor {
                        None => serve_connection(stream, router).await,
                        Some(acceptor) => serve_encrypted(stream, &acceptor, router).await,
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_encrypted(stream: TcpStream, acceptor: &TlsAcceptor, router: Router) {
    match tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => serve_connection(stream, router).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake of the endpoints failed"),
        Err(_) => {}
    }
}

async fn serve_connection(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // Clients may close a connection at any time.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
}
