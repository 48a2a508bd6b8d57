//! Tables and catalogs that other clients alter while workers run.

use ducktide_testbed::{catalog::CatalogKind, on_both_catalogs, raw_records::EncodedValue};
use serde_json::{Value, json};

use super::SchemaFixture;

on_both_catalogs!(
    a_worker_does_not_write_to_a_migrated_catalog,
    the_partition_column_is_recorded_in_the_lake,
    a_dropped_table_stops_running_and_restarted_workers,
);

const FAST: &[&str] = &["--flush-interval", "200ms"];

fn timestamp(name: &str) -> Value {
    json!({"name": name, "type": {"type": "long", "logicalType": "timestamp-micros"}})
}

const DAY: i64 = 86_400_000_000;

/// Returns records with two timestamps: the second and the third day of 1970.
fn dated(id: u32, count: usize) -> impl Iterator<Item = Vec<u8>> {
    std::iter::repeat_with(move || EncodedValue::with_schema(id).long(DAY).long(2 * DAY).bytes())
        .take(count)
}

fn a_worker_does_not_write_to_a_migrated_catalog(kind: CatalogKind) {
    let case = SchemaFixture::new("migrated", kind, 1);
    let id = case.register(&[timestamp("at"), timestamp("seen")]);
    case.publish(0, dated(id, 5));
    let mut worker = case.pipeline.start_consumer("worker", FAST).unwrap();
    case.pipeline.await_committed(5).unwrap();

    let mut catalog = case.pipeline.catalog().unwrap();
    catalog
        .execute(
            "ALTER TABLE ducklake_data_file ADD COLUMN row_group_count BIGINT; \
             ALTER TABLE ducklake_delete_file ADD COLUMN row_group_count BIGINT; \
             UPDATE ducklake_metadata SET value = '1.1' WHERE key = 'version'",
        )
        .unwrap();
    case.publish(0, dated(id, 5));

    assert_eq!(worker.exit_code().unwrap(), 4);
    let error = worker.last_error().unwrap();
    assert!(error.contains("catalog_format=`1.1` supported=`1.0`"), "{error}");
    let mut again = case.pipeline.start_consumer("again", FAST).unwrap();
    assert_eq!(again.exit_code().unwrap(), 4);
    let error = again.last_error().unwrap();
    assert!(error.contains("catalog_format=`1.1`") && error.contains("backup"), "{error}");
    catalog.execute("UPDATE ducklake_metadata SET value = '1.0' WHERE key = 'version'").unwrap();
    assert_eq!(case.rows(), (5, 5), "nothing was written to the unknown format");
}

fn the_partition_column_is_recorded_in_the_lake(kind: CatalogKind) {
    let case = SchemaFixture::new("date_column", kind, 1);
    let id = case.register(&[timestamp("at"), timestamp("seen")]);
    let by = |column| [FAST, &["--partition-by", column]].concat();
    let alter = |what: &str| {
        let sql = format!("ALTER TABLE events {what}");
        case.pipeline.run_ducktide(&["sql", "--write", &sql]).unwrap();
    };
    case.publish(0, dated(id, 5));
    case.pipeline.drain(&by("at")).unwrap();
    // Without the setting, the column recorded in the lake is used.
    case.publish(0, dated(id, 5));
    case.pipeline.drain(&[]).unwrap();
    let of_at = "SELECT count(*) FROM % WHERE event_date = DATE '1970-01-02'";
    assert_eq!((case.number(of_at), case.rows().0), (10, 10));

    let mut other = case.pipeline.start_consumer("other", &by("seen")).unwrap();
    assert_eq!(other.exit_code().unwrap(), 4);
    let error = other.last_error().unwrap();
    assert!(error.contains("recorded=`at` partition_by=`seen`"), "{error}");

    let mut worker = case.pipeline.start_consumer("worker", FAST).unwrap();
    case.publish(0, dated(id, 5));
    case.pipeline.await_committed(15).unwrap();
    alter("SET PARTITIONED BY (seen)");
    case.publish(0, dated(id, 5));
    assert_eq!(worker.exit_code().unwrap(), 4);
    let running = worker.last_error().unwrap();
    let mut again = case.pipeline.start_consumer("again", FAST).unwrap();
    assert_eq!(again.exit_code().unwrap(), 4);
    for error in [running, again.last_error().unwrap()] {
        assert!(error.contains("RESET PARTITIONED BY") && error.contains("key=`seen`"), "{error}");
    }
    alter("RESET PARTITIONED BY");
    case.pipeline.drain(&[]).unwrap();
    alter("SET PARTITIONED BY (event_date)");
    case.publish(0, dated(id, 5));
    case.pipeline.drain(&[]).unwrap();
    assert_eq!((case.number(of_at), case.rows()), (25, (25, 25)));
    case.pipeline.verify().unwrap();
}

fn a_dropped_table_stops_running_and_restarted_workers(kind: CatalogKind) {
    let case = SchemaFixture::new("dropped", kind, 1);
    let id = case.register(&[timestamp("at"), timestamp("seen")]);
    let mut worker = case.pipeline.start_consumer("worker", FAST).unwrap();
    case.publish(0, dated(id, 5));
    case.pipeline.await_committed(5).unwrap();
    // In a table that is not partitioned, a column of this name belongs to another client.
    let sql = "ALTER TABLE events ADD COLUMN event_date DATE";
    case.pipeline.run_ducktide(&["sql", "--write", sql]).unwrap();
    case.publish(0, dated(id, 5));
    case.pipeline.await_committed(10).unwrap();
    assert_eq!(case.number("SELECT count(*) FROM % WHERE event_date IS NULL"), 10);

    case.pipeline.run_ducktide(&["sql", "--write", "DROP TABLE events"]).unwrap();
    case.publish(0, dated(id, 5));

    assert_eq!(worker.exit_code().unwrap(), 4);
    let mut again = case.pipeline.start_consumer("again", FAST).unwrap();
    assert_eq!(again.exit_code().unwrap(), 4);
    for error in [worker.last_error().unwrap(), again.last_error().unwrap()] {
        assert!(error.contains("the table was dropped") && error.contains("rows=`10`"), "{error}");
    }
    assert_eq!(case.number("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'events'"), 0);
}
