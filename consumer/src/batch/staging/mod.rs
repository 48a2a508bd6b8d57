//! Staged files: Parquet files that are not committed yet.
//!
//! A [`StagingWriter`] belongs to one table and one thread. It keeps a file open for each
//! `event_date` of the batches, and closes them all for a lake commit. Rows of files whose encoders
//! exceed the [`EncoderBudget`] are held in memory until then. Files are written where DuckLake
//! would write its own, so that the catalog stores relative paths. The catalog does not list them
//! before the commit; a file that is never registered is removed as an orphan.

mod budget;
mod by_column;
mod by_date;
mod column_hints;
mod error;
mod folder;
mod held_rows;
mod layout;
mod open_file;
mod row_group;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use arrow_array::{RecordBatch, UInt32Array, cast::AsArray, types::Date32Type};
use arrow_schema::SchemaRef;
use arrow_select::take::take_record_batch;
use ducktide_decoder::date_text;
use ducktide_protocol::{
    DataPathClaim, FieldIds, StagedFile, Table,
    table::{EVENT_DATE, TableName},
};

pub use budget::EncoderBudget;
pub use column_hints::ColumnHints;
pub use error::StagingError;
pub(crate) use open_file::remove as remove_file;

use by_date::rows_by_date;
use folder::Folder;
use held_rows::{HeldRows, RowIndex};
use layout::ParquetLayout;
use open_file::OpenFile;

/// Folder of rows without a date, as in Hive; DuckLake reads it as NULL.
const NULL_DATE: &str = "__HIVE_DEFAULT_PARTITION__";

/// Maximum number of open files. More dates in one batch indicate broken timestamps. Each open file
/// needs a descriptor and buffers for every column, so that the file of the oldest date is closed
/// early.
const MAX_OPEN_FILES: usize = 64;

/// Writer of the rows of one table to Parquet files, one for each `event_date`.
#[derive(Debug)]
pub struct StagingWriter {
    table: TableName,
    /// Folder of the table.
    folder: PathBuf,
    /// Claim on the data path; without it no folder is created.
    claim: Option<DataPathClaim>,
    layout: ParquetLayout,
    /// Index of the `event_date` column, if files are divided by it.
    date_column: Option<usize>,
    open: BTreeMap<Folder, OpenFile>,
    /// Indices of the columns by which rows are sorted; empty without an order.
    order: Vec<usize>,
    /// Rows that are held to be sorted, or because their file was not opened for lack of memory.
    held: HeldRows,
    encoders: EncoderBudget,
    /// Files that were closed because too many were open.
    closed: Vec<StagedFile>,
}

impl StagingWriter {
    /// Creates a writer without files. `folder` is the absolute path of the table; `schema` is that
    /// of the batches, [`ducktide_decoder::RowBuffer::schema`]. The files have no field IDs.
    pub fn new(
        table: TableName,
        folder: &Path,
        schema: SchemaRef,
        hints: &ColumnHints,
        encoders: &EncoderBudget,
    ) -> Result<Self, StagingError> {
        let layout = ParquetLayout::new(schema, hints, &FieldIds::default())?;
        Ok(Self::with_layout(table, folder, layout, hints, encoders))
    }

