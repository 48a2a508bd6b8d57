//! Records as the stages after the Kafka client see them.

use std::ffi::CStr;

use ducktide_protocol::dead_letter::Header;
use ducktide_protocol::position::Offset;

use super::topic_partition::TopicPartition;

/// Bytes that librdkafka keeps for a record in addition to key and value (`rd_kafka_op_t`, 2.12).
pub(crate) const RECORD_OVERHEAD: usize = 256;

/// A record of Kafka. Dispatch is static, because these functions are called for every record.
pub(crate) trait KafkaRecord: Send {
    /// Handle that keeps the memory of records alive; it is held for as long as they are.
    type KeepAlive: Send;

    fn offset(&self) -> Offset;

    fn topic_partition(&self) -> TopicPartition;

    /// Returns the timestamp in milliseconds since 1970, if the record has one.
    fn timestamp_ms(&self) -> Option<i64>;

    /// Returns the key, if the record has one.
    fn key(&self) -> Option<&[u8]>;

    /// Returns the value; None for a tombstone.
    fn payload(&self) -> Option<&[u8]>;

    /// Returns copies of the headers in their order. Invalid UTF-8 in names is replaced.
    fn headers(&self) -> Vec<Header>;

    /// Returns the value of the last header with the name.
    fn last_header(&self, name: &CStr) -> Option<&[u8]>;

    /// Returns whether this record has the next offset of the same partition, without comparing
    /// names.
    fn follows(&self, last: &Self) -> bool;

    /// Returns an estimate of the bytes that the record keeps alive.
    fn bytes(&self) -> usize {
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        length(self.payload()) + length(self.key()) + RECORD_OVERHEAD
    }
}
