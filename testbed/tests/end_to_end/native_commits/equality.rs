//! The catalog rows of `ducktide_commit_files` are those of `ducklake_add_data_files`, and every later
//! operation of DuckLake finds the same lake.
//!
//! Differences, all intended:
//!
//! | row | DuckLake | `ducktide_commit_files` |
//! |---|---|---|
//! | name mapping of a file | one for each call | none: files have field IDs |
//! | `next_file_id` | counts name mappings too | counts files |
//! | `contains_nan` of floating-point columns | NULL | true or false |
//! | numbers of files | ascending by table | PostgreSQL: ascending by table; SQLite: in the order of the message |
//! | size of the partition's column | 0 | size in the file |
//! | bounds of a table's BLOB column | the last text, in one of two forms | NULL: the forms have no common order |
//! | bounds of a table after a file without bounds | those of the next file, which hides rows | NULL |

use ducktide_testbed::{catalog::CatalogKind, on_both_catalogs};

use super::pair::{NewFile, Pair, catalog_rows, result};

on_both_catalogs!(
    every_type_has_the_catalog_rows_of_ducklake,
    partitions_and_several_tables_have_the_catalog_rows_of_ducklake,
    later_operations_of_ducklake_find_the_same_lake,
    bounds_that_one_file_lacks_never_hide_its_rows,
);

/// A column of every type, and nested ones.
const TYPES: &str = "CREATE TABLE lake.types(b BOOLEAN, i INTEGER, n BIGINT, d DOUBLE, v VARCHAR, \
    bl BLOB, j JSON, u UUID, dt DATE, tm TIME, ts TIMESTAMP, tn TIMESTAMP_NS, tz TIMESTAMPTZ, \
    small DECIMAL(9,2), middle DECIMAL(18,4), large DECIMAL(38,10), l BIGINT[], \
    m MAP(VARCHAR, DOUBLE), s STRUCT(a BIGINT, b STRUCT(c VARCHAR[])), empty BIGINT)";

/// Returns rows of `types`; those of later numbers have greater and smaller values.
fn types(from: i64, rows: i64) -> String {
    format!(
        "SELECT r % 2 = 0 AS b, r::INTEGER AS i, CASE WHEN r % 3 > 0 THEN -r END AS n, \
         r / 4 AS d, 'v' || r AS v, encode('b' || r) AS bl, json_object('r', r) AS j, \
         ('00000000-0000-4000-8000-' || lpad(r::VARCHAR, 12, '0'))::UUID AS u, \
         DATE '2026-11-01' + r::INTEGER AS dt, \
         TIME '10:00:00' + to_milliseconds(r * 500) AS tm, \
         TIMESTAMP '2026-11-01' + to_milliseconds(r) AS ts, \
         (TIMESTAMP '2026-11-01' + to_milliseconds(r))::TIMESTAMP_NS AS tn, \
         TIMESTAMPTZ '2026-11-01 00:00:00+00' + to_milliseconds(-r) AS tz, \
         (r / 10)::DECIMAL(9,2) AS small, (-r / 10)::DECIMAL(18,4) AS middle, \
         (r / 100)::DECIMAL(38,10) AS large, CASE WHEN r % 2 = 0 THEN [r, NULL] ELSE [] END AS l, \
         MAP {{'k' || r: r / 2}} AS m, {{'a': r, 'b': {{'c': ['x' || r]}}}} AS s, NULL::BIGINT AS empty \
         FROM range({from}, {}) t(r)",
        from + rows
    )
}

