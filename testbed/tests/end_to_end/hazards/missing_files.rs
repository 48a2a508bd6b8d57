//! Replays of missing, truncated and damaged data files.

use std::{fs, path::PathBuf, time::Duration};

use ducktide_maintenance::Retention;
use ducktide_protocol::{
    ErrorKind,
    commit::{Commit, Counts, ProgressDelta},
    position::{Epoch, Offset, Partition},
};
use ducktide_replay::ReplaySummary;
use ducktide_testbed::catalog::CatalogKind;
use ducktide_verify::{FindingKind, NoteKind, VerifyRequest};
use jiff::Timestamp;

use super::{
    case::{Case, assert_exact, is_committed, merge},
    on_both_lakes,
    remedies::{commit_dead_letters, filled, found, ingest, request, try_replay},
};

on_both_lakes!(
    a_missing_file_is_read_again,
    a_missing_file_is_restored_from_a_backup,
    a_missing_file_of_several_partitions_is_read_again,
    a_truncated_file_is_read_again,
    a_damaged_file_is_moved_away_and_read_again,
    a_missing_file_within_a_range_is_read_again,
    a_file_whose_delete_file_is_missing_is_read_again,
    a_missing_file_of_dead_letters_is_read_again,
    a_replay_that_does_not_cover_a_missing_file_is_rejected_with_its_offsets,
    a_missing_file_with_rows_of_other_clients_is_rejected,
    a_replay_plan_with_a_missing_file_changes_nothing,
    snapshots_with_an_ended_file_expire,
);

/// Returns the data files of the table in the order of their registration.
fn files(case: &Case) -> Vec<PathBuf> {
    let mut lake = case.operator();
    let sql = format!(
        "SELECT path FROM {} WHERE end_snapshot IS NULL ORDER BY data_file_id",
        case.own("ducklake_data_file")
    );
    let mut statement = lake.connection().unwrap().prepare(&sql).unwrap();
    let names = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    names.map(|name| case.table.directory.join(name.unwrap())).collect()
}

/// Replays as `replay --from-missing-files` does.
fn replay_missing(case: &Case) -> ReplaySummary {
    let mut operator = case.operator();
    let missing = ducktide_replay::missing_files(&mut operator, &case.source).unwrap();
    assert!(missing.files > 0);
    let offsets: Vec<_> = missing.offsets.iter().map(|(p, o)| (p.0, o.0)).collect();
    ducktide_replay::replay(&mut operator, &request(case, &offsets)).unwrap()
}

/// Checks that the lake is exact, apart from the note about missing files of older snapshots.
fn assert_replayed(case: &Case, files: u64) {
    let request = VerifyRequest { deep: true, memory_limit: 1 << 28, ..VerifyRequest::default() };
    let verification =
        ducktide_verify::verify(&mut case.operator(), &request, &mut |_| {}).unwrap();
    assert!(verification.findings.detailed().is_empty(), "{:?}", verification.findings);
    let note = verification.notes.iter().find(|note| note.kind == NoteKind::FilesReplayed);
    assert_eq!(note.map(|note| note.count), Some(files), "{:?}", verification.notes);
}

/// Commits all records again up to the offsets of the fixture.
fn read_again(case: &mut Case) {
    for (partition, end) in [(0, 150), (1, 30)] {
        let (epoch, next) = case.position(partition);
        if next < end {
            ingest(case, partition, epoch, next, end);
        }
    }
    assert_eq!(case.count(), 80);
}

fn a_missing_file_is_read_again(kind: CatalogKind) {
    let mut case = filled(kind);
    fs::remove_file(&files(&case)[1]).unwrap();
    assert_eq!(found(&case, true), [FindingKind::DataFileMissing]);

    let done = replay_missing(&case);

    assert_eq!((done.files_missing, done.rows_missing, done.rows), (1, 30, 0));
    assert_eq!((case.position(0), case.position(1)), ((1, 120), (0, 30)));
    assert_replayed(&case, 1);
    read_again(&mut case);
    assert_replayed(&case, 1);
}

