use super::*;
use crate::position::OffsetRange;

const SOURCE: SourceId = SourceId(1);
const KEY: PartitionKey = (SOURCE, Partition(0));

fn entry(kind: CommitKind, epoch: i32, from: i64, to: i64, counts: Counts) -> LedgerEntry {
    let range = OffsetRange { from: Offset(from), to: Offset(to) };
    let (source, partition) = KEY;
    let step = ProgressDelta { source, partition, epoch: Epoch(epoch), range, counts };
    LedgerEntry { kind, step }
}

fn start(at: i64) -> LedgerEntry {
    entry(CommitKind::Start, 0, at, at, Counts::default())
}

fn ingest(epoch: i32, from: i64, to: i64) -> LedgerEntry {
    let counts = Counts { rows: to - from, ..Counts::default() };
    entry(CommitKind::Ingest, epoch, from, to, counts)
}

fn replay(epoch: i32, from: i64, to: i64) -> LedgerEntry {
    let counts = Counts { rows: to - from, ..Counts::default() };
    entry(CommitKind::Replay, epoch, from, to, counts)
}

fn progress(epoch: i32, next_offset: i64) -> Progress {
    let position = Position { epoch: Epoch(epoch), next_offset: Offset(next_offset) };
    Progress::from([(KEY, position)])
}

fn rows(offsets: impl IntoIterator<Item = i64>) -> Vec<RecordId> {
    let (source, partition) = KEY;
    let row = |offset| RecordId { source, partition, offset: Offset(offset) };
    offsets.into_iter().map(row).collect()
}

#[test]
fn contiguous_ranges_with_replay_and_skip_are_valid() {
    let given_up = Counts { given_up: 5, ..Counts::default() };
    let ledger = [
        start(10),
        ingest(0, 10, 20),
        replay(0, 20, 15),
        ingest(1, 15, 30),
        entry(CommitKind::Skip, 1, 30, 35, given_up),
        ingest(2, 35, 36),
    ];

    assert_eq!(epoch_and_offset_move_only_by_cas(&ledger, &progress(2, 36)), Ok(()));
    assert_eq!(counts_add_up(&ledger), Ok(()));
}

#[test]
fn a_gap_and_an_overlap_are_not_contiguous() {
    for entry in [ingest(0, 21, 30), ingest(0, 19, 30)] {
        let broken = epoch_and_offset_move_only_by_cas(
            &[start(10), ingest(0, 10, 20), entry],
            &progress(0, 30),
        );
        let stood = Position { epoch: Epoch(0), next_offset: Offset(20) };
        assert_eq!(broken, Err(Violation::NotContiguous { expected: stood, entry }));
    }
}

#[test]
fn the_right_offset_in_an_old_epoch_is_not_contiguous() {
    let ledger = [start(0), ingest(0, 0, 9), replay(0, 9, 0), ingest(0, 0, 9)];

    let broken = epoch_and_offset_move_only_by_cas(&ledger, &progress(1, 9));

    assert!(matches!(broken, Err(Violation::NotContiguous { .. })), "{broken:?}");
}

#[test]
fn edited_progress_differs_from_the_ledger() {
    let ledger = [start(0), ingest(0, 0, 9)];

    for edited in [progress(0, 8), progress(1, 9), Progress::new()] {
        let broken = epoch_and_offset_move_only_by_cas(&ledger, &edited);
        assert!(matches!(broken, Err(Violation::ProgressMismatch { .. })), "{broken:?}");
    }
}

#[test]
fn a_partition_begins_with_its_start() {
    let first = ingest(0, 0, 9);

    let broken = epoch_and_offset_move_only_by_cas(&[first], &progress(0, 9));

    assert_eq!(broken, Err(Violation::NotStarted(first)));
}

