//! Merges by DuckLake itself, in a temporary catalog that has nothing but the files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ducktide_lake::CatalogClient as _;
use ducktide_lake::catalog::shape_break::{ShapeBreaks, ShapeChange};
use ducktide_lake::rows::{
    CatalogTable, DataFileRow, FileColumnStatsRow, FilePartitionValueRow, FromRow, Row,
};
use ducktide_lake::session::{Session, quote};
use ducktide_lake::storage;
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::table::{TableName, quote_identifier};
use uuid::Uuid;

use super::super::{failed, list};
use super::files::check_row_count;
use super::merged_files::{MergeTarget, MergedFiles, ReplacedFileRow};

/// Name under which the scratch catalog is attached.
const SCRATCH: &str = "scratch";

/// Prefix of the names of the scratch catalogs' folders.
const FOLDER: &str = "ducktide-merge-";

/// Age of a folder after which no merge uses it any more: a merge takes seconds, or minutes on a slow disk.
const UNUSED_AFTER: Duration = Duration::from_hours(6);

/// Target size of the scratch catalog, above that of every file, so that each group becomes one file.
const ANY_SIZE: u64 = 1 << 50;

/// Catalog tables that describe a table, not its files.
const TABLE_METADATA: [&str; 9] = [
    "ducklake_table",
    "ducklake_column",
    "ducklake_partition_info",
    "ducklake_partition_column",
    "ducklake_schema_versions",
    "ducklake_column_mapping",
    "ducklake_table_stats",
    "ducklake_sort_info",
    "ducklake_sort_expression",
];

/// An attached scratch catalog; detached and removed when it is dropped.
struct ScratchCatalog<'a> {
    session: &'a Session,
    folder: PathBuf,
}

