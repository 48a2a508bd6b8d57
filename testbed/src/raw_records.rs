//! Records that the producer cannot publish: tombstones, aborted transactions, invalid timestamps.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders, ToBytes},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use serde_json::{Value, json};

use crate::{http, wait};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Record with a number and a timestamp; [`register`] registers its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberRecord {
    /// Arbitrary number.
    pub number: i64,
    /// Microseconds since 1970; can be out of range.
    pub at_micros: i64,
}

/// Registers the schema of [`NumberRecord`] for a topic's values and returns its ID. Another
/// namespace gives another schema of the same shape.
pub fn register(registry_url: &str, topic: &str, namespace: &str) -> Result<u32> {
    register_fields(registry_url, topic, namespace, &fields())
}

fn fields() -> Vec<Value> {
    let at = json!({"type": "long", "logicalType": "timestamp-micros"});
    vec![json!({"name": "number", "type": "long"}), json!({"name": "at", "type": at})]
}

/// Registers a record schema for a topic's values by its fields as JSON, and returns its ID. The
/// registry does not check compatibility.
pub fn register_fields(
    registry_url: &str,
    topic: &str,
    namespace: &str,
    fields: &[Value],
) -> Result<u32> {
    let schema =
        json!({"type": "record", "name": "Reading", "namespace": namespace, "fields": fields});
    register_schema(registry_url, &format!("{topic}-value"), &schema)
}

/// Registers a schema under a subject and returns its ID.
pub fn register_schema(registry_url: &str, subject: &str, schema: &Value) -> Result<u32> {
    register_subject_version(registry_url, subject, &json!({ "schema": schema.to_string() }))
}

/// Deletes a subject; its schemas are still found by their IDs.
pub fn delete_subject(registry_url: &str, subject: &str) -> Result<()> {
    http::delete(registry_url, &format!("/subjects/{subject}")).map(|_| ())
}

/// Registers a version of a subject and returns its ID. `version` is the request body of the
/// registry's API, with references or a schema type if needed.
pub fn register_subject_version(registry_url: &str, subject: &str, version: &Value) -> Result<u32> {
    let body = version.to_string();
    let path = format!("/subjects/{subject}/versions");
    // Registering the same version again returns the same ID, so a retry is safe; a registry that
    // has just started can close a connection without a response.
    let mut response = String::new();
    wait::until("a schema is registered", TIMEOUT, || {
        response = http::post(registry_url, &path, &body)?;
        Ok(true)
    })?;
    let response: Value =
        serde_json::from_str(&response).context("parse the registry's response")?;
    let id = response["id"].as_u64().and_then(|id| u32::try_from(id).ok());
    id.with_context(|| format!("register a schema: no ID response=`{response}`"))
}

impl NumberRecord {
    /// Encodes the record in Confluent's wire format.
    #[must_use]
    pub fn encode(&self, schema_id: u32) -> Vec<u8> {
        EncodedValue::with_schema(schema_id).long(self.number).long(self.at_micros).bytes()
    }
}

/// Value of a record in Confluent's wire format, written field by field.
#[derive(Debug, Clone)]
pub struct EncodedValue(Vec<u8>);

impl EncodedValue {
    /// Begins a value with the header of this schema.
    #[must_use]
    pub fn with_schema(schema_id: u32) -> Self {
        let mut bytes = vec![0];
        bytes.extend(schema_id.to_be_bytes());
        Self(bytes)
    }

    /// Begins a value without a header, for readers that know the schema.
    #[must_use]
    pub const fn without_header() -> Self {
        Self(Vec::new())
    }

    /// Appends an int or a long; also the branch of a union, or the number of items in a block.
    #[must_use]
    pub fn long(mut self, value: i64) -> Self {
        push_long(&mut self.0, value);
        self
    }

