//! Ledger, progress and triggers, edited by hand or not.

use ducktide_verify::{FindingKind, NoteKind};

use crate::fixture::{Fixture, kinds, notes, only};

/// The second range of partition 0.
const SECOND: &str = "partition = 0 AND from_offset = 120";

#[test]
fn a_gap_in_the_ledger_is_found() {
    let fixture = Fixture::new();
    fixture.edit_catalog(&format!(
        "UPDATE ducktide_ledger SET from_offset = 125, rows = rows - 5 WHERE {SECOND}"
    ));

    let verification = fixture.by_catalog();

    let findings = verification.findings.detailed();
    let gap = findings.iter().find(|finding| finding.kind == FindingKind::LedgerGap).unwrap();
    assert_eq!((gap.place.partition, gap.count), (Some(0), 1));
    assert!(gap.detail.starts_with("5 offsets from 120 on are in no range"), "{}", gap.detail);
}

#[test]
fn an_overlap_in_the_ledger_is_found() {
    let fixture = Fixture::new();
    fixture.edit_catalog(&format!(
        "UPDATE ducktide_ledger SET from_offset = 115, rows = rows + 5 WHERE {SECOND}"
    ));

    assert!(kinds(&fixture.by_catalog()).contains(&FindingKind::LedgerOverlap));
}

#[test]
fn a_range_that_was_deleted_leaves_a_gap() {
    let fixture = Fixture::new();
    fixture.ingest(0, 150, 160);
    fixture.edit_catalog(&format!("DELETE FROM ducktide_ledger WHERE {SECOND}"));

    assert!(kinds(&fixture.by_catalog()).contains(&FindingKind::LedgerGap));
}

#[test]
fn a_range_of_an_old_epoch_is_found() {
    let fixture = Fixture::new();
    fixture.edit_catalog(&format!("UPDATE ducktide_ledger SET epoch = 3 WHERE {SECOND}"));

    let found = kinds(&fixture.by_catalog());
    assert_eq!(found, [FindingKind::LedgerEpoch, FindingKind::ProgressDiffers]);
}

#[test]
fn counts_that_do_not_add_up_are_found_although_the_constraint_is_gone() {
    let fixture = Fixture::new();
    fixture.edit_catalog(&format!("UPDATE ducktide_ledger SET rows = 29, gaps = 0 WHERE {SECOND}"));

    let verification = fixture.by_catalog();

    let findings = verification.findings.detailed();
    let counts = findings.iter().find(|f| f.kind == FindingKind::LedgerCounts).unwrap();
    assert!(counts.detail.starts_with("counts 29 records in a range of 30"), "{}", counts.detail);
}

#[test]
fn a_start_that_was_deleted_is_found() {
    let fixture = Fixture::new();
    fixture.edit_catalog("DELETE FROM ducktide_ledger WHERE partition = 0 AND kind = 'start'");

    for verification in [fixture.by_catalog(), fixture.deep()] {
        let finding = only(&verification);

        assert_eq!(finding.kind, FindingKind::LedgerNotStarted);
        assert_eq!((finding.place.partition, finding.count), (Some(0), 1));
        let detail = &finding.detail;
        assert!(detail.starts_with("no start comes before this range: ledger_id"), "{detail}");
        assert!(detail.ends_with("ingest 100..120 in epoch 0"), "{detail}");
    }
}

#[test]
fn an_unknown_kind_is_found() {
    let fixture = Fixture::new();
    fixture.edit_catalog(&format!("UPDATE ducktide_ledger SET kind = 'merge' WHERE {SECOND}"));

    assert_eq!(kinds(&fixture.by_catalog()), [FindingKind::LedgerCounts]);
}

#[test]
fn progress_that_was_edited_by_hand_is_found() {
    let fixture = Fixture::new();
    fixture.edit_catalog("UPDATE ducktide_progress SET next_offset = 160 WHERE partition = 0");

    let finding = only(&fixture.by_catalog());

    assert_eq!(finding.kind, FindingKind::ProgressDiffers);
    let expected = "progress says offset 160 in epoch 0, the ledger offset 150 in epoch 0";
    assert_eq!(finding.detail, expected);
}

#[test]
fn deleted_and_inserted_progress_is_found() {
    let fixture = Fixture::new();
    fixture.edit_catalog("UPDATE ducktide_progress SET partition = 7 WHERE partition = 0");

    let verification = fixture.by_catalog();

    assert_eq!(verification.findings.numbers()[&FindingKind::ProgressDiffers], 2);
}

#[test]
fn a_source_that_was_deleted_is_found() {
    let fixture = Fixture::new();
    fixture.edit_catalog("DELETE FROM ducktide_source");

    assert_eq!(kinds(&fixture.by_catalog()), [FindingKind::ProgressDiffers]);
}

#[test]
fn each_missing_trigger_is_found() {
    for trigger in ["ducktide_once", "ducktide_snapshot", "ducktide_unpack", "ducktide_advance"] {
        let fixture = Fixture::new();
        fixture.edit_catalog(&format!("DROP TRIGGER {trigger}"));

        let finding = only(&fixture.by_catalog());

        assert_eq!(finding.kind, FindingKind::TriggerMissing);
        assert!(finding.detail.contains(trigger), "{}", finding.detail);
    }
}

