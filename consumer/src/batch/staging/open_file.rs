//! A Parquet file that is being written.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use arrow_array::RecordBatch;
use ducktide_lake::parquet_footer::file_footer;
use ducktide_protocol::{DataPathClaim, StagedFile, table::TableName};
use ducktide_storage::{FileWriter, Storage};
use parquet::{
    arrow::arrow_writer::ArrowRowGroupWriterFactory,
    errors::ParquetError,
    file::{metadata::ParquetMetaData, writer::SerializedFileWriter},
};
use uuid::Uuid;

use super::{
    StagingError,
    budget::Reservation,
    by_column,
    held_rows::{HeldRows, RowIndex},
    layout::ParquetLayout,
    row_group::RowGroup,
};

/// Open Parquet file. It has at least one row after [`Self::write`].
pub(super) struct OpenFile {
    path: PathBuf,
    file: SerializedFileWriter<FileWriter>,
    factory: ArrowRowGroupWriterFactory,
    row_group: Option<RowGroup>,
    rows: u64,
    /// Memory of the encoders of its columns; None if rows are encoded one column at a time.
    encoders: Option<Reservation>,
}

impl OpenFile {
    /// Creates `ducktide-<uuid>.parquet` in a folder, and the folder if it is missing.
    pub(super) fn create(
        folder: &Path,
        claim: Option<&DataPathClaim>,
        layout: &ParquetLayout,
        encoders: Option<Reservation>,
    ) -> Result<Self, StagingError> {
        let storage = Storage::of(folder).map_err(|error| create_error(folder, error))?;
        let created = storage.create_directory(folder, claim.map(DataPathClaim::path));
        created.map_err(|error| create_error(folder, error))?;
        let path = folder.join(format!("ducktide-{}.parquet", Uuid::now_v7()));
        let file = storage.create_file(&path).map_err(|error| create_error(&path, error))?;
        match SerializedFileWriter::new(file, layout.root.clone(), layout.properties.clone()) {
            Ok(file) => {
                let factory = ArrowRowGroupWriterFactory::new(&file, layout.schema.clone());
                Ok(Self { path, file, factory, row_group: None, rows: 0, encoders })
            }
            Err(source) => Err(write_error(&path, source)),
        }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), StagingError> {
        self.write_row_group(batch).map_err(|source| write_error(&self.path, source))?;
        self.rows += u64::try_from(batch.num_rows()).expect("rows of a batch fit in 64 bits");
        Ok(())
    }

    /// Writes held rows in this order.
    pub(super) fn write_held(
        &mut self,
        held: &HeldRows,
        rows: &[RowIndex],
        layout: &ParquetLayout,
    ) -> Result<(), StagingError> {
        let written = by_column::write(&mut self.file, layout, held, rows);
        written.map_err(|source| write_error(&self.path, source))?;
        self.rows += rows.len() as u64;
        Ok(())
    }

    fn write_row_group(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        let mut row_group = match self.row_group.take() {
            Some(row_group) => row_group,
            None => RowGroup::new(&self.factory, self.file.flushed_row_groups().len())?,
        };
        row_group.write(batch)?;
        if row_group.is_full() {
            return row_group.close(&mut self.file);
        }
        self.row_group = Some(row_group);
        Ok(())
    }

    pub(super) fn memory(&self, layout: &ParquetLayout) -> usize {
        let values = self.row_group.as_ref().map_or(0, |group| group.memory(&layout.is_text));
        let unsent = self.file.inner().memory();
        self.encoders.as_ref().map_or(0, Reservation::bytes) + values + unsent
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn bytes(&self) -> u64 {
        let encoded = self.row_group.as_ref().map_or(0, RowGroup::encoded_bytes);
        let bytes = self.file.bytes_written() + encoded;
        u64::try_from(bytes).expect("a file's size fits in 64 bits")
    }

    pub(super) fn close(mut self, table: &TableName) -> Result<StagedFile, StagingError> {
        let metadata = self.write_footer().map_err(|source| write_error(&self.path, source))?;
        let (bytes, table) = (self.bytes(), table.clone());
        let footer = file_footer(&metadata, bytes);
        Ok(StagedFile { path: self.path, table, rows: self.rows, bytes, footer })
    }

    fn write_footer(&mut self) -> Result<ParquetMetaData, ParquetError> {
        if let Some(row_group) = self.row_group.take() {
            row_group.close(&mut self.file)?;
        }
        let metadata = self.file.finish()?;
        self.file.inner_mut().finish()?;
        Ok(metadata)
    }

    pub(super) fn abandon(mut self) {
        warn_if_kept(&self.path, self.file.inner_mut().abandon(&self.path));
    }
}

/// Removes a file. No commit may have been attempted with it.
pub(crate) fn remove(path: &Path) {
    warn_if_kept(path, Storage::of(path).and_then(|storage| storage.remove(path)));
}

fn warn_if_kept(path: &Path, removed: io::Result<()>) {
    let Err(error) = removed else { return };
    let path = path.display();
    if error.kind() == io::ErrorKind::PermissionDenied {
        // In object storage, workers need no permission to delete.
        tracing::info!(%path, %error, "staged file not removed, it is an orphan now");
    } else {
        tracing::warn!(%path, %error, "staged file not removed, it is an orphan now");
    }
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenFile").field("path", &self.path).finish_non_exhaustive()
    }
}

fn create_error(path: &Path, source: io::Error) -> StagingError {
    StagingError::Create { path: path.to_owned(), source }
}

fn write_error(path: &Path, source: ParquetError) -> StagingError {
    StagingError::Write { path: path.to_owned(), source }
}
