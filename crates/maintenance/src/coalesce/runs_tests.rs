use ducktide_protocol::commit::{CommitKind, ProgressDelta};
use ducktide_protocol::invariants::{
    LedgerEntry, Progress, counts_add_up, epoch_and_offset_move_only_by_cas,
};
use ducktide_protocol::position::Position;
use proptest::prelude::*;

use super::*;

/// A ledger and what its replays went back to.
#[derive(Clone, Debug, Default)]
struct Ledger {
    rows: Vec<(CommitKind, LedgerRange)>,
}

/// What happens next to a partition.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ingest { rows: u8, dead: u8, gaps: u8 },
    Idle(u8),
    Retry,
    Skip(u8),
    Replay(u8),
}

fn position_after(row: &(CommitKind, LedgerRange)) -> Position {
    let (kind, range) = row;
    let epoch = Epoch(range.epoch.0 + i32::from(kind.begins_epoch()));
    Position { epoch, next_offset: range.range.to }
}

impl Ledger {
    fn position(&self, partition: Partition) -> Option<Position> {
        let moves = |row: &&(CommitKind, LedgerRange)| {
            row.1.partition == partition && !row.0.resolves_dead_letter()
        };
        self.rows.iter().rfind(moves).map(position_after)
    }

    fn push(&mut self, kind: CommitKind, partition: i32, to: i64, counts: Counts, minutes: i64) {
        let partition = Partition(partition);
        let at = self.position(partition);
        let from = at.map_or(Offset(100), |at| at.next_offset);
        let id = i64::try_from(self.rows.len()).unwrap();
        let snapshot = (counts != Counts::default()).then_some(SnapshotId(id));
        let range = LedgerRange {
            id,
            source: SourceId(1),
            partition,
            epoch: at.map_or(Epoch(0), |at| at.epoch),
            range: OffsetRange { from, to: Offset(to) },
            snapshot,
            is_ingest: kind == CommitKind::Ingest,
            counts,
            committed_at: Timestamp::from_second(minutes * 60).unwrap(),
        };
        self.rows.push((kind, range));
    }

    fn take_step(&mut self, partition: i32, step: Step, minutes: i64) {
        let Some(Position { next_offset: Offset(next), .. }) = self.position(Partition(partition))
        else {
            return self.push(CommitKind::Start, partition, 100, Counts::default(), minutes);
        };
        match step {
            Step::Ingest { rows, dead, gaps } => {
                let (rows, dead, gaps) = (i64::from(rows) + 1, i64::from(dead), i64::from(gaps));
                let counts = Counts { rows, dead, gaps, ..Counts::default() };
                self.push(CommitKind::Ingest, partition, next + counts.total(), counts, minutes);
            }
            Step::Idle(gaps) => {
                let counts = Counts { gaps: i64::from(gaps) + 1, ..Counts::default() };
                self.push(CommitKind::Ingest, partition, next + counts.gaps, counts, minutes);
            }
            // Only an offset that progress has passed can be a letter.
            Step::Retry if next == 100 => {}
            Step::Retry => {
                let counts = Counts { rows: 1, dead: -1, ..Counts::default() };
                self.push(CommitKind::Retry, partition, next, counts, minutes);
                let last = &mut self.rows.last_mut().unwrap().1;
                last.range = OffsetRange { from: Offset(100), to: Offset(100) };
            }
            Step::Skip(records) => {
                let counts = Counts { given_up: i64::from(records) + 1, ..Counts::default() };
                self.push(CommitKind::Skip, partition, next + counts.given_up, counts, minutes);
            }
            Step::Replay(back) => {
                let to = (next - i64::from(back) - 1).max(100);
                let counts = Counts { gaps: to - next, ..Counts::default() };
                if to < next {
                    self.push(CommitKind::Replay, partition, to, counts, minutes);
                }
            }
        }
    }

    fn entries(&self) -> Vec<LedgerEntry> {
        let entry = |(kind, range): &(CommitKind, LedgerRange)| LedgerEntry {
            kind: *kind,
            step: ProgressDelta {
                source: range.source,
                partition: range.partition,
                epoch: range.epoch,
                range: range.range,
                counts: range.counts,
            },
        };
        self.rows.iter().map(entry).collect()
    }

    fn progress(&self) -> Progress {
        let keys: BTreeSet<_> = self.rows.iter().map(|(_, range)| range.key()).collect();
        keys.into_iter().map(|key| (key, self.position(key.1).unwrap())).collect()
    }

