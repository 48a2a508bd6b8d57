//! Fields of newer schemas become columns.

use ducktide_testbed::{
    catalog::CatalogKind, faults::HeldCatalog, on_both_catalogs, pipeline::WAIT_TIMEOUT,
    raw_records::EncodedValue, wait,
};
use serde_json::{Value, json};

use super::SchemaFixture;

on_both_catalogs!(
    a_new_field_becomes_a_column_while_workers_run,
    a_column_that_some_files_lack_is_counted_correctly,
    new_fields_in_records_lists_and_maps_are_added,
    a_renamed_field_keeps_its_column,
    a_removed_field_is_null_and_promoted_types_stay,
    a_column_added_or_dropped_by_a_client_does_not_stop_a_worker,
    twenty_schema_versions_with_four_workers_are_exact,
);

const FAST: &[&str] = &["--flush-interval", "200ms"];

fn number() -> Value {
    json!({"name": "number", "type": "long"})
}

fn optional(name: &str, of: &str) -> Value {
    json!({"name": name, "type": ["null", of], "default": null})
}

fn old(id: u32, count: i64) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(move |n| EncodedValue::with_schema(id).long(n).bytes())
}

/// Returns records with a number and a note.
fn noted(id: u32, count: i64) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(move |n| EncodedValue::with_schema(id).long(n).long(1).text("hi").bytes())
}

fn a_new_field_becomes_a_column_while_workers_run(kind: CatalogKind) {
    let case = SchemaFixture::new("new_field", kind, 2);
    let first = case.register(&[number()]);
    let workers = ["one", "two"].map(|name| case.pipeline.start_consumer(name, FAST).unwrap());
    for partition in 0..2 {
        case.publish(partition, old(first, 50));
    }
    case.pipeline.await_committed(100).unwrap();

    let second = case.register(&[number(), optional("note", "string")]);
    for partition in 0..2 {
        // Old and new records alternate in one partition.
        let both = old(first, 50).zip(noted(second, 50)).flat_map(|(old, new)| [old, new]);
        case.publish(partition, both);
    }
    case.pipeline.await_committed(300).unwrap();

    assert_eq!(case.rows(), (300, 300));
    assert_eq!(case.number("SELECT count(*) FROM % WHERE note = 'hi'"), 100);
    assert_eq!(case.number("SELECT count(*) FROM % WHERE note IS NULL"), 200);
    for worker in workers {
        worker.check_alive().unwrap();
    }
    let ids = "SELECT string_agg(DISTINCT ids, ' ') FROM (SELECT json_extract(commit_extra_info, \
               '$.schema_ids')::VARCHAR AS ids FROM lake.snapshots()) WHERE ids IS NOT NULL";
    let ids = case.text(ids);
    assert!(ids.contains(&first.to_string()) && ids.contains(&second.to_string()), "{ids}");
    case.pipeline.verify().unwrap();
}

/// A file without the column must not leave table statistics according to which the column has no
/// NULL.
fn a_column_that_some_files_lack_is_counted_correctly(kind: CatalogKind) {
    let case = SchemaFixture::new("empty_column", kind, 1);
    let fields = [number(), optional("note", "string")];
    let (first, second) = (case.register(&[number()]), case.register(&fields));
    case.publish(0, noted(second, 7));
    case.pipeline.drain(&[]).unwrap();
    case.publish(0, old(first, 10));
    case.pipeline.drain(&[]).unwrap();

    assert_eq!(case.number("SELECT count(note) FROM %"), 7);
    assert_eq!(case.number("SELECT count(*) FROM % WHERE note IS NULL"), 10);
    assert_eq!(case.number("SELECT sum(CASE WHEN note IS NULL THEN 1 ELSE 0 END)::INT FROM %"), 10);
}

