//! Merges files without decoding what can stay as it is: most pages are copied, and DuckDB is not asked.
//! Files from before a column was added have NULLs there.
//!
//! Files get the form that DuckLake's merge gives them (1.5.5): field ids instead of a mapping of names,
//! and a column each for row ids and for the snapshots that rows came with. What is not certain to be
//! right is [`Unsuited`], and left to DuckLake itself: fields that were added within a column, encrypted files, those
//! that lack a partition's column, types with statistics of their own.

mod bounds;
mod chunk;
mod shape;
mod source;
mod statistics;
mod target;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use ducktide_lake::catalog::parse;
use ducktide_lake::session::{Session, quote};
use ducktide_lake::storage;
use ducktide_protocol::error::{LakeError, Result};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use uuid::Uuid;

use self::bounds::{SourceFile, Statistics};
use self::shape::{NameMapping, Shape};
use self::source::{Candidate, Entry, Source};
use super::super::list;
use super::lost_rows;
use super::merged::{Merged, Target, Values, or_null};

/// Why files are merged by DuckLake instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unsuited(&'static str);

/// The index and value of each partition key, by file.
type PartitionValues = BTreeMap<i64, Vec<(String, Option<String>)>>;

/// What the catalog says of the files.
struct Catalog {
    entries: Vec<Entry>,
    names: HashMap<i64, NameMapping>,
    statistics: Statistics,
    partition_values: PartitionValues,
}

/// A file that is not in the catalog yet; removed unless it is kept.
struct NewFile {
    path: PathBuf,
    is_kept: bool,
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The files of one merge, in their order, and the columns of the one that has most.
struct Plan<'a> {
    entries: Vec<&'a Entry>,
    sources: Vec<Source>,
    model: Shape,
}

