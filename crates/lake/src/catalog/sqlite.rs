//! A SQLite file as catalog: workers on one machine.

use std::path::Path;

use ducktide_protocol::error::Result;
use rusqlite::Connection;

use super::client::CatalogClient;
use super::format;
use super::layout::{
    Installed, LAYOUT_VERSION, TRIGGERS, TriggerCheck, check_trigger_version, meta_rows,
    raise_version_sql, triggers_with_tables, version_of,
};
use super::sqlite_file::{failed, open};

const SCHEMA: &str = include_str!("sqlite.sql");

/// Start of the part of the schema with the triggers.
const FIRST_TRIGGER: &str = "CREATE TRIGGER";

/// Creates Ducktide's tables and triggers unless they exist, and restores missing triggers.
pub(crate) fn install(path: &Path, facts: &[(&str, String)]) -> Result<Installed> {
    let connection = open(path)?;
    let installed: bool = connection
        .query_row(
            "SELECT count(*) > 0 FROM sqlite_master WHERE name = 'ducktide_meta'",
            [],
            |row| row.get(0),
        )
        .map_err(|error| failed("read the catalog", path, error))?;
    if installed {
        let restored = restore_triggers(&connection, path)?;
        let upgraded = upgrade(&connection, path)?;
        return Ok(if restored == Installed::Nothing { upgraded } else { restored });
    }
    connection
        .execute_batch(&format!(
            "BEGIN IMMEDIATE; {SCHEMA}; INSERT INTO ducktide_meta(key, value) VALUES {}; COMMIT;",
            meta_rows(facts)
        ))
        .map(|()| Installed::Created)
        .map_err(|error| failed("create the Ducktide tables", path, error))
}

/// Recreates all triggers when one of them is missing, or on another table.
fn restore_triggers(connection: &Connection, path: &Path) -> Result<Installed> {
    let failed = |error| failed("restore the triggers", path, error);
    let found = format!(
        "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND (name, tbl_name) IN (VALUES {})",
        triggers_with_tables()
    );
    let found: i64 = connection.query_row(&found, [], |row| row.get(0)).map_err(failed)?;
    if usize::try_from(found) == Ok(TRIGGERS.len()) {
        return Ok(Installed::Nothing);
    }
    let version = "SELECT max(value) FROM ducktide_meta WHERE key = 'trigger_version'";
    let version: Option<String> =
        connection.query_row(version, [], |row| row.get(0)).map_err(failed)?;
    check_trigger_version(version.as_deref())?;
    let (_, triggers) = SCHEMA.split_once(FIRST_TRIGGER).expect("the schema has triggers");
    let drop = TRIGGERS.map(|name| format!("DROP TRIGGER IF EXISTS {name}; ")).concat();
    connection
        .execute_batch(&format!("BEGIN IMMEDIATE; {drop}{FIRST_TRIGGER}{triggers}; COMMIT;"))
        .map(|()| Installed::TriggersRestored)
        .map_err(failed)
}

/// Raises the version of an older layout: the tables and triggers are the same.
fn upgrade(connection: &Connection, path: &Path) -> Result<Installed> {
    let failed = |error| failed("raise the layout's version", path, error);
    let version = "SELECT max(value) FROM ducktide_meta WHERE key = 'layout_version'";
    let version: Option<String> =
        connection.query_row(version, [], |row| row.get(0)).map_err(failed)?;
    if version_of(version.as_deref()) >= LAYOUT_VERSION {
        return Ok(Installed::Nothing);
    }
    let raised = connection.execute_batch(&raise_version_sql("ducktide_meta"));
    raised.map(|()| Installed::Upgraded).map_err(failed)
}

/// Checks the catalog's format, and presence and version of the triggers; returns true if an intent is
/// announced.
pub(crate) fn check_triggers(catalog: &impl CatalogClient) -> Result<bool> {
    let names = triggers_with_tables();
    let found: Vec<TriggerCheck> = catalog.catalog_query(&format!(
        "SELECT (SELECT count(*) FROM sqlite_master WHERE type = 'trigger' \
           AND (name, tbl_name) IN (VALUES {names})) \
           AS triggers, \
         (SELECT value FROM ducktide_meta WHERE key = 'oldest_compatible_triggers') \
           AS oldest_compatible, \
         (SELECT count(*) FROM ducktide_intent) AS intents, {} AS format",
        format::value_sql("ducklake_metadata")
    ))?;
    TriggerCheck::check(found.first())
}
