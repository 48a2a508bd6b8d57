//! Generators of schemas of every type, and of values for them.

use apache_avro::{Days, Decimal, Duration, Millis, Months, types::Value};
use ducktide_protocol::table::{AvroSchema, AvroType, BytesEncoding, TimeUnit, UnionAs};
use proptest::{
    prelude::*,
    strategy::{BoxedStrategy, Union},
};
use uuid::Uuid;

use super::oracle::per_second;

/// Every leaf type. `N` is replaced by a name, because named types must differ.
const LEAVES: &[&str] = &[
    r#""boolean""#,
    r#""int""#,
    r#""long""#,
    r#""float""#,
    r#""double""#,
    r#""bytes""#,
    r#""string""#,
    r#"{"type": "fixed", "name": "N", "size": 5}"#,
    r#"{"type": "enum", "name": "N", "symbols": ["RED", "GREEN", "BLUE"]}"#,
    r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}"#,
    r#"{"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 10}"#,
    r#"{"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": 3}"#,
    r#"{"type": {"type": "fixed", "name": "N", "size": 16}, "logicalType": "decimal",
        "precision": 18, "scale": 4}"#,
    r#"{"type": "string", "logicalType": "uuid"}"#,
    r#"{"type": {"type": "fixed", "name": "N", "size": 16}, "logicalType": "uuid"}"#,
    r#"{"type": "int", "logicalType": "date"}"#,
    r#"{"type": "int", "logicalType": "time-millis"}"#,
    r#"{"type": "long", "logicalType": "time-micros"}"#,
    r#"{"type": "long", "logicalType": "timestamp-millis"}"#,
    r#"{"type": "long", "logicalType": "timestamp-micros"}"#,
    r#"{"type": "long", "logicalType": "timestamp-nanos"}"#,
    r#"{"type": "long", "logicalType": "local-timestamp-millis"}"#,
    r#"{"type": "long", "logicalType": "local-timestamp-micros"}"#,
    r#"{"type": "long", "logicalType": "local-timestamp-nanos"}"#,
    r#"{"type": {"type": "fixed", "name": "N", "size": 12}, "logicalType": "duration"}"#,
];

