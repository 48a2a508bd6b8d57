//! Queries of the catalog. The catalog database counts, so that a hundred thousand files are a few rows.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use ducktide_lake::CatalogClient as _;
use ducktide_lake::catalog::shape_break::ShapeBreaks;
use ducktide_lake::rows::{FromRow, Row};
use ducktide_lake::session::{Session, quote};
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::SnapshotId;
use jiff::Timestamp;
use jiff::civil::Date;

use crate::figures::{FileCount, Thresholds};

/// Existing table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableEntry {
    pub(super) id: i64,
    /// Name with its schema.
    pub(super) name: String,
    pub(super) target_bytes: u64,
    /// Snapshot of the last shape break: earlier files cannot be merged with later ones.
    pub(super) last_break: i64,
    /// Date in its partition key, if any.
    pub(super) day_key: Option<DayKey>,
}

/// Date of a partition key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DayKey {
    /// Current partition key; files of an older one are not partitioned by it.
    pub(super) partition_id: i64,
    /// Index among the key's values.
    pub(super) index: usize,
}

/// Live files of one table that can be merged: same partition values, same schema version. Files of tables
/// without a date in the partition key are also grouped by the days of their commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileGroup {
    pub(super) table_id: i64,
    /// Properties that files must share to be merged, without the days of commits.
    pub(super) merge_key: MergeKey,
    /// Days of the first and the last commit in the files, as far as snapshots exist.
    pub(super) committed: (Option<Date>, Option<Date>),
    pub(super) tiny: FileCount,
    pub(super) small: FileCount,
    pub(super) medium: FileCount,
    pub(super) full: FileCount,
    pub(super) with_deletes: u64,
    /// Tiny and small files without delete files.
    pub(super) candidates: FileCount,
}

/// Partition key, its values, and the first snapshot of the schema version.
pub(super) type MergeKey = (Option<i64>, [Option<String>; 3], Option<i64>);

/// Figures of the whole lake.
pub(super) struct LakeFigures {
    pub(super) snapshots: u64,
    pub(super) oldest: SnapshotId,
    pub(super) oldest_at: Timestamp,
    pub(super) ended: FileCount,
    pub(super) scheduled: u64,
    pub(super) ledger_rows: u64,
    pub(super) expire_older_than: Option<String>,
    pub(super) delete_older_than: Option<String>,
}

/// Reads the existing tables, in the order of their names.
pub(super) fn tables(session: &Session, thresholds: &Thresholds) -> Result<Vec<TableEntry>> {
    let sql = tables_sql(session, thresholds);
    let (keys, breaks) = (day_keys(session)?, ShapeBreaks::read(session)?);
    let tables: Vec<TableEntry> = session.catalog_query(&sql)?;
    let with_key = |table: TableEntry| {
        let (last_break, day_key) = (breaks.of(table.id), keys.get(&table.id).copied());
        TableEntry { last_break, day_key, ..table }
    };
    Ok(tables.into_iter().map(with_key).collect())
}

/// Without shape break and partition key, which other queries read.
impl FromRow for TableEntry {
    fn from_row(row: &Row) -> Result<Self> {
        let (schema, table): (String, String) = (row.get("schema_name")?, row.get("table_name")?);
        Ok(Self {
            id: row.get("table_id")?,
            name: format!("{schema}.{table}"),
            target_bytes: row.get("target")?,
            last_break: 0,
            day_key: None,
        })
    }
}

