//! Columns of a table, as the catalog describes them: names and types, and the field IDs of its files.

use std::fmt::Write as _;

use ducktide_protocol::FieldIds;
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::table::{TableName, TableShape, quote_identifier};

use crate::catalog::client::CatalogClient;
use crate::sql_text::quote;

crate::row_struct! {
    /// A column, or a field of one.
    struct FieldRow {
        id: i32,
        name: String,
        type_name: String,
        parent: Option<i32>,
    }
}

/// Reads columns and field IDs of a table.
pub(super) fn read(
    catalog: &impl CatalogClient,
    table: &TableName,
) -> Result<(TableShape, FieldIds)> {
    let rows = field_rows(catalog, table)?;
    let shape = TableShape::from_described(describe(&rows)).map_err(|error| {
        LakeError::invalid(format!("read the table's columns: table=`{table}`")).because(error)
    })?;
    let ids: Vec<_> = rows.into_iter().map(|row| (row.id, row.name, row.parent)).collect();
    Ok((shape, FieldIds::from_columns(&ids)))
}

/// Reads names and types of a table's columns, as DuckDB's DESCRIBE prints them.
pub(crate) fn described(
    catalog: &impl CatalogClient,
    table: &TableName,
) -> Result<Vec<(String, String)>> {
    Ok(describe(&field_rows(catalog, table)?).collect())
}

fn field_rows(catalog: &impl CatalogClient, table: &TableName) -> Result<Vec<FieldRow>> {
    catalog.catalog_query(&format!(
        "SELECT c.column_id AS id, c.column_name AS name, c.column_type AS type_name, \
         c.parent_column AS parent FROM {tables} t JOIN {schemas} s ON s.schema_id = t.schema_id \
         JOIN {columns} c ON c.table_id = t.table_id \
         WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL AND c.end_snapshot IS NULL \
         AND s.schema_name = {schema} AND t.table_name = {table} ORDER BY c.column_order",
        tables = catalog.native_table("ducklake_table"),
        schemas = catalog.native_table("ducklake_schema"),
        columns = catalog.native_table("ducklake_column"),
        schema = quote(&table.schema),
        table = quote(&table.table),
    ))
}

fn describe(rows: &[FieldRow]) -> impl Iterator<Item = (String, String)> {
    fields(rows, None).map(|row| (row.name.clone(), described_type(rows, row)))
}

/// Returns the columns of a table, or the fields of one, in their order.
fn fields(rows: &[FieldRow], parent: Option<i32>) -> impl Iterator<Item = &FieldRow> {
    rows.iter().filter(move |row| row.parent == parent)
}

/// Returns the type of a column as DuckDB's DESCRIBE prints it.
fn described_type(rows: &[FieldRow], column: &FieldRow) -> String {
    let within = || fields(rows, Some(column.id));
    let types = || within().map(|field| described_type(rows, field));
    match column.type_name.as_str() {
        "list" => format!("{}[]", types().collect::<String>()),
        "map" => format!("MAP({})", types().collect::<Vec<_>>().join(", ")),
        "struct" => {
            let mut text = String::new();
            for (field, described) in within().zip(types()) {
                let separator = if text.is_empty() { "" } else { ", " };
                let _ = write!(text, "{separator}{} {described}", quote_identifier(&field.name));
            }
            format!("STRUCT({text})")
        }
        scalar => scalar_type(scalar),
    }
}

/// Returns DuckDB's name of a type without fields.
fn scalar_type(name: &str) -> String {
    let described = match name {
        "int8" => "TINYINT",
        "int16" => "SMALLINT",
        "int32" => "INTEGER",
        "int64" => "BIGINT",
        "int128" => "HUGEINT",
        "uint8" => "UTINYINT",
        "uint16" => "USMALLINT",
        "uint32" => "UINTEGER",
        "uint64" => "UBIGINT",
        "uint128" => "UHUGEINT",
        "float32" => "FLOAT",
        "float64" => "DOUBLE",
        "timetz" => "TIME WITH TIME ZONE",
        "timestamptz" => "TIMESTAMP WITH TIME ZONE",
        // The others have the same name in capital letters, such as `varchar` and `decimal(18,3)`.
        other => return other.to_ascii_uppercase(),
    };
    described.to_owned()
}
