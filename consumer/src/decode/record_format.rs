//! How the values and keys of records are written: the settings.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ducktide_decoder::KeyDecoder;
use ducktide_protocol::table::{AvroField, Column, ColumnType, KAFKA_KEY, ShapeError, UnionAs};

/// How values are written.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Values")]
pub struct ValueArgs {
    /// How records' values are written.
    #[arg(long, env = "DUCKTIDE_VALUE_FORMAT", value_enum, default_value_t)]
    pub value_format: ValueFormat,

    /// The Avro schema of all values, as JSON, for `avro-fixed`; for `json`, one of the fields that the
    /// table is to have columns for.
    #[arg(
        long,
        env = "DUCKTIDE_SCHEMA_FILE",
        value_name = "FILE",
        required_if_eq("value_format", "avro-fixed")
    )]
    pub schema_file: Option<PathBuf>,

    /// Subject whose newest schema the table is created from, `{topic}` standing for the topic. Name one
    /// for topics of RecordNameStrategy or TopicRecordNameStrategy, whose records have subjects of their
    /// own: a union of them all, or the first of them. Records are decoded by the schemas that they name
    /// themselves.
    #[arg(
        long,
        env = "DUCKTIDE_SUBJECT",
        value_name = "SUBJECT",
        default_value = "{topic}-value",
        conflicts_with = "schema_file"
    )]
    pub subject: String,

    /// What unions become.
    #[command(flatten)]
    pub unions: UnionArgs,
}

impl ValueArgs {
    /// What the unions of values become: JSON does not say which branch a value is of.
    pub(crate) fn union_as(&self) -> UnionAs {
        match self.value_format {
            ValueFormat::Json => UnionAs::Json,
            ValueFormat::AvroRegistry | ValueFormat::AvroFixed => self.unions.union_as,
        }
    }
}

/// What unions become.
#[derive(Args, Clone, Copy, Debug)]
pub struct UnionArgs {
    /// What a union becomes that has several branches beside null. All consumers of a table must have the
    /// same; columns that are there stay what they are.
    #[arg(long, env = "DUCKTIDE_UNION_AS", value_enum, default_value_t)]
    pub union_as: UnionAs,
}

/// Whether keys are kept, and how they are written.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyArgs {
    /// Keeps each record's key in the column `_kafka_key`. All consumers of a table must have the same. A
    /// table that has the column as VARCHAR or BLOB gets it filled with text or bytes from then on, even
    /// without this.
    #[arg(long, env = "DUCKTIDE_KEY_FORMAT", value_enum)]
    pub key_format: Option<KeyFormat>,
}

/// What a record's key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyFormat {
    /// Text, in a VARCHAR; a record whose key is not UTF-8 is a bad record.
    Text,
    /// Bytes, in a BLOB as they are.
    Bytes,
    /// Avro behind the id of its schema, as the registry has it under `<topic>-key`, in a column of the
    /// schema's type. It follows the schema as those of values do.
    AvroRegistry,
}

impl KeyArgs {
    pub(crate) fn are_avro(self) -> bool {
        self.key_format == Some(KeyFormat::AvroRegistry)
    }

    /// The column of keys, if they are kept; `avro` is the newest schema's, where they are Avro.
    pub(crate) fn column(self, avro: Option<&AvroField>) -> Result<Option<Column>, ShapeError> {
        let Some(format) = self.key_format else { return Ok(None) };
        Ok(match (format, avro) {
            (KeyFormat::Text, _) => Some(Column::new(KAFKA_KEY, ColumnType::Varchar)),
            (KeyFormat::Bytes, _) => Some(Column::new(KAFKA_KEY, ColumnType::Blob)),
            (KeyFormat::AvroRegistry, key) => key.map(KeyDecoder::column).transpose()?,
        })
    }
}

/// How values are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ValueFormat {
    /// Avro behind the id of its schema, which the registry has (Confluent's wire format).
    #[default]
    AvroRegistry,
    /// Avro alone, without a registry: all values by the schema in --schema-file.
    AvroFixed,
    /// JSON objects: fields that the table has go into its columns, the others into the column `_extra`.
    /// A table that is not there is made with the columns of --schema-file, if there is one.
    Json,
}
