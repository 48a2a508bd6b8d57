//! What a Kafka cluster says of itself, without joining a group: partitions, offsets, identities.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{TopicPartition, ffi};

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A client that only asks. Its calls block.
pub struct ClusterView {
    client: BaseConsumer,
    config: ClientConfig,
}

/// The first offset that Kafka has of a partition, and the one after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The first offset that retention has left.
    pub low: i64,
    /// The offset of the next record that is produced.
    pub high: i64,
}

/// What tells a topic from another one of the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// The topic's id.
    pub topic_id: Option<String>,
}

impl ClusterView {
    /// A client for the cluster; it connects at the first question.
    pub fn new(config: &ClientConfig) -> KafkaResult<Self> {
        let mut config = config.clone();
        config.remove("group.id");
        config.remove("group.instance.id");
        config.remove("group.protocol");
        config.set_log_level(RDKafkaLogLevel::Error);
        Ok(Self { client: config.create()?, config })
    }

    /// The names of all topics.
    pub fn topics(&self) -> KafkaResult<Vec<String>> {
        let metadata = self.client.fetch_metadata(None, TIMEOUT)?;
        let topics = metadata.topics().iter().filter(|topic| topic.error().is_none());
        Ok(topics.map(|topic| topic.name().to_owned()).collect())
    }

    /// The topic's partitions; empty while the topic does not exist.
    pub fn partitions(&self, topic: &str) -> KafkaResult<Vec<i32>> {
        let metadata = self.client.fetch_metadata(Some(topic), TIMEOUT)?;
        let topics = metadata.topics().iter().filter(|found| found.name() == topic);
        let mut partitions: Vec<i32> = topics
            .filter(|found| found.error().is_none())
            .flat_map(|found| {
                found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id)
            })
            .collect();
        partitions.sort_unstable();
        Ok(partitions)
    }

    /// The range of offsets that Kafka has of a partition.
    pub fn watermarks(&self, topic: &str, partition: i32) -> KafkaResult<Watermarks> {
        let (low, high) = self.client.fetch_watermarks(topic, partition, TIMEOUT)?;
        Ok(Watermarks { low, high })
    }

    /// The ends of partitions, of any topics: one request to each broker, however many there are.
    pub(crate) fn ends_of(
        &self,
        partitions: &[TopicPartition],
    ) -> KafkaResult<Vec<(TopicPartition, i64)>> {
        let mut wanted = TopicPartitionList::new();
        for partition in partitions {
            wanted.add_partition_offset(&partition.topic, partition.partition.0, Offset::End)?;
        }
        // The request for the offset at a time is that for the end too, with its own number as time.
        let found = self.client.offsets_for_times(wanted, TIMEOUT)?;
        let mut ends = Vec::with_capacity(partitions.len());
        for element in found.elements() {
            element.error()?;
            if let Offset::Offset(end) = element.offset() {
                ends.push((TopicPartition::new(element.topic(), element.partition()), end));
            }
        }
        Ok(ends)
    }

    /// The first offset of each partition.
    pub fn beginnings(&self, topic: &str) -> KafkaResult<Vec<(i32, i64)>> {
        self.of_each_partition(topic, |marks| marks.low)
    }

    /// The end of each partition.
    pub fn ends(&self, topic: &str) -> KafkaResult<Vec<(i32, i64)>> {
        self.of_each_partition(topic, |marks| marks.high)
    }

    fn of_each_partition(
        &self,
        topic: &str,
        offset: fn(Watermarks) -> i64,
    ) -> KafkaResult<Vec<(i32, i64)>> {
        let offset = |p: i32| Ok((p, offset(self.watermarks(topic, p)?)));
        self.partitions(topic)?.into_iter().map(offset).collect()
    }

    /// For each partition the first offset at or after the time (milliseconds since 1970), or the
    /// end where there is none.
    pub fn offsets_at(
        &self,
        topic: &str,
        partitions: &[i32],
        timestamp_ms: i64,
    ) -> KafkaResult<Vec<(i32, i64)>> {
        let mut wanted = TopicPartitionList::new();
        // No record is older than 1970, and negative times mean something else to Kafka.
        let timestamp_ms = timestamp_ms.max(0);
        for &partition in partitions {
            wanted.add_partition_offset(topic, partition, Offset::Offset(timestamp_ms))?;
        }
        let found = self.client.offsets_for_times(wanted, TIMEOUT)?;
        let mut offsets = Vec::new();
        for element in found.elements() {
            element.error()?;
            let offset = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => self.watermarks(topic, element.partition())?.high,
            };
            offsets.push((element.partition(), offset));
        }
        Ok(offsets)
    }

    /// Returns whether Kafka's log cleaner removes records of the topic that have a newer one of the
    /// same key (`cleanup.policy` contains `compact`).
    pub fn is_compacted(&self, topic: &str) -> KafkaResult<bool> {
        let admin: AdminClient<DefaultClientContext> = self.config.create()?;
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let resource = &[ResourceSpecifier::Topic(topic)];
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        let answers = runtime.block_on(admin.describe_configs(resource, &options))?;
        let found = answers
            .into_iter()
            .next()
            .ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition))?;
        let found = found.map_err(KafkaError::AdminOp)?;
        let policy = found.get("cleanup.policy").and_then(|entry| entry.value.as_deref());
        Ok(policy.is_some_and(|policy| policy.contains("compact")))
    }

    /// Counts the records with a value that Kafka has between two offsets, by reading them: some
    /// million each second.
    pub fn count_values(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        to: i64,
    ) -> KafkaResult<i64> {
        let mut config = self.config.clone();
        // Nothing joins a group: librdkafka wants a name before partitions can be assigned by hand.
        config.set("group.id", "ducktide-count").set("enable.auto.commit", "false");
        config.set("enable.partition.eof", "true").set("auto.offset.reset", "earliest");
        let reader: BaseConsumer = config.create()?;
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_offset(topic, partition, Offset::Offset(from))?;
        reader.assign(&wanted)?;
        let mut values = 0;
        loop {
            match reader.poll(TIMEOUT) {
                Some(Ok(record)) if record.offset() >= to => return Ok(values),
                Some(Ok(record)) => values += i64::from(record.payload().is_some()),
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(values),
                Some(Err(error)) if !is_outage(&error) => return Err(error),
                // librdkafka reconnects by itself.
                Some(Err(_)) => {}
                None => {
                    return Err(KafkaError::MessageConsumption(
                        RDKafkaErrorCode::OperationTimedOut,
                    ));
                }
            }
        }
    }

    /// Who the topic is. One that does not exist has no id; what was read of it is still its own.
    pub fn identity(&self, topic: &str) -> KafkaResult<Identity> {
        let topic_id =
            ffi::topic_id(&self.client, topic, TIMEOUT).map_err(KafkaError::MetadataFetch)?;
        let cluster_id = self.client.client().fetch_cluster_id(TIMEOUT);
        Ok(Identity { cluster_id, topic_id })
    }
}

/// Whether waiting helps: the brokers do not answer, or are electing leaders.
#[must_use]
pub fn is_outage(error: &KafkaError) -> bool {
    !matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::InvalidTopic
        )
    ) && !matches!(error, KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_))
}
