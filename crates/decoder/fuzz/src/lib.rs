//! Properties of the decoder that hold for every input.
//!
//! ```text
//! cargo fuzz run avro --fuzz-dir decoder/fuzz --sanitizer none     # works with stable Rust
//! ```
//! `cargo xtask test fuzz` runs each target for half a minute.

mod allocations;

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, RecordBatch};
use ducktide_decoder::{RecordDecoder, RowBuffer};
use ducktide_protocol::table::{AvroSchema, AvroType, ColumnType, TableShape, UnionAs};

use crate::allocations::allocated_by;

/// Memory that a decoder may allocate for any input: the initial buffers of a few dozen columns.
const ALLOWANCE: usize = 64 << 10;

/// Memory that it may allocate for each byte of input, including growing buffers.
const ALLOWANCE_PER_BYTE: usize = 256;

/// Schemas with a field of each type, and nested types.
pub const SCHEMAS: [&str; 13] = [
    r#"["null", "boolean", "int", "long", "float", "double", "string", "bytes"]"#,
    r#"{"type": "record", "name": "r", "fields": [
        {"name": "a", "type": "boolean"}, {"name": "b", "type": "int"},
        {"name": "c", "type": "long"}, {"name": "d", "type": "float"},
        {"name": "e", "type": "double"}, {"name": "f", "type": "bytes"},
        {"name": "g", "type": "string"}, {"name": "h", "type": ["string", "null"]},
        {"name": "i", "type": {"type": "enum", "name": "en", "symbols": ["x", "y"]}},
        {"name": "j", "type": {"type": "fixed", "name": "fi", "size": 3}}]}"#,
    r#"{"type": "record", "name": "r", "fields": [
        {"name": "a", "type": {"type": "int", "logicalType": "date"}},
        {"name": "b", "type": {"type": "int", "logicalType": "time-millis"}},
        {"name": "c", "type": {"type": "long", "logicalType": "time-micros"}},
        {"name": "d", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "e", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "f", "type": {"type": "long", "logicalType": "timestamp-nanos"}},
        {"name": "g", "type": {"type": "long", "logicalType": "local-timestamp-millis"}},
        {"name": "h", "type": {"type": "long", "logicalType": "local-timestamp-micros"}},
        {"name": "i", "type": {"type": "long", "logicalType": "local-timestamp-nanos"}}]}"#,
    r#"{"type": "record", "name": "r", "fields": [
        {"name": "a", "type": ["null", {"type": "string", "logicalType": "uuid"}]},
        {"name": "b", "type": {"type": "fixed", "name": "u", "size": 16, "logicalType": "uuid"}},
        {"name": "c", "type": {"type": "fixed", "name": "d", "size": 12, "logicalType": "duration"}}]}"#,
    r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}"#,
    r#"{"type": "bytes", "logicalType": "decimal", "precision": 76, "scale": 40}"#,
    r#"{"type": "fixed", "name": "f", "size": 16, "logicalType": "decimal", "precision": 38, "scale": 0}"#,
    r#"{"type": "bytes", "logicalType": "big-decimal"}"#,
    r#"{"type": "array", "items": {"type": "array", "items": ["null", "string"]}}"#,
    r#"{"type": "map", "values": {"type": "map", "values": ["double", "null"]}}"#,
    r#"{"type": "record", "name": "r", "fields": [
        {"name": "a", "type": {"type": "array", "items": {"type": "record", "name": "s", "fields": [
            {"name": "x", "type": ["null", "long"]},
            {"name": "y", "type": {"type": "map", "values": "bytes"}}]}}},
        {"name": "b", "type": ["null", "s"]}]}"#,
    r#"["null", {"type": "array", "items": "null"}, {"type": "map", "values": "null"},
        {"type": "record", "name": "e", "fields": [{"name": "n", "type": "null"}]}, "string"]"#,
    r#"["null", "double", {"type": "array", "items": ["float", "string",
        {"type": "map", "values": ["bytes", "boolean",
            {"type": "fixed", "name": "de", "size": 9, "logicalType": "decimal",
                "precision": 20, "scale": 5}]}]},
        {"type": "enum", "name": "en", "symbols": ["x", "y"]},
        {"type": "long", "logicalType": "timestamp-micros"}]"#,
];

/// A decoder, the rows that it fills, and the expected rows for a valid value.
#[derive(Debug)]
pub struct FuzzTarget {
    decoder: RecordDecoder,
    table: Arc<TableShape>,
    rows: RowBuffer,
    /// A valid value and its row.
    valid: (Vec<u8>, RecordBatch),
}

