//! Remedies of the findings of `verify`: each is applied to a lake with the finding, and the lake
//! is exact afterwards, or the remedy is rejected with a reason.
//!
//! Missing files are in `missing_files`; the commands are tested with real workers in
//! `end_to_end/replay.rs`.

use ducktide_lake::DuckLake;
use ducktide_protocol::{
    ErrorKind, Lake as _, LakeError, SourceSpec,
    commit::ProgressDelta,
    position::{Epoch, Offset, Partition},
};
use ducktide_replay::{ReplayRequest, ReplaySummary};
use ducktide_testbed::catalog::CatalogKind;
use ducktide_verify::{FindingKind, Verification, VerifyRequest};

use super::{
    case::{Case, assert_exact, is_committed, spec},
    on_both_lakes,
};

on_both_lakes!(
    a_replay_restores_missing_rows,
    a_replay_restores_rows_deleted_by_a_client,
    a_replay_restores_a_partition_deleted_by_a_client,
    a_replay_removes_duplicates,
    rows_above_the_progress_are_deleted_with_sql,
    a_replay_repairs_dead_letters,
    a_second_registration_of_a_file_is_removed_with_sql,
    a_live_file_is_removed_from_the_deletion_schedule_with_sql,
    a_ledger_is_corrected_with_sql,
    a_replay_over_a_broken_ledger_is_rejected_and_another_table_is_exact,
    a_replay_of_a_partition_without_start_is_rejected_and_another_table_is_exact,
    progress_is_set_to_the_end_of_the_ledger,
    init_restores_a_trigger,
    deep_verification_identifies_rows_of_other_clients,
);

/// Returns a lake with the offsets 100 to 149 of partition 0, in two files, and 0 to 29 of
/// partition 1, in one.
pub(crate) fn filled(kind: CatalogKind) -> Case {
    let mut case = Case::new(kind);
    for (partition, from, to) in [(0, 100, 120), (0, 120, 150), (1, 0, 30)] {
        ingest(&mut case, partition, 0, from, to);
    }
    case
}

/// Commits a range in an epoch, with a row for each offset.
pub(crate) fn ingest(case: &mut Case, partition: i32, epoch: i32, from: i64, to: i64) {
    let delta = ProgressDelta { epoch: Epoch(epoch), ..case.delta(partition, from, to, to - from) };
    let commit = case.commit_of(delta);
    assert!(is_committed(case.send(&commit)));
}

pub(crate) fn request(case: &Case, offsets: &[(i32, i64)]) -> ReplayRequest {
    let offsets = offsets.iter().map(|(p, o)| (Partition(*p), Offset(*o))).collect();
    ReplayRequest::new(case.source.clone(), offsets)
}

pub(crate) fn try_replay(case: &Case, offsets: &[(i32, i64)]) -> Result<ReplaySummary, LakeError> {
    ducktide_replay::replay(&mut case.operator(), &request(case, offsets))
}

fn verify(case: &Case, deep: bool) -> Verification {
    let request = VerifyRequest { deep, memory_limit: 1 << 28, ..VerifyRequest::default() };
    ducktide_verify::verify(&mut case.operator(), &request, &mut |_| {}).unwrap()
}

/// Returns the findings in the catalog, and with `deep` also those in the rows.
pub(crate) fn found(case: &Case, deep: bool) -> Vec<FindingKind> {
    verify(case, deep).findings.numbers().keys().copied().collect()
}

/// Commits the records of partition 0 again, as consumers do after a replay.
fn read_again(case: &mut Case) {
    assert_eq!(found(case, false), []);
    let (epoch, next) = case.position(0);
    ingest(case, 0, epoch, next, 150);
    assert_exact(case);
}

fn a_replay_restores_missing_rows(kind: CatalogKind) {
    let mut case = filled(kind);
    case.edit_catalog("DELETE FROM ducklake_data_file WHERE begin_snapshot = (SELECT min(begin_snapshot) FROM ducklake_data_file)");
    assert_eq!(found(&case, true), [FindingKind::RowsMissing]);

    try_replay(&case, &[(0, 100)]).unwrap();

    read_again(&mut case);
}

fn a_replay_restores_rows_deleted_by_a_client(kind: CatalogKind) {
    let mut case = filled(kind);
    case.sql("DELETE FROM lake.events WHERE _kafka_partition = 0 AND _kafka_offset = 105").unwrap();
    assert_eq!(found(&case, false), [FindingKind::RowsDeleted]);

    try_replay(&case, &[(0, 100)]).unwrap();

    read_again(&mut case);
}

fn a_replay_restores_a_partition_deleted_by_a_client(kind: CatalogKind) {
    let mut case = filled(kind);
    case.sql("COMMENT ON TABLE lake.events IS 'it''s ours'").unwrap();
    case.sql("DELETE FROM lake.events WHERE _kafka_partition = 0").unwrap();
    assert_eq!(found(&case, false), [FindingKind::RowsDeleted]);

    let summary = try_replay(&case, &[(0, 100)]).unwrap();

    assert_eq!((summary.rows, summary.removed().rows), (0, -50));
    assert!(summary.snapshot.is_some());
    let comment = "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'events' AND comment = 'it''s ours'";
    assert_eq!(case.number(comment), 1);
    read_again(&mut case);
}

