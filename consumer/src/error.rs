//! Errors that end a consumer, and their exit codes.

use ducktide_kafka::args::without_value;
use ducktide_protocol::position::Offset;
use ducktide_protocol::{ErrorKind, LakeError};
use ducktide_service::traces::TraceError;
use rdkafka::error::KafkaError;
use thiserror::Error;

use crate::decode::error_class::ErrorClass;
use crate::decode::failure::DecodeFailure;
use crate::decode::schema_provider::SchemaError;
use crate::source::topic_partition::TopicPartition;

/// An error that ends a consumer. None of them loses data: records that are not in the lake are read
/// again.
#[derive(Debug, Error)]
pub enum ConsumerError {
    /// An undecodable record. Everything before it is committed.
    #[error("record cannot be decoded: {failure}: topic=`{}` partition=`{}` offset=`{offset}`",
            .partition.topic, .partition.partition)]
    BadRecord {
        /// The record's partition.
        partition: TopicPartition,
        /// The record's offset.
        offset: Offset,
        /// The error, without the record's content.
        failure: DecodeFailure,
    },
    /// A schema whose records do not fit the table. Everything before the first one is committed.
    #[error("{failure}: {}: topic=`{}` partition=`{}` offset=`{offset}`",
            .failure.class.remedy(), .partition.topic, .partition.partition)]
    IncompatibleSchema {
        /// The first record's partition.
        partition: TopicPartition,
        /// The first record's offset.
        offset: Offset,
        /// The fields that do not fit.
        failure: DecodeFailure,
    },
    /// More undecodable records than `--max-dead-letter-ratio` allows. Uncommitted records are read again.
    #[error("dead-letter ratio exceeded; fix the producer, or raise --max-dead-letter-ratio: \
             ratio=`{ratio:.3}` limit=`{limit}`; the last undecodable record: {failure}: \
             class=`{}` topic=`{}` partition=`{}` offset=`{offset}`",
            .failure.class, .partition.topic, .partition.partition)]
    TooManyBadRecords {
        /// The last undecodable record's partition.
        partition: TopicPartition,
        /// Its offset.
        offset: Offset,
        /// Its error.
        failure: DecodeFailure,
        /// Fraction of the last records that cannot be decoded, from 0 to 1.
        ratio: f64,
        /// Largest allowed fraction.
        limit: f64,
    },
    /// A fault of the lake.
    #[error("{}", .0.chain())]
    Lake(LakeError),
    /// Files of a table cannot be written, permanently.
    #[error(
        "files of a table cannot be written; remove the file that is in the place of its directory, or \
         choose a shorter table name with --table: {0}"
    )]
    Files(String),
    /// Another topic than the registered one has its name.
    #[error("{}", .0.chain())]
    Identity(LakeError),
    /// Kafka does not have the committed positions of partitions.
    #[error(
        "partitions were stopped because Kafka does not have the lake's offsets; give the lost records up \
         with `ducktide skip`, or read the available ones again with `ducktide replay`: partitions=`{0}`"
    )]
    OffsetsGone(String),
    /// A topic without a usable schema.
    #[error("topic=`{topic}`: {error}")]
    Schema {
        /// The topic.
        topic: String,
        /// The error of the registry or of the schema file.
        error: SchemaError,
    },
    /// A schema from which no table can be derived.
    #[error("topic=`{topic}`: {reason}")]
    Shape {
        /// The topic.
        topic: String,
        /// The error in the schema.
        reason: String,
    },
    /// Another process has joined under this static member's `group.instance.id`.
    #[error(
        "another process joined the group under this worker's --group-instance-id, or this one was \
         paused so long that it lost it; give each worker its own id, or start this one again: \
         group_instance_id=`{0}`"
    )]
    NameTaken(String),
    /// The Kafka client is unusable.
    #[error("Kafka client: {0}")]
    Kafka(String),
    /// A setting of the Kafka client is invalid.
    #[error("{0}")]
    KafkaSettings(String),
    /// Kafka refuses a request of a worker with `--until-end`.
    #[error("Kafka refuses: {0}")]
    KafkaRefuses(String),
    /// The address of `/metrics` is not available.
    #[error(
        "serve metrics; choose another --listen, or correct --metrics-token-file, --listen-certificate or --listen-key: {0}"
    )]
    Listen(std::io::Error),
    /// A variable for traces is invalid.
    #[error(transparent)]
    Traces(#[from] TraceError),
    /// The consumer was stopped before it had started. Not a failure.
    #[error("stopped while starting")]
    Stopped,
    /// A thread of the worker panicked; its message was logged.
    #[error("a thread of the worker ended unexpectedly")]
    Panicked,
    /// The last batch was not committed in time.
    #[error(
        "--shutdown-timeout exceeded before the last batch was committed; its records are read again"
    )]
    ShutdownTimeout,
}

impl ConsumerError {
    /// Converts the error of a client that could not be created or could not join its group.
    pub(crate) fn of_client(error: &KafkaError) -> Self {
        match error {
            KafkaError::ClientConfig(..) => Self::KafkaSettings(without_value(error)),
            KafkaError::ClientCreation(reason) => Self::KafkaSettings(format!(
                "create the Kafka client; check the settings of Kafka: {reason}"
            )),
            error => Self::Kafka(error.to_string()),
        }
    }

    /// Creates the error of a record that ends the worker.
    pub(crate) fn of_record(
        partition: TopicPartition,
        offset: Offset,
        failure: DecodeFailure,
    ) -> Self {
        match failure.class {
            ErrorClass::SchemaDoesNotFit => Self::IncompatibleSchema { partition, offset, failure },
            _ => Self::BadRecord { partition, offset, failure },
        }
    }

    /// Returns the exit code of the process, as listed in `--help`.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::Kafka(_) | Self::Panicked => 1,
            Self::Listen(_) | Self::KafkaSettings(_) | Self::Traces(_) => 2,
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
