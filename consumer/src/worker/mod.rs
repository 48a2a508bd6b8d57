//! The worker owns all state and takes all decisions; threads only do, and tell.
//!
//! ```text
//! poll thread ──records──▶ batchers ──parts──▶ worker ──batch──▶ committer ──▶ lake
//!      └────────────── events ──────────────────▲ └──── commands to all of them
//! ```
//! Two things can happen to what was read and is not committed: it is flushed (cut and committed),
//! or everything is dropped and read again from where the lake stands (a reset).

mod partitions;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ducktide_lake::commit::Commit;
use ducktide_lake::position::{Offset, Partition, Position, SourceId};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::spawn_blocking;

use crate::assignment::Generation;
use crate::batch::{self, Stream};
use crate::batcher::{self, Batcher, BatcherEvent, Limits, Shared};
use crate::committer::{Committer, CommitterEvent, DropReason, Request};
use crate::config::Config;
use crate::error::ConsumerError;
use crate::event::{Event, Events};
use crate::flush::{Action, Flush};
use crate::health::{self, Readiness};
use crate::in_flight::InFlight;
use crate::kafka_config::{Membership, consumer_config};
use crate::metrics::Metrics;
use crate::schema_registry::SchemaRegistry;
use crate::schemas::Schemas;
use crate::source::inspect::ClusterView;
use crate::source::{Command, Source, SourceEvent, TopicPartition};
use crate::startup::{self, Prepared};
use crate::survey::{SurveyEvent, Surveyor};
use partitions::Partitions;

/// The longest time between two looks at threads and deadlines.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long a worker waits after its files could not be written: a full disk is an outage, and
/// writing the same batch again at once would only keep it full.
const STAGING_PAUSE: Duration = Duration::from_secs(2);

/// Runs a consumer until it is told to stop, or has done what it was to do.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), ConsumerError> {
    let mut shutdown = Box::pin(shutdown);
    let (events, inbox) = Events::channel();
    let metrics = Arc::new(Metrics::new());
    let readiness = Readiness::starting();
    let listen = config.process.listen;
    let address = health::serve(listen, Arc::clone(&metrics), readiness.clone()).await?;
    tracing::info!(%address, "serving /metrics, /healthz and /readyz");
    let registry = SchemaRegistry::new(&config.source.schema_registry_url)
        .map_err(|error| ConsumerError::Schema { topic: config.source.topics.join(","), error })?;
    let config = Arc::new(config);
    let stop = Arc::new(AtomicBool::new(false));
    let prepared = tokio::select! {
        prepared = prepare(&config, &registry, &stop) => prepared?,
        () = &mut shutdown => None,
    };
    stop.store(true, Ordering::Relaxed);
    let Some((prepared, cluster)) = prepared else { return Ok(()) };
    let goals = goals(&config, &cluster).await?;
    let surveyor = Surveyor::new(cluster, events.clone());
    let parts = Parts { config, registry, metrics, readiness, surveyor, goals };
    Worker::start(parts, prepared, &events, inbox)?.work(shutdown).await
}

async fn prepare(
    config: &Arc<Config>,
    registry: &SchemaRegistry,
    stop: &Arc<AtomicBool>,
) -> Result<Option<(Prepared, Arc<ClusterView>)>, ConsumerError> {
    let topics = startup::topics(config, registry).await?;
    let (config, stop) = (Arc::clone(config), Arc::clone(stop));
    let prepared = spawn_blocking(move || {
        let cluster = ClusterView::new(&config.kafka.client_config())
            .map_err(|error| ConsumerError::Kafka(error.to_string()))?;
        let prepared = startup::prepare(&config, &topics, &cluster, &stop)?;
        Ok(prepared.map(|prepared| (prepared, Arc::new(cluster))))
    });
    prepared.await.map_err(|_| ConsumerError::Panicked)?
}

/// For `--until-end`: where the topics end now.
async fn goals(
    config: &Arc<Config>,
    cluster: &Arc<ClusterView>,
) -> Result<Option<BTreeMap<TopicPartition, i64>>, ConsumerError> {
    if !config.source.until_end {
        return Ok(None);
    }
    let (config, cluster) = (Arc::clone(config), Arc::clone(cluster));
    let ends = spawn_blocking(move || {
        let mut ends = BTreeMap::new();
        for topic in &config.source.topics {
            for partition in cluster.partitions(topic)? {
                let end = cluster.watermarks(topic, partition)?.high;
                ends.insert(TopicPartition::new(topic, partition), end);
            }
        }
        Ok(ends)
    });
    let ends: rdkafka::error::KafkaResult<_> = ends.await.map_err(|_| ConsumerError::Panicked)?;
    ends.map(Some).map_err(|error| ConsumerError::Kafka(error.to_string()))
}

