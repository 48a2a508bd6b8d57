//! The batcher with files in memory, a registry of prepared answers, and a clock that is moved by the
//! tests.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_schema::SchemaRef;
use clap::Parser;
use ducktide_protocol::commit::Counts;
use ducktide_protocol::dead_letter::dead_letter_shape;
use ducktide_protocol::position::{Epoch, OffsetRange, Position, SnapshotId, SourceId};
use ducktide_protocol::table::{AvroSchema, Partitioning, TableShape};
use ducktide_protocol::{
    FieldIds, FileFooter, Source, SourceSpec, StagedFile, Table, TableVersion,
};
use prometheus_client::registry::Registry;

use super::*;
use crate::batch::context::BatchLimits;
use crate::batch::dedupe::IdBudget;
use crate::batch::staging::ColumnHints;
use crate::batch::topic_route::TopicRoute;
use crate::clock::Clock;
use crate::config::BadRecordArgs;
use crate::decode::newest_schemas::NewestSchemas;
use crate::decode::record_format::{KeyArgs, ValueArgs};
use crate::decode::schema_lookup::SchemaLookup;
use crate::decode::schema_provider::{SchemaId, SchemaProvider, SchemaProviders};
use crate::metrics::Metrics;
use crate::source::in_flight::InFlight;
use crate::source::memory_record::MemoryRecord;
use ducktide_registry::{RegistryArgs, RegistryError};

/// Schema of the values, and one with another field.
const SCHEMA: &str =
    r#"{"type": "record", "name": "R", "fields": [{"name": "id", "type": "long"}]}"#;
const WIDER: &str = r#"{"type": "record", "name": "R", "fields": [
    {"name": "id", "type": "long"}, {"name": "more", "type": ["null", "long"], "default": null}]}"#;

const SCHEMA_ID: u8 = 1;
const WIDER_ID: u8 = 2;
const UNKNOWN_ID: u8 = 9;

/// Memory that a writer in memory reports for each row, bytes.
const ROW_MEMORY: usize = 1000;

const GENERATION: Generation = Generation(1);

/// Files and faults of an area in memory.
#[derive(Default)]
struct Files {
    /// Tables whose writers fail.
    write_fails: BTreeSet<String>,
    finish_fails: BTreeSet<String>,
    finished: usize,
    /// Number of files that were removed by writers or by the batcher.
    abandoned: usize,
    removed: Vec<PathBuf>,
}

#[derive(Clone, Default)]
struct MemoryArea(Arc<Mutex<Files>>);

struct MemoryWriter {
    files: Arc<Mutex<Files>>,
    table: TableName,
    rows: u64,
}

fn storage_full(table: &TableName) -> StagingError {
    let source = std::io::ErrorKind::StorageFull.into();
    StagingError::Create { path: table.to_string().into(), source }
}

impl StagingArea for MemoryArea {
    type Writer = MemoryWriter;

    fn open(
        &self,
        table: &Table,
        _: SchemaRef,
        _: &ColumnHints,
    ) -> Result<MemoryWriter, StagingError> {
        let table = table.version.table.clone();
        Ok(MemoryWriter { files: Arc::clone(&self.0), table, rows: 0 })
    }

    fn remove(&self, file: &StagedFile) {
        self.0.lock().unwrap().removed.push(file.path.clone());
    }
}

impl RowWriter for MemoryWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), StagingError> {
        if self.files.lock().unwrap().write_fails.contains(&self.table.table) {
            return Err(storage_full(&self.table));
        }
        let offsets = batch.column_by_name("_kafka_offset").or(batch.column_by_name("offset"));
        let offsets = offsets.unwrap().as_primitive::<Int64Type>().values();
        assert!(offsets.is_sorted(), "rows are in the order of their offsets");
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<StagedFile>, StagingError> {
        let mut files = self.files.lock().unwrap();
        if files.finish_fails.contains(&self.table.table) {
            return Err(storage_full(&self.table));
        }
        if self.rows == 0 {
            return Ok(Vec::new());
        }
        files.finished += 1;
        let path = format!("/lake/{}/{}", self.table.table, files.finished).into();
        let (table, rows) = (self.table.clone(), mem::take(&mut self.rows));
        Ok(vec![StagedFile { path, table, rows, bytes: rows, footer: FileFooter::default() }])
    }

