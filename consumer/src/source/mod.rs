//! The poll thread: the only one that speaks to the group, and it never waits for anything else.
//!
//! It polls records in batches, gives each run of one partition the generation that the
//! [`Assignment`] says, and hands it to the batcher of that partition. When the batchers are behind,
//! it pauses the partitions and polls on, so that the member stays in its group.

pub(crate) mod assignment;
pub(crate) mod cluster_error;
pub(crate) mod cluster_queries;
mod delivery;
mod event;
mod ffi;
pub(crate) mod group;
pub(crate) mod group_members;
pub(crate) mod in_flight;
pub(crate) mod inspect;
pub(crate) mod kafka_config;
mod name_wait;
mod topic_partition;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ducktide_protocol::failpoint::{self, Failpoint};
use ducktide_service::telemetry::Trouble;
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

/// How long a poll waits for its batch to fill up: latency at a trickle, and not reached in a flood.
const POLL_TIMEOUT: Duration = Duration::from_millis(10);

/// Bytes that one poll takes out of librdkafka's queue, about: a few hundred microseconds of
/// decoding, so that batchers never wait long for the next one.
const POLL_BYTES: usize = 1 << 20;

/// The most records of one poll; small records come near it.
const POLL_RECORDS: usize = 4096;

/// How long batchers may be behind before partitions are paused. Pausing throws librdkafka's queue
/// away, which is then fetched again (librdkafka#2052), so an ordinary moment's wait must not do it.
const PAUSE_AFTER: Duration = Duration::from_millis(500);

/// Longest time that leaving the group takes after the revocation of its partitions.
const LEAVE_LIMIT: Duration = Duration::from_secs(30);

/// What the worker tells the poll thread.
pub(crate) enum SourceCommand {
    /// Read from here on, as this generation.
    Start(Vec<(TopicPartition, Generation, i64)>),
    /// Let no record of these through until they are started again.
    Hold(Vec<TopicPartition>),
    /// Leave the group and join it again.
    Rejoin,
    /// Show the group where the lake stands.
    MirrorOffsets(Vec<(TopicPartition, i64)>),
    /// Leave the group and end.
    Close,
}

/// How a member joins, and how long it waits for the worker or its name.
pub(crate) struct JoinConfig {
    pub(crate) client: ConsumerConfig,
    /// Topics to subscribe to, names and patterns.
    pub(crate) topics: Vec<String>,
    /// Longest time that a revocation waits for the worker.
    pub(crate) revocation_timeout: Duration,
    /// Longest time that a static member waits for its name.
    pub(crate) name_timeout: Duration,
}

impl JoinConfig {
    fn join(&self, listener: Listener) -> KafkaResult<NativeConsumer> {
        let consumer = NativeConsumer::new(&self.client, Box::new(listener))?;
        consumer.subscribe(&self.topics)?;
        Ok(consumer)
    }
}

/// The worker's end of the poll thread.
pub(crate) struct Source {
    commands: mpsc::Sender<SourceCommand>,
    thread: JoinHandle<()>,
}

