//! Search for missing files, and their statistics in the catalog.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use ducktide_lake::CatalogClient as _;
use ducktide_lake::catalog;
use ducktide_lake::data_path::{DataPath, resolve};
use ducktide_lake::row_struct;
use ducktide_lake::rows::Row;
use ducktide_lake::session::{Session, quote};
use ducktide_protocol::Source;
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::Offset;
use ducktide_protocol::table::{KAFKA_OFFSET, KAFKA_TIMESTAMP, TableName};

use crate::files::ReplayTarget;

/// A live data file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MissingFile {
    pub(super) id: i64,
    pub(super) table_id: i64,
    path: PathBuf,
    pub(super) rows: u64,
}

/// Kafka partitions and first offset of a file, from the catalog's statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PositionSpan {
    pub(super) partitions: (i32, i32),
    pub(super) first_offset: i64,
}

/// Finds the live data files of a table that cannot be read: they or their delete files are missing or have
/// another size. Files that are not in the storage of the data path are not checked.
pub(super) fn missing_files(session: &Session, target: &ReplayTarget) -> Result<Vec<MissingFile>> {
    let sql = format!(
        "SELECT f.data_file_id, f.table_id, f.record_count - coalesce(d.delete_count, 0) AS live_rows, \
         s.path AS schema_path, s.path_is_relative AS schema_is_relative, \
         t.path AS table_path, t.path_is_relative AS table_is_relative, \
         f.path AS file_path, f.path_is_relative AS file_is_relative, f.file_size_bytes AS file_bytes, \
         d.path AS delete_path, d.path_is_relative AS delete_is_relative, \
         d.file_size_bytes AS delete_bytes \
         FROM {} f JOIN {} t ON t.table_id = f.table_id AND t.end_snapshot IS NULL \
         JOIN {} s ON s.schema_id = t.schema_id AND s.end_snapshot IS NULL \
         LEFT JOIN {} d ON d.data_file_id = f.data_file_id AND d.end_snapshot IS NULL \
         WHERE f.end_snapshot IS NULL AND s.schema_name = {} AND t.table_name = {}",
        session.native_table("ducklake_data_file"),
        session.native_table("ducklake_table"),
        session.native_table("ducklake_schema"),
        session.native_table("ducklake_delete_file"),
        quote(&target.table.schema),
        quote(&target.table.table),
    );
    let root = DataPath::read(session)?;
    let files: Vec<LiveFile> = session.catalog_query(&sql)?;
    let files: Vec<_> = files.into_iter().map(|file| checked_file(root.root(), file)).collect();
    let storage = root.storage()?;
    let registered = files.iter().flat_map(|(_, registered)| registered);
    let registered: Vec<_> = registered.filter(|(path, _)| storage.has(path)).collect();
    let paths: Vec<_> = registered.iter().map(|(path, _)| path.as_path()).collect();
    let sizes = storage.sizes(root.root(), &paths);
    let sizes = sizes.map_err(|error| LakeError::of_io("list the files of the lake", error))?;
    let mut changed = BTreeSet::new();
    for ((path, bytes), size) in registered.into_iter().zip(sizes) {
        if has_changed(path, *bytes, size)? {
            changed.insert(path.as_path());
        }
    }
    let is_missing = |(_, registered): &&(MissingFile, Vec<(PathBuf, u64)>)| {
        registered.iter().any(|(path, _)| changed.contains(path.as_path()))
    };
    Ok(files.iter().filter(is_missing).map(|(file, _)| file.clone()).collect())
}

row_struct! {
    /// A live data file with its delete file, if it has one.
    struct LiveFile {
        data_file_id: i64,
        table_id: i64,
        live_rows: i64,
        schema_path: Option<String>,
        schema_is_relative: Option<bool>,
        table_path: Option<String>,
        table_is_relative: Option<bool>,
        file_path: String,
        file_is_relative: bool,
        file_bytes: u64,
        delete_path: Option<String>,
        delete_is_relative: Option<bool>,
        delete_bytes: Option<u64>,
    }
}

/// Returns a file, with the paths and sizes that are registered for it and its delete file.
fn checked_file(root: &Path, file: LiveFile) -> (MissingFile, Vec<(PathBuf, u64)>) {
    let schema = resolve(root, file.schema_path, file.schema_is_relative.unwrap_or_default());
    let directory = resolve(&schema, file.table_path, file.table_is_relative.unwrap_or_default());
    let path = resolve(&directory, Some(file.file_path), file.file_is_relative);
    let mut registered = vec![(path.clone(), file.file_bytes)];
    if let Some(bytes) = file.delete_bytes {
        let is_relative = file.delete_is_relative.unwrap_or_default();
        registered.push((resolve(&directory, file.delete_path, is_relative), bytes));
    }
    let rows = u64::try_from(file.live_rows).unwrap_or(0);
    let (id, table_id) = (file.data_file_id, file.table_id);
    (MissingFile { id, table_id, path, rows }, registered)
}

/// Returns whether a file is missing, or has another size than was registered.
fn has_changed(
    path: &Path,
    bytes: u64,
    size: std::result::Result<u64, io::ErrorKind>,
) -> Result<bool> {
    match size {
        Ok(found) => Ok(found != bytes),
        Err(io::ErrorKind::NotFound) => Ok(true),
        Err(kind) => Err(LakeError::of_io(
            format!("read the metadata of a data file: path=`{}`", path.display()),
            kind.into(),
        )),
    }
}

