//! Tests of the oracle, on lakes written with DuckDB's command line.

use std::{fs, path::Path};

use ducktide_testbed::{
    duckdb_cli::Lake,
    oracle::{Comparison, compare},
    services::shared_postgres,
};
use tempfile::TempDir;

const A: &str = "00000000-0000-4000-8000-00000000000a";
const B: &str = "00000000-0000-4000-8000-00000000000b";
const C: &str = "00000000-0000-4000-8000-00000000000c";

type LedgerRows<'a> = &'a [(i32, i64, &'a str)];

/// Returns a lake whose table `events` has these rows (partition, offset, event ID).
fn lake_with_rows(catalog: &str, data: &Path, rows: LedgerRows<'_>) -> Lake {
    let lake = Lake::at(catalog, &data.display().to_string()).unwrap();
    let columns =
        "event_id UUID, _kafka_topic VARCHAR, _kafka_partition INTEGER, _kafka_offset BIGINT";
    let create = format!("CREATE TABLE events ({columns})");
    let insert = |(partition, offset, id): &_| {
        format!("INSERT INTO events VALUES ('{id}', 'events', {partition}, {offset})")
    };
    let statements = [create].into_iter().chain(rows.iter().map(insert));
    lake.write(&statements.collect::<Vec<_>>()).unwrap();
    lake
}

fn comparison(ledger: LedgerRows<'_>, rows: LedgerRows<'_>) -> Comparison {
    let folder = TempDir::new().unwrap();
    let catalog = format!("sqlite:{}", folder.path().join("a user's lake.sqlite").display());
    comparison_in(&folder, &catalog, ledger, rows)
}

fn comparison_in(
    folder: &TempDir,
    catalog: &str,
    ledger: LedgerRows<'_>,
    rows: LedgerRows<'_>,
) -> Comparison {
    let line = |(partition, offset, id): &_| format!("events,{partition},{offset},{id}\n");
    let lines: String = ledger.iter().map(line).collect();
    let file = folder.path().join("ledger.csv");
    fs::write(&file, format!("topic,partition,offset,event_id\n{lines}")).unwrap();
    let lake = lake_with_rows(catalog, &folder.path().join("data"), rows);
    compare(&file, &lake, "events").unwrap()
}

#[test]
fn a_lake_that_equals_the_ledger_is_exact() {
    let rows = [(0, 0, A), (0, 1, B), (1, 0, C)];
    let comparison = comparison(&rows, &rows);
    assert!(comparison.is_exact(), "{comparison}");
    assert_eq!((comparison.acknowledged, comparison.rows), (3, 3));
}

#[test]
fn a_lost_event_is_missing() {
    let comparison = comparison(&[(0, 0, A), (0, 1, B)], &[(0, 0, A)]);
    assert_eq!(comparison.missing.count, 1);
    assert_eq!(comparison.missing.examples[0].offset, 1);
    assert_eq!(comparison.missing.examples[0].event_id.as_deref(), Some(B));
    assert_eq!((comparison.duplicates.count, comparison.unexpected.count), (0, 0));
}

#[test]
fn an_event_written_three_times_has_two_duplicates() {
    let comparison = comparison(&[(0, 0, A)], &[(0, 0, A), (0, 0, A), (0, 0, A)]);
    assert_eq!(comparison.duplicates.count, 2);
    assert_eq!((comparison.missing.count, comparison.unexpected.count), (0, 0));
}

#[test]
fn a_row_with_another_events_content_is_missing_and_unexpected() {
    let comparison = comparison(&[(0, 0, A)], &[(0, 0, B)]);
    assert_eq!((comparison.missing.count, comparison.unexpected.count), (1, 1));
}

#[test]
fn an_event_published_twice_is_two_records() {
    let rows = [(0, 0, A), (0, 1, A)];
    assert!(comparison(&rows, &rows).is_exact());
}

#[test]
fn poison_is_not_expected_in_the_table() {
    let comparison = comparison(&[(0, 0, A), (0, 1, "")], &[(0, 0, A)]);
    assert!(comparison.is_exact(), "{comparison}");
    assert_eq!(comparison.poison, 1);
}

#[test]
fn nothing_acknowledged_and_nothing_stored_is_exact() {
    assert!(comparison(&[], &[]).is_exact());
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_lake_in_postgres_is_compared() {
    let folder = TempDir::new().unwrap();
    let catalog = shared_postgres().create_database("oracle").unwrap();
    let comparison = comparison_in(&folder, &catalog, &[(0, 0, A), (0, 1, B)], &[(0, 0, A)]);
    assert_eq!(
        comparison.to_string(),
        "2 events acknowledged, 1 rows in the lake: \
        1 (first: events/0 offset 1) missing, 0 duplicates, 0 unexpected"
    );
}
