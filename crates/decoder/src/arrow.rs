//! Conversion of builders to Arrow arrays, with the data types that give the right Parquet types.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray,
    ListArray, MapArray, PrimitiveArray, StringArray, StructArray,
    types::{
        Date32Type, Float64Type, Int32Type, Int64Type, Time64MicrosecondType,
        TimestampMicrosecondType, TimestampNanosecondType,
    },
};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::{
    ArrowError, DataType, Field, FieldRef, Fields, TimeUnit,
    extension::{Json, Uuid},
};
use ducktide_protocol::table::{Column, ColumnType, KAFKA_TOPIC, TableShape};

use super::builder::{Bytes, ColumnBuilder, Lists, Maps, Primitives, Structs};

/// Time zone of instants. Parquet stores them as adjusted to UTC, and DuckDB reads them as
/// TIMESTAMPTZ.
pub const UTC: &str = "UTC";

/// Returns the Arrow fields of a table. `_kafka_topic` is a dictionary, all others are plain.
#[must_use]
pub fn fields(table: &TableShape) -> Fields {
    let fields = table.columns.iter().map(|column| {
        if column.is_named(KAFKA_TOPIC) {
            let keys_and_values = (Box::new(DataType::Int32), Box::new(DataType::Utf8));
            let data_type = DataType::Dictionary(keys_and_values.0, keys_and_values.1);
            return Field::new(&column.name, data_type, true);
        }
        field(column)
    });
    fields.collect()
}

/// Returns the field of a column. UUID and JSON are extension types, which the Parquet writer
/// converts to its logical types.
fn field(column: &Column) -> Field {
    let field = Field::new(&column.name, data_type(&column.column_type), true);
    match column.column_type {
        ColumnType::Uuid => field.with_extension_type(Uuid),
        ColumnType::Json => field.with_extension_type(Json::default()),
        _ => field,
    }
}

fn data_type(column_type: &ColumnType) -> DataType {
    match column_type {
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Integer => DataType::Int32,
        ColumnType::BigInt => DataType::Int64,
        ColumnType::Double => DataType::Float64,
        ColumnType::Varchar | ColumnType::Json => DataType::Utf8,
        ColumnType::Blob => DataType::Binary,
        ColumnType::Uuid => DataType::FixedSizeBinary(16),
        ColumnType::Date => DataType::Date32,
        ColumnType::Time => DataType::Time64(TimeUnit::Microsecond),
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        ColumnType::TimestampNs => DataType::Timestamp(TimeUnit::Nanosecond, None),
        ColumnType::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        ColumnType::Decimal { precision, scale } => {
            DataType::Decimal128(*precision, scale.cast_signed())
        }
        ColumnType::List(items) => DataType::List(nested("element", items, true)),
        ColumnType::Map(values) => {
            let key = nested("key", &ColumnType::Varchar, false);
            let entries = Fields::from(vec![key, nested("value", values, true)]);
            let entries = Field::new("key_value", DataType::Struct(entries), false);
            DataType::Map(Arc::new(entries), false)
        }
        ColumnType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
    }
}

/// Returns a nested field with the name that DuckDB uses.
fn nested(name: &str, column_type: &ColumnType, nullable: bool) -> FieldRef {
    let column = Column::new(name, column_type.clone());
    Arc::new(field(&column).with_nullable(nullable))
}

