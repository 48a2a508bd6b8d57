//! Avro keys: the type of their column is that of their schema, and changes with it.

use ducktide_testbed::{
    catalog::CatalogKind,
    on_both_catalogs,
    raw_records::{EncodedValue, Envelope, publish_enveloped},
};
use serde_json::{Value, json};

use super::SchemaFixture;

on_both_catalogs!(avro_keys_follow_their_schema, an_incompatible_key_stops_the_worker,);

const AVRO_KEYS: &[&str] = &["--key-format", "avro-registry"];

/// Returns a fixture whose values are a number, and the ID of their schema.
fn case(name: &str, kind: CatalogKind) -> (SchemaFixture, u32) {
    let case = SchemaFixture::new(name, kind, 1);
    let id = case.register(&[json!({"name": "number", "type": "long"})]);
    (case, id)
}

fn publish(case: &SchemaFixture, value_id: u32, keys: &[Option<Vec<u8>>]) {
    let value = EncodedValue::with_schema(value_id).long(7).bytes();
    let envelopes: Vec<_> =
        keys.iter().map(|key| Envelope { key: key.as_deref(), headers: &[] }).collect();
    let pipeline = &case.pipeline;
    publish_enveloped(&pipeline.bootstrap_servers, &pipeline.topic, &envelopes, &value).unwrap();
}

fn record(fields: &[Value]) -> Value {
    json!({"type": "record", "name": "Key", "fields": fields})
}

fn avro_keys_follow_their_schema(kind: CatalogKind) {
    let (case, value_id) = case("avro_keys", kind);
    let region = json!({"name": "region", "type": "string"});
    let first = case.register_as("key", &record(std::slice::from_ref(&region)));
    let of_first = |text: &str| Some(EncodedValue::with_schema(first).text(text).bytes());
    publish(&case, value_id, &[of_first("eu"), None, Some(b"us".to_vec())]);
    let mut worker = case.pipeline.start_consumer("worker", AVRO_KEYS).unwrap();
    case.pipeline.await_committed(3).unwrap();

    let shard = json!({"name": "shard", "type": ["null", "int"], "default": null});
    let second = case.register_as("key", &record(&[region, shard]));
    let of_second = EncodedValue::with_schema(second).text("af").long(1).long(9).bytes();
    publish(&case, value_id, &[Some(of_second), of_first("as")]);
    case.pipeline.await_committed(5).unwrap();
    worker.stop().unwrap();

    assert_eq!(case.rows(), (4, 4));
    let keys = "SELECT list(_kafka_key ORDER BY _kafka_offset)::VARCHAR FROM %";
    let expected = [
        "{'region': eu, 'shard': NULL}",
        "NULL",
        "{'region': af, 'shard': 9}",
        "{'region': as, 'shard': NULL}",
    ];
    assert_eq!(case.text(keys), format!("[{}]", expected.join(", ")));
    let dead_letters = "SELECT string_agg(error_class || ': ' || error) FROM %_dead_letters";
    let expected = "no_schema_id: key does not begin with a zero byte: byte=`117`";
    assert_eq!(case.text(dead_letters), expected);
    let retry = [&["dead-letters", "retry", "--all"][..], AVRO_KEYS].concat();
    let still = case.pipeline.run_ducktide(&retry).unwrap_err();
    assert!(format!("{still:#}").contains("still open: count=`1`"), "{still:#}");
    case.pipeline.verify().unwrap();
}

fn an_incompatible_key_stops_the_worker(kind: CatalogKind) {
    let (case, value_id) = case("unfit_keys", kind);
    let text = case.register_as("key", &json!("string"));
    let number = case.register_as("key", &json!("long"));
    let subject = format!("{}-value", case.pipeline.topic);
    let init = ["init", "--from-subject", &subject, "--table", "events"];
    case.pipeline.run_ducktide(&[&init[..], AVRO_KEYS].concat()).unwrap();
    let of_number = EncodedValue::with_schema(number).long(42).bytes();
    let of_text = EncodedValue::with_schema(text).text("42").bytes();
    publish(&case, value_id, &[Some(of_number.clone()), Some(of_text), Some(of_number)]);

    let mut worker = case.pipeline.start_consumer("worker", AVRO_KEYS).unwrap();

    assert_eq!(worker.exit_code().unwrap(), 3);
    assert_eq!(case.rows(), (1, 1));
    assert_eq!(case.number("SELECT sum(_kafka_key)::BIGINT FROM %"), 42);
    let error = worker.last_error().unwrap();
    for part in ["`_kafka_key`", "`BIGINT`", "`VARCHAR`", "-key` version=`1`"] {
        assert!(error.contains(part), "{part}: {error}");
    }

    let keep = [AVRO_KEYS, &["--on-incompatible-schema", "dead-letter"]].concat();
    case.pipeline.drain(&keep).unwrap();
    assert_eq!(case.number("SELECT sum(_kafka_key)::BIGINT FROM %"), 84);
    case.pipeline.verify().unwrap();
}
