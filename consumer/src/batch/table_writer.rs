//! Rows of one table within one batcher: decoded into record batches, then written to Parquet
//! files.

use std::sync::Arc;

use arrow_schema::{DataType, Schema};
use ducktide_decoder::{DecodeError, Problem, RowBuffer, timestamp_micros};
use ducktide_protocol::dead_letter::{DeadLetter, RecordLocation};
use ducktide_protocol::table::{TableName, TimeUnit};
use ducktide_protocol::{StagedFile, TableVersion};
use thiserror::Error;

use crate::batch::dead_letter::{
    BYTES_PER_BATCH as DEAD_LETTER_BYTES_PER_BATCH, DeadLetterCounts, DeadLetterWriter,
};
use crate::batch::dedupe::DedupeWindow;
use crate::batch::partial_batch::PartialBatch;
use crate::batch::staging::StagingError;
use crate::batch::staging_area::{RowWriter, StagingArea};
use crate::batch::topic_route::TopicRoute;
use crate::decode::decoders::ResolvedRecord;
use crate::decode::failure::DecodeFailure;
use crate::source::record::KafkaRecord;
use crate::source::{RecordRun, TopicPartition};

/// Maximum number of decoded rows in a record batch: enough for the column loops of the Parquet
/// writer, and small enough for the processor's cache.
const ROWS_PER_BATCH: usize = 8192;

/// Maximum size of a record batch, bytes, unless the memory limit is small.
const BYTES_PER_BATCH: usize = 8 << 20;

/// Number of rows between two checks of the memory of decoded rows: lists take more than their
/// datums.
const ROWS_BETWEEN_CHECKS: usize = 64;

/// Limits of a record batch of decoded rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DecodedLimits {
    rows: usize,
    datum_bytes: usize,
    memory: usize,
}

impl DecodedLimits {
    /// Returns the limits for a table of these columns. They keep the decoded rows within `memory`
    /// bytes, unless single rows are larger.
    fn new(schema: &Schema, memory: usize) -> Self {
        let row_bytes = schema.fields().iter().map(|field| width(field.data_type())).sum::<usize>();
        Self {
            rows: (memory / row_bytes.max(1)).clamp(1, ROWS_PER_BATCH),
            datum_bytes: memory.min(BYTES_PER_BATCH),
            // Builders that grow have room for twice as much.
            memory: memory * 2,
        }
    }

    fn are_reached(self, rows: &RowBuffer) -> bool {
        rows.rows() >= self.rows
            || rows.datum_bytes() >= self.datum_bytes
            || (rows.rows().is_multiple_of(ROWS_BETWEEN_CHECKS) && rows.memory() >= self.memory)
    }
}

/// Returns the bytes of each row in a column of this type, whatever its value is.
fn width(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|field| width(field.data_type())).sum(),
        DataType::FixedSizeBinary(bytes) => usize::try_from(*bytes).unwrap_or(0),
        // Texts and lists have offsets.
        other => other.primitive_width().unwrap_or(size_of::<i32>()),
    }
}

/// Writer of the rows of one table, and of its dead letters.
pub(crate) struct TableWriter<W> {
    version: TableVersion,
    rows: RowBuffer,
    limits: DecodedLimits,
    /// True if decoded rows or dead letters were written since [`Self::take_wrote`].
    wrote: bool,
    writer: W,
    /// Writer of undecodable records; None if they stop the worker.
    dead_letters: Option<DeadLetterWriter<W>>,
    counts: DeadLetterCounts,
    /// Index of the column whose values identify events (`--dedupe-by`).
    ids: Option<usize>,
}

/// Record that cannot be decoded, and why.
pub(crate) struct UndecodableRecord<'a, R: KafkaRecord> {
    pub(crate) run: &'a RecordRun<R>,
    pub(crate) record: &'a R,
    /// Schema id of its value, if it has one.
    pub(crate) schema_id: Option<u32>,
    pub(crate) failure: DecodeFailure,
    /// Time of the failure, microseconds since 1970.
    pub(crate) failed_at_micros: i64,
}

/// Outcome of a decoded record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PushOutcome {
    Row,
    /// A duplicate of a recent row, which was dropped.
    Duplicate,
}

