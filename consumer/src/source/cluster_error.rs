//! Errors of queries to Kafka, with the client's reason and the remedy.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use ducktide_service::telemetry;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::topic_partition::TopicPartition;

/// The error of a query.
#[derive(Clone, Debug)]
pub struct ClusterError {
    error: KafkaError,
    /// The client's reason for not reaching a broker, if it reported one.
    reason: Option<String>,
    /// The partition that has the error, if it is one of several that were queried.
    partition: Option<Box<TopicPartition>>,
}

/// Kinds of errors, by the action that resolves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterErrorKind {
    /// Resolved by waiting: brokers are unavailable or elect leaders.
    Outage,
    /// Resolved by an operator, in Kafka or in a setting.
    Refusal,
    /// A setting is invalid.
    Settings,
}

impl ClusterError {
    pub(crate) const fn new(error: KafkaError, reason: Option<String>) -> Self {
        Self { error, reason, partition: None }
    }

    /// Returns the error of one of the queried partitions.
    pub(crate) fn of_partition(error: KafkaError, partition: TopicPartition) -> Self {
        Self { error, reason: None, partition: Some(Box::new(partition)) }
    }

    /// Returns true if the cause may be outdated metadata of the client: a partition has no leader, has
    /// another one, or does not exist.
    pub(super) fn may_be_outdated(&self) -> bool {
        let code = self.error.rdkafka_error_code();
        self.partition.is_some() || code == Some(RDKafkaErrorCode::NotLeaderForPartition)
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> ClusterErrorKind {
        if matches!(self.error, KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_)) {
            return ClusterErrorKind::Settings;
        }
        match self.error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::InvalidArgument | RDKafkaErrorCode::InvalidTopic) => {
                ClusterErrorKind::Settings
            }
            Some(code) if refusal_remedy(code).is_some() => ClusterErrorKind::Refusal,
            _ if self.reason.as_deref().is_some_and(is_authentication) => ClusterErrorKind::Refusal,
            _ => ClusterErrorKind::Outage,
        }
    }
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.error.rdkafka_error_code();
        match (&self.reason, code.and_then(refusal_remedy)) {
            (_, Some(remedy)) => write!(f, "{}: {remedy}", self.error),
            (Some(reason), None) if is_authentication(reason) => {
                write!(f, "{reason}: {SASL_REMEDY}")
            }
            (Some(reason), None) => f.write_str(reason),
            (None, None) => self.error.fmt(f),
        }?;
        let Some(found) = &self.partition else { return Ok(()) };
        write!(f, ": topic=`{}` partition=`{}`", found.topic, found.partition)
    }
}

impl std::error::Error for ClusterError {}

const SASL_REMEDY: &str =
    "check sasl.mechanism, sasl.username and sasl.password in --kafka-property";

const PROTOCOL_REMEDY: &str =
    "the port may expect TLS, check security.protocol in --kafka-property";

fn is_authentication(reason: &str) -> bool {
    reason.contains("SASL") && reason.to_ascii_lowercase().contains("authentication")
}

/// Returns the remedy for an error that waiting does not resolve; None for other errors.
pub(crate) const fn refusal_remedy(code: RDKafkaErrorCode) -> Option<&'static str> {
    use RDKafkaErrorCode as Code;
    Some(match code {
        Code::InconsistentGroupProtocol => {
            "the group has members of another kind, such as a Java or Python consumer; stop them, or \
             choose another --group-id"
        }
        Code::GroupAuthorizationFailed => {
            "allow this user Read on the group, or choose another --group-id"
        }
        Code::TopicAuthorizationFailed => "allow this user Read and Describe on the topic",
        Code::ClusterAuthorizationFailed => "allow this user Describe on the cluster",
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState => SASL_REMEDY,
        Code::UnknownTopicOrPartition | Code::UnknownTopic => {
            "create the topic, or correct --topics"
        }
        Code::UnsupportedVersion | Code::UnsupportedFeature | Code::UnsupportedAssignor => {
            "the brokers do not offer it; with --group-protocol consumer they must be Kafka 4.0 or \
             newer"
        }
        Code::InvalidGroupId => "choose another --group-id",
        Code::GroupMaxSizeReached => "start fewer workers, or raise the brokers' group.max.size",
        Code::InvalidSessionTimeout => {
            "set session.timeout.ms within the brokers' group.min.session.timeout.ms and \
             group.max.session.timeout.ms"
        }
        Code::ThrottlingQuotaExceeded => "raise this user's quota on the brokers",
        _ => return None,
    })
}

/// The last connection error of each broker.
#[derive(Debug, Default)]
pub(crate) struct ConnectionFailures(Mutex<BTreeMap<String, String>>);