/// Reads the dates in partition keys, by table; of several in one key, the first.
///
/// A separate query: joined to the others, SQLite 3.38 loses these columns (seen with DuckDB 1.5.5, which
/// contains it).
fn day_keys(session: &Session) -> Result<BTreeMap<i64, DayKey>> {
    let sql = format!(
        "SELECT p.table_id, p.partition_id, min(pc.partition_key_index) AS key_index \
         FROM {keys} p JOIN {key_columns} pc ON pc.partition_id = p.partition_id \
         JOIN {columns} c ON c.table_id = p.table_id AND c.column_id = pc.column_id \
         WHERE p.end_snapshot IS NULL AND c.end_snapshot IS NULL AND pc.transform = 'identity' \
         AND lower(c.column_type) = 'date' AND pc.partition_key_index < 3 \
         GROUP BY p.table_id, p.partition_id",
        keys = session.native_table("ducklake_partition_info"),
        key_columns = session.native_table("ducklake_partition_column"),
        columns = session.native_table("ducklake_column"),
    );
    let rows: Vec<Row> = session.catalog_query(&sql)?;
    let day_key = |row: &Row| {
        let key = DayKey { partition_id: row.get("partition_id")?, index: row.get("key_index")? };
        Ok((row.get("table_id")?, key))
    };
    rows.iter().map(day_key).collect()
}

/// Returns the query for tables and target sizes; an option of the table precedes that of its schema and
/// that of the lake, as in DuckLake.
fn tables_sql(session: &Session, thresholds: &Thresholds) -> String {
    let native = |name: &str| session.native_table(name);
    let option = |scope: &str| {
        format!(
            "(SELECT max(CAST(m.value AS BIGINT)) FROM {} m WHERE m.key = 'target_file_size' AND {scope})",
            native("ducklake_metadata")
        )
    };
    format!(
        "SELECT t.table_id, s.schema_name, t.table_name, \
         coalesce({of_table}, {of_schema}, {of_lake}, {default}) AS target \
         FROM {tables} t JOIN {schemas} s ON s.schema_id = t.schema_id \
         WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL \
         ORDER BY s.schema_name, t.table_name",
        of_table = option("m.scope = 'table' AND m.scope_id = t.table_id"),
        of_schema = option("m.scope = 'schema' AND m.scope_id = t.schema_id"),
        of_lake = option("m.scope IS NULL"),
        default = thresholds.default_target_bytes,
        tables = native("ducklake_table"),
        schemas = native("ducklake_schema"),
    )
}

/// Reads the groups of live files of these tables, unordered.
pub(super) fn groups(
    session: &Session,
    thresholds: &Thresholds,
    tables: &[TableEntry],
) -> Result<Vec<FileGroup>> {
    let sql = groups_sql(session, thresholds, tables);
    session.catalog_query(&sql)
}

/// Returns the query for the groups.
///
/// Files are grouped by their first three partition values. The schema version of a file is the newest of
/// its table that is not newer than the file; versions since the last shape break count as one, as files
/// are merged across them. DuckLake does not merge files with a delete file, current or ended.
///
/// The content of `tables` is part of the query: SQLite would evaluate subqueries again for each file and
/// expression.
fn groups_sql(session: &Session, thresholds: &Thresholds, tables: &[TableEntry]) -> String {
    let native = |name: &str| session.native_table(name);
    format!(
        "WITH file_key AS ( \
           SELECT data_file_id, {k0} AS k0, {k1} AS k1, {k2} AS k2 FROM {values} GROUP BY data_file_id), \
         live_file AS ( \
           SELECT f.table_id, f.partition_id, v.k0, v.k1, v.k2, \
           CASE WHEN f.begin_snapshot >= {last_break} THEN {last_break} ELSE \
             (SELECT max(sv.begin_snapshot) FROM {versions} sv WHERE sv.table_id = f.table_id \
             AND sv.begin_snapshot <= f.begin_snapshot) END AS version, \
           {first_day} AS first_day, {last_day} AS last_day, \
           f.file_size_bytes AS bytes, CASE WHEN d.data_file_id IS NULL THEN 0 ELSE 1 END AS deletes, \
           CASE WHEN f.file_size_bytes >= {target} THEN 3 WHEN f.file_size_bytes < {tiny} THEN 0 \
             WHEN f.file_size_bytes < {small} THEN 1 ELSE 2 END AS class \
           FROM {files} f \
           LEFT JOIN file_key v ON v.data_file_id = f.data_file_id \
           LEFT JOIN (SELECT DISTINCT data_file_id FROM {deletes}) d ON d.data_file_id = f.data_file_id \
           LEFT JOIN {snapshots} b ON b.snapshot_id = f.begin_snapshot \
           LEFT JOIN {snapshots} l ON l.snapshot_id = coalesce(f.partial_max, f.begin_snapshot) \
           WHERE f.end_snapshot IS NULL) \
         SELECT table_id, partition_id, k0, k1, k2, version, first_day, last_day, \
         {classes}, sum(deletes) AS with_deletes, {candidates} FROM live_file \
         GROUP BY table_id, partition_id, k0, k1, k2, version, first_day, last_day",
        k0 = partition_value(0),
        k1 = partition_value(1),
        k2 = partition_value(2),
        values = native("ducklake_file_partition_value"),
        versions = native("ducklake_schema_versions"),
        first_day = day_of_commit(session, tables, "b.snapshot_time"),
        last_day = day_of_commit(session, tables, "l.snapshot_time"),
        last_break = of_table(tables, |table| table.last_break, 0),
        target = of_table(tables, |table| table.target_bytes, thresholds.default_target_bytes),
        tiny = thresholds.tiny_bytes,
        small = thresholds.small_bytes,
        files = native("ducklake_data_file"),
        deletes = native("ducklake_delete_file"),
        snapshots = native("ducklake_snapshot"),
        classes = ["tiny", "small", "medium", "full"]
            .iter()
            .enumerate()
            .map(|(class, name)| counted(&format!("class = {class}"), name))
            .collect::<Vec<_>>()
            .join(", "),
        candidates = counted("class < 2 AND deletes = 0", "candidate"),
    )
}

