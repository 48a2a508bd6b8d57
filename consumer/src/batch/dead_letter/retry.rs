//! Retry of dead letters: they are decoded with the current schemas, for the current table.

use std::ffi::CStr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ducktide_decoder::RowBuffer;
use ducktide_protocol::dead_letter::{DeadLetter, RecordLocation, Resolution};
use ducktide_protocol::table::ShapeError;
use ducktide_protocol::{StagedFile, Table};
use ducktide_registry::RegistryArgs;
use thiserror::Error;
use tokio::runtime::Runtime;

use super::{BYTES_PER_BATCH, DeadLetterWriter};
use crate::batch::staging::{ColumnHints, EncoderBudget, StagingError, StagingWriter};
use crate::batch::staging_area::ParquetArea;
use crate::clock::Clock;
use crate::decode::decoders::{DecodeTarget, RecordDecoders, ResolveError, ResolvedRecord};
use crate::decode::error_class::ErrorClass;
use crate::decode::failure::DecodeFailure;
use crate::decode::newest_schemas::NewestSchemas;
use crate::decode::record_format::{KeyArgs, ValueArgs};
use crate::decode::schema_lookup::{RuntimeLookup, SchemaLookup};
use crate::decode::schema_provider::{SchemaError, SchemaProviders};

/// Number of requests before the registry counts as unavailable: an operator waits for the result.
const ATTEMPTS: usize = 5;

/// Pause between two requests; long enough for an unknown schema to be confirmed.
const PAUSE: Duration = Duration::from_secs(1);

/// Reason for which dead letters could not be retried.
#[derive(Debug, Error)]
pub enum RetryError {
    /// The schema registry is unavailable, so the dead letters cannot be judged.
    #[error("request schemas from the registry: {0}")]
    Registry(String),
    /// The schema file or the client of the schema registry cannot be used.
    #[error(transparent)]
    Schemas(#[from] SchemaError),
    /// The table has a partition key of an unknown column.
    #[error("table is partitioned by date; name its timestamp column with --partition-by: {0}")]
    PartitionBy(#[from] ShapeError),
    /// The threads of the registry client cannot be started.
    #[error("start the schema registry client: {0}")]
    Runtime(#[from] std::io::Error),
    /// A file cannot be written.
    #[error(transparent)]
    Staging(#[from] StagingError),
}

/// Writer of the files of a retry: a row of the table for each dead letter, and a row of the
/// dead-letter table that resolves it.
pub struct RetryWriter {
    schemas: RecordDecoders,
    table: Table,
    rows: RowBuffer,
    files: StagingWriter,
    resolved: Vec<RecordLocation>,
    /// Runtime of the registry client; dropped after it.
    _runtime: Runtime,
}

impl std::fmt::Debug for RetryWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RetryWriter").field("table", &self.table).finish_non_exhaustive()
    }
}

impl RetryWriter {
    /// Creates a writer without rows. `partition_by` is the setting of the consumers.
    pub fn new(
        values: &ValueArgs,
        keys: KeyArgs,
        registry: &RegistryArgs,
        table: &Table,
        partition_by: Option<&str>,
    ) -> Result<Self, RetryError> {
        // Not a current-thread runtime: `Handle::block_on` cannot drive the network of one.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let writers = SchemaProviders::new(values, keys, registry)?;
        let lookup: Arc<dyn SchemaLookup> = Arc::new(RuntimeLookup(runtime.handle().clone()));
        let schemas = RecordDecoders::new(writers, &lookup, &Clock::system());
        let rows = RowBuffer::new(Arc::new(table.shape.clone()), partition_by)?;
        let schema = Arc::clone(rows.schema());
        let hints = ColumnHints { one_folder: partition_by.is_none(), ..ColumnHints::default() };
        let files = StagingWriter::of_table(table, schema, &hints, &EncoderBudget::of_command())?;
        let (table, resolved) = (table.clone(), Vec::new());
        Ok(Self { schemas, table, rows, files, resolved, _runtime: runtime })
    }

    /// Adds the row of a dead letter. Returns the reason if it still cannot be decoded.
    pub fn add(&mut self, dead_letter: &DeadLetter) -> Result<Option<DecodeFailure>, RetryError> {
        let Some(value) = &dead_letter.value else {
            return Ok(Some(DecodeFailure::new(
                ErrorClass::NoSchemaId,
                "dead letter has no value",
            )));
        };
        let (topic, newest) = (&dead_letter.place.topic, &NewestSchemas::default());
        let to = DecodeTarget { topic, newest, table: &self.table };
        for _ in 0..ATTEMPTS {
            let header = |name| last_header(dead_letter, name);
            let why = match self.schemas.resolve(value, dead_letter.key.as_deref(), header, to) {
                Ok(ResolvedRecord { decoder, datum, key, .. }) => {
                    let rows = &mut self.rows;
                    let outcome = decoder
                        .decode(datum, rows)
                        .and_then(|()| rows.push_key_and_headers(key, &dead_letter.headers));
                    return match outcome {
                        Ok(()) => self.complete(dead_letter).map(|()| None),
                        Err(error) => Ok(Some(error.into())),
                    };
                }
                Err(ResolveError::Undecodable(failure)) => return Ok(Some(failure)),
                Err(ResolveError::ColumnsMissing(difference)) => {
                    let class = ErrorClass::SchemaDoesNotFit;
                    return Ok(Some(DecodeFailure::new(class, difference.to_string())));
                }
                Err(ResolveError::RegistryUnavailable(why)) => why,
            };
            tracing::warn!(error = why, "schema registry unavailable, retrying");
            thread::sleep(PAUSE);
        }
        Err(RetryError::Registry("registry is unavailable; nothing was changed".to_owned()))
    }

    fn complete(&mut self, dead_letter: &DeadLetter) -> Result<(), RetryError> {
        let RecordLocation { topic, partition, offset } = &dead_letter.place;
        let millis = dead_letter.timestamp_micros.map_or(-1, |micros| micros.div_euclid(1_000));
        self.rows.push_kafka(topic, partition.0, offset.0, millis);
        let batch = self.rows.finish_batch().map_err(StagingError::Split)?;
        self.files.write(&batch)?;
        self.resolved.push(dead_letter.place.clone());
        Ok(())
    }

    /// Closes the files. Returns them with the dead letters that they resolve; both are empty if
    /// there is none.
    pub fn finish(
        mut self,
        dead_letters: &Table,
    ) -> Result<(Vec<RecordLocation>, Vec<StagedFile>), RetryError> {
        let mut files = self.files.finish()?;
        if !self.resolved.is_empty() {
            files.extend(stage_resolutions(dead_letters, Resolution::Retried, &self.resolved)?);
        }
        Ok((self.resolved, files))
    }
}

fn last_header<'a>(dead_letter: &'a DeadLetter, name: &CStr) -> Option<&'a [u8]> {
    let mut newest_first = dead_letter.headers.iter().rev();
    let found = newest_first.find(|header| header.key.as_bytes() == name.to_bytes())?;
    found.value.as_deref()
}

/// Writes rows of the dead-letter table that resolve dead letters.
pub fn stage_resolutions(
    dead_letters: &Table,
    resolution: Resolution,
    places: &[RecordLocation],
) -> Result<Vec<StagedFile>, StagingError> {
    let now = Clock::system().unix_micros();
    let mut writer =
        DeadLetterWriter::new(dead_letters, BYTES_PER_BATCH, &ParquetArea::of_command())?;
    for place in places {
        writer.push(DeadLetter::resolved(place.clone(), resolution, now))?;
    }
    writer.finish()
}
