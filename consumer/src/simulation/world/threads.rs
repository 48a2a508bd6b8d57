//! Threads of the processes: one step of the worker, the poll loop, the committer or a batcher.

use std::sync::mpsc;
use std::time::Duration;

use super::{IDLE_POLL, Task, World};
use crate::error::ConsumerError;
use crate::event::Event;
use crate::simulation::member::Rebalance;
use crate::simulation::process::{
    AfterRevocation, COMMITTER, FIRST_BATCHER, POLL, PendingRevocation, Process, ProcessId, WORKER,
};
use crate::simulation::violation::Violation;
use crate::source::client::KafkaClient as _;
use crate::source::poll_loop::Turn;
use crate::source::{SourceEvent, TopicPartition};
use crate::worker::{Effect, NextStep};

impl World<'_> {
    pub(super) fn step(&mut self, id: ProcessId, thread: usize) -> Result<(), Violation> {
        let now = self.now;
        let Some(process) = self.process(id) else { return Ok(()) };
        let state = &mut process.threads[thread];
        if state.due != Some(now) {
            return Ok(());
        }
        state.due = None;
        if state.busy_until > now {
            let at = state.busy_until;
            self.wake(id, thread, at);
            return Ok(());
        }
        match thread {
            WORKER => return self.step_worker(id),
            POLL => self.step_poll(id),
            COMMITTER => self.step_committer(id),
            batcher => self.step_batcher(id, batcher - FIRST_BATCHER),
        }
        Ok(())
    }

    pub(super) fn step_worker(&mut self, id: ProcessId) -> Result<(), Violation> {
        let now = self.clock.now();
        let process = self.process(id).expect("a step of a running process");
        let event = process.inbox.pop_front();
        let next = process.worker.step(now, event);
        let effects = process.worker.take_effects();
        let has_more = !process.inbox.is_empty();
        for effect in effects {
            self.execute(id, effect);
        }
        match next {
            NextStep::At(at) => {
                let at = at.saturating_duration_since(self.origin);
                self.wake(id, WORKER, at);
                if has_more {
                    self.wake_soon(id, WORKER);
                }
                Ok(())
            }
            NextStep::Finished(result) => self.end(id, &result),
            NextStep::GiveUp(result) => {
                let client = self.process(id).expect("found above").client.clone();
                let mut state = client.state();
                state.membership.close(self.now, &mut self.cluster.group);
                drop(state);
                self.end(id, &result)
            }
        }
    }

    pub(super) fn execute(&mut self, id: ProcessId, effect: Effect) {
        let process = self.process(id).expect("effects of a running process");
        match effect {
            Effect::Source(command) => {
                process.source_inbox.push_back(command);
                self.wake_soon(id, POLL);
            }
            Effect::Batcher(index, command) => {
                process.batchers[index].commands.push_back(command);
                self.wake_soon(id, FIRST_BATCHER + index);
            }
            Effect::Committer(request) => {
                process.committer_inbox.push_back(request);
                self.wake_soon(id, COMMITTER);
            }
            Effect::Query(query) => {
                let latency = self.draw_latency();
                self.push(self.now + latency, Task::Query(id, query));
            }
            Effect::OpenTopic(topic) => unreachable!("all topics are open: {topic}"),
            Effect::StopOpening => {}
            Effect::ReleasePartitions(done) => {
                // The poll thread may no longer wait.
                let _ = done.try_send(());
                process.unreleased.clear();
                self.wake_soon(id, POLL);
            }
        }
    }

    /// Ends a process, and restarts it later.
    pub(super) fn end(
        &mut self,
        id: ProcessId,
        result: &Result<(), ConsumerError>,
    ) -> Result<(), Violation> {
        let worker = self
            .processes
            .iter()
            .position(|process| process.as_ref().is_some_and(|process| process.id == id));
        let worker = worker.expect("a running process has an index");
        let process = self.processes[worker].take().expect("found above");
        if !self.is_stopping && worker < self.schedule.setup.workers {
            self.push(self.now + process.restart_after, Task::Start(worker));
        }
        match result {
            Ok(()) => Ok(()),
            Err(ConsumerError::Identity(_)) if self.cluster.is_recreated() => Ok(()),
            Err(ConsumerError::NameTaken(_)) if self.schedule.setup.is_static => Ok(()),
            Err(ConsumerError::ShutdownTimeout) if process.is_stop_requested => Ok(()),
            Err(error) => Err(format!("a worker ended: {error}")),
        }
    }

    pub(super) fn step_committer(&mut self, id: ProcessId) {
        let clock_now = self.clock.now();
        let now = self.now;
        self.lake.state().advance(now, &self.disk);
        let process = self.process(id).expect("a step of a running process");
        let mut events = Vec::new();
        while let Some(request) = process.committer_inbox.pop_front() {
            events.extend(process.committer.handle_request(request));
        }
        let is_due = process.committer.due().is_some_and(|due| due <= clock_now);
        if is_due {
            let Process { committer, lake, client, unreleased, .. } = process;
            let owned = client.state().membership.owned().union(unreleased).cloned().collect();
            lake.owned = Some(owned);
            committer.attempt(lake, |event| events.push(event));
        }
        let due = process.committer.due();
        let latency = if is_due { self.draw_lake_latency() } else { Duration::ZERO };
        let process = self.process(id).expect("found above");
        process.threads[COMMITTER].busy_until = now + latency;
        let next_late = self.lake.state().next_late();
        if next_late != self.late_commit_due {
            self.late_commit_due = next_late;
            if let Some(at) = next_late {
                self.push(at, Task::LateCommit);
            }
        }
        if !events.is_empty() {
            self.push(now + latency, Task::Committed(id, events));
        }
        if let Some(due) = due {
            self.wake(id, COMMITTER, due.saturating_duration_since(self.origin));
        }
    }

    pub(super) fn draw_lake_latency(&mut self) -> Duration {
        match self.draw.below(100) {
            0..90 => self.draw.millis(1, 30),
            90..98 => self.draw.millis(30, 500),
            _ => self.draw.millis(500, 3000),
        }
    }

    pub(super) fn step_batcher(&mut self, id: ProcessId, index: usize) {
        let now = self.now;
        let process = self.process(id).expect("a step of a running process");
        let batcher = &mut process.batchers[index];
        let mut is_active = false;
        while let Some(command) = batcher.commands.pop_front() {
            batcher.core.handle_command(command);
            is_active = true;
        }
        if batcher.core.resume() {
            is_active = true;
        } else if batcher.core.accepts_deliveries()
            && let Some(delivery) = batcher.deliveries.pop_front()
        {
            batcher.core.handle_delivery(delivery);
            is_active = true;
        } else if now >= batcher.active_at + batcher.core.idle_after() {
            batcher.core.handle_idle();
            is_active = true;
        }
        if is_active {
            batcher.active_at = now;
        }
        let idle_at = batcher.active_at + batcher.core.idle_after();
        let has_more = batcher.core.accepts_deliveries() && !batcher.deliveries.is_empty();
        let events: Vec<_> = batcher.core.outbox().drain(..).collect();
        let has_events = !events.is_empty();
        process.inbox.extend(events.into_iter().map(Event::Batcher));
        if has_events {
            self.wake_soon(id, WORKER);
        }
        if has_more {
            self.wake_soon(id, FIRST_BATCHER + index);
        } else {
            self.wake(id, FIRST_BATCHER + index, idle_at);
        }
    }

    pub(super) fn step_poll(&mut self, id: ProcessId) {
        if !self.advance_revocation(id) {
            return;
        }
        let process = self.process(id).expect("a step of a running process");
        if process.is_closed {
            return;
        }
        while let Some(command) = process.source_inbox.pop_front() {
            process.poll_loop.handle_command(command);
        }
        if self.rebalance(id) {
            return;
        }
        let process = self.process(id).expect("found above");
        let turn = process.poll_loop.turn();
        let has_work = process.client.state().has_work();
        self.deliver(id);
        self.send_fetches(id);
        match turn {
            Turn::Continue => self.wake_soon(id, POLL),
            Turn::Idle(_) if has_work => self.wake_soon(id, POLL),
            Turn::Idle(_) => self.wake(id, POLL, self.now + IDLE_POLL),
            Turn::Wait(pause) => self.wake(id, POLL, self.now + pause * 20),
            Turn::Replace(lost) => self.replace_client(id, lost),
            Turn::Close => self.close(id),
        }
        self.schedule_contact_of_change(id);
    }

    /// Schedules a contact if the client wants one earlier, as after a command to leave.
    pub(super) fn schedule_contact_of_change(&mut self, id: ProcessId) {
        let now = self.now;
        let Some(process) = self.process(id) else { return };
        let next = process.client.state().membership.next_contact();
        if let Some(next) = next {
            self.schedule_contact(id, next.max(now + Duration::from_millis(1)));
        }
    }

    /// Sends the outputs of the poll loop.
    pub(super) fn deliver(&mut self, id: ProcessId) {
        let process = self.process(id).expect("a step of a running process");
        let outbox = process.poll_loop.outbox();
        let events: Vec<_> = outbox.events.drain(..).collect();
        let deliveries: Vec<_> = outbox.deliveries.drain(..).collect();
        let has_events = !events.is_empty();
        process.inbox.extend(events.into_iter().map(Event::Source));
        let mut woken = Vec::new();
        for (index, delivery) in deliveries {
            process.batchers[index].deliveries.push_back(delivery);
            woken.push(index);
        }
        if has_events {
            self.wake_soon(id, WORKER);
        }
        woken.dedup();
        for index in woken {
            self.wake_soon(id, FIRST_BATCHER + index);
        }
    }

    /// Executes the next rebalance of the client. Returns whether the poll thread waits for the worker.
    pub(super) fn rebalance(&mut self, id: ProcessId) -> bool {
        let polls_before = self.draw.chance(50);
        let process = self.process(id).expect("a step of a running process");
        let client = process.client.clone();
        let mut state = client.state();
        if !state.membership.has_rebalance() {
            return false;
        }
        if polls_before {
            state.poll_before_rebalance();
        }
        let rebalance = state.membership.next_rebalance();
        drop(state);
        match rebalance {
            None => false,
            Some(Rebalance::Assign(partitions)) => {
                let partitions: Vec<_> = partitions.into_iter().collect();
                process.assignment.assigned(&partitions);
                process.inbox.push_back(Event::Source(SourceEvent::Assigned(partitions)));
                self.wake_soon(id, WORKER);
                false
            }
            Some(Rebalance::Revoke { partitions, lost }) => {
                let partitions = partitions.into_iter().collect();
                self.begin_revocation(id, partitions, lost, AfterRevocation::Poll);
                true
            }
        }
    }

    pub(super) fn begin_revocation(
        &mut self,
        id: ProcessId,
        partitions: Vec<TopicPartition>,
        lost: bool,
        after: AfterRevocation,
    ) {
        // As the poll thread: the worker's limit and a second.
        let deadline = self.now + Duration::from_secs(5);
        let process = self.process(id).expect("a step of a running process");
        let fetched = process.assignment.begin_revocation(&partitions);
        let (done, released) = mpsc::sync_channel(1);
        let event = SourceEvent::Revoking { partitions: partitions.clone(), lost, done };
        process.inbox.push_back(Event::Source(event));
        let pending = PendingRevocation { partitions, fetched, released, deadline, after };
        process.revocation = Some(pending);
        self.wake_soon(id, WORKER);
        self.wake(id, POLL, deadline);
    }

    /// Ends the revocation if the worker has answered. Returns false while the poll thread waits.
    pub(super) fn advance_revocation(&mut self, id: ProcessId) -> bool {
        let now = self.now;
        let process = self.process(id).expect("a step of a running process");
        let Some(revocation) = &process.revocation else { return true };
        let is_released = !matches!(revocation.released.try_recv(), Err(mpsc::TryRecvError::Empty));
        if !is_released && now < revocation.deadline {
            let deadline = revocation.deadline;
            self.wake(id, POLL, deadline);
            return false;
        }
        let revocation = process.revocation.take().expect("checked above");
        if !is_released {
            process.unreleased.extend(revocation.partitions.iter().cloned());
        }
        process.assignment.end_revocation(&revocation.partitions);
        process.client.stop_fetching(&revocation.fetched);
        process.client.state().membership.revoked();
        match revocation.after {
            AfterRevocation::Poll => {}
            AfterRevocation::ReplaceClient => self.join_again(id),
            AfterRevocation::Close => self.finish_close(id),
        }
        self.schedule_contact_of_change(id);
        true
    }

    pub(super) fn replace_client(&mut self, id: ProcessId, lost: Vec<TopicPartition>) {
        if lost.is_empty() {
            return self.join_again(id);
        }
        self.begin_revocation(id, lost, true, AfterRevocation::ReplaceClient);
    }

    pub(super) fn join_again(&mut self, id: ProcessId) {
        let process = self.process(id).expect("a step of a running process");
        process.poll_loop.join_again();
        self.deliver(id);
        self.wake_soon(id, POLL);
        self.schedule_contact(id, self.now);
    }

    /// Revokes all partitions, and leaves the group afterwards.
    pub(super) fn close(&mut self, id: ProcessId) {
        let process = self.process(id).expect("a step of a running process");
        let mut state = process.client.state();
        state.membership.begin_close();
        let rebalance = state.membership.next_rebalance();
        drop(state);
        if let Some(Rebalance::Revoke { partitions, lost }) = rebalance {
            let partitions = partitions.into_iter().collect();
            self.begin_revocation(id, partitions, lost, AfterRevocation::Close);
        } else {
            self.finish_close(id);
        }
    }

    pub(super) fn finish_close(&mut self, id: ProcessId) {
        let now = self.now;
        let client = self.process(id).expect("a step of a running process").client.clone();
        client.state().membership.close(now, &mut self.cluster.group);
        let process = self.process(id).expect("found above");
        process.poll_loop.close();
        process.is_closed = true;
        self.deliver(id);
    }
}
