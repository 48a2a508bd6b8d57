//! Ledgers with and without errors.

use ducktide_protocol::commit::{Counts, ProgressDelta};
use ducktide_protocol::invariants::{Progress, counts_add_up, epoch_and_offset_move_only_by_cas};
use ducktide_protocol::position::{
    Epoch, Offset, OffsetRange, Partition, Position, SnapshotId, SourceId,
};
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

fn row(kind: CommitKind, epoch: i32, from: i64, to: i64, counts: Counts) -> LedgerRow {
    let step = ProgressDelta {
        source: SourceId(1),
        partition: Partition(0),
        epoch: Epoch(epoch),
        range: OffsetRange { from: Offset(from), to: Offset(to) },
        counts,
    };
    let (kind, snapshot) = (Some(kind), Some(SnapshotId(3)));
    LedgerRow { ledger_id: 7, kind, step, snapshot, committed_at: Timestamp::UNIX_EPOCH }
}

const fn at(epoch: i32, next_offset: i64) -> Position {
    Position { epoch: Epoch(epoch), next_offset: Offset(next_offset) }
}

fn ingest(epoch: i32, from: i64, to: i64) -> LedgerRow {
    row(CommitKind::Ingest, epoch, from, to, Counts { rows: to - from, ..Counts::default() })
}

fn start(at: i64) -> LedgerRow {
    row(CommitKind::Start, 0, at, at, Counts::default())
}

fn replay(epoch: i32, from: i64, to: i64) -> LedgerRow {
    row(CommitKind::Replay, epoch, from, to, Counts { rows: to - from, ..Counts::default() })
}

fn resolve(kind: CommitKind, epoch: i32, at: i64) -> LedgerRow {
    let counts = match kind {
        CommitKind::Retry => Counts { rows: 1, dead: -1, ..Counts::default() },
        _ => Counts { given_up: 1, dead: -1, ..Counts::default() },
    };
    row(kind, epoch, at, at, counts)
}

fn kinds(rows: &[LedgerRow]) -> Vec<FindingKind> {
    let mut chain = PartitionChain::default();
    rows.iter().flat_map(|row| follow(&mut chain, row)).map(|(kind, _)| kind).collect()
}

fn followed(rows: &[LedgerRow]) -> PartitionChain {
    let mut chain = PartitionChain::default();
    for row in rows {
        assert_eq!(follow(&mut chain, row), [], "{row:?}");
    }
    chain
}

#[test]
fn consecutive_ranges_have_no_findings() {
    let chain = followed(&[start(100), start(100), ingest(0, 100, 150), ingest(0, 150, 200)]);

    assert_eq!(chain.end().unwrap(), at(0, 200));
    assert_eq!(chain.covered(), OffsetRange { from: Offset(100), to: Offset(200) });
    assert_eq!(chain.totals().rows, 100);
}

#[test]
fn offsets_between_two_ranges_are_a_gap() {
    let rows = [start(0), ingest(0, 0, 10), ingest(0, 12, 20), ingest(0, 20, 30)];

    assert_eq!(kinds(&rows), [FindingKind::LedgerGap]);
}

#[test]
fn a_range_that_goes_back_without_a_replay_is_an_overlap() {
    let rows = [start(0), ingest(0, 0, 10), ingest(0, 5, 15), ingest(0, 15, 20)];

    assert_eq!(kinds(&rows), [FindingKind::LedgerOverlap]);
}

#[test]
fn a_replay_goes_back_and_starts_an_epoch() {
    let chain = followed(&[
        start(0),
        ingest(0, 0, 10),
        replay(0, 10, 4),
        ingest(1, 4, 8),
        replay(1, 8, 0),
        ingest(2, 0, 20),
    ]);

    assert_eq!(chain.end().unwrap(), at(2, 20));
    assert_eq!(chain.totals().rows, 20);
}

#[test]
fn a_replay_below_the_start_extends_the_covered_range() {
    // A replay of records that were never read counts negative gaps.
    let mut replay = replay(0, 100, 40);
    replay.step.counts = Counts { gaps: -60, ..Counts::default() };
    let chain = followed(&[start(100), replay, ingest(1, 40, 120)]);

    assert_eq!(chain.covered(), OffsetRange { from: Offset(40), to: Offset(120) });
}

#[test]
fn a_commit_of_an_old_epoch_is_found() {
    let rows = [start(0), ingest(0, 0, 10), replay(0, 10, 0), ingest(0, 0, 10)];

    assert_eq!(kinds(&rows), [FindingKind::LedgerEpoch]);
}

#[test]
fn a_skip_starts_an_epoch_and_counts_as_given_up() {
    let skip = row(CommitKind::Skip, 0, 10, 15, Counts { given_up: 5, ..Counts::default() });
    let chain = followed(&[start(0), ingest(0, 0, 10), skip, ingest(1, 15, 20)]);

    assert_eq!((chain.totals().rows, chain.totals().given_up), (15, 5));
}

#[test]
fn a_dead_letter_is_resolved_without_moving_progress() {
    let dead = Counts { rows: 8, dead: 2, ..Counts::default() };
    let rows = [
        start(0),
        row(CommitKind::Ingest, 0, 0, 10, dead),
        resolve(CommitKind::Retry, 0, 3),
        resolve(CommitKind::Discard, 0, 4),
        ingest(0, 10, 12),
    ];
    let chain = followed(&rows);

    assert_eq!(chain.end().unwrap(), at(0, 12));
    assert_eq!((chain.totals().rows, chain.totals().dead, chain.totals().given_up), (11, 0, 1));
    assert_eq!(dead_letter_rows(&chain), 4, "a dead letter and its resolution, twice");
}

