//! The work of a batcher, without a thread and without a wait of its own: it decodes the records of its
//! partitions and writes them to files.
//!
//! A batcher takes no decisions. It reports that it has something to commit, or that it is full.
//! The worker commands a cut and receives everything since the previous cut as a [`PartialBatch`].

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ducktide_protocol::failpoint::{self, Failpoint};
use ducktide_protocol::position::Offset;
use ducktide_protocol::table::{Column, TableName};

use crate::batch::command::BatcherCommand;
use crate::batch::context::{BatchLimits, BatcherContext};
use crate::batch::dead_letter::DeadLetterRatio;
use crate::batch::dedupe::DedupeWindow;
use crate::batch::event::BatcherEvent;
use crate::batch::partial_batch::PartialBatch;
use crate::batch::partition_cursor::PartitionCursor;
use crate::batch::staging::StagingError;
use crate::batch::staging_area::{RowWriter, StagingArea};
use crate::batch::table_writer::{PushOutcome, TableWriter, TableWriterError, UndecodableRecord};
use crate::decode::decoders::{DecodeTarget, RecordDecoders, ResolveError};
use crate::decode::failure::DecodeFailure;
use crate::source::assignment::Generation;
use crate::source::record::KafkaRecord;
use crate::source::{Delivery, RecordRun, TopicPartition};

/// Interval at which the end of an idle partition is committed as progress if it lies beyond the
/// last record. Short enough that retention never overtakes the position, long enough to cost
/// nothing.
const IDLE_ADVANCE: Duration = Duration::from_mins(1);

/// Interval between requests to a schema registry that is unavailable.
const REGISTRY_PAUSE: Duration = Duration::from_secs(1);

/// Interval between checks for the ends of idle partitions.
const IDLE_CHECK: Duration = Duration::from_secs(1);

/// Life of a batch in one batcher.
///
/// ```text
///   ┌───────────────── cut, reset ─────────────────┐
///   ▼                                              │
/// Empty ──progress, end of an idle partition──▶ Opened ──limit──▶ Full
///   ▲                                                              │
///   └────────────────────────── cut, reset ────────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BatchState {
    /// There is nothing to commit.
    Empty,
    /// The worker was notified that there is something to commit.
    Opened,
    /// The worker was notified that a limit is reached. Deliveries wait for the cut.
    Full,
}

/// Life of the intake of records.
///
/// ```text
///              schema or memory missing
/// Accepting ─────────────────────────────▶ Blocked ──┐ resumed, and missing again
///  │     ▲                                  │  │ ▲   │
///  │     └── resumed, partition forgotten, ─┘  │ └───┘
///  │         reset                             │
///  └──── Stop, undecodable record, row limit ──┴──▶ Stopped
/// ```
enum Intake<R: KafkaRecord> {
    Accepting,
    /// A run was interrupted. Deliveries wait, which keeps the order of records.
    Blocked(BlockedRun<R>),
    /// Deliveries are dropped until the worker ends.
    Stopped,
}

/// A run of records that was interrupted.
struct BlockedRun<R: KafkaRecord> {
    run: RecordRun<R>,
    /// Index of the first record that is not decoded.
    next: usize,
    waits_for: ResumeCondition,
}

/// Condition under which a blocked run is continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A batcher. The driver passes on [`Self::outbox`] after every call, and calls [`Self::resume`] after
/// the commands.
pub(crate) struct BatchCore<R: KafkaRecord, S: StagingArea> {
    index: usize,
    context: BatcherContext,
    /// Limits of a batch, which a reset changes.
    limits: BatchLimits,
    area: S,
    schemas: RecordDecoders,
    ratio: DeadLetterRatio,
    cursors: BTreeMap<TopicPartition, PartitionCursor>,
    writers: BTreeMap<TableName, TableWriter<S::Writer>>,
    batch: BatchState,
    intake: Intake<R>,
    outbox: Vec<BatcherEvent>,
    /// Windows that a planted defect keeps after a reset.
    #[cfg(test)]
    kept_windows: BTreeMap<TopicPartition, DedupeWindow>,
    /// Working time since the last cut.
    worked: Duration,
    /// Rows and bytes of memory that the metrics count as buffered.
    buffered: (i64, i64),
    last_idle_advance: Instant,
}

