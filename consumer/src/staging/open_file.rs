//! One Parquet file that is being written.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use ducktide_lake::{StagedFile, table::TableName};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    errors::ParquetError,
    file::properties::WriterProperties,
};
use uuid::Uuid;

use super::StagingError;

/// A file with at least one row, once [`Self::write`] was called.
#[derive(Debug)]
pub(super) struct OpenFile {
    path: PathBuf,
    writer: ArrowWriter<File>,
    rows: u64,
}

impl OpenFile {
    /// Creates `ducktide-<uuid>.parquet` in a folder, and the folder where it is missing.
    pub(super) fn create(
        folder: &Path,
        schema: SchemaRef,
        properties: WriterProperties,
    ) -> Result<Self, StagingError> {
        fs::create_dir_all(folder).map_err(|error| create_error(folder, error))?;
        let path = folder.join(format!("ducktide-{}.parquet", Uuid::now_v7()));
        let file = File::create_new(&path).map_err(|error| create_error(&path, error))?;
        // Arrow's own copy of the schema would be of no use to DuckDB.
        let options = ArrowWriterOptions::new().with_properties(properties);
        let options = options.with_skip_arrow_metadata(true);
        match ArrowWriter::try_new_with_options(file, schema, options) {
            Ok(writer) => Ok(Self { path, writer, rows: 0 }),
            Err(source) => Err(StagingError::Write { path, source }),
        }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), StagingError> {
        self.writer.write(batch).map_err(|source| write_error(&self.path, source))?;
        self.rows += u64::try_from(batch.num_rows()).expect("rows of a batch fit in 64 bits");
        Ok(())
    }

    pub(super) fn memory(&self) -> usize {
        self.writer.memory_size()
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn bytes(&self) -> u64 {
        let bytes = self.writer.bytes_written() + self.writer.in_progress_size();
        u64::try_from(bytes).expect("a file's size fits in 64 bits")
    }

    pub(super) fn close(mut self, table: &TableName) -> Result<StagedFile, StagingError> {
        self.writer.finish().map_err(|source| write_error(&self.path, source))?;
        let bytes = self.bytes();
        Ok(StagedFile { path: self.path, table: table.clone(), rows: self.rows, bytes })
    }

    pub(super) fn abandon(self) {
        drop(self.writer);
        if let Err(error) = fs::remove_file(&self.path) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "staged file could not be removed; it is an orphan now");
        }
    }
}

fn create_error(path: &Path, source: std::io::Error) -> StagingError {
    StagingError::Create { path: path.to_owned(), source }
}

fn write_error(path: &Path, source: ParquetError) -> StagingError {
    StagingError::Write { path: path.to_owned(), source }
}
