//! Batcher threads. Each decodes the records of its partitions and writes them to Parquet files.
//!
//! A batcher takes no decisions. It reports that it has something to commit, or that it is full.
//! The worker commands a cut and receives everything since the previous cut as a [`PartialBatch`].

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select};
use ducktide_protocol::dedupe::RecentRow;
use ducktide_protocol::failpoint::{self, Failpoint};
use ducktide_protocol::position::{Offset, Position};
use ducktide_protocol::table::{Column, TableName};
use jiff::Timestamp;

use crate::batch::dead_letter::DeadLetterRatio;
use crate::batch::dedupe::{DedupeWindow, IdBudget};
use crate::batch::event::BatcherEvent;
use crate::batch::partial_batch::PartialBatch;
use crate::batch::partition_cursor::PartitionCursor;
use crate::batch::staging::{EncoderBudget, StagingError};
use crate::batch::table_writer::{PushOutcome, TableWriter, TableWriterError, UndecodableRecord};
use crate::batch::topic_route::TopicRoute;
use crate::config::BadRecordArgs;
use crate::decode::decoders::{DecodeTarget, RecordDecoders, ResolveError};
use crate::decode::failure::DecodeFailure;
use crate::event::{Event, Events};
use crate::metrics::Metrics;
use crate::source::assignment::Generation;
use crate::source::in_flight::InFlight;
use crate::source::{Delivery, RecordRun, TopicPartition};

/// Interval at which the end of an idle partition is committed as progress if it lies beyond the
/// last record. Short enough that retention never overtakes the position, long enough to cost
/// nothing.
const IDLE_ADVANCE: Duration = Duration::from_mins(1);

/// Interval between requests to a schema registry that is unavailable.
const REGISTRY_PAUSE: Duration = Duration::from_secs(1);

/// Interval between checks for the ends of idle partitions.
const IDLE_CHECK: Duration = Duration::from_secs(1);

/// Limits of one batcher's share of a batch. A batcher that reaches one is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) memory: usize,
}

impl BatchLimits {
    /// Returns the memory limit for decoded rows of one table that the Parquet writer has not
    /// encoded, bytes.
    const fn decoded_bytes(&self) -> usize {
        self.memory / 4
    }

    /// Returns the memory limit for the encoders of all open files before they have values, bytes.
    const fn encoder_bytes(&self) -> usize {
        self.memory / 2
    }
}

/// Command from the worker to a batcher.
#[derive(Debug)]
pub(crate) enum BatcherCommand {
    /// Start a partition: records of this generation follow, from this position.
    Begin {
        partition: TopicPartition,
        generation: Generation,
        position: Position,
        route: Arc<TopicRoute>,
        /// Rows of which the records may be duplicates.
        recent: Vec<RecentRow>,
        /// Offset that the partition must reach for `--until-end`.
        goal: Option<Offset>,
    },
    /// Close the files, send the partial batch, and accept no more records of the partitions in
    /// `forget`.
    Cut { number: u64, forget: Vec<TopicPartition> },
    /// Drop all uncommitted records and all partitions.
    Reset,
    /// Accept no more records.
    Stop,
}

/// Handle of the worker to a batcher thread.
pub(crate) struct Batcher {
    commands: Sender<BatcherCommand>,
    thread: JoinHandle<()>,
}

/// State and settings that all batchers of a worker share.
#[derive(Clone)]
pub(crate) struct BatcherContext {
    pub(crate) limits: BatchLimits,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) events: Events,
    pub(crate) metrics: Arc<Metrics>,
    /// Number of rows until `--max-rows`; None without a limit.
    pub(crate) rows_left: Option<Arc<AtomicI64>>,
    pub(crate) bad_records: BadRecordArgs,
    /// Memory for the ids of recent rows, by which duplicates are found.
    pub(crate) ids: Arc<IdBudget>,
}

impl BatcherContext {
    fn is_exhausted(&self) -> bool {
        self.rows_left.as_ref().is_some_and(|left| left.load(Ordering::Relaxed) <= 0)
    }

