//! Schemas by subject and by id, through Confluent's API.

use std::collections::HashSet;
use std::error::Error as _;
use std::time::Duration;

use clap::Args;
use ducktide_lake::config::HiddenValue;
use ducktide_protocol::table::{AvroSchema, ReferencedSchema};
use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_all_versions, get_referenced_schema, get_schema_by_guid, get_schema_by_id,
    get_schema_by_subject_and_version,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{
    RawError, RegisteredReference, RegisteredSchema, SchemaType,
};
use thiserror::Error;
use uuid::Uuid;

/// One request's limit; a registry that takes longer is asked again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How many schemas one may refer to, directly or not: a registry gone mad must not keep us reading.
const MAX_REFERENCES: usize = 1_000;

/// How many versions of a subject are looked through to name one in an error.
const VERSIONS: usize = 20;

/// Confluent's codes for a subject, a version and a schema that do not exist.
const NOT_FOUND_CODES: std::ops::RangeInclusive<u32> = 40401..=40403;

/// Where the schema registry is, and who asks.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Schema registry")]
pub struct RegistryArgs {
    /// Schema registry, Confluent's API; for Apicurio with the path `/apis/ccompat/v7`. Several URLs,
    /// comma separated, are tried in turn. With `https:`, certificates are checked against the
    /// system's, or those in the file that `SSL_CERT_FILE` names.
    #[arg(
        long,
        env = "SCHEMA_REGISTRY_URL",
        value_name = "URL,...",
        default_value = "http://localhost:8081",
        value_parser = HiddenValue(parse_addresses),
        hide_env_values = true
    )]
    pub schema_registry_url: String,

    /// User for basic authentication; an API key of Confluent Cloud.
    #[arg(
        long,
        env = "SCHEMA_REGISTRY_USER",
        value_name = "USER",
        requires = "schema_registry_password",
        conflicts_with = "schema_registry_token"
    )]
    pub schema_registry_user: Option<String>,

    /// Its password; the environment keeps it out of the list of processes.
    #[arg(
        long,
        env = "SCHEMA_REGISTRY_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true,
        requires = "schema_registry_user"
    )]
    pub schema_registry_password: Option<Secret>,

    /// Token for bearer authentication.
    #[arg(long, env = "SCHEMA_REGISTRY_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub schema_registry_token: Option<Secret>,
}

/// Refuses addresses that no registry can have: asking there would fail for ever.
fn parse_addresses(text: &str) -> Result<String, String> {
    let is_address = |url: &str| {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let place = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
        let place = place.rsplit('@').next().unwrap_or_default();
        // IPv6 addresses stand in brackets.
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (place, "80"),
        };
        let is_host = |c: char| c.is_alphanumeric() || "-._[]:%".contains(c);
        !host.is_empty() && host.chars().all(is_host) && port.parse::<u16>().is_ok()
    };
    if text.split(',').all(|url| is_address(url.trim())) {
        return Ok(text.to_owned());
    }
    Err("expected http://HOST:PORT or https://HOST:PORT, and several separated by commas; \
         percent-encode special characters within a password"
        .to_owned())
}