/// Returns the SQL for a number of a file's table; most tables have the default.
fn of_table<N: Copy + PartialEq + Display>(
    tables: &[TableEntry],
    number: impl Fn(&TableEntry) -> N,
    default: N,
) -> String {
    let others = tables.iter().map(|table| (table.id, number(table)));
    let others = others.filter(|(_, number)| *number != default);
    let cases: Vec<_> = others.map(|(id, number)| format!("WHEN {id} THEN {number}")).collect();
    if cases.is_empty() {
        return default.to_string();
    }
    format!("CASE f.table_id {} ELSE {default} END", cases.join(" "))
}

/// Returns the SQL for the day of a commit, in tables without a date in the partition key.
///
/// Not in the conditions of the joins: SQLite 3.38 then omits rows.
fn day_of_commit(session: &Session, tables: &[TableEntry], time: &str) -> String {
    let with_day = tables.iter().filter(|table| table.day_key.is_some());
    let with_day: Vec<_> = with_day.map(|table| table.id.to_string()).collect();
    let day = session.dialect().utc_day(time);
    if with_day.is_empty() {
        return day;
    }
    format!("CASE WHEN f.table_id NOT IN ({}) THEN {day} END", with_day.join(", "))
}

fn partition_value(index: u32) -> String {
    format!("max(CASE WHEN partition_key_index = {index} THEN partition_value END)")
}

/// Returns the SQL for the number and bytes of files that meet a condition. PostgreSQL's sums of BIGINT
/// are `numeric`, which is printed with decimal places.
fn counted(condition: &str, name: &str) -> String {
    format!(
        "sum(CASE WHEN {condition} THEN 1 ELSE 0 END) AS {name}_files, \
         CAST(sum(CASE WHEN {condition} THEN bytes ELSE 0 END) AS BIGINT) AS {name}_bytes"
    )
}

impl FromRow for FileGroup {
    fn from_row(row: &Row) -> Result<Self> {
        let count = |files, bytes| Ok(FileCount { files: row.get(files)?, bytes: row.get(bytes)? });
        Ok(Self {
            table_id: row.get("table_id")?,
            merge_key: (
                row.get("partition_id")?,
                [row.get("k0")?, row.get("k1")?, row.get("k2")?],
                row.get("version")?,
            ),
            committed: (date(row.get("first_day")?), date(row.get("last_day")?)),
            tiny: count("tiny_files", "tiny_bytes")?,
            small: count("small_files", "small_bytes")?,
            medium: count("medium_files", "medium_bytes")?,
            full: count("full_files", "full_bytes")?,
            with_deletes: row.get("with_deletes")?,
            candidates: count("candidate_files", "candidate_bytes")?,
        })
    }
}