fn new_fields_in_records_lists_and_maps_are_added(kind: CatalogKind) {
    let case = SchemaFixture::new("nested_fields", kind, 1);
    let record = |name: &str, more: bool| {
        let mut fields = vec![json!({"name": "a", "type": "long"})];
        fields.extend(more.then(|| json!({"name": "b", "type": "string", "default": ""})));
        json!({"type": "record", "name": name, "fields": fields})
    };
    let fields = |more| {
        [
            json!({"name": "s", "type": record("S", more)}),
            json!({"name": "l", "type": {"type": "array", "items": record("L", more)}}),
            json!({"name": "m", "type": {"type": "map", "values": record("M", more)}}),
        ]
    };
    let first = case.register(&fields(false));
    let worker = case.pipeline.start_consumer("worker", FAST).unwrap();
    let value = EncodedValue::with_schema(first).long(1).long(1).long(2).long(0);
    case.publish(0, [value.long(1).text("k").long(3).long(0).bytes()]);
    case.pipeline.await_committed(1).unwrap();
    let second = case.register(&fields(true));
    let value =
        EncodedValue::with_schema(second).long(4).text("x").long(1).long(5).text("y").long(0);
    case.publish(0, [value.long(1).text("k").long(6).text("z").long(0).bytes()]);
    case.pipeline.await_committed(2).unwrap();

    let all = "SELECT string_agg(concat(s.a, s.b, l[1].a, l[1].b, m['k'].a, m['k'].b), ' ' \
               ORDER BY s.a) FROM %";
    assert_eq!(case.text(all), "123 4x5y6z");
    assert_eq!(case.number("SELECT count(*) FROM % WHERE s.b IS NULL AND l[1].b IS NULL"), 1);
    worker.check_alive().unwrap();
}

fn a_renamed_field_keeps_its_column(kind: CatalogKind) {
    let case = SchemaFixture::new("renamed", kind, 1);
    let first = case.register(&[number()]);
    case.publish(0, old(first, 5));
    case.pipeline.drain(&[]).unwrap();
    let renamed = json!({"name": "figure", "type": "long", "aliases": ["number"]});
    let second = case.register(&[renamed]);
    case.publish(0, old(second, 5).chain(old(first, 5)));
    case.pipeline.drain(&[]).unwrap();

    assert_eq!(case.number("SELECT count(number) FROM %"), 15);
    let columns = "SELECT count(*) FROM (DESCRIBE %) WHERE column_name = 'figure'";
    assert_eq!(case.number(columns), 0);
}

fn a_removed_field_is_null_and_promoted_types_stay(kind: CatalogKind) {
    let case = SchemaFixture::new("gone", kind, 1);
    let field = |name: &str, of: &str| json!({"name": name, "type": of});
    let wide = [field("a", "double"), field("b", "string"), field("c", "long")];
    let wide = case.register(&wide);
    let value = EncodedValue::with_schema(wide).bytes();
    let value = [value, 1.5_f64.to_le_bytes().to_vec(), vec![2, b'x', 14]].concat();
    case.publish(0, [value]);
    case.pipeline.drain(&[]).unwrap();
    let narrow = case.register(&[field("a", "int"), field("b", "bytes")]);
    case.publish(0, [EncodedValue::with_schema(narrow).long(2).text("y").bytes()]);
    case.pipeline.drain(&[]).unwrap();

    let all = "SELECT string_agg(concat_ws(',', a, b, c), ' ' ORDER BY a) FROM %";
    assert_eq!(case.text(all), "1.5,x,7 2.0,y");
}

