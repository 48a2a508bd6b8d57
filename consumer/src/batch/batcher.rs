//! Batcher threads: each decodes the records of its partitions and fills Parquet files with them.
//!
//! A batcher decides nothing. It says when there is something to commit, or no room for more; the
//! worker tells it to cut, and gets what was gathered since the last cut.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select};
use ducktide_protocol::dedupe::RecentRow;
use ducktide_protocol::failpoint::{self, Failpoint};
use ducktide_protocol::position::Position;
use ducktide_protocol::table::{Column, TableName};
use jiff::Timestamp;

use crate::batch::dead_letter::DeadLetterRatio;
use crate::batch::dedupe::{Budget, Window};
use crate::batch::event::BatcherEvent;
use crate::batch::partial_batch::Part;
use crate::batch::partition_cursor::Track;
use crate::batch::staging::{EncoderBudget, StagingError};
use crate::batch::table_writer::{Lane, LaneError, Pushed, Unread};
use crate::batch::topic_route::Stream;
use crate::config::BadRecordArgs;
use crate::decode::decoders::{Destination, RecordSchemas, Unreadable};
use crate::decode::failure::Flaw;
use crate::event::{Event, Events};
use crate::metrics::Metrics;
use crate::source::assignment::Generation;
use crate::source::in_flight::InFlight;
use crate::source::{Delivery, RecordRun, TopicPartition};

/// How often an idle partition's end, if it lies beyond the last record, becomes progress: often
/// enough that retention never overtakes it, seldom enough to cost nothing.
const IDLE_ADVANCE: Duration = Duration::from_mins(1);

/// How often the registry is asked again while it does not answer.
const REGISTRY_PAUSE: Duration = Duration::from_secs(1);

/// How often the ends of idle partitions are looked at.
const IDLE_CHECK: Duration = Duration::from_secs(1);

/// What a batcher may gather before it is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) memory: usize,
}

impl Limits {
    /// What decoded rows of one table may take before they go to the Parquet writer, bytes.
    const fn decoded(&self) -> usize {
        self.memory / 4
    }

    /// What the encoders of all open files may take before they have any values, bytes.
    const fn encoders(&self) -> usize {
        self.memory / 2
    }
}

/// What the worker tells a batcher.
#[derive(Debug)]
pub(crate) enum Command {
    /// Records of this generation follow, from this position on.
    Begin {
        partition: TopicPartition,
        generation: Generation,
        position: Position,
        stream: Arc<Stream>,
        /// The rows that they may repeat.
        recent: Vec<RecentRow>,
        /// The offset up to which `--until-end` waits for the partition.
        goal: Option<i64>,
    },
    /// Close the files, hand over what was gathered, and take no more records of `forget`.
    Cut { number: u64, forget: Vec<TopicPartition> },
    /// Drop everything that was gathered, and all partitions.
    Reset,
    /// Take no more records at all.
    Stop,
}

/// The worker's end of a batcher's thread.
pub(crate) struct Batcher {
    commands: Sender<Command>,
    thread: JoinHandle<()>,
}

/// What all batchers of a worker share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) events: Events,
    pub(crate) metrics: Arc<Metrics>,
    /// How many rows may still be taken, if there is a limit.
    pub(crate) rows_left: Option<Arc<AtomicI64>>,
    pub(crate) bad_records: BadRecordArgs,
    /// The memory for ids by which repeats are known.
    pub(crate) ids: Arc<Budget>,
}

impl Shared {
    fn is_exhausted(&self) -> bool {
        self.rows_left.as_ref().is_some_and(|left| left.load(Ordering::Relaxed) <= 0)
    }

