//! The poll loop, without a thread and without a wait of its own.
//!
//! It polls records in batches, labels each run of one partition with the generation in its assignment,
//! and hands it over for the batcher of that partition. When the batchers are behind, it pauses the
//! partitions and continues to poll, so that the member stays in its group.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ducktide_kafka::remedy;
use ducktide_protocol::failpoint::{self, Failpoint};
use ducktide_protocol::position::Offset;
use ducktide_service::telemetry::LogOnChange;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};

use super::assignment::{OutOfRangeAction, Verdict};
use super::client::{KafkaClient, PolledItem};
use super::command::{PartitionStart, SourceCommand};
use super::delivery::{Delivery, RecordRun};
use super::event::SourceEvent;
use super::in_flight::InFlight;
use super::name_wait::NameWait;
use super::record::KafkaRecord;
use super::shared_assignment::SharedAssignment;
use super::topic_partition::TopicPartition;
use crate::clock::Clock;
use crate::metrics::Metrics;

/// Longest time between two polls of a client without records. The client signals new records and events;
/// this limits the delay of one that is signalled while others remain in its queue.
const IDLE_LIMIT: Duration = Duration::from_millis(100);

/// Time between two checks of what the client does not signal: the end of a pause, of a wait for a name, or
/// of a membership.
pub(super) const TIMER_CHECK: Duration = Duration::from_millis(10);

/// Approximate bytes of one poll: a few hundred microseconds of decoding, so that batchers do not wait
/// long for the next poll.
const POLL_BYTES: usize = 1 << 20;

/// Maximum number of records of one poll, for small records.
const POLL_RECORDS: usize = 4096;

/// Size of a record before the first one is polled, bytes.
const FIRST_AVERAGE_BYTES: usize = 512;

/// Time for which batchers may be behind before partitions are paused. A pause discards librdkafka's
/// queue, which is fetched again later (librdkafka#2052), so short waits must not cause one.
const PAUSE_AFTER: Duration = Duration::from_millis(500);

/// Time between two checks of batchers that are behind.
const ROOM_CHECK: Duration = Duration::from_millis(1);

/// Longest time from the end of a revocation until the group is left.
const LEAVE_LIMIT: Duration = Duration::from_secs(30);

/// Configuration of a poll loop, and its timeouts.
#[derive(Clone, Debug)]
pub(crate) struct PollLoopConfig {
    /// Names and patterns of the topics to subscribe to.
    pub(crate) topics: Vec<String>,
    /// Longest time that a revocation waits for the worker.
    pub(crate) revocation_timeout: Duration,
    /// Longest time that a static member waits for its `group.instance.id`.
    pub(crate) name_timeout: Duration,
}

/// Function that creates a client and subscribes it.
pub(crate) type Join<C> = Box<dyn FnMut() -> KafkaResult<C> + Send>;

/// The step of the driver after a turn of the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Take the next turn.
    Continue,
    /// The client has no records: take the next turn when it has, or after this time.
    Idle(Duration),
    /// Batchers are behind: take the next turn after this time.
    Wait(Duration),
    /// The client is to be replaced: revoke these partitions as lost, then call
    /// [`PollLoop::join_again`].
    Replace(Vec<TopicPartition>),
    /// The worker has closed the source: call [`PollLoop::close`], and take no more turns.
    Close,
}

/// Output of the loop, which the driver passes on after every call of it.
pub(crate) struct Outbox<R: KafkaRecord> {
    /// Events for the worker.
    pub(crate) events: Vec<SourceEvent>,
    /// Deliveries, each with the index of its batcher.
    pub(crate) deliveries: Vec<(usize, Delivery<R>)>,
}

/// Flow of records to the batchers.
///
/// ```text
///          batchers full           for PAUSE_AFTER
/// Flowing ───────────────▶ Behind ─────────────────▶ Paused
///    ▲  ▲                    │                         │
///    │  └── backlog sent ────┘                         │
///    └────────────── backlog sent, half empty ─────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// Records are polled and delivered.
    Flowing,
    /// The backlog waits for room, and nothing is polled: further records would not be bounded.
    Behind { since: Instant },
    /// The partitions are paused. Polls continue, but return no records.
    Paused,
}

