//! How a worker is told to stop.

use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGTERM or Ctrl-C.
pub async fn stop_signal() {
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be listened to");
    tokio::select! {
        interrupted = ctrl_c() => interrupted.expect("Ctrl-C can be listened to"),
        _ = terminate.recv() => {}
    }
}
