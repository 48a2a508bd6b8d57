//! The place where batchers write the files of a batch.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use ducktide_protocol::{StagedFile, Table};

use crate::batch::staging::{ColumnHints, EncoderBudget, StagingError, StagingWriter, remove_file};

/// A place for staged files.
pub(crate) trait StagingArea {
    type Writer: RowWriter;

    /// Returns a writer without files for a table. `schema` is that of the batches.
    fn open(
        &self,
        table: &Table,
        schema: SchemaRef,
        hints: &ColumnHints,
    ) -> Result<Self::Writer, StagingError>;

    /// Removes a file. No commit may have been attempted with it.
    fn remove(&self, file: &StagedFile);
}

/// Writer of the files of one table.
pub(crate) trait RowWriter {
    /// Adds the rows of a batch. After an error the writer can only be abandoned.
    fn write(&mut self, batch: &RecordBatch) -> Result<(), StagingError>;

    /// Closes the files and returns them; the writer is empty afterwards. After an error it can only
    /// be abandoned.
    fn finish(&mut self) -> Result<Vec<StagedFile>, StagingError>;

    /// Drops all rows and removes their files. No commit may have been attempted with them.
    fn abandon(&mut self);

    /// Returns the number of rows in all files.
    fn rows(&self) -> u64;

    /// Returns an estimate of the size of the files, bytes.
    fn bytes(&self) -> u64;

    /// Returns an estimate of the memory of rows and encoders, bytes.
    fn memory(&self) -> usize;

    /// Returns whether the rows are in so many files that the caller should finish the batch.
    fn is_scattered(&self) -> bool;
}

/// Parquet files in the folders of their tables.
#[derive(Clone, Debug)]
pub(crate) struct ParquetArea {
    /// Memory for the encoders of the open files of all tables.
    encoders: EncoderBudget,
}

impl ParquetArea {
    pub(crate) const fn new(encoders: EncoderBudget) -> Self {
        Self { encoders }
    }

    /// Returns the area of a command that writes a few files.
    pub(crate) fn of_command() -> Self {
        Self::new(EncoderBudget::of_command())
    }
}

impl StagingArea for ParquetArea {
    type Writer = StagingWriter;

    fn open(
        &self,
        table: &Table,
        schema: SchemaRef,
        hints: &ColumnHints,
    ) -> Result<StagingWriter, StagingError> {
        StagingWriter::of_table(table, schema, hints, &self.encoders)
    }

    fn remove(&self, file: &StagedFile) {
        remove_file(&file.path);
    }
}

impl RowWriter for StagingWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), StagingError> {
        Self::write(self, batch)
    }

    fn finish(&mut self) -> Result<Vec<StagedFile>, StagingError> {
        Self::finish(self)
    }

    fn abandon(&mut self) {
        Self::abandon(self);
    }

    fn rows(&self) -> u64 {
        Self::rows(self)
    }

    fn bytes(&self) -> u64 {
        Self::bytes(self)
    }

    fn memory(&self) -> usize {
        Self::memory(self)
    }

    fn is_scattered(&self) -> bool {
        Self::is_scattered(self)
    }
}
