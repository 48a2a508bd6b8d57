//! The poll loop with a client of prepared answers and a clock that is moved by the tests.

use std::sync::Mutex;

use ducktide_protocol::position::Partition;
use prometheus_client::registry::Registry;
use rdkafka::error::KafkaError;

use super::*;
use crate::source::assignment::Generation;
use crate::source::memory_record::MemoryRecord;

/// Call of the client other than a poll, with the numbers of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Subscribe,
    Unsubscribe,
    Fetch(Vec<(i32, i64)>),
    StopFetching(Vec<i32>),
    Pause(Vec<i32>),
    Resume(Vec<i32>),
    MirrorOffsets(Vec<(i32, i64)>),
    Close,
}

/// Client whose polls return prepared items, and nothing afterwards.
#[derive(Default)]
struct PreparedClient {
    polls: VecDeque<Vec<PolledItem<MemoryRecord>>>,
    /// Limits of the polls.
    limits: Vec<usize>,
    calls: Vec<Call>,
    is_member: bool,
    has_left: bool,
}

fn numbers(partitions: &[TopicPartition]) -> Vec<i32> {
    partitions.iter().map(|partition| partition.partition.0).collect()
}

fn positions(starts: &[(TopicPartition, Offset)]) -> Vec<(i32, i64)> {
    starts.iter().map(|(partition, offset)| (partition.partition.0, offset.0)).collect()
}

impl KafkaClient for PreparedClient {
    type Record = MemoryRecord;

    fn subscribe(&mut self, _: &[String]) -> KafkaResult<()> {
        self.calls.push(Call::Subscribe);
        Ok(())
    }

    fn unsubscribe(&mut self) {
        self.calls.push(Call::Unsubscribe);
    }

    fn is_member(&self) -> bool {
        self.is_member
    }

    fn has_left(&self) -> bool {
        self.has_left
    }

    fn poll(&mut self, _: Duration, limit: usize) -> Vec<PolledItem<MemoryRecord>> {
        self.limits.push(limit);
        self.polls.pop_front().unwrap_or_default()
    }

    fn fetch(&mut self, starts: &[(TopicPartition, Offset)]) {
        self.calls.push(Call::Fetch(positions(starts)));
    }

    fn stop_fetching(&mut self, partitions: &[TopicPartition]) {
        self.calls.push(Call::StopFetching(numbers(partitions)));
    }

    fn pause(&mut self, partitions: &[TopicPartition]) {
        self.calls.push(Call::Pause(numbers(partitions)));
    }

    fn resume(&mut self, partitions: &[TopicPartition]) {
        self.calls.push(Call::Resume(numbers(partitions)));
    }

    fn mirror_offsets(&mut self, offsets: &[(TopicPartition, Offset)]) {
        self.calls.push(Call::MirrorOffsets(positions(offsets)));
    }

    fn close(&mut self) {
        self.calls.push(Call::Close);
    }

    fn keep_alive(&self) {}
}

const TOPIC: &str = "events";

/// Bytes of a record in these tests.
const CONTENT: usize = 1000;
const RECORD_BYTES: usize = CONTENT + crate::source::record::RECORD_OVERHEAD;

/// Maximum bytes in flight: the loop delivers until they are exceeded.
const IN_FLIGHT: usize = 10 * RECORD_BYTES;

const NAME_TIMEOUT: Duration = Duration::from_mins(1);
const REVOCATION_TIMEOUT: Duration = Duration::from_secs(20);

fn partition(number: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, number)
}

fn records(number: i32, offsets: std::ops::Range<i64>) -> Vec<PolledItem<MemoryRecord>> {
    let payload = [7; CONTENT];
    let record = |offset| MemoryRecord::new(&partition(number), offset, Some(&payload));
    offsets.map(|offset| PolledItem::Record(record(offset))).collect()
}

fn end(number: i32, offset: i64) -> PolledItem<MemoryRecord> {
    PolledItem::EndOfPartition(partition(number), Offset(offset))
}

/// Delivery in short: batcher, partition, end of the previous one, offsets.
type Delivered = (usize, i32, i64, std::ops::Range<i64>);

struct Fixture {
    poll_loop: PollLoop<PreparedClient>,
    assignment: SharedAssignment,
    in_flight: Arc<InFlight>,
    clock: Clock,
    /// Clients for the next joins.
    next: Arc<Mutex<VecDeque<PreparedClient>>>,
}

