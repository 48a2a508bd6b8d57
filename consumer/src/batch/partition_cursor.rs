//! Progress of one partition within a batcher.

use std::collections::BTreeSet;
use std::sync::Arc;

use ducktide_protocol::commit::{Counts, ProgressDelta};
use ducktide_protocol::position::{Offset, OffsetRange, Position};

use crate::batch::dedupe::DedupeWindow;
use crate::batch::topic_route::TopicRoute;
use crate::source::assignment::Generation;
use crate::source::topic_partition::TopicPartition;

/// Read position of one partition, and the outcome of its records since the last cut.
#[derive(Debug)]
pub(crate) struct PartitionCursor {
    pub(crate) route: Arc<TopicRoute>,
    pub(crate) generation: Generation,
    /// Recent rows of which records may be duplicates; None without `--dedupe-by`.
    pub(crate) window: Option<DedupeWindow>,
    position: Position,
    /// First offset that is not counted.
    next: Offset,
    /// End of the deliveries from the poll thread: all records before this offset were received.
    delivered: Offset,
    /// All records before this offset were received and decoded.
    decoded: Offset,
    /// Offset that `--until-end` waits for; None once it was read.
    goal: Option<Offset>,
    counts: Counts,
    /// Schema ids of the rows since the last cut, and the newest of them.
    schemas: (BTreeSet<u32>, Option<u32>),
    /// Kafka timestamp of the newest record since the last cut, milliseconds since 1970.
    newest_ms: Option<i64>,
}

