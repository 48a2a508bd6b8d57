//! The worker: all decisions of a consumer, without threads, clocks, Kafka or a lake.
//!
//! [`Worker::step`] takes an event and the time, and leaves effects that a driver executes. The drivers
//! are the crate's `driver` with its threads, and the simulation.
//!
//! | question | module |
//! |---|---|
//! | life of a partition | `partitions` |
//! | life of a batch, and its trace | `batch_cycle`, `batch_trace` |
//! | life of the worker | [`Phase`], below |
//! | life of a revocation | [`Revocation`], below |
//! | number of batchers, and the batcher of each partition | `spread`, `adapt_batchers` |
//! | tables that are altered, topics that are held or opened | `alterations`, `held_topics`, `discovery` |
//! | reactions to events | `source_events`, `batcher_events`, `committer_events`, `cluster_answers` |
//! | actions at a time | `advance`, `owner_queries`, `until_end` |
//!
//! Uncommitted records are either flushed (the batch is cut and committed), or all of them are dropped and
//! read again from the committed positions (a reset).

mod adapt_batchers;
mod advance;
mod alterations;
mod awaited_members;
mod batch_cycle;
mod batch_trace;
mod batcher_events;
mod cluster_answers;
mod committer_events;
mod discovery;
mod effect;
mod held_topics;
mod owner_check;
mod owner_queries;
mod partitions;
mod pending_alterations;
mod periodic_query;
mod readiness_blockers;
mod source_events;
mod spread;
mod until_end;

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ducktide_protocol::dedupe::RecentRows;
use ducktide_protocol::position::{Offset, Partition};
use ducktide_service::traces::Traces;

use crate::batch::batcher::BatcherCommand;
use crate::batch::dedupe::IdBudget;
use crate::batch::topic_route::TopicRoute;
use crate::commit::request::{CommitterRequest, RecentRowsRequest};
use crate::config::Config;
use crate::error::ConsumerError;
use crate::event::Event;
use crate::metrics::Metrics;
use crate::source::group::Group;
use crate::source::{SourceCommand, TopicPartition};
use crate::startup::Goals;
use awaited_members::OtherMembersWait;
use batch_cycle::BatchCycle;
use batch_trace::BatchTraces;
use held_topics::HeldTopics;
use owner_check::OwnerCheck;
use partitions::Partitions;
use pending_alterations::Alterations;
use periodic_query::PeriodicQuery;
use readiness_blockers::ReadinessBlockers;
use spread::BatcherSpread;

pub(crate) use awaited_members::REFUSAL_LIMIT;
pub(crate) use batch_cycle::FlushTrigger;
pub(crate) use effect::{ClusterQuery, Effect};
pub(crate) use spread::FIRST_QUIET_TIME;
#[cfg(test)]
pub(crate) use spread::LONGEST_QUIET_TIME;

/// Settings of a worker, and what it found at its start.
pub(crate) struct WorkerSettings {
    pub(crate) config: Arc<Config>,
    pub(crate) group: Arc<Group>,
    /// For `--until-end`: the end offsets of the topics at the start.
    pub(crate) goals: Option<Goals>,
    /// Memory for the ids of recent rows, which limits what is requested of them.
    pub(crate) ids: Arc<IdBudget>,
    /// Exporter of the traces of batches.
    pub(crate) traces: Arc<Traces>,
    /// Time for which fewer batchers must be enough before fewer are used.
    pub(crate) quiet_time: Duration,
}

/// Result of a step.
#[derive(Debug)]
pub(crate) enum NextStep {
    /// The next step is due at this time, or at the next event.
    At(Instant),
    /// The group was left, and all records are committed or dropped.
    Finished(Result<(), ConsumerError>),
    /// The deadline of the shutdown is over. Threads may hang in calls.
    GiveUp(Result<(), ConsumerError>),
}