#[test]
fn a_replay_takes_resolved_dead_letters_back() {
    let dead = Counts { rows: 8, dead: 2, ..Counts::default() };
    let back = Counts { rows: -7, dead: -1, ..Counts::default() };
    let chain = followed(&[
        start(0),
        row(CommitKind::Ingest, 0, 0, 10, dead),
        resolve(CommitKind::Retry, 0, 5),
        row(CommitKind::Replay, 0, 10, 2, back),
    ]);

    assert_eq!(dead_letter_rows(&chain), 0);
    assert_eq!(chain.totals().rows, 2);
}

#[test]
fn counts_that_do_not_add_up_or_fit_are_found() {
    let short = row(CommitKind::Ingest, 0, 0, 10, Counts { rows: 9, ..Counts::default() });
    let backwards = row(CommitKind::Ingest, 0, 10, 0, Counts { rows: -10, ..Counts::default() });
    let given_up = row(CommitKind::Ingest, 0, 0, 2, Counts { given_up: 2, ..Counts::default() });
    let mut no_snapshot = ingest(0, 0, 10);
    no_snapshot.snapshot = None;
    let unknown = LedgerRow { kind: None, ..start(0) };

    for wrong in [short, backwards, given_up, no_snapshot, unknown] {
        let rows = [start(wrong.step.range.from.0), wrong];
        assert_eq!(kinds(&rows), [FindingKind::LedgerCounts], "{wrong:?}");
    }
}

#[test]
fn live_ranges_end_at_the_offset_of_a_replay() {
    let counts = Counts { rows: 6, gaps: 4, ..Counts::default() };
    let rows =
        [start(0), row(CommitKind::Ingest, 0, 0, 10, counts), ingest(0, 10, 20), replay(0, 20, 7)];

    let live = live_ranges(&rows);
    let [live] = live.ranges() else { panic!("more than one range: {live:?}") };

    assert_eq!((live.range.from, live.range.to, live.is_cut), (Offset(0), Offset(7), true));
    assert_eq!(least_rows(live), 3, "four of the seven offsets may be the gaps");
}

#[test]
fn a_resolved_dead_letter_is_counted_in_its_range() {
    let dead = Counts { rows: 8, dead: 2, ..Counts::default() };
    let rows = [
        row(CommitKind::Ingest, 0, 0, 10, dead),
        resolve(CommitKind::Retry, 0, 3),
        resolve(CommitKind::Discard, 0, 4),
    ];

    let live = live_ranges(&rows);

    let live = live.ranges()[0];
    assert_eq!((least_rows(&live), accounted(&live)), (9, 1));
}

#[test]
fn a_partition_whose_first_range_is_not_its_start_is_found_once() {
    assert_eq!(kinds(&[ingest(0, 0, 10), ingest(0, 10, 20)]), [FindingKind::LedgerNotStarted]);
    assert_eq!(kinds(&[ingest(0, 0, 10), start(10)]), [FindingKind::LedgerNotStarted]);
    let unknown = LedgerRow { kind: None, ..start(0) };
    assert_eq!(kinds(&[unknown, ingest(0, 0, 10)]), [FindingKind::LedgerCounts]);
}

fn entries(rows: &[LedgerRow]) -> Vec<LedgerEntry> {
    rows.iter().map(|row| row.entry().unwrap()).collect()
}

proptest! {
    /// Reports a change to a ledger exactly when it breaks an invariant.
    #[test]
    fn a_change_is_found_if_it_breaks_an_invariant(
        at in 1_usize..6, shift in -3_i64..4, epoch in 0_i32..2, first in 0_usize..3
    ) {
        let mut rows = vec![start(0), ingest(0, 0, 10), ingest(0, 10, 20), replay(0, 20, 5)];
        rows.extend([ingest(1, 5, 15), ingest(1, 15, 20)]);
        rows[at].step.range.from.0 += shift;
        rows[at].step.epoch.0 = epoch;
        rows.drain(..first);
        let last = |rows: &[LedgerRow]| {
            let mut chain = PartitionChain::default();
            for row in rows {
                follow(&mut chain, row);
            }
            chain.end().unwrap()
        };
        let progress = Progress::from([((SourceId(1), Partition(0)), last(&rows))]);
        let holds = epoch_and_offset_move_only_by_cas(&entries(&rows), &progress).is_ok()
            && counts_add_up(&entries(&rows)).is_ok();
        prop_assert_eq!(kinds(&rows).is_empty(), holds, "{:?}", rows);
    }

    /// Commits of workers and replays leave sums that match the rows, and no findings.
    #[test]
    fn valid_ledgers_have_no_findings(steps in prop::collection::vec((0_u8..8, 1_i64..50), 1..60)) {
        let mut rows = vec![start(0)];
        let (mut epoch, mut next) = (0, 0);
        for (choice, length) in steps {
            if choice == 0 && next > 0 {
                let to = (next - length).max(0);
                rows.push(replay(epoch, next, to));
                (epoch, next) = (epoch + 1, to);
            } else {
                rows.push(ingest(epoch, next, next + length));
                next += length;
            }
        }
        let chain = followed(&rows);
        prop_assert_eq!(chain.end().unwrap(), at(epoch, next));
        prop_assert_eq!(chain.totals().rows, next);
        let key = (SourceId(1), Partition(0));
        let progress = Progress::from([(key, chain.end().unwrap())]);
        prop_assert_eq!(epoch_and_offset_move_only_by_cas(&entries(&rows), &progress), Ok(()));
        prop_assert_eq!(counts_add_up(&entries(&rows)), Ok(()));
        let live: i64 = live_ranges(&rows).ranges().iter().map(|live| live.range.len()).sum();
        prop_assert_eq!(live, next);
    }
}
