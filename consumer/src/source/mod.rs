//! The poll thread: the only thread that calls the consumer client. It waits for nothing but the worker's
//! answer to a revocation.
//!
//! It polls records in batches, labels each run of one partition with the generation in [`Assignment`],
//! and sends it to the batcher of that partition. When the batchers are behind, it pauses the partitions
//! and continues to poll, so that the member stays in its group.

pub(crate) mod assignment;
pub(crate) mod cluster_error;
pub(crate) mod cluster_queries;
mod delivery;
pub(crate) mod event;
mod ffi;
pub(crate) mod group;
pub(crate) mod group_members;
pub(crate) mod in_flight;
pub(crate) mod inspect;
pub(crate) mod kafka_config;
mod name_wait;
pub(crate) mod topic_partition;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ducktide_protocol::failpoint::{self, Failpoint};
use ducktide_protocol::position::Offset;
use ducktide_service::telemetry::LogOnChange;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};

use crate::event::{Event, Events};
use crate::metrics::Metrics;
use crate::source::assignment::{Assignment, Generation, OutOfRangeAction, Verdict};
use crate::source::in_flight::InFlight;
use crate::source::kafka_config::ConsumerConfig;
use cluster_error::refusal_remedy;
use ffi::{NativeConsumer, PolledItem, RebalanceListener};
use name_wait::NameWait;

pub(crate) use delivery::{Delivery, RecordRun};
pub(crate) use event::{ClusterAnswer, SourceEvent};
pub(crate) use ffi::Record;
pub use topic_partition::TopicPartition;

/// Longest time that a poll waits for its batch to fill. It adds latency only at low rates.
const POLL_TIMEOUT: Duration = Duration::from_millis(10);

/// Approximate bytes of one poll: a few hundred microseconds of decoding, so that batchers do not wait
/// long for the next poll.
const POLL_BYTES: usize = 1 << 20;

/// Maximum number of records of one poll, for small records.
const POLL_RECORDS: usize = 4096;

/// Time for which batchers may be behind before partitions are paused. A pause discards librdkafka's
/// queue, which is fetched again later (librdkafka#2052), so short waits must not cause one.
const PAUSE_AFTER: Duration = Duration::from_millis(500);

/// Longest time from the end of a revocation until the group is left.
const LEAVE_LIMIT: Duration = Duration::from_secs(30);

/// A command of the worker.
pub(crate) enum SourceCommand {
    /// Read partitions from these offsets, as these generations.
    Start(Vec<(TopicPartition, Generation, Offset)>),
    /// Drop the records of these partitions until they are started again.
    Hold(Vec<TopicPartition>),
    /// Leave the group and join it again, which makes it rebalance.
    Rejoin,
    /// Commit the lake's positions as offsets of the group, for lag dashboards.
    MirrorOffsets(Vec<(TopicPartition, Offset)>),
    /// Leave the group and end the thread.
    Close,
}

/// Configuration of a member, and its timeouts.
pub(crate) struct JoinConfig {
    pub(crate) client: ConsumerConfig,
    /// Names and patterns of the topics to subscribe to.
    pub(crate) topics: Vec<String>,
    /// Longest time that a revocation waits for the worker.
    pub(crate) revocation_timeout: Duration,
    /// Longest time that a static member waits for its `group.instance.id`.
    pub(crate) name_timeout: Duration,
}

impl JoinConfig {
    fn join(&self, listener: Listener) -> KafkaResult<NativeConsumer> {
        let consumer = NativeConsumer::new(&self.client, Box::new(listener))?;
        consumer.subscribe(&self.topics)?;
        Ok(consumer)
    }
}

/// Handle of the poll thread.
pub(crate) struct Source {
    commands: mpsc::Sender<SourceCommand>,
    thread: JoinHandle<()>,
}

impl Source {
    /// Joins the group and starts the poll thread.
    pub(crate) fn spawn(
        join_config: JoinConfig,
        batchers: Vec<crossbeam_channel::Sender<Delivery>>,
        in_flight: Arc<InFlight>,
        metrics: Arc<Metrics>,
        events: Events,
    ) -> KafkaResult<Self> {
        let assignment = Arc::new(Mutex::new(Assignment::default()));
        let listener = Listener {
            assignment: Arc::clone(&assignment),
            events: events.clone(),
            timeout: join_config.revocation_timeout,
        };
        let consumer = join_config.join(listener.clone())?;
        let (commands, inbox) = mpsc::channel();
        let poller = Poller {
            join_config,
            listener,
            consumer,
            name_wait: None,
            rejoin_by: None,
            assignment,
            inbox,
            batchers,
            in_flight,
            metrics,
            events,
            backlog: VecDeque::new(),
            errors: LogOnChange::default(),
            paused: false,
            average_bytes: 512,
        };
        let thread = thread::Builder::new()
            .name("poll".to_owned())
            .spawn(move || poller.run())
            .expect("the operating system starts a thread");
        Ok(Self { commands, thread })
    }