/// Merges each list of files into one, and makes the results durable. No catalog knows of them
/// afterwards. None if DuckLake has to do it.
pub(super) fn merge(
    session: &Session,
    target: &Target,
    lists: &[Vec<i64>],
) -> Result<Option<Merged>> {
    let sources: Vec<i64> = lists.iter().flatten().copied().collect();
    let catalog = Catalog::read(session, target, &sources)?;
    let plans = lists.iter().map(|ids| catalog.plan(target, ids)).collect::<Result<Vec<_>, _>>();
    let mut plans = match plans {
        Ok(plans) => plans,
        Err(Unsuited(why)) => {
            tracing::debug!(why, "DuckLake merges the files");
            return Ok(None);
        }
    };
    // The oldest gets the place of the oldest source; see `exchange`.
    plans.sort_by_key(|plan| plan.entries[0].begin_snapshot);
    let mut merged = Merged {
        table_id: target.table_id,
        bytes_read: catalog.entries.iter().map(|entry| entry.bytes).sum(),
        scheduled: catalog.entries.iter().map(|entry| scheduled(entry, target)).collect(),
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

impl Catalog {
    fn read(session: &Session, target: &Target, sources: &[i64]) -> Result<Self> {
        let entries = source::entries(session, sources)?;
        let statistics = Statistics::read(session, target.table_id, sources)?;
        let names = source::name_mappings(session, &entries)?;
        let partition_values = partition_values(session, sources)?;
        Ok(Self { entries, names, statistics, partition_values })
    }

    /// Reads the footers of the files, and finds out whether they can become one.
    fn plan(&self, target: &Target, ids: &[i64]) -> Result<Plan<'_>, Unsuited> {
        let entries = self.entries.iter().filter(|entry| ids.contains(&entry.id));
        let entries: Vec<_> = entries.collect();
        self.statistics.check()?;
        let [first, ..] = entries[..] else { return Err(Unsuited("the files are gone")) };
        if entries.len() != ids.len() {
            return Err(Unsuited("some of the files are gone"));
        }
        if target.data_path.contains("://") || !first.path_is_relative {
            return Err(Unsuited("the files are elsewhere than in the table's directory"));
        }
        let key = |entry: &Entry| (entry.partition_id, self.partition_values.get(&entry.id));
        if entries.iter().any(|entry| key(entry) != key(first)) {
            return Err(Unsuited("the files are not of one partition"));
        }
        let candidates = entries.iter().map(|entry| self.candidate(target, entry));
        let candidates = candidates.collect::<Result<Vec<_>, _>>()?;
        let columns = |candidate: &&Candidate| candidate.shape.leaves.len();
        let model = candidates.iter().rev().max_by_key(columns);
        let model = &model.ok_or(Unsuited("the files are gone"))?.shape;
        let sources = candidates.iter().map(|candidate| candidate.for_columns_of(model));
        let sources = sources.collect::<Result<_, _>>()?;
        Ok(Plan { entries, sources, model: model.clone() })
    }

    fn candidate(&self, target: &Target, entry: &Entry) -> Result<Candidate, Unsuited> {
        let names = entry.mapping_id.map(|id| self.names.get(&id));
        let names = names.map(|names| names.ok_or(Unsuited("a mapping is gone"))).transpose()?;
        Candidate::read(entry, &target.directory, names)
    }

    /// Writes one file, and adds the catalog's rows for it.
    fn write(
        &self,
        id: i64,
        target: &Target,
        plan: &Plan<'_>,
        merged: &mut Merged,
    ) -> Result<NewFile> {
        let Plan { entries, sources, model } = plan;
        let first = entries[0];
        let name = format!("ducktide-{}.parquet", Uuid::now_v7());
        let relative = Path::new(&first.path).with_file_name(name);
        let file = NewFile { path: target.directory.join(&relative), is_kept: false };
        let failed = |error: ParquetError| {
            let path = file.path.display();
            LakeError::unavailable(format!("merge files: path=`{path}`")).because(error)
        };
        let first_row_id = source::row_ids_without_a_gap(sources);
        let footer = target::write(&file.path, sources, model, first_row_id.is_none());
        let footer = footer.map_err(failed)?;
        let rows: i64 = entries.iter().map(|entry| entry.rows).sum();
        lost_rows(rows, footer.file_metadata().num_rows())?;
        let (bytes, footer_bytes) = sizes(&file.path).map_err(|error| failed(error.into()))?;
        let oldest = entries.iter().map(|entry| entry.begin_snapshot).min().unwrap_or_default();
        let newest = entries.iter().map(|entry| entry.newest_snapshot).max().unwrap_or_default();
        let null = || or_null(None::<&str>);
        merged.files.push(vec![
            id.to_string(),
            target.table_id.to_string(),
            oldest.to_string(),
            null(),
            null(),
            quote(&relative.to_string_lossy()),
            true.to_string(),
            quote("parquet"),
            rows.to_string(),
            bytes.to_string(),
            footer_bytes.to_string(),
            or_null(first_row_id),
            or_null(first.partition_id),
            null(),
            null(),
            or_null(Some(newest).filter(|newest| *newest != oldest)),
        ]);
        merged.bytes_written += bytes;
        let files = entries.iter().zip(sources);
        let files: Vec<_> =
            files.map(|(entry, source)| source_file(entry, source, model)).collect();
        let columns = column_sizes(&footer, model);
        merged.statistics.extend(self.statistics.rows((id, target.table_id), &files, &columns));
        let values = self.partition_values.get(&first.id).into_iter().flatten();
        merged.partition_values.extend(values.map(|(index, value)| {
            let value = or_null(value.as_deref().map(quote));
            vec![id.to_string(), target.table_id.to_string(), index.clone(), value]
        }));
        Ok(file)
    }
}

/// A file with the columns that were added after it was written.
fn source_file(entry: &Entry, source: &Source, model: &Shape) -> SourceFile {
    let leaves = model.leaves.iter().zip(&source.places);
    let lacking = leaves.filter(|((leaf, _), place)| place.is_none() && !leaf.is_repeated());
    let lacking = lacking.map(|((leaf, _), _)| i64::from(leaf.field_id())).collect();
    SourceFile { id: entry.id, rows: entry.rows, lacking }
}

/// A file that is to be removed. Its path is relative to the data path then, not to the table's directory.
fn scheduled(entry: &Entry, target: &Target) -> Values {
    let path = entry.full_path(&target.directory);
    let (path, is_relative) = match path.strip_prefix(&target.data_path) {
        Ok(path) if entry.path_is_relative => (path, true),
        _ => (path.as_path(), false),
    };
    vec![entry.id.to_string(), quote(&path.to_string_lossy()), is_relative.to_string()]
}

fn partition_values(session: &Session, files: &[i64]) -> Result<PartitionValues> {
    let sql = format!(
        "SELECT data_file_id, partition_key_index, partition_value FROM {} \
         WHERE data_file_id IN ({}) ORDER BY data_file_id, partition_key_index",
        session.native_table("ducklake_file_partition_value"),
        list(files)
    );
    let mut found: BTreeMap<i64, Vec<_>> = BTreeMap::new();
    for row in session.catalog_rows(&sql)? {
        let mut values = row.into_iter();
        let file = parse(values.next().flatten())?;
        let index = values.next().flatten().unwrap_or_default();
        found.entry(file).or_default().push((index, values.next().flatten()));
    }
    Ok(found)
}

/// The size of a Parquet file, and of its footer, bytes: the last eight are the latter and `PAR1`.
fn sizes(path: &Path) -> std::io::Result<(u64, u32)> {
    use std::os::unix::fs::FileExt as _;
    let file = fs::File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut footer = [0; 4];
    file.read_exact_at(&mut footer, bytes.saturating_sub(8))?;
    Ok((bytes, u32::from_le_bytes(footer)))
}

/// What each leaf column takes, bytes, by its field id.
fn column_sizes(footer: &ParquetMetaData, model: &Shape) -> BTreeMap<i64, i64> {
    let size = |index: usize| {
        let groups = footer.row_groups().iter();
        groups.map(|group| group.column(index).compressed_size()).sum()
    };
    let leaves = model.leaves.iter().enumerate();
    leaves.map(|(index, (leaf, _))| (i64::from(leaf.field_id()), size(index))).collect()
}
