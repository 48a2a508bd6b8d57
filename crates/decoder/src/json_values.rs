//! JSON object values: fields with a column go into that column, all others into `_extra`.
//!
//! | column | required JSON |
//! |---|---|
//! | BOOLEAN; BIGINT; DOUBLE | a boolean; an integer of 64 bits; a number |
//! | DECIMAL | a number, or a string with one, that fits the precision and scale exactly |
//! | VARCHAR; UUID; BLOB | a string; a string with a UUID; a string in Base64 |
//! | DATE; TIME; TIMESTAMP, `TIMESTAMP_NS`; TIMESTAMP WITH TIME ZONE | an ISO 8601 string: with an offset for TIMESTAMP WITH TIME ZONE, without one for the others |
//! | LIST; MAP; STRUCT | an array; an object; an object |
//! | JSON | any value, unchanged |
//!
//! `null` and a missing field are NULL. A value that does not fit its column makes the record
//! undecodable: if it became NULL, a changed type in the producer would go unnoticed.

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ducktide_protocol::table::{Column, ColumnType, TimeUnit};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::builder::{Bytes, ColumnBuilder, Primitives};
use crate::error::Problem;
use crate::read::check_keys;
use crate::{calendar, decimal};

/// Column for the fields that have no column of their own, as a JSON object.
pub const EXTRA: &str = "_extra";

/// Mapping of the fields of an object to columns.
#[derive(Debug)]
pub(super) struct ObjectPlan {
    columns: HashMap<String, (usize, ColumnType)>,
    extra: Option<usize>,
}

/// Name and JSON text of a field.
type Field<'a> = (String, &'a RawValue);

impl ObjectPlan {
    pub(super) fn new(columns: &[&Column]) -> Self {
        let extra = columns.iter().position(|column| column.is_named(EXTRA));
        let fields = columns.iter().enumerate().filter(|(index, _)| Some(*index) != extra);
        let fields = fields
            .map(|(index, column)| (column.name.clone(), (index, column.column_type.clone())));
        Self { columns: fields.collect(), extra }
    }

    /// Appends the fields of an object to the columns. The error has the index of its column, if it
    /// concerns one.
    pub(super) fn read(
        &self,
        value: &[u8],
        columns: &mut [ColumnBuilder],
    ) -> Result<(), (Option<usize>, Problem)> {
        let rows = columns.first().map_or(0, ColumnBuilder::len);
        let text = str::from_utf8(value).map_err(|_| (None, Problem::NotUtf8))?;
        let mut extra = Vec::new();
        for (name, value) in fields(text).map_err(|problem| (None, problem))? {
            let Some((index, of)) = self.columns.get(&name) else {
                extra.push((name, value));
                continue;
            };
            let failed = |problem| (Some(*index), problem);
            if columns[*index].len() > rows {
                return Err(failed(Problem::DuplicateKey));
            }
            if !push(value, of, &mut columns[*index]).map_err(failed)? {
                extra.push((name, value));
            }
        }
        match self.extra {
            Some(index) => {
                push_extra(&extra, &mut columns[index])
                    .map_err(|problem| (Some(index), problem))?;
            }
            None if extra.is_empty() => {}
            None => return Err((None, Problem::NoExtraColumn)),
        }
        for column in columns.iter_mut().filter(|column| column.len() == rows) {
            column.push_null();
        }
        Ok(())
    }
}

/// Returns the fields of an object in order, including duplicate names.
fn fields(text: &str) -> Result<Vec<Field<'_>>, Problem> {
    struct Fields<'a>(Vec<Field<'a>>);
    struct Visitor;
    impl<'a> serde::Deserialize<'a> for Fields<'a> {
        fn deserialize<D: serde::Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(Visitor)
        }
    }
    impl<'a> serde::de::Visitor<'a> for Visitor {
        type Value = Fields<'a>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<M: serde::de::MapAccess<'a>>(
            self,
            mut map: M,
        ) -> Result<Fields<'a>, M::Error> {
            let mut fields = Vec::new();
            while let Some(field) = map.next_entry()? {
                fields.push(field);
            }
            Ok(Fields(fields))
        }
    }
    serde_json::from_str(text).map(|Fields(fields)| fields).map_err(|_| Problem::NotAnObject)
}

fn parse<'a, T: serde::Deserialize<'a>>(value: &'a RawValue) -> Result<T, Problem> {
    serde_json::from_str(value.get()).map_err(|_| Problem::TypeMismatch)
}

fn text(value: &RawValue) -> Result<String, Problem> {
    parse(value)
}

