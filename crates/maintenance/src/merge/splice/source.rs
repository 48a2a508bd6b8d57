//! The files that are merged, as the catalog and their footers describe them.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use ducktide_lake::data_path::resolve;
use ducktide_lake::rows::{DataFileRow, NameMappingRow};
use ducktide_lake::session::Session;
use ducktide_protocol::error::Result;
use ducktide_protocol::position::SnapshotId;
use parquet::basic::Compression;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};

use super::Unsuited;
use super::shape::{NameMapping, Shape};
use crate::list;

/// Returns the path of a file of the table with a directory.
pub(super) fn full_path(file: &DataFileRow, directory: &Path) -> PathBuf {
    resolve(directory, Some(file.path.clone()), file.path_is_relative)
}

/// Returns the newest snapshot of the rows in a file.
pub(super) fn newest_snapshot(file: &DataFileRow) -> SnapshotId {
    file.partial_max.unwrap_or(file.begin_snapshot)
}

/// Reads the files that are live, in the order in which DuckLake merges them.
pub(super) fn live_files(session: &Session, ids: &[i64]) -> Result<Vec<DataFileRow>> {
    session.select(&format!(
        "WHERE end_snapshot IS NULL AND data_file_id IN ({}) \
         ORDER BY begin_snapshot, row_id_start, data_file_id",
        list(ids)
    ))
}

/// The names in files without field ids, by the mapping's number.
pub(super) fn name_mappings(
    session: &Session,
    files: &[DataFileRow],
) -> Result<HashMap<i64, NameMapping>> {
    let mut ids: Vec<i64> = files.iter().filter_map(|file| file.mapping_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut found: HashMap<i64, NameMapping> = HashMap::new();
    if ids.is_empty() {
        return Ok(found);
    }
    for row in session.select::<NameMappingRow>(&format!("WHERE mapping_id IN ({})", list(&ids)))? {
        // Parquet has no greater field IDs; a column without a name is left to DuckLake.
        let Ok(field_id) = i32::try_from(row.target_field_id) else { continue };
        let mapping = found.entry(row.mapping_id).or_default();
        mapping.add(row.column_id, row.source_name, field_id, row.parent_column);
    }
    Ok(found)
}

/// A file to be merged.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) snapshot: SnapshotId,
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
    snapshot: SnapshotId,
    first_row_id: Option<i64>,
    metadata: ParquetMetaData,
    pub(super) shape: Shape,
}

impl Candidate {
    /// Reads the footer.
    pub(super) fn read(
        row: &DataFileRow,
        directory: &Path,
        names: Option<&NameMapping>,
    ) -> Result<Self, Unsuited> {
        let is_parquet = |format: &String| format.eq_ignore_ascii_case("parquet");
        if !row.file_format.as_ref().is_some_and(is_parquet) || row.encryption_key.is_some() {
            return Err(Unsuited("a file is encrypted or not Parquet"));
        }
        let path = full_path(row, directory);
        // DuckDB says better what is wrong with a file that cannot be read.
        let unreadable = Unsuited("a file cannot be read");
        let file = File::open(&path).map_err(|_| unreadable)?;
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&file);
        let metadata = metadata.map_err(|_| unreadable)?;
        check(&metadata, row)?;
        let shape = Shape::new(metadata.file_metadata().schema_descr(), names)?;
        if shape.row_id.is_none() && row.row_id_start.is_none() {
            return Err(Unsuited("a file has no row ids"));
        }
        let snapshot = row.begin_snapshot;
        if shape.snapshot_id.is_none() && newest_snapshot(row) != snapshot {
            return Err(Unsuited("a file's rows do not tell their snapshots"));
        }
        Ok(Self { path, snapshot, first_row_id: row.row_id_start, metadata, shape })
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

fn check(metadata: &ParquetMetaData, row: &DataFileRow) -> Result<(), Unsuited> {
    let footer = metadata.file_metadata();
    if footer.num_rows() != row.record_count {
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