#[test]
fn a_resolved_dead_letter_moves_nothing() {
    let dead = Counts { rows: 8, dead: 1, ..Counts::default() };
    let retried = Counts { rows: 1, dead: -1, ..Counts::default() };
    let retry = |offset| entry(CommitKind::Retry, 0, offset, offset, retried);
    let ledger = [start(0), entry(CommitKind::Ingest, 0, 0, 9, dead), retry(4)];

    assert_eq!(epoch_and_offset_move_only_by_cas(&ledger, &progress(0, 9)), Ok(()));
    assert_eq!(counts_add_up(&ledger), Ok(()));
    assert_eq!(rows_conserved(&ledger, &rows(0..9)), Ok(()));

    let beyond = [ledger[0], ledger[1], retry(9)];
    assert!(epoch_and_offset_move_only_by_cas(&beyond, &progress(0, 9)).is_err());
}

#[test]
fn counts_have_the_sum_and_the_signs_of_their_kind() {
    let rows = |rows| Counts { rows, ..Counts::default() };
    for wrong in [
        entry(CommitKind::Start, 0, 3, 4, rows(1)),
        entry(CommitKind::Ingest, 0, 3, 3, rows(0)),
        entry(CommitKind::Ingest, 0, 3, 5, rows(1)),
        entry(CommitKind::Ingest, 0, 3, 5, Counts { rows: 3, gaps: -1, ..Counts::default() }),
        entry(CommitKind::Ingest, 0, 3, 5, Counts { given_up: 2, ..Counts::default() }),
        entry(CommitKind::Replay, 0, 3, 5, rows(2)),
        entry(CommitKind::Skip, 0, 3, 5, rows(2)),
        entry(CommitKind::Retry, 0, 3, 3, rows(0)),
        entry(CommitKind::Discard, 0, 3, 3, Counts { rows: 1, dead: -1, ..Counts::default() }),
    ] {
        assert_eq!(counts_add_up(&[wrong]), Err(Violation::CountMismatch(wrong)));
    }
}

#[test]
fn rows_equal_the_sum_of_ranges_and_replays() {
    let ledger = [start(0), ingest(0, 0, 9), replay(0, 9, 5)];

    assert_eq!(rows_conserved(&ledger, &rows(0..5)), Ok(()));

    let mismatch = Violation::RowCountMismatch { key: KEY, rows: 6, ledger: 5 };
    assert_eq!(rows_conserved(&ledger, &rows(0..6)), Err(mismatch));
}

#[test]
fn rows_of_a_partition_without_a_ledger_are_not_conserved() {
    let mismatch = Violation::RowCountMismatch { key: KEY, rows: 1, ledger: 0 };

    assert_eq!(rows_conserved(&[], &rows([3])), Err(mismatch));
}

#[test]
fn a_record_twice_is_a_duplicate() {
    assert_eq!(no_duplicate(&rows([1, 2, 3])), Ok(()));
    assert_eq!(no_duplicate(&rows([1, 2, 1])), Err(Violation::Duplicate(rows([1])[0])));
}

#[test]
fn a_passed_record_without_a_row_is_lost() {
    let records = rows([0, 1, 3, 4]);

    assert_eq!(no_loss(&records, &rows([0, 1]), &progress(0, 3)), Ok(()));

    let lost = Violation::Lost(rows([1])[0]);
    assert_eq!(no_loss(&records, &rows([0, 3]), &progress(0, 4)), Err(lost));
}

#[test]
fn a_row_that_progress_did_not_reach_is_beyond_it() {
    assert_eq!(nothing_beyond_progress(&rows([0, 1]), &progress(0, 2)), Ok(()));

    let beyond = Violation::BeyondProgress(rows([2])[0]);
    assert_eq!(nothing_beyond_progress(&rows([0, 2]), &progress(0, 2)), Err(beyond.clone()));
    assert_eq!(nothing_beyond_progress(&rows([2]), &Progress::new()), Err(beyond));
}

#[test]
fn a_file_with_two_rows_in_the_catalog_is_registered_twice() {
    assert_eq!(no_file_registered_twice(["a", "b"]), Ok(()));

    let twice = Violation::RegisteredTwice("a".to_owned());
    assert_eq!(no_file_registered_twice(["a", "b", "a"]), Err(twice));
}

#[test]
fn a_live_file_that_does_not_exist_is_missing() {
    let missing = Violation::FileMissing("b".to_owned());

    assert_eq!(no_live_file_is_missing(["a", "b"], |_| true), Ok(()));
    assert_eq!(no_live_file_is_missing(["a", "b"], |name| *name == "a"), Err(missing));
}