impl Drop for ScratchCatalog<'_> {
    fn drop(&mut self) {
        // After an error the transaction may still be open, and nothing can be detached inside it.
        let _ = self.session.execute("ROLLBACK");
        let _ = self.session.execute(&format!("DETACH {SCRATCH}"));
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Merges the files, each group into one, and makes the results durable. They are not in the real catalog
/// yet.
pub(super) fn merge(
    session: &Session,
    table: &TableName,
    target: &MergeTarget,
    sources: &[i64],
) -> Result<MergedFiles> {
    let ids = list(sources);
    let files = session.native_table("ducklake_data_file");
    let of_table = format!(" WHERE table_id = {} AND data_file_id IN ({ids})", target.table_id);
    let before = first(session.catalog_query(&(sums_sql(&files) + &of_table))?)?;
    let scratch = ScratchCatalog::create(session)?;
    scratch.fill(target, &ids).map_err(failed("copy the files' catalog entries"))?;
    scratch.join_versions(target)?;
    scratch.reattach(&target.data_path)?;
    let call = format!(
        "CALL ducklake_merge_adjacent_files('{SCRATCH}', {}, schema => {}, max_file_size => {ANY_SIZE})",
        quote(&table.table),
        quote(&table.schema)
    );
    session.execute(&format!("BEGIN; {call}; COMMIT")).map_err(failed("merge files"))?;
    let after = scratch.check(&before, sources)?;
    let bytes = (before.bytes, after.bytes);
    let merged = scratch.read(target, sources, bytes)?;
    let paths = scratch.written(table).map_err(failed("list the merged files"))?;
    storage::sync_files(paths.iter().map(PathBuf::as_path))
        .map_err(|error| LakeError::of_io("make the merged files durable", error))?;
    Ok(merged)
}

impl<'a> ScratchCatalog<'a> {
    /// Creates an empty catalog in a temporary folder.
    fn create(session: &'a Session) -> Result<Self> {
        let temporary = std::env::temp_dir();
        remove_leftovers(&temporary);
        let folder = temporary.join(format!("{FOLDER}{}", Uuid::now_v7()));
        let created = fs::create_dir_all(&folder);
        created.map_err(|error| {
            LakeError::unavailable(format!(
                "create a temporary folder; set TMPDIR to use another one: path=`{}`",
                folder.display()
            ))
            .because(error)
        })?;
        let scratch = Self { session, folder };
        let sql = format!(
            "ATTACH {} AS {SCRATCH} (DATA_PATH {})",
            quote(&scratch.target()),
            quote(&format!("{}/", scratch.folder.display()))
        );
        session.execute(&sql).map_err(failed("create a scratch catalog"))?;
        Ok(scratch)
    }

    fn target(&self) -> String {
        format!("ducklake:{}", self.folder.join("catalog.ducklake").display())
    }

    /// Copies the rows that describe the table and the files, and the lake's settings.
    fn fill(&self, target: &MergeTarget, ids: &str) -> duckdb::Result<()> {
        let of_table = format!("table_id = {}", target.table_id);
        let files = format!("data_file_id IN ({ids})");
        let mappings = format!(
            "mapping_id IN (SELECT mapping_id FROM {} WHERE {files})",
            self.session.native_table("ducklake_data_file")
        );
        let newest = format!(
            "snapshot_id = (SELECT max(snapshot_id) FROM {})",
            self.session.native_table("ducklake_snapshot")
        );
        self.session.execute("BEGIN")?;
        for name in ["ducklake_snapshot_changes", "ducklake_metadata", "ducklake_schema"] {
            self.empty(name)?;
        }
        self.copy("ducklake_metadata", "true")?;
        self.copy("ducklake_schema", "true")?;
        self.empty("ducklake_snapshot")?;
        self.copy("ducklake_snapshot", &newest)?;
        TABLE_METADATA.iter().try_for_each(|name| self.copy(name, &of_table))?;
        self.copy("ducklake_name_mapping", &mappings)?;
        self.copy("ducklake_data_file", &files)?;
        self.copy("ducklake_file_partition_value", &files)?;
        self.session.execute("COMMIT")
    }

    /// Joins the versions since the last break into one that had all columns from its start, because
    /// DuckLake does not merge files of different versions. Rows of files that lack a column have NULL
    /// there, as for a reader.
    ///
    /// The break is computed from the copied columns: a column that is dropped meanwhile must not be
    /// missing in a file that older snapshots read.
    fn join_versions(&self, target: &MergeTarget) -> Result<()> {
        let (columns, versions) =
            (scratch_table("ducklake_column"), scratch_table("ducklake_schema_versions"));
        let breaks: Vec<ShapeChange> =
            self.query(&ShapeBreaks::sql(&columns), "read the table's columns")?;
        let since = format!(
            "(SELECT greatest({}, min(begin_snapshot)) FROM {versions})",
            breaks.into_iter().collect::<ShapeBreaks>().of(target.table_id)
        );
        self.session
            .execute(&format!(
                "BEGIN; UPDATE {columns} SET begin_snapshot = {since} WHERE begin_snapshot > {since}; \
                 DELETE FROM {versions} WHERE begin_snapshot > {since}; COMMIT"
            ))
            .map_err(failed("join the versions of the table"))
    }

    fn empty(&self, name: &str) -> duckdb::Result<()> {
        self.session.execute(&format!("DELETE FROM {}", scratch_table(name)))
    }

    fn copy(&self, name: &str, filter: &str) -> duckdb::Result<()> {
        let columns = self.columns(name)?;
        let select =
            format!("SELECT {columns} FROM {} WHERE {filter}", self.session.native_table(name));
        let source = self.session.native_source(&select);
        self.session.execute(&format!(
            "INSERT INTO {}({columns}) SELECT {columns} FROM {source}",
            scratch_table(name)
        ))
    }

    /// Returns the names of a scratch table's columns: rows are copied by name, never by position.
    fn columns(&self, name: &str) -> duckdb::Result<String> {
        let table = scratch_table(name);
        let names =
            self.session.texts(&format!("SELECT column_name FROM (DESCRIBE FROM {table})"))?;
        let names = names.iter().map(|name| quote_identifier(name));
        Ok(names.collect::<Vec<_>>().join(", "))
    }

    /// Attaches the catalog again: DuckLake reads schema and settings when it attaches.
    fn reattach(&self, data_path: &str) -> Result<()> {
        // Without version 2, numbers are not compressed by their differences: a file can become twenty
        // times as large as those of workers.
        let sql = format!(
            "DETACH {SCRATCH}; ATTACH {} AS {SCRATCH} (DATA_PATH {}); \
             SET ducklake_target_file_size = '{ANY_SIZE} bytes'; \
             CALL {SCRATCH}.set_option('parquet_version', '2')",
            quote(&self.target()),
            quote(data_path)
        );
        self.session.execute(&sql).map_err(failed("attach the scratch catalog"))
    }

    /// Checks that every source was merged with all its rows: otherwise nothing may change.
    fn check(&self, before: &FileSums, sources: &[i64]) -> Result<FileSums> {
        let files = scratch_table("ducklake_data_file");
        let unmerged =
            format!("SELECT count(*) FROM {files} WHERE data_file_id IN ({})", list(sources));
        let left = self.session.query(&unmerged).map_err(failed("count the unmerged files"))?;
        let left: u64 = left.first().map_or(Ok(0), Row::first)?;
        let after: FileSums = first(self.query(&sums_sql(&files), "count the merged rows")?)?;
        if left > 0 || before.files != sources.len() as u64 {
            return Err(LakeError::unavailable(format!(
                "some of the files cannot be merged, or are missing: files=`{}` unmerged=`{left}` found=`{}`",
                sources.len(),
                before.files
            )));
        }
        check_row_count(before.all_rows, after.all_rows)?;
        Ok(after)
    }

    fn read(
        &self,
        target: &MergeTarget,
        sources: &[i64],
        (bytes_read, bytes_written): (u64, u64),
    ) -> Result<MergedFiles> {
        // Bounds that the sources do not show are not shown for the result: workers omit those of
        // texts, so that payload does not get into the catalog.
        let shown = format!(
            "column_id::VARCHAR IN (SELECT column_id::VARCHAR FROM {})",
            self.session.native_source(&format!(
                "SELECT DISTINCT column_id FROM {} WHERE min_value IS NOT NULL AND data_file_id IN ({})",
                self.session.native_table(FileColumnStatsRow::TABLE),
                list(sources)
            ))
        );
        let bounds = format!(
            "* REPLACE (CASE WHEN {shown} THEN min_value END AS min_value, \
             CASE WHEN {shown} THEN max_value END AS max_value)"
        );
        self.session.execute("BEGIN").map_err(failed("read the merged files"))?;
        let merged = MergedFiles {
            table_id: target.table_id,
            sources: sources.to_vec(),
            bytes_read,
            bytes_written,
            // The oldest gets the row ID of the oldest source; see `swap_files`.
            files: self.select::<DataFileRow>("*", "ORDER BY begin_snapshot")?,
            statistics: self.select::<FileColumnStatsRow>(&bounds, "")?,
            partition_values: self.select::<FilePartitionValueRow>("*", "")?,
            scheduled: self.select::<ReplacedFileRow>("*", "")?,
        };
        self.session.execute("COMMIT").map_err(failed("read the merged files"))?;
        Ok(merged)
    }

    /// Reads rows of a scratch table; `columns` may replace some of them.
    fn select<T: CatalogTable>(&self, columns: &str, rest: &str) -> Result<Vec<T>> {
        let sql = format!(
            "SELECT {} FROM (SELECT {columns} FROM {}) {rest}",
            T::columns(),
            scratch_table(T::TABLE)
        );
        self.query(&sql, "read the merged files")
    }

    fn query<T: FromRow>(&self, sql: &str, operation: &str) -> Result<Vec<T>> {
        let rows = self.session.query(sql).map_err(failed(operation))?;
        rows.iter().map(T::from_row).collect()
    }

    /// Returns the paths of the files that were written.
    fn written(&self, table: &TableName) -> duckdb::Result<Vec<PathBuf>> {
        let sql = format!(
            "SELECT data_file FROM ducklake_list_files('{SCRATCH}', {}, schema => {})",
            quote(&table.table),
            quote(&table.schema)
        );
        // DuckLake's functions must run in the transaction in which they were prepared.
        self.session.execute("BEGIN")?;
        let paths = self.session.texts(&sql)?;
        self.session.execute("COMMIT")?;
        Ok(paths.into_iter().map(PathBuf::from).collect())
    }
}

/// Removes the folders of merges that were killed, a few hundred kilobytes each. A folder that cannot be
/// removed belongs to another user, or is removed next time.
fn remove_leftovers(temporary: &Path) {
    let is_left = |entry: &fs::DirEntry| {
        let age = entry.metadata().and_then(|found| found.modified()).ok()?.elapsed().ok()?;
        let named = entry.file_name().to_string_lossy().starts_with(FOLDER);
        Some(named && age > UNUSED_AFTER)
    };
    let entries = fs::read_dir(temporary).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_left(entry) == Some(true)) {
        let _ = fs::remove_dir_all(entry.path());
    }
}

ducktide_lake::row_struct! {
    /// Sums over data files.
    struct FileSums {
        files: u64,
        all_rows: i64,
        bytes: u64,
    }
}

/// Returns the one row of an aggregate.
fn first<T>(rows: Vec<T>) -> Result<T> {
    rows.into_iter().next().ok_or_else(|| LakeError::unavailable("count the rows of the files"))
}

fn sums_sql(files: &str) -> String {
    format!(
        "SELECT count(*) AS files, CAST(coalesce(sum(record_count), 0) AS BIGINT) AS all_rows, \
         CAST(coalesce(sum(file_size_bytes), 0) AS BIGINT) AS bytes FROM {files}"
    )
}

fn scratch_table(name: &str) -> String {
    format!("__ducklake_metadata_{SCRATCH}.{name}")
}
