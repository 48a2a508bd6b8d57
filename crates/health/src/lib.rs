//! How healthy a lake is, as its catalog tells: whether files stay few and large, what old snapshots
//! hold on to, and whether maintenance runs. No data file is opened.
//!
//! [`read()`] reads, [`judge`] says in one line whether somebody must look. Both are used
//! by `ducktide status`; the numbers are plain, for whoever wants them as metrics.

mod judgement;
mod query;
mod table_health;

use std::time::Duration;

use ducktide_lake::DuckLake;
use ducktide_lake::catalog::pin::{self, Kept};
use ducktide_maintenance::{LastMaintenance, Operation};
use ducktide_protocol::error::Result;
use ducktide_protocol::position::SnapshotId;
use ducktide_verify::LastVerification;
use jiff::Timestamp;

pub use judgement::{LakeJudgement, LakeState, Tolerance, judge};
pub use table_health::{DayOf, OneDay, SizeClasses, TableHealth};

/// The size up to which files are merged where the lake has no `target_file_size`. DuckLake itself
/// would take 512 MiB: merges of half of that are done sooner, and readers hardly notice.
pub const DEFAULT_TARGET_BYTES: u64 = 256 << 20;

/// Which sizes of files are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Files below it are tiny: what a single commit of a quiet topic leaves.
    pub tiny_bytes: u64,
    /// Files below it are small: opening one costs a reader more than its rows do.
    pub small_bytes: u64,
    /// The target of tables for which the lake has no `target_file_size`.
    pub default_target_bytes: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            tiny_bytes: 1 << 20,
            small_bytes: 16 << 20,
            default_target_bytes: DEFAULT_TARGET_BYTES,
        }
    }
}

/// So many files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCount {
    /// How many there are.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

impl std::ops::AddAssign for FileCount {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

/// A lake's health at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LakeHealth {
    /// Each table, in the order of their names.
    pub tables: Vec<TableHealth>,
    /// The snapshots that a reader can still travel to.
    pub snapshots: SnapshotsKept,
    /// Data files that only older snapshots need: they go when those expire.
    pub ended: FileCount,
    /// Files that no snapshot needs.
    pub awaiting_removal: AwaitingRemoval,
    /// Rows of `ducktide_ledger`.
    pub ledger_rows: u64,
    /// When each operation last ran; those that never did are not there.
    pub last_maintenance: Vec<LastMaintenance>,
    /// The newest result that `ducktide verify --record` has left.
    pub last_verification: Option<LastVerification>,
}

impl LakeHealth {
    /// When an operation last ran.
    #[must_use]
    pub fn last(&self, kind: Operation) -> Option<&LastMaintenance> {
        self.last_maintenance.iter().find(|last| last.kind == kind)
    }
}

/// How far back snapshots reach, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotsKept {
    /// How many there are.
    pub count: u64,
    /// The oldest one.
    pub oldest: SnapshotId,
    /// When it was made.
    pub oldest_at: Timestamp,
    /// The lake's `expire_older_than`: how long snapshots are meant to be kept.
    pub retention: Option<Duration>,
    /// What reaches back furthest of all that snapshots are kept for beyond that.
    pub kept_by: Option<Kept>,
}

/// Files that no snapshot needs, and that readers who began earlier may still read. The catalog does
/// not know their sizes any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AwaitingRemoval {
    /// How many there are.
    pub files: u64,
    /// Since when the first of them waits.
    pub since: Option<Timestamp>,
    /// The lake's `delete_older_than`: how long they are meant to wait.
    pub delay: Option<Duration>,
}

/// The lake's health. Reads the catalog only, in one transaction.
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
