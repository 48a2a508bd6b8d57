//! What must be true before the first record is read: schema, table, source, start offsets.
//!
//! Whatever does not answer is waited for, aloud; whatever is wrong ends the consumer.

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
use ducktide_protocol::{ErrorKind, Lake, Source, SourceSpec, Table};
use ducktide_service::endpoints::Readiness;
use ducktide_service::telemetry::Trouble;
use tokio::task::spawn_blocking;

use crate::batch::staging::ColumnHints;
use crate::batch::topic_route::TopicRoute;
use crate::config::{Config, StartFrom};
use crate::decode::newest_schemas::NewestSchemas;
use crate::decode::schema_provider::{SchemaProvider, SchemaProviders};
use crate::decode::schema_registry::RegistryError;
use crate::error::ConsumerError;
use crate::metrics::{Metrics, RetryCause};
use crate::source::TopicPartition;
use crate::source::cluster_error::ClusterErrorKind;
use crate::source::group::{Group, KnownGroups};
use crate::source::inspect::{ClusterResult, ClusterView};
use crate::source::kafka_config::GroupProtocol;

/// Between two tries of something that does not answer.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Kafka's default of `group.consumer.max.session.timeout.ms`, for brokers that do not tell theirs.
const LONGEST_SESSION: Duration = Duration::from_mins(1);

/// How many questions to the registry come between two to the lake, which cost more.
const TABLE_CHECKS: u32 = 5;

/// How the start waits: for ever and aloud, until it is told to stop.
pub(crate) struct StartupRetry {
    stopped: Arc<AtomicBool>,
    repeated: Mutex<Trouble>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    /// How long a refusal of Kafka is waited for.
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

    /// For something that waits beside others: it has reasons of its own, and the same end.
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

    /// Takes note of a failed try. Each reason is logged once in a wait.
    fn record_failure(&self, cause: RetryCause, what: &str, error: &str) {
        self.metrics.batching.retried(cause);
        let reason = format!("{what}: {error}");
        let mut repeated = self.repeated.lock().unwrap_or_else(PoisonError::into_inner);
        if repeated.is_news(&reason) {
            tracing::warn!(error, "{what}");
        }
        self.readiness.set(Err(reason));
    }

    /// Takes note that what was waited for answered.
    fn record_answer(&self, what: &str) {
        let mut repeated = self.repeated.lock().unwrap_or_else(PoisonError::into_inner);
        if repeated.is_over() {
            tracing::info!("{what}: answered");
        }
    }
}

/// A topic and its newest schemas, which are needed to create what does not exist.
#[derive(Debug)]
pub(crate) struct TopicSchemas {
    name: String,
    /// None where the subject has no usable schema and the table exists: each record names the schema
    /// that it was written with.
    value: Option<AvroSchema>,
    /// The same of keys; None as well where keys are not Avro.
    key: Option<AvroSchema>,
}

/// Waits for the schemas of all topics that are named, and takes those of the topics that a pattern
/// means now.
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

/// The topic, if it has schemas. Otherwise it must not hold the others up: it is opened when its first
/// partition is assigned.
async fn load_matching_topic(
    config: &Config,
    providers: &SchemaProviders,
    name: &str,
    retry: &StartupRetry,
) -> Option<TopicSchemas> {
    match newest_schemas(config, providers, name, Missing::Refuse, retry).await {
        Ok(topic) => Some(topic),
        Err(error) => {
            tracing::warn!(topic = name, %error, "the topic has no schema to begin with");
            None
        }
    }
}

/// The topic, once it has schemas.
async fn load_named_topic(
    config: &Config,
    providers: &SchemaProviders,
    name: &str,
    retry: &StartupRetry,
) -> Result<TopicSchemas, ConsumerError> {
    let topic = newest_schemas(config, providers, name, Missing::Await, retry).await;
    topic.map_err(|error| ConsumerError::Schema { topic: name.to_owned(), error })
}

/// Opens a topic that a running worker was assigned partitions of: reads it from its beginning, as it
/// appeared after the pipeline did. None when retry has ended.
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
        // The worker's own session is busy with commits.
        let lake = retry_lake_call("open the lake", &retry, || open_lake(&config))?;
        let Some(mut lake) = lake else { return Ok(None) };
        open_route(&config, &group, &topic, StartFrom::Earliest, &mut lake, &cluster, &retry)
    };
    spawn_blocking(open).await.map_err(|_| ConsumerError::Panicked)?
}

/// What becomes of a topic whose schema the registry does not have.
#[derive(Clone, Copy)]
enum Missing {
    Await,
    Refuse,
}

