//! Remedies of errors that an operator must resolve.

use rdkafka::error::RDKafkaErrorCode;

/// Remedy of a rejected user or password.
pub const SASL_REMEDY: &str =
    "check KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD";

/// Remedy of a certificate of a broker that is not accepted.
const BROKER_CERTIFICATE_REMEDY: &str = "set KAFKA_SSL_CA_LOCATION to the CA certificate of the brokers, or renew a certificate that has \
     expired or has another host name";

/// Remedy of a client certificate that the brokers do not accept.
const CLIENT_CERTIFICATE_REMEDY: &str = "set KAFKA_SSL_CERTIFICATE_LOCATION and KAFKA_SSL_KEY_LOCATION to a valid certificate of an \
     authority that the brokers trust";

/// Remedy of a port with another protocol.
pub const PROTOCOL_REMEDY: &str =
    "the port may expect another protocol, check KAFKA_SECURITY_PROTOCOL";

/// Returns the remedy for an error that waiting does not resolve; None for other errors.
#[must_use]
pub const fn of_code(code: RDKafkaErrorCode) -> Option<&'static str> {
    use RDKafkaErrorCode as Code;
    Some(match code {
        Code::InconsistentGroupProtocol => {
            "the group has members of another kind, such as a Java or Python consumer; stop them, or \
             choose another --group-id"
        }
        Code::GroupAuthorizationFailed => {
            "allow this user Read on the group, or choose another --group-id"
        }
        Code::TopicAuthorizationFailed => {
            "allow this user Describe on the topic, and Read to consume or Write to produce"
        }
        Code::ClusterAuthorizationFailed => {
            "allow this user Describe on the cluster to consume, or Write on the topic to produce"
        }
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

/// Returns the remedy for a failed connection that waiting does not resolve; None for other
/// failures. `reason` is the text of librdkafka.
#[must_use]
pub fn of_connection(reason: &str) -> Option<&'static str> {
    let reason = reason.to_ascii_lowercase();
    let has = |text: &str| reason.contains(text);
    if has("sasl") && (has("authentication") || has("mechanism handshake failed")) {
        return Some(SASL_REMEDY);
    }
    if has("certificate verify failed") {
        return Some(BROKER_CERTIFICATE_REMEDY);
    }
    let is_rejected_client = has("alert certificate")
        || has("alert bad certificate")
        || has("alert unknown ca")
        || has("alert handshake failure")
        || has("certificate required")
        || has("client ssl authentication might be required");
    is_rejected_client.then_some(CLIENT_CERTIFICATE_REMEDY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_connection_has_the_remedy_of_its_cause() {
        for (reason, remedy) in [
            (
                "SASL authentication error: Authentication failed: Invalid username or password",
                Some(SASL_REMEDY),
            ),
            (
                "SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism",
                Some(SASL_REMEDY),
            ),
            (
                "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed",
                Some(BROKER_CERTIFICATE_REMEDY),
            ),
            (
                "Receive failed: error:0A00045C:SSL routines::tlsv13 alert certificate required",
                Some(CLIENT_CERTIFICATE_REMEDY),
            ),
            (
                "SSL handshake failed: error:0A000415:SSL routines::sslv3 alert certificate expired",
                Some(CLIENT_CERTIFICATE_REMEDY),
            ),
            ("connection failed: Connection refused", None),
        ] {
            assert_eq!(of_connection(reason), remedy, "{reason}");
        }
    }
}
