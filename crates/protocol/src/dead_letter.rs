//! Dead letters: records that can never be decoded or fitted, kept whole beside the table they were
//! meant for.
//!
//! A table's letters are in `<table>_dead_letters`, which is append-only. A letter is one row, and
//! what became of it later is one more row for the same topic, partition and offset, with nothing but
//! the resolution: open letters are those without it. The shape must stay stable.
//!
//! Pure: reading them is `dead_letters`, and writing them the consumer's.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::commit::CommitKind;
use crate::position::{Offset, Partition};
use crate::table::{Column, ColumnType, MAX_NAME_BYTES, TableName, TableShape};

/// What a table's name has behind it in the name of its dead-letter table.
const SUFFIX: &str = "_dead_letters";

/// Columns that may have Parquet statistics: none of them can hold a word of the payload, and
/// statistics end up in the catalog and in PostgreSQL's log.
pub const COLUMNS_WITH_STATISTICS: [&str; 5] =
    ["partition", "offset", "timestamp", "failed_at", "resolved_at"];

/// The dead-letter table of a table: in the same schema.
#[must_use]
pub fn dead_letter_table(table: &TableName) -> TableName {
    TableName { schema: table.schema.clone(), table: dead_letter_name(&table.table) }
}

/// The same for a name, with its schema or without. A name that is too long for the directory of its
/// dead-letter table is cut, and has a checksum of the whole instead: it must stay stable.
#[must_use]
pub fn dead_letter_name(table: &str) -> String {
    let (schema, name) =
        table.rsplit_once('.').map_or(("", table), |(schema, name)| (schema, name));
    if name.len() + SUFFIX.len() <= MAX_NAME_BYTES {
        return format!("{table}{SUFFIX}");
    }
    let room = MAX_NAME_BYTES - SUFFIX.len() - "_0123456789abcdef".len();
    let kept = (0..=room).rev().find(|&end| name.is_char_boundary(end)).unwrap_or_default();
    let dot = if schema.is_empty() { "" } else { "." };
    format!("{schema}{dot}{}_{:016x}{SUFFIX}", &name[..kept], fnv1a(name.as_bytes()))
}

/// The 64-bit FNV-1a hash.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The type of a column of headers: a list of pairs rather than a map, as Kafka allows a name twice and
/// a value of NULL, and their order may matter.
#[must_use]
pub fn headers_type() -> ColumnType {
    let header =
        vec![Column::new("key", ColumnType::Varchar), Column::new("value", ColumnType::Blob)];
    ColumnType::List(Box::new(ColumnType::Struct(header)))
}

/// The columns of every dead-letter table.
#[must_use]
pub fn dead_letter_shape() -> TableShape {
    let columns = [
        ("topic", ColumnType::Varchar),
        ("partition", ColumnType::Integer),
        ("offset", ColumnType::BigInt),
        ("timestamp", ColumnType::TimestampTz),
        ("key", ColumnType::Blob),
        ("value", ColumnType::Blob),
        ("headers", headers_type()),
        ("schema_id", ColumnType::BigInt),
        ("error_class", ColumnType::Varchar),
        ("error", ColumnType::Varchar),
        ("failed_at", ColumnType::TimestampTz),
        ("resolution", ColumnType::Varchar),
        ("resolved_at", ColumnType::TimestampTz),
    ];
    TableShape { columns: columns.into_iter().map(|(name, of)| Column::new(name, of)).collect() }
}

/// Where a record lies in Kafka.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RecordPlace {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: Partition,
    /// The offset.
    pub offset: Offset,
}

impl fmt::Display for RecordPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, offset } = self;
        write!(f, "topic=`{topic}` partition=`{partition}` offset=`{offset}`")
    }
}

/// A header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name; a record may have several of one name.
    pub key: String,
    /// Its value.
    pub value: Option<Vec<u8>>,
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resolution {
    /// It is a row of the table now.
    Retried,
    /// An operator gave it up.
    Discarded,
}