/// What a worker is made of, beside the lake.
struct Parts {
    config: Arc<Config>,
    registry: SchemaRegistry,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    surveyor: Surveyor,
    goals: Option<BTreeMap<TopicPartition, i64>>,
}

struct Worker {
    parts: Parts,
    streams: BTreeMap<Arc<str>, Arc<Stream>>,
    source: Source,
    batchers: Vec<Batcher>,
    committer: Committer,
    inbox: UnboundedReceiver<Event>,
    flush: Flush,
    partitions: Partitions,
    revocation: Option<Revocation>,
    ending: Option<Ending>,
    /// When partitions are loaded again after files could not be written.
    reload_at: Option<Instant>,
    /// When the positions of other members' partitions are read next, for `--until-end`.
    look_at: Instant,
}

/// Partitions that go as soon as what was read of them is committed.
struct Revocation {
    partitions: Vec<TopicPartition>,
    done: mpsc::SyncSender<()>,
    deadline: Instant,
    /// Whether the cut that flushes them was asked of the batchers.
    cut: bool,
}

/// The worker ends as soon as what was read is committed.
struct Ending {
    result: Result<(), ConsumerError>,
    deadline: Instant,
    /// Whether the source was told to leave the group.
    closing: bool,
}

impl Worker {
    fn start(
        parts: Parts,
        prepared: Prepared,
        events: &Events,
        inbox: UnboundedReceiver<Event>,
    ) -> Result<Self, ConsumerError> {
        let config = Arc::clone(&parts.config);
        let memory = config.batch.memory_shares();
        let in_flight = Arc::new(InFlight::new(memory.in_flight));
        let count = config.batchers;
        let shared = Shared {
            limits: Limits {
                rows: config.batch.flush_rows.div_ceil(count as u64),
                bytes: config.batch.flush_bytes.div_ceil(count as u64),
                memory: memory.batches / count,
            },
            in_flight: Arc::clone(&in_flight),
            events: events.clone(),
            metrics: Arc::clone(&parts.metrics),
            rows_left: config.source.max_rows.map(|rows| Arc::new(AtomicI64::new(rows))),
            eager_ends: config.source.until_end,
        };
        let (mut batchers, mut inlets) = (Vec::new(), Vec::new());
        for index in 0..count {
            // Bounded by bytes, not by number: see `InFlight`.
            let (inlet, deliveries) = crossbeam_channel::unbounded();
            let schemas = Schemas::new(parts.registry.clone(), tokio::runtime::Handle::current());
            batchers.push(Batcher::spawn(index, deliveries, schemas, shared.clone()));
            inlets.push(inlet);
        }
        let member = Membership {
            group_id: &config.source.group_id,
            instance_id: config.source.group_instance_id.as_deref(),
            protocol: config.source.group_protocol,
            queue_kbytes: memory.queue / 1024,
        };
        let source = Source::spawn(
            &consumer_config(&config.kafka, &member),
            &config.source.topics,
            inlets,
            in_flight,
            events.clone(),
            config.process.revocation_timeout,
        )
        .map_err(|error| ConsumerError::Kafka(error.to_string()))?;
        let streams = prepared.streams.into_iter().map(|s| (Arc::clone(&s.topic), s)).collect();
        Ok(Self {
            flush: Flush::new(config.batch.flush_interval, count),
            committer: Committer::spawn(prepared.lake, events.clone()),
            partitions: Partitions::default(),
            revocation: None,
            ending: None,
            reload_at: None,
            look_at: Instant::now(),
            parts,
            streams,
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
                    None => unreachable!("the threads hold a sender as long as they run"),
                },
                () = &mut shutdown, if self.ending.is_none() => {
                    tracing::info!("stopping: committing what was read");
                    self.end(Ok(()));
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            if self.ending.as_ref().is_some_and(|ending| ending.deadline <= Instant::now()) {
                return self.give_up();
            }
        }
    }

    /// Does everything that can be done now; returns when to look again.
    fn advance(&mut self) -> Instant {
        let now = Instant::now();
        let mut wake = now + HEARTBEAT;
        if self.batchers.iter().any(Batcher::is_dead) {
            self.fail(ConsumerError::Panicked);
        }
        if self.reload_at.is_some_and(|at| at <= now) {
            self.reload_at = None;
            self.load_all();
        }
        self.advance_goals(now);
        self.advance_revocation(now);
        match self.flush.next(now) {
            Action::Wait(due) => wake = due.map_or(wake, |due| due.min(wake)),
            Action::Cut(number, trigger) => {
                self.parts.metrics.flushed(trigger);
                let mut forget = Vec::new();
                if let Some(revocation) = &mut self.revocation {
                    revocation.cut = true;
                    forget.clone_from(&revocation.partitions);
                }
                for batcher in &self.batchers {
                    batcher.send(batcher::Command::Cut { number, forget: forget.clone() });
                }
            }
        }
        self.advance_revocation(now);
        self.advance_ending();
        wake
    }

    /// Lets partitions go that are flushed, or whose time is over.
    fn advance_revocation(&mut self, now: Instant) {
        let Some(revocation) = &self.revocation else { return };
        let flushed = revocation.cut && self.flush.is_settled();
        if !flushed && revocation.deadline > now {
            return;
        }
        let revocation = self.revocation.take().expect("looked at above");
        self.partitions.remove(&revocation.partitions);
        for partition in &revocation.partitions {
            self.parts.metrics.revoked(partition);
        }
        if !flushed {
            tracing::warn!(
                "revoked partitions could not be committed in time, dropping their rows"
            );
            self.committer.abandon();
            self.reset();
            self.load_all();
        }
        self.parts.metrics.assigned(self.partitions.len());
        // The poll thread may have stopped waiting.
        let _ = revocation.done.try_send(());
    }

    /// Leaves the group once everything is committed.
    fn advance_ending(&mut self) {
        let settled = self.flush.is_settled();
        if let Some(ending) = &mut self.ending
            && settled
            && !ending.closing
        {
            ending.closing = true;
            self.source.send(Command::Close);
        }
    }

    /// For `--until-end`: ends when the lake stands at the goals, whoever read the records.
    fn advance_goals(&mut self, now: Instant) {
        let Some(goals) = &self.parts.goals else { return };
        if self.ending.is_some() {
            return;
        }
        let open = self.partitions.behind(goals);
        if open.iter().all(|partition| self.partitions.is_stopped(partition)) {
            let result = match open.as_slice() {
                [] => Ok(()),
                open => Err(ConsumerError::OffsetsGone(join(open))),
            };
            tracing::info!("everything up to the topics' ends at start is in the lake");
            self.end(result);
        } else if self.look_at <= now && !self.flush.is_committing() {
            self.look_at = now + HEARTBEAT;
            self.load_all_positions();
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Source(event) => self.handle_source(event),
            Event::Batcher(event) => self.handle_batcher(event),
            Event::Committer(event) => self.handle_committer(event),
            Event::Survey(event) => self.handle_survey(event),
        }
    }

    fn handle_source(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Assigned(partitions) => {
                tracing::info!(partitions = join(&partitions), "assigned");
                self.partitions.assigned(&partitions);
                self.parts.metrics.assigned(self.partitions.len());
                for topic in self.partitions.topics_loading() {
                    self.parts.surveyor.identify(topic);
                }
            }
            SourceEvent::Revoking { partitions, lost, done } => {
                tracing::info!(partitions = join(&partitions), lost, "revoked");
                self.revoke(partitions, lost, done);
            }
            SourceEvent::OutOfRange(partition, error) => {
                tracing::debug!(%partition, error, "cannot read on, asking Kafka for its offsets");
                self.partitions.stop(&partition);
                self.parts.surveyor.find_range(partition);
            }
            SourceEvent::Fatal(text) => self.fail(ConsumerError::Kafka(text)),
            SourceEvent::Closed => unreachable!("the loop ends at this event"),
        }
    }

