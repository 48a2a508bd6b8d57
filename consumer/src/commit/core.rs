//! Decisions of the committer: which request is attempted when, and what follows from its result.
//!
//! ```text
//!            ┌───────────────── RetryAt ◀──unavailable──┐
//!            ▼                    │                     │
//! queued ──▶ due ──▶ attempt ─────┼─────────────────────┤
//!                                 │                     ├──▶ done: committed, loaded, altered
//!                          Abandon (commits)            ├──▶ dropped: fenced, table changed, files unusable
//!                                 └──▶ dropped          └──▶ failed
//! ```
//! A commit is retried with the same files and ranges, because an earlier attempt may still be applied:
//! the catalog applies only one of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use ducktide_protocol::commit::{Commit, CommitOutcome};
use ducktide_protocol::position::{Offset, Partition, Position, SourceId};
use ducktide_protocol::table::{Column, TableName};
use ducktide_protocol::{ErrorKind, Lake, LakeError};
use ducktide_service::telemetry::LogOnChange;

use crate::clock::Clock;
use crate::commit::event::{CommitterEvent, DropReason};
use crate::commit::request::{CommitterRequest, RecentRowsByPartition, RecentRowsRequest};
use crate::random::Random;

/// Shortest and longest pause between two attempts. The shortest is about the duration of a commit;
/// the longest limits both the delay after an outage and the load on a lake that recovers.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The requests of the worker, attempted one after the other in their order.
pub(crate) struct CommitCore {
    clock: Clock,
    random: Random,
    queue: VecDeque<PendingRequest>,
}

/// A request without a result so far.
struct PendingRequest {
    request: CommitterRequest,
    since: Instant,
    /// Time of the next attempt.
    due: Instant,
    /// Pause after the next failed attempt.
    pause: Duration,
    log: LogOnChange,
}

impl CommitCore {
    pub(crate) const fn new(clock: Clock, random: Random) -> Self {
        Self { clock, random, queue: VecDeque::new() }
    }

    /// Adds a request. [`CommitterRequest::Abandon`] removes the commit, with the returned event.
    pub(crate) fn handle_request(&mut self, request: CommitterRequest) -> Option<CommitterEvent> {
        if matches!(request, CommitterRequest::Abandon) {
            // It may wait behind a load that is being retried.
            let is_commit =
                |pending: &PendingRequest| matches!(pending.request, CommitterRequest::Commit(_));
            let index = self.queue.iter().position(is_commit)?;
            return self.queue.remove(index).map(|_| dropped(DropReason::Abandoned));
        }
        let (now, log) = (self.clock.now(), LogOnChange::default());
        let pending = PendingRequest { request, since: now, due: now, pause: FIRST_PAUSE, log };
        self.queue.push_back(pending);
        None
    }

    /// Returns the time of the next attempt; None without a request.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.queue.front().map(|pending| pending.due)
    }

    /// Attempts the first request. Events go to `emit`; the last one is the result, unless the lake is
    /// unavailable and the request is attempted again.
    pub(crate) fn attempt(&mut self, lake: &mut dyn Lake, mut emit: impl FnMut(CommitterEvent)) {
        let Some(mut pending) = self.queue.pop_front() else { return };
        let cause = pending.request.retry_cause();
        match pending.call(lake, &self.clock, &mut emit) {
            Ok(event) => {
                if pending.log.recovered() {
                    let operation = pending.request.operation();
                    tracing::info!(operation, "lake available again");
                }
                emit(event);
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                let error = error.chain();
                pending.record_failure(&error);
                emit(CommitterEvent::Retrying { cause, error });
                #[cfg(test)]
                pending.exchange_files();
                pending.due = self.clock.now() + self.random.jittered(pending.pause);
                pending.pause = (pending.pause * 2).min(LONGEST_PAUSE);
                self.queue.push_front(pending);
            }
            Err(error) => emit(CommitterEvent::Failed(error)),
        }
    }
}

