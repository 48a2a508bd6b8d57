//! The oracle finds what it is there to find, in a lake that the DuckDB command line wrote.

use std::{fs, path::Path, process::Command};

use ducktide_testbed::{
    duckdb_cli::{Lake, quoted_path},
    oracle::{Comparison, compare},
    workspace,
};
use tempfile::TempDir;

const A: &str = "00000000-0000-4000-8000-00000000000a";
const B: &str = "00000000-0000-4000-8000-00000000000b";
const C: &str = "00000000-0000-4000-8000-00000000000c";

/// A lake whose table `events` holds these (partition, offset, event id), written by plain SQL.
fn lake_holding(folder: &Path, rows: &[(i32, i64, &str)]) -> Lake {
    let catalog = folder.join("it's a lake.sqlite");
    let data = folder.join("data");
    let load = |name| format!("LOAD {};", quoted_path(&workspace::extension(name).unwrap()));
    let address = format!("ducklake:sqlite:{}", catalog.display()).replace('\'', "''");
    let mut sql = load("ducklake") + &load("sqlite_scanner");
    sql += &format!("ATTACH '{address}' AS lake (DATA_PATH {});", quoted_path(&data));
    sql += "CREATE TABLE lake.events (event_id UUID, _kafka_topic VARCHAR, \
            _kafka_partition INTEGER, _kafka_offset BIGINT);";
    for (partition, offset, id) in rows {
        sql +=
            &format!("INSERT INTO lake.events VALUES ('{id}', 'events', {partition}, {offset});");
    }
    let cli = workspace::downloaded("duckdb-cli/duckdb").unwrap();
    let output = Command::new(cli).args(["-no-init", "-bail", "-c", &sql]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let catalog = format!("sqlite:{}", catalog.display());
    Lake::at(&catalog, &data.display().to_string()).unwrap()
}

fn comparison(ledger: &[(i32, i64, &str)], rows: &[(i32, i64, &str)]) -> Comparison {
    let folder = TempDir::new().unwrap();
    let lines =
        ledger.iter().map(|(partition, offset, id)| format!("events,{partition},{offset},{id}\n"));
    let text: String =
        ["topic,partition,offset,event_id\n".to_owned()].into_iter().chain(lines).collect();
    let file = folder.path().join("ledger.csv");
    fs::write(&file, text).unwrap();
    compare(&file, &lake_holding(folder.path(), rows), "events").unwrap()
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
    assert_eq!((comparison.doubled.count, comparison.unexpected.count), (0, 0));
}

#[test]
fn an_event_written_three_times_is_doubled_twice() {
    let comparison = comparison(&[(0, 0, A)], &[(0, 0, A), (0, 0, A), (0, 0, A)]);
    assert_eq!(comparison.doubled.count, 2);
    assert_eq!((comparison.missing.count, comparison.unexpected.count), (0, 0));
}

#[test]
fn a_row_with_another_events_content_is_missing_and_unexpected() {
    let comparison = comparison(&[(0, 0, A)], &[(0, 0, B)]);
    assert_eq!((comparison.missing.count, comparison.unexpected.count), (1, 1));
}

#[test]
fn one_event_sent_twice_is_two_records() {
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