#[test]
fn unconsumed_messages_are_found() {
    let fixture = Fixture::new();
    fixture.edit_catalog(
        "DROP TRIGGER ducktide_unpack; INSERT INTO ducktide_commit(message) VALUES ('{}')",
    );

    assert_eq!(fixture.by_catalog().findings.numbers()[&FindingKind::TriggerMissing], 2);
}

/// Takes the rows from offset 120 of partition 0 back, a whole file.
fn replay(fixture: &Fixture) {
    fixture.sql(&format!(
        "BEGIN; DELETE FROM lake.events WHERE _kafka_partition = 0 AND _kafka_offset >= 120; \
         CALL lake.set_commit_message('t', 'replay', extra_info => '{}'); COMMIT",
        fixture.message("replay", 0, (150, 120), "\"rows\":-30")
    ));
}

#[test]
fn a_replay_is_exact_before_and_after_its_rows_are_back() {
    let fixture = Fixture::new();
    replay(&fixture);
    assert_eq!(kinds(&fixture.by_catalog()), []);
    assert_eq!(kinds(&fixture.deep()), []);

    fixture.ingest_in(1, 0, 120, 170);
    assert_eq!(kinds(&fixture.by_catalog()), []);
    assert_eq!(kinds(&fixture.deep()), []);
    assert_eq!(fixture.deep().sources[0].counts.rows, 100);
}

#[test]
fn a_row_that_is_lost_after_a_replay_is_named() {
    let fixture = Fixture::new();
    replay(&fixture);
    let file = fixture.stage(0, "range(120, 130)", "WHERE o <> 121");
    let counts = ducktide_protocol::commit::Counts { rows: 10, ..Default::default() };
    fixture.commit(1, 0, (120, 130), counts, &file);

    let finding = only(&fixture.deep());

    assert_eq!((finding.kind, finding.offsets), (FindingKind::RowsMissing, vec![121]));
}

#[test]
fn a_skip_is_exact_and_reported() {
    let fixture = Fixture::new();
    fixture.post(&fixture.message("skip", 0, (150, 155), "\"given_up\":5"));
    fixture.ingest_in(1, 0, 155, 160);

    for verification in [fixture.by_catalog(), fixture.deep()] {
        assert_eq!(kinds(&verification), []);
        assert_eq!(notes(&verification), [(NoteKind::GivenUp, 5)]);
    }
}

/// Commits the offsets 150 to 159 with two dead letters, 153 and 157.
fn dead_letters(fixture: &Fixture) {
    fixture.sql("CREATE TABLE lake.events_dead_letters(topic VARCHAR, resolution VARCHAR)");
    let file = fixture.stage(0, "range(150, 160)", "WHERE o NOT IN (153, 157)");
    fixture.sql(&format!(
        "BEGIN; CALL ducklake_add_data_files('lake', 'events', '{}'); \
         INSERT INTO lake.events_dead_letters VALUES ('events', NULL), ('events', NULL); \
         CALL lake.set_commit_message('t', 't', extra_info => '{}'); COMMIT",
        file.display(),
        fixture.message("ingest", 0, (150, 160), "\"rows\":8,\"dead\":2")
    ));
}

#[test]
fn dead_letters_are_accounted_for_also_when_resolved() {
    let fixture = Fixture::new();
    dead_letters(&fixture);
    assert_eq!(kinds(&fixture.deep()), []);

    // WHEN one is retried and one discarded
    let file = fixture.stage(0, "range(153, 154)", "");
    let settled = "INSERT INTO lake.events_dead_letters VALUES ('events', 'settled')";
    for (kind, offset, counts, files) in [
        (
            "retry",
            153,
            "\"rows\":1,\"dead\":-1",
            format!("CALL ducklake_add_data_files('lake', 'events', '{}');", file.display()),
        ),
        ("discard", 157, "\"given_up\":1,\"dead\":-1", String::new()),
    ] {
        let message = fixture.message(kind, 0, (offset, offset), counts);
        fixture.sql(&format!(
            "BEGIN; {files} {settled}; \
             CALL lake.set_commit_message('t', 't', extra_info => '{message}'); COMMIT"
        ));
    }

    let verification = fixture.deep();
    assert_eq!(kinds(&verification), []);
    assert_eq!(verification.sources[0].counts.dead, 0);
    assert_eq!(notes(&verification), [(NoteKind::GivenUp, 1)]);
}

#[test]
fn a_missing_dead_letter_is_found() {
    let fixture = Fixture::new();
    dead_letters(&fixture);
    fixture.sql("DELETE FROM lake.events_dead_letters");

    let finding = only(&fixture.by_catalog());

    assert_eq!((finding.kind, finding.count), (FindingKind::DeadLettersDiffer, 2));
    assert_eq!(finding.place.table.as_deref(), Some("main.events_dead_letters"));
}

#[test]
fn a_lake_without_sources_is_exact() {
    let fixture = Fixture::new();
    fixture.edit_catalog(
        "DELETE FROM ducktide_source; DELETE FROM ducktide_ledger; DELETE FROM ducktide_progress",
    );

    let verification = fixture.by_catalog();
    assert_eq!(kinds(&verification), []);
    assert_eq!(verification.sources, []);
}
