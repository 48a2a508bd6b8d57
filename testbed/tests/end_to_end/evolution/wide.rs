//! Tables with many columns and dates: memory stays within `--memory-limit`, in addition to that of
//! a commit.

use ducktide_testbed::{catalog::CatalogKind, on_both_catalogs, raw_records::EncodedValue};
use serde_json::{Value, json};

use super::SchemaFixture;

on_both_catalogs!(
    memory_does_not_grow_with_columns_and_dates,
    a_table_with_too_many_columns_for_the_memory_limit_is_rejected,
);

const DAY_MICROS: i64 = 86_400_000_000;

/// Returns fields that alternate between number and text, and a timestamp.
fn fields(columns: i64) -> Vec<Value> {
    let of_type = |column: i64| ["long", "string"][usize::from(column % 2 == 1)];
    let column = |column| json!({"name": format!("c{column}"), "type": of_type(column)});
    let at = json!({"type": "long", "logicalType": "timestamp-micros"});
    let mut fields = vec![json!({"name": "at", "type": at})];
    fields.extend((0..columns).map(column));
    fields
}

/// Returns a record with one of the dates.
fn record(id: u32, columns: i64, dates: i64, row: i64) -> Vec<u8> {
    let at = (20_000 + row % dates) * DAY_MICROS;
    let start = EncodedValue::with_schema(id).long(at);
    let add = |record: EncodedValue, column: i64| match column % 2 {
        1 => record.text(&format!("v{}", row * 7 % 97)),
        _ => record.long(row * column),
    };
    (0..columns).fold(start, add).bytes()
}

/// Returns a fixture with `records` records in its topic.
fn case(kind: CatalogKind, columns: i64, dates: i64, records: i64) -> SchemaFixture {
    let case = SchemaFixture::new("wide", kind, 1);
    let id = case.register(&fields(columns));
    case.publish(0, (0..records).map(|row| record(id, columns, dates, row)));
    case
}

/// Without the limit, each open file needs 20 to 100 KB for each column: 900 MB in total.
fn memory_does_not_grow_with_columns_and_dates(kind: CatalogKind) {
    let (columns, dates, records) = (1_000, 40, 1_500);
    let case = case(kind, columns, dates, records);
    let arguments =
        ["--until-end", "--partition-by", "at", "--memory-limit", "64MiB", "--batchers", "1"];

    let finished = case.pipeline.start_consumer("drain", &arguments).unwrap().succeed().unwrap();

    assert_eq!(case.rows(), (records, records));
    let sums = "SELECT (sum(c998) + sum(length(c999)) + count(DISTINCT event_date))::BIGINT FROM %";
    let lengths = (0..records).map(|row| if row * 7 % 97 < 10 { 2 } else { 3 });
    let expected = (0..records).map(|row| row * 998).sum::<i64>() + lengths.sum::<i64>() + dates;
    assert_eq!(case.number(sums), expected);
    // Memory of the process itself, its limit, and DuckLake's memory for the statistics in one
    // commit.
    let statistics = match kind {
        CatalogKind::Sqlite => 4_600,
        CatalogKind::Postgres => 600,
    };
    let commit = u64::try_from(columns * dates * statistics).unwrap();
    let bound = (110 << 20) + (64 << 20) + commit;
    let peak = finished.usage.peak_memory_bytes;
    assert!(peak < bound, "peak=`{peak}` bound=`{bound}`");
    case.pipeline.verify().unwrap();
}

fn a_table_with_too_many_columns_for_the_memory_limit_is_rejected(kind: CatalogKind) {
    let case = case(kind, 3_000, 1, 1);
    let arguments = ["--until-end", "--memory-limit", "64MiB", "--batchers", "4"];
    let mut worker = case.pipeline.start_consumer("refused", &arguments).unwrap();

    assert_eq!(worker.exit_code().unwrap(), 2);

    let error = worker.last_error().unwrap();
    assert!(error.contains("--memory-limit is too small"), "{error}");
    assert!(error.contains("at least 96MiB") && error.contains("columns=`3005`"), "{error}");
    case.pipeline.drain(&["--memory-limit", "96MiB", "--batchers", "4"]).unwrap();
    assert_eq!(case.rows(), (1, 1));
}
