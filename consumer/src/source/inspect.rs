//! Queries to a Kafka cluster without joining a group: partitions, offsets, ids, groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ducktide_kafka::Connection;
use ducktide_kafka::failure::ConnectionFailures;
use ducktide_kafka::oauth::OAuthTokens;
use ducktide_kafka::remedy;
use ducktide_kafka::token_ffi::authenticate;
use ducktide_protocol::position::{Offset, OffsetRange, Partition};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::{Client, ClientContext, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::metadata::MetadataPartition;
use rdkafka::topic_partition_list::{Offset as ListOffset, TopicPartitionList};

use super::cluster_error::{ClusterError, ClusterErrorKind, FailureContext};
use super::ffi;
use super::group_members::{self, GroupDescription, GroupMember};
use super::topic_partition::TopicPartition;

/// Timeout of a query.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of client events that are served at a time. A client has a few for each broker.
const ERRORS_AT_ONCE: usize = 64;

/// Result of a query.
pub(crate) type ClusterResult<T> = Result<T, ClusterError>;

/// A client for queries. Its calls block.
pub struct ClusterView {
    client: BaseConsumer<FailureContext>,
    config: ClientConfig,
    tokens: Option<Arc<OAuthTokens>>,
}

/// First and end offset of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// First offset that retention has left.
    pub low: Offset,
    /// Offset of the next record that will be produced.
    pub high: Offset,
}

/// Ids that distinguish topics of the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// The topic's id.
    pub topic_id: Option<String>,
}

impl ClusterView {
    /// Creates a client, which connects at the first query.
    pub fn new(connection: &Connection) -> ClusterResult<Self> {
        let Connection { mut config, tokens } = connection.clone();
        config.remove("group.id");
        config.remove("group.instance.id");
        config.remove("group.protocol");
        // At lower levels, the client does not report that brokers close its connections.
        config.set_log_level(RDKafkaLogLevel::Info);
        let context = FailureContext { failures: ConnectionFailures::new(&config) };
        match config.create_with_context(context) {
            Ok(client) => Ok(Self { client, config, tokens }),
            Err(error) => Err(ClusterError::new(error, None)),
        }
    }

    /// Returns the client's reason for reaching no broker, if it has one, with its remedy.
    #[must_use]
    pub fn connection_failure(&self) -> Option<String> {
        let reason = self.failure_reason()?;
        Some(match remedy::of_connection(&reason) {
            Some(remedy) => format!("{reason}: {remedy}"),
            None => reason,
        })
    }

    fn failure_reason(&self) -> Option<String> {
        self.serve_errors();
        self.failures().first()
    }

    /// Passes the client's errors to the context. The client has no records to deliver.
    fn serve_errors(&self) {
        for _ in 0..ERRORS_AT_ONCE {
            drop(self.client.poll(Duration::ZERO));
        }
    }

    fn failures(&self) -> &ConnectionFailures {
        &self.client.context().failures
    }

    /// Returns the client, with a valid token if one is used: the client is not polled, and would wait
    /// for one without end.
    fn authenticated(&self) -> ClusterResult<&BaseConsumer<FailureContext>> {
        authenticate(self.client.client(), self.tokens.as_deref())
            .map_err(ClusterError::of_token)?;
        Ok(&self.client)
    }

    fn give_token<C: ClientContext>(&self, client: &Client<C>) -> KafkaResult<()> {
        authenticate(client, self.tokens.as_deref())
            .map_err(|error| KafkaError::ClientCreation(error.to_string()))
    }

    /// Adds the client's reason to an error.
    fn answered<T>(&self, answer: KafkaResult<T>) -> ClusterResult<T> {
        match answer {
            Ok(found) => {
                self.serve_errors();
                self.failures().clear();
                Ok(found)
            }
            Err(error) => Err(ClusterError::new(error, self.failure_reason())),
        }
    }

