//! One simulated process: the real cores of a consumer, and the queues between them.

use std::collections::VecDeque;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::time::{Duration, Instant};

use clap::Parser as _;
use ducktide_protocol::dead_letter::{dead_letter_shape, dead_letter_table};
use ducktide_protocol::position::{Offset, Partition};
use ducktide_protocol::table::{TableName, TableShape};
use ducktide_protocol::{Lake as _, LakeError, SourceSpec};
use prometheus_client::registry::Registry as MetricsRegistry;

use super::client::{ClientState, GroupOffsets, SimulatedClient, SimulatedRecord};
use super::cluster::{Cluster, Topic};
use super::disk::Disk;
use super::draw::Draw;
use super::group::Partitions;
use super::lake::SimulatedLake;
use super::member::Membership;
use super::oracle::DEDUPE_SPAN_MICROS;
use super::payload::{EVENT, FIRST_SCHEMA};
use super::registry::{Registry, RegistryHandle, schema};
use super::schedule::Setup;
use crate::batch::command::BatcherCommand;
use crate::batch::context::{BatchLimits, BatcherContext};
use crate::batch::core::BatchCore;
use crate::batch::dedupe::{DedupeRule, IdBudget};
use crate::batch::staging::ColumnHints;
use crate::batch::topic_route::TopicRoute;
use crate::clock::Clock;
use crate::commit::core::CommitCore;
use crate::commit::request::CommitterRequest;
use crate::config::{Args, Config, OnIncompatibleSchema};
use crate::decode::decoders::RecordDecoders;
use crate::decode::newest_schemas::NewestSchemas;
use crate::decode::schema_lookup::SchemaLookup;
use crate::decode::schema_provider::SchemaProviders;
use crate::event::Event;
use crate::metrics::Metrics;
use crate::random::Random;
use crate::source::group::Group;
use crate::source::in_flight::InFlight;
use crate::source::poll_loop::{PollLoop, PollLoopConfig};
use crate::source::shared_assignment::SharedAssignment;
use crate::source::{Delivery, SourceCommand, TopicPartition};
use crate::worker::{LONGEST_QUIET_TIME, Worker, WorkerSettings};

/// Number of a process; a restarted worker has another one.
pub(super) type ProcessId = u64;

/// Bytes of a batch at which it ends, and memory of a batcher: more than a schedule has records.
const AMPLE: usize = 64 << 20;

/// Configuration of which each process has a copy with changes.
static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let args = Args::try_parse_from(["ducktide-consumer", "--topics", "events,orders"]);
    let mut config = Config::try_from(args.expect("valid arguments")).expect("valid settings");
    config.bad_records.on_incompatible_schema = OnIncompatibleSchema::DeadLetter;
    config.bad_records.max_dead_letter_ratio = 1.0;
    config.process.revocation_timeout = Duration::from_secs(4);
    config
});

static PROVIDERS: LazyLock<SchemaProviders> = LazyLock::new(|| {
    SchemaProviders::new(&CONFIG.values, CONFIG.layout.keys, &CONFIG.registry)
        .expect("valid settings of a registry")
});

thread_local! {
    /// Metrics of all processes: to register them takes longer than a schedule.
    static METRICS: Arc<Metrics> =
        Arc::new(Metrics::register(&mut MetricsRegistry::default(), &Clock::manual()));
}

/// State that all processes share.
pub(super) struct Surroundings<'a> {
    pub(super) setup: &'a Setup,
    pub(super) clock: &'a Clock,
    pub(super) cluster: &'a Cluster,
    pub(super) lake: &'a SimulatedLake,
    pub(super) disk: &'a Disk,
    pub(super) registry: &'a Arc<Registry>,
    pub(super) group_offsets: &'a GroupOffsets,
}

/// Continuation after a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterRevocation {
    Poll,
    ReplaceClient,
    Close,
}

/// Revocation in which the poll thread waits for the worker.
pub(super) struct PendingRevocation {
    pub(super) partitions: Vec<TopicPartition>,
    pub(super) fetched: Vec<TopicPartition>,
    pub(super) released: mpsc::Receiver<()>,
    pub(super) deadline: Duration,
    pub(super) after: AfterRevocation,
}

