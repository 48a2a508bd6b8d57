//! The layer of librdkafka with its own mock brokers: behaviour that the poll loop relies on.

use std::sync::mpsc;
use std::time::Duration;

use clap::Parser;
use ducktide_kafka::KafkaArgs;
use ducktide_protocol::position::Offset;
use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};

use super::client::{KafkaClient as _, PolledItem};
use super::ffi::{NativeConsumer, RebalanceListener, Record};
use super::kafka_config::{ConsumerConfig, GroupProtocol, Membership, consumer_config};
use super::record::KafkaRecord as _;
use super::topic_partition::TopicPartition;
use super::wake_signal::WakeSignal;

const TOPIC: &str = "events";

/// Longest time of one poll.
const POLL: Duration = Duration::from_millis(100);

/// Number of polls after which a test fails: the mock brokers delay the first assignment by three
/// seconds.
const MOST_POLLS: usize = 600;

/// One mock broker with a topic.
pub(super) struct Brokers {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl Brokers {
    pub(super) fn start(partitions: i32) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, partitions, 1).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers());
        let producer = config.create().unwrap();
        Self { cluster, producer }
    }

    /// Produces records whose value is their number, and a tombstone for number 0.
    pub(super) fn produce(&self, partition: i32, numbers: std::ops::Range<u8>) {
        for number in numbers {
            let header = |value: &'static [u8]| Header { key: "trace", value: Some(value) };
            let headers = OwnedHeaders::new().insert(header(b"old")).insert(header(b"new"));
            let (key, value) = ([number, number], [number]);
            let record = BaseRecord::to(TOPIC).partition(partition).key(&key[..]).headers(headers);
            let record = if number == 0 { record } else { record.payload(&value[..]) };
            self.producer.send(record).map_err(|(error, _)| error).unwrap();
            // Each in a batch of its own.
            self.producer.flush(Duration::from_secs(10)).unwrap();
        }
    }

    pub(super) fn config(&self) -> ConsumerConfig {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            kafka: KafkaArgs,
        }
        let servers = self.cluster.bootstrap_servers();
        // The mock brokers wait for a session to end when a second member joins.
        let sessions = "heartbeat.interval.ms=100;session.timeout.ms=3000";
        let line = ["test", "--bootstrap-servers", &servers, "--kafka-property", sessions];
        let line = Line::try_parse_from(line).unwrap();
        let member = Membership {
            group_id: "group",
            client_id: "client",
            instance_id: None,
            protocol: GroupProtocol::Classic,
            queue_kbytes: 1024,
            flush_interval: Duration::from_secs(10),
        };
        consumer_config(&line.kafka, &member).unwrap()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Rebalance {
    Assigned(Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>, bool),
}

/// Listener that reports rebalances to the test, and fetched partitions as those of its test.
struct Reporter(mpsc::Sender<Rebalance>);

impl RebalanceListener for Reporter {
    fn assigned(&self, partitions: Vec<TopicPartition>) {
        self.0.send(Rebalance::Assigned(partitions)).unwrap();
    }

    fn revoked(&self, partitions: Vec<TopicPartition>, lost: bool) -> Vec<TopicPartition> {
        self.0.send(Rebalance::Revoked(partitions.clone(), lost)).unwrap();
        partitions
    }
}

struct Member {
    consumer: NativeConsumer,
    rebalances: mpsc::Receiver<Rebalance>,
}

impl Member {
    /// Joins the group, and waits for the first assignment.
    fn join(brokers: &Brokers) -> Self {
        let (reports, rebalances) = mpsc::channel();
        let mut consumer = NativeConsumer::new(
            &brokers.config(),
            Box::new(Reporter(reports)),
            WakeSignal::default(),
        )
        .unwrap();
        consumer.subscribe(&[TOPIC.to_owned()]).unwrap();
        let mut member = Self { consumer, rebalances };
        assert_eq!(member.rebalance(), Rebalance::Assigned(vec![partition()]));
        assert!(member.consumer.is_member() && !member.consumer.has_left());
        member
    }

    /// Polls until the next rebalance.
    fn rebalance(&mut self) -> Rebalance {
        for _ in 0..MOST_POLLS {
            if let Ok(rebalance) = self.rebalances.try_recv() {
                return rebalance;
            }
            assert!(self.consumer.poll(POLL, 10).is_empty(), "nothing is fetched");
        }
        panic!("no rebalance");
    }

    fn fetch(&mut self, offset: i64) {
        self.consumer.fetch(&[(partition(), Offset(offset))]);
    }

    /// Polls, at most `limit` items at a time, until `is_done` or the end of the partition.
    fn poll(&mut self, limit: usize, is_done: impl Fn(&[Record]) -> bool) -> Polled {
        let mut records = Vec::new();
        for _ in 0..MOST_POLLS {
            for item in self.consumer.poll(POLL, limit) {
                match item {
                    PolledItem::Record(record) => records.push(record),
                    PolledItem::EndOfPartition(of, offset) => {
                        assert_eq!(of, partition());
                        return Polled { records, end: Some(offset.0) };
                    }
                    PolledItem::Error(of, code, text) => panic!("{of:?} {code}: {text}"),
                    _ => panic!("the client is unusable"),
                }
            }
            if is_done(&records) {
                return Polled { records, end: None };
            }
        }
        panic!("{} records", records.len());
    }

    fn poll_to_end(&mut self) -> Polled {
        self.poll(4, |_| false)
    }
}

/// Polled records, and the end of the partition if it was polled after them.
struct Polled {
    records: Vec<Record>,
    end: Option<i64>,
}

