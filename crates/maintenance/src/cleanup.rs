//! Removal of files that no snapshot needs any more.

use std::time::Duration;

use ducktide_lake::CatalogClient as _;
use ducktide_lake::DuckLake;
use ducktide_lake::data_path::{DataPath, resolve};
use ducktide_lake::rows::CatalogTable as _;
use ducktide_lake::session::{LAKE, Session, quote};
use ducktide_protocol::error::Result;
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
        unschedule_foreign_files(session)?;
        session.normalize_schedule_timestamps().map_err(failed("clean up old files"))?;
        let time = quote(&older_than.to_string());
        let sql =
            format!("CALL ducklake_cleanup_old_files('{LAKE}', older_than => TIMESTAMPTZ {time})");
        let removed = session.query(&sql).map_err(failed("clean up old files"))?;
        Ok(MaintenanceOutcome::Done(removed.len() as u64))
    })
}

/// Removes files outside the data path from the list: other clients may have registered files anywhere.
/// The files themselves are kept.
fn unschedule_foreign_files(session: &Session) -> Result<()> {
    let rows: Vec<ReplacedFileRow> =
        session.select("WHERE NOT path_is_relative OR path LIKE '%..%'")?;
    let data_path = DataPath::read(session)?;
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
    let table = session.native_table(ReplacedFileRow::TABLE);
    let delete = format!("DELETE FROM {table} WHERE data_file_id IN ({})", list(&elsewhere));
    session
        .execute_all_in_catalog(&[delete])
        .map_err(failed("unschedule files outside the data path"))
}
