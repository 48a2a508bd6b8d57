//! What keeps a lake small and fast, one named operation at a time.
//!
//! Each operation holds the maintenance lock and honours intents: the files of a table that is being
//! replayed stay as they are, and snapshots that show what a replay took out stay readable. There is
//! no `CHECKPOINT` and no `cleanup_all`: those act on more than they name.
//!
//! A snapshot's author and message tell what was done; its `extra_info` stays empty, since only
//! commits that move progress write there.

mod cleanup;
mod expire;
mod merge;

use std::time::Duration;

use crate::catalog::intent::{self, Intent};
use crate::dead_letter::dead_letter_name;
use crate::duck_lake::{DuckLake, Writing};
use crate::duckdb_error::is_refusal;
use crate::error::{LakeError, Result};
use crate::session::Session;
use crate::table::TableName;

pub use merge::{DataFile, FileGroup, MergeTotals, TableFiles};

/// Who wrote a snapshot, in DuckLake's own words: `snapshots().author`.
const AUTHOR: &str = "ducktide-compactor";

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Maintained {
    /// It was done; so many files or snapshots were merged, expired or removed.
    Done(u64),
    /// Another operation, or a replay, holds the maintenance lock: try at the next tick.
    LockNotFree,
    /// A replay of the table is announced: try at the next tick.
    ReplayAnnounced(Intent),
}

impl DuckLake {
    /// Runs one operation under the maintenance lock.
    pub(crate) fn maintain(
        &mut self,
        what: &str,
        timeout: Duration,
        operation: impl FnOnce(&Session, Writing<'_>) -> Result<Maintained>,
    ) -> Result<Maintained> {
        let (session, lock, writing) = self.session_and_writing()?;
        let Some(guard) = lock.take(timeout)? else { return Ok(Maintained::LockNotFree) };
        let done = writing.leader.check().and_then(|()| operation(session, writing));
        drop(guard);
        if let Err(error) = &done {
            tracing::debug!(error = error.chain(), "could not {what}");
            self.note_error(&error.chain());
        }
        done
    }
}

pub(crate) fn announced(session: &Session, table: &TableName) -> Result<Option<Intent>> {
    let name = table.to_string();
    // The dead letters of a replayed table are replayed with it.
    let touches = |intent: &Intent| intent.table == name || dead_letter_name(&intent.table) == name;
    Ok(intent::live_intents(session)?.into_iter().find(touches))
}

pub(crate) fn failed(what: &str) -> impl Fn(duckdb::Error) -> LakeError {
    move |error| {
        let text = error.to_string();
        if is_refusal(&text) {
            LakeError::invalid(what).because(text)
        } else {
            LakeError::unavailable(what).because(text)
        }
    }
}
