//! Simulated schema registry.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, LazyLock};

use ducktide_protocol::table::AvroSchema;

use super::payload::{FIRST_SCHEMA, UNFIT_SCHEMA, WIDER_SCHEMA, schema_text};
use crate::decode::schema_lookup::SchemaLookup;
use crate::decode::schema_provider::{SchemaId, SchemaProvider};
use ducktide_registry::RegistryError;

/// Schemas by their id, parsed once for all schedules.
static SCHEMAS: LazyLock<Vec<(u32, AvroSchema)>> = LazyLock::new(|| {
    let parse = |id| {
        let text = schema_text(id).expect("a schema of the simulation");
        (id, AvroSchema::parse(text).expect("a valid schema"))
    };
    [FIRST_SCHEMA, WIDER_SCHEMA, UNFIT_SCHEMA].map(parse).into()
});

/// Returns the schema with an id.
pub(super) fn schema(id: u32) -> Option<&'static AvroSchema> {
    SCHEMAS.iter().find(|(known, _)| *known == id).map(|(_, schema)| schema)
}

/// Answers of the registry.
#[derive(Debug, Default)]
pub(super) struct Registry {
    is_unavailable: AtomicBool,
    /// Number of answers that a schema does not exist although it does, as after a restart.
    forgets: AtomicU8,
}

impl Registry {
    pub(super) fn set_unavailable(&self, is_unavailable: bool) {
        self.is_unavailable.store(is_unavailable, Ordering::Relaxed);
    }

    /// Makes the registry answer once that a schema does not exist.
    pub(super) fn forget_once(&self) {
        self.forgets.store(1, Ordering::Relaxed);
    }
}

/// Handle of a process to the registry.
#[derive(Clone, Debug)]
pub(super) struct RegistryHandle(pub(super) Arc<Registry>);

impl SchemaLookup for RegistryHandle {
    fn schema(&self, _: &SchemaProvider, id: SchemaId) -> Result<AvroSchema, RegistryError> {
        if self.0.is_unavailable.load(Ordering::Relaxed) {
            return Err(RegistryError::Unavailable("connection refused".to_owned()));
        }
        let found = id.number().and_then(schema).filter(|_| {
            let forgets = self.0.forgets.load(Ordering::Relaxed);
            self.0.forgets.store(forgets.saturating_sub(1), Ordering::Relaxed);
            forgets == 0
        });
        found.cloned().ok_or_else(|| RegistryError::NotFound("schema not found".to_owned()))
    }

    fn place(&self, _: &SchemaProvider, _: &str, _: SchemaId) -> Option<(String, u32)> {
        None
    }
}
