//! Table that a topic fills: created from the newest schema, altered for it, or rejected.

use ducktide_lake::DuckLake;
use ducktide_protocol::dead_letter::dead_letter_shape;
use ducktide_protocol::dedupe::EventId;
use ducktide_protocol::table::{
    Column, ColumnType, EVENT_DATE, KAFKA_COLUMNS, ShapeError, TableName, TableShape, diff,
};
use ducktide_protocol::{Lake as _, LakeError, LakeFault, Result, Table};

use crate::config::{Config, OnIncompatibleSchema, TableLayout};
use crate::decode::newest_schemas::NewestSchemas;

/// Creates the table for the newest schema of the topic, or adds the columns that it lacks.
///
/// A table that was not created for Ducktide is rejected. A schema with types that the table cannot
/// store is rejected too, unless its records become dead letters.
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
    let found = if let Some(found) = lake.find_table(name)? {
        found
    } else {
        let wanted = shape(newest, given.is_some())?;
        let by_date = given.map_or(Ok(()), |column| wanted.check_partition_by(column));
        by_date.map_err(|error| unusable(name, &error))?;
        match lake.ensure_table_by_date(name, &wanted, given) {
            // Another worker has just created the table for another version of the schema.
            Err(error) if matches!(error.fault(), Some(LakeFault::TableMismatch { .. })) => {
                lake.find_table(name)?.ok_or(error)?
            }
            created => return created,
        }
    };
    let date_column = date_column(&found, given)?;
    let wanted = if newest.fields.is_empty() {
        // Without a schema of values, only the columns of the key and the headers can be missing.
        let columns = layout.envelope(newest.key.as_ref());
        TableShape { columns: columns.map_err(|error| unusable(name, &error))? }
    } else {
        shape(&newest.renamed_for(&found.shape), date_column.is_some())?
    };
    let difference = diff(&found.shape, &wanted);
    if difference.missing.iter().any(Column::is_required) {
        return lake.ensure_table(name, &wanted);
    }
    let table = if difference.mismatched.is_empty() {
        lake.add_columns(name, &difference.missing)?
    } else if on_incompatible == OnIncompatibleSchema::Stop {
        return lake.ensure_table(name, &wanted);
    } else {
        tracing::warn!(table = %name, %difference, "newest schema does not fit the table, its records become dead letters");
        found
    };
    check(&table, date_column.as_deref())?;
    if let (Some(column), None) = (&date_column, &table.partitioning.date_of) {
        lake.record_date_column(name, column)?;
    }
    Ok(table)
}

/// Returns the timestamp column whose date becomes `event_date` of an existing table. The
/// partitioning of the table decides; a setting that contradicts it is rejected.
pub(crate) fn date_column(table: &Table, partition_by: Option<&str>) -> Result<Option<String>> {
    let Table { version, shape, partitioning, .. } = table;
    partitioning
        .date_column(&version.table, shape, partition_by)
        .map_err(|error| LakeError::invalid(error.to_string()))
}

fn unusable(name: &TableName, error: &ShapeError) -> LakeError {
    LakeError::invalid(format!(
        "no table can be derived from the newest schema of the topic: table=`{name}`"
    ))
    .because(error.to_string())
}

/// Checks that a table, which may have been altered, has all columns that every row needs.
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

/// Checks that a dead-letter table has all columns that every row needs.
pub(crate) fn check_dead_letters(table: &Table) -> Result<()> {
    check_columns(table, dead_letter_shape().columns)
}

/// Checks that a column can identify events.
pub(crate) fn check_ids(table: &Table, column: &str) -> Result<()> {
    let refused = |what: &str| {
        LakeError::invalid(format!(
            "--dedupe-by {what}; set it to a column of the records with text, bytes, UUIDs or integers: \
             table=`{}` column=`{column}`",
            table.version.table
        ))
    };
    match table.shape.column(column) {
        None => Err(refused("is not a column of the table")),
        Some(found) if found.is_own() => Err(refused("is a column that Ducktide fills")),
        Some(found) if !EventId::fits(&found.column_type) => {
            Err(refused("is a column of another type"))
        }
        Some(_) => Ok(()),
    }
}

/// Checks that rows can be sorted by columns.
pub(crate) fn check_order(table: &Table, columns: &[String]) -> Result<()> {
    let has_order = |column: &Column| {
        let of = &column.column_type;
        !matches!(of, ColumnType::List(_) | ColumnType::Map(_) | ColumnType::Struct(_))
    };
    match columns.iter().find(|name| !table.shape.column(name).is_some_and(has_order)) {
        None => Ok(()),
        Some(column) => Err(LakeError::invalid(format!(
            "--sort-by is not a column of the table with a sortable type: table=`{}` column=`{column}`",
            table.version.table
        ))),
    }
}

/// Minimum memory of a column while a batch is filled, bytes: the values of a few rows, and their
/// descriptions in memory, in the file and in the catalog.
const LEAST_BYTES_PER_COLUMN: usize = 4 << 10;

/// Checks that a batcher has enough memory for the columns of a table.
pub(crate) fn check_memory(table: &Table, config: &Config) -> Result<()> {
    let columns = table.shape.columns.iter();
    let columns = columns.map(|column| leaf_columns(&column.column_type)).sum::<usize>();
    let least = columns * LEAST_BYTES_PER_COLUMN;
    if least <= config.batcher_memory() {
        return Ok(());
    }
    // The batchers share half of the limit.
    let limit = (least * 2).div_ceil(1 << 20);
    Err(LakeError::setting(format!(
        "--memory-limit is too small for the columns of the table; set at least {}MiB, or at least \
         {limit}MiB with --batchers 1, or fill a table with fewer columns: table=`{}` columns=`{columns}` memory_limit=`{}`",
        limit * config.batchers,
        table.version.table,
        config.batch.memory_limit
    )))
}

/// Returns the number of leaf columns of a column in Parquet files.
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
        "the table was altered and cannot be filled any more; restore its columns, then restart the \
         consumer: table=`{}` {what}",
        table.version.table
    ))
}
