//! The scheduler: runs all processes on one thread, in virtual time.
//!
//! Each thread of a process is a queue of messages and a time of its next step. A step is a call of a real
//! core; its outputs go to other queues of the process at once, in order, as through a channel. Delays are
//! drawn between steps. Answers of brokers and lake take a drawn time too.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ducktide_protocol::position::Offset;
use ducktide_protocol::table::{Column, ColumnType, TableName};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::client::{FetchFault, FetchRequest, GroupOffsets};
use super::cluster::Cluster;
use super::disk::Disk;
use super::draw::Draw;
use super::lake::{CommitFault, SimulatedLake, partition_of};
use super::member::Rebalance;
use super::oracle::Oracle;
use super::payload::Payload;
use super::process::{
    AfterRevocation, COMMITTER, FIRST_BATCHER, POLL, PendingRevocation, Process, ProcessId,
    Surroundings, WORKER,
};
use super::registry::Registry;
use super::schedule::{Action, Schedule, Setup};
use super::violation::Violation;
use crate::clock::Clock;
use crate::commit::event::CommitterEvent;
use crate::error::ConsumerError;
use crate::event::Event;
use crate::source::client::KafkaClient as _;
use crate::source::cluster_error::ClusterError;
use crate::source::inspect::{Identity, Watermarks};
use crate::source::kafka_config::GroupProtocol;
use crate::source::poll_loop::Turn;
use crate::source::{ClusterAnswer, SourceEvent, TopicPartition};
use crate::worker::{ClusterQuery, Effect, NextStep};

/// Time at which all faults end.
const QUIET: Duration = Duration::from_secs(35);

/// Longest time from then until all records are committed. An end of a partition without records is
/// committed after a minute, and a partition without an owner is found after some more.
const LIVENESS_LIMIT: Duration = Duration::from_mins(15);

/// Longest time until all processes have stopped.
const STOP_LIMIT: Duration = Duration::from_mins(1);

/// Interval at which the poll thread checks its timers while it has nothing to do.
const IDLE_POLL: Duration = Duration::from_millis(250);

/// Interval of attempts while the brokers do not answer.
const BROKER_RETRY: Duration = Duration::from_millis(500);

/// Bytes of the largest delivery: the records that a client queues of a partition.
const LARGEST_DELIVERY: usize = 100 * 300;

/// Number of steps above which a run does not end: far more than any schedule takes.
const STEP_LIMIT: u64 = 300_000;

/// Figures of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RunStats {
    pub(super) steps: u64,
    pub(super) commits: u64,
    pub(super) virtual_time: Duration,
}

enum Task {
    /// A thread takes a step.
    Step(ProcessId, usize),
    /// A member contacts the group.
    Contact(ProcessId),
    /// The brokers answer a fetch.
    Fetch(ProcessId, FetchRequest),
    Query(ProcessId, ClusterQuery),
    /// Events of the committer reach the worker.
    Committed(ProcessId, Vec<CommitterEvent>),
    /// An action of the schedule.
    Action(usize),
    Start(usize),
    LateCommit,
    DiskEmptied,
    RegistryAvailable,
    Heal,
}

struct Scheduled {
    at: Duration,
    number: u64,
    task: Task,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

pub(super) struct World<'a> {
    schedule: &'a Schedule,
    now: Duration,
    clock: Clock,
    origin: Instant,
    draw: Draw,
    cluster: Cluster,
    lake: SimulatedLake,
    disk: Disk,
    registry: Arc<Registry>,
    group_offsets: GroupOffsets,
    oracle: Oracle,
    /// Processes by the index of their worker.
    processes: Vec<Option<Process>>,
    tasks: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    next_process: ProcessId,
    /// Fetches at the end of their partitions.
    waiting_fetches: Vec<(ProcessId, FetchRequest)>,
    /// Time at which the next late commit is applied.
    late_commit_due: Option<Duration>,
    disk_full_until: Duration,
    registry_unavailable_until: Duration,
    is_quiet: bool,
    is_stopping: bool,
    /// True if each step is printed.
    is_traced: bool,
    stats: RunStats,
}

/// Runs a schedule.
pub(super) fn run(schedule: &Schedule) -> Result<RunStats, Violation> {
    World::new(schedule).run()
}