    pub(crate) fn send(&self, command: SourceCommand) {
        // A poll thread that has ended has sent an event, and needs no more commands.
        let _ = self.commands.send(command);
    }

    pub(crate) fn join(self) {
        drop(self.commands);
        let _ = self.thread.join();
    }

    /// Leaves the group while the worker no longer answers events. Waits for at most `timeout`.
    pub(crate) fn leave(self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        self.send(SourceCommand::Close);
        while !self.thread.is_finished() && Instant::now() < deadline {
            thread::sleep(POLL_TIMEOUT);
        }
    }
}

#[derive(Clone)]
struct Listener {
    assignment: Arc<Mutex<Assignment>>,
    events: Events,
    timeout: Duration,
}

impl RebalanceListener for Listener {
    fn assigned(&self, partitions: Vec<TopicPartition>) {
        lock(&self.assignment).assigned(&partitions);
        self.events.send(Event::Source(SourceEvent::Assigned(partitions)));
    }

    fn revoked(&self, partitions: Vec<TopicPartition>, lost: bool) -> Vec<TopicPartition> {
        let fetched = lock(&self.assignment).hold(&partitions);
        let (done, flushed) = mpsc::sync_channel(1);
        let revoking = SourceEvent::Revoking { partitions: partitions.clone(), lost, done };
        self.events.send(Event::Source(revoking));
        // librdkafka continues to send heartbeats from its own thread. The worker has the same limit; the
        // additional second is for its answer.
        let _ = flushed.recv_timeout(self.timeout + Duration::from_secs(1));
        lock(&self.assignment).revoked(&partitions);
        fetched
    }
}

fn lock(assignment: &Mutex<Assignment>) -> MutexGuard<'_, Assignment> {
    assignment.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Poller {
    join_config: JoinConfig,
    listener: Listener,
    consumer: NativeConsumer,
    /// Set while another member has this one's `group.instance.id`.
    name_wait: Option<NameWait>,
    /// Set while the member leaves the group to join it again: the time after which it does not wait longer.
    rejoin_by: Option<Instant>,
    /// Shared with the listener, which is called from within a poll, on this thread.
    assignment: Arc<Mutex<Assignment>>,
    inbox: mpsc::Receiver<SourceCommand>,
    batchers: Vec<crossbeam_channel::Sender<Delivery>>,
    in_flight: Arc<InFlight>,
    metrics: Arc<Metrics>,
    events: Events,
    /// Deliveries for which the batchers have no room yet.
    backlog: VecDeque<Delivery>,
    /// Suppresses repeated errors of Kafka in the log.
    errors: LogOnChange,
    paused: bool,
    /// Moving average of the bytes of a record.
    average_bytes: usize,
}

impl Poller {
    fn run(mut self) {
        while self.serve_commands() {
            let limit = (POLL_BYTES / self.average_bytes).clamp(1, POLL_RECORDS);
            let polled = self.consumer.poll(POLL_TIMEOUT, limit);
            self.handle_polled(polled);
            self.deliver();
            self.advance_name_wait();
            self.advance_rejoin();
        }
        self.consumer.close();
        self.events.send(Event::Source(SourceEvent::Closed));
    }

