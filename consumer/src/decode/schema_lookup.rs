//! Blocking lookup of schemas, for threads that decode.

use ducktide_protocol::table::AvroSchema;
use tokio::runtime::Handle;

use crate::decode::schema_provider::{SchemaId, SchemaProvider};
use ducktide_registry::RegistryError;

/// Lookup of the schemas of values and keys. It is called once per schema, not per record.
pub(crate) trait SchemaLookup: Send + Sync {
    /// Returns the schema that a value or key of `provider` was written with.
    fn schema(&self, provider: &SchemaProvider, id: SchemaId) -> Result<AvroSchema, RegistryError>;

    /// Returns the subject of a topic and the version of a schema id in it, if they can be found.
    /// For the text of an error.
    fn place(&self, provider: &SchemaProvider, topic: &str, id: SchemaId) -> Option<(String, u32)>;
}

/// Lookup by requests of the provider itself, which run on this runtime.
#[derive(Clone, Debug)]
pub(crate) struct RuntimeLookup(pub(crate) Handle);

impl SchemaLookup for RuntimeLookup {
    fn schema(&self, provider: &SchemaProvider, id: SchemaId) -> Result<AvroSchema, RegistryError> {
        self.0.block_on(provider.by_id(id))
    }

    fn place(&self, provider: &SchemaProvider, topic: &str, id: SchemaId) -> Option<(String, u32)> {
        self.0.block_on(provider.place(topic, id))
    }
}
