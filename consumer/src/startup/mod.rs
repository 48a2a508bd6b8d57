//! The preparation before the first record is read: schemas, tables, sources, start offsets.
//!
//! Unavailable dependencies are retried and reported; faults end the consumer.

pub(crate) mod new_table;
pub(crate) mod table;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ducktide_decoder::RecordDecoder;
use ducktide_lake::{Access, DuckLake};
use ducktide_protocol::dead_letter::{dead_letter_shape, dead_letter_table};
use ducktide_protocol::position::{Offset, Partition};
use ducktide_protocol::table::{AvroSchema, TableName};
use ducktide_protocol::{ErrorKind, Lake, LakeFault, Source, SourceSpec, Table};
use ducktide_service::endpoints::Readiness;
use ducktide_service::telemetry::LogOnChange;
use tokio::task::spawn_blocking;

use crate::batch::staging::ColumnHints;
use crate::batch::topic_route::TopicRoute;
use crate::config::{Config, StartFrom};
use crate::decode::newest_schemas::NewestSchemas;
use crate::decode::schema_provider::{SchemaProvider, SchemaProviders};
use crate::decode::schema_registry::RegistryError;
use crate::error::ConsumerError;
use crate::metrics::{Metrics, RetryCause};
use crate::source::cluster_error::ClusterErrorKind;
use crate::source::group::{Group, KnownGroups};
use crate::source::inspect::{ClusterResult, ClusterView};
use crate::source::kafka_config::GroupProtocol;
use crate::source::topic_partition::TopicPartition;

/// Time between two attempts.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Kafka's default of `group.consumer.max.session.timeout.ms`, for brokers that do not report theirs.
const LONGEST_SESSION: Duration = Duration::from_mins(1);

/// Number of queries to the registry for each query to the lake, which costs more.
const TABLE_CHECKS: u32 = 5;

/// Retries of unavailable dependencies, without a limit, until the worker stops. Failures are reported in
/// the log, in `/readyz` and in metrics.
pub(crate) struct StartupRetry {
    stopped: Arc<AtomicBool>,
    repeated: Mutex<LogOnChange>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    /// Longest time that a refusal by Kafka is retried; None for no limit.
    refusal_limit: Option<Duration>,
}

impl StartupRetry {
    pub(crate) fn new(
        metrics: Arc<Metrics>,
        readiness: Readiness,
        refusal_limit: Option<Duration>,
    ) -> Self {
        let (stopped, repeated) = (Arc::default(), Mutex::default());
        Self { stopped, repeated, metrics, readiness, refusal_limit }
    }

