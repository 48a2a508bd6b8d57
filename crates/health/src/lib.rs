//! Health of a lake, from its catalog: number and size of files, retention of snapshots, and progress of
//! maintenance. No data file is opened.
//!
//! [`read()`] reads the figures, [`judge`] returns one line that says whether an operator must act.
//! `ducktide status` uses both; the compactor exports the figures as metrics.

mod figures;
mod judgement;
mod query;
mod table_health;

use std::time::Duration;

use ducktide_lake::DuckLake;
use ducktide_lake::catalog::pin::{self, RetentionHold};
use ducktide_maintenance::{LastMaintenance, Operation};
use ducktide_protocol::error::Result;
use ducktide_protocol::position::SnapshotId;
use ducktide_verify::LastVerification;
use jiff::Timestamp;

pub use figures::{DEFAULT_TARGET_BYTES, FileCount, Thresholds};
pub use judgement::{LakeJudgement, LakeState, Tolerance, judge};
pub use table_health::{DayAssignment, DayScan, SizeClasses, TableHealth};

/// Health of a lake at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LakeHealth {
    /// Tables, in the order of their names.
    pub tables: Vec<TableHealth>,
    /// Snapshots that can still be read.
    pub snapshots: SnapshotsKept,
    /// Data files that only older snapshots need; they are removed when those expire.
    pub ended: FileCount,
    /// Files that no snapshot needs.
    pub awaiting_removal: AwaitingRemoval,
    /// Number of rows of `ducktide_ledger`.
    pub ledger_rows: u64,
    /// Last run of each operation; without those that never ran.
    pub last_maintenance: Vec<LastMaintenance>,
    /// Newest result of `ducktide verify --record`.
    pub last_verification: Option<LastVerification>,
}

impl LakeHealth {
    /// Returns the last run of an operation.
    #[must_use]
    pub fn last(&self, kind: Operation) -> Option<&LastMaintenance> {
        self.last_maintenance.iter().find(|last| last.kind == kind)
    }
}

/// Age of the snapshots that are kept, and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotsKept {
    /// Number of snapshots.
    pub count: u64,
    /// Oldest snapshot.
    pub oldest: SnapshotId,
    /// Time of the oldest snapshot.
    pub oldest_at: Timestamp,
    /// Retention of snapshots, the lake's `expire_older_than`.
    pub retention: Option<Duration>,
    /// Oldest hold that keeps snapshots beyond the retention.
    pub kept_by: Option<RetentionHold>,
}

/// Files that no snapshot needs, and that earlier readers may still read. The catalog no longer has their
/// sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AwaitingRemoval {
    /// Number of files.
    pub files: u64,
    /// Time since which the first of them waits.
    pub since: Option<Timestamp>,
    /// Delay of the removal, the lake's `delete_older_than`.
    pub delay: Option<Duration>,
}

/// Reads the health of a lake from its catalog, in one transaction.
pub fn read(lake: &mut DuckLake, thresholds: &Thresholds) -> Result<LakeHealth> {
    lake.read_together(|lake| read_health(lake, thresholds))
}

fn read_health(lake: &mut DuckLake, thresholds: &Thresholds) -> Result<LakeHealth> {
    let last_maintenance = ducktide_maintenance::last_maintenance(lake)?;
    let last_verification = ducktide_verify::last_verification(lake)?;
    let session = lake.session()?;
    let today = Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
    let tables = query::tables(session, thresholds)?;
    let groups = query::groups(session, thresholds, &tables)?;
    let whole = query::whole(session)?;
    Ok(LakeHealth {
        tables: table_health::combine(tables, &groups, today),
        snapshots: SnapshotsKept {
            count: whole.snapshots,
            oldest: whole.oldest,
            oldest_at: whole.oldest_at,
            retention: query::interval(session, whole.expire_older_than.as_deref())?,
            kept_by: pin::kept(session)?,
        },
        ended: whole.ended,
        awaiting_removal: AwaitingRemoval {
            files: whole.scheduled,
            since: query::scheduled_since(session)?,
            delay: query::interval(session, whole.delete_older_than.as_deref())?,
        },
        ledger_rows: whole.ledger_rows,
        last_maintenance,
        last_verification,
    })
}
