//! The lake's health, as the leader looks at it every minute.

use ducktide_health::{
    AwaitingRemoval, FileCount, LakeHealth, LakeState, SizeClasses, SnapshotsKept, TableHealth,
    Tolerance, judge,
};
use ducktide_protocol::position::SnapshotId;
use ducktide_verify::LastVerification;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SizeLabels {
    table: String,
    size: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

/// A number that is not there before it is known.
type Known = Family<[(String, String); 0], Gauge>;

#[derive(Debug, Default)]
pub(super) struct LakeMetrics {
    files: Family<SizeLabels, Gauge>,
    bytes: Family<SizeLabels, Gauge>,
    snapshots: Known,
    oldest_snapshot: Known,
    awaiting_removal: Known,
    ledger_rows: Known,
    state: Family<StateLabels, Gauge>,
    verify_success: Known,
    verify_findings: Known,
    verify_at: Known,
}

impl LakeMetrics {
    pub(super) fn register(r: &mut Registry) -> Self {
        let new = Self::default();
        new.announce_sizes(r);
        new.announce_judgements(r);
        new
    }

    fn announce_sizes(&self, r: &mut Registry) {
        r.register(
            "lake_files",
            "Live data files by size: tiny (below 1 MiB), small (below 16 MiB), medium, full (of the \
             target or more)",
            self.files.clone(),
        );
        r.register_with_unit(
            "lake_size",
            "Size of the live data files by their size",
            Unit::Bytes,
            self.bytes.clone(),
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

    fn announce_judgements(&self, r: &mut Registry) {
        r.register(
            "lake_state",
            "1 for the lake's judgement, as `ducktide status` has it, 0 for the others",
            self.state.clone(),
        );
        r.register(
            "verify_success",
            "1 if the last `ducktide verify --record` found nothing, 0 if it found something",
            self.verify_success.clone(),
        );
        r.register(
            "verify_findings",
            "What the last `ducktide verify --record` found",
            self.verify_findings.clone(),
        );
        r.register_with_unit(
            "verify_timestamp",
            "When the last `ducktide verify --record` ended, since 1970",
            Unit::Seconds,
            self.verify_at.clone(),
        );
    }

    pub(super) fn show(&self, health: &LakeHealth) {
        health.tables.iter().for_each(|table| self.show_table(table));
        let set = |gauge: &Known, value: i64| {
            gauge.get_or_create(&[]).set(value);
        };
        set(&self.snapshots, number(health.snapshots.count));
        set(&self.oldest_snapshot, health.snapshots.oldest_at.as_second());
        set(&self.awaiting_removal, number(health.awaiting_removal.files));
        set(&self.ledger_rows, number(health.ledger_rows));
        let judged = judge(health, Timestamp::now(), &Tolerance::default()).state;
        for state in LakeState::ALL {
            let labels = StateLabels { state: state.as_str() };
            self.state.get_or_create(&labels).set(i64::from(state == judged));
        }
        if let Some(last) = &health.last_verification {
            set(&self.verify_success, i64::from(last.findings == 0));
            set(&self.verify_findings, number(last.findings));
            set(&self.verify_at, last.at.as_second());
        }
    }

    fn show_table(&self, table: &TableHealth) {
        let sizes = &table.sizes;
        let classes = [
            ("tiny", sizes.tiny),
            ("small", sizes.small),
            ("medium", sizes.medium),
            ("full", sizes.full),
        ];
        for (size, count) in classes {
            let labels = SizeLabels { table: table.table.clone(), size };
            self.files.get_or_create(&labels).set(number(count.files));
            self.bytes.get_or_create(&labels).set(number(count.bytes));
        }
    }

    /// Shows nothing until somebody looks again.
    pub(super) fn forget(&self) {
        self.files.clear();
        self.bytes.clear();
        self.state.clear();
        let known = [&self.snapshots, &self.oldest_snapshot, &self.awaiting_removal];
        let verified = [&self.verify_success, &self.verify_findings, &self.verify_at];
        known.into_iter().chain(verified).chain([&self.ledger_rows]).for_each(Family::clear);
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The health of an empty lake that was verified.
pub(super) fn sample_health() -> LakeHealth {
    let table = TableHealth {
        table: "main.events".to_owned(),
        target_bytes: 0,
        live: FileCount::default(),
        sizes: SizeClasses::default(),
        with_deletes: 0,
        mergeable: 0,
        merge_groups: 0,
        schema_versions: 1,
        partition_values: 0,
        one_day: None,
    };
    LakeHealth {
        tables: vec![table],
        snapshots: SnapshotsKept {
            count: 0,
            oldest: SnapshotId(0),
            oldest_at: Timestamp::UNIX_EPOCH,
            retention: None,
            kept_by: None,
        },
        ended: FileCount::default(),
        awaiting_removal: AwaitingRemoval::default(),
        ledger_rows: 0,
        last_maintenance: Vec::new(),
        last_verification: Some(LastVerification {
            at: Timestamp::UNIX_EPOCH,
            findings: 0,
            deep: false,
        }),
    }
}

#[cfg(test)]
mod tests {
    use ducktide_service::endpoints::open_metrics;

    use super::*;

    #[test]
    fn a_failed_verification_is_shown_until_the_lead_is_lost() {
        let mut registry = Registry::default();
        let metrics = LakeMetrics::register(&mut registry);
        let mut health = sample_health();
        let last = health.last_verification.as_mut().unwrap();
        last.findings = 3;

        metrics.show(&health);

        let shown = open_metrics(&registry);
        assert!(shown.contains("verify_success 0\n"), "{shown}");
        assert!(shown.contains("verify_findings 3\n"), "{shown}");
        assert!(shown.contains("lake_state{state=\"healthy\"} 1\n"), "{shown}");
        metrics.forget();
        assert!(!open_metrics(&registry).contains("verify_"), "a standby knows nothing of it");
    }
}
