//! Values that are not records, values without a registry, and the order of rows in files.

use std::fs;

use ducktide_testbed::{
    catalog::CatalogKind,
    pipeline::{Pipeline, TABLE},
    raw_records::{EncodedValue, Envelope, publish_records},
    services::shared_kafka,
};
use serde_json::json;

use super::SchemaFixture;

/// Schema of a record with one number.
const SCHEMA: &str =
    r#"{"type": "record", "name": "R", "fields": [{"name": "number", "type": "long"}]}"#;

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn values_that_are_not_records_have_one_column() {
    let case = SchemaFixture::new("plain_values", CatalogKind::Sqlite, 1);
    let id = case.register_as("value", &json!(["null", "string"]));
    let text = EncodedValue::with_schema(id).long(1).text("seven").bytes();
    case.publish(0, [text, EncodedValue::with_schema(id).long(0).bytes()]);

    case.pipeline.drain(&[]).unwrap();

    assert_eq!(case.rows(), (2, 2));
    let values = "SELECT string_agg(coalesce(value, '-'), ' ' ORDER BY _kafka_offset) FROM %";
    assert_eq!(case.text(values), "seven -");
    case.pipeline.verify().unwrap();
}

/// Values larger than the default sizes of a fetch, a batch or a queue.
#[test]
#[ignore = "needs Kafka and the schema registry"]
fn values_of_fifty_megabytes_become_rows_or_dead_letters() {
    const LENGTH: usize = 50_000_000;
    let pipeline = Pipeline::on_shared_services("huge_values", CatalogKind::Sqlite).unwrap();
    let large = [("max.message.bytes", "60000000")];
    shared_kafka().create_topic(&pipeline.topic, 1, &large).unwrap();
    let case = SchemaFixture::of(pipeline);
    let id = case.register_as("value", &json!("string"));
    let huge = EncodedValue::with_schema(id).text(&"x".repeat(LENGTH)).bytes();
    let cut = huge[..LENGTH].to_vec();
    let small = || EncodedValue::with_schema(id).text("small").bytes();
    case.publish(0, [small(), huge.clone(), cut, small(), huge, small()]);

    case.pipeline.drain(&[]).unwrap();

    assert_eq!(case.rows(), (5, 5));
    assert_eq!(case.number("SELECT sum(length(value))::BIGINT FROM %"), 100_000_015);
    let dead_letters = "SELECT string_agg(error_class || octet_length(value)) FROM %_dead_letters";
    assert_eq!(case.text(dead_letters), "truncated50000000");
    case.pipeline.verify().unwrap();
}

