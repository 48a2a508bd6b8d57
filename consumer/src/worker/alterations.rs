//! Tables that must be altered because a newer schema has more fields, or that another client altered.
//!
//! The records that were read before are committed, and the first worker adds the columns. Then all workers
//! continue with the current tables, by a reset as after a fence.

use std::mem;
use std::sync::Arc;

use ducktide_protocol::table::{Column, TableName};
use ducktide_protocol::{LakeError, Table};

use super::Worker;
use super::effect::Effect;
use super::pending_alterations::Alterations;
use crate::batch::topic_route::TopicRoute;
use crate::commit::request::CommitterRequest;
use crate::error::ConsumerError;
use crate::startup::table;

impl Worker {
    /// Records the columns for which a batcher waits. Other batchers may need others, of the same schema or
    /// of the next one.
    pub(super) fn columns_missing(&mut self, table: &TableName, columns: Vec<Column>) {
        // A batcher repeats its request while it waits, and all batchers check the new table.
        if self.alterations.asked || self.is_ending() {
            return;
        }
        let wanted = self.alterations.wanted.entry(table.clone()).or_default();
        for column in columns {
            if !wanted.iter().any(|known| known.is_named(&column.name)) {
                wanted.push(column);
            }
        }
        self.batches.request_flush();
    }

    /// Records that a batch was rejected because a table has another version than its files.
    pub(super) fn tables_changed(&mut self) {
        for route in self.topics.routes.values() {
            let tables = std::iter::once(&route.table).chain(&route.dead_letters);
            for table in tables {
                self.alterations.wanted.entry(table.version.table.clone()).or_default();
            }
        }
    }

    /// Sends the alterations to the lake, once the records for the old tables are committed.
    pub(super) fn advance_alterations(&mut self) {
        let Alterations { wanted, asked } = &self.alterations;
        if wanted.is_empty() || *asked || self.is_ending() || !self.batches.is_idle() {
            return;
        }
        self.alterations.asked = true;
        let request = CommitterRequest::Alter(mem::take(&mut self.alterations.wanted));
        self.send(Effect::Committer(request));
        self.reset();
    }

    /// Continues with the current tables.
    pub(super) fn altered(&mut self, tables: Vec<Table>) {
        self.alterations.asked = false;
        for table in tables {
            if let Err(error) = self.replace(&table) {
                self.fail(ConsumerError::Lake(error));
            }
        }
        // Partitions that were assigned meanwhile may be read for the old tables.
        self.reset();
        self.load_all();
    }

    fn replace(&mut self, table: &Table) -> Result<(), LakeError> {
        let name = &table.version.table;
        for route in self.topics.routes.values_mut() {
            if route.table.version.table == *name && route.table != *table {
                table::check(table, route.partition_by.as_deref())?;
                table::check_memory(table, &self.settings.config)?;
                if let Some(rule) = &route.dedupe {
                    table::check_ids(table, &rule.column)?;
                }
                *route = Arc::new(TopicRoute { table: table.clone(), ..TopicRoute::clone(route) });
            }
            let letters = route.dead_letters.as_ref();
            if letters.is_some_and(|letters| letters.version.table == *name && letters != table) {
                table::check_dead_letters(table)?;
                let dead_letters = Some(table.clone());
                *route = Arc::new(TopicRoute { dead_letters, ..TopicRoute::clone(route) });
            }
        }
        Ok(())
    }
}