    fn replayed_to(&self) -> BTreeSet<(SourceId, Partition, Offset)> {
        let replays = self.rows.iter().filter(|(kind, _)| *kind == CommitKind::Replay);
        replays.map(|(_, r)| (r.source, r.partition, r.range.to)).collect()
    }

    fn totals(&self, partition: i32) -> Counts {
        let of_partition = self.rows.iter().filter(|(_, range)| range.partition.0 == partition);
        of_partition.fold(Counts::default(), |sum, (_, range)| sum.plus(range.counts))
    }

    /// The ledger after it was coalesced in pages; how many rows it has less.
    fn coalesced(&self, horizon: Horizon, page: usize) -> (Self, usize) {
        let mut coalescer = Coalescer::new(horizon, self.replayed_to());
        let mut ledger = self.clone();
        for rows in self.rows.chunks(page.max(1)) {
            for (_, range) in rows {
                coalescer.take(range.clone());
            }
            for Coalesced { survivor, absorbed } in coalescer.flush() {
                ledger.rows.retain(|(_, range)| !absorbed.contains(&range.id));
                let same = ledger.rows.iter_mut().find(|(_, range)| range.id == survivor.id);
                same.expect("a survivor is in the ledger").1 = survivor;
            }
        }
        let less = self.rows.len() - ledger.rows.len();
        (ledger, less)
    }

    /// Kind, partition, offsets and counts of each row.
    fn told(&self) -> Vec<(CommitKind, i32, i64, i64, i64)> {
        let told = |(kind, range): &(CommitKind, LedgerRange)| {
            let OffsetRange { from, to } = range.range;
            (*kind, range.partition.0, from.0, to.0, range.counts.rows)
        };
        self.rows.iter().map(told).collect()
    }
}

/// Everything is old, and no snapshot can be read.
fn everything() -> Horizon {
    Horizon { older_than: Timestamp::MAX, oldest_snapshot: SnapshotId(i64::MAX) }
}

const INGEST: Step = Step::Ingest { rows: 9, dead: 0, gaps: 0 };

fn ledger_of(steps: &[(i32, Step, i64)]) -> Ledger {
    let mut ledger = Ledger::default();
    for (partition, step, minutes) in steps {
        if ledger.position(Partition(*partition)).is_none() {
            ledger.take_step(*partition, INGEST, *minutes);
        }
        ledger.take_step(*partition, *step, *minutes);
    }
    ledger
}

#[test]
fn neighbours_of_a_day_become_one_whatever_other_partitions_do_in_between() {
    let ledger = ledger_of(&[(0, INGEST, 1), (1, INGEST, 2), (0, INGEST, 3), (1, INGEST, 4)]);

    let (after, less) = ledger.coalesced(everything(), 100);

    assert_eq!(less, 2);
    assert_eq!(
        after.told(),
        [
            (CommitKind::Start, 0, 100, 100, 0),
            (CommitKind::Start, 1, 100, 100, 0),
            (CommitKind::Ingest, 0, 100, 120, 20),
            (CommitKind::Ingest, 1, 100, 120, 20),
        ]
    );
    let survivor = &after.rows[2].1;
    assert_eq!((survivor.id, survivor.snapshot), (4, Some(SnapshotId(4))));
    assert_eq!(survivor.committed_at, ledger.rows[4].1.committed_at, "the last one's time");
}

#[test]
fn a_day_ends_at_midnight() {
    let midnight = 24 * 60;
    let ledger = ledger_of(&[(0, INGEST, midnight - 2), (0, INGEST, midnight - 1)]);
    assert_eq!(ledger.coalesced(everything(), 100).1, 1);

    let ledger = ledger_of(&[(0, INGEST, midnight - 1), (0, INGEST, midnight)]);
    assert_eq!(ledger.coalesced(everything(), 100).1, 0);
}

#[test]
fn nothing_becomes_one_across_a_row_of_another_kind() {
    for other in [Step::Retry, Step::Skip(3), Step::Replay(4)] {
        let ledger = ledger_of(&[(0, INGEST, 1), (0, other, 2), (0, INGEST, 3)]);
        let (after, less) = ledger.coalesced(everything(), 100);
        assert_eq!((less, after.told()), (0, ledger.told()), "{other:?}");
    }
}

