//! Errors of schemas that have no table, with their remedies.

use thiserror::Error;

/// Reason that an Avro schema, or an existing table, has no [`super::TableShape`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ShapeError {
    /// Type that contains itself; no column type has unbounded depth.
    #[error(
        "recursive types have no column type; publish that part as a string holding JSON name=`{name}`"
    )]
    Recursive {
        /// Full name of the type.
        name: String,
    },
    /// Schema that is nested too deeply, or has too many types.
    #[error("schema unfolds into more than {max_types} types or {max_depth} levels")]
    TooLarge {
        /// Maximum number of types.
        max_types: usize,
        /// Maximum nesting.
        max_depth: usize,
    },
    /// Name of a column which Ducktide or DuckLake adds.
    #[error(
        "field has the name of a column that Ducktide or DuckLake adds; rename it in the schema \
         (an Avro alias keeps its readers working) field=`{field}`"
    )]
    ReservedName {
        /// Name of the field.
        field: String,
    },
    /// Names that differ in case only; DuckDB compares column names case-insensitively.
    #[error(
        "fields differ in case only, which DuckDB does not tell apart; rename one in the schema \
         first=`{first}` second=`{second}`"
    )]
    AmbiguousNames {
        /// Path of the first field.
        first: String,
        /// Path of the second field.
        second: String,
    },
    /// Branches of a union that would become the same field of a STRUCT.
    #[error(
        "--union-as struct has one field for each name of a type, and two branches have the same; \
         use --union-as json for the table or rename a type in the schema \
         field=`{field}` first=`{first}` second=`{second}`"
    )]
    AmbiguousBranches {
        /// Path of the union's field; empty for the topic's value itself.
        field: String,
        /// Full name of the first type.
        first: String,
        /// Full name of the second type.
        second: String,
    },
    /// Name that no column can have.
    #[error(
        "field's name is empty or has a zero character in it, which no column's can field=`{field}`"
    )]
    UnusableName {
        /// Path of the field.
        field: String,
    },
    /// Field that can only be null.
    #[error("field can only be null, which no column type says field=`{field}`")]
    NullOnly {
        /// Path of the field.
        field: String,
    },
    /// Record without fields.
    #[error("record without fields has no column type field=`{field}`")]
    EmptyRecord {
        /// Path of the field; empty for the topic's record itself.
        field: String,
    },
    /// `--partition-by` that does not name a timestamp of the table.
    #[error("--partition-by must name a timestamp column of the table column=`{column}`")]
    PartitionBy {
        /// Name in the setting.
        column: String,
    },
    /// Column of a type that Ducktide does not write.
    #[error(
        "table has a column of a type that Ducktide does not write; drop it or use another table \
         column=`{column}` type=`{type_text}`"
    )]
    UnknownColumnType {
        /// Name of the column.
        column: String,
        /// Type, as DuckDB prints it.
        type_text: String,
    },
}