fn a_column_added_or_dropped_by_a_client_does_not_stop_a_worker(kind: CatalogKind) {
    let case = SchemaFixture::new("altered", kind, 1);
    let id = case.register(&[number(), optional("note", "string")]);
    let worker = case.pipeline.start_consumer("worker", FAST).unwrap();
    case.publish(0, noted(id, 5));
    case.pipeline.await_committed(5).unwrap();
    let alter = |what: &str| {
        let sql = format!("ALTER TABLE events {what}");
        case.pipeline.run_ducktide(&["sql", "--write", &sql]).unwrap();
    };

    alter("ADD COLUMN judgement VARCHAR");
    case.publish(0, noted(id, 5));
    case.pipeline.await_committed(10).unwrap();
    assert_eq!(case.number("SELECT count(*) FROM % WHERE judgement IS NULL"), 10);
    // A column of the schema is added again, so that rows are complete.
    alter("DROP COLUMN note");
    case.publish(0, noted(id, 5));
    case.pipeline.await_committed(15).unwrap();
    assert_eq!(case.rows(), (15, 15));
    assert_eq!(case.number("SELECT count(*) FROM % WHERE note = 'hi'"), 5);
    worker.check_alive().unwrap();
}

/// Two workers find no table, each with another version of the schema. Both wait until a client that holds the
/// catalog ends; the first one then creates the table.
#[test]
#[ignore = "needs Kafka, the schema registry and PostgreSQL"]
fn a_table_that_is_created_for_two_versions_at_once_has_the_columns_of_both() {
    let case = SchemaFixture::new("created_twice", CatalogKind::Postgres, 1);
    case.pipeline.run_ducktide(&["init"]).unwrap();
    case.register(&[number()]);
    let held = HeldCatalog::hold(&case.pipeline.catalog).unwrap();
    let start = |name: &str, waiting: i64| {
        let worker = case.pipeline.start_consumer(name, FAST).unwrap();
        let mut catalog = case.pipeline.catalog().unwrap();
        let count = "SELECT count(*) FROM pg_stat_activity \
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let is_waiting = || Ok(catalog.number(count)? >= waiting);
        wait::until("the worker waits for the catalog", WAIT_TIMEOUT, is_waiting).unwrap();
        worker
    };
    let first = start("first", 1);
    let newer = case.register(&[number(), optional("note", "string")]);
    let second = start("second", 2);
    held.release();

    case.publish(0, noted(newer, 50));
    case.pipeline.await_committed(50).unwrap();
    assert_eq!(case.number("SELECT count(*) FROM % WHERE note = 'hi'"), 50);
    for worker in [first, second] {
        worker.await_ready(true).unwrap();
    }
    case.pipeline.verify().unwrap();
}

/// Each version has an additional field, and all workers read each version at about the same time.
fn twenty_schema_versions_with_four_workers_are_exact(kind: CatalogKind) {
    const VERSIONS: i64 = 20;
    const ROWS: i64 = 50;
    const PARTITIONS: i32 = 8;
    let case = SchemaFixture::new("versions", kind, 8);
    let field = |version: i64| optional(&format!("field_{version}"), "long");
    let mut fields = vec![number()];
    case.register(&fields);
    let workers: Vec<_> = (0..4)
        .map(|n| case.pipeline.start_consumer(&format!("worker_{n}"), FAST).unwrap())
        .collect();

    for version in 1..=VERSIONS {
        fields.push(field(version));
        let id = case.register(&fields);
        for partition in 0..PARTITIONS {
            case.publish(
                partition,
                (0..ROWS).map(|n| {
                    let value = EncodedValue::with_schema(id).long(n);
                    (1..=version).fold(value, |value, of| value.long(1).long(of)).bytes()
                }),
            );
        }
    }
    let all = VERSIONS * ROWS * i64::from(PARTITIONS);
    case.pipeline.await_committed(all.unsigned_abs()).unwrap();

    assert_eq!(case.rows(), (all, all));
    for version in [1, 7, VERSIONS] {
        let with_field = (VERSIONS - version + 1) * ROWS * i64::from(PARTITIONS);
        let sql = format!("SELECT count(*) FROM % WHERE field_{version} = {version}");
        assert_eq!(case.number(&sql), with_field, "field_{version}");
    }
    for worker in workers {
        worker.check_alive().unwrap();
    }
    case.pipeline.verify().unwrap();
}
