//! Changes of tables that wait for their turn.

use std::collections::BTreeMap;

use ducktide_lake::table::{Column, TableName};

/// What is to be asked of the lake, and whether it was.
#[derive(Debug, Default)]
pub(super) struct Alterations {
    /// The columns that tables lack; without columns a table is only read again.
    pub(super) wanted: BTreeMap<TableName, Vec<Column>>,
    pub(super) asked: bool,
}
