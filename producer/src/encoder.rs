//! Encodes events in Confluent's wire format: a zero byte, the schema id (big-endian), the Avro
//! datum.
//!
//! Written by hand for the one schema, because a generic encoder costs more than creating the
//! event. The tests compare it with the result of an Avro library.

use std::fmt;
use std::io::Write as _;

use uuid::Uuid;

use crate::event::{
    ApiRequest, Details, ErrorOccurred, Event, FeatureUsage, PaymentProcessed, UserLogin,
};

/// Size of the zero byte and the schema id.
const HEADER_BYTES: usize = 5;

/// Length of a UUID as text.
const UUID_BYTES: usize = uuid::fmt::Hyphenated::LENGTH;

/// Kinds of corruption that make a record undecodable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poison {
    /// The first byte is not the wire format's zero.
    WrongMagicByte,
    /// The schema id is not registered.
    UnknownSchemaId,
    /// The datum ends in the middle of an event.
    TruncatedDatum,
    /// The record ends before the schema id is complete.
    TruncatedHeader,
}

impl Poison {
    /// All kinds.
    pub const ALL: [Self; 4] =
        [Self::WrongMagicByte, Self::UnknownSchemaId, Self::TruncatedDatum, Self::TruncatedHeader];

    /// A schema id that no registry assigns, because ids start at one.
    pub const UNKNOWN_SCHEMA_ID: u32 = 2_000_000_000;

    /// Corrupts a valid record in place.
    pub fn corrupt(self, record: &mut Vec<u8>) {
        match self {
            Self::WrongMagicByte => record[0] = 0x7b,
            Self::UnknownSchemaId => {
                record[1..HEADER_BYTES].copy_from_slice(&Self::UNKNOWN_SCHEMA_ID.to_be_bytes());
            }
            // Every byte of a datum is needed, so a shorter datum never decodes.
            Self::TruncatedDatum => {
                record.truncate(HEADER_BYTES + (record.len() - HEADER_BYTES) / 2);
            }
            Self::TruncatedHeader => record.truncate(HEADER_BYTES - 2),
        }
    }
}

/// Encoder for one schema id.
#[derive(Clone, Copy, Debug)]
pub struct Encoder {
    schema_id: u32,
}

impl Encoder {
    /// Creates an encoder for the schema registered as `schema_id`.
    #[must_use]
    pub const fn new(schema_id: u32) -> Self {
        Self { schema_id }
    }

    /// Replaces the content of `record` with the encoded event.
    pub fn encode(self, event: &Event, record: &mut Vec<u8>) {
        record.clear();
        record.push(0);
        record.extend_from_slice(&self.schema_id.to_be_bytes());
        Datum(record).event(event);
    }
}

/// Returns the text of the `event_id` in a record that [`Encoder::encode`] wrote.
///
/// It is the first field and so has a fixed position. The ledger reads it from the acknowledged
/// bytes, so that no id has to be stored alongside each record.
#[must_use]
pub fn event_id_text(record: &[u8]) -> Option<&[u8]> {
    // One byte holds the length of the text.
    const START: usize = HEADER_BYTES + 1;
    record.get(START..START + UUID_BYTES)
}

/// Avro's binary encoding, appended to a buffer.
struct Datum<'a>(&'a mut Vec<u8>);

impl Datum<'_> {
    fn event(&mut self, event: &Event) {
        // The schema lists the symbols of the enum and the branches of the union in the same order.
        let branch = branch_of(&event.details);
        self.uuid(event.event_id);
        self.long(branch);
        self.long(event.event_timestamp.0);
        self.long(branch);
        self.details(&event.details);
        self.long(event.created_at.0);
    }

    fn details(&mut self, details: &Details) {
        match details {
            Details::UserLogin(login) => self.user_login(login),
            Details::ApiRequest(request) => self.api_request(request),
            Details::PaymentProcessed(payment) => self.payment_processed(payment),
            Details::ErrorOccurred(error) => self.error_occurred(error),
            Details::FeatureUsage(usage) => self.feature_usage(usage),
        }
    }

    fn user_login(&mut self, login: &UserLogin) {
        self.short_text(login.user_id);
        self.short_text(login.ip_address);
        self.text(login.user_agent);
        self.uuid(login.session_id);
        self.text(login.login_method);
    }

    fn api_request(&mut self, request: &ApiRequest) {
        self.text(request.endpoint);
        self.text(request.method);
        self.int(request.status_code);
        self.int(request.response_time_ms);
        self.uuid(request.request_id);
        self.short_text(request.api_key);
    }

    fn payment_processed(&mut self, payment: &PaymentProcessed) {
        self.uuid(payment.transaction_id);
        self.double(payment.amount);
        self.text(payment.currency);
        self.text(payment.payment_method);
        self.text(payment.status);
        self.short_text(payment.customer_id);
        self.short_text(payment.merchant_id);
    }

    fn error_occurred(&mut self, error: &ErrorOccurred) {
        self.text(error.error_code);
        self.text(error.error_message);
        self.text(error.stack_trace);
        self.text(error.severity);
        self.int(error.affected_users);
        self.text(error.service);
    }

    fn feature_usage(&mut self, usage: &FeatureUsage) {
        self.text(usage.feature_name);
        self.short_text(usage.user_id);
        self.int(usage.duration_seconds);
        self.int(usage.clicks);
        self.text(usage.subscription_tier);
        self.short_text(usage.feature_version);
    }

    fn int(&mut self, value: i32) {
        self.long(value.into());
    }

    /// Zigzag, then seven bits per byte, the lowest first.
    fn long(&mut self, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        while rest >= 0x80 {
            self.0.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        self.0.push(rest.to_le_bytes()[0]);
    }

    fn double(&mut self, value: f64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.long(i64::try_from(text.len()).expect("a text in memory is shorter than i64::MAX"));
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Writes a text directly from its formatted parts; it must be shorter than 64 bytes, so that
    /// its length fits one byte.
    fn short_text(&mut self, text: impl fmt::Display) {
        let length_at = self.0.len();
        self.0.push(0);
        write!(self.0, "{text}").expect("writing to memory cannot fail");
        let length = self.0.len() - length_at - 1;
        assert!(length < 64, "a short text is too long: length=`{length}`");
        self.0[length_at] = u8::try_from(length << 1).expect("checked just above");
    }

    fn uuid(&mut self, uuid: Uuid) {
        self.0.push(u8::try_from(UUID_BYTES << 1).expect("36 fits"));
        let mut text = [0; UUID_BYTES];
        uuid.hyphenated().encode_lower(&mut text);
        self.0.extend_from_slice(&text);
    }
}

const fn branch_of(details: &Details) -> i64 {
    match details {
        Details::UserLogin(_) => 0,
        Details::ApiRequest(_) => 1,
        Details::PaymentProcessed(_) => 2,
        Details::ErrorOccurred(_) => 3,
        Details::FeatureUsage(_) => 4,
    }
}

#[cfg(test)]
mod tests;
