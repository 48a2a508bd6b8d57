//! System: two workers, the network between them and the catalog, the consumer group, an operator.

use std::iter;
use std::sync::Arc;

use ducktide_protocol::invariants::RecordId;
use ducktide_protocol::position::{Offset, Position};

use crate::action::{Action, Cut};
use crate::catalog::{Batch, Catalog, FileName, lowest_free, record};
use crate::design::{Bounds, Content, Design, Omission, PARTITIONS, WORKERS};
use crate::worker::{Attempt, Committing, Decision, Worker};

/// COMMIT in transit to the catalog. One that never arrives is lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(crate) batch: Arc<Batch>,
    /// Worker that waits for the answer, if any.
    pub(crate) awaited_by: Option<usize>,
}

/// State of the system.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct System {
    pub(crate) catalog: Catalog,
    pub(crate) workers: [Worker; WORKERS],
    /// Owner of each partition in the group. A worker may not be notified yet that it lost one.
    pub(crate) owners: [usize; PARTITIONS],
    pub(crate) requests: Vec<Request>,
    /// Files that a writer has deleted.
    pub(crate) deleted: Vec<FileName>,
    pub(crate) disturbances_left: u8,
}

impl System {
    /// Creates the initial state. The first worker owns all partitions, so that commits move several.
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self {
            catalog: Catalog::new(),
            workers: [Worker::started([true; PARTITIONS]), Worker::started([false; PARTITIONS])],
            owners: [0; PARTITIONS],
            requests: Vec::new(),
            deleted: Vec::new(),
            disturbances_left: bounds.disturbances,
        }
    }

    /// Returns the rows of the newest snapshot.
    pub(crate) fn rows(&self) -> Vec<RecordId> {
        let readable = self.catalog.live_files().filter(|file| !self.deleted.contains(&file.name));
        readable.flat_map(|file| file.rows.iter().copied()).collect()
    }

    /// Returns the records of the topic that must become rows.
    pub(crate) fn records(bounds: &Bounds) -> Vec<RecordId> {
        let of = |(partition, log): (usize, &&[Content])| {
            let rows = (0..).zip(*log).filter(|(_, content)| **content == Content::Row);
            rows.map(|(offset, _)| record(partition, offset)).collect::<Vec<_>>()
        };
        bounds.logs.iter().enumerate().flat_map(of).collect()
    }

    /// Returns the batches of workers whose outcome is open.
    pub(crate) fn committing(&self) -> impl Iterator<Item = &Committing> {
        self.workers.iter().filter_map(|worker| worker.committing.as_ref())
    }

    /// Adds all possible actions.
    pub(crate) fn actions(&self, design: Design, bounds: &Bounds, actions: &mut Vec<Action>) {
        for worker in 0..WORKERS {
            self.steps_of(worker, design, bounds, actions);
        }
        for Request { batch, awaited_by } in &self.requests {
            let arrive = Action::Arrive { name: batch.name, awaited_by: *awaited_by };
            if !actions.contains(&arrive) {
                actions.push(arrive);
            }
        }
        if self.disturbances_left > 0 {
            self.disturbances(actions);
        }
    }

    fn steps_of(&self, worker: usize, design: Design, bounds: &Bounds, actions: &mut Vec<Action>) {
        let state = &self.workers[worker];
        if state.is_loading() {
            actions.push(Action::Load { worker });
        }
        // A reset during an outstanding commit is part of `Lose`.
        let polls = !design.has(Omission::NeverPollsProgress) && state.committing.is_none();
        if polls && state.reads_another_epoch(&self.catalog) {
            actions.push(Action::PollProgress { worker });
        }
        match &state.committing {
            None => self.cuts(worker, bounds, actions),
            Some(committing) if committing.attempt == Attempt::Outstanding => {}
            Some(_) => actions.push(Action::Resolve { worker }),
        }
        let lost = |partition: &usize| self.owners[*partition] != worker && state.owns(*partition);
        for partition in (0..PARTITIONS).filter(lost) {
            actions.push(Action::Lose { worker, partition });
            if state.committing.is_none() {
                actions.push(Action::Revoke { worker, partition });
            }
        }
    }

    /// Adds every batch that the worker can have read.
    fn cuts(&self, worker: usize, bounds: &Bounds, actions: &mut Vec<Action>) {
        let ends = |partition: usize| {
            let further = self.workers[worker].readable(partition, bounds.logs[partition]);
            iter::once(None).chain(further.map(Some))
        };
        let cuts = ends(0).flat_map(|to| ends(1).map(move |also_to| [to, also_to]));
        let cuts = cuts.filter(|to| to.iter().any(Option::is_some));
        actions.extend(cuts.map(|to| Action::Cut { worker, to }));
    }

    fn disturbances(&self, actions: &mut Vec<Action>) {
        for partition in 0..PARTITIONS {
            let next = self.catalog.position(partition).next_offset.0;
            actions.extend((0..next).map(|to| Action::Replay { partition, to: Offset(to) }));
        }
        for worker in 0..WORKERS {
            actions.push(Action::Crash { worker });
            let attempt = self.workers[worker].committing.as_ref().map(|it| it.attempt);
            if matches!(attempt, Some(Attempt::Succeeded | Attempt::Failed)) {
                actions.push(Action::HideProgress { worker });
            }
            if matches!(attempt, Some(Attempt::Outstanding | Attempt::Succeeded)) {
                actions.push(Action::CutConnection { worker });
            }
            let others = (0..PARTITIONS).filter(|partition| self.owners[*partition] != worker);
            actions.extend(others.map(|partition| Action::Assign { worker, partition }));
        }
    }

    /// Applies one of the actions that `actions` returned.
    pub(crate) fn take(&mut self, design: Design, bounds: &Bounds, action: Action) {
        self.disturbances_left -= u8::from(action.is_disturbance());
        self.act(design, bounds, action);
        if !design.has(Omission::NoCompareAndSwap) && !design.has(Omission::NoEpochs) {
            self.remove_superseded_requests();
        }
    }

    /// Removes COMMITs that no worker waits for and that progress has passed. Progress only increases, in
    /// (epoch, next offset), so they would be rejected at any time: states that differ only in them are
    /// equal.
    fn remove_superseded_requests(&mut self) {
        let catalog = &self.catalog;
        self.requests.retain(|Request { batch, awaited_by }| {
            let found = catalog.found(&batch.steps);
            let mut steps = batch.steps.iter().zip(found.into_iter().flatten());
            let order = |at: Position| (at.epoch, at.next_offset);
            awaited_by.is_some() || steps.all(|(step, now)| order(now) <= order(step.before()))
        });
    }

    fn act(&mut self, design: Design, bounds: &Bounds, action: Action) {
        match action {
            Action::Cut { worker, to } => self.cut(design, bounds, worker, to),
            Action::Arrive { name, awaited_by } => self.arrive(design, name, awaited_by),
            Action::Resolve { worker } => self.resolve(design, worker),
            Action::Load { worker } => self.workers[worker].load(&self.catalog),
            Action::PollProgress { worker } => self.workers[worker].reset(),
            Action::Revoke { worker, partition } => self.workers[worker].revoke(partition),
            Action::Lose { worker, partition } => self.workers[worker].lose(partition),
            Action::CutConnection { worker } => {
                self.stop_waiting(worker);
                self.failed(design, worker);
            }
            Action::HideProgress { worker } => self.follow(worker, Decision::Resend),
            Action::Crash { worker } => {
                self.stop_waiting(worker);
                self.workers[worker] = Worker::started(self.owners.map(|owner| owner == worker));
            }
            Action::Assign { worker, partition } => {
                self.owners[partition] = worker;
                self.workers[worker].assign(partition);
            }
            Action::Replay { partition, to } => {
                self.catalog.replay(bounds.logs[partition], partition, to);
            }
        }
    }

    fn cut(&mut self, design: Design, bounds: &Bounds, worker: usize, to: Cut) {
        let known = self.requests.iter().map(|request| request.batch.name);
        let known = known.chain(self.catalog.files.iter().map(|file| file.name));
        let known: Vec<_> = known.chain(self.deleted.iter().copied()).collect();
        let number = lowest_free(|number| known.contains(&FileName::Worker { worker, number }));
        let name = FileName::Worker { worker, number };
        let batch = self.workers[worker].cut(design, bounds, name, to);
        self.send(worker, batch);
    }

    fn send(&mut self, worker: usize, batch: Arc<Batch>) {
        self.requests.push(Request { batch, awaited_by: Some(worker) });
        self.sort_requests();
    }

    fn arrive(&mut self, design: Design, name: FileName, awaited_by: Option<usize>) {
        let is_it = |r: &Request| r.batch.name == name && r.awaited_by == awaited_by;
        let index = self.requests.iter().position(is_it).expect("only what is there arrives");
        let request = self.requests.remove(index);
        let applied = self.catalog.apply(design, &request.batch);
        match (awaited_by, applied) {
            (Some(worker), Ok(())) => self.answer(worker, Attempt::Succeeded),
            (Some(worker), Err(_)) => self.failed(design, worker),
            (None, _) => {}
        }
    }

    fn answer(&mut self, worker: usize, answer: Attempt) {
        if let Some(committing) = &mut self.workers[worker].committing {
            committing.attempt = answer;
        }
    }

    fn failed(&mut self, design: Design, worker: usize) {
        self.answer(worker, Attempt::Failed);
        let committing = self.workers[worker].committing.as_ref();
        if design.has(Omission::DeletesOnError)
            && let Some(name) = committing.and_then(|committing| committing.batch.file())
            && !self.deleted.contains(&name)
        {
            self.deleted.push(name);
            self.deleted.sort_unstable();
        }
    }

    fn resolve(&mut self, design: Design, worker: usize) {
        if let Some(committing) = &self.workers[worker].committing {
            let decision = Worker::decide(design, &self.catalog, committing);
            self.follow(worker, decision);
        }
    }

    fn follow(&mut self, worker: usize, decision: Decision) {
        let state = &mut self.workers[worker];
        let Some(committing) = &mut state.committing else { return };
        let file = committing.batch.file();
        let usable = !committing.abandoned && file.is_none_or(|name| !self.deleted.contains(&name));
        match decision {
            Decision::Continue => state.committing = None,
            Decision::Resend if usable => {
                committing.attempt = Attempt::Outstanding;
                let batch = Arc::clone(&committing.batch);
                self.send(worker, batch);
            }
            // `DropReason::Abandoned` or `FilesUnusable`, `Fenced`.
            Decision::Resend | Decision::Reset => state.drop_batch(),
        }
    }

    /// The connection is gone; what went through it may still arrive.
    fn stop_waiting(&mut self, worker: usize) {
        for request in &mut self.requests {
            request.awaited_by = request.awaited_by.filter(|waiting| *waiting != worker);
        }
        self.sort_requests();
    }

    /// The network has no order: states that differ in it only are one.
    fn sort_requests(&mut self) {
        self.requests.sort_unstable_by_key(|request| (request.batch.name, request.awaited_by));
    }
}
