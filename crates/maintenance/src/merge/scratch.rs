//! Has DuckLake merge files in a throw-away catalog that knows nothing but them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
use super::lost_rows;
use super::merged_files::{MergeTarget, MergedFiles, ReplacedFileRow};

/// The name under which the throw-away catalog is attached.
const SCRATCH: &str = "scratch";

/// What the names of the scratch catalogs' folders begin with.
const FOLDER: &str = "ducktide-merge-";

/// How old a folder is that no merge uses any more: one takes seconds, or minutes on a slow disk.
const LEFT_AFTER: Duration = Duration::from_hours(6);

/// Above every file: the scratch catalog's target size, so that each group becomes one file.
const ANY_SIZE: u64 = 1 << 50;

/// What describes a table, whatever its files are.
const OF_TABLE: [&str; 9] = [
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

/// The scratch catalog, while it is attached.
struct Scratch<'a> {
    session: &'a Session,
    folder: PathBuf,
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        // After an error the transaction may be open still, and nothing can be detached inside it.
        let _ = self.session.execute("ROLLBACK");
        let _ = self.session.execute(&format!("DETACH {SCRATCH}"));
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Merges the files, each group of them into one, and makes the results durable. No catalog but the
/// scratch one knows of them afterwards.
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
    let scratch = Scratch::make(session)?;
    scratch.fill(target, &ids).map_err(failed("copy the files' catalog entries"))?;
    scratch.join_versions(target)?;
    scratch.attach_again(&target.data_path)?;
    let call = format!(
        "CALL ducklake_merge_adjacent_files('{SCRATCH}', {}, schema => {}, max_file_size => {ANY_SIZE})",
        quote(&table.table),
        quote(&table.schema)
    );
    session.execute(&format!("BEGIN; {call}; COMMIT")).map_err(failed("merge files"))?;
    let after = scratch.check(&before, sources)?;
    let bytes = (before.bytes, after.bytes);
    let merged = scratch.read(target, sources, bytes)?;
    let paths = scratch.written(table).map_err(failed("list what was merged"))?;
    storage::sync_files(paths.iter().map(PathBuf::as_path))
        .map_err(|error| LakeError::of_io("make the merged files durable", error))?;
    Ok(merged)
}

impl<'a> Scratch<'a> {
    /// Makes an empty catalog in a temporary folder.
    fn make(session: &'a Session) -> Result<Self> {
        let temporary = std::env::temp_dir();
        remove_leftovers(&temporary);
        let folder = temporary.join(format!("{FOLDER}{}", Uuid::now_v7()));
        let made = fs::create_dir_all(&folder);
        made.map_err(|error| {
            LakeError::unavailable(format!(
                "make a temporary folder; TMPDIR names another place: path=`{}`",
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
        session.execute(&sql).map_err(failed("make a scratch catalog"))?;
        Ok(scratch)
    }

    fn target(&self) -> String {
        format!("ducklake:{}", self.folder.join("catalog.ducklake").display())
    }

    /// Copies what describes the table and the files, and the lake's settings.
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
        OF_TABLE.iter().try_for_each(|name| self.copy(name, &of_table))?;
        self.copy("ducklake_name_mapping", &mappings)?;
        self.copy("ducklake_data_file", &files)?;
        self.copy("ducklake_file_partition_value", &files)?;
        self.session.execute("COMMIT")
    }

    /// Has DuckLake take the versions since the last break for one that had all columns from its
    /// beginning: it merges no files of different versions. Rows of files that lack a column have NULL
    /// there, as for a reader.
    ///
    /// The break is that of the columns that were copied: one that is dropped meanwhile must not be
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

    /// The names of a scratch table's columns: rows are copied by name, never by position.
    fn columns(&self, name: &str) -> duckdb::Result<String> {
        let table = scratch_table(name);
        let rows =
            self.session.rows(&format!("SELECT column_name FROM (DESCRIBE FROM {table})"))?;
        let names = rows.into_iter().flatten().flatten().map(|name| quote_identifier(&name));
        Ok(names.collect::<Vec<_>>().join(", "))
    }

    /// DuckLake reads schema and settings when it attaches.
    fn attach_again(&self, data_path: &str) -> Result<()> {
        // Without version 2, numbers are written as they are: a file can become twenty times as large as
        // those of workers.
        let sql = format!(
            "DETACH {SCRATCH}; ATTACH {} AS {SCRATCH} (DATA_PATH {}); \
             SET ducklake_target_file_size = '{ANY_SIZE} bytes'; \
             CALL {SCRATCH}.set_option('parquet_version', '2')",
            quote(&self.target()),
            quote(data_path)
        );
        self.session.execute(&sql).map_err(failed("attach the scratch catalog"))
    }

    /// Every source must have gone into a file, with all its rows: if not, nothing may change.
    fn check(&self, before: &FileSums, sources: &[i64]) -> Result<FileSums> {
        let files = scratch_table("ducklake_data_file");
        let unmerged =
            format!("SELECT count(*) FROM {files} WHERE data_file_id IN ({})", list(sources));
        let left = self.session.query(&unmerged).map_err(failed("count the unmerged files"))?;
        let left: u64 = left.first().map_or(Ok(0), Row::first)?;
        let after: FileSums = first(self.query(&sums_sql(&files), "count the merged rows")?)?;
        if left > 0 || before.files != sources.len() as u64 {
            return Err(LakeError::unavailable(format!(
                "some of the files cannot be merged, or are gone: files=`{}` unmerged=`{left}` found=`{}`",
                sources.len(),
                before.files
            )));
        }
        lost_rows(before.all_rows, after.all_rows)?;
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

    /// The files that were written, by their whole paths.
    fn written(&self, table: &TableName) -> duckdb::Result<Vec<PathBuf>> {
        let sql = format!(
            "SELECT data_file FROM ducklake_list_files('{SCRATCH}', {}, schema => {})",
            quote(&table.table),
            quote(&table.schema)
        );
        // DuckLake's functions must run in the transaction that they were prepared in.
        self.session.execute("BEGIN")?;
        let rows = self.session.rows(&sql)?;
        self.session.execute("COMMIT")?;
        Ok(rows.into_iter().flatten().flatten().map(PathBuf::from).collect())
    }
}

/// Removes the folders of merges that were killed: a few hundred kilobytes each. What cannot be removed
/// is somebody else's, or will be there next time.
fn remove_leftovers(temporary: &Path) {
    let is_left = |entry: &fs::DirEntry| {
        let age = entry.metadata().and_then(|found| found.modified()).ok()?.elapsed().ok()?;
        let named = entry.file_name().to_string_lossy().starts_with(FOLDER);
        Some(named && age > LEFT_AFTER)
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
