//! Simulated Kafka client of one process: what librdkafka fetches, queues and delivers.
//!
//! The state is shared with the world, which plays the threads of librdkafka: it sends fetches to the
//! simulated cluster, adds their answers to the queue, and contacts the group.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::CStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ducktide_protocol::dead_letter::Header;
use ducktide_protocol::position::Offset;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};

use super::draw::Draw;
use super::log::{Fetched, LogRecord, PartitionLog};
use super::member::{Membership, Refusal};
use crate::source::client::{KafkaClient, PolledItem};
use crate::source::record::KafkaRecord;
use crate::source::topic_partition::TopicPartition;

/// Number of queued items of a partition above which no more are fetched.
const QUEUE_LIMIT: usize = 40;

/// Number of records that a faulty answer lacks.
const LOST: usize = 2;

/// A record as the client delivers it.
#[derive(Clone, Debug)]
pub(super) struct SimulatedRecord {
    partition: TopicPartition,
    offset: i64,
    record: Arc<LogRecord>,
}

impl KafkaRecord for SimulatedRecord {
    type KeepAlive = ();

    fn offset(&self) -> Offset {
        Offset(self.offset)
    }

    fn topic_partition(&self) -> TopicPartition {
        self.partition.clone()
    }

    fn timestamp_ms(&self) -> Option<i64> {
        Some(self.record.timestamp_ms)
    }

    fn key(&self) -> Option<&[u8]> {
        None
    }

    fn payload(&self) -> Option<&[u8]> {
        self.record.bytes.as_deref()
    }

    fn headers(&self) -> Vec<Header> {
        Vec::new()
    }

    fn last_header(&self, _: &CStr) -> Option<&[u8]> {
        None
    }

    fn follows(&self, last: &Self) -> bool {
        self.offset == last.offset + 1 && self.partition == last.partition
    }
}

/// A fetch that was sent. Its answer is outdated if the partition is fetched again meanwhile.
#[derive(Clone, Debug)]
pub(super) struct FetchRequest {
    pub(super) partition: TopicPartition,
    pub(super) position: i64,
    version: u64,
}

/// Fault of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FetchFault {
    None,
    /// The first records of the answer are missing. The next fetch from the same position has them.
    LosesFirst,
}

#[derive(Debug)]
struct FetchState {
    version: u64,
    /// Position of the first fetch.
    started: i64,
    /// Position of the next fetch.
    position: i64,
    /// Position after the last delivered item, from which librdkafka fetches after a pause.
    delivered: i64,
    is_paused: bool,
    is_requested: bool,
    /// End of partition that was reported last.
    reported_end: Option<i64>,
    queued: usize,
}

enum Queued {
    Record(SimulatedRecord),
    End(TopicPartition, i64),
    OutOfRange(TopicPartition),
}

impl Queued {
    const fn partition(&self) -> &TopicPartition {
        match self {
            Self::Record(record) => &record.partition,
            Self::End(partition, _) | Self::OutOfRange(partition) => partition,
        }
    }
}

/// Offsets of the group, shared by all clients.
pub(super) type GroupOffsets = Arc<Mutex<BTreeMap<TopicPartition, i64>>>;

/// State of a client.
pub(super) struct ClientState {
    pub(super) membership: Membership,
    fetched: BTreeMap<TopicPartition, FetchState>,
    queue: VecDeque<(u64, Queued)>,
    /// First records of answers whose first records are missing. No other answer begins there: a record that
    /// is missing in two answers counts as a gap of the log.
    lossy: BTreeSet<(TopicPartition, i64)>,
    /// Items of the current poll that precede a rebalance. They are delivered after it.
    polled: Vec<PolledItem<SimulatedRecord>>,
    next_version: u64,
    draw: Draw,
    /// Offsets that the group has for dashboards.
    group_offsets: GroupOffsets,
    /// Probability in percent that another assignment or a pause moves the position of a partition.
    misplaces: u64,
}

