//! Sources and partitions in the output of `ducktide status`, whose names must stay stable.

use jiff::Timestamp;
use serde::Serialize;

use super::time::as_optional_text;

#[derive(Debug, Serialize)]
pub(super) struct SourceReport {
    pub(super) source_id: i32,
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

#[derive(Debug, Default, Serialize)]
pub(super) struct PartitionReport {
    pub(super) partition: i32,
    /// None, as `next_offset`, if the lake does not have the partition.
    pub(super) epoch: Option<i32>,
    pub(super) next_offset: Option<i64>,
    /// None if Kafka did not answer.
    pub(super) end_offset: Option<i64>,
    /// Number of offsets from `next_offset`, or from the first one that Kafka has, to `end_offset`.
    pub(super) lag: Option<i64>,
    pub(super) snapshot_id: Option<i64>,
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

/// Member of the consumer group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct MemberReport {
    pub(super) client_id: String,
    pub(super) host: String,
}
