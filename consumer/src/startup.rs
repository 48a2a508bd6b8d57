//! What must be true before the first record is read: schema, table, source, start offsets.
//!
//! Whatever does not answer is waited for, aloud; whatever is wrong ends the consumer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use apache_avro::Schema;
use ducktide_lake::dead_letter::{dead_letter_shape, dead_letter_table};
use ducktide_lake::endpoints::Readiness;
use ducktide_lake::position::{Offset, Partition};
use ducktide_lake::{Access, DuckLake, ErrorKind, Lake, SourceSpec, Table};
use rdkafka::error::KafkaResult;

use crate::batch::Stream;
use crate::config::{Config, StartFrom};
use crate::decoder::{RecordDecoder, record_fields};
use crate::error::ConsumerError;
use crate::metrics::{Metrics, RetryCause};
use crate::schema_registry::{RegistryError, SchemaRegistry};
use crate::source::TopicPartition;
use crate::source::inspect::{ClusterView, is_outage};
use crate::staging::ColumnHints;
use crate::table;

/// Between two tries of something that does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// How the start waits: for ever and aloud, until it is told to stop.
pub(crate) struct Patience {
    ended: AtomicBool,
    /// The reason for waiting that was logged last.
    said: Mutex<String>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
}

impl Patience {
    pub(crate) fn new(metrics: Arc<Metrics>, readiness: Readiness) -> Self {
        Self { ended: AtomicBool::new(false), said: Mutex::default(), metrics, readiness }
    }

    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Takes note of a failed try. Its reason is logged when it changes, not at every try.
    fn note(&self, cause: RetryCause, what: &str, error: &str) {
        self.metrics.batching.retried(cause);
        let reason = format!("{what}: {error}");
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != reason {
            tracing::warn!(error, "{what}");
            self.readiness.set(Err(reason.clone()));
            *said = reason;
        }
    }
}

/// A topic and the newest schema of its values.
#[derive(Debug)]
pub(crate) struct Topic {
    name: String,
    schema: Schema,
}

/// Waits for every topic's schema.
pub(crate) async fn topics(
    config: &Config,
    registry: &SchemaRegistry,
    patience: &Patience,
) -> Result<Vec<Topic>, ConsumerError> {
    let mut topics = Vec::new();
    for name in &config.source.topics {
        let schema = newest_schema(registry, name, patience).await?;
        topics.push(Topic { name: name.clone(), schema });
    }
    Ok(topics)
}

async fn newest_schema(
    registry: &SchemaRegistry,
    topic: &str,
    patience: &Patience,
) -> Result<Schema, ConsumerError> {
    let subject = format!("{topic}-value");
    loop {
        let error = match registry.latest(&subject).await {
            Ok(schema) => return Ok(schema),
            Err(error @ (RegistryError::Unavailable(_) | RegistryError::Unknown(_))) => error,
            Err(error) => return Err(ConsumerError::Schema { topic: topic.to_owned(), error }),
        };
        let what = format!("waiting for the schema of {subject}");
        patience.note(RetryCause::Registry, &what, &error.to_string());
        tokio::time::sleep(PAUSE).await;
    }
}

/// The lake and its streams, ready to be filled.
pub(crate) struct Prepared {
    pub(crate) lake: Box<dyn Lake>,
    pub(crate) streams: Vec<Arc<Stream>>,
    /// For `--until-end`: where the topics end now.
    pub(crate) goals: Option<Goals>,
}

/// Offsets that the lake is to reach.
pub(crate) type Goals = BTreeMap<TopicPartition, i64>;

/// Sets lake, table and sources up. Blocks; gives up with None when patience has ended.
pub(crate) fn prepare(
    config: &Config,
    topics: &[Topic],
    cluster: &ClusterView,
    patience: &Patience,
) -> Result<Option<Prepared>, ConsumerError> {
    let lake = wait("open the lake", patience, || open_lake(config))?;
    let Some(mut lake) = lake else { return Ok(None) };
    let mut streams = Vec::new();
    for topic in topics {
        let Some(stream) = stream(config, topic, &mut lake, cluster, patience)? else {
            return Ok(None);
        };
        streams.push(Arc::new(stream));
    }
    let lake = Box::new(lake);
    if !config.source.until_end {
        return Ok(Some(Prepared { lake, streams, goals: None }));
    }
    let goals = goals(config, cluster, patience)?;
    Ok(goals.map(|goals| Prepared { lake, streams, goals: Some(goals) }))
}

fn goals(
    config: &Config,
    cluster: &ClusterView,
    patience: &Patience,
) -> Result<Option<Goals>, ConsumerError> {
    let mut goals = Goals::new();
    for topic in &config.source.topics {
        let Some(ends) =
            ask("find the topic's end", patience, || of_partitions(cluster.ends(topic)))?
        else {
            return Ok(None);
        };
        goals.extend(ends.into_iter().map(|(p, end)| (TopicPartition::new(topic, p), end)));
    }
    Ok(Some(goals))
}