/// The last two values begin like framed values but are not: the header decides.
#[test]
#[ignore = "needs Kafka and the schema registry"]
fn schema_ids_can_be_in_headers_or_in_values() {
    let case = SchemaFixture::new("header_ids", CatalogKind::Sqlite, 1);
    let number = |namespace: &str| {
        json!({"type": "record", "name": "N", "namespace": namespace,
            "fields": [{"name": "a", "type": {"type": "fixed", "name": "F", "size": 6}}]})
    };
    let value_id = case.register_as("value", &number("v"));
    let key_id = case.register_as("key", &json!("long"));
    let in_header = |id: u32| [&[0][..], &id.to_be_bytes()].concat();
    let (of_value, of_key) = (in_header(value_id), in_header(key_id));
    let headers = [
        ("__value_schema_id", Some(&[9_u8][..])),
        ("trace", Some(b"x")),
        ("__value_schema_id", Some(&of_value)),
        ("__key_schema_id", Some(&of_key)),
    ];
    let enveloped = Envelope { key: Some(&[14]), headers: &headers };
    let framed_key = EncodedValue::with_schema(key_id).long(8).bytes();
    let framed = Envelope { key: Some(&framed_key), headers: &[("trace", None)] };
    let value = EncodedValue::with_schema(value_id).bytes();
    let framed_value = [&value[..], b"framed"].concat();
    let looks_framed = [&value[..], b"!"].concat();
    let broken = [("__value_schema_id", Some(&b"12"[..]))];
    let broken = Envelope { key: None, headers: &broken };
    let records: [(Envelope<'_>, &[u8]); 5] = [
        (framed, &framed_value),
        (enveloped, b"alone!"),
        (broken, &framed_value),
        (enveloped, &looks_framed),
        (enveloped, &framed_value[..6]),
    ];
    let Pipeline { bootstrap_servers, topic, .. } = &case.pipeline;
    publish_records(bootstrap_servers, topic, &records).unwrap();

    case.pipeline.drain(&["--key-format", "avro-registry"]).unwrap();

    let looks_framed = hex(&looks_framed);
    let expected = [hex(b"framed"), hex(b"alone!"), looks_framed, hex(&framed_value[..6])];
    let values = "SELECT string_agg(hex(a), ' ' ORDER BY _kafka_offset) FROM %";
    assert_eq!(case.text(values), expected.join(" "));
    let keys = "SELECT list(_kafka_key ORDER BY _kafka_offset)::VARCHAR FROM %";
    assert_eq!(case.text(keys), "[8, 7, 7, 7]");
    let dead_letters = "SELECT string_agg(error_class || ': ' || error) FROM %_dead_letters";
    let dead_letter = case.text(dead_letters);
    assert!(
        dead_letter.starts_with("no_schema_id: header contains neither a schema id"),
        "{dead_letter}"
    );
    case.pipeline.verify().unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().concat()
}

/// The topic has no subject in the registry.
#[test]
#[ignore = "needs Kafka and the schema registry"]
fn values_with_a_fixed_schema_need_no_registry() {
    let case = SchemaFixture::new("fixed_values", CatalogKind::Sqlite, 1);
    let file = case.pipeline.file("schema.avsc");
    fs::write(&file, SCHEMA).unwrap();
    let bad = EncodedValue::without_header().long(1).text("more").bytes();
    let good = (0..10).map(|n| EncodedValue::without_header().long(n).bytes());
    case.publish(0, good.chain([bad]));
    let file = file.display().to_string();
    let arguments = ["--value-format", "avro-fixed", "--schema-file", &file];

    case.pipeline.drain(&arguments).unwrap();

    assert_eq!(case.rows(), (10, 10));
    assert_eq!(case.number("SELECT sum(number)::BIGINT FROM %"), 45);
    let dead_letters =
        "SELECT string_agg(error_class || coalesce(schema_id, 0)) FROM %_dead_letters";
    assert_eq!(case.text(dead_letters), "trailing_bytes0");
    let retry = [&["dead-letters", "retry", "--all"][..], &arguments].concat();
    let still = case.pipeline.run_ducktide(&retry).unwrap_err();
    assert!(format!("{still:#}").contains("still open: count=`1`"), "{still:#}");
    case.pipeline.verify().unwrap();

    for (arguments, what) in [
        (["--value-format", "avro-fixed", "--schema-file", "missing"], "file=`missing`"),
        (["--value-format", "avro-registry", "--schema-file", &file], "avro-fixed or json"),
    ] {
        let mut worker = case.pipeline.start_consumer("refused", &arguments).unwrap();
        assert_eq!(worker.exit_code().unwrap(), 4);
        assert!(worker.last_error().unwrap().contains(what), "{:?}", worker.last_error());
    }
}

/// The topic has no subject in the registry.
#[test]
#[ignore = "needs Kafka"]
fn fields_of_json_objects_fill_columns_and_the_rest_is_kept() {
    let case = SchemaFixture::new("json_values", CatalogKind::Sqlite, 1);
    let file = case.pipeline.file("schema.avsc");
    fs::write(&file, SCHEMA).unwrap();
    let file = file.display().to_string();
    let values =
        ["{\"number\": 1}", "{\"number\": 2, \"x\": [1.50, null]}", "{\"number\": \"3\"}", "4"];
    case.publish(0, values.map(|value| value.as_bytes().to_vec()));

    case.pipeline
        .drain(&["--value-format", "json", "--union-as", "struct", "--schema-file", &file])
        .unwrap();

    assert_eq!(case.rows(), (2, 2));
    let extra =
        "SELECT string_agg(number || coalesce(_extra->>'$.x[0]', '-'), ' ' ORDER BY number) FROM %";
    assert_eq!(case.text(extra), "1- 21.5");
    let dead_letters =
        "SELECT string_agg(error_class, ' ' ORDER BY \"offset\") FROM %_dead_letters";
    assert_eq!(case.text(dead_letters), "out_of_range malformed");

    // A column that a client adds is filled from then on, without a restart.
    let mut worker = case.pipeline.start_consumer("json", &["--value-format", "json"]).unwrap();
    case.publish(0, [b"{\"number\": 5}".to_vec()]);
    case.pipeline.await_committed(5).unwrap();
    let alter = format!("ALTER TABLE {TABLE} ADD COLUMN x DOUBLE[]");
    case.pipeline.run_ducktide(&["sql", "--write", &alter]).unwrap();
    case.publish(0, [b"{\"number\": 6, \"x\": [2.5]}".to_vec()]);
    case.pipeline.await_committed(6).unwrap();
    worker.stop().unwrap();

    assert_eq!(case.number("SELECT sum(x[1] * 10)::BIGINT FROM % WHERE _extra IS NULL"), 25);
    case.pipeline.verify().unwrap();
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn each_branch_of_a_union_has_a_field() {
    let case = SchemaFixture::new("unions", CatalogKind::Sqlite, 1);
    let union = |branches: serde_json::Value| json!({"name": "either", "type": branches});
    let id = case.register(&[union(json!(["null", "string", "long"]))]);
    let arguments = ["--union-as", "struct", "--flush-interval", "200ms"];
    let mut worker = case.pipeline.start_consumer("worker", &arguments).unwrap();
    let plain = |branch| EncodedValue::with_schema(id).long(branch);
    case.publish(0, [plain(1).text("seven").bytes(), plain(2).long(8).bytes(), plain(0).bytes()]);
    case.pipeline.await_committed(3).unwrap();

    let wider = case.register(&[union(json!(["null", "string", "long", "boolean"]))]);
    case.publish(0, [EncodedValue::with_schema(wider).long(1).text("nine").bytes()]);
    case.pipeline.await_committed(4).unwrap();
    worker.stop().unwrap();

    let types = "SELECT DISTINCT typeof(either) FROM %";
    assert_eq!(case.text(types), r#"STRUCT(string VARCHAR, long BIGINT, "boolean" BOOLEAN)"#);
    let values = "SELECT string_agg(concat_ws(' ', either.string, either.long, either IS NULL), ',' \
                  ORDER BY _kafka_offset) FROM %";
    assert_eq!(case.text(values), "seven false,8 false,true,nine false");
    case.pipeline.verify().unwrap();
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn rows_are_sorted_by_the_given_column() {
    let case = SchemaFixture::new("sorted", CatalogKind::Sqlite, 1);
    let id = case.register(&[json!({"name": "number", "type": "long"})]);
    case.publish(
        0,
        (0..1_000).map(|n| EncodedValue::with_schema(id).long(n * 389 % 1_000).bytes()),
    );

    case.pipeline.drain(&["--sort-by", "number"]).unwrap();

    assert_eq!(case.rows(), (1_000, 1_000));
    let unsorted = "SELECT count(*) FROM (SELECT number, lag(number) OVER (ORDER BY rowid) AS before \
                    FROM %) WHERE number < before";
    assert_eq!(case.number(unsorted), 0);
    assert!(case.number("SELECT count(*) FROM % WHERE number <> _kafka_offset") > 0);
    case.pipeline.verify().unwrap();

    let mut worker = case.pipeline.start_consumer("refused", &["--sort-by", "numbers"]).unwrap();
    assert_eq!(worker.exit_code().unwrap(), 4);
    assert!(worker.last_error().unwrap().contains("column=`numbers`"));
}