/// A text that is never shown.
#[derive(Clone)]
pub struct Secret(String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

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
    /// The schema of values that have none of their own cannot be had.
    #[error("schema file cannot be used: {0}")]
    File(String),
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
    /// A client; it connects at the first question.
    pub(crate) fn new(args: &RegistryArgs) -> Result<Self, RegistryError> {
        let urls = args.schema_registry_url.split(',');
        let mut urls = urls.map(|url| url.trim().trim_end_matches('/').to_owned());
        let mut builder = SrSettings::new_builder(urls.next().unwrap_or_default());
        for url in urls {
            builder.add_url(url);
        }
        if let Some(user) = &args.schema_registry_user {
            let password = args.schema_registry_password.as_ref().map(|Secret(text)| text.as_str());
            builder.set_basic_authorization(user, password);
        }
        if let Some(Secret(token)) = &args.schema_registry_token {
            builder.set_token_authorization(token);
        }
        let settings = builder
            .set_timeout(REQUEST_TIMEOUT)
            .build()
            .map_err(|error| RegistryError::Address(reason(&error)))?;
        Ok(Self { settings })
    }

    /// The newest schema of a subject.
    pub(crate) async fn latest(&self, subject: &str) -> Result<AvroSchema, RegistryError> {
        let found = get_schema_by_subject_and_version(&self.settings, subject, None).await;
        self.resolve(found.map_err(|error| classify(&error))?).await
    }

    /// The schema that an id names; it never changes.
    pub(crate) async fn by_id(&self, id: u32) -> Result<AvroSchema, RegistryError> {
        let found = get_schema_by_id(id, &self.settings).await;
        self.resolve(found.map_err(|error| classify(&error))?).await
    }

    /// The schema that a GUID names, in every registry that has it.
    pub(crate) async fn by_guid(&self, guid: Uuid) -> Result<AvroSchema, RegistryError> {
        let found = get_schema_by_guid(&guid.to_string(), &self.settings).await;
        let found = found.map_err(|error| match classify(&error) {
            RegistryError::Unavailable(text) => RegistryError::Unavailable(format!(
                "{text}; records name this schema by its GUID, which registries know from Confluent \
                 Platform 8 on: schema_guid=`{guid}`"
            )),
            error => error,
        })?;
        self.resolve(found).await
    }

    /// Under which version a subject has the schema of an id, as far as one of its newest does.
    pub(crate) async fn version_of(&self, subject: &str, id: u32) -> Option<u32> {
        let versions = get_all_versions(&self.settings, subject.to_owned()).await.ok()?;
        for version in versions.into_iter().rev().take(VERSIONS) {
            let found = get_schema_by_subject_and_version(&self.settings, subject, Some(version));
            if found.await.ok()?.id == id {
                return Some(version);
            }
        }
        None
    }

    /// Fetches the schemas of other subjects that a schema refers to, and parses it with them.
    ///
    /// A name has one schema: the first that is met depth-first, whatever its version. Confluent's Java
    /// library resolves references like that, and its producers write with what it has resolved.
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
                return Err(unusable(registered.id, "it refers to too many others"));
            }
            let found = get_referenced_schema(&self.settings, &reference).await;
            let found = found.map_err(|error| classify(&error))?;
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

fn names_of(references: &[RegisteredReference]) -> Vec<String> {
    references.iter().map(|reference| reference.name.clone()).collect()
}

fn check_type(schema: &RegisteredSchema, id: u32) -> Result<(), RegistryError> {
    if schema.schema_type == SchemaType::Avro {
        return Ok(());
    }
    Err(unusable(id, &format!("it is not Avro: type=`{:?}`", schema.schema_type)))
}

fn unusable(id: u32, what: &str) -> RegistryError {
    RegistryError::Unusable(format!("{what}: id=`{id}`"))
}

/// Only the registry's own word says that a schema does not exist. Everything else, another 404
/// included, may be a proxy, a restart, a wrong path or a missing right: an outage, which delays and
/// never condemns a record (invariant I8).
fn classify(error: &SRCError) -> RegistryError {
    let text = reason(error);
    let said = error.source().and_then(|cause| cause.downcast_ref::<RawError>());
    if said.is_some_and(|said| NOT_FOUND_CODES.contains(&said.error_code)) {
        return RegistryError::Unknown(text);
    }
    let has_status = |status: &str| error.error.contains(status);
    let is_other_api =
        has_status("status 404") || has_status("could not parse to RawRegisteredSchema");
    RegistryError::Unavailable(if is_other_api {
        format!(
            "{text}; this is not an answer of Confluent's API: check the path of \
             --schema-registry-url (SCHEMA_REGISTRY_URL), that of Apicurio is /apis/ccompat/v7"
        )
    } else if has_status("status 401") || has_status("status 403") {
        format!(
            "{text}; give --schema-registry-user and --schema-registry-password, or \
             --schema-registry-token"
        )
    } else if text.contains("certificate verify failed") {
        format!(
            "{text}; name a file with the certificate of who signed the registry's: SSL_CERT_FILE"
        )
    } else {
        text
    })
}

/// The innermost cause says it best: "connection refused" rather than "error sending request".
fn reason(error: &SRCError) -> String {
    let mut innermost = error.source();
    while let Some(source) = innermost.and_then(std::error::Error::source) {
        innermost = Some(source);
    }
    innermost.map_or_else(|| error.error.clone(), |cause| format!("{}: {cause}", error.error))
}

#[cfg(test)]
#[path = "schema_registry_tests.rs"]
mod tests;