fn open_lake(config: &Config) -> ducktide_lake::Result<DuckLake> {
    match DuckLake::open(&config.lake, Access::Commit) {
        Err(error) if error.kind() == ErrorKind::Invalid && config.may_init => {
            tracing::info!(catalog = %config.lake.catalog, "making the lake");
            DuckLake::init(&config.lake)?;
            DuckLake::open(&config.lake, Access::Commit)
        }
        opened => opened,
    }
}

fn stream(
    config: &Config,
    topic: &Topic,
    lake: &mut DuckLake,
    cluster: &ClusterView,
    patience: &Patience,
) -> Result<Option<Stream>, ConsumerError> {
    let unusable = |reason: String| ConsumerError::Shape { topic: topic.name.clone(), reason };
    let newest = record_fields(&topic.schema).map_err(|error| unusable(error.to_string()))?;
    let partition_by = config.partition_by.as_deref();
    let on_incompatible = config.bad_records.on_incompatible_schema;
    let table = wait("make the table", patience, || {
        table::prepare(lake, &config.table, &newest, partition_by, on_incompatible)
    })?;
    let Some(table) = table else { return Ok(None) };
    let dead_letters = dead_letters(config, lake, patience)?;
    if dead_letters.is_none() && config.bad_records.keeps_dead_letters() {
        return Ok(None);
    }
    // None where records of the newest schema become dead letters.
    let decoder = RecordDecoder::compile(&topic.schema, &[], Arc::new(table.shape.clone())).ok();
    let hints = ColumnHints {
        enums: decoder.map_or_else(Vec::new, |decoder| decoder.enum_columns().to_vec()),
        statistics: config.statistics.clone(),
        ..ColumnHints::default()
    };
    let Some(starts) = start_offsets(config, &topic.name, cluster, patience)? else {
        return Ok(None);
    };
    let identity = ask("identify the topic", patience, || cluster.identity(&topic.name).map(Some))?;
    let Some(identity) = identity else { return Ok(None) };
    let spec = SourceSpec {
        table: config.table.clone(),
        topic: topic.name.clone(),
        pipeline: config.pipeline.clone(),
        cluster_id: identity.cluster_id,
        topic_id: identity.topic_id,
    };
    let source = wait("register the source", patience, || lake.register_source(&spec, &starts))?;
    let Some(source) = source else { return Ok(None) };
    source.check_identity(&spec).map_err(ConsumerError::Identity)?;
    tracing::info!(table = %config.table, topic = topic.name, source = %source.id, "source registered");
    Ok(Some(Stream {
        topic: topic.name.as_str().into(),
        source,
        table,
        newest,
        hints,
        dead_letters,
        partition_by: config.partition_by.clone(),
    }))
}

/// The dead-letter table, made at the start rather than at the first bad record: a batch under way
/// waits for nothing. None if there is to be none, as every bad record stops the worker, or to stop
/// now.
fn dead_letters(
    config: &Config,
    lake: &mut DuckLake,
    patience: &Patience,
) -> Result<Option<Table>, ConsumerError> {
    if !config.bad_records.keeps_dead_letters() {
        return Ok(None);
    }
    let (name, shape) = (dead_letter_table(&config.table), dead_letter_shape());
    wait("make the dead-letter table", patience, || lake.ensure_table(&name, &shape))
}

/// Where each partition that exists now begins, if the lake does not know the topic yet.
fn start_offsets(
    config: &Config,
    topic: &str,
    cluster: &ClusterView,
    patience: &Patience,
) -> Result<Option<Vec<(Partition, Offset)>>, ConsumerError> {
    let found = ask("find the topic", patience, || {
        of_partitions(match config.source.start_from {
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
fn wait<T>(
    what: &str,
    patience: &Patience,
    mut call: impl FnMut() -> ducktide_lake::Result<T>,
) -> Result<Option<T>, ConsumerError> {
    while !patience.has_ended() {
        match call() {
            Ok(value) => return Ok(Some(value)),
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                let what = format!("cannot {what} yet, trying again");
                patience.note(RetryCause::Lake, &what, &error.chain());
                thread::sleep(PAUSE);
            }
            Err(error) => return Err(ConsumerError::Lake(error)),
        }
    }
    Ok(None)
}

/// Offsets of all partitions; a topic without partitions does not exist.
fn of_partitions(offsets: KafkaResult<Vec<(i32, i64)>>) -> KafkaResult<Option<Vec<(i32, i64)>>> {
    offsets.map(|offsets| (!offsets.is_empty()).then_some(offsets))
}

/// Repeats a question to Kafka until the topic exists and its brokers answer.
fn ask<T>(
    what: &str,
    patience: &Patience,
    call: impl Fn() -> KafkaResult<Option<T>>,
) -> Result<Option<T>, ConsumerError> {
    while !patience.has_ended() {
        let reason = match call() {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => "the topic does not exist".to_owned(),
            Err(error) if is_outage(&error) => error.to_string(),
            Err(error) => return Err(ConsumerError::Kafka(error.to_string())),
        };
        patience.note(RetryCause::Kafka, &format!("cannot {what} yet, trying again"), &reason);
        thread::sleep(PAUSE);
    }
    Ok(None)
}