impl FuzzTarget {
    /// Creates the target for an Avro schema; None if it cannot be mapped to a table, such as a
    /// STRUCT that contains only null.
    ///
    /// # Panics
    /// If the schema is invalid.
    pub fn avro(schema: &str, union_as: UnionAs) -> Option<Self> {
        let schema = AvroSchema::parse(schema).expect("the schema is valid");
        let fields = AvroType::record_fields(&schema, union_as).expect("it is not recursive");
        let table = Arc::new(TableShape::of_record(&fields, None).ok()?);
        let decoder = RecordDecoder::compile(&schema, union_as, &[], Arc::clone(&table));
        let decoder = decoder.expect("the table is the schema's own");
        // Candidates for the valid value: as many zeros as the schema has fields of one byte, and
        // more for those of a fixed size; a number of one byte; the same with a scale.
        let zeros = (0..100).map(|length| vec![0; length]);
        let values = zeros.chain([vec![2, 1], vec![6, 2, 1, 0]]);
        Some(Self::new(decoder, table, values))
    }

    /// Creates the target for JSON objects.
    ///
    /// # Panics
    /// Never: the table is known.
    #[must_use]
    pub fn json() -> Self {
        let described = [
            ("a", "BOOLEAN"),
            ("b", "BIGINT"),
            ("c", "DOUBLE"),
            ("d", "DECIMAL(9,2)"),
            ("e", "DECIMAL(38,10)"),
            ("f", "VARCHAR"),
            ("g", "UUID"),
            ("h", "BLOB"),
            ("i", "DATE"),
            ("j", "TIME"),
            ("k", "TIMESTAMP"),
            ("l", "TIMESTAMP_NS"),
            ("m", "TIMESTAMP WITH TIME ZONE"),
            ("n", "JSON"),
            ("o", "BIGINT[][]"),
            ("p", "MAP(VARCHAR, VARCHAR)"),
            ("q", "STRUCT(a BIGINT, b STRUCT(c VARCHAR[]))"),
            ("_extra", "JSON"),
            ("_kafka_topic", "VARCHAR"),
            ("_kafka_partition", "INTEGER"),
            ("_kafka_offset", "BIGINT"),
            ("_kafka_timestamp", "TIMESTAMP WITH TIME ZONE"),
        ];
        let table = Arc::new(TableShape::from_described(described).expect("these are types"));
        let valid = br#"{"f": "x", "n": [1], "o": [[2], []], "q": {"b": {"c": ["y"]}}, "z": 3}"#;
        Self::new(RecordDecoder::of_json(Arc::clone(&table)), table, [valid.to_vec()])
    }

    /// The first value that can be decoded becomes the valid one.
    fn new(
        decoder: RecordDecoder,
        table: Arc<TableShape>,
        values: impl IntoIterator<Item = Vec<u8>>,
    ) -> Self {
        let buffer =
            || RowBuffer::new(Arc::clone(&table), None).expect("there is no partition key");
        let row = |value: Vec<u8>| {
            let mut rows = buffer();
            decoder.decode(&value, &mut rows).ok()?;
            rows.push_kafka("events", 0, 0, 0);
            Some((value, rows.finish_batch().expect("it is one row")))
        };
        let valid = values.into_iter().find_map(row).expect("one of the values is valid");
        Self { rows: buffer(), decoder, table, valid }
    }

    /// Decodes a value and checks the properties: nothing panics, memory is bounded by its size, a
    /// failure leaves the rows unchanged, and a success appends one valid row.
    ///
    /// # Panics
    /// If a property is violated.
    /// If one of these is not so.
    pub fn check_value(&mut self, value: &[u8]) {
        let (decoder, rows, (valid, valid_row)) = (&self.decoder, &mut self.rows, &self.valid);
        decoder.decode(valid, rows).expect("it was decoded before");
        rows.push_kafka("events", 0, 0, 0);
        let (outcome, allocated) = allocated_by(|| decoder.decode(value, rows));
        let allowed = ALLOWANCE + ALLOWANCE_PER_BYTE * value.len();
        assert!(allocated <= allowed, "allocated {allocated} bytes for {}", value.len());
        if outcome.is_ok() {
            rows.push_kafka("events", 0, 0, 0);
        }
        let batch = rows.finish_batch().expect("all columns have the same length");
        assert_eq!(batch.num_rows(), 1 + usize::from(outcome.is_ok()));
        assert_eq!(batch.slice(0, 1), *valid_row, "the preceding row has changed");
        self.check(&batch);
    }

    fn check(&self, batch: &RecordBatch) {
        for (column, array) in self.table.columns.iter().zip(batch.columns()) {
            array.to_data().validate_full().expect("the column is valid Arrow");
            if column.column_type == ColumnType::Json {
                for text in array.as_string::<i32>().iter().flatten() {
                    let parsed = serde_json::from_str::<serde::de::IgnoredAny>(text);
                    assert!(parsed.is_ok(), "not JSON: {text}");
                }
            }
        }
    }
}
