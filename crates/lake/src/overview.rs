//! Size and state of a lake, read from its catalog only: no data file is opened, so a read takes
//! milliseconds for any number of rows.

use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::SnapshotId;
use jiff::Timestamp;

use crate::catalog::client::CatalogClient as _;
use crate::duck_lake::DuckLake;
use crate::session::Session;

/// Versions, data path and snapshots of a lake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// Directory of its data files, as stored in the catalog.
    pub data_path: String,
    /// Version of DuckLake's catalog tables.
    pub ducklake_version: String,
    /// Layout version of Ducktide's tables.
    pub layout_version: u32,
    /// Snapshots that have not expired.
    pub snapshots: SnapshotRange,
}

/// Number of snapshots, and the newest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRange {
    /// Number of snapshots.
    pub count: u64,
    /// ID of the newest snapshot; every lake has one.
    pub newest: SnapshotId,
    /// Commit time of the newest snapshot.
    pub committed_at: Timestamp,
}

/// Size of one table at the newest snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSize {
    /// Name of the table with its schema. Any name is possible: other clients create tables too.
    pub table: String,
    /// Number of rows in its data files, without those that delete files remove. Rows that another
    /// client inlined in the catalog are not counted; Ducktide disables inlining.
    pub rows: u64,
    /// Number of data files.
    pub files: u64,
    /// Total size of the data files, in bytes.
    pub bytes: u64,
}

impl DuckLake {
    /// Returns versions, data path and snapshots of the lake.
    pub fn overview(&mut self) -> Result<Overview> {
        let session = self.session()?;
        let rows: Vec<OverviewRow> = session.catalog_query(&overview_sql(session))?;
        let row = rows.into_iter().next();
        let row = row.ok_or_else(|| LakeError::unavailable("the catalog's answer lacks a row"))?;
        Ok(Overview {
            data_path: row.data_path.unwrap_or_default(),
            ducklake_version: row.ducklake_version.unwrap_or_default(),
            layout_version: row.layout_version,
            snapshots: SnapshotRange {
                count: row.snapshots,
                newest: row.snapshot_id,
                committed_at: row.snapshot_time,
            },
        })
    }

    /// Returns the size of each table, in the order of their names.
    pub fn table_sizes(&mut self) -> Result<Vec<TableSize>> {
        let session = self.session()?;
        let rows: Vec<TableSizeRow> = session.catalog_query(&table_sizes_sql(session))?;
        Ok(rows.into_iter().map(TableSize::of_row).collect())
    }
}

crate::row_struct! {
    struct OverviewRow {
        data_path: Option<String>,
        ducklake_version: Option<String>,
        layout_version: u32,
        snapshots: u64,
        snapshot_id: SnapshotId,
        snapshot_time: Timestamp,
    }
}

crate::row_struct! {
    struct TableSizeRow {
        schema_name: String,
        table_name: String,
        live_rows: u64,
        files: u64,
        bytes: u64,
    }
}

impl TableSize {
    fn of_row(row: TableSizeRow) -> Self {
        let TableSizeRow { schema_name, table_name, live_rows: rows, files, bytes } = row;
        Self { table: format!("{schema_name}.{table_name}"), rows, files, bytes }
    }
}

fn overview_sql(session: &Session) -> String {
    let native = |name: &str| session.native_table(name);
    let metadata = native("ducklake_metadata");
    let setting =
        |key: &str| format!("(SELECT value FROM {metadata} WHERE key = '{key}' AND scope IS NULL)");
    let snapshot = native("ducklake_snapshot");
    format!(
        "SELECT {data_path} AS data_path, {version} AS ducklake_version, \
         (SELECT value FROM {meta} WHERE key = 'layout_version') AS layout_version, \
         (SELECT count(*) FROM {snapshot}) AS snapshots, s.snapshot_id, s.snapshot_time \
         FROM {snapshot} s ORDER BY s.snapshot_id DESC LIMIT 1",
        data_path = setting("data_path"),
        version = setting("version"),
        meta = native("ducktide_meta"),
    )
}

/// Returns the query for the size of each table. The casts are for PostgreSQL, whose sums are `numeric`
/// and would have decimal places.
fn table_sizes_sql(session: &Session) -> String {
    let native = |name: &str| session.native_table(name);
    format!(
        "SELECT s.schema_name, t.table_name, \
         CAST(coalesce(sum(f.record_count), 0) - coalesce(sum(d.deleted), 0) AS BIGINT) AS live_rows, \
         count(f.data_file_id) AS files, \
         CAST(coalesce(sum(f.file_size_bytes), 0) AS BIGINT) AS bytes \
         FROM {tables} t JOIN {schemas} s ON s.schema_id = t.schema_id \
         LEFT JOIN {files} f ON f.table_id = t.table_id AND f.end_snapshot IS NULL \
         LEFT JOIN (SELECT data_file_id, sum(delete_count) AS deleted FROM {deletes} \
           WHERE end_snapshot IS NULL GROUP BY data_file_id) d ON d.data_file_id = f.data_file_id \
         WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL \
         GROUP BY s.schema_name, t.table_name ORDER BY s.schema_name, t.table_name",
        tables = native("ducklake_table"),
        schemas = native("ducklake_schema"),
        files = native("ducklake_data_file"),
        deletes = native("ducklake_delete_file"),
    )
}