    /// Returns the names of all topics.
    pub fn topics(&self) -> ClusterResult<Vec<String>> {
        let metadata = self.answered(self.authenticated()?.fetch_metadata(None, TIMEOUT))?;
        let topics = metadata.topics().iter().filter(|topic| topic.error().is_none());
        Ok(topics.map(|topic| topic.name().to_owned()).collect())
    }

    /// Returns the partitions of a topic; none while the topic does not exist.
    pub fn partitions(&self, topic: &str) -> ClusterResult<Vec<Partition>> {
        let metadata = self.answered(self.authenticated()?.fetch_metadata(Some(topic), TIMEOUT))?;
        let mut partitions = Vec::new();
        for found in metadata.topics().iter().filter(|found| found.name() == topic) {
            match found.error().map(RDKafkaErrorCode::from) {
                None => {
                    let numbers = found.partitions().iter().map(MetadataPartition::id);
                    partitions.extend(numbers.map(Partition));
                }
                // The topic was just created, or does not exist.
                Some(
                    RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::LeaderNotAvailable,
                ) => {}
                Some(code) => {
                    return Err(ClusterError::new(KafkaError::MetadataFetch(code), None));
                }
            }
        }
        partitions.sort_unstable();
        Ok(partitions)
    }

    /// Returns the range of offsets that Kafka has of a partition.
    pub fn watermarks(&self, topic: &str, partition: Partition) -> ClusterResult<Watermarks> {
        let mut found = self.all_watermarks(topic, &[partition])?;
        Ok(found.remove(&partition).expect("an answered query has every partition"))
    }

    /// Returns the range of offsets that Kafka has of each partition, with two requests to each broker.
    pub fn all_watermarks(
        &self,
        topic: &str,
        partitions: &[Partition],
    ) -> ClusterResult<BTreeMap<Partition, Watermarks>> {
        let (lows, highs) = (self.beginnings(topic, partitions)?, self.ends(topic, partitions)?);
        // Both have all partitions, in the same order.
        let watermarks = |((partition, low), (_, high))| (partition, Watermarks { low, high });
        Ok(lows.into_iter().zip(highs).map(watermarks).collect())
    }

    /// Returns the first offset of each partition, with one request to each broker.
    pub fn beginnings(
        &self,
        topic: &str,
        partitions: &[Partition],
    ) -> ClusterResult<Vec<(Partition, Offset)>> {
        self.offsets_of(topic, partitions, ListOffset::Beginning)
    }

    /// Returns the end offset of each partition, with one request to each broker.
    pub fn ends(
        &self,
        topic: &str,
        partitions: &[Partition],
    ) -> ClusterResult<Vec<(Partition, Offset)>> {
        self.offsets_of(topic, partitions, ListOffset::End)
    }

    /// Returns the end offsets of partitions of any topics, with one request to each broker.
    pub(crate) fn ends_of(
        &self,
        partitions: &[TopicPartition],
    ) -> ClusterResult<Vec<(TopicPartition, Offset)>> {
        self.list_offsets(partitions, ListOffset::End)
    }

    /// Returns for each partition the first offset at or after the time (milliseconds since 1970), or the
    /// end offset if there is none.
    pub fn offsets_at(
        &self,
        topic: &str,
        partitions: &[Partition],
        timestamp_ms: i64,
    ) -> ClusterResult<Vec<(Partition, Offset)>> {
        // No record is older than 1970, and negative times have another meaning in ListOffsets.
        let time = ListOffset::Offset(timestamp_ms.max(0));
        let mut offsets = self.offsets_of(topic, partitions, time)?;
        let is_missing = |p: &Partition| offsets.iter().all(|(found, _)| found != p);
        let missing: Vec<_> = partitions.iter().copied().filter(is_missing).collect();
        offsets.extend(self.ends(topic, &missing)?);
        Ok(offsets)
    }

    fn offsets_of(
        &self,
        topic: &str,
        partitions: &[Partition],
        at: ListOffset,
    ) -> ClusterResult<Vec<(Partition, Offset)>> {
        let topic: Arc<str> = topic.into();
        let of_topic = |&partition| TopicPartition { topic: Arc::clone(&topic), partition };
        let wanted: Vec<_> = partitions.iter().map(of_topic).collect();
        let found = self.list_offsets(&wanted, at)?.into_iter();
        Ok(found.map(|(partition, offset)| (partition.partition, offset)).collect())
    }

