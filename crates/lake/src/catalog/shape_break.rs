//! Changes of a table's columns that prevent merging of older with newer files.
//!
//! | change | files from before and after it |
//! |---|---|
//! | a column, or a field of one, was added | can be merged: older rows have NULL there |
//! | one was added with a default, dropped, renamed, or its type was changed | are not merged |

use std::collections::HashMap;

use ducktide_protocol::error::Result;

use crate::catalog::client::CatalogClient as _;
use crate::session::Session;

/// Snapshot of each table's newest change that prevents merging, by the table's ID.
#[derive(Debug, Default)]
pub struct ShapeBreaks(HashMap<i64, i64>);

crate::row_struct! {
    /// A row of the answer to [`ShapeBreaks::sql`].
    pub struct ShapeChange {
        /// ID of the table.
        pub table_id: i64,
        /// Snapshot of its newest change.
        pub changed_at: i64,
    }
}

impl FromIterator<ShapeChange> for ShapeBreaks {
    fn from_iter<T: IntoIterator<Item = ShapeChange>>(changes: T) -> Self {
        let pairs = changes.into_iter().map(|change| (change.table_id, change.changed_at));
        Self(pairs.collect())
    }
}

impl ShapeBreaks {
    /// Reads the changes from the catalog.
    pub fn read(session: &Session) -> Result<Self> {
        let sql = Self::sql(&session.native_table("ducklake_column"));
        Ok(session.catalog_query::<ShapeChange>(&sql)?.into_iter().collect())
    }

    /// Returns the query on a table like `ducklake_column`.
    #[must_use]
    pub fn sql(columns: &str) -> String {
        format!(
            "SELECT table_id, max(changed_at) AS changed_at FROM ( \
               SELECT table_id, end_snapshot AS changed_at FROM {columns} \
               WHERE end_snapshot IS NOT NULL \
               UNION ALL SELECT table_id, begin_snapshot FROM {columns} \
               WHERE initial_default IS NOT NULL AND initial_default <> 'NULL') AS changes \
             GROUP BY table_id"
        )
    }

    /// Returns the snapshot of a table's newest change; 0, before every file, if there is none.
    #[must_use]
    pub fn of(&self, table_id: i64) -> i64 {
        self.0.get(&table_id).copied().unwrap_or(0)
    }
}
