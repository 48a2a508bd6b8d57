//! The worker, which owns all state and takes all decisions. Threads execute its commands and send events.
//!
//! ```text
//! poll thread ──records──▶ batchers ──batch──▶ worker ──commit─▶ committer ──▶ lake
//!      └────────────── events ──────────────────▲ └──── commands to all of them
//! ```
//! Uncommitted records are either flushed (the batch is cut and committed), or all of them are dropped and
//! read again from the committed positions (a reset).

mod advance;
mod alterations;
mod discovery;
mod handle;
mod held_topics;
mod other_members_wait;
mod owner_check;
mod partitions;
mod pending_alterations;
mod readiness_blockers;
mod until_end;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ducktide_protocol::commit::Commit;
use ducktide_protocol::dedupe::RecentRows;
use ducktide_protocol::position::{Offset, Partition};
use ducktide_service::endpoints::{self, Readiness};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::spawn_blocking;

use crate::batch::batcher::{BatchLimits, Batcher, BatcherCommand, BatcherContext};
use crate::batch::dedupe::IdBudget;
use crate::batch::partial_batch::CommitStats;
use crate::batch::topic_route::TopicRoute;
use crate::clock::Clock;
use crate::commit::committer::Committer;
use crate::commit::flush::FlushScheduler;
use crate::commit::request::{CommitterRequest, RecentRowsRequest};
use crate::config::Config;
use crate::decode::decoders::RecordDecoders;
use crate::decode::schema_provider::SchemaProviders;
use crate::error::ConsumerError;
use crate::event::{Event, Events};
use crate::metrics::Metrics;
use crate::source::cluster_queries::ClusterQueries;
use crate::source::group::Group;
use crate::source::in_flight::InFlight;
use crate::source::inspect::ClusterView;
use crate::source::kafka_config::{Membership, consumer_config};
use crate::source::{JoinConfig, Source, SourceCommand, SourceEvent, TopicPartition};
use crate::startup::{self, Goals, PreparedSources, StartupRetry};
use held_topics::HeldTopics;
use other_members_wait::OtherMembersWait;
use owner_check::OwnerCheck;
use partitions::Partitions;
use pending_alterations::Alterations;
use readiness_blockers::ReadinessBlockers;

/// Longest time between two checks of threads and deadlines.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Longest time after which a worker that commits nothing detects a replay or skip. A refresh is one small
/// query for each topic.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);

/// Time between two queries for the end offsets of partitions, for the lag in metrics, and to detect an
/// outage while there is nothing to commit. A query is one request to each broker.
const ENDS_INTERVAL: Duration = Duration::from_secs(5);

/// Longest time that leaving the group takes after the deadline of a shutdown.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest time that a run with `--until-end` waits while Kafka refuses a request. Brokers that have just
/// started may not have loaded their access rules.
const REFUSAL_LIMIT: Duration = Duration::from_secs(10);

/// Runs a consumer until `shutdown` is ready, a limit such as `--until-end` is reached, or an error ends it.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), ConsumerError> {
    let mut shutdown = Box::pin(shutdown);
    let (events, inbox) = Events::channel();
    let readiness = Readiness::starting();
    let mut exported = endpoints::registry("ducktide-consumer", &readiness);
    let metrics = Arc::new(Metrics::register(&mut exported));
    metrics.reading.memory_limit(config.batch.memory_limit);
    let address = endpoints::serve(config.process.listen, exported, readiness.clone())
        .await
        .map_err(ConsumerError::Listen)?;
    tracing::info!(%address, "serving /metrics, /healthz and /readyz");
    let providers = SchemaProviders::new(&config.values, config.layout.keys, &config.registry)
        .map_err(|error| ConsumerError::Schema { topic: config.topics.given().join(","), error })?;
    let config = Arc::new(config);
    let refusal_limit = config.source.until_end.then_some(REFUSAL_LIMIT);
    let retry = Arc::new(StartupRetry::new(Arc::clone(&metrics), readiness.clone(), refusal_limit));
    let client = config.kafka.client_config();
    let client = client.map_err(|error| ConsumerError::KafkaSettings(error.to_string()))?;
    let cluster = ClusterView::new(&client)
        .map_err(|error| ConsumerError::KafkaSettings(error.to_string()))?;
    let cluster = Arc::new(cluster);
    let prepared = tokio::select! {
        prepared = prepare(&config, &providers, &cluster, &retry) => prepared?,
        () = &mut shutdown => None,
    };
    let Some(prepared) = prepared else {
        retry.stop();
        return Ok(());
    };
    let queries = ClusterQueries::new(Arc::clone(&cluster), events.clone());
    let deps =
        WorkerDeps { config, providers, cluster, retry, metrics, readiness, queries, events };
    Worker::start(deps, prepared, inbox)?.work(shutdown).await
}

