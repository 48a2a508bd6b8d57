//! Why a consumer ends before it was asked to, and the exit code that says so.

use ducktide_protocol::{ErrorKind, LakeError};
use rdkafka::error::KafkaError;
use thiserror::Error;

use crate::decode::error_class::ErrorClass;
use crate::decode::failure::DecodeFailure;
use crate::decode::schema_registry::RegistryError;
use crate::source::TopicPartition;
use crate::source::kafka_config::without_value;

/// Why the consumer ended. Nothing is lost in any of these cases: what is not in the lake is read
/// again.
#[derive(Debug, Error)]
pub enum ConsumerError {
    /// A record cannot be decoded. Everything before it is committed.
    #[error("record cannot be decoded: {failure}: topic=`{}` partition=`{}` offset=`{offset}`",
            .partition.topic, .partition.partition)]
    BadRecord {
        /// Where the record is.
        partition: TopicPartition,
        /// Its offset.
        offset: i64,
        /// What is wrong with it, without its content.
        failure: DecodeFailure,
    },
    /// The table cannot hold the records of a schema. Everything before the first one is committed.
    #[error("{failure}: {}: topic=`{}` partition=`{}` offset=`{offset}`",
            .failure.class.remedy(), .partition.topic, .partition.partition)]
    IncompatibleSchema {
        /// Where the record is.
        partition: TopicPartition,
        /// Its offset.
        offset: i64,
        /// The fields that do not fit.
        failure: DecodeFailure,
    },
    /// More records cannot be decoded than `--max-dead-letter-ratio` allows. What was read and not
    /// committed is read again.
    #[error("too many records cannot be decoded, so no more are buried: mend the topic, or raise \
             --max-dead-letter-ratio: ratio=`{ratio:.3}` limit=`{limit}`; the newest one: {failure}: \
             class=`{}` topic=`{}` partition=`{}` offset=`{offset}`",
            .failure.class, .partition.topic, .partition.partition)]
    TooManyBadRecords {
        /// Where the newest one is.
        partition: TopicPartition,
        /// Its offset.
        offset: i64,
        /// What is wrong with it.
        failure: DecodeFailure,
        /// The part of the newest records that is bad.
        ratio: f64,
        /// The part that may be.
        limit: f64,
    },
    /// The lake refuses.
    #[error("{}", .0.chain())]
    Lake(LakeError),
    /// The file system takes no files of a table, and never will.
    #[error(
        "files of a table cannot be written, and waiting does not help; remove what is in the place of \
         its directories, or name a shorter table with --table: {0}"
    )]
    Files(String),
    /// The topic is not the one that was registered.
    #[error("{}", .0.chain())]
    Identity(LakeError),
    /// Partitions stand at offsets that Kafka does not have.
    #[error(
        "partitions were stopped because Kafka does not have the lake's offsets; give up what is lost \
         with `ducktide skip`, or read again what is there with `ducktide replay`: partitions=`{0}`"
    )]
    OffsetsGone(String),
    /// The topic's schema cannot be used.
    #[error("topic=`{topic}`: {error}")]
    Schema {
        /// The topic.
        topic: String,
        /// What the registry said, or what is wrong with its answer.
        error: RegistryError,
    },
    /// The topic's schema has no table.
    #[error("topic=`{topic}`: {reason}")]
    Shape {
        /// The topic.
        topic: String,
        /// What is wrong with the schema.
        reason: String,
    },
    /// Kafka gave this static member's name to another process.
    #[error(
        "another process joined the group under this worker's name, or this one slept so long that \
         it lost it; give each worker a --group-instance-id of its own, or start this one again: \
         group_instance_id=`{0}`"
    )]
    NameTaken(String),
    /// Kafka's client is unusable.
    #[error("Kafka client: {0}")]
    Kafka(String),
    /// Kafka's client does not take its settings, or Kafka never takes what they ask for.
    #[error("{0}")]
    KafkaSettings(String),
    /// Kafka refuses a worker that is to end by itself.
    #[error("Kafka refuses: {0}")]
    KafkaRefuses(String),
    /// The port of /metrics cannot be had.
    #[error("serve metrics; choose another --listen: {0}")]
    Listen(std::io::Error),
    /// A thread of the worker panicked; its message was logged.
    #[error("a thread of the worker ended unexpectedly")]
    Panicked,
    /// The last batch was not committed in time.
    #[error("--shutdown-timeout was over before the last batch was committed; it is read again")]
    ShutdownTimeout,
}

impl ConsumerError {
    /// Why a client could not be created, or not join its group.
    pub(crate) fn of_client(error: &KafkaError) -> Self {
        match error {
            KafkaError::ClientConfig(..) => Self::KafkaSettings(without_value(error)),
            KafkaError::ClientCreation(reason) => Self::KafkaSettings(format!(
                "create the Kafka client; check --bootstrap-servers and --kafka-property: {reason}"
            )),
            error => Self::Kafka(error.to_string()),
        }
    }

    /// What a record does that ends the worker.
    pub(crate) fn of_record(
        partition: TopicPartition,
        offset: i64,
        failure: DecodeFailure,
    ) -> Self {
        match failure.class {
            ErrorClass::SchemaDoesNotFit => Self::IncompatibleSchema { partition, offset, failure },
            _ => Self::BadRecord { partition, offset, failure },
        }
    }

    /// The process's exit code, as `--help` lists them.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Kafka(_) | Self::Panicked => 1,
            Self::Listen(_) | Self::KafkaSettings(_) => 2,
            Self::BadRecord { .. }
            | Self::IncompatibleSchema { .. }
            | Self::TooManyBadRecords { .. } => 3,
            Self::Lake(error) if matches!(error.kind(), ErrorKind::Setting) => 2,
            Self::Lake(_) | Self::Files(_) | Self::Schema { .. } | Self::Shape { .. } => 4,
            Self::Identity(_) | Self::OffsetsGone(_) => 5,
            Self::ShutdownTimeout => 6,
            Self::NameTaken(_) => 7,
            Self::KafkaRefuses(_) => 8,
        }
    }
}
