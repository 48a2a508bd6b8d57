//! The files that are merged, as the catalog and their footers describe them.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use ducktide_lake::catalog::{parse, relative_flag};
use ducktide_lake::data_path::resolve;
use ducktide_lake::session::Session;
use ducktide_protocol::error::Result;
use parquet::basic::Compression;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};

use super::Unsuited;
use super::shape::{NameMapping, Shape};
use crate::list;

/// A row of `ducklake_data_file`.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: i64,
    pub(super) begin_snapshot: i64,
    /// The newest snapshot that rows of it came with.
    pub(super) newest_snapshot: i64,
    pub(super) path: String,
    pub(super) path_is_relative: bool,
    pub(super) rows: i64,
    pub(super) bytes: u64,
    pub(super) first_row_id: Option<i64>,
    pub(super) partition_id: Option<i64>,
    pub(super) mapping_id: Option<i64>,
    is_parquet: bool,
    is_encrypted: bool,
}

impl Entry {
    /// Where the file of a table with this directory is.
    pub(super) fn full_path(&self, directory: &Path) -> PathBuf {
        resolve(directory, Some(self.path.clone()), self.path_is_relative)
    }
}

/// Those of the files that are live, in the order in which DuckLake merges them.
pub(super) fn entries(session: &Session, ids: &[i64]) -> Result<Vec<Entry>> {
    let sql = format!(
        "SELECT data_file_id, begin_snapshot, coalesce(partial_max, begin_snapshot) AS newest, path, \
         {} AS relative, record_count, file_size_bytes, \
         row_id_start, partition_id, mapping_id, \
         CASE WHEN lower(file_format) = 'parquet' THEN 1 ELSE 0 END AS is_parquet, \
         CASE WHEN encryption_key IS NULL THEN 0 ELSE 1 END AS is_encrypted \
         FROM {} f WHERE end_snapshot IS NULL AND data_file_id IN ({}) \
         ORDER BY begin_snapshot, row_id_start, data_file_id",
        relative_flag("f"),
        session.native_table("ducklake_data_file"),
        list(ids)
    );
    session.catalog_rows(&sql)?.into_iter().map(entry).collect()
}

fn entry(row: Vec<Option<String>>) -> Result<Entry> {
    let mut values = row.into_iter();
    let mut next = || values.next().flatten();
    Ok(Entry {
        id: parse(next())?,
        begin_snapshot: parse(next())?,
        newest_snapshot: parse(next())?,
        path: next().unwrap_or_default(),
        path_is_relative: next().as_deref() == Some("1"),
        rows: parse(next())?,
        bytes: parse(next())?,
        first_row_id: next().map(|id| parse(Some(id))).transpose()?,
        partition_id: next().map(|id| parse(Some(id))).transpose()?,
        mapping_id: next().map(|id| parse(Some(id))).transpose()?,
        is_parquet: next().as_deref() == Some("1"),
        is_encrypted: next().as_deref() != Some("0"),
    })
}

/// The names in files without field ids, by the mapping's number.
pub(super) fn name_mappings(
    session: &Session,
    entries: &[Entry],
) -> Result<HashMap<i64, NameMapping>> {
    let mut ids: Vec<i64> = entries.iter().filter_map(|entry| entry.mapping_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut found: HashMap<i64, NameMapping> = HashMap::new();
    if ids.is_empty() {
        return Ok(found);
    }
    let sql = format!(
        "SELECT mapping_id, column_id, source_name, target_field_id, parent_column FROM {} \
         WHERE mapping_id IN ({})",
        session.native_table("ducklake_name_mapping"),
        list(&ids)
    );
    for row in session.catalog_rows(&sql)? {
        let mut values = row.into_iter();
        let mut next = || values.next().flatten();
        let mapping = found.entry(parse(next())?).or_default();
        let (column, name) = (parse(next())?, next().unwrap_or_default());
        let parent = |text: Option<String>| text.map(|id| parse(Some(id))).transpose();
        mapping.add(column, name, parse(next())?, parent(next())?);
    }
    Ok(found)
}

/// A file to be merged.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) snapshot: i64,
    pub(super) first_row_id: Option<i64>,
    pub(super) metadata: ParquetMetaData,
    /// Where the columns of the merged file are in this one, DuckLake's snapshot ids and row ids the last
    /// two of them; None for these if they follow from the catalog, and for others if they are NULL.
    pub(super) places: Vec<Option<usize>>,
}

/// A file whose columns are not compared with those of others yet.
#[derive(Debug)]
pub(super) struct Candidate {
    path: PathBuf,
    snapshot: i64,
    first_row_id: Option<i64>,
    metadata: ParquetMetaData,
    pub(super) shape: Shape,
}

impl Candidate {
    /// Reads the footer.
    pub(super) fn read(
        entry: &Entry,
        directory: &Path,
        names: Option<&NameMapping>,
    ) -> Result<Self, Unsuited> {
        if !entry.is_parquet || entry.is_encrypted {
            return Err(Unsuited("a file is encrypted or not Parquet"));
        }
        let path = entry.full_path(directory);
        // DuckDB says better what is wrong with a file that cannot be read.
        let unreadable = Unsuited("a file cannot be read");
        let file = File::open(&path).map_err(|_| unreadable)?;
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&file);
        let metadata = metadata.map_err(|_| unreadable)?;
        check(&metadata, entry)?;
        let shape = Shape::new(metadata.file_metadata().schema_descr(), names)?;
        if shape.row_id.is_none() && entry.first_row_id.is_none() {
            return Err(Unsuited("a file has no row ids"));
        }
        let snapshot = entry.begin_snapshot;
        if shape.snapshot_id.is_none() && entry.newest_snapshot != snapshot {
            return Err(Unsuited("a file's rows do not tell their snapshots"));
        }
        Ok(Self { path, snapshot, first_row_id: entry.first_row_id, metadata, shape })
    }

    /// The file as a part of one with the columns of `model`.
    pub(super) fn for_columns_of(&self, model: &Shape) -> Result<Source, Unsuited> {
        let leaves = self.shape.places_of(model)?.into_iter();
        let places = leaves.chain([self.shape.snapshot_id, self.shape.row_id]).collect();
        let (path, metadata) = (self.path.clone(), self.metadata.clone());
        let (snapshot, first_row_id) = (self.snapshot, self.first_row_id);
        Ok(Source { path, snapshot, first_row_id, metadata, places })
    }
}

/// The first row id of files whose row ids are numbers without a gap: those need no column.
pub(super) fn row_ids_without_a_gap(sources: &[Source]) -> Option<i64> {
    let first = sources.first()?.first_row_id?;
    let end = sources.iter().try_fold(first, |next, source| {
        let is_next = source.first_row_id == Some(next) && source.places.last() == Some(&None);
        is_next.then(|| next + source.metadata.file_metadata().num_rows())
    });
    end.map(|_| first)
}

fn check(metadata: &ParquetMetaData, entry: &Entry) -> Result<(), Unsuited> {
    let footer = metadata.file_metadata();
    if footer.num_rows() != entry.rows {
        return Err(Unsuited("a file has other rows than the catalog says"));
    }
    if footer.key_value_metadata().is_some_and(|values| !values.is_empty()) {
        return Err(Unsuited("a file has metadata of its writer's own"));
    }
    let is_zstd = |compression| matches!(compression, Compression::ZSTD(_));
    let mut chunks = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    if chunks.any(|chunk| !is_zstd(chunk.compression()) || chunk.file_path().is_some()) {
        return Err(Unsuited("a file is not compressed as workers do it"));
    }
    Ok(())
}
