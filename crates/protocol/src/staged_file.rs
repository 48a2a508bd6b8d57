//! Parquet file that is written, but not part of the lake yet.

use std::path::PathBuf;

use crate::table::TableName;

/// Closed Parquet file under the lake's data path that waits for its commit.
///
/// Its footer is written; the commit makes it durable. Once it was part of a COMMIT whose outcome is
/// unknown, only the orphan removal may delete it (invariant I5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedFile {
    /// Absolute path.
    pub path: PathBuf,
    /// Table of its rows.
    pub table: TableName,
    /// Number of rows; never 0.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
}