impl<'a> World<'a> {
    fn new(schedule: &'a Schedule) -> Self {
        let (clock, disk) = (Clock::manual(), Disk::default());
        let setup = &schedule.setup;
        Self {
            schedule,
            now: Duration::ZERO,
            origin: clock.now(),
            clock,
            draw: Draw::new(schedule.seed ^ 0x5EED),
            cluster: Cluster::new(setup),
            lake: SimulatedLake::new(disk.clone()),
            disk,
            registry: Arc::default(),
            group_offsets: GroupOffsets::default(),
            oracle: Oracle { dedupes: setup.dedupes },
            processes: (0..setup.workers).map(|_| None).collect(),
            tasks: BinaryHeap::new(),
            scheduled: 0,
            next_process: 1,
            waiting_fetches: Vec::new(),
            late_commit_due: None,
            disk_full_until: Duration::ZERO,
            registry_unavailable_until: Duration::ZERO,
            is_quiet: false,
            is_stopping: false,
            is_traced: std::env::var_os("DUCKTIDE_SIMULATION_TRACE").is_some(),
            stats: RunStats::default(),
        }
    }

    fn run(mut self) -> Result<RunStats, Violation> {
        for worker in 0..self.processes.len() {
            let delay = self.draw.millis(0, 2000);
            self.push(delay, Task::Start(worker));
        }
        for (index, (at, _)) in self.schedule.actions.iter().enumerate() {
            self.push(Duration::from_millis(*at), Task::Action(index));
        }
        self.push(QUIET, Task::Heal);
        self.run_until(QUIET + LIVENESS_LIMIT, Self::is_complete)?;
        if !self.cluster.is_recreated() {
            self.check_liveness()?;
            self.stop_all();
            let limit = self.now + STOP_LIMIT;
            self.run_until(limit, |world| world.processes.iter().all(Option::is_none))?;
            if self.processes.iter().any(Option::is_some) {
                return Err("a process does not stop".to_owned());
            }
        }
        Oracle::check_all(&self.lake.state(), &self.cluster)?;
        self.stats.virtual_time = self.now;
        self.stats.commits = self.lake.state().commits;
        Ok(self.stats)
    }

