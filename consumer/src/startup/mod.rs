//! The preparation before the first record is read: schemas, tables, sources, start offsets.
//!
//! Unavailable dependencies are retried and reported; faults end the consumer.

pub(crate) mod new_table;
pub(crate) mod retry;
mod route;
pub(crate) mod table;
pub(crate) mod topic_schemas;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ducktide_lake::{Access, DuckLake};
use ducktide_protocol::position::Offset;
use ducktide_protocol::{Lake, LakeFault, Source};
use tokio::task::spawn_blocking;

use crate::batch::topic_route::TopicRoute;
use crate::config::{Config, StartFrom};
use crate::decode::schema_provider::SchemaProviders;
use crate::error::ConsumerError;
use crate::source::group::{Group, KnownGroups};
use crate::source::inspect::ClusterView;
use crate::source::kafka_config::GroupProtocol;
use crate::source::topic_partition::TopicPartition;
use retry::StartupRetry;
use route::{RouteOpener, require_partitions};
use topic_schemas::{TopicSchemas, load_named_topic};

/// Kafka's default of `group.consumer.max.session.timeout.ms`, for brokers that do not report theirs.
const LONGEST_SESSION: Duration = Duration::from_mins(1);

/// The result of the preparation.
pub(crate) struct PreparedSources {
    pub(crate) lake: Box<dyn Lake>,
    pub(crate) group: Arc<Group>,
    pub(crate) routes: Vec<Arc<TopicRoute>>,
    /// Longest time that a static member waits for its `group.instance.id`.
    pub(crate) name_timeout: Duration,
    /// For `--until-end`: the end offsets of the topics at the start.
    pub(crate) goals: Option<Goals>,
}

/// Offsets at which a run with `--until-end` is complete.
pub(crate) type Goals = BTreeMap<TopicPartition, Offset>;

/// Prepares lake, tables and sources. Blocks. Errors after a stop.
pub(crate) fn prepare(
    config: &Config,
    topics: &[TopicSchemas],
    cluster: &ClusterView,
    retry: &StartupRetry,
) -> Result<PreparedSources, ConsumerError> {
    let mut lake = retry.call_lake("open the lake", || open_lake(config))?;
    let known = retry.call_lake("read the lake's sources", || lake.sources())?;
    let group = find_group(config, &known, &mut lake, retry)?;
    let pipeline = pipeline_name(config, &group);
    let is_known_pipeline = known.iter().any(|source| source.spec.pipeline == pipeline);
    let mut routes = Vec::new();
    for topic in topics {
        let is_named = config.topics.names().contains(&topic.name);
        let start = if is_named || !is_known_pipeline {
            config.source.start_from
        } else {
            // It may have been created while no worker was running.
            StartFrom::Earliest
        };
        let mut opener = RouteOpener { config, group: &group, lake: &mut lake, cluster, retry };
        match opener.open(topic, start) {
            Ok(route) => routes.push(Arc::new(route)),
            Err(error) if is_named || matches!(error, ConsumerError::Stopped) => return Err(error),
            Err(error) => {
                let topic = &topic.name;
                tracing::error!(topic, %error, "topic not loaded; other topics continue");
            }
        }
    }
    let goals = config.source.until_end.then(|| find_goals(&routes, cluster, retry)).transpose()?;
    let (lake, group) = (Box::new(lake), Arc::new(group));
    let name_timeout = name_timeout(config, cluster);
    Ok(PreparedSources { lake, group, routes, name_timeout, goals })
}

/// Opens a topic whose partitions were assigned to a running worker. It is read from its first record,
/// because it is newer than the pipeline.
pub(crate) async fn open_topic(
    config: Arc<Config>,
    group: Arc<Group>,
    providers: SchemaProviders,
    cluster: Arc<ClusterView>,
    retry: Arc<StartupRetry>,
    name: Arc<str>,
) -> Result<TopicRoute, ConsumerError> {
    let topic = load_named_topic(&config, &providers, &name, &retry).await?;
    let open = move || {
        // The worker's session is in use for commits.
        let mut lake = retry.call_lake("open the lake", || open_lake(&config))?;
        let (config, group, cluster) = (&config, &group, &cluster);
        let mut opener = RouteOpener { config, group, lake: &mut lake, cluster, retry: &retry };
        opener.open(&topic, StartFrom::Earliest)
    };
    spawn_blocking(open).await.map_err(|_| ConsumerError::Panicked)?
}

/// Returns the longest time that a static member waits for its `group.instance.id`: one and a half times
/// the longest session, after which the other member must be alive. Zero under the classic protocol.
fn name_timeout(config: &Config, cluster: &ClusterView) -> Duration {
    let is_static = config.source.group_instance_id.is_some();
    if !is_static || config.source.group_protocol != GroupProtocol::Consumer {
        return Duration::ZERO;
    }
    let longest = cluster.longest_session().unwrap_or_else(|error| {
        tracing::debug!(%error, "longest session of the brokers not found");
        None
    });
    longest.unwrap_or(LONGEST_SESSION) * 3 / 2
}

/// Returns the group to join: the one that is set, or the one that the lake has for these topics.
fn find_group(
    config: &Config,
    known: &[Source],
    lake: &mut DuckLake,
    retry: &StartupRetry,
) -> Result<Group, ConsumerError> {
    let found = retry.call_lake("read the lake's consumer groups", || {
        Ok((lake.client_id()?, lake.default_group()?, lake.groups()?))
    });
    let (client_id, default, recorded) = found?;
    let id = match &config.source.group_id {
        Some(group_id) => group_id.clone(),
        None => KnownGroups { sources: known, recorded: &recorded, default: &default }
            .choose(&config.topics)
            .map_err(|error| ConsumerError::KafkaSettings(error.to_string()))?,
    };
    tracing::info!(group_id = id, "consumer group chosen");
    Ok(Group { id, client_id })
}

/// Returns the label of sources, by default the name of the group.
fn pipeline_name(config: &Config, group: &Group) -> String {
    config.pipeline.clone().unwrap_or_else(|| group.id.clone())
}

fn find_goals(
    routes: &[Arc<TopicRoute>],
    cluster: &ClusterView,
    retry: &StartupRetry,
) -> Result<Goals, ConsumerError> {
    let mut goals = Goals::new();
    for topic in routes.iter().map(|route| &route.topic) {
        let ends = retry.call_cluster("find the topic's end", || {
            require_partitions(cluster.ends(topic, &cluster.partitions(topic)?))
        })?;
        let of_topic = |partition| TopicPartition { topic: Arc::clone(topic), partition };
        goals.extend(ends.into_iter().map(|(partition, end)| (of_topic(partition), end)));
    }
    Ok(goals)
}

fn open_lake(config: &Config) -> ducktide_protocol::Result<DuckLake> {
    match DuckLake::open(&config.lake, Access::Commit) {
        Err(error)
            if config.may_init
                && matches!(
                    error.fault(),
                    Some(LakeFault::NoLake { .. } | LakeFault::NotInstalled)
                ) =>
        {
            tracing::info!(catalog = %config.lake.catalog, "creating the lake");
            DuckLake::init(&config.lake)?;
            DuckLake::open(&config.lake, Access::Commit)
        }
        opened => opened,
    }
}
