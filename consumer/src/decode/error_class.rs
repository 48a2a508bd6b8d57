//! What can be wrong with a record: a closed list, explained in `docs/dead-letters.md`.

use std::fmt;

use ducktide_decoder::Problem;

/// Why a record became a dead letter.
///
/// The words are kept in the lake and in metrics, and must stay stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorClass {
    /// The value does not begin with a zero byte and a schema id.
    NoSchemaId,
    /// The registry knows no schema of that id.
    UnknownSchema,
    /// The schema is there and cannot be used: it is not Avro, or not whole.
    UnusableSchema,
    /// The schema has fields of types that the table's columns cannot hold.
    SchemaDoesNotFit,
    /// The record ends in the middle of a value.
    Truncated,
    /// The record goes on behind its last field.
    TrailingBytes,
    /// The bytes are no Avro of this schema.
    Malformed,
    /// A string is not UTF-8.
    InvalidUtf8,
    /// A value is proper Avro, and its column cannot hold it.
    OutOfRange,
}

impl ErrorClass {
    /// All of them.
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

    /// The word in the lake and in metrics.
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

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }

    /// What an operator does with such a letter.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::NoSchemaId => {
                "find the producer that writes to the topic without the registry's serializer; \
                 nothing will ever decode this record, so discard it. If no value has a schema id, read \
                 them with --value-format avro-fixed or json"
            }
            Self::UnknownSchema => {
                "register the schema under this id, or point --schema-registry-url at the registry \
                 that has it, then retry; discard it if nobody knows the id"
            }
            Self::UnusableSchema => {
                "the record's schema cannot be used as it is; have the producer write Avro with a \
                 schema that can, and discard it, or retry once the registry has a better one"
            }
            Self::SchemaDoesNotFit => {
                "give the columns other types, or load the topic into another table with --table, \
                 or keep such records apart with --on-incompatible-schema dead-letter, from where \
                 they can be retried once the table fits"
            }
            Self::Truncated | Self::TrailingBytes | Self::Malformed | Self::InvalidUtf8 => {
                "find the producer that wrote it: its serializer is broken, or used another schema \
                 than the id says; nothing here can decode this record, so discard it"
            }
            Self::OutOfRange => {
                "the column cannot hold the value; mend the producer, then discard it, or have the \
                 column made wider and retry"
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
            // Met in an empty batch: the record alone is more than a column of a batch can hold.
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
    fn each_class_has_a_word_of_its_own_that_can_be_read_again() {
        for class in ErrorClass::ALL {
            assert_eq!(ErrorClass::parse(class.as_str()), Some(class));
        }
        assert_eq!(ErrorClass::parse("bad luck"), None);
    }

    #[test]
    fn the_page_on_dead_letters_explains_every_class() {
        let page = include_str!("../../../docs/dead-letters.md");

        for class in ErrorClass::ALL {
            assert!(page.contains(&format!("| `{class}` |")), "{class}");
        }
    }
}
