//! Why settings are refused.

use ducktide_lake::LakeError;
use ducktide_lake::table::InvalidTableName;
use thiserror::Error;

use crate::source::kafka_config::KafkaSettingsError;

/// A setting that cannot be followed.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what the variants are")]
pub enum ConfigError {
    #[error("--topics is no regular expression behind its `^`: topics=`{pattern}` {error}")]
    TopicPattern { pattern: String, error: Box<regex::Error> },
    #[error(
        "--topics holds a name that Kafka does not take: 1 to 249 letters, digits, `.`, `_` or `-` \
         (a pattern begins with `^`): topic=`{0}`"
    )]
    TopicName(String),
    #[error("name the table with --table: {0}")]
    TableName(#[from] InvalidTableName),
    #[error(
        "the tables of two topics differ in case only, and DuckDB takes both for one; read one of the \
         topics with a --table of its own: topics=`{}` `{}` tables=`{}` `{}`",
        .topics[0], .topics[1], .tables[0], .tables[1]
    )]
    TablesDifferInCase { topics: [String; 2], tables: [String; 2] },
    #[error("{}", .0.chain())]
    Lake(#[from] LakeError),
    #[error(transparent)]
    Kafka(#[from] KafkaSettingsError),
    #[error("--memory-limit is too small to work with, give at least 64MiB: value=`{0}`")]
    Memory(u64),
}
