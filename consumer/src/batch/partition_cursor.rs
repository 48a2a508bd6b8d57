//! What batchers hand to the worker, and how it becomes one lake commit.

use std::collections::BTreeSet;
use std::sync::Arc;

use ducktide_protocol::commit::{Counts, ProgressDelta};
use ducktide_protocol::position::{Offset, OffsetRange, Position};

use crate::batch::dedupe::Window;
use crate::batch::topic_route::Stream;
use crate::source::TopicPartition;
use crate::source::assignment::Generation;

/// How far one partition was read, and what became of its records since the last cut.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) stream: Arc<Stream>,
    pub(crate) generation: Generation,
    /// The rows that records may repeat, if repeats are dropped.
    pub(crate) window: Option<Window>,
    position: Position,
    /// The next offset that is not accounted for.
    next: i64,
    /// Everything before this offset was delivered by the poll thread.
    delivered: i64,
    /// Everything before this offset was delivered, and every record of it decoded.
    decoded: i64,
    /// The offset up to which somebody waits for this partition, until it was read.
    goal: Option<i64>,
    counts: Counts,
    /// The schemas of the rows since the last cut, and the last one of them.
    schemas: (BTreeSet<u32>, Option<u32>),
    /// Kafka's time of the newest record that was decoded since the last cut.
    newest_ms: Option<i64>,
}

impl Track {
    pub(crate) fn new(
        stream: Arc<Stream>,
        generation: Generation,
        position: Position,
        window: Option<Window>,
    ) -> Self {
        let start = position.next_offset.0;
        let counts = Counts::default();
        let (delivered, decoded) = (start, start);
        Self {
            stream,
            generation,
            window,
            position,
            next: start,
            delivered,
            decoded,
            goal: None,
            counts,
            schemas: (BTreeSet::new(), None),
            newest_ms: None,
        }
    }

    /// Takes note of a delivery up to before `next`.
    ///
    /// # Panics
    /// When a delivery got lost between the poll thread and here: its records would count as a gap.
    pub(crate) fn delivered(&mut self, partition: &TopicPartition, follows: i64, next: i64) {
        let delivered = self.delivered;
        assert!(
            delivered == follows,
            "deliveries follow each other: partition={partition} got={delivered} follows={follows}"
        );
        self.delivered = next.max(delivered);
    }

    /// Takes note that every record of the deliveries up to before `next` was decoded. Only then are
    /// offsets after the last record a gap: a record that waits for its schema, or that was given up
    /// undecoded, is not.
    pub(crate) fn decoded(&mut self, next: i64) {
        self.decoded = next.max(self.decoded);
    }

    /// Sets the offset up to which somebody waits for this partition to be read.
    pub(crate) const fn set_goal(&mut self, goal: Option<i64>) {
        self.goal = goal;
    }

    /// Returns whether somebody waits for this partition, and is not told yet that it was read.
    pub(crate) const fn is_awaited(&self) -> bool {
        self.goal.is_some()
    }

    /// Returns true once, when everything before the goal was decoded.
    pub(crate) fn take_goal_reached(&mut self) -> bool {
        self.goal.take_if(|goal| self.decoded >= *goal).is_some()
    }

    /// Takes note of Kafka's time of the newest record that was decoded.
    pub(crate) fn saw_time(&mut self, millis: Option<i64>) {
        self.newest_ms = self.newest_ms.max(millis);
    }

    /// That time; None when there was none since the last cut.
    pub(crate) const fn take_newest(&mut self) -> Option<i64> {
        self.newest_ms.take()
    }

    /// Records that became rows since the last cut.
    pub(crate) const fn rows(&self) -> i64 {
        self.counts.rows
    }

    /// Accounts for the gap before a record; false if the record was accounted for already.
    pub(crate) fn advance_to(&mut self, offset: i64) -> bool {
        if offset < self.next {
            return false;
        }
        self.counts.gaps += offset - self.next;
        self.next = offset;
        true
    }

    pub(crate) fn count_row(&mut self, schema_id: Option<u32>) {
        self.counts.rows += 1;
        self.next += 1;
        // Records of one schema come in long runs.
        if self.schemas.1 != schema_id {
            self.schemas.0.extend(schema_id);
            self.schemas.1 = schema_id;
        }
    }

    /// The schemas of the rows since the last cut.
    pub(crate) fn take_schemas(&mut self) -> BTreeSet<u32> {
        self.schemas.1 = None;
        std::mem::take(&mut self.schemas.0)
    }

    pub(crate) fn count_dead(&mut self) {
        self.counts.dead += 1;
        self.next += 1;
    }

    pub(crate) fn count_repeat(&mut self) {
        self.counts.duplicates += 1;
        self.next += 1;
    }

    pub(crate) fn count_tombstone(&mut self) {
        self.counts.tombstones += 1;
        self.next += 1;
    }