    fn abandon(&mut self) {
        self.files.lock().unwrap().abandoned += usize::from(self.rows > 0);
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn bytes(&self) -> u64 {
        self.rows
    }

    fn memory(&self) -> usize {
        usize::try_from(self.rows).unwrap() * ROW_MEMORY
    }

    fn is_scattered(&self) -> bool {
        false
    }
}

/// Registry with two schemas.
#[derive(Default)]
struct PreparedRegistry {
    is_unavailable: Mutex<bool>,
    requests: Mutex<usize>,
}

impl SchemaLookup for PreparedRegistry {
    fn schema(&self, _: &SchemaProvider, id: SchemaId) -> Result<AvroSchema, RegistryError> {
        *self.requests.lock().unwrap() += 1;
        if *self.is_unavailable.lock().unwrap() {
            return Err(RegistryError::Unavailable("connection refused".to_owned()));
        }
        match id.number() {
            Some(1) => Ok(AvroSchema::parse(SCHEMA).unwrap()),
            Some(2) => Ok(AvroSchema::parse(WIDER).unwrap()),
            _ => Err(RegistryError::NotFound("schema not found".to_owned())),
        }
    }

    fn place(&self, _: &SchemaProvider, _: &str, _: SchemaId) -> Option<(String, u32)> {
        None
    }
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    values: ValueArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    bad_records: BadRecordArgs,
}

/// An event in short.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Short {
    Opened,
    Full,
    Goal(i32),
    Cut(u64),
    StagingFailed(Vec<String>),
    RegistryWait(bool),
    ColumnsMissing(Vec<String>),
    BadRecord(i64),
    TooManyBadRecords(i64),
    Exhausted,
}

struct Fixture {
    core: BatchCore<MemoryRecord, MemoryArea>,
    area: MemoryArea,
    registry: Arc<PreparedRegistry>,
    in_flight: Arc<InFlight>,
    clock: Clock,
    /// End of the deliveries of each partition.
    delivered: BTreeMap<TopicPartition, i64>,
    parts: Vec<PartialBatch>,
}

const LARGE: BatchLimits =
    BatchLimits { rows: 1_000_000, bytes: 1_000_000, memory: 1_000 * ROW_MEMORY };

/// Limits that the first record batch of a table exceeds: it has about 300 rows, since decoded rows take
/// a quarter of the memory.
const SMALL: BatchLimits = BatchLimits { memory: 40 * ROW_MEMORY, ..LARGE };

impl Fixture {
    fn new() -> Self {
        Self::with(LARGE, None, &[])
    }

    fn with(limits: BatchLimits, rows_left: Option<i64>, arguments: &[&str]) -> Self {
        let line = Line::try_parse_from([&["test"], arguments].concat()).unwrap();
        let (clock, in_flight) = (Clock::manual(), Arc::new(InFlight::new(usize::MAX)));
        let context = BatcherContext {
            limits,
            in_flight: Arc::clone(&in_flight),
            metrics: Arc::new(Metrics::register(&mut Registry::default(), &clock)),
            clock: clock.clone(),
            rows_left: rows_left.map(|rows| Arc::new(AtomicI64::new(rows))),
            bad_records: line.bad_records,
            ids: IdBudget::new(1 << 20),
        };
        let providers = SchemaProviders::new(&line.values, KeyArgs::default(), &line.registry);
        let registry = Arc::new(PreparedRegistry::default());
        let lookup: Arc<dyn SchemaLookup> = Arc::clone(&registry) as _;
        let schemas = RecordDecoders::new(providers.unwrap(), &lookup, &clock);
        let area = MemoryArea::default();
        let core = BatchCore::new(4, context, schemas, area.clone());
        let (delivered, parts) = (BTreeMap::new(), Vec::new());
        Self { core, area, registry, in_flight, clock, delivered, parts }
    }