    /// Creates the retries of a concurrent task: with failures of its own, stopped together with these.
    pub(crate) fn for_task(&self) -> Self {
        let (metrics, readiness) = (Arc::clone(&self.metrics), self.readiness.clone());
        Self {
            stopped: Arc::clone(&self.stopped),
            ..Self::new(metrics, readiness, self.refusal_limit)
        }
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Reports a failed attempt. Each reason is logged once.
    fn record_failure(&self, cause: RetryCause, what: &str, error: &str) {
        self.metrics.batching.retried(cause);
        let reason = format!("{what}: {error}");
        let mut repeated = self.repeated.lock().unwrap_or_else(PoisonError::into_inner);
        if repeated.is_new(&reason) {
            tracing::warn!(error, "{what}");
        }
        self.readiness.set(Err(reason));
    }

    /// Logs the first success after failures.
    fn record_answer(&self, what: &str) {
        let mut repeated = self.repeated.lock().unwrap_or_else(PoisonError::into_inner);
        if repeated.recovered() {
            tracing::info!("{what}: answered");
        }
    }
}

/// A topic and its newest schemas, from which missing tables and columns are created.
#[derive(Debug)]
pub(crate) struct TopicSchemas {
    name: String,
    /// None if the subject has no usable schema and the table exists. Records are still decoded, because
    /// each names its schema.
    value: Option<AvroSchema>,
    /// Schema of keys; also None if keys are not Avro.
    key: Option<AvroSchema>,
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
        let list =
            move || retry_cluster_call("list the topics", &waits, || cluster.topics().map(Some));
        let existing = spawn_blocking(list).await.map_err(|_| ConsumerError::Panicked)??;
        for name in config.topics.matching(existing.unwrap_or_default()) {
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
async fn load_named_topic(
    config: &Config,
    providers: &SchemaProviders,
    name: &str,
    retry: &StartupRetry,
) -> Result<TopicSchemas, ConsumerError> {
    let topic = newest_schemas(config, providers, name, Missing::Await, retry).await;
    topic.map_err(|error| ConsumerError::Schema { topic: name.to_owned(), error })
}

/// Opens a topic whose partitions were assigned to a running worker. It is read from its first record,
/// because it is newer than the pipeline. Returns None after a stop.
pub(crate) async fn open_topic(
    config: Arc<Config>,
    group: Arc<Group>,
    providers: SchemaProviders,
    cluster: Arc<ClusterView>,
    retry: Arc<StartupRetry>,
    name: Arc<str>,
) -> Result<Option<TopicRoute>, ConsumerError> {
    let topic = load_named_topic(&config, &providers, &name, &retry).await?;
    let open = move || {
        // The worker's session is in use for commits.
        let lake = retry_lake_call("open the lake", &retry, || open_lake(&config))?;
        let Some(mut lake) = lake else { return Ok(None) };
        open_route(&config, &group, &topic, StartFrom::Earliest, &mut lake, &cluster, &retry)
    };
    spawn_blocking(open).await.map_err(|_| ConsumerError::Panicked)?
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
) -> Result<TopicSchemas, RegistryError> {
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
) -> Result<Option<AvroSchema>, RegistryError> {
    for attempt in 0_u32.. {
        let subject = providers.subject(topic);
        let error = match providers.newest(topic).await {
            Ok(schema) => return Ok(Some(schema)),
            Err(error @ RegistryError::Unavailable(_)) => {
                wait_for_schema(&subject, retry, &error.to_string()).await;
                continue;
            }
            Err(error @ (RegistryError::Unknown(_) | RegistryError::Unusable(_))) => error,
            Err(error) => return Err(error),
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
            (error @ RegistryError::Unknown(_), Missing::Await) => {
                let error = format!(
                    "{error}; the table is created from it: register it, name another subject with \
                     --subject (as for RecordNameStrategy), or create the table with `ducktide init \
                     --from-subject`"
                );
                wait_for_schema(&subject, retry, &error).await;
            }
            (error, _) => return Err(error),
        }
    }
    unreachable!("the loop is endless")
}

async fn wait_for_schema(subject: &str, retry: &StartupRetry, error: &str) {
    let what = format!("waiting for the schema of {subject}");
    retry.record_failure(RetryCause::Registry, &what, error);
    tokio::time::sleep(RETRY_PAUSE).await;
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

/// Prepares lake, tables and sources. Blocks. Returns None after a stop.
pub(crate) fn prepare(
    config: &Config,
    topics: &[TopicSchemas],
    cluster: &ClusterView,
    retry: &StartupRetry,
) -> Result<Option<PreparedSources>, ConsumerError> {
    let lake = retry_lake_call("open the lake", retry, || open_lake(config))?;
    let Some(mut lake) = lake else { return Ok(None) };
    let Some(known) = retry_lake_call("read the lake's sources", retry, || lake.sources())? else {
        return Ok(None);
    };
    let Some(group) = find_group(config, &known, &mut lake, retry)? else { return Ok(None) };
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
        match open_route(config, &group, topic, start, &mut lake, cluster, retry) {
            Ok(Some(route)) => routes.push(Arc::new(route)),
            Ok(None) => return Ok(None),
            Err(error) if is_named => return Err(error),
            Err(error) => {
                let topic = &topic.name;
                tracing::error!(topic, %error, "topic not loaded; other topics continue");
            }
        }
    }
    let mut end = None;
    if config.source.until_end {
        end = find_goals(&routes, cluster, retry)?;
        if end.is_none() {
            return Ok(None);
        }
    }
    let (lake, group) = (Box::new(lake), Arc::new(group));
    let name_timeout = name_timeout(config, cluster);
    Ok(Some(PreparedSources { lake, group, routes, name_timeout, goals: end }))
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
) -> Result<Option<Group>, ConsumerError> {
    let found = retry_lake_call("read the lake's consumer groups", retry, || {
        Ok((lake.client_id()?, lake.default_group()?, lake.groups()?))
    })?;
    let Some((client_id, default, recorded)) = found else { return Ok(None) };
    let id = match &config.source.group_id {
        Some(group_id) => group_id.clone(),
        None => KnownGroups { sources: known, recorded: &recorded, default: &default }
            .choose(&config.topics)
            .map_err(|error| ConsumerError::KafkaSettings(error.to_string()))?,
    };
    tracing::info!(group_id = id, "consumer group chosen");
    Ok(Some(Group { id, client_id }))
}

/// Returns the label of sources, by default the name of the group.
fn pipeline_name(config: &Config, group: &Group) -> String {
    config.pipeline.clone().unwrap_or_else(|| group.id.clone())
}

fn find_goals(
    routes: &[Arc<TopicRoute>],
    cluster: &ClusterView,
    retry: &StartupRetry,
) -> Result<Option<Goals>, ConsumerError> {
    let mut goals = Goals::new();
    for topic in routes.iter().map(|route| &route.topic) {
        let Some(ends) = retry_cluster_call("find the topic's end", retry, || {
            require_partitions(cluster.ends(topic))
        })?
        else {
            return Ok(None);
        };
        goals.extend(ends.into_iter().map(|(p, end)| (TopicPartition::new(topic, p), Offset(end))));
    }
    Ok(Some(goals))
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

fn open_route(
    config: &Config,
    group: &Group,
    topic: &TopicSchemas,
    start_from: StartFrom,
    lake: &mut DuckLake,
    cluster: &ClusterView,
    retry: &StartupRetry,
) -> Result<Option<TopicRoute>, ConsumerError> {
    let unusable = |reason: String| ConsumerError::Shape { topic: topic.name.clone(), reason };
    let union_as = config.values.union_as();
    let name = config.topics.table(&topic.name).map_err(|error| unusable(error.to_string()))?;
    let newest = match NewestSchemas::of(topic.value.as_ref(), topic.key.as_ref(), union_as) {
        Ok(newest) => newest,
        Err(error) => {
            let found = retry_lake_call("find the table", retry, || lake.find_table(&name))?;
            let Some(found) = found else { return Ok(None) };
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
    let table = retry_lake_call("create the table", retry, || {
        table::prepare(lake, &name, &newest, &config.layout, on_incompatible)
    })?;
    let Some(table) = table else { return Ok(None) };
    let partition_by = table::date_column(&table, config.layout.partition_by.as_deref())
        .map_err(ConsumerError::Lake)?;
    let dedupe = config.dedupe.rule();
    if let Some(rule) = &dedupe {
        table::check_ids(&table, &rule.column).map_err(ConsumerError::Lake)?;
    }
    table::check_order(&table, &config.sort_by).map_err(ConsumerError::Lake)?;
    table::check_memory(&table, config).map_err(ConsumerError::Lake)?;
    let dead_letters = ensure_dead_letter_table(config, &name, lake, retry)?;
    if dead_letters.is_none() && config.bad_records.keeps_dead_letters() {
        return Ok(None);
    }
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
    let Some(starts) = start_offsets(start_from, &topic.name, cluster, retry)? else {
        return Ok(None);
    };
    let identity = retry_cluster_call("identify the topic", retry, || {
        cluster.identity(&topic.name).map(Some)
    })?;
    let Some(identity) = identity else { return Ok(None) };
    let spec = SourceSpec {
        table: name.clone(),
        topic: topic.name.clone(),
        pipeline: pipeline_name(config, group),
        cluster_id: identity.cluster_id,
        topic_id: identity.topic_id,
    };
    let source =
        retry_lake_call("register the source", retry, || lake.register_source(&spec, &starts))?;
    let Some(source) = source else { return Ok(None) };
    source.check_identity(&spec).map_err(ConsumerError::Identity)?;
    let recorded = retry_lake_call("record the consumer group", retry, || {
        lake.record_group(source.id, &group.id)
    })?;
    if recorded.is_none() {
        return Ok(None);
    }
    tracing::info!(table = %name, topic = topic.name, source = %source.id, "source registered");
    Ok(Some(TopicRoute {
        topic: topic.name.as_str().into(),
        source,
        table,
        newest,
        hints,
        dead_letters,
        partition_by,
        dedupe,
    }))
}

/// Creates the dead-letter table if it does not exist, so that no batch has to wait for it. Returns None if
/// bad records stop the worker, and after a stop.
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
    retry_lake_call("create the dead-letter table", retry, || lake.ensure_table(&name, &shape))
}

/// Returns the start offset of each existing partition, for a topic that the lake does not know yet.
fn start_offsets(
    start_from: StartFrom,
    topic: &str,
    cluster: &ClusterView,
    retry: &StartupRetry,
) -> Result<Option<Vec<(Partition, Offset)>>, ConsumerError> {
    let found = retry_cluster_call("find the topic", retry, || {
        require_partitions(match start_from {
            StartFrom::Time(time) => {
                cluster.offsets_at(topic, &cluster.partitions(topic)?, time.as_millisecond())
            }
            StartFrom::Earliest => cluster.beginnings(topic),
            StartFrom::Latest => cluster.ends(topic),
        })
    })?;
    Ok(found.map(|starts| {
        starts.into_iter().map(|(partition, at)| (Partition(partition), Offset(at))).collect()
    }))
}

/// Retries a call while the lake is unavailable. Returns None after a stop.
fn retry_lake_call<T>(
    what: &str,
    retry: &StartupRetry,
    mut call: impl FnMut() -> ducktide_protocol::Result<T>,
) -> Result<Option<T>, ConsumerError> {
    while !retry.is_stopped() {
        match call() {
            Ok(value) => {
                retry.record_answer(what);
                return Ok(Some(value));
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                let what = format!("cannot {what} yet, retrying");
                retry.record_failure(RetryCause::Lake, &what, &error.chain());
                thread::sleep(RETRY_PAUSE);
            }
            Err(error) => return Err(ConsumerError::Lake(error)),
        }
    }
    Ok(None)
}

/// Converts an empty list to None: a topic without partitions does not exist.
fn require_partitions(
    offsets: ClusterResult<Vec<(i32, i64)>>,
) -> ClusterResult<Option<Vec<(i32, i64)>>> {
    offsets.map(|offsets| (!offsets.is_empty()).then_some(offsets))
}

/// Retries a query until the topic exists and its brokers answer. Refusals are retried as well, because an
/// operator can lift them, up to the limit. Returns None after a stop.
fn retry_cluster_call<T>(
    what: &str,
    retry: &StartupRetry,
    call: impl Fn() -> ClusterResult<Option<T>>,
) -> Result<Option<T>, ConsumerError> {
    let mut refused_since = None;
    while !retry.is_stopped() {
        let (reason, kind) = match call() {
            Ok(Some(found)) => {
                retry.record_answer(what);
                retry.metrics.reading.refused(false);
                return Ok(Some(found));
            }
            Ok(None) => {
                let reason = "the topic does not exist: create it, or correct --topics";
                (reason.to_owned(), ClusterErrorKind::Refusal)
            }
            Err(error) => (error.to_string(), error.kind()),
        };
        match kind {
            ClusterErrorKind::Settings => return Err(ConsumerError::KafkaSettings(reason)),
            ClusterErrorKind::Refusal => {
                let since = *refused_since.get_or_insert_with(Instant::now);
                if retry.refusal_limit.is_some_and(|limit| since.elapsed() >= limit) {
                    return Err(ConsumerError::KafkaRefuses(reason));
                }
            }
            ClusterErrorKind::Outage => refused_since = None,
        }
        retry.metrics.reading.refused(kind == ClusterErrorKind::Refusal);
        retry.record_failure(RetryCause::Kafka, &format!("cannot {what} yet, retrying"), &reason);
        thread::sleep(RETRY_PAUSE);
    }
    Ok(None)
}
