//! Comparison of the golden bytes with the result of an independent Avro library.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct GoldenCase {
    name: String,
    event: Value,
    datum: String,
}

fn cases() -> impl Iterator<Item = GoldenCase> {
    ducktide_schemas::EVENTS_GOLDEN
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is a case"))
}

fn events_schema() -> Schema {
    Schema::parse_str(ducktide_schemas::EVENTS).expect("the embedded schema is valid Avro")
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digit_pairs = (0..hex.len()).step_by(2).map(|at| &hex[at..at + 2]);
    digit_pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal digits")).collect()
}

#[test]
fn golden_bytes_decode_to_their_events() {
    let schema = events_schema();
    let reader = GenericDatumReader::builder(&schema).build().expect("a reader of its own schema");
    for case in cases() {
        let datum = bytes_of(&case.datum);
        let mut rest = datum.as_slice();
        let decoded = reader.read_value(&mut rest).expect(&case.name);
        let decoded = Value::try_from(decoded).expect(&case.name);
        assert_eq!(decoded, case.event, "{}", case.name);
        assert!(rest.is_empty(), "unread bytes: {}", case.name);
    }
}

#[test]
fn each_event_type_has_a_golden_event() {
    let types =
        ["user_login", "api_request", "payment_processed", "error_occurred", "feature_usage"];
    for event_type in types {
        assert!(cases().any(|case| case.event["event_type"] == event_type), "{event_type}");
    }
}
