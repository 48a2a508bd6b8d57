//! The way of a topic into a table.

use std::sync::Arc;

use ducktide_lake::table::TableName;
use ducktide_lake::{Source, Table};

use crate::batch::dedupe::Rule;
use crate::batch::staging::ColumnHints;
use crate::decode::newest_schemas::Newest;

/// A topic on its way into a table.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) topic: Arc<str>,
    /// What was registered for them.
    pub(crate) source: Source,
    pub(crate) table: Table,
    /// The topic's newest schemas when the worker started.
    pub(crate) newest: Newest,
    pub(crate) hints: ColumnHints,
    /// Where records go that cannot be decoded; None if they stop the worker.
    pub(crate) dead_letters: Option<Table>,
    /// The timestamp whose date is the lake's partition key.
    pub(crate) partition_by: Option<String>,
    /// What repeats are known by, if they are dropped.
    pub(crate) dedupe: Option<Rule>,
}

impl Stream {
    /// Whether the topic's records go to this table, or its dead letters do.
    pub(crate) fn fills(&self, table: &TableName) -> bool {
        let mut tables = std::iter::once(&self.table).chain(&self.dead_letters);
        tables.any(|own| own.version.table == *table)
    }
}
