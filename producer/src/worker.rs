//! One run from start to end.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::config::Config;
use crate::error::{ProducerError, exit};
use crate::progress::{ProgressDisplay, per_second};
use crate::publish_loop;
use crate::publisher::delivery_context::Totals;
use crate::schema_registry;
use crate::stop_request::StopRequest;

/// Time between two updates of the progress display.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Result of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunSummary {
    /// Records that Kafka acknowledged.
    pub records: u64,
    /// Total size of their values before compression, bytes.
    pub bytes: u64,
    /// Records that were sent but not acknowledged. Some of them may be in the topic.
    pub not_acknowledged: u64,
    /// Time from the first record to the last acknowledgement.
    pub elapsed: Duration,
}

impl RunSummary {
    /// Returns the exit code of the program; `--help` lists them.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        if self.not_acknowledged == 0 { 0 } else { exit::NOT_ACKNOWLEDGED }
    }
}

/// Publishes the records that `config` describes, until `shutdown`.
///
/// After `shutdown` no record is sent. Records in flight have `--shutdown-timeout` to be
/// acknowledged, and the ledger is flushed.
pub async fn run(
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<RunSummary, ProducerError> {
    log_start(&config);
    let (stop, totals) = (StopRequest::default(), Arc::<Totals>::default());
    let mut progress = ProgressDisplay::new(config.total_rows());
    let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
    let mut work = pin!(publish(config, Arc::clone(&totals), stop.clone()));
    let mut shutdown = pin!(shutdown);
    let published = loop {
        tokio::select! {
            published = &mut work => break published,
            () = &mut shutdown, if !stop.is_requested() => {
                tracing::info!("stopping, waiting for outstanding acknowledgements");
                stop.request();
            }
            _ = ticks.tick() => progress.update(totals.acknowledged.load(Ordering::Relaxed)),
        }
    };
    progress.finish();
    let summary = summary(&totals, published?);
    log_end(&summary);
    Ok(summary)
}

/// Registers the schema, then publishes on a thread where blocking is allowed. Returns the time
/// spent publishing.
async fn publish(
    config: Config,
    totals: Arc<Totals>,
    stop: StopRequest,
) -> Result<Duration, ProducerError> {
    let registered = schema_registry::register_events_schema(&config, &stop).await;
    let publishing = move || publish_loop::publish(&config, registered?, totals, &stop);
    match tokio::task::spawn_blocking(publishing).await {
        Ok(Err(ProducerError::Stopped)) => Ok(Duration::ZERO),
        Ok(published) => published,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn summary(totals: &Totals, elapsed: Duration) -> RunSummary {
    RunSummary {
        records: totals.acknowledged.load(Ordering::Relaxed),
        bytes: totals.bytes.load(Ordering::Relaxed),
        not_acknowledged: totals.not_acknowledged.load(Ordering::Relaxed),
        elapsed,
    }
}

fn log_start(config: &Config) {
    tracing::info!(
        topic = config.topic.topic,
        bootstrap_servers = config.kafka.bootstrap_servers,
        schema_registry_url = %config.registry.schema_registry_url,
        rows = config.rows,
        loops = config.loops,
        seed = config.seed,
        compression = config.topic.compression.as_str(),
        ledger = config.ledger.as_ref().map(|path| path.display().to_string()),
        "publishing events"
    );
}

fn log_end(summary: &RunSummary) {
    let RunSummary { records, bytes, not_acknowledged, elapsed } = *summary;
    let records_per_second = per_second(records, elapsed);
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    if not_acknowledged == 0 {
        tracing::info!(records, bytes, elapsed_ms, records_per_second, "publishing finished");
    } else {
        tracing::error!(
            records,
            bytes,
            not_acknowledged,
            elapsed_ms,
            "publishing finished, some records not acknowledged"
        );
    }
}
