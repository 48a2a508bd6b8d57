//! Data that a status report is made of.

use std::collections::BTreeMap;

use ducktide_health::LakeHealth;
use ducktide_lake::{Overview, PartitionProgress, TableSize};
use ducktide_protocol::Source;
use jiff::Timestamp;

use super::cluster_query::{Cluster, KafkaUnavailable};

/// Source with its progress in the lake.
pub(super) struct SourceState {
    pub(super) source: Source,
    /// Consumer group that reads it.
    pub(super) group_id: String,
    pub(super) progress: Vec<PartitionProgress>,
}

/// Data read from lake and Kafka.
pub(super) struct StatusData {
    pub(super) overview: Overview,
    pub(super) tables: Vec<TableSize>,
    pub(super) health: LakeHealth,
    /// Number of open dead letters by table; tables without any are left out.
    pub(super) open_dead_letters: BTreeMap<String, i64>,
    pub(super) sources: Vec<SourceState>,
    /// Client id of the consumers of this lake.
    pub(super) client_id: String,
    pub(super) cluster: Result<Cluster, KafkaUnavailable>,
    pub(super) at: Timestamp,
}
