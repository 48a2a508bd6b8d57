//! What can be wrong with a schema for a table, and with a record for its schema.

use ducktide_lake::table::{Difference, ShapeError};
use thiserror::Error;

/// Why records of a writer's schema cannot go into a table.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CompileError {
    /// The schema has no table at all.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The table has other columns.
    #[error("schema does not fit the table: {0}")]
    DoesNotFit(Difference),
}

/// A record that its schema cannot decode, or whose value no column can hold.
///
/// Never names the record's content, as these texts go to logs.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{problem} field=`{field}`")]
pub struct DecodeError {
    /// The field that was being read; empty behind the last one.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a datum.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Problem {
    /// The datum is over in the middle of a value.
    #[error("record ends too early")]
    UnexpectedEnd,
    /// The datum goes on behind the last field.
    #[error("record has bytes behind its last field")]
    TrailingBytes,
    /// A varint has more than 64 bits.
    #[error("number has more than 64 bits")]
    VarintOverflow,
    /// An `int` has more than 32 bits.
    #[error("int has more than 32 bits")]
    IntOverflow,
    /// A boolean is neither 0 nor 1.
    #[error("boolean is neither 0 nor 1")]
    NotABoolean,
    /// A length or a block's size is negative.
    #[error("length is negative")]
    NegativeLength,
    /// An index is negative.
    #[error("index of a branch or symbol is negative")]
    NegativeIndex,
    /// A union's branch that the schema does not have.
    #[error("union has no such branch")]
    NoSuchBranch,
    /// An enum's symbol that the schema does not have.
    #[error("enum has no such symbol")]
    NoSuchSymbol,
    /// A string is not UTF-8.
    #[error("string is not valid UTF-8")]
    NotUtf8,
    /// A UUID is not in the text form or not 16 bytes long.
    #[error("uuid is malformed")]
    NotAUuid,
    /// A decimal has more digits than its schema says, or its bytes are malformed.
    #[error("decimal does not fit its precision")]
    DecimalOutOfRange,
    /// A date, time or timestamp that DuckDB has no value for.
    #[error("date or time is outside of what the column can hold")]
    TimeOutOfRange,
    /// An array or map announces more items than the record could hold.
    #[error("array or map announces more items than the record has bytes")]
    TooManyItems,
    /// A map has one key twice; a MAP column cannot hold that.
    #[error("map has a key twice")]
    DuplicateKey,
    /// A value is not a JSON object.
    #[error("value is not a JSON object")]
    NotAnObject,
    /// A field of a JSON object is not what its column holds.
    #[error("field does not fit its column")]
    OfAnotherType,
    /// A JSON object has a field more, and the table has no column for such.
    #[error("table has no column `_extra` for the fields that it does not know")]
    NoExtraColumn,
    /// More than 2 GiB would lie in one column of the batch; nothing is wrong with the record itself.
    #[error("batch is full: finish it, then decode the record again")]
    BatchFull,
}
