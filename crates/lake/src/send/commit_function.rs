//! Commit by the function `ducktide_commit_files` of a PostgreSQL catalog: one round trip.

use std::collections::BTreeSet;
use std::time::Instant;

use ducktide_protocol::commit::Commit;
use ducktide_protocol::error::{LakeError, LakeFault, Result};
use ducktide_protocol::failpoint::{self, Failpoint};
use ducktide_protocol::position::SnapshotId;

use super::request::{CommitAnswer, request};
use super::{Failure, Sent};
use crate::catalog::intent::{self, Intent};
use crate::catalog::{format, layout, postgres_connection};
use crate::duck_lake::DuckLake;

/// Sends a commit once; waits for announced replays of its sources and tables, at most until they expire.
pub(super) fn send(lake: &mut DuckLake, commit: &Commit) -> Result<Sent> {
    let deadline = Instant::now() + intent::LONGEST_WAIT;
    loop {
        let message = request(commit, Instant::now() >= deadline);
        failpoint::reached(Failpoint::MessageSet);
        let answer = lake.commit_connection()?.call_commit_function(&message)?;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if postgres_connection::is_undefined_function(&error) => {
                return Err(layout::older_layout(&lake.catalog()?)?);
            }
            Err(error) => return Ok(Sent::Failed(failure(&error))),
        };
        if failpoint::reached(Failpoint::CommitAnswered) {
            let text = "a failpoint reports the answer as lost".to_owned();
            return Ok(Sent::Failed(Failure { text, is_refusal: false }));
        }
        match read(&answer)? {
            Some(sent) => return Ok(sent),
            None => await_replays(lake, commit, deadline)?,
        }
    }
}

/// Reads the answer of the function; None if the commit has to wait for a replay.
fn read(answer: &str) -> Result<Option<Sent>> {
    let answer: CommitAnswer = serde_json::from_str(answer).map_err(|error| {
        let remedy = "the lake's commit function is another version; run `ducktide init`";
        LakeError::refused(remedy).because(error)
    })?;
    let refused = |text: String| Sent::Failed(Failure { text, is_refusal: true });
    Ok(Some(match answer {
        CommitAnswer::Committed { snapshot, locked } => {
            if !locked {
                tracing::warn!("commit lock timed out, continuing without it");
            }
            Sent::Committed(snapshot.map(SnapshotId))
        }
        CommitAnswer::Fenced => {
            Sent::Failed(Failure { text: "ducktide fenced".to_owned(), is_refusal: false })
        }
        CommitAnswer::TableChanged => Sent::TableChanged,
        CommitAnswer::ReplayAnnounced => return Ok(None),
        CommitAnswer::Refused { reason } => refused(reason),
        CommitAnswer::UnknownFormat { found } => {
            format::require(Some(&found))?;
            refused(format!("unknown catalog format: {found}"))
        }
        CommitAnswer::UnknownColumns { found: columns } => {
            return Err(LakeError::from_fault(LakeFault::UnknownCatalogColumns { columns }));
        }
        CommitAnswer::TriggersMissing { found } => {
            let needed = layout::TRIGGERS.len();
            return Err(LakeError::from_fault(LakeFault::TriggersMissing { found, needed }));
        }
        CommitAnswer::ProgressUnmoved => {
            return Err(LakeError::invalid(
                "progress did not move, so nothing was committed: a trigger of the lake has no \
                 effect; restore the triggers from a lake of the same version, and then run \
                 `ducktide status` before you restart any worker",
            ));
        }
        CommitAnswer::NewerTriggers { found } => {
            let ours = layout::TRIGGER_VERSION;
            return Err(layout::newer_layout("oldest_compatible_triggers", found, ours));
        }
    }))
}

fn await_replays(lake: &mut DuckLake, commit: &Commit, deadline: Instant) -> Result<()> {
    let sources: BTreeSet<_> = commit.progress().iter().map(|delta| delta.source).collect();
    let tables: BTreeSet<_> = commit.files().iter().map(|file| file.table.to_string()).collect();
    let concerns =
        |intent: &Intent| sources.contains(&intent.source) || tables.contains(&intent.table);
    intent::await_replays(&lake.catalog()?, deadline, concerns)
}

fn failure(error: &::postgres::Error) -> Failure {
    let (text, is_refusal) = postgres_connection::describe(error);
    Failure { text, is_refusal }
}
