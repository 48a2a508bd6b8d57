//! Reads and records the partitioning of a table's files.

use ducktide_protocol::error::Result;
use ducktide_protocol::table::{
    EVENT_DATE, Partitioning, TableName, column_of_comment, date_comment, quote_identifier,
};

use super::client::CatalogClient;
use crate::session::LAKE;
use crate::sql_text::quote;

crate::row_struct! {
    /// A column of the partition key, or the comment of a column.
    struct PartitioningRow {
        what: String,
        name: String,
        transform: String,
    }
}

/// Reads the partition key of a table, and the source column of its `event_date`.
pub(crate) fn read(catalog: &impl CatalogClient, table: &TableName) -> Result<Partitioning> {
    let native = |name: &str| catalog.native_table(name);
    let live_table = format!(
        "SELECT t.table_id FROM {tables} t JOIN {schemas} s ON s.schema_id = t.schema_id \
         WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL \
         AND s.schema_name = {schema} AND t.table_name = {table}",
        tables = native("ducklake_table"),
        schemas = native("ducklake_schema"),
        schema = quote(&table.schema),
        table = quote(&table.table),
    );
    let sql = format!(
        "SELECT 'key' AS what, c.column_name AS name, p.transform AS transform, \
         p.partition_key_index AS position \
         FROM {keys} i JOIN {key_columns} p ON p.partition_id = i.partition_id \
         JOIN {columns} c ON c.table_id = i.table_id AND c.column_id = p.column_id \
         WHERE i.end_snapshot IS NULL AND c.end_snapshot IS NULL AND i.table_id IN ({live_table}) \
         UNION ALL SELECT 'comment' AS what, g.value AS name, '' AS transform, -1 AS position \
         FROM {tags} g JOIN {columns} c ON c.table_id = g.table_id AND c.column_id = g.column_id \
         WHERE g.end_snapshot IS NULL AND c.end_snapshot IS NULL AND g.key = 'comment' \
         AND lower(c.column_name) = '{EVENT_DATE}' AND c.table_id IN ({live_table}) \
         ORDER BY position",
        keys = native("ducklake_partition_info"),
        key_columns = native("ducklake_partition_column"),
        columns = native("ducklake_column"),
        tags = native("ducklake_column_tag"),
    );
    let mut found = Partitioning::default();
    for PartitioningRow { what, name, transform } in catalog.catalog_query(&sql)? {
        match (what.as_str(), transform.as_str()) {
            ("key", "identity") => found.key.push(name),
            ("key", _) => found.key.push(format!("{transform}({name})")),
            _ => found.date_of = column_of_comment(&name).map(str::to_owned),
        }
    }
    Ok(found)
}

/// Returns the statement that records the column; part of the transaction that creates the table.
#[must_use]
pub(crate) fn record_sql(table: &TableName, column: &str) -> String {
    format!(
        "COMMENT ON COLUMN {LAKE}.{}.{} IS {}",
        table.sql(),
        quote_identifier(EVENT_DATE),
        quote(&date_comment(column))
    )
}
