//! Newest schemas of topics, from which missing tables and columns are created.

use std::sync::Arc;

use ducktide_lake::{Access, DuckLake};
use ducktide_protocol::table::AvroSchema;
use ducktide_registry::RegistryError;
use tokio::task::spawn_blocking;

use super::retry::StartupRetry;
use crate::config::Config;
use crate::decode::schema_provider::{SchemaProvider, SchemaProviders};
use crate::error::ConsumerError;
use crate::metrics::RetryCause;
use crate::source::inspect::ClusterView;

/// Number of queries to the registry for each query to the lake, which costs more.
const TABLE_CHECKS: u32 = 5;

/// A topic and its newest schemas, from which missing tables and columns are created.
#[derive(Debug)]
pub(crate) struct TopicSchemas {
    pub(super) name: String,
    /// None if the subject has no usable schema and the table exists. Records are still decoded, because
    /// each names its schema.
    pub(super) value: Option<AvroSchema>,
    /// Schema of keys; also None if keys are not Avro.
    pub(super) key: Option<AvroSchema>,
}

/// Loads the schemas of all named topics, waiting for them, and of the existing topics that match a
/// pattern, if they have one.
pub(crate) async fn load_topics(
    config: &Config,
    providers: &SchemaProviders,
    cluster: &Arc<ClusterView>,
    retry: &Arc<StartupRetry>,
) -> Result<Vec<TopicSchemas>, ConsumerError> {
    let mut topics = Vec::new();
    for name in config.topics.names() {
        topics.push(load_named_topic(config, providers, name, retry).await?);
    }
    if config.topics.has_patterns() {
        let (cluster, waits) = (Arc::clone(cluster), Arc::clone(retry));
        let list = move || waits.call_cluster("list the topics", || cluster.topics().map(Some));
        let existing = spawn_blocking(list).await.map_err(|_| ConsumerError::Panicked)??;
        for name in config.topics.matching(existing) {
            topics.extend(load_matching_topic(config, providers, &name, retry).await);
        }
    }
    Ok(topics)
}

/// Loads a topic of a pattern; None if it has no schema. It must not delay other topics, and is opened when
/// its first partition is assigned.
async fn load_matching_topic(
    config: &Config,
    providers: &SchemaProviders,
    name: &str,
    retry: &StartupRetry,
) -> Option<TopicSchemas> {
    match newest_schemas(config, providers, name, Missing::Refuse, retry).await {
        Ok(topic) => Some(topic),
        Err(error) => {
            tracing::warn!(topic = name, %error, "topic without a schema, opened when its first partition is assigned");
            None
        }
    }
}

/// Loads a named topic, waiting for its schemas.
pub(super) async fn load_named_topic(
    config: &Config,
    providers: &SchemaProviders,
    name: &str,
    retry: &StartupRetry,
) -> Result<TopicSchemas, ConsumerError> {
    newest_schemas(config, providers, name, Missing::Await, retry).await
}

/// The reaction to a schema that the registry does not have.
#[derive(Clone, Copy)]
enum Missing {
    Await,
    Refuse,
}

/// Loads the newest schemas of a topic's values, and of its keys if they are Avro.
async fn newest_schemas(
    config: &Config,
    providers: &SchemaProviders,
    name: &str,
    missing: Missing,
    retry: &StartupRetry,
) -> Result<TopicSchemas, ConsumerError> {
    let value = newest_schema(config, &providers.values, name, missing, retry).await?;
    let key = match &providers.keys {
        Some(providers) => newest_schema(config, providers, name, missing, retry).await?,
        None => None,
    };
    Ok(TopicSchemas { name: name.to_owned(), value, key })
}

/// Loads the newest schema. Waits for the registry to be available.
async fn newest_schema(
    config: &Config,
    providers: &SchemaProvider,
    topic: &str,
    missing: Missing,
    retry: &StartupRetry,
) -> Result<Option<AvroSchema>, ConsumerError> {
    let subject = providers.subject(topic);
    let unusable = |error: RegistryError| ConsumerError::Schema {
        topic: topic.to_owned(),
        error: error.into(),
    };
    for attempt in 0_u32.. {
        let error = match providers.newest(topic).await {
            Ok(schema) => return Ok(Some(schema)),
            Err(error) if error.is_recoverable() => {
                wait_for_schema(&subject, retry, &error.to_string()).await?;
                continue;
            }
            Err(error @ (RegistryError::NotFound(_) | RegistryError::Unusable(_))) => error,
            Err(error) => return Err(unusable(error)),
        };
        // The table may be created meanwhile, which is checked less often.
        if attempt % TABLE_CHECKS == 0 && has_table(config, topic).await {
            tracing::warn!(
                topic,
                subject,
                %error,
                "newest schema cannot be used; continuing with the table as it is"
            );
            return Ok(None);
        }
        match (error, missing) {
            (error @ RegistryError::NotFound(_), Missing::Await) => {
                let error = format!(
                    "{error}; the table is created from it: register it, name another subject with \
                     --subject (as for RecordNameStrategy), or create the table with `ducktide init \
                     --from-subject`"
                );
                wait_for_schema(&subject, retry, &error).await?;
            }
            (error, _) => return Err(unusable(error)),
        }
    }
    unreachable!("the loop is endless")
}

async fn wait_for_schema(
    subject: &str,
    retry: &StartupRetry,
    error: &str,
) -> Result<(), ConsumerError> {
    let what = format!("waiting for the schema of {subject}");
    retry.wait(RetryCause::Registry, &what, error).await
}

/// Returns whether the lake is available and has the topic's table. A missing lake is not created.
async fn has_table(config: &Config, topic: &str) -> bool {
    let (lake, name) = (config.lake.clone(), config.topics.table(topic));
    let find = move || {
        let mut lake = DuckLake::open(&lake, Access::Read).ok()?;
        lake.find_table(&name.ok()?).ok()?
    };
    matches!(spawn_blocking(find).await, Ok(Some(_)))
}