async fn prepare(
    config: &Arc<Config>,
    providers: &SchemaProviders,
    cluster: &Arc<ClusterView>,
    retry: &Arc<StartupRetry>,
) -> Result<Option<PreparedSources>, ConsumerError> {
    let topics = startup::load_topics(config, providers, cluster, retry).await?;
    let (config, cluster) = (Arc::clone(config), Arc::clone(cluster));
    let retry = Arc::clone(retry);
    let prepared = spawn_blocking(move || startup::prepare(&config, &topics, &cluster, &retry));
    prepared.await.map_err(|_| ConsumerError::Panicked)?
}

/// Dependencies of a worker other than the lake.
struct WorkerDeps {
    config: Arc<Config>,
    providers: SchemaProviders,
    cluster: Arc<ClusterView>,
    retry: Arc<StartupRetry>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    queries: ClusterQueries,
    events: Events,
}

struct Worker {
    deps: WorkerDeps,
    group: Arc<Group>,
    routes: BTreeMap<Arc<str>, Arc<TopicRoute>>,
    /// Topics that are being opened.
    opening: BTreeSet<Arc<str>>,
    source: Source,
    batchers: Vec<Batcher>,
    committer: Committer,
    inbox: UnboundedReceiver<Event>,
    flush: FlushScheduler,
    partitions: Partitions,
    revocation: Option<Revocation>,
    shutdown: Option<Shutdown>,
    held_topics: HeldTopics,
    /// The batch whose topics are being identified.
    identity_check: Option<IdentityCheck>,
    alterations: Alterations,
    /// Figures of the batch that is being committed. There is one at a time.
    commit_stats: CommitStats,
    blockers: ReadinessBlockers,
    in_flight: Arc<InFlight>,
    ids: Arc<IdBudget>,
    /// Number of the last query for the ids of topics.
    question: u64,
    goals: Option<Goals>,
    others: OtherMembersWait,
    /// None if a partition cannot lose its owner.
    owner_check: Option<OwnerCheck>,
    /// Time of the next refresh of all positions: of own partitions, because an operator may have moved
    /// them, and of other members' partitions for `--until-end`.
    refresh_at: Instant,
    /// True while a refresh is not answered.
    is_refreshing: bool,
    /// Time of the next query for end offsets.
    ends_at: Instant,
    /// True while that query is not answered.
    is_finding_ends: bool,
}

/// A batch that is committed once the ids of its topics are confirmed. A topic that is deleted and created
/// again need not cause a rebalance, and has other records at the same offsets. Therefore the ids are
/// queried after the records were read and before they are committed.
struct IdentityCheck {
    commit: Commit,
    question: u64,
    /// The topics that are not identified yet.
    topics: BTreeSet<Arc<str>>,
}

/// Partitions that are given up as soon as their records are committed.
struct Revocation {
    partitions: Vec<TopicPartition>,
    done: mpsc::SyncSender<()>,
    deadline: Instant,
    /// True once the batchers were sent the cut that flushes them.
    cut: bool,
}