/// Returns the partitions and offsets of a file. Refuses files whose rows a replay of the source may not
/// restore.
pub(super) fn span(
    session: &Session,
    source: &Source,
    target: &ReplayTarget,
    file: &MissingFile,
) -> Result<PositionSpan> {
    let refused = |why: &str| {
        LakeError::invalid(format!(
            "a data file is missing, and a replay cannot restore its rows, because {why}; restore the file \
             from a backup, or fill another table with --into: table=`{}` path=`{}` rows=`{}`",
            target.table,
            file.path.display(),
            file.rows
        ))
    };
    let columns = statistics(session, target, file)?;
    let column = |name: &str| columns.iter().find(|column| column.name == name);
    let has_several_topics = {
        let table = source.spec.table.to_string();
        let sources = catalog::sources(session)?;
        sources.iter().filter(|other| other.spec.table.to_string() == table).count() > 1
    };
    if has_several_topics {
        let topic = column(target.topic).map(|column| (&column.min, &column.max));
        if topic != Some((&source.spec.topic, &source.spec.topic)) {
            return Err(refused("it may hold rows of other topics that fill the table"));
        }
    }
    let (Some(partitions), Some(offsets)) = (column(target.partition), column(target.offset))
    else {
        return Err(refused("the catalog does not know which offsets it holds"));
    };
    if partitions.has_nulls || offsets.has_nulls {
        return Err(refused("it holds rows of other clients"));
    }
    let number = |text: &str| text.parse().map_err(|_| refused("its statistics are not numbers"));
    let partition =
        |text: &str| text.parse().map_err(|_| refused("its statistics are not numbers"));
    Ok(PositionSpan {
        partitions: (partition(&partitions.min)?, partition(&partitions.max)?),
        first_offset: number(&offsets.min)?,
    })
}

/// Statistics of one column of a file.
struct ColumnStatistics {
    name: String,
    min: String,
    max: String,
    /// The column may have NULLs.
    has_nulls: bool,
}

/// Reads the statistics of a file's columns for topic, partition and offset, if there are any.
fn statistics(
    session: &Session,
    target: &ReplayTarget,
    file: &MissingFile,
) -> Result<Vec<ColumnStatistics>> {
    let columns = [target.topic, target.partition, target.offset].map(quote).join(", ");
    let sql = format!(
        "SELECT c.column_name, s.min_value, s.max_value, s.null_count FROM {} s \
         JOIN {} c ON c.column_id = s.column_id AND c.table_id = s.table_id AND c.end_snapshot IS NULL \
         WHERE s.data_file_id = {} AND c.parent_column IS NULL AND c.column_name IN ({columns})",
        session.native_table("ducklake_file_column_stats"),
        session.native_table("ducklake_column"),
        file.id,
    );
    let known = |row: Row| -> Result<Option<ColumnStatistics>> {
        let (min, max): (Option<String>, Option<String>) =
            (row.get("min_value")?, row.get("max_value")?);
        let (Some(min), Some(max)) = (min, max) else { return Ok(None) };
        let has_nulls = row.get::<Option<i64>>("null_count")? != Some(0);
        Ok(Some(ColumnStatistics { name: row.get("column_name")?, min, max, has_nulls }))
    };
    session.catalog_query(&sql)?.into_iter().filter_map(|row| known(row).transpose()).collect()
}

/// Returns a query, on the statistics of the files, for a time that is not later than that of any row at or
/// after an offset of any partition, in milliseconds since 1970.
pub(crate) fn least_time_sql(session: &Session, table: &TableName, offset: Offset) -> String {
    let statistics = session.catalog_table("ducklake_file_column_stats");
    let columns = session.catalog_table("ducklake_column");
    let of = |column: &str| {
        format!(
            "SELECT s.data_file_id, s.min_value, s.max_value FROM {statistics} s JOIN {columns} c \
             ON c.column_id = s.column_id AND c.table_id = s.table_id AND c.end_snapshot IS NULL \
             JOIN {} t ON t.table_id = c.table_id AND t.end_snapshot IS NULL \
             JOIN {} n ON n.schema_id = t.schema_id AND n.end_snapshot IS NULL \
             WHERE n.schema_name = {} AND t.table_name = {} AND c.parent_column IS NULL \
             AND c.column_name = {}",
            session.catalog_table("ducklake_table"),
            session.catalog_table("ducklake_schema"),
            quote(&table.schema),
            quote(&table.table),
            quote(column)
        )
    };
    format!(
        "SELECT epoch_ms(min(t.min_value::TIMESTAMPTZ))::VARCHAR FROM {} f \
         JOIN ({}) o ON o.data_file_id = f.data_file_id JOIN ({}) t ON t.data_file_id = f.data_file_id \
         WHERE f.end_snapshot IS NULL AND o.max_value::BIGINT >= {offset}",
        session.catalog_table("ducklake_data_file"),
        of(KAFKA_OFFSET),
        of(KAFKA_TIMESTAMP)
    )
}