fn a_replay_removes_duplicates(kind: CatalogKind) {
    let mut case = filled(kind);
    case.sql("INSERT INTO lake.events FROM lake.events WHERE _kafka_partition = 0").unwrap();
    assert_eq!(found(&case, true), [FindingKind::RowsDuplicated]);

    try_replay(&case, &[(0, 100)]).unwrap();

    read_again(&mut case);
}

fn rows_above_the_progress_are_deleted_with_sql(kind: CatalogKind) {
    let mut case = filled(kind);
    case.sql("INSERT INTO lake.events VALUES (1, 'events', 0, 150, now())").unwrap();
    assert_eq!(found(&case, true), [FindingKind::RowsUnexpected]);

    case.sql("DELETE FROM lake.events WHERE _kafka_partition = 0 AND _kafka_offset >= 150")
        .unwrap();

    assert_exact(&case);
}

/// Commits the offsets 30 to 39 of partition 1 without rows: 33 and 38 are dead letters.
pub(crate) fn commit_dead_letters(case: &mut Case, epoch: i32) {
    let delta = ProgressDelta { epoch: Epoch(epoch), ..case.delta(1, 30, 40, 0) };
    case.commit_dead_letters(delta, [33, 38]);
}

fn a_replay_repairs_dead_letters(kind: CatalogKind) {
    let insert = "INSERT INTO lake.events_dead_letters BY NAME SELECT 'events' AS topic, 1 AS partition, 35 AS \"offset\"";
    for by_hand in ["DELETE FROM lake.events_dead_letters WHERE \"offset\" = 33", insert] {
        let mut case = filled(kind);
        commit_dead_letters(&mut case, 0);
        assert_exact(&case);
        case.sql(by_hand).unwrap();
        assert_eq!(found(&case, false), [FindingKind::DeadLettersDiffer]);

        try_replay(&case, &[(1, 10)]).unwrap();

        assert_eq!(found(&case, false), []);
        ingest(&mut case, 1, 1, 10, 30);
        commit_dead_letters(&mut case, 1);
        assert_exact(&case);
    }
}

/// A replay is not a remedy: DuckLake ends only one of two registrations of a file.
fn a_second_registration_of_a_file_is_removed_with_sql(kind: CatalogKind) {
    let mut case = filled(kind);
    let drop_trigger = drop_trigger(kind, "ducktide_once", "ducklake_data_file");
    case.edit_catalog(&format!(
        "{drop_trigger}; \
         INSERT INTO ducklake_data_file SELECT data_file_id + 1000, table_id, begin_snapshot, end_snapshot, \
           file_order, path, path_is_relative, file_format, record_count, file_size_bytes, footer_size, \
           row_id_start + 1000, partition_id, encryption_key, mapping_id, partial_max \
         FROM ducklake_data_file WHERE data_file_id = (SELECT min(data_file_id) FROM ducklake_data_file)",
    ));
    case.init();
    assert!(found(&case, true).contains(&FindingKind::FileRegisteredTwice));

    case.edit_catalog(
        "DELETE FROM ducklake_data_file WHERE data_file_id >= 1000; \
         DELETE FROM ducklake_file_column_stats WHERE data_file_id >= 1000",
    );
    case.init();

    assert_exact(&case);
}

fn drop_trigger(kind: CatalogKind, name: &str, table: &str) -> String {
    match kind {
        CatalogKind::Sqlite => format!("DROP TRIGGER {name}"),
        CatalogKind::Postgres => format!("DROP TRIGGER {name} ON {table}"),
    }
}

fn a_live_file_is_removed_from_the_deletion_schedule_with_sql(kind: CatalogKind) {
    let mut case = filled(kind);
    case.edit_catalog(
        "INSERT INTO ducklake_files_scheduled_for_deletion(data_file_id, path, path_is_relative, \
         schedule_start) SELECT data_file_id, 'main/events/' || path, path_is_relative, \
         CURRENT_TIMESTAMP FROM ducklake_data_file LIMIT 1",
    );
    assert_eq!(found(&case, false), [FindingKind::FileToBeDeleted]);

    case.edit_catalog("DELETE FROM ducklake_files_scheduled_for_deletion");

    assert_exact(&case);
}

