//! Metrics of the consumer for Prometheus, one module for each stage of the data.
//!
//! Metrics are updated once per run of records, batch or commit, never per record. Series whose
//! labels are known in advance begin at 0, so that the first increase is visible. `docs/metrics.md`
//! is generated from the descriptions.

mod batching;
mod committing;
mod labels;
mod lag;
mod reading;

use std::time::Duration;

use ducktide_protocol::position::Offset;
use ducktide_service::endpoints::{self, Readiness};
use prometheus_client::registry::Registry;

use crate::clock::Clock;
use crate::source::topic_partition::TopicPartition;
use batching::BatchMetrics;
use committing::CommitMetrics;
use lag::Lag;
use reading::SourceMetrics;

pub(crate) use batching::RetryCause;
pub(crate) use reading::Rebalance;

/// Prefix of all names.
const PREFIX: &str = "ducktide_consumer";

/// Metrics of the consumer.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) reading: SourceMetrics,
    pub(crate) batching: BatchMetrics,
    pub(crate) committing: CommitMetrics,
    pub(crate) lag: Lag,
}

impl Metrics {
    /// Registers all metrics.
    pub(crate) fn register(exported: &mut Registry, clock: &Clock) -> Self {
        let ours = exported.sub_registry_with_prefix(PREFIX);
        Self {
            reading: SourceMetrics::register(ours),
            batching: BatchMetrics::register(ours),
            committing: CommitMetrics::register(ours, clock.clone()),
            lag: Lag::register(ours, clock.clone()),
        }
    }
}

/// Returns the metrics of a consumer with one partition, as `OpenMetrics`: for `docs/metrics.md`.
#[must_use]
pub fn sample_metrics() -> String {
    let mut exported = endpoints::registry("ducktide-consumer", &Readiness::starting());
    let metrics = Metrics::register(&mut exported, &Clock::system());
    let partition = TopicPartition::new("events", 0);
    metrics.reading.consumed(&partition, 1, 1);
    metrics.reading.counted_partitions(&[("events".into(), 1)]);
    metrics.batching.staged(Duration::ZERO);
    metrics.committing.committed_at(0);
    metrics.lag.start_partition(&partition, Offset(0));
    metrics.lag.record_ends(&[(partition.clone(), Offset(1))]);
    metrics.lag.record_progress(&partition, Offset(1), Some(0));
    endpoints::open_metrics(&exported)
}