fn schema_of_type() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(LEAVES).prop_map(str::to_owned);
    leaf.prop_recursive(3, 12, 3, |inner| {
        let record = |(a, b): (String, String)| {
            format!(
                r#"{{"type": "record", "name": "N", "fields": [
                    {{"name": "x", "type": {a}}}, {{"name": "y", "type": {b}}}]}}"#
            )
        };
        let is_no_union = |schema: &String| !schema.starts_with('[');
        let optional = inner.clone().prop_filter("a union in a union", is_no_union);
        prop_oneof![
            inner.clone().prop_map(|items| format!(r#"{{"type": "array", "items": {items}}}"#)),
            inner.clone().prop_map(|values| format!(r#"{{"type": "map", "values": {values}}}"#)),
            (inner.clone(), inner).prop_map(record),
            optional.clone().prop_map(|branch| format!(r#"["null", {branch}]"#)),
            optional.prop_map(|branch| format!(r#"[{branch}, "null"]"#)),
        ]
    })
}

/// Generates the type of a field; only at the top level also unions of several branches.
fn schema_of_field() -> impl Strategy<Value = String> {
    let is_no_union = |schema: &String| !schema.starts_with('[');
    let branch = schema_of_type().prop_filter("a union in a union", is_no_union);
    let record = branch.prop_map(|branch| {
        format!(
            r#"["null", "boolean", {{"type": "record", "name": "N", "fields": [
                {{"name": "v", "type": {branch}}}, {{"name": "w", "type": ["null", "string"]}}]}}]"#
        )
    });
    prop_oneof![3 => schema_of_type(), 1 => record]
}

/// Generates a record schema and values of it.
pub(super) fn record_and_value() -> impl Strategy<Value = (String, Vec<Value>)> {
    let fields = prop::collection::vec(schema_of_field(), 1..5);
    let schema = fields.prop_map(|types| {
        let fields = ('a'..)
            .zip(types)
            .map(|(name, avro_type)| format!(r#"{{"name": "{name}", "type": {avro_type}}}"#));
        let fields = fields.collect::<Vec<_>>().join(", ");
        with_names(&format!(r#"{{"type": "record", "name": "R", "fields": [{fields}]}}"#))
    });
    schema.prop_flat_map(|schema| {
        let parsed = AvroSchema::parse(&schema).unwrap();
        let value = value(&AvroType::resolve(&parsed, UnionAs::Json).unwrap());
        (Just(schema), prop::collection::vec(value, 0..6))
    })
}

/// Gives every type called N a unique name.
fn with_names(schema: &str) -> String {
    let parts = schema.split(r#""name": "N""#).enumerate();
    parts
        .map(|(n, part)| if n == 0 { part.to_owned() } else { format!(r#""name": "N{n}"{part}"#) })
        .collect()
}

fn value(avro_type: &AvroType) -> BoxedStrategy<Value> {
    match avro_type {
        AvroType::Null => Just(Value::Null).boxed(),
        AvroType::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        AvroType::Int => any::<i32>().prop_map(Value::Int).boxed(),
        AvroType::Long => any::<i64>().prop_map(Value::Long).boxed(),
        AvroType::Float => prop_oneof![
            9 => float().prop_map(f32::from),
            1 => prop::sample::select(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0]),
        ]
        .prop_map(Value::Float)
        .boxed(),
        AvroType::Double => prop_oneof![
            9 => float().prop_map(|value| f64::from(value) * 256.0),
            1 => prop::sample::select(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0]),
        ]
        .prop_map(Value::Double)
        .boxed(),
        AvroType::Bytes => any::<Vec<u8>>().prop_map(Value::Bytes).boxed(),
        AvroType::String => text().prop_map(Value::String).boxed(),
        AvroType::Fixed(size) => bytes(*size).prop_map(|b| Value::Fixed(b.len(), b)).boxed(),
        AvroType::Enum(symbols) => {
            let symbols = symbols.clone();
            let index = 0..symbols.len();
            let symbol = move |index: usize| {
                Value::Enum(u32::try_from(index).unwrap(), symbols[index].clone())
            };
            index.prop_map(symbol).boxed()
        }
        AvroType::Decimal { encoding, precision, .. } => decimal(*encoding, *precision),
        AvroType::BigDecimal => unreachable!("apache-avro does not expose its type"),
        AvroType::Uuid(_) => any::<u128>().prop_map(|n| Value::Uuid(Uuid::from_u128(n))).boxed(),
        AvroType::Date => (-719_162..=2_932_896).prop_map(Value::Date).boxed(),
        AvroType::TimeMillis => (0..86_400_000).prop_map(Value::TimeMillis).boxed(),
        AvroType::TimeMicros => (0..86_400_000_000_i64).prop_map(Value::TimeMicros).boxed(),
        AvroType::Timestamp(unit) => timestamp(*unit).prop_map(instant(*unit)).boxed(),
        AvroType::LocalTimestamp(unit) => timestamp(*unit).prop_map(local(*unit)).boxed(),
        AvroType::Duration => any::<[u32; 3]>().prop_map(duration).boxed(),
        AvroType::Array(items) => {
            prop::collection::vec(value(items), 0..4).prop_map(Value::Array).boxed()
        }
        AvroType::Map(values) => {
            prop::collection::hash_map(".{0,6}", value(values), 0..4).prop_map(Value::Map).boxed()
        }
        AvroType::Record(fields) => {
            let names = fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>();
            let values = fields.iter().map(|field| value(&field.avro_type)).collect::<Vec<_>>();
            let record =
                move |values| Value::Record(names.clone().into_iter().zip(values).collect());
            values.prop_map(record).boxed()
        }
        AvroType::Variants(_) => unreachable!("schemas are resolved with unions unchanged"),
        AvroType::Union(branches) => Union::new((0..).zip(branches).map(|(index, branch)| {
            value(branch).prop_map(move |value| Value::Union(index, Box::new(value)))
        }))
        .boxed(),
    }
}

/// Generates floats with few digits, which every JSON reader parses exactly; the widths are tested
/// elsewhere.
fn float() -> impl Strategy<Value = i16> {
    any::<i16>()
}

/// Generates few and mostly short texts: long texts make a test slow, and their length seldom
/// matters.
fn text() -> impl Strategy<Value = String> {
    const EXTREMES: &[&str] =
        &["", "\0", "a\0b", "NULL", "\u{feff}\u{1f9d1}\u{200d}\u{1f680}\u{10ffff}"];
    prop_oneof![
        60 => ".{0,20}",
        6 => prop::sample::select(EXTREMES).prop_map(str::to_owned),
        1 => Just("\u{1f986}".repeat(1 << 18)),
    ]
}

fn bytes(size: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), size)
}

fn decimal(encoding: BytesEncoding, precision: usize) -> BoxedStrategy<Value> {
    let bound = 10_i128.pow(u32::try_from(precision.min(38)).unwrap());
    let size = match encoding {
        BytesEncoding::Length => 16,
        BytesEncoding::Fixed(size) => size,
    };
    let value =
        move |unscaled: i128| Value::Decimal(Decimal::from(&unscaled.to_be_bytes()[16 - size..]));
    (1 - bound..bound).prop_map(value).boxed()
}

fn timestamp(unit: TimeUnit) -> impl Strategy<Value = i64> {
    let seconds = -9_000_000_000..9_000_000_000_i64;
    (seconds, 0..per_second(unit))
        .prop_map(move |(seconds, fraction)| seconds * per_second(unit) + fraction)
}

fn instant(unit: TimeUnit) -> fn(i64) -> Value {
    match unit {
        TimeUnit::Millis => Value::TimestampMillis,
        TimeUnit::Micros => Value::TimestampMicros,
        TimeUnit::Nanos => Value::TimestampNanos,
    }
}

fn local(unit: TimeUnit) -> fn(i64) -> Value {
    match unit {
        TimeUnit::Millis => Value::LocalTimestampMillis,
        TimeUnit::Micros => Value::LocalTimestampMicros,
        TimeUnit::Nanos => Value::LocalTimestampNanos,
    }
}

fn duration([months, days, millis]: [u32; 3]) -> Value {
    Value::Duration(Duration::new(Months::new(months), Days::new(days), Millis::new(millis)))
}

/// Returns the unscaled number of a decimal of up to 16 bytes.
pub(super) fn unscaled(decimal: &Decimal) -> i128 {
    let bytes = Vec::<u8>::try_from(decimal).unwrap();
    let fill = if bytes[0] & 0x80 == 0 { 0 } else { 0xff };
    let mut wide = [fill; 16];
    wide[16 - bytes.len()..].copy_from_slice(&bytes);
    i128::from_be_bytes(wide)
}

pub(super) fn decimal_text(unscaled: i128, scale: usize) -> String {
    let digits = format!("{:0>1$}", unscaled.unsigned_abs(), scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    format!("{}{whole}{point}{fraction}", if unscaled < 0 { "-" } else { "" })
}
