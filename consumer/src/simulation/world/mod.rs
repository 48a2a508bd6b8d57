//! The scheduler: runs all processes on one thread, in virtual time.
//!
//! Each thread of a process is a queue of messages and a time of its next step. A step is a call of a real
//! core; its outputs go to other queues of the process at once, in order, as through a channel. Delays are
//! drawn between steps. Answers of brokers and lake take a drawn time too.
//!
//! | module | part |
//! |---|---|
//! | this one | tasks in the order of their times, checks after each, liveness at the end |
//! | `threads` | steps of the worker, the poll loop, the committer and the batchers |
//! | `brokers` | contacts of members, answers to fetches and queries |
//! | `actions` | producers, operators, other clients, faults |

mod actions;
mod brokers;
mod threads;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{FetchRequest, GroupOffsets};
use super::cluster::Cluster;
use super::disk::Disk;
use super::draw::Draw;
use super::lake::{SimulatedLake, partition_of};
use super::oracle::Oracle;
use super::process::{FIRST_BATCHER, Process, ProcessId, Surroundings, WORKER};
use super::registry::Registry;
use super::schedule::{Schedule, Setup};
use super::violation::Violation;
use crate::clock::Clock;
use crate::commit::event::CommitterEvent;
use crate::event::Event;
use crate::source::kafka_config::GroupProtocol;
use crate::worker::ClusterQuery;

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