#[test]
fn an_offset_to_which_a_replay_went_back_stays_the_end_of_a_range() {
    let ledger =
        ledger_of(&[(0, INGEST, 1), (0, INGEST, 2), (0, INGEST, 3), (0, Step::Replay(9), 4)]);

    let (after, less) = ledger.coalesced(everything(), 100);

    assert_eq!(less, 1);
    assert_eq!(
        after.told()[1..],
        [
            (CommitKind::Ingest, 0, 100, 120, 20),
            (CommitKind::Ingest, 0, 120, 130, 10),
            (CommitKind::Replay, 0, 130, 120, 0),
        ]
    );
}

#[test]
fn a_range_that_is_young_or_that_a_readable_snapshot_may_lack_stays_and_ends_its_partition() {
    let ledger = ledger_of(&[(0, INGEST, 1), (0, INGEST, 2), (0, INGEST, 3), (0, INGEST, 4)]);
    let young = Horizon { older_than: Timestamp::from_second(150).unwrap(), ..everything() };
    assert_eq!(ledger.coalesced(young, 100).1, 1);

    let readable = Horizon { oldest_snapshot: SnapshotId(3), ..everything() };
    assert_eq!(ledger.coalesced(readable, 100).1, 1);

    // The clock went back for the fourth commit: it is no neighbour of the second.
    let ledger = ledger_of(&[(0, INGEST, 1), (0, INGEST, 5), (0, INGEST, 1), (0, INGEST, 1)]);
    assert_eq!(ledger.coalesced(young, 100).1, 0);
}

#[test]
fn idle_progress_lends_its_counts_and_takes_the_snapshot_of_its_neighbour() {
    let ledger = ledger_of(&[(0, INGEST, 1), (0, Step::Idle(4), 2)]);
    let mut ledger = ledger;
    ledger.rows[2].1.snapshot = None;

    let (after, less) = ledger.coalesced(everything(), 100);

    let survivor = &after.rows[1].1;
    assert_eq!((less, survivor.snapshot), (1, Some(SnapshotId(1))));
    assert_eq!((survivor.counts.rows, survivor.counts.gaps), (10, 5));
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<u8>(), any::<u8>(), any::<u8>())
            .prop_map(|(rows, dead, gaps)| Step::Ingest { rows, dead, gaps }),
        2 => any::<u8>().prop_map(Step::Idle),
        1 => Just(Step::Retry),
        1 => any::<u8>().prop_map(Step::Skip),
        1 => any::<u8>().prop_map(Step::Replay),
    ]
}

proptest! {
    #[test]
    fn sums_tiling_and_other_kinds_stay_and_a_second_time_changes_nothing(
        steps in prop::collection::vec((0..3i32, any_step(), 0..400i64), 1..60),
        page in 1..20usize,
        cutoff in 0..20_000i64,
    ) {
        let mut minutes = 0;
        let mut ledger = Ledger::default();
        for (partition, step, pause) in steps {
            minutes += pause;
            ledger.take_step(partition, step, minutes);
        }
        let older_than = Timestamp::from_second(cutoff * 60).unwrap();
        let horizon = Horizon { older_than, oldest_snapshot: SnapshotId(50) };

        let (after, _) = ledger.coalesced(horizon, page);

        let entries = after.entries();
        prop_assert_eq!(epoch_and_offset_move_only_by_cas(&entries, &ledger.progress()), Ok(()));
        prop_assert_eq!(counts_add_up(&entries), counts_add_up(&ledger.entries()));
        for partition in 0..3 {
            prop_assert_eq!(after.totals(partition), ledger.totals(partition));
        }
        let others = |ledger: &Ledger| {
            let other = |row: &&(CommitKind, LedgerRange)| row.0 != CommitKind::Ingest;
            ledger.rows.iter().filter(other).cloned().collect::<Vec<_>>()
        };
        prop_assert_eq!(others(&after), others(&ledger));
        let young = |ledger: &Ledger| {
            let young = |row: &&(CommitKind, LedgerRange)| !horizon.is_behind(&row.1);
            ledger.rows.iter().filter(young).cloned().collect::<Vec<_>>()
        };
        prop_assert_eq!(young(&after), young(&ledger));
        let (again, less) = after.coalesced(horizon, page);
        prop_assert_eq!((less, again.rows), (0, after.rows));
    }
}
