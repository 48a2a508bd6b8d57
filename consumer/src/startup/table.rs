//! The table that a topic fills: made from its newest schema, widened for it, or refused.

use ducktide_protocol::dead_letter::dead_letter_shape;
use ducktide_protocol::dedupe::EventId;
use ducktide_protocol::table::{
    Column, ColumnType, EVENT_DATE, KAFKA_COLUMNS, ShapeError, TableName, TableShape, diff,
};
use ducktide_lake::DuckLake;
use ducktide_protocol::{Lake as _, LakeError, Result, Table};

use crate::config::{Config, OnIncompatibleSchema, TableLayout};
use crate::decode::newest_schemas::NewestSchemas;

/// Makes the table for the fields of the topic's newest schema, or adds the columns that it lacks.
///
/// A table that was not made for Ducktide is refused, and so is, unless its records are to become dead
/// letters, a schema with types that the table cannot hold.
pub(crate) fn prepare(
    lake: &mut DuckLake,
    name: &TableName,
    newest: &NewestSchemas,
    layout: &TableLayout,
    on_incompatible: OnIncompatibleSchema,
) -> Result<Table> {
    let given = layout.partition_by.as_deref();
    let shape = |newest: &NewestSchemas, is_by_date: bool| {
        let shape = TableShape::of_record(&newest.fields, None);
        let mut shape = shape.map_err(|error| unusable(name, &error))?;
        if is_by_date {
            shape.columns.push(Column::new(EVENT_DATE, ColumnType::Date));
        }
        let envelope = layout.envelope(newest.key.as_ref());
        let envelope = envelope.map_err(|error| unusable(name, &error))?;
        shape.columns.extend(envelope);
        Ok(shape)
    };
    let Some(found) = lake.find_table(name)? else {
        let wanted = shape(newest, given.is_some())?;
        let by_date = given.map_or(Ok(()), |column| wanted.check_partition_by(column));
        by_date.map_err(|error| unusable(name, &error))?;
        return lake.ensure_table_by_date(name, &wanted, given);
    };
    let date_column = date_column(&found, given)?;
    let wanted = if newest.fields.is_empty() {
        // Only what does not come from a schema of values can be missing.
        let columns = layout.envelope(newest.key.as_ref());
        TableShape { columns: columns.map_err(|error| unusable(name, &error))? }
    } else {
        shape(&newest.renamed_for(&found.shape), date_column.is_some())?
    };
    let difference = diff(&found.shape, &wanted);
    if difference.missing.iter().any(Column::is_required) {
        return lake.ensure_table(name, &wanted);
    }
    let table = if difference.unfit.is_empty() {
        lake.add_columns(name, &difference.missing)?
    } else if on_incompatible == OnIncompatibleSchema::Stop {
        return lake.ensure_table(name, &wanted);
    } else {
        tracing::warn!(table = %name, %difference, "records of the newest schema become dead letters");
        found
    };
    check(&table, date_column.as_deref())?;
    if let (Some(column), None) = (&date_column, &table.partitioning.date_of) {
        lake.record_date_column(name, column)?;
    }
    Ok(table)
}

/// The timestamp column whose date becomes `event_date` of an existing table. The table's own
/// partitioning decides; a setting that contradicts it is refused.
pub(crate) fn date_column(table: &Table, partition_by: Option<&str>) -> Result<Option<String>> {
    let Table { version, shape, partitioning, .. } = table;
    partitioning
        .date_column(&version.table, shape, partition_by)
        .map_err(|error| LakeError::invalid(error.to_string()))
}

fn unusable(name: &TableName, error: &ShapeError) -> LakeError {
    LakeError::invalid(format!("the topic's newest schema has no table: table=`{name}`"))
        .because(error.to_string())
}

