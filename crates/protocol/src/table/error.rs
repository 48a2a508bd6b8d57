//! Why a schema has no table, and what to do about it.

use thiserror::Error;

/// Why an Avro schema, or an existing table, has no [`super::TableShape`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ShapeError {
    /// A type contains itself; no column type has unbounded depth.
    #[error(
        "recursive types have no column type; publish that part as a string holding JSON name=`{name}`"
    )]
    Recursive {
        /// The full name of the type that contains itself.
        name: String,
    },
    /// The schema is nested too deeply, or unfolds into too many types.
    #[error("schema unfolds into more than {max_types} types or {max_depth} levels")]
    TooLarge {
        /// The most types that a schema may unfold into.
        max_types: usize,
        /// The deepest nesting.
        max_depth: usize,
    },
    /// The name is that of a column which Ducktide or DuckLake adds.
    #[error(
        "field has the name of a column that Ducktide or DuckLake adds; rename it in the schema \
         (an Avro alias keeps its readers working) field=`{field}`"
    )]
    ReservedName {
        /// The field.
        field: String,
    },
    /// Column names are compared without regard to case.
    #[error(
        "fields differ in case only, which DuckDB does not tell apart; rename one in the schema \
         first=`{first}` second=`{second}`"
    )]
    AmbiguousNames {
        /// The path of the field that came first.
        first: String,
        /// The path of the other one.
        second: String,
    },
    /// Branches of a union that would be one field of a STRUCT.
    #[error(
        "--union-as struct has one field for each name of a type, and two branches have the same; \
         use --union-as json for the table or rename a type in the schema \
         field=`{field}` first=`{first}` second=`{second}`"
    )]
    AmbiguousBranches {
        /// The path of the union's field; empty for the topic's value itself.
        field: String,
        /// The full name of the type that comes first.
        first: String,
        /// That of the other one.
        second: String,
    },
    /// Names that no table can have.
    #[error(
        "field's name is empty or has a zero character in it, which no column's can field=`{field}`"
    )]
    UnusableName {
        /// The path of the field.
        field: String,
    },
    /// A field that can hold nothing but null.
    #[error("field can only be null, which no column type says field=`{field}`")]
    NullOnly {
        /// The path of the field.
        field: String,
    },
    /// A record without fields.
    #[error("record without fields has no column type field=`{field}`")]
    EmptyRecord {
        /// The path of the field; empty for the topic's record itself.
        field: String,
    },
    /// `--partition-by` names no timestamp of the table.
    #[error("--partition-by must name a timestamp column of the table column=`{column}`")]
    PartitionBy {
        /// The name that was given.
        column: String,
    },
    /// The table has a column of a type that Ducktide never writes.
    #[error(
        "table has a column of a type that Ducktide does not write; drop it or use another table \
         column=`{column}` type=`{type_text}`"
    )]
    UnknownColumnType {
        /// The column.
        column: String,
        /// Its type, as DuckDB prints it.
        type_text: String,
    },
}
