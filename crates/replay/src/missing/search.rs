//! Finds missing files, and what the catalog's statistics say of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ducktide_lake::catalog::{self, parse, relative_flag};
use ducktide_lake::data_path::{DataPath, resolve};
use ducktide_lake::session::{Session, quote};
use ducktide_protocol::Source;
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::Offset;
use ducktide_protocol::table::{KAFKA_OFFSET, KAFKA_TIMESTAMP, TableName};

use crate::files::Target;

/// A live data file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MissingFile {
    pub(super) id: i64,
    pub(super) table_id: i64,
    path: PathBuf,
    pub(super) rows: u64,
}

/// What the catalog's statistics say of a file's positions in Kafka, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) partitions: (i32, i32),
    pub(super) first_offset: i64,
}

/// The live data files of a table that cannot be read: they or their delete files are not there, or have
/// another size. Files in an object store are not looked at.
pub(super) fn missing_files(session: &Session, target: &Target) -> Result<Vec<MissingFile>> {
    let sql = format!(
        "SELECT f.data_file_id, f.table_id, f.record_count - coalesce(d.delete_count, 0) AS live_rows, \
         s.path AS schema_path, {} AS schema_relative, t.path AS table_path, {} AS table_relative, \
         f.path AS file_path, {} AS file_relative, f.file_size_bytes AS file_bytes, \
         d.path AS delete_path, {} AS delete_relative, d.file_size_bytes AS delete_bytes \
         FROM {} f JOIN {} t ON t.table_id = f.table_id AND t.end_snapshot IS NULL \
         JOIN {} s ON s.schema_id = t.schema_id AND s.end_snapshot IS NULL \
         LEFT JOIN {} d ON d.data_file_id = f.data_file_id AND d.end_snapshot IS NULL \
         WHERE f.end_snapshot IS NULL AND s.schema_name = {} AND t.table_name = {}",
        relative_flag("s"),
        relative_flag("t"),
        relative_flag("f"),
        relative_flag("d"),
        session.native_table("ducklake_data_file"),
        session.native_table("ducklake_table"),
        session.native_table("ducklake_schema"),
        session.native_table("ducklake_delete_file"),
        quote(&target.table.schema),
        quote(&target.table.table),
    );
    let root = DataPath::read(session)?;
    let rows = session.catalog_rows(&sql)?.into_iter();
    rows.filter_map(|row| missing_file(root.root(), &row).transpose()).collect()
}

/// The file of one row of the catalog, if it cannot be read.
fn missing_file(root: &Path, row: &[Option<String>]) -> Result<Option<MissingFile>> {
    let [id, table_id, rows, paths @ ..] = row else { return Ok(None) };
    let path = |base: &Path, at: usize| {
        resolve(base, paths[at].clone(), paths[at + 1].as_deref() == Some("1"))
    };
    let directory = path(&path(root, 0), 2);
    let (file, delete_file) = (path(&directory, 4), path(&directory, 7));
    let is_missing = has_changed(&file, paths[6].clone())?
        || paths[9].is_some() && has_changed(&delete_file, paths[9].clone())?;
    let rows = u64::try_from(parse::<i64>(rows.clone())?).unwrap_or(0);
    let (id, table_id) = (parse(id.clone())?, parse(table_id.clone())?);
    Ok(is_missing.then_some(MissingFile { id, table_id, path: file, rows }))
}

/// Whether a file is not there, or has another size than was registered.
fn has_changed(path: &Path, bytes: Option<String>) -> Result<bool> {
    if path.to_string_lossy().contains("://") {
        return Ok(false);
    }
    let bytes: u64 = parse(bytes)?;
    match fs::metadata(path) {
        Ok(found) => Ok(found.len() != bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => {
            Err(LakeError::of_io(format!("look at a data file: path=`{}`", path.display()), error))
        }
    }
}

/// The partitions and offsets that a file holds. Refuses files whose rows no replay of the source can
/// bring back, or may not be able to.
pub(super) fn span(
    session: &Session,
    source: &Source,
    target: &Target,
    file: &MissingFile,
) -> Result<Span> {
    let refused = |why: &str| {
        LakeError::invalid(format!(
            "a data file is missing, and a replay cannot take its place, because {why}; bring the file \
             back from a backup, or fill another table with --into: table=`{}` path=`{}` rows=`{}`",
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
    let number = |text: &str| text.parse().map_err(|_| refused("its statistics are no numbers"));
    let partition = |text: &str| text.parse().map_err(|_| refused("its statistics are no numbers"));
    Ok(Span {
        partitions: (partition(&partitions.min)?, partition(&partitions.max)?),
        first_offset: number(&offsets.min)?,
    })
}

/// What the catalog says of one column of a file.
struct ColumnStatistics {
    name: String,
    min: String,
    max: String,
    /// Whether it may have NULLs.
    has_nulls: bool,
}

/// The statistics of a file's columns for positions in Kafka, as far as there are any.
fn statistics(
    session: &Session,
    target: &Target,
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
    let known = |row: Vec<Option<String>>| {
        let [name, min, max, nulls] = <[_; 4]>::try_from(row).ok()?;
        let has_nulls = nulls.as_deref() != Some("0");
        Some(ColumnStatistics { name: name?, min: min?, max: max?, has_nulls })
    };
    Ok(session.catalog_rows(&sql)?.into_iter().filter_map(known).collect())
}

/// A query for a time, milliseconds since 1970, that is not later than that of any row at or behind an
/// offset, whatever its partition, by the files' statistics.
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