impl Fixture {
    /// Creates a loop that reads these partitions from their offsets, as generation 1.
    fn reading(starts: &[(i32, i64)]) -> Self {
        let clock = Clock::manual();
        let next = Arc::new(Mutex::new(VecDeque::from([PreparedClient::default()])));
        let clients = Arc::clone(&next);
        let join = Box::new(move || {
            let client = clients.lock().unwrap().pop_front();
            client.ok_or_else(|| KafkaError::ClientCreation("no client".to_owned()))
        });
        let config = PollLoopConfig {
            topics: vec![TOPIC.to_owned()],
            revocation_timeout: REVOCATION_TIMEOUT,
            name_timeout: NAME_TIMEOUT,
        };
        let (assignment, in_flight) =
            (SharedAssignment::default(), Arc::new(InFlight::new(IN_FLIGHT)));
        let metrics = Arc::new(Metrics::register(&mut Registry::default(), &clock));
        let (shared, flight) = (assignment.clone(), Arc::clone(&in_flight));
        let poll_loop = PollLoop::new(config, join, shared, flight, metrics, clock.clone());
        let poll_loop = poll_loop.unwrap();
        let mut fixture = Self { poll_loop, assignment, in_flight, clock, next };
        fixture.assignment.assigned(&starts.iter().map(|(n, _)| partition(*n)).collect::<Vec<_>>());
        fixture.start(1, starts);
        fixture.calls();
        fixture
    }

    fn start(&mut self, generation: u64, starts: &[(i32, i64)]) {
        let start = |&(number, offset): &(i32, i64)| PartitionStart {
            partition: partition(number),
            generation: Generation(generation),
            offset: Offset(offset),
            batcher: usize::from(number % 2 == 1),
        };
        let starts = starts.iter().map(start).collect();
        self.poll_loop.handle_command(SourceCommand::Start(starts));
    }

    /// Takes a turn in which the client returns these items.
    fn turn_with(&mut self, items: Vec<PolledItem<MemoryRecord>>) -> Turn {
        self.poll_loop.client().polls.push_back(items);
        self.poll_loop.turn()
    }

    fn calls(&mut self) -> Vec<Call> {
        mem::take(&mut self.poll_loop.client().calls)
    }

    fn polls(&mut self) -> usize {
        self.poll_loop.client().limits.len()
    }

    fn deliveries(&mut self) -> Vec<(usize, Delivery<MemoryRecord>)> {
        mem::take(&mut self.poll_loop.outbox().deliveries)
    }

    fn delivered(&mut self) -> Vec<Delivered> {
        let short = |(batcher, delivery): (usize, Delivery<MemoryRecord>)| match delivery {
            Delivery::Records(run) => {
                let Partition(number) = run.partition.partition;
                let first = run.records[0].offset.0;
                (batcher, number, run.follows.0, first..run.next().0)
            }
            Delivery::EndOfPartition { partition, follows, offset, .. } => {
                (batcher, partition.partition.0, follows.0, offset.0..offset.0)
            }
        };
        self.deliveries().into_iter().map(short).collect()
    }

    fn events(&mut self) -> Vec<SourceEvent> {
        mem::take(&mut self.poll_loop.outbox().events)
    }

    /// Fills the batchers, so that one more run waits. Returns after the turn in which it was polled.
    fn fill(&mut self) {
        assert_eq!(self.turn_with(records(0, 0..11)), Turn::Continue);
        assert!(self.in_flight.is_full());
        assert_eq!(self.turn_with(records(0, 11..12)), Turn::Wait(ROOM_CHECK));
        assert_eq!(self.delivered(), [(0, 0, 0, 0..11)]);
    }

    /// Removes records from those in flight, as a batcher does.
    fn release(&self, records: usize) {
        self.in_flight.remove(records, records * RECORD_BYTES);
    }
}

