//! Health of the lake, which the leader reads every minute.

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

/// Gauge without a value until it is known.
type OptionalGauge = Family<[(String, String); 0], Gauge>;

#[derive(Debug, Default)]
pub(super) struct LakeMetrics {
    files: Family<SizeLabels, Gauge>,
    bytes: Family<SizeLabels, Gauge>,
    snapshots: OptionalGauge,
    oldest_snapshot: OptionalGauge,
    awaiting_removal: OptionalGauge,
    ledger_rows: OptionalGauge,
    state: Family<StateLabels, Gauge>,
    verify_success: OptionalGauge,
    verify_findings: OptionalGauge,
    verify_at: OptionalGauge,
}

impl LakeMetrics {
    pub(super) fn register(r: &mut Registry) -> Self {
        let new = Self::default();
        new.register_sizes(r);
        new.register_judgements(r);
        new
    }

    fn register_sizes(&self, r: &mut Registry) {
        r.register(
            "lake_files",
            "Live data files by size: tiny (below 1 MiB), small (below 16 MiB), medium, full (at least \
             the target size)",
            self.files.clone(),
        );
        r.register_with_unit(
            "lake_size",
            "Bytes of the live data files by their size",
            Unit::Bytes,
            self.bytes.clone(),
        );
        r.register("lake_snapshots", "Snapshots that can be read", self.snapshots.clone());
        r.register_with_unit(
            "lake_oldest_snapshot_timestamp",
            "Time of the oldest snapshot, since 1970",
            Unit::Seconds,
            self.oldest_snapshot.clone(),
        );
        r.register(
            "lake_files_awaiting_removal",
            "Files that no snapshot needs, before their removal",
            self.awaiting_removal.clone(),
        );
        r.register("lake_ledger_rows", "Rows of the ledger", self.ledger_rows.clone());
    }

    fn register_judgements(&self, r: &mut Registry) {
        r.register(
            "lake_state",
            "1 for the current state of the lake, as in `ducktide status`, 0 for the others",
            self.state.clone(),
        );
        r.register(
            "verify_success",
            "1 if the last `ducktide verify --record` had no findings, otherwise 0",
            self.verify_success.clone(),
        );
        r.register(
            "verify_findings",
            "Findings of the last `ducktide verify --record`",
            self.verify_findings.clone(),
        );
        r.register_with_unit(
            "verify_timestamp",
            "Time at which the last `ducktide verify --record` ended, since 1970",
            Unit::Seconds,
            self.verify_at.clone(),
        );
    }

    pub(super) fn set(&self, health: &LakeHealth) {
        health.tables.iter().for_each(|table| self.set_table(table));
        let set_gauge = |gauge: &OptionalGauge, value: i64| {
            gauge.get_or_create(&[]).set(value);
        };
        set_gauge(&self.snapshots, number(health.snapshots.count));
        set_gauge(&self.oldest_snapshot, health.snapshots.oldest_at.as_second());
        set_gauge(&self.awaiting_removal, number(health.awaiting_removal.files));
        set_gauge(&self.ledger_rows, number(health.ledger_rows));
        let judged = judge(health, Timestamp::now(), &Tolerance::default()).state;
        for state in LakeState::ALL {
            let labels = StateLabels { state: state.as_str() };
            self.state.get_or_create(&labels).set(i64::from(state == judged));
        }
        if let Some(last) = &health.last_verification {
            set_gauge(&self.verify_success, i64::from(last.findings == 0));
            set_gauge(&self.verify_findings, number(last.findings));
            set_gauge(&self.verify_at, last.at.as_second());
        }
    }

    fn set_table(&self, table: &TableHealth) {
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

    /// Removes all values until they are set again.
    pub(super) fn clear(&self) {
        self.files.clear();
        self.bytes.clear();
        self.state.clear();
        let files = [&self.snapshots, &self.oldest_snapshot, &self.awaiting_removal];
        let verification = [&self.verify_success, &self.verify_findings, &self.verify_at];
        files.into_iter().chain(verification).chain([&self.ledger_rows]).for_each(Family::clear);
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Returns the health of an empty lake with a verification.
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
    fn a_failed_verification_is_exported_by_the_leader_only() {
        let mut registry = Registry::default();
        let metrics = LakeMetrics::register(&mut registry);
        let mut health = sample_health();
        let last = health.last_verification.as_mut().unwrap();
        last.findings = 3;

        metrics.set(&health);

        let shown = open_metrics(&registry);
        assert!(shown.contains("verify_success 0\n"), "{shown}");
        assert!(shown.contains("verify_findings 3\n"), "{shown}");
        assert!(shown.contains("lake_state{state=\"healthy\"} 1\n"), "{shown}");
        metrics.clear();
        assert!(!open_metrics(&registry).contains("verify_"), "a standby does not export it");
    }
}
