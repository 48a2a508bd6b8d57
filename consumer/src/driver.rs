//! The driver of the worker: starts its threads, delivers their events, and executes the worker's effects.
//!
//! ```text
//! poll thread ──records──▶ batchers ──batch──▶ worker ──commit─▶ committer ──▶ lake
//!      └────────────── events ──────────────────▲ └──── commands to all of them
//! ```
//! It takes no decisions: those are [`Worker`]'s.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use ducktide_service::endpoints::{self, Readiness};
use ducktide_service::traces::Traces;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::batch::batcher::{BatchLimits, Batcher, BatcherContext};
use crate::batch::dedupe::IdBudget;
use crate::clock::Clock;
use crate::commit::committer::Committer;
use crate::config::Config;
use crate::decode::decoders::RecordDecoders;
use crate::decode::schema_lookup::{RuntimeLookup, SchemaLookup};
use crate::decode::schema_provider::SchemaProviders;
use crate::error::ConsumerError;
use crate::event::{Event, Events, OpenedTopic};
use crate::metrics::Metrics;
use crate::source::cluster_queries::ClusterQueries;
use crate::source::group::Group;
use crate::source::in_flight::InFlight;
use crate::source::inspect::ClusterView;
use crate::source::kafka_config::{Membership, client_config, consumer_config};
use crate::source::{JoinConfig, Source};
use crate::startup::retry::StartupRetry;
use crate::startup::{self, PreparedSources, topic_schemas};
use crate::worker::{Effect, FIRST_QUIET_TIME, NextStep, REFUSAL_LIMIT, Worker, WorkerSettings};

/// Longest time that leaving the group takes after the deadline of a shutdown.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs a consumer until `shutdown` is ready, a limit such as `--until-end` is reached, or an error ends it.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), ConsumerError> {
    let mut shutdown = Box::pin(shutdown);
    let (events, inbox) = Events::channel();
    let readiness = Readiness::starting();
    let mut exported = endpoints::registry("ducktide-consumer", &readiness);
    let clock = Clock::system();
    let metrics = Arc::new(Metrics::register(&mut exported, &clock));
    metrics.reading.memory_limit(config.batch.memory_limit);
    let traces = Arc::new(Traces::from_env("ducktide-consumer")?);
    let address = endpoints::serve(&config.process.endpoints, exported, readiness.clone())
        .await
        .map_err(ConsumerError::Listen)?;
    tracing::info!(%address, "serving /metrics, /healthz and /readyz");
    let providers = SchemaProviders::new(&config.values, config.layout.keys, &config.registry)
        .map_err(|error| ConsumerError::Schema { topic: config.topics.given().join(","), error })?;
    let config = Arc::new(config);
    let refusal_limit = config.source.until_end.then_some(REFUSAL_LIMIT);
    let stop_startup = CancellationToken::new();
    let retry = StartupRetry::new(
        stop_startup.clone(),
        clock.clone(),
        Arc::clone(&metrics),
        readiness.clone(),
        refusal_limit,
    );
    let retry = Arc::new(retry);
    let client = client_config(&config.kafka);
    let client = client.map_err(|error| ConsumerError::KafkaSettings(error.to_string()))?;
    let cluster = ClusterView::new(&client)
        .map_err(|error| ConsumerError::KafkaSettings(error.to_string()))?;
    let cluster = Arc::new(cluster);
    let prepared = tokio::select! {
        prepared = prepare(&config, &providers, &cluster, &retry) => prepared?,
        () = &mut shutdown => {
            stop_startup.cancel();
            return Ok(());
        }
    };
    let deps = DriverDeps {
        config,
        clock,
        providers,
        cluster,
        retry,
        stop_startup,
        metrics,
        traces,
        readiness,
        events,
    };
    Driver::start(deps, prepared, inbox)?.drive(shutdown).await
}

async fn prepare(
    config: &Arc<Config>,
    providers: &SchemaProviders,
    cluster: &Arc<ClusterView>,
    retry: &Arc<StartupRetry>,
) -> Result<PreparedSources, ConsumerError> {
    let topics = topic_schemas::load_topics(config, providers, cluster, retry).await?;
    let (config, cluster) = (Arc::clone(config), Arc::clone(cluster));
    let retry = Arc::clone(retry);
    let prepared = spawn_blocking(move || startup::prepare(&config, &topics, &cluster, &retry));
    prepared.await.map_err(|_| ConsumerError::Panicked)?
}

/// Dependencies of a worker other than the lake.
struct DriverDeps {
    config: Arc<Config>,
    clock: Clock,
    providers: SchemaProviders,
    cluster: Arc<ClusterView>,
    retry: Arc<StartupRetry>,
    /// Ends the retries of topics that are being opened.
    stop_startup: CancellationToken,
    metrics: Arc<Metrics>,
    traces: Arc<Traces>,
    readiness: Readiness,
    events: Events,
}

/// The worker and its threads.
struct Driver {
    deps: DriverDeps,
    worker: Worker,
    source: Source,
    batchers: Vec<Batcher>,
    committer: Committer,
    queries: ClusterQueries,
    group: Arc<Group>,
    in_flight: Arc<InFlight>,
    inbox: UnboundedReceiver<Event>,
}

