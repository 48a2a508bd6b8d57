//! Dead letters that are tried again: decoded with what is registered now, for the table as it is now.

use std::ffi::CStr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ducktide_decoder::RowBuffer;
use ducktide_protocol::dead_letter::{DeadLetter, RecordPlace, Resolution};
use ducktide_protocol::table::ShapeError;
use ducktide_protocol::{StagedFile, Table};
use jiff::Timestamp;
use thiserror::Error;
use tokio::runtime::Runtime;

use super::{BYTES_PER_BATCH, DeadLetterWriter};
use crate::batch::staging::{ColumnHints, EncoderBudget, StagingError, StagingWriter};
use crate::decode::decoders::{DecodeTarget, RecordDecoders, ResolveError, ResolvedRecord};
use crate::decode::error_class::ErrorClass;
use crate::decode::failure::DecodeFailure;
use crate::decode::newest_schemas::NewestSchemas;
use crate::decode::record_format::{KeyArgs, ValueArgs};
use crate::decode::schema_provider::SchemaProviders;
use crate::decode::schema_registry::{RegistryArgs, RegistryError};

/// How often the registry is asked before it counts as down: an operator waits for the answer.
const ATTEMPTS: usize = 5;

/// Between two of them; long enough for an unknown schema to be confirmed.
const PAUSE: Duration = Duration::from_secs(1);

/// Why letters could not be tried.
#[derive(Debug, Error)]
pub enum RetryError {
    /// The registry does not answer, so nothing can be said of the letters.
    #[error("ask the schema registry: {0}")]
    Registry(String),
    /// The registry's address is wrong.
    #[error(transparent)]
    Address(#[from] RegistryError),
    /// The table has a partition key, and nobody says of which column.
    #[error("the table has folders for dates; name its timestamp with --partition-by: {0}")]
    PartitionBy(#[from] ShapeError),
    /// No threads for the registry's client.
    #[error("start the schema registry's client: {0}")]
    Runtime(#[from] std::io::Error),
    /// The files cannot be written.
    #[error(transparent)]
    Staging(#[from] StagingError),
}

/// Writes what a retry commits: a row of the table for each letter, and a row that resolves it.
pub struct RetryWriter {
    schemas: RecordDecoders,
    table: Table,
    rows: RowBuffer,
    files: StagingWriter,
    resolved: Vec<RecordPlace>,
    /// Runs the registry's client; dropped after it.
    _runtime: Runtime,
}

impl std::fmt::Debug for RetryWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RetryWriter").field("table", &self.table).finish_non_exhaustive()
    }
}

impl RetryWriter {
    /// A stage without rows. `partition_by` is the consumers' own.
    pub fn new(
        values: &ValueArgs,
        keys: KeyArgs,
        registry: &RegistryArgs,
        table: &Table,
        partition_by: Option<&str>,
    ) -> Result<Self, RetryError> {
        // Not the current thread's: its handle could not wait for the network.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let writers = SchemaProviders::new(values, keys, registry)?;
        let schemas = RecordDecoders::new(writers, runtime.handle().clone());
        let rows = RowBuffer::new(Arc::new(table.shape.clone()), partition_by)?;
        let schema = Arc::clone(rows.schema());
        let hints = ColumnHints { one_folder: partition_by.is_none(), ..ColumnHints::default() };
        let files = StagingWriter::of_table(table, schema, &hints, &EncoderBudget::of_command())?;
        let (table, resolved) = (table.clone(), Vec::new());
        Ok(Self { schemas, table, rows, files, resolved, _runtime: runtime })
    }

    /// Adds a letter's row, or says what is wrong with it still.
    pub fn add(&mut self, dead_letter: &DeadLetter) -> Result<Option<DecodeFailure>, RetryError> {
        let Some(value) = &dead_letter.value else {
            return Ok(Some(DecodeFailure::new(
                ErrorClass::NoSchemaId,
                "dead_letter has no value",
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
            tracing::warn!(error = why, "waiting for the schema registry");
            thread::sleep(PAUSE);
        }
        Err(RetryError::Registry("it does not answer; nothing was changed".to_owned()))
    }

    fn complete(&mut self, dead_letter: &DeadLetter) -> Result<(), RetryError> {
        let RecordPlace { topic, partition, offset } = &dead_letter.place;
        let millis = dead_letter.timestamp_micros.map_or(-1, |micros| micros.div_euclid(1_000));
        self.rows.push_kafka(topic, partition.0, offset.0, millis);
        let batch = self.rows.finish_batch().map_err(StagingError::Split)?;
        self.files.write(&batch)?;
        self.resolved.push(dead_letter.place.clone());
        Ok(())
    }

    /// Closes the files. Returns them with the letters that they resolve; none, if there is none.
    pub fn finish(
        mut self,
        dead_letters: &Table,
    ) -> Result<(Vec<RecordPlace>, Vec<StagedFile>), RetryError> {
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

/// Writes the rows of the dead-letter table that say what became of letters.
pub fn stage_resolutions(
    dead_letters: &Table,
    resolution: Resolution,
    places: &[RecordPlace],
) -> Result<Vec<StagedFile>, StagingError> {
    let now = Timestamp::now().as_microsecond();
    let mut writer =
        DeadLetterWriter::new(dead_letters, BYTES_PER_BATCH, &EncoderBudget::of_command())?;
    for place in places {
        writer.push(DeadLetter::resolved(place.clone(), resolution, now))?;
    }
    writer.finish()
}
