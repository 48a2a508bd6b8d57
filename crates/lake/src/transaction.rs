//! Commit protocol: adds files and progress to the lake in one catalog transaction, exactly once.
//!
//! The transaction registers the worker's files with the message that names the ranges (module `send`).
//! A trigger on `ducklake_snapshot_changes` compares-and-swaps progress. If the catalog refuses the
//! message, the rows are rolled back with it.
//!
//! The error text never decides the outcome. After every commit that was not answered with success, a new
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

use ducktide_protocol::StagedFile;
use ducktide_protocol::commit::{Commit, CommitOutcome, OutcomeCheck, ProgressDelta};
use ducktide_protocol::commit_state::{
    CommitState, DeadLetterState, commit_state, resolution_state,
};
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::failpoint::{self, Failpoint};
use ducktide_protocol::position::{Position, SnapshotId};
use ducktide_protocol::reason::reason;
use ducktide_protocol::table::TableName;

use crate::catalog::ledger;
use crate::catalog::{self, PartitionProgress};
use crate::duck_lake::DuckLake;
use crate::send::{Failure, Sent, by_table, relative_path, send};
use crate::storage;

/// Sends a commit once and determines its outcome.
pub fn commit(lake: &mut DuckLake, commit: &Commit) -> Result<CommitOutcome> {
    lake.check_owner()?;
    let unusable = make_durable(commit.files());
    if !unusable.is_empty() {
        return Ok(CommitOutcome::FilesUnusable(unusable));
    }
    let outcome = match send(lake, commit)? {
        Sent::Committed(snapshot) => Ok(CommitOutcome::Committed(snapshot)),
        Sent::TableChanged => return Ok(CommitOutcome::TableChanged),
        Sent::Failed(failure) => resolve(lake, commit, &failure),
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

/// Determines the outcome of a failed COMMIT from the catalog, never from the error text.
fn resolve(lake: &mut DuckLake, commit: &Commit, failure: &Failure) -> Result<CommitOutcome> {
    let Failure { text, is_refusal } = failure;
    lake.outcome_check = Some(OutcomeCheck::Unanswered);
    tracing::debug!(error = text, "commit failed, reading its outcome");
    let reason = reason(text);
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
        CommitState::NotApplied if *is_refusal => {
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
    let resolved = ledger::resolved_dead_letters(&lake.catalog()?, commit.progress())?;
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
    let found = catalog::registered_files(&lake.catalog()?, &paths)?;
    Ok(found == paths.len() as u64)
}