impl PendingRequest {
    /// Calls the lake once.
    fn call(
        &mut self,
        lake: &mut dyn Lake,
        clock: &Clock,
        emit: &mut impl FnMut(CommitterEvent),
    ) -> ducktide_protocol::Result<CommitterEvent> {
        match &self.request {
            CommitterRequest::Commit(commit) => {
                let outcome = lake.commit(commit);
                let is_taken = mutated!(UnknownOutcomeTakenAsCommitted) && outcome.is_err();
                let outcome = if is_taken { Ok(CommitOutcome::Committed(None)) } else { outcome };
                if let Some(found) = lake.take_outcome_check() {
                    emit(CommitterEvent::OutcomeChecked(found));
                }
                Ok(result_of(outcome?, commit, clock.now() - self.since))
            }
            CommitterRequest::Load { source, starts, recent, resets } => {
                let (positions, recent) = load(lake, *source, starts, recent.as_ref(), clock)?;
                let (source, resets) = (*source, *resets);
                Ok(CommitterEvent::Loaded { source, positions, recent, resets })
            }
            CommitterRequest::Alter(tables) => alter(lake, tables),
            CommitterRequest::Abandon => unreachable!("it is never queued"),
        }
    }

    /// Exchanges the files of a commit, which is a planted defect.
    #[cfg(test)]
    fn exchange_files(&mut self) {
        if mutated!(ResentWithOtherFiles)
            && let CommitterRequest::Commit(commit) = &mut self.request
        {
            let mut files = commit.files().to_vec();
            for file in &mut files {
                file.path.as_mut_os_string().push("-again");
            }
            let (progress, versions) =
                (commit.progress().to_vec(), commit.table_versions().to_vec());
            *commit = Commit::ingest(progress, files, versions);
        }
    }

    fn record_failure(&mut self, error: &str) {
        let operation = self.request.operation();
        let retry_in_ms = u64::try_from(self.pause.as_millis()).unwrap_or(u64::MAX);
        if self.log.is_new(error) {
            tracing::warn!(operation, error, retry_in_ms, "lake unavailable, retrying");
        } else {
            tracing::debug!(operation, error, retry_in_ms, "lake unavailable, retrying");
        }
    }
}

/// Returns the event for the outcome of a commit.
fn result_of(outcome: CommitOutcome, commit: &Commit, elapsed: Duration) -> CommitterEvent {
    match outcome {
        CommitOutcome::TableChanged if mutated!(BatchKeptAfterTableChanged) => {
            CommitterEvent::Committed { commit: commit.clone(), snapshot_id: None, elapsed }
        }
        CommitOutcome::Committed(snapshot_id) => {
            CommitterEvent::Committed { commit: commit.clone(), snapshot_id, elapsed }
        }
        CommitOutcome::Fenced => dropped(DropReason::Fenced),
        CommitOutcome::TableChanged => dropped(DropReason::TableChanged),
        CommitOutcome::FilesUnusable(unusable) => {
            CommitterEvent::Dropped { reason: DropReason::FilesUnusable, unusable }
        }
    }
}

const fn dropped(reason: DropReason) -> CommitterEvent {
    CommitterEvent::Dropped { reason, unusable: BTreeSet::new() }
}

/// Returns the positions of a source's partitions, and the recent rows that were requested.
fn load(
    lake: &mut dyn Lake,
    source: SourceId,
    starts: &[(Partition, Offset)],
    recent: Option<&RecentRowsRequest>,
    clock: &Clock,
) -> Result<(Vec<(Partition, Position)>, RecentRowsByPartition), LakeError> {
    if !starts.is_empty() {
        lake.start_partitions(source, starts)?;
    }
    let positions = lake.positions(source)?;
    let recent = recent.map(|recent| recent.read(lake, &positions, clock)).transpose()?;
    Ok((positions, recent.unwrap_or_default()))
}

fn alter(
    lake: &mut dyn Lake,
    tables: &BTreeMap<TableName, Vec<Column>>,
) -> Result<CommitterEvent, LakeError> {
    let altered = tables.iter().map(|(table, columns)| lake.add_columns(table, columns));
    altered.collect::<Result<_, _>>().map(CommitterEvent::Altered)
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
