//! Rows that are missing, duplicate, or of other clients.

use ducktide_protocol::commit::Counts;
use ducktide_verify::{FindingKind, NoteKind};

use crate::fixture::{Fixture, kinds, notes, only};

/// A row of partition 0 at an offset, as another client's INSERT.
fn row(offset: i64) -> String {
    format!("INSERT INTO lake.events VALUES ('x', 'events', 0, {offset}, now())")
}

#[test]
fn a_lake_that_ducktide_alone_filled_is_exact() {
    let fixture = Fixture::new();

    for verification in [fixture.by_catalog(), fixture.deep()] {
        assert_eq!(verification.findings.detailed(), Vec::<&_>::new());
        assert_eq!(notes(&verification), []);
        assert_eq!(verification.files.files, 3);
        let sums = &verification.sources[0];
        assert_eq!((sums.partitions, sums.ranges, sums.counts.rows), (2, 5, 80));
    }
    assert_eq!(fixture.by_catalog().rows_read, None);
    assert_eq!(fixture.deep().rows_read, Some(80));
}

#[test]
fn a_missing_row_is_found_and_named() {
    let fixture = Fixture::new();
    // GIVEN a batch that says ten rows and whose file has nine
    let file = fixture.stage(0, "range(150, 160)", "WHERE o <> 154");
    fixture.commit(0, 0, (150, 160), Counts { rows: 10, ..Counts::default() }, &file);

    let by_catalog = only(&fixture.by_catalog());
    assert_eq!((by_catalog.kind, by_catalog.count), (FindingKind::RowsMissing, 1));
    assert_eq!(by_catalog.place.table.as_deref(), Some("main.events"));

    let deep = only(&fixture.deep());
    assert_eq!((deep.kind, deep.count), (FindingKind::RowsMissing, 1));
    assert_eq!((deep.place.partition, deep.offsets.as_slice()), (Some(0), &[154][..]));
    assert!(deep.detail.contains("range 150..160 lacks 1"), "{}", deep.detail);
}

#[test]
fn a_missing_row_among_gaps_is_counted_and_its_range_named() {
    let fixture = Fixture::new();
    let file = fixture.stage(0, "range(150, 160)", "WHERE o NOT IN (151, 152, 157)");
    fixture.commit(0, 0, (150, 160), Counts { rows: 8, gaps: 2, ..Counts::default() }, &file);

    let finding = only(&fixture.deep());

    assert_eq!((finding.kind, finding.count), (FindingKind::RowsMissing, 1));
    assert_eq!(finding.offsets, [151, 152, 157]);
    assert!(finding.detail.contains("lacks 1 of the offsets below"), "{}", finding.detail);
}

#[test]
fn a_duplicate_row_is_found_and_named() {
    let fixture = Fixture::new();
    fixture.sql("INSERT INTO lake.events FROM lake.events WHERE _kafka_offset = 105");

    let finding = only(&fixture.deep());

    assert_eq!((finding.kind, finding.count), (FindingKind::RowsDuplicated, 1));
    assert_eq!((finding.place.partition, finding.offsets.as_slice()), (Some(0), &[105][..]));
    assert!(finding.place.topic.as_deref() == Some("events"));
}

#[test]
fn rows_that_no_other_client_wrote_and_the_ledger_does_not_count_are_duplicates() {
    let fixture = Fixture::new();
    let file = fixture.stage(0, "range(100, 110)", "");
    fixture.register(&file, &fixture.message("ingest", 0, (150, 160), "\"gaps\":10"));

    let finding = only(&fixture.by_catalog());

    assert_eq!((finding.kind, finding.count), (FindingKind::RowsDuplicated, 10));
    assert_eq!(only(&fixture.deep()).offsets, (100..110).collect::<Vec<_>>());
}

#[test]
fn a_lost_row_is_not_hidden_by_a_duplicate() {
    let fixture = Fixture::new();
    let offsets = "(SELECT unnest([150, 151, 151, 153]))";
    let file = fixture.stage(0, offsets, "");
    fixture.commit(0, 0, (150, 154), Counts { rows: 4, ..Counts::default() }, &file);

    assert_eq!(kinds(&fixture.by_catalog()), [], "the number of rows is right");
    let deep = fixture.deep();
    assert_eq!(kinds(&deep), [FindingKind::RowsMissing, FindingKind::RowsDuplicated]);
    let offsets: Vec<_> = deep.findings.detailed().iter().map(|f| f.offsets.clone()).collect();
    assert_eq!(offsets, [[152], [151]]);
}

#[test]
fn rows_of_other_clients_are_reported_as_a_note() {
    let fixture = Fixture::new();
    fixture.sql(
        "INSERT INTO lake.events VALUES ('x', NULL, NULL, NULL, NULL), ('y', 'z', 0, 1, NULL)",
    );

    for verification in [fixture.by_catalog(), fixture.deep()] {
        assert_eq!(kinds(&verification), []);
        assert_eq!(notes(&verification), [(NoteKind::RowsOfOthers, 2)]);
    }
}

#[test]
fn the_origin_of_rows_needs_a_deep_verification_once_snapshots_have_expired() {
    let fixture = Fixture::new();
    fixture.sql("INSERT INTO lake.events VALUES ('x', NULL, NULL, NULL, NULL)");
    fixture.ingest(0, 150, 160);
    fixture.sql("CALL ducklake_expire_snapshots('lake', older_than => now() + INTERVAL 1 DAY)");

    assert_eq!(kinds(&fixture.by_catalog()), [FindingKind::RowsUndecided]);
    assert_eq!(kinds(&fixture.deep()), []);
}