/// The poll loop. One call of [`Self::turn`] is one turn.
pub(crate) struct PollLoop<C: KafkaClient> {
    config: PollLoopConfig,
    client: C,
    join: Join<C>,
    clock: Clock,
    /// Set while another member has this one's `group.instance.id`.
    name_wait: Option<NameWait>,
    /// Set while the member leaves the group to join it again: the time after which it does not wait longer.
    rejoin_by: Option<Instant>,
    assignment: SharedAssignment,
    in_flight: Arc<InFlight>,
    metrics: Arc<Metrics>,
    outbox: Outbox<C::Record>,
    /// Deliveries for which the batchers have no room yet, each with the index of its batcher.
    backlog: VecDeque<(usize, Delivery<C::Record>)>,
    /// Suppresses repeated errors of Kafka in the log.
    errors: LogOnChange,
    flow: Flow,
    is_closing: bool,
    /// Moving average of the bytes of a record.
    average_bytes: usize,
}

impl<C: KafkaClient> PollLoop<C> {
    /// Joins the group. `assignment` is shared with whatever reports the rebalances of the client.
    pub(crate) fn new(
        config: PollLoopConfig,
        mut join: Join<C>,
        assignment: SharedAssignment,
        in_flight: Arc<InFlight>,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> KafkaResult<Self> {
        Ok(Self {
            client: join()?,
            config,
            join,
            clock,
            name_wait: None,
            rejoin_by: None,
            assignment,
            in_flight,
            metrics,
            outbox: Outbox { events: Vec::new(), deliveries: Vec::new() },
            backlog: VecDeque::new(),
            errors: LogOnChange::default(),
            flow: Flow::Flowing,
            is_closing: false,
            average_bytes: FIRST_AVERAGE_BYTES,
        })
    }

    pub(crate) const fn outbox(&mut self) -> &mut Outbox<C::Record> {
        &mut self.outbox
    }

    /// Returns the client, for the driver's part of a rebalance.
    #[cfg(test)]
    pub(crate) const fn client(&mut self) -> &mut C {
        &mut self.client
    }

    /// Handles a command of the worker.
    pub(crate) fn handle_command(&mut self, command: SourceCommand) {
        match command {
            SourceCommand::Start(starts) => self.start(&starts),
            SourceCommand::Hold(partitions) => {
                let fetched = self.assignment.lock().hold(&partitions);
                self.client.stop_fetching(&fetched);
                self.backlog.retain(|(_, delivery)| !partitions.contains(delivery.partition()));
            }
            SourceCommand::Rejoin => self.begin_rejoin(),
            SourceCommand::MirrorOffsets(positions) => {
                failpoint::reached(Failpoint::OffsetsMirroring);
                self.client.mirror_offsets(&positions);
                failpoint::reached(Failpoint::OffsetsMirrored);
            }
            SourceCommand::Close => self.is_closing = true,
        }
    }

    /// Takes one turn: polls, and delivers as far as the batchers have room.
    pub(crate) fn turn(&mut self) -> Turn {
        if self.is_closing {
            return Turn::Close;
        }
        let mut is_idle = false;
        if !matches!(self.flow, Flow::Behind { .. }) {
            let limit = (POLL_BYTES / self.average_bytes).clamp(1, POLL_RECORDS);
            let polled = self.client.poll(Duration::ZERO, limit);
            is_idle = polled.is_empty();
            self.handle_polled(polled);
        }
        self.deliver();
        self.advance_rejoin();
        if let Some(lost) = self.advance_name_wait() {
            return Turn::Replace(lost);
        }
        match self.flow {
            Flow::Behind { .. } => Turn::Wait(ROOM_CHECK),
            Flow::Flowing | Flow::Paused if !is_idle => Turn::Continue,
            Flow::Flowing if self.name_wait.is_none() && self.rejoin_by.is_none() => {
                Turn::Idle(IDLE_LIMIT)
            }
            Flow::Flowing | Flow::Paused => Turn::Idle(TIMER_CHECK),
        }
    }

    /// Leaves the group.
    pub(crate) fn close(&mut self) {
        self.client.close();
        self.send(SourceEvent::Closed);
    }

    /// Replaces the client by one that joins the group.
    pub(crate) fn join_again(&mut self) {
        match (self.join)() {
            Ok(client) => self.client = client,
            Err(error) => self.send(SourceEvent::Fatal(error.to_string())),
        }
    }

    fn send(&mut self, event: SourceEvent) {
        self.outbox.events.push(event);
    }

    fn start(&mut self, starts: &[PartitionStart]) {
        let mut assignment = self.assignment.lock();
        let outdated = assignment.hold_outdated(starts);
        let ours = starts.iter().filter(|start| assignment.start(start));
        let ours: Vec<_> = ours.map(|start| (start.partition.clone(), start.offset)).collect();
        drop(assignment);
        if !outdated.is_empty() {
            self.client.stop_fetching(&outdated);
        }
        self.fetch(&ours);
    }

    fn fetch(&mut self, starts: &[(TopicPartition, Offset)]) {
        self.client.fetch(starts);
        if self.flow == Flow::Paused {
            let partitions: Vec<_> =
                starts.iter().map(|(partition, _)| partition.clone()).collect();
            self.client.pause(&partitions);
        }
    }

    /// Fetches a partition again from the offset that was expected.
    fn fetch_again(&mut self, partition: TopicPartition, from: Offset) {
        tracing::debug!(%partition, from = from.0, "unexpected offset, fetching again");
        self.client.stop_fetching(std::slice::from_ref(&partition));
        self.assignment.lock().fetched_again(&partition);
        self.fetch(&[(partition, from)]);
    }

    /// Splits polled records into consecutive runs of one partition, and queues those that pass.
    fn handle_polled(&mut self, polled: Vec<PolledItem<C::Record>>) {
        let mut run: Vec<C::Record> = Vec::new();
        let again = &mut Vec::new();
        for item in polled {
            match item {
                PolledItem::Record(record) => {
                    if run.last().is_some_and(|last| !record.follows(last)) {
                        self.queue_run(mem::take(&mut run), again);
                    }
                    run.push(record);
                }
                PolledItem::EndOfPartition(partition, offset) => {
                    self.queue_run(mem::take(&mut run), again);
                    self.queue_end(partition, offset, again);
                }
                PolledItem::NameTaken => self.send(SourceEvent::NameTaken),
                PolledItem::NameHeld => self.handle_name_held(),
                PolledItem::Fatal(text) => self.send(SourceEvent::Fatal(text)),
                PolledItem::Error(partition, code, text) => {
                    self.handle_error(partition, code, text);
                }
            }
        }
        self.queue_run(run, again);
        // Only now, because all items of this poll belong to the previous fetch.
        for (partition, from) in again.drain(..) {
            self.fetch_again(partition, from);
        }
    }

    /// Starts or continues the wait for the id. The refusal is permanent for a client, so a new one joins.
    fn handle_name_held(&mut self) {
        let now = self.clock.now();
        let Some(wait) = &mut self.name_wait else {
            self.name_wait = Some(NameWait::new(now));
            return self.send(SourceEvent::NameHeld);
        };
        if !wait.refused(now, self.config.name_timeout) {
            self.send(SourceEvent::NameTaken);
        }
    }

    /// Returns the partitions to give up when the next client is to join. A client with a fatal error
    /// would revoke the partitions of its session later.
    fn advance_name_wait(&mut self) -> Option<Vec<TopicPartition>> {
        let wait = self.name_wait.as_mut()?;
        if wait.take_due(self.clock.now()) {
            return Some(self.assignment.lock().all());
        }
        if wait.is_joining() && self.client.is_member() {
            self.name_wait = None;
            self.send(SourceEvent::NameReleased);
        }
        None
    }

    fn begin_rejoin(&mut self) {
        if self.rejoin_by.is_none() {
            self.client.unsubscribe();
            let limit = self.config.revocation_timeout + LEAVE_LIMIT;
            self.rejoin_by = Some(self.clock.now() + limit);
        }
    }

    /// Joins the group again after the member has left it. Not earlier: librdkafka (2.12.1,
    /// `rd_kafka_cgrp_incr_unassign_done`) sends no `LeaveGroup` if it has a new subscription when the
    /// revocation ends, and the group does not rebalance for a member that joins unchanged.
    fn advance_rejoin(&mut self) {
        let (client, clock) = (&self.client, &self.clock);
        let is_due = |deadline: &mut Instant| client.has_left() || *deadline <= clock.now();
        if self.rejoin_by.take_if(is_due).is_some()
            && let Err(error) = self.client.subscribe(&self.config.topics)
        {
            // If the client is unusable, it also reports a fatal error.
            tracing::warn!(%error, "group not joined again");
        }
    }

    fn queue_run(&mut self, records: Vec<C::Record>, again: &mut Vec<(TopicPartition, Offset)>) {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return };
        let partition = first.topic_partition();
        let next = Offset(last.offset().0 + 1);
        let verdict = self.assignment.lock().judge(&partition, first.offset(), next);
        match verdict {
            Verdict::Drop => {}
            Verdict::FetchAgain(from) => again.push((partition, from)),
            Verdict::Pass { batcher, generation, follows } => {
                let keep_alive = self.client.keep_alive();
                let run = RecordRun::new(partition, generation, follows, records, keep_alive);
                // A weight of one eighth follows a change within a few polls.
                let average = run.bytes / run.records.len();
                self.average_bytes = (self.average_bytes * 7 + average) / 8 + 1;
                self.backlog.push_back((batcher, Delivery::Records(run)));
            }
        }
    }

