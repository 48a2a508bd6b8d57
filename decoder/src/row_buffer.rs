//! Rows of one table, column by column, on their way to a record batch.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Date32Array, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
    new_null_array,
};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use ducktide_lake::dead_letter::Header;
use ducktide_lake::dedupe::EventId;
use ducktide_lake::table::{
    ColumnType, EVENT_DATE, KAFKA_HEADERS, KAFKA_KEY, KAFKA_OFFSET, KAFKA_PARTITION,
    KAFKA_TIMESTAMP, KAFKA_TOPIC, ShapeError, TableShape, TimeUnit,
};

use super::{
    DecodeError, Key, arrow,
    builder::{ColumnBuilder, Primitives},
    calendar::{self, MICROS_PER_DAY},
    envelope::Envelope,
    record_columns,
    topics::Topics,
};

/// The first `event_date`: 1970-01-01, as days since then.
///
/// A timestamp that was never set, or is in the wrong unit, would otherwise open a folder and a file
/// for a date of its own for ever; rows outside of the window go where NULL dates go, and are counted.
pub const FIRST_EVENT_DATE: i32 = 0;

/// The last `event_date`: 2099-12-31. See [`FIRST_EVENT_DATE`]; both are fixed, not measured from
/// the clock, so that a replay puts every row where it was.
pub const LAST_EVENT_DATE: i32 = 47_481;

/// Rows of one table that are being decoded.
///
/// Bounded by its caller: [`Self::rows`] and [`Self::memory`] say when to [`Self::finish_batch`].
#[derive(Debug)]
pub struct RowBuffer {
    table: Arc<TableShape>,
    schema: SchemaRef,
    /// Which column of `columns`, or which of Ducktide's own, each of the table's columns is.
    layout: Vec<Slot>,
    /// The columns that records fill.
    columns: Vec<ColumnBuilder>,
    topics: Topics,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    timestamps: Primitives<i64>,
    envelope: Envelope,
    /// Where the timestamp lies that the dates are of, and its unit.
    partition_by: Option<(Slot, TimeUnit)>,
    /// The shape that the decoder of the last record was compiled for; equal to `table`.
    decoder_table: Arc<TableShape>,
    /// Avro bytes decoded since the last batch.
    datum_bytes: usize,
    /// Whether a record is decoded that `push_kafka` has not completed yet.
    row_is_open: bool,
    dates_outside_window: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Record(usize),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Headers,
    EventDate,
}

impl RowBuffer {
    /// An empty buffer. `partition_by` names the timestamp whose UTC date is the `event_date`; without it
    /// a column of that name is NULL, as it is another client's.
    pub fn new(table: Arc<TableShape>, partition_by: Option<&str>) -> Result<Self, ShapeError> {
        let layout = layout(&table);
        let partition_by = partition_slot(&table, &layout, partition_by)?;
        Ok(Self {
            schema: Arc::new(Schema::new(arrow::fields(&table))),
            columns: builders(&table, |_| (0, 0)),
            layout,
            topics: Topics::default(),
            partitions: Vec::new(),
            offsets: Vec::new(),
            timestamps: Primitives::new(0),
            envelope: Envelope::new(&table),
            partition_by,
            decoder_table: table.clone(),
            datum_bytes: 0,
            row_is_open: false,
            dates_outside_window: 0,
            table,
        })
    }