impl<R: KafkaRecord, S: StagingArea> BatchCore<R, S> {
    /// Creates a batcher without partitions.
    pub(crate) fn new(
        index: usize,
        context: BatcherContext,
        schemas: RecordDecoders,
        area: S,
    ) -> Self {
        Self {
            index,
            area,
            schemas,
            ratio: DeadLetterRatio::new(context.bad_records.max_dead_letter_ratio),
            cursors: BTreeMap::new(),
            writers: BTreeMap::new(),
            batch: BatchState::Empty,
            intake: Intake::Accepting,
            outbox: Vec::new(),
            #[cfg(test)]
            kept_windows: BTreeMap::new(),
            worked: Duration::ZERO,
            buffered: (0, 0),
            last_idle_advance: context.clock.now(),
            limits: context.limits,
            context,
        }
    }

    /// Returns the events for the worker, which the driver removes and sends.
    pub(crate) const fn outbox(&mut self) -> &mut Vec<BatcherEvent> {
        &mut self.outbox
    }

    /// Returns whether [`Self::handle_delivery`] may be called.
    pub(crate) fn accepts_deliveries(&self) -> bool {
        self.batch != BatchState::Full && !matches!(self.intake, Intake::Blocked(_))
    }

    /// Returns the time without a command or delivery after which [`Self::handle_idle`] is called.
    pub(crate) const fn idle_after(&self) -> Duration {
        match self.intake {
            Intake::Blocked(_) => REGISTRY_PAUSE,
            Intake::Accepting | Intake::Stopped => IDLE_CHECK,
        }
    }

    /// Handles a command of the worker.
    pub(crate) fn handle_command(&mut self, command: BatcherCommand) {
        match command {
            BatcherCommand::Begin { partition, generation, position, route, recent, goal } => {
                let (ids, now) = (&self.context.ids, self.context.clock.unix_micros());
                let recent = if mutated!(RecentRowsIgnored) { Vec::new() } else { recent };
                let window = route
                    .dedupe
                    .as_ref()
                    .map(|rule| DedupeWindow::new(rule, recent, now, Arc::clone(ids)));
                #[cfg(test)]
                let window = self.kept_windows.remove(&partition).or(window);
                let mut cursor = PartitionCursor::new(route, generation, position, window);
                cursor.set_goal(goal);
                self.cursors.insert(partition, cursor);
            }
            BatcherCommand::Cut { number, forget } => {
                self.cut(number);
                if !mutated!(RevokedPartitionNotForgotten) {
                    self.cursors.retain(|partition, _| !forget.contains(partition));
                }
                self.unblock(|run| forget.contains(&run.partition));
            }
            BatcherCommand::Reset { shares } => {
                self.limits = self.context.limits.of_shares(shares);
                self.reset();
            }
            BatcherCommand::Stop => {
                self.unblock(|_| true);
                self.intake = Intake::Stopped;
            }
        }
    }

    /// Continues the run that waits for memory, if a cut has freed it. Returns whether there was one.
    /// Called only after all commands: a cut may be followed by a reset.
    pub(crate) fn resume(&mut self) -> bool {
        let is_due = self.waits_for() == Some(ResumeCondition::MemoryAvailable)
            && self.batch != BatchState::Full;
        if is_due {
            self.continue_run();
        }
        is_due
    }

