//! Sends records through librdkafka and waits for their delivery reports.

pub(crate) mod delivery_context;
mod topic;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ducktide_kafka::remedy;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};

use self::delivery_context::DeliveryContext;
use crate::config::{Config, client_config};
use crate::error::ProducerError;
use crate::stop_request::StopRequest;

/// Pause while records are waited for: the time in which Kafka acknowledges a few hundred.
const DELIVERY_PAUSE: Duration = Duration::from_millis(1);

/// Longest time between two flushes of the ledger, and between two checks whether the poll thread
/// must end.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Time within which purged records report their delivery failure.
const PURGE_TIMEOUT: Duration = Duration::from_secs(1);

/// Outcome of a send: queued, or not sent because of a request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendOutcome {
    Queued,
    Stopped,
}

/// A connected, idempotent producer for one topic.
pub(crate) struct Publisher {
    producer: Arc<BaseProducer<DeliveryContext>>,
    topic: String,
    poll_thread: PollThread,
}

impl Publisher {
    /// Creates the client, connects to Kafka and prepares the topic. Must be called in a tokio
    /// runtime where blocking is allowed.
    pub(crate) fn connect(
        settings: &Config,
        deliveries: DeliveryContext,
        stop: &StopRequest,
    ) -> Result<Self, ProducerError> {
        let connection = client_config(&settings.kafka, settings.topic.compression)
            .map_err(|error| ProducerError::KafkaClient(error.to_string()))?;
        let deliveries = deliveries.for_connection(&connection);
        let producer = connection
            .config
            .create_with_context(deliveries)
            .map_err(|error| ProducerError::from_client_error(&error))?;
        let producer = Arc::new(producer);
        let poll_thread = PollThread::start(&producer);
        let publisher = Self { producer, topic: settings.topic.topic.clone(), poll_thread };
        topic::prepare(&publisher, settings, &connection, stop)?;
        Ok(publisher)
    }

    /// Queues a record; blocks while the queue is full.
    pub(crate) fn send(
        &self,
        key: &[u8],
        value: &[u8],
        holds: usize,
        stop: &StopRequest,
    ) -> Result<SendOutcome, ProducerError> {
        let mut record = BaseRecord::with_opaque_to(&self.topic, holds).key(key).payload(value);
        loop {
            record = match self.producer.send(record) {
                Ok(()) => return Ok(SendOutcome::Queued),
                Err((error, record)) if is_queue_full(&error) => record,
                Err((error, _)) => return Err(ProducerError::Publish(error)),
            };
            if stop.is_requested() {
                return Ok(SendOutcome::Stopped);
            }
            stop.sleep(DELIVERY_PAUSE);
        }
    }

    /// Waits until each queued record is acknowledged or has failed, or for a request to stop.
    ///
    /// librdkafka 2.12 sends a batch of a partition only after the batch before is acknowledged, if the producer is
    /// idempotent, and its thread uses a whole core while a batch waits longer than `linger.ms`. A loop that keeps a
    /// rate has time to wait instead.
    pub(crate) fn await_acknowledgements(&self, stop: &StopRequest) {
        while self.producer.in_flight_count() > 0 && !stop.is_requested() {
            stop.sleep(DELIVERY_PAUSE);
        }
    }

    /// Returns the context that receives the delivery reports.
    pub(crate) fn deliveries(&self) -> &DeliveryContext {
        self.producer.context()
    }

    /// Waits until each queued record is acknowledged or has failed.
    ///
    /// The wait is limited by `message.timeout.ms`, and after a request to stop by
    /// `shutdown_timeout`. The remaining records are then dropped and counted as not acknowledged.
    pub(crate) fn finish(&mut self, stop: &StopRequest, shutdown_timeout: Duration) {
        self.poll_thread.end();
        let mut stop_seen = None;
        while self.flush(POLL_INTERVAL).is_err() {
            self.deliveries().flush_ledger();
            if stop.is_requested() {
                let waited = stop_seen.get_or_insert_with(Instant::now).elapsed();
                if waited >= shutdown_timeout {
                    self.drop_queued();
                    break;
                }
            }
        }
        self.deliveries().flush_ledger();
    }

    /// Returns an error if Kafka has permanently refused the producer: a missing permission.
    pub(crate) fn check_refusal(&self) -> Result<(), ProducerError> {
        let refusal = self.producer.client().fatal_error();
        let refusal = refusal.and_then(|(code, text)| Some((text, remedy::of_code(code)?)));
        match refusal {
            Some((reason, remedy)) => Err(ProducerError::KafkaRefuses { reason, remedy }),
            None => Ok(()),
        }
    }

    fn flush(&self, limit: Duration) -> Result<(), KafkaError> {
        self.producer.flush(limit)
    }

    fn drop_queued(&self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
        if let Err(error) = self.flush(PURGE_TIMEOUT) {
            tracing::warn!(%error, "no delivery report for dropped records");
        }
    }
}

fn is_queue_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}

/// Thread that polls for delivery reports and flushes the ledger at least once a second.
struct PollThread {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PollThread {
    fn start(producer: &Arc<BaseProducer<DeliveryContext>>) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (producer, until) = (Arc::clone(producer), Arc::clone(&ended));
        let thread = std::thread::Builder::new().name("deliveries".to_owned()).spawn(move || {
            while !until.load(Ordering::Relaxed) {
                producer.poll(POLL_INTERVAL);
                producer.context().flush_ledger();
            }
        });
        Self { ended, thread: Some(thread.expect("a thread can be started")) }
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
