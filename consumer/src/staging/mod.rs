//! Parquet files that wait for their commit.
//!
//! A [`StagingWriter`] belongs to one table and one thread. It keeps a file open for each
//! `event_date` that the batches bring, and closes them all for a lake commit. Files lie where
//! DuckLake would put its own, so that registering them stores relative paths; until then nobody
//! knows of them, and one that is never registered is left to the orphan removal.

mod by_date;
mod error;
mod layout;
mod open_file;
mod row_group;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use arrow_array::{RecordBatch, cast::AsArray, types::Date32Type};
use arrow_schema::SchemaRef;
use arrow_select::take::take_record_batch;
use ducktide_lake::{
    StagedFile,
    table::{EVENT_DATE, TableName},
};

pub use error::StagingError;

use by_date::{Dates, split};
use layout::Layout;
use open_file::OpenFile;

use crate::decoder::date_text;

/// The folder of rows without a date, as Hive has it; DuckLake reads it as NULL.
const NULL_DATE: &str = "__HIVE_DEFAULT_PARTITION__";

/// What the types of a table's columns do not say about their Parquet encoding.
#[derive(Clone, Debug, Default)]
pub struct ColumnHints {
    /// Columns of enum symbols ([`crate::decoder::RecordDecoder::enum_columns`]): they get a
    /// dictionary and statistics.
    pub enums: Vec<String>,
    /// Columns of text that are to have statistics all the same (`--statistics`). They end up in the
    /// catalog and in PostgreSQL's log, so none have them unasked.
    pub statistics: Vec<String>,
}

/// Writes the rows of one table to Parquet files, one for each `event_date`.
#[derive(Debug)]
pub struct StagingWriter {
    table: TableName,
    /// The table's folder.
    folder: PathBuf,
    layout: Layout,
    /// The index of the `event_date` column, if there is one.
    date_column: Option<usize>,
    open: BTreeMap<Folder, OpenFile>,
}

/// Where a file lies within the table's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Folder {
    /// In the folder itself: the table is not partitioned.
    Table,
    /// In that of a date, as days since 1970-01-01, or of no date.
    Date(Option<i32>),
}

impl StagingWriter {
    /// A writer without files. `folder` is the table's, and absolute; `schema` that of the batches,
    /// [`crate::decoder::RowBuffer::schema`].
    pub fn new(
        table: TableName,
        folder: &Path,
        schema: SchemaRef,
        hints: &ColumnHints,
    ) -> Result<Self, StagingError> {
        assert!(
            folder.is_absolute(),
            "the lake needs absolute paths folder=`{}`",
            folder.display()
        );
        let date_column = schema.index_of(EVENT_DATE).ok();
        let (folder, layout) = (folder.to_owned(), Layout::new(schema, hints)?);
        Ok(Self { table, folder, layout, date_column, open: BTreeMap::new() })
    }

    /// Adds the rows of a batch. Batches of one date, nearly all, are written as they are; others
    /// are split.
    ///
    /// After an error the open files are of no use; [`Self::abandon`] them.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), StagingError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let Some(date_column) = self.date_column else {
            return self.write_to(Folder::Table, batch);
        };
        match split(batch.column(date_column).as_primitive::<Date32Type>()) {
            Dates::One(date) => self.write_to(Folder::Date(date), batch),
            Dates::Many(dates) => {
                for (date, rows) in dates {
                    let batch = take_record_batch(batch, &rows).map_err(StagingError::Split)?;
                    self.write_to(Folder::Date(date), &batch)?;
                }
                Ok(())
            }
        }
    }

    fn write_to(&mut self, folder: Folder, batch: &RecordBatch) -> Result<(), StagingError> {
        if !self.open.contains_key(&folder) {
            let path = self.folder_path(folder);
            let file = OpenFile::create(&path, &self.layout)?;
            self.open.insert(folder, file);
        }
        self.open.get_mut(&folder).expect("the file was opened above").write(batch)
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

    /// The bytes held in memory by open row groups, as they are encoded so far.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.open.values().map(OpenFile::memory).sum()
    }

    /// The rows in all open files.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.open.values().map(OpenFile::rows).sum()
    }

    /// An estimate of the bytes that the open files will have.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.open.values().map(OpenFile::bytes).sum()
    }

    /// How many dates have an open file; each costs buffers and a registration, so the caller bounds
    /// them.
    #[must_use]
    pub fn open_dates(&self) -> usize {
        self.open.len()
    }

    /// Writes the footers of all files and closes them; the writer is empty afterwards. The files are
    /// not durable yet: that is the commit's business.
    ///
    /// After an error the files that are left are of no use; [`Self::abandon`] them, and those that
    /// were closed are orphans.
    pub fn finish(&mut self) -> Result<Vec<StagedFile>, StagingError> {
        let mut staged = Vec::with_capacity(self.open.len());
        while let Some((_, file)) = self.open.pop_first() {
            staged.push(file.close(&self.table)?);
        }
        Ok(staged)
    }

    /// Drops the rows that are not finished, and removes their files: no commit has ever seen them.
    /// What cannot be removed is left to the orphan removal.
    pub fn abandon(&mut self) {
        while let Some((_, file)) = self.open.pop_first() {
            file.abandon();
        }
    }
}

#[cfg(test)]
mod tests;
