//! Values in JSON columns.

use apache_avro::types::Value;
use arrow_array::{Array, cast::AsArray};
use base64::{Engine, prelude::BASE64_STANDARD};
use ducktide_protocol::table::{AvroType, TimeUnit};
use jiff::{Timestamp, civil::Date};
use serde_json::{Value as Json, json};

use super::{
    Fixture,
    generator::{decimal_text, unscaled},
    oracle::per_second,
    record,
};

/// Returns the expected JSON of a value, made with other libraries than the decoder uses.
pub(super) fn expected(avro_type: &AvroType, value: &Value) -> Json {
    match (avro_type, value) {
        (AvroType::Union(branches), Value::Union(index, value)) => {
            expected(&branches[usize::try_from(*index).unwrap()], value)
        }
        (_, Value::Null) => Json::Null,
        (_, Value::Boolean(value)) => json!(value),
        (_, Value::Int(value)) => json!(value),
        (_, Value::Long(value)) => json!(value),
        (_, Value::Float(value)) => number(f64::from(*value)),
        (_, Value::Double(value)) => number(*value),
        (_, Value::Bytes(bytes) | Value::Fixed(_, bytes)) => json!(BASE64_STANDARD.encode(bytes)),
        (_, Value::String(text) | Value::Enum(_, text)) => json!(text),
        (_, Value::Uuid(uuid)) => json!(uuid.to_string()),
        (AvroType::Decimal { precision, scale, .. }, Value::Decimal(decimal)) => {
            let text = decimal_text(unscaled(decimal), *scale);
            if *precision > 15 { json!(text) } else { serde_json::from_str(&text).unwrap() }
        }
        (_, Value::Date(days)) => {
            let date = Date::constant(1970, 1, 1) + jiff::Span::new().days(*days);
            json!(date.to_string())
        }
        (_, Value::TimeMillis(millis)) => {
            json!(text_of_time(i64::from(*millis), TimeUnit::Millis))
        }
        (_, Value::TimeMicros(micros)) => json!(text_of_time(*micros, TimeUnit::Micros)),
        (AvroType::Timestamp(unit), _) => json!(format!("{}Z", text_of(value, *unit))),
        (AvroType::LocalTimestamp(unit), _) => json!(text_of(value, *unit)),
        (_, Value::Duration(duration)) => json!({
            "months": u32::from(duration.months()),
            "days": u32::from(duration.days()),
            "millis": u32::from(duration.millis()),
        }),
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

/// Returns a JSON number, or a string for values that JSON has no number for.
fn number(value: f64) -> Json {
    match value {
        _ if value.is_nan() => json!("NaN"),
        f64::INFINITY => json!("Infinity"),
        f64::NEG_INFINITY => json!("-Infinity"),
        _ => json!(value),
    }
}

fn text_of(value: &Value, unit: TimeUnit) -> String {
    let (Value::TimestampMillis(value)
    | Value::TimestampMicros(value)
    | Value::TimestampNanos(value)
    | Value::LocalTimestampMillis(value)
    | Value::LocalTimestampMicros(value)
    | Value::LocalTimestampNanos(value)) = value
    else {
        panic!("no timestamp: {value:?}")
    };
    let (seconds, fraction) =
        (value.div_euclid(per_second(unit)), value.rem_euclid(per_second(unit)));
    let seconds = Timestamp::from_second(seconds).unwrap().to_string();
    format!("{}{}", seconds.trim_end_matches('Z'), text_of_fraction(fraction, unit))
}

fn text_of_time(since_midnight: i64, unit: TimeUnit) -> String {
    let (seconds, fraction) =
        (since_midnight / per_second(unit), since_midnight % per_second(unit));
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}{}", text_of_fraction(fraction, unit))
}

fn text_of_fraction(fraction: i64, unit: TimeUnit) -> String {
    let digits = match unit {
        TimeUnit::Millis => 3,
        TimeUnit::Micros => 6,
        TimeUnit::Nanos => 9,
    };
    format!(".{fraction:0digits$}")
}

/// Returns the text in column `a`, or `None` for NULL.
fn text(fixture: &mut Fixture, value: Value) -> Option<String> {
    let datum = fixture.encode(record([value]));
    fixture.push(&datum);
    let batch = fixture.rows.finish_batch().unwrap();
    let column = batch.column(0).as_string::<i32>();
    column.is_valid(0).then(|| column.value(0).to_owned())
}

fn branch(index: u32, value: Value) -> Value {
    Value::Union(index, Box::new(value))
}

#[test]
fn a_union_of_records_becomes_a_plain_object_without_a_wrapper() {
    let mut fixture = Fixture::of_types(&[r#"["null",
        {"type": "record", "name": "A", "fields": [
            {"name": "user", "type": "string"}, {"name": "n", "type": "int"},
            {"name": "note", "type": ["null", "string"]}]},
        {"type": "record", "name": "B", "fields": []}]"#]);
    let fields = vec![
        ("user".to_owned(), Value::String("say \"hi\"\n".to_owned())),
        ("n".to_owned(), Value::Int(-7)),
        ("note".to_owned(), branch(0, Value::Null)),
    ];

    let a = text(&mut fixture, branch(1, Value::Record(fields)));
    let b = text(&mut fixture, branch(2, Value::Record(Vec::new())));

    assert_eq!(a.as_deref(), Some(r#"{"user":"say \"hi\"\n","n":-7,"note":null}"#));
    assert_eq!(b.as_deref(), Some("{}"));
}

#[test]
fn the_null_branch_of_a_json_column_is_null_and_not_text() {
    let mut fixture = Fixture::of_types(&[r#"["string", "null", "long"]"#]);

    assert_eq!(text(&mut fixture, branch(1, Value::Null)), None);
    assert_eq!(
        text(&mut fixture, branch(0, Value::String("null".into()))).as_deref(),
        Some("\"null\"")
    );
    assert_eq!(text(&mut fixture, branch(2, Value::Long(i64::MIN))), Some(i64::MIN.to_string()));
}

#[test]
fn numbers_that_json_does_not_have_are_strings_that_duckdb_casts() {
    let mut fixture = Fixture::of_types(&[r#"["double", "float", "string"]"#]);

    assert_eq!(text(&mut fixture, branch(0, Value::Double(f64::NAN))).as_deref(), Some("\"NaN\""));
    let infinity = text(&mut fixture, branch(0, Value::Double(f64::NEG_INFINITY)));
    assert_eq!(infinity.as_deref(), Some("\"-Infinity\""));
    assert_eq!(text(&mut fixture, branch(1, Value::Float(0.1))).as_deref(), Some("0.1"));
    assert_eq!(text(&mut fixture, branch(0, Value::Double(1234.56))).as_deref(), Some("1234.56"));
}
