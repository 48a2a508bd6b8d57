//! Commit by the trigger of the table `ducktide_commit_files` of a SQLite catalog: one INSERT.
//!
//! The INSERT goes through DuckDB, which has the only SQLite library of the process: a second one would
//! break the locks of the first. A message that is not applied raises a text of
//! `sqlite_commit_files.sql`.

use ducktide_protocol::commit::Commit;
use ducktide_protocol::error::Result;
use ducktide_protocol::failpoint::{self, Failpoint};

use super::Failure;
use super::answer::CommitAnswer;
use crate::catalog::{layout, sqlite};
use crate::duck_lake::DuckLake;
use crate::duckdb_error::is_refusal;
use crate::session::Session;

/// Table whose trigger commits.
const TABLE: &str = "ducktide_commit_files";

/// Inserts the message once, while no other worker of the lake commits.
pub(super) fn fire(
    lake: &mut DuckLake,
    commit: &Commit,
    message: &str,
) -> Result<std::result::Result<CommitAnswer, Failure>> {
    let (session, lock) = lake.session_and_lock()?;
    let guard = lock.take()?;
    failpoint::reached(Failpoint::LockTaken);
    failpoint::reached(Failpoint::MessageSet);
    let inserted = insert(session, message);
    drop(guard);
    let text = match inserted {
        Ok(newest) => {
            let snapshot = newest.filter(|_| !commit.files().is_empty());
            // The lock has logged it if it was not free.
            return Ok(Ok(CommitAnswer::Committed { snapshot, locked: true }));
        }
        Err(error) => error.to_string(),
    };
    if let Some(answer) = answer(session, &text)? {
        return Ok(Ok(answer));
    }
    lake.handle_error(&text);
    Ok(Err(Failure { is_refusal: is_refusal(&text), text }))
}

/// Inserts the message and returns the newest snapshot.
///
/// DuckDB opens the file for each transaction, and reads the schema with all triggers then. Without an explicit
/// transaction it opens it once to prepare the statement, and once to run it.
fn insert(session: &Session, message: &str) -> duckdb::Result<Option<i64>> {
    let insert = format!("INSERT INTO {}(message) VALUES (?)", session.catalog_table(TABLE));
    let newest = session.native_query("SELECT max(snapshot_id) AS newest FROM ducklake_snapshot");
    let snapshots = session.in_transaction(|| {
        session.connection().execute(&insert, [message])?;
        session.texts(&newest)
    })?;
    Ok(snapshots.first().and_then(|snapshot| snapshot.parse().ok()))
}

/// Returns the answer that a text of the trigger stands for; None for other errors.
fn answer(session: &Session, text: &str) -> Result<Option<CommitAnswer>> {
    let raised = |wanted: &str| text.contains(wanted);
    let fenced = [
        "ducktide fenced",
        "ducktide refused: file already registered",
        "ducktide refused: already resolved",
    ];
    let unfit = ["ducktide unknown format", "ducktide triggers missing", "ducktide newer triggers"];
    Ok(Some(if fenced.into_iter().any(raised) {
        CommitAnswer::Fenced
    } else if raised("ducktide table changed") {
        CommitAnswer::TableChanged
    } else if raised("ducktide replay announced") {
        CommitAnswer::ReplayAnnounced
    } else if raised("ducktide progress unmoved") {
        CommitAnswer::ProgressUnmoved
    } else if raised("ducktide unknown columns") {
        CommitAnswer::UnknownColumns { found: sqlite::unknown_columns(session)? }
    } else if unfit.into_iter().any(raised) {
        sqlite::check_triggers(session)?;
        return Ok(None);
    } else if raised(&format!("{TABLE} does not exist")) || raised("ducktide_trigger_missing") {
        return Err(layout::older_layout(session)?);
    } else if let Some((_, reason)) = text.split_once("ducktide refused: ") {
        let reason = reason.lines().next().unwrap_or_default().to_owned();
        CommitAnswer::Refused { reason }
    } else {
        return Ok(None);
    }))
}
