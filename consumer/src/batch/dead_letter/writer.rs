//! Parquet files of a dead-letter table.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{
    ArrayRef, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow_schema::{ArrowError, DataType, Fields, Schema, SchemaRef};
use ducktide_decoder::{UTC, arrow_fields};
use ducktide_protocol::dead_letter::{COLUMNS_WITH_STATISTICS, DeadLetter, Resolution};
use ducktide_protocol::{StagedFile, Table, TableVersion};

use crate::batch::staging::{ColumnHints, StagingError, StagingWriter};
use crate::batch::staging_area::{RowWriter, StagingArea};

/// Maximum number of dead letters in a record batch.
const DEAD_LETTERS_PER_BATCH: usize = 1024;

/// Maximum size of a record batch of dead letters, bytes, unless the memory limit is small.
pub(crate) const BYTES_PER_BATCH: usize = 4 << 20;

/// Writer of the rows of one dead-letter table.
#[derive(Debug)]
pub(crate) struct DeadLetterWriter<W = StagingWriter> {
    version: TableVersion,
    schema: SchemaRef,
    dead_letters: Vec<DeadLetter>,
    /// Memory of the dead letters that are not written, bytes.
    bytes: usize,
    /// Maximum size of a record batch, bytes.
    bytes_per_batch: usize,
    files: W,
}

impl<W: RowWriter> DeadLetterWriter<W> {
    /// Creates a writer without files.
    pub(crate) fn new(
        table: &Table,
        bytes_per_batch: usize,
        area: &impl StagingArea<Writer = W>,
    ) -> Result<Self, StagingError> {
        let schema: SchemaRef = Arc::new(Schema::new(arrow_fields(&table.shape)));
        let others = table.shape.columns.iter().map(|column| column.name.clone());
        let without = others.filter(|name| !COLUMNS_WITH_STATISTICS.contains(&name.as_str()));
        let hints = ColumnHints { no_statistics: without.collect(), ..ColumnHints::default() };
        let version = table.version.clone();
        let files = area.open(table, Arc::clone(&schema), &hints)?;
        Ok(Self { version, schema, dead_letters: Vec::new(), bytes: 0, bytes_per_batch, files })
    }

    /// Adds a dead letter. Returns whether a record batch was written.
    pub(crate) fn push(&mut self, dead_letter: DeadLetter) -> Result<bool, StagingError> {
        self.bytes += dead_letter.bytes();
        self.dead_letters.push(dead_letter);
        let is_batch =
            self.dead_letters.len() >= DEAD_LETTERS_PER_BATCH || self.bytes >= self.bytes_per_batch;
        if is_batch {
            self.write()?;
        }
        Ok(is_batch)
    }

    fn write(&mut self) -> Result<(), StagingError> {
        let batch = batch(&self.schema, &self.dead_letters).map_err(StagingError::Split)?;
        self.dead_letters.clear();
        self.bytes = 0;
        self.files.write(&batch)
    }

    /// Closes the files.
    pub(crate) fn finish(&mut self) -> Result<Vec<StagedFile>, StagingError> {
        if !self.dead_letters.is_empty() {
            self.write()?;
        }
        self.files.finish()
    }

    /// Drops the dead letters and removes the files. No commit may have been attempted with them.
    pub(crate) fn abandon(mut self) {
        self.files.abandon();
    }

    pub(crate) const fn table_version(&self) -> &TableVersion {
        &self.version
    }

    pub(crate) fn rows(&self) -> u64 {
        self.files.rows() + self.dead_letters.len() as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.files.bytes() + self.bytes as u64
    }

    pub(crate) fn memory(&self) -> usize {
        self.files.memory() + self.bytes
    }
}

/// Converts dead letters to a record batch. Columns are found by name: their order may differ
/// between tables.
fn batch(schema: &SchemaRef, dead_letters: &[DeadLetter]) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|field| match field.name().as_str() {
        "headers" => headers(field.data_type(), dead_letters),
        name => column(name, field.data_type(), dead_letters),
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect())
}

fn column(name: &str, data_type: &DataType, dead_letters: &[DeadLetter]) -> ArrayRef {
    let dead_letters = dead_letters.iter();
    match name {
        "topic" => Arc::new(StringArray::from_iter_values(
            dead_letters.map(|dead_letter| &dead_letter.place.topic),
        )),
        "partition" => Arc::new(Int32Array::from_iter_values(
            dead_letters.map(|dead_letter| dead_letter.place.partition.0),
        )),
        "offset" => Arc::new(Int64Array::from_iter_values(
            dead_letters.map(|dead_letter| dead_letter.place.offset.0),
        )),
        "timestamp" => times(dead_letters.map(|dead_letter| dead_letter.timestamp_micros)),
        "key" => Arc::new(
            dead_letters.map(|dead_letter| dead_letter.key.as_deref()).collect::<BinaryArray>(),
        ),
        "value" => Arc::new(
            dead_letters.map(|dead_letter| dead_letter.value.as_deref()).collect::<BinaryArray>(),
        ),
        "schema_id" => {
            let ids = dead_letters.map(|dead_letter| dead_letter.schema_id.map(i64::from));
            Arc::new(ids.collect::<Int64Array>())
        }
        "error_class" => texts(dead_letters.map(|dead_letter| dead_letter.error_class.as_deref())),
        "error" => texts(dead_letters.map(|dead_letter| dead_letter.error.as_deref())),
        "failed_at" => times(dead_letters.map(|dead_letter| dead_letter.failed_at_micros)),
        "resolution" => {
            texts(dead_letters.map(|dead_letter| dead_letter.resolution.map(Resolution::as_str)))
        }
        "resolved_at" => times(dead_letters.map(|dead_letter| dead_letter.resolved_at_micros)),
        // A column that was added by an operator. Missing columns were rejected when the table was
        // found.
        _ => new_null_array(data_type, dead_letters.len()),
    }
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn times(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone(UTC))
}

fn headers(data_type: &DataType, dead_letters: &[DeadLetter]) -> ArrayRef {
    let (element, fields) = match data_type {
        DataType::List(element) => match element.data_type() {
            DataType::Struct(fields) => (element, fields.clone()),
            _ => unreachable!("the shape was compared when the table was found"),
        },
        _ => unreachable!("the shape was compared when the table was found"),
    };
    let mut list = ListBuilder::new(pairs(fields)).with_field(Arc::clone(element));
    for dead_letter in dead_letters {
        let pairs = list.values();
        for header in &dead_letter.headers {
            name_builder(pairs).append_value(&header.key);
            value_builder(pairs).append_option(header.value.as_deref());
            pairs.append(true);
        }
        list.append(dead_letter.resolution.is_none());
    }
    Arc::new(list.finish())
}

fn pairs(fields: Fields) -> StructBuilder {
    StructBuilder::new(fields, vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())])
}

fn name_builder(pairs: &mut StructBuilder) -> &mut StringBuilder {
    pairs.field_builder(0).expect("`pairs` created it")
}

fn value_builder(pairs: &mut StructBuilder) -> &mut BinaryBuilder {
    pairs.field_builder(1).expect("`pairs` created it")
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
