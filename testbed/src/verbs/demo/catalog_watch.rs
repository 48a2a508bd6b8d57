//! Direct and frequent reads of the lake's SQLite catalog.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use rusqlite::{Connection, OpenFlags};

/// Maximum wait for a lock of the catalog; a commit holds it for milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Rows and newest snapshot of the lake.
#[derive(Debug, Clone)]
pub(super) struct LakeState {
    /// Number of rows of all tables.
    pub(super) rows: u64,
    /// Newest snapshot.
    pub(super) snapshot_id: i64,
    /// Time of the snapshot, in DuckDB's format of a timestamp with time zone.
    pub(super) snapshot_time: String,
}

/// Open catalog.
#[derive(Debug)]
pub(super) struct CatalogWatch {
    catalog: Connection,
}

impl CatalogWatch {
    pub(super) fn open(catalog: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let catalog = Connection::open_with_flags(catalog, flags).context("open the catalog")?;
        catalog.busy_timeout(BUSY_TIMEOUT).context("open the catalog")?;
        Ok(Self { catalog })
    }

    /// Reads the state in one statement, so that it is consistent.
    pub(super) fn read(&self) -> Result<LakeState> {
        const QUERY: &str = "
            SELECT (SELECT coalesce(sum(record_count), 0) FROM ducklake_data_file
                    WHERE end_snapshot IS NULL), snapshot_id, snapshot_time
            FROM ducklake_snapshot ORDER BY snapshot_id DESC LIMIT 1";
        let state = self.catalog.query_one(QUERY, [], |row| {
            // A sum of counts is never negative.
            let rows = row.get::<_, i64>(0)?.unsigned_abs();
            Ok(LakeState { rows, snapshot_id: row.get(1)?, snapshot_time: row.get(2)? })
        });
        state.context("read the catalog")
    }
}
