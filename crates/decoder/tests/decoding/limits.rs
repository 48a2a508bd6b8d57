//! Corrupt and malicious records.

use apache_avro::types::Value;
use ducktide_decoder::{DecodeError, Problem};
use ducktide_protocol::table::UnionAs;
use proptest::prelude::*;

use super::{Fixture, generator::record_and_value, record};

fn problem(fixture: &mut Fixture, datum: &[u8]) -> Problem {
    fixture.decoder.decode(datum, &mut fixture.rows).unwrap_err().problem
}

proptest! {
    #[test]
    fn a_truncated_record_is_rejected_and_leaves_the_rows_unchanged(
        (schema, values) in record_and_value(),
    ) {
        let (mut disturbed, mut untouched) = (Fixture::new(&schema), Fixture::new(&schema));
        for value in values {
            let datum = disturbed.encode(value);
            // Not at every byte of a string of a megabyte, because each attempt reads everything
            // before the cut.
            let step = 1 + datum.len() / 2_000;
            for end in (0..datum.len()).step_by(step) {
                let decoded = disturbed.decoder.decode(&datum[..end], &mut disturbed.rows);
                prop_assert!(decoded.is_err(), "cut at {}", end);
            }
            disturbed.push(&datum);
            untouched.push(&datum);
        }

        let batch = disturbed.rows.finish_batch().unwrap();
        prop_assert_eq!(batch, untouched.rows.finish_batch().unwrap());
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_valid_records_still_decode(
        (schema, values) in record_and_value(),
        garbage in prop::collection::vec(any::<Vec<u8>>(), 1..8),
        (place, flipped) in (any::<prop::sample::Index>(), any::<u8>()),
    ) {
        let (mut disturbed, mut untouched) = (Fixture::new(&schema), Fixture::new(&schema));
        for value in values {
            let datum = disturbed.encode(value);
            let mut damaged = datum.clone();
            if let Some(byte) = (!damaged.is_empty()).then(|| place.index(damaged.len())) {
                damaged[byte] ^= flipped;
            }
            for bad in garbage.iter().chain([&damaged]) {
                if disturbed.decoder.decode(bad, &mut disturbed.rows).is_ok() {
                    disturbed.rows.abandon_row();
                }
            }
            disturbed.push(&datum);
            untouched.push(&datum);
        }

        let batch = disturbed.rows.finish_batch().unwrap();
        prop_assert_eq!(batch, untouched.rows.finish_batch().unwrap());
    }
}

#[test]
fn the_error_names_the_field_and_never_the_content() {
    let mut fixture = Fixture::of_types(&[r#""long""#, r#""string""#]);

    let error = fixture.decoder.decode(&[2, 6, b'a', 0xff, b'b'], &mut fixture.rows).unwrap_err();

    assert_eq!(error, DecodeError { field: "b".to_owned(), problem: Problem::NotUtf8 });
    assert_eq!(error.to_string(), "string is not valid UTF-8 field=`b`");
}

#[test]
fn the_error_names_the_field_within_records_lists_and_maps() {
    let inner = r#"{"type": "record", "name": "I", "fields": [
        {"name": "x", "type": "int"}, {"name": "ct", "type": "string"}]}"#;
    for (of, datum, field) in [
        (format!(r#"["null", {inner}]"#), &[2, 0, 2, 0xff][..], "a.ct"),
        (format!(r#"["null", {inner}]"#), &[4], "a"),
        (format!(r#"{{"type": "array", "items": {inner}}}"#), &[2, 0, 2, 0xff], "a.element.ct"),
        (format!(r#"{{"type": "map", "values": {inner}}}"#), &[2, 0, 0, 2, 0xff], "a.value.ct"),
        (
            format!(
                r#"{{"type": "record", "name": "O", "fields": [{{"name": "o", "type": {inner}}}]}}"#
            ),
            &[0x80],
            "a.o.x",
        ),
    ] {
        let mut fixture = Fixture::of_types(&[&of]);

        let error = fixture.decoder.decode(datum, &mut fixture.rows).unwrap_err();

        assert_eq!(error.field, field, "{of}: {error}");
    }
    let mut variants = Fixture::with(
        &format!(
            r#"{{"type": "record", "name": "R", "fields": [{{"name": "u", "type": ["int", {inner}]}}]}}"#
        ),
        UnionAs::Struct,
    );
    let error = variants.decoder.decode(&[2, 0, 2, 0xff], &mut variants.rows).unwrap_err();
    assert_eq!(error.field, "u.I.ct");
}

#[test]
fn bytes_after_the_record_are_rejected() {
    let mut fixture = Fixture::of_types(&[r#""int""#]);

    assert_eq!(problem(&mut fixture, &[2, 0]), Problem::TrailingBytes);
    assert_eq!(fixture.rows.rows(), 0);
}

#[test]
fn indices_that_are_not_in_the_schema_are_rejected() {
    let symbols = r#"{"type": "enum", "name": "E", "symbols": ["A"]}"#;
    for (avro_type, error) in [
        (symbols, Problem::NoSuchSymbol),
        (r#"["null", "int"]"#, Problem::NoSuchBranch),
        (r#"["null", "int", "string"]"#, Problem::NoSuchBranch),
    ] {
        let mut fixture = Fixture::of_types(&[avro_type]);
        assert_eq!(problem(&mut fixture, &[6, 0]), error, "{avro_type}");
        assert_eq!(problem(&mut fixture, &[1, 0]), Problem::NegativeIndex, "{avro_type}");
    }
}

#[test]
fn blocks_with_a_size_in_bytes_are_decoded_like_others() {
    let mut fixture = Fixture::of_types(&[r#"{"type": "array", "items": "int"}"#]);

    fixture.push(&[3, 4, 2, 4, 2, 6, 0]);
    let datum = fixture.encode(record([Value::Array([1, 2, 3].map(Value::Int).to_vec())]));
    fixture.push(&datum);

    let batch = fixture.rows.finish_batch().unwrap();
    assert_eq!(&batch.column(0).slice(0, 1), &batch.column(0).slice(1, 1));
}

#[test]
fn the_number_of_items_without_bytes_is_limited() {
    let billion = [0x80, 0xa8, 0xd6, 0xb9, 0x07, 0];
    let empties = r#"["null", "int", {"type": "array", "items": "null"}]"#;
    let fixed = r#"{"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}"#;

    let json = [&[4][..], &billion].concat();
    assert_eq!(problem(&mut Fixture::of_types(&[empties]), &json), Problem::TooManyItems);
    assert_eq!(problem(&mut Fixture::of_types(&[fixed]), &billion), Problem::TooManyItems);
}

#[test]
fn a_map_with_a_duplicate_key_is_rejected() {
    let mut fixture = Fixture::of_types(&[r#"{"type": "map", "values": "int"}"#]);

    assert_eq!(problem(&mut fixture, &[4, 2, b'k', 2, 2, b'k', 4, 0]), Problem::DuplicateKey);

    // Many keys are compared in a different way.
    let entries = |keys: &[u8]| keys.iter().flat_map(|key| [2, *key, 2]).collect::<Vec<_>>();
    let map = |keys: &[u8]| [&[40][..], &entries(keys), &[0]].concat();
    assert_eq!(problem(&mut fixture, &map(b"abcdefghijklmnopqrsa")), Problem::DuplicateKey);
    fixture.push(&map(b"abcdefghijklmnopqrst"));
}

#[test]
fn dates_and_times_outside_duckdbs_range_are_rejected() {
    let long = |logical: &str| format!(r#"{{"type": "long", "logicalType": "{logical}"}}"#);
    for logical in ["timestamp-millis", "timestamp-micros", "local-timestamp-micros", "time-micros"]
    {
        let mut fixture = Fixture::of_types(&[&long(logical)]);
        let datum = fixture.encode(record([Value::Long(i64::MAX)]));
        assert_eq!(problem(&mut fixture, &datum), Problem::TimeOutOfRange, "{logical}");
    }
}

#[test]
fn a_decimal_with_too_many_digits_is_rejected() {
    let decimal = r#"{"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 0}"#;
    let mut fixture = Fixture::of_types(&[decimal]);

    assert_eq!(problem(&mut fixture, &[2, 100]), Problem::DecimalOutOfRange);
    fixture.push(&[2, 99]);
}
