//! Health of the lake as JSON; the names must stay stable.

use ducktide_health::{
    DayAssignment, FileCount, LakeHealth, LakeJudgement, TableHealth, Tolerance, judge,
};
use ducktide_lake::HoldReason;
use jiff::Timestamp;
use serde::Serialize;

use super::time::{age_seconds, as_optional_text, as_text};

#[derive(Debug, Serialize)]
pub(super) struct HealthReport {
    #[serde(flatten)]
    pub(super) judgement: LakeJudgement,
    pub(super) tables: Vec<TableHealthReport>,
    pub(super) snapshots: SnapshotsReport,
    /// Data files that only old snapshots need.
    pub(super) ended: CountReport,
    pub(super) awaiting_removal: RemovalReport,
    pub(super) ledger_rows: u64,
    pub(super) last_maintenance: Vec<MaintenanceReport>,
    pub(super) last_verification: Option<VerificationReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct TableHealthReport {
    pub(super) table: String,
    pub(super) target_bytes: u64,
    pub(super) tiny: CountReport,
    pub(super) small: CountReport,
    pub(super) medium: CountReport,
    pub(super) full: CountReport,
    /// Share of tiny and small files in all files, from 0 to 1.
    pub(super) small_share: f64,
    /// Number of files by which merges would reduce the table.
    pub(super) mergeable: u64,
    pub(super) with_deletes: u64,
    pub(super) schema_versions: u64,
    pub(super) partition_values: u64,
    pub(super) full_scan_files: u64,
    pub(super) one_day: Option<OneDayReport>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct CountReport {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct OneDayReport {
    pub(super) day: String,
    /// `partition_key` or `commit`.
    pub(super) of: &'static str,
    pub(super) files: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct SnapshotsReport {
    pub(super) count: u64,
    pub(super) oldest_snapshot_id: i64,
    #[serde(serialize_with = "as_text")]
    pub(super) oldest_committed_at: Timestamp,
    pub(super) oldest_age_seconds: f64,
    pub(super) expire_after_seconds: Option<u64>,
    pub(super) kept_by: Option<RetentionHoldReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct RetentionHoldReport {
    /// `pin`, `announced_replay` or `unfinished_replay`.
    pub(super) kind: &'static str,
    /// Name of the pin, or of the table that is replayed.
    pub(super) name: String,
    pub(super) from_snapshot_id: i64,
}

#[derive(Debug, Serialize)]
pub(super) struct RemovalReport {
    pub(super) files: u64,
    #[serde(serialize_with = "as_optional_text")]
    pub(super) since: Option<Timestamp>,
    pub(super) age_seconds: Option<f64>,
    pub(super) remove_after_seconds: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct MaintenanceReport {
    pub(super) kind: &'static str,
    #[serde(serialize_with = "as_text")]
    pub(super) at: Timestamp,
    pub(super) age_seconds: f64,
    pub(super) done: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct VerificationReport {
    #[serde(serialize_with = "as_text")]
    pub(super) at: Timestamp,
    pub(super) age_seconds: f64,
    pub(super) findings: u64,
    pub(super) deep: bool,
}

impl HealthReport {
    pub(super) fn new(health: &LakeHealth, now: Timestamp) -> Self {
        let last_maintenance = health.last_maintenance.iter().map(|last| MaintenanceReport {
            kind: last.kind.as_str(),
            at: last.at,
            age_seconds: age_seconds(last.at, now),
            done: last.done,
        });
        let removal = &health.awaiting_removal;
        Self {
            judgement: judge(health, now, &Tolerance::default()),
            tables: health.tables.iter().map(table).collect(),
            snapshots: snapshots(health, now),
            ended: count(health.ended),
            awaiting_removal: RemovalReport {
                files: removal.files,
                since: removal.since,
                age_seconds: removal.since.map(|since| age_seconds(since, now)),
                remove_after_seconds: removal.delay.map(|delay| delay.as_secs()),
            },
            ledger_rows: health.ledger_rows,
            last_maintenance: last_maintenance.collect(),
            last_verification: health.last_verification.map(|last| VerificationReport {
                at: last.at,
                age_seconds: age_seconds(last.at, now),
                findings: last.findings,
                deep: last.deep,
            }),
        }
    }
}

fn table(health: &TableHealth) -> TableHealthReport {
    TableHealthReport {
        table: health.table.clone(),
        target_bytes: health.target_bytes,
        tiny: count(health.sizes.tiny),
        small: count(health.sizes.small),
        medium: count(health.sizes.medium),
        full: count(health.sizes.full),
        small_share: health.small_share(),
        mergeable: health.mergeable,
        with_deletes: health.with_deletes,
        schema_versions: health.schema_versions,
        partition_values: health.partition_values,
        full_scan_files: health.full_scan_files(),
        one_day: health.one_day.map(|day| OneDayReport {
            day: day.day.to_string(),
            of: match day.of {
                DayAssignment::PartitionKey => "partition_key",
                DayAssignment::Commit => "commit",
            },
            files: day.files,
        }),
    }
}

const fn count(of: FileCount) -> CountReport {
    CountReport { files: of.files, bytes: of.bytes }
}

fn snapshots(health: &LakeHealth, now: Timestamp) -> SnapshotsReport {
    let kept = &health.snapshots;
    let hold = kept.kept_by.as_ref().map(|hold| {
        let (kind, name) = match &hold.by {
            HoldReason::Pin(name) => ("pin", name),
            HoldReason::AnnouncedReplay(table) => ("announced_replay", table),
            HoldReason::UnfinishedReplay(table) => ("unfinished_replay", table),
        };
        RetentionHoldReport { kind, name: name.clone(), from_snapshot_id: hold.from.0 }
    });
    SnapshotsReport {
        count: kept.count,
        oldest_snapshot_id: kept.oldest.0,
        oldest_committed_at: kept.oldest_at,
        oldest_age_seconds: age_seconds(kept.oldest_at, now),
        expire_after_seconds: kept.retention.map(|retention| retention.as_secs()),
        kept_by: hold,
    }
}
