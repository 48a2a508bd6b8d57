//! Opening of a topic: table, dead-letter table, source and start offsets.

use std::sync::Arc;

use ducktide_decoder::RecordDecoder;
use ducktide_lake::DuckLake;
use ducktide_protocol::dead_letter::{dead_letter_shape, dead_letter_table};
use ducktide_protocol::position::{Offset, Partition};
use ducktide_protocol::table::TableName;
use ducktide_protocol::{Lake as _, SourceSpec, Table};

use super::retry::StartupRetry;
use super::topic_schemas::TopicSchemas;
use super::{pipeline_name, table};
use crate::batch::staging::ColumnHints;
use crate::batch::topic_route::TopicRoute;
use crate::config::{Config, StartFrom};
use crate::decode::newest_schemas::NewestSchemas;
use crate::error::ConsumerError;
use crate::source::group::Group;
use crate::source::inspect::{ClusterResult, ClusterView};

/// Opens topics in a lake.
pub(super) struct RouteOpener<'a> {
    pub(super) config: &'a Config,
    pub(super) group: &'a Group,
    pub(super) lake: &'a mut DuckLake,
    pub(super) cluster: &'a ClusterView,
    pub(super) retry: &'a StartupRetry,
}

impl RouteOpener<'_> {
    /// Opens the route of a topic: creates its table and dead-letter table, and registers its source.
    pub(super) fn open(
        &mut self,
        topic: &TopicSchemas,
        start_from: StartFrom,
    ) -> Result<TopicRoute, ConsumerError> {
        let Self { config, group, lake, cluster, retry } = self;
        let unusable = |reason: String| ConsumerError::Shape { topic: topic.name.clone(), reason };
        let union_as = config.values.union_as();
        let name = config.topics.table(&topic.name).map_err(|error| unusable(error.to_string()))?;
        let newest = match NewestSchemas::of(topic.value.as_ref(), topic.key.as_ref(), union_as) {
            Ok(newest) => newest,
            Err(error) => {
                let found = retry.call_lake("find the table", || lake.find_table(&name))?;
                if found.is_none() {
                    return Err(unusable(error.to_string()));
                }
                tracing::warn!(
                    topic = topic.name,
                    %error,
                    "newest schema cannot be used; continuing with the table as it is"
                );
                NewestSchemas::default()
            }
        };
        let on_incompatible = config.bad_records.on_incompatible_schema;
        let table = retry.call_lake("create the table", || {
            table::prepare(lake, &name, &newest, &config.layout, on_incompatible)
        })?;
        let partition_by = table::date_column(&table, config.layout.partition_by.as_deref())
            .map_err(ConsumerError::Lake)?;
        let dedupe = config.dedupe.rule();
        if let Some(rule) = &dedupe {
            table::check_ids(&table, &rule.column).map_err(ConsumerError::Lake)?;
        }
        table::check_order(&table, &config.sort_by).map_err(ConsumerError::Lake)?;
        table::check_memory(&table, config).map_err(ConsumerError::Lake)?;
        let dead_letters = ensure_dead_letter_table(config, &name, lake, retry)?;
        // None if records of the newest schema become dead letters.
        let shape = Arc::new(table.shape.clone());
        let decoder = topic.value.as_ref();
        let decoder =
            decoder.and_then(|schema| RecordDecoder::compile(schema, union_as, &[], shape).ok());
        let hints = ColumnHints {
            enums: decoder.map_or_else(Vec::new, |decoder| decoder.enum_columns().to_vec()),
            statistics: config.statistics.clone(),
            sort_by: config.sort_by.clone(),
            one_folder: partition_by.is_none(),
            ..ColumnHints::default()
        };
        let starts = start_offsets(start_from, &topic.name, cluster, retry)?;
        let identity =
            retry.call_cluster("identify the topic", || cluster.identity(&topic.name).map(Some))?;
        let spec = SourceSpec {
            table: name.clone(),
            topic: topic.name.clone(),
            pipeline: pipeline_name(config, group),
            cluster_id: identity.cluster_id,
            topic_id: identity.topic_id,
        };
        let source =
            retry.call_lake("register the source", || lake.register_source(&spec, &starts))?;
        source.check_identity(&spec).map_err(ConsumerError::Identity)?;
        retry.call_lake("record the consumer group", || lake.record_group(source.id, &group.id))?;
        tracing::info!(table = %name, topic = topic.name, source = %source.id, "source registered");
        Ok(TopicRoute {
            topic: topic.name.as_str().into(),
            source,
            table,
            newest,
            hints,
            dead_letters,
            partition_by,
            dedupe,
        })
    }
}

/// Creates the dead-letter table if it does not exist, so that no batch has to wait for it. Returns None if
/// bad records stop the worker.
fn ensure_dead_letter_table(
    config: &Config,
    table: &TableName,
    lake: &mut DuckLake,
    retry: &StartupRetry,
) -> Result<Option<Table>, ConsumerError> {
    if !config.bad_records.keeps_dead_letters() {
        return Ok(None);
    }
    let (name, shape) = (dead_letter_table(table), dead_letter_shape());
    retry.call_lake("create the dead-letter table", || lake.ensure_table(&name, &shape)).map(Some)
}

/// Returns the start offset of each existing partition, for a topic that the lake does not know yet.
fn start_offsets(
    start_from: StartFrom,
    topic: &str,
    cluster: &ClusterView,
    retry: &StartupRetry,
) -> Result<Vec<(Partition, Offset)>, ConsumerError> {
    retry.call_cluster("find the topic", || {
        require_partitions(match start_from {
            StartFrom::Time(time) => {
                cluster.offsets_at(topic, &cluster.partitions(topic)?, time.as_millisecond())
            }
            StartFrom::Earliest => cluster.beginnings(topic, &cluster.partitions(topic)?),
            StartFrom::Latest => cluster.ends(topic, &cluster.partitions(topic)?),
        })
    })
}

/// Converts an empty list to None: a topic without partitions does not exist.
pub(super) fn require_partitions(
    offsets: ClusterResult<Vec<(Partition, Offset)>>,
) -> ClusterResult<Option<Vec<(Partition, Offset)>>> {
    offsets.map(|offsets| (!offsets.is_empty()).then_some(offsets))
}
