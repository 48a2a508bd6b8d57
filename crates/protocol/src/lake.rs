//! Interface of a lake for workers.

use crate::commit::{Commit, CommitOutcome, OutcomeCheck};
use crate::dedupe::{RecentRow, RecentRows};
use crate::error::Result;
use crate::lake_table::Table;
use crate::position::{Offset, Partition, Position, SourceId};
use crate::source::{Source, SourceSpec};
use crate::table::{Column, TableName, TableShape};

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
