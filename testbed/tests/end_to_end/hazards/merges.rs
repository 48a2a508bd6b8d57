//! Merges of selected files: contents that they must not change, and concurrent changes.

use ducktide_lake::{Access, DuckLake};
use ducktide_maintenance::MaintenanceOutcome;
use ducktide_protocol::ErrorKind;
use ducktide_testbed::catalog::CatalogKind;

use super::{
    case::{Case, merge},
    on_both_lakes,
};

on_both_lakes!(
    a_merge_writes_the_same_catalog_rows_as_ducklake,
    time_travel_and_change_feeds_are_the_same_after_a_merge,
    files_are_merged_across_added_columns,
    files_are_not_merged_across_other_column_changes,
    only_the_named_files_are_merged,
    merged_files_are_merged_again,
    a_commit_during_a_merge_does_not_stop_it,
    a_readers_transaction_sees_one_state_during_merges,
    files_that_changed_during_a_merge_are_not_replaced,
    files_with_deleted_rows_are_not_merged,
    inserts_of_other_clients_are_merged,
    a_merge_writes_no_text_statistics,
);

/// Returns the rows of a query as text.
fn rows(lake: &mut DuckLake, sql: &str) -> Vec<String> {
    let connection = lake.connection().unwrap();
    let text = format!("SELECT CAST(found AS VARCHAR) FROM ({sql}) found");
    let mut statement = connection.prepare(&text).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// SQL expression for the directory of a path.
const DIRECTORY: &str = "regexp_replace(path, '[^/]*$', '') AS directory";

fn a_merge_writes_the_same_catalog_rows_as_ducklake(kind: CatalogKind) {
    let catalog_rows = |case: &mut Case| {
        let mut lake = case.another();
        let catalog = |name: &str| case.own(name);
        let files = format!(
            "SELECT begin_snapshot, end_snapshot, path_is_relative, file_format, record_count, \
             row_id_start IS NULL AS no_row_id, partition_id, mapping_id IS NULL AS no_mapping, \
             partial_max, {DIRECTORY} FROM {} ORDER BY ALL",
            catalog("ducklake_data_file")
        );
        let statistics = format!(
            "SELECT s.column_id, value_count, null_count FROM {} s JOIN {} f USING (data_file_id) \
             ORDER BY ALL",
            catalog("ducklake_file_column_stats"),
            catalog("ducklake_data_file")
        );
        let scheduled = format!(
            "SELECT data_file_id, path_is_relative, {DIRECTORY} FROM {} ORDER BY ALL",
            catalog("ducklake_files_scheduled_for_deletion")
        );
        let snapshot = format!(
            "SELECT snapshot_id, schema_version, next_catalog_id, next_file_id FROM {} ORDER BY ALL",
            catalog("ducklake_snapshot")
        );
        let changes = format!(
            "SELECT snapshot_id, changes_made FROM {}",
            catalog("ducklake_snapshot_changes")
        );
        [files, statistics, scheduled, snapshot, changes + " ORDER BY ALL"]
            .map(|sql| rows(&mut lake, &sql))
    };
    let (mut by_ducktide, mut by_ducklake) = (Case::filled(kind, 4), Case::filled(kind, 4));

    assert_eq!(merge(&mut by_ducktide.operator()), MaintenanceOutcome::Done(4));
    by_ducklake.sql("CALL ducklake_merge_adjacent_files('lake', 'events')").unwrap();

    assert_eq!(catalog_rows(&mut by_ducktide), catalog_rows(&mut by_ducklake));
}

fn time_travel_and_change_feeds_are_the_same_after_a_merge(kind: CatalogKind) {
    let mut case = Case::filled(kind, 5);
    case.fill(150, 3);
    let newest = newest(&mut case);
    let before = history(&case, newest);

    assert_eq!(merge(&mut case.operator()), MaintenanceOutcome::Done(8));

    assert_eq!(history(&case, newest), before);
    assert_eq!(before.last().unwrap().0.len(), 80);
}

fn newest(case: &mut Case) -> i64 {
    case.number("SELECT max(snapshot_id) FROM ducklake_snapshots('lake')")
}

/// Returns the rows of each snapshot, and the changes from it to a later one.
fn history(case: &Case, until: i64) -> Vec<(Vec<String>, Vec<String>)> {
    let mut lake = case.another();
    let mut history = Vec::new();
    for snapshot in 2..=until {
        let travel =
            format!("SELECT rowid, * FROM lake.events AT (VERSION => {snapshot}) ORDER BY ALL");
        let feed = format!(
            "SELECT * FROM ducklake_table_changes('lake', 'main', 'events', {snapshot}, {until}) \
             ORDER BY ALL"
        );
        history.push((rows(&mut lake, &travel), rows(&mut lake, &feed)));
    }
    history
}

/// Files of other clients and of Ducktide, with each version of the table.
fn files_are_merged_across_added_columns(kind: CatalogKind) {
    let mut case = Case::filled(kind, 2);
    let columns = ["note VARCHAR", "more STRUCT(a BIGINT)", "more.b VARCHAR"];
    for (next, column) in (120..).zip(columns) {
        case.sql(&format!("ALTER TABLE lake.events ADD COLUMN {column}")).unwrap();
        case.sql(&format!(
            "INSERT INTO lake.events BY NAME SELECT {next} AS id, 'events' AS _kafka_topic, \
             {next} AS _kafka_offset, 'x' AS note"
        ))
        .unwrap();
    }
    case.table = case.lake().find_table(&events()).unwrap().unwrap();
    case.fill(120, 2);
    let newest = newest(&mut case);
    let before = history(&case, newest);
    let files = ids(&mut case.another()).len();

    assert_eq!(merge(&mut case.operator()), MaintenanceOutcome::Done(files.try_into().unwrap()));

    for (after, before) in history(&case, newest).iter().zip(&before) {
        assert_eq!(after.0, before.0, "time travel");
        assert_eq!(after.1, before.1, "changes");
    }
    assert_eq!(ids(&mut case.another()).len(), 1, "of {files}");
    let counted = "SELECT count(note) * 1000 + count(*) FILTER (note IS NULL) FROM lake.events";
    assert_eq!(case.number(counted), 3 * 1000 + 40);
    let none = "SELECT count(*) FROM lake.events WHERE more.b IS NOT NULL";
    assert_eq!(case.number(none), 0);
}

fn files_are_not_merged_across_other_column_changes(kind: CatalogKind) {
    for change in
        ["ADD COLUMN c VARCHAR DEFAULT 'd'", "RENAME COLUMN note TO c", "DROP COLUMN note"]
    {
        let mut case = Case::new(kind);
        case.sql("ALTER TABLE lake.events ADD COLUMN note VARCHAR").unwrap();
        let insert = "INSERT INTO lake.events(id) VALUES (1)";
        for statement in [insert, insert, &format!("ALTER TABLE lake.events {change}")] {
            case.sql(statement).unwrap();
        }
        case.sql(insert).unwrap();
        case.sql(insert).unwrap();
        let newest = newest(&mut case);
        let before = history(&case, newest);

        assert_eq!(merge(&mut case.operator()), MaintenanceOutcome::Done(4), "{change}");

        assert_eq!(history(&case, newest), before, "{change}");
        assert_eq!(ids(&mut case.another()).len(), 2, "{change}");
    }
}

fn ids(lake: &mut DuckLake) -> Vec<i64> {
    let tables = ducktide_maintenance::files_to_merge(lake, u64::MAX >> 1).unwrap();
    let files = tables.iter().flat_map(|table| &table.groups).flat_map(|(_, files)| files);
    files.map(|file| file.id).collect()
}

fn only_the_named_files_are_merged(kind: CatalogKind) {
    let mut case = Case::filled(kind, 5);
    let mut lake = case.operator();
    let before = ids(&mut lake);

    let named = vec![vec![before[1], before[3]]];
    let (done, totals) =
        ducktide_maintenance::merge_files(&mut lake, &events(), &named, TIMEOUT).unwrap();

    assert_eq!(done, MaintenanceOutcome::Done(2));
    assert_eq!((totals.files_read, totals.files_written), (2, 1));
    let after = ids(&mut lake);
    assert_eq!(after.len(), 4);
    assert!([before[0], before[2], before[4]].iter().all(|id| after.contains(id)), "{after:?}");
    assert_eq!(case.count(), 50);
}

fn merged_files_are_merged_again(kind: CatalogKind) {
    let mut case = Case::filled(kind, 3);
    assert_eq!(merge(&mut case.operator()), MaintenanceOutcome::Done(3));
    case.fill(130, 2);

    assert_eq!(merge(&mut case.operator()), MaintenanceOutcome::Done(3));

    assert_eq!((case.count(), ids(&mut case.another()).len()), (50, 1));
    let second = "SELECT count(*) FROM lake.events AT (VERSION => 3)";
    assert_eq!(case.number(second), 20, "two commits");
}

/// In a SQLite catalog DuckLake's own merge fails with "database is locked".
fn a_commit_during_a_merge_does_not_stop_it(kind: CatalogKind) {
    let mut case = Case::filled(kind, 200);
    let config = case.config.clone();

    let merging = std::thread::spawn(move || {
        let mut lake = DuckLake::open(&config, Access::Operate).unwrap();
        let files = ids(&mut lake);
        // Many merges, since a commit can wait up to a second: SQLite's busy handler.
        let parts = files[10..190].chunks(10);
        parts
            .map(|part| {
                ducktide_maintenance::merge_files(&mut lake, &events(), &[part.to_vec()], TIMEOUT)
                    .unwrap()
                    .0
            })
            .collect::<Vec<_>>()
    });
    let mut commits = 0;
    while !merging.is_finished() {
        case.fill(2100 + commits * 10, 1);
        commits += 1;
    }

    assert_eq!(merging.join().unwrap(), vec![MaintenanceOutcome::Done(10); 18]);
    assert!(commits > 1, "nothing was committed during the merges");
    assert_eq!(case.count(), u64::try_from(2000 + commits * 10).unwrap());
}

/// In a SQLite catalog DuckDB reads current rows, up to the number of rows at the start of the
/// transaction.
fn a_readers_transaction_sees_one_state_during_merges(kind: CatalogKind) {
    let mut case = Case::filled(kind, 12);
    let mut reader = case.plain_duckdb().begin().unwrap();
    let mut lake = case.operator();
    let history = "SELECT count(*) AS rows, sum(hash(_kafka_offset)) AS hash FROM lake.events";
    let one_day = format!("{history} WHERE _kafka_offset BETWEEN 105 AND 214;");
    let mut read =
        || [format!("{history};").as_str(), &one_day].map(|sql| reader.query(sql).unwrap());
    let before = read();
    assert!(before[0][0].starts_with("120,"), "{before:?}");

    for from in [220, 240, 260] {
        let files = ids(&mut lake);
        // The newest file is not merged, so that the catalog's next row comes after all others.
        let merges = vec![files[..files.len() - 1].to_vec()];
        ducktide_maintenance::merge_files(&mut lake, &events(), &merges, TIMEOUT).unwrap();
        case.fill(from, 2);
        assert_eq!(read(), before);
    }
}

fn files_that_changed_during_a_merge_are_not_replaced(kind: CatalogKind) {
    let mut case = Case::filled(kind, 3);
    let mut lake = case.operator();
    let named = vec![ids(&mut lake)];
    case.sql("DELETE FROM lake.events WHERE _kafka_offset = 105").unwrap();

    let error =
        ducktide_maintenance::merge_files(&mut lake, &events(), &named, TIMEOUT).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    assert_eq!(case.count(), 29);
    assert_eq!(ids(&mut lake).len(), 2, "the file with the deleted row is not merged");
}

fn files_with_deleted_rows_are_not_merged(kind: CatalogKind) {
    let mut case = Case::filled(kind, 4);
    case.sql("DELETE FROM lake.events WHERE _kafka_offset IN (105, 115)").unwrap();

    assert_eq!(merge(&mut case.operator()), MaintenanceOutcome::Done(2));

    assert_eq!(case.count(), 38);
}

fn inserts_of_other_clients_are_merged(kind: CatalogKind) {
    let mut case = Case::filled(kind, 2);
    case.sql("INSERT INTO lake.events FROM lake.events").unwrap();
    case.sql("UPDATE lake.events SET _kafka_topic = 'other' WHERE _kafka_offset = 101").unwrap();
    let before = rows(&mut case.another(), "SELECT * FROM lake.events ORDER BY ALL");

    merge(&mut case.operator());

    assert_eq!(rows(&mut case.another(), "SELECT * FROM lake.events ORDER BY ALL"), before);
}

/// Workers write no minimum and maximum of texts; DuckLake's own merge writes them.
fn a_merge_writes_no_text_statistics(kind: CatalogKind) {
    let mut case = Case::filled(kind, 3);
    case.edit_catalog(
        "UPDATE ducklake_file_column_stats SET min_value = NULL, max_value = NULL WHERE column_id = 2",
    );
    let statistics = case.own("ducklake_file_column_stats");
    let shown = format!(
        "SELECT DISTINCT column_id FROM {statistics} WHERE min_value IS NOT NULL ORDER BY ALL"
    );
    let before = rows(&mut case.another(), &shown);
    assert!(before.len() > 1, "{before:?}");

    assert_eq!(merge(&mut case.operator()), MaintenanceOutcome::Done(3));

    assert_eq!(rows(&mut case.another(), &shown), before);
}

const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

fn events() -> ducktide_protocol::table::TableName {
    "events".parse().unwrap()
}
