//! Retries of dependencies that are unavailable while a consumer starts or opens a topic.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ducktide_protocol::ErrorKind;
use ducktide_service::endpoints::Readiness;
use ducktide_service::telemetry::LogOnChange;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::ConsumerError;
use crate::metrics::{Metrics, RetryCause};
use crate::source::cluster_error::ClusterErrorKind;
use crate::source::inspect::ClusterResult;

/// Time between two attempts.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Retries of unavailable dependencies, without a limit, until the worker stops. Failures are reported in
/// the log, in `/readyz` and in metrics.
pub(crate) struct StartupRetry {
    stop: CancellationToken,
    clock: Clock,
    repeated: Mutex<LogOnChange>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    /// Longest time that a refusal by Kafka is retried; None for no limit.
    refusal_limit: Option<Duration>,
}

impl StartupRetry {
    /// Creates retries that end when `stop` is cancelled.
    pub(crate) fn new(
        stop: CancellationToken,
        clock: Clock,
        metrics: Arc<Metrics>,
        readiness: Readiness,
        refusal_limit: Option<Duration>,
    ) -> Self {
        Self { stop, clock, repeated: Mutex::default(), metrics, readiness, refusal_limit }
    }

    /// Creates the retries of a concurrent task: with failures of its own, stopped together with these.
    pub(crate) fn for_task(&self) -> Self {
        Self {
            stop: self.stop.clone(),
            clock: self.clock.clone(),
            repeated: Mutex::default(),
            metrics: Arc::clone(&self.metrics),
            readiness: self.readiness.clone(),
            refusal_limit: self.refusal_limit,
        }
    }

    /// Reports a failed attempt and waits until the next one is due. Errors after a stop.
    pub(super) async fn wait(
        &self,
        cause: RetryCause,
        what: &str,
        error: &str,
    ) -> Result<(), ConsumerError> {
        self.record_failure(cause, what, error);
        tokio::select! {
            () = tokio::time::sleep(RETRY_PAUSE) => Ok(()),
            () = self.stop.cancelled() => Err(ConsumerError::Stopped),
        }
    }

    /// Retries a call while the lake is unavailable. Errors after a stop.
    pub(super) fn call_lake<T>(
        &self,
        what: &str,
        mut call: impl FnMut() -> ducktide_protocol::Result<T>,
    ) -> Result<T, ConsumerError> {
        loop {
            self.check_stop()?;
            match call() {
                Ok(value) => {
                    self.record_answer(what);
                    return Ok(value);
                }
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    let what = format!("cannot {what} yet, retrying");
                    self.record_failure(RetryCause::Lake, &what, &error.chain());
                    thread::sleep(RETRY_PAUSE);
                }
                Err(error) => return Err(ConsumerError::Lake(error)),
            }
        }
    }

    /// Retries a query until the topic exists and its brokers answer. Refusals are retried as well, because
    /// an operator can lift them, up to the limit. Errors after a stop.
    pub(super) fn call_cluster<T>(
        &self,
        what: &str,
        call: impl Fn() -> ClusterResult<Option<T>>,
    ) -> Result<T, ConsumerError> {
        let mut refused_since = None;
        loop {
            self.check_stop()?;
            let (reason, kind) = match call() {
                Ok(Some(found)) => {
                    self.record_answer(what);
                    self.metrics.reading.refused(false);
                    return Ok(found);
                }
                Ok(None) => {
                    let reason = "the topic does not exist: create it, or correct --topics";
                    (reason.to_owned(), ClusterErrorKind::Refusal)
                }
                Err(error) => (error.to_string(), error.kind()),
            };
            match kind {
                ClusterErrorKind::Settings => return Err(ConsumerError::KafkaSettings(reason)),
                ClusterErrorKind::Refusal => {
                    let now = self.clock.now();
                    let since = *refused_since.get_or_insert(now);
                    if self.refusal_limit.is_some_and(|limit| now - since >= limit) {
                        return Err(ConsumerError::KafkaRefuses(reason));
                    }
                }
                ClusterErrorKind::Outage => refused_since = None,
            }
            self.metrics.reading.refused(kind == ClusterErrorKind::Refusal);
            let what = format!("cannot {what} yet, retrying");
            self.record_failure(RetryCause::Kafka, &what, &reason);
            thread::sleep(RETRY_PAUSE);
        }
    }

    fn check_stop(&self) -> Result<(), ConsumerError> {
        if self.stop.is_cancelled() { Err(ConsumerError::Stopped) } else { Ok(()) }
    }

    /// Reports a failed attempt. Each reason is logged once.
    fn record_failure(&self, cause: RetryCause, what: &str, error: &str) {
        self.metrics.batching.retried(cause);
        let reason = format!("{what}: {error}");
        let mut repeated = self.repeated.lock().unwrap_or_else(PoisonError::into_inner);
        if repeated.is_new(&reason) {
            tracing::warn!(error, "{what}");
        }
        self.readiness.set(Err(reason));
    }

    /// Logs the first success after failures.
    fn record_answer(&self, what: &str) {
        let mut repeated = self.repeated.lock().unwrap_or_else(PoisonError::into_inner);
        if repeated.recovered() {
            tracing::info!("{what}: answered");
        }
    }
}