#[derive(Debug, Error)]
pub(crate) enum TableWriterError {
    #[error(transparent)]
    Decode(DecodeError),
    #[error(transparent)]
    Staging(#[from] StagingError),
}

impl<W: RowWriter> TableWriter<W> {
    /// Creates a writer without rows. Decoded rows and dead letters each take at most
    /// `decoded_bytes` before they are written.
    pub(crate) fn new(
        route: &TopicRoute,
        decoded_bytes: usize,
        area: &impl StagingArea<Writer = W>,
    ) -> Result<Self, StagingError> {
        let shape = Arc::new(route.table.shape.clone());
        let rows = RowBuffer::new(shape, route.partition_by.as_deref())
            .expect("the partition key was checked when the table was created");
        let schema = Arc::clone(rows.schema());
        let limits = DecodedLimits::new(&schema, decoded_bytes);
        let writer = area.open(&route.table, schema, &route.hints)?;
        let dead_letters = route.dead_letters.as_ref().map(|table| {
            DeadLetterWriter::new(table, decoded_bytes.min(DEAD_LETTER_BYTES_PER_BATCH), area)
        });
        let dead_letters = dead_letters.transpose()?;
        let (version, counts) = (route.table.version.clone(), DeadLetterCounts::new());
        let ids = route.dedupe.as_ref().and_then(|rule| rows.record_column(&rule.column));
        Ok(Self { version, rows, limits, wrote: false, writer, dead_letters, counts, ids })
    }

    /// Adds a record, unless it is a duplicate of a row of the window. A decoding error changes
    /// nothing.
    pub(crate) fn push<R: KafkaRecord>(
        &mut self,
        resolved: &ResolvedRecord<'_>,
        run: &RecordRun<R>,
        record: &R,
        window: Option<(&mut DedupeWindow, i64)>,
    ) -> Result<PushOutcome, TableWriterError> {
        match self.decode(resolved, record) {
            Ok(()) => {}
            Err(DecodeError { problem: Problem::BatchFull, .. }) => {
                self.write()?;
                self.decode(resolved, record).map_err(TableWriterError::Decode)?;
            }
            Err(error) => return Err(TableWriterError::Decode(error)),
        }
        if let Some((window, now)) = window
            && self.check_duplicate(record, window, now)
        {
            self.rows.abandon_row();
            return Ok(PushOutcome::Duplicate);
        }
        let TopicPartition { topic, partition } = &run.partition;
        let timestamp_ms = record.timestamp_ms().unwrap_or(-1);
        self.rows.push_kafka(topic, partition.0, record.offset().0, timestamp_ms);
        if self.limits.are_reached(&self.rows) {
            self.write()?;
        }
        Ok(PushOutcome::Row)
    }

    /// Begins a row with all fields of a record except its topic, partition and offset.
    fn decode(
        &mut self,
        resolved: &ResolvedRecord<'_>,
        record: &impl KafkaRecord,
    ) -> Result<(), DecodeError> {
        resolved.decoder.decode(resolved.datum, &mut self.rows)?;
        let headers = if self.rows.wants_headers() { record.headers() } else { Vec::new() };
        self.rows.push_key_and_headers(resolved.key, &headers)
    }

    /// Returns whether the record that was decoded last is a duplicate; otherwise adds it to the
    /// window.
    fn check_duplicate(
        &self,
        record: &impl KafkaRecord,
        window: &mut DedupeWindow,
        now: i64,
    ) -> bool {
        let id = self.ids.and_then(|column| self.rows.last_event_id(column));
        let millis = record.timestamp_ms();
        let timestamp = millis.and_then(|ms| timestamp_micros(ms, TimeUnit::Millis).ok());
        let (Some(id), Some(timestamp)) = (id, timestamp) else { return false };
        let (offset, timestamp) = (record.offset(), timestamp.min(now));
        let is_duplicate = window.is_duplicate(&id, offset, timestamp);
        if !is_duplicate {
            window.remember(id, offset, timestamp);
        }
        is_duplicate
    }

    /// Writes a complete copy of an undecodable record to the dead letters.
    pub(crate) fn write_dead_letter<R: KafkaRecord>(
        &mut self,
        undecodable: UndecodableRecord<'_, R>,
    ) -> Result<(), StagingError> {
        *self.counts.entry(undecodable.failure.class).or_default() += 1;
        let dead_letters = self
            .dead_letters
            .as_mut()
            .expect("undecodable records stop the worker without a dead-letter table");
        self.wrote |= dead_letters.push(dead_letter(undecodable))?;
        Ok(())
    }

    fn write(&mut self) -> Result<(), StagingError> {
        let batch = self.rows.finish_batch().map_err(StagingError::Split)?;
        self.wrote = true;
        self.writer.write(&batch)
    }

