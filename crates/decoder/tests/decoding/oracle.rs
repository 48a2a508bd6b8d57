//! Comparison of values as plain JSON: from apache-avro's value, and from the Arrow array that the
//! decoder filled.

use apache_avro::types::Value;
use arrow_array::{
    Array,
    cast::AsArray,
    types::{
        Date32Type, Decimal128Type, Float64Type, Int8Type, Int64Type, Time64MicrosecondType,
        TimestampMicrosecondType, TimestampNanosecondType,
    },
};
use arrow_schema::{DataType, TimeUnit as ArrowUnit};
use ducktide_protocol::table::{AvroType, TimeUnit, UnionAs};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{Fixture, generator::record_and_value};

/// Returns the expected content of a column of the value's own type.
pub(super) fn expected(avro_type: &AvroType, value: &Value) -> Json {
    match (avro_type, value) {
        (AvroType::Union(branches), Value::Union(index, value)) => {
            let branch = &branches[usize::try_from(*index).unwrap()];
            if avro_type.branches().len() > 1 && *branch != AvroType::Null {
                return super::json::expected(branch, value);
            }
            expected(branch, value)
        }
        (AvroType::Variants(branches), Value::Union(index, value)) => {
            let there = usize::try_from(*index).unwrap();
            if branches[there].avro_type == AvroType::Null {
                return Json::Null;
            }
            let fields = branches.iter().enumerate().map(|(index, branch)| {
                let is_there = index == there;
                let value = if is_there { expected(&branch.avro_type, value) } else { Json::Null };
                (branch.name.clone(), value)
            });
            let is_value = |(name, _): &(String, Json)| name != "null";
            fields.filter(is_value).collect()
        }
        (_, Value::Null) => Json::Null,
        (_, Value::Boolean(value)) => json!(value),
        (_, Value::Int(value) | Value::Date(value)) => json!(value),
        (_, Value::TimeMillis(value)) => json!(i64::from(*value) * 1_000),
        (_, Value::TimestampMillis(value) | Value::LocalTimestampMillis(value)) => {
            json!(value * 1_000)
        }
        (
            _,
            Value::Long(value)
            | Value::TimeMicros(value)
            | Value::TimestampMicros(value)
            | Value::LocalTimestampMicros(value)
            | Value::TimestampNanos(value)
            | Value::LocalTimestampNanos(value),
        ) => json!(value),
        (_, Value::Float(value)) => json!(f64::from(*value).to_bits()),
        (_, Value::Double(value)) => json!(value.to_bits()),
        (_, Value::Bytes(bytes) | Value::Fixed(_, bytes)) => json!(bytes),
        (_, Value::String(text) | Value::Enum(_, text)) => json!(text),
        (_, Value::Uuid(uuid)) => json!(uuid.as_bytes()),
        (AvroType::Decimal { precision, scale, .. }, Value::Decimal(decimal)) => {
            let unscaled = super::generator::unscaled(decimal);
            if *precision > 38 {
                return json!(super::generator::decimal_text(unscaled, *scale));
            }
            json!(unscaled.to_string())
        }
        (_, Value::Duration(duration)) => {
            let number = |number: u32| json!(number);
            json!({"months": number(duration.months().into()),
                "days": number(duration.days().into()),
                "millis": number(duration.millis().into())})
        }
        (AvroType::Array(items), Value::Array(values)) => {
            values.iter().map(|value| expected(items, value)).collect()
        }
        (AvroType::Map(items), Value::Map(values)) => {
            values.iter().map(|(key, value)| (key.clone(), expected(items, value))).collect()
        }
        (AvroType::Record(fields), Value::Record(values)) => {
            let pairs = fields.iter().zip(values);
            let pairs = pairs
                .map(|(field, (_, value))| (field.name.clone(), expected(&field.avro_type, value)));
            pairs.collect()
        }
        other => panic!("no such combination: {other:?}"),
    }
}

/// Returns the content of a row of an array.
fn actual(array: &dyn Array, row: usize) -> Json {
    if array.is_null(row) {
        return Json::Null;
    }
    match array.data_type() {
        DataType::Boolean => json!(array.as_boolean().value(row)),
        // DuckDB's own type, if its lossless conversion is enabled.
        DataType::Int8 => json!(array.as_primitive::<Int8Type>().value(row) != 0),
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => json!(array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Date32 => json!(array.as_primitive::<Date32Type>().value(row)),
        DataType::Time64(_) => json!(array.as_primitive::<Time64MicrosecondType>().value(row)),
        DataType::Timestamp(ArrowUnit::Microsecond, _) => {
            json!(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Timestamp(_, _) => {
            json!(array.as_primitive::<TimestampNanosecondType>().value(row))
        }
        DataType::Decimal128(_, _) => {
            json!(array.as_primitive::<Decimal128Type>().value(row).to_string())
        }
        DataType::FixedSizeBinary(_) => json!(array.as_fixed_size_binary().value(row)),
        DataType::Binary => json!(array.as_binary::<i32>().value(row)),
        DataType::Utf8 => json!(array.as_string::<i32>().value(row)),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            (0..items.len()).map(|row| actual(&items, row)).collect()
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1));
            (0..entries.len())
                .map(|row| (keys.value(row).to_owned(), actual(values, row)))
                .collect()
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            columns.map(|(field, column)| (field.name().clone(), actual(column, row))).collect()
        }
        other => panic!("no column has this type: {other}"),
    }
}

/// Returns a row of a record column, with JSON columns parsed.
pub(super) fn actual_column(avro_type: &AvroType, array: &dyn Array, row: usize) -> Json {
    let text = actual(array, row);
    match (avro_type.branches().len(), text) {
        (2.., Json::String(text)) => serde_json::from_str(&text).unwrap(),
        (_, other) => other,
    }
}

proptest! {
    #[test]
    fn rows_hold_what_apache_avro_decodes(
        (schema, values) in record_and_value(),
        as_struct: bool,
    ) {
        let union_as = if as_struct { UnionAs::Struct } else { UnionAs::Json };
        let mut fixture = Fixture::with(&schema, union_as);
        let AvroType::Record(fields) = AvroType::resolve(&fixture.ours, union_as).unwrap() else {
            panic!("the schema is a record")
        };
        for value in &values {
            fixture.push(&fixture.encode(value.clone()));
        }
        let batch = fixture.rows.finish_batch().unwrap();

        prop_assert_eq!(batch.num_rows(), values.len());
        for (row, value) in values.iter().enumerate() {
            let Value::Record(values) = value else { panic!("the value is a record") };
            for ((field, (name, value)), column) in fields.iter().zip(values).zip(batch.columns()) {
                let expected = expected(&field.avro_type, value);
                prop_assert_eq!(actual_column(&field.avro_type, column, row), expected, "{}", name);
            }
        }
    }
}

/// Returns the units per second; repeated here, so that the expected values do not depend on the
/// decoder.
pub(super) const fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Millis => 1_000,
        TimeUnit::Micros => 1_000_000,
        TimeUnit::Nanos => 1_000_000_000,
    }
}
