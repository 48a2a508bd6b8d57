//! Rows that later records can be duplicates of.
//!
//! A record is a duplicate of a row of its own topic, partition and table that has a lower offset, an
//! equal id, and a Kafka timestamp at most the window's span before the newest one so far. All of that
//! is in the table, so every worker that continues a partition, at any time, finds the same
//! duplicates.

use uuid::Uuid;

use crate::position::{Offset, Partition};
use crate::table::{ColumnType, TableName};

/// Exact value of a record's id, in little memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EventId {
    /// Number.
    Number(i64),
    /// UUID, or a text that is one in its canonical form: 16 bytes instead of 36.
    Uuid([u8; 16]),
    /// Any other text, or a byte string.
    Bytes(Box<[u8]>),
}

impl EventId {
    /// Converts a text or byte string. Two ids of one column are equal exactly if their texts are: only
    /// the canonical form of a UUID, which can be restored from its 16 bytes, becomes a UUID.
    #[must_use]
    pub fn of_bytes(text: &[u8]) -> Self {
        if let Ok(text) = <&[u8; uuid::fmt::Hyphenated::LENGTH]>::try_from(text)
            && let Ok(uuid) = Uuid::try_parse_ascii(text)
        {
            let mut canonical = Uuid::encode_buffer();
            if uuid.hyphenated().encode_lower(&mut canonical).as_bytes() == text {
                return Self::Uuid(uuid.into_bytes());
            }
        }
        Self::Bytes(text.into())
    }

    /// Returns the number of allocated bytes.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        match self {
            Self::Number(_) | Self::Uuid(_) => 0,
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Returns true if a column of this type can hold ids.
    #[must_use]
    pub const fn fits(column: &ColumnType) -> bool {
        matches!(
            column,
            ColumnType::Varchar
                | ColumnType::Blob
                | ColumnType::Uuid
                | ColumnType::Integer
                | ColumnType::BigInt
        )
    }
}

/// Query for recent rows: of each partition those below an offset, within the span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentRows {
    /// Table.
    pub table: TableName,
    /// Topic of the rows.
    pub topic: String,
    /// Column of the ids.
    pub column: String,
    /// Maximum age, compared to the partition's newest row, in microseconds.
    pub span_micros: i64,
    /// Maximum number of rows of all partitions; the newest ones are kept.
    pub limit: usize,
}

/// Row that later records can be duplicates of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentRow {
    /// Partition of the row.
    pub partition: Partition,
    /// Offset of the row.
    pub offset: Offset,
    /// Kafka's timestamp, microseconds since 1970.
    pub timestamp_micros: i64,
    /// Id of the row.
    pub id: EventId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_of_a_uuid_is_kept_as_one() {
        let canonical = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let is_uuid = |text: &str| matches!(EventId::of_bytes(text.as_bytes()), EventId::Uuid(_));

        assert!(is_uuid(canonical));
        assert!(!is_uuid(&canonical.to_uppercase()));
        assert!(!is_uuid("67e5504410b1426f9247bb680e5fe0c8"));
        assert!(!is_uuid("{7e55044-10b1-426f-9247-bb680e5fe0c}"));
        assert_ne!(
            EventId::of_bytes(canonical.as_bytes()),
            EventId::of_bytes(canonical.to_uppercase().as_bytes())
        );
    }

    #[test]
    fn an_id_takes_24_bytes() {
        assert_eq!(size_of::<EventId>(), 24);
    }
}
