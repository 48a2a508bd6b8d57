//! Merges without decoding: most pages are copied unchanged, and DuckDB is not involved. Rows of files from
//! before a column was added have NULL there.
//!
//! Merged files have the form of DuckLake's merge (1.5.5): field IDs instead of a name mapping, and a
//! column each for row IDs and for the snapshots of the rows. Files for which the result is not certain to
//! be correct are [`NotSpliceable`] and left to DuckLake: fields that were added within a column, encrypted
//! files, files that lack a partition's column, types with statistics of their own.

mod bounds;
mod chunk;
mod not_spliceable;
mod shape;
mod source;
mod statistics;
mod target;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use ducktide_lake::CatalogClient as _;
use ducktide_lake::rows::{DataFileRow, FilePartitionValueRow};
use ducktide_lake::session::Session;
use ducktide_lake::storage;
use ducktide_protocol::error::{LakeError, Result};
use ducktide_storage::Storage;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use uuid::Uuid;

use self::bounds::{Statistics, StatisticsSource};
use self::not_spliceable::NotSpliceable;
use self::shape::{NameMapping, Shape};
use self::source::{SpliceCandidate, SpliceSource, full_path, newest_snapshot};
use self::target::WrittenFile;
use super::super::list;
use super::files::check_row_count;
use super::merged_files::{MergeTarget, MergedFiles, ReplacedFileRow};

/// Index and value of each column of the partition key, by file.
type PartitionValues = BTreeMap<i64, Vec<(i64, Option<String>)>>;

/// Catalog rows of the files.
struct SourceRows {
    files: Vec<DataFileRow>,
    names: HashMap<i64, NameMapping>,
    statistics: Statistics,
    partition_values: PartitionValues,
}

/// A file that is not in the catalog yet; removed when it is dropped, unless it is kept.
struct NewFile {
    path: PathBuf,
    is_kept: bool,
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = Storage::of(&self.path).and_then(|storage| storage.remove(&self.path));
        }
    }
}

/// Files of one merge, in their order, and the columns of the one that has most.
struct SplicePlan<'a> {
    files: Vec<&'a DataFileRow>,
    sources: Vec<SpliceSource>,
    model: Shape,
}

/// Merges each list of files into one, and makes the results durable. They are not in the catalog yet. None
/// if DuckLake must merge them.
pub(super) fn merge(
    session: &Session,
    target: &MergeTarget,
    lists: &[Vec<i64>],
) -> Result<Option<MergedFiles>> {
    let sources: Vec<i64> = lists.iter().flatten().copied().collect();
    let catalog = SourceRows::read(session, target, &sources)?;
    let plans = lists.iter().map(|ids| catalog.plan(target, ids)).collect::<Result<Vec<_>, _>>();
    let mut plans = match plans {
        Ok(plans) => plans,
        Err(NotSpliceable(why)) => {
            tracing::debug!(why, "files merged by DuckLake");
            return Ok(None);
        }
    };
    // The oldest gets the row ID of the oldest source; see `swap_files`.
    plans.sort_by_key(|plan| plan.files[0].begin_snapshot);
    let mut merged = MergedFiles {
        table_id: target.table_id,
        bytes_read: catalog.files.iter().map(|file| file.file_size_bytes).sum(),
        scheduled: catalog.files.iter().map(|file| replaced_file(file, target)).collect(),
        sources,
        bytes_written: 0,
        files: Vec::new(),
        statistics: Vec::new(),
        partition_values: Vec::new(),
    };
    let written = (0..).zip(&plans).map(|(id, plan)| catalog.write(id, target, plan, &mut merged));
    let mut files = written.collect::<Result<Vec<_>>>()?;
    storage::sync_files(files.iter().map(|file| file.path.as_path()))
        .map_err(|error| LakeError::of_io("make the merged files durable", error))?;
    for file in &mut files {
        file.is_kept = true;
    }
    Ok(Some(merged))
}

impl SourceRows {
    fn read(session: &Session, target: &MergeTarget, sources: &[i64]) -> Result<Self> {
        let files = source::live_files(session, sources)?;
        let statistics = Statistics::read(session, target.table_id, sources)?;
        let names = source::name_mappings(session, &files)?;
        let partition_values = partition_values(session, sources)?;
        Ok(Self { files, names, statistics, partition_values })
    }

