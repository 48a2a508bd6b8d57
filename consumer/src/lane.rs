//! One table within one batcher: rows become record batches, record batches become files.

use std::sync::Arc;

use ducktide_lake::{StagedFile, TableVersion};
use thiserror::Error;

use crate::batch::Stream;
use crate::decoder::{DecodeError, Problem, RecordDecoder, RowBuffer};
use crate::schemas::HEADER;
use crate::source::{Record, RecordRun, TopicPartition};
use crate::staging::{StagingError, StagingWriter};

/// Rows that are decoded before they go to the Parquet writer: enough for its column loops, and
/// small enough for the processor's cache.
const ROWS_PER_BATCH: usize = 8192;

/// The same limit for large rows.
const BYTES_PER_BATCH: usize = 8 << 20;

pub(crate) struct Lane {
    version: TableVersion,
    rows: RowBuffer,
    writer: StagingWriter,
}

#[derive(Debug, Error)]
pub(crate) enum LaneError {
    #[error(transparent)]
    Decode(DecodeError),
    #[error(transparent)]
    Staging(#[from] StagingError),
}

impl Lane {
    pub(crate) fn new(stream: &Stream) -> Result<Self, StagingError> {
        let shape = Arc::new(stream.table.shape.clone());
        let rows = RowBuffer::new(shape, stream.partition_by.as_deref())
            .expect("the partition key was checked when the table was made");
        let table = stream.table.version.table.clone();
        let schema = Arc::clone(rows.schema());
        let writer = StagingWriter::new(table, &stream.table.directory, schema, &stream.hints)?;
        Ok(Self { version: stream.table.version.clone(), rows, writer })
    }

    /// Adds a record; after a decoding error everything is as before.
    pub(crate) fn push(
        &mut self,
        decoder: &RecordDecoder,
        run: &RecordRun,
        record: &Record,
    ) -> Result<(), LaneError> {
        let datum = record.payload().map_or(&[][..], |payload| &payload[HEADER..]);
        match decoder.decode(datum, &mut self.rows) {
            Ok(()) => {}
            Err(DecodeError { problem: Problem::BatchFull, .. }) => {
                self.write()?;
                decoder.decode(datum, &mut self.rows).map_err(LaneError::Decode)?;
            }
            Err(error) => return Err(LaneError::Decode(error)),
        }
        let TopicPartition { topic, partition } = &run.partition;
        let timestamp_ms = record.timestamp_ms().unwrap_or(-1);
        self.rows.push_kafka(topic, partition.0, record.offset(), timestamp_ms);
        if self.rows.rows() >= ROWS_PER_BATCH || self.rows.datum_bytes() >= BYTES_PER_BATCH {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), StagingError> {
        let batch = self.rows.finish_batch().map_err(StagingError::Split)?;
        self.writer.write(&batch)
    }

    /// Closes the files.
    pub(crate) fn finish(&mut self) -> Result<Vec<StagedFile>, StagingError> {
        if self.rows.rows() > 0 {
            self.write()?;
        }
        self.writer.finish()
    }

    /// Drops rows and files that no commit has seen.
    pub(crate) fn abandon(mut self) {
        self.writer.abandon();
    }

    pub(crate) const fn table_version(&self) -> &TableVersion {
        &self.version
    }

    pub(crate) fn rows(&self) -> u64 {
        self.writer.rows() + self.rows.rows() as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    pub(crate) fn memory(&self) -> usize {
        self.writer.memory() + self.rows.memory()
    }

    pub(crate) fn is_scattered(&self) -> bool {
        self.writer.is_scattered()
    }
}