impl Driver {
    fn start(
        deps: DriverDeps,
        prepared: PreparedSources,
        inbox: UnboundedReceiver<Event>,
    ) -> Result<Self, ConsumerError> {
        let (config, events) = (Arc::clone(&deps.config), &deps.events);
        let memory = config.batch.memory_shares();
        let in_flight = Arc::new(InFlight::new(memory.in_flight));
        let count = config.batchers;
        let clock = deps.clock.clone();
        let ids = IdBudget::new(config.dedupe.memory_bytes());
        let shared = BatcherContext {
            limits: BatchLimits {
                rows: config.batch.flush_rows.div_ceil(count as u64),
                bytes: config.batch.flush_bytes.div_ceil(count as u64),
                memory: config.batcher_memory(),
            },
            in_flight: Arc::clone(&in_flight),
            metrics: Arc::clone(&deps.metrics),
            clock: clock.clone(),
            rows_left: config.source.max_rows.map(|rows| Arc::new(AtomicI64::new(rows))),
            bad_records: config.bad_records.clone(),
            ids: Arc::clone(&ids),
        };
        let lookup: Arc<dyn SchemaLookup> = Arc::new(RuntimeLookup(Handle::current()));
        let (mut batchers, mut inlets) = (Vec::new(), Vec::new());
        for index in 0..count {
            // Bounded by bytes in `InFlight`, not by number.
            let (inlet, deliveries) = crossbeam_channel::unbounded();
            let schemas = RecordDecoders::new(deps.providers.clone(), &lookup, &clock);
            let (shared, events) = (shared.clone(), events.clone());
            batchers.push(Batcher::spawn(index, deliveries, schemas, shared, events));
            inlets.push(inlet);
        }
        let member = Membership {
            group_id: &prepared.group.id,
            client_id: &prepared.group.client_id,
            instance_id: config.source.group_instance_id.as_deref(),
            protocol: config.source.group_protocol,
            queue_kbytes: memory.queue / 1024,
            flush_interval: config.batch.flush_interval,
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
            clock.clone(),
            events.clone(),
        )
        .map_err(|error| ConsumerError::of_client(&error))?;
        let settings = WorkerSettings {
            config: Arc::clone(&config),
            group: Arc::clone(&prepared.group),
            goals: prepared.goals,
            ids,
            traces: Arc::clone(&deps.traces),
            quiet_time: FIRST_QUIET_TIME,
        };
        let metrics = Arc::clone(&deps.metrics);
        Ok(Self {
            worker: Worker::new(settings, prepared.routes, metrics, clock.now()),
            committer: Committer::spawn(prepared.lake, clock.clone(), events.clone()),
            queries: ClusterQueries::new(
                Arc::clone(&deps.cluster),
                prepared.group.id.clone(),
                events.clone(),
            ),
            group: prepared.group,
            deps,
            source,
            batchers,
            in_flight,
            inbox,
        })
    }

    async fn drive(
        mut self,
        mut shutdown: impl Future<Output = ()> + Unpin,
    ) -> Result<(), ConsumerError> {
        let (mut event, mut is_stopping) = (None, false);
        loop {
            let wake = match self.step(event) {
                NextStep::At(wake) => wake,
                NextStep::Finished(result) => return self.finish(result),
                NextStep::GiveUp(result) => return self.give_up(result),
            };
            event = tokio::select! {
                event = self.inbox.recv() => event,
                () = &mut shutdown, if !is_stopping => {
                    is_stopping = true;
                    Some(Event::Stop)
                }
                () = tokio::time::sleep_until(wake.into()) => None,
            };
        }
    }

    /// Lets the worker decide, and executes what follows.
    fn step(&mut self, event: Option<Event>) -> NextStep {
        let now = self.deps.clock.now();
        if self.batchers.iter().any(Batcher::is_dead) {
            self.worker.handle(now, Event::ThreadPanicked);
        }
        let next = self.worker.step(now, event);
        for effect in self.worker.take_effects() {
            self.execute(effect);
        }
        self.deps.metrics.reading.queued(self.in_flight.records(), self.in_flight.bytes());
        self.deps.readiness.set(self.worker.readiness(now));
        next
    }

    fn execute(&self, effect: Effect) {
        match effect {
            Effect::Source(command) => self.source.send(command),
            Effect::Batcher(index, command) => self.batchers[index].send(command),
            Effect::Committer(request) => self.committer.send(request),
            Effect::Query(query) => self.queries.send(query),
            Effect::OpenTopic(topic) => self.open_topic(topic),
            Effect::StopOpening => self.deps.stop_startup.cancel(),
            Effect::ReleasePartitions(done) => {
                // The poll thread may no longer wait.
                let _ = done.try_send(());
            }
        }
    }

    fn open_topic(&self, topic: Arc<str>) {
        let (config, providers) = (Arc::clone(&self.deps.config), self.deps.providers.clone());
        let (group, cluster) = (Arc::clone(&self.group), Arc::clone(&self.deps.cluster));
        let retry = Arc::new(self.deps.retry.for_task());
        let events = self.deps.events.clone();
        tokio::spawn(async move {
            let name = Arc::clone(&topic);
            let route = startup::open_topic(config, group, providers, cluster, retry, name).await;
            events.send(Event::TopicOpened(Box::new(OpenedTopic { topic, route })));
        });
    }

    /// Ends the threads, after the group was left.
    fn finish(self, result: Result<(), ConsumerError>) -> Result<(), ConsumerError> {
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
    fn give_up(self, result: Result<(), ConsumerError>) -> Result<(), ConsumerError> {
        let Self { source, worker, inbox, .. } = self;
        // A revocation would wait for this worker's answer.
        drop((worker, inbox));
        source.leave(LEAVE_TIMEOUT);
        result
    }
}
