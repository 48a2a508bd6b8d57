//! Commit by a transaction of DuckDB: files are registered by `ducklake_add_data_files`, and DuckLake's
//! COMMIT inserts the message.

use std::collections::BTreeSet;
use std::time::Instant;

use ducktide_protocol::StagedFile;
use ducktide_protocol::commit::Commit;
use ducktide_protocol::error::Result;
use ducktide_protocol::failpoint::{self, Failpoint};
use ducktide_protocol::table::TableName;

use super::{Failure, Sent, author, by_table, partition_directory, table_changed};
use crate::catalog;
use crate::catalog::intent::{self, Intent};
use crate::catalog::lock::CommitLock;
use crate::duck_lake::DuckLake;
use crate::duckdb_error::is_refusal;
use crate::session::{LAKE, Session};
use crate::sql_text::quote;

/// Sends a commit once.
pub(super) fn send(lake: &mut DuckLake, commit: &Commit) -> Result<Sent> {
    if table_changed(lake, commit)? {
        return Ok(Sent::TableChanged);
    }
    let (session, lock) = lake.session_and_lock()?;
    let sent = send_in_turn(session, lock, commit)?;
    Ok(match sent {
        Ok(()) => Sent::Accepted,
        Err(error) => {
            let text = error.to_string();
            lake.handle_error(&text);
            Sent::Failed(Failure { is_refusal: is_refusal(&text), text })
        }
    })
}

/// Sends a commit under the commit lock, while no replay of one of its sources or tables is announced:
/// the commit would make the replay's DELETE fail. Waits at most until the replay's intent expires.
fn send_in_turn(
    session: &Session,
    lock: &mut CommitLock,
    commit: &Commit,
) -> Result<duckdb::Result<()>> {
    let sources: BTreeSet<_> = commit.progress().iter().map(|delta| delta.source).collect();
    let tables: BTreeSet<_> = commit.files().iter().map(|file| file.table.to_string()).collect();
    let concerns =
        |intent: &Intent| sources.contains(&intent.source) || tables.contains(&intent.table);
    let deadline = Instant::now() + intent::LONGEST_WAIT;
    loop {
        let guard = lock.acquire(session)?;
        // The query that takes the lock also counts intents: no extra cost for an ordinary commit.
        let must_wait = guard.intents_announced
            && Instant::now() < deadline
            && intent::is_replay_announced(session, concerns)?;
        if !must_wait {
            failpoint::reached(Failpoint::LockTaken);
            return Ok(send_once(session, commit));
        }
        drop(guard);
        intent::await_replays(session, deadline, concerns)?;
    }
}

/// Sends a commit. Progress without rows goes through the mailbox: DuckLake creates no snapshot,
/// and therefore fires no trigger, for a transaction that changes no data (measured).
fn send_once(session: &Session, commit: &Commit) -> duckdb::Result<()> {
    if commit.files().is_empty() {
        return catalog::post(session, &commit.message());
    }
    let sent = send_files(session, commit);
    if sent.is_err() {
        // A failed COMMIT has already ended the transaction; this ROLLBACK then fails too.
        let _ = session.execute("ROLLBACK");
    }
    sent
}

fn send_files(session: &Session, commit: &Commit) -> duckdb::Result<()> {
    session.execute("BEGIN")?;
    failpoint::reached(Failpoint::TransactionBegun);
    register_files(session, commit.files())?;
    failpoint::reached(Failpoint::FilesAdded);
    set_message(session, commit)?;
    failpoint::reached(Failpoint::MessageSet);
    session.execute("COMMIT")?;
    if failpoint::reached(Failpoint::CommitAnswered) {
        return Err(duckdb::Error::InvalidQuery);
    }
    Ok(())
}

/// Registers files with their tables in the open transaction.
pub fn register_files(session: &Session, files: &[StagedFile]) -> duckdb::Result<()> {
    by_table(files)
        .iter()
        .try_for_each(|(table, files)| session.execute(&add_data_files_sql(table, files)))
}

fn add_data_files_sql(table: &TableName, files: &[&StagedFile]) -> String {
    let paths: Vec<_> = files.iter().map(|file| quote(&file.path.to_string_lossy())).collect();
    let paths = paths.join(", ");
    // Only for paths with a partition: with hive_partitioning, DuckLake reads the value from the path.
    let partitioned = files.iter().any(|file| partition_directory(&file.path).is_some());
    format!(
        "CALL ducklake_add_data_files('{LAKE}', {}, [{paths}], schema => {}, hive_partitioning => {partitioned})",
        quote(&table.table),
        quote(&table.schema)
    )
}

fn set_message(session: &Session, commit: &Commit) -> duckdb::Result<()> {
    let (author, words) = author(commit.kind());
    session.execute(&format!(
        "CALL {LAKE}.set_commit_message('{author}', '{words}', extra_info => {})",
        quote(&commit.message().to_json())
    ))
}
