//! Records in memory, for tests.

use std::ffi::CStr;

use ducktide_protocol::dead_letter::Header;
use ducktide_protocol::position::Offset;

use super::record::KafkaRecord;
use super::topic_partition::TopicPartition;

/// A record that owns its content.
#[derive(Clone, Debug)]
pub(crate) struct MemoryRecord {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: Offset,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) headers: Vec<Header>,
}

impl MemoryRecord {
    /// Creates a record without key, timestamp and headers.
    pub(crate) fn new(partition: &TopicPartition, offset: i64, payload: Option<&[u8]>) -> Self {
        Self {
            partition: partition.clone(),
            offset: Offset(offset),
            timestamp_ms: None,
            key: None,
            payload: payload.map(<[u8]>::to_vec),
            headers: Vec::new(),
        }
    }
}

impl KafkaRecord for MemoryRecord {
    type KeepAlive = ();

    fn offset(&self) -> Offset {
        self.offset
    }

    fn topic_partition(&self) -> TopicPartition {
        self.partition.clone()
    }

    fn timestamp_ms(&self) -> Option<i64> {
        self.timestamp_ms
    }

    fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    fn payload(&self) -> Option<&[u8]> {
        self.payload.as_deref()
    }

    fn headers(&self) -> Vec<Header> {
        self.headers.clone()
    }

    fn last_header(&self, name: &CStr) -> Option<&[u8]> {
        let mut newest_first = self.headers.iter().rev();
        let found = newest_first.find(|header| header.key.as_bytes() == name.to_bytes())?;
        found.value.as_deref()
    }

    fn follows(&self, last: &Self) -> bool {
        self.partition == last.partition && self.offset.0 == last.offset.0 + 1
    }
}