impl ClientState {
    pub(super) fn new(
        membership: Membership,
        group_offsets: GroupOffsets,
        draw: Draw,
        misplaces: u64,
    ) -> Self {
        let (fetched, queue, lossy) = (BTreeMap::new(), VecDeque::new(), BTreeSet::new());
        let polled = Vec::new();
        let next_version = 0;
        Self {
            membership,
            fetched,
            queue,
            lossy,
            polled,
            next_version,
            draw,
            group_offsets,
            misplaces,
        }
    }

    /// Returns whether a poll would return or execute something.
    pub(super) fn has_work(&self) -> bool {
        !self.queue.is_empty()
            || !self.polled.is_empty()
            || self.membership.refusal.is_some()
            || self.membership.has_rebalance()
    }

    /// Takes the fetches that are to be sent now.
    pub(super) fn take_requests(&mut self) -> Vec<FetchRequest> {
        let mut requests = Vec::new();
        for (partition, state) in &mut self.fetched {
            if !state.is_paused && !state.is_requested && state.queued < QUEUE_LIMIT {
                state.is_requested = true;
                let (position, version) = (state.position, state.version);
                requests.push(FetchRequest { partition: partition.clone(), position, version });
            }
        }
        requests
    }

    /// Returns whether the brokers answer a request now: a request at the end of a partition waits for a
    /// record, once the end was reported.
    pub(super) fn is_answered(&self, request: &FetchRequest, log: &PartitionLog) -> bool {
        let Some(state) = self.fetched.get(&request.partition) else { return true };
        let (position, stable) = (request.position, log.last_stable());
        state.version != request.version
            || position < stable
            || position > log.end()
            || (position == stable && state.reported_end != Some(stable))
    }

    /// Adds the answer to a fetch to the queue.
    pub(super) fn answered(&mut self, request: &FetchRequest, answer: Fetched, fault: FetchFault) {
        let Some(state) = self.fetched.get_mut(&request.partition) else { return };
        if state.version != request.version {
            return;
        }
        state.is_requested = false;
        let version = state.version;
        let partition = &request.partition;
        let (mut records, next, is_end) = match answer {
            Fetched::OutOfRange => {
                // Not fetched again before the application reacts.
                state.is_requested = true;
                self.queue.push_back((version, Queued::OutOfRange(partition.clone())));
                return;
            }
            Fetched::Records { records, next, is_end } => (records, next, is_end),
        };
        if fault == FetchFault::LosesFirst
            && let Some((first, _)) = records.get(LOST)
            && self.lossy.insert((partition.clone(), *first))
        {
            records.drain(..LOST);
        }
        state.position = next;
        state.queued += records.len();
        for (offset, record) in records {
            let partition = partition.clone();
            let record = SimulatedRecord { partition, offset, record };
            self.queue.push_back((version, Queued::Record(record)));
        }
        if is_end && state.reported_end != Some(next) {
            state.reported_end = Some(next);
            self.queue.push_back((version, Queued::End(partition.clone(), next)));
        }
    }

    /// Restarts fetches from the position after the last delivered item, as a pause does. It is one too
    /// high after an end of partition, which librdkafka counts as a record.
    fn restart(&mut self, partition: &TopicPartition) {
        let is_back = self.draw.chance(20);
        let Some(state) = self.fetched.get_mut(partition) else { return };
        self.next_version += 1;
        state.version = self.next_version;
        let back = if is_back { 2 } else { 0 };
        state.position = (state.delivered - back).max(state.started);
        (state.is_requested, state.reported_end, state.queued) = (false, None, 0);
    }

    /// Restarts fetches of other partitions, as a rebalance in between does.
    fn disturb(&mut self, except: impl Fn(&TopicPartition) -> bool) {
        let others: Vec<_> = self.fetched.keys().filter(|p| !except(p)).cloned().collect();
        for partition in others {
            if self.draw.chance(self.misplaces) {
                self.restart(&partition);
            }
        }
    }

    /// Returns the offset of the first fetch.
    fn start(&self, partition: &TopicPartition, given: i64) -> i64 {
        let offsets = self.group_offsets.lock().unwrap_or_else(PoisonError::into_inner);
        let of_group = offsets.get(partition).copied();
        of_group.filter(|_| mutated!(ProgressReadFromGroup)).unwrap_or(given)
    }

