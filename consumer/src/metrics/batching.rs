//! Metrics of decoding and batches, and of retries.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::worker::FlushTrigger;

/// Buckets from a few hundred rows to a full batch of a million on a slow disk, seconds.
const STAGING_SECONDS: [f64; 11] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Cause of a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryCause {
    /// The lake, during a commit.
    Commit,
    /// The lake, during another request or at the start.
    Lake,
    Registry,
    Kafka,
    /// Files could not be written, or not be made durable.
    Files,
}

impl RetryCause {
    const ALL: [Self; 5] = [Self::Commit, Self::Lake, Self::Registry, Self::Kafka, Self::Files];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Lake => "lake",
            Self::Registry => "registry",
            Self::Kafka => "kafka",
            Self::Files => "files",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TriggerLabels {
    trigger: &'static str,
}

#[derive(Debug)]
pub(crate) struct BatchMetrics {
    decoded: Counter,
    buffered_rows: Gauge,
    buffered_bytes: Gauge,
    staging_seconds: Histogram,
    flushes: Family<TriggerLabels, Counter>,
    retries: Family<CauseLabels, Counter>,
    held_topics: Gauge,
    ids: Gauge,
    ids_bytes: Gauge,
    forgotten_ids: Counter,
}

impl BatchMetrics {
    pub(super) fn register(r: &mut Registry) -> Self {
        let new = Self {
            decoded: Counter::default(),
            buffered_rows: Gauge::default(),
            buffered_bytes: Gauge::default(),
            staging_seconds: Histogram::new(STAGING_SECONDS),
            flushes: Family::default(),
            retries: Family::default(),
            held_topics: Gauge::default(),
            ids: Gauge::default(),
            ids_bytes: Gauge::default(),
            forgotten_ids: Counter::default(),
        };
        r.register("decoded_records", "Decoded records", new.decoded.clone());
        r.register(
            "buffered_rows",
            "Rows and dead letters of the batch that is being filled",
            new.buffered_rows.clone(),
        );
        r.register_with_unit(
            "buffered",
            "Memory of the batch that is being filled, without the part already written to files",
            Unit::Bytes,
            new.buffered_bytes.clone(),
        );
        r.register_with_unit(
            "staging_duration",
            "Working time of one thread for its share of a batch: decoding, writing, closing files",
            Unit::Seconds,
            new.staging_seconds.clone(),
        );
        r.register(
            "flushes",
            "Batches by the reason of their cut: age, full, or demand (partitions are revoked, a held \
             topic is retried, the worker stops)",
            new.flushes.clone(),
        );
        r.register("retries", "Failed attempts that are retried, by cause", new.retries.clone());
        r.register(
            "held_topics",
            "Topics that are held because files of their tables cannot be written",
            new.held_topics.clone(),
        );
        r.register(
            "dedupe_ids",
            "Ids of recent rows in memory, by which duplicates are found",
            new.ids.clone(),
        );
        r.register_with_unit(
            "dedupe_memory",
            "Memory of the ids of recent rows",
            Unit::Bytes,
            new.ids_bytes.clone(),
        );
        r.register(
            "dedupe_forgotten_ids",
            "Ids within --dedupe-window that were dropped because --dedupe-memory-limit was reached",
            new.forgotten_ids.clone(),
        );
        for trigger in FlushTrigger::ALL.map(FlushTrigger::as_str) {
            drop(new.flushes.get_or_create(&TriggerLabels { trigger }));
        }
        for cause in RetryCause::ALL.map(RetryCause::as_str) {
            drop(new.retries.get_or_create(&CauseLabels { cause }));
        }
        new
    }

    pub(crate) fn decoded(&self, records: u64) {
        self.decoded.inc_by(records);
    }

    /// Adds the change in buffered rows and bytes of one thread.
    pub(crate) fn buffered(&self, rows: i64, bytes: i64) {
        self.buffered_rows.inc_by(rows);
        self.buffered_bytes.inc_by(bytes);
    }

    pub(crate) fn held(&self, topics: usize) {
        self.held_topics.set(i64::try_from(topics).unwrap_or(i64::MAX));
    }

    /// Records the ids in memory of all threads, and the number that one thread dropped since its
    /// last call.
    pub(crate) fn remembered(&self, ids: usize, bytes: usize, forgotten: u64) {
        self.ids.set(i64::try_from(ids).unwrap_or(i64::MAX));
        self.ids_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.forgotten_ids.inc_by(forgotten);
    }

    pub(crate) fn staged(&self, took: Duration) {
        self.staging_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn flushed(&self, trigger: FlushTrigger) {
        self.flushes.get_or_create(&TriggerLabels { trigger: trigger.as_str() }).inc();
    }

    pub(crate) fn retried(&self, cause: RetryCause) {
        self.retries.get_or_create(&CauseLabels { cause: cause.as_str() }).inc();
    }
}
