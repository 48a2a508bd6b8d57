//! Sending of a commit to the catalog.
//!
//! | catalog | way |
//! |---|---|
//! | PostgreSQL | [`commit_function`]: one statement on a connection of the worker, without DuckDB |
//! | SQLite | [`duckdb_transaction`]: a transaction of DuckDB under the lock file |

mod commit_function;
mod duckdb_transaction;
mod request;

use std::collections::BTreeMap;
use std::path::Path;

use ducktide_protocol::StagedFile;
use ducktide_protocol::commit::{Commit, CommitKind};
use ducktide_protocol::error::Result;
use ducktide_protocol::position::SnapshotId;
use ducktide_protocol::table::TableName;

pub use duckdb_transaction::register_files;

use crate::config::CatalogLocation;
use crate::duck_lake::DuckLake;

/// Answer to a commit that was sent once.
pub(crate) enum Sent {
    /// The catalog has applied it, and has checked that progress moved.
    Committed(Option<SnapshotId>),
    /// COMMIT succeeded; the caller checks that progress moved.
    Accepted,
    /// A table was altered or dropped after the files were written; nothing was applied.
    TableChanged,
    /// The catalog refused it, or the answer was lost. The caller reads the outcome.
    Failed(Failure),
}

/// Reason of a commit that was not answered with success. It never decides the outcome.
pub(crate) struct Failure {
    /// Error text; it can contain values of rows.
    pub(crate) text: String,
    /// True if a retry cannot succeed, unless the catalog is being restored.
    pub(crate) is_refusal: bool,
}

/// Sends a commit once. An error means that it was not sent, or that the catalog is in a state in which
/// nothing is applied.
pub(crate) fn send(lake: &mut DuckLake, commit: &Commit) -> Result<Sent> {
    match lake.location() {
        CatalogLocation::Postgres(_) => commit_function::send(lake, commit),
        CatalogLocation::Sqlite(_) => duckdb_transaction::send(lake, commit),
    }
}

/// Returns author and message of a snapshot, which DuckLake shows as `snapshots().author` and
/// `snapshots().commit_message`.
const fn author(kind: CommitKind) -> (&'static str, &'static str) {
    match kind {
        CommitKind::Retry => ("ducktide", "retry dead letters"),
        CommitKind::Discard => ("ducktide", "discard dead letters"),
        _ => ("ducktide-consumer", "ingest"),
    }
}

/// Returns true if a table's columns have changed since the files were written. Such files are never
/// registered: with `allow_missing`, statistics and therefore query results would be wrong.
pub(crate) fn table_changed(lake: &mut DuckLake, commit: &Commit) -> Result<bool> {
    for version in commit.table_versions() {
        if lake.table_version(&version.table)? != Some(version.changed_at) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(crate) fn by_table(files: &[StagedFile]) -> BTreeMap<&TableName, Vec<&StagedFile>> {
    let mut by_table: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for file in files {
        by_table.entry(&file.table).or_default().push(file);
    }
    by_table
}

/// Returns the path as DuckLake stores it: relative to the table's directory.
pub(crate) fn relative_path(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match partition_directory(path) {
        Some(directory) => format!("{directory}/{name}"),
        None => name.into_owned(),
    }
}

/// Returns the hive directory of a partitioned file, such as `event_date=2026-11-01`.
fn partition_directory(path: &Path) -> Option<&str> {
    let directory = path.parent()?.file_name()?.to_str()?;
    directory.starts_with("event_date=").then_some(directory)
}
