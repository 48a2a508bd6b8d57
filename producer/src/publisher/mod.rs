//! Hands records to librdkafka, and waits for what becomes of them.

pub(crate) mod deliveries;
mod topic;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ducktide_lake::kafka_property::canonical_name;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};

use self::deliveries::Deliveries;
use crate::config::KafkaArgs;
use crate::error::ProducerError;
use crate::stop::Stop;

/// Properties that may be changed with `--kafka-property`.
const DEFAULT_PROPERTIES: [(&str, &str); 7] = [
    ("client.id", "ducktide-producer"),
    // Java's choice of partition for a key, so that other producers' records of a user join ours.
    ("partitioner", "murmur2_random"),
    // Long enough for batches of hundreds of records when there are many, unnoticeable otherwise.
    ("linger.ms", "20"),
    // Together they bound the memory that waiting records take.
    ("queue.buffering.max.messages", "300000"),
    ("queue.buffering.max.kbytes", "131072"),
    // An outage shorter than this delays records; in a longer one they count as not acknowledged.
    ("message.timeout.ms", "120000"),
    // The default of ten seconds lets a broker that is back wait for its records.
    ("reconnect.backoff.max.ms", "1000"),
];

/// How long a full queue is left to drain before it is tried again: a few hundred records' time.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(1);

/// How often the ledger is written out, at least, and the end of the poll thread is looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Purged records report back within this time.
const PURGE_TIMEOUT: Duration = Duration::from_secs(1);

/// A record was taken, or it was not because of a request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Queued,
    Stopped,
}

/// A connected, idempotent producer for one topic.
pub(crate) struct Publisher {
    producer: Arc<BaseProducer<Deliveries>>,
    topic: String,
    poll_thread: PollThread,
}

impl Publisher {
    /// Starts the client, reaches Kafka, and sees to the topic. Must be called where blocking is
    /// allowed, in a tokio runtime.
    pub(crate) fn connect(
        kafka: &KafkaArgs,
        deliveries: Deliveries,
        stop: &Stop,
    ) -> Result<Self, ProducerError> {
        let config = client_config(kafka);
        let producer = config.create_with_context(deliveries).map_err(ProducerError::of_client)?;
        let producer = Arc::new(producer);
        let poll_thread = PollThread::start(&producer);
        let publisher = Self { producer, topic: kafka.topic.clone(), poll_thread };
        topic::prepare(&publisher, kafka, &config, stop)?;
        Ok(publisher)
    }

    /// Queues a record; waits while the queue is full.
    pub(crate) fn send(
        &self,
        key: &[u8],
        value: &[u8],
        holds: usize,
        stop: &Stop,
    ) -> Result<Sent, ProducerError> {
        let mut record = BaseRecord::with_opaque_to(&self.topic, holds).key(key).payload(value);
        loop {
            record = match self.producer.send(record) {
                Ok(()) => return Ok(Sent::Queued),
                Err((error, record)) if is_queue_full(&error) => record,
                Err((error, _)) => return Err(ProducerError::Publish(error)),
            };
            if stop.is_requested() {
                return Ok(Sent::Stopped);
            }
            stop.sleep(QUEUE_FULL_PAUSE);
        }
    }

    /// Who hears of the deliveries.
    pub(crate) fn deliveries(&self) -> &Deliveries {
        self.producer.context()
    }

    /// Waits until each queued record is acknowledged or given up.
    ///
    /// The wait ends by itself, by `message.timeout.ms`; after a request to stop, after
    /// `shutdown_timeout` at the latest, when the rest is dropped and counted as not acknowledged.
    pub(crate) fn finish(&mut self, stop: &Stop, shutdown_timeout: Duration) {
        self.poll_thread.end();
        let mut stop_heard = None;
        while self.flush(POLL_INTERVAL).is_err() {
            self.deliveries().flush_ledger();
            if stop.is_requested() {
                let waited = stop_heard.get_or_insert_with(Instant::now).elapsed();
                if waited >= shutdown_timeout {
                    self.drop_queued();
                    break;
                }
            }
        }
        self.deliveries().flush_ledger();
    }

    fn flush(&self, limit: Duration) -> Result<(), KafkaError> {
        self.producer.flush(limit)
    }

    fn drop_queued(&self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
        if let Err(error) = self.flush(PURGE_TIMEOUT) {
            tracing::warn!(%error, "dropped records did not report back");
        }
    }
}

fn client_config(kafka: &KafkaArgs) -> ClientConfig {
    let mut config = ClientConfig::new();
    let given = kafka.properties().expect("the settings were checked");
    // Each property under one name only: librdkafka is given them in no particular order.
    for (key, value) in DEFAULT_PROPERTIES {
        if given.iter().all(|(name, _)| canonical_name(name) != canonical_name(key)) {
            config.set(key, value);
        }
    }
    for (key, value) in &given {
        config.set(key, value);
    }
    config
        .set("bootstrap.servers", &kafka.bootstrap_servers)
        .set("compression.type", kafka.compression.as_str())
        .set("enable.idempotence", "true")
        .set("acks", "all");
    config
}

fn is_queue_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}

/// The thread that calls back for each delivery, and keeps the ledger at most a second behind.
struct PollThread {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PollThread {
    fn start(producer: &Arc<BaseProducer<Deliveries>>) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (producer, until) = (Arc::clone(producer), Arc::clone(&ended));
        let thread = std::thread::Builder::new().name("deliveries".to_owned()).spawn(move || {
            while !until.load(Ordering::Relaxed) {
                producer.poll(POLL_INTERVAL);
                producer.context().flush_ledger();
            }
        });
        Self { ended, thread: Some(thread.expect("the system has a thread to spare at the start")) }
    }

    fn end(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the delivery callback does not panic");
        }
    }
}

impl Drop for PollThread {
    fn drop(&mut self) {
        self.end();
    }
}