#[test]
fn a_poll_is_divided_into_runs_of_one_partition() {
    let mut fixture = Fixture::reading(&[(0, 5), (1, 100), (3, 0)]);
    let mut items = records(0, 5..8);
    items.extend(records(1, 100..102));
    items.extend(records(0, 8..9));
    items.push(end(0, 9));
    items.extend(records(3, 0..1));

    assert_eq!(fixture.turn_with(items), Turn::Continue);

    let expected =
        [(0, 0, 5, 5..8), (1, 1, 100, 100..102), (0, 0, 8, 8..9), (0, 0, 9, 9..9), (1, 3, 0, 0..1)];
    assert_eq!(fixture.delivered(), expected);
    assert_eq!((fixture.in_flight.records(), fixture.in_flight.bytes()), (7, 7 * RECORD_BYTES));
}

#[test]
fn a_run_has_the_generation_of_its_start() {
    let mut fixture = Fixture::reading(&[(0, 5)]);
    let hold = SourceCommand::Hold(vec![partition(0)]);
    fixture.poll_loop.handle_command(hold);
    fixture.start(2, &[(0, 5)]);

    fixture.turn_with(records(0, 5..6));

    match &fixture.deliveries()[..] {
        [(_, Delivery::Records(run))] => assert_eq!(run.generation, Generation(2)),
        others => panic!("{} deliveries", others.len()),
    }
}

#[test]
fn a_jump_is_fetched_again_and_accepted_the_second_time() {
    let mut fixture = Fixture::reading(&[(0, 100)]);
    let mut jump = records(0, 250..252);
    // Polled with the jump, and part of the same fetch.
    jump.push(end(0, 252));

    fixture.turn_with(jump);
    assert_eq!(fixture.delivered(), []);
    assert_eq!(fixture.calls(), [Call::StopFetching(vec![0]), Call::Fetch(vec![(0, 100)])]);

    fixture.turn_with(records(0, 250..252));
    assert_eq!(fixture.delivered(), [(0, 0, 100, 250..252)]);
    assert_eq!(fixture.calls(), []);
}

#[test]
fn records_lost_before_the_loop_are_delivered_after_all() {
    let mut fixture = Fixture::reading(&[(0, 100)]);
    fixture.turn_with(records(0, 250..252));
    assert_eq!(fixture.calls(), [Call::StopFetching(vec![0]), Call::Fetch(vec![(0, 100)])]);

    fixture.turn_with(records(0, 100..110));

    assert_eq!(fixture.delivered(), [(0, 0, 100, 100..110)]);
}

#[test]
fn an_offset_is_reported_as_out_of_range_after_the_second_error() {
    let mut fixture = Fixture::reading(&[(0, 100)]);
    let code = RDKafkaErrorCode::AutoOffsetReset;
    let error = || vec![PolledItem::Error(Some(partition(0)), code, "out of range".to_owned())];

    fixture.turn_with(error());
    assert_eq!(fixture.calls(), [Call::StopFetching(vec![0]), Call::Fetch(vec![(0, 100)])]);
    assert!(fixture.events().is_empty());

    fixture.turn_with(error());
    assert_eq!(fixture.calls(), [Call::StopFetching(vec![0])]);
    let events = fixture.events();
    assert!(
        matches!(&events[..], [SourceEvent::OutOfRange(of, _)] if *of == partition(0)),
        "{events:?}"
    );
}

