//! The poll thread with mock brokers.

use ducktide_protocol::position::Offset;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::source::PartitionStart;
use crate::source::assignment::Generation;
use crate::source::native_tests::Brokers;
use crate::source::record::KafkaRecord as _;

fn start_of(partition: &TopicPartition, generation: u64, offset: i64) -> PartitionStart {
    PartitionStart {
        partition: partition.clone(),
        generation: Generation(generation),
        offset: Offset(offset),
        batcher: 0,
    }
}

struct Member {
    source: Source,
    events: UnboundedReceiver<Event>,
    deliveries: crossbeam_channel::Receiver<Delivery>,
}

impl Member {
    fn join(brokers: &Brokers) -> Self {
        let (events, inbox) = Events::channel();
        let (batcher, deliveries) = crossbeam_channel::unbounded();
        let config = JoinConfig {
            client: brokers.config(),
            topics: vec!["events".to_owned()],
            revocation_timeout: Duration::from_mins(1),
            name_timeout: Duration::ZERO,
        };
        let clock = Clock::system();
        let metrics = Metrics::register(&mut Registry::default(), &clock);
        let in_flight = Arc::new(InFlight::new(1 << 20));
        let source =
            Source::spawn(config, vec![batcher], in_flight, Arc::new(metrics), clock, events);
        Self { source: source.unwrap(), events: inbox, deliveries }
    }

    fn event(&mut self) -> SourceEvent {
        match self.events.blocking_recv() {
            Some(Event::Source(event)) => event,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for an assignment. A member without partitions is assigned an empty list.
    fn assigned(&mut self) -> Vec<TopicPartition> {
        loop {
            match self.event() {
                SourceEvent::Assigned(partitions) if partitions.is_empty() => {}
                SourceEvent::Assigned(partitions) => return partitions,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits for records of a partition, up to this offset.
    fn read_to(&self, partition: &TopicPartition, end: i64) -> Vec<i64> {
        let mut offsets = Vec::new();
        while offsets.last().is_none_or(|last| last + 1 < end) {
            match self.deliveries.recv().unwrap() {
                Delivery::Records(run) => {
                    assert_eq!(run.partition, *partition);
                    offsets.extend(run.records.iter().map(|record| record.offset().0));
                }
                Delivery::EndOfPartition { .. } => {}
            }
        }
        offsets
    }
}

#[test]
fn a_partition_is_handed_over_when_the_worker_has_answered() {
    let brokers = Brokers::start(2);
    (0..2).for_each(|partition| brokers.produce(partition, 0..6));
    let mut first = Member::join(&brokers);
    let mut all = first.assigned();
    all.sort();
    assert_eq!(all, [TopicPartition::new("events", 0), TopicPartition::new("events", 1)]);

    let mut second = Member::join(&brokers);
    let SourceEvent::Revoking { partitions, lost, done } = first.event() else {
        panic!("one partition is revoked");
    };
    let [revoked] = &partitions[..] else { panic!("{partitions:?}") };
    assert!(!lost);
    while let Ok(event) = second.events.try_recv() {
        let Event::Source(SourceEvent::Assigned(assigned)) = event else { panic!("{event:?}") };
        assert_eq!(assigned, [], "the worker has not answered");
    }
    drop(done);
    assert_eq!(second.assigned(), partitions);

    let start = start_of(revoked, 1, 2);
    second.source.send(SourceCommand::Start(vec![start.clone()]));
    assert_eq!(second.read_to(revoked, 6), [2, 3, 4, 5]);
    // The first member has lost the partition, and ignores a late command for it.
    first.source.send(SourceCommand::Start(vec![start]));
    let kept = all.into_iter().find(|partition| partition != revoked).unwrap();
    first.source.send(SourceCommand::Start(vec![start_of(&kept, 2, 0)]));
    assert_eq!(first.read_to(&kept, 6), [0, 1, 2, 3, 4, 5]);

    for mut member in [first, second] {
        member.source.send(SourceCommand::Close);
        while !matches!(member.event(), SourceEvent::Closed) {}
        member.source.join();
    }
}
