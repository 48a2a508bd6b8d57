//! Decoders by schema id: which one a record needs, compiled once.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ducktide_decoder::{CompileError, Key, KeyDecoder, RecordDecoder};
use ducktide_protocol::table::{AvroSchema, Difference};
use ducktide_protocol::{Table, TableVersion};
use tokio::runtime::Handle;

use crate::decode::error_class::ErrorClass;
use crate::decode::failure::DecodeFailure;
use crate::decode::newest_schemas::NewestSchemas;
use crate::decode::schema_provider::{SchemaId, SchemaProvider, SchemaProviders};
use crate::decode::schema_registry::RegistryError;

/// How long the registry must have said that it knows no such schema before it is believed: one that
/// just restarted may not have read its own log yet. Shorter than the pause between two questions.
const CONFIRMED_AFTER: Duration = Duration::from_millis(500);

/// How long such an answer counts: afterwards the registry may have restarted, or learned.
const ANSWER_COUNTS: Duration = Duration::from_secs(10);

/// What one batcher decodes records with.
pub(crate) struct RecordDecoders {
    values: DecoderCache<RecordDecoder>,
    /// None where keys are kept as they are, or not at all.
    keys: Option<DecoderCache<KeyDecoder>>,
}

/// What records are to become.
#[derive(Clone, Copy)]
pub(crate) struct DecodeTarget<'a> {
    pub(crate) topic: &'a str,
    pub(crate) newest: &'a NewestSchemas,
    pub(crate) table: &'a Table,
}

/// A record whose schemas are known.
pub(crate) struct ResolvedRecord<'a> {
    /// The registry's number for the schema of its value, if it is known.
    pub(crate) schema_id: Option<u32>,
    pub(crate) decoder: &'a RecordDecoder,
    /// The value without the registry's header.
    pub(crate) datum: &'a [u8],
    pub(crate) key: Key<'a>,
}

/// Why a record cannot be read.
pub(crate) enum ResolveError {
    /// The registry does not answer; ask again.
    RegistryUnavailable(String),
    /// The table lacks columns of the record's schema; otherwise it fits.
    ColumnsMissing(Difference),
    /// No schema can decode the record.
    Undecodable(DecodeFailure),
}

impl RecordDecoders {
    pub(crate) fn new(provider: SchemaProviders, runtime: Handle) -> Self {
        let keys =
            provider.keys.map(|provider| DecoderCache::new(provider, runtime.clone(), compile_key));
        Self { values: DecoderCache::new(provider.values, runtime, compile_value), keys }
    }

    /// What reads a record; `header` finds the last of its headers of a name. Asks the registry for ids
    /// not seen before.
    pub(crate) fn resolve<'a, 'r: 'a>(
        &'a mut self,
        value: &'r [u8],
        key: Option<&'r [u8]>,
        header: impl Fn(&'static CStr) -> Option<&'r [u8]>,
        to: DecodeTarget<'_>,
    ) -> Result<ResolvedRecord<'a>, ResolveError> {
        let (schema_id, decoder, datum) = self.values.decoder(value, &header, to)?;
        let schema_id = schema_id.number();
        let key = match (&mut self.keys, key) {
            (Some(schemas), Some(key)) => {
                let (_, decoder, datum) = schemas.decoder(key, &header, to)?;
                Key::Avro(decoder, datum)
            }
            (_, key) => Key::Raw(key),
        };
        Ok(ResolvedRecord { schema_id, decoder, datum, key })
    }

    /// The registry's number for a value's schema, if it is known.
    pub(crate) fn id_of<'a>(
        &self,
        value: &'a [u8],
        header: impl Fn(&'static CStr) -> Option<&'a [u8]>,
    ) -> Option<u32> {
        self.values.provider.split(value, header).ok().and_then(|(id, _)| id.number())
    }
}

