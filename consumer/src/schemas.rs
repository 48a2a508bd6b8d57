//! Decoders by schema id: which one a record needs, compiled once.

use std::collections::HashMap;
use std::sync::Arc;

use ducktide_lake::TableVersion;
use tokio::runtime::Handle;

use crate::batch::Stream;
use crate::decoder::RecordDecoder;
use crate::schema_registry::{RegistryError, SchemaRegistry};

/// Confluent's wire format: a zero byte and the schema's id, big endian, before the datum.
pub(crate) const HEADER: usize = 5;

/// The decoders of one batcher, by schema id and the version of the table that they write for.
pub(crate) struct Schemas {
    registry: SchemaRegistry,
    runtime: Handle,
    decoders: HashMap<(u32, TableVersion), Arc<RecordDecoder>>,
    /// The last one used; records of one schema come in long runs.
    last: Option<(u32, TableVersion, Arc<RecordDecoder>)>,
    /// An id that the registry did not know when it was asked before.
    unknown: Option<u32>,
}

/// The answer for one record.
pub(crate) enum Lookup<'a> {
    Found(&'a RecordDecoder),
    /// The registry does not answer; ask again.
    Unavailable(String),
    /// No schema can decode the record.
    Bad(String),
}

impl Schemas {
    pub(crate) fn new(registry: SchemaRegistry, runtime: Handle) -> Self {
        Self { registry, runtime, decoders: HashMap::new(), last: None, unknown: None }
    }

    /// The decoder of a payload for the stream's table. Asks the registry for an id not seen before.
    pub(crate) fn decoder(&mut self, payload: &[u8], stream: &Stream) -> Lookup<'_> {
        let id = match payload {
            [0, a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]),
            [] | [0, ..] => return Lookup::Bad("value is shorter than a schema id".to_owned()),
            [magic, ..] => {
                return Lookup::Bad(format!(
                    "value does not begin with a zero byte: byte=`{magic}`"
                ));
            }
        };
        let version = &stream.table.version;
        let is_last = |(last, of, _): &(u32, TableVersion, _)| *last == id && of == version;
        if !self.last.as_ref().is_some_and(is_last) {
            match self.find(id, stream) {
                Ok(decoder) => self.last = Some((id, version.clone(), decoder)),
                Err(answer) => return answer,
            }
        }
        Lookup::Found(&self.last.as_ref().expect("set above").2)
    }

    fn find(&mut self, id: u32, stream: &Stream) -> Result<Arc<RecordDecoder>, Lookup<'static>> {
        let key = (id, stream.table.version.clone());
        if let Some(decoder) = self.decoders.get(&key) {
            return Ok(Arc::clone(decoder));
        }
        let schema = match self.runtime.block_on(self.registry.by_id(id)) {
            Ok(schema) => schema,
            Err(RegistryError::Unknown(text)) if self.unknown == Some(id) => {
                return Err(Lookup::Bad(format!("{text}: schema_id=`{id}`")));
            }
            Err(RegistryError::Unknown(text)) => {
                // A registry that just restarted may not have read its own log yet: asked twice.
                self.unknown = Some(id);
                return Err(Lookup::Unavailable(format!("{text}: schema_id=`{id}`")));
            }
            Err(RegistryError::Unavailable(text)) => return Err(Lookup::Unavailable(text)),
            Err(error) => return Err(Lookup::Bad(error.to_string())),
        };
        let shape = Arc::new(stream.table.shape.clone());
        let decoder = RecordDecoder::compile(&schema, shape)
            .map_err(|error| Lookup::Bad(format!("{error}: schema_id=`{id}`")))?;
        tracing::info!(schema_id = id, table = %key.1.table, "decoder compiled");
        let decoder = Arc::new(decoder);
        self.decoders.insert(key, Arc::clone(&decoder));
        Ok(decoder)
    }
}