/// The end of the worker, as soon as all records are committed.
struct Shutdown {
    result: Result<(), ConsumerError>,
    deadline: Instant,
    /// True once the source was sent the command to leave the group.
    closing: bool,
}

impl Worker {
    fn start(
        deps: WorkerDeps,
        prepared: PreparedSources,
        inbox: UnboundedReceiver<Event>,
    ) -> Result<Self, ConsumerError> {
        let (config, events) = (Arc::clone(&deps.config), &deps.events);
        let memory = config.batch.memory_shares();
        let in_flight = Arc::new(InFlight::new(memory.in_flight));
        let count = config.batchers;
        let ids = IdBudget::new(config.dedupe.memory_bytes());
        let shared = BatcherContext {
            limits: BatchLimits {
                rows: config.batch.flush_rows.div_ceil(count as u64),
                bytes: config.batch.flush_bytes.div_ceil(count as u64),
                memory: config.batcher_memory(),
            },
            in_flight: Arc::clone(&in_flight),
            events: events.clone(),
            metrics: Arc::clone(&deps.metrics),
            rows_left: config.source.max_rows.map(|rows| Arc::new(AtomicI64::new(rows))),
            bad_records: config.bad_records.clone(),
            ids: Arc::clone(&ids),
        };
        let (mut batchers, mut inlets) = (Vec::new(), Vec::new());
        for index in 0..count {
            // Bounded by bytes in `InFlight`, not by number.
            let (inlet, deliveries) = crossbeam_channel::unbounded();
            let schemas =
                RecordDecoders::new(deps.providers.clone(), tokio::runtime::Handle::current());
            batchers.push(Batcher::spawn(index, deliveries, schemas, shared.clone()));
            inlets.push(inlet);
        }
        let member = Membership {
            group_id: &prepared.group.id,
            client_id: &prepared.group.client_id,
            instance_id: config.source.group_instance_id.as_deref(),
            protocol: config.source.group_protocol,
            queue_kbytes: memory.queue / 1024,
        };
        let client = consumer_config(&config.kafka, &member)
            .map_err(|error| ConsumerError::KafkaSettings(error.to_string()))?;
        let join_config = JoinConfig {
            client,
            topics: config.topics.given().to_vec(),
            revocation_timeout: config.process.revocation_timeout,
            name_timeout: prepared.name_timeout,
        };
        let source = Source::spawn(
            join_config,
            inlets,
            Arc::clone(&in_flight),
            Arc::clone(&deps.metrics),
            events.clone(),
        )
        .map_err(|error| ConsumerError::of_client(&error))?;
        let routes = prepared.routes.into_iter().map(|s| (Arc::clone(&s.topic), s)).collect();
        Ok(Self {
            flush: FlushScheduler::new(config.batch.flush_interval, count),
            committer: Committer::spawn(prepared.lake, Clock::System, events.clone()),
            partitions: Partitions::default(),
            revocation: None,
            shutdown: None,
            held_topics: HeldTopics::default(),
            identity_check: None,
            alterations: Alterations::default(),
            commit_stats: CommitStats::default(),
            blockers: ReadinessBlockers::default(),
            in_flight,
            ids,
            question: 0,
            goals: prepared.goals,
            others: OtherMembersWait::default(),
            owner_check: OwnerCheck::for_member(&config),
            refresh_at: Instant::now(),
            is_refreshing: false,
            ends_at: Instant::now(),
            is_finding_ends: false,
            deps,
            group: prepared.group,
            routes,
            opening: BTreeSet::new(),
            source,
            batchers,
            inbox,
        })
    }

