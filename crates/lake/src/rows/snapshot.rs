//! Rows that describe the lake's snapshots.

use ducktide_protocol::position::SnapshotId;
use jiff::Timestamp;

crate::row_struct! {
    /// A snapshot of the lake.
    pub struct SnapshotRow from "ducklake_snapshot" {
        /// ID of the snapshot.
        pub snapshot_id: SnapshotId,
        /// Time of its commit.
        pub snapshot_time: Timestamp,
        /// Version of the lake's schema, counted over all tables.
        pub schema_version: i64,
        /// ID of the next schema, table or view.
        pub next_catalog_id: i64,
        /// ID of the next data file or delete file.
        pub next_file_id: i64,
    }
}

crate::row_struct! {
    /// The changes of a snapshot.
    pub struct SnapshotChangesRow from "ducklake_snapshot_changes" {
        /// ID of the snapshot.
        pub snapshot_id: SnapshotId,
        /// List of changes, such as `inserted_into_table:2,created_table:"main"."events"`.
        pub changes_made: Option<String>,
        /// Client that committed it.
        pub author: Option<String>,
        /// Message of the commit for operators.
        pub commit_message: Option<String>,
        /// Message of the commit for programs: Ducktide's progress.
        pub commit_extra_info: Option<String>,
    }
}

crate::row_struct! {
    /// A version of a table's schema.
    pub struct SchemaVersionRow from "ducklake_schema_versions" {
        /// First snapshot of the version.
        pub begin_snapshot: SnapshotId,
        /// Version of the lake's schema that began there.
        pub schema_version: i64,
        /// ID of the table; NULL for a change that belongs to none.
        pub table_id: Option<i64>,
    }
}
