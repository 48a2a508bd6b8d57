//! Dead letters: records that cannot be decoded or stored, kept whole in a table next to theirs.
//!
//! The dead letters of a table are in `<table>_dead_letters`, which is append-only. A dead letter is one
//! row; its resolution is another row with the same topic, partition and offset and no content. Dead
//! letters without a resolution are open. The shape must stay stable.
//!
//! Pure: `dead_letters` of the crate `ducktide-lake` reads them, the consumer writes them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::commit::CommitKind;
use crate::position::{Offset, Partition};
use crate::table::{Column, ColumnType, MAX_NAME_BYTES, TableName, TableShape};

/// Suffix of the name of a dead-letter table.
const SUFFIX: &str = "_dead_letters";

/// Columns that may have Parquet statistics. The others can hold parts of the payload, and statistics
/// are written to the catalog and to PostgreSQL's log.
pub const COLUMNS_WITH_STATISTICS: [&str; 5] =
    ["partition", "offset", "timestamp", "failed_at", "resolved_at"];

/// Returns the name of a table's dead-letter table, which is in the same schema.
#[must_use]
pub fn dead_letter_table(table: &TableName) -> TableName {
    TableName { schema: table.schema.clone(), table: dead_letter_name(&table.table) }
}

/// Returns the same for a name with or without its schema. A name that is too long for the directory of
/// its dead-letter table is truncated and gets a checksum of the whole, which must stay stable.
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

/// Returns the 64-bit FNV-1a hash.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Returns the type of a column of headers: a list of pairs rather than a map, since Kafka allows a name
/// twice and a value of NULL, and their order may matter.
#[must_use]
pub fn headers_type() -> ColumnType {
    let header =
        vec![Column::new("key", ColumnType::Varchar), Column::new("value", ColumnType::Blob)];
    ColumnType::List(Box::new(ColumnType::Struct(header)))
}

/// Returns the columns of every dead-letter table.
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

/// Location of a record in Kafka.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RecordLocation {
    /// Topic.
    pub topic: String,
    /// Partition of the topic.
    pub partition: Partition,
    /// Offset in the partition.
    pub offset: Offset,
}

impl fmt::Display for RecordLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, offset } = self;
        write!(f, "topic=`{topic}` partition=`{partition}` offset=`{offset}`")
    }
}

/// Header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Name; a record can have several headers with the same name.
    pub key: String,
    /// Value; None for NULL.
    pub value: Option<Vec<u8>>,
}

/// Resolution of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resolution {
    /// It became a row of the table.
    Retried,
    /// An operator discarded it.
    Discarded,
}

impl Resolution {
    /// Returns the value in the dead-letter table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retried => "retried",
            Self::Discarded => "discarded",
        }
    }

    /// Parses the value of the dead-letter table.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Retried, Self::Discarded].into_iter().find(|known| known.as_str() == word)
    }

    /// Returns the kind of the commit that resolves a dead letter in this way.
    #[must_use]
    pub const fn commit_kind(self) -> CommitKind {
        match self {
            Self::Retried => CommitKind::Retry,
            Self::Discarded => CommitKind::Discard,
        }
    }
}

/// Row of a dead-letter table. Times are microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Location of the record.
    pub place: RecordLocation,
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
    /// Class of the error, of a closed list; None in the row of a resolution.
    pub error_class: Option<String>,
    /// Error text, without the record's content.
    pub error: Option<String>,
    /// Time when the record became a dead letter.
    pub failed_at_micros: Option<i64>,
    /// Resolution, in the row of a resolution.
    pub resolution: Option<Resolution>,
    /// Time of the resolution.
    pub resolved_at_micros: Option<i64>,
}

impl DeadLetter {
    /// Creates the row of a resolution.
    #[must_use]
    pub const fn resolved(place: RecordLocation, resolution: Resolution, at_micros: i64) -> Self {
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

    /// Returns the approximate size of the record in memory, in bytes.
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
    fn dead_letters_are_in_the_schema_of_their_table() {
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
    fn the_shape_is_unchanged_by_duckdb() {
        let shape = dead_letter_shape();
        let described = shape.columns.iter().map(|column| (&column.name, column.column_type.sql()));

        assert_eq!(TableShape::from_described(described).unwrap(), shape);
    }

    #[test]
    fn each_resolution_has_its_own_value() {
        for resolution in [Resolution::Retried, Resolution::Discarded] {
            assert_eq!(Resolution::parse(resolution.as_str()), Some(resolution));
            assert!(resolution.commit_kind().resolves_dead_letter());
        }
        assert_eq!(Resolution::parse("forgotten"), None);
    }
}
