//! Alterations of tables that are not applied yet.

use std::collections::BTreeMap;

use ducktide_protocol::table::{Column, TableName};

/// Alterations that the lake is to apply.
#[derive(Debug, Default)]
pub(super) struct Alterations {
    /// Missing columns of each table. A table without columns is only read again.
    pub(super) wanted: BTreeMap<TableName, Vec<Column>>,
    /// True while the lake alters tables.
    pub(super) asked: bool,
}