    /// Closes the files and adds them to the partial batch.
    pub(crate) fn finish(&mut self, part: &mut PartialBatch) -> Result<(), StagingError> {
        if self.rows.rows() > 0 {
            self.write()?;
        }
        add_files(part, self.writer.finish()?, &self.version);
        if let Some(dead_letters) = &mut self.dead_letters {
            add_files(part, dead_letters.finish()?, dead_letters.table_version());
        }
        for (class, count) in std::mem::take(&mut self.counts) {
            *part.stats.dead_letters.entry(class).or_default() += count;
        }
        Ok(())
    }

    /// Drops the rows and removes the files. No commit may have been attempted with them.
    pub(crate) fn abandon(mut self) {
        self.writer.abandon();
        if let Some(dead_letters) = self.dead_letters {
            dead_letters.abandon();
        }
    }

    pub(crate) const fn table(&self) -> &TableName {
        &self.version.table
    }

    pub(crate) fn rows(&self) -> u64 {
        let dead_letters = self.dead_letters.as_ref().map_or(0, DeadLetterWriter::rows);
        self.writer.rows() + self.rows.rows() as u64 + dead_letters
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.writer.bytes() + self.dead_letters.as_ref().map_or(0, DeadLetterWriter::bytes)
    }

    pub(crate) fn memory(&self) -> usize {
        let dead_letters = self.dead_letters.as_ref().map_or(0, DeadLetterWriter::memory);
        // Builders without rows keep their capacity, but none of it is resident.
        let rows = if self.rows.rows() == 0 { 0 } else { self.rows.memory() };
        self.writer.memory() + rows + dead_letters
    }

    /// Returns whether decoded rows or dead letters were written since the last call: only then has
    /// memory grown considerably.
    pub(crate) const fn take_wrote(&mut self) -> bool {
        std::mem::replace(&mut self.wrote, false)
    }

    pub(crate) fn is_scattered(&self) -> bool {
        self.writer.is_scattered()
    }
}

fn add_files(part: &mut PartialBatch, files: Vec<StagedFile>, version: &TableVersion) {
    if !files.is_empty() {
        part.files.extend(files);
        part.table_versions.push(version.clone());
    }
}

/// Returns a complete copy of a record with the reason for which it cannot be decoded.
fn dead_letter<R: KafkaRecord>(undecodable: UndecodableRecord<'_, R>) -> DeadLetter {
    let UndecodableRecord { run, record, schema_id, failure, failed_at_micros } = undecodable;
    let TopicPartition { topic, partition } = &run.partition;
    let timestamp = record.timestamp_ms();
    let micros = |millis| timestamp_micros(millis, TimeUnit::Millis).ok();
    DeadLetter {
        place: RecordLocation {
            topic: topic.to_string(),
            partition: *partition,
            offset: record.offset(),
        },
        timestamp_micros: timestamp.and_then(micros),
        key: record.key().map(<[u8]>::to_vec),
        value: record.payload().map(<[u8]>::to_vec),
        headers: record.headers(),
        schema_id,
        error_class: Some(failure.class.as_str().to_owned()),
        error: Some(failure.text),
        failed_at_micros: Some(failed_at_micros),
        resolution: None,
        resolved_at_micros: None,
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::{Field, Fields};

    use super::*;

    fn schema(columns: usize, of: &DataType) -> Schema {
        let columns = (0..columns).map(|index| Field::new(format!("c{index}"), of.clone(), true));
        Schema::new(columns.collect::<Fields>())
    }

    #[test]
    fn decoded_rows_of_narrow_tables_fill_a_batch() {
        let limits = DecodedLimits::new(&schema(30, &DataType::Int64), 6 << 20);

        assert_eq!((limits.rows, limits.datum_bytes), (8192, 6 << 20));
    }

    #[test]
    fn decoded_rows_of_wide_tables_stay_within_their_memory() {
        let limits = DecodedLimits::new(&schema(1_700, &DataType::Int64), 6 << 20);
        assert_eq!(limits.rows, 462);

        let pair = [DataType::Int64, DataType::Utf8].map(|of| Field::new(of.to_string(), of, true));
        let records = DataType::Struct(pair.into_iter().collect());
        assert_eq!(DecodedLimits::new(&schema(1_000, &records), 6 << 20).rows, 524);
        assert_eq!(DecodedLimits::new(&schema(100_000, &records), 1 << 20).rows, 1);
    }
}
