//! Errors of a schema for a table, and of a record for its schema.

use ducktide_protocol::table::{Difference, ShapeError};
use thiserror::Error;

/// Error of a writer's schema that cannot be decoded into a table.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CompileError {
    /// The schema cannot be mapped to a table.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The table has different columns.
    #[error("schema does not fit the table: {0}")]
    DoesNotFit(Difference),
}

/// Error of a record that does not match its schema, or has a value that no column can hold.
///
/// Never contains record content, because the text is logged.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{problem} field=`{field}`")]
pub struct DecodeError {
    /// Field that was being decoded; empty after the last one.
    pub field: String,
    /// Kind of error.
    pub problem: Problem,
}

/// Kinds of errors in a datum.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Problem {
    /// The datum ends within a value.
    #[error("record ends within a value")]
    UnexpectedEnd,
    /// The datum continues after the last field.
    #[error("record has bytes after its last field")]
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
    /// A length or the size of a block is negative.
    #[error("length is negative")]
    NegativeLength,
    /// An index is negative.
    #[error("index of a branch or symbol is negative")]
    NegativeIndex,
    /// The schema has no union branch with this index.
    #[error("union has no such branch")]
    NoSuchBranch,
    /// The schema has no enum symbol with this index.
    #[error("enum has no such symbol")]
    NoSuchSymbol,
    /// A string is not UTF-8.
    #[error("string is not valid UTF-8")]
    NotUtf8,
    /// A UUID is not in the text form or not 16 bytes long.
    #[error("uuid is malformed")]
    NotAUuid,
    /// A decimal has more digits than the precision of its schema, or its bytes are malformed.
    #[error("decimal does not fit its precision")]
    DecimalOutOfRange,
    /// A date, time or timestamp is outside DuckDB's range.
    #[error("date or time is out of range for the column")]
    TimeOutOfRange,
    /// An array or map declares more items than the record can hold.
    #[error("array or map declares more items than the record has bytes")]
    TooManyItems,
    /// A map has a duplicate key, which a MAP column cannot hold.
    #[error("map has a duplicate key")]
    DuplicateKey,
    /// A value is not a JSON object.
    #[error("value is not a JSON object")]
    NotAnObject,
    /// A field of a JSON object has a type that does not match its column.
    #[error("field type does not match its column")]
    TypeMismatch,
    /// A JSON object has a field without a column, and the table has no column for such fields.
    #[error("table has no column `_extra` for fields without a column")]
    NoExtraColumn,
    /// A column of the batch would exceed 2 GiB; the record itself is valid.
    #[error("batch is full; finish it and decode the record again")]
    BatchFull,
}