fn a_missing_file_is_restored_from_a_backup(kind: CatalogKind) {
    let case = filled(kind);
    let file = files(&case)[1].clone();
    let backup = file.with_extension("backup");
    fs::rename(&file, &backup).unwrap();
    assert_eq!(found(&case, false), [FindingKind::DataFileMissing]);
    fs::write(&file, "cut").unwrap();
    assert_eq!(found(&case, false), [FindingKind::DataFileTruncated]);

    fs::rename(&backup, &file).unwrap();

    assert_exact(&case);
    let none = ducktide_replay::missing_files(&mut case.operator(), &case.source).unwrap();
    assert_eq!(none.files, 0);
}

fn a_missing_file_of_several_partitions_is_read_again(kind: CatalogKind) {
    let mut case = filled(kind);
    merge(&mut case.operator());
    ingest(&mut case, 0, 0, 150, 160);
    let merged = files(&case)[0].clone();
    fs::remove_file(merged).unwrap();

    let done = replay_missing(&case);

    assert_eq!((done.files_missing, done.rows_missing, done.rows), (1, 80, 10));
    assert_eq!((case.position(0), case.position(1)), ((1, 100), (1, 0)));
    assert_replayed(&case, 1);
    read_again(&mut case);
    assert_replayed(&case, 1);
}

fn a_truncated_file_is_read_again(kind: CatalogKind) {
    let mut case = filled(kind);
    let file = files(&case)[2].clone();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 100]).unwrap();
    assert_eq!(found(&case, true), [FindingKind::DataFileTruncated]);

    replay_missing(&case);

    assert_eq!((case.position(0), case.position(1)), ((0, 150), (1, 0)));
    read_again(&mut case);
    assert_replayed(&case, 1);
}

fn a_damaged_file_is_moved_away_and_read_again(kind: CatalogKind) {
    let mut case = filled(kind);
    let file = files(&case)[0].clone();
    let bytes = fs::metadata(&file).unwrap().len();
    fs::write(&file, vec![b'x'; usize::try_from(bytes).unwrap()]).unwrap();
    assert_eq!(found(&case, true), [FindingKind::TableUnreadable]);

    fs::rename(&file, case.table.directory.join("../../../damaged")).unwrap();
    replay_missing(&case);

    assert_eq!(case.position(0), (1, 100));
    read_again(&mut case);
    assert_replayed(&case, 1);
}

/// The range has two files, tombstones and gaps; only its second file is missing.
fn a_missing_file_within_a_range_is_read_again(kind: CatalogKind) {
    let mut case = filled(kind);
    let staged = [(150, 160), (160, 170)].map(|(from, to)| case.rows(0, from, to));
    let paths = staged.iter().flat_map(Commit::files).cloned().collect();
    let counts = Counts { rows: 20, tombstones: 4, gaps: 6, ..Counts::default() };
    let delta = ProgressDelta { counts, ..case.delta(0, 150, 180, 20) };
    let commit = Commit::ingest(vec![delta], paths, vec![case.table.version.clone()]);
    assert!(is_committed(case.send(&commit)));
    assert_exact(&case);
    fs::remove_file(&staged[1].files()[0].path).unwrap();

    let done = replay_missing(&case);

    assert_eq!(done.removed(), Counts { rows: -10, tombstones: -4, gaps: -6, ..Counts::default() });
    assert_eq!(case.position(0), (1, 160));
    assert_replayed(&case, 1);
    ingest(&mut case, 0, 1, 160, 170);
    assert_replayed(&case, 1);
}

fn a_file_whose_delete_file_is_missing_is_read_again(kind: CatalogKind) {
    let mut case = filled(kind);
    case.sql("DELETE FROM lake.events WHERE _kafka_partition = 0 AND _kafka_offset = 105").unwrap();
    let entries = fs::read_dir(&case.table.directory).unwrap().map(|entry| entry.unwrap().path());
    let is_delete_file = |path: &PathBuf| path.to_string_lossy().ends_with("-delete.parquet");
    fs::remove_file(entries.into_iter().find(is_delete_file).unwrap()).unwrap();
    assert!(found(&case, false).contains(&FindingKind::DeleteFileMissing));

    let done = replay_missing(&case);

    assert_eq!((done.files_missing, done.rows_missing), (1, 19));
    read_again(&mut case);
    assert_replayed(&case, 1);
}