fn date(text: Option<String>) -> Option<Date> {
    text?.parse().ok()
}

/// Reads the figures of the whole lake.
pub(super) fn whole(session: &Session) -> Result<LakeFigures> {
    let rows: Vec<LakeFigures> = session.catalog_query(&whole_sql(session))?;
    rows.into_iter().next().ok_or_else(|| LakeError::unavailable("the catalog has no snapshot"))
}

impl FromRow for LakeFigures {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            snapshots: row.get("snapshots")?,
            oldest: row.get("snapshot_id")?,
            oldest_at: row.get("snapshot_time")?,
            ended: FileCount { files: row.get("ended_files")?, bytes: row.get("ended_bytes")? },
            scheduled: row.get("scheduled")?,
            ledger_rows: row.get("ledger")?,
            expire_older_than: row.get("expire_older_than")?,
            delete_older_than: row.get("delete_older_than")?,
        })
    }
}

fn whole_sql(session: &Session) -> String {
    let native = |name: &str| session.native_table(name);
    let setting = |key: &str| {
        let metadata = native("ducklake_metadata");
        format!("(SELECT max(value) FROM {metadata} WHERE key = '{key}' AND scope IS NULL)")
    };
    format!(
        "SELECT (SELECT count(*) FROM {snapshots}) AS snapshots, s.snapshot_id, s.snapshot_time, \
         (SELECT count(*) FROM {files} WHERE end_snapshot IS NOT NULL) AS ended_files, \
         (SELECT CAST(coalesce(sum(file_size_bytes), 0) AS BIGINT) FROM {files} \
           WHERE end_snapshot IS NOT NULL) AS ended_bytes, \
         (SELECT count(*) FROM {scheduled}) AS scheduled, (SELECT count(*) FROM {ledger}) AS ledger, \
         {expire} AS expire_older_than, {delete} AS delete_older_than \
         FROM {snapshots} s ORDER BY s.snapshot_id LIMIT 1",
        snapshots = native("ducklake_snapshot"),
        files = native("ducklake_data_file"),
        scheduled = native("ducklake_files_scheduled_for_deletion"),
        ledger = native("ducktide_ledger"),
        expire = setting("expire_older_than"),
        delete = setting("delete_older_than"),
    )
}

/// Reads the time since which the first file waits for its removal.
///
/// A SQLite catalog has times as text in more than one format, so `min` may not be the earliest: the times
/// of the first two days are read, and compared as times.
pub(super) fn scheduled_since(session: &Session) -> Result<Option<Timestamp>> {
    let scheduled = session.native_table("ducklake_files_scheduled_for_deletion");
    let day = session.dialect().utc_day("schedule_start");
    let sql = format!(
        "SELECT DISTINCT schedule_start FROM {scheduled} WHERE {day} IN \
         (SELECT DISTINCT {day} AS day FROM {scheduled} WHERE schedule_start IS NOT NULL \
          ORDER BY day LIMIT 2)"
    );
    let times: Vec<Option<Timestamp>> = session.catalog_values(&sql)?;
    Ok(times.into_iter().flatten().min())
}

/// Parses an option of DuckLake that is an interval, such as `7 days`, with DuckDB.
pub(super) fn interval(session: &Session, text: Option<&str>) -> Result<Option<Duration>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let sql = format!("SELECT CAST(epoch(CAST({} AS INTERVAL)) AS BIGINT) AS seconds", quote(text));
    let rows = session.query(&sql).map_err(|error| {
        LakeError::invalid(format!("read an option of the lake as an interval: value=`{text}`"))
            .because(error)
    })?;
    let seconds: Option<i64> = rows.first().map_or(Ok(None), |row| row.get("seconds"))?;
    Ok(seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs))
}
