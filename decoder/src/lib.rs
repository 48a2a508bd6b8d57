//! Avro records become rows: a plan compiled once for a writer's schema and a table, then one pass
//! over each payload that appends to column builders.
//!
//! No value tree, and nothing is allocated for a record: a [`RecordDecoder`] walks the datum in place
//! and writes to the [`RowBuffer`] of its table, whose batches go to the Parquet writer. A record that
//! fails leaves the rows as they were. Records of different writers' schemas may take turns in one
//! buffer, as long as all fit its table.
//!
//! Everything in a datum is bounded by the datum: lengths by the bytes that are left, items that take
//! no bytes by its size, nesting by the schema, which is finite as recursive ones are refused.

mod arrow;
mod builder;
mod calendar;
mod cursor;
mod decimal;
mod envelope;
mod error;
mod json;
mod json_plan;
mod json_text;
mod json_values;
mod key;
mod plan;
mod read;
mod row_buffer;
mod text_buffer;
mod topics;

use std::sync::Arc;

use ducktide_lake::table::{
    AvroField, AvroSchema, AvroType, Column, ColumnType, TableShape, UnionAs, diff, rename,
};

pub use arrow::{UTC, fields as arrow_fields};
pub use calendar::{date_text, timestamp_micros};
pub use error::{CompileError, DecodeError, Problem};
pub use json_values::EXTRA;
pub use key::{Key, KeyDecoder};
pub use row_buffer::{FIRST_EVENT_DATE, LAST_EVENT_DATE, RowBuffer};

use builder::ColumnBuilder;
use cursor::Cursor;
use json_values::ObjectPlan;
use plan::RecordPlan;
use text_buffer::{Piece, TextBuffer};

/// Decodes the records of one writer's schema, or JSON objects, into the rows of one table.
///
/// Compiled once for a schema id; decoding needs only a shared reference, so that one decoder serves
/// all threads.
#[derive(Debug)]
pub struct RecordDecoder {
    table: Arc<TableShape>,
    plan: ValuePlan,
    enum_columns: Vec<String>,
}

/// How a value is read.
#[derive(Debug)]
enum ValuePlan {
    Avro(RecordPlan),
    Json(ObjectPlan),
}

impl RecordDecoder {
    /// Matches a writer's fields with a table's columns by name, and by the aliases of the writer's
    /// and of the topic's `newest` schema ([`rename`]).
    ///
    /// A column that the writer lacks is NULL in its rows; a field that the table lacks, or of a type
    /// that the column cannot hold, is an error that lists all such differences.
    pub fn compile(
        writer: &AvroSchema,
        union_as: UnionAs,
        newest: &[AvroField],
        table: Arc<TableShape>,
    ) -> Result<Self, CompileError> {
        let mut fields = AvroType::record_fields(writer, union_as)?;
        rename(&mut fields, &table.columns, newest);
        let difference = diff(&table, &TableShape::of_record(&fields, None)?);
        if !difference.fits() {
            return Err(CompileError::DoesNotFit(difference));
        }
        let enums = fields
            .iter()
            .filter(|field| matches!(field.avro_type.branches()[..], [AvroType::Enum(_)]));
        let enum_columns = enums.map(|field| field.name.clone()).collect();
        let columns = record_columns(&table).collect::<Vec<_>>();
        let plan = ValuePlan::Avro(RecordPlan::compile(&fields, &columns));
        Ok(Self { table, plan, enum_columns })
    }

    /// Takes the fields of JSON objects for the table's columns, by their names; `_extra` gets the rest.
    #[must_use]
    pub fn of_json(table: Arc<TableShape>) -> Self {
        let columns = record_columns(&table).collect::<Vec<_>>();
        let plan = ValuePlan::Json(ObjectPlan::new(&columns));
        Self { table, plan, enum_columns: Vec::new() }
    }

    /// The table that the decoder's rows are for.
    #[must_use]
    pub fn table(&self) -> &Arc<TableShape> {
        &self.table
    }

    /// Columns whose values are the symbols of an enum: few, so that a Parquet dictionary and
    /// statistics are worth it.
    #[must_use]
    pub fn enum_columns(&self) -> &[String] {
        &self.enum_columns
    }

    /// Appends a record's columns; [`RowBuffer::push_kafka`] has to complete the row.
    ///
    /// `datum` is the Avro binary alone, without the registry's header, or the JSON text. After an error
    /// the buffer is as it was before.
    ///
    /// # Panics
    /// If the buffer belongs to a table of another shape, or its last row was not completed.
    pub fn decode(&self, datum: &[u8], rows: &mut RowBuffer) -> Result<(), DecodeError> {
        let columns = rows.open_row(&self.table);
        let result = self.append(datum, columns);
        match &result {
            Ok(()) => rows.row_decoded(datum.len()),
            Err(_) => rows.abandon_row(),
        }
        result
    }

    #[inline]
    fn append(&self, datum: &[u8], columns: &mut [ColumnBuilder]) -> Result<(), DecodeError> {
        let plan = match &self.plan {
            ValuePlan::Avro(plan) => plan,
            ValuePlan::Json(plan) => {
                return plan.read(datum, columns).map_err(|(index, problem)| match index {
                    Some(index) => self.error(index, std::iter::empty(), problem),
                    None => DecodeError { field: String::new(), problem },
                });
            }
        };
        let mut cursor = Cursor::new(datum);
        for (index, plan) in &plan.fields {
            plan.read(&mut cursor, &mut columns[*index])
                .map_err(|problem| self.error(*index, cursor.path(), problem))?;
        }
        for index in &plan.absent {
            columns[*index].push_null();
        }
        if cursor.remaining() > 0 {
            return Err(DecodeError { field: String::new(), problem: Problem::TrailingBytes });
        }
        Ok(())
    }

    #[cold]
    fn error(
        &self,
        index: usize,
        within: impl Iterator<Item = usize>,
        problem: Problem,
    ) -> DecodeError {
        let column = record_columns(&self.table).nth(index).expect("the plan's columns exist");
        DecodeError { field: nested_name(column, within), problem }
    }
}

/// The columns that are filled from records.
fn record_columns(table: &TableShape) -> impl Iterator<Item = &Column> {
    table.columns.iter().filter(|column| !column.is_own())
}

/// The name of a column, or of a field within it by the indices of the fields of a STRUCT, as in
/// `after.items.element.price`.
fn nested_name(column: &Column, within: impl Iterator<Item = usize>) -> String {
    let mut name = column.name.clone();
    let mut column_type = &column.column_type;
    for index in within {
        let fields = loop {
            match column_type {
                ColumnType::List(items) => {
                    name.push_str(".element");
                    column_type = items;
                }
                ColumnType::Map(values) => {
                    name.push_str(".value");
                    column_type = values;
                }
                ColumnType::Struct(fields) => break fields.as_slice(),
                _ => break &[],
            }
        };
        let Some(field) = fields.get(index) else { break };
        name.push('.');
        name.push_str(&field.name);
        column_type = &field.column_type;
    }
    name
}