    /// Whether there is anything to commit.
    pub(crate) fn has_progress(&self) -> bool {
        self.next > self.position.next_offset.0
    }

    /// Offsets at the partition's end that hold no record, and are not accounted for yet.
    pub(crate) fn idle_tail(&self) -> i64 {
        self.decoded - self.next
    }

    /// The step since the last cut, if there is one; the next begins where it ends.
    pub(crate) fn cut(&mut self, partition: &TopicPartition) -> Option<ProgressDelta> {
        self.advance_to(self.decoded);
        if !self.has_progress() {
            return None;
        }
        let to = Offset(self.next);
        let delta = ProgressDelta {
            source: self.stream.source.id,
            partition: partition.partition,
            epoch: self.position.epoch,
            range: OffsetRange { from: self.position.next_offset, to },
            counts: std::mem::take(&mut self.counts),
        };
        self.position.next_offset = to;
        Some(delta)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use ducktide_protocol::position::{Epoch, Partition, SourceId};
    use ducktide_protocol::table::{Partitioning, TableShape};
    use ducktide_protocol::{Source, SourceSpec, Table, TableVersion};

    use super::*;
    use crate::batch::staging::ColumnHints;
    use crate::decode::newest_schemas::Newest;

    fn track(start: i64) -> (Track, TopicPartition) {
        let version = TableVersion { table: "events".parse().unwrap(), changed_at: 1 };
        let shape = TableShape::from_described([("id", "BIGINT")]).unwrap();
        let spec = SourceSpec {
            table: version.table.clone(),
            topic: "events".to_owned(),
            pipeline: "test".to_owned(),
            cluster_id: None,
            topic_id: None,
        };
        let stream = Stream {
            topic: "events".into(),
            source: Source { id: SourceId(1), spec },
            table: Table {
                version,
                shape,
                directory: PathBuf::from("/lake"),
                partitioning: Partitioning::default(),
                claim: None,
            },
            newest: Newest::default(),
            hints: ColumnHints::default(),
            dead_letters: None,
            partition_by: None,
            dedupe: None,
        };
        let position = Position { epoch: Epoch(3), next_offset: Offset(start) };
        (
            Track::new(Arc::new(stream), Generation(1), position, None),
            TopicPartition::new("events", 4),
        )
    }

    #[test]
    fn a_cut_accounts_for_every_offset() {
        let (mut track, partition) = track(100);
        track.delivered(&partition, 100, 107);
        track.decoded(107);
        assert!(track.advance_to(100));
        track.count_row(Some(7));
        assert!(track.advance_to(103));
        track.count_tombstone();
        track.count_dead();
        assert!(track.advance_to(106));
        track.count_row(Some(7));

        let delta = track.cut(&partition).unwrap();

        assert_eq!((delta.range.from, delta.range.to), (Offset(100), Offset(107)));
        assert_eq!(delta.epoch, Epoch(3));
        assert_eq!(delta.partition, Partition(4));
        let counts = Counts { rows: 2, dead: 1, tombstones: 1, gaps: 3, ..Counts::default() };
        assert_eq!(delta.counts, counts);
        assert_eq!(track.cut(&partition), None);
        assert_eq!((track.take_schemas(), track.take_schemas()), ([7].into(), [].into()));
    }

    #[test]
    fn a_record_delivered_twice_counts_once() {
        let (mut track, _) = track(100);
        assert!(track.advance_to(100));
        track.count_row(Some(7));

        assert!(!track.advance_to(100));
    }

    #[test]
    fn an_end_beyond_the_last_record_is_progress() {
        let (mut track, partition) = track(100);
        track.delivered(&partition, 100, 130);
        track.decoded(130);
        assert_eq!(track.idle_tail(), 30);

        let delta = track.cut(&partition).unwrap();

        assert_eq!(delta.counts, Counts { gaps: 30, ..Counts::default() });
    }

    #[test]
    #[should_panic(expected = "deliveries follow each other")]
    fn a_gap_left_by_our_own_queues_is_not_taken_for_one_of_kafka() {
        let (mut track, partition) = track(100);
        track.delivered(&partition, 100, 120);
        track.delivered(&partition, 250, 260);
    }

    #[test]
    fn records_that_were_not_decoded_are_no_gap() {
        let (mut track, partition) = track(100);
        track.delivered(&partition, 100, 110);
        assert!(track.advance_to(100));
        track.count_row(Some(7));

        assert_eq!(track.cut(&partition).unwrap().range.to, Offset(101));
        assert_eq!((track.cut(&partition), track.idle_tail() > 0), (None, false));
    }

    #[test]
    fn a_goal_is_reached_once_when_everything_before_it_was_decoded() {
        let (mut track, partition) = track(100);
        track.set_goal(Some(110));
        track.delivered(&partition, 100, 110);
        assert!(!track.take_goal_reached());

        track.decoded(110);

        assert!(track.take_goal_reached());
        assert!(!track.take_goal_reached());
    }
}
