//! What a consumer counts, and how it is shown to Prometheus.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use ducktide_lake::commit::Commit;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::committer::DropReason;
use crate::dead_letter::LetterCounts;
use crate::flush::Trigger;
use crate::source::TopicPartition;

/// The prefix of every name.
const PREFIX: &str = "ducktide_consumer";

/// From one commit on a quiet machine (15 ms) to an outage (two minutes).
const COMMIT_SECONDS: [f64; 12] =
    [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 120.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabels {
    topic: String,
    partition: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TriggerLabels {
    trigger: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabels {
    class: &'static str,
}

type PartitionCounter = Family<PartitionLabels, Counter<u64, AtomicU64>>;

/// The consumer's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    records: PartitionCounter,
    rows: Counter,
    tombstones: Counter,
    gaps: Counter,
    dead_letters: Family<ClassLabels, Counter>,
    file_bytes: Counter,
    files: Counter,
    batches: Family<OutcomeLabels, Counter>,
    retries: Counter,
    flushes: Family<TriggerLabels, Counter>,
    commit_seconds: Histogram,
    next_offset: Family<PartitionLabels, Gauge<i64, AtomicI64>>,
    assigned: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            records: Family::default(),
            rows: Counter::default(),
            tombstones: Counter::default(),
            gaps: Counter::default(),
            dead_letters: Family::default(),
            file_bytes: Counter::default(),
            files: Counter::default(),
            batches: Family::default(),
            retries: Counter::default(),
            flushes: Family::default(),
            commit_seconds: Histogram::new(COMMIT_SECONDS),
            next_offset: Family::default(),
            assigned: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("records", "Records taken from Kafka", self.records.clone());
        r.register("rows", "Rows committed to the lake", self.rows.clone());
        r.register("tombstones", "Records without a value", self.tombstones.clone());
        r.register("gap_offsets", "Offsets that held no record", self.gaps.clone());
        r.register(
            "dead_letters",
            "Records that could not be decoded, committed to the dead-letter table",
            self.dead_letters.clone(),
        );
        r.register("files", "Data files committed to the lake", self.files.clone());
        r.register_with_unit(
            "file_size",
            "Size of the data files committed to the lake",
            Unit::Bytes,
            self.file_bytes.clone(),
        );
        r.register("batches", "Batches by how they ended", self.batches.clone());
        r.register("lake_retries", "Attempts on the lake that were repeated", self.retries.clone());
        r.register("flushes", "Batches by what made them end", self.flushes.clone());
        r.register_with_unit(
            "commit_duration",
            "Time from a batch's first commit attempt to its outcome",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        r.register("next_offset", "Where the lake stands", self.next_offset.clone());
        r.register("assigned_partitions", "Partitions of this member", self.assigned.clone());
    }

    /// All metrics in Prometheus' text format.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("a string takes any text");
        text
    }

    pub(crate) fn consumed(&self, partition: &TopicPartition, records: usize) {
        self.records.get_or_create(&labels(partition)).inc_by(records as u64);
    }

    pub(crate) fn flushed(&self, trigger: Trigger) {
        let trigger = match trigger {
            Trigger::Age => "age",
            Trigger::Full => "full",
            Trigger::Demand => "demand",
        };
        self.flushes.get_or_create(&TriggerLabels { trigger }).inc();
    }

    pub(crate) fn committed(&self, commit: &Commit, elapsed: Duration) {
        let count = |of: fn(&ducktide_lake::commit::Counts) -> i64| {
            let sum: i64 = commit.progress().iter().map(|delta| of(&delta.counts)).sum();
            u64::try_from(sum).unwrap_or(0)
        };
        self.rows.inc_by(count(|counts| counts.rows));
        self.tombstones.inc_by(count(|counts| counts.tombstones));
        self.gaps.inc_by(count(|counts| counts.gaps));
        self.files.inc_by(commit.files().len() as u64);
        self.file_bytes.inc_by(commit.files().iter().map(|file| file.bytes).sum());
        self.commit_seconds.observe(elapsed.as_secs_f64());
        self.batches.get_or_create(&OutcomeLabels { outcome: "committed" }).inc();
    }

    pub(crate) fn buried(&self, letters: &LetterCounts) {
        for (class, count) in letters {
            let labels = ClassLabels { class: class.as_str() };
            self.dead_letters.get_or_create(&labels).inc_by(*count);
        }
    }

    pub(crate) fn dropped(&self, reason: DropReason) {
        let outcome = reason.as_str();
        self.batches.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub(crate) fn retried(&self) {
        self.retries.inc();
    }

    pub(crate) fn next_offset(&self, partition: &TopicPartition, offset: i64) {
        self.next_offset.get_or_create(&labels(partition)).set(offset);
    }

    pub(crate) fn assigned(&self, partitions: usize) {
        self.assigned.set(i64::try_from(partitions).unwrap_or(i64::MAX));
    }

    pub(crate) fn revoked(&self, partition: &TopicPartition) {
        self.next_offset.remove(&labels(partition));
    }
}

fn labels(partition: &TopicPartition) -> PartitionLabels {
    PartitionLabels { topic: partition.topic.to_string(), partition: partition.partition.0 }
}