    fn with_layout(
        table: TableName,
        folder: &Path,
        layout: ParquetLayout,
        hints: &ColumnHints,
        encoders: &EncoderBudget,
    ) -> Self {
        assert!(
            ducktide_storage::is_absolute(folder),
            "the folder of a table is absolute: folder=`{}`",
            folder.display()
        );
        let schema = &layout.schema;
        let date_column = schema.index_of(EVENT_DATE).ok().filter(|_| !hints.one_folder);
        let is_named = |name: &String| {
            schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name))
        };
        let order = hints.sort_by.iter().filter_map(is_named).collect();
        let folder = folder.to_owned();
        let (claim, encoders) = (None, encoders.clone());
        let (open, held, closed) = (BTreeMap::new(), HeldRows::default(), Vec::new());
        Self { table, folder, claim, layout, date_column, open, order, held, encoders, closed }
    }

    /// Creates a writer without files for a table of a lake. It writes only while the data path of
    /// the lake exists.
    pub fn of_table(
        table: &Table,
        schema: SchemaRef,
        hints: &ColumnHints,
        encoders: &EncoderBudget,
    ) -> Result<Self, StagingError> {
        let name = table.version.table.clone();
        let layout = ParquetLayout::new(schema, hints, &table.field_ids)?;
        let writer = Self::with_layout(name, &table.directory, layout, hints, encoders);
        Ok(Self { claim: table.claim.clone(), ..writer })
    }

    /// Adds the rows of a batch. A batch of several dates is split.
    ///
    /// After an error the open files are unusable; [`Self::abandon`] them.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), StagingError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut held = Vec::new();
        for (folder, rows) in self.rows_by_folder(batch) {
            let Some(file) = self.open_file(folder)? else {
                held.push((folder, rows));
                continue;
            };
            if rows.len() == batch.num_rows() {
                file.write(batch)?;
            } else {
                let rows = take_record_batch(batch, &UInt32Array::from(rows))
                    .map_err(StagingError::Split)?;
                file.write(&rows)?;
            }
        }
        self.held.push(batch, held).map_err(StagingError::Split)
    }

    fn rows_by_folder(&self, batch: &RecordBatch) -> Vec<(Folder, Vec<u32>)> {
        let Some(date_column) = self.date_column else {
            return vec![(Folder::Table, (0_u32..).take(batch.num_rows()).collect())];
        };
        let dates = rows_by_date(batch.column(date_column).as_primitive::<Date32Type>());
        dates.into_iter().map(|(date, rows)| (Folder::Date(date), rows)).collect()
    }

    /// Returns the open file of a folder, and opens it if memory permits; returns None if its rows
    /// must be held.
    fn open_file(&mut self, folder: Folder) -> Result<Option<&mut OpenFile>, StagingError> {
        if !self.open.contains_key(&folder) {
            if !self.order.is_empty() || self.held.has(folder) {
                return Ok(None);
            }
            if self.open.len() >= MAX_OPEN_FILES {
                let (_, file) = self.open.pop_first().expect("the limit is not zero");
                self.closed.push(file.close(&self.table)?);
            }
            let Some(encoders) = self.encoders.reserve(self.layout.encoder_bytes()) else {
                return Ok(None);
            };
            let path = self.folder_path(folder);
            let claim = self.claim.as_ref();
            let file = OpenFile::create(&path, claim, &self.layout, Some(encoders))?;
            self.open.insert(folder, file);
        }
        Ok(self.open.get_mut(&folder))
    }

    /// Writes a file of held rows.
    fn write_held(&self, folder: Folder, rows: Vec<RowIndex>) -> Result<StagedFile, StagingError> {
        let rows = self.held.sort(rows, &self.order).map_err(StagingError::Split)?;
        let (path, claim) = (self.folder_path(folder), self.claim.as_ref());
        let mut file = OpenFile::create(&path, claim, &self.layout, None)?;
        match file.write_held(&self.held, &rows, &self.layout) {
            Ok(()) => file.close(&self.table),
            Err(error) => {
                file.abandon();
                Err(error)
            }
        }
    }

    fn folder_path(&self, folder: Folder) -> PathBuf {
        match folder {
            Folder::Table => self.folder.clone(),
            Folder::Date(date) => {
                let date = date.map_or_else(|| NULL_DATE.to_owned(), date_text);
                self.folder.join(format!("{EVENT_DATE}={date}"))
            }
        }
    }

    /// Returns an estimate of the memory, bytes: held rows, encoders, and the encoded part of open
    /// row groups.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.held.memory() + self.open.values().map(|file| file.memory(&self.layout)).sum::<usize>()
    }

    /// Returns the number of rows in all files, held ones included.
    #[must_use]
    pub fn rows(&self) -> u64 {
        let closed: u64 = self.closed.iter().map(|file| file.rows).sum();
        closed + self.held.rows() as u64 + self.open.values().map(OpenFile::rows).sum::<u64>()
    }

    /// Returns an estimate of the size of the files, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let closed: u64 = self.closed.iter().map(|file| file.bytes).sum();
        closed + self.held.bytes() + self.open.values().map(OpenFile::bytes).sum::<u64>()
    }

    /// Returns whether the rows have so many dates that the caller should finish the batch: each
    /// date adds a file and a row of the catalog.
    #[must_use]
    pub fn is_scattered(&self) -> bool {
        self.open.len() + self.held.files() + self.closed.len() >= MAX_OPEN_FILES
    }

    /// Writes the footers of all files and closes them; the writer is empty afterwards. The commit
    /// makes the files durable.
    ///
    /// After an error the files are unusable; [`Self::abandon`] them.
    pub fn finish(&mut self) -> Result<Vec<StagedFile>, StagingError> {
        while let Some((_, file)) = self.open.pop_first() {
            self.closed.push(file.close(&self.table)?);
        }
        while let Some((folder, rows)) = self.held.pop_file() {
            let file = self.write_held(folder, rows)?;
            self.closed.push(file);
        }
        self.held = HeldRows::default();
        Ok(std::mem::take(&mut self.closed))
    }

    /// Drops all rows and removes their files. No commit may have been attempted with them. A file
    /// that cannot be removed becomes an orphan.
    pub fn abandon(&mut self) {
        self.held = HeldRows::default();
        while let Some((_, file)) = self.open.pop_first() {
            file.abandon();
        }
        self.closed.drain(..).for_each(|file| open_file::remove(&file.path));
    }
}

#[cfg(test)]
mod tests;
