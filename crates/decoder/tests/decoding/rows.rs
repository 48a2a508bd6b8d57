//! Rows: the mapping of fields to columns, the Kafka columns, dates.

use std::sync::Arc;

use apache_avro::types::Value;
use arrow_array::{
    Array, RecordBatch,
    cast::AsArray,
    types::{Date32Type, Int32Type, Int64Type, TimestampMicrosecondType},
};
use ducktide_decoder::{
    CompileError, FIRST_EVENT_DATE, LAST_EVENT_DATE, RecordDecoder, RowBuffer, date_text,
};
use ducktide_protocol::table::{
    AvroSchema, EVENT_DATE, KAFKA_TIMESTAMP, ShapeError, TableShape, UnionAs,
};

use super::{Fixture, record};

const DAY: i64 = 86_400_000_000;

fn schema(fields: &[(&str, &str)]) -> AvroSchema {
    let fields = fields
        .iter()
        .map(|(name, avro_type)| format!(r#"{{"name": "{name}", "type": {avro_type}}}"#));
    let fields = fields.collect::<Vec<_>>().join(", ");
    let schema = format!(r#"{{"type": "record", "name": "R", "fields": [{fields}]}}"#);
    AvroSchema::parse(&schema).unwrap()
}

fn timestamps(partition_by: &str) -> (RecordDecoder, RowBuffer) {
    let micros = r#"["null", {"type": "long", "logicalType": "timestamp-micros"}]"#;
    let schema = schema(&[("at", micros)]);
    let table = Arc::new(TableShape::from_avro(&schema, Some(partition_by)).unwrap());
    let rows = RowBuffer::new(table.clone(), Some(partition_by)).unwrap();
    (RecordDecoder::compile(&schema, UnionAs::Json, &[], table).unwrap(), rows)
}

/// Returns the datum of a nullable long.
fn long(value: Option<i64>) -> Vec<u8> {
    let Some(value) = value else { return vec![0] };
    let mut zigzag = (value << 1 ^ value >> 63).cast_unsigned();
    let mut datum = vec![2];
    while zigzag >= 0x80 {
        datum.push(u8::try_from(zigzag & 0x7f).unwrap() | 0x80);
        zigzag >>= 7;
    }
    datum.push(u8::try_from(zigzag).unwrap());
    datum
}

fn dates(batch: &RecordBatch) -> Vec<Option<i32>> {
    let dates = batch.column_by_name(EVENT_DATE).unwrap();
    dates.as_primitive::<Date32Type>().iter().collect()
}

#[test]
fn the_window_of_dates_is_as_documented() {
    assert_eq!(date_text(FIRST_EVENT_DATE), "1970-01-01");
    assert_eq!(date_text(LAST_EVENT_DATE), "2099-12-31");
}

#[test]
fn the_event_date_is_the_utc_date_and_null_outside_the_window() {
    let (decoder, mut rows) = timestamps("at");
    let last = i64::from(LAST_EVENT_DATE);
    let values = [
        Some(0),
        Some(DAY - 1),
        Some(DAY),
        Some(-1),
        None,
        Some(last * DAY),
        Some((last + 1) * DAY),
    ];
    for (offset, value) in (0..).zip(values) {
        decoder.decode(&long(value), &mut rows).unwrap();
        rows.push_kafka("t", 0, offset, 0);
    }

    let batch = rows.finish_batch().unwrap();

    let last = Some(LAST_EVENT_DATE);
    assert_eq!(dates(&batch), [Some(0), Some(0), Some(1), None, None, last, None]);
    assert_eq!(rows.dates_outside_window(), 2);
}

#[test]
fn a_table_can_be_partitioned_by_the_kafka_timestamp() {
    let (decoder, mut rows) = timestamps(KAFKA_TIMESTAMP);
    for timestamp_ms in [86_400_000, -1] {
        decoder.decode(&long(None), &mut rows).unwrap();
        rows.push_kafka("t", 0, 7, timestamp_ms);
    }

    assert_eq!(dates(&rows.finish_batch().unwrap()), [Some(1), None]);
}

#[test]
fn a_date_is_null_without_an_existing_partition_column() {
    let (decoder, _) = timestamps("at");
    let mut rows = RowBuffer::new(decoder.table().clone(), None).unwrap();
    decoder.decode(&long(Some(0)), &mut rows).unwrap();
    rows.push_kafka("t", 0, 7, 0);
    assert_eq!(dates(&rows.finish_batch().unwrap()), [None]);

    let refused = RowBuffer::new(decoder.table().clone(), Some("other"));

    assert!(matches!(refused, Err(ShapeError::PartitionBy { .. })));
}

#[test]
fn the_kafka_columns_hold_the_position_of_each_row() {
    let mut fixture = Fixture::of_types(&[r#""int""#]);
    let places = [("a", 0, 5, 1_000), ("a", 0, 6, -1), ("b", 3, 5, i64::MAX), ("a", 1, 0, 0)];
    for (topic, partition, offset, timestamp_ms) in places {
        fixture.decoder.decode(&[2], &mut fixture.rows).unwrap();
        fixture.rows.push_kafka(topic, partition, offset, timestamp_ms);
    }

    let batch = fixture.rows.finish_batch().unwrap();

    let topics = batch.column(1).as_dictionary::<Int32Type>();
    let topics = topics.downcast_dict::<arrow_array::StringArray>().unwrap();
    assert_eq!(topics.into_iter().flatten().collect::<Vec<_>>(), ["a", "a", "b", "a"]);
    assert_eq!(batch.column(2).as_primitive::<Int32Type>().values(), &[0, 0, 3, 1]);
    assert_eq!(batch.column(3).as_primitive::<Int64Type>().values(), &[5, 6, 5, 0]);
    let timestamps = batch.column(4).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(timestamps.iter().collect::<Vec<_>>(), [Some(1_000_000), None, None, Some(0)]);
}

#[test]
fn a_buffer_is_empty_after_each_batch() {
    let mut fixture = Fixture::of_types(&[r#""string""#, r#"{"type": "array", "items": "int"}"#]);
    let items = Value::Array(vec![Value::Int(1)]);
    let datum = fixture.encode(record([Value::String("x".into()), items]));

    fixture.push(&datum);
    let first = fixture.rows.finish_batch().unwrap();
    assert_eq!((fixture.rows.rows(), fixture.rows.datum_bytes()), (0, 0));
    fixture.push(&datum);

    assert_eq!(fixture.rows.finish_batch().unwrap(), first);
    assert_eq!(fixture.rows.finish_batch().unwrap().num_rows(), 0);
}

#[test]
fn writers_of_older_and_newer_schemas_share_one_buffer() {
    let nested = r#"{"type": "record", "name": "S", "fields": [
        {"name": "x", "type": "int"}, {"name": "y", "type": "string"}]}"#;
    let old_nested = r#"{"type": "record", "name": "S", "fields": [{"name": "x", "type": "int"}]}"#;
    let new = schema(&[("a", r#""long""#), ("b", nested)]);
    let old = schema(&[("B", old_nested), ("A", r#""int""#)]);
    let table = Arc::new(TableShape::from_avro(&new, None).unwrap());
    let [new, old] =
        [new, old].map(|s| RecordDecoder::compile(&s, UnionAs::Json, &[], table.clone()).unwrap());
    let mut rows = RowBuffer::new(table, None).unwrap();

    for (decoder, datum) in [(&new, &[2, 4, 2, b'y'][..]), (&old, &[4, 2]), (&new, &[6, 8, 0])] {
        decoder.decode(datum, &mut rows).unwrap();
        rows.push_kafka("t", 0, 0, 0);
    }

    let batch = rows.finish_batch().unwrap();
    let fields = batch.column(1).as_struct();
    let texts = fields.column(1).as_string::<i32>().iter().collect::<Vec<_>>();
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[1, 1, 3]);
    assert_eq!(fields.column(0).as_primitive::<Int64Type>().values(), &[2, 2, 4]);
    assert_eq!(texts, [Some("y"), None, Some("")]);
}

#[test]
fn a_column_without_a_field_is_null() {
    let full = schema(&[("a", r#""int""#), ("b", r#""string""#)]);
    let table = Arc::new(TableShape::from_avro(&full, None).unwrap());
    let decoder =
        RecordDecoder::compile(&schema(&[("a", r#""int""#)]), UnionAs::Json, &[], table.clone())
            .unwrap();
    let mut rows = RowBuffer::new(table, None).unwrap();

    decoder.decode(&[2], &mut rows).unwrap();
    rows.push_kafka("t", 0, 0, 0);

    assert!(rows.finish_batch().unwrap().column(1).is_null(0));
}

#[test]
fn an_incompatible_schema_is_rejected_with_all_differences() {
    let table = Arc::new(TableShape::from_avro(&schema(&[("a", r#""int""#)]), None).unwrap());

    let writer = schema(&[("a", r#""string""#), ("b", r#""int""#)]);
    let error = RecordDecoder::compile(&writer, UnionAs::Json, &[], table).unwrap_err();

    assert!(matches!(error, CompileError::DoesNotFit(_)));
    assert_eq!(
        error.to_string(),
        "schema does not fit the table: column is missing column=`b` wanted=`BIGINT`; \
         type does not fit column=`a` table=`BIGINT` wanted=`VARCHAR`"
    );
}

#[test]
fn any_type_fits_into_a_json_column() {
    let union = schema(&[("a", r#"["string", "int"]"#)]);
    let table = Arc::new(TableShape::from_avro(&union, None).unwrap());
    let decoder =
        RecordDecoder::compile(&schema(&[("a", r#""string""#)]), UnionAs::Json, &[], table.clone())
            .unwrap();
    let mut rows = RowBuffer::new(table, None).unwrap();

    decoder.decode(&[2, b'x'], &mut rows).unwrap();
    rows.push_kafka("t", 0, 0, 0);

    assert_eq!(rows.finish_batch().unwrap().column(0).as_string::<i32>().value(0), "\"x\"");
}

#[test]
fn enum_columns_are_listed_by_name() {
    let symbols = |name: &str| format!(r#"{{"type": "enum", "name": "{name}", "symbols": ["A"]}}"#);
    let optional = format!(r#"["null", {}]"#, symbols("F"));
    let schema = schema(&[("a", &symbols("E")), ("b", &optional), ("c", r#""string""#)]);
    let table = Arc::new(TableShape::from_avro(&schema, None).unwrap());

    assert_eq!(
        RecordDecoder::compile(&schema, UnionAs::Json, &[], table).unwrap().enum_columns(),
        ["a", "b"]
    );
}

#[test]
#[should_panic(expected = "the decoded record is not completed by push_kafka")]
fn a_record_without_its_kafka_position_cannot_become_a_row() {
    let mut fixture = Fixture::of_types(&[r#""int""#]);
    fixture.decoder.decode(&[2], &mut fixture.rows).unwrap();
    let _ = fixture.decoder.decode(&[2], &mut fixture.rows);
}
