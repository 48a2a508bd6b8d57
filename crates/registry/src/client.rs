//! Client of the schema registry (Confluent's API).

use std::collections::HashSet;
use std::time::Duration;

use ducktide_protocol::table::{AvroSchema, ReferencedSchema};
use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_all_versions, get_referenced_schema, get_schema_by_guid, get_schema_by_id,
    get_schema_by_subject_and_version, post_schema,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{
    RegisteredReference, RegisteredSchema, SchemaType, SuppliedSchema,
};
use uuid::Uuid;

use crate::answer::check_status;
use crate::args::{Credentials, RegistryArgs};
use crate::error::RegistryError;

/// Timeout of a request, which is then retried.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of direct and indirect references of a schema. Bounds the requests to a faulty
/// registry.
const MAX_REFERENCES: usize = 1_000;

/// Maximum number of versions of a subject that are searched for the text of an error.
const VERSIONS: usize = 20;

/// Client of the schema registry.
#[derive(Clone, Debug)]
pub struct SchemaRegistry {
    settings: SrSettings,
}

impl SchemaRegistry {
    /// Creates a client, which connects at the first request.
    pub fn new(args: &RegistryArgs) -> Result<Self, RegistryError> {
        let mut urls = args.schema_registry_url.iter();
        let mut builder = SrSettings::new_builder(urls.next().unwrap_or_default());
        for url in urls {
            builder.add_url(url);
        }
        match args.credentials()? {
            Credentials::None => {}
            Credentials::Basic(user, password) => {
                builder.set_basic_authorization(&user, Some(password.expose()));
            }
            Credentials::Bearer(token) => {
                builder.set_token_authorization(token.expose());
            }
        }
        let client = args.http_client()?;
        builder.set_timeout(REQUEST_TIMEOUT).with_middleware(check_status);
        let settings = builder.build_with(client);
        let settings = settings.map_err(|error| RegistryError::Client(error.to_string()))?;
        Ok(Self { settings })
    }

    /// Registers an Avro schema under a subject unless it is registered, and returns its id.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let schema = SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned());
        let registered = answered(post_schema(&self.settings, subject.to_owned(), schema).await)?;
        Ok(registered.id)
    }

    /// Requests the newest schema of a subject.
    pub async fn latest(&self, subject: &str) -> Result<AvroSchema, RegistryError> {
        let found = get_schema_by_subject_and_version(&self.settings, subject, None).await;
        self.resolve(answered(found)?).await
    }

    /// Requests the schema of an id. It never changes.
    pub async fn by_id(&self, id: u32) -> Result<AvroSchema, RegistryError> {
        let found = get_schema_by_id(id, &self.settings).await;
        self.resolve(answered(found)?).await
    }

    /// Requests the schema of a GUID.
    pub async fn by_guid(&self, guid: Uuid) -> Result<AvroSchema, RegistryError> {
        let found = get_schema_by_guid(&guid.to_string(), &self.settings).await;
        let found = answered(found).map_err(|error| match error {
            RegistryError::WrongApi(text) => RegistryError::WrongApi(format!(
                "{text}; records reference this schema by its GUID, which registries support since \
                 Confluent Platform 8: schema_guid=`{guid}`"
            )),
            error => error,
        })?;
        self.resolve(found).await
    }

    /// Returns the version of a schema id in a subject, if it is among the newest versions.
    pub async fn version_of(&self, subject: &str, id: u32) -> Option<u32> {
        let versions = get_all_versions(&self.settings, subject.to_owned()).await.ok()?;
        for version in versions.into_iter().rev().take(VERSIONS) {
            let found = get_schema_by_subject_and_version(&self.settings, subject, Some(version));
            if found.await.ok()?.id == id {
                return Some(version);
            }
        }
        None
    }

    /// Requests the schemas that a schema refers to, and parses it with them.
    ///
    /// A name has one schema: the first one found depth-first, whatever its version. The Java
    /// library of Confluent resolves references in the same way, and its producers write with the
    /// result.
    async fn resolve(&self, registered: RegisteredSchema) -> Result<AvroSchema, RegistryError> {
        check_type(&registered, registered.id)?;
        let mut others = Vec::new();
        let mut met = HashSet::new();
        let mut waiting = registered.references.clone();
        waiting.reverse();
        while let Some(reference) = waiting.pop() {
            if !met.insert(reference.name.clone()) {
                continue;
            }
            if others.len() == MAX_REFERENCES {
                return Err(unusable(registered.id, "schema has too many references"));
            }
            let found = get_referenced_schema(&self.settings, &reference).await;
            let found = answered(found)?;
            check_type(&found, registered.id)?;
            let references = names_of(&found.references);
            waiting.extend(found.references.into_iter().rev());
            others.push(ReferencedSchema { name: reference.name, text: found.schema, references });
        }
        let references = names_of(&registered.references);
        AvroSchema::parse_with_references(&registered.schema, references, others)
            .map_err(|error| unusable(registered.id, &error.to_string()))
    }
}

fn answered(answer: Result<RegisteredSchema, SRCError>) -> Result<RegisteredSchema, RegistryError> {
    answer.map_err(|error| RegistryError::of_request(&error))
}

fn names_of(references: &[RegisteredReference]) -> Vec<String> {
    references.iter().map(|reference| reference.name.clone()).collect()
}

fn check_type(schema: &RegisteredSchema, id: u32) -> Result<(), RegistryError> {
    if schema.schema_type == SchemaType::Avro {
        return Ok(());
    }
    Err(unusable(id, &format!("schema is not Avro: type=`{:?}`", schema.schema_type)))
}

fn unusable(id: u32, what: &str) -> RegistryError {
    RegistryError::Unusable(format!("{what}: id=`{id}`"))
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