    /// Starts partitions at offset 0.
    fn begin(mut self, partitions: &[&TopicPartition]) -> Self {
        for partition in partitions {
            self.begin_at(partition, 0, SCHEMA, None);
        }
        self
    }

    fn begin_at(
        &mut self,
        partition: &TopicPartition,
        start: i64,
        schema: &str,
        goal: Option<Offset>,
    ) {
        let position = Position { epoch: Epoch(3), next_offset: Offset(start) };
        self.delivered.insert(partition.clone(), start);
        self.core.handle_command(BatcherCommand::Begin {
            partition: partition.clone(),
            generation: GENERATION,
            position,
            route: route(&partition.topic, schema),
            recent: Vec::new(),
            goal,
        });
    }

    fn run(
        &mut self,
        partition: &TopicPartition,
        records: Vec<MemoryRecord>,
    ) -> RecordRun<MemoryRecord> {
        let next = records.last().unwrap().offset.0 + 1;
        let follows = self.delivered.insert(partition.clone(), next).unwrap();
        let run = RecordRun::new(partition.clone(), GENERATION, Offset(follows), records, ());
        self.in_flight.add(run.records.len(), run.bytes);
        run
    }

    fn deliver(&mut self, partition: &TopicPartition, records: Vec<MemoryRecord>) {
        let run = self.run(partition, records);
        self.core.handle_delivery(Delivery::Records(run));
    }

    fn deliver_rows(&mut self, partition: &TopicPartition, offsets: Range<i64>) {
        let records = offsets.map(|offset| record(partition, offset, SCHEMA_ID)).collect();
        self.deliver(partition, records);
    }

    fn deliver_end(&mut self, partition: &TopicPartition, offset: i64) {
        let follows = Offset(self.delivered.insert(partition.clone(), offset).unwrap());
        self.core.handle_delivery(Delivery::EndOfPartition {
            partition: partition.clone(),
            generation: GENERATION,
            follows,
            offset: Offset(offset),
        });
    }

    fn cut(&mut self, number: u64, forget: &[&TopicPartition]) {
        let forget = forget.iter().map(|&partition| partition.clone()).collect();
        self.core.handle_command(BatcherCommand::Cut { number, forget });
    }

    fn idle(&mut self) {
        self.clock.advance(self.core.idle_after());
        self.core.handle_idle();
    }

    /// Returns the events since the last call. Partial batches are moved to `parts`.
    fn events(&mut self) -> Vec<Short> {
        let events = mem::take(self.core.outbox());
        events.into_iter().map(|event| self.short(event)).collect()
    }

    fn short(&mut self, event: BatcherEvent) -> Short {
        match event {
            BatcherEvent::Opened => Short::Opened,
            BatcherEvent::Full => Short::Full,
            BatcherEvent::GoalReached(partition) => Short::Goal(partition.partition.0),
            BatcherEvent::PartialBatch(number, part) => {
                self.parts.push(part);
                Short::Cut(number)
            }
            BatcherEvent::StagingFailed(failed) => {
                let tables = failed.iter().map(|(table, _)| table.table.clone());
                Short::StagingFailed(tables.collect())
            }
            BatcherEvent::Registry { batcher, waits_for } => {
                assert_eq!(batcher, 4);
                Short::RegistryWait(waits_for.is_some())
            }
            BatcherEvent::ColumnsMissing { columns, .. } => {
                Short::ColumnsMissing(columns.into_iter().map(|column| column.name).collect())
            }
            BatcherEvent::BadRecord { offset, .. } => Short::BadRecord(offset.0),
            BatcherEvent::TooManyBadRecords { offset, .. } => Short::TooManyBadRecords(offset.0),
            BatcherEvent::Exhausted => Short::Exhausted,
        }
    }