    fn queue_end(
        &mut self,
        partition: TopicPartition,
        offset: Offset,
        again: &mut Vec<(TopicPartition, Offset)>,
    ) {
        let verdict = self.assignment.lock().judge(&partition, offset, offset);
        match verdict {
            Verdict::Drop => {}
            Verdict::FetchAgain(from) => again.push((partition, from)),
            Verdict::Pass { batcher, generation, follows } => {
                let end = Delivery::EndOfPartition { partition, generation, follows, offset };
                self.backlog.push_back((batcher, end));
            }
        }
    }

    fn handle_error(
        &mut self,
        partition: Option<TopicPartition>,
        code: RDKafkaErrorCode,
        text: String,
    ) {
        use RDKafkaErrorCode::{AutoOffsetReset, OffsetOutOfRange};
        match (partition, code) {
            (Some(partition), AutoOffsetReset | OffsetOutOfRange) => {
                self.handle_out_of_range(partition, text);
            }
            (partition, code) => {
                if let Some(remedy) = remedy::of_code(code) {
                    let refusal = format!("{text}: {remedy}");
                    let topic = partition.map(|partition| partition.topic);
                    self.send(SourceEvent::Refused { topic, refusal });
                } else if self.errors.is_new(&text) {
                    let partition = partition.map(|partition| partition.to_string());
                    tracing::warn!(partition, %code, error = text, "Kafka reported an error");
                }
            }
        }
    }