#[test]
fn a_refusal_is_reported_with_its_topic_and_remedy() {
    let mut fixture = Fixture::reading(&[(0, 0)]);
    let code = RDKafkaErrorCode::TopicAuthorizationFailed;

    fixture.turn_with(vec![PolledItem::Error(Some(partition(0)), code, "refused".to_owned())]);

    let events = fixture.events();
    let [SourceEvent::Refused { topic: Some(topic), refusal }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(&**topic, TOPIC);
    assert!(refusal.starts_with("refused: "), "{refusal}");
}

#[test]
fn polls_shrink_with_the_size_of_records() {
    let mut fixture = Fixture::reading(&[(0, 0)]);
    for offset in 0..100 {
        fixture.turn_with(records(0, offset..offset + 1));
        fixture.release(1);
    }

    let limits = &fixture.poll_loop.client().limits;
    assert_eq!(limits[0], POLL_BYTES / FIRST_AVERAGE_BYTES);
    let last = limits[99];
    assert!(
        (POLL_BYTES / (RECORD_BYTES + 10)..=POLL_BYTES / RECORD_BYTES).contains(&last),
        "{last}"
    );
}

#[test]
fn nothing_is_polled_while_batchers_are_behind() {
    let mut fixture = Fixture::reading(&[(0, 0)]);
    fixture.fill();
    let polls = fixture.polls();

    assert_eq!(fixture.poll_loop.turn(), Turn::Wait(ROOM_CHECK));
    assert_eq!(fixture.polls(), polls);

    fixture.release(1);
    assert_eq!(fixture.poll_loop.turn(), Turn::Continue);
    assert_eq!(fixture.delivered(), [(0, 0, 11, 11..12)]);
    assert_eq!(fixture.poll_loop.turn(), Turn::Idle(IDLE_LIMIT));
    assert_eq!(fixture.polls(), polls + 1);
    assert_eq!(fixture.calls(), []);
}

#[test]
fn partitions_are_paused_while_batchers_stay_behind() {
    let mut fixture = Fixture::reading(&[(0, 0), (1, 0)]);
    fixture.fill();
    fixture.clock.advance(PAUSE_AFTER);
    assert_eq!(fixture.poll_loop.turn(), Turn::Wait(ROOM_CHECK));
    assert_eq!(fixture.calls(), []);

    fixture.clock.advance(ROOM_CHECK);
    assert_eq!(fixture.poll_loop.turn(), Turn::Continue);
    assert_eq!(fixture.calls(), [Call::Pause(vec![0, 1])]);
    let polls = fixture.polls();
    assert_eq!(fixture.poll_loop.turn(), Turn::Idle(TIMER_CHECK));
    assert_eq!(fixture.polls(), polls + 1, "the member stays in its group");

    // A pause costs a fetch, so it ends only when the batchers have caught up.
    fixture.release(3);
    fixture.poll_loop.turn();
    assert_eq!((fixture.delivered(), fixture.calls()), (vec![(0, 0, 11, 11..12)], vec![]));
    fixture.release(4);
    fixture.poll_loop.turn();
    assert_eq!(fixture.calls(), [Call::Resume(vec![0, 1])]);
}

#[test]
fn a_partition_that_starts_during_a_pause_is_paused() {
    let mut fixture = Fixture::reading(&[(0, 0)]);
    fixture.fill();
    fixture.clock.advance(PAUSE_AFTER + ROOM_CHECK);
    fixture.poll_loop.turn();
    assert_eq!(fixture.calls(), [Call::Pause(vec![0])]);

    fixture.assignment.assigned(&[partition(1)]);
    fixture.start(2, &[(1, 50)]);

    assert_eq!(fixture.calls(), [Call::Fetch(vec![(1, 50)]), Call::Pause(vec![1])]);
}

#[test]
fn a_held_partition_loses_its_backlog() {
    let mut fixture = Fixture::reading(&[(0, 0), (1, 0)]);
    fixture.fill();

    fixture.poll_loop.handle_command(SourceCommand::Hold(vec![partition(0)]));
    assert_eq!(fixture.calls(), [Call::StopFetching(vec![0])]);
    fixture.release(11);
    let mut items = records(0, 12..13);
    items.extend(records(1, 0..1));
    assert_eq!(fixture.poll_loop.turn(), Turn::Continue);
    assert_eq!(fixture.turn_with(items), Turn::Continue);

    assert_eq!(fixture.delivered(), [(1, 1, 0, 0..1)]);
}

#[test]
fn records_of_a_partition_that_is_being_revoked_are_dropped() {
    let mut fixture = Fixture::reading(&[(0, 0), (1, 0)]);
    fixture.assignment.assigned(&[partition(2)]);

    let fetched = fixture.assignment.begin_revocation(&[partition(1), partition(2)]);
    assert_eq!(fetched, [partition(1)]);
    let mut items = records(0, 0..1);
    items.extend(records(1, 0..1));
    fixture.turn_with(items);
    fixture.assignment.end_revocation(&[partition(1), partition(2)]);
    // The command crossed the revocation.
    fixture.start(2, &[(1, 0), (2, 0)]);
    fixture.turn_with(records(1, 0..1));

    assert_eq!(fixture.delivered(), [(0, 0, 0, 0..1)]);
    assert_eq!(fixture.calls(), [Call::Fetch(vec![])]);
}

#[test]
fn offsets_are_mirrored_on_command() {
    let mut fixture = Fixture::reading(&[(0, 0)]);
    let mirror = SourceCommand::MirrorOffsets(vec![(partition(0), Offset(7))]);

    fixture.poll_loop.handle_command(mirror);

    assert_eq!(fixture.calls(), [Call::MirrorOffsets(vec![(0, 7)])]);
}

#[test]
fn a_member_joins_again_after_it_has_left() {
    let mut fixture = Fixture::reading(&[(0, 0)]);
    fixture.poll_loop.handle_command(SourceCommand::Rejoin);
    fixture.poll_loop.handle_command(SourceCommand::Rejoin);
    assert_eq!(fixture.calls(), [Call::Unsubscribe]);
    fixture.poll_loop.turn();
    assert_eq!(fixture.calls(), []);

    fixture.poll_loop.client().has_left = true;
    fixture.poll_loop.turn();
    fixture.poll_loop.turn();
    assert_eq!(fixture.calls(), [Call::Subscribe]);
}

#[test]
fn a_member_that_cannot_leave_joins_again_after_a_limit() {
    let mut fixture = Fixture::reading(&[(0, 0)]);
    fixture.poll_loop.handle_command(SourceCommand::Rejoin);
    fixture.calls();

    fixture.clock.advance(REVOCATION_TIMEOUT + LEAVE_LIMIT);
    fixture.poll_loop.turn();

    assert_eq!(fixture.calls(), [Call::Subscribe]);
}

#[test]
fn a_member_whose_name_is_held_joins_with_a_new_client() {
    let mut fixture = Fixture::reading(&[(0, 0), (1, 0)]);
    let accepted = PreparedClient { is_member: true, ..PreparedClient::default() };
    fixture.next.lock().unwrap().extend([PreparedClient::default(), accepted]);

    assert_eq!(fixture.turn_with(vec![PolledItem::NameHeld]), Turn::Continue);
    assert!(matches!(fixture.events()[..], [SourceEvent::NameHeld]));
    fixture.clock.advance(Duration::from_millis(250));
    let lost = vec![partition(0), partition(1)];
    assert_eq!(fixture.poll_loop.turn(), Turn::Replace(lost.clone()));
    fixture.assignment.begin_revocation(&lost);
    fixture.assignment.end_revocation(&lost);
    fixture.poll_loop.join_again();

    // The second client is refused, too.
    assert_eq!(fixture.turn_with(vec![PolledItem::NameHeld]), Turn::Continue);
    fixture.clock.advance(Duration::from_millis(499));
    assert_eq!(fixture.poll_loop.turn(), Turn::Idle(TIMER_CHECK));
    fixture.clock.advance(Duration::from_millis(1));
    assert_eq!(fixture.poll_loop.turn(), Turn::Replace(vec![]));
    fixture.poll_loop.join_again();
    assert!(fixture.events().is_empty());

    fixture.poll_loop.turn();
    assert!(matches!(fixture.events()[..], [SourceEvent::NameReleased]));
    fixture.clock.advance(NAME_TIMEOUT);
    assert_eq!(fixture.poll_loop.turn(), Turn::Idle(IDLE_LIMIT));
}

#[test]
fn a_name_that_is_never_released_is_taken() {
    let mut fixture = Fixture::reading(&[]);
    fixture.turn_with(vec![PolledItem::NameHeld]);
    fixture.events();
    fixture.clock.advance(NAME_TIMEOUT);
    assert_eq!(fixture.poll_loop.turn(), Turn::Replace(vec![]));

    // There is no further client, which is reported as well.
    fixture.poll_loop.join_again();
    assert!(matches!(fixture.events()[..], [SourceEvent::Fatal(_)]));
    fixture.turn_with(vec![PolledItem::NameHeld]);
    assert!(matches!(fixture.events()[..], [SourceEvent::NameTaken]));
}

#[test]
fn a_closed_loop_polls_no_more() {
    let mut fixture = Fixture::reading(&[(0, 0)]);
    fixture.poll_loop.handle_command(SourceCommand::Close);

    assert_eq!(fixture.turn_with(records(0, 0..1)), Turn::Close);
    fixture.poll_loop.close();

    assert_eq!((fixture.polls(), fixture.calls()), (0, vec![Call::Close]));
    assert!(matches!(fixture.events()[..], [SourceEvent::Closed]));
}
