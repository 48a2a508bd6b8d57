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
    /// Content of its footer that the catalog stores.
    pub footer: FileFooter,
}

/// Content of a Parquet footer that the catalog stores.
///
/// Empty for a file that DuckLake registers: it reads the footer itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileFooter {
    /// Size in bytes, without its length and the magic number at the end of the file.
    pub bytes: u64,
    /// Statistics of the leaf columns, in the order of the file.
    pub columns: Vec<StagedColumn>,
}

/// Statistics of a leaf column in a staged file. Bounds are texts in DuckLake's form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StagedColumn {
    /// ID of the column in the lake, which is its field ID in the file.
    pub id: i32,
    /// Compressed size in bytes.
    pub bytes: i64,
    /// Number of values that are not NULL; None if the file has no statistics of the column.
    pub values: Option<u64>,
    /// Number of NULLs, and of empty lists around a leaf; None if the file has no statistics.
    pub nulls: Option<u64>,
    /// Smallest value; None if it is unknown, or if all values are NULL.
    pub min: Option<String>,
    /// Greatest value; None if it is unknown, or if all values are NULL.
    pub max: Option<String>,
    /// True if a floating-point column contains a NaN; None for other types.
    pub contains_nan: Option<bool>,
}