/// Checks that all rows of the catalog are the same, apart from the intended differences.
fn assert_same_catalogs(pair: &mut Pair) {
    pair.assert_same_catalog(
        "SELECT snapshot_id, schema_version, next_catalog_id FROM ducklake_snapshot ORDER BY 1",
    );
    pair.assert_same_catalog(
        "SELECT snapshot_id, changes_made, author, commit_message, commit_extra_info \
         FROM ducklake_snapshot_changes ORDER BY 1",
    );
    pair.assert_same_catalog(
        "SELECT table_id, begin_snapshot, end_snapshot, file_order, path, path_is_relative, \
         file_format, record_count, file_size_bytes, footer_size, row_id_start, partition_id, \
         encryption_key, partial_max FROM ducklake_data_file ORDER BY path",
    );
    pair.assert_same_catalog(
        "SELECT f.path, s.table_id, s.column_id, \
         CASE WHEN EXISTS (SELECT 1 FROM ducklake_partition_column p WHERE p.table_id = s.table_id \
           AND p.column_id = s.column_id) THEN -1 ELSE s.column_size_bytes END AS size, \
         s.value_count, s.null_count, s.min_value, s.max_value, s.extra_stats \
         FROM ducklake_file_column_stats s JOIN ducklake_data_file f ON f.data_file_id = s.data_file_id \
         ORDER BY f.path, s.column_id",
    );
    pair.assert_same_catalog(
        "SELECT f.path, v.table_id, v.partition_key_index, v.partition_value \
         FROM ducklake_file_partition_value v JOIN ducklake_data_file f \
         ON f.data_file_id = v.data_file_id ORDER BY f.path",
    );
    pair.assert_same_catalog(
        "SELECT table_id, record_count, next_row_id, file_size_bytes FROM ducklake_table_stats ORDER BY 1",
    );
    pair.assert_same_catalog(
        "SELECT s.table_id, s.column_id, contains_null, extra_stats, \
         CASE c.column_type WHEN 'blob' THEN '' ELSE min_value END AS min_value, \
         CASE c.column_type WHEN 'blob' THEN '' ELSE max_value END AS max_value \
         FROM ducklake_table_column_stats s JOIN ducklake_column c ON c.table_id = s.table_id \
         AND c.column_id = s.column_id AND c.end_snapshot IS NULL ORDER BY 1, 2",
    );
    pair.assert_same_catalog(
        "SELECT source_id, partition, epoch, from_offset, to_offset, snapshot_id, kind, rows, dead \
         FROM ducktide_ledger WHERE kind <> 'start' ORDER BY ledger_id",
    );
}

fn every_type_has_the_catalog_rows_of_ducklake(kind: CatalogKind) {
    let mut pair = Pair::new(kind, TYPES);
    pair.commit(&[NewFile::new("types", types(10, 20))]);
    assert_same_catalogs(&mut pair);
    // Later commits extend the bounds in both directions, and by none.
    for (from, rows) in [(5, 5), (100, 3), (20, 1)] {
        pair.commit(&[NewFile::new("types", types(from, rows))]);
        assert_same_catalogs(&mut pair);
    }
    pair.assert_same("SELECT * FROM lake.types ORDER BY i, n");
    for condition in [
        "b AND i = 102",
        "n < -101",
        "d > 25",
        "v = 'v5'",
        "u = '00000000-0000-4000-8000-000000000100'",
        "dt > DATE '2027-01-01'",
        "tm < TIME '10:00:03'",
        "tz < TIMESTAMPTZ '2026-10-31 23:59:59.9+00'",
        "middle < -10",
        "s.a = 101",
        "empty IS NULL AND i = 7",
        "empty IS NOT NULL",
    ] {
        pair.assert_same(&format!("SELECT count(*) AS n FROM lake.types WHERE {condition}"));
    }
    for expression in ["min(n), max(n), count(n)", "min(tz), max(dt), count(empty)"] {
        pair.assert_same(&format!("SELECT {expression} FROM lake.types"));
    }
}