/// Appends a value; returns `false` if some of its nested fields have no column.
fn push(value: &RawValue, of: &ColumnType, column: &mut ColumnBuilder) -> Result<bool, Problem> {
    if value.get() == "null" {
        column.push_null();
        return Ok(true);
    }
    match (of, column) {
        (ColumnType::Boolean, ColumnBuilder::Boolean(column)) => {
            column.values.push(parse(value)?);
            column.validity.push_valid();
        }
        (ColumnType::Double, ColumnBuilder::Float64(column)) => column.push(parse(value)?),
        (ColumnType::Date, ColumnBuilder::Int32(column)) => column.push(day(&text(value)?)?),
        (_, ColumnBuilder::Int64(column)) => push_i64(value, of, column)?,
        (ColumnType::Uuid, ColumnBuilder::Int128(column)) => {
            let uuid = Uuid::try_parse(&text(value)?).map_err(|_| Problem::NotAUuid)?;
            column.push(i128::from_ne_bytes(*uuid.as_bytes()));
        }
        (ColumnType::Decimal { precision, scale }, ColumnBuilder::Int128(column)) => {
            let number =
                if value.get().starts_with('"') { text(value)? } else { value.get().into() };
            column.push(decimal::parse(&number, *precision, *scale)?);
        }
        (_, ColumnBuilder::Bytes(column)) => push_bytes(value, of, column)?,
        (ColumnType::List(of), ColumnBuilder::List(column)) => {
            let mut is_complete = true;
            for item in parse::<Vec<&RawValue>>(value)? {
                is_complete &= push(item, of, &mut column.items)?;
            }
            column.close()?;
            return Ok(is_complete);
        }
        (ColumnType::Map(of), ColumnBuilder::Map(column)) => {
            let (first, mut is_complete) = (column.keys.len(), true);
            for (key, value) in object(value)? {
                column.keys.push(key.as_bytes())?;
                is_complete &= push(value, of, &mut column.values)?;
            }
            check_keys(&column.keys, first)?;
            column.close()?;
            return Ok(is_complete);
        }
        (ColumnType::Struct(fields), ColumnBuilder::Struct(column)) => {
            let (rows, mut is_complete) = (column.len, true);
            for (name, value) in object(value)? {
                let Some(index) = fields.iter().position(|field| field.name == name) else {
                    is_complete = false;
                    continue;
                };
                let of = &fields[index].column_type;
                if column.fields[index].len() > rows {
                    return Err(Problem::DuplicateKey);
                }
                is_complete &= push(value, of, &mut column.fields[index])?;
            }
            for field in column.fields.iter_mut().filter(|field| field.len() == rows) {
                field.push_null();
            }
            column.close();
            return Ok(is_complete);
        }
        _ => return Err(Problem::TypeMismatch),
    }
    Ok(true)
}

fn object(value: &RawValue) -> Result<Vec<Field<'_>>, Problem> {
    fields(value.get()).map_err(|_| Problem::TypeMismatch)
}

fn push_i64(
    value: &RawValue,
    of: &ColumnType,
    column: &mut Primitives<i64>,
) -> Result<(), Problem> {
    column.push(match of {
        ColumnType::BigInt => parse(value)?,
        ColumnType::Time => {
            let time: Time = time_of(&text(value)?)?;
            calendar::time_of_day(
                time.duration_since(Time::midnight())
                    .as_micros()
                    .try_into()
                    .map_err(|_| Problem::TimeOutOfRange)?,
            )?
        }
        ColumnType::TimestampTz => {
            let moment: Timestamp = time_of(&text(value)?)?;
            calendar::timestamp_micros(moment.as_microsecond(), TimeUnit::Micros)?
        }
        ColumnType::Timestamp => {
            calendar::timestamp_micros(local(&text(value)?)?.as_microsecond(), TimeUnit::Micros)?
        }
        ColumnType::TimestampNs => {
            let nanos = i64::try_from(local(&text(value)?)?.as_nanosecond());
            calendar::timestamp_nanos(nanos.map_err(|_| Problem::TimeOutOfRange)?)?
        }
        _ => return Err(Problem::TypeMismatch),
    });
    Ok(())
}

fn time_of<T: std::str::FromStr>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::TypeMismatch)
}

/// Parses a time without a zone, as if in UTC. A time with an offset is rejected, because it is
/// another moment in each zone.
fn local(text: &str) -> Result<Timestamp, Problem> {
    if text.parse::<Timestamp>().is_ok() {
        return Err(Problem::TypeMismatch);
    }
    in_utc(time_of(text)?)
}

fn in_utc(time: DateTime) -> Result<Timestamp, Problem> {
    Offset::UTC.to_timestamp(time).map_err(|_| Problem::TimeOutOfRange)
}

fn day(text: &str) -> Result<i32, Problem> {
    let date: Date = time_of(text)?;
    let midnight = in_utc(date.to_datetime(Time::midnight()))?;
    let days = i32::try_from(midnight.as_second().div_euclid(86_400));
    calendar::day(days.map_err(|_| Problem::TimeOutOfRange)?)
}