    /// Returns the progress of the only partition in the newest partial batch.
    fn progress(&self) -> Option<(Range<i64>, Counts)> {
        let progress = &self.parts.last().unwrap().progress;
        assert!(progress.len() <= 1, "{progress:?}");
        progress.first().map(|delta| {
            let OffsetRange { from, to } = delta.range;
            (from.0..to.0, delta.counts)
        })
    }

    /// Returns tables and rows of the files in the newest partial batch.
    fn files(&self) -> Vec<(&str, u64)> {
        let files = &self.parts.last().unwrap().files;
        files.iter().map(|file| (&*file.table.table, file.rows)).collect()
    }
}

fn table(name: &str, shape: TableShape) -> Table {
    // A table with another column has another version.
    let changed_at = SnapshotId(i64::try_from(shape.columns.len()).unwrap());
    Table {
        version: TableVersion { table: name.parse().unwrap(), changed_at },
        shape,
        field_ids: FieldIds::default(),
        directory: PathBuf::from("/lake"),
        partitioning: Partitioning::default(),
        claim: None,
    }
}

/// Returns the route of a topic into the table of its name.
fn route(topic: &str, schema: &str) -> Arc<TopicRoute> {
    let shape = TableShape::from_avro(&AvroSchema::parse(schema).unwrap(), None).unwrap();
    let table_of_rows = table(topic, shape);
    let spec = SourceSpec::without_ids(table_of_rows.version.table.clone(), topic, "test");
    Arc::new(TopicRoute {
        topic: topic.into(),
        source: Source { id: SourceId(1), spec },
        table: table_of_rows,
        newest: NewestSchemas::default(),
        hints: ColumnHints::default(),
        dead_letters: Some(table(&format!("{topic}_dead_letters"), dead_letter_shape())),
        partition_by: None,
        dedupe: None,
    })
}

fn orders() -> TopicPartition {
    TopicPartition::new("orders", 2)
}

fn visits() -> TopicPartition {
    TopicPartition::new("visits", 0)
}

/// Returns a record whose value is the number 3, preceded by a schema id.
fn record(partition: &TopicPartition, offset: i64, schema_id: u8) -> MemoryRecord {
    let mut payload = vec![0, 0, 0, 0, schema_id, 6];
    if schema_id == WIDER_ID {
        payload.push(0);
    }
    MemoryRecord::new(partition, offset, Some(&payload))
}

fn rows(count: i64) -> Counts {
    Counts { rows: count, ..Counts::default() }
}

#[test]
fn a_cut_returns_all_records_since_the_previous_one() {
    let orders = orders();
    let mut fixture = Fixture::new().begin(&[&orders]);
    let mut records: Vec<_> = (0..3).map(|offset| record(&orders, offset, SCHEMA_ID)).collect();
    records.push(MemoryRecord::new(&orders, 3, None));
    records.push(MemoryRecord::new(&orders, 4, Some(b"?")));
    records.push(record(&orders, 5, SCHEMA_ID));

    fixture.deliver(&orders, records);
    fixture.deliver_rows(&orders, 6..7);
    assert_eq!((fixture.events(), fixture.in_flight.records()), (vec![Short::Opened], 0));
    fixture.cut(1, &[]);
    assert_eq!(fixture.events(), [Short::Cut(1)]);

    let counts = Counts { rows: 5, dead: 1, tombstones: 1, ..Counts::default() };
    assert_eq!(fixture.progress(), Some((0..7, counts)));
    assert_eq!(fixture.files(), [("orders", 5), ("orders_dead_letters", 1)]);
    let part = &fixture.parts[0];
    assert_eq!(part.progress[0].epoch, Epoch(3));
    assert_eq!(part.schema_ids[&SourceId(1)], [1].into());
    assert_eq!(part.table_versions.len(), 2);

    fixture.cut(2, &[]);
    assert_eq!((fixture.events(), fixture.progress()), (vec![Short::Cut(2)], None));
}

