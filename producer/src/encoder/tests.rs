use std::net::Ipv4Addr;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::event::{ApiKey, CustomerId, FeatureVersion, MerchantId, TimestampMicros, UserId};
use crate::generator::Generator;

const SCHEMA_ID: u32 = 0x0102_0304;

/// Decodes `datum` with an Avro library into the JSON that an [`Event`] serializes to.
fn decode(datum: &[u8]) -> Result<Value, String> {
    let schema = Schema::parse_str(ducktide_schemas::EVENTS).expect("the schema is valid");
    let reader = GenericDatumReader::builder(&schema).build().expect("a reader of the schema");
    let mut rest = datum;
    let value = reader.read_value(&mut rest).map_err(|error| error.to_string())?;
    let mut event = Value::try_from(value).expect("events have a JSON form");
    for name in ["event_timestamp", "created_at"] {
        let micros = event[name].as_i64().expect("a timestamp is a long");
        event[name] = TimestampMicros(micros).to_string().into();
    }
    if rest.is_empty() { Ok(event) } else { Err(format!("{} bytes left over", rest.len())) }
}

fn encode(event: &Event) -> Vec<u8> {
    // Not empty: the buffer is reused.
    let mut record = b"what was here before".to_vec();
    Encoder::new(SCHEMA_ID).encode(event, &mut record);
    record
}

/// Decodes a record as a consumer does.
fn consume(record: &[u8]) -> Result<Value, String> {
    match record {
        [0, 1, 2, 3, 4, datum @ ..] => decode(datum),
        [0, _, _, _, _, ..] => Err("unknown schema id".to_owned()),
        [0, ..] => Err("too short".to_owned()),
        _ => Err("unknown format".to_owned()),
    }
}

fn assert_decodes_to(event: &Event, record: &[u8]) {
    let consumed = consume(record).expect("a valid record decodes");
    assert_eq!(consumed, serde_json::to_value(event).expect("events serialize"));
    let event_id = event.event_id.to_string();
    assert_eq!(event_id_text(record), Some(event_id.as_bytes()));
}

#[test]
fn every_generated_event_decodes_to_itself() {
    let mut generator = Generator::new(11);
    let mut seen = std::collections::BTreeSet::new();
    for micros in 0..2_000 {
        let event = generator.event(TimestampMicros(1_767_225_600_000_000 + micros));
        assert_decodes_to(&event, &encode(&event));
        seen.insert(event.details.event_type());
    }
    assert_eq!(seen.len(), 5, "each type was encoded");
}

#[test]
fn no_poisoned_record_decodes() {
    let mut generator = Generator::new(12);
    for _ in 0..200 {
        let event = generator.event(TimestampMicros(1_767_225_600_000_000));
        for poison in Poison::ALL {
            let mut record = encode(&event);
            poison.corrupt(&mut record);
            consume(&record).expect_err("a corrupt record does not decode");
        }
    }
}

fn uuids() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

/// Texts whose length prefix takes one, two or three bytes.
fn texts() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just(""),
        Just("größer als 30 s ☃"),
        (0..20_000_usize).prop_map(|length| &*"x".repeat(length).leak()),
        "\\PC{0,80}".prop_map(|text| &*text.leak()),
    ]
}

fn details() -> impl Strategy<Value = Details> {
    let user_login = (any::<u16>(), any::<u32>(), texts(), uuids(), texts()).prop_map(
        |(user, address, user_agent, session_id, login_method)| {
            Details::UserLogin(UserLogin {
                user_id: UserId(user),
                ip_address: Ipv4Addr::from_bits(address),
                user_agent,
                session_id,
                login_method,
            })
        },
    );
    let api_request = (texts(), texts(), any::<i32>(), any::<i32>(), uuids(), any::<u16>())
        .prop_map(|(endpoint, method, status_code, response_time_ms, request_id, key)| {
            Details::ApiRequest(ApiRequest {
                endpoint,
                method,
                status_code,
                response_time_ms,
                request_id,
                api_key: ApiKey(key),
            })
        });
    let payment_processed =
        (uuids(), -1e9..1e9_f64, texts(), texts(), texts(), any::<u32>(), any::<u16>()).prop_map(
            |(transaction_id, amount, currency, payment_method, status, customer, merchant)| {
                Details::PaymentProcessed(PaymentProcessed {
                    transaction_id,
                    amount,
                    currency,
                    payment_method,
                    status,
                    customer_id: CustomerId(customer),
                    merchant_id: MerchantId(merchant),
                })
            },
        );
    let error_occurred = (texts(), texts(), texts(), texts(), any::<i32>(), texts()).prop_map(
        |(error_code, error_message, stack_trace, severity, affected_users, service)| {
            Details::ErrorOccurred(ErrorOccurred {
                error_code,
                error_message,
                stack_trace,
                severity,
                affected_users,
                service,
            })
        },
    );
    let feature_usage =
        (texts(), any::<u16>(), any::<i32>(), any::<i32>(), texts(), any::<[u8; 3]>()).prop_map(
            |(feature_name, user, duration_seconds, clicks, subscription_tier, version)| {
                let [major, minor, patch] = version;
                Details::FeatureUsage(FeatureUsage {
                    feature_name,
                    user_id: UserId(user),
                    duration_seconds,
                    clicks,
                    subscription_tier,
                    feature_version: FeatureVersion { major, minor, patch },
                })
            },
        );
    prop_oneof![user_login, api_request, payment_processed, error_occurred, feature_usage]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_event_decodes_to_itself(
        event_id in uuids(),
        happened in any::<i64>(),
        created in any::<i64>(),
        details in details(),
    ) {
        let event = Event {
            event_id,
            event_timestamp: TimestampMicros(happened),
            details,
            created_at: TimestampMicros(created),
        };
        assert_decodes_to(&event, &encode(&event));
    }
}
