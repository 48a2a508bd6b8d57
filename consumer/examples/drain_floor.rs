//! Measures the least CPU time for which a topic becomes Parquet files: one thread polls, decodes and
//! writes, without batches, offsets, checks or commits. Compare it with `ducktide-consumer --until-end`.
//!
//! `cargo run --release -p ducktide-consumer --example drain_floor SERVERS TOPIC SCHEMA FILE`, with the
//! Avro schema of all values and the path of the Parquet file to create
#![expect(clippy::print_stdout, reason = "the output is the result of the measurement")]

use std::{collections::BTreeSet, error::Error, fs, sync::Arc, time::Duration};

use ducktide_decoder::{RecordDecoder, RowBuffer};
use ducktide_lake::parquet_encoding::{encode_column, writer_properties};
use ducktide_protocol::table::{AvroSchema, TableShape, UnionAs};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    metadata::{MetadataPartition, MetadataTopic},
};

/// Rows per batch, and rows per row group, as in the consumer.
const BATCH_ROWS: usize = 8_192;
const ROW_GROUP_ROWS: usize = 122_880;

/// Bytes in front of a value: a zero byte and the schema id.
const HEADER_BYTES: usize = 5;

/// Maximum time until the next record.
const TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let args = std::env::args().skip(1).collect::<Vec<_>>();
    let [servers, topic, schema, path] = args.as_slice() else {
        return Err("give SERVERS TOPIC SCHEMA FILE".into());
    };
    let schema = AvroSchema::parse(&fs::read_to_string(schema)?)?;
    let table = Arc::new(TableShape::from_avro(&schema, None)?);
    let decoder = RecordDecoder::compile(&schema, UnionAs::Json, &[], Arc::clone(&table))?;
    let mut rows = RowBuffer::new(table, None)?;
    let mut properties = writer_properties("drain_floor");
    for column in ArrowSchemaConverter::new().convert(rows.schema())?.columns() {
        properties = encode_column(properties, column);
    }
    let properties = properties.set_max_row_group_row_count(Some(ROW_GROUP_ROWS)).build();
    let file = fs::File::create(path)?;
    let mut writer = ArrowWriter::try_new(file, Arc::clone(rows.schema()), Some(properties))?;
    let consumer = client(servers)?;
    let mut open = assign(&consumer, topic)?;
    let mut records = 0_u64;
    while !open.is_empty() {
        match consumer.poll(TIMEOUT).ok_or("no record")? {
            Ok(message) => {
                let value = message.payload().ok_or("a record without a value")?;
                decoder.decode(&value[HEADER_BYTES..], &mut rows)?;
                let time = message.timestamp().to_millis().unwrap_or_default();
                rows.push_kafka(topic, message.partition(), message.offset(), time);
                records += 1;
                if rows.rows() == BATCH_ROWS {
                    writer.write(&rows.finish_batch()?)?;
                }
            }
            Err(KafkaError::PartitionEOF(partition)) => {
                open.remove(&partition);
            }
            Err(error) => return Err(error.into()),
        }
    }
    writer.write(&rows.finish_batch()?)?;
    writer.close()?;
    println!("{records} records, {} bytes", fs::metadata(path)?.len());
    Ok(())
}

/// Returns a client with the properties of `ducktide-consumer`.
fn client(servers: &str) -> Result<BaseConsumer, KafkaError> {
    ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "drain-floor")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.min.messages", "30000")
        .set("fetch.message.max.bytes", "2097152")
        .create()
}

/// Assigns all partitions of a topic from the beginning. Returns them.
fn assign(consumer: &BaseConsumer, topic: &str) -> Result<BTreeSet<i32>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
    let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
    let partitions = partitions.map(MetadataPartition::id).collect::<BTreeSet<_>>();
    let mut list = TopicPartitionList::new();
    for partition in &partitions {
        list.add_partition_offset(topic, *partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    Ok(partitions)
}
