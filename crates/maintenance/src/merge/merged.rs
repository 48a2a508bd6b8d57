//! What a merge made, until the catalog knows of it.

use std::path::PathBuf;

use ducktide_lake::catalog::parse;
use ducktide_lake::data_path::DataPath;
use ducktide_lake::read_layout;
use ducktide_lake::session::{Session, quote};
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::table::TableName;

/// Merged files, and what the catalog is to say of them.
pub(super) struct Merged {
    pub(super) table_id: i64,
    /// The files that they take the place of.
    pub(super) sources: Vec<i64>,
    pub(super) bytes_read: u64,
    pub(super) bytes_written: u64,
    /// Rows of `ducklake_data_file`; the ids are the merge's own.
    pub(super) files: Vec<Values>,
    /// Rows of `ducklake_file_column_stats` and `ducklake_file_partition_value`, ids likewise.
    pub(super) statistics: Vec<Values>,
    pub(super) partition_values: Vec<Values>,
    /// Path of each source, and whether it is relative, as DuckLake schedules it for deletion.
    pub(super) scheduled: Vec<Values>,
}

/// One row as SQL literals.
pub(super) type Values = Vec<String>;

/// A value as an SQL literal.
pub(super) fn or_null(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| value.to_string())
}

/// The table whose files are merged, as the catalog names it.
pub(super) struct Target {
    pub(super) table_id: i64,
    /// The lake's data path, as it was given to DuckLake.
    pub(super) data_path: String,
    /// The table's own directory.
    pub(super) directory: PathBuf,
}

impl Target {
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
        let row = session.catalog_rows(&sql)?.into_iter().next();
        let mut values = row.into_iter().flatten();
        let mut next = || values.next().flatten();
        let dropped =
            || LakeError::unavailable(format!("the table was dropped meanwhile: table=`{table}`"));
        let table_id = parse(Some(next().ok_or_else(dropped)?))?;
        let data_path = next().unwrap_or_default();
        let (_, directory) = read_layout(session, table)?.ok_or_else(dropped)?;
        // Both kinds of merges write there.
        DataPath::new(&data_path).check(&directory)?;
        Ok(Self { table_id, data_path, directory })
    }
}
