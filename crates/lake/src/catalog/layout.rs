//! Layout of Ducktide's tables and triggers in the catalog database: names, versions and their checks.

use std::collections::BTreeMap;

use ducktide_protocol::error::{ErrorKind, LakeError, LakeFault, Result};

use super::client::CatalogClient;
use super::format;
use crate::rows::MetaRow;
use crate::session::Access;
use crate::sql_text::quote;

/// Layout of Ducktide's tables that this program writes, and the oldest layout whose programs may
/// still use a lake of this layout. Additive changes raise the first number only.
///
/// | layout | change |
/// |---|---|
/// | 2 | `ducktide_commit_files`: a function of PostgreSQL, a table with a trigger of SQLite |
pub(super) const LAYOUT_VERSION: u32 = 2;
const OLDEST_COMPATIBLE_LAYOUT: u32 = 1;
/// The same pair for the triggers.
pub(crate) const TRIGGER_VERSION: u32 = 1;
const OLDEST_COMPATIBLE_TRIGGERS: u32 = 1;

/// The triggers, without which nothing may be written (invariant I7).
pub(crate) const TRIGGERS: [&str; 4] =
    ["ducktide_once", "ducktide_snapshot", "ducktide_unpack", "ducktide_advance"];

/// The tables that the triggers belong to, in the order of [`TRIGGERS`].
pub(super) const TRIGGER_TABLES: [&str; 4] =
    ["ducklake_data_file", "ducklake_snapshot_changes", "ducktide_commit", "ducktide_ledger"];

/// Returns the triggers and their tables as rows for VALUES: a trigger on another table does not count.
pub(super) fn triggers_with_tables() -> String {
    let pairs = TRIGGERS.iter().zip(TRIGGER_TABLES);
    let rows: Vec<_> = pairs.map(|(name, table)| format!("('{name}', '{table}')")).collect();
    rows.join(", ")
}

/// Result of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Installed {
    /// The tables and triggers were missing.
    Created,
    /// The tables were there; triggers were missing, disabled or on another table.
    TriggersRestored,
    /// The tables and triggers were there; the layout was older, or the commit function was missing.
    Upgraded,
    Nothing,
}

/// Returns an error if the triggers of a newer program would be replaced.
pub(super) fn check_trigger_version(found: Option<&str>) -> Result<()> {
    let found = version_of(found);
    if found <= TRIGGER_VERSION {
        return Ok(());
    }
    Err(LakeError::invalid(format!(
        "the lake's triggers are missing, and a newer Ducktide has made them; run its `ducktide init`: \
         trigger_version=`{found}` program=`{TRIGGER_VERSION}`"
    )))
}

/// Returns the statement that raises the layout's version; `meta` is the table `ducktide_meta`.
pub(super) fn raise_version_sql(meta: &str) -> String {
    format!("UPDATE {meta} SET value = '{LAYOUT_VERSION}' WHERE key = 'layout_version'")
}

/// Returns the version of the layout that an older program may have left; 0 if it is not a number.
pub(super) fn version_of(found: Option<&str>) -> u32 {
    found.and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Returns the rows of `ducktide_meta` that an installation writes, in SQL.
pub(super) fn meta_rows(facts: &[(&str, String)]) -> String {
    let facts = facts.iter().map(|(key, value)| format!(", ({}, {})", quote(key), quote(value)));
    format!(
        "('layout_version', '{LAYOUT_VERSION}'), \
         ('oldest_compatible_layout', '{OLDEST_COMPATIBLE_LAYOUT}'), \
         ('trigger_version', '{TRIGGER_VERSION}'), \
         ('oldest_compatible_triggers', '{OLDEST_COMPATIBLE_TRIGGERS}'){}",
        facts.collect::<String>()
    )
}

/// Returns true if the catalog has Ducktide's tables.
pub(crate) fn is_installed(catalog: &impl CatalogClient) -> Result<bool> {
    let sql = catalog.dialect().tables_like_sql("ducktide_meta");
    let found: Vec<String> = catalog.catalog_values(&sql)?;
    Ok(!found.is_empty())
}

/// Returns an error for a lake without the function or trigger that workers commit with.
pub(crate) fn older_layout(catalog: &impl CatalogClient) -> Result<LakeError> {
    let rows = catalog.select::<MetaRow>("WHERE key = 'layout_version'")?;
    let found = version_of(rows.first().map(|row| row.value.as_str()));
    Ok(LakeError::from_fault(LakeFault::OlderLayout { found, needed: LAYOUT_VERSION }))
}

/// Returns an error for a lake whose layout this program does not support. Readers and operators can use
/// an older one.
pub(crate) fn check_layout(catalog: &impl CatalogClient, access: Access) -> Result<()> {
    let rows = match catalog.select::<MetaRow>("") {
        Ok(rows) => rows,
        Err(error) if error.kind() == ErrorKind::Invalid && !is_installed(catalog)? => {
            return Err(LakeError::from_fault(LakeFault::NotInstalled).because(error));
        }
        Err(error) => return Err(error),
    };
    let meta: BTreeMap<_, _> = rows.into_iter().map(|row| (row.key, row.value)).collect();
    for (key, ours) in [
        ("oldest_compatible_layout", LAYOUT_VERSION),
        ("oldest_compatible_triggers", TRIGGER_VERSION),
    ] {
        let theirs: u32 = meta.get(key).and_then(|value| value.parse().ok()).ok_or_else(|| {
            LakeError::refused(format!("the lake's ducktide_meta lacks a number: key=`{key}`"))
        })?;
        if theirs > ours {
            return Err(newer_layout(key, theirs, ours));
        }
    }
    let found = version_of(meta.get("layout_version").map(String::as_str));
    if access == Access::Commit && found < LAYOUT_VERSION {
        return Err(LakeError::from_fault(LakeFault::OlderLayout {
            found,
            needed: LAYOUT_VERSION,
        }));
    }
    Ok(())
}

crate::row_struct! {
    /// State of the triggers, the intents and the format, which a commit depends on.
    pub(super) struct TriggerCheck {
        /// Number of triggers that exist and are enabled.
        triggers: usize,
        /// Oldest version of programs that the triggers work with.
        oldest_compatible: u32,
        /// Number of announced replays.
        intents: u32,
        /// Format of DuckLake's tables.
        format: Option<String>,
    }
}

impl TriggerCheck {
    /// Returns true if an intent is announced; an error if the catalog must not be written to.
    pub(super) fn check(found: Option<&Self>) -> Result<bool> {
        // Without a row, the connection broke during the response.
        let Some(found) = found else {
            return Err(LakeError::unavailable("the catalog's answer lacks a row"));
        };
        format::require(found.format.as_deref())?;
        require_triggers(found.triggers, found.oldest_compatible, TRIGGER_VERSION)
            .map(|()| found.intents > 0)
    }
}

/// Returns an error unless all triggers exist in a compatible version (invariant I7).
fn require_triggers(found: usize, oldest_compatible: u32, ours: u32) -> Result<()> {
    if found != TRIGGERS.len() {
        return Err(LakeError::from_fault(LakeFault::TriggersMissing {
            found,
            needed: TRIGGERS.len(),
        }));
    }
    if oldest_compatible > ours {
        return Err(newer_layout("oldest_compatible_triggers", oldest_compatible, ours));
    }
    Ok(())
}

pub(crate) fn newer_layout(key: &'static str, required: u32, supported: u32) -> LakeError {
    LakeError::from_fault(LakeFault::NewerLayout { key, required, supported })
}