    /// Takes one of the rows that are left for all batchers together; false if there is none.
    fn claim_row(&self) -> bool {
        let one_less = |left: i64| (left > 0).then(|| left - 1);
        self.rows_left.as_ref().is_none_or(|left| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
        })
    }

    /// Gives one back that did not become a row.
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
        schemas: RecordSchemas,
        shared: Shared,
    ) -> Self {
        let (commands, inbox) = crossbeam_channel::unbounded();
        let ratio = DeadLetterRatio::new(shared.bad_records.max_dead_letter_ratio);
        let encoders = EncoderBudget::new(shared.limits.encoders());
        let running = Running {
            index,
            shared,
            ratio,
            inbox,
            deliveries,
            schemas,
            tracks: HashMap::new(),
            lanes: HashMap::new(),
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

    pub(crate) fn send(&self, command: Command) {
        // A batcher ends only after its worker let go of it.
        let _ = self.commands.send(command);
    }

    pub(crate) fn join(self) {
        drop(self.commands);
        if self.thread.join().is_err() {
            tracing::error!("a batcher panicked");
        }
    }

    /// Whether the thread ended, which it never does by itself.
    pub(crate) fn is_dead(&self) -> bool {
        self.thread.is_finished()
    }
}

struct Running {
    index: usize,
    shared: Shared,
    ratio: DeadLetterRatio,
    inbox: Receiver<Command>,
    deliveries: Receiver<Delivery>,
    schemas: RecordSchemas,
    tracks: HashMap<TopicPartition, Track>,
    lanes: HashMap<TableName, Lane>,
    /// Whether the worker knows that there is something to commit.
    opened: bool,
    full: bool,
    stopped: bool,
    blocked: Option<BlockedRun>,
    /// The memory for the encoders of all tables' open files.
    encoders: EncoderBudget,
    /// How long it worked on what was gathered since the last cut.
    worked: Duration,
    /// The rows and bytes of memory that were last counted as buffered.
    buffered: (i64, i64),
    last_idle_advance: Instant,
}

/// A run that was left in the middle.
struct BlockedRun {
    run: RecordRun,
    /// Index of the first record that is not a row yet.
    next: usize,
    waits_for: Awaited,
}

/// Condition under which a blocked run is continued.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// The registry answers, or the table has the columns.
    Schema,
    /// The next cut frees memory.
    Room,
}

/// Why a run was left in the middle.
enum Interruption {
    /// The registry does not answer.
    Registry(String),
    ColumnsMissing(TableName, Vec<Column>),
    Bad(Flaw),
    TooManyBad(Flaw),
    Staging(TableName, StagingError),
    Exhausted,
    /// The memory limit is reached in the middle of the run.
    Full,
}

impl Running {
    fn run(mut self) {
        loop {
            // Commands first: a `Begin` is sent before the records that it announces.
            while let Ok(command) = self.inbox.try_recv() {
                self.obey(command);
            }
            if self.waits_for_room() && !self.full {
                self.resume();
                continue;
            }
            let waiting = self.full || self.blocked.is_some();
            let deliveries = if waiting { never() } else { self.deliveries.clone() };
            let patience = if self.blocked.is_some() { REGISTRY_PAUSE } else { IDLE_CHECK };
            select! {
                recv(self.inbox) -> command => match command {
                    Ok(command) => self.obey(command),
                    Err(_) => return,
                },
                recv(deliveries) -> delivery => match delivery {
                    Ok(delivery) => self.take(delivery),
                    Err(_) => self.deliveries = never(),
                },
                default(patience) => self.idle(),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Begin { partition, generation, position, stream, recent, goal } => {
                let ids = &self.shared.ids;
                let window = stream
                    .dedupe
                    .as_ref()
                    .map(|rule| Window::new(rule, recent, now_micros(), Arc::clone(ids)));
                let mut track = Track::new(stream, generation, position, window);
                track.set_goal(goal);
                self.tracks.insert(partition, track);
            }
            Command::Cut { number, forget } => {
                self.cut(number);
                self.tracks.retain(|partition, _| !forget.contains(partition));
                self.unblock(|run| forget.contains(&run.partition));
            }
            Command::Reset => self.reset(),
            Command::Stop => {
                self.stopped = true;
                self.unblock(|_| true);
            }
        }
    }

    fn reset(&mut self) {
        self.tracks.clear();
        self.lanes.drain().for_each(|(_, lane)| lane.abandon());
        self.unblock(|_| true);
        self.opened = false;
        self.full = false;
        self.worked = Duration::ZERO;
        self.count_buffered(0, 0);
    }

    /// Gives up the blocked run if it is one of those.
    fn unblock(&mut self, is_affected: impl Fn(&RecordRun) -> bool) {
        if let Some(blocked) = self.blocked.take_if(|blocked| is_affected(&blocked.run)) {
            if blocked.waits_for == Awaited::Schema {
                self.waits_for_registry(None);
            }
            self.finished(blocked.run);
        }
    }

    fn block(&mut self, run: RecordRun, next: usize, waits_for: Awaited) {
        self.blocked = Some(BlockedRun { run, next, waits_for });
    }

    fn waits_for_room(&self) -> bool {
        self.blocked.as_ref().is_some_and(|blocked| blocked.waits_for == Awaited::Room)
    }

    /// Lets go of a run's records, and makes room for others.
    fn finished(&self, run: RecordRun) {
        let (records, bytes) = (run.records.len(), run.bytes);
        drop(run);
        self.shared.in_flight.remove(records, bytes);
    }

    fn take(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Records(run) => {
                if self.accept(&run.partition, run.generation, run.follows, run.next()) {
                    let records = run.records.len();
                    let reading = &self.shared.metrics.reading;
                    reading.consumed(&run.partition, records, run.content_bytes());
                    self.ratio.saw(run.records.len());
                    self.process(run, 0);
                } else {
                    self.finished(run);
                }
            }
            Delivery::EndOfPartition { partition, generation, follows, offset } => {
                if self.accept(&partition, generation, follows, offset) {
                    self.ended(&partition, offset);
                }
            }
        }
    }

