//! Prepares the topic before the first record is sent.

use std::time::{Duration, Instant};

use ducktide_kafka::token_ffi::authenticate;
use ducktide_kafka::{Connection, remedy};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer as _;

use super::Publisher;
use crate::config::{Config, TopicArgs};
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
    settings: &Config,
    connection: &Connection,
    stop: &StopRequest,
) -> Result<(), ProducerError> {
    let started = Instant::now();
    let topic = &settings.topic;
    wait_for_brokers(publisher, settings, stop, started)?;
    if let Some(partitions) = topic.partitions {
        create(topic, connection, partitions)?;
    }
    let partitions = await_leaders(publisher, settings, stop)?;
    if topic.partitions.is_some_and(|asked| usize::try_from(asked) != Ok(partitions)) {
        tracing::warn!(
            topic = topic.topic,
            partitions,
            "topic has a different number of partitions than requested"
        );
    }
    Ok(())
}

fn wait_for_brokers(
    publisher: &Publisher,
    settings: &Config,
    stop: &StopRequest,
    started: Instant,
) -> Result<(), ProducerError> {
    while publisher.producer.client().fetch_cluster_id(REQUEST_TIMEOUT).is_none() {
        if stop.is_requested() {
            return Err(ProducerError::Stopped);
        }
        if started.elapsed() >= settings.topic.connect_timeout {
            return Err(unreachable(publisher, settings));
        }
    }
    Ok(())
}

/// Returns the error of brokers that were not reached in time, with the reason of the client.
fn unreachable(publisher: &Publisher, settings: &Config) -> ProducerError {
    let reason = publisher.deliveries().connection_failure();
    let bootstrap_servers = settings.kafka.bootstrap_servers.clone();
    match reason.as_deref().and_then(remedy::of_connection) {
        Some(remedy) => ProducerError::KafkaRefuses { reason: reason.unwrap_or_default(), remedy },
        None => ProducerError::KafkaUnreachable {
            reason: reason.unwrap_or_else(|| "no broker answered".to_owned()),
            bootstrap_servers,
            waited_seconds: settings.topic.connect_timeout.as_secs(),
        },
    }
}

fn create(
    settings: &TopicArgs,
    connection: &Connection,
    partitions: i32,
) -> Result<(), ProducerError> {
    let topic = &settings.topic;
    match send_creation(settings, connection, partitions)
        .map_err(|error| ProducerError::from_client_error(&error))?
    {
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
    settings: &TopicArgs,
    connection: &Connection,
    partitions: i32,
) -> Result<Result<(), RDKafkaErrorCode>, KafkaError> {
    let admin: AdminClient<DefaultClientContext> = connection.config.create()?;
    authenticate(admin.inner(), connection.tokens.as_deref())
        .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
    // -1 selects the default of the brokers.
    let replication = TopicReplication::Fixed(settings.replication_factor.unwrap_or(-1));
    let topic = NewTopic::new(&settings.topic, partitions, replication);
    let options = AdminOptions::new().operation_timeout(Some(CREATION_TIMEOUT));
    let creation = admin.create_topics([&topic], &options);
    let results = tokio::runtime::Handle::current().block_on(creation)?;
    let result = results.into_iter().next().expect("one result for one topic");
    Ok(result.map(drop).map_err(|(_, reason)| reason))
}

/// Waits until every partition has a leader; returns the number of partitions.
fn await_leaders(
    publisher: &Publisher,
    settings: &Config,
    stop: &StopRequest,
) -> Result<usize, ProducerError> {
    let started = Instant::now();
    let TopicArgs { topic, connect_timeout, .. } = &settings.topic;
    loop {
        match topic_state(publisher, topic) {
            TopicState::Ready(partitions) => return Ok(partitions),
            TopicState::Missing if started.elapsed() >= AUTO_CREATION_TIMEOUT => {
                return Err(ProducerError::TopicMissing { topic: topic.clone() });
            }
            TopicState::Refused(code, remedy) => {
                let reason = format!("topic=`{topic}` reason=`{code}`");
                return Err(ProducerError::KafkaRefuses { reason, remedy });
            }
            _ if started.elapsed() >= *connect_timeout => {
                return Err(unreachable(publisher, settings));
            }
            _ if stop.is_requested() => return Err(ProducerError::Stopped),
            _ => stop.sleep(CHECK_INTERVAL),
        }
    }
}

enum TopicState {
    Ready(usize),
    Missing,
    NotReady,
    /// Only an operator can resolve the error.
    Refused(RDKafkaErrorCode, &'static str),
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
        Some(code) => match remedy::of_code(code) {
            Some(remedy) => TopicState::Refused(code, remedy),
            None => TopicState::NotReady,
        },
        None => TopicState::NotReady,
    }
}