    /// Takes one of the rows until `--max-rows`; returns false if none is left.
    fn claim_row(&self) -> bool {
        let one_less = |left: i64| (left > 0).then(|| left - 1);
        self.rows_left.as_ref().is_none_or(|left| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
        })
    }

    /// Returns a row to `--max-rows`: the record did not become one.
    fn unclaim_row(&self) {
        if let Some(left) = &self.rows_left {
            left.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Batcher {
    pub(crate) fn spawn(
        index: usize,
        deliveries: Receiver<Delivery>,
        schemas: RecordDecoders,
        shared: BatcherContext,
    ) -> Self {
        let (commands, inbox) = crossbeam_channel::unbounded();
        let ratio = DeadLetterRatio::new(shared.bad_records.max_dead_letter_ratio);
        let encoders = EncoderBudget::new(shared.limits.encoder_bytes());
        let running = BatcherThread {
            index,
            shared,
            ratio,
            inbox,
            deliveries,
            schemas,
            cursors: HashMap::new(),
            writers: HashMap::new(),
            opened: false,
            full: false,
            stopped: false,
            blocked: None,
            encoders,
            worked: Duration::ZERO,
            buffered: (0, 0),
            last_idle_advance: Instant::now(),
        };
        let thread = thread::Builder::new()
            .name(format!("batch-{index}"))
            .spawn(move || running.run())
            .expect("the operating system starts a thread");
        Self { commands, thread }
    }

    pub(crate) fn send(&self, command: BatcherCommand) {
        // A batcher ends only after its worker dropped this handle.
        let _ = self.commands.send(command);
    }

    pub(crate) fn join(self) {
        drop(self.commands);
        if self.thread.join().is_err() {
            tracing::error!("batcher thread panicked");
        }
    }

    /// Returns whether the thread ended, which means that it panicked.
    pub(crate) fn is_dead(&self) -> bool {
        self.thread.is_finished()
    }
}

struct BatcherThread {
    index: usize,
    shared: BatcherContext,
    ratio: DeadLetterRatio,
    inbox: Receiver<BatcherCommand>,
    deliveries: Receiver<Delivery>,
    schemas: RecordDecoders,
    cursors: HashMap<TopicPartition, PartitionCursor>,
    writers: HashMap<TableName, TableWriter>,
    /// True if the worker was notified that there is something to commit.
    opened: bool,
    full: bool,
    stopped: bool,
    blocked: Option<BlockedRun>,
    /// Memory for the encoders of the open files of all tables.
    encoders: EncoderBudget,
    /// Working time since the last cut.
    worked: Duration,
    /// Rows and bytes of memory that the metrics count as buffered.
    buffered: (i64, i64),
    last_idle_advance: Instant,
}

/// A run of records that was interrupted.
struct BlockedRun {
    run: RecordRun,
    /// Index of the first record that is not decoded.
    next: usize,
    waits_for: ResumeCondition,
}

/// Condition under which a blocked run is continued.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ResumeCondition {
    /// The registry is available again, or the table has the columns.
    SchemaAvailable,
    /// The next cut freed memory.
    MemoryAvailable,
}

/// Reason for which a run was interrupted.
enum Interruption {
    /// The schema registry is unavailable; the text is its error.
    RegistryUnavailable(String),
    ColumnsMissing(TableName, Vec<Column>),
    Undecodable(DecodeFailure),
    TooManyUndecodable(DecodeFailure),
    Staging(TableName, StagingError),
    Exhausted,
    /// The memory limit is reached.
    Full,
}

impl BatcherThread {
    fn run(mut self) {
        loop {
            // Commands first: a `Begin` is sent before the records of its partition.
            while let Ok(command) = self.inbox.try_recv() {
                self.handle_command(command);
            }
            if self.waits_for_memory() && !self.full {
                self.resume();
                continue;
            }
            let waiting = self.full || self.blocked.is_some();
            let deliveries = if waiting { never() } else { self.deliveries.clone() };
            let timeout = if self.blocked.is_some() { REGISTRY_PAUSE } else { IDLE_CHECK };
            select! {
                recv(self.inbox) -> command => match command {
                    Ok(command) => self.handle_command(command),
                    Err(_) => return,
                },
                recv(deliveries) -> delivery => match delivery {
                    Ok(delivery) => self.handle_delivery(delivery),
                    Err(_) => self.deliveries = never(),
                },
                default(timeout) => self.handle_idle(),
            }
        }
    }

    fn handle_command(&mut self, command: BatcherCommand) {
        match command {
            BatcherCommand::Begin { partition, generation, position, route, recent, goal } => {
                let ids = &self.shared.ids;
                let window = route
                    .dedupe
                    .as_ref()
                    .map(|rule| DedupeWindow::new(rule, recent, now_micros(), Arc::clone(ids)));
                let mut cursor = PartitionCursor::new(route, generation, position, window);
                cursor.set_goal(goal);
                self.cursors.insert(partition, cursor);
            }
            BatcherCommand::Cut { number, forget } => {
                self.cut(number);
                self.cursors.retain(|partition, _| !forget.contains(partition));
                self.unblock(|run| forget.contains(&run.partition));
            }
            BatcherCommand::Reset => self.reset(),
            BatcherCommand::Stop => {
                self.stopped = true;
                self.unblock(|_| true);
            }
        }
    }

    fn reset(&mut self) {
        self.cursors.clear();
        self.writers.drain().for_each(|(_, writer)| writer.abandon());
        self.unblock(|_| true);
        self.opened = false;
        self.full = false;
        self.worked = Duration::ZERO;
        self.count_buffered(0, 0);
    }

    /// Drops the blocked run if it matches.
    fn unblock(&mut self, is_affected: impl Fn(&RecordRun) -> bool) {
        if let Some(blocked) = self.blocked.take_if(|blocked| is_affected(&blocked.run)) {
            if blocked.waits_for == ResumeCondition::SchemaAvailable {
                self.report_registry_wait(None);
            }
            self.release(blocked.run);
        }
    }

    fn block(&mut self, run: RecordRun, next: usize, waits_for: ResumeCondition) {
        self.blocked = Some(BlockedRun { run, next, waits_for });
    }

    fn waits_for_memory(&self) -> bool {
        self.blocked
            .as_ref()
            .is_some_and(|blocked| blocked.waits_for == ResumeCondition::MemoryAvailable)
    }

    /// Drops the records of a run and removes them from the records in flight.
    fn release(&self, run: RecordRun) {
        let (records, bytes) = (run.records.len(), run.bytes);
        drop(run);
        self.shared.in_flight.remove(records, bytes);
    }

    fn handle_delivery(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Records(run) => {
                if self.accept(&run.partition, run.generation, run.follows, run.next()) {
                    let records = run.records.len();
                    let reading = &self.shared.metrics.reading;
                    reading.consumed(&run.partition, records, run.content_bytes());
                    self.ratio.record_batch(run.records.len());
                    self.process(run, 0);
                } else {
                    self.release(run);
                }
            }
            Delivery::EndOfPartition { partition, generation, follows, offset } => {
                if self.accept(&partition, generation, follows, offset) {
                    self.handle_end_of_partition(&partition, offset);
                }
            }
        }
    }

    /// Handles the end of a partition. It is delivered only after all records before it were
    /// decoded.
    fn handle_end_of_partition(&mut self, partition: &TopicPartition, offset: Offset) {
        let cursor = self.cursors.get_mut(partition).expect("accepted only with a cursor");
        cursor.record_decoded(offset);
        if cursor.is_awaited() {
            self.advance_idle();
            self.report_goal(partition);
        }
    }

    /// Returns whether a delivery belongs to the current reading of its partition, and records it.
    fn accept(
        &mut self,
        partition: &TopicPartition,
        generation: Generation,
        follows: Offset,
        next: Offset,
    ) -> bool {
        if self.stopped {
            return false;
        }
        let cursor =
            self.cursors.get_mut(partition).filter(|cursor| cursor.generation == generation);
        cursor.is_some_and(|cursor| {
            cursor.record_delivery(partition, follows, next);
            true
        })
    }

    fn process(&mut self, run: RecordRun, first: usize) {
        let (started, rows_before) = (Instant::now(), self.rows_of(&run.partition));
        let appended = self.append(&run, first);
        self.worked += started.elapsed();
        self.report_ids(&run.partition);
        let decoded = self.rows_of(&run.partition) - rows_before;
        self.shared.metrics.batching.decoded(decoded.unsigned_abs());
        self.report();
        let Err((index, interruption)) = appended else {
            self.report_goal(&run.partition);
            return self.release(run);
        };
        match interruption {
            Interruption::RegistryUnavailable(error) => {
                tracing::warn!(error, "schema registry unavailable, retrying");
                self.report_registry_wait(Some(error));
                return self.block(run, index, ResumeCondition::SchemaAvailable);
            }
            Interruption::ColumnsMissing(table, columns) => {
                self.send_event(BatcherEvent::ColumnsMissing { table, columns });
                return self.block(run, index, ResumeCondition::SchemaAvailable);
            }
            Interruption::Full => return self.block(run, index, ResumeCondition::MemoryAvailable),
            Interruption::Undecodable(failure) => {
                let (partition, offset) = (run.partition.clone(), run.records[index].offset());
                self.stop_with(BatcherEvent::BadRecord { partition, offset, failure });
            }
            Interruption::TooManyUndecodable(failure) => {
                let (partition, offset) = (run.partition.clone(), run.records[index].offset());
                let ratio = self.ratio.value();
                self.stop_with(BatcherEvent::TooManyBadRecords {
                    partition,
                    offset,
                    failure,
                    ratio,
                });
            }
            Interruption::Exhausted => self.stop_with(BatcherEvent::Exhausted),
            Interruption::Staging(table, error) => {
                self.report_staging_failure(vec![(table, error)]);
            }
        }
        self.release(run);
    }

    /// Returns the number of rows of a partition since the last cut.
    fn rows_of(&self, partition: &TopicPartition) -> i64 {
        self.cursors.get(partition).map_or(0, PartitionCursor::rows)
    }

    fn report_registry_wait(&self, waits_for: Option<String>) {
        self.send_event(BatcherEvent::Registry { batcher: self.index, waits_for });
    }

    /// Stops accepting records and reports why. The records so far can be committed.
    fn stop_with(&mut self, event: BatcherEvent) {
        self.stopped = true;
        self.send_event(event);
    }

    fn report_staging_failure(&mut self, failed: Vec<(TableName, StagingError)>) {
        self.reset();
        self.send_event(BatcherEvent::StagingFailed(failed));
    }

    fn append(&mut self, run: &RecordRun, first: usize) -> Result<(), (usize, Interruption)> {
        let cursor = self.cursors.get_mut(&run.partition).expect("accepted only with a cursor");
        let route = Arc::clone(&cursor.route);
        let table = &route.table.version.table;
        if !self.writers.contains_key(table) {
            let writer =
                TableWriter::new(&route, self.shared.limits.decoded_bytes(), &self.encoders);
            let writer =
                writer.map_err(|error| (first, Interruption::Staging(table.clone(), error)))?;
            self.writers.insert(table.clone(), writer);
        }
        let others = self.writers.iter().filter(|(name, _)| *name != table);
        let others = others.map(|(_, writer)| writer.memory()).sum::<usize>();
        let writer = self.writers.get_mut(table).expect("inserted above");
        let now = cursor.window.as_ref().map_or(0, |_| now_micros());
        let to = DecodeTarget { topic: &route.topic, newest: &route.newest, table: &route.table };
        for (index, record) in run.records.iter().enumerate().skip(first) {
            if writer.take_wrote() && others + writer.memory() >= self.shared.limits.memory {
                return Err((index, Interruption::Full));
            }
            if !cursor.advance_to(record.offset()) {
                continue;
            }
            let Some(payload) = record.payload() else {
                cursor.count_tombstone();
                continue;
            };
            let header = |name| record.last_header(name);
            let resolved = match self.schemas.resolve(payload, record.key(), header, to) {
                Ok(resolved) => resolved,
                Err(ResolveError::RegistryUnavailable(error)) => {
                    return Err((index, Interruption::RegistryUnavailable(error)));
                }
                Err(ResolveError::ColumnsMissing(difference)) => {
                    let missing = Interruption::ColumnsMissing(table.clone(), difference.missing);
                    return Err((index, missing));
                }
                Err(ResolveError::Undecodable(failure)) => {
                    let stops = self.shared.bad_records.stops_at(failure.class);
                    let schema_id = self.schemas.id_of(payload, header);
                    let undecodable = UndecodableRecord { run, record, schema_id, failure };
                    let written = write_dead_letter(writer, &mut self.ratio, stops, undecodable);
                    written.map_err(|interruption| (index, interruption))?;
                    cursor.count_dead();
                    continue;
                }
            };
            if !self.shared.claim_row() {
                return Err((index, Interruption::Exhausted));
            }
            let window = cursor.window.as_mut().map(|window| (window, now));
            let schema_id = resolved.schema_id;
            match writer.push(&resolved, run, record, window) {
                Ok(PushOutcome::Row) => cursor.count_row(schema_id),
                Ok(PushOutcome::Duplicate) => {
                    self.shared.unclaim_row();
                    cursor.count_duplicate();
                }
                Err(TableWriterError::Decode(error)) => {
                    self.shared.unclaim_row();
                    let failure = DecodeFailure::from(error);
                    let stops = self.shared.bad_records.stops_at(failure.class);
                    let undecodable = UndecodableRecord { run, record, schema_id, failure };
                    let written = write_dead_letter(writer, &mut self.ratio, stops, undecodable);
                    written.map_err(|interruption| (index, interruption))?;
                    cursor.count_dead();
                }
                Err(TableWriterError::Staging(error)) => {
                    return Err((index, Interruption::Staging(table.clone(), error)));
                }
            }
            if self.shared.is_exhausted() {
                // Checked here and not at the next record: there may be none.
                return Err((index, Interruption::Exhausted));
            }
        }
        cursor.record_decoded(run.next());
        cursor.record_timestamp(run.newest_ms());
        Ok(())
    }

    /// Reports once per batch that there is something to commit, and that the batcher is full.
    fn report(&mut self) {
        if !self.opened && self.cursors.values().any(PartitionCursor::has_progress) {
            self.opened = true;
            self.send_event(BatcherEvent::Opened);
        }
        let rows: u64 = self.writers.values().map(TableWriter::rows).sum();
        let memory = self.writers.values().map(TableWriter::memory).sum::<usize>();
        self.count_buffered(rows, memory);
        let limits = &self.shared.limits;
        let full = rows >= limits.rows
            || self.writers.values().map(TableWriter::bytes).sum::<u64>() >= limits.bytes
            || memory >= limits.memory
            || self.writers.values().any(TableWriter::is_scattered);
        if full && !self.full {
            self.full = true;
            self.send_event(BatcherEvent::Full);
        }
    }

    /// Reports once that a partition reached its goal.
    fn report_goal(&mut self, partition: &TopicPartition) {
        let cursor = self.cursors.get_mut(partition);
        if cursor.is_some_and(PartitionCursor::take_goal_reached) {
            self.send_event(BatcherEvent::GoalReached(partition.clone()));
        }
    }

    /// Updates the metrics of remembered ids, and logs once that the memory for them is used up.
    fn report_ids(&mut self, partition: &TopicPartition) {
        let window = self.cursors.get_mut(partition).and_then(|cursor| cursor.window.as_mut());
        let Some(window) = window else { return };
        let (forgotten, ids) = (window.take_forgotten(), &self.shared.ids);
        self.shared.metrics.batching.remembered(ids.ids(), ids.used(), forgotten);
        if forgotten > 0 && ids.is_first_shortage() {
            tracing::warn!(
                ids = ids.ids(),
                "--dedupe-memory-limit is too small for the ids of --dedupe-window: duplicates of older \
                 rows are not found; raise the limit or shorten the window"
            );
        }
    }

    fn count_buffered(&mut self, rows: u64, bytes: usize) {
        let now = (i64::try_from(rows), i64::try_from(bytes));
        let now = (now.0.unwrap_or(i64::MAX), now.1.unwrap_or(i64::MAX));
        let before = std::mem::replace(&mut self.buffered, now);
        self.shared.metrics.batching.buffered(now.0 - before.0, now.1 - before.1);
    }

    fn cut(&mut self, number: u64) {
        let started = Instant::now();
        let mut part = PartialBatch::default();
        failpoint::reached(Failpoint::FileWriting);
        // A table without records since the last cut releases its memory.
        self.writers.retain(|_, writer| writer.rows() > 0);
        let mut failed = Vec::new();
        for (table, writer) in &mut self.writers {
            if let Err(error) = writer.finish(&mut part) {
                failed.push((table.clone(), error));
            }
        }
        if !failed.is_empty() {
            part.remove_files();
            self.report_staging_failure(failed);
            return;
        }
        failpoint::reached(Failpoint::FileWritten);
        for (partition, cursor) in &mut self.cursors {
            let place = (cursor.route.source.id, partition.partition);
            part.stats.newest.extend(cursor.take_newest().map(|newest| (place, newest)));
            part.progress.extend(cursor.cut(partition));
            let schemas = cursor.take_schemas();
            if !schemas.is_empty() {
                part.schema_ids.entry(place.0).or_default().extend(schemas);
            }
        }
        let worked = std::mem::take(&mut self.worked) + started.elapsed();
        if !part.files.is_empty() {
            self.shared.metrics.batching.staged(worked);
        }
        self.count_buffered(0, 0);
        self.opened = false;
        self.full = false;
        self.send_event(BatcherEvent::PartialBatch(number, part));
    }

    /// Continues the blocked run.
    fn resume(&mut self) {
        if let Some(BlockedRun { run, next, .. }) = self.blocked.take() {
            self.process(run, next);
        }
    }

    /// Runs after [`IDLE_CHECK`] or [`REGISTRY_PAUSE`] without a command or delivery.
    fn handle_idle(&mut self) {
        if self.waits_for_memory() {
            // `run` resumes it after the cut.
        } else if self.blocked.is_some() {
            self.resume();
            if self.blocked.is_none() || self.waits_for_memory() {
                self.report_registry_wait(None);
            }
        } else if self.last_idle_advance.elapsed() >= IDLE_ADVANCE {
            self.advance_idle();
        }
    }

    /// Requests a commit if the end of a partition lies beyond its last record.
    fn advance_idle(&mut self) {
        self.last_idle_advance = Instant::now();
        if !self.opened && self.cursors.values().any(|cursor| cursor.idle_tail() > 0) {
            self.opened = true;
            self.send_event(BatcherEvent::Opened);
        }
    }

    fn send_event(&self, event: BatcherEvent) {
        self.shared.events.send(Event::Batcher(event));
    }
}

/// Returns the current time, microseconds since 1970.
fn now_micros() -> i64 {
    Timestamp::now().as_microsecond()
}

/// Writes an undecodable record to the dead letters, unless it stops the worker or the dead-letter
/// ratio is exceeded.
#[cold]
fn write_dead_letter(
    writer: &mut TableWriter,
    ratio: &mut DeadLetterRatio,
    stops: bool,
    undecodable: UndecodableRecord<'_>,
) -> Result<(), Interruption> {
    if stops {
        return Err(Interruption::Undecodable(undecodable.failure));
    }
    if ratio.record_failure() {
        return Err(Interruption::TooManyUndecodable(undecodable.failure));
    }
    writer
        .write_dead_letter(undecodable)
        .map_err(|error| Interruption::Staging(writer.table().clone(), error))
}
