use ducktide_protocol::commit::{CommitKind, Counts, ProgressDelta};
use ducktide_protocol::invariants::{
    LedgerEntry, Progress, counts_add_up, epoch_and_offset_move_only_by_cas,
};
use ducktide_protocol::position::{Epoch, Partition, Position, SourceId};
use proptest::prelude::*;

use super::*;

/// A ledger, in the order of its commits.
#[derive(Clone, Debug, Default)]
struct Ledger {
    rows: Vec<LedgerRow>,
}

/// Next commit of a partition.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ingest { rows: u8, dead: u8, gaps: u8 },
    Idle(u8),
    Retry,
    Skip(u8),
    Replay(u8),
}

fn kind(row: &LedgerRow) -> CommitKind {
    row.kind.expect("all kinds are known")
}

fn position_after(row: &LedgerRow) -> Position {
    let epoch = Epoch(row.step.epoch.0 + i32::from(kind(row).begins_epoch()));
    Position { epoch, next_offset: row.step.range.to }
}

impl Ledger {
    fn position(&self, partition: Partition) -> Option<Position> {
        let moves =
            |row: &&LedgerRow| row.step.partition == partition && !kind(row).resolves_dead_letter();
        self.rows.iter().rfind(moves).map(position_after)
    }

    fn push(&mut self, kind: CommitKind, partition: i32, to: i64, counts: Counts, minutes: i64) {
        let partition = Partition(partition);
        let at = self.position(partition);
        let from = at.map_or(Offset(100), |at| at.next_offset);
        let id = i64::try_from(self.rows.len()).unwrap();
        let snapshot = (counts != Counts::default()).then_some(SnapshotId(id));
        let epoch = at.map_or(Epoch(0), |at| at.epoch);
        let range = OffsetRange { from, to: Offset(to) };
        self.rows.push(LedgerRow {
            ledger_id: id,
            kind: Some(kind),
            step: ProgressDelta { source: SourceId(1), partition, epoch, range, counts },
            snapshot,
            committed_at: Timestamp::from_second(minutes * 60).unwrap(),
        });
    }

