//! What becomes of each record: counted, and written to the ledger once Kafka acknowledged it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ducktide_lake::telemetry;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;

use crate::encoder;
use crate::ledger::Ledger;

/// What a record carries to its delivery report: whether it holds an event. librdkafka keeps it in
/// a pointer's place, so it costs nothing; the event's id is read from the record's own bytes.
pub(crate) const HOLDS_EVENT: usize = 1;
/// See [`HOLDS_EVENT`].
pub(crate) const HOLDS_NO_EVENT: usize = 0;

/// Totals that anybody may read while records are delivered.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Records that Kafka acknowledged.
    pub(crate) acknowledged: AtomicU64,
    /// The bytes of their values, before compression.
    pub(crate) bytes: AtomicU64,
    /// Records that Kafka did not acknowledge in time, or refused. Some may be in the topic.
    pub(crate) not_acknowledged: AtomicU64,
}

/// The client's context: hears of each delivery, of errors, and of the client's log lines.
pub(crate) struct Deliveries {
    totals: Arc<Totals>,
    books: Mutex<Books>,
    broken: AtomicBool,
}

/// What only the delivery callback writes, which one thread at a time calls.
#[derive(Default)]
struct Books {
    ledger: Option<Ledger>,
    ledger_error: Option<io::Error>,
    /// How often deliveries failed, by the error; there are few kinds, and they cannot be hashed.
    failures: Vec<(RDKafkaErrorCode, u64)>,
}

impl Deliveries {
    pub(crate) fn new(totals: Arc<Totals>, ledger: Option<Ledger>) -> Self {
        let books = Mutex::new(Books { ledger, ..Books::default() });
        Self { totals, books, broken: AtomicBool::new(false) }
    }

    /// Whether publishing on is pointless: the ledger cannot be written.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Writes out the ledger's lines so far.
    pub(crate) fn flush_ledger(&self) {
        let mut books = self.books();
        let flushed = books.ledger.as_mut().map_or(Ok(()), Ledger::flush);
        self.note(&mut books, flushed);
    }

    /// The first error of the ledger, if there was one.
    pub(crate) fn take_ledger_error(&self) -> Option<io::Error> {
        self.books().ledger_error.take()
    }

    /// Logs how many records failed, and why.
    pub(crate) fn report_failures(&self) {
        for (error, records) in &self.books().failures {
            tracing::error!(records, %error, "records were not acknowledged");
        }
    }

    fn acknowledge(&self, message: &BorrowedMessage<'_>, holds: usize) {
        let record = message.payload().unwrap_or_default();
        self.totals.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.totals.bytes.fetch_add(record.len() as u64, Ordering::Relaxed);
        let mut books = self.books();
        if let Some(ledger) = &mut books.ledger {
            let event_id = Some(record).filter(|_| holds == HOLDS_EVENT);
            let event_id = event_id.and_then(encoder::event_id_text).unwrap_or_default();
            let appended = ledger.append(message.partition(), message.offset(), event_id);
            self.note(&mut books, appended);
        }
    }

    fn fail(&self, error: &KafkaError) {
        self.totals.not_acknowledged.fetch_add(1, Ordering::Relaxed);
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let failures = &mut self.books().failures;
        if let Some((_, count)) = failures.iter_mut().find(|(known, _)| *known == code) {
            *count += 1;
        } else {
            failures.push((code, 1));
            tracing::warn!(%error, "record was not acknowledged; others like it are only counted");
        }
    }

    /// Keeps the first error, and writes no further: a ledger with a hole would accuse the lake.
    fn note(&self, books: &mut Books, written: io::Result<()>) {
        if let Err(error) = written {
            books.ledger = None;
            books.ledger_error.get_or_insert(error);
            self.broken.store(true, Ordering::Relaxed);
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        telemetry::log_librdkafka(level as i32, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Its log lines say the same, once. librdkafka goes on by itself after all but fatal errors,
        // and those end the next send.
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, holds: usize) {
        match result {
            Ok(message) => self.acknowledge(message, holds),
            Err((error, _)) => self.fail(error),
        }
    }
}