    fn handle_out_of_range(&mut self, partition: TopicPartition, text: String) {
        let action = self.assignment.lock().handle_out_of_range(&partition);
        match action {
            OutOfRangeAction::FetchAgain(from) => self.fetch_again(partition, from),
            OutOfRangeAction::OutOfRange => {
                self.client.stop_fetching(std::slice::from_ref(&partition));
                self.send(SourceEvent::OutOfRange(partition, text));
            }
            OutOfRangeAction::Ignore => {}
        }
    }

    /// Delivers the backlog as far as the batchers have room. Only records that they hold count, so
    /// that a record larger than the limit is delivered when they hold nothing else.
    fn deliver(&mut self) {
        while !self.in_flight.is_full()
            && let Some((batcher, delivery)) = self.backlog.pop_front()
        {
            if let Delivery::Records(run) = &delivery {
                self.in_flight.add(run.records.len(), run.bytes);
            }
            self.outbox.deliveries.push((batcher, delivery));
        }
        let now = self.clock.now();
        match self.flow {
            Flow::Flowing if !self.backlog.is_empty() => self.flow = Flow::Behind { since: now },
            Flow::Behind { .. } if self.backlog.is_empty() => self.flow = Flow::Flowing,
            Flow::Behind { since } if now - since > PAUSE_AFTER => self.pause(),
            Flow::Paused if self.backlog.is_empty() && self.in_flight.is_half_empty() => {
                self.resume();
            }
            Flow::Flowing | Flow::Behind { .. } | Flow::Paused => {}
        }
    }

    fn pause(&mut self) {
        tracing::debug!("batchers are behind, pausing");
        self.flow = Flow::Paused;
        let reading = self.assignment.lock().reading();
        self.client.pause(&reading);
        self.metrics.reading.paused(reading.len());
    }

    fn resume(&mut self) {
        tracing::debug!("batchers have room again, resuming");
        self.flow = Flow::Flowing;
        self.metrics.reading.paused(0);
        let reading = self.assignment.lock().reading();
        self.client.resume(&reading);
    }
}

#[cfg(test)]
#[path = "poll_loop_tests.rs"]
mod tests;
