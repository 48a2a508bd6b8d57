//! Sees to it that the topic is there before the first record.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer as _;

use super::Publisher;
use crate::config::KafkaArgs;
use crate::error::ProducerError;
use crate::stop::Stop;

/// One request's limit, so that a request to stop is heard in between.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two looks at a topic that is not ready.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A topic that the brokers create by themselves shows up within this time.
const AUTO_CREATION: Duration = Duration::from_secs(3);

/// How long the brokers may take to create a topic.
const CREATION_TIMEOUT: Duration = Duration::from_secs(30);

/// Reaches Kafka, creates the topic if asked, and waits until each partition has a leader: a record
/// keyed while some partitions are unknown would go to another one than its later siblings.
pub(crate) fn prepare(
    publisher: &Publisher,
    kafka: &KafkaArgs,
    config: &ClientConfig,
    stop: &Stop,
) -> Result<(), ProducerError> {
    let begun = Instant::now();
    reach(publisher, kafka, stop, begun)?;
    if let Some(partitions) = kafka.partitions {
        create(kafka, config, partitions)?;
    }
    let partitions = await_leaders(publisher, kafka, stop)?;
    if kafka.partitions.is_some_and(|asked| usize::try_from(asked) != Ok(partitions)) {
        tracing::warn!(topic = kafka.topic, partitions, "topic has another number of partitions");
    }
    Ok(())
}

fn reach(
    publisher: &Publisher,
    kafka: &KafkaArgs,
    stop: &Stop,
    begun: Instant,
) -> Result<(), ProducerError> {
    while publisher.producer.client().fetch_cluster_id(REQUEST_TIMEOUT).is_none() {
        if stop.is_requested() {
            return Err(ProducerError::Stopped);
        }
        if begun.elapsed() >= kafka.connect_timeout {
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
    match send_creation(kafka, config, partitions).map_err(ProducerError::of_client)? {
        Ok(()) => tracing::info!(topic, partitions, "created topic"),
        Err(RDKafkaErrorCode::TopicAlreadyExists) => {
            tracing::info!(topic, "topic exists already; left as it is");
        }
        Err(reason) => {
            return Err(ProducerError::TopicRefused { topic: topic.clone(), reason });
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
    // -1 asks for the brokers' own default.
    let replication = TopicReplication::Fixed(kafka.replication_factor.unwrap_or(-1));
    let topic = NewTopic::new(&kafka.topic, partitions, replication);
    let options = AdminOptions::new().operation_timeout(Some(CREATION_TIMEOUT));
    let creation = admin.create_topics([&topic], &options);
    let results = tokio::runtime::Handle::current().block_on(creation)?;
    let result = results.into_iter().next().expect("one result for one topic");
    Ok(result.map(drop).map_err(|(_, reason)| reason))
}

/// Waits for the topic's partitions and returns their number.
fn await_leaders(
    publisher: &Publisher,
    kafka: &KafkaArgs,
    stop: &Stop,
) -> Result<usize, ProducerError> {
    let begun = Instant::now();
    loop {
        match look(publisher, &kafka.topic) {
            Look::Ready(partitions) => return Ok(partitions),
            Look::Missing if begun.elapsed() >= AUTO_CREATION => {
                return Err(ProducerError::TopicMissing { topic: kafka.topic.clone() });
            }
            _ if begun.elapsed() >= kafka.connect_timeout => return Err(unreachable(kafka)),
            _ if stop.is_requested() => return Err(ProducerError::Stopped),
            _ => stop.sleep(LOOK_AGAIN),
        }
    }
}

enum Look {
    Ready(usize),
    Missing,
    NotYet,
}

fn look(publisher: &Publisher, topic: &str) -> Look {
    let Ok(metadata) = publisher.producer.client().fetch_metadata(Some(topic), REQUEST_TIMEOUT)
    else {
        return Look::NotYet;
    };
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Look::Missing;
    };
    let partitions = found.partitions();
    match found.error().map(RDKafkaErrorCode::from) {
        Some(RDKafkaErrorCode::UnknownTopicOrPartition) => Look::Missing,
        None if !partitions.is_empty() && partitions.iter().all(|p| p.leader() >= 0) => {
            Look::Ready(partitions.len())
        }
        _ => Look::NotYet,
    }
}
