//! Metrics of records from Kafka, before they are decoded.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::PartitionLabels;
use crate::source::topic_partition::TopicPartition;

/// Rebalance event of the consumer group for this member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rebalance {
    Assigned,
    Revoked,
    /// Revoked without notice: another member may read the partitions already.
    Lost,
}

impl Rebalance {
    const ALL: [Self; 3] = [Self::Assigned, Self::Revoked, Self::Lost];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Revoked => "revoked",
            Self::Lost => "lost",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TopicLabels {
    topic: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    event: &'static str,
}

type PartitionCounter = Family<PartitionLabels, Counter<u64, AtomicU64>>;

#[derive(Debug, Default)]
pub(crate) struct SourceMetrics {
    records: PartitionCounter,
    bytes: PartitionCounter,
    assigned: Gauge,
    topic_partitions: Family<TopicLabels, Gauge>,
    rebalances: Family<EventLabels, Counter>,
    paused: Gauge,
    queue_records: Gauge,
    queue_bytes: Gauge,
    memory_limit: Gauge,
    refused: Gauge,
}

impl SourceMetrics {
    pub(super) fn register(r: &mut Registry) -> Self {
        let new = Self::default();
        let bytes = Unit::Bytes;
        r.register("records", "Records received from Kafka", new.records.clone());
        r.register_with_unit(
            "record_size",
            "Size of the records received from Kafka, keys and values, uncompressed",
            bytes.clone(),
            new.bytes.clone(),
        );
        r.register(
            "assigned_partitions",
            "Partitions that are assigned to this worker",
            new.assigned.clone(),
        );
        r.register(
            "topic_partitions",
            "Partitions of each topic of this worker in Kafka, whichever consumer reads them; counted every 30 \
             seconds",
            new.topic_partitions.clone(),
        );
        r.register(
            "rebalances",
            "Rebalance events by type: assigned, revoked, or lost (revoked without notice)",
            new.rebalances.clone(),
        );
        r.register(
            "paused_partitions",
            "Partitions that are paused because the memory for records is used up",
            new.paused.clone(),
        );
        r.register(
            "queue_records",
            "Records in the queue before decoding",
            new.queue_records.clone(),
        );
        r.register_with_unit(
            "queue",
            "Memory of the records in the queue before decoding",
            bytes.clone(),
            new.queue_bytes.clone(),
        );
        r.register_with_unit(
            "memory_limit",
            "Memory limit for records (--memory-limit)",
            bytes,
            new.memory_limit.clone(),
        );
        r.register(
            "kafka_refused",
            "1 while Kafka rejects the group, a topic or the authentication: operator action required",
            new.refused.clone(),
        );
        for event in Rebalance::ALL.map(Rebalance::as_str) {
            drop(new.rebalances.get_or_create(&EventLabels { event }));
        }
        new
    }

    pub(crate) fn consumed(&self, partition: &TopicPartition, records: usize, bytes: usize) {
        let labels = partition.into();
        self.records.get_or_create(&labels).inc_by(records as u64);
        self.bytes.get_or_create(&labels).inc_by(bytes as u64);
    }

    pub(crate) fn assigned(&self, partitions: usize) {
        self.assigned.set(number(partitions));
    }

    pub(crate) fn counted_partitions(&self, counts: &[(Arc<str>, usize)]) {
        for (topic, partitions) in counts {
            let labels = TopicLabels { topic: topic.to_string() };
            self.topic_partitions.get_or_create(&labels).set(number(*partitions));
        }
    }

    pub(crate) fn rebalanced(&self, event: Rebalance) {
        self.rebalances.get_or_create(&EventLabels { event: event.as_str() }).inc();
    }

    pub(crate) fn paused(&self, partitions: usize) {
        self.paused.set(number(partitions));
    }

    pub(crate) fn queued(&self, records: usize, bytes: usize) {
        self.queue_records.set(number(records));
        self.queue_bytes.set(number(bytes));
    }

    pub(crate) fn refused(&self, is_refused: bool) {
        self.refused.set(i64::from(is_refused));
    }

    pub(crate) fn memory_limit(&self, bytes: u64) {
        self.memory_limit.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

fn number(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
