//! Merges small files into larger ones: exactly the files that the caller names.
//!
//! DuckLake's own `merge_adjacent_files` takes sizes, not files, and keeps one catalog transaction open
//! for as long as it reads and writes: in a SQLite catalog it fails with "database is locked" whenever
//! a worker commits meanwhile (measured on 1.5.5), so that it never ends beside a busy pipeline. Here
//! the two halves are apart:
//!
//! 1. `splice` merges files with the same columns, and copies most of their pages as they are. What it
//!    is not certain of, `scratch` has done by DuckLake itself, in a throw-away catalog that knows
//!    nothing but these files.
//! 2. `exchange`: one short transaction of the real catalog takes the sources out and puts the results
//!    in, as DuckLake's merge does it: time travel and change feeds show what they showed before.
//!
//! A merge that dies in between leaves files that no catalog knows, for the orphan removal.

mod candidates;
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
use jiff::Timestamp;

use self::merged_files::MergeTarget;
pub(crate) use self::merged_files::ReplacedFileRow;
use super::{Maintained, Operation, announced, failed, maintain};

/// A live data file that a merge may take: smaller than asked for, without delete files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Its `data_file_id`.
    pub id: i64,
    /// Its size, bytes.
    pub bytes: u64,
    /// When its newest rows were committed; None when that snapshot is expired.
    pub changed_at: Option<Timestamp>,
}

/// Which files can become one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileGroup {
    /// The oldest shape of the table, by DuckLake's number, of whose files those of this group can be
    /// merged with: shapes that only added columns go together.
    pub schema_version: i64,
    /// The partition key that they were written under, if there was one.
    pub partition_id: Option<i64>,
    /// The key's values; None is NULL.
    pub partition: Vec<Option<String>>,
}

/// The files of one table that merges may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFiles {
    /// The table.
    pub table: TableName,
    /// Its files by group, in the order of their snapshots.
    pub groups: Vec<(FileGroup, Vec<DataFile>)>,
}

/// What a merge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeTotals {
    /// Files that are no longer needed by the newest snapshot, and theirs before.
    pub files_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Files that took their place.
    pub files_written: u64,
    /// Their bytes.
    pub bytes_written: u64,
}

/// Errors unless a merge kept every row.
fn lost_rows<N: Copy + PartialEq + std::fmt::Display>(before: N, after: N) -> Result<()> {
    if before == after {
        return Ok(());
    }
    Err(LakeError::invalid(format!(
        "a merge would not keep every row, so the files stay as they are; report this as a defect: \
         rows=`{before}` merged=`{after}`"
    )))
}

/// All files below `smaller_than` bytes that merges may take, by table.
pub fn files_to_merge(lake: &mut DuckLake, smaller_than: u64) -> Result<Vec<TableFiles>> {
    candidates::read(lake.session()?, smaller_than)
}

/// Merges the files of each list into one; all of a list are of one group, no two lists of the
/// same. Readers of old snapshots see what they saw before.
///
/// Waits at most `timeout` for the maintenance lock. An error of kind
/// [`Unavailable`](ducktide_protocol::ErrorKind::Unavailable) means that others changed the files meanwhile,
/// or an outage: look again.
pub fn merge_files(
    lake: &mut DuckLake,
    table: &TableName,
    lists: &[Vec<i64>],
    timeout: Duration,
) -> Result<(Maintained, MergeTotals)> {
    check_column_names(lake, table)?;
    let merging = AssertUnwindSafe(|| merge_whole_files(lake, table, lists, timeout));
    std::panic::catch_unwind(merging).unwrap_or_else(|_| {
        // Its state is unknown; the next call opens a new session.
        lake.close_session();
        Err(LakeError::invalid(format!(
            "the merge ended unexpectedly, its message was logged; nothing was changed, and other \
             tables are merged: table=`{table}`"
        )))
    })
}

/// In a merged file such a column would be there twice. Tables of others have columns of any type,
/// so only names are read.
fn check_column_names(lake: &mut DuckLake, table: &TableName) -> Result<()> {
    let sql = format!(
        "SELECT column_name FROM duckdb_columns() WHERE database_name = '{LAKE}' \
         AND schema_name = {} AND table_name = {} AND starts_with(lower(column_name), {})",
        quote(&table.schema),
        quote(&table.table),
        quote(DUCKLAKE_PREFIX)
    );
    let found = lake.session()?.rows(&sql).map_err(failed("read the table's column names"))?;
    let Some(column) = found.into_iter().flatten().flatten().next() else { return Ok(()) };
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
) -> Result<(Maintained, MergeTotals)> {
    let mut totals = MergeTotals::default();
    let sources: Vec<i64> = lists.iter().flatten().copied().collect();
    let done = maintain(lake, Operation::MergeAdjacentFiles, timeout, |session, mut writing| {
        if let Some(announced) = announced(session, table)? {
            return Ok(Maintained::ReplayAnnounced(announced));
        }
        if sources.is_empty() {
            return Ok(Maintained::Done(0));
        }
        let target = MergeTarget::find(session, table)?;
        let result = match splice::merge(session, &target, lists)? {
            Some(merged) => merged,
            None => scratch::merge(session, table, &target, &sources)?,
        };
        totals = swap_files::swap_files(session, &mut writing, &result)?;
        Ok(Maintained::Done(totals.files_read))
    })?;
    Ok((done, totals))
}
