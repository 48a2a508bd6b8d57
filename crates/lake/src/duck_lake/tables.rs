//! Tables of the lake: creation, columns, directory and partition key.

use std::path::PathBuf;

use ducktide_protocol::error::{LakeError, LakeFault, Result};
use ducktide_protocol::position::SnapshotId;
use ducktide_protocol::table::{EVENT_DATE, TableName, TableShape, diff, quote_identifier};
use ducktide_protocol::{Table, TableVersion};

use super::{DuckLake, columns};
use crate::catalog::client::CatalogClient;
use crate::catalog::{partitioning, vacant_name};
use crate::data_path::Owner;
use crate::duckdb_error;
use crate::session::LAKE;
use crate::sql_text::quote;

/// Maximum number of reads of a table's shape while concurrent ALTERs change it.
const SHAPE_READS: usize = 5;

impl DuckLake {
    /// Returns the current version of a table; None if it does not exist.
    pub fn find_table(&mut self, table: &TableName) -> Result<Option<Table>> {
        let (catalog, owner) = self.catalog_and_owner()?;
        for _ in 0..SHAPE_READS {
            let Some(before) = read_layout(&catalog, table)? else { return Ok(None) };
            let (shape, field_ids) = columns::read(&catalog, table)?;
            let partitioning = partitioning::read(&catalog, table)?;
            if read_layout(&catalog, table)?.is_some_and(|after| after.0 == before.0) {
                let (changed_at, directory) = before;
                let version = TableVersion { table: table.clone(), changed_at };
                let claim = owner.map(Owner::claim);
                if let Some(owner) = owner {
                    owner.data_path().check(&directory)?;
                }
                let found = Table { version, shape, field_ids, directory, partitioning, claim };
                return Ok(Some(found));
            }
        }
        Err(LakeError::unavailable(format!("the table is being altered: table=`{table}`")))
    }

    /// Creates the table if it is missing, and returns it; `date_of` is the column that `event_date` is
    /// the date of. Returns an error with the differences if the wanted shape does not fit the table,
    /// and an error if the table was dropped or renamed after rows were committed to it.
    pub fn ensure_table_by_date(
        &mut self,
        table: &TableName,
        wanted: &TableShape,
        date_of: Option<&str>,
    ) -> Result<Table> {
        if self.find_table(table)?.is_none() {
            let created = self.create_table(table, wanted, date_of);
            // Another worker may have created the table first, even before the check of the name; only
            // the current state counts.
            if let (Err(error), None) = (created, self.find_table(table)?) {
                return Err(error);
            }
        }
        let found = self.find_table(table)?.ok_or_else(|| {
            LakeError::unavailable(format!("the table was dropped concurrently: table=`{table}`"))
        })?;
        let difference = diff(&found.shape, wanted);
        if difference.fits() {
            return Ok(found);
        }
        Err(LakeError::from_fault(LakeFault::TableMismatch { table: table.clone(), difference }))
    }

    fn create_table(
        &mut self,
        table: &TableName,
        wanted: &TableShape,
        date_of: Option<&str>,
    ) -> Result<()> {
        let session = self.session()?;
        vacant_name::check(session, table)?;
        let Err(error) = session.execute(&create_table_sql(table, wanted, date_of)) else {
            return Ok(());
        };
        let _ = session.execute("ROLLBACK");
        self.handle_error(&error.to_string());
        Err(duckdb_error::failed(format!("create the table: table=`{table}`"), error))
    }

    /// Returns the current version of a table's columns; None if the table does not exist.
    pub fn table_version(&mut self, table: &TableName) -> Result<Option<SnapshotId>> {
        Ok(read_layout(&self.catalog()?, table)?.map(|(changed_at, _)| changed_at))
    }

    /// Records which column `event_date` of an existing table is the date of, if nothing is recorded.
    /// A table that was created by an earlier version of Ducktide has no such record.
    pub fn record_date_column(&mut self, table: &TableName, column: &str) -> Result<()> {
        let (session, lock) = self.session_and_lock()?;
        // Workers hold this lock while they commit: their transactions treat the comment as an ALTER.
        let guard = lock.acquire(session)?;
        if partitioning::read(session, table)?.date_of.is_some() {
            return Ok(());
        }
        let recorded = session.execute(&format!(
            "BEGIN; {}; CALL {LAKE}.set_commit_message('ducktide-consumer', 'record the column of \
             event_date'); COMMIT",
            partitioning::record_sql(table, column)
        ));
        if recorded.is_err() {
            let _ = session.execute("ROLLBACK");
        }
        drop(guard);
        recorded.map_err(|error| {
            LakeError::unavailable(format!(
                "record the column that event_date is the date of: table=`{table}` column=`{column}`"
            ))
            .because(error)
        })
    }
}

/// Returns the SQL that creates table and partition key in one transaction: no client sees the table
/// without its key.
fn create_table_sql(table: &TableName, wanted: &TableShape, date_of: Option<&str>) -> String {
    let name = format!("{LAKE}.{}", table.sql());
    let schema = quote_identifier(&table.schema);
    let partitioned = if wanted.is_partitioned() {
        let record = date_of.map(|column| partitioning::record_sql(table, column) + ";");
        let record = record.unwrap_or_default();
        format!("ALTER TABLE {name} SET PARTITIONED BY ({EVENT_DATE}); {record}")
    } else {
        String::new()
    };
    format!(
        "BEGIN; CREATE SCHEMA IF NOT EXISTS {LAKE}.{schema}; CREATE TABLE {name} ({}); {partitioned} COMMIT",
        wanted.sql()
    )
}

crate::row_struct! {
    struct TableLayout {
        changed_at: i64,
        data_path: Option<String>,
        schema_path: Option<String>,
        table_path: Option<String>,
    }
}

/// Returns the snapshot of the table's newest change of columns or partition key, and its directory;
/// None if the table does not exist.
pub fn read_layout(
    catalog: &impl CatalogClient,
    table: &TableName,
) -> Result<Option<(SnapshotId, PathBuf)>> {
    let native = |name: &str| catalog.native_table(name);
    let sql = format!(
        "SELECT (SELECT max(s) FROM ( \
           SELECT begin_snapshot AS s FROM {columns} c WHERE c.table_id = t.table_id \
           UNION ALL SELECT end_snapshot FROM {columns} c WHERE c.table_id = t.table_id \
           UNION ALL SELECT begin_snapshot FROM {keys} p WHERE p.table_id = t.table_id \
           UNION ALL SELECT end_snapshot FROM {keys} p WHERE p.table_id = t.table_id) AS changes) AS changed_at, \
         (SELECT value FROM {metadata} WHERE key = 'data_path' AND scope IS NULL) AS data_path, \
         s.path AS schema_path, t.path AS table_path \
         FROM {tables} t JOIN {schemas} s ON s.schema_id = t.schema_id \
         WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL \
         AND s.schema_name = {schema} AND t.table_name = {table}",
        columns = native("ducklake_column"),
        keys = native("ducklake_partition_info"),
        metadata = native("ducklake_metadata"),
        tables = native("ducklake_table"),
        schemas = native("ducklake_schema"),
        schema = quote(&table.schema),
        table = quote(&table.table),
    );
    let found: Vec<TableLayout> = catalog.catalog_query(&sql)?;
    let Some(found) = found.into_iter().next() else { return Ok(None) };
    // Joining an absolute path replaces the parts before it, as in DuckLake.
    let parts = [found.data_path, found.schema_path, found.table_path];
    Ok(Some((SnapshotId(found.changed_at), parts.into_iter().flatten().collect())))
}