    /// The schema of the batches, the same for all of them.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many rows are complete.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.offsets.len()
    }

    /// The Avro bytes of these rows: cheaper to ask for every record than [`Self::memory`].
    #[must_use]
    pub fn datum_bytes(&self) -> usize {
        self.datum_bytes
    }

    /// The bytes that the buffer has allocated.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.columns.iter().map(ColumnBuilder::memory).sum::<usize>()
            + self.partitions.capacity() * size_of::<i32>()
            + self.offsets.capacity() * size_of::<i64>()
            + self.timestamps.memory()
            + self.envelope.memory()
    }

    /// How many rows, ever, had a timestamp whose date is outside of
    /// [`FIRST_EVENT_DATE`]..=[`LAST_EVENT_DATE`].
    #[must_use]
    pub fn dates_outside_window(&self) -> u64 {
        self.dates_outside_window
    }

    pub(super) fn open_row(&mut self, table: &Arc<TableShape>) -> &mut [ColumnBuilder] {
        assert!(!self.row_is_open, "a decoded record waits for push_kafka");
        if !Arc::ptr_eq(table, &self.decoder_table) {
            assert!(*table == self.table, "decoder and rows belong to different tables");
            self.decoder_table = table.clone();
        }
        &mut self.columns
    }

    pub(super) fn row_decoded(&mut self, datum_bytes: usize) {
        self.datum_bytes += datum_bytes;
        self.row_is_open = true;
    }

    /// Which of the columns that records fill has this name.
    #[must_use]
    pub fn record_column(&self, name: &str) -> Option<usize> {
        record_columns(&self.table).position(|column| column.is_named(name))
    }

    /// The id that the record which was decoded last has in such a column; None for NULL.
    ///
    /// # Panics
    /// If no record was decoded since the last row.
    #[must_use]
    pub fn open_id(&self, column: usize) -> Option<EventId> {
        assert!(self.row_is_open, "no record was decoded for the row");
        self.columns[column].last_id()
    }

    /// Forgets a record that was decoded, or failed half way.
    pub fn abandon_row(&mut self) {
        let rows = self.rows();
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
        self.envelope.truncate(rows);
        self.row_is_open = false;
    }

    /// Whether the table keeps headers.
    #[must_use]
    pub const fn wants_headers(&self) -> bool {
        self.envelope.wants_headers()
    }

    /// Adds key and headers to the record that was decoded last, as far as the table keeps them; after
    /// an error the record is forgotten.
    ///
    /// # Panics
    /// If no record was decoded since the last row.
    pub fn push_envelope(&mut self, key: Key<'_>, headers: &[Header]) -> Result<(), DecodeError> {
        assert!(self.row_is_open, "no record was decoded for the row");
        self.envelope.push(key, headers).inspect_err(|_| self.abandon_row())
    }

    /// Completes the row of the record that was decoded last.
    ///
    /// `timestamp_ms` is Kafka's, in milliseconds; NULL if it is unknown (Kafka has -1 then), or
    /// outside of the years 1 to 9999, as producers may set any number.
    ///
    /// # Panics
    /// If no record was decoded since the last row.
    #[inline]
    pub fn push_kafka(&mut self, topic: &str, partition: i32, offset: i64, timestamp_ms: i64) {
        assert!(self.row_is_open, "no record was decoded for the row");
        self.topics.push(topic);
        self.partitions.push(partition);
        self.offsets.push(offset);
        match calendar::timestamp_micros(timestamp_ms, TimeUnit::Millis) {
            Ok(micros) if timestamp_ms != -1 => self.timestamps.push(micros),
            _ => self.timestamps.push_null(),
        }
        self.envelope.complete(self.offsets.len());
        self.row_is_open = false;
    }

    /// Hands the rows over as a batch and starts over. The columns are those of [`Self::schema`].
    ///
    /// # Panics
    /// If a decoded record waits for its `push_kafka`.
    pub fn finish_batch(&mut self) -> Result<RecordBatch, ArrowError> {
        assert!(!self.row_is_open, "a decoded record waits for push_kafka");
        self.datum_bytes = 0;
        let dates = self.event_dates();
        let (rows, has_dates) = (self.rows(), self.partition_by.is_some());
        let sizes = self.columns.iter().map(|column| match column {
            // With a margin: the next batch is a little larger as often as not.
            ColumnBuilder::Bytes(bytes) => (column.len(), bytes.data.len() / 8 * 9),
            _ => (column.len(), 0),
        });
        let sizes = sizes.collect::<Vec<_>>();
        let empty = builders(&self.table, |index| sizes[index]);
        let mut filled = std::mem::replace(&mut self.columns, empty);
        let mut envelope = std::mem::replace(&mut self.envelope, Envelope::new(&self.table));
        let (layout, schema) = (self.layout.clone(), self.schema.clone());
        let columns = layout.into_iter().zip(schema.fields()).map(|(slot, field)| match slot {
            Slot::Record(index) => arrow::finish(&mut filled[index], field.data_type()),
            Slot::Key => envelope.finish_key(field.data_type()),
            Slot::Headers => envelope.finish_headers(field.data_type()),
            Slot::EventDate if !has_dates => Ok(new_null_array(field.data_type(), rows)),
            own => Ok(self.finish_own(own, &dates)),
        });
        let columns = columns.collect::<Result<_, _>>()?;
        RecordBatch::try_new(schema, columns)
    }

    fn finish_own(&mut self, slot: Slot, dates: &Date32Array) -> ArrayRef {
        match slot {
            Slot::Topic => self.topics.finish(),
            Slot::Partition => Arc::new(Int32Array::from(take(&mut self.partitions))),
            Slot::Offset => Arc::new(Int64Array::from(take(&mut self.offsets))),
            Slot::Timestamp => {
                let validity = self.timestamps.validity.finish();
                let values = take(&mut self.timestamps.values).into();
                let micros = TimestampMicrosecondArray::new(values, validity);
                Arc::new(micros.with_timezone(arrow::UTC))
            }
            Slot::EventDate => Arc::new(dates.clone()),
            Slot::Record(_) | Slot::Key | Slot::Headers => {
                unreachable!("these columns are finished by their builders")
            }
        }
    }

    /// The UTC dates of the rows' timestamps.
    fn event_dates(&mut self) -> Date32Array {
        let Some((slot, unit)) = self.partition_by else {
            return Date32Array::from(Vec::<i32>::new());
        };
        let timestamps = match slot {
            Slot::Record(index) => match &self.columns[index] {
                ColumnBuilder::Int64(timestamps) => timestamps,
                _ => unreachable!("timestamps are 64-bit numbers"),
            },
            _ => &self.timestamps,
        };
        let mut dates = Primitives::new(timestamps.values.len());
        let mut today = Today::new(unit);
        for (row, &timestamp) in timestamps.values.iter().enumerate() {
            match today.date_of(timestamp) {
                _ if timestamps.validity.is_null(row) => dates.push_null(),
                Some(date) => dates.push(date),
                None => {
                    self.dates_outside_window += 1;
                    dates.push_null();
                }
            }
        }
        Date32Array::new(dates.values.into(), dates.validity.finish())
    }
}

