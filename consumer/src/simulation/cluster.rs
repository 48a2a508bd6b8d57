//! Simulated Kafka cluster: topics, the consumer group, and what the brokers know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ducktide_protocol::position::Partition;

use super::group::Group;
use super::log::{LogRecord, PartitionLog};
use super::payload::Payload;
use super::schedule::Setup;
use crate::source::topic_partition::TopicPartition;

/// A topic of one id.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) id: String,
    incarnation: u32,
    logs: Vec<PartitionLog>,
    /// Logs of the topic that was deleted, which the lake knows.
    deleted: Option<Vec<PartitionLog>>,
}

/// Events that were published, by their partition.
type Published = BTreeMap<usize, Vec<i64>>;

#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) topics: Vec<Topic>,
    pub(super) group: Group,
    partitions: Vec<TopicPartition>,
    published: Published,
    next_record: i64,
    pub(super) down_until: Duration,
    pub(super) latency: (Duration, Duration),
    pub(super) loses_first_until: Duration,
}

impl Cluster {
    pub(super) fn new(setup: &Setup) -> Self {
        let names = ["events", "orders"];
        let count = usize::try_from(setup.partitions).expect("a small number");
        let topic = |name: &&str| Topic {
            name: Arc::from(*name),
            id: format!("{name}-1"),
            incarnation: 1,
            logs: vec![PartitionLog::default(); count],
            deleted: None,
        };
        let topics: Vec<_> = names[..setup.topics].iter().map(topic).collect();
        let numbers = 0..setup.partitions;
        let partitions = topics.iter().flat_map(|topic| {
            let name = Arc::clone(&topic.name);
            let partition = move |number| TopicPartition {
                topic: Arc::clone(&name),
                partition: Partition(number),
            };
            numbers.clone().map(partition)
        });
        Self {
            partitions: partitions.collect(),
            topics,
            group: Group::new(setup.protocol),
            published: Published::new(),
            next_record: 1,
            down_until: Duration::ZERO,
            latency: (Duration::ZERO, Duration::ZERO),
            loses_first_until: Duration::ZERO,
        }
    }

    pub(super) fn is_down(&self, now: Duration) -> bool {
        now < self.down_until
    }

    /// Additional latency of an answer.
    pub(super) fn latency(&self, now: Duration) -> Duration {
        let (latency, until) = self.latency;
        if now < until { latency } else { Duration::ZERO }
    }

    pub(super) fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// Ends sessions and rebalances that are due.
    pub(super) fn advance_group(&mut self, now: Duration) {
        self.group.advance(now, &self.partitions);
    }

    pub(super) fn topic(&self, name: &str) -> &Topic {
        self.topics.iter().find(|topic| *topic.name == *name).expect("a topic of the schedule")
    }

    /// Returns the current log of a partition.
    pub(super) fn log(&self, partition: &TopicPartition) -> &PartitionLog {
        &self.topic(&partition.topic).logs[index(partition.partition)]
    }

    /// Returns the log of a partition whose offsets the lake knows.
    pub(super) fn registered_log(&self, partition: &TopicPartition) -> &PartitionLog {
        let topic = self.topic(&partition.topic);
        &topic.deleted.as_ref().unwrap_or(&topic.logs)[index(partition.partition)]
    }

    pub(super) fn is_recreated(&self) -> bool {
        self.topics.iter().any(|topic| topic.deleted.is_some())
    }

    pub(super) fn log_mut(&mut self, partition: usize) -> &mut PartitionLog {
        let partition = self.partitions[partition % self.partitions.len()].clone();
        let topic = self.topics.iter_mut().find(|topic| topic.name == partition.topic);
        &mut topic.expect("a topic of the schedule").logs[index(partition.partition)]
    }

    /// Appends records. Events that are repeated have the numbers of earlier ones.
    pub(super) fn produce(
        &mut self,
        partition: usize,
        count: u64,
        payload: Payload,
        in_transaction: bool,
        repeats: bool,
        timestamp_ms: i64,
    ) {
        for number in 0..count {
            let id = self.next_record;
            self.next_record += 1;
            let known = self.published.entry(partition).or_default();
            let before = usize::try_from(number).expect("a small number") * 2;
            let earlier = known.len().checked_sub(before + 1).map(|index| known[index]);
            let event = earlier.filter(|_| repeats).unwrap_or(id);
            if payload.is_row() && !repeats {
                known.push(event);
            }
            let bytes = payload.encode(id, event);
            let record = LogRecord { id, event, payload, bytes, timestamp_ms };
            self.log_mut(partition).append(record, in_transaction);
        }
    }

    /// Deletes a topic and creates it again. The logs of a topic that the lake knows are kept.
    pub(super) fn recreate(&mut self, topic: usize, is_known: bool) {
        let topics = self.topics.len();
        let topic = &mut self.topics[topic % topics];
        if topic.deleted.is_some() {
            return;
        }
        let empty = vec![PartitionLog::default(); topic.logs.len()];
        let deleted = std::mem::replace(&mut topic.logs, empty);
        topic.deleted = is_known.then_some(deleted);
        topic.incarnation += 1;
        topic.id = format!("{}-{}", topic.name, topic.incarnation);
    }

    /// Ends all transactions and faults.
    pub(super) fn heal(&mut self) {
        self.down_until = Duration::ZERO;
        self.latency = (Duration::ZERO, Duration::ZERO);
        self.loses_first_until = Duration::ZERO;
        for topic in &mut self.topics {
            topic.logs.iter_mut().for_each(|log| log.end_transaction(true));
        }
    }
}

fn index(partition: Partition) -> usize {
    usize::try_from(partition.0).expect("partitions are not negative")
}
