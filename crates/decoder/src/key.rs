//! Record keys: the raw bytes, or Avro with a schema of its own.

use ducktide_protocol::table::{
    AvroField, AvroSchema, AvroType, Column, ColumnType, KAFKA_KEY, ShapeError, TableShape,
    UnionAs, diff, rename,
};

use super::builder::ColumnBuilder;
use super::cursor::Cursor;
use super::plan::ReadPlan;
use super::{CompileError, Problem};

/// A record key for the column `_kafka_key`.
#[derive(Clone, Copy, Debug)]
pub enum Key<'a> {
    /// The raw bytes, for a column of text or bytes; None is NULL.
    Raw(Option<&'a [u8]>),
    /// The decoder, and the Avro binary without the registry's header.
    Avro(&'a KeyDecoder, &'a [u8]),
}

/// Decoder of the keys of one writer's schema for the key column of one table.
#[derive(Debug)]
pub struct KeyDecoder {
    /// None if the table has no key column.
    plan: Option<ReadPlan>,
}

impl KeyDecoder {
    /// Returns the key as a field, so that renames and differences are found as for fields of
    /// values.
    pub fn field(schema: &AvroSchema, union_as: UnionAs) -> Result<AvroField, ShapeError> {
        Ok(AvroField::new(KAFKA_KEY, AvroType::resolve(schema, union_as)?))
    }

    /// Returns the column that a table needs for keys of this type.
    pub fn column(key: &AvroField) -> Result<Column, ShapeError> {
        Ok(Column::new(KAFKA_KEY, ColumnType::of(&key.avro_type, KAFKA_KEY)?))
    }

    /// Compiles a decoder for a writer's schema; `newest` has the known fields of the newest schema
    /// of the topic's keys. Returns the same errors as for values.
    pub fn compile(
        writer: &AvroSchema,
        union_as: UnionAs,
        newest: &[AvroField],
        table: &TableShape,
    ) -> Result<Self, CompileError> {
        let Some(column) = table.column(KAFKA_KEY) else { return Ok(Self { plan: None }) };
        let mut key = [Self::field(writer, union_as)?];
        rename(&mut key, &table.columns, newest);
        let [key] = key;
        let difference = diff(table, &TableShape { columns: vec![Self::column(&key)?] });
        if !difference.fits() {
            return Err(CompileError::DoesNotFit(difference));
        }
        Ok(Self { plan: Some(ReadPlan::compile(&key.avro_type, &column.column_type)) })
    }

    pub(super) fn read(&self, datum: &[u8], column: &mut ColumnBuilder) -> Result<(), Problem> {
        let Some(plan) = &self.plan else { return Ok(()) };
        let mut cursor = Cursor::new(datum);
        plan.read(&mut cursor, column)?;
        if cursor.remaining() > 0 { Err(Problem::TrailingBytes) } else { Ok(()) }
    }
}
