//! A snapshot for a replay that finds no row to remove.
//!
//! The rows that the ledger counts may all be gone: another client deleted them. Their counts are taken
//! back all the same, and that needs a snapshot, which `DuckLake` makes for changes only. Writing the
//! table's comment again is one, and changes nothing.

use ducktide_lake::session::{LAKE, Session, quote};
use ducktide_protocol::table::TableName;

/// Makes the open transaction one that has a snapshot.
pub(super) fn require(session: &Session, table: &TableName) -> duckdb::Result<()> {
    let sql = format!(
        "SELECT comment FROM duckdb_tables() WHERE database_name = '{LAKE}' \
         AND schema_name = {} AND table_name = {}",
        quote(&table.schema),
        quote(&table.table)
    );
    let comment = session.rows(&sql)?.into_iter().flatten().next().flatten();
    let comment = comment.as_deref().map_or_else(|| "NULL".to_owned(), quote);
    session.execute(&format!("COMMENT ON TABLE {LAKE}.{} IS {comment}", table.sql()))
}