    /// Takes items before a rebalance, as a poll does that calls the callback in between.
    pub(super) fn poll_before_rebalance(&mut self) {
        let limit = self.draw.index(30);
        self.polled = self.poll(limit);
    }

    fn poll(&mut self, limit: usize) -> Vec<PolledItem<SimulatedRecord>> {
        let mut polled = std::mem::take(&mut self.polled);
        if let Some(refusal) = self.membership.refusal.take() {
            polled.push(match refusal {
                Refusal::NameTaken => PolledItem::NameTaken,
                Refusal::NameHeld => PolledItem::NameHeld,
            });
        }
        while polled.len() < limit
            && let Some((version, item)) = self.queue.pop_front()
        {
            let Some(state) = self.fetched.get_mut(item.partition()) else { continue };
            if state.version != version || state.is_paused {
                continue;
            }
            polled.push(match item {
                Queued::Record(record) => {
                    state.queued -= 1;
                    state.delivered = record.offset + 1;
                    PolledItem::Record(record)
                }
                Queued::End(partition, offset) => {
                    state.delivered = offset + 1;
                    PolledItem::EndOfPartition(partition, Offset(offset))
                }
                Queued::OutOfRange(partition) => PolledItem::Error(
                    Some(partition),
                    RDKafkaErrorCode::AutoOffsetReset,
                    "fetch failed due to requested offset not available".to_owned(),
                ),
            });
        }
        polled
    }
}

/// Handle of the poll loop to the state.
#[derive(Clone)]
pub(super) struct SimulatedClient(pub(super) Arc<Mutex<ClientState>>);

impl SimulatedClient {
    pub(super) fn state(&self) -> MutexGuard<'_, ClientState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KafkaClient for SimulatedClient {
    type Record = SimulatedRecord;

    fn subscribe(&mut self, _: &[String]) -> KafkaResult<()> {
        self.state().membership.subscribe();
        Ok(())
    }

    fn unsubscribe(&mut self) {
        self.state().membership.unsubscribe();
    }

    fn is_member(&self) -> bool {
        self.state().membership.was_accepted()
    }

    fn has_left(&self) -> bool {
        self.state().membership.has_left()
    }

    fn poll(&mut self, _: Duration, limit: usize) -> Vec<PolledItem<SimulatedRecord>> {
        self.state().poll(limit)
    }

    fn fetch(&mut self, starts: &[(TopicPartition, Offset)]) {
        let mut state = self.state();
        for (partition, Offset(position)) in starts {
            let position = state.start(partition, *position);
            state.next_version += 1;
            let fetch = FetchState {
                version: state.next_version,
                started: position,
                position,
                delivered: position,
                is_paused: false,
                is_requested: false,
                reported_end: None,
                queued: 0,
            };
            state.fetched.insert(partition.clone(), fetch);
        }
        state.disturb(|partition| starts.iter().any(|(started, _)| started == partition));
    }

    fn stop_fetching(&mut self, partitions: &[TopicPartition]) {
        let mut state = self.state();
        for partition in partitions {
            state.fetched.remove(partition);
        }
        state.queue.retain(|(_, item)| !partitions.contains(item.partition()));
        state.disturb(|_| false);
    }

    fn pause(&mut self, partitions: &[TopicPartition]) {
        let mut state = self.state();
        for partition in partitions {
            if let Some(fetch) = state.fetched.get_mut(partition) {
                fetch.is_paused = true;
            }
        }
    }

    fn resume(&mut self, partitions: &[TopicPartition]) {
        let mut state = self.state();
        for partition in partitions {
            if let Some(fetch) = state.fetched.get_mut(partition) {
                fetch.is_paused = false;
                state.restart(partition);
            }
        }
    }

    fn mirror_offsets(&mut self, positions: &[(TopicPartition, Offset)]) {
        let state = self.state();
        let mut offsets = state.group_offsets.lock().unwrap_or_else(PoisonError::into_inner);
        offsets.extend(positions.iter().map(|(partition, at)| (partition.clone(), at.0)));
    }

    /// The world leaves the group, after the revocation that belongs to a close.
    fn close(&mut self) {}

    fn keep_alive(&self) {}
}
