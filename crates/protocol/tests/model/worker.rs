//! Worker of the model: its view of the partitions, and its decisions.
//!
//! | here | in the consumer |
//! |---|---|
//! | [`Worker::assign`], [`lose`](Worker::lose), [`reset`](Worker::reset) | `worker` and `worker::partitions` |
//! | [`load`](Worker::load) | `Request::Load` to the committer, then `Worker::begin` |
//! | [`reads_another_epoch`](Worker::reads_another_epoch) | `Partitions::moved_by_operator` |
//! | [`cut`](Worker::cut) | `batcher`, `batch::Track::cut` and `batch::join` |
//! | [`decide`](Worker::decide) | `transaction::{confirm, resolve}`, called by `committer::Running::commit` |
//!
//! Three events are not steps, because no other party can observe them. Records are read on demand: the
//! cut chooses the end. A cut sends its COMMIT immediately: a pause before it is a COMMIT that arrives
//! late. A crashed process restarts immediately, without state: a longer downtime is a worker without
//! steps.

use std::ops::RangeInclusive;
use std::sync::Arc;

use ducktide_protocol::commit::{CommitKind, Counts, ProgressDelta};
use ducktide_protocol::commit_state::{CommitState, commit_state};
use ducktide_protocol::position::{Offset, OffsetRange, Position};

use crate::action::Cut;
use crate::catalog::{Batch, Catalog, FileName, record, step};
use crate::design::{Bounds, Content, Design, Omission, PARTITIONS};

/// State of a partition in a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PartitionState {
    NotOwned,
    /// Owned; the position must be read from the lake.
    Loading,
    /// Owned; everything before this position is committed or outstanding.
    Reading(Position),
}

/// State of the COMMIT that was sent last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Attempt {
    /// No answer yet.
    Outstanding,
    /// It succeeded.
    Succeeded,
    /// It failed, or the connection broke. Only progress shows the outcome.
    Failed,
}

/// Batch of the committer; the next one is filled meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Committing {
    pub(crate) batch: Arc<Batch>,
    pub(crate) attempt: Attempt,
    /// The worker has abandoned it, which is checked before the next attempt.
    pub(crate) abandoned: bool,
}

/// Decision of a worker after it has read progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// `CommitOutcome::Committed`: the next batch continues at the end of this one.
    Continue,
    /// `LakeError::Unavailable`: the same commit with the same files.
    Resend,
    /// `CommitOutcome::Fenced` and similar: drop everything, read again from the committed positions.
    Reset,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Worker {
    pub(crate) partitions: [PartitionState; PARTITIONS],
    pub(crate) committing: Option<Committing>,
}

impl Worker {
    /// Creates the state of a process that was just started.
    pub(crate) fn started(owns: [bool; PARTITIONS]) -> Self {
        let state = |owned| if owned { PartitionState::Loading } else { PartitionState::NotOwned };
        Self { partitions: owns.map(state), committing: None }
    }

    pub(crate) fn owns(&self, partition: usize) -> bool {
        self.partitions[partition] != PartitionState::NotOwned
    }

    pub(crate) fn assign(&mut self, partition: usize) {
        if !self.owns(partition) {
            self.partitions[partition] = PartitionState::Loading;
        }
    }

    pub(crate) fn revoke(&mut self, partition: usize) {
        self.partitions[partition] = PartitionState::NotOwned;
    }

    /// Revokes a partition that could not be flushed in time.
    pub(crate) fn lose(&mut self, partition: usize) {
        self.revoke(partition);
        if let Some(committing) = &mut self.committing {
            committing.abandoned = true;
        }
        self.reset();
    }

    /// Drops uncommitted records, except a batch that is being committed.
    pub(crate) fn reset(&mut self) {
        for state in &mut self.partitions {
            if *state != PartitionState::NotOwned {
                *state = PartitionState::Loading;
            }
        }
    }

    pub(crate) fn is_loading(&self) -> bool {
        self.partitions.contains(&PartitionState::Loading)
    }

