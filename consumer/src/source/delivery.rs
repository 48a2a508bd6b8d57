//! Deliveries of the poll thread to the batchers.

use ducktide_protocol::position::Offset;

use super::ffi::{self, KeepAlive, Record};
use super::topic_partition::TopicPartition;
use crate::source::assignment::Generation;

/// Delivery to a batcher, in the order of the partition.
pub(crate) enum Delivery {
    Records(RecordRun),
    /// The end of the partition, which may lie after offsets without records.
    EndOfPartition {
        partition: TopicPartition,
        generation: Generation,
        follows: Offset,
        offset: Offset,
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

/// Consecutive records of one partition.
pub(crate) struct RecordRun {
    pub(crate) partition: TopicPartition,
    pub(crate) generation: Generation,
    /// End of the previous delivery.
    pub(crate) follows: Offset,
    pub(crate) records: Vec<Record>,
    /// Size of the records in flight.
    pub(crate) bytes: usize,
    /// Keeps the client alive, whose buffers the records point into; dropped after them.
    #[expect(dead_code, reason = "held for its lifetime")]
    pub(super) client: KeepAlive,
}

impl RecordRun {
    /// Returns the size of keys and values, bytes.
    pub(crate) fn content_bytes(&self) -> usize {
        self.bytes - self.records.len() * ffi::RECORD_OVERHEAD
    }

    /// Returns the Kafka timestamp of the last record, milliseconds since 1970.
    pub(crate) fn newest_ms(&self) -> Option<i64> {
        self.records.last().and_then(Record::timestamp_ms)
    }

    /// Returns the offset after the last record.
    pub(crate) fn next(&self) -> Offset {
        self.records.last().map_or(self.follows, |last| Offset(last.offset().0 + 1))
    }
}
