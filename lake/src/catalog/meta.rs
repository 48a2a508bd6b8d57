//! Facts about the lake as a whole: rows of `ducktide_meta`.

use crate::session::{Session, quote};

/// Writes a fact over the one before.
pub(crate) fn set(session: &Session, key: &str, value: &str) -> duckdb::Result<()> {
    let (key, value) = (quote(key), quote(value));
    let table = session.catalog_table("ducktide_meta");
    // DuckDB knows no ON CONFLICT for the tables of another database.
    let written = session.execute(&format!(
        "BEGIN; DELETE FROM {table} WHERE key = {key}; \
         INSERT INTO {table}(key, value) VALUES ({key}, {value}); COMMIT"
    ));
    if written.is_err() {
        let _ = session.execute("ROLLBACK");
    }
    written
}
