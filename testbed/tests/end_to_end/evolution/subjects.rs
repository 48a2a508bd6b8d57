//! Subjects that are deleted, have another type, or do not have the topic's name.

use ducktide_testbed::{
    catalog::CatalogKind,
    raw_records::{
        EncodedValue, Envelope, delete_subject, publish_enveloped, register_subject_version,
    },
};
use serde_json::{Value, json};

use super::SchemaFixture;

impl SchemaFixture {
    /// Registers a version of the subject `<topic>-<suffix>`. Returns the subject and the schema
    /// ID.
    fn register_at(&self, suffix: &str, version: &Value) -> (String, u32) {
        let subject = format!("{}-{suffix}", self.pipeline.topic);
        let id = register_subject_version(&self.pipeline.schema_registry_url, &subject, version)
            .unwrap();
        (subject, id)
    }

    /// Registers a record schema under its name, as with RecordNameStrategy.
    fn register_record(&self, name: &str, fields: &[(&str, &str)]) -> (String, u32) {
        let fields = fields.iter().map(|(name, of)| json!({"name": name, "type": of}));
        let fields = fields.collect::<Vec<_>>();
        let schema = json!({"type": "record", "name": name, "fields": fields});
        self.register_at(name, &json!({"schema": schema.to_string()}))
    }
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn a_table_is_filled_after_its_subjects_are_deleted() {
    let case = SchemaFixture::new("deleted_subjects", CatalogKind::Sqlite, 1);
    let value_id = case.register(&[json!({"name": "number", "type": "long"})]);
    let key_id = case.register_as("key", &json!("string"));
    let key = EncodedValue::with_schema(key_id).text("k").bytes();
    let publish = || {
        let value = EncodedValue::with_schema(value_id).long(7).bytes();
        let envelopes = [Envelope { key: Some(&key), headers: &[] }];
        let pipeline = &case.pipeline;
        publish_enveloped(&pipeline.bootstrap_servers, &pipeline.topic, &envelopes, &value)
            .unwrap();
    };
    publish();
    case.pipeline.drain(&["--key-format", "avro-registry"]).unwrap();
    for part in ["value", "key"] {
        let subject = format!("{}-{part}", case.pipeline.topic);
        delete_subject(&case.pipeline.schema_registry_url, &subject).unwrap();
    }

    publish();
    case.pipeline.drain(&["--key-format", "avro-registry"]).unwrap();
    // The newest version of a subject is not Avro.
    let json_schema =
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"});
    let version = json!({"schemaType": "JSON", "schema": json_schema.to_string()});
    let (subject, _) = case.register_at("json", &version);
    publish();
    case.pipeline.drain(&["--key-format", "avro-registry", "--subject", &subject]).unwrap();

    assert_eq!(case.rows(), (3, 3));
    let keys = "SELECT string_agg(_kafka_key || number, ' ') FROM %";
    assert_eq!(case.text(keys), "k7 k7 k7");
    case.pipeline.verify().unwrap();
}

/// Records as from producers with RecordNameStrategy, which do not register `<topic>-value`.
#[test]
#[ignore = "needs Kafka and the schema registry"]
fn compatible_record_types_share_a_table() {
    let case = SchemaFixture::new("record_names", CatalogKind::Sqlite, 1);
    let (subject, paid) = case.register_record("Paid", &[("id", "long"), ("amount", "double")]);
    let (_, sent) = case.register_record("Sent", &[("id", "int"), ("carrier", "string")]);
    let (_, lost) = case.register_record("Lost", &[("id", "string")]);
    let of_paid = EncodedValue::with_schema(paid).long(1).bytes();
    let of_paid = [&of_paid[..], &1.5_f64.to_le_bytes()].concat();
    let of_sent = EncodedValue::with_schema(sent).long(2).text("post").bytes();
    case.publish(0, [of_paid, of_sent, EncodedValue::with_schema(lost).text("3").bytes()]);
    let mut worker = case.pipeline.start_consumer("waits", &[]).unwrap();
    worker.await_unready("--subject").unwrap();
    worker.stop().unwrap();

    let subject = subject.replace(&case.pipeline.topic, "{topic}");
    let arguments = ["--subject", &subject, "--on-incompatible-schema", "dead-letter"];
    case.pipeline.drain(&arguments).unwrap();

    let rows = "SELECT string_agg(concat_ws(' ', id, amount, carrier), ', ' ORDER BY id) FROM %";
    assert_eq!(case.text(rows), "1 1.5, 2 post");
    let dead_letters = "SELECT string_agg(error_class || ' ' || schema_id) FROM %_dead_letters";
    assert_eq!(case.text(dead_letters), format!("schema_does_not_fit {lost}"));
    case.pipeline.verify().unwrap();
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn a_union_of_referenced_records_keeps_the_fields_of_each_type() {
    let case = SchemaFixture::new("union_of_references", CatalogKind::Sqlite, 1);
    let records = [("A", "long"), ("B", "string"), ("C", "boolean")];
    let references = records.map(|(name, of)| {
        let (subject, _) = case.register_record(name, &[("x", of)]);
        json!({"name": name, "subject": subject, "version": 1})
    });
    let union = json!({"schema": "[\"A\", \"B\", \"C\"]", "references": references});
    let (subject, id) = case.register_at("all", &union);
    let values = [
        EncodedValue::with_schema(id).long(0).long(5).bytes(),
        EncodedValue::with_schema(id).long(1).text("five").bytes(),
        [&EncodedValue::with_schema(id).long(2).bytes()[..], &[1]].concat(),
    ];
    case.publish(0, values);

    case.pipeline.drain(&["--subject", &subject, "--union-as", "struct"]).unwrap();
    // Into the table with the topic's name.
    let topic = &case.pipeline.topic;
    let as_json = case.pipeline.consumer_of(topic, &case.pipeline.catalog).unwrap();
    let as_json = as_json.args(["--until-end", "--subject", &subject]);
    case.pipeline.start_worker("as_json", as_json).unwrap().succeed().unwrap();

    let rows = "SELECT string_agg(value::VARCHAR, ', ' ORDER BY _kafka_offset) FROM %";
    let expected = [
        "{'A': {'x': 5}, 'B': NULL, 'C': NULL}",
        "{'A': NULL, 'B': {'x': five}, 'C': NULL}",
        "{'A': NULL, 'B': NULL, 'C': {'x': true}}",
    ];
    assert_eq!(case.text(rows), expected.join(", "));
    let rows =
        format!("SELECT string_agg(value::VARCHAR, ' ' ORDER BY _kafka_offset) FROM \"{topic}\"");
    assert_eq!(case.text(&rows), r#"{"x":5} {"x":"five"} {"x":true}"#);
    case.pipeline.verify().unwrap();
}
