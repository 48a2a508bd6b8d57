//! Result of a merge before it is in the catalog.

use std::path::PathBuf;

use ducktide_lake::CatalogClient as _;
use ducktide_lake::data_path::DataPath;
use ducktide_lake::read_layout;
use ducktide_lake::rows::{DataFileRow, FileColumnStatsRow, FilePartitionValueRow};
use ducktide_lake::session::{Session, quote};
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::table::TableName;

/// Merged files and their rows for the catalog.
pub(super) struct MergedFiles {
    pub(super) table_id: i64,
    /// IDs of the source files, which they replace.
    pub(super) sources: Vec<i64>,
    pub(super) bytes_read: u64,
    pub(super) bytes_written: u64,
    /// Rows of the files; the IDs are temporary and are replaced when the files are swapped.
    pub(super) files: Vec<DataFileRow>,
    /// Column statistics of the files, under the temporary IDs.
    pub(super) statistics: Vec<FileColumnStatsRow>,
    /// Partition values of the files, under the temporary IDs.
    pub(super) partition_values: Vec<FilePartitionValueRow>,
    /// The source files.
    pub(super) scheduled: Vec<ReplacedFileRow>,
}

ducktide_lake::row_struct! {
    /// A file that is scheduled for deletion, without the time.
    pub(crate) struct ReplacedFileRow from "ducklake_files_scheduled_for_deletion" {
        pub(crate) data_file_id: i64,
        pub(crate) path: String,
        /// `path` begins at the lake's data path.
        pub(crate) path_is_relative: bool,
    }
}

ducktide_lake::row_struct! {
    /// A live table and the data path of its lake.
    struct LiveTable {
        table_id: i64,
        data_path: Option<String>,
    }
}

/// Table whose files are merged.
pub(super) struct MergeTarget {
    pub(super) table_id: i64,
    /// Data path of the lake, as DuckLake has it.
    pub(super) data_path: String,
    /// Directory of the table.
    pub(super) directory: PathBuf,
}

impl MergeTarget {
    pub(super) fn find(session: &Session, table: &TableName) -> Result<Self> {
        let native = |name: &str| session.native_table(name);
        let sql = format!(
            "SELECT t.table_id, (SELECT value FROM {metadata} WHERE key = 'data_path' AND scope IS NULL) \
             AS data_path FROM {tables} t JOIN {schemas} s ON s.schema_id = t.schema_id \
             WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL AND s.schema_name = {schema} \
             AND t.table_name = {name}",
            metadata = native("ducklake_metadata"),
            tables = native("ducklake_table"),
            schemas = native("ducklake_schema"),
            schema = quote(&table.schema),
            name = quote(&table.table),
        );
        let dropped =
            || LakeError::unavailable(format!("the table was dropped meanwhile: table=`{table}`"));
        let found: Option<LiveTable> = session.catalog_query(&sql)?.into_iter().next();
        let LiveTable { table_id, data_path } = found.ok_or_else(dropped)?;
        let data_path = data_path.unwrap_or_default();
        let (_, directory) = read_layout(session, table)?.ok_or_else(dropped)?;
        // Both kinds of merges write to this directory.
        DataPath::new(&data_path).check(&directory)?;
        Ok(Self { table_id, data_path, directory })
    }
}
