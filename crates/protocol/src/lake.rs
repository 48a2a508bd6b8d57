//! Interface of a lake for workers, and its tables and sources.

use std::path::PathBuf;

use crate::commit::{Commit, CommitOutcome, OutcomeCheck};
use crate::data_path_claim::DataPathClaim;
use crate::dedupe::{RecentRow, RecentRows};
use crate::error::{LakeError, Result};
use crate::position::{Offset, Partition, Position, SnapshotId, SourceId};
use crate::table::{Column, Partitioning, TableName, TableShape};

/// Current state of a table, for writing files that fit it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Version of the table, which a commit must name.
    pub version: TableVersion,
    /// Columns, in the table's order.
    pub shape: TableShape,
    /// Absolute directory of its files.
    pub directory: PathBuf,
    /// Partition key of its files.
    pub partitioning: Partitioning,
    /// Claim that shows that the lake's data path is mounted; None where nothing may be written, and for
    /// lakes without a catalog.
    pub claim: Option<DataPathClaim>,
}

/// Version of a table's columns: every ALTER changes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableVersion {
    /// Table.
    pub table: TableName,
    /// Newest snapshot that added, changed or removed a column or its partition key.
    pub changed_at: SnapshotId,
}

/// Specification of a source: a topic that fills a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSpec {
    /// Table.
    pub table: TableName,
    /// Kafka topic.
    pub topic: String,
    /// Label for operators.
    pub pipeline: String,
    /// Id of the Kafka cluster, if the broker reports one.
    pub cluster_id: Option<String>,
    /// Id of the topic: a topic that was deleted and recreated has another.
    pub topic_id: Option<String>,
}

/// Registered source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Number of the source in the catalog.
    pub id: SourceId,
    /// Specification of the first registration.
    pub spec: SourceSpec,
}

impl Source {
    /// Rejects a topic other than the registered one: offsets of another cluster or of a recreated topic
    /// are those of other records.
    pub fn check_identity(&self, seen: &SourceSpec) -> Result<()> {
        let differs = |was: &Option<String>, is: &Option<String>| matches!((was, is), (Some(was), Some(is)) if was != is);
        let (what, was, is) = if differs(&self.spec.topic_id, &seen.topic_id) {
            ("the topic was deleted and recreated", &self.spec.topic_id, &seen.topic_id)
        } else if differs(&self.spec.cluster_id, &seen.cluster_id) {
            (
                "the bootstrap servers lead to another Kafka cluster",
                &self.spec.cluster_id,
                &seen.cluster_id,
            )
        } else {
            return Ok(());
        };
        Err(LakeError::invalid(format!(
            "{what}, so its offsets are not those that the lake knows; \
             load it into a table of its own with --table: topic=`{}` registered=`{}` seen=`{}`",
            self.spec.topic,
            was.as_deref().unwrap_or_default(),
            is.as_deref().unwrap_or_default()
        )))
    }
}

/// Lake that accepts commits.
///
/// Two implementations pass one conformance suite (`conformance`): `DuckLake` of the crate `ducktide-lake`
/// and [`MemoryLake`](crate::MemoryLake).
pub trait Lake: Send {
    /// Creates the table if it is missing, and returns it. Fails with the differences if the existing
    /// table does not fit the wanted shape.
    fn ensure_table(&mut self, table: &TableName, wanted: &TableShape) -> Result<Table>;

    /// Adds the columns, or fields of a STRUCT by their path, that the table lacks, and returns the
    /// resulting table. An existing column is not changed, even if its type differs.
    fn add_columns(&mut self, table: &TableName, columns: &[Column]) -> Result<Table>;

    /// Registers a source with the first positions of its current partitions, in one transaction, and
    /// returns it. Returns the earlier registration if there is one.
    fn register_source(
        &mut self,
        spec: &SourceSpec,
        starts: &[(Partition, Offset)],
    ) -> Result<Source>;

    /// Sets the first position of new partitions. Read progress afterwards: another worker may have been
    /// first.
    fn start_partitions(&mut self, source: SourceId, starts: &[(Partition, Offset)]) -> Result<()>;

    /// Reads the positions of a source's partitions in a new transaction.
    fn positions(&mut self, source: SourceId) -> Result<Vec<(Partition, Position)>>;

    /// Reads the rows that later records can be duplicates of: of each partition those `below` its next
    /// offset, in the order of offsets. Call it after the positions were read: rows below a committed
    /// position do not change.
    fn recent_rows(
        &mut self,
        wanted: &RecentRows,
        below: &[(Partition, Offset)],
    ) -> Result<Vec<RecentRow>>;

    /// Applies rows and progress together, or neither.
    ///
    /// After an error of kind [`Unavailable`](crate::ErrorKind::Unavailable), progress could not be read,
    /// or is at the start of the commit: call again with the same commit. An earlier attempt may still
    /// arrive; the catalog applies only one of them.
    fn commit(&mut self, commit: &Commit) -> Result<CommitOutcome>;

    /// Returns the result of the check after the last [`commit`](Self::commit); None if COMMIT itself
    /// succeeded. For metrics only: the outcome decides.
    fn take_outcome_check(&mut self) -> Option<OutcomeCheck> {
        None
    }
}
