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
use crate::decode::failure::Flaw;
use crate::decode::newest_schemas::Newest;
use crate::decode::schema_provider::{RecordWriters, SchemaId, Writers};
use crate::decode::schema_registry::RegistryError;

/// How long the registry must have said that it knows no such schema before it is believed: one that
/// just restarted may not have read its own log yet. Shorter than the pause between two questions.
const CONFIRMED_AFTER: Duration = Duration::from_millis(500);

/// How long such an answer counts: afterwards the registry may have restarted, or learned.
const ANSWER_COUNTS: Duration = Duration::from_secs(10);

/// What one batcher decodes records with.
pub(crate) struct RecordSchemas {
    values: Schemas<RecordDecoder>,
    /// None where keys are kept as they are, or not at all.
    keys: Option<Schemas<KeyDecoder>>,
}

/// What records are to become.
#[derive(Clone, Copy)]
pub(crate) struct Destination<'a> {
    pub(crate) topic: &'a str,
    pub(crate) newest: &'a Newest,
    pub(crate) table: &'a Table,
}

/// A record whose schemas are known.
pub(crate) struct Readable<'a> {
    /// The registry's number for the schema of its value, if it is known.
    pub(crate) schema_id: Option<u32>,
    pub(crate) decoder: &'a RecordDecoder,
    /// The value without the registry's header.
    pub(crate) datum: &'a [u8],
    pub(crate) key: Key<'a>,
}

/// Why a record cannot be read.
pub(crate) enum Unreadable {
    /// The registry does not answer; ask again.
    Unavailable(String),
    /// The table lacks columns of the record's schema; otherwise it fits.
    ColumnsMissing(Difference),
    /// No schema can decode the record.
    Bad(Flaw),
}

impl RecordSchemas {
    pub(crate) fn new(writers: RecordWriters, runtime: Handle) -> Self {
        let keys = writers.keys.map(|writers| Schemas::new(writers, runtime.clone(), compile_key));
        Self { values: Schemas::new(writers.values, runtime, compile_value), keys }
    }

    /// What reads a record; `header` finds the last of its headers of a name. Asks the registry for ids
    /// not seen before.
    pub(crate) fn of_record<'a, 'r: 'a>(
        &'a mut self,
        value: &'r [u8],
        key: Option<&'r [u8]>,
        header: impl Fn(&'static CStr) -> Option<&'r [u8]>,
        to: Destination<'_>,
    ) -> Result<Readable<'a>, Unreadable> {
        let (schema_id, decoder, datum) = self.values.decoder(value, &header, to)?;
        let schema_id = schema_id.number();
        let key = match (&mut self.keys, key) {
            (Some(schemas), Some(key)) => {
                let (_, decoder, datum) = schemas.decoder(key, &header, to)?;
                Key::Avro(decoder, datum)
            }
            (_, key) => Key::Raw(key),
        };
        Ok(Readable { schema_id, decoder, datum, key })
    }

    /// The registry's number for a value's schema, if it is known.
    pub(crate) fn id_of<'a>(
        &self,
        value: &'a [u8],
        header: impl Fn(&'static CStr) -> Option<&'a [u8]>,
    ) -> Option<u32> {
        self.values.writers.split(value, header).ok().and_then(|(id, _)| id.number())
    }
}

