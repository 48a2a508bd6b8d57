//! What a compactor counts, and how it is shown to Prometheus.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ducktide_lake::health::LakeHealth;
use ducktide_lake::maintenance::{MergeTotals, Operation};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The prefix of every name.
const PREFIX: &str = "ducktide_compactor";

/// From a look that finds nothing to a merge of half a gigabyte on a slow disk.
const OPERATION_SECONDS: [f64; 10] = [0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabels {
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SizeLabels {
    table: String,
    size: &'static str,
}

/// How an operation ended, for its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// A replay, or another operation, came first.
    Postponed,
    Failed,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Postponed => "postponed",
            Self::Failed => "failed",
        }
    }
}

type Seconds = Family<OperationLabels, Histogram, fn() -> Histogram>;

/// The compactor's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    operations: Family<OutcomeLabels, Counter>,
    seconds: Seconds,
    done: Family<OperationLabels, Counter>,
    merged_files: Family<DirectionLabels, Counter>,
    merged_bytes: Family<DirectionLabels, Counter>,
    rest_seconds: Counter<f64, AtomicU64>,
    gives_way: Gauge,
    leader: Gauge,
    backlog_files: Gauge,
    backlog_bytes: Gauge,
    lake_files: Family<SizeLabels, Gauge>,
    lake_bytes: Family<SizeLabels, Gauge>,
    snapshots: Gauge,
    oldest_snapshot: Gauge,
    awaiting_removal: Gauge,
    ledger_rows: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            operations: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(OPERATION_SECONDS)),
            done: Family::default(),
            merged_files: Family::default(),
            merged_bytes: Family::default(),
            rest_seconds: Counter::default(),
            gives_way: Gauge::default(),
            leader: Gauge::default(),
            backlog_files: Gauge::default(),
            backlog_bytes: Gauge::default(),
            lake_files: Family::default(),
            lake_bytes: Family::default(),
            snapshots: Gauge::default(),
            oldest_snapshot: Gauge::default(),
            awaiting_removal: Gauge::default(),
            ledger_rows: Gauge::default(),
        };
        metrics.register();
        metrics.register_lake();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("operations", "Operations by how they ended", self.operations.clone());
        r.register_with_unit(
            "operation_duration",
            "Time that operations took",
            Unit::Seconds,
            self.seconds.clone(),
        );
        r.register(
            "processed",
            "Files merged or removed, snapshots expired, ranges of the ledger coalesced",
            self.done.clone(),
        );
        r.register("merge_files", "Files that merges read and wrote", self.merged_files.clone());
        r.register_with_unit(
            "merge_size",
            "Size of the files that merges read and wrote",
            Unit::Bytes,
            self.merged_bytes.clone(),
        );
        r.register_with_unit(
            "rest",
            "Time that was left to consumers",
            Unit::Seconds,
            self.rest_seconds.clone(),
        );
        r.register("giving_way", "Whether consumers were slowed by it", self.gives_way.clone());
        r.register("leader", "Whether this compactor works, or stands by", self.leader.clone());
        r.register("backlog_files", "Files that wait to be merged now", self.backlog_files.clone());
        r.register_with_unit(
            "backlog_size",
            "Size of the files that wait to be merged now",
            Unit::Bytes,
            self.backlog_bytes.clone(),
        );
    }

    fn register_lake(&mut self) {
        let r = &mut self.registry;
        r.register("lake_files", "Live data files by size", self.lake_files.clone());
        r.register_with_unit(
            "lake_size",
            "Size of the live data files by their size",
            Unit::Bytes,
            self.lake_bytes.clone(),
        );
        r.register("lake_snapshots", "Snapshots that can be read", self.snapshots.clone());
        r.register_with_unit(
            "lake_oldest_snapshot_timestamp",
            "When the oldest snapshot was made, since 1970",
            Unit::Seconds,
            self.oldest_snapshot.clone(),
        );
        r.register(
            "lake_files_awaiting_removal",
            "Files that no snapshot needs",
            self.awaiting_removal.clone(),
        );
        r.register("lake_ledger_rows", "Rows of the ledger", self.ledger_rows.clone());
    }

    /// All metrics in Prometheus' text format.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("a string takes any text");
        text
    }

    pub(crate) fn ended(&self, operation: Operation, outcome: Outcome, took: Duration, done: u64) {
        let operation = operation.as_str();
        let labels = OutcomeLabels { operation, outcome: outcome.as_str() };
        self.operations.get_or_create(&labels).inc();
        let labels = OperationLabels { operation };
        self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
        self.done.get_or_create(&labels).inc_by(done);
    }

    pub(crate) fn merged(&self, totals: MergeTotals) {
        let add = |direction, files, bytes| {
            let labels = DirectionLabels { direction };
            self.merged_files.get_or_create(&labels).inc_by(files);
            self.merged_bytes.get_or_create(&labels).inc_by(bytes);
        };
        add("read", totals.files_read, totals.bytes_read);
        add("written", totals.files_written, totals.bytes_written);
    }

    pub(crate) fn rested(&self, rest: Duration, gives_way: bool) {
        self.rest_seconds.inc_by(rest.as_secs_f64());
        self.gives_way.set(i64::from(gives_way));
    }

    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    pub(crate) fn backlog(&self, files: usize, bytes: u64) {
        self.backlog_files.set(i64::try_from(files).unwrap_or(i64::MAX));
        self.backlog_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn lake(&self, health: &LakeHealth) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for table in &health.tables {
            let sizes = &table.sizes;
            let classes = [
                ("tiny", sizes.tiny),
                ("small", sizes.small),
                ("medium", sizes.medium),
                ("full", sizes.full),
            ];
            for (size, count) in classes {
                let labels = SizeLabels { table: table.table.clone(), size };
                self.lake_files.get_or_create(&labels).set(number(count.files));
                self.lake_bytes.get_or_create(&labels).set(number(count.bytes));
            }
        }
        self.snapshots.set(number(health.snapshots.count));
        self.oldest_snapshot.set(health.snapshots.oldest_at.as_second());
        self.awaiting_removal.set(number(health.awaiting_removal.files));
        self.ledger_rows.set(number(health.ledger_rows));
    }
}