    /// Requests an offset of each partition. The error of a partition fails the whole query.
    ///
    /// librdkafka answers from its metadata, up to 15 minutes old, that a partition has no leader or does not
    /// exist. The metadata is refreshed before such an error is returned.
    fn list_offsets(
        &self,
        partitions: &[TopicPartition],
        at: ListOffset,
    ) -> ClusterResult<Vec<(TopicPartition, Offset)>> {
        match self.request_offsets(partitions, at) {
            Err(error) if error.may_be_outdated() => {
                let topics: BTreeSet<_> = partitions.iter().map(|found| &found.topic).collect();
                for topic in topics {
                    self.partitions(topic)?;
                }
                self.request_offsets(partitions, at)
            }
            answer => answer,
        }
    }

    /// Sends a request to each broker. `ListOffsets` is one request for times, beginnings and ends; the latter
    /// have special numbers as time.
    fn request_offsets(
        &self,
        partitions: &[TopicPartition],
        at: ListOffset,
    ) -> ClusterResult<Vec<(TopicPartition, Offset)>> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for TopicPartition { topic, partition } in partitions {
            let added = list.add_partition_offset(topic, partition.0, at);
            added.map_err(|error| ClusterError::new(error, None))?;
        }
        match ffi::list_offsets(self.authenticated()?, &mut list, TIMEOUT) {
            // No partition has a known leader; the list has the error of each.
            Err(RDKafkaErrorCode::UnknownPartition) => {}
            answer => self.answered(answer.map_err(KafkaError::MetadataFetch))?,
        }
        offsets_in(&list, at)
    }

    /// Returns whether Kafka's log cleaner removes records of the topic that have a newer one of the
    /// same key (`cleanup.policy` contains `compact`).
    pub fn is_compacted(&self, topic: &str) -> ClusterResult<bool> {
        let found = self.answered(self.describe(ResourceSpecifier::Topic(topic)))?;
        Ok(value(&found, "cleanup.policy").is_some_and(|policy| policy.contains("compact")))
    }

    /// Returns the longest session that the brokers grant a member under KIP-848.
    pub(crate) fn longest_session(&self) -> ClusterResult<Option<Duration>> {
        let metadata = self.answered(self.authenticated()?.fetch_metadata(None, TIMEOUT))?;
        let Some(broker) = metadata.brokers().first() else { return Ok(None) };
        let found = self.answered(self.describe(ResourceSpecifier::Broker(broker.id())))?;
        let millis = value(&found, "group.consumer.max.session.timeout.ms");
        Ok(millis.and_then(|millis| millis.parse().ok()).map(Duration::from_millis))
    }

    /// Returns the members of a group. Waits for at most `timeout`.
    pub fn group_members(&self, group: &str, timeout: Duration) -> ClusterResult<Vec<GroupMember>> {
        self.describe_group(group, timeout).map(|group| group.members)
    }

    fn describe_group(&self, group: &str, timeout: Duration) -> ClusterResult<GroupDescription> {
        let described = group_members::describe_group(self.authenticated()?, group, timeout);
        self.answered(described.map_err(KafkaError::AdminOp))
    }

    /// Returns those of the partitions that exist and that no member of the group owns; None while the
    /// group rebalances.
    pub(crate) fn unowned_partitions(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> ClusterResult<Option<BTreeSet<TopicPartition>>> {
        let Some(unowned) = self.describe_group(group, TIMEOUT)?.unowned(partitions) else {
            return Ok(None);
        };
        let topics: BTreeSet<_> = unowned.iter().map(|partition| &partition.topic).collect();
        let mut existing = BTreeSet::new();
        for topic in topics {
            let of_topic = |partition| TopicPartition { topic: Arc::clone(topic), partition };
            existing.extend(self.partitions(topic)?.into_iter().map(of_topic));
        }
        Ok(Some(unowned.into_iter().filter(|partition| existing.contains(partition)).collect()))
    }

    fn describe(&self, resource: ResourceSpecifier<'_>) -> KafkaResult<ConfigResource> {
        let admin: AdminClient<DefaultClientContext> = self.config.create()?;
        self.give_token(admin.inner())?;
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        let answers = runtime.block_on(admin.describe_configs(&[resource], &options))?;
        let found = answers
            .into_iter()
            .next()
            .ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition))?;
        found.map_err(KafkaError::AdminOp)
    }

    /// Counts the records with a value that Kafka has in a range of offsets, by reading them: some
    /// million each second. Errors if retention has removed the first of these offsets.
    pub fn count_values(
        &self,
        topic: &str,
        partition: Partition,
        range: OffsetRange,
    ) -> ClusterResult<i64> {
        match self.read_values(topic, partition, range) {
            Err(error) if is_out_of_range(&error) => {
                let reason = format!(
                    "Kafka no longer has the offsets from which records are counted: retention removed \
                     them meanwhile; run the command again: topic=`{topic}` partition=`{partition}` \
                     from_offset=`{}`",
                    range.from
                );
                Err(ClusterError::new(error, Some(reason)))
            }
            counted => self.answered(counted),
        }
    }

    fn read_values(
        &self,
        topic: &str,
        partition: Partition,
        range: OffsetRange,
    ) -> KafkaResult<i64> {
        let mut config = self.config.clone();
        // No group is joined, but librdkafka requires an id before partitions can be assigned.
        config.set("group.id", "ducktide-count").set("enable.auto.commit", "false");
        config.set("enable.partition.eof", "true").set("auto.offset.reset", "error");
        let reader: BaseConsumer = config.create()?;
        self.give_token(reader.client())?;
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_offset(topic, partition.0, ListOffset::Offset(range.from.0))?;
        reader.assign(&wanted)?;
        let mut values = 0;
        loop {
            match reader.poll(TIMEOUT) {
                Some(Ok(record)) if record.offset() >= range.to.0 => return Ok(values),
                Some(Ok(record)) => values += i64::from(record.payload().is_some()),
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(values),
                Some(Err(error)) if is_out_of_range(&error) || !is_outage(&error) => {
                    return Err(error);
                }
                // librdkafka reconnects automatically.
                Some(Err(_)) => {}
                None => {
                    return Err(KafkaError::MessageConsumption(
                        RDKafkaErrorCode::OperationTimedOut,
                    ));
                }
            }
        }
    }

    /// Returns the ids of a topic and its cluster. A topic that does not exist has no id.
    pub fn identity(&self, topic: &str) -> ClusterResult<Identity> {
        let topic_id = ffi::topic_id(self.authenticated()?, topic, TIMEOUT);
        let topic_id = self.answered(topic_id.map_err(KafkaError::MetadataFetch))?;
        let cluster_id = self.client.client().fetch_cluster_id(TIMEOUT);
        Ok(Identity { cluster_id, topic_id })
    }
}

