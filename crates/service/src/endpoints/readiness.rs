//! Whether a worker could do its work now, and if not, why not.

use std::sync::{Arc, Mutex, PoisonError};

/// Why the worker is not ready, or nothing.
///
/// Ready means: what comes now will be in the lake shortly.
///
/// - A consumer is ready while nothing that it knows of keeps it from committing. It is not ready
///   while it starts or stops; while the catalog, Kafka's brokers or the data path do not answer, or
///   the registry is needed and does not; while a commit takes suspiciously long; while it asks the
///   lake where to start (after an assignment, or after it was fenced); and while a partition is
///   stopped because Kafka has lost the lake's offset. A member without partitions is ready: it would
///   take some over.
/// - A compactor is ready while it reaches the catalog, whether it leads or stands by: a standby
///   takes over within seconds, and one that were not ready would be restarted for doing its job.
///
/// What is not looked at for a while cannot be known: Kafka is asked every few seconds, the catalog
/// too, the registry only when a schema is met that the worker does not have.
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

    pub(super) fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
