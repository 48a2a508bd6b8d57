//! Source files of a merge, from the catalog and their footers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ducktide_lake::CatalogClient as _;
use ducktide_lake::data_path::resolve;
use ducktide_lake::rows::{DataFileRow, NameMappingRow};
use ducktide_lake::session::Session;
use ducktide_protocol::error::Result;
use ducktide_protocol::position::SnapshotId;
use ducktide_storage::{FileRange, Storage};
use parquet::basic::Compression;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};

use super::chunk::Chunk;
use super::not_spliceable::NotSpliceable;
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

/// Reads the name mappings of files without field IDs, by their IDs.
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
pub(super) struct SpliceSource {
    pub(super) path: PathBuf,
    pub(super) snapshot: SnapshotId,
    pub(super) first_row_id: Option<i64>,
    pub(super) metadata: ParquetMetaData,
    /// Index in this file of each column of the merged file; the last two are DuckLake's snapshot IDs and
    /// row IDs. None for these if they follow from the catalog, and for others if they are NULL.
    pub(super) column_indexes: Vec<Option<usize>>,
}

/// Bytes at the end of a file that are read first: nearly all footers are smaller.
const TAIL: u64 = 64 * 1024;

/// Maximum number of files whose ends are open at once.
const OPEN_FILES: usize = 64;

/// Size of the end of a Parquet file, which has the size of its footer.
const FOOTER_SIZE: u64 = 8;

/// Reads the footers of files.
pub(super) fn read_footers(
    files: &[&DataFileRow],
    directory: &Path,
) -> Result<Vec<ParquetMetaData>, NotSpliceable> {
    let is_parquet = |format: &String| format.eq_ignore_ascii_case("parquet");
    let is_readable = |row: &&DataFileRow| {
        row.file_format.as_ref().is_some_and(is_parquet) && row.encryption_key.is_none()
    };
    if !files.iter().all(is_readable) {
        return Err(NotSpliceable("a file is encrypted or not Parquet"));
    }
    let footers = files.chunks(OPEN_FILES).map(|files| footers_of(files, directory));
    // DuckDB reports the error of a file that cannot be read in more detail.
    let footers = footers.collect::<parquet::errors::Result<Vec<_>>>();
    let footers = footers.map_err(|_| NotSpliceable("a file cannot be read"))?;
    Ok(footers.into_iter().flatten().collect())
}

fn footers_of(
    files: &[&DataFileRow],
    directory: &Path,
) -> parquet::errors::Result<Vec<ParquetMetaData>> {
    let tail = |row: &DataFileRow, bytes: u64| FileRange {
        path: full_path(row, directory),
        bytes: row.file_size_bytes.saturating_sub(bytes)..row.file_size_bytes,
    };
    let storage = Storage::of(directory)?;
    let ranges: Vec<_> = files.iter().map(|row| tail(row, TAIL)).collect();
    let mut found = Vec::new();
    for ((row, range), file) in files.iter().zip(&ranges).zip(storage.open_ranges(&ranges)?) {
        let mut end = [0; 4];
        file.read_exact_at(&mut end, row.file_size_bytes.saturating_sub(FOOTER_SIZE))?;
        let needed = u64::from(u32::from_le_bytes(end)) + FOOTER_SIZE;
        let footer = if needed <= range.bytes.end - range.bytes.start {
            Chunk::tail(&file, range.bytes.end - needed, range.bytes.end)?
        } else {
            let range = tail(row, needed);
            let file = storage.open_ranges(std::slice::from_ref(&range))?;
            Chunk::tail(&file[0], range.bytes.start, range.bytes.end)?
        };
        found.push(ParquetMetaDataReader::new().parse_and_finish(&footer)?);
    }
    Ok(found)
}

/// A file whose columns have not been compared with those of others yet.
#[derive(Debug)]
pub(super) struct SpliceCandidate {
    path: PathBuf,
    snapshot: SnapshotId,
    first_row_id: Option<i64>,
    metadata: ParquetMetaData,
    pub(super) shape: Shape,
}

impl SpliceCandidate {
    /// Checks a file with this footer.
    pub(super) fn new(
        row: &DataFileRow,
        directory: &Path,
        metadata: ParquetMetaData,
        names: Option<&NameMapping>,
    ) -> Result<Self, NotSpliceable> {
        let path = full_path(row, directory);
        check(&metadata, row)?;
        let shape = Shape::new(metadata.file_metadata().schema_descr(), names)?;
        if shape.row_id.is_none() && row.row_id_start.is_none() {
            return Err(NotSpliceable("a file has no row IDs"));
        }
        let snapshot = row.begin_snapshot;
        if shape.snapshot_id.is_none() && newest_snapshot(row) != snapshot {
            return Err(NotSpliceable("a file has no snapshot IDs"));
        }
        Ok(Self { path, snapshot, first_row_id: row.row_id_start, metadata, shape })
    }

    /// Returns the file as a source of one with the columns of `model`.
    pub(super) fn for_columns_of(&self, model: &Shape) -> Result<SpliceSource, NotSpliceable> {
        let leaves = self.shape.indexes_of(model)?.into_iter();
        let column_indexes = leaves.chain([self.shape.snapshot_id, self.shape.row_id]).collect();
        let (path, metadata) = (self.path.clone(), self.metadata.clone());
        let (snapshot, first_row_id) = (self.snapshot, self.first_row_id);
        Ok(SpliceSource { path, snapshot, first_row_id, metadata, column_indexes })
    }
}

/// Returns the first row ID of files whose row IDs are consecutive, so that they need no column.
pub(super) fn first_of_consecutive_row_ids(sources: &[SpliceSource]) -> Option<i64> {
    let first = sources.first()?.first_row_id?;
    let end = sources.iter().try_fold(first, |next, source| {
        let is_next =
            source.first_row_id == Some(next) && source.column_indexes.last() == Some(&None);
        is_next.then(|| next + source.metadata.file_metadata().num_rows())
    });
    end.map(|_| first)
}

fn check(metadata: &ParquetMetaData, row: &DataFileRow) -> Result<(), NotSpliceable> {
    let footer = metadata.file_metadata();
    if footer.num_rows() != row.record_count {
        return Err(NotSpliceable("a file has another number of rows than the catalog says"));
    }
    if footer.key_value_metadata().is_some_and(|values| !values.is_empty()) {
        return Err(NotSpliceable("a file has metadata of its writer"));
    }
    let is_zstd = |compression| matches!(compression, Compression::ZSTD(_));
    let mut chunks = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    if chunks.any(|chunk| !is_zstd(chunk.compression()) || chunk.file_path().is_some()) {
        return Err(NotSpliceable("a file has another compression than the workers' files"));
    }
    Ok(())
}
