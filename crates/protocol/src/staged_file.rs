//! A Parquet file that is written, but not part of the lake yet.

use std::path::PathBuf;

use crate::table::TableName;

/// A closed Parquet file under the lake's data path that waits for its commit.
///
/// Its footer is written; making it durable is the commit's business. Once it has been offered to a
/// COMMIT whose outcome is unknown, nobody but the orphan removal may delete it (invariant I5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedFile {
    /// The absolute path.
    pub path: PathBuf,
    /// The table whose rows it holds.
    pub table: TableName,
    /// How many rows; never 0.
    pub rows: u64,
    /// The file's size in bytes.
    pub bytes: u64,
}