#[test]
fn a_batch_opens_again_after_its_cut() {
    let orders = orders();
    let mut fixture = Fixture::new().begin(&[&orders]);
    for number in 0..3 {
        let first = i64::try_from(number).unwrap() * 10;
        fixture.deliver_rows(&orders, first..first + 5);
        fixture.deliver_rows(&orders, first + 5..first + 10);
        fixture.cut(number, &[]);

        assert_eq!(fixture.events(), [Short::Opened, Short::Cut(number)]);
        assert_eq!(fixture.progress(), Some((first..first + 10, rows(10))));
    }
}

#[test]
fn a_full_batcher_accepts_no_deliveries_until_the_cut() {
    let orders = orders();
    let mut fixture = Fixture::with(BatchLimits { rows: 5, ..LARGE }, None, &[]).begin(&[&orders]);
    fixture.deliver_rows(&orders, 0..4);
    assert!(fixture.core.accepts_deliveries());

    fixture.deliver_rows(&orders, 4..8);
    assert_eq!(fixture.events(), [Short::Opened, Short::Full]);
    assert!(!fixture.core.accepts_deliveries());

    fixture.cut(1, &[]);
    assert!(fixture.core.accepts_deliveries() && !fixture.core.resume());
    assert_eq!(
        (fixture.events(), fixture.progress()),
        (vec![Short::Cut(1)], Some((0..8, rows(8))))
    );
}

#[test]
fn a_run_that_exceeds_the_memory_continues_after_each_cut() {
    let orders = orders();
    let mut fixture = Fixture::with(SMALL, None, &[]).begin(&[&orders]);
    let mut next = 0;

    fixture.deliver_rows(&orders, 0..1000);
    for number in 1..4 {
        assert_eq!(fixture.events(), [Short::Opened, Short::Full]);
        assert!(!fixture.core.accepts_deliveries() && !fixture.core.resume());
        fixture.idle();
        assert_eq!((fixture.events(), fixture.in_flight.records()), (vec![], 1000));

        fixture.cut(number, &[]);
        assert_eq!(fixture.events(), [Short::Cut(number)]);
        let (range, counts) = fixture.progress().unwrap();
        assert_eq!((range.start, counts), (next, rows(range.end - next)));
        next = range.end;
        assert!(!fixture.core.accepts_deliveries(), "the rest of the run comes first");
        assert!(fixture.core.resume());
    }
    assert!(fixture.core.accepts_deliveries() && !fixture.core.resume());
    assert_eq!((fixture.events(), fixture.in_flight.records()), (vec![Short::Opened], 0));
    fixture.cut(4, &[]);
    fixture.events();
    assert_eq!(fixture.progress(), Some((next..1000, rows(1000 - next))));
}

#[test]
fn a_blocked_run_of_a_forgotten_partition_is_dropped() {
    let (orders, visits) = (orders(), visits());
    let mut fixture = Fixture::with(SMALL, None, &[]).begin(&[&orders, &visits]);
    fixture.deliver_rows(&orders, 0..1000);

    fixture.cut(1, &[&visits]);
    assert!(!fixture.core.accepts_deliveries());
    assert!(fixture.core.resume());
    fixture.cut(2, &[&orders]);

    assert!(!fixture.core.resume() && fixture.core.accepts_deliveries());
    assert_eq!(fixture.in_flight.records(), 0);
    let rest = fixture.run(&orders, vec![record(&orders, 1000, SCHEMA_ID)]);
    fixture.core.handle_delivery(Delivery::Records(rest));
    fixture.cut(3, &[]);
    fixture.events();
    assert_eq!((fixture.progress(), fixture.in_flight.records()), (None, 0));
}

#[test]
fn records_of_another_generation_are_dropped() {
    let orders = orders();
    let mut fixture = Fixture::new().begin(&[&orders]);
    let mut stale = fixture.run(&orders, vec![record(&orders, 0, SCHEMA_ID)]);
    stale.generation = Generation(7);

    fixture.core.handle_delivery(Delivery::Records(stale));
    fixture.core.handle_delivery(Delivery::EndOfPartition {
        partition: orders.clone(),
        generation: Generation(7),
        follows: Offset(1),
        offset: Offset(50),
    });
    let mut unknown = fixture.run(&orders, vec![record(&orders, 1, SCHEMA_ID)]);
    unknown.partition = visits();
    fixture.core.handle_delivery(Delivery::Records(unknown));
    fixture.cut(1, &[]);

    assert_eq!(fixture.events(), [Short::Cut(1)]);
    assert_eq!((fixture.progress(), fixture.in_flight.records()), (None, 0));
}

