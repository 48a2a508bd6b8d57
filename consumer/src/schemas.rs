//! Decoders by schema id: which one a record needs, compiled once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ducktide_lake::table::{AvroField, Difference};
use ducktide_lake::{Table, TableVersion};
use tokio::runtime::Handle;

use crate::dead_letter::{ErrorClass, Flaw};
use crate::decoder::{CompileError, RecordDecoder};
use crate::schema_registry::RegistryError;
use crate::value_format::Writers;

/// How long the registry must have said that it knows no such schema before it is believed: one that
/// just restarted may not have read its own log yet. Shorter than the pause between two questions.
const CONFIRMED_AFTER: Duration = Duration::from_millis(500);

/// How long such an answer counts: afterwards the registry may have restarted, or learned.
const ANSWER_COUNTS: Duration = Duration::from_secs(10);

/// None where values have no id, as all have one schema.
type SchemaId = Option<u32>;

/// The decoders of one batcher, by schema id and the version of the table that they write for.
pub(crate) struct Schemas {
    writers: Writers,
    runtime: Handle,
    decoders: HashMap<(SchemaId, TableVersion), Arc<RecordDecoder>>,
    /// The last one used; records of one schema come in long runs.
    last: Option<(SchemaId, TableVersion, Arc<RecordDecoder>)>,
    /// What is wrong with schemas that were asked for lately, so that a run of bad records does not
    /// ask the registry for each of them.
    flawed: HashMap<(SchemaId, TableVersion), (Instant, Flaw)>,
    doubt: Doubt,
}

/// The answer for one record.
pub(crate) enum Lookup<'a, 'p> {
    /// The schema's id, what decodes its records, and this one's datum.
    Found(SchemaId, &'a RecordDecoder, &'p [u8]),
    /// The registry does not answer; ask again.
    Unavailable(String),
    /// The table lacks columns of the record's schema; otherwise it fits.
    ColumnsMissing(Difference),
    /// No schema can decode the record.
    Bad(Flaw),
}

impl Schemas {
    pub(crate) fn new(writers: Writers, runtime: Handle) -> Self {
        Self {
            writers,
            runtime,
            decoders: HashMap::new(),
            last: None,
            flawed: HashMap::new(),
            doubt: Doubt::default(),
        }
    }

    /// The decoder of a payload of a topic for the table. Asks the registry for an id not seen before.
    /// `newest` is what is known of the topic's newest schema.
    pub(crate) fn decoder<'p>(
        &mut self,
        payload: &'p [u8],
        topic: &str,
        newest: &[AvroField],
        table: &Table,
    ) -> Lookup<'_, 'p> {
        let (id, datum) = match self.writers.split(payload) {
            Ok(parts) => parts,
            Err(flaw) => return Lookup::Bad(flaw),
        };
        let version = &table.version;
        let is_last = |(last, of, _): &(SchemaId, TableVersion, _)| *last == id && of == version;
        if !self.last.as_ref().is_some_and(is_last) {
            match self.find(id, topic, newest, table) {
                Ok(decoder) => self.last = Some((id, version.clone(), decoder)),
                Err(answer) => return answer,
            }
        }
        Lookup::Found(id, &self.last.as_ref().expect("set above").2, datum)
    }

    /// The id that a value has in front, if it has one.
    pub(crate) fn id_of(&self, payload: &[u8]) -> SchemaId {
        self.writers.split(payload).ok().and_then(|(id, _)| id)
    }

    fn find(
        &mut self,
        id: SchemaId,
        topic: &str,
        newest: &[AvroField],
        table: &Table,
    ) -> Result<Arc<RecordDecoder>, Lookup<'static, 'static>> {
        let key = (id, table.version.clone());
        if let Some(decoder) = self.decoders.get(&key) {
            return Ok(Arc::clone(decoder));
        }
        if let Some((at, flaw)) = self.flawed.get(&key)
            && at.elapsed() < ANSWER_COUNTS
        {
            return Err(Lookup::Bad(flaw.clone()));
        }
        match self.compile(id, topic, newest, table) {
            Ok(decoder) => {
                tracing::info!(schema_id = id, table = %key.1.table, "decoder compiled");
                // Those for the table as it was are of no use any more.
                self.decoders.retain(|(_, of), _| of.table != key.1.table || *of == key.1);
                self.decoders.insert(key, Arc::clone(&decoder));
                Ok(decoder)
            }
            Err(Lookup::Bad(flaw)) => {
                self.flawed.retain(|_, (at, _)| at.elapsed() < ANSWER_COUNTS);
                self.flawed.insert(key, (Instant::now(), flaw.clone()));
                Err(Lookup::Bad(flaw))
            }
            Err(answer) => Err(answer),
        }
    }

    fn compile(
        &mut self,
        id: SchemaId,
        topic: &str,
        newest: &[AvroField],
        table: &Table,
    ) -> Result<Arc<RecordDecoder>, Lookup<'static, 'static>> {
        let shape = Arc::new(table.shape.clone());
        if self.writers.are_json() {
            return Ok(Arc::new(RecordDecoder::of_json(shape)));
        }
        let named = |text: String| match id {
            Some(id) => format!("{text}: schema_id=`{id}`"),
            None => text,
        };
        let bad = |class, text| Lookup::Bad(Flaw::new(class, named(text)));
        let schema = match self.runtime.block_on(self.writers.by_id(id)) {
            Ok(schema) => schema,
            Err(RegistryError::Unknown(text)) if self.doubt.is_confirmed(Instant::now()) => {
                return Err(bad(ErrorClass::UnknownSchema, text));
            }
            Err(RegistryError::Unknown(text)) => return Err(Lookup::Unavailable(named(text))),
            Err(RegistryError::Unavailable(text)) => {
                self.doubt = Doubt::default();
                return Err(Lookup::Unavailable(text));
            }
            Err(error) => return Err(bad(ErrorClass::UnusableSchema, error.to_string())),
        };
        match RecordDecoder::compile(&schema, self.writers.union_as, newest, shape) {
            Ok(decoder) => Ok(Arc::new(decoder)),
            Err(CompileError::DoesNotFit(difference)) if difference.unfit.is_empty() => {
                Err(Lookup::ColumnsMissing(difference))
            }
            Err(error) => {
                let place = self.runtime.block_on(self.writers.place(topic, id));
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
