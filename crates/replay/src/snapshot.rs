//! Snapshot of a replay that has no rows to remove.
//!
//! Another client may have deleted all rows that the ledger counts. Their counts are taken back
//! nevertheless, which needs a snapshot, and DuckLake creates one for changes only. Setting the table's
//! comment to its present value is such a change.

use ducktide_lake::session::{LAKE, Session, quote};
use ducktide_protocol::table::TableName;

/// Adds a change to the open transaction, so that it creates a snapshot.
pub(super) fn require(session: &Session, table: &TableName) -> duckdb::Result<()> {
    let sql = format!(
        "SELECT comment FROM duckdb_tables() WHERE database_name = '{LAKE}' \
         AND schema_name = {} AND table_name = {}",
        quote(&table.schema),
        quote(&table.table)
    );
    let comment = session.texts(&sql)?;
    let comment = comment.first().map_or_else(|| "NULL".to_owned(), |text| quote(text));
    session.execute(&format!("COMMENT ON TABLE {LAKE}.{} IS {comment}", table.sql()))
}