    fn revoke(&mut self, partitions: Vec<TopicPartition>, lost: bool, done: mpsc::SyncSender<()>) {
        if self.ending.as_ref().is_some_and(|ending| ending.closing) {
            // Everything is committed or given up; nothing is left to wait for.
            drop(done);
            return;
        }
        let now = Instant::now();
        // Whoever has lost partitions commits in vain, and holds their next owner up.
        let wait = if lost { Duration::ZERO } else { self.parts.config.process.revocation_timeout };
        self.revocation = Some(Revocation { partitions, done, deadline: now + wait, cut: false });
        self.flush.demand();
    }

    fn handle_batcher(&mut self, event: BatcherEvent) {
        match event {
            BatcherEvent::Opened => self.flush.opened(Instant::now()),
            BatcherEvent::Full => self.flush.filled(),
            BatcherEvent::Part(number, part) => {
                if let Some(parts) = self.flush.part(number, part)
                    && let Some(commit) = batch::join(parts)
                {
                    self.flush.commit_sent();
                    self.committer.send(Request::Commit(commit));
                }
            }
            BatcherEvent::StagingFailed(error) => {
                tracing::error!(error = %chain(&error), "files cannot be written, trying again");
                self.reset();
                self.reload_at = Some(Instant::now() + STAGING_PAUSE);
            }
            BatcherEvent::BadRecord { partition, offset, reason } => {
                self.end(Err(ConsumerError::BadRecord { partition, offset, reason }));
            }
            BatcherEvent::Exhausted => {
                tracing::info!("--max-rows is reached");
                self.end(Ok(()));
            }
        }
    }

