//! Schemas by subject and by id, through Confluent's API.

use std::error::Error as _;
use std::time::Duration;

use apache_avro::Schema;
use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_schema_by_id, get_schema_by_subject_and_version,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{RegisteredSchema, SchemaType};
use thiserror::Error;

/// One request's limit; a registry that takes longer is asked again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a schema could not be had.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// The registry does not answer, or not properly: ask again later.
    #[error("schema registry does not answer: {0}")]
    Unavailable(String),
    /// The registry says that there is no such schema.
    #[error("schema registry knows no such schema: {0}")]
    Unknown(String),
    /// The schema is there, but cannot be used.
    #[error("schema cannot be used: {0}")]
    Unusable(String),
    /// The address is none.
    #[error("schema registry's address is wrong: {0}")]
    Address(String),
}

/// A client for the registry.
#[derive(Clone, Debug)]
pub(crate) struct SchemaRegistry {
    settings: SrSettings,
}

impl SchemaRegistry {
    /// A client; it connects at the first question. Several URLs, comma separated, are tried in turn.
    pub(crate) fn new(urls: &str) -> Result<Self, RegistryError> {
        let mut urls = urls.split(',').map(|url| url.trim().trim_end_matches('/').to_owned());
        let mut builder = SrSettings::new_builder(urls.next().unwrap_or_default());
        for url in urls {
            builder.add_url(url);
        }
        let settings = builder
            .set_timeout(REQUEST_TIMEOUT)
            .build()
            .map_err(|error| RegistryError::Address(reason(&error)))?;
        Ok(Self { settings })
    }

    /// The newest schema of a subject.
    pub(crate) async fn latest(&self, subject: &str) -> Result<Schema, RegistryError> {
        let found = get_schema_by_subject_and_version(&self.settings, subject, None).await;
        parse(&found.map_err(|error| classify(&error))?)
    }

    /// The schema that an id names; it never changes.
    pub(crate) async fn by_id(&self, id: u32) -> Result<Schema, RegistryError> {
        let found = get_schema_by_id(id, &self.settings).await;
        parse(&found.map_err(|error| classify(&error))?)
    }
}

fn parse(registered: &RegisteredSchema) -> Result<Schema, RegistryError> {
    if registered.schema_type != SchemaType::Avro {
        let kind = &registered.schema_type;
        return Err(RegistryError::Unusable(format!("it is not Avro: type=`{kind:?}`")));
    }
    if !registered.references.is_empty() {
        return Err(RegistryError::Unusable(format!(
            "it refers to other subjects, which is not supported: id=`{}`",
            registered.id
        )));
    }
    Schema::parse_str(&registered.schema)
        .map_err(|error| RegistryError::Unusable(format!("{error}: id=`{}`", registered.id)))
}

/// Only a plain 404 says that the schema does not exist. Everything else may be a proxy, a restart
/// or a missing right: an outage, which delays and never condemns a record (invariant I8).
fn classify(error: &SRCError) -> RegistryError {
    let text = reason(error);
    if error.error.contains("status 404") {
        RegistryError::Unknown(text)
    } else {
        RegistryError::Unavailable(text)
    }
}

/// The innermost cause says it best: "connection refused" rather than "error sending request".
fn reason(error: &SRCError) -> String {
    let mut innermost = error.source();
    while let Some(source) = innermost.and_then(std::error::Error::source) {
        innermost = Some(source);
    }
    innermost.map_or_else(|| error.error.clone(), |cause| format!("{}: {cause}", error.error))
}
