//! What the poll thread hands to the batchers.

use super::ffi::{self, KeepAlive, Record};
use super::topic_partition::TopicPartition;
use crate::source::assignment::Generation;

/// What the poll thread hands to a batcher, in the partition's order.
pub(crate) enum Delivery {
    Records(RecordRun),
    /// The partition was read to its end, which may lie behind offsets without records.
    EndOfPartition {
        partition: TopicPartition,
        generation: Generation,
        follows: i64,
        offset: i64,
    },
}

impl Delivery {
    pub(super) const fn partition(&self) -> &TopicPartition {
        match self {
            Self::Records(run) => &run.partition,
            Self::EndOfPartition { partition, .. } => partition,
        }
    }
}

/// Records of one partition, one after the other.
pub(crate) struct RecordRun {
    pub(crate) partition: TopicPartition,
    pub(crate) generation: Generation,
    /// Everything before this offset came in earlier deliveries.
    pub(crate) follows: i64,
    pub(crate) records: Vec<Record>,
    /// What the run counts as in flight.
    pub(crate) bytes: usize,
    /// Dropped after the records, which point into the client's buffers.
    #[expect(dead_code, reason = "held for its lifetime")]
    pub(super) client: KeepAlive,
}

impl RecordRun {
    /// The bytes of keys and values.
    pub(crate) fn content_bytes(&self) -> usize {
        self.bytes - self.records.len() * ffi::RECORD_OVERHEAD
    }

    /// Kafka's time of its last record, milliseconds since 1970.
    pub(crate) fn newest_ms(&self) -> Option<i64> {
        self.records.last().and_then(Record::timestamp_ms)
    }

    /// The offset after its last record.
    pub(crate) fn next(&self) -> i64 {
        self.records.last().map_or(self.follows, |last| last.offset() + 1)
    }
}
