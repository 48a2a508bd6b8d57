//! Facts about the lake as a whole: rows of `ducktide_meta`.

use ducktide_protocol::error::Result;

use super::client::CatalogClient;
use crate::rows::{Insert, MetaRow};
use crate::sql_text::quote;

/// Returns the value of a key; None if it has no row.
pub fn get(catalog: &impl CatalogClient, key: &str) -> Result<Option<String>> {
    let found: Vec<MetaRow> = catalog.select(&format!("WHERE key = {}", quote(key)))?;
    Ok(found.into_iter().next().map(|fact| fact.value))
}

/// Inserts new facts: all of them, or none if one of the keys exists.
pub fn insert<C: CatalogClient>(catalog: &C, facts: &[(&str, String)]) -> Result<(), C::Error> {
    let row =
        |(key, value): &(&str, String)| MetaRow { key: (*key).to_owned(), value: value.clone() };
    let rows: Vec<_> = facts.iter().map(row).collect();
    let table = catalog.written_table("ducktide_meta");
    let Some(insert) = Insert::of(&rows).sql(&table) else { return Ok(()) };
    let written = catalog.write(&format!("BEGIN; {insert}; COMMIT"));
    if written.is_err() {
        catalog.roll_back();
    }
    written
}

/// Replaces the value of a key.
pub fn set<C: CatalogClient>(catalog: &C, key: &str, value: &str) -> Result<(), C::Error> {
    let (key, value) = (quote(key), quote(value));
    let table = catalog.written_table("ducktide_meta");
    // DuckDB does not support ON CONFLICT for the tables of another database.
    let written = catalog.write(&format!(
        "BEGIN; DELETE FROM {table} WHERE key = {key}; \
         INSERT INTO {table}(key, value) VALUES ({key}, {value}); COMMIT"
    ));
    if written.is_err() {
        catalog.roll_back();
    }
    written
}
