//! Decoding of the records of one writer's schema into the rows of a table.

use std::sync::Arc;

use ducktide_protocol::table::{
    AvroField, AvroSchema, AvroType, Column, ColumnType, TableShape, UnionAs, diff, rename,
};

use crate::builder::ColumnBuilder;
use crate::cursor::Cursor;
use crate::error::{CompileError, DecodeError, Problem};
use crate::json_values::ObjectPlan;
use crate::plan::RecordPlan;
use crate::row_buffer::{RowBuffer, record_columns};

/// Decodes the records of one writer's schema, or JSON objects, into the rows of one table.
///
/// Compiled once per schema id. Decoding needs only a shared reference, so one decoder serves all
/// threads.
#[derive(Debug)]
pub struct RecordDecoder {
    table: Arc<TableShape>,
    plan: DecodePlan,
    enum_columns: Vec<String>,
}

/// Decoding plan of a value.
#[derive(Debug)]
enum DecodePlan {
    Avro(RecordPlan),
    Json(ObjectPlan),
}

impl RecordDecoder {
    /// Matches a writer's fields with the columns of a table by name, and by the aliases of the
    /// writer's and of the topic's `newest` schema ([`rename`]).
    ///
    /// A column without a field is NULL. A field without a column, or with a type that the column
    /// cannot hold, is an error; the error lists all such differences.
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
        let plan = DecodePlan::Avro(RecordPlan::compile(&fields, &columns));
        Ok(Self { table, plan, enum_columns })
    }

    /// Creates a decoder that assigns the fields of JSON objects to columns by name; `_extra` gets
    /// the rest.
    #[must_use]
    pub fn of_json(table: Arc<TableShape>) -> Self {
        let columns = record_columns(&table).collect::<Vec<_>>();
        let plan = DecodePlan::Json(ObjectPlan::new(&columns));
        Self { table, plan, enum_columns: Vec::new() }
    }

    /// Returns the shape of the table.
    #[must_use]
    pub fn table(&self) -> &Arc<TableShape> {
        &self.table
    }

    /// Returns the columns with enum symbols: few distinct values, so a Parquet dictionary and
    /// statistics pay off.
    #[must_use]
    pub fn enum_columns(&self) -> &[String] {
        &self.enum_columns
    }

    /// Appends the columns of a record; [`RowBuffer::push_kafka`] has to complete the row.
    ///
    /// `datum` is the Avro binary without the registry's header, or the JSON text. After an error
    /// the buffer is unchanged.
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
            DecodePlan::Avro(plan) => plan,
            DecodePlan::Json(plan) => {
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

/// Returns the name of a column, or of a field nested in it, given by the field indices, for
/// example `after.items.element.price`.
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