fn a_missing_file_of_dead_letters_is_read_again(kind: CatalogKind) {
    let mut case = filled(kind);
    commit_dead_letters(&mut case, 0);
    let directory = case.table.directory.with_file_name("events_dead_letters");
    let file = fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(file).unwrap();
    assert_eq!(found(&case, false), [FindingKind::DataFileMissing]);

    let done = replay_missing(&case);

    assert_eq!((done.files_missing, done.removed().dead), (1, -2));
    assert_eq!(case.position(1), (1, 33));
    commit_dead_letters_from(&mut case, 33);
    assert_replayed(&case, 1);
}

/// Commits the rest of the range with the dead letters, without dead letters.
fn commit_dead_letters_from(case: &mut Case, from: i64) {
    let delta = ProgressDelta { epoch: Epoch(1), ..case.delta(1, from, 40, 0) };
    let commit = Commit::ingest(vec![delta], Vec::new(), Vec::new());
    assert!(is_committed(case.send(&commit)));
}

fn a_replay_that_does_not_cover_a_missing_file_is_rejected_with_its_offsets(kind: CatalogKind) {
    let mut case = filled(kind);
    let files = files(&case);
    fs::remove_file(&files[1]).unwrap();
    fs::remove_file(&files[2]).unwrap();

    for offsets in [&[(0, 100)][..], &[(0, 121), (1, 0)], &[(1, 0)]] {
        let error = try_replay(&case, offsets).unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Invalid);
        let text = error.chain();
        assert!(text.contains("partition_offsets=`0:120 1:0`") && !text.contains('\n'), "{text}");
    }
    assert_eq!((case.position(0), case.position(1)), ((0, 150), (0, 30)));
    assert_eq!(found(&case, false), [FindingKind::DataFileMissing]);
    assert!(case.operator().live_intents().unwrap().is_empty());

    try_replay(&case, &[(0, 100), (1, 0)]).unwrap();
    read_again(&mut case);
    assert_replayed(&case, 2);
}

fn a_missing_file_with_rows_of_other_clients_is_rejected(kind: CatalogKind) {
    let mut case = filled(kind);
    case.sql("INSERT INTO lake.events(id) VALUES (1)").unwrap();
    let inserted = files(&case)[3].clone();
    fs::remove_file(inserted).unwrap();

    let error = try_replay(&case, &[(0, 100), (1, 0)]).unwrap_err().chain();

    assert!(error.contains("other clients") || error.contains("does not know"), "{error}");
    assert_eq!(case.position(0), (0, 150));
}

fn a_replay_plan_with_a_missing_file_changes_nothing(kind: CatalogKind) {
    let mut case = filled(kind);
    fs::remove_file(&files(&case)[1]).unwrap();

    let planned =
        ducktide_replay::plan_replay(&mut case.operator(), &request(&case, &[(0, 110)])).unwrap();

    assert_eq!((planned.rows, planned.files_missing, planned.rows_missing), (40, 1, 30));
    assert_eq!(case.position(0), (0, 150));
    assert_eq!(found(&case, false), [FindingKind::DataFileMissing]);
    let written = ducktide_replay::written_at(
        &mut case.operator(),
        &case.source.clone(),
        Partition(0),
        Offset(110),
    );
    assert!(written.unwrap().is_some(), "the time is known by the files' statistics");
}

fn snapshots_with_an_ended_file_expire(kind: CatalogKind) {
    let mut case = filled(kind);
    fs::remove_file(&files(&case)[1]).unwrap();
    replay_missing(&case);
    read_again(&mut case);

    let mut operator = case.operator();
    let now = Timestamp::now();
    ducktide_maintenance::expire_snapshots(
        &mut operator,
        &Retention::by_age(now),
        Duration::from_secs(5),
    )
    .unwrap();
    ducktide_maintenance::cleanup_old_files(&mut operator, now, Duration::from_secs(5)).unwrap();
    drop(operator);

    assert_exact(&case);
    let request = VerifyRequest::default();
    let notes = ducktide_verify::verify(&mut case.operator(), &request, &mut |_| {}).unwrap().notes;
    assert!(notes.iter().all(|note| note.kind != NoteKind::FilesReplayed), "{notes:?}");
}
