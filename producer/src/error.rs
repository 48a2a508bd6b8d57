//! Errors of a run, one for each remedy.

use std::io;
use std::path::PathBuf;

use ducktide_kafka::args::without_value;
use ducktide_registry::RegistryError;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

/// Error that ends a run.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum ProducerError {
    /// Check the address, or start the brokers.
    #[error(
        "reach kafka: {reason}; check --bootstrap-servers (KAFKA_BOOTSTRAP_SERVERS) and that the \
         brokers run: bootstrap_servers=`{bootstrap_servers}` waited_seconds=`{waited_seconds}`"
    )]
    KafkaUnreachable { reason: String, bootstrap_servers: String, waited_seconds: u64 },

    /// Correct the setting that the remedy names, or the permissions of the user.
    #[error("kafka refuses: {reason}: {remedy}")]
    KafkaRefuses { reason: String, remedy: &'static str },

    /// Check the address, or start the registry.
    #[error("reach schema registry: {error} waited_seconds=`{waited_seconds}`")]
    RegistryUnreachable { waited_seconds: u64, error: RegistryError },

    /// The subject holds another schema.
    #[error(
        "register schema: the subject may hold an incompatible schema (choose another --topic): {error} \
         subject=`{subject}`"
    )]
    SchemaRejected { subject: String, error: RegistryError },

    /// Correct the URL or the credentials.
    #[error("register schema: {0}")]
    Registry(RegistryError),

    /// Create the topic, with `--partitions` or another tool.
    #[error("find topic: the topic does not exist; create it with --partitions N: topic=`{topic}`")]
    TopicMissing { topic: String },

    /// Change `--partitions` or `--replication-factor`, or request the permission to create topics.
    #[error(
        "create topic: kafka rejected the request; correct --partitions or --replication-factor, or \
         allow this user Create on the topic: topic=`{topic}` reason=`{reason}`"
    )]
    TopicRejected { topic: String, reason: RDKafkaErrorCode },

    /// Correct the setting.
    #[error("start kafka client: check the settings of Kafka: {0}")]
    KafkaClient(String),

    /// Choose another file, or free disk space.
    #[error("write ledger: path=`{path}`")]
    Ledger { path: PathBuf, source: io::Error },

    /// Kafka rejected the producer permanently; nothing more can be published.
    #[error("publish record")]
    Publish(#[source] KafkaError),

    /// Standard output was closed.
    #[error("print event")]
    Print(#[source] io::Error),

    /// Stopped on request before the first record; not a failure.
    #[error("stopped before publishing started")]
    Stopped,
}

impl ProducerError {
    /// Creates the error of a client that could not be created, without the value of a property,
    /// which may be a secret.
    pub(crate) fn from_client_error(error: &KafkaError) -> Self {
        Self::KafkaClient(without_value(error))
    }

    /// Returns the exit code of the program; `--help` lists them.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::KafkaClient(_) => exit::USAGE,
            Self::KafkaUnreachable { .. } | Self::RegistryUnreachable { .. } => exit::UNREACHABLE,
            _ => exit::FAILED,
        }
    }
}

/// Exit codes other than 0. Users rely on them: a number never changes its meaning.
pub mod exit {
    /// Any error without an exit code of its own.
    pub const FAILED: u8 = 1;
    /// Invalid command line or setting.
    pub const USAGE: u8 = 2;
    /// Kafka or the schema registry was not available in time.
    pub const UNREACHABLE: u8 = 3;
    /// At least one record was not acknowledged.
    pub const NOT_ACKNOWLEDGED: u8 = 4;
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;

    use super::*;

    #[test]
    fn a_rejected_property_is_named_without_its_value() {
        let mut config = ClientConfig::new();
        config.set("sasl.no-such", "secret");
        let error = ProducerError::from_client_error(
            &config.create_native_config().err().expect("rejected"),
        );

        assert_eq!(error.exit_code(), exit::USAGE);
        let text = format!("{error} {error:?}");
        assert!(text.contains("sasl.no-such") && !text.contains("secret"), "{text}");
    }
}
