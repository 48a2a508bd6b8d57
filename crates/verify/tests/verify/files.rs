//! Files that are missing, damaged or incorrectly registered.

use std::fs;
use std::path::PathBuf;

use ducktide_verify::{FindingKind, VerifyRequest};

use crate::fixture::{Fixture, kinds, only};

/// The files of the table whose names end like this.
fn files(fixture: &Fixture, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(&fixture.table.directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_string_lossy().ends_with(suffix)).collect()
}

#[test]
fn a_missing_data_file_is_found() {
    let fixture = Fixture::new();
    let file = fixture.ingest(1, 30, 40);
    fs::remove_file(&file).unwrap();

    // Its rows cannot be read, so a deep verification uses the counts of the catalog.
    for verification in [fixture.by_catalog(), fixture.deep()] {
        let finding = only(&verification);
        assert_eq!((finding.kind, finding.count), (FindingKind::DataFileMissing, 10));
        assert_eq!(finding.place.path.as_deref(), file.to_str());
        assert!(
            finding.detail.contains("not there; holds 10 rows; the newest"),
            "{}",
            finding.detail
        );
    }
}

#[test]
fn a_truncated_data_file_is_found() {
    let fixture = Fixture::new();
    let file = fixture.ingest(1, 30, 40);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 100]).unwrap();

    assert_eq!(kinds(&fixture.by_catalog()), [FindingKind::DataFileTruncated]);
}

#[test]
fn a_file_that_only_time_travel_needs_is_checked_too() {
    let fixture = Fixture::new();
    let file = fixture.ingest(1, 30, 40);
    fixture.sql("DELETE FROM lake.events WHERE _kafka_partition = 1 AND _kafka_offset >= 30");
    fs::remove_file(&file).unwrap();

    let verification = fixture.by_catalog();

    let findings = verification.findings.detailed();
    assert_eq!(findings[0].kind, FindingKind::DataFileMissing);
    assert!(findings[0].detail.contains("only older snapshots"), "{}", findings[0].detail);
}

#[test]
fn a_damaged_file_of_the_right_size_is_found_by_a_deep_verification() {
    let fixture = Fixture::new();
    let file = fixture.ingest(1, 30, 40);
    let bytes = fs::metadata(&file).unwrap().len();
    fs::write(&file, vec![b'x'; usize::try_from(bytes).unwrap()]).unwrap();

    assert_eq!(kinds(&fixture.by_catalog()), []);
    let finding = only(&fixture.deep());
    assert_eq!(finding.kind, FindingKind::TableUnreadable);
    assert!(finding.detail.contains("arquet"), "{}", finding.detail);
}

/// The offsets are in other columns than the one that is damaged.
#[test]
fn a_damaged_column_is_found_when_all_columns_are_read() {
    let fixture = Fixture::new();
    let file = fixture.ingest(1, 30, 40);
    let mut bytes = fs::read(&file).unwrap();
    // The first column is event_id; its first page header follows the four bytes of the format's name.
    bytes[4..24].fill(0xff);
    fs::write(&file, &bytes).unwrap();

    assert_eq!(kinds(&fixture.by_catalog()), []);
    assert_eq!(kinds(&fixture.deep()), [], "it reads other columns");
    let request = VerifyRequest { read_all: true, ..VerifyRequest::default() };
    let verification = fixture.verify(&request);
    assert_eq!(only(&verification).kind, FindingKind::TableUnreadable);
}

#[test]
fn all_columns_of_an_exact_lake_are_read() {
    let fixture = Fixture::new();
    fixture
        .sql("ALTER TABLE lake.events ADD COLUMN details STRUCT(a BIGINT[], b MAP(VARCHAR, JSON))");

    let request = VerifyRequest { read_all: true, ..VerifyRequest::default() };
    let verification = fixture.verify(&request);

    assert_eq!(kinds(&verification), []);
    assert!(verification.all_columns_read);
    assert_eq!(verification.rows_read, Some(80));
}

#[test]
fn a_missing_delete_file_is_found() {
    let fixture = Fixture::new();
    fixture.sql("DELETE FROM lake.events WHERE _kafka_offset = 105");
    let deletes = files(&fixture, "-delete.parquet");
    assert_eq!(deletes.len(), 1);
    fs::remove_file(&deletes[0]).unwrap();

    for verification in [fixture.by_catalog(), fixture.deep()] {
        let found = kinds(&verification);
        assert_eq!(found, [FindingKind::DeleteFileMissing, FindingKind::RowsDeleted]);
    }
}

/// A copy of the newest registration, ended or not.
fn register_again(fixture: &Fixture, path: &str, end_snapshot: &str) {
    fixture.edit_catalog(&format!(
        "DROP TRIGGER ducktide_once; \
         INSERT INTO ducklake_data_file(data_file_id, table_id, begin_snapshot, end_snapshot, path, \
           path_is_relative, file_format, record_count, file_size_bytes, footer_size, row_id_start) \
         SELECT 9999, table_id, begin_snapshot, {end_snapshot}, {path}, 0, file_format, record_count, \
           file_size_bytes, footer_size, row_id_start \
         FROM ducklake_data_file ORDER BY data_file_id DESC LIMIT 1"
    ));
}

#[test]
fn a_file_registered_twice_is_found_under_another_path() {
    for (is_absolute, end) in [(false, "NULL"), (true, "begin_snapshot + 1")] {
        let fixture = Fixture::new();
        let directory = fixture.table.directory.display();
        let path =
            if is_absolute { format!("'{directory}//./' || path") } else { "path".to_owned() };
        register_again(&fixture, &path, end);

        let verification = fixture.by_catalog();

        let findings = verification.findings.detailed();
        let twice = findings.iter().find(|f| f.kind == FindingKind::FileRegisteredTwice).unwrap();
        assert_eq!(twice.count, 2);
        assert!(twice.detail.contains("9999"), "{}", twice.detail);
        assert!(kinds(&verification).contains(&FindingKind::TriggerMissing));
    }
}

#[test]
fn a_registered_file_that_is_scheduled_for_deletion_is_found() {
    let fixture = Fixture::new();
    fixture.edit_catalog(
        "INSERT INTO ducklake_files_scheduled_for_deletion(data_file_id, path, path_is_relative, \
         schedule_start) SELECT data_file_id, 'main/events/' || path, 1, '2026-11-01' \
         FROM ducklake_data_file LIMIT 1",
    );

    assert_eq!(kinds(&fixture.by_catalog()), [FindingKind::FileToBeDeleted]);
}

#[test]
fn a_thousand_missing_files_are_counted_and_the_first_of_them_named() {
    let fixture = Fixture::new();
    fixture.edit_catalog(
        "DROP TRIGGER ducktide_once; \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) \
         INSERT INTO ducklake_data_file(data_file_id, table_id, begin_snapshot, path, \
           path_is_relative, file_format, record_count, file_size_bytes, footer_size, row_id_start) \
         SELECT 10000 + i, table_id, begin_snapshot, i || path, 1, file_format, 0, 1, 1, 0 \
         FROM n, (SELECT * FROM ducklake_data_file LIMIT 1)",
    );

    let verification = fixture.by_catalog();

    assert_eq!(verification.findings.numbers()[&FindingKind::DataFileMissing], 3000);
    assert!(verification.findings.detailed().len() < 50);
}
