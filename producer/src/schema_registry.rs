//! Registers the schema of the events and gets its id.

use std::error::Error as _;
use std::time::{Duration, Instant};

use schema_registry_converter::async_impl::schema_registry::{SrSettings, post_schema};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{RawError, SchemaType, SuppliedSchema};

use crate::config::KafkaArgs;
use crate::error::ProducerError;
use crate::stop_request::StopRequest;

/// Timeout of one request; a registry that takes longer is retried.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Registers the schema under `<topic>-value` unless it is registered, and returns its id.
///
/// Retries an unavailable registry until `--connect-timeout`.
pub(crate) async fn register_events_schema(
    kafka: &KafkaArgs,
    stop: &StopRequest,
) -> Result<u32, ProducerError> {
    let (started, mut warned) = (Instant::now(), false);
    let subject = format!("{}-value", kafka.topic);
    loop {
        let error = match post_events_schema(kafka, &subject).await {
            Ok(schema_id) => return Ok(schema_id),
            Err(error) => error,
        };
        if !error.retriable {
            return Err(rejection_error(kafka, subject, &error));
        }
        if stop.is_requested() {
            return Err(ProducerError::Stopped);
        }
        if started.elapsed() + RETRY_PAUSE > kafka.connect_timeout {
            return Err(unreachable(kafka, &error));
        }
        if !std::mem::replace(&mut warned, true) {
            tracing::warn!(error = reason(&error), "schema registry unavailable, retrying");
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn post_events_schema(kafka: &KafkaArgs, subject: &str) -> Result<u32, SRCError> {
    let url = kafka.schema_registry_url.trim_end_matches('/').to_owned();
    let settings = SrSettings::new_builder(url).set_timeout(REQUEST_TIMEOUT).build()?;
    let schema = SuppliedSchema::new(None, SchemaType::Avro, ducktide_schemas::EVENTS.to_owned());
    Ok(post_schema(&settings, subject.to_owned(), schema).await?.id)
}

fn rejection_error(kafka: &KafkaArgs, subject: String, error: &SRCError) -> ProducerError {
    let (url, reason) = (without_credentials(&kafka.schema_registry_url), reason(error));
    if is_wrong_api(error) {
        ProducerError::WrongApi { url, reason }
    } else {
        ProducerError::SchemaRejected { subject, url, reason }
    }
}

/// Reports that the server does not have Confluent's API. That API gives each of its errors a code
/// and accepts every subject, so it never answers 404 for one of its own paths.
fn is_wrong_api(error: &SRCError) -> bool {
    let answer = error.source().and_then(|source| source.downcast_ref::<RawError>());
    let is_refusal = answer.is_some_and(|answer| answer.error_code / 100 == 404);
    let signs = ["status 404", "status 405", "could not parse to RawRegisteredSchema"];
    !is_refusal && signs.iter().any(|sign| error.error.contains(sign))
}

fn unreachable(kafka: &KafkaArgs, error: &SRCError) -> ProducerError {
    ProducerError::RegistryUnreachable {
        url: without_credentials(&kafka.schema_registry_url),
        waited_seconds: kafka.connect_timeout.as_secs(),
        reason: reason(error),
    }
}

/// Returns the innermost cause, which is the most specific: "connection refused" rather than "error
/// sending request".
fn reason(error: &SRCError) -> String {
    let mut innermost = error.source();
    while let Some(source) = innermost.and_then(std::error::Error::source) {
        innermost = Some(source);
    }
    innermost.map_or_else(|| error.error.clone(), |cause| format!("{}: {cause}", error.error))
}

/// Returns the URL without `user:password@`, for messages.
pub(crate) fn without_credentials(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(a, p)| (a, Some(p)));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    path.map_or_else(|| format!("{scheme}://{host}"), |path| format!("{scheme}://{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_never_show_credentials() {
        for (url, shown) in [
            ("http://localhost:8081", "http://localhost:8081"),
            ("https://me:p@ss@registry/apis/ccompat/v7", "https://registry/apis/ccompat/v7"),
            ("http://h/a@b", "http://h/a@b"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }
}
