//! Deliveries of the poll loop to the batchers.

use ducktide_protocol::position::Offset;

use super::ffi::Record;
use super::record::{KafkaRecord, RECORD_OVERHEAD};
use super::topic_partition::TopicPartition;
use crate::source::assignment::Generation;

/// Delivery to a batcher, in the order of the partition.
pub(crate) enum Delivery<R: KafkaRecord = Record> {
    Records(RecordRun<R>),
    /// The end of the partition, which may lie after offsets without records.
    EndOfPartition {
        partition: TopicPartition,
        generation: Generation,
        follows: Offset,
        offset: Offset,
    },
}

impl<R: KafkaRecord> Delivery<R> {
    pub(super) const fn partition(&self) -> &TopicPartition {
        match self {
            Self::Records(run) => &run.partition,
            Self::EndOfPartition { partition, .. } => partition,
        }
    }
}

/// Consecutive records of one partition.
pub(crate) struct RecordRun<R: KafkaRecord = Record> {
    pub(crate) partition: TopicPartition,
    pub(crate) generation: Generation,
    /// End of the previous delivery.
    pub(crate) follows: Offset,
    pub(crate) records: Vec<R>,
    /// Size of the records in flight.
    pub(crate) bytes: usize,
    /// Keeps the memory of the records alive; dropped after them.
    #[expect(dead_code, reason = "held for its lifetime")]
    keep_alive: R::KeepAlive,
}

impl<R: KafkaRecord> RecordRun<R> {
    /// Creates a run of records of `partition`, which passed in this generation after everything
    /// before `follows`.
    pub(crate) fn new(
        partition: TopicPartition,
        generation: Generation,
        follows: Offset,
        records: Vec<R>,
        keep_alive: R::KeepAlive,
    ) -> Self {
        let bytes = records.iter().map(R::bytes).sum();
        Self { partition, generation, follows, records, bytes, keep_alive }
    }

    /// Returns the size of keys and values, bytes.
    pub(crate) fn content_bytes(&self) -> usize {
        self.bytes - self.records.len() * RECORD_OVERHEAD
    }

    /// Returns the Kafka timestamp of the last record, milliseconds since 1970.
    pub(crate) fn newest_ms(&self) -> Option<i64> {
        self.records.last().and_then(R::timestamp_ms)
    }

    /// Returns the offset after the last record.
    pub(crate) fn next(&self) -> Offset {
        self.records.last().map_or(self.follows, |last| Offset(last.offset().0 + 1))
    }
}