/// State of a consumer.
pub(crate) struct Worker {
    settings: WorkerSettings,
    metrics: Arc<Metrics>,
    /// Time of the current step.
    now: Instant,
    effects: Vec<Effect>,
    phase: Phase,
    topics: Topics,
    partitions: Partitions,
    revocation: Option<Revocation>,
    batches: BatchCycle,
    traces: BatchTraces,
    spread: BatcherSpread,
    alterations: Alterations,
    blockers: ReadinessBlockers,
    queries: Queries,
    /// Number of resets.
    resets: u64,
    others: OtherMembersWait,
}

/// Topics of the worker, by the way they are treated.
#[derive(Debug, Default)]
struct Topics {
    routes: BTreeMap<Arc<str>, Arc<TopicRoute>>,
    /// Topics that are being opened.
    opening: BTreeSet<Arc<str>>,
    held: HeldTopics,
}

/// Queries that the worker repeats.
#[derive(Debug)]
struct Queries {
    /// Number of the last query for the ids of topics.
    question: u64,
    /// All positions: of own partitions, because an operator may have moved them, and of other members'
    /// partitions for `--until-end`.
    positions: PeriodicQuery,
    /// End offsets.
    ends: PeriodicQuery,
    /// Numbers of partitions of the topics.
    partition_counts: PeriodicQuery,
    /// None if a partition cannot lose its owner.
    owners: Option<OwnerCheck>,
}

/// Life of the worker.
///
/// ```text
/// Running ──stop, goal, error──▶ Draining ──all committed──▶ Leaving ──closed──▶ Left
///                                    └──────── deadline ────────┴──▶ given up
/// ```
#[derive(Debug)]
enum Phase {
    Running,
    /// The last batch is being committed.
    Draining(Ending),
    /// The poll loop was sent the command to leave the group.
    Leaving(Ending),
    /// The poll loop has left the group.
    Left(Result<(), ConsumerError>),
}

/// The end of the worker.
#[derive(Debug)]
struct Ending {
    result: Result<(), ConsumerError>,
    deadline: Instant,
}

/// Partitions that are given up as soon as their records are committed.
///
/// ```text
/// requested ──cut or reset──▶ flushing ──no batch moves──▶ released
///     └──────────── deadline ────┴──reset──▶ released
/// ```
#[derive(Debug)]
struct Revocation {
    partitions: Vec<TopicPartition>,
    done: mpsc::SyncSender<()>,
    deadline: Instant,
    /// True once no batcher has uncut records of these partitions.
    is_cut: bool,
}

impl Worker {
    pub(crate) fn new(
        settings: WorkerSettings,
        routes: Vec<Arc<TopicRoute>>,
        metrics: Arc<Metrics>,
        now: Instant,
    ) -> Self {
        let config = &settings.config;
        let routes = routes.into_iter().map(|route| (Arc::clone(&route.topic), route)).collect();
        Self {
            batches: BatchCycle::new(config.batch.flush_interval, config.batchers),
            traces: BatchTraces::new(Arc::clone(&settings.traces)),
            spread: BatcherSpread::new(config.batchers, settings.quiet_time),
            queries: Queries {
                question: 0,
                positions: PeriodicQuery::due_at(now),
                ends: PeriodicQuery::due_at(now),
                partition_counts: PeriodicQuery::due_at(now),
                owners: OwnerCheck::for_member(config),
            },
            resets: 0,
            settings,
            metrics,
            now,
            effects: Vec::new(),
            phase: Phase::Running,
            topics: Topics { routes, ..Topics::default() },
            partitions: Partitions::default(),
            revocation: None,
            alterations: Alterations::default(),
            blockers: ReadinessBlockers::default(),
            others: OtherMembersWait::default(),
        }
    }

    /// Handles an event, if there is one, and performs the actions that are due.
    pub(crate) fn step(&mut self, now: Instant, event: Option<Event>) -> NextStep {
        if let Some(event) = event {
            self.handle(now, event);
        }
        self.now = now;
        match &mut self.phase {
            Phase::Left(result) => NextStep::Finished(mem::replace(result, Ok(()))),
            Phase::Draining(end) | Phase::Leaving(end) if end.deadline <= now => {
                let result = mem::replace(&mut end.result, Ok(()));
                NextStep::GiveUp(result.and(Err(ConsumerError::ShutdownTimeout)))
            }
            _ => NextStep::At(self.advance()),
        }
    }

