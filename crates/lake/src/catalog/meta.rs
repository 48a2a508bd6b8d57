//! Facts about the lake as a whole: rows of `ducktide_meta`.

use ducktide_protocol::error::Result;

use crate::session::{Session, quote};

/// A fact, if it is known.
pub fn get(session: &Session, key: &str) -> Result<Option<String>> {
    let table = session.native_table("ducktide_meta");
    session.catalog_value(&format!("SELECT value FROM {table} WHERE key = {}", quote(key)))
}

/// Writes facts that nobody knows yet: all of them, or none if one of them is known.
pub fn insert(session: &Session, facts: &[(&str, String)]) -> duckdb::Result<()> {
    let row = |(key, value): &(&str, String)| format!("({}, {})", quote(key), quote(value));
    let rows = facts.iter().map(row).collect::<Vec<_>>().join(", ");
    let table = session.catalog_table("ducktide_meta");
    let written =
        session.execute(&format!("BEGIN; INSERT INTO {table}(key, value) VALUES {rows}; COMMIT"));
    if written.is_err() {
        let _ = session.execute("ROLLBACK");
    }
    written
}

/// Writes a fact over the one before.
pub fn set(session: &Session, key: &str, value: &str) -> duckdb::Result<()> {
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
