//! Lag of the lake behind Kafka, for each partition of this worker.
//!
//! The lag in offsets is a subtraction. The lag in seconds would be the age of the oldest record
//! that is not committed, which may not have been read. It is estimated: that record was produced
//! after the newest committed record, and after the last time without lag.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ducktide_protocol::position::Offset;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeMetric as _, MetricEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::PartitionLabels;
use crate::clock::Clock;
use crate::source::topic_partition::TopicPartition;

/// Progress and end of a partition. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PartitionLag {
    next_offset: Offset,
    /// High watermark at the last request.
    end: Option<Offset>,
    /// Kafka timestamp of the newest record that this worker committed.
    newest: Option<i64>,
    /// Last time without lag.
    caught_up: Option<i64>,
    began: i64,
}

impl PartitionLag {
    const fn began(next_offset: Offset, now: i64) -> Self {
        Self { next_offset, end: None, newest: None, caught_up: None, began: now }
    }

    fn offsets(&self) -> Option<i64> {
        self.end.map(|end| (end.0 - self.next_offset.0).max(0))
    }

    fn millis(&self, now: i64) -> Option<i64> {
        if self.offsets()? == 0 {
            return Some(0);
        }
        let since = self.newest.max(self.caught_up).unwrap_or(self.began);
        Some((now - since).max(0))
    }
}

/// Lag of all partitions; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Lag {
    clock: Clock,
    partitions: Arc<Mutex<BTreeMap<TopicPartition, PartitionLag>>>,
}

impl Lag {
    pub(super) fn register(registry: &mut Registry, clock: Clock) -> Self {
        let new = Self::new(clock);
        registry.register_collector(Box::new(new.clone()));
        new
    }

    fn new(clock: Clock) -> Self {
        Self { clock, partitions: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, PartitionLag>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a partition that is read from this offset on, or moves its offset.
    pub(crate) fn start_partition(&self, partition: &TopicPartition, next_offset: Offset) {
        let mut partitions = self.lock();
        let begun = PartitionLag::began(next_offset, self.clock.unix_millis());
        partitions.entry(partition.clone()).or_insert(begun).next_offset = next_offset;
    }

    /// Records committed progress, and the timestamp of its newest record.
    pub(crate) fn record_progress(
        &self,
        partition: &TopicPartition,
        to: Offset,
        newest: Option<i64>,
    ) {
        if let Some(lag) = self.lock().get_mut(partition) {
            lag.next_offset = to;
            lag.newest = newest.or(lag.newest);
        }
    }

    /// Records the high watermarks of partitions.
    pub(crate) fn record_ends(&self, ends: &[(TopicPartition, Offset)]) {
        let now = self.clock.unix_millis();
        let mut partitions = self.lock();
        for (partition, end) in ends {
            let Some(lag) = partitions.get_mut(partition) else { continue };
            lag.end = Some(*end);
            if lag.offsets() == Some(0) {
                lag.caught_up = Some(now);
            }
        }
    }

    pub(crate) fn remove(&self, partition: &TopicPartition) {
        self.lock().remove(partition);
    }
}

impl Collector for Lag {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let now = self.clock.unix_millis();
        let shown = LagSnapshot(
            self.lock().iter().map(|(name, at)| (PartitionLabels::from(name), *at)).collect(),
        );
        let encoder = &mut encoder;
        let name = "next_offset";
        let help = "Offset before which all records of the partition are committed.";
        shown.offsets(encoder, name, help, |at| Some(at.next_offset.0))?;
        let name = "high_watermark";
        let help = "End of the partition in Kafka, without open transactions, requested every few seconds.";
        shown.offsets(encoder, name, help, |at| at.end.map(|end| end.0))?;
        let name = "lag_offsets";
        let help = "high_watermark minus next_offset, at least 0.";
        shown.offsets(encoder, name, help, PartitionLag::offsets)?;
        let name = "lag";
        let help = "0 while lag_offsets is 0; otherwise the time since the Kafka timestamp of the newest \
                    committed record, or since the last time without lag, whichever is later: an upper \
                    bound of the age of the oldest uncommitted record. Before the first commit, the time \
                    since the assignment.";
        shown.seconds(encoder, name, help, |at| at.millis(now))?;
        let name = "newest_record_timestamp";
        let help = "Kafka timestamp of the newest record that this worker committed, since 1970: time() \
                    minus this is the freshness of the lake, by the time of Kafka, not of the event.";
        shown.seconds(encoder, name, help, |at| at.newest)
    }
}

/// Lag of all partitions at the time of a scrape.
struct LagSnapshot(Vec<(PartitionLabels, PartitionLag)>);

impl LagSnapshot {
    fn offsets(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        of: impl Fn(&PartitionLag) -> Option<i64>,
    ) -> fmt::Result {
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        self.values(metric, of)
    }

    /// Encodes a gauge of seconds; `of` returns milliseconds.
    fn seconds(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        of: impl Fn(&PartitionLag) -> Option<i64>,
    ) -> fmt::Result {
        let unit = Some(&Unit::Seconds);
        let metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit")]
        self.values(metric, |at| of(at).map(|millis| millis as f64 / 1e3))
    }

    fn values<T: EncodeGaugeValue>(
        &self,
        mut metric: MetricEncoder<'_>,
        of: impl Fn(&PartitionLag) -> Option<T>,
    ) -> fmt::Result {
        for (labels, at) in &self.0 {
            if let Some(value) = of(at) {
                ConstGauge::new(value).encode(metric.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(next_offset: i64, end: i64) -> PartitionLag {
        PartitionLag { end: Some(Offset(end)), ..PartitionLag::began(Offset(next_offset), 1_000) }
    }

    #[test]
    fn the_lag_is_zero_at_the_high_watermark() {
        assert_eq!(at(10, 10).millis(9_000), Some(0));
        assert_eq!(at(12, 10).offsets(), Some(0), "the watermark was read before the commit");
    }

    #[test]
    fn the_lag_is_unknown_before_the_first_high_watermark() {
        assert_eq!(PartitionLag::began(Offset(3), 0).millis(5_000), None);
    }

    #[test]
    fn the_age_of_a_backlog_is_that_of_the_newest_committed_record() {
        let backlog = PartitionLag { newest: Some(200), ..at(10, 90) };

        assert_eq!(backlog.offsets(), Some(80));
        assert_eq!(backlog.millis(9_000), Some(8_800));
        assert_eq!(at(10, 90).millis(9_000), Some(8_000), "before the first commit");
    }

    #[test]
    fn idle_time_without_lag_does_not_count() {
        let clock = Clock::manual();
        let (lag, start) = (Lag::new(clock.clone()), clock.unix_millis());
        let partition = TopicPartition::new("events", 0);
        lag.start_partition(&partition, Offset(0));
        lag.record_progress(&partition, Offset(10), Some(start + 500));
        clock.advance(Duration::from_secs(80));
        lag.record_ends(&[(partition.clone(), Offset(10))]);
        clock.advance(Duration::from_secs(5));
        lag.record_ends(&[(partition.clone(), Offset(11))]);

        let lag = lag.lock()[&partition];
        assert_eq!((lag.offsets(), lag.millis(start + 86_000)), (Some(1), Some(6_000)));
    }
}
