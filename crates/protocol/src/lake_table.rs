//! Tables of a lake.

use std::path::PathBuf;

use crate::data_path_claim::DataPathClaim;
use crate::field_ids::FieldIds;
use crate::position::SnapshotId;
use crate::table::{Partitioning, TableName, TableShape};

/// Current state of a table, for writing files that fit it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Version of the table, which a commit must name.
    pub version: TableVersion,
    /// Columns, in the table's order.
    pub shape: TableShape,
    /// IDs of the columns, which become the field IDs in its files.
    pub field_ids: FieldIds,
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