/// Thread of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Thread {
    /// Time of the next step.
    pub(super) due: Option<Duration>,
    /// No step before this time.
    pub(super) busy_until: Duration,
}

/// Index of a thread: worker, poll loop, committer, then the batchers.
pub(super) const WORKER: usize = 0;
pub(super) const POLL: usize = 1;
pub(super) const COMMITTER: usize = 2;
pub(super) const FIRST_BATCHER: usize = 3;

/// A running consumer.
pub(super) struct Process {
    pub(super) id: ProcessId,
    pub(super) worker: Worker,
    pub(super) inbox: VecDeque<Event>,
    pub(super) poll_loop: PollLoop<SimulatedClient>,
    pub(super) assignment: SharedAssignment,
    pub(super) client: SimulatedClient,
    pub(super) source_inbox: VecDeque<SourceCommand>,
    pub(super) revocation: Option<PendingRevocation>,
    /// Partitions that the poll thread gave up without an answer of the worker.
    pub(super) unreleased: Partitions,
    pub(super) is_closed: bool,
    pub(super) batchers: Vec<SimulatedBatcher>,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) committer: CommitCore,
    pub(super) lake: SimulatedLake,
    pub(super) committer_inbox: VecDeque<CommitterRequest>,
    pub(super) threads: Vec<Thread>,
    pub(super) paused_until: Duration,
    pub(super) disconnected_until: Duration,
    pub(super) contact_due: Option<Duration>,
    /// Time after which the worker is started again when it ends.
    pub(super) restart_after: Duration,
    /// True if an action requested the stop of the process; faults may outlast the timeout of its end.
    pub(super) is_stop_requested: bool,
}

pub(super) struct SimulatedBatcher {
    pub(super) core: BatchCore<SimulatedRecord, Disk>,
    pub(super) commands: VecDeque<BatcherCommand>,
    pub(super) deliveries: VecDeque<Delivery<SimulatedRecord>>,
    pub(super) active_at: Duration,
}

impl Process {
    /// Starts a consumer. The lake may be unavailable, or reject the topics.
    pub(super) fn start(
        id: ProcessId,
        index: usize,
        now: Duration,
        shared: &Surroundings<'_>,
        draw: &mut Draw,
    ) -> Result<Self, LakeError> {
        let setup = shared.setup;
        let config = Arc::new(config(setup, index));
        let mut lake = shared.lake.clone();
        let routes = shared.cluster.topics.iter();
        let routes = routes.map(|topic| Ok(Arc::new(route(topic, setup, &mut lake)?)));
        let routes = routes.collect::<Result<Vec<_>, LakeError>>()?;
        let metrics = METRICS.with(Arc::clone);
        let in_flight = Arc::new(InFlight::new(setup.in_flight_bytes));
        let ids = IdBudget::new(AMPLE);
        let context = BatcherContext {
            limits: BatchLimits {
                rows: setup.flush_rows.div_ceil(setup.batchers as u64),
                bytes: AMPLE as u64,
                memory: AMPLE,
            },
            in_flight: Arc::clone(&in_flight),
            metrics: Arc::clone(&metrics),
            clock: shared.clock.clone(),
            rows_left: None::<Arc<AtomicI64>>,
            bad_records: config.bad_records.clone(),
            ids: Arc::clone(&ids),
        };
        let lookup: Arc<dyn SchemaLookup> = Arc::new(RegistryHandle(Arc::clone(shared.registry)));
        let batcher = |index| {
            let schemas = RecordDecoders::new(PROVIDERS.clone(), &lookup, shared.clock);
            let core = BatchCore::new(index, context.clone(), schemas, shared.disk.clone());
            let (commands, deliveries) = (VecDeque::new(), VecDeque::new());
            SimulatedBatcher { core, commands, deliveries, active_at: now }
        };
        let batchers = (0..setup.batchers).map(batcher).collect();
        let assignment = SharedAssignment::default();
        let instance = setup.is_static.then(|| u32::try_from(index).expect("few workers"));
        let (client, join) = client(setup, instance, shared.group_offsets, draw);
        let poll_config = PollLoopConfig {
            topics: config.topics.given().to_vec(),
            revocation_timeout: config.process.revocation_timeout,
            name_timeout: super::group::SESSION * 3,
        };
        let poll_loop = PollLoop::new(
            poll_config,
            join,
            assignment.clone(),
            Arc::clone(&in_flight),
            Arc::clone(&metrics),
            shared.clock.clone(),
        );
        let group = Group { id: "group".to_owned(), client_id: "client".to_owned() };
        // A reduction soon, or none: most defects of several batchers need all of them.
        let quiet_time = draw.pick(&[Duration::from_secs(1), LONGEST_QUIET_TIME]);
        let settings = WorkerSettings {
            config,
            group: Arc::new(group),
            goals: None,
            ids,
            traces: Arc::default(),
            quiet_time,
        };
        let start: Instant = shared.clock.now();
        Ok(Self {
            id,
            worker: Worker::new(settings, routes, metrics, start),
            inbox: VecDeque::new(),
            poll_loop: poll_loop.expect("a simulated client joins"),
            assignment,
            client,
            source_inbox: VecDeque::new(),
            revocation: None,
            unreleased: Partitions::new(),
            is_closed: false,
            batchers,
            in_flight,
            committer: CommitCore::new(shared.clock.clone(), Random::seeded(draw.number())),
            lake,
            committer_inbox: VecDeque::new(),
            threads: vec![Thread::default(); FIRST_BATCHER + setup.batchers],
            paused_until: Duration::ZERO,
            disconnected_until: Duration::ZERO,
            contact_due: None,
            restart_after: Duration::from_secs(1),
            is_stop_requested: false,
        })
    }
}

