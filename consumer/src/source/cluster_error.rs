//! Errors of queries to Kafka, with the client's reason and the remedy.

use std::fmt;

use ducktide_kafka::failure::ConnectionFailures;
use ducktide_kafka::oauth::OAuthError;
use ducktide_kafka::remedy;
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
    /// The error of the token that the brokers require.
    token: Option<Box<OAuthError>>,
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
        Self { error, reason, token: None, partition: None }
    }

    /// Returns the error of one of the queried partitions.
    pub(crate) fn of_partition(error: KafkaError, partition: TopicPartition) -> Self {
        Self { error, reason: None, token: None, partition: Some(Box::new(partition)) }
    }

    /// Returns the error of a query for which there is no token.
    pub(crate) fn of_token(error: OAuthError) -> Self {
        let code = RDKafkaErrorCode::Authentication;
        let token = Some(Box::new(error));
        Self { error: KafkaError::Global(code), reason: None, token, partition: None }
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
        match &self.token {
            Some(error) if error.is_refusal() => return ClusterErrorKind::Refusal,
            Some(_) => return ClusterErrorKind::Outage,
            None => {}
        }
        match self.error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::InvalidArgument | RDKafkaErrorCode::InvalidTopic) => {
                ClusterErrorKind::Settings
            }
            Some(code) if remedy::of_code(code).is_some() => ClusterErrorKind::Refusal,
            _ if self.reason.as_deref().and_then(remedy::of_connection).is_some() => {
                ClusterErrorKind::Refusal
            }
            _ => ClusterErrorKind::Outage,
        }
    }
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(error) = &self.token {
            return error.fmt(f);
        }
        let code = self.error.rdkafka_error_code();
        match (&self.reason, code.and_then(remedy::of_code)) {
            (_, Some(remedy)) => write!(f, "{}: {remedy}", self.error),
            (Some(reason), None) => match remedy::of_connection(reason) {
                Some(remedy) => write!(f, "{reason}: {remedy}"),
                None => f.write_str(reason),
            },
            (None, None) => self.error.fmt(f),
        }?;
        let Some(found) = &self.partition else { return Ok(()) };
        write!(f, ": topic=`{}` partition=`{}`", found.topic, found.partition)
    }
}

impl std::error::Error for ClusterError {}

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
    fn a_failed_connection_without_a_remedy_is_an_outage() {
        let reason = "localhost:1: connection failed: Connection refused";
        let error = metadata_error(RDKafkaErrorCode::BrokerTransportFailure, Some(reason));
        assert_eq!(error.to_string(), reason);
        assert_eq!(error.kind(), ClusterErrorKind::Outage);
    }

    #[test]
    fn a_wrong_password_is_a_refusal_with_its_remedy() {
        let reason = "sasl_ssl://b:1: SASL authentication error: Authentication failed during \
                      authentication due to invalid credentials with SASL mechanism SCRAM-SHA-256";

        let error = metadata_error(RDKafkaErrorCode::BrokerTransportFailure, Some(reason));

        assert_eq!(error.kind(), ClusterErrorKind::Refusal);
        let text = error.to_string();
        assert!(text.starts_with(reason) && text.contains("KAFKA_SASL_PASSWORD"), "{text}");
    }

    #[test]
    fn the_kind_of_an_error_follows_from_its_code() {
        use ClusterErrorKind::{Outage, Refusal, Settings};
        for (code, kind) in [
            (RDKafkaErrorCode::TopicAuthorizationFailed, Refusal),
            (RDKafkaErrorCode::GroupAuthorizationFailed, Refusal),
            (RDKafkaErrorCode::ClusterAuthorizationFailed, Refusal),
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