    async fn work(
        mut self,
        shutdown: impl Future<Output = ()> + Unpin,
    ) -> Result<(), ConsumerError> {
        let mut shutdown = shutdown;
        loop {
            let wake = self.advance();
            self.report_readiness();
            tokio::select! {
                event = self.inbox.recv() => match event {
                    Some(Event::Source(SourceEvent::Closed)) => return self.finish(),
                    Some(event) => self.handle(event),
                    None => unreachable!("the threads hold a sender while they run"),
                },
                () = &mut shutdown, if self.shutdown.is_none() => {
                    tracing::info!("stopping, committing the last batch");
                    self.end(Ok(()));
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            if self.shutdown.as_ref().is_some_and(|shutdown| shutdown.deadline <= Instant::now()) {
                return self.give_up();
            }
        }
    }

    /// Drops all records that are not being committed.
    fn reset(&mut self) {
        self.source.send(SourceCommand::Hold(self.partitions.all()));
        for batcher in &self.batchers {
            batcher.send(BatcherCommand::Reset);
        }
        if self.identity_check.take().is_some() {
            self.commit_ended();
        }
        self.flush.reset();
        self.partitions.reset();
        if let Some(revocation) = &mut self.revocation {
            // These partitions have no records left to commit.
            revocation.cut = true;
        }
    }

    /// Loads the positions of all partitions that wait for them, except those of held topics.
    fn load_all(&mut self) {
        for topic in self.partitions.topics_loading() {
            if !self.held_topics.is_waiting(&topic) {
                self.load(&topic, Vec::new());
            }
        }
    }

    fn load_all_positions(&mut self) {
        let topics: Vec<_> = self.routes.keys().cloned().collect();
        for topic in topics {
            self.load(&topic, Vec::new());
        }
    }

    fn load(&self, topic: &Arc<str>, starts: Vec<(Partition, Offset)>) {
        let Some(route) = self.routes.get(topic) else { return };
        let recent = route.dedupe.as_ref().map(|rule| RecentRowsRequest {
            wanted: RecentRows {
                table: route.table.version.table.clone(),
                topic: topic.to_string(),
                column: rule.column.clone(),
                span_micros: rule.span_micros,
                limit: self.ids.ids_at_most(),
            },
            partitions: self.partitions.loading(topic),
        });
        self.committer.send(CommitterRequest::Load { source: route.source.id, starts, recent });
    }

    fn fail(&mut self, error: ConsumerError) {
        self.end(Err(error));
    }

    /// Ends the worker as soon as all records are committed. Only the first result counts.
    fn end(&mut self, result: Result<(), ConsumerError>) {
        if self.shutdown.is_some() {
            return;
        }
        self.stop_opening();
        for batcher in &self.batchers {
            batcher.send(BatcherCommand::Stop);
        }
        self.flush.request_flush();
        let deadline = Instant::now() + self.deps.config.process.shutdown_timeout;
        self.shutdown = Some(Shutdown { result, deadline, closing: false });
    }

    fn report_readiness(&self) {
        let ready = if self.shutdown.is_some() {
            Err("stopping".to_owned())
        } else {
            let others = self.blockers.readiness(Instant::now());
            others.and(self.held_topics.readiness()).and(self.partitions.readiness())
        };
        self.deps.readiness.set(ready);
    }

    /// Ends the threads, after the group was left.
    fn finish(self) -> Result<(), ConsumerError> {
        let result = self.shutdown.map_or(Ok(()), |shutdown| shutdown.result);
        self.source.join();
        self.batchers.into_iter().for_each(Batcher::join);
        self.committer.join();
        if result.is_ok() {
            tracing::info!("stopped");
        }
        result
    }

    /// Ends without the threads after the deadline, because they may hang in calls. Only the poll thread
    /// does not, and leaves the group.
    fn give_up(self) -> Result<(), ConsumerError> {
        let Self { source, revocation, inbox, shutdown, .. } = self;
        // A revocation would wait for this worker's answer.
        drop((revocation, inbox));
        source.leave(LEAVE_TIMEOUT);
        match shutdown.map_or(Ok(()), |shutdown| shutdown.result) {
            Ok(()) => Err(ConsumerError::ShutdownTimeout),
            Err(error) => Err(error),
        }
    }
}

/// Joins the names of partitions for a log line.
fn join_names(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(TopicPartition::to_string).collect::<Vec<_>>().join(" ")
}