impl ConnectionFailures {
    /// Returns the most important error: those that an operator must resolve come first.
    pub(crate) fn first(&self) -> Option<String> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rank = |reason: &str| match reason {
            reason if is_authentication(reason) => 0,
            reason if reason.contains("SSL") || reason.contains("security.protocol") => 1,
            _ => 2,
        };
        let first = failures.iter().min_by_key(|(broker, reason)| (rank(reason), *broker));
        first.map(|(broker, reason)| format!("{broker}: {reason}"))
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Records an error text of the client if it is about a connection.
    fn record(&self, line: &str) {
        if let Some((broker, reason)) = parse_failure(line) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(broker, reason);
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
        || (reason.starts_with("Disconnected") && reason.contains("in state APIVERSION_QUERY"));
    let reason = reason.rfind(" (after ").map_or(reason, |end| &reason[..end]);
    let reason = match reason.strip_prefix("Connect to ").and_then(|r| r.split_once(" failed: ")) {
        Some((_, why)) => format!("connection failed: {why}"),
        None if is_refused_at_once => format!("{reason}: {PROTOCOL_REMEDY}"),
        None => reason.to_owned(),
    };
    Some((broker.to_owned(), reason))
}

/// Records connection errors from the client's errors and from its log. A connection that is closed at
/// once, for example by a port that expects TLS, is only logged by the client.
#[derive(Debug, Default)]
pub(crate) struct FailureContext {
    pub(crate) failures: ConnectionFailures,
}

impl ClientContext for FailureContext {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka client");
        self.failures.record(reason);
    }

    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        if facility == "FAIL" {
            self.failures.record(line);
        }
        telemetry::log_librdkafka(7, facility, line);
    }
}

impl ConsumerContext for FailureContext {}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata_error(code: RDKafkaErrorCode, reason: Option<&str>) -> ClusterError {
        ClusterError::new(KafkaError::MetadataFetch(code), reason.map(str::to_owned))
    }

    #[test]
    fn a_reason_has_no_parts_that_differ_between_attempts() {
        let failures = ConnectionFailures::default();
        for address in ["ipv4#127.0.0.1:1", "ipv6#[::1]:1"] {
            failures.record(&format!(
                "[thrd:localhost:1/bootstrap]: localhost:1/bootstrap: Connect to {address} \
                     failed: Connection refused (after 0ms in state CONNECT, 5 identical error(s) \
                     suppressed)"
            ));
            let reason = failures.first();
            assert_eq!(
                reason.as_deref(),
                Some("localhost:1: connection failed: Connection refused")
            );
            let error = metadata_error(RDKafkaErrorCode::BrokerTransportFailure, reason.as_deref());
            assert_eq!(error.to_string(), reason.unwrap());
            assert_eq!(error.kind(), ClusterErrorKind::Outage);
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
    fn a_wrong_password_is_a_refusal_with_its_remedy_and_comes_first() {
        let failures = ConnectionFailures::default();
        failures.record("a:1/1: Connect to ipv4#1.2.3.4:1 failed: Connection refused");
        failures.record(
            "[thrd:sasl_ssl://b:1/bootstrap]: sasl_ssl://b:1/bootstrap: SASL authentication error: \
             Authentication failed during authentication due to invalid credentials with SASL \
             mechanism SCRAM-SHA-256 (after 309ms in state AUTH_REQ)",
        );
        failures.record("2/2 brokers are down");

        let error =
            metadata_error(RDKafkaErrorCode::BrokerTransportFailure, failures.first().as_deref());

        assert_eq!(error.kind(), ClusterErrorKind::Refusal);
        let text = error.to_string();
        assert!(text.starts_with("sasl_ssl://b:1: SASL authentication error"), "{text}");
        assert!(text.contains("SCRAM-SHA-256") && text.contains("sasl.password"), "{text}");
    }

    #[test]
    fn the_kind_of_an_error_follows_from_its_code() {
        use ClusterErrorKind::{Outage, Refusal, Settings};
        for (code, kind) in [
            (RDKafkaErrorCode::TopicAuthorizationFailed, Refusal),
            (RDKafkaErrorCode::GroupAuthorizationFailed, Refusal),
            (RDKafkaErrorCode::InconsistentGroupProtocol, Refusal),
            (RDKafkaErrorCode::UnsupportedVersion, Refusal),
            (RDKafkaErrorCode::ThrottlingQuotaExceeded, Refusal),
            (RDKafkaErrorCode::InvalidArgument, Settings),
            (RDKafkaErrorCode::InvalidTopic, Settings),
            (RDKafkaErrorCode::BrokerTransportFailure, Outage),
            (RDKafkaErrorCode::LeaderNotAvailable, Outage),
            (RDKafkaErrorCode::OperationTimedOut, Outage),
        ] {
            assert_eq!(metadata_error(code, None).kind(), kind, "{code}");
        }
    }
}