fn partitions_and_several_tables_have_the_catalog_rows_of_ducklake(kind: CatalogKind) {
    let mut pair = Pair::new(
        kind,
        "CREATE TABLE lake.by_date(id BIGINT, event_date DATE); \
         ALTER TABLE lake.by_date SET PARTITIONED BY (event_date); \
         CREATE TABLE lake.plain(id BIGINT, note VARCHAR)",
    );
    let dated = |directory, date: &str, from: i64| NewFile {
        table: "by_date",
        directory,
        rows: format!(
            "SELECT r AS id, {date}::DATE AS event_date FROM range({from}, {}) t(r)",
            from + 3
        ),
    };
    let plain = |from: i64| {
        NewFile::new(
            "plain",
            format!("SELECT r AS id, 'n' || r AS note FROM range({from}, {}) t(r)", from + 2),
        )
    };
    pair.commit(&[
        dated("event_date=2026-11-01", "'2026-11-01'", 0),
        dated("event_date=2026-11-02", "'2026-11-02'", 10),
    ]);
    pair.commit(&[
        plain(0),
        dated("event_date=2026-11-01", "'2026-11-01'", 20),
        plain(10),
        dated("event_date=__HIVE_DEFAULT_PARTITION__", "NULL", 30),
    ]);
    assert_same_catalogs(&mut pair);
    for condition in
        ["event_date = '2026-11-01'", "event_date IS NULL", "event_date > '2026-11-01'"]
    {
        pair.assert_same(&format!(
            "SELECT count(*) AS n, sum(id) AS ids FROM lake.by_date WHERE {condition}"
        ));
    }
}

fn later_operations_of_ducklake_find_the_same_lake(kind: CatalogKind) {
    let mut pair = Pair::new(kind, TYPES);
    let first = pair.native.number("SELECT max(snapshot_id) FROM ducklake_snapshots('lake')");
    for from in [0, 10, 20, 30] {
        pair.commit(&[NewFile::new("types", types(from, 10))]);
    }
    let rows =
        "SELECT * EXCLUDE (snapshot_id) FROM ducklake_table_changes('lake', 'main', 'types', ";
    pair.assert_same(&format!("{rows} {first}, {}) ORDER BY rowid", first + 4));
    pair.assert_same(&format!("SELECT * FROM lake.types AT (VERSION => {}) ORDER BY i", first + 2));

    pair.sql("ALTER TABLE lake.types RENAME COLUMN v TO renamed; ALTER TABLE lake.types ADD COLUMN later BIGINT");
    pair.assert_same("SELECT i, renamed, later FROM lake.types ORDER BY i");
    pair.sql("DELETE FROM lake.types WHERE i IN (3, 13)");
    pair.assert_same("SELECT * FROM lake.types ORDER BY i");
    pair.sql("CALL ducklake_rewrite_data_files('lake', 'types', delete_threshold => 0)");
    pair.assert_same("SELECT * FROM lake.types ORDER BY i");
    pair.sql("CALL ducklake_merge_adjacent_files('lake', 'types')");
    pair.assert_same("SELECT * FROM lake.types ORDER BY i");
    pair.sql("INSERT INTO lake.types(i, n) VALUES (1000, -1000)");
    pair.assert_same("SELECT i FROM lake.types WHERE n <= -39 ORDER BY i");
    pair.sql("CALL ducklake_expire_snapshots('lake', older_than => now() + INTERVAL 1 HOUR)");
    pair.assert_same("SELECT i, renamed, u FROM lake.types ORDER BY i");
    pair.assert_same_catalog(
        "SELECT count(*) AS live FROM ducklake_data_file WHERE end_snapshot IS NULL",
    );
}

fn bounds_that_one_file_lacks_never_hide_its_rows(kind: CatalogKind) {
    let mut pair = Pair::new(kind, "CREATE TABLE lake.floats(d DOUBLE)");
    let file = |value: &str| NewFile::new("floats", format!("SELECT {value}::DOUBLE AS d"));
    // Not known because of the NaN, then known again.
    pair.commit(&[file("unnest([1.0::DOUBLE, 'NaN'::DOUBLE])")]);
    pair.commit(&[file("100.0")]);

    let stats = "SELECT CASE WHEN contains_nan THEN 'NaN' END AS nan, min_value, max_value \
                 FROM ducklake_table_column_stats s JOIN ducklake_table t ON t.table_id = s.table_id \
                 WHERE t.table_name = 'floats'";
    let native = catalog_rows(&mut pair.native, stats);

    assert_eq!(native, r#"{"nan":"NaN","min_value":null,"max_value":null}"#);
    let count = "SELECT count(*) AS n FROM lake.floats WHERE d < 50";
    assert_eq!(result(&mut pair.native, count), r#"{"n":1}"#);
}
