//! The demonstration events as `Copy` values without allocations, so that creating one costs little
//! more than its random numbers.
//!
//! The shapes follow `events.avsc`. Serialized, an event has the shape it has in the lake:
//! `details` is a plain object without a union wrapper.

use std::fmt;
use std::net::Ipv4Addr;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use uuid::Uuid;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// Unique, except for intentional duplicates.
    pub event_id: Uuid,
    /// Time of the event.
    pub event_timestamp: TimestampMicros,
    /// Payload of the event type.
    pub details: Details,
    /// Time at which the record was created.
    pub created_at: TimestampMicros,
}

/// Microseconds since 1970, UTC; shown in RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimestampMicros(pub i64);

/// Payload of each event type.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the variants are the records they hold")]
pub enum Details {
    UserLogin(UserLogin),
    ApiRequest(ApiRequest),
    PaymentProcessed(PaymentProcessed),
    ErrorOccurred(ErrorOccurred),
    FeatureUsage(FeatureUsage),
}

/// A user signed in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the schema documents the fields")]
pub struct UserLogin {
    pub user_id: UserId,
    pub ip_address: Ipv4Addr,
    pub user_agent: &'static str,
    #[serde(serialize_with = "as_text")]
    pub session_id: Uuid,
    pub login_method: &'static str,
}

/// The API responded to a request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the schema documents the fields")]
pub struct ApiRequest {
    pub endpoint: &'static str,
    pub method: &'static str,
    pub status_code: i32,
    pub response_time_ms: i32,
    #[serde(serialize_with = "as_text")]
    pub request_id: Uuid,
    pub api_key: ApiKey,
}

/// A payment succeeded, failed or is pending.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the schema documents the fields")]
pub struct PaymentProcessed {
    #[serde(serialize_with = "as_text")]
    pub transaction_id: Uuid,
    pub amount: f64,
    pub currency: &'static str,
    pub payment_method: &'static str,
    pub status: &'static str,
    pub customer_id: CustomerId,
    pub merchant_id: MerchantId,
}

/// A service failed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the schema documents the fields")]
pub struct ErrorOccurred {
    pub error_code: &'static str,
    pub error_message: &'static str,
    pub stack_trace: &'static str,
    pub severity: &'static str,
    pub affected_users: i32,
    pub service: &'static str,
}

/// A user used a feature.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the schema documents the fields")]
pub struct FeatureUsage {
    pub feature_name: &'static str,
    pub user_id: UserId,
    pub duration_seconds: i32,
    pub clicks: i32,
    pub subscription_tier: &'static str,
    pub feature_version: FeatureVersion,
}

/// Declares identifier types that serialize as a prefix and a number and store only the number.
macro_rules! numbered {
    ($($(#[$attribute:meta])+ $name:ident($number:ty) => $format:literal;)+) => {$(
        $(#[$attribute])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name(pub $number);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )+};
}

numbered! {
    /// `user_1000` to `user_9999`.
    UserId(u16) => "user_{}";
    /// `key_0000` to `key_9999`.
    ApiKey(u16) => "key_{:04}";
    /// `cust_00000` to `cust_99999`.
    CustomerId(u32) => "cust_{:05}";
    /// `merch_000` to `merch_999`.
    MerchantId(u16) => "merch_{:03}";
}

/// A feature's version, `v1.2.3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct FeatureVersion {
    pub major: u8,
    pub minor: u8,
    pub patch: u8,
}

impl fmt::Display for FeatureVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Serialize for FeatureVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Details {
    /// Returns the symbol of the schema's `EventType`.
    #[must_use]
    pub const fn event_type(&self) -> &'static str {
        match self {
            Self::UserLogin(_) => "user_login",
            Self::ApiRequest(_) => "api_request",
            Self::PaymentProcessed(_) => "payment_processed",
            Self::ErrorOccurred(_) => "error_occurred",
            Self::FeatureUsage(_) => "feature_usage",
        }
    }
}

/// Kafka key of a record: the entity that the event belongs to. Equal keys go to one partition, so
/// the events of one user stay in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the variants are what they hold")]
pub enum EventKey {
    User(UserId),
    ApiKey(ApiKey),
    Customer(CustomerId),
    Service(&'static str),
}

impl fmt::Display for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => id.fmt(f),
            Self::ApiKey(key) => key.fmt(f),
            Self::Customer(id) => id.fmt(f),
            Self::Service(name) => f.write_str(name),
        }
    }
}

impl Event {
    /// Returns the Kafka key.
    #[must_use]
    pub const fn key(&self) -> EventKey {
        match &self.details {
            Details::UserLogin(login) => EventKey::User(login.user_id),
            Details::ApiRequest(request) => EventKey::ApiKey(request.api_key),
            Details::PaymentProcessed(payment) => EventKey::Customer(payment.customer_id),
            Details::ErrorOccurred(error) => EventKey::Service(error.service),
            Details::FeatureUsage(usage) => EventKey::User(usage.user_id),
        }
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut event = serializer.serialize_struct("Event", 5)?;
        event.serialize_field("event_id", &self.event_id.as_hyphenated().to_string())?;
        event.serialize_field("event_type", self.details.event_type())?;
        event.serialize_field("event_timestamp", &self.event_timestamp)?;
        event.serialize_field("details", &self.details)?;
        event.serialize_field("created_at", &self.created_at)?;
        event.end()
    }
}

impl fmt::Display for TimestampMicros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => timestamp.fmt(f),
            // RFC 3339 ends with the year 9999.
            Err(_) => write!(f, "{} µs", self.0),
        }
    }
}

impl Serialize for TimestampMicros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn as_text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
