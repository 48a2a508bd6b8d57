//! Removes the files that no snapshot needs any more.

use std::time::Duration;

use jiff::Timestamp;

use super::{Maintained, Operation, failed};
use crate::duck_lake::DuckLake;
use crate::error::Result;
use crate::session::{LAKE, quote};

impl DuckLake {
    /// Removes files that no snapshot needs since before `older_than`: readers that began earlier
    /// must have ended.
    pub fn cleanup_old_files(
        &mut self,
        older_than: Timestamp,
        timeout: Duration,
    ) -> Result<Maintained> {
        self.maintain(Operation::CleanupOldFiles, timeout, |session, writing| {
            // In a SQLite catalog a commit that comes in between would end the transaction, after the
            // files are gone.
            let _guard = writing.commit.acquire(session)?;
            writing.leader.check()?;
            session.respell_schedule().map_err(failed("clean up old files"))?;
            let time = quote(&older_than.to_string());
            let sql = format!(
                "CALL ducklake_cleanup_old_files('{LAKE}', older_than => TIMESTAMPTZ {time})"
            );
            let removed = session.text_rows(&sql).map_err(failed("clean up old files"))?;
            Ok(Maintained::Done(removed.len() as u64))
        })
    }
}