    /// A partition was read to its end. It is delivered only after everything before it was decoded.
    fn ended(&mut self, partition: &TopicPartition, offset: i64) {
        let track = self.tracks.get_mut(partition).expect("accepted only with a track");
        track.decoded(offset);
        if track.is_awaited() {
            self.advance_idle();
            self.report_goal(partition);
        }
    }

    /// Whether a delivery belongs to what is being read now.
    fn accept(
        &mut self,
        partition: &TopicPartition,
        generation: Generation,
        follows: i64,
        next: i64,
    ) -> bool {
        if self.stopped {
            return false;
        }
        let track = self.tracks.get_mut(partition).filter(|track| track.generation == generation);
        track.is_some_and(|track| {
            track.delivered(partition, follows, next);
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
            return self.finished(run);
        };
        match interruption {
            Interruption::Registry(error) => {
                tracing::warn!(error, "waiting for the schema registry");
                self.waits_for_registry(Some(error));
                return self.block(run, index, Awaited::Schema);
            }
            Interruption::ColumnsMissing(table, columns) => {
                self.tell(BatcherEvent::ColumnsMissing { table, columns });
                return self.block(run, index, Awaited::Schema);
            }
            Interruption::Full => return self.block(run, index, Awaited::Room),
            Interruption::Bad(flaw) => {
                let (partition, offset) = (run.partition.clone(), run.records[index].offset());
                self.stop_with(BatcherEvent::BadRecord { partition, offset, flaw });
            }
            Interruption::TooManyBad(flaw) => {
                let (partition, offset) = (run.partition.clone(), run.records[index].offset());
                let ratio = self.ratio.value();
                self.stop_with(BatcherEvent::TooManyBadRecords { partition, offset, flaw, ratio });
            }
            Interruption::Exhausted => self.stop_with(BatcherEvent::Exhausted),
            Interruption::Staging(table, error) => self.staging_failed(vec![(table, error)]),
        }
        self.finished(run);
    }

    /// Rows of a partition since the last cut.
    fn rows_of(&self, partition: &TopicPartition) -> i64 {
        self.tracks.get(partition).map_or(0, Track::rows)
    }

    fn waits_for_registry(&self, waits_for: Option<String>) {
        self.tell(BatcherEvent::Registry { batcher: self.index, waits_for });
    }

    /// Ends the reading of everything: what was accounted for so far is all that can be committed.
    fn stop_with(&mut self, event: BatcherEvent) {
        self.stopped = true;
        self.tell(event);
    }

    fn staging_failed(&mut self, failed: Vec<(TableName, StagingError)>) {
        self.reset();
        self.tell(BatcherEvent::StagingFailed(failed));
    }

    fn append(&mut self, run: &RecordRun, first: usize) -> Result<(), (usize, Interruption)> {
        let track = self.tracks.get_mut(&run.partition).expect("accepted only with a track");
        let stream = Arc::clone(&track.stream);
        let table = &stream.table.version.table;
        if !self.lanes.contains_key(table) {
            let lane = Lane::new(&stream, self.shared.limits.decoded(), &self.encoders);
            let lane =
                lane.map_err(|error| (first, Interruption::Staging(table.clone(), error)))?;
            self.lanes.insert(table.clone(), lane);
        }
        let others = self.lanes.iter().filter(|(name, _)| *name != table);
        let others = others.map(|(_, lane)| lane.memory()).sum::<usize>();
        let lane = self.lanes.get_mut(table).expect("inserted above");
        let now = track.window.as_ref().map_or(0, |_| now_micros());
        let to = Destination { topic: &stream.topic, newest: &stream.newest, table: &stream.table };
        for (index, record) in run.records.iter().enumerate().skip(first) {
            if lane.take_wrote() && others + lane.memory() >= self.shared.limits.memory {
                return Err((index, Interruption::Full));
            }
            if !track.advance_to(record.offset()) {
                continue;
            }
            let Some(payload) = record.payload() else {
                track.count_tombstone();
                continue;
            };
            let header = |name| record.last_header(name);
            let readable = match self.schemas.of_record(payload, record.key(), header, to) {
                Ok(readable) => readable,
                Err(Unreadable::Unavailable(error)) => {
                    return Err((index, Interruption::Registry(error)));
                }
                Err(Unreadable::ColumnsMissing(difference)) => {
                    let missing = Interruption::ColumnsMissing(table.clone(), difference.missing);
                    return Err((index, missing));
                }
                Err(Unreadable::Bad(flaw)) => {
                    let stops = self.shared.bad_records.stops_at(flaw.class);
                    let schema_id = self.schemas.id_of(payload, header);
                    let unread = Unread { run, record, schema_id, flaw };
                    let buried = bury(lane, &mut self.ratio, stops, unread);
                    buried.map_err(|interruption| (index, interruption))?;
                    track.count_dead();
                    continue;
                }
            };
            if !self.shared.claim_row() {
                return Err((index, Interruption::Exhausted));
            }
            let window = track.window.as_mut().map(|window| (window, now));
            let schema_id = readable.schema_id;
            match lane.push(&readable, run, record, window) {
                Ok(Pushed::Row) => track.count_row(schema_id),
                Ok(Pushed::Repeat) => {
                    self.shared.unclaim_row();
                    track.count_repeat();
                }
                Err(LaneError::Decode(error)) => {
                    self.shared.unclaim_row();
                    let flaw = Flaw::from(error);
                    let stops = self.shared.bad_records.stops_at(flaw.class);
                    let unread = Unread { run, record, schema_id, flaw };
                    let buried = bury(lane, &mut self.ratio, stops, unread);
                    buried.map_err(|interruption| (index, interruption))?;
                    track.count_dead();
                }
                Err(LaneError::Staging(error)) => {
                    return Err((index, Interruption::Staging(table.clone(), error)));
                }
            }
            if self.shared.is_exhausted() {
                // Now, not at the next record: there may be none.
                return Err((index, Interruption::Exhausted));
            }
        }
        track.decoded(run.next());
        track.saw_time(run.newest_ms());
        Ok(())
    }

    /// Tells the worker, once for each batch, that there is something, and that there is no room.
    fn report(&mut self) {
        if !self.opened && self.tracks.values().any(Track::has_progress) {
            self.opened = true;
            self.tell(BatcherEvent::Opened);
        }
        let rows: u64 = self.lanes.values().map(Lane::rows).sum();
        let memory = self.lanes.values().map(Lane::memory).sum::<usize>();
        self.count_buffered(rows, memory);
        let limits = &self.shared.limits;
        let full = rows >= limits.rows
            || self.lanes.values().map(Lane::bytes).sum::<u64>() >= limits.bytes
            || memory >= limits.memory
            || self.lanes.values().any(Lane::is_scattered);
        if full && !self.full {
            self.full = true;
            self.tell(BatcherEvent::Full);
        }
    }

    /// Tells the worker, once, that a partition was read as far as somebody waits for.
    fn report_goal(&mut self, partition: &TopicPartition) {
        let track = self.tracks.get_mut(partition);
        if track.is_some_and(Track::take_goal_reached) {
            self.tell(BatcherEvent::GoalReached(partition.clone()));
        }
    }

    /// Tells how many ids are remembered, and once that there is no room for all of them.
    fn report_ids(&mut self, partition: &TopicPartition) {
        let window = self.tracks.get_mut(partition).and_then(|track| track.window.as_mut());
        let Some(window) = window else { return };
        let (forgotten, ids) = (window.take_forgotten(), &self.shared.ids);
        self.shared.metrics.batching.remembered(ids.ids(), ids.used(), forgotten);
        if forgotten > 0 && ids.is_short_at_first() {
            tracing::warn!(
                ids = ids.ids(),
                "--dedupe-memory-limit has no room for all ids of --dedupe-window: repeats of older \
                 rows are not found; give it more, or shorten the window"
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
        let mut part = Part::default();
        failpoint::reached(Failpoint::FileWriting);
        // A table without records since the last cut gives its memory back.
        self.lanes.retain(|_, lane| lane.rows() > 0);
        let mut failed = Vec::new();
        for (table, lane) in &mut self.lanes {
            if let Err(error) = lane.finish(&mut part) {
                failed.push((table.clone(), error));
            }
        }
        if !failed.is_empty() {
            part.remove_files();
            self.staging_failed(failed);
            return;
        }
        failpoint::reached(Failpoint::FileWritten);
        for (partition, track) in &mut self.tracks {
            let place = (track.stream.source.id, partition.partition);
            part.told.newest.extend(track.take_newest().map(|newest| (place, newest)));
            part.progress.extend(track.cut(partition));
            let schemas = track.take_schemas();
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
        self.tell(BatcherEvent::Part(number, part));
    }

    /// Continues the blocked run.
    fn resume(&mut self) {
        if let Some(BlockedRun { run, next, .. }) = self.blocked.take() {
            self.process(run, next);
        }
    }

    /// Called when nothing came for a while.
    fn idle(&mut self) {
        if self.waits_for_room() {
            // `run` resumes it after the cut.
        } else if self.blocked.is_some() {
            self.resume();
            if self.blocked.is_none() || self.waits_for_room() {
                self.waits_for_registry(None);
            }
        } else if self.last_idle_advance.elapsed() >= IDLE_ADVANCE {
            self.advance_idle();
        }
    }

    /// Has the ends of idle partitions committed, where they lie beyond the last record.
    fn advance_idle(&mut self) {
        self.last_idle_advance = Instant::now();
        if !self.opened && self.tracks.values().any(|track| track.idle_tail() > 0) {
            self.opened = true;
            self.tell(BatcherEvent::Opened);
        }
    }

    fn tell(&self, event: BatcherEvent) {
        self.shared.events.send(Event::Batcher(event));
    }
}

/// Microseconds since 1970.
fn now_micros() -> i64 {
    Timestamp::now().as_microsecond()
}

/// Makes a dead letter of a record that cannot be decoded, unless it is to stop the worker, or too
/// many of the newest records were like it.
#[cold]
fn bury(
    lane: &mut Lane,
    ratio: &mut DeadLetterRatio,
    stops: bool,
    unread: Unread<'_>,
) -> Result<(), Interruption> {
    if stops {
        return Err(Interruption::Bad(unread.flaw));
    }
    if ratio.exceeded_by_one_more() {
        return Err(Interruption::TooManyBad(unread.flaw));
    }
    lane.bury(unread).map_err(|error| Interruption::Staging(lane.table().clone(), error))
}
