//! What a lake can do for a worker, whichever lake it is.

use std::path::PathBuf;

use crate::commit::{Commit, CommitOutcome, Inquiry};
use crate::data_path_claim::DataPathClaim;
use crate::dedupe::{RecentRow, RecentRows};
use crate::error::{LakeError, Result};
use crate::position::{Offset, Partition, Position, SourceId};
use crate::table::{Column, Partitioning, TableName, TableShape};

/// A table as it stands, for writing files that fit it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The table's version, which a commit must name.
    pub version: TableVersion,
    /// Its columns, in the table's order.
    pub shape: TableShape,
    /// The absolute directory of its files.
    pub directory: PathBuf,
    /// How its files are divided.
    pub partitioning: Partitioning,
    /// By which the lake's data path is known to be there; None where nothing may be written, and for
    /// lakes without a catalog.
    pub claim: Option<DataPathClaim>,
}

/// The version of one table's columns: any ALTER changes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableVersion {
    /// The table.
    pub table: TableName,
    /// The newest snapshot that added, changed or removed a column or its partition key.
    pub changed_at: i64,
}

/// What a source is: a topic that fills a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSpec {
    /// The table.
    pub table: TableName,
    /// The Kafka topic.
    pub topic: String,
    /// A label for people.
    pub pipeline: String,
    /// The Kafka cluster's id, when the broker tells one.
    pub cluster_id: Option<String>,
    /// The topic's id: a topic that was deleted and made again has another.
    pub topic_id: Option<String>,
}

/// A registered source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The catalog's number for it.
    pub id: SourceId,
    /// What was registered first.
    pub spec: SourceSpec,
}

impl Source {
    /// Refuses a topic that is not the one which was registered: offsets of another cluster or of a
    /// topic that was made again mean other records.
    pub fn check_identity(&self, seen: &SourceSpec) -> Result<()> {
        let differs = |was: &Option<String>, is: &Option<String>| matches!((was, is), (Some(was), Some(is)) if was != is);
        let (what, was, is) = if differs(&self.spec.topic_id, &seen.topic_id) {
            ("the topic was deleted and made again", &self.spec.topic_id, &seen.topic_id)
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

/// A lake that takes commits.
///
/// Two implementations pass one conformance suite (`conformance`): `DuckLake` of the crate `ducktide-lake`
/// and [`MemoryLake`](crate::MemoryLake).
pub trait Lake: Send {
    /// Makes the table if it is missing, and returns it. A table that the wanted shape does not fit
    /// is refused, with the list of differences.
    fn ensure_table(&mut self, table: &TableName, wanted: &TableShape) -> Result<Table>;

    /// Adds those of the columns, or fields of a STRUCT by their path, that the table still lacks, and
    /// returns the table as it is then; without columns, just that. Whoever comes first adds a column:
    /// one that is there is left as it is, whatever its type.
    fn add_columns(&mut self, table: &TableName, columns: &[Column]) -> Result<Table>;

    /// Registers a source unless it is registered, with the first positions of the partitions that
    /// exist now, in one transaction. Returns what holds: an earlier registration wins.
    fn register_source(
        &mut self,
        spec: &SourceSpec,
        starts: &[(Partition, Offset)],
    ) -> Result<Source>;

    /// Gives partitions that the lake does not know their first position. Read progress afterwards:
    /// another worker's decision may hold.
    fn start_partitions(&mut self, source: SourceId, starts: &[(Partition, Offset)]) -> Result<()>;

    /// Where the partitions of a source stand, read in a new transaction.
    fn positions(&mut self, source: SourceId) -> Result<Vec<(Partition, Position)>>;

    /// The rows that records to come may repeat: those of these partitions `below` the offsets that are
    /// read next, each partition's in the order of offsets. Ask after the positions were read: rows
    /// below a position that holds do not change.
    fn recent_rows(
        &mut self,
        wanted: &RecentRows,
        below: &[(Partition, Offset)],
    ) -> Result<Vec<RecentRow>>;

    /// Applies rows and progress together, or neither.
    ///
    /// An error of kind [`Unavailable`](crate::ErrorKind::Unavailable) says that progress could not
    /// be read, or stands where the commit starts: call again with the same commit. Whether an
    /// earlier attempt arrives after all does not matter, the catalog applies one of them.
    fn commit(&mut self, commit: &Commit) -> Result<CommitOutcome>;

    /// What the catalog said when it was asked how the last [`commit`](Self::commit) had ended; None
    /// where COMMIT itself said ok. Only for counting: the outcome says what to do.
    fn take_inquiry(&mut self) -> Option<Inquiry> {
        None
    }
}