impl PartitionCursor {
    pub(crate) fn new(
        route: Arc<TopicRoute>,
        generation: Generation,
        position: Position,
        window: Option<DedupeWindow>,
    ) -> Self {
        let start = position.next_offset;
        let counts = Counts::default();
        let (delivered, decoded) = (start, start);
        Self {
            route,
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

    /// Records a delivery that ends before `next`.
    ///
    /// # Panics If a delivery between the poll thread and the batcher was lost: its records would
    /// count as a gap.
    pub(crate) fn record_delivery(
        &mut self,
        partition: &TopicPartition,
        follows: Offset,
        next: Offset,
    ) {
        let delivered = self.delivered;
        assert!(
            delivered == follows,
            "deliveries follow each other: partition={partition} got={delivered} follows={follows}"
        );
        self.delivered = next.max(delivered);
    }

    /// Records that all delivered records before `next` were decoded. Only then do offsets after
    /// the last record count as a gap: a record that waits for its schema, or that was dropped
    /// undecoded, does not.
    pub(crate) fn record_decoded(&mut self, next: Offset) {
        self.decoded = next.max(self.decoded);
    }

    /// Sets the offset that `--until-end` waits for.
    pub(crate) const fn set_goal(&mut self, goal: Option<Offset>) {
        self.goal = goal;
    }

    /// Returns whether the partition has a goal that was not reported as reached.
    pub(crate) const fn is_awaited(&self) -> bool {
        self.goal.is_some()
    }

    /// Returns true once, when everything before the goal was decoded.
    pub(crate) fn take_goal_reached(&mut self) -> bool {
        self.goal.take_if(|goal| self.decoded >= *goal).is_some()
    }

    /// Records the Kafka timestamp of a decoded record.
    pub(crate) fn record_timestamp(&mut self, millis: Option<i64>) {
        self.newest_ms = self.newest_ms.max(millis);
    }

    /// Returns the newest timestamp since the last cut, and clears it.
    pub(crate) const fn take_newest(&mut self) -> Option<i64> {
        self.newest_ms.take()
    }

    /// Returns the number of rows since the last cut.
    pub(crate) const fn rows(&self) -> i64 {
        self.counts.rows
    }

    /// Counts the gap before a record. Returns false if the record was counted already.
    pub(crate) fn advance_to(&mut self, offset: Offset) -> bool {
        if offset < self.next {
            return false;
        }
        self.counts.gaps += offset.0 - self.next.0;
        self.next = offset;
        true
    }

    pub(crate) fn count_row(&mut self, schema_id: Option<u32>) {
        self.counts.rows += 1;
        self.next.0 += 1;
        // Records of one schema come in long runs.
        if self.schemas.1 != schema_id {
            self.schemas.0.extend(schema_id);
            self.schemas.1 = schema_id;
        }
    }

    /// Returns the schema ids of the rows since the last cut, and clears them.
    pub(crate) fn take_schemas(&mut self) -> BTreeSet<u32> {
        self.schemas.1 = None;
        std::mem::take(&mut self.schemas.0)
    }

    pub(crate) fn count_dead(&mut self) {
        self.counts.dead += 1;
        self.next.0 += 1;
    }

    pub(crate) fn count_duplicate(&mut self) {
        self.counts.duplicates += 1;
        self.next.0 += 1;
    }

    pub(crate) fn count_tombstone(&mut self) {
        self.counts.tombstones += 1;
        self.next.0 += 1;
    }

    /// Returns whether there is progress to commit.
    pub(crate) fn has_progress(&self) -> bool {
        self.next > self.position.next_offset
    }

    /// Returns the number of offsets at the end of the partition that have no record and are not
    /// counted.
    pub(crate) fn idle_tail(&self) -> i64 {
        self.decoded.0 - self.next.0
    }

    /// Returns the progress since the last cut, if any. The next one begins at its end.
    pub(crate) fn cut(&mut self, partition: &TopicPartition) -> Option<ProgressDelta> {
        let decoded = if mutated!(IdleEndBeforeDecoding) { self.delivered } else { self.decoded };
        self.advance_to(decoded);
        if !self.has_progress() {
            return None;
        }
        let to = self.next;
        let delta = ProgressDelta {
            source: self.route.source.id,
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

    use ducktide_protocol::position::{Epoch, Partition, SnapshotId, SourceId};
    use ducktide_protocol::table::{Partitioning, TableShape};
    use ducktide_protocol::{FieldIds, Source, SourceSpec, Table, TableVersion};

    use super::*;
    use crate::batch::staging::ColumnHints;
    use crate::decode::newest_schemas::NewestSchemas;

    fn cursor(start: i64) -> (PartitionCursor, TopicPartition) {
        let version = TableVersion { table: "events".parse().unwrap(), changed_at: SnapshotId(1) };
        let shape = TableShape::from_described([("id", "BIGINT")]).unwrap();
        let spec = SourceSpec::without_ids(version.table.clone(), "events", "test");
        let route = TopicRoute {
            topic: "events".into(),
            source: Source { id: SourceId(1), spec },
            table: Table {
                version,
                shape,
                field_ids: FieldIds::default(),
                directory: PathBuf::from("/lake"),
                partitioning: Partitioning::default(),
                claim: None,
            },
            newest: NewestSchemas::default(),
            hints: ColumnHints::default(),
            dead_letters: None,
            partition_by: None,
            dedupe: None,
        };
        let position = Position { epoch: Epoch(3), next_offset: Offset(start) };
        (
            PartitionCursor::new(Arc::new(route), Generation(1), position, None),
            TopicPartition::new("events", 4),
        )
    }

    #[test]
    fn a_cut_counts_every_offset() {
        let (mut cursor, partition) = cursor(100);
        cursor.record_delivery(&partition, Offset(100), Offset(107));
        cursor.record_decoded(Offset(107));
        assert!(cursor.advance_to(Offset(100)));
        cursor.count_row(Some(7));
        assert!(cursor.advance_to(Offset(103)));
        cursor.count_tombstone();
        cursor.count_dead();
        assert!(cursor.advance_to(Offset(106)));
        cursor.count_row(Some(7));

        let delta = cursor.cut(&partition).unwrap();

        assert_eq!((delta.range.from, delta.range.to), (Offset(100), Offset(107)));
        assert_eq!(delta.epoch, Epoch(3));
        assert_eq!(delta.partition, Partition(4));
        let counts = Counts { rows: 2, dead: 1, tombstones: 1, gaps: 3, ..Counts::default() };
        assert_eq!(delta.counts, counts);
        assert_eq!(cursor.cut(&partition), None);
        assert_eq!((cursor.take_schemas(), cursor.take_schemas()), ([7].into(), [].into()));
    }

    #[test]
    fn a_record_delivered_twice_is_counted_once() {
        let (mut cursor, _) = cursor(100);
        assert!(cursor.advance_to(Offset(100)));
        cursor.count_row(Some(7));

        assert!(!cursor.advance_to(Offset(100)));
    }

    #[test]
    fn an_end_beyond_the_last_record_is_progress() {
        let (mut cursor, partition) = cursor(100);
        cursor.record_delivery(&partition, Offset(100), Offset(130));
        cursor.record_decoded(Offset(130));
        assert_eq!(cursor.idle_tail(), 30);

        let delta = cursor.cut(&partition).unwrap();

        assert_eq!(delta.counts, Counts { gaps: 30, ..Counts::default() });
    }

    #[test]
    #[should_panic(expected = "deliveries follow each other")]
    fn a_lost_delivery_is_not_counted_as_a_gap() {
        let (mut cursor, partition) = cursor(100);
        cursor.record_delivery(&partition, Offset(100), Offset(120));
        cursor.record_delivery(&partition, Offset(250), Offset(260));
    }

    #[test]
    fn undecoded_records_are_not_counted_as_a_gap() {
        let (mut cursor, partition) = cursor(100);
        cursor.record_delivery(&partition, Offset(100), Offset(110));
        assert!(cursor.advance_to(Offset(100)));
        cursor.count_row(Some(7));

        assert_eq!(cursor.cut(&partition).unwrap().range.to, Offset(101));
        assert_eq!((cursor.cut(&partition), cursor.idle_tail() > 0), (None, false));
    }

    #[test]
    fn a_goal_is_reported_once_when_all_records_before_it_were_decoded() {
        let (mut cursor, partition) = cursor(100);
        cursor.set_goal(Some(Offset(110)));
        cursor.record_delivery(&partition, Offset(100), Offset(110));
        assert!(!cursor.take_goal_reached());

        cursor.record_decoded(Offset(110));

        assert!(cursor.take_goal_reached());
        assert!(!cursor.take_goal_reached());
    }
}