    /// Starts the waiting partitions at the committed positions, read in one transaction.
    pub(crate) fn load(&mut self, catalog: &Catalog) {
        for (partition, state) in self.partitions.iter_mut().enumerate() {
            if *state == PartitionState::Loading {
                *state = PartitionState::Reading(catalog.position(partition));
            }
        }
    }

    /// Returns true if an operator moved a partition after this worker began to read it.
    pub(crate) fn reads_another_epoch(&self, catalog: &Catalog) -> bool {
        let moved = |(partition, state): (usize, &PartitionState)| {
            let now = catalog.position(partition).epoch;
            matches!(state, PartitionState::Reading(position) if position.epoch != now)
        };
        self.partitions.iter().enumerate().any(moved)
    }

    /// Returns the possible ends of a batch in a partition.
    pub(crate) fn readable(&self, partition: usize, log: &[Content]) -> RangeInclusive<i64> {
        let end = i64::try_from(log.len()).expect("a model's log is short");
        match self.partitions[partition] {
            PartitionState::Reading(position) => position.next_offset.0 + 1..=end,
            PartitionState::NotOwned | PartitionState::Loading => end + 1..=end,
        }
    }

    /// Closes the current batch: all records of each partition before these offsets.
    pub(crate) fn cut(
        &mut self,
        design: Design,
        bounds: &Bounds,
        name: FileName,
        to: Cut,
    ) -> Arc<Batch> {
        let (mut steps, mut rows) = (Vec::new(), Vec::new());
        for (partition, to) in to.into_iter().enumerate() {
            let (Some(to), PartitionState::Reading(position)) =
                (to, &mut self.partitions[partition])
            else {
                continue;
            };
            let range = OffsetRange { from: position.next_offset, to: Offset(to) };
            position.next_offset = range.to;
            let log = bounds.logs[partition];
            steps.push(step(partition, log, position.epoch, range));
            let held = (0..).zip(log).filter(|(_, content)| **content == Content::Row);
            let held = held.filter(|(offset, _)| (range.from.0..to).contains(offset));
            rows.extend(held.map(|(offset, _)| record(partition, offset)));
        }
        let mut batch = Batch { name, kind: CommitKind::Ingest, steps, rows };
        if design.has(Omission::IdleProgressIsSkip) && batch.rows.is_empty() {
            convert_to_skip(&mut batch);
        }
        let batch = Arc::new(batch);
        let (attempt, abandoned) = (Attempt::Outstanding, false);
        self.committing = Some(Committing { batch: Arc::clone(&batch), attempt, abandoned });
        batch
    }

    /// Reads progress in a new transaction and decides, unless the commit was answered with success: it has
    /// checked progress itself.
    pub(crate) fn decide(design: Design, catalog: &Catalog, committing: &Committing) -> Decision {
        let Committing { batch, attempt, .. } = committing;
        if *attempt == Attempt::Succeeded {
            return Decision::Continue;
        }
        let found = found(design, catalog, &batch.steps);
        let registered = batch.file().is_none_or(|name| catalog.is_registered(name));
        match commit_state(&batch.steps, &found) {
            CommitState::NotApplied => Decision::Resend,
            CommitState::Applied if registered => Decision::Continue,
            CommitState::Applied | CommitState::Superseded => Decision::Reset,
        }
    }

    pub(crate) fn drop_batch(&mut self) {
        self.committing = None;
        self.reset();
    }
}

/// Returns progress as a worker compares it with its steps: only offsets in a design without epochs.
fn found(design: Design, catalog: &Catalog, steps: &[ProgressDelta]) -> Vec<Option<Position>> {
    let mut found = catalog.found(steps);
    if design.has(Omission::NoEpochs) {
        for (step, now) in steps.iter().zip(found.iter_mut().flatten()) {
            now.epoch = step.epoch;
        }
    }
    found
}

/// Sends progress without rows as a skip, as an incomplete design does.
fn convert_to_skip(batch: &mut Batch) {
    batch.kind = CommitKind::Skip;
    for step in &mut batch.steps {
        step.counts = Counts { given_up: step.range.len(), ..Counts::default() };
    }
}
