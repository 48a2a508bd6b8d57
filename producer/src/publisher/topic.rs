//! Prepares the topic before the first record is sent.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer as _;

use super::Publisher;
use crate::config::KafkaArgs;
use crate::error::ProducerError;
use crate::stop_request::StopRequest;

/// Timeout of one request, short so that a request to stop is noticed in between.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Time between two checks of a topic that is not ready.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Time within which a topic that the brokers create automatically becomes visible.
const AUTO_CREATION_TIMEOUT: Duration = Duration::from_secs(3);

/// Time that the brokers may take to create a topic.
const CREATION_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to Kafka, creates the topic if requested, and waits until each partition has a leader.
/// A record sent while some partitions are unknown could go to another partition than later records
/// with its key.
pub(crate) fn prepare(
    publisher: &Publisher,
    kafka: &KafkaArgs,
    config: &ClientConfig,
    stop: &StopRequest,
) -> Result<(), ProducerError> {
    let started = Instant::now();
    wait_for_brokers(publisher, kafka, stop, started)?;
    if let Some(partitions) = kafka.partitions {
        create(kafka, config, partitions)?;
    }
    let partitions = await_leaders(publisher, kafka, stop)?;
    if kafka.partitions.is_some_and(|asked| usize::try_from(asked) != Ok(partitions)) {
        tracing::warn!(
            topic = kafka.topic,
            partitions,
            "topic has a different number of partitions than requested"
        );
    }
    Ok(())
}

fn wait_for_brokers(
    publisher: &Publisher,
    kafka: &KafkaArgs,
    stop: &StopRequest,
    started: Instant,
) -> Result<(), ProducerError> {
    while publisher.producer.client().fetch_cluster_id(REQUEST_TIMEOUT).is_none() {
        if stop.is_requested() {
            return Err(ProducerError::Stopped);
        }
        if started.elapsed() >= kafka.connect_timeout {
            return Err(unreachable(kafka));
        }
    }
    Ok(())
}

fn unreachable(kafka: &KafkaArgs) -> ProducerError {
    ProducerError::KafkaUnreachable {
        bootstrap_servers: kafka.bootstrap_servers.clone(),
        waited_seconds: kafka.connect_timeout.as_secs(),
    }
}

fn create(kafka: &KafkaArgs, config: &ClientConfig, partitions: i32) -> Result<(), ProducerError> {
    let topic = &kafka.topic;
    match send_creation(kafka, config, partitions).map_err(ProducerError::from_client_error)? {
        Ok(()) => tracing::info!(topic, partitions, "topic created"),
        Err(RDKafkaErrorCode::TopicAlreadyExists) => {
            tracing::info!(topic, "topic already exists, not changed");
        }
        Err(reason) => {
            return Err(ProducerError::TopicRejected { topic: topic.clone(), reason });
        }
    }
    Ok(())
}

fn send_creation(
    kafka: &KafkaArgs,
    config: &ClientConfig,
    partitions: i32,
) -> Result<Result<(), RDKafkaErrorCode>, KafkaError> {
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    // -1 selects the default of the brokers.
    let replication = TopicReplication::Fixed(kafka.replication_factor.unwrap_or(-1));
    let topic = NewTopic::new(&kafka.topic, partitions, replication);
    let options = AdminOptions::new().operation_timeout(Some(CREATION_TIMEOUT));
    let creation = admin.create_topics([&topic], &options);
    let results = tokio::runtime::Handle::current().block_on(creation)?;
    let result = results.into_iter().next().expect("one result for one topic");
    Ok(result.map(drop).map_err(|(_, reason)| reason))
}

/// Waits until every partition has a leader; returns the number of partitions.
fn await_leaders(
    publisher: &Publisher,
    kafka: &KafkaArgs,
    stop: &StopRequest,
) -> Result<usize, ProducerError> {
    let started = Instant::now();
    loop {
        match topic_state(publisher, &kafka.topic) {
            TopicState::Ready(partitions) => return Ok(partitions),
            TopicState::Missing if started.elapsed() >= AUTO_CREATION_TIMEOUT => {
                return Err(ProducerError::TopicMissing { topic: kafka.topic.clone() });
            }
            _ if started.elapsed() >= kafka.connect_timeout => return Err(unreachable(kafka)),
            _ if stop.is_requested() => return Err(ProducerError::Stopped),
            _ => stop.sleep(CHECK_INTERVAL),
        }
    }
}

enum TopicState {
    Ready(usize),
    Missing,
    NotReady,
}

fn topic_state(publisher: &Publisher, topic: &str) -> TopicState {
    let Ok(metadata) = publisher.producer.client().fetch_metadata(Some(topic), REQUEST_TIMEOUT)
    else {
        return TopicState::NotReady;
    };
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return TopicState::Missing;
    };
    let partitions = found.partitions();
    match found.error().map(RDKafkaErrorCode::from) {
        Some(RDKafkaErrorCode::UnknownTopicOrPartition) => TopicState::Missing,
        None if !partitions.is_empty() && partitions.iter().all(|p| p.leader() >= 0) => {
            TopicState::Ready(partitions.len())
        }
        _ => TopicState::NotReady,
    }
}