    /// Handles the worker's commands. Returns false after the last one.
    fn serve_commands(&mut self) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(SourceCommand::Start(starts)) => self.start(&starts),
                Ok(SourceCommand::Hold(partitions)) => {
                    let fetched = lock(&self.assignment).hold(&partitions);
                    self.consumer.stop_fetching(&fetched);
                    self.drop_backlog(&partitions);
                }
                Ok(SourceCommand::Rejoin) => self.begin_rejoin(),
                Ok(SourceCommand::MirrorOffsets(positions)) => {
                    failpoint::reached(Failpoint::OffsetsMirroring);
                    self.consumer.mirror_offsets(&positions);
                    failpoint::reached(Failpoint::OffsetsMirrored);
                }
                Ok(SourceCommand::Close) | Err(mpsc::TryRecvError::Disconnected) => return false,
                Err(mpsc::TryRecvError::Empty) => return true,
            }
        }
    }

    /// Drops the deliveries of these partitions that wait for the batchers.
    fn drop_backlog(&mut self, partitions: &[TopicPartition]) {
        self.backlog.retain(|delivery| !partitions.contains(delivery.partition()));
    }

    fn start(&mut self, starts: &[(TopicPartition, Generation, Offset)]) {
        let ours: Vec<_> = {
            let mut assignment = lock(&self.assignment);
            let begin = |(partition, generation, start): &&(TopicPartition, Generation, Offset)| {
                assignment.start(partition, *generation, *start)
            };
            starts
                .iter()
                .filter(begin)
                .map(|(partition, _, start)| (partition.clone(), *start))
                .collect()
        };
        self.fetch(&ours);
    }

    fn fetch(&self, starts: &[(TopicPartition, Offset)]) {
        self.consumer.fetch(starts);
        if self.paused {
            let partitions: Vec<_> =
                starts.iter().map(|(partition, _)| partition.clone()).collect();
            self.consumer.pause(&partitions);
        }
    }

    /// Fetches a partition again from the offset that was expected.
    fn fetch_again(&self, partition: TopicPartition, from: Offset) {
        tracing::debug!(%partition, from = from.0, "unexpected offset, fetching again");
        self.consumer.stop_fetching(std::slice::from_ref(&partition));
        lock(&self.assignment).fetched_again(&partition);
        self.fetch(&[(partition, from)]);
    }

    /// Splits polled records into consecutive runs of one partition, and queues those that pass.
    fn handle_polled(&mut self, polled: Vec<PolledItem>) {
        let mut run: Vec<Record> = Vec::new();
        let again = &mut Vec::new();
        for item in polled {
            match item {
                PolledItem::Record(record) => {
                    if run.last().is_some_and(|last| !record.follows(last)) {
                        self.queue_run(std::mem::take(&mut run), again);
                    }
                    run.push(record);
                }
                PolledItem::EndOfPartition(partition, offset) => {
                    self.queue_run(std::mem::take(&mut run), again);
                    self.queue_end(partition, offset, again);
                }
                PolledItem::NameTaken => self.events.send(Event::Source(SourceEvent::NameTaken)),
                PolledItem::NameHeld => self.handle_name_held(),
                PolledItem::Fatal(text) => {
                    self.events.send(Event::Source(SourceEvent::Fatal(text)));
                }
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
        let now = Instant::now();
        let Some(wait) = &mut self.name_wait else {
            self.name_wait = Some(NameWait::new(now));
            self.events.send(Event::Source(SourceEvent::NameHeld));
            return;
        };
        if !wait.refused(now, self.join_config.name_timeout) {
            self.events.send(Event::Source(SourceEvent::NameTaken));
        }
    }

    fn advance_name_wait(&mut self) {
        let Some(wait) = &mut self.name_wait else { return };
        if wait.take_due(Instant::now()) {
            // A client with a fatal error revokes the partitions of its session later.
            let lost = lock(&self.assignment).all();
            if !lost.is_empty() {
                self.listener.revoked(lost, true);
            }
            match self.join_config.join(self.listener.clone()) {
                Ok(consumer) => self.consumer = consumer,
                Err(error) => {
                    self.events.send(Event::Source(SourceEvent::Fatal(error.to_string())));
                }
            }
        } else if wait.is_joining() && self.consumer.is_member() {
            self.name_wait = None;
            self.events.send(Event::Source(SourceEvent::NameReleased));
        }
    }

    fn begin_rejoin(&mut self) {
        if self.rejoin_by.is_none() {
            self.consumer.unsubscribe();
            self.rejoin_by =
                Some(Instant::now() + self.join_config.revocation_timeout + LEAVE_LIMIT);
        }
    }

    /// Joins the group again after the member has left it. Not earlier: librdkafka (2.12.1,
    /// `rd_kafka_cgrp_incr_unassign_done`) sends no `LeaveGroup` if it has a new subscription when the
    /// revocation ends, and the group does not rebalance for a member that joins unchanged.
    fn advance_rejoin(&mut self) {
        let is_due =
            |deadline: &mut Instant| self.consumer.has_left() || *deadline <= Instant::now();
        if self.rejoin_by.take_if(is_due).is_some()
            && let Err(error) = self.consumer.subscribe(&self.join_config.topics)
        {
            // If the client is unusable, it also reports a fatal error.
            tracing::warn!(%error, "group not joined again");
        }
    }

    fn queue_run(&mut self, records: Vec<Record>, again: &mut Vec<(TopicPartition, Offset)>) {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return };
        let partition = first.topic_partition();
        let next = Offset(last.offset().0 + 1);
        let verdict = lock(&self.assignment).judge(&partition, first.offset(), next);
        match verdict {
            Verdict::Drop => {}
            Verdict::FetchAgain(from) => again.push((partition, from)),
            Verdict::Pass { generation, follows } => {
                let bytes = records.iter().map(Record::bytes).sum::<usize>();
                // A weight of one eighth follows a change within a few polls.
                self.average_bytes = (self.average_bytes * 7 + bytes / records.len()) / 8 + 1;
                let client = self.consumer.keep_alive();
                self.backlog.push_back(Delivery::Records(RecordRun {
                    partition,
                    generation,
                    follows,
                    records,
                    bytes,
                    client,
                }));
            }
        }
    }

    fn queue_end(
        &mut self,
        partition: TopicPartition,
        offset: Offset,
        again: &mut Vec<(TopicPartition, Offset)>,
    ) {
        let verdict = lock(&self.assignment).judge(&partition, offset, offset);
        match verdict {
            Verdict::Drop => {}
            Verdict::FetchAgain(from) => again.push((partition, from)),
            Verdict::Pass { generation, follows } => {
                let end = Delivery::EndOfPartition { partition, generation, follows, offset };
                self.backlog.push_back(end);
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
                if let Some(remedy) = refusal_remedy(code) {
                    let refusal = format!("{text}: {remedy}");
                    let topic = partition.map(|partition| partition.topic);
                    self.events.send(Event::Source(SourceEvent::Refused { topic, refusal }));
                } else if self.errors.is_new(&text) {
                    let partition = partition.map(|partition| partition.to_string());
                    tracing::warn!(partition, %code, error = text, "Kafka reported an error");
                }
            }
        }
    }

    fn handle_out_of_range(&self, partition: TopicPartition, text: String) {
        let action = lock(&self.assignment).handle_out_of_range(&partition);
        match action {
            OutOfRangeAction::FetchAgain(from) => self.fetch_again(partition, from),
            OutOfRangeAction::OutOfRange => {
                self.consumer.stop_fetching(std::slice::from_ref(&partition));
                self.events.send(Event::Source(SourceEvent::OutOfRange(partition, text)));
            }
            OutOfRangeAction::Ignore => {}
        }
    }

    /// Sends the backlog to the batchers as far as they have room. Only records that they hold count, so
    /// that a record larger than the limit is sent when they hold nothing else.
    fn deliver(&mut self) {
        let deadline = Instant::now() + PAUSE_AFTER;
        while let Some(delivery) = self.backlog.front() {
            if self.in_flight.is_full() {
                if self.paused || Instant::now() > deadline {
                    self.pause();
                    return;
                }
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            let index = batcher_of(delivery.partition(), self.batchers.len());
            let delivery = self.backlog.pop_front().expect("the front was read above");
            if let Delivery::Records(run) = &delivery {
                self.in_flight.add(run.records.len(), run.bytes);
            }
            // Batchers end only after this thread.
            let _ = self.batchers[index].send(delivery);
        }
        if self.paused && self.in_flight.is_half_empty() {
            self.resume();
        }
    }

    fn pause(&mut self) {
        if !self.paused {
            tracing::debug!("batchers are behind, pausing");
            self.paused = true;
            let reading = lock(&self.assignment).reading();
            self.consumer.pause(&reading);
            self.metrics.reading.paused(reading.len());
        }
    }

    fn resume(&mut self) {
        tracing::debug!("batchers have room again, resuming");
        self.paused = false;
        self.metrics.reading.paused(0);
        self.consumer.resume(&lock(&self.assignment).reading());
    }
}

/// Returns the index of a partition's batcher. It is always the same, which keeps the order of records.
pub(crate) fn batcher_of(partition: &TopicPartition, batchers: usize) -> usize {
    usize::try_from(partition.partition.0).unwrap_or(0) % batchers
}
