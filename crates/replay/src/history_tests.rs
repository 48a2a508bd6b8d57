use ducktide_protocol::commit::{CommitKind, ProgressDelta};
use ducktide_protocol::position::{Epoch, Partition, SourceId};

use super::*;

fn entry(kind: CommitKind, from: i64, to: i64, counts: Counts) -> LedgerEntry {
    let range = OffsetRange { from: Offset(from), to: Offset(to) };
    let (source, partition, epoch) = (SourceId(1), Partition(0), Epoch(0));
    LedgerEntry { kind, step: ProgressDelta { source, partition, epoch, range, counts } }
}

fn ingest(from: i64, to: i64, counts: Counts) -> LedgerEntry {
    assert_eq!(counts.total(), to - from);
    entry(CommitKind::Ingest, from, to, counts)
}

fn rows(rows: i64) -> Counts {
    Counts { rows, ..Counts::default() }
}

fn started() -> LedgerEntry {
    entry(CommitKind::Start, 100, 100, Counts::default())
}

#[test]
fn whole_ranges_are_taken_back_as_the_ledger_counted_them() {
    let second = Counts { rows: 6, tombstones: 3, gaps: 1, ..Counts::default() };
    let history = History::of(&[started(), ingest(100, 110, rows(10)), ingest(110, 120, second)]);

    let removed = history.removed(Offset(110), DividedRows::default()).unwrap();

    assert_eq!(removed, negative(second));
    assert_eq!((history.start(), history.part_cut_off(Offset(110))), (Some(Offset(100)), None));
}

#[test]
fn rows_of_a_divided_range_are_counted_in_the_tables() {
    let counts = Counts { rows: 6, dead: 1, tombstones: 2, gaps: 1, ..Counts::default() };
    let history = History::of(&[started(), ingest(100, 110, counts)]);
    let cut = history.part_cut_off(Offset(105)).unwrap();
    assert_eq!((cut.from, cut.to), (Offset(105), Offset(110)));

    let removed = history.removed(Offset(105), DividedRows { rows: 2, dead: 1 }).unwrap();

    assert_eq!((removed.rows, removed.dead, removed.total()), (-2, -1, -5));
    assert_eq!((removed.gaps, removed.tombstones), (-1, -1));
}

#[test]
fn a_range_that_an_earlier_replay_divided_is_counted_exactly() {
    let counts = Counts { rows: 6, tombstones: 3, gaps: 1, ..Counts::default() };
    let taken = Counts { rows: -3, gaps: -1, tombstones: -1, ..Counts::default() };
    let history = History::of(&[
        started(),
        ingest(100, 110, counts),
        entry(CommitKind::Replay, 110, 105, taken),
    ]);

    let removed = history.removed(Offset(100), DividedRows::default()).unwrap();

    assert_eq!(removed, Counts { rows: -3, tombstones: -2, ..Counts::default() });
}

#[test]
fn resolved_dead_letters_are_taken_back_by_their_resolution() {
    let counts = Counts { rows: 8, dead: 2, ..Counts::default() };
    let retried = Counts { rows: 1, dead: -1, ..Counts::default() };
    let discarded = Counts { given_up: 1, dead: -1, ..Counts::default() };
    let history = History::of(&[
        started(),
        ingest(100, 110, counts),
        entry(CommitKind::Retry, 103, 103, retried),
        entry(CommitKind::Discard, 107, 107, discarded),
    ]);

    let whole = history.removed(Offset(100), DividedRows::default()).unwrap();
    assert_eq!(whole, Counts { rows: -9, given_up: -1, ..Counts::default() });

    let part = history.removed(Offset(105), DividedRows { rows: 4, dead: 0 }).unwrap();
    assert_eq!(part, Counts { rows: -4, given_up: -1, ..Counts::default() });
}

#[test]
fn a_divided_range_with_missing_or_duplicate_rows_is_refused() {
    let history = History::of(&[started(), ingest(100, 110, rows(10))]);

    for found in [DividedRows { rows: 4, dead: 0 }, DividedRows { rows: 6, dead: 0 }] {
        let error = history.removed(Offset(105), found).unwrap_err().to_string();
        assert!(error.contains("replay from the start of the range"), "{error}");
    }
    assert_eq!(history.removed(Offset(100), DividedRows { rows: 4, dead: 0 }).unwrap(), rows(-10));
}

#[test]
fn a_skipped_range_can_be_divided() {
    let given_up = Counts { given_up: 50, ..Counts::default() };
    let history = History::of(&[started(), entry(CommitKind::Skip, 100, 150, given_up)]);

    let removed = history.removed(Offset(120), DividedRows::default()).unwrap();

    assert_eq!(removed, Counts { given_up: -30, ..Counts::default() });
}
