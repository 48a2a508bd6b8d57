//! Rows of Ducktide's own tables, except the ledger: [`crate::catalog::ledger`].

use ducktide_protocol::position::{Epoch, Offset, Partition, Position, SnapshotId, SourceId};
use ducktide_protocol::table::TableName;
use jiff::Timestamp;

crate::row_struct! {
    /// A fact about the lake.
    pub struct MetaRow from "ducktide_meta" {
        /// Name of the fact.
        pub key: String,
        /// Its value.
        pub value: String,
    }
}

crate::row_struct! {
    /// A topic that is read into a table.
    pub struct SourceRow from "ducktide_source" {
        /// ID of the source.
        pub source_id: SourceId,
        /// Table with its schema.
        pub table_name: TableName,
        /// Topic in Kafka.
        pub topic: String,
        /// Name of the pipeline that registered the source.
        pub pipeline: String,
        /// ID of the Kafka cluster, if it was known.
        pub cluster_id: Option<String>,
        /// ID of the topic, if it was known.
        pub topic_id: Option<String>,
        /// Time of the registration.
        pub created_at: Timestamp,
    }
}

crate::row_struct! {
    /// Progress of one partition. Triggers write it.
    pub struct ProgressRow from "ducktide_progress" {
        /// ID of the source.
        pub source_id: SourceId,
        /// Partition of the topic.
        pub partition: Partition,
        /// Number of replays and skips.
        pub epoch: Epoch,
        /// Next offset to read.
        pub next_offset: Offset,
        /// Snapshot of the newest commit with rows.
        pub snapshot_id: Option<SnapshotId>,
        /// Time when progress last moved.
        pub updated_at: Option<Timestamp>,
    }
}

impl ProgressRow {
    /// Returns epoch and next offset.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position { epoch: self.epoch, next_offset: self.next_offset }
    }
}

crate::row_struct! {
    /// An announced replay.
    pub struct IntentRow from "ducktide_intent" {
        /// ID of the source.
        pub source_id: SourceId,
        /// Table with its schema.
        pub table_name: String,
        /// `prepare` or `replay`.
        pub kind: String,
        /// Host and process.
        pub holder: String,
        /// Time after which no client waits for it any longer.
        pub expires_at: Timestamp,
        /// Oldest snapshot that must stay readable.
        pub keep_snapshots_from: SnapshotId,
    }
}

crate::row_struct! {
    /// A snapshot that an operator protects from expiry.
    pub struct PinRow from "ducktide_pin" {
        /// Name of the pin.
        pub name: String,
        /// Oldest snapshot that it protects.
        pub snapshot_id: SnapshotId,
        /// Time of its creation.
        pub created_at: Timestamp,
    }
}