/// Whether a table that somebody altered still has what every row brings.
pub(crate) fn check(table: &Table, partition_by: Option<&str>) -> Result<()> {
    date_column(table, partition_by)?;
    let mut own = KAFKA_COLUMNS.map(|(name, of)| Column::new(name, of)).to_vec();
    if partition_by.is_some() {
        own.push(Column::new(EVENT_DATE, ColumnType::Date));
    }
    let key = partition_by.map_or(Ok(()), |column| table.shape.check_partition_by(column));
    key.map_err(|error| altered(table, &error.to_string()))?;
    check_columns(table, own)
}

/// The same for a dead-letter table.
pub(crate) fn check_dead_letters(table: &Table) -> Result<()> {
    check_columns(table, dead_letter_shape().columns)
}

/// Whether records can be told apart by a column.
pub(crate) fn check_ids(table: &Table, column: &str) -> Result<()> {
    let refused = |what: &str| {
        LakeError::invalid(format!(
            "--dedupe-by {what}; name a column of the records that holds text, bytes, UUIDs or whole \
             numbers: table=`{}` column=`{column}`",
            table.version.table
        ))
    };
    match table.shape.column(column) {
        None => Err(refused("names no column of the table")),
        Some(found) if found.is_own() => Err(refused("names a column that Ducktide fills")),
        Some(found) if !EventId::fits(&found.column_type) => {
            Err(refused("names a column of another type"))
        }
        Some(_) => Ok(()),
    }
}

/// Whether rows can be sorted by columns.
pub(crate) fn check_order(table: &Table, columns: &[String]) -> Result<()> {
    let has_order = |column: &Column| {
        let of = &column.column_type;
        !matches!(of, ColumnType::List(_) | ColumnType::Map(_) | ColumnType::Struct(_))
    };
    match columns.iter().find(|name| !table.shape.column(name).is_some_and(has_order)) {
        None => Ok(()),
        Some(column) => Err(LakeError::invalid(format!(
            "--sort-by names no column of the table that has an order: table=`{}` column=`{column}`",
            table.version.table
        ))),
    }
}

/// The least memory that a column takes while rows are gathered, bytes: values of a few rows, and what
/// describes them in memory, in the file and in the catalog.
const LEAST_BYTES_PER_COLUMN: usize = 4 << 10;

/// Whether a batcher has memory for a table of so many columns.
pub(crate) fn check_memory(table: &Table, config: &Config) -> Result<()> {
    let columns = table.shape.columns.iter();
    let columns = columns.map(|column| leaf_columns(&column.column_type)).sum::<usize>();
    let least = columns * LEAST_BYTES_PER_COLUMN;
    if least <= config.batcher_memory() {
        return Ok(());
    }
    // Batchers have half of the limit.
    let limit = (least * 2).div_ceil(1 << 20);
    Err(LakeError::setting(format!(
        "--memory-limit has no room for a table of so many columns; give it at least {}MiB, or at \
         least {limit}MiB with --batchers 1, or fill a table of fewer columns: table=`{}` columns=`{columns}` memory_limit=`{}`",
        limit * config.batchers,
        table.version.table,
        config.batch.memory_limit
    )))
}

/// The columns that a column has in Parquet files: one for each field without fields.
fn leaf_columns(of: &ColumnType) -> usize {
    match of {
        ColumnType::Struct(fields) => {
            fields.iter().map(|field| leaf_columns(&field.column_type)).sum()
        }
        ColumnType::List(items) => leaf_columns(items),
        ColumnType::Map(values) => 1 + leaf_columns(values),
        _ => 1,
    }
}

fn check_columns(table: &Table, columns: Vec<Column>) -> Result<()> {
    let difference = diff(&table.shape, &TableShape { columns });
    if difference.fits() { Ok(()) } else { Err(altered(table, &difference.to_string())) }
}

fn altered(table: &Table, what: &str) -> LakeError {
    LakeError::invalid(format!(
        "the table was altered and cannot be filled any more; give it its columns back, then start \
         the consumer again: table=`{}` {what}",
        table.version.table
    ))
}
