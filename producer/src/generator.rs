//! Creates the demonstration events from a seed. Pure: the same seed and the same times give the
//! same events on every machine.

use std::net::Ipv4Addr;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use crate::event::{
    ApiKey, ApiRequest, CustomerId, Details, ErrorOccurred, Event, FeatureUsage, FeatureVersion,
    MerchantId, PaymentProcessed, TimestampMicros, UserId, UserLogin,
};

const USER_AGENTS: [&str; 3] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/139.0.0.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0",
];
const LOGIN_METHODS: [&str; 4] = ["password", "oauth_google", "oauth_github", "sso"];
const ENDPOINTS: [&str; 5] =
    ["/api/v1/users", "/api/v1/products", "/api/v1/orders", "/api/v1/analytics", "/api/v1/reports"];
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const STATUS_CODES: [(i32, u32); 7] =
    [(200, 50), (201, 10), (204, 5), (400, 10), (401, 5), (404, 15), (500, 5)];
const CURRENCIES: [&str; 4] = ["USD", "EUR", "GBP", "JPY"];
const PAYMENT_METHODS: [&str; 4] = ["credit_card", "paypal", "stripe", "bank_transfer"];
const PAYMENT_STATUSES: [(&str, u32); 3] = [("success", 80), ("failed", 15), ("pending", 5)];
const SEVERITIES: [&str; 4] = ["low", "medium", "high", "critical"];
const SERVICES: [&str; 6] = ["auth", "catalog", "checkout", "orders", "search", "shipping"];
const FEATURES: [&str; 6] = ["dashboard", "export", "search", "reports", "api_console", "alerts"];
const SUBSCRIPTION_TIERS: [&str; 4] = ["free", "basic", "pro", "enterprise"];

/// Code, message and stack trace.
const ERRORS: [(&str, &str, &str); 5] = [
    (
        "DB_TIMEOUT",
        "query timed out after 30 s",
        "at Pool.acquire (pool.rs:118)\nat Orders.find (orders.rs:42)",
    ),
    (
        "AUTH_FAILED",
        "token signature does not match",
        "at Token.verify (token.rs:77)\nat Session.open (session.rs:31)",
    ),
    (
        "RATE_LIMITED",
        "upstream answered 429",
        "at Client.send (client.rs:204)\nat Search.query (search.rs:66)",
    ),
    (
        "OUT_OF_MEMORY",
        "allocation of 67108864 bytes failed",
        "at Cache.grow (cache.rs:12)\nat Catalog.load (catalog.rs:90)",
    ),
    (
        "NULL_REFERENCE",
        "field `address` is missing",
        "at Label.print (label.rs:55)\nat Shipping.ship (shipping.rs:19)",
    ),
];

/// Range of the delay between an event and its record, µs: phones and servers do not report at
/// once.
const REPORTING_DELAY_MICROS: std::ops::Range<i64> = 0..2_000_000;

/// Generator of events.
#[derive(Clone, Debug)]
pub struct Generator {
    /// A named algorithm: `StdRng` and `SmallRng` may change theirs in any release.
    random: Xoshiro256PlusPlus,
}

