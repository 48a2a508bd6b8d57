//! Tables whose columns are not those that files were to be written for: a newer schema has more, or
//! somebody altered them.
//!
//! What was read before is committed, the columns are added by whoever comes first, and then everything
//! is read on with the tables as they are: the worker goes on by a reset, as after a fence.

use std::sync::Arc;

use ducktide_protocol::table::{Column, TableName};
use ducktide_protocol::{LakeError, Table};

use super::Worker;
use super::pending_alterations::Alterations;
use crate::batch::topic_route::TopicRoute;
use crate::commit::request::CommitterRequest;
use crate::error::ConsumerError;
use crate::startup::table;

impl Worker {
    /// A batcher waits for columns. Other batchers may want others, of the same schema or the next.
    pub(super) fn columns_missing(&mut self, table: &TableName, columns: Vec<Column>) {
        // A batcher asks again while it waits; and after the answer all of them look at the new table.
        if self.alterations.asked || self.shutdown.is_some() {
            return;
        }
        let wanted = self.alterations.wanted.entry(table.clone()).or_default();
        for column in columns {
            if !wanted.iter().any(|known| known.is_named(&column.name)) {
                wanted.push(column);
            }
        }
        self.flush.request_flush();
    }

    /// A batch was refused because a table is not what its files were written for.
    pub(super) fn tables_changed(&mut self) {
        for route in self.routes.values() {
            let tables = std::iter::once(&route.table).chain(&route.dead_letters);
            for table in tables {
                self.alterations.wanted.entry(table.version.table.clone()).or_default();
            }
        }
    }

    /// Asks the lake once everything is committed that was read for the tables as they were.
    pub(super) fn advance_alterations(&mut self) {
        let Alterations { wanted, asked } = &mut self.alterations;
        if wanted.is_empty() || *asked || self.shutdown.is_some() || !self.flush.is_idle() {
            return;
        }
        *asked = true;
        self.committer.send(CommitterRequest::Alter(std::mem::take(wanted)));
        self.reset();
    }

    /// Reads everything on, for the tables as they are now.
    pub(super) fn altered(&mut self, tables: Vec<Table>) {
        self.alterations.asked = false;
        for table in tables {
            if let Err(error) = self.replace(&table) {
                self.fail(ConsumerError::Lake(error));
            }
        }
        // Partitions that came meanwhile may be read for the tables as they were.
        self.reset();
        self.load_all();
    }

    fn replace(&mut self, table: &Table) -> Result<(), LakeError> {
        let name = &table.version.table;
        for route in self.routes.values_mut() {
            if route.table.version.table == *name && route.table != *table {
                table::check(table, route.partition_by.as_deref())?;
                table::check_memory(table, &self.deps.config)?;
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
