//! Maintenance of a lake: operations that merge, expire and remove files and ledger rows.
//!
//! Each operation holds the maintenance lock and honors intents: the files of a table that is being
//! replayed are not changed, and snapshots that show the rows that a replay removed stay readable.
//! `CHECKPOINT` and `cleanup_all` are not used: they act on more than they name.
//!
//! The author and message of a snapshot name the operation; its `extra_info` stays empty, since only
//! commits that move progress write it.

mod cleanup;
mod coalesce;
mod expire;
mod merge;
mod orphans;
mod record;

use std::time::Duration;

use ducktide_lake::catalog::intent::{self, Intent};
use ducktide_lake::catalog::lock::CommitLock;
use ducktide_lake::duckdb_error;
use ducktide_lake::session::Session;
use ducktide_lake::{DuckLake, WriteLocks};
use ducktide_protocol::dead_letter::dead_letter_name;
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::table::TableName;

pub use cleanup::cleanup_old_files;
pub use coalesce::coalesce_ledger;
pub use expire::{
    ExpiryBound, ExpiryPlan, Retention, expire_snapshots, kept_snapshots, plan_expiry,
    snapshots_to_keep_from,
};
pub use merge::{DataFile, FileGroup, MergeTotals, TableFiles, files_to_merge, merge_files};
pub use orphans::{OrphanPolicy, Orphans, find_orphans, remove_orphans};
pub use record::{LastMaintenance, last_maintenance};

/// Author of the snapshots that maintenance commits: `snapshots().author` of DuckLake.
const AUTHOR: &str = "ducktide-compactor";

/// Maximum wait of a compactor for the maintenance lock: a replay holds it for seconds, and an operation
/// that could not run is retried at the next tick.
pub const MAINTENANCE_TIMEOUT: Duration = Duration::from_secs(5);

/// A maintenance operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Merges small files of a table into larger ones.
    MergeAdjacentFiles,
    /// Expires old snapshots; files that only they needed are scheduled for deletion.
    ExpireSnapshots,
    /// Removes files that were scheduled for deletion.
    CleanupOldFiles,
    /// Removes files that the catalog does not list.
    RemoveOrphans,
    /// Coalesces old ranges of the ledger into one for each day.
    CoalesceLedger,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 5] = [
        Self::MergeAdjacentFiles,
        Self::ExpireSnapshots,
        Self::CleanupOldFiles,
        Self::RemoveOrphans,
        Self::CoalesceLedger,
    ];

    /// Returns the name in the catalog, in logs and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MergeAdjacentFiles => "merge_adjacent_files",
            Self::ExpireSnapshots => "expire_snapshots",
            Self::CleanupOldFiles => "cleanup_old_files",
            Self::RemoveOrphans => "remove_orphans",
            Self::CoalesceLedger => "coalesce_ledger",
        }
    }

    /// Returns the operation with a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == name)
    }
}

/// Outcome of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MaintenanceOutcome {
    /// Completed, with the number of files, snapshots or ranges of the ledger that were merged, expired or
    /// removed.
    Done(u64),
    /// Another operation or a replay holds the maintenance lock; retried at the next tick.
    LockNotFree,
    /// A replay of the table is announced; retried at the next tick.
    ReplayAnnounced(Intent),
}

/// Runs an operation under the maintenance lock, and records that it ran.
pub(crate) fn maintain(
    lake: &mut DuckLake,
    kind: Operation,
    timeout: Duration,
    operation: impl FnOnce(&Session, WriteLocks<'_>) -> Result<MaintenanceOutcome>,
) -> Result<MaintenanceOutcome> {
    lake.check_owner()?;
    let (session, lock, writing) = lake.session_and_write_locks()?;
    let Some(guard) = lock.take(timeout)? else { return Ok(MaintenanceOutcome::LockNotFree) };
    let WriteLocks { commit, leader } = writing;
    let done = leader
        .check()
        .and_then(|()| operation(session, WriteLocks { commit: &mut *commit, leader }));
    if let Ok(MaintenanceOutcome::Done(count)) = done {
        record(session, commit, kind, count);
    }
    drop(guard);
    match done {
        Err(error) => {
            tracing::debug!(error = error.chain(), operation = kind.as_str(), "operation failed");
            lake.handle_error(&error.chain());
            Err(lake.confirm_refusal(error))
        }
        done => {
            lake.reset_refusals();
            done
        }
    }
}

/// Records that an operation ran. The record is informational: after a failure the next run writes it.
fn record(session: &Session, commit: &mut CommitLock, kind: Operation, count: u64) {
    // Without the lock a concurrent commit to a SQLite catalog would fail once.
    let written = commit.acquire(session).and_then(|_guard| {
        record::write(session, kind, count)
            .map_err(|error| duckdb_error::failed("record the operation", error))
    });
    if let Err(error) = written {
        tracing::debug!(%error, operation = kind.as_str(), "operation not recorded");
    }
}

pub(crate) fn announced_replay(session: &Session, table: &TableName) -> Result<Option<Intent>> {
    let name = table.to_string();
    // The dead letters of a replayed table are replayed with it.
    let touches = |intent: &Intent| intent.table == name || dead_letter_name(&intent.table) == name;
    Ok(intent::live_intents(session)?.into_iter().find(touches))
}

/// Returns IDs as an SQL list.
fn list(ids: &[i64]) -> String {
    ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
}

pub(crate) fn failed(what: &str) -> impl Fn(duckdb::Error) -> LakeError {
    move |error| duckdb_error::refused_or_failed(what, error)
}
