//! Baseline of a consumer: polls a topic to its end with the `rdkafka` crate, without decoding,
//! writing or committing. It runs in its own process, so that it is measured like a worker.

use std::{
    collections::BTreeSet,
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use serde::{Deserialize, Serialize};

/// Maximum time for a response of the broker, or for the next record.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Arguments of the loop.
#[derive(Debug, Args)]
pub(super) struct PlainLoopArgs {
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS")]
    bootstrap_servers: String,
    #[arg(long)]
    topic: String,
}

/// Output of the loop, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Polled {
    pub(super) records: u64,
    /// Seconds from the assignment to the end of the last partition.
    pub(super) seconds: f64,
}

/// Polls every partition to its end.
#[expect(clippy::print_stdout, reason = "the parent process reads it")]
pub(super) fn run(args: &PlainLoopArgs) -> Result<()> {
    let consumer = client(&args.bootstrap_servers)?;
    let partitions = partitions(&consumer, &args.topic)?;
    let started = Instant::now();
    assign(&consumer, &args.topic, &partitions)?;
    let records = poll_to_the_ends(&consumer, partitions)?;
    let polled = Polled { records, seconds: started.elapsed().as_secs_f64() };
    println!("{}", serde_json::to_string(&polled).context("write the result")?);
    Ok(())
}

/// Returns a client with the properties that `ducktide-consumer` sets: by default a fast consumer
/// drains its queue, and then waits for a second.
fn client(bootstrap_servers: &str) -> Result<BaseConsumer> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap_servers)
        .set("group.id", "plain-loop")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.min.messages", "300000")
        .set("fetch.message.max.bytes", "4194304")
        .create()
        .context("create a client")
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<BTreeSet<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).context("read metadata")?;
    let topic = metadata.topics().first().context("read metadata: no such topic")?;
    Ok(topic.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect())
}

/// Assigns all partitions without a group.
fn assign(consumer: &BaseConsumer, topic: &str, partitions: &BTreeSet<i32>) -> Result<()> {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(topic, *partition, Offset::Beginning)
            .context("list partitions")?;
    }
    consumer.assign(&list).context("assign partitions")
}

fn poll_to_the_ends(consumer: &BaseConsumer, mut open: BTreeSet<i32>) -> Result<u64> {
    let mut records = 0;
    while !open.is_empty() {
        match consumer.poll(TIMEOUT) {
            Some(Ok(message)) => {
                black_box(message.payload());
                records += 1;
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) => return Err(error).context("poll"),
            None => bail!("poll: no record for {TIMEOUT:?}"),
        }
    }
    Ok(records)
}
