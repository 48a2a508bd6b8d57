//! Commit protocol: adds files and progress to the lake in one catalog transaction, exactly once.
//!
//! The transaction registers the worker's files and sets the message that names the ranges. COMMIT
//! inserts the message into `ducklake_snapshot_changes`, where a trigger compares-and-swaps progress.
//! If the catalog refuses the message, the rows are rolled back with it.
//!
//! The error text never decides the outcome. After every COMMIT that did not succeed, a new
//! transaction reads progress:
//!
//! | progress of the ranges | own files registered | outcome |
//! |---|---|---|
//! | all at `(epoch, from)` | - | not applied so far: the same commit can be retried |
//! | all at `(epoch, to)` | all | applied: the response was lost |
//! | anything else | - | fenced: another worker or an operator moved progress |
//!
//! A commit that resolves dead letters moves no progress. Its outcome follows from its registered files
//! and from the dead letters that are still open (`commit_state`).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use ducktide_protocol::StagedFile;
use ducktide_protocol::commit::{Commit, CommitKind, CommitOutcome, OutcomeCheck, ProgressDelta};
use ducktide_protocol::commit_state::{
    CommitState, DeadLetterState, commit_state, has_moved, has_resolved, resolution_state,
};
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::failpoint::{self, Failpoint};
use ducktide_protocol::position::{Position, SnapshotId};
use ducktide_protocol::reason::reason;
use ducktide_protocol::table::TableName;

use crate::catalog::intent::{self, Intent};
use crate::catalog::ledger;
use crate::catalog::lock::CommitLock;
use crate::catalog::{self, PartitionProgress};
use crate::duck_lake::DuckLake;
use crate::duckdb_error::is_refusal;
use crate::session::{LAKE, Session};
use crate::sql_text::quote;
use crate::storage;

/// Returns author and message of a snapshot, which DuckLake shows as `snapshots().author` and
/// `snapshots().commit_message`.
const fn author(kind: CommitKind) -> (&'static str, &'static str) {
    match kind {
        CommitKind::Retry => ("ducktide", "retry dead letters"),
        CommitKind::Discard => ("ducktide", "discard dead letters"),
        _ => ("ducktide-consumer", "ingest"),
    }
}

/// Sends a commit once and determines its outcome.
pub fn commit(lake: &mut DuckLake, commit: &Commit) -> Result<CommitOutcome> {
    lake.check_owner()?;
    let unusable = make_durable(commit.files());
    if !unusable.is_empty() {
        return Ok(CommitOutcome::FilesUnusable(unusable));
    }
    if table_changed(lake, commit)? {
        return Ok(CommitOutcome::TableChanged);
    }
    let (session, lock) = lake.session_and_lock()?;
    let sent = send_in_turn(session, lock, commit)?;
    if let Err(error) = &sent {
        lake.handle_error(&error.to_string());
    }
    let outcome = match sent {
        Ok(()) => confirm(lake, commit),
        Err(error) => resolve(lake, commit, &error),
    };
    if matches!(outcome, Ok(CommitOutcome::Committed(_))) {
        lake.reset_refusals();
    }
    if let (Ok(CommitOutcome::Committed(_)), false) =
        (&outcome, commit.kind().resolves_dead_letter())
    {
        lake.record_committed(commit);
    }
    outcome
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
            return Ok(send(session, commit));
        }
        drop(guard);
        intent::await_replays(session, deadline, concerns)?;
    }
}