impl Generator {
    /// Creates a generator whose events depend only on `seed` and the times passed to it.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: Xoshiro256PlusPlus::seed_from_u64(seed) }
    }

    /// Returns the next event, created at `now`; the five types have fixed weights.
    pub fn event(&mut self, now: TimestampMicros) -> Event {
        let event_id = self.uuid();
        let details = match self.random.random_range(0..100_u32) {
            0..35 => Details::UserLogin(self.user_login()),
            35..60 => Details::ApiRequest(self.api_request()),
            60..75 => Details::PaymentProcessed(self.payment_processed()),
            75..85 => Details::ErrorOccurred(self.error_occurred()),
            _ => Details::FeatureUsage(self.feature_usage()),
        };
        let happened = now.0.saturating_sub(self.random.random_range(REPORTING_DELAY_MICROS));
        Event { event_id, event_timestamp: TimestampMicros(happened), details, created_at: now }
    }

    fn user_login(&mut self) -> UserLogin {
        UserLogin {
            user_id: self.user_id(),
            ip_address: Ipv4Addr::from_bits(self.random.random()),
            user_agent: self.one_of(&USER_AGENTS),
            session_id: self.uuid(),
            login_method: self.one_of(&LOGIN_METHODS),
        }
    }

    fn api_request(&mut self) -> ApiRequest {
        ApiRequest {
            endpoint: self.one_of(&ENDPOINTS),
            method: self.one_of(&METHODS),
            status_code: self.weighted(&STATUS_CODES),
            response_time_ms: self.random.random_range(10..=2000),
            request_id: self.uuid(),
            api_key: ApiKey(self.random.random_range(0..=9999)),
        }
    }

    fn payment_processed(&mut self) -> PaymentProcessed {
        PaymentProcessed {
            transaction_id: self.uuid(),
            amount: f64::from(self.random.random_range(1_000..=500_000_u32)) / 100.0,
            currency: self.one_of(&CURRENCIES),
            payment_method: self.one_of(&PAYMENT_METHODS),
            status: self.weighted(&PAYMENT_STATUSES),
            customer_id: CustomerId(self.random.random_range(0..=99_999)),
            merchant_id: MerchantId(self.random.random_range(0..=999)),
        }
    }

    fn error_occurred(&mut self) -> ErrorOccurred {
        let (error_code, error_message, stack_trace) = self.one_of(&ERRORS);
        ErrorOccurred {
            error_code,
            error_message,
            stack_trace,
            severity: self.one_of(&SEVERITIES),
            affected_users: self.random.random_range(0..=1000),
            service: self.one_of(&SERVICES),
        }
    }

    fn feature_usage(&mut self) -> FeatureUsage {
        FeatureUsage {
            feature_name: self.one_of(&FEATURES),
            user_id: self.user_id(),
            duration_seconds: self.random.random_range(1..=3600),
            clicks: self.random.random_range(1..=50),
            subscription_tier: self.one_of(&SUBSCRIPTION_TIERS),
            feature_version: FeatureVersion {
                major: self.random.random_range(1..=5),
                minor: self.random.random_range(0..=9),
                patch: self.random.random_range(0..=9),
            },
        }
    }

    fn user_id(&mut self) -> UserId {
        UserId(self.random.random_range(1000..=9999))
    }

    fn uuid(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.random.random()).into_uuid()
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.random_range(0..choices.len())]
    }

    /// Picks by weights, which add up to 100.
    fn weighted<T: Copy>(&mut self, choices: &[(T, u32)]) -> T {
        let mut draw = self.random.random_range(0..100_u32);
        for (choice, weight) in choices {
            match draw.checked_sub(*weight) {
                Some(rest) => draw = rest,
                None => return *choice,
            }
        }
        unreachable!("the weights add up to 100, and the draw is below it")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NOW: TimestampMicros = TimestampMicros(1_767_225_600_000_000);

    #[test]
    fn the_same_seed_gives_the_same_events() {
        let (mut one, mut other) = (Generator::new(7), Generator::new(7));
        for _ in 0..1000 {
            assert_eq!(one.event(NOW), other.event(NOW));
        }
        assert_ne!(one.event(NOW).event_id, Generator::new(8).event(NOW).event_id);
    }

    /// A release of `rand` that draws differently would change all reproducible data.
    #[test]
    fn a_seed_gives_the_same_data_in_every_release() {
        let mut generator = Generator::new(42);
        let lines: Vec<_> = (0..3)
            .map(|millis| generator.event(TimestampMicros(NOW.0 + millis * 1000)))
            .map(|event| serde_json::to_string(&event).expect("events serialize"))
            .collect();
        assert_eq!(lines.join("\n"), include_str!("../golden/seed_42.jsonl").trim_end());
    }

    #[test]
    fn event_types_have_their_weights() {
        let mut generator = Generator::new(1);
        let mut counts = BTreeMap::new();
        for _ in 0..100_000 {
            *counts.entry(generator.event(NOW).details.event_type()).or_insert(0_i32) += 1;
        }
        let weights = [
            ("user_login", 35),
            ("api_request", 25),
            ("payment_processed", 15),
            ("error_occurred", 10),
            ("feature_usage", 15),
        ];
        for (event_type, weight) in weights {
            let off = counts[event_type] - weight * 1000;
            assert!(off.abs() < 1000, "{event_type} occurred {} times", counts[event_type]);
        }
    }

    #[test]
    fn status_codes_have_their_weights() {
        let mut generator = Generator::new(2);
        let mut counts = BTreeMap::new();
        for _ in 0..100_000 {
            *counts.entry(generator.weighted(&STATUS_CODES)).or_insert(0_i32) += 1;
        }
        for (code, weight) in STATUS_CODES {
            let off = counts[&code] - i32::try_from(weight).expect("a percentage") * 1000;
            assert!(off.abs() < 1000, "{code} occurred {} times", counts[&code]);
        }
    }

    #[test]
    fn events_happen_before_they_are_created() {
        let mut generator = Generator::new(3);
        for _ in 0..10_000 {
            let event = generator.event(NOW);
            assert_eq!(event.created_at, NOW);
            assert!(event.event_timestamp <= NOW);
            assert!(event.event_timestamp.0 > NOW.0 - REPORTING_DELAY_MICROS.end);
        }
    }
}
