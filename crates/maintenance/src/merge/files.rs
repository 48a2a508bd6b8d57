//! Files that can be merged, and the figures of a merge.

use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::table::TableName;
use jiff::Timestamp;

/// A live data file that can be merged: below the requested size, without delete files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// ID in the catalog, `data_file_id`.
    pub id: i64,
    /// Size, in bytes.
    pub bytes: u64,
    /// Commit time of its newest rows; None when that snapshot is expired.
    pub changed_at: Option<Timestamp>,
}

/// Common properties of files that can be merged with each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileGroup {
    /// Oldest schema version of the table whose files can be merged with those of this group: versions
    /// that only added columns belong together.
    pub schema_version: i64,
    /// Partition key that the files were written under, if there was one.
    pub partition_id: Option<i64>,
    /// Values of the key; None is NULL.
    pub partition: Vec<Option<String>>,
}

/// Files of one table that can be merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFiles {
    /// The table.
    pub table: TableName,
    /// Files by group, in the order of their snapshots.
    pub groups: Vec<(FileGroup, Vec<DataFile>)>,
}

/// Sums over the files of a merge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeTotals {
    /// Number of source files, which the newest snapshot no longer needs.
    pub files_read: u64,
    /// Size of the source files, in bytes.
    pub bytes_read: u64,
    /// Number of merged files.
    pub files_written: u64,
    /// Size of the merged files, in bytes.
    pub bytes_written: u64,
}

/// Checks that a merge kept every row.
pub(super) fn check_row_count<N: Copy + PartialEq + std::fmt::Display>(
    before: N,
    after: N,
) -> Result<()> {
    if before == after {
        return Ok(());
    }
    Err(LakeError::invalid(format!(
        "a merge would not keep every row, so the files are not changed; report this as a defect: \
         rows=`{before}` merged=`{after}`"
    )))
}
