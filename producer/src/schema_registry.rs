//! Registers the schema of the events and gets its id.

use std::time::{Duration, Instant};

use ducktide_registry::{RegistryError, SchemaRegistry};

use crate::config::Config;
use crate::error::ProducerError;
use crate::stop_request::StopRequest;

/// Pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Registers the schema under `<topic>-value` unless it is registered, and returns its id.
///
/// Retries an unavailable registry until `--connect-timeout`.
pub(crate) async fn register_events_schema(
    config: &Config,
    stop: &StopRequest,
) -> Result<u32, ProducerError> {
    let registry = SchemaRegistry::new(&config.registry).map_err(ProducerError::Registry)?;
    let subject = format!("{}-value", config.topic.topic);
    let (started, mut warned) = (Instant::now(), false);
    loop {
        let error = match registry.register(&subject, ducktide_schemas::EVENTS).await {
            Ok(schema_id) => return Ok(schema_id),
            Err(error @ RegistryError::Rejected(_)) => {
                return Err(ProducerError::SchemaRejected { subject, error });
            }
            Err(error) if error.is_unavailable() => error,
            Err(error) => return Err(ProducerError::Registry(error)),
        };
        if stop.is_requested() {
            return Err(ProducerError::Stopped);
        }
        let timeout = config.topic.connect_timeout;
        if started.elapsed() + RETRY_PAUSE > timeout {
            let waited_seconds = timeout.as_secs();
            return Err(ProducerError::RegistryUnreachable { waited_seconds, error });
        }
        if !std::mem::replace(&mut warned, true) {
            tracing::warn!(%error, "schema registry unavailable, retrying");
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}
