//! What a compactor counts, and how it is shown to Prometheus. `docs/metrics.md` is made from what is
//! registered here.

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

/// How an operation ended, for its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// A replay, or another operation, came first.
    Postponed,
    Failed,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Done, Self::Postponed, Self::Failed];

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
    operations: Family<OutcomeLabels, Counter>,
    seconds: Seconds,
    done: Family<OperationLabels, Counter>,
    last_success: Family<OperationLabels, Gauge>,
    merged_files: Family<DirectionLabels, Counter>,
    merged_bytes: Family<DirectionLabels, Counter>,
    rest_seconds: Counter<f64, AtomicU64>,
    gives_way: Gauge,
    leader: Gauge,
    unknown_format: Gauge,
    backlog_files: Gauge,
    backlog_bytes: Gauge,
    lake: LakeMetrics,
}

impl Metrics {
    /// Adds them to what the worker exports.
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
            gives_way: Gauge::default(),
            leader: Gauge::default(),
            unknown_format: Gauge::default(),
            backlog_files: Gauge::default(),
            backlog_bytes: Gauge::default(),
            lake: LakeMetrics::register(ours),
        };
        new.announce_operations(ours);
        new.announce_merges(ours);
        new.begin_at_zero();
        new
    }

    fn announce_operations(&self, r: &mut Registry) {
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
        r.register_with_unit(
            "last_success_timestamp",
            "When the operation last ended well on this lake, whoever did it, since 1970",
            Unit::Seconds,
            self.last_success.clone(),
        );
        r.register_with_unit(
            "rest",
            "Time that was left to consumers",
            Unit::Seconds,
            self.rest_seconds.clone(),
        );
        r.register("giving_way", "Whether consumers were slowed by it", self.gives_way.clone());
        r.register("leader", "1 if this compactor works, 0 if it stands by", self.leader.clone());
        r.register(
            "catalog_format_unknown",
            "1 if the catalog has a format that this program does not know, as after a migration by a newer \
             client; nothing is written then",
            self.unknown_format.clone(),
        );
    }

    fn announce_merges(&self, r: &mut Registry) {
        r.register("merge_files", "Files that merges read and wrote", self.merged_files.clone());
        r.register_with_unit(
            "merge_size",
            "Size of the files that merges read and wrote",
            Unit::Bytes,
            self.merged_bytes.clone(),
        );
        r.register("backlog_files", "Files that wait to be merged now", self.backlog_files.clone());
        r.register_with_unit(
            "backlog_size",
            "Size of the files that wait to be merged now",
            Unit::Bytes,
            self.backlog_bytes.clone(),
        );
    }

    /// So that the first increase is seen as one.
    fn begin_at_zero(&self) {
        self.merged(MergeTotals::default());
        for operation in Operation::ALL.map(Operation::as_str) {
            for outcome in Outcome::ALL.map(Outcome::as_str) {
                drop(self.operations.get_or_create(&OutcomeLabels { operation, outcome }));
            }
        }
    }

    pub(crate) fn ended(&self, operation: Operation, outcome: Outcome, took: Duration, done: u64) {
        if outcome == Outcome::Done {
            self.succeeded(operation, Timestamp::now());
        }
        let operation = operation.as_str();
        let labels = OutcomeLabels { operation, outcome: outcome.as_str() };
        self.operations.get_or_create(&labels).inc();
        let labels = OperationLabels { operation };
        self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
        self.done.get_or_create(&labels).inc_by(done);
    }

    fn succeeded(&self, operation: Operation, at: Timestamp) {
        let labels = OperationLabels { operation: operation.as_str() };
        self.last_success.get_or_create(&labels).set(at.as_second());
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

    /// A standby shows nothing of the lake: what it last knew as the leader would be old.
    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
        if !leads {
            self.lake.forget();
            self.last_success.clear();
            self.backlog(0, 0);
        }
    }

    pub(crate) fn format_is_unknown(&self, is_unknown: bool) {
        self.unknown_format.set(i64::from(is_unknown));
    }

    pub(crate) fn backlog(&self, files: usize, bytes: u64) {
        self.backlog_files.set(i64::try_from(files).unwrap_or(i64::MAX));
        self.backlog_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn lake(&self, health: &LakeHealth) {
        self.lake.show(health);
        for LastMaintenance { kind, at, .. } in &health.last_maintenance {
            self.succeeded(*kind, *at);
        }
    }
}

/// A compactor's metrics with one table, as `OpenMetrics`: for the page that lists them.
#[must_use]
pub fn sample_metrics() -> String {
    let mut exported = endpoints::registry("ducktide-compactor", &Readiness::starting());
    let metrics = Metrics::register(&mut exported);
    for operation in Operation::ALL {
        metrics.ended(operation, Outcome::Done, Duration::ZERO, 0);
    }
    metrics.lake(&lake::sample_health());
    endpoints::open_metrics(&exported)
}
