//! Merges that copy pages: all types are unchanged, if column chunks are copied, concatenated or
//! encoded again.

use std::fs;

use ducktide_maintenance::MaintenanceOutcome;
use ducktide_testbed::catalog::CatalogKind;

use super::{
    case::{Case, merge},
    live_files, on_both_lakes,
};

on_both_lakes!(
    every_type_is_unchanged_by_a_merge,
    rows_keep_their_ids_when_a_file_between_them_has_ended,
    added_columns_are_null_in_older_rows,
    merges_by_ducklake_do_not_enlarge_files,
    files_with_unsupported_properties_are_merged_by_ducklake,
);

/// Columns with their types, and an expression of the row number `i` for the value of each.
const COLUMNS: [(&str, &str, &str); 25] = [
    ("id", "BIGINT", "i"),
    ("_kafka_topic", "VARCHAR", "'events'"),
    ("_kafka_partition", "INTEGER", "0"),
    ("_kafka_offset", "BIGINT", "i"),
    ("tiny", "TINYINT", "i % 100 - 50"),
    ("small_unsigned", "USMALLINT", "60000 + i % 1000"),
    ("large_unsigned", "UBIGINT", "18446744073709551615 - i"),
    ("flag", "BOOLEAN", "i % 3 = 0"),
    ("ratio", "DOUBLE", "CASE i % 50 WHEN 0 THEN 'NaN'::DOUBLE WHEN 1 THEN -0.0 ELSE i / 7 END"),
    ("small_ratio", "FLOAT", "i / 3"),
    ("price", "DECIMAL(9, 2)", "i / 100 - 20"),
    ("wide_price", "DECIMAL(38, 10)", "-i * 1e15"),
    ("name", "VARCHAR", "CASE WHEN i % 10 = 0 THEN NULL ELSE 'n' || hash(i) END"),
    ("state", "VARCHAR", "['open', 'closed', 'ünknown'][1 + i % 3]"),
    ("payload", "JSON", "json_object('a', i, 'b', [i, NULL])"),
    ("bytes", "BLOB", "encode('b' || i % 20)"),
    ("uuid", "UUID", "md5(i::VARCHAR)::UUID"),
    ("day", "DATE", "DATE '2026-01-01' + (i % 365)::INTEGER"),
    ("old_day", "DATE", "DATE '0044-03-15 (BC)' + i::INTEGER"),
    ("moment", "TIMESTAMP", "TIMESTAMP '2026-01-01' + to_microseconds(i * 1001)"),
    ("instant", "TIMESTAMPTZ", "TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_seconds(i)"),
    ("time_of_day", "TIME", "TIME '00:00:00' + to_seconds(i % 86400)"),
    ("nothing", "INTEGER", "NULL"),
    (
        "list",
        "STRUCT(k VARCHAR, v INTEGER[])[]",
        "CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN [] ELSE [{'k': 'x' || i, 'v': [i, NULL]}, NULL] END",
    ),
    (
        "map",
        "MAP(VARCHAR, STRUCT(x DOUBLE, y DATE))",
        "MAP {'a' || i % 5: {'x': i / 2, 'y': NULL}, 'b': NULL}",
    ),
];

/// Adds a file like a worker's with a range of rows.
fn add(case: &mut Case, from: u32, to: u32, row_group: u32) {
    add_columns(case, &COLUMNS, from, to, row_group);
}

fn add_columns(
    case: &mut Case,
    columns: &[(&str, &str, &str)],
    from: u32,
    to: u32,
    row_group: u32,
) {
    let directory = case.table.directory.clone();
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join(format!("ducktide-{}.parquet", uuid::Uuid::new_v4()));
    let values = columns.iter();
    let values = values.map(|(name, of_type, value)| format!("({value})::{of_type} AS {name}"));
    let values = values.collect::<Vec<_>>();
    let path = path.display();
    case.sql(&format!(
        "COPY (SELECT {} FROM range({from}, {to}) r(i)) TO '{path}' \
         (FORMAT parquet, PARQUET_VERSION V2, COMPRESSION zstd, ROW_GROUP_SIZE {row_group}); \
         CALL ducklake_add_data_files('lake', 'events', '{path}')",
        values.join(", "),
    ))
    .unwrap();
}

