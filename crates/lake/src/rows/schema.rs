//! Rows that describe schemas, tables, columns and settings.

use ducktide_protocol::position::SnapshotId;

crate::row_struct! {
    /// A setting of the lake, of a schema or of a table.
    pub struct MetadataRow from "ducklake_metadata" {
        /// Name of the setting.
        pub key: String,
        /// Its value.
        pub value: String,
        /// Scope of the setting: `schema` or `table`; NULL is the lake.
        pub scope: Option<String>,
        /// ID of the schema or table.
        pub scope_id: Option<i64>,
    }
}

crate::row_struct! {
    /// A schema.
    pub struct SchemaRow from "ducklake_schema" {
        /// ID of the schema.
        pub schema_id: i64,
        /// First snapshot that has it.
        pub begin_snapshot: SnapshotId,
        /// First snapshot that does not have it any more.
        pub end_snapshot: Option<SnapshotId>,
        /// Name of the schema.
        pub schema_name: String,
        /// Directory of its tables.
        pub path: Option<String>,
        /// True if `path` is relative to the lake's data path.
        pub path_is_relative: Option<bool>,
    }
}

crate::row_struct! {
    /// A table under one name: a renamed table has a row for each.
    pub struct TableRow from "ducklake_table" {
        /// ID of the table.
        pub table_id: i64,
        /// First snapshot that has it under this name.
        pub begin_snapshot: SnapshotId,
        /// First snapshot that does not have it under this name any more.
        pub end_snapshot: Option<SnapshotId>,
        /// ID of its schema.
        pub schema_id: i64,
        /// Name of the table.
        pub table_name: String,
        /// Directory of its files.
        pub path: Option<String>,
        /// True if `path` is relative to the schema's directory.
        pub path_is_relative: Option<bool>,
    }
}

crate::row_struct! {
    /// A column, or a field of one, with one name and type.
    pub struct ColumnRow from "ducklake_column" {
        /// ID of the column: the field ID in Parquet files.
        pub column_id: i64,
        /// First snapshot that has it in this form.
        pub begin_snapshot: SnapshotId,
        /// First snapshot that does not have it in this form any more.
        pub end_snapshot: Option<SnapshotId>,
        /// ID of the table.
        pub table_id: i64,
        /// Name of the column.
        pub column_name: String,
        /// Type of the column, in DuckLake's names, such as `int64`.
        pub column_type: String,
        /// Value of rows that were written before the column was added.
        pub initial_default: Option<String>,
        /// ID of the column that this is a field of.
        pub parent_column: Option<i64>,
    }
}

crate::row_struct! {
    /// Name of a column in files without field IDs.
    pub struct NameMappingRow from "ducklake_name_mapping" {
        /// ID of the mapping.
        pub mapping_id: i64,
        /// Number of the column within the mapping.
        pub column_id: i64,
        /// Name in the file.
        pub source_name: String,
        /// ID of the table's column.
        pub target_field_id: i64,
        /// Number of the column that this is a field of.
        pub parent_column: Option<i64>,
    }
}