/// Returns true if a table's columns have changed since the files were written. Such files are never
/// registered: with `allow_missing`, statistics and therefore query results would be wrong.
fn table_changed(lake: &mut DuckLake, commit: &Commit) -> Result<bool> {
    for version in commit.table_versions() {
        if lake.table_version(&version.table)? != Some(version.changed_at) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Sends a commit once. Progress without rows goes through the mailbox: DuckLake creates no snapshot,
/// and therefore fires no trigger, for a transaction that changes no data (measured).
fn send(session: &Session, commit: &Commit) -> duckdb::Result<()> {
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

/// Makes files durable; returns the tables whose files cannot be made durable.
fn make_durable(files: &[StagedFile]) -> BTreeSet<TableName> {
    let mut unusable = BTreeSet::new();
    for (table, files) in by_table(files) {
        if let Err(error) = storage::make_durable(files) {
            tracing::error!(%table, %error, "staged files cannot be made durable");
            unusable.insert(table.clone());
        }
    }
    if failpoint::reached(Failpoint::FileSynced) {
        tracing::error!("failpoint reports staged files as not durable");
        unusable.extend(files.iter().map(|file| file.table.clone()));
    }
    unusable
}

/// Registers files with their tables in the open transaction.
pub fn register_files(session: &Session, files: &[StagedFile]) -> duckdb::Result<()> {
    by_table(files)
        .iter()
        .try_for_each(|(table, files)| session.execute(&add_data_files_sql(table, files)))
}

fn by_table(files: &[StagedFile]) -> BTreeMap<&TableName, Vec<&StagedFile>> {
    let mut by_table: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for file in files {
        by_table.entry(&file.table).or_default().push(file);
    }
    by_table
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

/// Checks after a successful COMMIT that progress has moved. If it has not, the trigger is missing, and
/// further commits would duplicate rows after the next crash.
fn confirm(lake: &mut DuckLake, commit: &Commit) -> Result<CommitOutcome> {
    let progress = read_progress(lake, commit)?;
    let snapshot = snapshot_of(commit, &progress);
    let is_applied = if commit.kind().resolves_dead_letter() {
        has_resolved(commit.progress(), &dead_letter_states(lake, commit, &progress)?)
    } else {
        has_moved(commit.progress(), &positions(&progress))
    };
    if is_applied {
        return Ok(CommitOutcome::Committed(snapshot));
    }
    Err(LakeError::invalid(
        "COMMIT succeeded but progress did not move: the lake's triggers are missing; \
         run `ducktide init` and then `ducktide status` before you restart any worker",
    ))
}

/// Determines the outcome of a failed COMMIT from the catalog, never from the error text.
fn resolve(lake: &mut DuckLake, commit: &Commit, error: &duckdb::Error) -> Result<CommitOutcome> {
    let text = error.to_string();
    lake.outcome_check = Some(OutcomeCheck::Unanswered);
    tracing::debug!(error = text, "commit failed, reading its outcome");
    let reason = reason(&text);
    let (state, snapshot) = read_commit_state(lake, commit).map_err(|cause| {
        LakeError::unavailable(format!(
            "commit: {reason}; the outcome is unknown until progress can be read"
        ))
        .because(cause.chain())
    })?;
    lake.outcome_check = Some(match state {
        CommitState::NotApplied => OutcomeCheck::NotApplied,
        CommitState::Applied => OutcomeCheck::Applied,
        CommitState::Superseded => OutcomeCheck::Superseded,
    });
    match state {
        // An ALTER ran between the check of the table and the registration of the files.
        CommitState::NotApplied if is_refusal(&text) && table_changed(lake, commit)? => {
            Ok(CommitOutcome::TableChanged)
        }
        CommitState::NotApplied if is_refusal(&text) => {
            Err(LakeError::refused("the lake refuses the commit").because(reason))
        }
        CommitState::NotApplied => Err(LakeError::unavailable("commit").because(reason)),
        CommitState::Applied => {
            tracing::info!(error = reason, "the commit was applied, only its answer was lost");
            Ok(CommitOutcome::Committed(snapshot))
        }
        CommitState::Superseded => {
            tracing::debug!(error = reason, "fenced");
            Ok(CommitOutcome::Fenced)
        }
    }
}

/// Reads the state of a commit from the catalog, with its snapshot. `Applied` requires that its files
/// are registered.
fn read_commit_state(
    lake: &mut DuckLake,
    commit: &Commit,
) -> Result<(CommitState, Option<SnapshotId>)> {
    let progress = read_progress(lake, commit)?;
    let snapshot = snapshot_of(commit, &progress);
    let state = if commit.kind().resolves_dead_letter() {
        // Dead letters are read first: a commit that lands in between is then detected by its files.
        let dead_letters = dead_letter_states(lake, commit, &progress)?;
        resolution_state(commit.progress(), &dead_letters, files_are_registered(lake, commit)?)
    } else {
        match commit_state(commit.progress(), &positions(&progress)) {
            CommitState::Applied if !files_are_registered(lake, commit)? => CommitState::Superseded,
            state => state,
        }
    };
    Ok((state, snapshot))
}

/// Returns the state of each dead letter that the commit resolves, in the order of the commit.
fn dead_letter_states(
    lake: &mut DuckLake,
    commit: &Commit,
    progress: &[Option<PartitionProgress>],
) -> Result<Vec<DeadLetterState>> {
    let resolved = ledger::resolved_dead_letters(lake.session()?, commit.progress())?;
    let state = |(step, position): (&ProgressDelta, Option<Position>)| {
        let dead_letter = (step.source, step.partition, step.range.from);
        DeadLetterState { position, is_resolved: resolved.contains(&dead_letter) }
    };
    Ok(commit.progress().iter().zip(positions(progress)).map(state).collect())
}

/// Reads the progress of the partition of each range, in the order of the commit.
fn read_progress(lake: &mut DuckLake, commit: &Commit) -> Result<Vec<Option<PartitionProgress>>> {
    let mut read = BTreeMap::new();
    for delta in commit.progress() {
        if let Entry::Vacant(entry) = read.entry(delta.source) {
            entry.insert(lake.progress(delta.source)?);
        }
    }
    let find = |delta: &ProgressDelta| {
        read[&delta.source].iter().find(|now| now.partition == delta.partition).cloned()
    };
    Ok(commit.progress().iter().map(find).collect())
}

fn positions(progress: &[Option<PartitionProgress>]) -> Vec<Option<Position>> {
    progress.iter().map(|now| now.as_ref().map(|now| now.position)).collect()
}

/// Returns the snapshot of the commit, from the progress of a range with rows.
fn snapshot_of(commit: &Commit, progress: &[Option<PartitionProgress>]) -> Option<SnapshotId> {
    let with_rows = commit.progress().iter().position(|delta| delta.counts.needs_snapshot())?;
    progress[with_rows].as_ref()?.snapshot_id
}

/// Returns true if all files of the commit are registered: then this commit was applied.
fn files_are_registered(lake: &mut DuckLake, commit: &Commit) -> Result<bool> {
    let paths: Vec<String> = commit.files().iter().map(|file| relative_path(&file.path)).collect();
    let found = catalog::registered_files(lake.session()?, &paths)?;
    Ok(found == paths.len() as u64)
}

/// Returns the path as DuckLake stores it: relative to the table's directory.
fn relative_path(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match partition_directory(path) {
        Some(directory) => format!("{directory}/{name}"),
        None => name.into_owned(),
    }
}

/// Returns the hive directory of a partitioned file, such as `event_date=2026-11-01`.
fn partition_directory(path: &Path) -> Option<&str> {
    let directory = path.parent()?.file_name()?.to_str()?;
    directory.starts_with("event_date=").then_some(directory)
}
