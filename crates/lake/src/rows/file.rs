//! Rows that describe files.

use ducktide_protocol::position::SnapshotId;
use jiff::Timestamp;

crate::row_struct! {
    /// A data file.
    pub struct DataFileRow from "ducklake_data_file" {
        /// ID of the file, from one counter for data files and delete files.
        pub data_file_id: i64,
        /// ID of the table.
        pub table_id: i64,
        /// First snapshot that has the file.
        pub begin_snapshot: SnapshotId,
        /// First snapshot that does not have it any more.
        pub end_snapshot: Option<SnapshotId>,
        /// Position among the table's files; not used by DuckLake 1.0.
        pub file_order: Option<i64>,
        /// Path of the file.
        pub path: String,
        /// True if `path` is relative to the table's directory.
        pub path_is_relative: bool,
        /// Format of the file: `parquet`.
        pub file_format: Option<String>,
        /// Number of rows.
        pub record_count: i64,
        /// Size, in bytes.
        pub file_size_bytes: u64,
        /// Size of the Parquet footer, in bytes.
        pub footer_size: Option<u64>,
        /// ID of the first row; NULL when the file has the IDs in a column.
        pub row_id_start: Option<i64>,
        /// ID of the partition key that the file was written under.
        pub partition_id: Option<i64>,
        /// Key of an encrypted file.
        pub encryption_key: Option<String>,
        /// ID of the name mapping of a file without field IDs.
        pub mapping_id: Option<i64>,
        /// Newest snapshot of the rows in a merged file.
        pub partial_max: Option<SnapshotId>,
    }
}

crate::row_struct! {
    /// A delete file: the rows of a data file that are deleted.
    pub struct DeleteFileRow from "ducklake_delete_file" {
        /// ID of the file.
        pub delete_file_id: i64,
        /// ID of the table.
        pub table_id: i64,
        /// First snapshot that has the file.
        pub begin_snapshot: SnapshotId,
        /// First snapshot that does not have it any more.
        pub end_snapshot: Option<SnapshotId>,
        /// ID of the data file.
        pub data_file_id: i64,
        /// Path of the file.
        pub path: String,
        /// True if `path` is relative to the table's directory.
        pub path_is_relative: bool,
        /// Number of rows that it deletes.
        pub delete_count: i64,
        /// Size, in bytes.
        pub file_size_bytes: u64,
    }
}

crate::row_struct! {
    /// Statistics of one column in a data file.
    pub struct FileColumnStatsRow from "ducklake_file_column_stats" {
        /// ID of the data file.
        pub data_file_id: i64,
        /// ID of the table.
        pub table_id: i64,
        /// ID of the column.
        pub column_id: i64,
        /// Compressed size, in bytes.
        pub column_size_bytes: Option<i64>,
        /// Number of values that are not NULL.
        pub value_count: Option<i64>,
        /// Number of NULLs.
        pub null_count: Option<i64>,
        /// Smallest value, as text.
        pub min_value: Option<String>,
        /// Greatest value, as text.
        pub max_value: Option<String>,
        /// True if a floating-point column contains a NaN.
        pub contains_nan: Option<bool>,
        /// Statistics of variants and geometries.
        pub extra_stats: Option<String>,
    }
}

crate::row_struct! {
    /// Value of one column of the partition key in a data file.
    pub struct FilePartitionValueRow from "ducklake_file_partition_value" {
        /// ID of the data file.
        pub data_file_id: i64,
        /// ID of the table.
        pub table_id: i64,
        /// Position in the partition key, from 0.
        pub partition_key_index: i64,
        /// The value, as text.
        pub partition_value: Option<String>,
    }
}

crate::row_struct! {
    /// A file that no snapshot needs any more.
    pub struct ScheduledFileRow from "ducklake_files_scheduled_for_deletion" {
        /// ID of the file.
        pub data_file_id: i64,
        /// Path of the file.
        pub path: String,
        /// True if `path` is relative to the lake's data path.
        pub path_is_relative: bool,
        /// Time since which no snapshot needs it.
        pub schedule_start: Timestamp,
    }
}