impl Source {
    /// Joins the group and begins to poll.
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
            errors: Trouble::default(),
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
        // A poll thread that ended has said so by an event; what it is told then is of no account.
        let _ = self.commands.send(command);
    }

    pub(crate) fn join(self) {
        drop(self.commands);
        let _ = self.thread.join();
    }

    /// Leaves the group without the worker, which answers no event any more, and waits for that as long
    /// as `timeout`.
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
        // Heartbeats go on in librdkafka's own thread. The worker has the same limit; the second
        // more here is for its answer.
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
    /// While another member has this one's name.
    name_wait: Option<NameWait>,
    /// While the member leaves the group to join it again: when it does so even if it has not left.
    rejoin_by: Option<Instant>,
    /// Shared with the listener, which runs inside a poll on this same thread.
    assignment: Arc<Mutex<Assignment>>,
    inbox: mpsc::Receiver<SourceCommand>,
    batchers: Vec<crossbeam_channel::Sender<Delivery>>,
    in_flight: Arc<InFlight>,
    metrics: Arc<Metrics>,
    events: Events,
    /// Deliveries that the batchers have no room for yet.
    backlog: VecDeque<Delivery>,
    /// Errors of Kafka that are repeated are logged once.
    errors: Trouble,
    paused: bool,
    /// A running average of a record's bytes.
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

    /// Does what the worker wants; false when it wants an end.
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

    /// Drops what of these partitions waits for the batchers.
    fn drop_backlog(&mut self, partitions: &[TopicPartition]) {
        self.backlog.retain(|delivery| !partitions.contains(delivery.partition()));
    }

    fn start(&mut self, starts: &[(TopicPartition, Generation, i64)]) {
        let ours: Vec<_> = {
            let mut assignment = lock(&self.assignment);
            let begin = |(partition, generation, start): &&(TopicPartition, Generation, i64)| {
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

    fn fetch(&self, starts: &[(TopicPartition, i64)]) {
        self.consumer.fetch(starts);
        if self.paused {
            let partitions: Vec<_> =
                starts.iter().map(|(partition, _)| partition.clone()).collect();
            self.consumer.pause(&partitions);
        }
    }

    /// Fetches a partition again from where its records should have gone on.
    fn fetch_again(&self, partition: TopicPartition, from: i64) {
        tracing::debug!(%partition, from, "fetching again to be sure");
        self.consumer.stop_fetching(std::slice::from_ref(&partition));
        lock(&self.assignment).fetched_again(&partition);
        self.fetch(&[(partition, from)]);
    }

    /// Splits what was polled into runs of one partition without a gap, and queues those that count.
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
                    self.events.send(Event::Source(SourceEvent::Fatal(text)))
                }
                PolledItem::Error(partition, code, text) => {
                    self.handle_error(partition, code, text)
                }
            }
        }
        self.queue_run(run, again);
        // Only now: what came in the same poll is of the fetch before.
        for (partition, from) in again.drain(..) {
            self.fetch_again(partition, from);
        }
    }

    /// A client that was refused its name stays so: a new one has to join.
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
            // A client with a fatal error revokes what an earlier session had, but at its own time.
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

    /// Joins the group again once it is left. Not earlier: librdkafka (2.12.1,
    /// `rd_kafka_cgrp_incr_unassign_done`) sends no LeaveGroup if it has a new subscription when the
    /// revocation ends, and the group does not rebalance for a member that joins unchanged.
    fn advance_rejoin(&mut self) {
        let is_due =
            |deadline: &mut Instant| self.consumer.has_left() || *deadline <= Instant::now();
        if self.rejoin_by.take_if(is_due).is_some()
            && let Err(error) = self.consumer.subscribe(&self.join_config.topics)
        {
            // A client that can never join again reports that as a fatal error.
            tracing::warn!(%error, "cannot join the group again");
        }
    }

    fn queue_run(&mut self, records: Vec<Record>, again: &mut Vec<(TopicPartition, i64)>) {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return };
        let partition = first.topic_partition();
        let next = last.offset() + 1;
        let verdict = lock(&self.assignment).judge(&partition, first.offset(), next);
        match verdict {
            Verdict::Drop => {}
            Verdict::FetchAgain(from) => again.push((partition, from)),
            Verdict::Pass { generation, follows } => {
                let bytes = records.iter().map(Record::bytes).sum::<usize>();
                // An eighth of the newest run's average: follows a change within a few polls.
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
        offset: i64,
        again: &mut Vec<(TopicPartition, i64)>,
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
                self.handle_out_of_range(partition, text)
            }
            (partition, code) => {
                if let Some(remedy) = refusal_remedy(code) {
                    let refusal = format!("{text}: {remedy}");
                    let topic = partition.map(|partition| partition.topic);
                    self.events.send(Event::Source(SourceEvent::Refused { topic, refusal }));
                } else if self.errors.is_news(&text) {
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

    /// Hands the backlog over, as far as there is room. What batchers have counts, and the backlog does
    /// not: a record that is larger than all the room there is goes when they have nothing else.
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
            let delivery = self.backlog.pop_front().expect("looked at above");
            if let Delivery::Records(run) = &delivery {
                self.in_flight.add(run.records.len(), run.bytes);
            }
            // Batchers end only after this thread does.
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

/// A partition always goes to the same batcher, which keeps its order.
pub(crate) fn batcher_of(partition: &TopicPartition, batchers: usize) -> usize {
    usize::try_from(partition.partition.0).unwrap_or(0) % batchers
}