#[test]
#[should_panic(expected = "deliveries follow each other")]
fn a_delivery_that_was_lost_on_the_way_is_detected() {
    let orders = orders();
    let mut fixture = Fixture::new().begin(&[&orders]);
    drop(fixture.run(&orders, vec![record(&orders, 0, SCHEMA_ID)]));

    fixture.deliver_rows(&orders, 1..2);
}

#[test]
fn records_wait_for_an_unavailable_registry() {
    let orders = orders();
    let mut fixture = Fixture::new().begin(&[&orders]);
    *fixture.registry.is_unavailable.lock().unwrap() = true;

    fixture.deliver_rows(&orders, 0..3);
    assert_eq!(fixture.events(), [Short::RegistryWait(true)]);
    for requests in 2..50 {
        fixture.idle();
        assert_eq!(fixture.events(), [Short::RegistryWait(true)]);
        assert_eq!(*fixture.registry.requests.lock().unwrap(), requests);
        assert!(!fixture.core.accepts_deliveries());
    }
    // Records that are not decoded are not counted, not even as a gap.
    fixture.cut(1, &[]);
    assert_eq!((fixture.events(), fixture.progress()), (vec![Short::Cut(1)], None));

    *fixture.registry.is_unavailable.lock().unwrap() = false;
    fixture.idle();
    assert_eq!(fixture.events(), [Short::Opened, Short::RegistryWait(false)]);
    assert!(fixture.core.accepts_deliveries());
    fixture.deliver_end(&orders, 10);
    fixture.cut(2, &[]);
    fixture.events();

    let counts = Counts { rows: 3, gaps: 7, ..Counts::default() };
    assert_eq!(fixture.progress(), Some((0..10, counts)));
}

#[test]
fn a_run_is_cut_at_the_record_that_waits_for_its_schema() {
    let orders = orders();
    let mut fixture = Fixture::new().begin(&[&orders]);
    let ids = [SCHEMA_ID, SCHEMA_ID, UNKNOWN_ID, SCHEMA_ID];
    let records = (0..).zip(ids).map(|(offset, id)| record(&orders, offset, id)).collect();

    fixture.deliver(&orders, records);
    assert_eq!(fixture.events(), [Short::Opened, Short::RegistryWait(true)]);
    fixture.cut(1, &[]);
    fixture.events();
    assert_eq!(fixture.progress(), Some((0..2, rows(2))));

    // The second answer confirms that the schema does not exist.
    fixture.idle();
    assert_eq!(fixture.events(), [Short::Opened, Short::RegistryWait(false)]);
    fixture.cut(2, &[]);
    fixture.events();
    let counts = Counts { rows: 1, dead: 1, ..Counts::default() };
    assert_eq!(fixture.progress(), Some((2..4, counts)));
}

#[test]
fn an_unknown_schema_is_not_requested_for_each_record() {
    let orders = orders();
    let mut fixture = Fixture::new().begin(&[&orders]);
    let records = (0..500).map(|offset| record(&orders, offset, UNKNOWN_ID)).collect();

    fixture.deliver(&orders, records);
    fixture.idle();
    fixture.cut(1, &[]);
    fixture.events();

    let counts = Counts { dead: 500, ..Counts::default() };
    assert_eq!(fixture.progress(), Some((0..500, counts)));
    assert_eq!(*fixture.registry.requests.lock().unwrap(), 2);
}