/// Returns the offsets of an answered list. A partition is left out only if it has no record as new as the
/// requested time.
fn offsets_in(
    list: &TopicPartitionList,
    requested: ListOffset,
) -> ClusterResult<Vec<(TopicPartition, Offset)>> {
    let is_time = matches!(requested, ListOffset::Offset(_));
    let mut offsets = Vec::with_capacity(list.count());
    for element in list.elements() {
        let partition = TopicPartition::new(element.topic(), element.partition());
        match (element.error(), element.offset()) {
            (Ok(()), ListOffset::Offset(offset)) => offsets.push((partition, Offset(offset))),
            (Ok(()), _) if is_time => {}
            (Ok(()), _) => {
                // The broker's answer does not have the partition.
                let error = KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition);
                return Err(ClusterError::of_partition(error, partition));
            }
            (Err(error), _) => return Err(ClusterError::of_partition(error, partition)),
        }
    }
    Ok(offsets)
}

/// Returns a property of a described resource.
fn value<'a>(resource: &'a ConfigResource, name: &str) -> Option<&'a str> {
    resource.get(name).and_then(|entry| entry.value.as_deref())
}

fn is_out_of_range(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AutoOffsetReset, OffsetOutOfRange};
    matches!(error, KafkaError::MessageConsumption(AutoOffsetReset | OffsetOutOfRange))
}