    /// Runs tasks until a condition holds, or a time is reached.
    fn run_until(
        &mut self,
        end: Duration,
        is_done: impl Fn(&Self) -> bool,
    ) -> Result<(), Violation> {
        while let Some(Reverse(next)) = self.tasks.pop() {
            if next.at > end {
                self.tasks.push(Reverse(next));
                return Ok(());
            }
            if next.at > self.now {
                self.clock.advance(next.at.saturating_sub(self.now));
                self.now = next.at;
            }
            self.stats.steps += 1;
            if self.stats.steps > STEP_LIMIT {
                return Err("the schedule takes too many steps".to_owned());
            }
            if self.is_traced {
                println!("{:?} {}", self.now, next.task.describe());
            }
            let is_heal = matches!(next.task, Task::Heal);
            self.perform(next.task)?;
            if (self.check()? || is_heal) && is_done(self) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn push(&mut self, at: Duration, task: Task) {
        let at = whole_micros(at);
        self.scheduled += 1;
        self.tasks.push(Reverse(Scheduled { at, number: self.scheduled, task }));
    }

    /// Checks the invariants. Returns whether the lake or the processes changed.
    fn check(&mut self) -> Result<bool, Violation> {
        let is_over = |process: &&Process| process.in_flight.bytes() > self.bytes_in_flight_limit();
        if self.processes.iter().flatten().any(|process| is_over(&process)) {
            return Err("I9: more records in flight than the limit".to_owned());
        }
        let mut lake = self.lake.state();
        if let Some(violation) = lake.violation.take() {
            return Err(violation);
        }
        let has_changed = !lake.unchecked.is_empty();
        if has_changed {
            self.oracle.check(&mut lake, &self.cluster)?;
            if let Some(path) = self.disk.state().removed_too_early() {
                return Err(format!("I5: a file was removed after a commit: {}", path.display()));
            }
        }
        Ok(has_changed || self.is_stopping || self.cluster.is_recreated())
    }

    /// Returns the limit of the records in flight: the setting and one delivery, which a poll bounds.
    const fn bytes_in_flight_limit(&self) -> usize {
        self.schedule.setup.in_flight_bytes + LARGEST_DELIVERY
    }

    /// Returns whether all records are committed.
    fn is_complete(&self) -> bool {
        if !self.is_quiet {
            return false;
        }
        if self.cluster.is_recreated() {
            return self.now > QUIET + Duration::from_secs(10);
        }
        // The classic protocol gives the name to the newer process; KIP-848 refuses it.
        let Setup { workers, is_static, protocol, .. } = self.schedule.setup;
        let ends_zombies = is_static && protocol == GroupProtocol::Classic;
        if ends_zombies && self.processes[workers..].iter().any(Option::is_some) {
            return false;
        }
        let lake = self.lake.state();
        !lake.progress.is_empty()
            && lake.progress.iter().all(|(key, position)| {
                let log = self.cluster.log(&partition_of(&lake, *key));
                position.next_offset.0 == log.last_stable()
            })
    }

    fn check_liveness(&self) -> Result<(), Violation> {
        if self.is_complete() {
            return Ok(());
        }
        let lake = self.lake.state();
        let behind = lake.progress.iter().filter_map(|(key, position)| {
            let partition = partition_of(&lake, *key);
            let end = self.cluster.log(&partition).last_stable();
            (position.next_offset.0 < end)
                .then(|| format!("{partition}: {} of {end}", position.next_offset))
        });
        let zombies = self.processes[self.schedule.setup.workers..].iter().flatten().count();
        Err(format!(
            "after the faults: zombies={zombies}; partitions that are not read: {}",
            behind.collect::<Vec<_>>().join(", ")
        ))
    }

    fn stop_all(&mut self) {
        self.is_stopping = true;
        for worker in 0..self.processes.len() {
            if let Some(process) = &mut self.processes[worker] {
                process.inbox.push_back(Event::Stop);
                let id = process.id;
                self.wake(id, WORKER, self.now);
            }
        }
    }

    fn process(&mut self, id: ProcessId) -> Option<&mut Process> {
        self.processes.iter_mut().flatten().find(|process| process.id == id)
    }

    /// Schedules a step of a thread, unless an earlier one is scheduled.
    fn wake(&mut self, id: ProcessId, thread: usize, at: Duration) {
        let now = self.now;
        let Some(process) = self.process(id) else { return };
        let state = &mut process.threads[thread];
        let at = whole_micros(at.max(state.busy_until).max(now));
        if state.due.is_none_or(|due| at < due) {
            state.due = Some(at);
            self.push(at, Task::Step(id, thread));
        }
    }

    /// Draws the time until a thread that has work takes its next step.
    fn draw_delay(&mut self) -> Duration {
        let micros = match self.draw.below(100) {
            0..85 => self.draw.between(20, 300),
            85..99 => self.draw.between(1_000, 10_000),
            _ => self.draw.between(50_000, 400_000),
        };
        Duration::from_micros(micros)
    }

    fn wake_soon(&mut self, id: ProcessId, thread: usize) {
        let at = self.now + self.draw_delay();
        self.wake(id, thread, at);
    }

    fn perform(&mut self, task: Task) -> Result<(), Violation> {
        if let Some(id) = task.process() {
            let now = self.now;
            let Some(process) = self.process(id) else { return Ok(()) };
            if process.paused_until > now {
                let at = process.paused_until;
                match task {
                    Task::Step(id, thread) => {
                        let state = &mut process.threads[thread];
                        if state.due.take_if(|due| *due == now).is_some() {
                            self.wake(id, thread, at);
                        }
                    }
                    Task::Contact(id) => {
                        process.contact_due = None;
                        self.schedule_contact(id, at);
                    }
                    task => self.push(at, task),
                }
                return Ok(());
            }
        }
        match task {
            Task::Step(id, thread) => return self.step(id, thread),
            Task::Contact(id) => self.contact(id),
            Task::Fetch(id, request) => self.answer_fetch(id, request),
            Task::Query(id, query) => self.answer_query(id, query),
            Task::Committed(id, events) => {
                let process = self.process(id).expect("checked above");
                process.inbox.extend(events.into_iter().map(Event::Committer));
                self.wake_soon(id, WORKER);
            }
            Task::Action(index) => {
                let action = self.schedule.actions[index].1.clone();
                self.act(&action);
            }
            Task::Start(worker) => self.start(worker),
            Task::LateCommit => {
                let mut lake = self.lake.state();
                lake.advance(self.now, &self.disk);
                let next = lake.next_late();
                drop(lake);
                self.late_commit_due = next;
                if let Some(at) = next {
                    self.push(at, Task::LateCommit);
                }
            }
            Task::DiskEmptied => {
                if self.disk_full_until <= self.now {
                    self.disk.state().set_full(false);
                }
            }
            Task::RegistryAvailable => {
                if self.registry_unavailable_until <= self.now {
                    self.registry.set_unavailable(false);
                }
            }
            Task::Heal => self.heal(),
        }
        Ok(())
    }

    fn start(&mut self, worker: usize) {
        if self.processes[worker].is_some() || self.is_stopping {
            return;
        }
        self.lake.state().advance(self.now, &self.disk);
        let id = self.next_process;
        self.next_process += 1;
        let shared = Surroundings {
            setup: &self.schedule.setup,
            clock: &self.clock,
            cluster: &self.cluster,
            lake: &self.lake,
            disk: &self.disk,
            registry: &self.registry,
            group_offsets: &self.group_offsets,
        };
        match Process::start(id, worker, self.now, &shared, &mut self.draw) {
            Ok(process) => {
                self.processes[worker] = Some(process);
                (WORKER..FIRST_BATCHER + self.schedule.setup.batchers)
                    .for_each(|thread| self.wake_soon(id, thread));
                self.schedule_contact(id, self.now);
            }
            Err(_) => self.push(self.now + Duration::from_secs(1), Task::Start(worker)),
        }
    }

    fn schedule_contact(&mut self, id: ProcessId, at: Duration) {
        let Some(process) = self.process(id) else { return };
        let at = whole_micros(at);
        if process.contact_due.is_none_or(|due| at < due) {
            process.contact_due = Some(at);
            self.push(at, Task::Contact(id));
        }
    }

    /// Lets a member contact the group, as librdkafka's thread does.
    fn contact(&mut self, id: ProcessId) {
        let now = self.now;
        let is_down = self.cluster.is_down(now);
        let Some(process) = self.process(id) else { return };
        if process.contact_due.is_none_or(|due| due > now) {
            return;
        }
        process.contact_due = None;
        if is_down || process.disconnected_until > now {
            return self.schedule_contact(id, now + BROKER_RETRY);
        }
        let client = process.client.clone();
        let mut state = client.state();
        self.cluster.advance_group(now);
        let next = state.membership.contact(now, &mut self.cluster.group);
        self.cluster.advance_group(now);
        let has_work = state.has_work();
        drop(state);
        if let Some(at) = next {
            self.schedule_contact(id, at.max(now + Duration::from_millis(1)));
        }
        if has_work {
            self.wake_soon(id, POLL);
        }
    }

    /// Sends the fetches of a client that are due.
    fn send_fetches(&mut self, id: ProcessId) {
        let Some(process) = self.process(id) else { return };
        let requests = process.client.state().take_requests();
        for request in requests {
            let latency = self.draw_latency();
            self.push(self.now + latency, Task::Fetch(id, request));
        }
    }

    /// Draws the time that the brokers take for an answer.
    fn draw_latency(&mut self) -> Duration {
        let micros = if self.draw.chance(90) {
            self.draw.between(200, 3_000)
        } else {
            self.draw.between(3_000, 200_000)
        };
        Duration::from_micros(micros) + self.cluster.latency(self.now)
    }

    fn answer_fetch(&mut self, id: ProcessId, request: FetchRequest) {
        let now = self.now;
        let Some(process) = self.process(id) else { return };
        let (client, is_cut_off) = (process.client.clone(), process.disconnected_until > now);
        if is_cut_off || self.cluster.is_down(now) {
            return self.push(now + BROKER_RETRY, Task::Fetch(id, request));
        }
        let log = self.cluster.log(&request.partition);
        let mut state = client.state();
        if !state.is_answered(&request, log) {
            drop(state);
            return self.waiting_fetches.push((id, request));
        }
        // Real gaps that are confirmed often would also hide records that are lost on the way.
        let loses = now < self.cluster.loses_first_until && log.gaps() < 8;
        let fault = if loses { FetchFault::LosesFirst } else { FetchFault::None };
        let limit = 1 + usize::try_from(self.draw.below(20)).expect("a small number");
        state.answered(&request, log.fetch(request.position, limit), fault);
        drop(state);
        self.send_fetches(id);
        self.wake_soon(id, POLL);
    }

    /// Answers the fetches that waited for a change of a partition.
    fn log_changed(&mut self, partition: usize) {
        let partitions = self.cluster.partitions();
        let partition = partitions[partition % partitions.len()].clone();
        self.answer_waiting(|request| request.partition == partition);
    }

    fn answer_waiting(&mut self, is_answered: impl Fn(&FetchRequest) -> bool) {
        let waiting = std::mem::take(&mut self.waiting_fetches);
        for (id, request) in waiting {
            if is_answered(&request) {
                let latency = self.draw_latency();
                self.push(self.now + latency, Task::Fetch(id, request));
            } else {
                self.waiting_fetches.push((id, request));
            }
        }
    }

    fn answer_query(&mut self, id: ProcessId, query: ClusterQuery) {
        let now = self.now;
        let is_down = self.cluster.is_down(now);
        let Some(process) = self.process(id) else { return };
        if is_down || process.disconnected_until > now {
            let failed = |events: &mut Process| {
                let error = KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
                let answer = ClusterAnswer::Unanswered(ClusterError::new(error, None));
                events.inbox.push_back(Event::Cluster(answer));
            };
            match query {
                ClusterQuery::Ends(_) => failed(process),
                ClusterQuery::Readers(partitions) => {
                    let answer = ClusterAnswer::Readers { partitions, members: None };
                    process.inbox.push_back(Event::Cluster(answer));
                }
                ClusterQuery::Unowned { question, .. } => {
                    let answer = ClusterAnswer::Unowned { question, partitions: None };
                    process.inbox.push_back(Event::Cluster(answer));
                }
                query => {
                    failed(process);
                    self.push(now + Duration::from_secs(1), Task::Query(id, query));
                }
            }
            return self.wake_soon(id, WORKER);
        }
        let answer = self.answer(query);
        let process = self.process(id).expect("found above");
        process.inbox.push_back(Event::Cluster(answer));
        self.wake_soon(id, WORKER);
    }

    fn answer(&mut self, query: ClusterQuery) -> ClusterAnswer {
        match query {
            ClusterQuery::Identity { topic, question } => {
                let topic_id = Some(self.cluster.topic(&topic).id.clone());
                let identity = Identity { cluster_id: None, topic_id };
                ClusterAnswer::Identity { topic, identity, question }
            }
            ClusterQuery::Beginnings { topic, partitions } => {
                let start = |partition| {
                    let at = TopicPartition { topic: Arc::clone(&topic), partition };
                    (partition, Offset(self.cluster.log(&at).start()))
                };
                let starts = partitions.into_iter().map(start).collect();
                ClusterAnswer::Beginnings { topic, starts }
            }
            ClusterQuery::Range(partition) => {
                let log = self.cluster.log(&partition);
                let watermarks = Watermarks { low: Offset(log.start()), high: Offset(log.end()) };
                ClusterAnswer::Range { partition, watermarks }
            }
            ClusterQuery::Ends(partitions) => {
                let end = |partition: TopicPartition| {
                    let end = Offset(self.cluster.log(&partition).end());
                    (partition, end)
                };
                ClusterAnswer::Ends(partitions.into_iter().map(end).collect())
            }
            ClusterQuery::Readers(partitions) => {
                ClusterAnswer::Readers { partitions, members: None }
            }
            ClusterQuery::Unowned { partitions, question } => {
                self.cluster.advance_group(self.now);
                let group = self.cluster.group.describe();
                let unowned = partitions.into_iter().filter(|p| !group.owned.contains(p)).collect();
                let partitions = group.is_stable.then_some(unowned);
                ClusterAnswer::Unowned { question, partitions }
            }
        }
    }

    fn step(&mut self, id: ProcessId, thread: usize) -> Result<(), Violation> {
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

    fn step_worker(&mut self, id: ProcessId) -> Result<(), Violation> {
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

    fn execute(&mut self, id: ProcessId, effect: Effect) {
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
    fn end(&mut self, id: ProcessId, result: &Result<(), ConsumerError>) -> Result<(), Violation> {
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

    fn step_committer(&mut self, id: ProcessId) {
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

    fn draw_lake_latency(&mut self) -> Duration {
        match self.draw.below(100) {
            0..90 => self.draw.millis(1, 30),
            90..98 => self.draw.millis(30, 500),
            _ => self.draw.millis(500, 3000),
        }
    }

    fn step_batcher(&mut self, id: ProcessId, index: usize) {
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

    fn step_poll(&mut self, id: ProcessId) {
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
            Turn::Continue if has_work => self.wake_soon(id, POLL),
            Turn::Continue => self.wake(id, POLL, self.now + IDLE_POLL),
            Turn::Wait(pause) => self.wake(id, POLL, self.now + pause * 20),
            Turn::Replace(lost) => self.replace_client(id, lost),
            Turn::Close => self.close(id),
        }
        self.schedule_contact_of_change(id);
    }

    /// Schedules a contact if the client wants one earlier, as after a command to leave.
    fn schedule_contact_of_change(&mut self, id: ProcessId) {
        let now = self.now;
        let Some(process) = self.process(id) else { return };
        let next = process.client.state().membership.next_contact();
        if let Some(next) = next {
            self.schedule_contact(id, next.max(now + Duration::from_millis(1)));
        }
    }

    /// Sends the outputs of the poll loop.
    fn deliver(&mut self, id: ProcessId) {
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
    fn rebalance(&mut self, id: ProcessId) -> bool {
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

    fn begin_revocation(
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
    fn advance_revocation(&mut self, id: ProcessId) -> bool {
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

    fn replace_client(&mut self, id: ProcessId, lost: Vec<TopicPartition>) {
        if lost.is_empty() {
            return self.join_again(id);
        }
        self.begin_revocation(id, lost, true, AfterRevocation::ReplaceClient);
    }

    fn join_again(&mut self, id: ProcessId) {
        let process = self.process(id).expect("a step of a running process");
        process.poll_loop.join_again();
        self.deliver(id);
        self.wake_soon(id, POLL);
        self.schedule_contact(id, self.now);
    }

    /// Revokes all partitions, and leaves the group afterwards.
    fn close(&mut self, id: ProcessId) {
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

    fn finish_close(&mut self, id: ProcessId) {
        let now = self.now;
        let client = self.process(id).expect("a step of a running process").client.clone();
        client.state().membership.close(now, &mut self.cluster.group);
        let process = self.process(id).expect("found above");
        process.poll_loop.close();
        process.is_closed = true;
        self.deliver(id);
    }

    fn act(&mut self, action: &Action) {
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

    fn disturb_process(&mut self, action: &Action) {
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

    fn produce(
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

    fn fail_commit(&self, fault: CommitFault) {
        self.lake.state().fail_next_commit(fault);
    }

    fn alter(&self, topic: usize, adds_column: bool) {
        let topics = &self.cluster.topics;
        let name: TableName = topics[topic % topics.len()].name.parse().expect("a plain name");
        let mut lake = self.lake.state();
        let columns = lake.table(&name).map_or(0, |table| table.shape.columns.len());
        let column = Column::new(&format!("added_{columns}"), ColumnType::BigInt);
        lake.alter(&name, adds_column.then_some(column));
    }

    /// Moves a partition as an operator does, by a number of records.
    fn operate(&self, partition: usize, by: i64) {
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
    fn heal(&mut self) {
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

/// Rounds up to the resolution of a manual clock, which must not stand before the time of a task.
fn whole_micros(time: Duration) -> Duration {
    let nanos = time.subsec_nanos() % 1000;
    if nanos == 0 { time } else { time + Duration::from_nanos(u64::from(1000 - nanos)) }
}

impl Task {
    /// Returns the text for a trace.
    fn describe(&self) -> String {
        match self {
            Self::Step(id, thread) => format!("process {id}: thread {thread}"),
            Self::Contact(id) => format!("process {id}: contact"),
            Self::Fetch(id, request) => format!("process {id}: {request:?}"),
            Self::Query(id, query) => format!("process {id}: {query:?}"),
            Self::Committed(id, events) => format!("process {id}: {events:?}"),
            Self::Action(index) => format!("action {index}"),
            Self::Start(worker) => format!("start worker {worker}"),
            Self::LateCommit => "late commit".to_owned(),
            Self::DiskEmptied => "disk emptied".to_owned(),
            Self::RegistryAvailable => "registry available".to_owned(),
            Self::Heal => "faults end".to_owned(),
        }
    }

    /// Returns the process that must run for the task.
    const fn process(&self) -> Option<ProcessId> {
        match self {
            Self::Step(id, _)
            | Self::Contact(id)
            | Self::Fetch(id, _)
            | Self::Query(id, _)
            | Self::Committed(id, _) => Some(*id),
            _ => None,
        }
    }
}
