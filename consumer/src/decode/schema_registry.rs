//! Client of the schema registry (Confluent's API).

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

/// Timeout of a request, which is then retried.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of direct and indirect references of a schema. Bounds the requests to a faulty
/// registry.
const MAX_REFERENCES: usize = 1_000;

/// Maximum number of versions of a subject that are searched for the text of an error.
const VERSIONS: usize = 20;

/// Error codes of Confluent for a subject, a version or a schema that does not exist.
const NOT_FOUND_CODES: std::ops::RangeInclusive<u32> = 40401..=40403;

/// Settings of the schema registry.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Schema registry")]
pub struct RegistryArgs {
    /// URL of the schema registry (Confluent's API; Apicurio needs the path `/apis/ccompat/v7`).
    /// Several URLs, separated by commas, are tried in order. Certificates of `https:` URLs are
    /// verified with those of the system, or of the file in `SSL_CERT_FILE`.
    #[arg(
        long,
        env = "SCHEMA_REGISTRY_URL",
        value_name = "URL,...",
        default_value = "http://localhost:8081",
        value_parser = HiddenValue(parse_addresses),
        hide_env_values = true
    )]
    pub schema_registry_url: String,

    /// User for basic authentication, or API key of Confluent Cloud.
    #[arg(
        long,
        env = "SCHEMA_REGISTRY_USER",
        value_name = "USER",
        requires = "schema_registry_password",
        conflicts_with = "schema_registry_token"
    )]
    pub schema_registry_user: Option<String>,

    /// Password for basic authentication. The environment variable keeps it out of the process
    /// list.
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

/// Rejects URLs that can never work: requests to them would be retried forever.
fn parse_addresses(text: &str) -> Result<String, String> {
    let is_address = |url: &str| {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let place = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
        let place = place.rsplit('@').next().unwrap_or_default();
        // IPv6 addresses are in brackets.
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
    Err("expected http://HOST:PORT or https://HOST:PORT, several separated by commas; percent-encode \
         special characters of a password"
        .to_owned())
}

/// Text that is never printed.
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

/// Reason for which a schema is not available.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// The registry does not answer, or with an error: retry.
    #[error("schema registry unavailable: {0}")]
    Unavailable(String),
    /// The registry answers that the schema does not exist.
    #[error("schema registry has no such schema: {0}")]
    Unknown(String),
    /// The schema exists but cannot be used.
    #[error("schema cannot be used: {0}")]
    Unusable(String),
    /// The schema file cannot be read or used.
    #[error("schema file cannot be used: {0}")]
    File(String),
    /// The URL is invalid.
    #[error("invalid URL of the schema registry: {0}")]
    Address(String),
}

/// Client of the schema registry.
#[derive(Clone, Debug)]
pub(crate) struct SchemaRegistry {
    settings: SrSettings,
}

impl SchemaRegistry {
    /// Creates a client, which connects at the first request.
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

    /// Requests the newest schema of a subject.
    pub(crate) async fn latest(&self, subject: &str) -> Result<AvroSchema, RegistryError> {
        let found = get_schema_by_subject_and_version(&self.settings, subject, None).await;
        self.resolve(found.map_err(|error| classify(&error))?).await
    }

    /// Requests the schema of an id. It never changes.
    pub(crate) async fn by_id(&self, id: u32) -> Result<AvroSchema, RegistryError> {
        let found = get_schema_by_id(id, &self.settings).await;
        self.resolve(found.map_err(|error| classify(&error))?).await
    }

    /// Requests the schema of a GUID.
    pub(crate) async fn by_guid(&self, guid: Uuid) -> Result<AvroSchema, RegistryError> {
        let found = get_schema_by_guid(&guid.to_string(), &self.settings).await;
        let found = found.map_err(|error| match classify(&error) {
            RegistryError::Unavailable(text) => RegistryError::Unavailable(format!(
                "{text}; records reference this schema by its GUID, which registries support since \
                 Confluent Platform 8: schema_guid=`{guid}`"
            )),
            error => error,
        })?;
        self.resolve(found).await
    }

    /// Returns the version of a schema id in a subject, if it is among the newest versions.
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
    Err(unusable(id, &format!("schema is not Avro: type=`{:?}`", schema.schema_type)))
}

fn unusable(id: u32, what: &str) -> RegistryError {
    RegistryError::Unusable(format!("{what}: id=`{id}`"))
}

/// Classifies an error of a request. Only an error code of the registry shows that a schema does
/// not exist. Everything else, even another 404, may come from a proxy, a restart, a wrong path or
/// a missing permission: an outage, which delays records and never makes them dead letters
/// (invariant I8).
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
            "{text}; the response is not from Confluent's API: check the path of --schema-registry-url \
             (SCHEMA_REGISTRY_URL); that of Apicurio is /apis/ccompat/v7"
        )
    } else if has_status("status 401") || has_status("status 403") {
        format!(
            "{text}; set --schema-registry-user and --schema-registry-password, or \
             --schema-registry-token"
        )
    } else if text.contains("certificate verify failed") {
        format!("{text}; set SSL_CERT_FILE to a file with the CA certificate of the registry")
    } else {
        text
    })
}

/// Returns the text of an error with its innermost cause, such as "connection refused" rather than
/// "error sending request".
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