fn is_outage(error: &KafkaError) -> bool {
    ClusterError::new(error.clone(), None).kind() == ClusterErrorKind::Outage
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;

    use super::*;

    type Cluster = MockCluster<'static, DefaultProducerContext>;

    /// Creates a cluster with a topic of three partitions.
    fn cluster() -> (Cluster, ClusterView) {
        let cluster: Cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("events", 3, 1).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers());
        let view = ClusterView::new(&config.into()).unwrap();
        (cluster, view)
    }

    #[test]
    fn counting_from_an_offset_that_kafka_does_not_have_fails() {
        let (_cluster, view) = cluster();
        let range = OffsetRange { from: Offset(100), to: Offset(200) };

        let error = view.count_values("events", Partition(0), range).unwrap_err().to_string();

        assert!(error.contains("retention") && error.contains("from_offset=`100`"), "{error}");
    }

    #[test]
    fn a_partition_without_a_leader_fails_the_query_by_name_until_it_has_one() {
        let (cluster, view) = cluster();
        let all = [Partition(0), Partition(1), Partition(2)];
        assert_eq!(view.all_watermarks("events", &all).unwrap().len(), 3);
        for leaderless in [&all[1..2], &all[..]] {
            for partition in leaderless {
                cluster.partition_leader("events", partition.0, None).unwrap();
            }

            let error = view.all_watermarks("events", &all).unwrap_err();

            let text = error.to_string();
            let expected = format!(": topic=`events` partition=`{}`", leaderless[0]);
            assert!(text.contains("LeaderNotAvailable") && text.ends_with(&expected), "{text}");
            assert_eq!(error.kind(), ClusterErrorKind::Outage);
        }
        for partition in all {
            cluster.partition_leader("events", partition.0, Some(1)).unwrap();
        }
        assert_eq!(view.all_watermarks("events", &all).unwrap().len(), 3);
    }

    #[test]
    fn a_partition_that_does_not_exist_fails_the_query_and_is_named() {
        let (_cluster, view) = cluster();
        for partitions in [&[Partition(0), Partition(7)][..], &[Partition(7)]] {
            let error = view.beginnings("events", partitions).unwrap_err().to_string();

            assert!(error.ends_with(": topic=`events` partition=`7`"), "{error}");
        }
        let error = view.watermarks("events", Partition(7)).unwrap_err().to_string();
        assert!(error.ends_with(": topic=`events` partition=`7`"), "{error}");
    }

    #[test]
    fn only_a_partition_without_a_record_at_a_time_is_left_out() {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("events", 0, ListOffset::Offset(5)).unwrap();
        list.add_partition_offset("events", 1, ListOffset::End).unwrap();

        let at_time = offsets_in(&list, ListOffset::Offset(1_700_000_000_000)).unwrap();
        let error = offsets_in(&list, ListOffset::End).unwrap_err().to_string();

        assert_eq!(at_time, [(TopicPartition::new("events", 0), Offset(5))]);
        assert!(error.ends_with(": topic=`events` partition=`1`"), "{error}");
    }

    #[test]
    fn the_connection_error_is_available_while_a_query_waits() {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", "127.0.0.1:1");
        let view = Arc::new(ClusterView::new(&config.into()).unwrap());
        let asking = Arc::clone(&view);
        let query = thread::spawn(move || asking.topics());

        let reason = loop {
            if let Some(reason) = view.connection_failure() {
                break reason;
            }
            assert!(!query.is_finished(), "the client gave no reason");
            thread::sleep(Duration::from_millis(5));
        };

        assert_eq!(reason, "127.0.0.1:1: connection failed: Connection refused");
    }
}
