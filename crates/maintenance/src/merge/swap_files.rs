//! Replaces source files by merged files in the catalog, in one short transaction.
//!
//! DuckLake serializes its commits by the primary key of `ducklake_snapshot`, and so does this one: its
//! first statement inserts the next snapshot ID, or an existing one if any source has changed. A
//! concurrent commit of any client aborts the whole transaction.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use ducktide_lake::CatalogClient as _;
use ducktide_lake::WriteLocks;
use ducktide_lake::duckdb_error;
use ducktide_lake::rows::{
    CatalogTable, DataFileRow, FileColumnStatsRow, FilePartitionValueRow, Insert, SnapshotRow,
};
use ducktide_lake::session::{Session, quote};
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::failpoint::{self, Failpoint};

use super::candidates::inlined_delete_tables;
use super::files::MergeTotals;
use super::merged_files::{MergedFiles, ReplacedFileRow};
use crate::{AUTHOR, list};

/// Maximum number of attempts: each concurrent commit takes the next snapshot ID, so the lake progresses.
const MAX_ATTEMPTS: u32 = 20;

/// Pause between two attempts: a commit takes 15 to 50 ms.
const RETRY_PAUSE: Duration = Duration::from_millis(25);

/// Tables that refer to a data file by its ID.
const TABLES_OF_FILES: [&str; 5] = [
    "ducklake_data_file",
    "ducklake_file_column_stats",
    "ducklake_delete_file",
    "ducklake_file_partition_value",
    "ducklake_file_variant_stats",
];

/// IDs that the lake assigns to merged files, by their temporary IDs.
type FileIds = HashMap<i64, i64>;

/// Replaces the source files by the merged files.
pub(super) fn swap_files(
    session: &Session,
    writing: &mut WriteLocks<'_>,
    merged: &MergedFiles,
) -> Result<MergeTotals> {
    failpoint::reached(Failpoint::FilesMerged);
    let inlined_deletes = inlined_delete_tables(session)?;
    let guard = writing.commit.acquire(session)?;
    writing.leader.check()?;
    let mut attempt = 1;
    loop {
        check_unchanged(session, merged, &inlined_deletes)?;
        let condition = unchanged(session, merged, &inlined_deletes);
        let statements = statements(session, &newest(session)?, merged, &condition)?;
        match session.execute_all_in_catalog(&statements) {
            Ok(()) => break,
            Err(error) if attempt >= MAX_ATTEMPTS => {
                return Err(duckdb_error::failed("swap the files", error));
            }
            Err(error) => tracing::debug!(%error, attempt, "concurrent commit, retrying"),
        }
        attempt += 1;
        thread::sleep(RETRY_PAUSE);
    }
    drop(guard);
    failpoint::reached(Failpoint::FilesExchanged);
    Ok(MergeTotals {
        files_read: merged.sources.len() as u64,
        bytes_read: merged.bytes_read,
        files_written: merged.files.len() as u64,
        bytes_written: merged.bytes_written,
    })
}

/// Returns the condition that every source is live and has no deleted rows, in the catalog database's
/// dialect.
fn unchanged(session: &Session, merged: &MergedFiles, inlined_deletes: &[String]) -> String {
    let name = |table: &str| session.native_table(table);
    let ids = list(&merged.sources);
    let deletes = std::iter::once(("ducklake_delete_file", "data_file_id"));
    let inlined = inlined_deletes.iter().map(|table| (table.as_str(), "file_id"));
    let whole = deletes.chain(inlined).map(|(table, column)| {
        format!(" AND NOT EXISTS (SELECT 1 FROM {} WHERE {column} IN ({ids}))", name(table))
    });
    format!(
        "(SELECT count(*) FROM {} WHERE table_id = {} AND end_snapshot IS NULL \
         AND data_file_id IN ({ids})) = {}{}",
        name("ducklake_data_file"),
        merged.table_id,
        merged.sources.len(),
        whole.collect::<String>()
    )
}

fn check_unchanged(
    session: &Session,
    merged: &MergedFiles,
    inlined_deletes: &[String],
) -> Result<()> {
    let condition = unchanged(session, merged, inlined_deletes);
    let sql = format!("SELECT CASE WHEN {condition} THEN 1 ELSE 0 END AS unchanged");
    if session.catalog_scalar::<bool>(&sql)? {
        return Ok(());
    }
    Err(LakeError::unavailable("another client changed the files; they are not merged now"))
}

fn newest(session: &Session) -> Result<SnapshotRow> {
    let newest = session.select("ORDER BY snapshot_id DESC LIMIT 1")?.into_iter().next();
    newest.ok_or_else(|| LakeError::unavailable("read the newest snapshot"))
}

