//! Metrics of a compactor for Prometheus. `docs/metrics.md` is generated from their descriptions.

mod lake;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ducktide_health::LakeHealth;
use ducktide_maintenance::{LastMaintenance, MergeTotals, Operation};
use ducktide_service::endpoints::{self, Readiness};
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use lake::LakeMetrics;

/// Prefix of all names.
const PREFIX: &str = "ducktide_compactor";

/// Buckets from a check without work to a merge of half a gigabyte on a slow disk.
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

/// Outcome of an operation, for its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OperationOutcome {
    Done,
    /// A replay or another operation held the lock.
    Postponed,
    Failed,
}

impl OperationOutcome {
    const ALL: [Self; 3] = [Self::Done, Self::Postponed, Self::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Postponed => "postponed",
            Self::Failed => "failed",
        }
    }
}

type DurationFamily = Family<OperationLabels, Histogram, fn() -> Histogram>;

/// Metrics of the compactor.
#[derive(Debug)]
pub(crate) struct Metrics {
    operations: Family<OutcomeLabels, Counter>,
    seconds: DurationFamily,
    done: Family<OperationLabels, Counter>,
    last_success: Family<OperationLabels, Gauge>,
    merged_files: Family<DirectionLabels, Counter>,
    merged_bytes: Family<DirectionLabels, Counter>,
    rest_seconds: Counter<f64, AtomicU64>,
    is_throttled: Gauge,
    leader: Gauge,
    unknown_format: Gauge,
    backlog_files: Gauge,
    backlog_bytes: Gauge,
    lake: LakeMetrics,
}

impl Metrics {
    /// Registers the metrics.
    pub(crate) fn register(exported: &mut Registry) -> Self {
        let ours = exported.sub_registry_with_prefix(PREFIX);
        let new = Self {
            operations: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(OPERATION_SECONDS)),
            done: Family::default(),
            last_success: Family::default(),
            merged_files: Family::default(),
            merged_bytes: Family::default(),
            rest_seconds: Counter::default(),
            is_throttled: Gauge::default(),
            leader: Gauge::default(),
            unknown_format: Gauge::default(),
            backlog_files: Gauge::default(),
            backlog_bytes: Gauge::default(),
            lake: LakeMetrics::register(ours),
        };
        new.register_operations(ours);
        new.register_merges(ours);
        new.initialize();
        new
    }

    fn register_operations(&self, r: &mut Registry) {
        r.register("operations", "Operations by outcome", self.operations.clone());
        r.register_with_unit(
            "operation_duration",
            "Duration of operations",
            Unit::Seconds,
            self.seconds.clone(),
        );
        r.register(
            "processed",
            "Files merged or removed, snapshots expired, ranges of the ledger coalesced",
            self.done.clone(),
        );
        r.register_with_unit(
            "last_success_timestamp",
            "Time of the last success of the operation on this lake, by any compactor, since 1970",
            Unit::Seconds,
            self.last_success.clone(),
        );
        r.register_with_unit(
            "rest",
            "Time for which the compactor rested to leave resources to consumers",
            Unit::Seconds,
            self.rest_seconds.clone(),
        );
        r.register(
            "giving_way",
            "1 if the compactor rests longer because it slowed down consumers, otherwise 0",
            self.is_throttled.clone(),
        );
        r.register("leader", "1 for the leader, 0 for a standby", self.leader.clone());
        r.register(
            "catalog_format_unknown",
            "1 if this program does not support the format of the catalog, for instance after a migration \
             by a newer client; the compactor then writes nothing",
            self.unknown_format.clone(),
        );
    }

    fn register_merges(&self, r: &mut Registry) {
        r.register("merge_files", "Files that merges read and wrote", self.merged_files.clone());
        r.register_with_unit(
            "merge_size",
            "Size of the files that merges read and wrote",
            Unit::Bytes,
            self.merged_bytes.clone(),
        );
        r.register("backlog_files", "Files that are due to be merged", self.backlog_files.clone());
        r.register_with_unit(
            "backlog_size",
            "Size of the files that are due to be merged",
            Unit::Bytes,
            self.backlog_bytes.clone(),
        );
    }

    /// Creates all counters with the value 0, so that their first increase is visible.
    fn initialize(&self) {
        self.record_merge(MergeTotals::default());
        for operation in Operation::ALL.map(Operation::as_str) {
            for outcome in OperationOutcome::ALL.map(OperationOutcome::as_str) {
                drop(self.operations.get_or_create(&OutcomeLabels { operation, outcome }));
            }
        }
    }

    pub(crate) fn record_operation(
        &self,
        operation: Operation,
        outcome: OperationOutcome,
        took: Duration,
        done: u64,
    ) {
        if outcome == OperationOutcome::Done {
            self.set_last_success(operation, Timestamp::now());
        }
        let operation = operation.as_str();
        let labels = OutcomeLabels { operation, outcome: outcome.as_str() };
        self.operations.get_or_create(&labels).inc();
        let labels = OperationLabels { operation };
        self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
        self.done.get_or_create(&labels).inc_by(done);
    }

    fn set_last_success(&self, operation: Operation, at: Timestamp) {
        let labels = OperationLabels { operation: operation.as_str() };
        self.last_success.get_or_create(&labels).set(at.as_second());
    }

    pub(crate) fn record_merge(&self, totals: MergeTotals) {
        let add = |direction, files, bytes| {
            let labels = DirectionLabels { direction };
            self.merged_files.get_or_create(&labels).inc_by(files);
            self.merged_bytes.get_or_create(&labels).inc_by(bytes);
        };
        add("read", totals.files_read, totals.bytes_read);
        add("written", totals.files_written, totals.bytes_written);
    }

    pub(crate) fn record_rest(&self, rest: Duration, is_throttled: bool) {
        self.rest_seconds.inc_by(rest.as_secs_f64());
        self.is_throttled.set(i64::from(is_throttled));
    }

    /// Sets whether this compactor is the leader. A standby exports nothing of the lake: its values would
    /// be old.
    pub(crate) fn set_leader(&self, is_leader: bool) {
        self.leader.set(i64::from(is_leader));
        if !is_leader {
            self.lake.clear();
            self.last_success.clear();
            self.set_backlog(0, 0);
        }
    }

    pub(crate) fn set_format_unknown(&self, is_unknown: bool) {
        self.unknown_format.set(i64::from(is_unknown));
    }

    pub(crate) fn set_backlog(&self, files: usize, bytes: u64) {
        self.backlog_files.set(i64::try_from(files).unwrap_or(i64::MAX));
        self.backlog_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn set_health(&self, health: &LakeHealth) {
        self.lake.set(health);
        for LastMaintenance { kind, at, .. } in &health.last_maintenance {
            self.set_last_success(*kind, *at);
        }
    }
}

/// Returns the metrics of a compactor with one table as `OpenMetrics`, for the page that lists them.
#[must_use]
pub fn sample_metrics() -> String {
    let mut exported = endpoints::registry("ducktide-compactor", &Readiness::starting());
    let metrics = Metrics::register(&mut exported);
    for operation in Operation::ALL {
        metrics.record_operation(operation, OperationOutcome::Done, Duration::ZERO, 0);
    }
    metrics.set_health(&lake::sample_health());
    endpoints::open_metrics(&exported)
}
