//! Records that the table cannot store stop the worker or become dead letters.

use ducktide_testbed::{catalog::CatalogKind, on_both_catalogs, raw_records::EncodedValue};
use serde_json::json;

use super::SchemaFixture;

on_both_catalogs!(
    an_incompatible_type_stops_the_worker,
    incompatible_records_become_dead_letters_on_request,
    an_incompatible_newest_schema_stops_a_worker_at_its_start,
    a_table_of_another_client_is_not_changed,
);

const WRITE_DEAD_LETTERS: &[&str] = &["--on-incompatible-schema", "dead-letter"];

/// Returns a fixture with two schemas, in which one field is a number and a text.
fn of_two_types(name: &str, kind: CatalogKind) -> (SchemaFixture, u32, u32) {
    let case = SchemaFixture::new(name, kind, 1);
    let field = |of: &str| [json!({"name": "number", "type": of})];
    let text = case.register(&field("string"));
    // The newest schema is the compatible one.
    let number = case.register(&field("long"));
    (case, number, text)
}

fn numbers(id: u32) -> impl Iterator<Item = Vec<u8>> {
    (0..10).map(move |n| EncodedValue::with_schema(id).long(n).bytes())
}

fn texts(id: u32) -> impl Iterator<Item = Vec<u8>> {
    (0..10).map(move |_| EncodedValue::with_schema(id).text("ten").bytes())
}

fn an_incompatible_type_stops_the_worker(kind: CatalogKind) {
    let (case, number, text) = of_two_types("two_types", kind);
    case.publish(0, numbers(number).chain(texts(text)));

    let mut worker = case.pipeline.start_consumer("worker", &[]).unwrap();

    assert_eq!(worker.exit_code().unwrap(), 3);
    assert_eq!(case.rows(), (10, 10));
    let error = worker.last_error().unwrap();
    let remedy = "--on-incompatible-schema";
    for part in ["`number`", "`BIGINT`", "`VARCHAR`", remedy, "offset=`10`", "-value` version=`1`"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(error.contains(&format!("schema_id=`{text}`")), "{error}");
}

fn incompatible_records_become_dead_letters_on_request(kind: CatalogKind) {
    let (case, number, text) = of_two_types("kept_apart", kind);
    case.publish(0, numbers(number).chain(texts(text)).chain(numbers(number)));

    case.pipeline.drain(WRITE_DEAD_LETTERS).unwrap();

    assert_eq!(case.rows(), (20, 20));
    let dead_letters =
        "SELECT count(*) FROM %_dead_letters WHERE error_class = 'schema_does_not_fit'";
    assert_eq!(case.number(dead_letters), 10);
    case.pipeline.verify().unwrap();
}

fn an_incompatible_newest_schema_stops_a_worker_at_its_start(kind: CatalogKind) {
    let (case, number, text) = of_two_types("refused_at_start", kind);
    case.publish(0, numbers(number));
    case.pipeline.drain(&[]).unwrap();
    let newest = case.register(&[json!({"name": "number", "type": "string"})]);
    assert_ne!(newest, text);

    let mut refused = case.pipeline.start_consumer("refused", &[]).unwrap();
    assert_eq!(refused.exit_code().unwrap(), 4);
    let error = refused.last_error().unwrap();
    assert!(error.contains("`BIGINT`") && error.contains("--table"), "{error}");

    case.publish(0, texts(newest).chain(numbers(number)));
    case.pipeline.drain(WRITE_DEAD_LETTERS).unwrap();
    assert_eq!(case.rows(), (20, 20));
}

fn a_table_of_another_client_is_not_changed(kind: CatalogKind) {
    let (case, number, _) = of_two_types("not_ours", kind);
    case.publish(0, numbers(number));
    case.pipeline.run_ducktide(&["init"]).unwrap();
    case.pipeline.run_ducktide(&["sql", "--write", "CREATE TABLE events(number BIGINT)"]).unwrap();

    let mut refused = case.pipeline.start_consumer("refused", &[]).unwrap();

    assert_eq!(refused.exit_code().unwrap(), 4);
    let error = refused.last_error().unwrap();
    assert!(error.contains("_kafka_offset") && error.contains("--table"), "{error}");
    assert_eq!(case.number("SELECT count(*) FROM (DESCRIBE %)"), 1);
}