fn with_every_type(kind: CatalogKind) -> Case {
    let mut case = Case::new(kind);
    let columns = COLUMNS.map(|(name, of_type, _)| format!("{name} {of_type}")).join(", ");
    case.sql(&format!("CREATE OR REPLACE TABLE lake.events({columns})")).unwrap();
    case
}

/// Returns the text of a query with one row and one column.
fn text(case: &mut Case, sql: &str) -> String {
    let connection = case.lake().connection().unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Returns checksums of the content and of the row IDs, and the results of queries for minimum,
/// maximum and some values of each column: with wrong statistics, readers skip rows.
fn content(case: &mut Case) -> Vec<String> {
    let mut queries = vec![
        "SELECT count(*) || ' ' || bit_xor(hash(e)) FROM lake.events e".to_owned(),
        "SELECT count(*) || ' ' || bit_xor(hash(e, rowid)) FROM lake.events e".to_owned(),
    ];
    for (name, _, _) in COLUMNS {
        let with = |condition: &str| {
            format!(
                "SELECT count(*)::VARCHAR || ' ' || coalesce(sum(id), 0)::VARCHAR FROM lake.events \
                 WHERE {condition}"
            )
        };
        queries.push(with(&format!("{name} = (SELECT min({name}) FROM lake.events)")));
        queries.push(with(&format!("{name} = (SELECT max({name}) FROM lake.events)")));
        queries.push(with(&format!("{name} IS NULL")));
        queries.push(with(&format!(
            "{name} IN (SELECT {name} FROM lake.events WHERE id IN (1, 777, 5001, 9999))"
        )));
    }
    queries.iter().map(|sql| text(case, sql)).collect()
}

/// Returns the prefixes of the live files: `ducktide` for workers and merges that copy pages, else
/// `ducklake`.
fn writers(case: &mut Case) -> String {
    let files = case.own("ducklake_data_file");
    text(
        case,
        &format!(
            "SELECT string_agg(DISTINCT regexp_extract(path, '(duck[a-z]+)-', 1), ' ') FROM {files} \
             WHERE end_snapshot IS NULL"
        ),
    )
}

fn every_type_is_unchanged_by_a_merge(kind: CatalogKind) {
    let mut case = with_every_type(kind);
    // Small row groups are encoded again, pages of larger ones are copied, and one is copied as a
    // whole.
    let sizes = [(0, 50), (50, 60), (60, 5_000), (5_000, 10_000), (10_000, 150_000)];
    for (from, to) in sizes {
        add(&mut case, from, to, 122_880);
    }
    add(&mut case, 150_000, 152_000, 2_048);
    let before = content(&mut case);

    assert_eq!(merge(&mut case.operator()), MaintenanceOutcome::Done(6));

    assert_eq!((live_files(&mut case), writers(&mut case)), (1, "ducktide".to_owned()));
    for (after, before) in content(&mut case).iter().zip(&before) {
        assert_eq!(after, before);
    }
    // The merged file is merged again: it has its own field IDs, and rows of several snapshots.
    add(&mut case, 200_000, 200_100, 122_880);
    let before = content(&mut case);
    let newest = case.number("SELECT max(snapshot_id) FROM ducklake_snapshots('lake')");

    assert_eq!(merge(&mut case.operator()), MaintenanceOutcome::Done(2));

    assert_eq!((live_files(&mut case), writers(&mut case)), (1, "ducktide".to_owned()));
    assert_eq!(content(&mut case), before);
    let without_the_last =
        format!("SELECT count(*) FROM lake.events AT (VERSION => {})", newest - 2);
    assert_eq!(case.number(&without_the_last), 152_000);
}

/// The row IDs of the merged files have a gap, so the merged file must contain them.
fn rows_keep_their_ids_when_a_file_between_them_has_ended(kind: CatalogKind) {
    let mut case = with_every_type(kind);
    for (from, to) in [(0, 50), (50, 60), (60, 200)] {
        add(&mut case, from, to, 122_880);
    }
    case.sql("DELETE FROM lake.events WHERE id BETWEEN 50 AND 59").unwrap();
    assert_eq!(live_files(&mut case), 2);
    let before = content(&mut case);

    assert_eq!(merge(&mut case.operator()), MaintenanceOutcome::Done(2));

    assert_eq!((live_files(&mut case), writers(&mut case)), (1, "ducktide".to_owned()));
    assert_eq!(content(&mut case), before);
}

/// All columns are added one by one, between a file without them and files with them.
fn added_columns_are_null_in_older_rows(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let (first, added) = COLUMNS.split_at(4);
    let columns = first.iter().map(|(name, of_type, _)| format!("{name} {of_type}"));
    let columns = columns.collect::<Vec<_>>().join(", ");
    case.sql(&format!("CREATE OR REPLACE TABLE lake.events({columns})")).unwrap();
    add_columns(&mut case, first, 0, 10_000, 122_880);
    for (name, of_type, _) in added {
        case.sql(&format!("ALTER TABLE lake.events ADD COLUMN {name} {of_type}")).unwrap();
    }
    add(&mut case, 10_000, 10_050, 122_880);
    add(&mut case, 10_050, 20_000, 122_880);
    let (before, bytes) = (content(&mut case), live_bytes(&mut case));

    assert_eq!(merge(&mut case.operator()), MaintenanceOutcome::Done(3));

    assert_eq!((live_files(&mut case), writers(&mut case)), (1, "ducktide".to_owned()));
    for (after, before) in content(&mut case).iter().zip(&before) {
        assert_eq!(after, before);
    }
    // DuckDB's COPY encodes floating-point numbers as byte streams, workers and merges as plain
    // values: the merged file is about a fifth larger.
    let merged = live_bytes(&mut case);
    assert!(merged < bytes * 3 / 2, "merged=`{merged}` before=`{bytes}`");
    // The catalog has minimum values of the new columns, although a file does not have the column.
    let statistics = case.own("ducklake_file_column_stats");
    let known = format!(
        "SELECT count(*) FROM {statistics} WHERE null_count >= 10000 AND min_value IS NOT NULL"
    );
    assert!(case.number(&known) > 10);
}

/// A field is added in a struct column.
fn merges_by_ducklake_do_not_enlarge_files(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let offsets = ("_kafka_offset", "BIGINT", "i");
    let columns = [offsets, ("more", "STRUCT(a BIGINT)", "{'a': i * 1000000007}")];
    let wider = ("more", "STRUCT(a BIGINT, b BIGINT)", "{'a': i * 1000000007, 'b': i}");
    case.sql("CREATE OR REPLACE TABLE lake.events(_kafka_offset BIGINT, more STRUCT(a BIGINT))")
        .unwrap();
    add_columns(&mut case, &columns, 0, 20_000, 122_880);
    case.sql("ALTER TABLE lake.events ADD COLUMN more.b BIGINT").unwrap();
    add_columns(&mut case, &[offsets, wider], 20_000, 40_000, 122_880);
    let bytes = live_bytes(&mut case);

    assert_eq!(merge(&mut case.operator()), MaintenanceOutcome::Done(2));

    let merged = live_bytes(&mut case);
    assert_eq!((live_files(&mut case), writers(&mut case)), (1, "ducklake".to_owned()));
    assert!(merged < bytes + 40_000, "merged=`{merged}` before=`{bytes}`");
    let sums = "SELECT sum(more.a)::BIGINT % 1000 + sum(more.b)::BIGINT FROM lake.events";
    let expected =
        (0..40_000_i64).sum::<i64>() * 1_000_000_007 % 1000 + (20_000..40_000_i64).sum::<i64>();
    assert_eq!(case.number(sums), expected);
}

fn live_bytes(case: &mut Case) -> i64 {
    let files = case.own("ducklake_data_file");
    case.number(&format!(
        "SELECT sum(file_size_bytes)::BIGINT FROM {files} WHERE end_snapshot IS NULL"
    ))
}

fn files_with_unsupported_properties_are_merged_by_ducklake(kind: CatalogKind) {
    let changes = [
        "CALL lake.set_option('parquet_compression', 'snappy')",
        "ALTER TABLE lake.events ADD COLUMN shape GEOMETRY",
    ];
    for change in changes {
        let mut case = Case::filled(kind, 2);
        case.sql(change).unwrap();
        for _ in 0..2 {
            case.sql("INSERT INTO lake.events(id, _kafka_offset) VALUES (900, 900)").unwrap();
        }

        assert_eq!(merge(&mut case.operator()), MaintenanceOutcome::Done(4), "{change}");

        assert_eq!((case.count(), writers(&mut case)), (22, "ducklake".to_owned()), "{change}");
    }
}
