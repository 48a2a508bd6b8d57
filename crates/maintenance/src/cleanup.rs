//! Removal of files that no snapshot needs any more.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ducktide_lake::CatalogClient as _;
use ducktide_lake::DuckLake;
use ducktide_lake::data_path::{DataPath, resolve};
use ducktide_lake::rows::CatalogTable as _;
use ducktide_lake::session::{LAKE, Session, quote};
use ducktide_protocol::error::{LakeError, Result};
use ducktide_storage::normalize;
use jiff::Timestamp;

use crate::merge::ReplacedFileRow;

use super::{MaintenanceOutcome, Operation, failed, list, maintain};

/// Removes files that no snapshot has needed since `older_than`: readers that started earlier must have
/// ended.
pub fn cleanup_old_files(
    lake: &mut DuckLake,
    older_than: Timestamp,
    timeout: Duration,
) -> Result<MaintenanceOutcome> {
    maintain(lake, Operation::CleanupOldFiles, timeout, |session, writing| {
        // In a SQLite catalog a concurrent commit would abort the transaction after the files were
        // removed.
        let _guard = writing.commit.acquire(session)?;
        writing.leader.check()?;
        let data_path = DataPath::read(session)?;
        unschedule_foreign_files(session, &data_path)?;
        session.normalize_schedule_timestamps().map_err(failed("clean up old files"))?;
        let time = quote(&older_than.to_string());
        let options = format!("older_than => TIMESTAMPTZ {time}");
        if data_path.storage()?.removes_in_bulk() {
            return remove_objects(session, &data_path, &options).map(MaintenanceOutcome::Done);
        }
        let sql = format!("CALL ducklake_cleanup_old_files('{LAKE}', {options})");
        let removed = session.query(&sql).map_err(failed("clean up old files"))?;
        Ok(MaintenanceOutcome::Done(removed.len() as u64))
    })
}

/// Removes the objects that DuckLake would remove, then their rows. DuckDB would remove those of Azure one by
/// one, and cannot remove those of Google Cloud Storage with a token (1.5.5): it leaves out a checksum that
/// the request needs.
fn remove_objects(session: &Session, data_path: &DataPath, options: &str) -> Result<u64> {
    let sql = format!(
        "SELECT path FROM ducklake_cleanup_old_files('{LAKE}', dry_run => true, {options})"
    );
    let due = session.texts(&sql).map_err(failed("find old files"))?;
    let due: HashSet<PathBuf> = due.iter().map(|path| normalize(Path::new(path))).collect();
    let rows: Vec<ReplacedFileRow> = session.select("")?;
    let (mut paths, mut ids) = (Vec::new(), Vec::new());
    for row in rows {
        let path = resolve(data_path.root(), Some(row.path), row.path_is_relative);
        if due.contains(&path) {
            data_path.check(&path)?;
            paths.push(path);
            ids.push(row.data_file_id);
        }
    }
    if ids.is_empty() {
        return Ok(0);
    }
    let paths: Vec<_> = paths.iter().map(PathBuf::as_path).collect();
    let removed = data_path.storage()?.remove_existing(&paths);
    removed.map_err(|error| LakeError::of_io("remove old files", error))?;
    unschedule(session, &ids).map_err(failed("unschedule removed files"))?;
    Ok(ids.len() as u64)
}

fn unschedule(session: &Session, ids: &[i64]) -> duckdb::Result<()> {
    let table = session.native_table(ReplacedFileRow::TABLE);
    let delete = format!("DELETE FROM {table} WHERE data_file_id IN ({})", list(ids));
    session.execute_all_in_catalog(&[delete])
}

/// Removes files outside the data path from the list: other clients may have registered files anywhere.
/// The files themselves are kept.
fn unschedule_foreign_files(session: &Session, data_path: &DataPath) -> Result<()> {
    let rows: Vec<ReplacedFileRow> =
        session.select("WHERE NOT path_is_relative OR path LIKE '%..%'")?;
    let mut elsewhere = Vec::new();
    for row in rows {
        let path = resolve(data_path.root(), Some(row.path), row.path_is_relative);
        if !data_path.contains(&path) {
            let (path, data_path) = (path.display(), data_path.root().display());
            tracing::warn!(
                %path, %data_path,
                "file outside the data path is no longer needed, not removed"
            );
            elsewhere.push(row.data_file_id);
        }
    }
    if elsewhere.is_empty() {
        return Ok(());
    }
    unschedule(session, &elsewhere).map_err(failed("unschedule files outside the data path"))
}