    /// Appends a string or bytes.
    #[must_use]
    pub fn text(self, value: &str) -> Self {
        let length = i64::try_from(value.len()).unwrap_or(i64::MAX);
        let mut longer = self.long(length);
        longer.0.extend(value.as_bytes());
        longer
    }

    /// Returns the encoded value.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Appends Avro's `long`: zigzag, then seven bits per byte.
fn push_long(bytes: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push((rest & 0x7f) as u8);
}

/// Publishes values to one partition and waits until all are acknowledged.
pub fn publish(
    servers: &str,
    topic: &str,
    partition: i32,
    values: impl IntoIterator<Item = Vec<u8>>,
) -> Result<()> {
    let producer = producer(servers, None)?;
    for value in values {
        send(&producer, BaseRecord::to(topic).partition(partition).key("k").payload(&value))?;
    }
    producer.flush(TIMEOUT).context("publish")
}

/// Key and headers of a record.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Headers.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// Publishes one value with different keys and headers to partition 0.
pub fn publish_enveloped(
    servers: &str,
    topic: &str,
    envelopes: &[Envelope<'_>],
    value: &[u8],
) -> Result<()> {
    let records = envelopes.iter().map(|envelope| (*envelope, value));
    publish_records(servers, topic, &records.collect::<Vec<_>>())
}

/// Publishes values with keys and headers to partition 0.
pub fn publish_records(
    servers: &str,
    topic: &str,
    records: &[(Envelope<'_>, &[u8])],
) -> Result<()> {
    let producer = producer(servers, None)?;
    for (envelope, value) in records {
        let mut headers = OwnedHeaders::new();
        for &(key, value) in envelope.headers {
            headers = headers.insert(Header { key, value });
        }
        let mut record =
            BaseRecord::<[u8], [u8]>::to(topic).partition(0).payload(*value).headers(headers);
        record.key = envelope.key;
        send(&producer, record)?;
    }
    producer.flush(TIMEOUT).context("publish")
}

/// Publishes records without a value to one partition.
pub fn publish_tombstones(servers: &str, topic: &str, partition: i32, count: usize) -> Result<()> {
    let producer = producer(servers, None)?;
    for _ in 0..count {
        send(&producer, BaseRecord::<str, [u8]>::to(topic).partition(partition).key("k"))?;
    }
    producer.flush(TIMEOUT).context("publish tombstones")
}

/// Publishes values to one partition in a transaction, and aborts it: the records and the
/// transaction marker use offsets, but no reader receives them.
pub fn publish_and_abort(
    servers: &str,
    topic: &str,
    partition: i32,
    values: impl IntoIterator<Item = Vec<u8>>,
) -> Result<()> {
    let producer = producer(servers, Some(topic))?;
    producer.init_transactions(TIMEOUT).context("initialize transactions")?;
    producer.begin_transaction().context("begin a transaction")?;
    for value in values {
        send(&producer, BaseRecord::to(topic).partition(partition).key("k").payload(&value))?;
    }
    producer.flush(TIMEOUT).context("publish in a transaction")?;
    producer.abort_transaction(TIMEOUT).context("abort a transaction")
}

fn producer(servers: &str, transaction: Option<&str>) -> Result<BaseProducer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("acks", "all");
    // The topic's own limit applies.
    config.set("message.max.bytes", "100000000");
    if let Some(id) = transaction {
        config.set("transactional.id", id);
    }
    config.create().context("create a producer")
}

/// Queues a record; waits while the queue is full.
fn send<K: ToBytes + ?Sized>(
    producer: &BaseProducer,
    mut record: BaseRecord<'_, K, [u8]>,
) -> Result<()> {
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) => {
                record = unsent;
                producer.poll(Duration::from_millis(50));
            }
            Err((error, _)) => return Err(error).context("queue a record"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_encoded_as_in_avro() {
        let record = NumberRecord { number: -1, at_micros: 64 };
        assert_eq!(record.encode(7), [0, 0, 0, 0, 7, 0x01, 0x80, 0x01]);
    }
}