/// Returns the statements that DuckLake 1.5.5 runs for a merge.
fn statements(
    session: &Session,
    newest: &SnapshotRow,
    merged: &MergedFiles,
    unchanged: &str,
) -> Result<Vec<String>> {
    let name = |table: &str| session.native_table(table);
    let now = session.dialect().now();
    let (snapshot, taken) = (newest.snapshot_id.0 + 1, newest.snapshot_id);
    let ids: FileIds =
        merged.files.iter().map(|file| file.data_file_id).zip(newest.next_file_id..).collect();
    let next_file_id = newest.next_file_id + count(&merged.files);
    let mut statements = vec![
        format!(
            "INSERT INTO {}(snapshot_id, snapshot_time, schema_version, next_catalog_id, next_file_id) \
             SELECT CASE WHEN {unchanged} THEN {snapshot} ELSE {taken} END, {now}, \
             {}, {}, {next_file_id}",
            name("ducklake_snapshot"),
            newest.schema_version,
            newest.next_catalog_id
        ),
        format!(
            "INSERT INTO {}(snapshot_id, changes_made, author, commit_message, commit_extra_info) \
             VALUES ({snapshot}, 'merge_adjacent:{}', {}, 'merge_adjacent_files', NULL)",
            name("ducklake_snapshot_changes"),
            merged.table_id,
            quote(AUTHOR),
        ),
    ];
    let sources = list(&merged.sources);
    let removed = TABLES_OF_FILES
        .iter()
        .map(|table| format!("DELETE FROM {} WHERE data_file_id IN ({sources})", name(table)));
    statements.extend(removed);
    let scheduled = Insert::of(&merged.scheduled).with("schedule_start", now);
    statements.extend(scheduled.sql(&name(ReplacedFileRow::TABLE)));
    statements.extend(insertions(session, &with_ids(&merged.files, &ids), &sources)?);
    statements.extend(insertions(session, &with_ids(&merged.statistics, &ids), &sources)?);
    statements.extend(insertions(session, &with_ids(&merged.partition_values, &ids), &sources)?);
    Ok(statements)
}

/// Returns the statements that insert rows into their table; in a SQLite catalog at the row IDs of the
/// rows that are removed.
///
/// DuckDB reads a SQLite table by its row IDs up to the greatest that existed when a reader's transaction
/// began, but the rows are the present ones (measured on 1.5.5). A reader would see neither the sources,
/// which are removed, nor a merged file after that end. At the row ID of a source every reader finds the
/// merged file, and reads the rows that its snapshot has.
fn insertions<T: CatalogTable>(
    session: &Session,
    rows: &[T],
    sources: &str,
) -> Result<Vec<String>> {
    let name = session.native_table(T::TABLE);
    let row_ids: Vec<i64> = if session.dialect().has_row_ids() {
        session.catalog_values(&format!(
            "SELECT rowid AS row_id FROM {name} WHERE data_file_id IN ({sources}) ORDER BY rowid LIMIT {}",
            rows.len()
        ))?
    } else {
        Vec::new()
    };
    let (first, others) = rows.split_at(row_ids.len().min(rows.len()));
    let row_ids = row_ids.iter().map(i64::to_string).collect();
    let at_row_ids = Insert::of(first).with_each("rowid", row_ids).sql(&name);
    Ok(at_row_ids.into_iter().chain(Insert::of(others).sql(&name)).collect())
}

fn count<T>(rows: &[T]) -> i64 {
    i64::try_from(rows.len()).expect("merged files fit into memory")
}

/// A row that refers to a data file.
trait FileRow: CatalogTable + Clone {
    /// Returns the reference to the file.
    fn file_id(&mut self) -> &mut i64;
}

impl FileRow for DataFileRow {
    fn file_id(&mut self) -> &mut i64 {
        &mut self.data_file_id
    }
}

impl FileRow for FileColumnStatsRow {
    fn file_id(&mut self) -> &mut i64 {
        &mut self.data_file_id
    }
}

impl FileRow for FilePartitionValueRow {
    fn file_id(&mut self) -> &mut i64 {
        &mut self.data_file_id
    }
}

/// Returns the rows with the IDs that the lake assigns to the files.
fn with_ids<T: FileRow>(rows: &[T], ids: &FileIds) -> Vec<T> {
    let with_id = |row: &T| {
        let mut row = row.clone();
        let id = row.file_id();
        *id = *ids.get(id).expect("each row belongs to one of the files");
        row
    };
    rows.iter().map(with_id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_get_the_ids_that_the_lake_assigns_to_their_files() {
        let row = |data_file_id, value: &str| FilePartitionValueRow {
            data_file_id,
            table_id: 1,
            partition_key_index: 0,
            partition_value: Some(value.to_owned()),
        };
        let ids = FileIds::from([(41, 100), (42, 101)]);

        let rows = with_ids(&[row(42, "x"), row(41, "y")], &ids);

        assert_eq!(rows, [row(101, "x"), row(100, "y")]);
    }
}