/// A topic with the newest schemas of its values, and of its keys where these are Avro.
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

/// The newest schema; waits for the registry to answer, whatever it says.
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
        // Somebody may create the table meanwhile, which is looked for less often.
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

/// Whether the lake answers and has the topic's table. Reads only: a lake that does not exist is not
/// created for it.
async fn has_table(config: &Config, topic: &str) -> bool {
    let (lake, name) = (config.lake.clone(), config.topics.table(topic));
    let find = move || {
        let mut lake = DuckLake::open(&lake, Access::Read).ok()?;
        lake.find_table(&name.ok()?).ok()?
    };
    matches!(spawn_blocking(find).await, Ok(Some(_)))
}

/// The lake and its streams, ready to be filled.
pub(crate) struct PreparedSources {
    pub(crate) lake: Box<dyn Lake>,
    pub(crate) group: Arc<Group>,
    pub(crate) routes: Vec<Arc<TopicRoute>>,
    /// Longest time that a static member waits for its name.
    pub(crate) name_timeout: Duration,
    /// For `--until-end`: where the topics end now.
    pub(crate) goals: Option<Goals>,
}

/// Offsets that the lake is to reach.
pub(crate) type Goals = BTreeMap<TopicPartition, i64>;

/// Sets lake, table and sources up. Blocks; gives up with None when retry has ended.
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
            // It may have appeared while no worker ran.
            StartFrom::Earliest
        };
        match open_route(config, &group, topic, start, &mut lake, cluster, retry) {
            Ok(Some(route)) => routes.push(Arc::new(route)),
            Ok(None) => return Ok(None),
            Err(error) if is_named => return Err(error),
            Err(error) => {
                let topic = &topic.name;
                tracing::error!(topic, %error, "the topic cannot be loaded; others can");
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

/// How long another member can have a static member's name without living: half more than the longest
/// session. Under the classic protocol nobody waits.
fn name_timeout(config: &Config, cluster: &ClusterView) -> Duration {
    let is_static = config.source.group_instance_id.is_some();
    if !is_static || config.source.group_protocol != GroupProtocol::Consumer {
        return Duration::ZERO;
    }
    let longest = cluster.longest_session().unwrap_or_else(|error| {
        tracing::debug!(%error, "the brokers do not tell their longest session");
        None
    });
    longest.unwrap_or(LONGEST_SESSION) * 3 / 2
}

/// The group to join: the one that is set, or the one that the lake has for these topics.
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

/// The label of sources, which is the group's name where none is set.
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
        goals.extend(ends.into_iter().map(|(p, end)| (TopicPartition::new(topic, p), end)));
    }
    Ok(Some(goals))
}

fn open_lake(config: &Config) -> ducktide_protocol::Result<DuckLake> {
    match DuckLake::open(&config.lake, Access::Commit) {
        Err(error) if error.is_missing() && config.may_init => {
            tracing::info!(catalog = %config.lake.catalog, "making the lake");
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
    let table = retry_lake_call("make the table", retry, || {
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
    // None where records of the newest schema become dead letters.
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

/// The dead-letter table, made at the start rather than at the first bad record: a batch under way
/// waits for nothing. None if there is to be none, as every bad record stops the worker, or to stop
/// now.
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
    retry_lake_call("make the dead-letter table", retry, || lake.ensure_table(&name, &shape))
}

/// Where each partition that exists now begins, if the lake does not know the topic yet.
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

/// Repeats a call on the lake while the lake is out of reach.
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
                let what = format!("cannot {what} yet, trying again");
                retry.record_failure(RetryCause::Lake, &what, &error.chain());
                thread::sleep(RETRY_PAUSE);
            }
            Err(error) => return Err(ConsumerError::Lake(error)),
        }
    }
    Ok(None)
}

/// Offsets of all partitions; a topic without partitions does not exist.
fn require_partitions(
    offsets: ClusterResult<Vec<(i32, i64)>>,
) -> ClusterResult<Option<Vec<(i32, i64)>>> {
    offsets.map(|offsets| (!offsets.is_empty()).then_some(offsets))
}

/// Repeats a question to Kafka until the topic exists and its brokers answer. A refusal may be
/// lifted by an operator, so it is waited for, unless the consumer is to end by itself.
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
        retry.record_failure(
            RetryCause::Kafka,
            &format!("cannot {what} yet, trying again"),
            &reason,
        );
        thread::sleep(RETRY_PAUSE);
    }
    Ok(None)
}
