//! Settings for the format of values and keys.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ducktide_decoder::KeyDecoder;
use ducktide_protocol::table::{AvroField, Column, ColumnType, KAFKA_KEY, ShapeError, UnionAs};

/// Settings for the format of values.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Values")]
pub struct ValueArgs {
    /// Format of the values of records.
    #[arg(long, env = "DUCKTIDE_VALUE_FORMAT", value_enum, default_value_t)]
    pub value_format: ValueFormat,

    /// Avro schema of all values, as JSON, for `avro-fixed`. For `json`: a record schema of the
    /// fields that get columns when the table is created.
    #[arg(
        long,
        env = "DUCKTIDE_SCHEMA_FILE",
        value_name = "FILE",
        required_if_eq("value_format", "avro-fixed")
    )]
    pub schema_file: Option<PathBuf>,

    /// Subject whose newest schema the table is created from; `{topic}` is replaced by the topic.
    /// Set it for topics with RecordNameStrategy or TopicRecordNameStrategy, whose records have
    /// separate subjects: a subject with a union of them, or the first one. Each record is decoded
    /// with the schema of its own id.
    #[arg(
        long,
        env = "DUCKTIDE_SUBJECT",
        value_name = "SUBJECT",
        default_value = "{topic}-value",
        conflicts_with = "schema_file"
    )]
    pub subject: String,

    /// Conversion of unions.
    #[command(flatten)]
    pub unions: UnionArgs,
}

impl ValueArgs {
    /// Returns the conversion of unions in values. JSON does not specify the branch of a value.
    pub(crate) fn union_as(&self) -> UnionAs {
        match self.value_format {
            ValueFormat::Json => UnionAs::Json,
            ValueFormat::AvroRegistry | ValueFormat::AvroFixed => self.unions.union_as,
        }
    }
}

/// Settings for the conversion of unions.
#[derive(Args, Clone, Copy, Debug)]
pub struct UnionArgs {
    /// Conversion of a union with several branches other than null. Must be the same for all
    /// consumers of a table; existing columns are not changed.
    #[arg(long, env = "DUCKTIDE_UNION_AS", value_enum, default_value_t)]
    pub union_as: UnionAs,
}

/// Settings for the format of keys.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyArgs {
    /// Write the key of each record to the column `_kafka_key`, in this format. Must be the same
    /// for all consumers of a table. If the table has the column as VARCHAR or BLOB, it is filled
    /// with text or bytes even without this setting. [default: keys are not written]
    #[arg(long, env = "DUCKTIDE_KEY_FORMAT", value_enum)]
    pub key_format: Option<KeyFormat>,
}

/// Format of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyFormat {
    /// Text, in a VARCHAR column. A record whose key is not UTF-8 is undecodable.
    Text,
    /// Bytes, in a BLOB column.
    Bytes,
    /// Schema id followed by Avro, with the schemas of the subject `<topic>-key`, in a column of
    /// the type of the schema. Schema changes are applied as for values.
    AvroRegistry,
}

impl KeyArgs {
    pub(crate) fn are_avro(self) -> bool {
        self.key_format == Some(KeyFormat::AvroRegistry)
    }

    /// Returns the column of keys, if they are written. `avro` is the key of the newest schema, if
    /// keys are Avro.
    pub(crate) fn column(self, avro: Option<&AvroField>) -> Result<Option<Column>, ShapeError> {
        let Some(format) = self.key_format else { return Ok(None) };
        Ok(match (format, avro) {
            (KeyFormat::Text, _) => Some(Column::new(KAFKA_KEY, ColumnType::Varchar)),
            (KeyFormat::Bytes, _) => Some(Column::new(KAFKA_KEY, ColumnType::Blob)),
            (KeyFormat::AvroRegistry, key) => key.map(KeyDecoder::column).transpose()?,
        })
    }
}

/// Format of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ValueFormat {
    /// Schema id followed by Avro, with schemas from the registry (Confluent's wire format).
    #[default]
    AvroRegistry,
    /// Avro without a schema id: all values have the schema of --schema-file.
    AvroFixed,
    /// JSON objects: fields with a column are written to it, all others to the column `_extra`. A
    /// table that does not exist is created with the columns of --schema-file, if it is set.
    Json,
}
