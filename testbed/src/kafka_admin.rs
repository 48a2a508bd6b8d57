//! Changes to topics and consumer groups that operators, retention and other clients make.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rdkafka::{
    ClientConfig, Message as _, Offset,
    admin::{AdminClient, AdminOptions, NewPartitions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    topic_partition_list::TopicPartitionList,
};

use crate::blocking;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Deletes a partition's records before an offset, as retention does.
pub fn delete_records(servers: &str, topic: &str, partition: i32, before: i64) -> Result<()> {
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, partition, Offset::Offset(before)).context("offset")?;
    let deleted = blocking::block_on(async {
        admin(servers)?.delete_records(&offsets, &options()).await.context("delete records")
    })?;
    let results = deleted.elements().into_iter().map(|element| element.error());
    results.collect::<Result<_, _>>().with_context(|| format!("delete records of `{topic}`"))
}

/// Increases the number of partitions of a topic to `total`.
pub fn add_partitions(servers: &str, topic: &str, total: usize) -> Result<()> {
    let added = blocking::block_on(async {
        let wanted = NewPartitions::new(topic, total);
        admin(servers)?.create_partitions([&wanted], &options()).await.context("add partitions")
    })?;
    let results = added.into_iter().map(|result| result.map(|_| ()));
    let added: Result<(), _> = results.collect();
    added.map_err(|(topic, code)| anyhow!("add partitions to `{topic}`: {code}"))
}

/// Returns the offset of the first record that a reader of a partition gets. It is higher than the
/// low watermark when a compacted topic's first records are superseded.
pub fn first_offset(servers: &str, topic: &str, partition: i32) -> Result<i64> {
    let mut beginning = TopicPartitionList::new();
    beginning.add_partition_offset(topic, partition, Offset::Beginning).context("offset")?;
    let consumer = member(servers, "first-offset-reader")?;
    consumer.assign(&beginning).context("assign a partition")?;
    let first = consumer.poll(TIMEOUT).context("the partition has no record")?;
    Ok(first.context("read a record")?.offset())
}

/// Returns the offset that a group has committed for each partition from 0 on, if any.
pub fn group_offsets(
    servers: &str,
    group: &str,
    topic: &str,
    partitions: i32,
) -> Result<Vec<Option<i64>>> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(topic, 0, partitions - 1);
    let consumer = member(servers, group)?;
    let known = consumer.committed_offsets(asked, TIMEOUT).context("read a group's offsets")?;
    Ok(known
        .elements()
        .into_iter()
        .map(|element| element.offset().to_raw())
        .map(known_offset)
        .collect())
}

/// Returns None for a negative number, Kafka's response for a partition without a committed offset.
fn known_offset(raw: Option<i64>) -> Option<i64> {
    raw.filter(|offset| *offset >= 0)
}

/// Commits an offset for all partitions of a group that has no members, as an administration tool
/// does.
pub fn set_group_offsets(
    servers: &str,
    group: &str,
    topic: &str,
    partitions: i32,
    to: i64,
) -> Result<()> {
    let mut offsets = TopicPartitionList::new();
    for partition in 0..partitions {
        offsets.add_partition_offset(topic, partition, Offset::Offset(to)).context("offset")?;
    }
    let consumer = member(servers, group)?;
    consumer.commit(&offsets, CommitMode::Sync).context("commit a group's offsets")
}

fn member(servers: &str, group: &str) -> Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("group.id", group);
    config.create().context("create a client")
}

fn admin(servers: &str) -> Result<AdminClient<DefaultClientContext>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    config.create().context("create an admin client")
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT))
}