#[test]
fn a_row_beyond_progress_is_unexpected() {
    let fixture = Fixture::new();
    fixture.sql(&row(150));

    let finding = only(&fixture.deep());

    assert_eq!((finding.kind, finding.count), (FindingKind::RowsUnexpected, 1));
    assert_eq!(finding.offsets, [150]);
    assert!(finding.detail.contains("outside of 100..150"), "{}", finding.detail);
}

#[test]
fn a_row_at_an_offset_that_is_counted_as_a_gap_is_unexpected() {
    let fixture = Fixture::new();
    fixture.post(&fixture.message("ingest", 0, (150, 160), "\"gaps\":10"));
    fixture.sql(&row(155));

    let finding = only(&fixture.deep());

    assert_eq!((finding.kind, finding.count), (FindingKind::RowsUnexpected, 1));
}

#[test]
fn rows_that_another_client_deleted_are_distinguished_from_lost_ones() {
    let fixture = Fixture::new();
    fixture.sql("DELETE FROM lake.events WHERE _kafka_offset IN (105, 106)");

    let by_catalog = only(&fixture.by_catalog());
    assert_eq!((by_catalog.kind, by_catalog.count), (FindingKind::RowsDeleted, 2));
    assert!(
        by_catalog.detail.contains("deleted from the table: snapshot"),
        "{}",
        by_catalog.detail
    );
    assert_eq!(only(&fixture.deep()).offsets, [105, 106]);

    // One more is lost than was deleted.
    let file = fixture.stage(0, "range(150, 160)", "WHERE o <> 154");
    fixture.commit(0, 0, (150, 160), Counts { rows: 10, ..Counts::default() }, &file);
    assert_eq!(only(&fixture.by_catalog()).kind, FindingKind::RowsMissing);
}

#[test]
fn a_file_that_another_client_deleted_as_a_whole_is_distinguished_too() {
    let fixture = Fixture::new();
    fixture.sql("DELETE FROM lake.events WHERE _kafka_partition = 1");

    assert_eq!(kinds(&fixture.by_catalog()), [FindingKind::RowsDeleted]);
    assert_eq!(kinds(&fixture.deep()), [FindingKind::RowsDeleted]);
}

#[test]
fn a_dropped_table_lacks_all_its_rows() {
    let fixture = Fixture::new();
    fixture.sql("DROP TABLE lake.events");

    for verification in [fixture.by_catalog(), fixture.deep()] {
        assert_eq!(only(&verification).count, 80);
        assert_eq!(kinds(&verification), [FindingKind::RowsMissing]);
    }
}

#[test]
fn merged_files_and_expired_snapshots_cause_no_findings() {
    let fixture = Fixture::new();
    fixture.sql("CALL ducklake_merge_adjacent_files('lake', 'events')");
    fixture.sql("CALL ducklake_expire_snapshots('lake', older_than => now() + INTERVAL 1 DAY)");
    fixture.sql("CALL ducklake_cleanup_old_files('lake', older_than => now() + INTERVAL 1 DAY)");

    assert_eq!(kinds(&fixture.by_catalog()), []);
    assert_eq!(kinds(&fixture.deep()), []);
    assert_eq!(fixture.deep().files.files, 1);
}

#[test]
fn a_column_named_filename_causes_no_findings() {
    let fixture = Fixture::new();
    fixture.sql("ALTER TABLE lake.events ADD COLUMN filename VARCHAR");

    assert_eq!(kinds(&fixture.deep()), []);
    assert_eq!(fixture.deep().rows_read, Some(80));
}

#[test]
fn a_running_worker_causes_no_findings() {
    let fixture = Fixture::new();
    let another = fixture.another();
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            (0..40).for_each(|step| drop(another.ingest(0, 150 + step, 151 + step)));
        });
        while !worker.is_finished() {
            assert_eq!(kinds(&fixture.by_catalog()), []);
            assert_eq!(kinds(&fixture.deep()), []);
        }
    });
    assert_eq!(fixture.deep().rows_read, Some(120));
}

#[test]
fn one_table_can_be_verified_alone() {
    let fixture = Fixture::new();
    fixture.sql("CREATE TABLE lake.other(i INTEGER); INSERT INTO lake.other VALUES (1)");
    let request = |table: &str| ducktide_verify::VerifyRequest {
        table: Some(table.parse().unwrap()),
        ..Default::default()
    };

    assert_eq!(fixture.verify(&request("events")).files.files, 3);
    assert_eq!(fixture.verify(&request("other")).files.files, 1);
    let unknown =
        ducktide_verify::verify(&mut fixture.lake(), &request("evnets"), &mut |_| {}).unwrap_err();
    assert!(unknown.to_string().contains("no such table"), "{unknown}");
}

#[test]
fn a_table_with_a_name_that_no_source_can_fill_is_a_finding() {
    let fixture = Fixture::new();
    fixture.sql("ALTER TABLE lake.events RENAME TO \"my events\"");
    fixture.edit_catalog("UPDATE ducktide_source SET table_name = 'main.my events'");

    let finding = only(&fixture.deep());

    assert_eq!(finding.kind, FindingKind::TableUnreadable);
    assert!(finding.detail.contains("my events"), "{}", finding.detail);
}
