//! Keys and headers as columns, created with the table or added later.

use ducktide_testbed::{
    catalog::CatalogKind,
    on_both_catalogs,
    raw_records::{EncodedValue, Envelope, publish_enveloped},
};
use serde_json::json;

use super::SchemaFixture;

on_both_catalogs!(
    keys_and_headers_are_stored_on_request,
    key_and_header_columns_can_be_added_later,
);

/// Returns a fixture and the ID of a schema with one number.
fn case(name: &str, kind: CatalogKind) -> (SchemaFixture, u32) {
    let case = SchemaFixture::new(name, kind, 1);
    let id = case.register(&[json!({"name": "number", "type": "long"})]);
    (case, id)
}

fn publish(case: &SchemaFixture, id: u32, envelopes: &[Envelope<'_>]) {
    let value = EncodedValue::with_schema(id).long(7).bytes();
    let pipeline = &case.pipeline;
    publish_enveloped(&pipeline.bootstrap_servers, &pipeline.topic, envelopes, &value).unwrap();
}

const ENVELOPES: [Envelope<'static>; 4] = [
    Envelope { key: Some(b"k1"), headers: &[("trace", Some(b"\x00\xff")), ("trace", None)] },
    Envelope { key: None, headers: &[] },
    Envelope { key: Some(b""), headers: &[("", Some(b""))] },
    Envelope { key: Some(b"\xc3\x28"), headers: &[] },
];

fn keys_and_headers_are_stored_on_request(kind: CatalogKind) {
    let (case, id) = case("envelopes", kind);
    publish(&case, id, &ENVELOPES);

    case.pipeline.drain(&["--key-format", "text", "--headers"]).unwrap();

    // The last key is not valid text.
    assert_eq!(case.rows(), (3, 3));
    let keys = "SELECT list(coalesce(_kafka_key, '-') ORDER BY _kafka_offset)::VARCHAR FROM %";
    assert_eq!(case.text(keys), "[k1, -, '']");
    let headers = "SELECT list(_kafka_headers ORDER BY _kafka_offset)::VARCHAR FROM %";
    let expected = [
        r"[{'key': trace, 'value': \x00\xFF}, {'key': trace, 'value': NULL}]",
        "[]",
        "[{'key': '', 'value': ''}]",
    ];
    assert_eq!(case.text(headers), format!("[{}]", expected.join(", ")));
    let dead_letter = "SELECT error FROM %_dead_letters";
    assert!(case.text(dead_letter).contains("_kafka_key"), "{}", case.text(dead_letter));
    case.pipeline.verify().unwrap();
}

fn key_and_header_columns_can_be_added_later(kind: CatalogKind) {
    let (case, id) = case("envelopes_later", kind);
    publish(&case, id, &ENVELOPES);
    case.pipeline.drain(&[]).unwrap();
    publish(&case, id, &ENVELOPES);
    case.pipeline.drain(&["--key-format", "bytes", "--headers"]).unwrap();
    publish(&case, id, &ENVELOPES);
    case.pipeline.drain(&[]).unwrap();

    assert_eq!(case.rows(), (12, 12));
    let keys =
        "SELECT string_agg(coalesce(_kafka_key::VARCHAR, '-'), ' ' ORDER BY _kafka_offset) FROM %";
    assert_eq!(case.text(keys), r"- - - - k1 -  \xC3( k1 -  \xC3(");
    assert_eq!(case.number("SELECT count(_kafka_headers) FROM %"), 8);
    case.pipeline.verify().unwrap();
}

/// The table is the same as that created by a consumer.
#[test]
#[ignore = "needs Kafka and the schema registry"]
fn init_creates_a_table_before_the_first_consumer() {
    let (case, id) = case("created_before", CatalogKind::Sqlite);
    let subject = format!("{}-value", case.pipeline.topic);
    let more = ["--table", "events", "--key-format", "text", "--headers"];
    let init = [&["init", "--from-subject", &subject][..], &more].concat();

    let printed = case.pipeline.run_ducktide(&init).unwrap();

    assert!(printed.contains("table      main.events, 7 columns"), "{printed}");
    assert_eq!(case.rows(), (0, 0));
    publish(&case, id, &ENVELOPES[..3]);
    case.pipeline.drain(&[]).unwrap();
    assert_eq!(case.number("SELECT count(_kafka_key) FROM %"), 2);

    let unknown =
        case.pipeline.run_ducktide(&["init", "--from-subject", "unknown-value"]).unwrap_err();
    assert!(format!("{unknown:#}").contains("subject=`unknown-value`"), "{unknown:#}");
}
