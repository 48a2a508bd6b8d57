//! What findings tell people to do, done in the very situation: the lake is exact afterwards, or what
//! is tried says why not.

use ducktide_lake::ErrorKind;
use ducktide_lake::verify::FindingKind;

use crate::fixture::{Fixture, kinds};

/// Reads the records of partition 0 again, as consumers do after a replay from its beginning.
fn read_again(fixture: &Fixture, epoch: i32) {
    fixture.ingest_in(epoch, 0, 100, 150);
    assert_eq!(kinds(&fixture.by_catalog()), []);
    assert_eq!(kinds(&fixture.deep()), []);
}

#[test]
fn a_replay_brings_back_what_another_client_deleted() {
    let fixture = Fixture::new();
    fixture.sql("DELETE FROM lake.events WHERE _kafka_partition = 0 AND _kafka_offset = 105");
    assert_eq!(kinds(&fixture.by_catalog()), [FindingKind::RowsDeleted]);

    fixture.replay(0, 100);

    assert_eq!(kinds(&fixture.by_catalog()), []);
    read_again(&fixture, 1);
}

#[test]
fn a_replay_brings_back_a_partition_that_another_client_deleted_as_a_whole() {
    let fixture = Fixture::new();
    fixture.sql("COMMENT ON TABLE lake.events IS 'it''s ours'");
    fixture.sql("DELETE FROM lake.events WHERE _kafka_partition = 0");
    assert_eq!(kinds(&fixture.by_catalog()), [FindingKind::RowsDeleted]);

    let summary = fixture.try_replay(0, 100).unwrap();

    assert_eq!((summary.rows, summary.removed().rows), (0, -50));
    assert!(summary.snapshot.is_some());
    assert_eq!(kinds(&fixture.by_catalog()), []);
    let comment = "SELECT comment FROM duckdb_tables() WHERE table_name = 'events'";
    let mut lake = fixture.lake();
    let found: String =
        lake.connection().unwrap().query_row(comment, [], |row| row.get(0)).unwrap();
    assert_eq!(found, "it's ours");
    drop(lake);
    read_again(&fixture, 1);
}

#[test]
fn a_replay_leaves_one_row_of_each_record() {
    let fixture = Fixture::new();
    fixture.sql("INSERT INTO lake.events FROM lake.events WHERE _kafka_partition = 0");
    assert_eq!(kinds(&fixture.deep()), [FindingKind::RowsDoubled]);

    fixture.replay(0, 100);

    read_again(&fixture, 1);
}

#[test]
fn rows_beyond_progress_are_deleted_by_hand() {
    let fixture = Fixture::new();
    fixture.sql("INSERT INTO lake.events VALUES ('x', 'events', 0, 150, now())");
    assert_eq!(kinds(&fixture.deep()), [FindingKind::RowsUnexpected]);

    fixture.sql("DELETE FROM lake.events WHERE _kafka_partition = 0 AND _kafka_offset >= 150");

    assert_eq!(kinds(&fixture.by_catalog()), []);
    assert_eq!(kinds(&fixture.deep()), []);
}

/// A replay is no remedy: DuckLake ends only one of two registrations of a file.
#[test]
fn a_second_registration_of_a_file_is_removed_by_hand() {
    let fixture = Fixture::new();
    fixture.edit_catalog(
        "DROP TRIGGER ducktide_once; \
         INSERT INTO ducklake_data_file SELECT data_file_id + 1000, table_id, begin_snapshot, end_snapshot, \
           file_order, path, path_is_relative, file_format, record_count, file_size_bytes, footer_size, \
           row_id_start + 1000, partition_id, encryption_key, mapping_id, partial_max \
         FROM ducklake_data_file WHERE data_file_id = (SELECT min(data_file_id) FROM ducklake_data_file)",
    );
    fixture.init();
    let found = kinds(&fixture.deep());
    assert!(found.contains(&FindingKind::FileRegisteredTwice), "{found:?}");

    fixture.edit_catalog("DELETE FROM ducklake_data_file WHERE data_file_id >= 1000");

    assert_eq!(kinds(&fixture.by_catalog()), []);
    assert_eq!(kinds(&fixture.deep()), []);
}

#[test]
fn a_file_comes_back_from_a_backup() {
    let fixture = Fixture::new();
    let file = fixture.ingest(0, 150, 160);
    let backup = fixture.directory.path().join("backup");
    std::fs::rename(&file, &backup).unwrap();
    assert_eq!(kinds(&fixture.by_catalog()), [FindingKind::DataFileMissing]);
    assert!(fixture.try_replay(0, 100).is_err(), "as the remedy says");
    std::fs::write(&file, "cut").unwrap();
    assert_eq!(kinds(&fixture.by_catalog()), [FindingKind::DataFileTruncated]);

    std::fs::rename(&backup, &file).unwrap();

    assert_eq!(kinds(&fixture.by_catalog()), []);
    assert_eq!(kinds(&fixture.deep()), []);
}

#[test]
fn progress_is_set_to_where_the_ledger_ends() {
    let fixture = Fixture::new();
    fixture.edit_catalog("UPDATE ducktide_progress SET next_offset = 160 WHERE partition = 0");
    assert_eq!(kinds(&fixture.by_catalog()), [FindingKind::ProgressDiffers]);

    fixture.edit_catalog("UPDATE ducktide_progress SET next_offset = 150 WHERE partition = 0");

    assert_eq!(kinds(&fixture.by_catalog()), []);
    fixture.replay(0, 100);
    read_again(&fixture, 1);
}

/// Progress that was moved by hand: consumers wrote records twice, or passed them over.
#[test]
fn a_replay_over_a_broken_ledger_is_refused_at_once_and_says_what_helps() {
    for (moved_to, found) in [(100, FindingKind::LedgerOverlap), (170, FindingKind::LedgerGap)] {
        let fixture = Fixture::new();
        fixture.edit_catalog(&format!(
            "UPDATE ducktide_progress SET next_offset = {moved_to} WHERE partition = 0"
        ));
        fixture.ingest(0, moved_to, moved_to + 10);
        assert!(kinds(&fixture.by_catalog()).contains(&found));

        let error = fixture.try_replay(0, 100).unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Invalid);
        let error = error.chain();
        assert!(error.contains("--into") && !error.contains('\n'), "{error}");
        if found == FindingKind::LedgerGap {
            // From behind the gap on it is possible.
            fixture.replay(0, moved_to + 5);
        }
    }
}
