//! Positions of sources: Kafka's terms, as distinct types.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Kafka partition number within one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub i32);

/// Kafka offset. A position is always the *next* offset to read, as in Kafka's own API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

/// Number of a source, a (table, topic) pair, in the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceId(pub i32);

/// Number of times that an operator moved a partition's progress (replay or skip).
///
/// An offset can be reached twice; a pair of epoch and offset cannot. A worker that was paused during a
/// replay therefore never matches again (invariant I4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub i32);

/// DuckLake snapshot id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(pub i64);

/// Position of a partition in the lake's catalog: the operand of the compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Epoch, incremented by every replay and skip.
    pub epoch: Epoch,
    /// Next offset to read.
    pub next_offset: Offset,
}

/// Half-open range of offsets: `from` is the first offset, `to` the next one to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OffsetRange {
    /// First offset of the range.
    pub from: Offset,
    /// Offset after the last one.
    pub to: Offset,
}

impl OffsetRange {
    /// Returns the number of offsets in the range; negative for a replay, which goes backwards.
    #[must_use]
    pub const fn len(self) -> i64 {
        self.to.0 - self.from.0
    }

    /// Returns true if the range covers no offset.
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