/// Finds the dates of timestamps that mostly are of the same day, without a division for each.
struct Today {
    unit: TimeUnit,
    day: std::ops::Range<i64>,
    date: Option<i32>,
}

impl Today {
    fn new(unit: TimeUnit) -> Self {
        Self { unit, day: 0..0, date: None }
    }

    #[inline]
    fn date_of(&mut self, timestamp: i64) -> Option<i32> {
        if !self.day.contains(&timestamp) {
            self.turn_to(timestamp);
        }
        self.date
    }

    fn turn_to(&mut self, timestamp: i64) {
        let per_day = match self.unit {
            TimeUnit::Millis => MICROS_PER_DAY / 1_000,
            TimeUnit::Micros => MICROS_PER_DAY,
            TimeUnit::Nanos => MICROS_PER_DAY * 1_000,
        };
        let days = timestamp.div_euclid(per_day);
        let start = days.saturating_mul(per_day);
        self.day = start..start.saturating_add(per_day);
        let in_window = |days: &i32| (FIRST_EVENT_DATE..=LAST_EVENT_DATE).contains(days);
        self.date = i32::try_from(days).ok().filter(in_window);
    }
}

/// Takes the values and leaves room for as many.
fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
}

/// Builders for the columns that records fill, each with room for rows and bytes.
fn builders(table: &TableShape, room: impl Fn(usize) -> (usize, usize)) -> Vec<ColumnBuilder> {
    let builders = record_columns(table).enumerate().map(|(index, column)| {
        let (rows, bytes) = room(index);
        ColumnBuilder::new(&column.column_type, rows, bytes)
    });
    builders.collect()
}

fn layout(table: &TableShape) -> Vec<Slot> {
    let mut record_columns = 0..;
    let slots = table.columns.iter().map(|column| match column {
        _ if column.is_named(KAFKA_TOPIC) => Slot::Topic,
        _ if column.is_named(KAFKA_PARTITION) => Slot::Partition,
        _ if column.is_named(KAFKA_OFFSET) => Slot::Offset,
        _ if column.is_named(KAFKA_TIMESTAMP) => Slot::Timestamp,
        _ if column.is_named(KAFKA_KEY) => Slot::Key,
        _ if column.is_named(KAFKA_HEADERS) => Slot::Headers,
        _ if column.is_named(EVENT_DATE) => Slot::EventDate,
        _ => Slot::Record(record_columns.next().expect("numbers do not end")),
    });
    slots.collect()
}

fn partition_slot(
    table: &TableShape,
    layout: &[Slot],
    partition_by: Option<&str>,
) -> Result<Option<(Slot, TimeUnit)>, ShapeError> {
    let Some(name) = partition_by else { return Ok(None) };
    table.check_partition_by(name)?;
    let refused = || ShapeError::PartitionBy { column: name.to_owned() };
    let index =
        table.columns.iter().position(|column| column.is_named(name)).ok_or_else(refused)?;
    let unit = match table.columns[index].column_type {
        ColumnType::TimestampNs => TimeUnit::Nanos,
        _ => TimeUnit::Micros,
    };
    Ok(Some((layout[index], unit)))
}
