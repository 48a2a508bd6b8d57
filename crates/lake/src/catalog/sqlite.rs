//! A SQLite file as catalog: workers on one machine.

use std::path::Path;

use ducktide_protocol::error::Result;
use rusqlite::{Connection, OptionalExtension as _};

use super::client::CatalogClient;
use super::format;
use super::layout::{
    Installed, LAYOUT_VERSION, TRIGGERS, TriggerCheck, check_trigger_version, meta_rows,
    raise_version_sql, triggers_with_tables, version_of,
};
use super::sqlite_file::{failed, open};

const SCHEMA: &str = include_str!("sqlite.sql");

/// Table, indexes, views and trigger that commit.
const COMMIT_FILES: &str = include_str!("sqlite_commit_files.sql");

/// Types and names of what [`COMMIT_FILES`] creates, in the order in which they are dropped.
const COMMIT_OBJECTS: [(&str, &str); 6] = [
    ("trigger", "ducktide_commit_files"),
    ("view", "ducktide_newest_file"),
    ("view", "ducktide_unknown_column"),
    ("index", "ducktide_table_column_stats"),
    ("index", "ducktide_column"),
    ("table", "ducktide_commit_files"),
];

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
            "BEGIN IMMEDIATE; {SCHEMA}; {COMMIT_FILES}; INSERT INTO ducktide_meta(key, value) VALUES {}; COMMIT;",
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

/// Creates what commits if it is missing or differs, and raises the layout's version. A newer layout is
/// not changed.
fn upgrade(connection: &Connection, path: &Path) -> Result<Installed> {
    let failed = |error| failed("create the commit trigger", path, error);
    let version = "SELECT max(value) FROM ducktide_meta WHERE key = 'layout_version'";
    let version: Option<String> =
        connection.query_row(version, [], |row| row.get(0)).map_err(failed)?;
    let version = version_of(version.as_deref());
    let is_current = commits_as_this_program(connection).map_err(failed)?;
    if version > LAYOUT_VERSION || version == LAYOUT_VERSION && is_current {
        return Ok(Installed::Nothing);
    }
    let drop =
        COMMIT_OBJECTS.map(|(kind, name)| format!("DROP {kind} IF EXISTS {name}; ")).concat();
    let raise = raise_version_sql("ducktide_meta");
    connection
        .execute_batch(&format!("BEGIN IMMEDIATE; {drop}{COMMIT_FILES}; {raise}; COMMIT;"))
        .map(|()| Installed::Upgraded)
        .map_err(failed)
}

/// Returns true if the catalog has what commits, each with the text of this program.
fn commits_as_this_program(connection: &Connection) -> rusqlite::Result<bool> {
    let text = "SELECT sql FROM sqlite_master WHERE type = ?1 AND name = ?2";
    let mut select = connection.prepare(text)?;
    let mut is_current = true;
    for object in COMMIT_OBJECTS {
        let found: Option<String> = select.query_row(object, |row| row.get(0)).optional()?;
        is_current &= found.is_some_and(|sql| COMMIT_FILES.contains(&sql));
    }
    Ok(is_current)
}

/// Returns the columns of DuckLake's tables that its format does not name.
pub(crate) fn unknown_columns(catalog: &impl CatalogClient) -> Result<String> {
    let sql = "SELECT coalesce(group_concat(name, ', '), '') AS names FROM ducktide_unknown_column";
    catalog.catalog_scalar(sql)
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
