//! Errors of settings.

use ducktide_kafka::KafkaSettingsError;
use ducktide_protocol::LakeError;
use ducktide_protocol::table::InvalidTableName;
use ducktide_registry::RegistrySettingsError;
use ducktide_service::secret::SecretError;
use thiserror::Error;

/// Invalid setting.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages describe the variants")]
pub enum ConfigError {
    #[error("--topics has an invalid regular expression after `^`: topics=`{pattern}` {error}")]
    TopicPattern { pattern: String, error: Box<regex::Error> },
    #[error(
        "--topics has an invalid topic name; expected 1 to 249 letters, digits, `.`, `_` or `-`, or a \
         pattern that begins with `^`: topic=`{0}`"
    )]
    TopicName(String),
    #[error("invalid table name; set --table: {0}")]
    TableName(#[from] InvalidTableName),
    #[error(
        "the tables of two topics differ only in case, which DuckDB ignores; read one of the topics with \
         a separate consumer and --table: topics=`{}` `{}` tables=`{}` `{}`",
        .topics[0], .topics[1], .tables[0], .tables[1]
    )]
    TablesDifferInCase { topics: [String; 2], tables: [String; 2] },
    #[error("{}", .0.chain())]
    Lake(#[from] LakeError),
    #[error(transparent)]
    Kafka(#[from] KafkaSettingsError),
    #[error(transparent)]
    Registry(#[from] RegistrySettingsError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("--memory-limit is too small; set at least 64MiB: value=`{0}`")]
    Memory(u64),
}
