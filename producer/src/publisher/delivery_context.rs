//! Delivery reports: counts each record, and writes it to the ledger once Kafka acknowledged it.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ducktide_kafka::failure::ConnectionFailures;
use ducktide_kafka::oauth::OAuthTokens;
use ducktide_kafka::{Connection, remedy};
use ducktide_service::telemetry;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;

use crate::encoder;
use crate::ledger::Ledger;

/// Opaque value of a record that holds an event. librdkafka stores it in the place of a pointer, so
/// it needs no allocation; the event id is read from the bytes of the record.
pub(crate) const HOLDS_EVENT: usize = 1;
/// Opaque value of a record without an event, see [`HOLDS_EVENT`].
pub(crate) const HOLDS_NO_EVENT: usize = 0;

/// Totals that other threads may read while records are delivered.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Records that Kafka acknowledged.
    pub(crate) acknowledged: AtomicU64,
    /// Total size of their values before compression, bytes.
    pub(crate) bytes: AtomicU64,
    /// Records that Kafka rejected or did not acknowledge in time. Some of them may be in the topic.
    pub(crate) not_acknowledged: AtomicU64,
}

/// Client context: receives delivery reports, errors and log lines from librdkafka.
pub(crate) struct DeliveryContext {
    totals: Arc<Totals>,
    state: Mutex<DeliveryState>,
    ledger_failed: AtomicBool,
    failures: ConnectionFailures,
    tokens: Option<Arc<OAuthTokens>>,
}

/// State that only the delivery callback writes, which one thread at a time calls.
#[derive(Default)]
struct DeliveryState {
    ledger: Option<Ledger>,
    ledger_error: Option<io::Error>,
    /// Number of failed deliveries for each error. A list, because there are few kinds and the code
    /// is not hashable.
    failures: Vec<(RDKafkaErrorCode, u64)>,
}

impl DeliveryContext {
    pub(crate) fn new(totals: Arc<Totals>, ledger: Option<Ledger>) -> Self {
        let state = Mutex::new(DeliveryState { ledger, ..DeliveryState::default() });
        Self {
            totals,
            state,
            ledger_failed: AtomicBool::new(false),
            failures: ConnectionFailures::default(),
            tokens: None,
        }
    }

    /// Sets the connection: authorities that it trusts, and the source of its tokens.
    pub(crate) fn for_connection(self, connection: &Connection) -> Self {
        let failures = ConnectionFailures::new(&connection.config);
        Self { failures, tokens: connection.tokens.clone(), ..self }
    }

    /// Reports that the ledger cannot be written, so that publishing must stop.
    pub(crate) fn has_ledger_failed(&self) -> bool {
        self.ledger_failed.load(Ordering::Relaxed)
    }

    /// Writes the buffered ledger lines to the file.
    pub(crate) fn flush_ledger(&self) {
        let mut state = self.state();
        let flushed = state.ledger.as_mut().map_or(Ok(()), Ledger::flush);
        self.keep_ledger_error(&mut state, flushed);
    }

    /// Takes the first error of the ledger, if there is one.
    pub(crate) fn take_ledger_error(&self) -> Option<io::Error> {
        self.state().ledger_error.take()
    }

    /// Logs the number of failed records for each error.
    pub(crate) fn report_failures(&self) {
        for (error, records) in &self.state().failures {
            let remedy = remedy::of_code(*error);
            tracing::error!(records, %error, remedy, "records not acknowledged");
        }
    }

    /// Returns the client's reason for reaching no broker, if it has one.
    pub(crate) fn connection_failure(&self) -> Option<String> {
        self.failures.first()
    }

    fn acknowledge(&self, message: &BorrowedMessage<'_>, holds: usize) {
        let record = message.payload().unwrap_or_default();
        self.totals.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.totals.bytes.fetch_add(record.len() as u64, Ordering::Relaxed);
        let mut state = self.state();
        if let Some(ledger) = &mut state.ledger {
            let event_id = Some(record).filter(|_| holds == HOLDS_EVENT);
            let event_id = event_id.and_then(encoder::event_id_text).unwrap_or_default();
            let appended = ledger.append(message.partition(), message.offset(), event_id);
            self.keep_ledger_error(&mut state, appended);
        }
    }

    fn fail(&self, error: &KafkaError) {
        self.totals.not_acknowledged.fetch_add(1, Ordering::Relaxed);
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let failures = &mut self.state().failures;
        if let Some((_, count)) = failures.iter_mut().find(|(known, _)| *known == code) {
            *count += 1;
        } else {
            failures.push((code, 1));
            tracing::warn!(%error, "record not acknowledged; further records with this error are only counted");
        }
    }

    /// Keeps the first error and closes the ledger: a ledger with a gap would report false errors
    /// of the lake.
    fn keep_ledger_error(&self, state: &mut DeliveryState, written: io::Result<()>) {
        if let Err(error) = written {
            state.ledger = None;
            state.ledger_error.get_or_insert(error);
            self.ledger_failed.store(true, Ordering::Relaxed);
        }
    }

    fn state(&self) -> MutexGuard<'_, DeliveryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for DeliveryContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let tokens = self.tokens.as_ref().ok_or("no source of tokens")?;
        Ok(tokens.token()?.into())
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL" {
            self.failures.record(message);
        }
        // A fatal error is the error of the run.
        let level = if facility == "FATAL" { RDKafkaLogLevel::Debug } else { level };
        telemetry::log_librdkafka(level as i32, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // librdkafka logs the same text. It recovers automatically from all but fatal errors, and
        // those fail the next send.
        tracing::debug!(target: "librdkafka", %error, "{reason}");
        self.failures.record(reason);
    }
}

impl ProducerContext for DeliveryContext {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, holds: usize) {
        match result {
            Ok(message) => self.acknowledge(message, holds),
            Err((error, _)) => self.fail(error),
        }
    }
}
