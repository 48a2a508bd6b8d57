//! Which rows records to come may repeat.
//!
//! A record is a repeat of a row of its own topic, partition and table that has a lower offset, an
//! equal id, and a Kafka timestamp at most the window's span before the newest one so far. All of that
//! is in the table, so whoever reads a partition on, at whatever time, takes the same records for
//! repeats.

use uuid::Uuid;

use crate::position::{Offset, Partition};
use crate::table::{ColumnType, TableName};

/// The value of a record's id, exactly, in as little memory as it takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EventId {
    /// Of a number.
    Number(i64),
    /// Of a UUID, and of a text that is one in its canonical form: 16 bytes instead of 36.
    Uuid([u8; 16]),
    /// Of any other text, and of byte strings.
    Bytes(Box<[u8]>),
}

impl EventId {
    /// The id that a text or byte string is. Ids of one column are equal exactly if these are: only the
    /// one form of a UUID that can be had back from its 16 bytes is kept as such.
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

    /// The bytes that it has allocated.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        match self {
            Self::Number(_) | Self::Uuid(_) => 0,
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Whether a column of this type can hold ids.
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

/// Rows that are asked for: of each partition those below an offset, as far back as the span goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentRows {
    /// The table.
    pub table: TableName,
    /// The topic that they came from.
    pub topic: String,
    /// The column of the ids.
    pub column: String,
    /// How much older than the partition's newest row, microseconds.
    pub span_micros: i64,
    /// No more than these, all together, the newest ones.
    pub limit: usize,
}

/// A row that a record to come may repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentRow {
    /// The partition that it came from.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// Kafka's timestamp of it, microseconds since 1970.
    pub timestamp_micros: i64,
    /// Its id.
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
    fn an_id_takes_three_words() {
        assert_eq!(size_of::<EventId>(), 24);
    }
}