    /// Reads the footers of the files, and checks that they can be merged.
    fn plan(&self, target: &MergeTarget, ids: &[i64]) -> Result<SplicePlan<'_>, NotSpliceable> {
        let files = self.files.iter().filter(|file| ids.contains(&file.data_file_id));
        let files: Vec<_> = files.collect();
        self.statistics.check()?;
        let [first, ..] = files[..] else { return Err(NotSpliceable("the files are missing")) };
        if files.len() != ids.len() {
            return Err(NotSpliceable("some of the files are missing"));
        }
        if !first.path_is_relative {
            return Err(NotSpliceable("the files are outside the table's directory"));
        }
        let key =
            |file: &DataFileRow| (file.partition_id, self.partition_values.get(&file.data_file_id));
        if files.iter().any(|file| key(file) != key(first)) {
            return Err(NotSpliceable("the files are not of one partition"));
        }
        let footers = source::read_footers(&files, &target.directory)?;
        let candidates = files.iter().zip(footers);
        let candidates = candidates.map(|(file, footer)| self.candidate(target, file, footer));
        let candidates = candidates.collect::<Result<Vec<_>, _>>()?;
        let columns = |candidate: &&SpliceCandidate| candidate.shape.leaves.len();
        let model = candidates.iter().rev().max_by_key(columns);
        let model = &model.ok_or(NotSpliceable("the files are missing"))?.shape;
        let sources = candidates.iter().map(|candidate| candidate.for_columns_of(model));
        let sources = sources.collect::<Result<_, _>>()?;
        Ok(SplicePlan { files, sources, model: model.clone() })
    }

    fn candidate(
        &self,
        target: &MergeTarget,
        file: &DataFileRow,
        footer: ParquetMetaData,
    ) -> Result<SpliceCandidate, NotSpliceable> {
        let names = file.mapping_id.map(|id| self.names.get(&id));
        let names = names
            .map(|names| names.ok_or(NotSpliceable("a name mapping is missing")))
            .transpose()?;
        SpliceCandidate::new(file, &target.directory, footer, names)
    }

    /// Writes one file, and adds its catalog rows.
    fn write(
        &self,
        id: i64,
        target: &MergeTarget,
        plan: &SplicePlan<'_>,
        merged: &mut MergedFiles,
    ) -> Result<NewFile> {
        let SplicePlan { files, sources, model } = plan;
        let first = files[0];
        let name = format!("ducktide-{}.parquet", Uuid::now_v7());
        let relative = Path::new(&first.path).with_file_name(name);
        let new_file = NewFile { path: target.directory.join(&relative), is_kept: false };
        let failed = |error: ParquetError| {
            let path = new_file.path.display();
            LakeError::unavailable(format!("merge files: path=`{path}`")).because(error)
        };
        let first_row_id = source::first_of_consecutive_row_ids(sources);
        let written = target::write(&new_file.path, sources, model, first_row_id.is_none());
        let WrittenFile { footer, bytes, footer_bytes } = written.map_err(failed)?;
        let rows: i64 = files.iter().map(|file| file.record_count).sum();
        check_row_count(rows, footer.file_metadata().num_rows())?;
        let oldest = files.iter().map(|file| file.begin_snapshot).min();
        let oldest = oldest.unwrap_or(first.begin_snapshot);
        let newest = files.iter().map(|file| newest_snapshot(file)).max();
        merged.files.push(DataFileRow {
            data_file_id: id,
            table_id: target.table_id,
            begin_snapshot: oldest,
            end_snapshot: None,
            file_order: None,
            path: relative.to_string_lossy().into_owned(),
            path_is_relative: true,
            file_format: Some("parquet".to_owned()),
            record_count: rows,
            file_size_bytes: bytes,
            footer_size: Some(footer_bytes.into()),
            row_id_start: first_row_id,
            partition_id: first.partition_id,
            encryption_key: None,
            mapping_id: None,
            partial_max: newest.filter(|newest| *newest != oldest),
        });
        merged.bytes_written += bytes;
        let source_files = files.iter().zip(sources);
        let source_files: Vec<_> =
            source_files.map(|(file, source)| source_file(file, source, model)).collect();
        let columns = column_sizes(&footer, model);
        merged.statistics.extend(self.statistics.rows(
            (id, target.table_id),
            &source_files,
            &columns,
        ));
        let values = self.partition_values.get(&first.data_file_id).into_iter().flatten();
        merged.partition_values.extend(values.map(|(index, value)| FilePartitionValueRow {
            data_file_id: id,
            table_id: target.table_id,
            partition_key_index: *index,
            partition_value: value.clone(),
        }));
        Ok(new_file)
    }
}

/// Returns a file with the columns that were added after it was written.
fn source_file(file: &DataFileRow, source: &SpliceSource, model: &Shape) -> StatisticsSource {
    let leaves = model.leaves.iter().zip(&source.column_indexes);
    let lacking = leaves.filter(|((leaf, _), place)| place.is_none() && !leaf.is_repeated());
    let lacking = lacking.map(|((leaf, _), _)| i64::from(leaf.field_id())).collect();
    StatisticsSource { id: file.data_file_id, rows: file.record_count, lacking }
}

/// Returns a source file as it is scheduled for deletion: its path is relative to the data path, not to
/// the table's directory.
fn replaced_file(file: &DataFileRow, target: &MergeTarget) -> ReplacedFileRow {
    let path = full_path(file, &target.directory);
    let (path, path_is_relative) = match path.strip_prefix(&target.data_path) {
        Ok(path) if file.path_is_relative => (path, true),
        _ => (path.as_path(), false),
    };
    let path = path.to_string_lossy().into_owned();
    ReplacedFileRow { data_file_id: file.data_file_id, path, path_is_relative }
}

fn partition_values(session: &Session, files: &[i64]) -> Result<PartitionValues> {
    let rows: Vec<FilePartitionValueRow> = session.select(&format!(
        "WHERE data_file_id IN ({}) ORDER BY data_file_id, partition_key_index",
        list(files)
    ))?;
    let mut found: PartitionValues = BTreeMap::new();
    for row in rows {
        let value = (row.partition_key_index, row.partition_value);
        found.entry(row.data_file_id).or_default().push(value);
    }
    Ok(found)
}

/// Returns the size of each leaf column, in bytes, by its field ID.
fn column_sizes(footer: &ParquetMetaData, model: &Shape) -> BTreeMap<i64, i64> {
    let size = |index: usize| {
        let groups = footer.row_groups().iter();
        groups.map(|group| group.column(index).compressed_size()).sum()
    };
    let leaves = model.leaves.iter().enumerate();
    leaves.map(|(index, (leaf, _))| (i64::from(leaf.field_id()), size(index))).collect()
}
