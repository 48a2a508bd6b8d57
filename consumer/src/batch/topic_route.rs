//! Route of a topic into a table.

use std::sync::Arc;

use ducktide_protocol::table::TableName;
use ducktide_protocol::{Source, Table};

use crate::batch::dedupe::DedupeRule;
use crate::batch::staging::ColumnHints;
use crate::decode::newest_schemas::NewestSchemas;

/// Topic, the table that it fills, and the settings for its records.
#[derive(Clone, Debug)]
pub(crate) struct TopicRoute {
    pub(crate) topic: Arc<str>,
    /// Source that the lake has registered for the topic and the table.
    pub(crate) source: Source,
    pub(crate) table: Table,
    /// Newest schemas of the topic when the worker started.
    pub(crate) newest: NewestSchemas,
    pub(crate) hints: ColumnHints,
    /// Dead-letter table; None if every undecodable record stops the worker.
    pub(crate) dead_letters: Option<Table>,
    /// Timestamp column whose date is the partition key.
    pub(crate) partition_by: Option<String>,
    /// Rule by which duplicates are found; None without `--dedupe-by`.
    pub(crate) dedupe: Option<DedupeRule>,
}

impl TopicRoute {
    /// Returns whether records or dead letters of the topic go to this table.
    pub(crate) fn fills(&self, table: &TableName) -> bool {
        let mut tables = std::iter::once(&self.table).chain(&self.dead_letters);
        tables.any(|own| own.version.table == *table)
    }
}
