//! Decoding tests, compared with apache-avro.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod generator;
mod java_schemas;
mod json;
mod lake;
mod limits;
mod oracle;
mod rows;

use std::sync::Arc;

use apache_avro::{Schema, types::Value, writer::datum::GenericDatumWriter};
use ducktide_decoder::{RecordDecoder, RowBuffer};
use ducktide_protocol::table::{AvroSchema, AvroType, TableShape, UnionAs};

/// A decoder and rows for the table of a schema.
struct Fixture {
    /// None if apache-avro rejects the schema.
    schema: Option<Schema>,
    ours: AvroSchema,
    decoder: RecordDecoder,
    rows: RowBuffer,
}

impl Fixture {
    fn new(schema: &str) -> Self {
        Self::with(schema, UnionAs::Json)
    }

    fn with(schema: &str, union_as: UnionAs) -> Self {
        let ours = AvroSchema::parse(schema).unwrap();
        let fields = AvroType::record_fields(&ours, union_as).unwrap();
        let table = Arc::new(TableShape::of_record(&fields, None).unwrap());
        let decoder = RecordDecoder::compile(&ours, union_as, &[], table.clone()).unwrap();
        let schema = Schema::parse_str(schema).ok();
        Self { schema, ours, decoder, rows: RowBuffer::new(table, None).unwrap() }
    }

    /// Creates the decoder of a record with fields `a`, `b`, … of these types.
    fn of_types(types: &[&str]) -> Self {
        let fields = ('a'..)
            .zip(types)
            .map(|(name, avro_type)| format!(r#"{{"name": "{name}", "type": {avro_type}}}"#));
        let fields = fields.collect::<Vec<_>>().join(", ");
        Self::new(&format!(r#"{{"type": "record", "name": "R", "fields": [{fields}]}}"#))
    }

    fn encode(&self, value: Value) -> Vec<u8> {
        let writer = GenericDatumWriter::builder(self.schema.as_ref().unwrap()).build().unwrap();
        writer.write_value_to_vec(value).unwrap()
    }

    /// Decodes a record and completes its row, with the number of previous rows as its offset.
    fn push(&mut self, datum: &[u8]) {
        let offset = i64::try_from(self.rows.rows()).unwrap();
        self.decoder.decode(datum, &mut self.rows).unwrap();
        self.rows.push_kafka("events", 0, offset, 0);
    }
}

/// Returns a record with fields `a`, `b`, ….
fn record(values: impl IntoIterator<Item = Value>) -> Value {
    Value::Record(('a'..).map(|name| name.to_string()).zip(values).collect())
}