fn push_bytes(value: &RawValue, of: &ColumnType, column: &mut Bytes) -> Result<(), Problem> {
    match of {
        ColumnType::Varchar => column.push(text(value)?.as_bytes()),
        ColumnType::Blob => {
            let bytes = BASE64_STANDARD.decode(text(value)?);
            column.push(&bytes.map_err(|_| Problem::TypeMismatch)?)
        }
        ColumnType::Json => {
            check_json(value)?;
            column.push(value.get().as_bytes())
        }
        _ => Err(Problem::TypeMismatch),
    }
}

/// Checks that DuckDB can parse the text as JSON: out-of-range numbers, unpaired surrogates and
/// excessive nesting are not found by the lazy parser.
fn check_json(value: &RawValue) -> Result<(), Problem> {
    parse::<serde_json::Value>(value).map(drop)
}

fn push_extra(extra: &[Field<'_>], column: &mut ColumnBuilder) -> Result<(), Problem> {
    let ColumnBuilder::Bytes(column) = column else { return Err(Problem::NoExtraColumn) };
    if extra.is_empty() {
        column.push_null();
        return Ok(());
    }
    let mut text = String::from("{");
    for (name, value) in extra {
        check_json(value)?;
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&serde_json::Value::from(name.as_str()).to_string());
        text.push(':');
        text.push_str(value.get());
    }
    text.push('}');
    column.push(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Array as _, RecordBatch, cast::AsArray};
    use arrow_schema::DataType;
    use ducktide_protocol::table::{KAFKA_COLUMNS, TableShape};

    use super::super::{DecodeError, RecordDecoder, RowBuffer};
    use super::*;

    /// Creates a decoder for a table of these columns, as DESCRIBE prints them, and `_extra`.
    fn decoder(columns: &[(&str, &str)]) -> (RecordDecoder, RowBuffer) {
        let shape =
            TableShape::from_described(columns.iter().chain([&("_extra", "JSON")]).copied());
        let mut shape = shape.unwrap();
        shape.columns.extend(KAFKA_COLUMNS.map(|(name, of)| Column::new(name, of)));
        let table = Arc::new(shape);
        (RecordDecoder::of_json(table.clone()), RowBuffer::new(table, None).unwrap())
    }

    /// Returns the columns `a` and `_extra` of one object.
    fn read(of: &str, object: &str) -> Result<RecordBatch, DecodeError> {
        let (decoder, mut rows) = decoder(&[("a", of)]);
        decoder.decode(object.as_bytes(), &mut rows)?;
        rows.push_kafka("events", 0, 0, 0);
        Ok(rows.finish_batch().unwrap())
    }

    fn shown(of: &str, object: &str) -> Result<[String; 2], DecodeError> {
        let batch = read(of, object)?;
        Ok([0, 1].map(|column| {
            let array = batch.column(column);
            match array.data_type() {
                _ if array.is_null(0) => "NULL".to_owned(),
                DataType::Utf8 => array.as_string::<i32>().value(0).to_owned(),
                _ => format!("{array:?}")
                    .split('[')
                    .next_back()
                    .unwrap()
                    .trim_matches([' ', '\n', ',', ']'])
                    .to_owned(),
            }
        }))
    }

    fn problem(of: &str, object: &str) -> (String, Problem) {
        let error = read(of, object).unwrap_err();
        (error.field, error.problem)
    }

    #[test]
    fn each_type_is_decoded_from_its_json() {
        for (of, value, expected) in [
            ("BOOLEAN", "true", "true"),
            ("BIGINT", "-9223372036854775808", "-9223372036854775808"),
            ("DOUBLE", "1e3", "1000.0"),
            ("DECIMAL(9,2)", "12.50", "1250"),
            (
                "DECIMAL(38,10)",
                "\"12345678901234567890.0123456789\"",
                "123456789012345678900123456789",
            ),
            ("VARCHAR", r#""ü\u0000🦆""#, "ü\u{0}🦆"),
            ("DATE", "\"2026-11-26\"", "2026-11-26"),
            ("TIME", "\"01:02:03.5\"", "01:02:03.500"),
            ("TIMESTAMP", "\"2026-11-26T10:00:00.25\"", "2026-11-26T10:00:00.250"),
            (
                "TIMESTAMP WITH TIME ZONE",
                "\"2026-11-26T10:00:00+02:00\"",
                "2026-11-26T08:00:00 (Unknown Time Zone 'UTC')",
            ),
            ("JSON", r#"{"x": [1, null]}"#, r#"{"x": [1, null]}"#),
        ] {
            let [found, extra] = shown(of, &format!("{{\"a\": {value}}}")).unwrap();
            assert_eq!((found.as_str(), extra.as_str()), (expected, "NULL"), "{of}");
        }
        for object in ["{\"a\": null}", "{}", " {\"a\":\nnull } "] {
            assert_eq!(shown("BIGINT", object).unwrap(), ["NULL", "NULL"]);
        }
    }

    #[test]
    fn nested_values_are_decoded_and_their_unknown_fields_are_kept() {
        let of = "STRUCT(x BIGINT, y VARCHAR[])[]";
        let whole = read(of, r#"{"a": [{"x": 1, "y": ["p", null]}, null, {}]}"#).unwrap();
        let items = whole.column(0).as_list::<i32>().value(0);
        assert_eq!((items.len(), items.null_count()), (3, 1));
        assert!(whole.column(1).is_null(0));

        let [_, extra] = shown(of, r#"{"a": [{"x": 1, "z": 2}]}"#).unwrap();
        assert_eq!(extra, r#"{"a":[{"x": 1, "z": 2}]}"#);
        let map = read("MAP(VARCHAR, BIGINT)", r#"{"a": {"k": 1, "l": null}}"#).unwrap();
        assert_eq!(map.column(0).as_map().value(0).len(), 2);
    }

    #[test]
    fn fields_without_a_column_are_kept() {
        let [a, extra] = shown("BIGINT", r#"{"b":1.50, "a": 7, "_extra": {"ö\n": 1e2}}"#).unwrap();
        assert_eq!((a.as_str(), extra.as_str()), ("7", r#"{"b":1.50,"_extra":{"ö\n": 1e2}}"#));
        assert_eq!(shown("BIGINT", r#"{"A": 1}"#).unwrap(), ["NULL", r#"{"A":1}"#]);
    }

    #[test]
    fn a_value_that_does_not_fit_its_column_is_rejected_and_changes_nothing() {
        use Problem::{DecimalOutOfRange, DuplicateKey, NotAUuid, TimeOutOfRange, TypeMismatch};
        for (of, value, expected) in [
            ("BIGINT", "1.0", TypeMismatch),
            ("BIGINT", "\"1\"", TypeMismatch),
            ("BIGINT", "9223372036854775808", TypeMismatch),
            ("DOUBLE", "1e999", TypeMismatch),
            ("VARCHAR", "1", TypeMismatch),
            ("VARCHAR", r#""\ud800""#, TypeMismatch),
            ("JSON", r#""\ud800""#, TypeMismatch),
            ("UUID", "\"no\"", NotAUuid),
            ("DECIMAL(4,2)", "100", DecimalOutOfRange),
            ("DECIMAL(4,2)", "1.234", DecimalOutOfRange),
            ("DATE", "\"-000001-01-01\"", TimeOutOfRange),
            ("TIMESTAMP", "\"2026-11-26T10:00:00Z\"", TypeMismatch),
            ("TIMESTAMP WITH TIME ZONE", "\"2026-11-26T10:00:00\"", TypeMismatch),
            ("TIMESTAMP WITH TIME ZONE", "1764150000000", TypeMismatch),
            ("BIGINT[]", "{}", TypeMismatch),
            ("MAP(VARCHAR, BIGINT)", r#"{"k": 1, "k": 2}"#, DuplicateKey),
            ("STRUCT(x BIGINT)", r#"{"x": 1, "x": 2}"#, DuplicateKey),
            ("BIGINT", "1, \"a\": 2", DuplicateKey),
        ] {
            let object = format!("{{\"b\": [], \"a\": {value}}}");
            assert_eq!(problem(of, &object), ("a".to_owned(), expected), "{of} {value}");
        }
        let (decoder, mut rows) = decoder(&[("a", "BIGINT[]"), ("b", "VARCHAR")]);
        decoder.decode(br#"{"b": "x", "a": [1, 2, "3"]}"#, &mut rows).unwrap_err();
        decoder.decode(br#"{"a": [1]}"#, &mut rows).unwrap();
        rows.push_kafka("events", 0, 0, 0);
        let batch = rows.finish_batch().unwrap();
        assert_eq!(batch.column(0).as_list::<i32>().value(0).len(), 1);
        assert!(batch.column(1).is_null(0));
    }

    #[test]
    fn a_value_that_is_not_an_object_is_rejected() {
        for value in ["", "7", "[]", "{\"a\": 1", "{\"a\": 1} 2", "{'a': 1}"] {
            assert_eq!(problem("BIGINT", value), (String::new(), Problem::NotAnObject), "{value}");
        }
        let deep = format!("{{\"b\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(problem("BIGINT", &deep), ("_extra".to_owned(), Problem::TypeMismatch));
        let (decoder, mut rows) = decoder(&[("a", "BIGINT")]);
        let error = decoder.decode(b"{\"\xff\": 1}", &mut rows).unwrap_err();
        assert_eq!(error.problem, Problem::NotUtf8);
    }
}