    fn handle_committer(&mut self, event: CommitterEvent) {
        match event {
            CommitterEvent::Committed { commit, snapshot_id, elapsed } => {
                self.flush.commit_ended();
                self.partitions.lake_answered();
                self.committed(&commit, snapshot_id.map(|id| id.0), elapsed);
            }
            CommitterEvent::Dropped(reason) => {
                self.flush.commit_ended();
                self.parts.metrics.dropped(reason);
                tracing::warn!(reason = reason.as_str(), "batch dropped, reading it again");
                self.reset();
                match reason {
                    DropReason::FilesUnusable => {
                        self.reload_at = Some(Instant::now() + STAGING_PAUSE);
                    }
                    DropReason::TableChanged => self.fail(ConsumerError::Lake(
                        ducktide_lake::LakeError::invalid(
                            "the table was altered; start the consumer again to write its new shape",
                        ),
                    )),
                    DropReason::Fenced | DropReason::Abandoned => self.load_all(),
                }
            }
            CommitterEvent::Loaded { source, positions } => {
                self.partitions.lake_answered();
                self.loaded(source, &positions);
            }
            CommitterEvent::Retrying => {
                self.parts.metrics.retried();
                self.partitions.lake_is_silent();
            }
            CommitterEvent::Failed(error) => {
                self.flush.commit_ended();
                self.reset();
                self.fail(ConsumerError::Lake(error));
            }
        }
    }

    fn handle_survey(&mut self, event: SurveyEvent) {
        match event {
            SurveyEvent::Identity { topic, identity } => {
                let Some(stream) = self.streams.get(&topic) else { return };
                let mut seen = stream.source.spec.clone();
                (seen.cluster_id, seen.topic_id) = (identity.cluster_id, identity.topic_id);
                match stream.source.check_identity(&seen) {
                    Ok(()) => self.load(&topic, Vec::new()),
                    Err(error) => self.fail(ConsumerError::Identity(error)),
                }
            }
            SurveyEvent::Beginnings { topic, starts } => self.load(&topic, starts),
            SurveyEvent::Range { partition, watermarks } => {
                let offset = self.partitions.next_offset(&partition);
                tracing::error!(
                    topic = %partition.topic, partition = partition.partition.0, offset,
                    low_watermark = watermarks.low, high_watermark = watermarks.high,
                    "Kafka does not have the lake's offset: this partition is stopped, others go on"
                );
            }
        }
    }

    fn committed(&mut self, commit: &Commit, snapshot_id: Option<i64>, elapsed: Duration) {
        self.parts.metrics.committed(commit, elapsed);
        let mut mirrored = Vec::new();
        for delta in commit.progress() {
            let partition = self.partition_of(delta.source, delta.partition);
            self.parts.metrics.next_offset(&partition, delta.range.to.0);
            self.partitions.moved(&partition, delta.after());
            mirrored.push((partition, delta.range.to.0));
        }
        tracing::info!(
            snapshot_id,
            rows = commit.rows(),
            files = commit.files().len(),
            partitions = mirrored.len(),
            elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            "committed"
        );
        self.source.send(Command::MirrorOffsets(mirrored));
    }