impl Polled {
    fn offsets(&self) -> Vec<i64> {
        self.records.iter().map(|record| record.offset().0).collect()
    }
}

fn partition() -> TopicPartition {
    TopicPartition::new(TOPIC, 0)
}

#[test]
fn records_are_polled_in_order_from_the_fetched_offset_to_the_end() {
    let brokers = Brokers::start(1);
    brokers.produce(0, 0..10);
    let mut member = Member::join(&brokers);

    member.fetch(3);
    let polled = member.poll_to_end();
    assert_eq!((polled.offsets(), polled.end), ((3..10).collect(), Some(10)));
    assert!(polled.records.windows(2).all(|two| two[1].follows(&two[0])));
    assert!(!polled.records[2].follows(&polled.records[0]));

    // The end is polled again after further records.
    brokers.produce(0, 10..12);
    let more = member.poll_to_end();
    assert_eq!((more.offsets(), more.end), (vec![10, 11], Some(12)));
    assert!(more.records[0].follows(polled.records.last().unwrap()));
}

#[test]
fn a_record_has_its_content() {
    let brokers = Brokers::start(1);
    brokers.produce(0, 0..2);
    let mut member = Member::join(&brokers);
    member.fetch(0);

    let Polled { records, .. } = member.poll_to_end();

    let [tombstone, record] = &records[..] else { panic!("{} records", records.len()) };
    assert_eq!((tombstone.payload(), tombstone.key()), (None, Some(&[0, 0][..])));
    assert_eq!((record.payload(), record.key()), (Some(&[1][..]), Some(&[1, 1][..])));
    assert_eq!(record.topic_partition(), partition());
    assert!(record.timestamp_ms().is_some());
    assert_eq!(record.last_header(c"trace"), Some(&b"new"[..]));
    assert_eq!(record.last_header(c"other"), None);
    let values = record.headers().into_iter().map(|header| (header.key, header.value.unwrap()));
    let expected = [("trace", "old"), ("trace", "new")];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
    assert_eq!(values.collect::<Vec<_>>(), expected);
    assert_eq!(record.bytes() - tombstone.bytes(), 1);
    // Records outlive the consumer.
    let keep_alive = member.consumer.keep_alive();
    drop(member);
    assert_eq!(record.payload(), Some(&[1][..]));
    drop(records);
    drop(keep_alive);
}

#[test]
fn a_partition_that_is_fetched_again_begins_at_the_new_offset() {
    let brokers = Brokers::start(1);
    brokers.produce(0, 0..20);
    let mut member = Member::join(&brokers);
    member.fetch(0);
    // The rest is in the queue of the client.
    let first = member.poll(1, |records| records.len() == 5);
    assert_eq!(first.offsets(), [0, 1, 2, 3, 4]);

    member.consumer.stop_fetching(&[partition()]);
    member.fetch(2);
    let again = member.poll_to_end();

    assert_eq!((again.offsets(), again.end), ((2..20).collect(), Some(20)));
}

#[test]
fn a_pause_loses_and_repeats_no_record() {
    let brokers = Brokers::start(1);
    brokers.produce(0, 0..20);
    let mut member = Member::join(&brokers);
    member.fetch(0);
    let first = member.poll(1, |records| records.len() == 5);

    member.consumer.pause(&[partition()]);
    for _ in 0..5 {
        assert!(member.consumer.poll(POLL, 10).is_empty());
    }
    member.consumer.resume(&[partition()]);
    let rest = member.poll_to_end();

    let offsets = [first.offsets(), rest.offsets()].concat();
    assert_eq!((offsets, rest.end), ((0..20).collect(), Some(20)));
}

#[test]
fn an_offset_out_of_range_is_an_error_of_its_partition() {
    let brokers = Brokers::start(1);
    brokers.produce(0, 0..3);
    let mut member = Member::join(&brokers);

    member.fetch(1000);
    let mut polls = (0..MOST_POLLS).flat_map(|_| member.consumer.poll(POLL, 10));

    match polls.next() {
        Some(PolledItem::Error(Some(of), code, _)) => {
            assert_eq!((of, code), (partition(), RDKafkaErrorCode::AutoOffsetReset));
        }
        other => panic!("error expected, found an item: {}", other.is_some()),
    }
}

#[test]
fn partitions_are_revoked_by_polls_after_an_unsubscription() {
    let brokers = Brokers::start(1);
    brokers.produce(0, 0..3);
    let mut member = Member::join(&brokers);
    member.fetch(0);
    member.poll_to_end();

    member.consumer.unsubscribe();
    assert_eq!(member.rebalance(), Rebalance::Revoked(vec![partition()], false));
    for _ in 0..MOST_POLLS {
        if member.consumer.has_left() {
            break;
        }
        assert!(member.consumer.poll(POLL, 10).is_empty());
    }
    assert!(member.consumer.has_left());

    member.consumer.subscribe(&[TOPIC.to_owned()]).unwrap();
    assert_eq!(member.rebalance(), Rebalance::Assigned(vec![partition()]));
    member.fetch(1);
    assert_eq!(member.poll_to_end().offsets(), [1, 2]);
}

#[test]
fn partitions_are_revoked_when_the_consumer_is_closed() {
    let brokers = Brokers::start(1);
    let mut member = Member::join(&brokers);

    member.consumer.close();

    let revoked = member.rebalances.try_recv();
    assert_eq!(revoked, Ok(Rebalance::Revoked(vec![partition()], false)));
}