/// Without the constraints, which reject wrong counts.
fn a_ledger_is_corrected_with_sql(kind: CatalogKind) {
    let drop_constraint = match kind {
        CatalogKind::Sqlite => "PRAGMA ignore_check_constraints = ON",
        CatalogKind::Postgres => {
            "ALTER TABLE ducktide_ledger DROP CONSTRAINT ducktide_counts_add_up"
        }
    };
    for (wrong, right, finding) in [
        ("epoch = 7", "epoch = 0", FindingKind::LedgerEpoch),
        ("rows = 19", "rows = 20", FindingKind::LedgerCounts),
    ] {
        let mut case = filled(kind);
        let set = |values: &str| {
            format!(
                "{drop_constraint}; UPDATE ducktide_ledger SET {values} WHERE from_offset = 100 AND kind = 'ingest'"
            )
        };
        case.edit_catalog(&set(wrong));
        assert!(found(&case, true).contains(&finding), "{finding:?}");

        let set = set(right)
            .replace("ALTER TABLE ducktide_ledger DROP CONSTRAINT ducktide_counts_add_up; ", "");
        case.edit_catalog(&set);

        assert_exact(&case);
    }
}

/// Progress was changed with SQL: consumers wrote records twice, or skipped them.
fn a_replay_over_a_broken_ledger_is_rejected_and_another_table_is_exact(kind: CatalogKind) {
    for (moved_to, finding) in [(100, FindingKind::LedgerOverlap), (170, FindingKind::LedgerGap)] {
        let mut case = filled(kind);
        let set =
            format!("UPDATE ducktide_progress SET next_offset = {moved_to} WHERE partition = 0");
        case.edit_catalog(&set);
        ingest(&mut case, 0, 0, moved_to, moved_to + 10);
        assert!(found(&case, false).contains(&finding));

        let error = try_replay(&case, &[(0, 100)]).unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Invalid);
        let text = error.chain();
        assert!(text.contains("--into") && !text.contains('\n'), "{text}");
        if finding == FindingKind::LedgerGap {
            // A replay from an offset after the gap is possible.
            try_replay(&case, &[(0, moved_to + 5)]).unwrap();
        }
        assert_another_table_is_exact(case);
    }
}

fn a_replay_of_a_partition_without_start_is_rejected_and_another_table_is_exact(kind: CatalogKind) {
    let mut case = filled(kind);
    case.edit_catalog("DELETE FROM ducktide_ledger WHERE partition = 0 AND kind = 'start'");
    assert_eq!(found(&case, true), [FindingKind::LedgerNotStarted]);
    ingest(&mut case, 0, 0, 150, 160);

    let error = try_replay(&case, &[(0, 100)]).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Invalid, "{}", error.chain());
    assert_another_table_is_exact(case);
}

/// Fills another table from the source that `replay --into` registers, as consumers do, and verifies it.
fn assert_another_table_is_exact(mut case: Case) {
    let shape = case.table.shape.clone();
    let name = "other".parse().unwrap();
    let spec = SourceSpec { table: name, ..spec() };
    let table = case.lake().ensure_table(&spec.table, &shape).unwrap();
    let source = case.lake().register_source(&spec, &[(Partition(0), Offset(100))]).unwrap();
    (case.table, case.source) = (table, source);
    ingest(&mut case, 0, 0, 100, 150);
    let of_table = VerifyRequest {
        table: Some(spec.table),
        deep: true,
        memory_limit: 1 << 28,
        ..VerifyRequest::default()
    };
    let verification =
        ducktide_verify::verify(&mut case.operator(), &of_table, &mut |_| {}).unwrap();
    assert!(verification.findings.detailed().is_empty(), "{:?}", verification.findings);
}

fn progress_is_set_to_the_end_of_the_ledger(kind: CatalogKind) {
    let mut case = filled(kind);
    case.edit_catalog("UPDATE ducktide_progress SET next_offset = 160 WHERE partition = 0");
    assert_eq!(found(&case, false), [FindingKind::ProgressDiffers]);

    case.edit_catalog("UPDATE ducktide_progress SET next_offset = 150 WHERE partition = 0");

    assert_exact(&case);
    try_replay(&case, &[(0, 100)]).unwrap();
    read_again(&mut case);
}

fn init_restores_a_trigger(kind: CatalogKind) {
    let mut case = filled(kind);
    case.edit_catalog(&drop_trigger(kind, "ducktide_advance", "ducktide_ledger"));
    assert_eq!(found(&case, false), [FindingKind::TriggerMissing]);

    case.init();

    assert_exact(&case);
    ingest(&mut case, 0, 0, 150, 160);
    assert_exact(&case);
}

fn deep_verification_identifies_rows_of_other_clients(kind: CatalogKind) {
    for (insert, decided) in [
        ("INSERT INTO lake.events(id) VALUES (1)", &[][..]),
        (
            "INSERT INTO lake.events FROM lake.events WHERE _kafka_offset = 5",
            &[FindingKind::RowsDuplicated],
        ),
    ] {
        let mut case = filled(kind);
        case.sql(insert).unwrap();
        let expire =
            "CALL ducklake_expire_snapshots('lake', older_than => now() + INTERVAL 1 SECOND)";
        case.close();
        let mut operator: DuckLake = case.operator();
        ingest(&mut case, 1, 0, 30, 31);
        operator.connection().unwrap().execute_batch(expire).unwrap();
        drop(operator);
        assert_eq!(found(&case, false), [FindingKind::RowsUndecided]);

        assert_eq!(found(&case, true), decided);
    }
}