    fn partition_of(&self, source: SourceId, partition: Partition) -> TopicPartition {
        let stream = self.streams.values().find(|stream| stream.source.id == source);
        let topic = Arc::clone(&stream.expect("commits are of our own streams").topic);
        TopicPartition { topic, partition }
    }

    /// Starts the partitions that waited for their positions.
    fn loaded(&mut self, source: SourceId, positions: &[(Partition, Position)]) {
        let Some(stream) = self.streams.values().find(|stream| stream.source.id == source) else {
            return;
        };
        let stream = Arc::clone(stream);
        let positions: BTreeMap<Partition, Position> = positions.iter().copied().collect();
        self.partitions.known(&stream.topic, &positions);
        if self.ending.is_some() || self.reload_at.is_some() {
            return;
        }
        let (ready, unknown) = self.partitions.take_loading(&stream.topic, &positions);
        if !unknown.is_empty() {
            self.parts.surveyor.find_beginnings(Arc::clone(&stream.topic), unknown);
        }
        let starts: Vec<_> = ready
            .into_iter()
            .map(|(partition, generation, position)| {
                self.begin(&stream, &partition, generation, position);
                (partition, generation, position.next_offset.0)
            })
            .collect();
        if !starts.is_empty() {
            self.source.send(Command::Start(starts));
        }
    }

    /// Announces a partition to its batcher; the same choice as the poll thread's.
    fn begin(
        &self,
        stream: &Arc<Stream>,
        partition: &TopicPartition,
        generation: Generation,
        position: Position,
    ) {
        tracing::info!(%partition, epoch = position.epoch.0, offset = position.next_offset.0, "reading");
        self.parts.metrics.next_offset(partition, position.next_offset.0);
        let index = crate::source::batcher_of(partition, self.batchers.len());
        self.batchers[index].send(batcher::Command::Begin {
            partition: partition.clone(),
            generation,
            position,
            stream: Arc::clone(stream),
        });
    }

    /// Drops everything that was read and is not on its way to the lake.
    fn reset(&mut self) {
        self.source.send(Command::Hold(self.partitions.all()));
        for batcher in &self.batchers {
            batcher.send(batcher::Command::Reset);
        }
        self.flush.reset();
        self.partitions.reset();
        if let Some(revocation) = &mut self.revocation {
            // Nothing of these partitions is left to commit.
            revocation.cut = true;
        }
    }

    /// Reads the positions of all partitions that wait for them.
    fn load_all(&mut self) {
        for topic in self.partitions.topics_loading() {
            self.load(&topic, Vec::new());
        }
    }

    fn load_all_positions(&mut self) {
        let topics: Vec<_> = self.streams.keys().cloned().collect();
        for topic in topics {
            self.load(&topic, Vec::new());
        }
    }

    fn load(&self, topic: &Arc<str>, starts: Vec<(Partition, Offset)>) {
        if let Some(stream) = self.streams.get(topic) {
            self.committer.send(Request::Load { source: stream.source.id, starts });
        }
    }

    fn fail(&mut self, error: ConsumerError) {
        self.end(Err(error));
    }

    /// Ends as soon as what was read is committed; the first reason counts.
    fn end(&mut self, result: Result<(), ConsumerError>) {
        if self.ending.is_some() {
            return;
        }
        for batcher in &self.batchers {
            batcher.send(batcher::Command::Stop);
        }
        self.flush.demand();
        let deadline = Instant::now() + self.parts.config.process.shutdown_timeout;
        self.ending = Some(Ending { result, deadline, closing: false });
    }

    fn report_readiness(&self) {
        let ready = match &self.ending {
            Some(_) => Err("stopping".to_owned()),
            None => self.partitions.readiness(),
        };
        self.parts.readiness.set(ready);
    }

    /// The group was left: lets the threads end.
    fn finish(self) -> Result<(), ConsumerError> {
        let result = self.ending.map_or(Ok(()), |ending| ending.result);
        self.source.join();
        self.batchers.into_iter().for_each(Batcher::join);
        self.committer.join();
        if result.is_ok() {
            tracing::info!("stopped");
        }
        result
    }

    /// The deadline is over; the threads may hang in calls, and the process ends without them.
    fn give_up(self) -> Result<(), ConsumerError> {
        match self.ending.map_or(Ok(()), |ending| ending.result) {
            Ok(()) => Err(ConsumerError::ShutdownTimeout),
            Err(error) => Err(error),
        }
    }
}

fn join(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(TopicPartition::to_string).collect::<Vec<_>>().join(" ")
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