    /// Handles an event.
    pub(crate) fn handle(&mut self, now: Instant, event: Event) {
        self.now = now;
        match event {
            Event::Source(event) => self.handle_source(event),
            Event::Batcher(event) => self.handle_batcher(event),
            Event::Committer(event) => self.handle_committer(event),
            Event::Cluster(answer) => self.handle_cluster_answer(answer),
            Event::TopicOpened(opened) => self.opened(*opened),
            Event::ThreadPanicked => self.fail(ConsumerError::Panicked),
            Event::Stop => {
                if !self.is_ending() {
                    tracing::info!("stopping, committing the last batch");
                    self.end(Ok(()));
                }
            }
        }
    }

    /// Takes the effects of all steps since the last call, in their order.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        mem::take(&mut self.effects)
    }

    /// Errors with the reason for which the worker is not ready.
    pub(crate) fn readiness(&self, now: Instant) -> Result<(), String> {
        if self.is_ending() {
            return Err("stopping".to_owned());
        }
        let blockers = self.blockers.readiness().and(self.batches.readiness(now));
        blockers.and(self.topics.held.readiness()).and(self.partitions.readiness())
    }

    const fn is_ending(&self) -> bool {
        !matches!(self.phase, Phase::Running)
    }

    fn send(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Sends a command to all batchers, also to those that are not used.
    fn send_batchers(&mut self, command: impl Fn() -> BatcherCommand) {
        let batchers = 0..self.settings.config.batchers;
        self.effects.extend(batchers.map(|index| Effect::Batcher(index, command())));
    }

    /// Drops all records whose commit was not sent.
    fn reset(&mut self) {
        self.send(Effect::Source(SourceCommand::Hold(self.partitions.all())));
        let shares = self.spread.shares();
        self.send_batchers(|| BatcherCommand::Reset { shares });
        self.batches.reset();
        self.traces.reset(!self.batches.is_idle(), self.now);
        self.spread.reset();
        self.partitions.reset();
        self.resets += 1;
        if let Some(revocation) = &mut self.revocation {
            // These partitions have no records left to commit.
            revocation.is_cut = true;
        }
    }

    /// Loads the positions of all partitions that wait for them, except those of held topics.
    fn load_all(&mut self) {
        for topic in self.partitions.topics_loading() {
            if !self.topics.held.is_waiting(&topic) {
                self.load(&topic, Vec::new());
            }
        }
    }

    fn load_all_positions(&mut self) {
        let topics: Vec<_> = self.topics.routes.keys().cloned().collect();
        for topic in topics {
            self.load(&topic, Vec::new());
        }
    }

    fn load(&mut self, topic: &Arc<str>, starts: Vec<(Partition, Offset)>) {
        let Some(route) = self.topics.routes.get(topic) else { return };
        let recent = route.dedupe.as_ref().map(|rule| RecentRowsRequest {
            wanted: RecentRows {
                table: route.table.version.table.clone(),
                topic: topic.to_string(),
                column: rule.column.clone(),
                span_micros: rule.span_micros,
                limit: self.settings.ids.ids_at_most(),
            },
            partitions: self.partitions.loading(topic),
        });
        let source = route.source.id;
        let resets = self.resets;
        self.send(Effect::Committer(CommitterRequest::Load { source, starts, recent, resets }));
    }

    fn fail(&mut self, error: ConsumerError) {
        self.end(Err(error));
    }

    /// Ends the worker as soon as all records are committed. Only the first result counts.
    fn end(&mut self, result: Result<(), ConsumerError>) {
        if self.is_ending() {
            return;
        }
        self.send(Effect::StopOpening);
        self.send_batchers(|| BatcherCommand::Stop);
        self.batches.request_flush();
        let deadline = self.now + self.settings.config.process.shutdown_timeout;
        self.phase = Phase::Draining(Ending { result, deadline });
    }
}