#[test]
fn a_record_with_a_new_column_waits_for_a_reset() {
    let orders = orders();
    let mut fixture = Fixture::new().begin(&[&orders]);
    let wider = |offset| record(&orders, offset, WIDER_ID);

    fixture.deliver(&orders, vec![record(&orders, 0, SCHEMA_ID), wider(1), wider(2)]);
    let missing = Short::ColumnsMissing(vec!["more".to_owned()]);
    assert_eq!(fixture.events(), [Short::Opened, missing.clone()]);
    fixture.idle();
    assert_eq!(fixture.events(), [missing]);
    assert!(!fixture.core.accepts_deliveries());

    fixture.core.handle_command(BatcherCommand::Reset { shares: 1 });
    assert_eq!(fixture.events(), [Short::RegistryWait(false)]);
    assert_eq!(fixture.in_flight.records(), 0);
    fixture.begin_at(&orders, 0, WIDER, None);
    fixture.deliver(&orders, vec![record(&orders, 0, SCHEMA_ID), wider(1), wider(2)]);
    fixture.cut(1, &[]);

    assert_eq!(fixture.events(), [Short::Opened, Short::Cut(1)]);
    assert_eq!(fixture.progress(), Some((0..3, rows(3))));
}

#[test]
fn a_reset_drops_all_rows_and_partitions() {
    let (orders, visits) = (orders(), visits());
    let mut fixture = Fixture::with(SMALL, None, &[]).begin(&[&orders, &visits]);
    fixture.deliver_rows(&orders, 0..1000);
    assert_eq!(fixture.events(), [Short::Opened, Short::Full]);

    fixture.core.handle_command(BatcherCommand::Reset { shares: 1 });

    assert_eq!(fixture.area.0.lock().unwrap().abandoned, 1);
    assert!(fixture.core.accepts_deliveries() && !fixture.core.resume());
    fixture.deliver_rows(&orders, 1000..1001);
    fixture.deliver_rows(&visits, 0..1);
    fixture.cut(1, &[]);
    assert_eq!(fixture.events(), [Short::Cut(1)]);
    assert_eq!((fixture.progress(), fixture.in_flight.records()), (None, 0));
}

#[test]
fn a_file_that_cannot_be_written_drops_the_records_of_all_tables() {
    let (orders, visits) = (orders(), visits());
    let mut fixture = Fixture::with(SMALL, None, &[]).begin(&[&orders, &visits]);
    fixture.area.0.lock().unwrap().write_fails.insert("visits".to_owned());
    fixture.deliver_rows(&orders, 0..5);

    fixture.deliver_rows(&visits, 0..1000);
    let failed = Short::StagingFailed(vec!["visits".to_owned()]);
    assert_eq!(fixture.events(), [Short::Opened, failed]);
    assert_eq!(fixture.in_flight.records(), 0);

    fixture.deliver_rows(&orders, 5..6);
    fixture.cut(1, &[]);
    assert_eq!((fixture.events(), fixture.progress()), (vec![Short::Cut(1)], None));
}

#[test]
fn a_cut_with_an_unfinished_file_removes_the_finished_ones() {
    let (orders, visits) = (orders(), visits());
    let mut fixture = Fixture::new().begin(&[&orders, &visits]);
    fixture.area.0.lock().unwrap().finish_fails.insert("visits".to_owned());
    fixture.deliver_rows(&orders, 0..5);
    fixture.deliver_rows(&visits, 0..5);
    fixture.events();

    fixture.cut(1, &[]);

    assert_eq!(fixture.events(), [Short::StagingFailed(vec!["visits".to_owned()])]);
    let files = fixture.area.0.lock().unwrap();
    assert_eq!((&files.removed[..], files.abandoned), (&[PathBuf::from("/lake/orders/1")][..], 1));
}

#[test]
fn the_end_of_an_idle_partition_is_committed_after_a_while() {
    let orders = orders();
    let mut fixture = Fixture::new().begin(&[&orders]);
    fixture.deliver_rows(&orders, 0..3);
    fixture.cut(1, &[]);
    fixture.deliver_end(&orders, 8);
    fixture.events();

    let began = fixture.clock.now();
    while fixture.events().is_empty() {
        fixture.idle();
    }

    assert_eq!(fixture.clock.now() - began, IDLE_ADVANCE);
    fixture.cut(2, &[]);
    fixture.events();
    let counts = Counts { gaps: 5, ..Counts::default() };
    assert_eq!((fixture.progress(), fixture.files()), (Some((3..8, counts)), vec![]));
}

