//! Metrics of commits and of the outcome of batches.

use std::time::Duration;

use ducktide_protocol::commit::{Commit, Counts, OutcomeCheck};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::batch::dead_letter::DeadLetterCounts;
use crate::clock::Clock;
use crate::commit::event::DropReason;
use crate::decode::error_class::ErrorClass;

/// Buckets from a commit on an idle machine (15 ms) to an outage (two minutes), seconds.
const COMMIT_SECONDS: [f64; 12] =
    [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 120.0];

const COMMITTED: &str = "committed";
const FAILED: &str = "failed";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabels {
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FoundLabels {
    found: &'static str,
}

#[derive(Debug)]
pub(crate) struct CommitMetrics {
    clock: Clock,
    rows: Counter,
    duplicates: Counter,
    tombstones: Counter,
    gaps: Counter,
    dead_letters: Family<ClassLabels, Counter>,
    files: Counter,
    file_bytes: Counter,
    batches: Family<OutcomeLabels, Counter>,
    outcome_checks: Family<FoundLabels, Counter>,
    seconds: Histogram,
    /// Absent before the first commit.
    last_commit: Family<[(String, String); 0], Gauge>,
}

impl CommitMetrics {
    pub(super) fn register(r: &mut Registry, clock: Clock) -> Self {
        let new = Self {
            clock,
            rows: Counter::default(),
            duplicates: Counter::default(),
            tombstones: Counter::default(),
            gaps: Counter::default(),
            dead_letters: Family::default(),
            files: Counter::default(),
            file_bytes: Counter::default(),
            batches: Family::default(),
            outcome_checks: Family::default(),
            seconds: Histogram::new(COMMIT_SECONDS),
            last_commit: Family::default(),
        };
        new.announce(r);
        for outcome in
            DropReason::ALL.map(DropReason::as_str).into_iter().chain([COMMITTED, FAILED])
        {
            drop(new.batches.get_or_create(&OutcomeLabels { outcome }));
        }
        for class in ErrorClass::ALL.map(ErrorClass::as_str) {
            drop(new.dead_letters.get_or_create(&ClassLabels { class }));
        }
        for found in OutcomeCheck::ALL.map(OutcomeCheck::as_str) {
            drop(new.outcome_checks.get_or_create(&FoundLabels { found }));
        }
        new
    }

    fn announce(&self, r: &mut Registry) {
        r.register("rows", "Rows committed to the lake", self.rows.clone());
        r.register(
            "duplicates",
            "Duplicates that were dropped (--dedupe-by), counted in committed batches",
            self.duplicates.clone(),
        );
        r.register(
            "tombstones",
            "Records without a value, counted in committed batches",
            self.tombstones.clone(),
        );
        r.register(
            "gap_offsets",
            "Offsets without a record, counted in committed batches",
            self.gaps.clone(),
        );
        r.register(
            "dead_letters",
            "Records committed to the dead-letter table, by error class",
            self.dead_letters.clone(),
        );
        r.register("files", "Data files committed to the lake", self.files.clone());
        r.register_with_unit(
            "file_size",
            "Size of the data files committed to the lake",
            Unit::Bytes,
            self.file_bytes.clone(),
        );
        r.register(
            "batches",
            "Batches by outcome; batches that are not committed are read again, or the worker stops",
            self.batches.clone(),
        );
        r.register(
            "commit_inquiries",
            "Commits with an unknown outcome, by the state that was read from the catalog: applied (only \
             the answer was lost), not_applied, moved (fenced), unanswered (retried)",
            self.outcome_checks.clone(),
        );
        r.register_with_unit(
            "commit_duration",
            "Time from the first commit attempt of a batch to its outcome",
            Unit::Seconds,
            self.seconds.clone(),
        );
        r.register_with_unit(
            "last_commit_timestamp",
            "Time of the last commit of this worker, since 1970",
            Unit::Seconds,
            self.last_commit.clone(),
        );
    }

    pub(crate) fn committed(&self, commit: &Commit, elapsed: Duration) {
        let count = |of: fn(&Counts) -> i64| {
            let sum: i64 = commit.progress().iter().map(|delta| of(&delta.counts)).sum();
            u64::try_from(sum).unwrap_or(0)
        };
        self.rows.inc_by(count(|counts| counts.rows));
        self.duplicates.inc_by(count(|counts| counts.duplicates));
        self.tombstones.inc_by(count(|counts| counts.tombstones));
        self.gaps.inc_by(count(|counts| counts.gaps));
        self.files.inc_by(commit.files().len() as u64);
        self.file_bytes.inc_by(commit.files().iter().map(|file| file.bytes).sum());
        self.seconds.observe(elapsed.as_secs_f64());
        self.committed_at(self.clock.unix_micros() / 1_000_000);
        self.ended(COMMITTED);
    }

    pub(super) fn committed_at(&self, unix_seconds: i64) {
        self.last_commit.get_or_create(&[]).set(unix_seconds);
    }

    pub(crate) fn dead_letters_committed(&self, dead_letters: &DeadLetterCounts) {
        for (class, count) in dead_letters {
            let labels = ClassLabels { class: class.as_str() };
            self.dead_letters.get_or_create(&labels).inc_by(*count);
        }
    }

    pub(crate) fn dropped(&self, reason: DropReason) {
        self.ended(reason.as_str());
    }

    /// Counts a batch whose commit failed permanently; the worker stops.
    pub(crate) fn failed(&self) {
        self.ended(FAILED);
    }

    pub(crate) fn outcome_checked(&self, inquiry: OutcomeCheck) {
        self.outcome_checks.get_or_create(&FoundLabels { found: inquiry.as_str() }).inc();
    }

    fn ended(&self, outcome: &'static str) {
        self.batches.get_or_create(&OutcomeLabels { outcome }).inc();
    }
}