/// Compiles a decoder of a writer's schema.
type Compile<D> = fn(&Writers, &AvroSchema, Destination<'_>) -> Result<D, CompileError>;

fn compile_value(
    writers: &Writers,
    schema: &AvroSchema,
    to: Destination<'_>,
) -> Result<RecordDecoder, CompileError> {
    let shape = Arc::new(to.table.shape.clone());
    if writers.are_json() {
        return Ok(RecordDecoder::of_json(shape));
    }
    RecordDecoder::compile(schema, writers.union_as, &to.newest.fields, shape)
}

fn compile_key(
    writers: &Writers,
    schema: &AvroSchema,
    to: Destination<'_>,
) -> Result<KeyDecoder, CompileError> {
    KeyDecoder::compile(schema, writers.union_as, to.newest.key.as_slice(), &to.table.shape)
}

/// The decoders of values, or of keys, by schema id and the version of the table that they write for.
struct Schemas<D> {
    writers: Writers,
    runtime: Handle,
    compile: Compile<D>,
    decoders: HashMap<(SchemaId, TableVersion), Arc<D>>,
    /// The last one used; records of one schema come in long runs.
    last: Option<(SchemaId, TableVersion, Arc<D>)>,
    /// What is wrong with schemas that were asked for lately, so that a run of bad records does not
    /// ask the registry for each of them.
    flawed: HashMap<(SchemaId, TableVersion), (Instant, Flaw)>,
    doubt: Doubt,
}

impl<D> Schemas<D> {
    fn new(writers: Writers, runtime: Handle, compile: Compile<D>) -> Self {
        Self {
            writers,
            runtime,
            compile,
            decoders: HashMap::new(),
            last: None,
            flawed: HashMap::new(),
            doubt: Doubt::default(),
        }
    }

    /// The schema's id, what decodes it, and the datum.
    fn decoder<'r>(
        &mut self,
        payload: &'r [u8],
        header: impl Fn(&'static CStr) -> Option<&'r [u8]>,
        to: Destination<'_>,
    ) -> Result<(SchemaId, &D, &'r [u8]), Unreadable> {
        let (id, datum) = self.writers.split(payload, header).map_err(Unreadable::Bad)?;
        let version = &to.table.version;
        let is_last = |(last, of, _): &(SchemaId, TableVersion, _)| *last == id && of == version;
        if !self.last.as_ref().is_some_and(is_last) {
            let decoder = self.find(id, to)?;
            self.last = Some((id, version.clone(), decoder));
        }
        Ok((id, &self.last.as_ref().expect("set above").2, datum))
    }

    fn find(&mut self, id: SchemaId, to: Destination<'_>) -> Result<Arc<D>, Unreadable> {
        let key = (id, to.table.version.clone());
        if let Some(decoder) = self.decoders.get(&key) {
            return Ok(Arc::clone(decoder));
        }
        if let Some((at, flaw)) = self.flawed.get(&key)
            && at.elapsed() < ANSWER_COUNTS
        {
            return Err(Unreadable::Bad(flaw.clone()));
        }
        match self.compile(id, to) {
            Ok(decoder) => {
                let decoder = Arc::new(decoder);
                let of = self.writers.part.name();
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
            Err(Unreadable::Bad(flaw)) => {
                self.flawed.retain(|_, (at, _)| at.elapsed() < ANSWER_COUNTS);
                self.flawed.insert(key, (Instant::now(), flaw.clone()));
                Err(Unreadable::Bad(flaw))
            }
            Err(answer) => Err(answer),
        }
    }

    fn compile(&mut self, id: SchemaId, to: Destination<'_>) -> Result<D, Unreadable> {
        let named = |text: String| match id {
            SchemaId::Common => text,
            SchemaId::Id(_) | SchemaId::Guid(_) => format!("{text}: {id}"),
        };
        let bad = |class, text| Unreadable::Bad(Flaw::new(class, named(text)));
        let schema = match self.runtime.block_on(self.writers.by_id(id)) {
            Ok(schema) => schema,
            Err(RegistryError::Unknown(text)) if self.doubt.is_confirmed(Instant::now()) => {
                return Err(bad(ErrorClass::UnknownSchema, text));
            }
            Err(RegistryError::Unknown(text)) => return Err(Unreadable::Unavailable(named(text))),
            Err(RegistryError::Unavailable(text)) => {
                self.doubt = Doubt::default();
                return Err(Unreadable::Unavailable(text));
            }
            Err(error) => return Err(bad(ErrorClass::UnusableSchema, error.to_string())),
        };
        match (self.compile)(&self.writers, &schema, to) {
            Ok(decoder) => Ok(decoder),
            Err(CompileError::DoesNotFit(difference)) if difference.unfit.is_empty() => {
                Err(Unreadable::ColumnsMissing(difference))
            }
            Err(error) => {
                let place = self.runtime.block_on(self.writers.place(to.topic, id));
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
struct Doubt(Option<(Instant, Instant)>);

impl Doubt {
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
        let mut doubt = Doubt::default();

        assert!(!doubt.is_confirmed(start));
        assert!(doubt.is_confirmed(start + Duration::from_secs(1)));
        assert!(doubt.is_confirmed(start + Duration::from_secs(2)), "another id, soon after");
    }

    #[test]
    fn an_old_answer_does_not_count() {
        let start = Instant::now();
        let mut doubt = Doubt::default();
        doubt.is_confirmed(start);

        assert!(!doubt.is_confirmed(start + Duration::from_mins(1)));
    }
}
