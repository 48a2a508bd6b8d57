//! Looks at the lake from outside, often: straight at the tables of its SQLite catalog.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use rusqlite::{Connection, OpenFlags};

/// A commit holds the catalog for milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How far the lake is.
#[derive(Debug, Clone)]
pub(super) struct LakeState {
    /// Rows of all tables.
    pub(super) rows: u64,
    /// The newest snapshot.
    pub(super) snapshot_id: i64,
    /// When it was made, as DuckDB writes a time with its zone.
    pub(super) snapshot_time: String,
}

/// An open catalog.
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

    /// One consistent read: a single statement.
    pub(super) fn read(&self) -> Result<LakeState> {
        const LOOK: &str = "
            SELECT (SELECT coalesce(sum(record_count), 0) FROM ducklake_data_file
                    WHERE end_snapshot IS NULL), snapshot_id, snapshot_time
            FROM ducklake_snapshot ORDER BY snapshot_id DESC LIMIT 1";
        let looked = self.catalog.query_one(LOOK, [], |row| {
            // A sum of counts is never negative.
            let rows = row.get::<_, i64>(0)?.unsigned_abs();
            Ok(LakeState { rows, snapshot_id: row.get(1)?, snapshot_time: row.get(2)? })
        });
        looked.context("read at the catalog")
    }
}
