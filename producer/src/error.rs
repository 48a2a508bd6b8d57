//! What can stop a producer, told by what its user does next.

use std::io;
use std::path::PathBuf;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

/// Why nothing more is published.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum ProducerError {
    /// Check the address, or start the brokers.
    #[error(
        "reach kafka: no broker answered; check --bootstrap-servers (KAFKA_BOOTSTRAP_SERVERS) and \
         that the brokers run: bootstrap_servers=`{bootstrap_servers}` waited_seconds=`{waited_seconds}`"
    )]
    KafkaUnreachable { bootstrap_servers: String, waited_seconds: u64 },

    /// Check the address, or start the registry.
    #[error(
        "reach schema registry: no usable answer; check --schema-registry-url (SCHEMA_REGISTRY_URL) \
         and that the registry runs: url=`{url}` waited_seconds=`{waited_seconds}` reason=`{reason}`"
    )]
    RegistryUnreachable { url: String, waited_seconds: u64, reason: String },

    /// Complete the address: another program answers there, or another API of the registry.
    #[error(
        "register schema: this is not an answer of Confluent's API; check the path of \
         --schema-registry-url (SCHEMA_REGISTRY_URL): Apicurio's ends in /apis/ccompat/v7: \
         url=`{url}` reason=`{reason}`"
    )]
    OtherApi { url: String, reason: String },

    /// Another schema owns the subject, or a right is missing.
    #[error(
        "register schema: the registry refused; the subject may hold an incompatible schema \
         (choose another --topic): subject=`{subject}` url=`{url}` reason=`{reason}`"
    )]
    SchemaRefused { subject: String, url: String, reason: String },

    /// Create the topic, by `--partitions` or otherwise.
    #[error("find topic: it does not exist; create it with --partitions N: topic=`{topic}`")]
    TopicMissing { topic: String },

    /// Change `--partitions` or `--replication-factor`, or ask for the right to create topics.
    #[error("create topic: kafka refused: topic=`{topic}` reason=`{reason}`")]
    TopicRefused { topic: String, reason: RDKafkaErrorCode },

    /// A `--kafka-property` is wrong.
    #[error("start kafka client: check --kafka-property: {0}")]
    KafkaClient(String),

    /// Choose another file, or make room.
    #[error("write ledger: path=`{path}`")]
    Ledger { path: PathBuf, source: io::Error },

    /// Nothing can be published any more: Kafka refused the producer itself.
    #[error("publish record")]
    Publish(#[source] KafkaError),

    /// Standard output is gone.
    #[error("print event")]
    Print(#[source] io::Error),

    /// Asked to stop before the first record; not a failure.
    #[error("stopped before publishing began")]
    Stopped,
}

impl ProducerError {
    /// Why a client could not be created, without the value of a property, which may be a secret.
    pub(crate) fn of_client(error: KafkaError) -> Self {
        Self::KafkaClient(match error {
            KafkaError::ClientConfig(_, reason, name, _) => {
                format!("{reason}: property=`{name}`")
            }
            other => other.to_string(),
        })
    }

    /// The program's exit code; `--help` lists them.
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

/// Exit codes other than 0. Documented for users: a number never changes its meaning.
pub mod exit {
    /// Anything without a code of its own.
    pub const FAILED: u8 = 1;
    /// The command line, or a setting, is wrong.
    pub const USAGE: u8 = 2;
    /// Kafka or the schema registry did not answer in time.
    pub const UNREACHABLE: u8 = 3;
    /// At least one record was not acknowledged.
    pub const NOT_ACKNOWLEDGED: u8 = 4;
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;

    use super::*;

    #[test]
    fn a_property_that_is_refused_is_named_without_its_value() {
        let mut config = ClientConfig::new();
        config.set("sasl.no-such", "secret");
        let error = ProducerError::of_client(config.create_native_config().err().expect("refused"));

        assert_eq!(error.exit_code(), exit::USAGE);
        let text = format!("{error} {error:?}");
        assert!(text.contains("sasl.no-such") && !text.contains("secret"), "{text}");
    }
}
