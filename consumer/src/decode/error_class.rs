//! Classes of decode failures: a closed list, documented in `docs/dead-letters.md`.

use std::fmt;

use ducktide_decoder::Problem;

/// Class of a decode failure.
///
/// The names are stored in the lake and used in metrics. They must stay stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorClass {
    /// The value does not begin with a zero byte and a schema id.
    NoSchemaId,
    /// The schema registry has no schema of that id.
    UnknownSchema,
    /// The registry has the schema, but it cannot be used: it is not Avro, or incomplete.
    UnusableSchema,
    /// The schema has fields of types that the columns of the table cannot store.
    SchemaDoesNotFit,
    /// The record ends in the middle of a value.
    Truncated,
    /// The record has bytes after its last field.
    TrailingBytes,
    /// The bytes are not a value of this schema.
    Malformed,
    /// A string is not UTF-8.
    InvalidUtf8,
    /// A value is valid, but its column cannot store it.
    OutOfRange,
}

impl ErrorClass {
    /// All classes.
    pub const ALL: [Self; 9] = [
        Self::NoSchemaId,
        Self::UnknownSchema,
        Self::UnusableSchema,
        Self::SchemaDoesNotFit,
        Self::Truncated,
        Self::TrailingBytes,
        Self::Malformed,
        Self::InvalidUtf8,
        Self::OutOfRange,
    ];

    /// Returns the name in the lake and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSchemaId => "no_schema_id",
            Self::UnknownSchema => "unknown_schema",
            Self::UnusableSchema => "unusable_schema",
            Self::SchemaDoesNotFit => "schema_does_not_fit",
            Self::Truncated => "truncated",
            Self::TrailingBytes => "trailing_bytes",
            Self::Malformed => "malformed",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::OutOfRange => "out_of_range",
        }
    }

    /// Parses the name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }

    /// Returns the instruction for an operator with such a dead letter.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::NoSchemaId => {
                "find the producer that writes to the topic without the serializer of the schema \
                 registry; this record can never be decoded, so discard it. If no value has a schema id, \
                 set --value-format avro-fixed or json"
            }
            Self::UnknownSchema => {
                "register the schema under this id, or point --schema-registry-url at the registry \
                 that has it, then retry; discard it if the id is unknown everywhere"
            }
            Self::UnusableSchema => {
                "the schema cannot be used; let the producer write with a valid Avro schema and \
                 discard the record, or correct the schema in the registry and retry"
            }
            Self::SchemaDoesNotFit => {
                "alter the types of the columns, or load the topic into another table with --table, \
                 or write such records to the dead letters with --on-incompatible-schema dead-letter \
                 and retry them when the table fits"
            }
            Self::Truncated | Self::TrailingBytes | Self::Malformed | Self::InvalidUtf8 => {
                "fix the producer that wrote it: its serializer is broken, or used another schema \
                 than that of the id; this record can never be decoded, so discard it"
            }
            Self::OutOfRange => {
                "the column cannot store the value; fix the producer and discard the record, or alter \
                 the column to a wider type and retry"
            }
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Problem> for ErrorClass {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::UnexpectedEnd => Self::Truncated,
            Problem::TrailingBytes => Self::TrailingBytes,
            Problem::NotUtf8 => Self::InvalidUtf8,
            Problem::DecimalOutOfRange
            | Problem::TimeOutOfRange
            | Problem::NotAUuid
            | Problem::DuplicateKey
            | Problem::TypeMismatch
            | Problem::NoExtraColumn
            // Found in an empty batch: the record alone exceeds the size of a column of a batch.
            | Problem::BatchFull => Self::OutOfRange,
            Problem::VarintOverflow
            | Problem::IntOverflow
            | Problem::NotABoolean
            | Problem::NegativeLength
            | Problem::NegativeIndex
            | Problem::NoSuchBranch
            | Problem::NoSuchSymbol
            | Problem::NotAnObject
            | Problem::TooManyItems => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_each_class_can_be_parsed() {
        for class in ErrorClass::ALL {
            assert_eq!(ErrorClass::parse(class.as_str()), Some(class));
        }
        assert_eq!(ErrorClass::parse("no_such_class"), None);
    }

    #[test]
    fn the_page_on_dead_letters_documents_every_class() {
        let page = include_str!("../../../docs/dead-letters.md");

        for class in ErrorClass::ALL {
            assert!(page.contains(&format!("| `{class}` |")), "{class}");
        }
    }
}
