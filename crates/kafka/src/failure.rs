//! Failures of connections, which librdkafka retries without end and only logs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use rdkafka::ClientConfig;

use crate::certificate_check;
use crate::remedy::{self, PROTOCOL_REMEDY};

/// Part of the error of a certificate that is not accepted.
const VERIFY_FAILED: &str = "certificate verify failed";

/// The last connection error of each broker.
#[derive(Debug, Default)]
pub struct ConnectionFailures {
    failures: Mutex<BTreeMap<String, String>>,
    /// File of the authorities that the client trusts; None for those of the system.
    ca_file: Option<String>,
    /// Reasons for which the certificates of brokers are not accepted.
    certificates: Mutex<BTreeMap<String, Option<String>>>,
}

impl ConnectionFailures {
    /// Creates a record without failures, for a client with this configuration.
    #[must_use]
    pub fn new(config: &ClientConfig) -> Self {
        let ca_file = config.get("ssl.ca.location").map(str::to_owned);
        Self { ca_file, ..Self::default() }
    }

    /// Returns the most important error: those that an operator must resolve come first. Connects to
    /// a broker whose certificate is not accepted, once, to find the reason.
    pub fn first(&self) -> Option<String> {
        let (broker, reason) = self.most_important()?;
        let certificate = if reason.contains(VERIFY_FAILED) {
            let mut known = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
            let check = || certificate_check::reason(&broker, self.ca_file.as_deref());
            known.entry(broker.clone()).or_insert_with(check).clone()
        } else {
            None
        };
        // The hints of librdkafka about the verification are wrong for other reasons.
        Some(match certificate {
            Some(why) => format!("{broker}: SSL handshake failed: {VERIFY_FAILED}: {why}"),
            None => format!("{broker}: {reason}"),
        })
    }

    fn most_important(&self) -> Option<(String, String)> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let rank = |reason: &str| match reason {
            reason if remedy::of_connection(reason).is_some() => 0,
            reason if reason.contains("SSL") || reason.contains(PROTOCOL_REMEDY) => 1,
            _ => 2,
        };
        let first = failures.iter().min_by_key(|(broker, reason)| (rank(reason), *broker));
        first.map(|(broker, reason)| (broker.clone(), reason.clone()))
    }

    /// Forgets all errors, after an answer.
    pub fn clear(&self) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Records an error text of the client if it is about a connection.
    pub fn record(&self, line: &str) {
        if let Some((broker, reason)) = parse_failure(line) {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.insert(broker, reason);
        }
    }
}

/// Splits a log line about a connection into broker and reason, without the parts that differ between
/// attempts: thread, address, duration, number of repetitions.
fn parse_failure(line: &str) -> Option<(String, String)> {
    let line = match line.strip_prefix("[thrd:") {
        Some(rest) => rest.split_once("]: ")?.1,
        None => line,
    };
    let (broker, reason) = line.split_once(": ")?;
    let broker = broker.rsplit_once('/').map_or(broker, |(broker, _)| broker);
    // A port that expects TLS closes a plaintext connection, or sends an invalid response.
    let is_refused_at_once = reason.contains("Invalid response size")
        || reason.contains("connecting to a PLAINTEXT broker listener?")
        || (reason.starts_with("Disconnected") && reason.contains("in state APIVERSION_QUERY"));
    let reason = reason.rfind(" (after ").map_or(reason, |end| &reason[..end]);
    let reason = match reason.strip_prefix("Connect to ").and_then(|r| r.split_once(" failed: ")) {
        Some((_, why)) => format!("connection failed: {why}"),
        None if is_refused_at_once => format!("{reason}: {PROTOCOL_REMEDY}"),
        None => reason.to_owned(),
    };
    Some((broker.to_owned(), reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_no_parts_that_differ_between_attempts() {
        let failures = ConnectionFailures::default();
        for address in ["ipv4#127.0.0.1:1", "ipv6#[::1]:1"] {
            failures.record(&format!(
                "[thrd:localhost:1/bootstrap]: localhost:1/bootstrap: Connect to {address} \
                     failed: Connection refused (after 0ms in state CONNECT, 5 identical error(s) \
                     suppressed)"
            ));
            let expected = "localhost:1: connection failed: Connection refused";
            assert_eq!(failures.first().as_deref(), Some(expected));
        }
        failures.clear();
        assert_eq!(failures.first(), None);
    }

    #[test]
    fn a_connection_that_is_closed_before_the_first_answer_has_a_remedy() {
        let failures = ConnectionFailures::default();
        let record = |text: &str| {
            failures.record(&format!("[thrd:a:1/bootstrap]: a:1/bootstrap: {text}"));
            failures.first().unwrap()
        };

        let closed = "Disconnected: connection reset by peer";
        let reason = record(&format!("{closed} (after 3ms in state APIVERSION_QUERY)"));
        assert_eq!(reason, format!("a:1: {closed}: {PROTOCOL_REMEDY}"));
        let later = record(&format!("{closed} (after 60000ms in state UP)"));
        assert_eq!(later, format!("a:1: {closed}"));
        assert!(
            record("Receive failed: Invalid response size 352518400").ends_with(PROTOCOL_REMEDY)
        );
    }

    #[test]
    fn a_wrong_password_comes_first() {
        let failures = ConnectionFailures::default();
        failures.record("a:1/1: Connect to ipv4#1.2.3.4:1 failed: Connection refused");
        failures.record(
            "[thrd:sasl_ssl://b:1/bootstrap]: sasl_ssl://b:1/bootstrap: SASL authentication error: \
             Authentication failed during authentication due to invalid credentials with SASL \
             mechanism SCRAM-SHA-256 (after 309ms in state AUTH_REQ)",
        );
        failures.record("2/2 brokers are down");

        let first = failures.first().unwrap();

        assert!(first.starts_with("sasl_ssl://b:1: SASL authentication error"), "{first}");
        assert!(first.ends_with("SCRAM-SHA-256"), "{first}");
    }
}