/// Compiles a decoder of a writer's schema.
type Compile<D> = fn(&SchemaProvider, &AvroSchema, DecodeTarget<'_>) -> Result<D, CompileError>;

fn compile_value(
    provider: &SchemaProvider,
    schema: &AvroSchema,
    to: DecodeTarget<'_>,
) -> Result<RecordDecoder, CompileError> {
    let shape = Arc::new(to.table.shape.clone());
    if provider.are_json() {
        return Ok(RecordDecoder::of_json(shape));
    }
    RecordDecoder::compile(schema, provider.union_as, &to.newest.fields, shape)
}

fn compile_key(
    provider: &SchemaProvider,
    schema: &AvroSchema,
    to: DecodeTarget<'_>,
) -> Result<KeyDecoder, CompileError> {
    KeyDecoder::compile(schema, provider.union_as, to.newest.key.as_slice(), &to.table.shape)
}

/// The decoders of values, or of keys, by schema id and the version of the table that they write for.
struct DecoderCache<D> {
    provider: SchemaProvider,
    runtime: Handle,
    compile: Compile<D>,
    decoders: HashMap<(SchemaId, TableVersion), Arc<D>>,
    /// The last one used; records of one schema come in long runs.
    last: Option<(SchemaId, TableVersion, Arc<D>)>,
    /// What is wrong with schemas that were asked for lately, so that a run of bad records does not
    /// ask the registry for each of them.
    failed: HashMap<(SchemaId, TableVersion), (Instant, DecodeFailure)>,
    confirmation: NotFoundConfirmation,
}

impl<D> DecoderCache<D> {
    fn new(provider: SchemaProvider, runtime: Handle, compile: Compile<D>) -> Self {
        Self {
            provider,
            runtime,
            compile,
            decoders: HashMap::new(),
            last: None,
            failed: HashMap::new(),
            confirmation: NotFoundConfirmation::default(),
        }
    }

    /// The schema's id, what decodes it, and the datum.
    fn decoder<'r>(
        &mut self,
        payload: &'r [u8],
        header: impl Fn(&'static CStr) -> Option<&'r [u8]>,
        to: DecodeTarget<'_>,
    ) -> Result<(SchemaId, &D, &'r [u8]), ResolveError> {
        let (id, datum) =
            self.provider.split(payload, header).map_err(ResolveError::Undecodable)?;
        let version = &to.table.version;
        let is_last = |(last, of, _): &(SchemaId, TableVersion, _)| *last == id && of == version;
        if !self.last.as_ref().is_some_and(is_last) {
            let decoder = self.find(id, to)?;
            self.last = Some((id, version.clone(), decoder));
        }
        Ok((id, &self.last.as_ref().expect("set above").2, datum))
    }

    fn find(&mut self, id: SchemaId, to: DecodeTarget<'_>) -> Result<Arc<D>, ResolveError> {
        let key = (id, to.table.version.clone());
        if let Some(decoder) = self.decoders.get(&key) {
            return Ok(Arc::clone(decoder));
        }
        if let Some((at, failure)) = self.failed.get(&key)
            && at.elapsed() < ANSWER_COUNTS
        {
            return Err(ResolveError::Undecodable(failure.clone()));
        }
        match self.compile(id, to) {
            Ok(decoder) => {
                let decoder = Arc::new(decoder);
                let of = self.provider.part.name();
                let schema_guid = match id {
                    SchemaId::Guid(guid) => Some(tracing::field::display(guid)),
                    SchemaId::Common | SchemaId::Id(_) => None,
                };
                tracing::info!(
                    schema_id = id.number(),
                    schema_guid,
                    of,
                    table = %key.1.table,
                    "decoder compiled"
                );
                // Those for the table as it was are of no use any more.
                self.decoders.retain(|(_, of), _| of.table != key.1.table || *of == key.1);
                self.decoders.insert(key, Arc::clone(&decoder));
                Ok(decoder)
            }
            Err(ResolveError::Undecodable(failure)) => {
                self.failed.retain(|_, (at, _)| at.elapsed() < ANSWER_COUNTS);
                self.failed.insert(key, (Instant::now(), failure.clone()));
                Err(ResolveError::Undecodable(failure))
            }
            Err(answer) => Err(answer),
        }
    }

    fn compile(&mut self, id: SchemaId, to: DecodeTarget<'_>) -> Result<D, ResolveError> {
        let named = |text: String| match id {
            SchemaId::Common => text,
            SchemaId::Id(_) | SchemaId::Guid(_) => format!("{text}: {id}"),
        };
        let bad = |class, text| ResolveError::Undecodable(DecodeFailure::new(class, named(text)));
        let schema = match self.runtime.block_on(self.provider.by_id(id)) {
            Ok(schema) => schema,
            Err(RegistryError::Unknown(text)) if self.confirmation.is_confirmed(Instant::now()) => {
                return Err(bad(ErrorClass::UnknownSchema, text));
            }
            Err(RegistryError::Unknown(text)) => {
                return Err(ResolveError::RegistryUnavailable(named(text)));
            }
            Err(RegistryError::Unavailable(text)) => {
                self.confirmation = NotFoundConfirmation::default();
                return Err(ResolveError::RegistryUnavailable(text));
            }
            Err(error) => return Err(bad(ErrorClass::UnusableSchema, error.to_string())),
        };
        match (self.compile)(&self.provider, &schema, to) {
            Ok(decoder) => Ok(decoder),
            Err(CompileError::DoesNotFit(difference)) if difference.unfit.is_empty() => {
                Err(ResolveError::ColumnsMissing(difference))
            }
            Err(error) => {
                let place = self.runtime.block_on(self.provider.place(to.topic, id));
                let place = place.map_or_else(String::new, |(subject, version)| {
                    format!(": subject=`{subject}` version=`{version}`")
                });
                Err(bad(ErrorClass::SchemaDoesNotFit, format!("{error}{place}")))
            }
        }
    }
}

/// Since when the registry has said, without an outage in between, that it knows no such schema.
#[derive(Clone, Copy, Debug, Default)]
struct NotFoundConfirmation(Option<(Instant, Instant)>);

impl NotFoundConfirmation {
    /// Takes note of one more such answer; whether it is believed.
    fn is_confirmed(&mut self, now: Instant) -> bool {
        let since = match self.0 {
            Some((since, last)) if now - last < ANSWER_COUNTS => since,
            _ => now,
        };
        self.0 = Some((since, now));
        now - since >= CONFIRMED_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_schema_is_believed_when_it_was_asked_for_twice() {
        let start = Instant::now();
        let mut confirmation = NotFoundConfirmation::default();

        assert!(!confirmation.is_confirmed(start));
        assert!(confirmation.is_confirmed(start + Duration::from_secs(1)));
        assert!(
            confirmation.is_confirmed(start + Duration::from_secs(2)),
            "another id, soon after"
        );
    }

    #[test]
    fn an_old_answer_does_not_count() {
        let start = Instant::now();
        let mut confirmation = NotFoundConfirmation::default();
        confirmation.is_confirmed(start);

        assert!(!confirmation.is_confirmed(start + Duration::from_mins(1)));
    }
}
