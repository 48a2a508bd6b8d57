//! Where a source stands: Kafka's words, as types that cannot be mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A Kafka partition number within one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub i32);

/// A Kafka offset. A position is always the *next* offset to read, as in Kafka's own API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

/// The catalog's number of a (table, topic) pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceId(pub i32);

/// How often an operator has moved a partition's progress by hand (replay or skip).
///
/// An offset can be reached twice; a pair of epoch and offset cannot. A worker that slept through a
/// replay therefore never matches again (invariant I4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub i32);

/// A DuckLake snapshot id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(pub i64);

/// What the lake's catalog says of one partition: the operand of the compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Raised by every replay and skip.
    pub epoch: Epoch,
    /// The next offset to read.
    pub next_offset: Offset,
}

/// Half-open: `from` is the first offset, `to` the next one to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OffsetRange {
    /// The first offset of the range.
    pub from: Offset,
    /// The offset after the last one.
    pub to: Offset,
}

impl OffsetRange {
    /// How many offsets the range covers; negative for a replay, which goes backwards.
    #[must_use]
    pub const fn len(self) -> i64 {
        self.to.0 - self.from.0
    }

    /// Whether the range covers nothing.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.to.0 == self.from.0
    }
}

macro_rules! display_as_number {
    ($($name:ident),+) => {
        $(impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        })+
    };
}
display_as_number!(Partition, Offset, SourceId, Epoch, SnapshotId);

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.from, self.to)
    }
}
