//! Conversion of catalog values from text and to SQL literals.

use std::str::FromStr;

use ducktide_protocol::position::{Epoch, Offset, Partition, SnapshotId, SourceId};
use ducktide_protocol::table::TableName;
use jiff::Timestamp;

use crate::sql_text::quote;

/// Error of a value that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueError {
    /// NULL in a column that always has a value.
    Null,
    /// Text in another format.
    Malformed {
        /// Name of the expected format, with its article.
        expected: &'static str,
        /// Text in the catalog.
        value: String,
    },
}

/// A type that is read from the catalog.
pub trait FromValue: Sized {
    /// Reads a value; None is NULL.
    fn from_value(text: Option<&str>) -> Result<Self, ValueError>;
}

/// A type that is written to the catalog.
pub trait ToLiteral {
    /// Returns the value as an SQL literal of both catalog databases.
    fn to_literal(&self) -> String;
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(text: Option<&str>) -> Result<Self, ValueError> {
        text.map(|text| T::from_value(Some(text))).transpose()
    }
}

impl<T: ToLiteral> ToLiteral for Option<T> {
    fn to_literal(&self) -> String {
        self.as_ref().map_or_else(|| "NULL".to_owned(), T::to_literal)
    }
}

impl FromValue for String {
    fn from_value(text: Option<&str>) -> Result<Self, ValueError> {
        text.map(str::to_owned).ok_or(ValueError::Null)
    }
}

impl ToLiteral for String {
    fn to_literal(&self) -> String {
        quote(self)
    }
}

/// SQLite stores booleans as numbers, PostgreSQL returns words.
impl FromValue for bool {
    fn from_value(text: Option<&str>) -> Result<Self, ValueError> {
        match text.ok_or(ValueError::Null)? {
            "1" | "true" | "t" => Ok(true),
            "0" | "false" | "f" => Ok(false),
            other => Err(malformed("a boolean", other)),
        }
    }
}

impl ToLiteral for bool {
    fn to_literal(&self) -> String {
        self.to_string()
    }
}

/// SQLite stores times as text, with `T` or a space between date and time, in the time zone of the
/// client that wrote them.
impl FromValue for Timestamp {
    fn from_value(text: Option<&str>) -> Result<Self, ValueError> {
        parse("a time", text)
    }
}

/// Format of times in Ducktide's own tables. Times in DuckLake's tables have a space instead of `T`; the
/// catalog database itself writes them.
impl ToLiteral for Timestamp {
    fn to_literal(&self) -> String {
        quote(&self.to_string())
    }
}

impl FromValue for TableName {
    fn from_value(text: Option<&str>) -> Result<Self, ValueError> {
        parse("a table name", text)
    }
}

impl ToLiteral for TableName {
    fn to_literal(&self) -> String {
        quote(&self.to_string())
    }
}

macro_rules! numbers {
    ($($number:ty),+) => {
        $(impl FromValue for $number {
            fn from_value(text: Option<&str>) -> Result<Self, ValueError> {
                parse("a number", text)
            }
        }

        impl ToLiteral for $number {
            fn to_literal(&self) -> String {
                self.to_string()
            }
        })+
    };
}
numbers!(i32, i64, u32, u64, usize);

macro_rules! numbers_with_names {
    ($($name:ident),+) => {
        $(impl FromValue for $name {
            fn from_value(text: Option<&str>) -> Result<Self, ValueError> {
                parse("a number", text).map($name)
            }
        }

        impl ToLiteral for $name {
            fn to_literal(&self) -> String {
                self.to_string()
            }
        })+
    };
}
numbers_with_names!(Epoch, Offset, Partition, SnapshotId, SourceId);

fn parse<T: FromStr>(expected: &'static str, text: Option<&str>) -> Result<T, ValueError> {
    let text = text.ok_or(ValueError::Null)?;
    text.parse().map_err(|_| malformed(expected, text))
}

fn malformed(expected: &'static str, value: &str) -> ValueError {
    ValueError::Malformed { expected, value: value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: FromValue>(text: &str) -> Result<T, ValueError> {
        T::from_value(Some(text))
    }

    #[test]
    fn times_of_both_catalogs_are_read() {
        let sqlite: Timestamp = read("2026-11-24T15:31:41.912Z").unwrap();
        let postgres = read("2026-11-24 15:31:41.912+00").unwrap();

        assert_eq!(sqlite, postgres);
        assert_eq!(sqlite.to_literal(), "'2026-11-24T15:31:41.912Z'");
        assert!(read::<Timestamp>("yesterday").is_err());
    }

    #[test]
    fn booleans_of_both_catalogs_are_read() {
        assert_eq!(["1", "true", "t"].map(read::<bool>), [Ok(true), Ok(true), Ok(true)]);
        assert_eq!(["0", "false", "f"].map(read::<bool>), [Ok(false), Ok(false), Ok(false)]);
        assert!(read::<bool>("2").is_err());
    }

    #[test]
    fn null_is_read_as_option_only() {
        assert_eq!(<Option<i64>>::from_value(None), Ok(None));
        assert_eq!(i64::from_value(None), Err(ValueError::Null));
        assert_eq!(String::from_value(None), Err(ValueError::Null));
        assert_eq!(bool::from_value(None), Err(ValueError::Null));
        assert!(read::<Option<i64>>("x").is_err(), "not a number is not NULL");
        assert_eq!(None::<String>.to_literal(), "NULL");
    }

    #[test]
    fn literals_are_quoted() {
        assert_eq!("c'd".to_owned().to_literal(), "'c''d'");
        assert_eq!((Some(Offset(7)).to_literal(), true.to_literal()), ("7".into(), "true".into()));
    }
}
