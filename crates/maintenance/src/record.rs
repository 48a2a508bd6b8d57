//! Last run of each operation: rows of `ducktide_meta`.
//!
//! | key | value |
//! |---|---|
//! | `maintenance.<operation>` | `{"at":"2026-11-25T10:00:00Z","done":12}` |
//!
//! Stored in the lake, so that a compactor on another machine and every client of the lake can read it.
//! Names and fields must stay stable.

use ducktide_lake::CatalogClient as _;
use ducktide_lake::DuckLake;
use ducktide_lake::catalog::meta;
use ducktide_lake::rows::MetaRow;
use ducktide_lake::session::Session;
use ducktide_protocol::error::Result;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Operation;

/// Prefix of the keys.
const PREFIX: &str = "maintenance.";

/// Last run of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastMaintenance {
    /// The operation.
    pub kind: Operation,
    /// Time at which it ended.
    pub at: Timestamp,
    /// Number of items processed; see [`MaintenanceOutcome::Done`](super::MaintenanceOutcome).
    pub done: u64,
}

#[derive(Serialize, Deserialize)]
struct MaintenanceRecord {
    at: String,
    done: u64,
}

/// Reads the last run of each operation; operations that never ran are omitted.
pub fn last_maintenance(lake: &mut DuckLake) -> Result<Vec<LastMaintenance>> {
    let session = lake.session()?;
    let rows: Vec<MetaRow> = session.select(&format!("WHERE key LIKE '{PREFIX}%' ORDER BY key"))?;
    Ok(rows.iter().filter_map(last_run).collect())
}

/// Returns the record of a row; None for an operation or a format of a later version.
fn last_run(row: &MetaRow) -> Option<LastMaintenance> {
    let kind = Operation::from_name(row.key.strip_prefix(PREFIX)?)?;
    let MaintenanceRecord { at, done } = serde_json::from_str(&row.value).ok()?;
    Some(LastMaintenance { kind, at: at.parse().ok()?, done })
}

/// Replaces the record of an operation.
pub(super) fn write(session: &Session, kind: Operation, done: u64) -> duckdb::Result<()> {
    let key = format!("{PREFIX}{}", kind.as_str());
    let value =
        serde_json::to_string(&MaintenanceRecord { at: Timestamp::now().to_string(), done });
    let value = value.expect("a time and a number always serialize");
    meta::set(session, &key, &value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, value: &str) -> Option<LastMaintenance> {
        last_run(&MetaRow { key: key.to_owned(), value: value.to_owned() })
    }

    #[test]
    fn a_record_has_operation_time_and_count() {
        let found =
            read("maintenance.expire_snapshots", r#"{"at":"2026-11-25T10:00:00Z","done":12}"#);

        let at = "2026-11-25T10:00:00Z".parse().unwrap();
        let kind = Operation::ExpireSnapshots;
        assert_eq!(found, Some(LastMaintenance { kind, at, done: 12 }));
    }

    #[test]
    fn records_of_a_later_version_are_ignored() {
        let value = r#"{"at":"2026-11-25T10:00:00Z","done":1,"more":true}"#;

        assert!(read("maintenance.rewrite_data_files", value).is_none());
        assert!(read("maintenance.expire_snapshots", "soon").is_none());
        assert!(read("maintenance.expire_snapshots", value).is_some());
    }
}
