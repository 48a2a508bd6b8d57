//! Readiness of a worker, and the reason if it is not ready.

use std::sync::{Arc, Mutex, PoisonError};

/// Reason that the worker is not ready, if any.
///
/// Ready means that records that arrive now are committed to the lake shortly.
///
/// - A consumer is ready while no known condition keeps it from committing. It is not ready while it
///   starts or stops; while the catalog, Kafka's brokers or the data path do not answer, or the registry
///   is needed and does not; while a commit takes unusually long; while it reads positions from the lake
///   (after an assignment, or after it was fenced); and while a partition is stopped because Kafka no
///   longer has the lake's offset. A member without partitions is ready: it can take over some.
/// - A compactor is ready while it reaches the catalog, as leader and as standby: a standby takes over
///   within seconds, and an orchestrator would restart one that is not ready.
///
/// Readiness is as recent as the last check: Kafka and the catalog are checked every few seconds, the
/// registry only when an unknown schema is needed.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<Option<String>>>);

impl Readiness {
    /// Creates the readiness of a starting worker: not ready.
    #[must_use]
    pub fn starting() -> Self {
        Self(Arc::new(Mutex::new(Some("starting".to_owned()))))
    }

    /// Sets the worker ready, or the reason that it is not.
    pub fn set(&self, ready: Result<(), String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ready.err();
    }

    pub(super) fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
