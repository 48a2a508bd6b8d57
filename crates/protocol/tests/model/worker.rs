//! One worker: what it believes, and what it decides.
//!
//! | here | in the consumer |
//! |---|---|
//! | [`Worker::assign`], [`lose`](Worker::lose), [`reset`](Worker::reset) | `worker` and `worker::partitions` |
//! | [`load`](Worker::load) | `Request::Load` to the committer, then `Worker::begin` |
//! | [`reads_another_epoch`](Worker::reads_another_epoch) | `Partitions::moved_by_operator` |
//! | [`cut`](Worker::cut) | `batcher`, `batch::Track::cut` and `batch::join` |
//! | [`decide`](Worker::decide) | `transaction::{confirm, resolve}`, called by `committer::Running::commit` |
//!
//! Three things are no steps of their own, because nobody else can see them. Records are read
//! whenever they are wanted: the cut chooses how far. A cut sends its COMMIT at once: a pause before
//! it is a COMMIT that arrives late. And a process that died is at once there again, knowing
//! nothing: one that stays away for longer is one that does nothing.

use std::ops::RangeInclusive;
use std::sync::Arc;

use ducktide_protocol::commit::{CommitKind, Counts, ProgressDelta};
use ducktide_protocol::position::{Offset, OffsetRange, Position};
use ducktide_protocol::standing::{Standing, has_moved, standing};

use crate::action::Cut;
use crate::catalog::{Batch, Catalog, FileName, record, step};
use crate::design::{Bounds, Content, Design, Flaw, PARTITIONS};

/// What a worker believes of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Belief {
    NotMine,
    /// Mine, and the lake is to say where to read from.
    Loading,
    /// Mine; everything before this is committed or on its way.
    Reading(Position),
}

/// What became of the COMMIT that was sent last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Attempt {
    /// No answer yet.
    UnderWay,
    /// It said ok.
    SaidOk,
    /// It said anything else, or the connection broke. There is no text here: what happened can
    /// only be learnt from progress.
    Failed,
}

/// The batch that the committer has; the next one fills meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Committing {
    pub(crate) batch: Arc<Batch>,
    pub(crate) attempt: Attempt,
    /// The worker does not want it any more, which is noticed before the next attempt.
    pub(crate) abandoned: bool,
}

/// What a worker does after it has read progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// `CommitOutcome::Committed`: the next batch goes on where this one ends.
    GoOn,
    /// `LakeError::Unavailable`: the same commit with the same files.
    SendAgain,
    /// `CommitOutcome::Fenced` and the like: drop everything, read again from where the lake stands.
    StartOver,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Worker {
    pub(crate) beliefs: [Belief; PARTITIONS],
    pub(crate) committing: Option<Committing>,
}

impl Worker {
    /// A process that was just started.
    pub(crate) fn started(owns: [bool; PARTITIONS]) -> Self {
        let belief = |owned| if owned { Belief::Loading } else { Belief::NotMine };
        Self { beliefs: owns.map(belief), committing: None }
    }

    pub(crate) fn owns(&self, partition: usize) -> bool {
        self.beliefs[partition] != Belief::NotMine
    }

    pub(crate) fn assign(&mut self, partition: usize) {
        if !self.owns(partition) {
            self.beliefs[partition] = Belief::Loading;
        }
    }

    pub(crate) fn revoke(&mut self, partition: usize) {
        self.beliefs[partition] = Belief::NotMine;
    }

    /// A partition is revoked and could not be flushed in time.
    pub(crate) fn lose(&mut self, partition: usize) {
        self.revoke(partition);
        if let Some(committing) = &mut self.committing {
            committing.abandoned = true;
        }
        self.reset();
    }

    /// Drops what was read; a batch that is being committed is not touched.
    pub(crate) fn reset(&mut self) {
        for belief in &mut self.beliefs {
            if *belief != Belief::NotMine {
                *belief = Belief::Loading;
            }
        }
    }

    pub(crate) fn is_loading(&self) -> bool {
        self.beliefs.contains(&Belief::Loading)
    }

    /// Starts the partitions that wait, where the lake stands in one transaction.
    pub(crate) fn load(&mut self, catalog: &Catalog) {
        for (partition, belief) in self.beliefs.iter_mut().enumerate() {
            if *belief == Belief::Loading {
                *belief = Belief::Reading(catalog.position(partition));
            }
        }
    }

    /// Whether an operator moved a partition after this worker began to read it.
    pub(crate) fn reads_another_epoch(&self, catalog: &Catalog) -> bool {
        let moved = |(partition, belief): (usize, &Belief)| {
            let now = catalog.position(partition).epoch;
            matches!(belief, Belief::Reading(position) if position.epoch != now)
        };
        self.beliefs.iter().enumerate().any(moved)
    }

    /// The ends that a batch can have in a partition.
    pub(crate) fn readable(&self, partition: usize, log: &[Content]) -> RangeInclusive<i64> {
        let end = i64::try_from(log.len()).expect("a model's log is short");
        match self.beliefs[partition] {
            Belief::Reading(position) => position.next_offset.0 + 1..=end,
            Belief::NotMine | Belief::Loading => end + 1..=end,
        }
    }

    /// Closes the batch that fills: everything of each partition up to before these offsets.
    pub(crate) fn cut(
        &mut self,
        design: Design,
        bounds: &Bounds,
        name: FileName,
        to: Cut,
    ) -> Arc<Batch> {
        let (mut steps, mut rows) = (Vec::new(), Vec::new());
        for (partition, to) in to.into_iter().enumerate() {
            let (Some(to), Belief::Reading(position)) = (to, &mut self.beliefs[partition]) else {
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
        if design.has(Flaw::IdleProgressIsSkip) && batch.rows.is_empty() {
            give_up(&mut batch);
        }
        let batch = Arc::new(batch);
        let (attempt, abandoned) = (Attempt::UnderWay, false);
        self.committing = Some(Committing { batch: Arc::clone(&batch), attempt, abandoned });
        batch
    }

    /// Reads progress in a new transaction, whatever COMMIT said.
    pub(crate) fn decide(design: Design, catalog: &Catalog, committing: &Committing) -> Decision {
        let Committing { batch, attempt, .. } = committing;
        let found = found(design, catalog, &batch.steps);
        if *attempt == Attempt::SaidOk {
            // A worker whose ok moved nothing ends: its lake has no triggers.
            let moved = has_moved(&batch.steps, &found);
            return if moved { Decision::GoOn } else { Decision::StartOver };
        }
        let registered = batch.file().is_none_or(|name| catalog.is_registered(name));
        match standing(&batch.steps, &found) {
            Standing::AtStart => Decision::SendAgain,
            Standing::AtEnd if registered => Decision::GoOn,
            Standing::AtEnd | Standing::Elsewhere => Decision::StartOver,
        }
    }

    pub(crate) fn start_over(&mut self) {
        self.committing = None;
        self.reset();
    }
}

/// Progress as a worker compares it with its steps: offsets only, in a design without epochs.
fn found(design: Design, catalog: &Catalog, steps: &[ProgressDelta]) -> Vec<Option<Position>> {
    let mut found = catalog.found(steps);
    if design.has(Flaw::NoEpochs) {
        for (step, now) in steps.iter().zip(found.iter_mut().flatten()) {
            now.epoch = step.epoch;
        }
    }
    found
}

/// A flawed way to send progress without rows: as records that are given up.
fn give_up(batch: &mut Batch) {
    batch.kind = CommitKind::Skip;
    for step in &mut batch.steps {
        step.counts = Counts { given_up: step.range.len(), ..Counts::default() };
    }
}
