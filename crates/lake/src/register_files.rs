//! Registration of Parquet files with DuckLake, in an open transaction of DuckDB.

use ducktide_protocol::StagedFile;
use ducktide_protocol::table::TableName;

use crate::send::{by_table, partition_directory};
use crate::session::{LAKE, Session};
use crate::sql_text::quote;

/// Registers files with their tables in the open transaction.
pub fn register_files(session: &Session, files: &[StagedFile]) -> duckdb::Result<()> {
    by_table(files)
        .iter()
        .try_for_each(|(table, files)| session.execute(&add_data_files_sql(table, files)))
}

fn add_data_files_sql(table: &TableName, files: &[&StagedFile]) -> String {
    let paths: Vec<_> = files.iter().map(|file| quote(&file.path.to_string_lossy())).collect();
    let paths = paths.join(", ");
    // Only for paths with a partition: with hive_partitioning, DuckLake reads the value from the path.
    let partitioned = files.iter().any(|file| partition_directory(&file.path).is_some());
    format!(
        "CALL ducklake_add_data_files('{LAKE}', {}, [{paths}], schema => {}, hive_partitioning => {partitioned})",
        quote(&table.table),
        quote(&table.schema)
    )
}
