//! Sources and partitions in the output of `ducktide status`, whose names must stay stable.

use ducktide_protocol::position::{Epoch, Offset, Partition, SnapshotId, SourceId};
use jiff::Timestamp;
use serde::Serialize;

use super::time::as_optional_text;

#[derive(Debug, Serialize)]
pub(super) struct SourceReport {
    pub(super) source_id: SourceId,
    pub(super) table: String,
    pub(super) topic: String,
    pub(super) pipeline: String,
    pub(super) group_id: String,
    /// Number of members of the group; None if Kafka does not describe it.
    pub(super) group_members: Option<usize>,
    /// Reason why none of its partitions can continue.
    pub(super) problem: Option<String>,
    pub(super) partitions: Vec<PartitionReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct PartitionReport {
    pub(super) partition: Partition,
    /// None, as `next_offset`, if the lake does not have the partition.
    pub(super) epoch: Option<Epoch>,
    pub(super) next_offset: Option<Offset>,
    /// None if Kafka did not answer.
    pub(super) end_offset: Option<Offset>,
    /// Number of offsets from `next_offset`, or from the first one that Kafka has, to `end_offset`.
    pub(super) lag: Option<i64>,
    pub(super) snapshot_id: Option<SnapshotId>,
    #[serde(serialize_with = "as_optional_text")]
    pub(super) last_commit_at: Option<Timestamp>,
    pub(super) last_commit_age_seconds: Option<f64>,
    /// Records have waited for a minute without a commit.
    pub(super) stalled: bool,
    /// Member of the group that reads it.
    pub(super) reader: Option<MemberReport>,
    /// Reason why it cannot continue.
    pub(super) problem: Option<String>,
}

impl PartitionReport {
    /// Returns a report without progress and without offsets of Kafka.
    pub(super) const fn new(partition: Partition) -> Self {
        Self {
            partition,
            epoch: None,
            next_offset: None,
            end_offset: None,
            lag: None,
            snapshot_id: None,
            last_commit_at: None,
            last_commit_age_seconds: None,
            stalled: false,
            reader: None,
            problem: None,
        }
    }
}

/// Member of the consumer group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct MemberReport {
    pub(super) client_id: String,
    pub(super) host: String,
}