    fn push_step(&mut self, partition: i32, step: Step, minutes: i64) {
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
            // Only an offset that progress has passed can be a dead letter.
            Step::Retry if next == 100 => {}
            Step::Retry => {
                let counts = Counts { rows: 1, dead: -1, ..Counts::default() };
                self.push(CommitKind::Retry, partition, next, counts, minutes);
                let last = &mut self.rows.last_mut().unwrap().step;
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
        self.rows.iter().map(|row| row.entry().unwrap()).collect()
    }

    fn progress(&self) -> Progress {
        let keys: BTreeSet<_> = self.rows.iter().map(LedgerRow::key).collect();
        keys.into_iter().map(|key| (key, self.position(key.1).unwrap())).collect()
    }

    fn replay_targets(&self) -> ReplayTargets {
        let replays = self.rows.iter().filter(|row| kind(row) == CommitKind::Replay);
        replays.map(|row| (row.key(), row.step.range.to)).collect()
    }

    fn totals(&self, partition: i32) -> Counts {
        let of_partition = self.rows.iter().filter(|row| row.step.partition.0 == partition);
        of_partition.fold(Counts::default(), |sum, row| sum.plus(row.step.counts))
    }

    /// Returns the ledger coalesced in pages, and the number of removed rows.
    fn coalesced(&self, horizon: Horizon, page: usize) -> (Self, usize) {
        let mut coalescer = Coalescer::new(horizon, self.replay_targets());
        let mut ledger = self.clone();
        for rows in self.rows.chunks(page.max(1)) {
            for row in rows {
                coalescer.push(*row);
            }
            for CoalescedRows { row, removed } in coalescer.flush() {
                ledger.rows.retain(|row| !removed.contains(&row.ledger_id));
                let mut rows = ledger.rows.iter_mut();
                let same = rows.find(|other| other.ledger_id == row.ledger_id);
                *same.expect("the newest row stays in the ledger") = row;
            }
        }
        let removed = self.rows.len() - ledger.rows.len();
        (ledger, removed)
    }

    /// Returns kind, partition, offsets and number of rows of each range.
    fn ranges(&self) -> Vec<(CommitKind, i32, i64, i64, i64)> {
        let range = |row: &LedgerRow| {
            let ProgressDelta { partition, range, counts, .. } = row.step;
            (kind(row), partition.0, range.from.0, range.to.0, counts.rows)
        };
        self.rows.iter().map(range).collect()
    }
}

/// Returns a horizon after all rows and snapshots.
fn everything() -> Horizon {
    Horizon { older_than: Timestamp::MAX, oldest_snapshot: SnapshotId(i64::MAX) }
}

const INGEST: Step = Step::Ingest { rows: 9, dead: 0, gaps: 0 };

fn ledger_of(steps: &[(i32, Step, i64)]) -> Ledger {
    let mut ledger = Ledger::default();
    for (partition, step, minutes) in steps {
        if ledger.position(Partition(*partition)).is_none() {
            ledger.push_step(*partition, INGEST, *minutes);
        }
        ledger.push_step(*partition, *step, *minutes);
    }
    ledger
}

#[test]
fn consecutive_rows_of_a_day_are_joined_across_commits_of_other_partitions() {
    let ledger = ledger_of(&[(0, INGEST, 1), (1, INGEST, 2), (0, INGEST, 3), (1, INGEST, 4)]);

    let (after, removed) = ledger.coalesced(everything(), 100);

    assert_eq!(removed, 2);
    assert_eq!(
        after.ranges(),
        [
            (CommitKind::Start, 0, 100, 100, 0),
            (CommitKind::Start, 1, 100, 100, 0),
            (CommitKind::Ingest, 0, 100, 120, 20),
            (CommitKind::Ingest, 1, 100, 120, 20),
        ]
    );
    let row = &after.rows[2];
    assert_eq!((row.ledger_id, row.snapshot), (4, Some(SnapshotId(4))));
    assert_eq!(row.committed_at, ledger.rows[4].committed_at, "the time of the newest row");
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
fn no_rows_are_joined_across_a_row_of_another_kind() {
    for other in [Step::Retry, Step::Skip(3), Step::Replay(4)] {
        let ledger = ledger_of(&[(0, INGEST, 1), (0, other, 2), (0, INGEST, 3)]);
        let (after, removed) = ledger.coalesced(everything(), 100);
        assert_eq!((removed, after.ranges()), (0, ledger.ranges()), "{other:?}");
    }
}

#[test]
fn no_rows_are_joined_across_the_target_of_a_replay() {
    let ledger =
        ledger_of(&[(0, INGEST, 1), (0, INGEST, 2), (0, INGEST, 3), (0, Step::Replay(9), 4)]);

    let (after, removed) = ledger.coalesced(everything(), 100);

    assert_eq!(removed, 1);
    assert_eq!(
        after.ranges()[1..],
        [
            (CommitKind::Ingest, 0, 100, 120, 20),
            (CommitKind::Ingest, 0, 120, 130, 10),
            (CommitKind::Replay, 0, 130, 120, 0),
        ]
    );
}

#[test]
fn the_first_row_after_the_horizon_ends_its_partition() {
    let ledger = ledger_of(&[(0, INGEST, 1), (0, INGEST, 2), (0, INGEST, 3), (0, INGEST, 4)]);
    let young = Horizon { older_than: Timestamp::from_second(150).unwrap(), ..everything() };
    assert_eq!(ledger.coalesced(young, 100).1, 1);

    let readable = Horizon { oldest_snapshot: SnapshotId(3), ..everything() };
    assert_eq!(ledger.coalesced(readable, 100).1, 1);

    // The clock went back for the fourth commit: the third is after the horizon.
    let ledger = ledger_of(&[(0, INGEST, 1), (0, INGEST, 5), (0, INGEST, 1), (0, INGEST, 1)]);
    assert_eq!(ledger.coalesced(young, 100).1, 0);
}

#[test]
fn progress_without_rows_is_joined_and_takes_the_snapshot_of_the_earlier_row() {
    let mut ledger = ledger_of(&[(0, INGEST, 1), (0, Step::Idle(4), 2)]);
    ledger.rows[2].snapshot = None;

    let (after, removed) = ledger.coalesced(everything(), 100);

    let row = &after.rows[1];
    assert_eq!((removed, row.snapshot), (1, Some(SnapshotId(1))));
    assert_eq!((row.step.counts.rows, row.step.counts.gaps), (10, 5));
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
    fn sums_continuity_and_other_kinds_stay_and_a_second_pass_changes_nothing(
        steps in prop::collection::vec((0..3i32, any_step(), 0..400i64), 1..60),
        page in 1..20usize,
        cutoff in 0..20_000i64,
    ) {
        let mut minutes = 0;
        let mut ledger = Ledger::default();
        for (partition, step, pause) in steps {
            minutes += pause;
            ledger.push_step(partition, step, minutes);
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
            let other = |row: &&LedgerRow| kind(row) != CommitKind::Ingest;
            ledger.rows.iter().filter(other).copied().collect::<Vec<_>>()
        };
        prop_assert_eq!(others(&after), others(&ledger));
        let young = |ledger: &Ledger| {
            let young = |row: &&LedgerRow| !horizon.is_before(row);
            ledger.rows.iter().filter(young).copied().collect::<Vec<_>>()
        };
        prop_assert_eq!(young(&after), young(&ledger));
        let (again, removed) = after.coalesced(horizon, page);
        prop_assert_eq!((removed, again.rows), (0, after.rows));
    }
}
