//! Removes the files that no snapshot needs any more.

use std::time::Duration;

use ducktide_lake::DuckLake;
use ducktide_lake::data_path::{DataPath, resolve};
use ducktide_lake::rows::CatalogTable as _;
use ducktide_lake::session::{LAKE, Session, quote};
use ducktide_protocol::error::Result;
use jiff::Timestamp;

use crate::merge::ReplacedFileRow;

use super::{Maintained, Operation, failed, list, maintain};

/// Removes files that no snapshot needs since before `older_than`: readers that began earlier
/// must have ended.
pub fn cleanup_old_files(
    lake: &mut DuckLake,
    older_than: Timestamp,
    timeout: Duration,
) -> Result<Maintained> {
    maintain(lake, Operation::CleanupOldFiles, timeout, |session, writing| {
        // In a SQLite catalog a commit that comes in between would end the transaction, after the
        // files are gone.
        let _guard = writing.commit.acquire(session)?;
        writing.leader.check()?;
        leave_files_elsewhere(session)?;
        session.respell_schedule().map_err(failed("clean up old files"))?;
        let time = quote(&older_than.to_string());
        let sql =
            format!("CALL ducklake_cleanup_old_files('{LAKE}', older_than => TIMESTAMPTZ {time})");
        let removed = session.text_rows(&sql).map_err(failed("clean up old files"))?;
        Ok(Maintained::Done(removed.len() as u64))
    })
}

/// Takes files off the list that are not below the data path: other clients may have registered them
/// wherever they were. They stay where they are.
fn leave_files_elsewhere(session: &Session) -> Result<()> {
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
                "a file that the lake does not need any more is not below its data path, and stays"
            );
            elsewhere.push(row.data_file_id);
        }
    }
    if elsewhere.is_empty() {
        return Ok(());
    }
    let table = session.native_table(ReplacedFileRow::TABLE);
    let delete = format!("DELETE FROM {table} WHERE data_file_id IN ({})", list(&elsewhere));
    session.change_all_natively(&[delete]).map_err(failed("leave files elsewhere alone"))
}