    /// Handles a delivery of the poll loop. A panic if deliveries are not accepted.
    pub(crate) fn handle_delivery(&mut self, delivery: Delivery<R>) {
        assert!(self.accepts_deliveries(), "deliveries wait while a batcher is full or blocked");
        match delivery {
            Delivery::Records(run) => {
                if self.accept(&run.partition, run.generation, run.follows, run.next()) {
                    let records = run.records.len();
                    let reading = &self.context.metrics.reading;
                    reading.consumed(&run.partition, records, run.content_bytes());
                    self.ratio.record_batch(records);
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

    /// Handles the passing of [`Self::idle_after`] without a command or delivery.
    pub(crate) fn handle_idle(&mut self) {
        match self.waits_for() {
            Some(ResumeCondition::SchemaAvailable) => {
                self.continue_run();
                if self.waits_for() != Some(ResumeCondition::SchemaAvailable) {
                    self.report_registry_wait(None);
                }
            }
            None if self.context.clock.now() - self.last_idle_advance >= IDLE_ADVANCE => {
                self.advance_idle();
            }
            // A run that waits for memory continues after the cut.
            Some(ResumeCondition::MemoryAvailable) | None => {}
        }
    }

    fn waits_for(&self) -> Option<ResumeCondition> {
        match &self.intake {
            Intake::Blocked(blocked) => Some(blocked.waits_for),
            Intake::Accepting | Intake::Stopped => None,
        }
    }

    fn reset(&mut self) {
        #[cfg(test)]
        self.keep_windows();
        self.cursors.clear();
        while let Some((_, writer)) = self.writers.pop_first() {
            writer.abandon();
        }
        self.unblock(|_| true);
        self.batch = BatchState::Empty;
        self.worked = Duration::ZERO;
        self.count_buffered(0, 0);
    }

    /// Drops the blocked run if it matches.
    fn unblock(&mut self, is_affected: impl Fn(&RecordRun<R>) -> bool) {
        let Intake::Blocked(blocked) = &self.intake else { return };
        if !is_affected(&blocked.run) {
            return;
        }
        if let Some(BlockedRun { run, waits_for, .. }) = self.take_blocked() {
            if waits_for == ResumeCondition::SchemaAvailable {
                self.report_registry_wait(None);
            }
            if !mutated!(DroppedRunStaysInFlight) {
                self.release(run);
            }
        }
    }

    /// Keeps the windows of a planted defect.
    #[cfg(test)]
    fn keep_windows(&mut self) {
        if mutated!(WindowSurvivesReset) {
            let cursors = mem::take(&mut self.cursors).into_iter();
            self.kept_windows.extend(
                cursors.filter_map(|(partition, cursor)| Some((partition, cursor.window?))),
            );
        }
    }

    /// Removes the blocked run; records are accepted from then on.
    fn take_blocked(&mut self) -> Option<BlockedRun<R>> {
        match mem::replace(&mut self.intake, Intake::Accepting) {
            Intake::Blocked(blocked) => Some(blocked),
            other => {
                self.intake = other;
                None
            }
        }
    }

    fn continue_run(&mut self) {
        if let Some(BlockedRun { run, next, .. }) = self.take_blocked() {
            self.process(run, next);
        }
    }

    fn block(&mut self, run: RecordRun<R>, next: usize, waits_for: ResumeCondition) {
        self.intake = Intake::Blocked(BlockedRun { run, next, waits_for });
    }

    /// Drops the records of a run and removes them from the records in flight.
    fn release(&self, run: RecordRun<R>) {
        let (records, bytes) = (run.records.len(), run.bytes);
        drop(run);
        self.context.in_flight.remove(records, bytes);
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
        if matches!(self.intake, Intake::Stopped) {
            return false;
        }
        let cursor = self
            .cursors
            .get_mut(partition)
            .filter(|cursor| cursor.generation == generation || mutated!(StaleGenerationAccepted));
        cursor.is_some_and(|cursor| {
            cursor.record_delivery(partition, follows, next);
            true
        })
    }

    fn process(&mut self, run: RecordRun<R>, first: usize) {
        let (started, rows_before) = (self.context.clock.now(), self.rows_of(&run.partition));
        let appended = self.append(&run, first);
        self.worked += self.context.clock.now() - started;
        self.report_ids(&run.partition);
        let decoded = self.rows_of(&run.partition) - rows_before;
        self.context.metrics.batching.decoded(decoded.unsigned_abs());
        self.report();
        match appended {
            Ok(()) => {
                self.report_goal(&run.partition);
                self.release(run);
            }
            Err((index, interruption)) => self.handle_interruption(run, index, interruption),
        }
    }

    /// Keeps the rest of a run if it can be continued, and stops or drops the batch otherwise.
    fn handle_interruption(&mut self, run: RecordRun<R>, index: usize, interruption: Interruption) {
        match interruption {
            Interruption::RegistryUnavailable(error) => {
                tracing::warn!(error, "schema registry unavailable, retrying");
                self.report_registry_wait(Some(error));
                return self.block(run, index, ResumeCondition::SchemaAvailable);
            }
            Interruption::ColumnsMissing(table, columns) => {
                self.send(BatcherEvent::ColumnsMissing { table, columns });
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

    fn report_registry_wait(&mut self, waits_for: Option<String>) {
        self.send(BatcherEvent::Registry { batcher: self.index, waits_for });
    }

    /// Stops accepting records and reports why. The records so far can be committed.
    fn stop_with(&mut self, event: BatcherEvent) {
        self.intake = Intake::Stopped;
        self.send(event);
    }

    fn report_staging_failure(&mut self, failed: Vec<(TableName, StagingError)>) {
        self.reset();
        self.send(BatcherEvent::StagingFailed(failed));
    }

    fn append(&mut self, run: &RecordRun<R>, first: usize) -> Result<(), (usize, Interruption)> {
        let (context, ratio) = (&self.context, &mut self.ratio);
        let memory_limit = self.limits.memory;
        let cursor = self.cursors.get_mut(&run.partition).expect("accepted only with a cursor");
        let route = Arc::clone(&cursor.route);
        let table = &route.table.version.table;
        if !self.writers.contains_key(table) {
            let writer = TableWriter::new(&route, context.limits.decoded_bytes(), &self.area);
            let writer =
                writer.map_err(|error| (first, Interruption::Staging(table.clone(), error)))?;
            self.writers.insert(table.clone(), writer);
        }
        let others = self.writers.iter().filter(|(name, _)| *name != table);
        let others = others.map(|(_, writer)| writer.memory()).sum::<usize>();
        let writer = self.writers.get_mut(table).expect("inserted above");
        let now = cursor.window.as_ref().map_or(0, |_| context.clock.unix_micros());
        let to = DecodeTarget { topic: &route.topic, newest: &route.newest, table: &route.table };
        for (index, record) in run.records.iter().enumerate().skip(first) {
            if writer.take_wrote() && others + writer.memory() >= memory_limit {
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
            let (schema_id, failure) = match self.schemas.resolve(payload, record.key(), header, to)
            {
                Ok(resolved) => {
                    if !context.claim_row() {
                        return Err((index, Interruption::Exhausted));
                    }
                    let window = cursor.window.as_mut().map(|window| (window, now));
                    let schema_id = resolved.schema_id;
                    match writer.push(&resolved, run, record, window) {
                        Ok(PushOutcome::Row) => {
                            cursor.count_row(schema_id);
                            // Checked here and not at the next record: there may be none.
                            if context.is_exhausted() {
                                return Err((index, Interruption::Exhausted));
                            }
                            continue;
                        }
                        Ok(PushOutcome::Duplicate) => {
                            context.unclaim_row();
                            cursor.count_duplicate();
                            continue;
                        }
                        Err(TableWriterError::Decode(error)) => {
                            context.unclaim_row();
                            (schema_id, DecodeFailure::from(error))
                        }
                        Err(TableWriterError::Staging(error)) => {
                            return Err((index, Interruption::Staging(table.clone(), error)));
                        }
                    }
                }
                Err(ResolveError::RegistryUnavailable(error)) => {
                    return Err((index, Interruption::RegistryUnavailable(error)));
                }
                Err(ResolveError::ColumnsMissing(difference)) => {
                    let missing = Interruption::ColumnsMissing(table.clone(), difference.missing);
                    return Err((index, missing));
                }
                Err(ResolveError::Undecodable(failure)) => {
                    (self.schemas.id_of(payload, header), failure)
                }
            };
            let failed_at_micros = context.clock.unix_micros();
            let undecodable =
                UndecodableRecord { run, record, schema_id, failure, failed_at_micros };
            write_dead_letter(writer, ratio, context, undecodable)
                .map_err(|interruption| (index, interruption))?;
            cursor.count_dead();
            if mutated!(DeadLetterCountedTwice) {
                cursor.count_dead();
            }
        }
        cursor.record_decoded(run.next());
        cursor.record_timestamp(run.newest_ms());
        Ok(())
    }

    /// Reports once per batch that there is something to commit, and that the batcher is full.
    fn report(&mut self) {
        if self.cursors.values().any(PartitionCursor::has_progress) {
            self.open();
        }
        let rows: u64 = self.writers.values().map(TableWriter::rows).sum();
        let memory = self.writers.values().map(TableWriter::memory).sum::<usize>();
        self.count_buffered(rows, memory);
        let limits = &self.limits;
        let is_full = rows >= limits.rows
            || self.writers.values().map(TableWriter::bytes).sum::<u64>() >= limits.bytes
            || memory >= limits.memory
            || self.writers.values().any(TableWriter::is_scattered);
        if is_full && self.batch != BatchState::Full {
            self.batch = BatchState::Full;
            self.send(BatcherEvent::Full);
        }
    }

    /// Notifies the worker, once per batch, that there is something to commit.
    fn open(&mut self) {
        if self.batch == BatchState::Empty {
            self.batch = BatchState::Opened;
            self.send(BatcherEvent::Opened);
        }
    }

    /// Reports once that a partition reached its goal.
    fn report_goal(&mut self, partition: &TopicPartition) {
        let cursor = self.cursors.get_mut(partition);
        if cursor.is_some_and(PartitionCursor::take_goal_reached) {
            self.send(BatcherEvent::GoalReached(partition.clone()));
        }
    }

    /// Updates the metrics of remembered ids, and logs once that the memory for them is used up.
    fn report_ids(&mut self, partition: &TopicPartition) {
        let window = self.cursors.get_mut(partition).and_then(|cursor| cursor.window.as_mut());
        let Some(window) = window else { return };
        let (forgotten, ids) = (window.take_forgotten(), &self.context.ids);
        self.context.metrics.batching.remembered(ids.ids(), ids.used(), forgotten);
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
        let before = mem::replace(&mut self.buffered, now);
        self.context.metrics.batching.buffered(now.0 - before.0, now.1 - before.1);
    }

    fn cut(&mut self, number: u64) {
        let started = self.context.clock.now();
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
            part.files.iter().for_each(|file| self.area.remove(file));
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
        let worked = mem::take(&mut self.worked) + (self.context.clock.now() - started);
        part.stats.worked = worked;
        if !part.files.is_empty() {
            self.context.metrics.batching.staged(worked);
        }
        self.count_buffered(0, 0);
        self.batch = BatchState::Empty;
        self.send(BatcherEvent::PartialBatch(number, part));
    }

    /// Requests a commit if the end of a partition lies beyond its last record.
    fn advance_idle(&mut self) {
        self.last_idle_advance = self.context.clock.now();
        if self.cursors.values().any(|cursor| cursor.idle_tail() > 0) {
            self.open();
        }
    }

    fn send(&mut self, event: BatcherEvent) {
        self.outbox.push(event);
    }
}

/// Writes an undecodable record to the dead letters, unless it stops the worker or the dead-letter
/// ratio is exceeded.
#[cold]
fn write_dead_letter<R: KafkaRecord>(
    writer: &mut TableWriter<impl RowWriter>,
    ratio: &mut DeadLetterRatio,
    context: &BatcherContext,
    undecodable: UndecodableRecord<'_, R>,
) -> Result<(), Interruption> {
    if context.bad_records.stops_at(undecodable.failure.class) {
        return Err(Interruption::Undecodable(undecodable.failure));
    }
    if ratio.record_failure() {
        return Err(Interruption::TooManyUndecodable(undecodable.failure));
    }
    writer
        .write_dead_letter(undecodable)
        .map_err(|error| Interruption::Staging(writer.table().clone(), error))
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
