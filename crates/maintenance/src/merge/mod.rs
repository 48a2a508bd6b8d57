//! Merges of small files into larger ones: exactly the files that the caller names.
//!
//! DuckLake's own `merge_adjacent_files` takes sizes, not files, and keeps one catalog transaction open
//! while it reads and writes: in a SQLite catalog it fails with "database is locked" whenever a worker
//! commits meanwhile (measured on 1.5.5), so that it never ends next to a busy pipeline. Here the two
//! halves are separate:
//!
//! 1. `splice` merges files with the same columns, and copies most of their pages unchanged. Files for
//!    which the result is not certain are merged by DuckLake itself (`scratch`), in a temporary catalog
//!    that has nothing but these files.
//! 2. `swap_files`: one short transaction of the real catalog removes the sources and adds the results,
//!    as DuckLake's merge does: time travel and change feeds are unchanged.
//!
//! A merge that dies in between leaves orphans.

mod candidates;
mod files;
mod merged_files;
mod scratch;
mod splice;
mod swap_files;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use ducktide_lake::DuckLake;
use ducktide_lake::session::{LAKE, quote};
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::table::{DUCKLAKE_PREFIX, TableName, quote_identifier};

pub use self::files::{DataFile, FileGroup, MergeTotals, TableFiles};
use self::merged_files::MergeTarget;
pub(crate) use self::merged_files::ReplacedFileRow;
use super::{MaintenanceOutcome, Operation, announced_replay, failed, maintain};

/// Finds all files below `smaller_than` bytes that can be merged, by table.
pub fn files_to_merge(lake: &mut DuckLake, smaller_than: u64) -> Result<Vec<TableFiles>> {
    candidates::read(lake.session()?, smaller_than)
}

/// Merges the files of each list into one. The files of a list are of one group, and no two lists are of
/// the same group. Reads of old snapshots return the same rows as before.
///
/// Waits at most `timeout` for the maintenance lock. An error of kind
/// [`Unavailable`](ducktide_protocol::ErrorKind::Unavailable) means that another client changed the files, or
/// an outage: find the files again and retry.
pub fn merge_files(
    lake: &mut DuckLake,
    table: &TableName,
    lists: &[Vec<i64>],
    timeout: Duration,
) -> Result<(MaintenanceOutcome, MergeTotals)> {
    check_column_names(lake, table)?;
    let merging = AssertUnwindSafe(|| merge_whole_files(lake, table, lists, timeout));
    std::panic::catch_unwind(merging).unwrap_or_else(|_| {
        // Its state is unknown; the next call opens a new session.
        lake.close_session();
        Err(LakeError::invalid(format!(
            "the merge panicked, and the message was logged; nothing was changed, and other \
             tables are merged: table=`{table}`"
        )))
    })
}

/// Refuses columns with a reserved name, which a merged file would have twice. Tables of other clients have
/// columns of any type, so only names are read.
fn check_column_names(lake: &mut DuckLake, table: &TableName) -> Result<()> {
    let sql = format!(
        "SELECT column_name FROM duckdb_columns() WHERE database_name = '{LAKE}' \
         AND schema_name = {} AND table_name = {} AND starts_with(lower(column_name), {})",
        quote(&table.schema),
        quote(&table.table),
        quote(DUCKLAKE_PREFIX)
    );
    let found = lake.session()?.texts(&sql).map_err(failed("read the table's column names"))?;
    let Some(column) = found.into_iter().next() else { return Ok(()) };
    Err(LakeError::invalid(format!(
        "the table's files cannot be merged, because a column has a name that DuckLake reserves; \
         rename it with `ALTER TABLE {} RENAME COLUMN {} TO …`: table=`{table}` column=`{column}`",
        table.sql(),
        quote_identifier(&column),
    )))
}

fn merge_whole_files(
    lake: &mut DuckLake,
    table: &TableName,
    lists: &[Vec<i64>],
    timeout: Duration,
) -> Result<(MaintenanceOutcome, MergeTotals)> {
    let mut totals = MergeTotals::default();
    let sources: Vec<i64> = lists.iter().flatten().copied().collect();
    let done = maintain(lake, Operation::MergeAdjacentFiles, timeout, |session, mut writing| {
        if let Some(intent) = announced_replay(session, table)? {
            return Ok(MaintenanceOutcome::ReplayAnnounced(intent));
        }
        if sources.is_empty() {
            return Ok(MaintenanceOutcome::Done(0));
        }
        let target = MergeTarget::find(session, table)?;
        let result = match splice::merge(session, &target, lists)? {
            Some(merged) => merged,
            None => scratch::merge(session, table, &target, &sources)?,
        };
        totals = swap_files::swap_files(session, &mut writing, &result)?;
        Ok(MaintenanceOutcome::Done(totals.files_read))
    })?;
    Ok((done, totals))
}