#[test]
fn a_goal_is_reached_by_the_end_of_the_partition() {
    let orders = orders();
    let mut fixture = Fixture::new();
    fixture.begin_at(&orders, 0, SCHEMA, Some(Offset(8)));
    fixture.deliver_rows(&orders, 0..3);
    fixture.cut(1, &[]);
    assert_eq!(fixture.events(), [Short::Opened, Short::Cut(1)]);

    fixture.deliver_end(&orders, 8);
    assert_eq!(fixture.events(), [Short::Opened, Short::Goal(2)]);
    fixture.deliver_end(&orders, 9);
    fixture.cut(2, &[]);

    assert_eq!(fixture.events(), [Short::Cut(2)]);
}

#[test]
fn a_bad_record_stops_the_batcher_before_it() {
    let orders = orders();
    let mut fixture = Fixture::with(LARGE, None, &["--on-bad-record", "stop"]).begin(&[&orders]);
    let bad = MemoryRecord::new(&orders, 1, Some(b"?"));

    fixture.deliver(&orders, vec![record(&orders, 0, SCHEMA_ID), bad]);
    assert_eq!(fixture.events(), [Short::Opened, Short::BadRecord(1)]);
    fixture.deliver_rows(&orders, 2..3);
    fixture.cut(1, &[]);
    fixture.events();

    assert_eq!(fixture.progress(), Some((0..1, rows(1))));
    assert_eq!(fixture.in_flight.records(), 0);
}

#[test]
fn too_many_dead_letters_stop_the_batcher() {
    let orders = orders();
    let mut fixture = Fixture::new().begin(&[&orders]);
    let bad = |offset| MemoryRecord::new(&orders, offset, Some(b"?"));
    let good = |offset| record(&orders, offset, SCHEMA_ID);
    let records = (0..850).map(good).chain((850..1000).map(bad)).collect();

    fixture.deliver(&orders, records);

    assert_eq!(fixture.events(), [Short::Opened, Short::TooManyBadRecords(950)]);
    fixture.deliver_rows(&orders, 1000..1001);
    assert_eq!((fixture.events(), fixture.in_flight.records()), (vec![], 0));
}

#[test]
fn no_more_rows_than_requested_are_accepted() {
    let orders = orders();
    let mut fixture = Fixture::with(LARGE, Some(3), &[]).begin(&[&orders]);
    let mut records: Vec<_> = (0..4).map(|offset| record(&orders, offset, SCHEMA_ID)).collect();
    records[1] = MemoryRecord::new(&orders, 1, Some(b"?"));
    fixture.deliver(&orders, records);
    assert_eq!(fixture.events(), [Short::Opened, Short::Exhausted]);

    fixture.deliver_rows(&orders, 4..9);
    fixture.cut(1, &[]);
    fixture.events();

    let counts = Counts { rows: 3, dead: 1, ..Counts::default() };
    assert_eq!(fixture.progress(), Some((0..4, counts)));
    let left = fixture.core.context.rows_left.as_ref().unwrap();
    assert_eq!(left.load(Ordering::Relaxed), 0);
}

#[test]
fn a_stopped_batcher_drops_its_blocked_run() {
    let orders = orders();
    let mut fixture = Fixture::new().begin(&[&orders]);
    *fixture.registry.is_unavailable.lock().unwrap() = true;
    fixture.deliver_rows(&orders, 0..3);
    fixture.events();

    fixture.core.handle_command(BatcherCommand::Stop);
    assert_eq!(fixture.events(), [Short::RegistryWait(false)]);
    fixture.deliver_rows(&orders, 3..4);
    fixture.cut(1, &[]);

    assert_eq!((fixture.events(), fixture.progress()), (vec![Short::Cut(1)], None));
    assert_eq!(fixture.in_flight.records(), 0);
}