/// Function that creates a client, which is subscribed.
type Join = crate::source::poll_loop::Join<SimulatedClient>;

fn client(
    setup: &Setup,
    instance: Option<u32>,
    group_offsets: &GroupOffsets,
    draw: &mut Draw,
) -> (SimulatedClient, Join) {
    let protocol = setup.protocol;
    let (mut draws, offsets) = (draw.fork(), Arc::clone(group_offsets));
    let misplaces = draw.pick(&[0, 0, 5, 30]);
    let mut new = move || {
        let membership = Membership::new(protocol, instance);
        ClientState::new(membership, Arc::clone(&offsets), draws.fork(), misplaces)
    };
    let client = SimulatedClient(Arc::new(Mutex::new(new())));
    let shared = client.clone();
    let join = move || {
        *shared.state() = new();
        Ok(shared.clone())
    };
    (client, Box::new(join))
}

fn config(setup: &Setup, index: usize) -> Config {
    let mut config = CONFIG.clone();
    config.batchers = setup.batchers;
    config.batch.flush_interval = Duration::from_millis(setup.flush_millis);
    config.source.group_protocol = setup.protocol;
    config.source.group_instance_id = setup.is_static.then(|| index.to_string());
    config
}

/// Prepares a topic as a start does: its table, its source, and the check of its id.
fn route(topic: &Topic, setup: &Setup, lake: &mut SimulatedLake) -> Result<TopicRoute, LakeError> {
    let name: TableName = topic.name.parse().expect("a plain name");
    let newest = schema(FIRST_SCHEMA).expect("the first schema exists");
    let shape = TableShape::from_avro(newest, None).expect("a record has a shape");
    let table = lake.ensure_table(&name, &shape)?;
    let dead_letters = lake.ensure_table(&dead_letter_table(&name), &dead_letter_shape())?;
    let spec = SourceSpec {
        table: name,
        topic: topic.name.to_string(),
        pipeline: "simulation".to_owned(),
        cluster_id: None,
        topic_id: Some(topic.id.clone()),
    };
    let starts: Vec<_> =
        (0..setup.partitions).map(|partition| (Partition(partition), Offset(0))).collect();
    let source = lake.register_source(&spec, &starts)?;
    source.check_identity(&spec)?;
    let union_as = CONFIG.values.union_as();
    let newest = NewestSchemas::of(Some(newest), None, union_as).expect("a record has fields");
    let rule = DedupeRule { column: EVENT.to_owned(), span_micros: DEDUPE_SPAN_MICROS };
    Ok(TopicRoute {
        topic: Arc::clone(&topic.name),
        source,
        newest: newest.renamed_for(&table.shape),
        table,
        hints: ColumnHints::default(),
        dead_letters: Some(dead_letters),
        partition_by: None,
        dedupe: setup.dedupes.then_some(rule),
    })
}
