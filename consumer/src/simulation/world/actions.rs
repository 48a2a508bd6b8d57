//! Actions of the schedule: producers, operators, other clients, and faults.

use std::time::Duration;

use ducktide_protocol::position::Offset;
use ducktide_protocol::table::{Column, ColumnType, TableName};

use super::{Task, World};
use crate::event::Event;
use crate::simulation::lake::{CommitFault, partition_of};
use crate::simulation::payload::Payload;
use crate::simulation::process::WORKER;
use crate::simulation::schedule::Action;

impl World<'_> {
    pub(super) fn act(&mut self, action: &Action) {
        let now = self.now;
        let millis = |millis: u64| now + Duration::from_millis(millis);
        match *action {
            Action::Produce { partition, count, payload } => {
                self.produce(partition, count, payload, false, false);
            }
            Action::ProduceInTransaction { partition, count } => {
                self.produce(partition, count, Payload::Row, true, false);
            }
            Action::Repeat { partition, count } => {
                self.produce(partition, count, Payload::Row, false, true);
            }
            Action::EndTransaction { partition, commits } => {
                self.cluster.log_mut(partition).end_transaction(commits);
                self.log_changed(partition);
            }
            Action::Compact { partition } => {
                let log = self.cluster.log_mut(partition);
                log.compact(log.start());
            }
            Action::DeleteRecords { partition, keep } => {
                let log = self.cluster.log_mut(partition);
                log.delete_before(log.end() - keep);
            }
            Action::RecreateTopic { topic } => {
                let lake = self.lake.state();
                let name = &self.cluster.topics[topic % self.cluster.topics.len()].name;
                let is_known = lake.sources().iter().any(|source| source.spec.topic == **name);
                drop(lake);
                self.cluster.recreate(topic, is_known);
                self.answer_waiting(|_| true);
            }
            Action::BrokersDown { millis: length } => {
                self.cluster.down_until = self.cluster.down_until.max(millis(length));
            }
            Action::SlowBrokers { latency, millis: length } => {
                self.cluster.latency = (Duration::from_millis(latency), millis(length));
            }
            Action::LosesFirst { millis: length } => {
                self.cluster.loses_first_until = millis(length);
            }
            Action::RequestLost => self.fail_commit(CommitFault::RequestLost),
            Action::AnswerLost => self.fail_commit(CommitFault::AnswerLost),
            Action::AnswerAndCheckLost => self.fail_commit(CommitFault::AnswerAndCheckLost),
            Action::LateCommit { millis } => {
                self.fail_commit(CommitFault::Late(Duration::from_millis(millis)));
            }
            Action::FilesUnusable => self.fail_commit(CommitFault::FilesUnusable),
            Action::LakeUnavailable { millis: length } => {
                self.lake.state().set_unavailable_until(millis(length));
            }
            Action::AlterTable { topic, adds_column } => self.alter(topic, adds_column),
            Action::Replay { partition, records } => self.operate(partition, -records),
            Action::Skip { partition, records } => self.operate(partition, records),
            Action::RegistryUnavailable { millis: length } => {
                self.registry.set_unavailable(true);
                self.registry_unavailable_until = millis(length);
                self.push(millis(length), Task::RegistryAvailable);
            }
            Action::RegistryForgets => self.registry.forget_once(),
            Action::DiskFull { millis: length } => {
                self.disk.state().set_full(true);
                self.disk_full_until = millis(length);
                self.push(millis(length), Task::DiskEmptied);
            }
            Action::Kill { .. }
            | Action::Pause { .. }
            | Action::Stop { .. }
            | Action::Replace { .. }
            | Action::Disconnect { .. }
            | Action::SlowThread { .. } => self.disturb_process(action),
        }
    }

    pub(super) fn disturb_process(&mut self, action: &Action) {
        let now = self.now;
        let workers = self.schedule.setup.workers;
        let running = |world: &mut Self, worker: usize| {
            world.processes[worker % workers].as_ref().map(|process| process.id)
        };
        match *action {
            Action::Kill { worker, restart_after } => {
                let worker = worker % workers;
                if self.processes[worker].take().is_some() {
                    let at = now + Duration::from_millis(restart_after);
                    self.push(at, Task::Start(worker));
                }
            }
            Action::Pause { worker, millis } => {
                if let Some(process) = &mut self.processes[worker % workers] {
                    process.paused_until =
                        process.paused_until.max(now + Duration::from_millis(millis));
                }
            }
            Action::Replace { worker, millis } => {
                let worker = worker % workers;
                if let Some(mut zombie) = self.processes[worker].take() {
                    // Its messages wait for the end of an earlier pause.
                    zombie.paused_until =
                        zombie.paused_until.max(now + Duration::from_millis(millis));
                    self.processes.push(Some(zombie));
                    self.push(now, Task::Start(worker));
                }
            }
            Action::Stop { worker, restart_after } => {
                if let Some(id) = running(self, worker) {
                    let process = self.process(id).expect("it is running");
                    process.restart_after = Duration::from_millis(restart_after);
                    process.is_stop_requested = true;
                    process.inbox.push_back(Event::Stop);
                    self.wake_soon(id, WORKER);
                }
            }
            Action::Disconnect { worker, millis } => {
                if let Some(process) = &mut self.processes[worker % workers] {
                    process.disconnected_until = now + Duration::from_millis(millis);
                }
            }
            Action::SlowThread { worker, thread, millis } => {
                if let Some(process) = &mut self.processes[worker % workers] {
                    let count = process.threads.len();
                    let state = &mut process.threads[thread % count];
                    // It may be busy for longer: an answer of the lake is on its way.
                    state.busy_until = state.busy_until.max(now + Duration::from_millis(millis));
                }
            }
            _ => unreachable!("only actions on processes"),
        }
    }

    pub(super) fn produce(
        &mut self,
        partition: usize,
        count: u64,
        payload: Payload,
        in_transaction: bool,
        repeats: bool,
    ) {
        let time = self.clock.unix_millis();
        self.cluster.produce(partition, count, payload, in_transaction, repeats, time);
        self.log_changed(partition);
    }

    pub(super) fn fail_commit(&self, fault: CommitFault) {
        self.lake.state().fail_next_commit(fault);
    }

    pub(super) fn alter(&self, topic: usize, adds_column: bool) {
        let topics = &self.cluster.topics;
        let name: TableName = topics[topic % topics.len()].name.parse().expect("a plain name");
        let mut lake = self.lake.state();
        let columns = lake.table(&name).map_or(0, |table| table.shape.columns.len());
        let column = Column::new(&format!("added_{columns}"), ColumnType::BigInt);
        lake.alter(&name, adds_column.then_some(column));
    }

    /// Moves a partition as an operator does, by a number of records.
    pub(super) fn operate(&self, partition: usize, by: i64) {
        let partitions = self.cluster.partitions();
        let partition = &partitions[partition % partitions.len()];
        let log = self.cluster.registered_log(partition);
        let mut lake = self.lake.state();
        let key = lake.progress.keys().copied().find(|key| partition_of(&lake, *key) == *partition);
        let Some(key) = key else { return };
        let position = lake.progress[&key].next_offset.0;
        let to = position + by;
        if by > 0 {
            lake.skip(key, Offset(to.min(log.last_stable())));
        } else if position > log.start() {
            // A replay is refused for records that Kafka no longer has. Compacted records are gone too.
            let first = to.max(log.start());
            if (first..position).all(|offset| !log.is_compacted(offset)) {
                lake.replay(key, Offset(first));
            }
        }
    }

    /// Ends all faults, and does what an operator does after them.
    pub(super) fn heal(&mut self) {
        self.is_quiet = true;
        self.cluster.heal();
        self.disk.state().set_full(false);
        self.registry.set_unavailable(false);
        let mut lake = self.lake.state();
        lake.heal();
        for key in lake.progress.keys().copied().collect::<Vec<_>>() {
            let start = self.cluster.registered_log(&partition_of(&lake, key)).start();
            lake.skip(key, Offset(start));
        }
        drop(lake);
        self.answer_waiting(|_| true);
        for worker in 0..self.processes.len() {
            if let Some(process) = &mut self.processes[worker] {
                process.disconnected_until = Duration::ZERO;
            }
        }
    }
}
