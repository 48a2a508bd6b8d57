//! What keeps a lake small and fast, one named operation at a time.
//!
//! Each operation holds the maintenance lock and honours intents: the files of a table that is being
//! replayed stay as they are, and snapshots that show what a replay took out stay readable. There is
//! no `CHECKPOINT` and no `cleanup_all`: those act on more than they name.
//!
//! A snapshot's author and message tell what was done; its `extra_info` stays empty, since only
//! commits that move progress write there.

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
use ducktide_lake::{DuckLake, Writing};
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
pub use orphans::{Orphan, OrphanPolicy, Orphans, find_orphans, remove_orphans};
pub use record::{LastMaintenance, last_maintenance};

/// Who wrote a snapshot, in DuckLake's own words: `snapshots().author`.
const AUTHOR: &str = "ducktide-compactor";

/// How long a compactor waits for the maintenance lock: a replay holds it for seconds, and what is not
/// done now is done at the next tick.
pub const MAINTENANCE_TIMEOUT: Duration = Duration::from_secs(5);

/// What can be done to keep a lake small and fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Small files of a table become larger ones.
    MergeAdjacentFiles,
    /// Old snapshots go; what only they needed is scheduled for deletion.
    ExpireSnapshots,
    /// Files that were scheduled for deletion are removed.
    CleanupOldFiles,
    /// Files that the catalog never got to know are removed.
    RemoveOrphans,
    /// Old ranges of the ledger become one for each day.
    CoalesceLedger,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::MergeAdjacentFiles,
        Self::ExpireSnapshots,
        Self::CleanupOldFiles,
        Self::RemoveOrphans,
        Self::CoalesceLedger,
    ];

    /// The name that stands in the catalog, in logs and in metrics.
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

    /// The operation of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == name)
    }
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Maintained {
    /// It was done; so many files, snapshots or ranges of the ledger were merged, expired or removed.
    Done(u64),
    /// Another operation, or a replay, holds the maintenance lock: try at the next tick.
    LockNotFree,
    /// A replay of the table is announced: try at the next tick.
    ReplayAnnounced(Intent),
}

/// Runs an operation under the maintenance lock, and records that it ran.
pub(crate) fn maintain(
    lake: &mut DuckLake,
    kind: Operation,
    timeout: Duration,
    operation: impl FnOnce(&Session, Writing<'_>) -> Result<Maintained>,
) -> Result<Maintained> {
    lake.check_owner()?;
    let (session, lock, writing) = lake.session_and_writing()?;
    let Some(guard) = lock.take(timeout)? else { return Ok(Maintained::LockNotFree) };
    let Writing { commit, leader } = writing;
    let done =
        leader.check().and_then(|()| operation(session, Writing { commit: &mut *commit, leader }));
    if let Ok(Maintained::Done(count)) = done {
        record(session, commit, kind, count);
    }
    drop(guard);
    match done {
        Err(error) => {
            tracing::debug!(error = error.chain(), operation = kind.as_str(), "could not be done");
            lake.note_error(&error.chain());
            Err(lake.doubt(error))
        }
        done => {
            lake.note_accepted();
            done
        }
    }
}

/// It is for people to see: what cannot be recorded is written by the next run.
fn record(session: &Session, commit: &mut CommitLock, kind: Operation, count: u64) {
    // In a SQLite catalog a worker's commit would meet it and fail once.
    let written = commit.acquire(session).and_then(|_guard| {
        record::write(session, kind, count)
            .map_err(|error| duckdb_error::failed("write the record", error))
    });
    if let Err(error) = written {
        tracing::debug!(%error, operation = kind.as_str(), "could not record that it ran");
    }
}

pub(crate) fn announced(session: &Session, table: &TableName) -> Result<Option<Intent>> {
    let name = table.to_string();
    // The dead letters of a replayed table are replayed with it.
    let touches = |intent: &Intent| intent.table == name || dead_letter_name(&intent.table) == name;
    Ok(intent::live_intents(session)?.into_iter().find(touches))
}

/// Ids as they stand in an SQL list.
fn list(ids: &[i64]) -> String {
    ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
}

pub(crate) fn failed(what: &str) -> impl Fn(duckdb::Error) -> LakeError {
    move |error| duckdb_error::refused_or_failed(what, error)
}