/// Returns the values of a builder as an array of this type and clears the builder.
pub(super) fn finish(
    column: &mut ColumnBuilder,
    data_type: &DataType,
) -> Result<ArrayRef, ArrowError> {
    Ok(match (column, data_type) {
        (ColumnBuilder::Boolean(column), _) => {
            Arc::new(BooleanArray::new(column.values.finish(), column.validity.finish()))
        }
        (ColumnBuilder::Int32(column), DataType::Date32) => primitive::<Date32Type>(column),
        (ColumnBuilder::Int32(column), _) => primitive::<Int32Type>(column),
        (ColumnBuilder::Int64(column), DataType::Timestamp(TimeUnit::Nanosecond, _)) => {
            primitive::<TimestampNanosecondType>(column)
        }
        (ColumnBuilder::Int64(column), DataType::Timestamp(_, zone)) => {
            let (values, validity) = take(column);
            let micros = PrimitiveArray::<TimestampMicrosecondType>::new(values, validity);
            Arc::new(micros.with_timezone_opt(zone.clone()))
        }
        (ColumnBuilder::Int64(column), DataType::Time64(_)) => {
            primitive::<Time64MicrosecondType>(column)
        }
        (ColumnBuilder::Int64(column), _) => primitive::<Int64Type>(column),
        (ColumnBuilder::Float64(column), _) => primitive::<Float64Type>(column),
        (ColumnBuilder::Int128(column), DataType::Decimal128(precision, scale)) => {
            let (values, validity) = take(column);
            let decimals = Decimal128Array::new(values, validity);
            Arc::new(decimals.with_precision_and_scale(*precision, *scale)?)
        }
        (ColumnBuilder::Int128(column), _) => {
            let (values, validity) = take(column);
            Arc::new(FixedSizeBinaryArray::try_new(16, values.into_inner(), validity)?)
        }
        (ColumnBuilder::Bytes(column), data_type) => finish_bytes(column, data_type)?,
        (ColumnBuilder::List(column), DataType::List(items)) => finish_list(column, items)?,
        (ColumnBuilder::Map(column), DataType::Map(entries, _)) => finish_map(column, entries)?,
        (ColumnBuilder::Struct(column), DataType::Struct(fields)) => finish_struct(column, fields)?,
        _ => unreachable!("builders and types are made from the same table"),
    })
}

type Values<T> = (arrow_buffer::ScalarBuffer<T>, Option<arrow_buffer::NullBuffer>);

fn take<T: arrow_buffer::ArrowNativeType>(column: &mut Primitives<T>) -> Values<T> {
    (std::mem::take(&mut column.values).into(), column.validity.finish())
}

fn primitive<T: ArrowPrimitiveType>(column: &mut Primitives<T::Native>) -> ArrayRef {
    let (values, validity) = take(column);
    Arc::new(PrimitiveArray::<T>::new(values, validity))
}

fn take_offsets(offsets: &mut Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into())
}

fn finish_bytes(column: &mut Bytes, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let offsets = take_offsets(&mut column.offsets);
    let data = Buffer::from_vec(column.data.take());
    let validity = column.validity.finish();
    Ok(match data_type {
        DataType::Binary => Arc::new(BinaryArray::try_new(offsets, data, validity)?),
        _ => Arc::new(StringArray::try_new(offsets, data, validity)?),
    })
}

fn finish_list(column: &mut Lists, items: &FieldRef) -> Result<ArrayRef, ArrowError> {
    let offsets = take_offsets(&mut column.offsets);
    let values = finish(&mut column.items, items.data_type())?;
    let validity = column.validity.finish();
    Ok(Arc::new(ListArray::try_new(items.clone(), offsets, values, validity)?))
}

fn finish_map(column: &mut Maps, entries: &FieldRef) -> Result<ArrayRef, ArrowError> {
    let DataType::Struct(fields) = entries.data_type() else {
        unreachable!("a map's entries are keys and values")
    };
    let offsets = take_offsets(&mut column.offsets);
    let keys = finish_bytes(&mut column.keys, fields[0].data_type())?;
    let values = finish(&mut column.values, fields[1].data_type())?;
    let pairs = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
    let validity = column.validity.finish();
    Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, pairs, validity, false)?))
}

fn finish_struct(column: &mut Structs, fields: &Fields) -> Result<ArrayRef, ArrowError> {
    column.len = 0;
    let arrays = column.fields.iter_mut().zip(fields);
    let arrays = arrays.map(|(column, field)| finish(column, field.data_type()));
    let arrays = arrays.collect::<Result<_, _>>()?;
    Ok(Arc::new(StructArray::try_new(fields.clone(), arrays, column.validity.finish())?))
}