impl Resolution {
    /// The word in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retried => "retried",
            Self::Discarded => "discarded",
        }
    }

    /// Reads the table's word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Retried, Self::Discarded].into_iter().find(|known| known.as_str() == word)
    }

    /// The kind of the commit that brings it.
    #[must_use]
    pub const fn commit_kind(self) -> CommitKind {
        match self {
            Self::Retried => CommitKind::Retry,
            Self::Discarded => CommitKind::Discard,
        }
    }
}

/// A row of a dead-letter table. Times are microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where the record lies.
    pub place: RecordPlace,
    /// The record's timestamp, if it has one within the years 1 to 9999.
    pub timestamp_micros: Option<i64>,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's value, whole.
    pub value: Option<Vec<u8>>,
    /// The record's headers, in their order.
    pub headers: Vec<Header>,
    /// The schema id that the value begins with, if it does.
    pub schema_id: Option<u32>,
    /// What kind of error it is, of a closed list; None in the row of a resolution.
    pub error_class: Option<String>,
    /// What is wrong, without the record's content.
    pub error: Option<String>,
    /// When it became a letter.
    pub failed_at_micros: Option<i64>,
    /// What became of it, in the row of a resolution.
    pub resolution: Option<Resolution>,
    /// When.
    pub resolved_at_micros: Option<i64>,
}

impl DeadLetter {
    /// The row that says what became of a letter.
    #[must_use]
    pub const fn resolved(place: RecordPlace, resolution: Resolution, at_micros: i64) -> Self {
        Self {
            place,
            timestamp_micros: None,
            key: None,
            value: None,
            headers: Vec::new(),
            schema_id: None,
            error_class: None,
            error: None,
            failed_at_micros: None,
            resolution: Some(resolution),
            resolved_at_micros: Some(at_micros),
        }
    }

    /// The bytes that the record takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers = self.headers.iter().map(|header| header.key.len() + length(&header.value));
        size_of::<Self>() + length(&self.key) + length(&self.value) + headers.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_in_the_schema_of_their_table() {
        let table: TableName = "raw.events".parse().unwrap();

        assert_eq!(dead_letter_table(&table).to_string(), "raw.events_dead_letters");
    }

    #[test]
    fn every_topic_has_a_dead_letter_table_that_a_directory_can_be_named_for() {
        let name_of = |length: usize, last: char| {
            let table = format!("raw.{}{last}", "t".repeat(length - 1)).parse().unwrap();
            dead_letter_table(&table)
        };
        for length in [1, 242, 243, 249, 255] {
            assert!(name_of(length, 'x').table.len() <= MAX_NAME_BYTES);
            assert!(name_of(length, 'x').table.ends_with(SUFFIX));
            assert_ne!(name_of(length, 'x'), name_of(length, 'y'));
        }
        assert_eq!(name_of(242, 'x').table.len(), 255);
        let table: TableName = format!("raw.{}", "t".repeat(249)).parse().unwrap();
        let qualified = dead_letter_name(&table.to_string());
        assert_eq!(qualified, dead_letter_table(&table).to_string());
        assert!(
            qualified.ends_with("t_e66ca2156a1b0ce3_dead_letters"),
            "must stay stable: {qualified}"
        );
    }

    #[test]
    fn the_shape_survives_its_way_through_duckdb() {
        let shape = dead_letter_shape();
        let described = shape.columns.iter().map(|column| (&column.name, column.column_type.sql()));

        assert_eq!(TableShape::from_described(described).unwrap(), shape);
    }

    #[test]
    fn each_resolution_has_a_word_of_its_own() {
        for resolution in [Resolution::Retried, Resolution::Discarded] {
            assert_eq!(Resolution::parse(resolution.as_str()), Some(resolution));
            assert!(resolution.commit_kind().resolves_dead_letter());
        }
        assert_eq!(Resolution::parse("forgotten"), None);
    }
}
