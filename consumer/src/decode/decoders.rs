//! Decoders by schema id, each compiled once.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ducktide_decoder::{CompileError, Key, KeyDecoder, RecordDecoder};
use ducktide_protocol::table::{AvroSchema, Difference};
use ducktide_protocol::{Table, TableVersion};
use ducktide_registry::RegistryError;

use crate::clock::Clock;
use crate::decode::error_class::ErrorClass;
use crate::decode::failure::DecodeFailure;
use crate::decode::newest_schemas::NewestSchemas;
use crate::decode::schema_lookup::SchemaLookup;
use crate::decode::schema_provider::{SchemaId, SchemaProvider, SchemaProviders};

/// Minimum time for which the registry must answer that a schema does not exist before the answer
/// is accepted: a registry that just restarted may not have read its log. Shorter than the pause
/// between two requests.
const CONFIRMED_AFTER: Duration = Duration::from_millis(500);

/// Time for which such an answer is valid. Afterwards the registry may have restarted, or have the
/// schema.
const ANSWER_COUNTS: Duration = Duration::from_secs(10);

/// Decoders of one batcher.
pub(crate) struct RecordDecoders {
    values: DecoderCache<RecordDecoder>,
    /// None if keys are not Avro.
    keys: Option<DecoderCache<KeyDecoder>>,
}

/// Topic, newest schemas and table of records that are decoded.
#[derive(Clone, Copy)]
pub(crate) struct DecodeTarget<'a> {
    pub(crate) topic: &'a str,
    pub(crate) newest: &'a NewestSchemas,
    pub(crate) table: &'a Table,
}

/// Record with the decoders of its schemas.
pub(crate) struct ResolvedRecord<'a> {
    /// Schema id of its value, if it is known.
    pub(crate) schema_id: Option<u32>,
    pub(crate) decoder: &'a RecordDecoder,
    /// Value without the schema id.
    pub(crate) datum: &'a [u8],
    pub(crate) key: Key<'a>,
}

/// Reason for which a record cannot be decoded.
pub(crate) enum ResolveError {
    /// The schema registry is unavailable; retry.
    RegistryUnavailable(String),
    /// The table lacks columns of the record's schema, and fits otherwise.
    ColumnsMissing(Difference),
    /// The record can never be decoded.
    Undecodable(DecodeFailure),
}

impl RecordDecoders {
    pub(crate) fn new(
        providers: SchemaProviders,
        lookup: &Arc<dyn SchemaLookup>,
        clock: &Clock,
    ) -> Self {
        let keys = providers.keys.map(|keys| DecoderCache::new(keys, lookup, clock, compile_key));
        Self { values: DecoderCache::new(providers.values, lookup, clock, compile_value), keys }
    }

    /// Finds the decoders of a record. Requests schemas from the registry for ids not seen before.
    /// `header` returns the last header of a name.
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

    /// Returns the schema id of a value, if it has one.
    pub(crate) fn id_of<'a>(
        &self,
        value: &'a [u8],
        header: impl Fn(&'static CStr) -> Option<&'a [u8]>,
    ) -> Option<u32> {
        self.values.provider.split(value, header).ok().and_then(|(id, _)| id.number())
    }
}

/// Function that compiles the decoder of a writer's schema.
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

/// Decoders of values, or of keys, by schema id and table version.
struct DecoderCache<D> {
    provider: SchemaProvider,
    lookup: Arc<dyn SchemaLookup>,
    clock: Clock,
    compile: Compile<D>,
    decoders: HashMap<(SchemaId, TableVersion), Arc<D>>,
    /// Decoder that was used last; records of one schema come in long runs.
    last: Option<(SchemaId, TableVersion, Arc<D>)>,
    /// Recent failures by schema id and table version, so that a run of undecodable records does
    /// not cause a request for each of them.
    failed: HashMap<(SchemaId, TableVersion), (Instant, DecodeFailure)>,
    confirmation: NotFoundConfirmation,
}

impl<D> DecoderCache<D> {
    fn new(
        provider: SchemaProvider,
        lookup: &Arc<dyn SchemaLookup>,
        clock: &Clock,
        compile: Compile<D>,
    ) -> Self {
        Self {
            provider,
            lookup: Arc::clone(lookup),
            clock: clock.clone(),
            compile,
            decoders: HashMap::new(),
            last: None,
            failed: HashMap::new(),
            confirmation: NotFoundConfirmation::default(),
        }
    }

    /// Returns the schema id, the decoder and the datum of a payload.
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
            && self.clock.now() - *at < ANSWER_COUNTS
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
                // Decoders for older versions of the table are not needed any more.
                self.decoders.retain(|(_, of), _| of.table != key.1.table || *of == key.1);
                self.decoders.insert(key, Arc::clone(&decoder));
                Ok(decoder)
            }
            Err(ResolveError::Undecodable(failure)) => {
                let now = self.clock.now();
                self.failed.retain(|_, (at, _)| now - *at < ANSWER_COUNTS);
                self.failed.insert(key, (now, failure.clone()));
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
        let schema = match self.lookup.schema(&self.provider, id) {
            Ok(schema) => schema,
            Err(error @ RegistryError::NotFound(_)) => {
                return Err(
                    if self.confirmation.is_confirmed(self.clock.now())
                        || mutated!(AbsenceNotConfirmed)
                    {
                        bad(ErrorClass::UnknownSchema, error.to_string())
                    } else {
                        ResolveError::RegistryUnavailable(named(error.to_string()))
                    },
                );
            }
            Err(error) if error.is_recoverable() && !mutated!(RegistryOutageTakenAsAnswer) => {
                self.confirmation = NotFoundConfirmation::default();
                return Err(ResolveError::RegistryUnavailable(error.to_string()));
            }
            Err(error) => return Err(bad(ErrorClass::UnusableSchema, error.to_string())),
        };
        match (self.compile)(&self.provider, &schema, to) {
            Ok(decoder) => Ok(decoder),
            Err(CompileError::DoesNotFit(difference)) if difference.mismatched.is_empty() => {
                Err(ResolveError::ColumnsMissing(difference))
            }
            Err(error) => {
                let place = self.lookup.place(&self.provider, to.topic, id);
                let place = place.map_or_else(String::new, |(subject, version)| {
                    format!(": subject=`{subject}` version=`{version}`")
                });
                Err(bad(ErrorClass::SchemaDoesNotFit, format!("{error}{place}")))
            }
        }
    }
}

/// Times of the first and last answer of the registry that a schema does not exist, without an
/// outage in between.
#[derive(Clone, Copy, Debug, Default)]
struct NotFoundConfirmation(Option<(Instant, Instant)>);

impl NotFoundConfirmation {
    /// Records such an answer; returns whether it is confirmed.
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
    fn an_unknown_schema_is_confirmed_by_a_second_answer() {
        let start = Clock::manual().now();
        let mut confirmation = NotFoundConfirmation::default();

        assert!(!confirmation.is_confirmed(start));
        assert!(confirmation.is_confirmed(start + Duration::from_secs(1)));
        assert!(
            confirmation.is_confirmed(start + Duration::from_secs(2)),
            "another id, soon after"
        );
    }

    #[test]
    fn an_old_answer_does_not_confirm() {
        let start = Clock::manual().now();
        let mut confirmation = NotFoundConfirmation::default();
        confirmation.is_confirmed(start);

        assert!(!confirmation.is_confirmed(start + Duration::from_mins(1)));
    }
}
