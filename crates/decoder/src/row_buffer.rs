//! Buffered rows of one table, in columns, for the next record batch.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Date32Array, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
    new_null_array,
};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use ducktide_protocol::dead_letter::Header;
use ducktide_protocol::dedupe::EventId;
use ducktide_protocol::table::{
    Column, ColumnType, EVENT_DATE, KAFKA_HEADERS, KAFKA_KEY, KAFKA_OFFSET, KAFKA_PARTITION,
    KAFKA_TIMESTAMP, KAFKA_TOPIC, ShapeError, TableShape, TimeUnit,
};

use crate::arrow;
use crate::builder::{ColumnBuilder, Primitives};
use crate::calendar::{self, MICROS_PER_DAY};
use crate::error::DecodeError;
use crate::key::Key;
use crate::key_and_headers::KeyAndHeaders;
use crate::topics::TopicColumn;

/// Returns the columns that are filled from records.
pub(crate) fn record_columns(table: &TableShape) -> impl Iterator<Item = &Column> {
    table.columns.iter().filter(|column| !column.is_own())
}

/// First valid `event_date`: 1970-01-01, in days since then.
///
/// A timestamp that is not set or has the wrong unit would otherwise create a folder and a file for
/// its own date, permanently. Rows outside the window have a NULL date and are counted.
pub const FIRST_EVENT_DATE: i32 = 0;

/// Last valid `event_date`: 2099-12-31. Like [`FIRST_EVENT_DATE`] it is fixed, not relative to the
/// clock, so that a replay assigns every row the same date.
pub const LAST_EVENT_DATE: i32 = 47_481;

/// Decoded rows of one table.
///
/// The caller limits the size: it checks [`Self::rows`] and [`Self::memory`], and calls
/// [`Self::finish_batch`].
#[derive(Debug)]
pub struct RowBuffer {
    table: Arc<TableShape>,
    schema: SchemaRef,
    /// Source of each of the table's columns.
    layout: Vec<ColumnSource>,
    /// Columns filled from records.
    columns: Vec<ColumnBuilder>,
    topics: TopicColumn,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    timestamps: Primitives<i64>,
    key_and_headers: KeyAndHeaders,
    /// Source and unit of the timestamp that determines the date.
    partition_by: Option<(ColumnSource, TimeUnit)>,
    /// Shape that the decoder of the last record was compiled for; equal to `table`.
    decoder_table: Arc<TableShape>,
    /// Size of the Avro data decoded since the last batch, bytes.
    datum_bytes: usize,
    /// A record was decoded and not yet completed by `push_kafka`.
    row_is_open: bool,
    dates_outside_window: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ColumnSource {
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
    /// Creates an empty buffer. `partition_by` names the timestamp whose UTC date is the
    /// `event_date`; without it a column of that name is NULL, because it belongs to another
    /// client.
    pub fn new(table: Arc<TableShape>, partition_by: Option<&str>) -> Result<Self, ShapeError> {
        let layout = layout(&table);
        let partition_by = partition_slot(&table, &layout, partition_by)?;
        Ok(Self {
            schema: Arc::new(Schema::new(arrow::fields(&table))),
            columns: builders(&table, |_| (0, 0)),
            layout,
            topics: TopicColumn::default(),
            partitions: Vec::new(),
            offsets: Vec::new(),
            timestamps: Primitives::new(0),
            key_and_headers: KeyAndHeaders::new(&table),
            partition_by,
            decoder_table: table.clone(),
            datum_bytes: 0,
            row_is_open: false,
            dates_outside_window: 0,
            table,
        })
    }

    /// Returns the schema of all batches.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the number of complete rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.offsets.len()
    }

    /// Returns the size of the Avro data of these rows, bytes. Cheaper to call for every record
    /// than [`Self::memory`].
    #[must_use]
    pub fn datum_bytes(&self) -> usize {
        self.datum_bytes
    }

    /// Returns the allocated memory, bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.columns.iter().map(ColumnBuilder::memory).sum::<usize>()
            + self.partitions.capacity() * size_of::<i32>()
            + self.offsets.capacity() * size_of::<i64>()
            + self.timestamps.memory()
            + self.key_and_headers.memory()
    }

    /// Returns the number of rows since the buffer was created whose date is outside
    /// [`FIRST_EVENT_DATE`]..=[`LAST_EVENT_DATE`].
    #[must_use]
    pub fn dates_outside_window(&self) -> u64 {
        self.dates_outside_window
    }

    pub(super) fn open_row(&mut self, table: &Arc<TableShape>) -> &mut [ColumnBuilder] {
        assert!(!self.row_is_open, "the decoded record is not completed by push_kafka");
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

    /// Returns the index of the record column with this name.
    #[must_use]
    pub fn record_column(&self, name: &str) -> Option<usize> {
        record_columns(&self.table).position(|column| column.is_named(name))
    }

    /// Returns the id in this column of the record that was decoded last; None for NULL.
    ///
    /// # Panics
    /// If no record was decoded since the last row.
    #[must_use]
    pub fn last_event_id(&self, column: usize) -> Option<EventId> {
        assert!(self.row_is_open, "no record was decoded for the row");
        self.columns[column].last_id()
    }

    /// Discards a record that was decoded, completely or in part.
    pub fn abandon_row(&mut self) {
        let rows = self.rows();
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
        self.key_and_headers.truncate(rows);
        self.row_is_open = false;
    }

    /// Reports that the table has a column for headers.
    #[must_use]
    pub const fn wants_headers(&self) -> bool {
        self.key_and_headers.wants_headers()
    }

    /// Adds key and headers to the record that was decoded last, if the table has columns for them.
    /// After an error the record is discarded.
    ///
    /// # Panics
    /// If no record was decoded since the last row.
    pub fn push_key_and_headers(
        &mut self,
        key: Key<'_>,
        headers: &[Header],
    ) -> Result<(), DecodeError> {
        assert!(self.row_is_open, "no record was decoded for the row");
        self.key_and_headers.push(key, headers).inspect_err(|_| self.abandon_row())
    }

    /// Completes the row of the record that was decoded last.
    ///
    /// `timestamp_ms` is the Kafka timestamp in milliseconds. It becomes NULL if it is unknown (-1
    /// in Kafka) or outside the years 1 to 9999, because producers may set any number.
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
        self.key_and_headers.complete(self.offsets.len());
        self.row_is_open = false;
    }

    /// Returns the rows as a batch with the columns of [`Self::schema`] and starts an empty one.
    ///
    /// # Panics
    /// If a decoded record is not completed by `push_kafka`.
    pub fn finish_batch(&mut self) -> Result<RecordBatch, ArrowError> {
        assert!(!self.row_is_open, "the decoded record is not completed by push_kafka");
        self.datum_bytes = 0;
        let dates = self.event_dates();
        let (rows, has_dates) = (self.rows(), self.partition_by.is_some());
        let sizes = self.columns.iter().map(|column| match column {
            // With a margin, because the next batch is often a little larger.
            ColumnBuilder::Bytes(bytes) => (column.len(), bytes.data.len() / 8 * 9),
            _ => (column.len(), 0),
        });
        let sizes = sizes.collect::<Vec<_>>();
        let empty = builders(&self.table, |index| sizes[index]);
        let mut filled = std::mem::replace(&mut self.columns, empty);
        let mut key_and_headers =
            std::mem::replace(&mut self.key_and_headers, KeyAndHeaders::new(&self.table));
        let (layout, schema) = (self.layout.clone(), self.schema.clone());
        let columns = layout.into_iter().zip(schema.fields()).map(|(slot, field)| match slot {
            ColumnSource::Record(index) => arrow::finish(&mut filled[index], field.data_type()),
            ColumnSource::Key => key_and_headers.finish_key(field.data_type()),
            ColumnSource::Headers => key_and_headers.finish_headers(field.data_type()),
            ColumnSource::EventDate if !has_dates => Ok(new_null_array(field.data_type(), rows)),
            own => Ok(self.finish_own(own, &dates)),
        });
        let columns = columns.collect::<Result<_, _>>()?;
        RecordBatch::try_new(schema, columns)
    }

    fn finish_own(&mut self, slot: ColumnSource, dates: &Date32Array) -> ArrayRef {
        match slot {
            ColumnSource::Topic => self.topics.finish(),
            ColumnSource::Partition => Arc::new(Int32Array::from(take(&mut self.partitions))),
            ColumnSource::Offset => Arc::new(Int64Array::from(take(&mut self.offsets))),
            ColumnSource::Timestamp => {
                let validity = self.timestamps.validity.finish();
                let values = take(&mut self.timestamps.values).into();
                let micros = TimestampMicrosecondArray::new(values, validity);
                Arc::new(micros.with_timezone(arrow::UTC))
            }
            ColumnSource::EventDate => Arc::new(dates.clone()),
            ColumnSource::Record(_) | ColumnSource::Key | ColumnSource::Headers => {
                unreachable!("these columns are finished by their builders")
            }
        }
    }

    /// Returns the UTC dates of the rows' timestamps.
    fn event_dates(&mut self) -> Date32Array {
        let Some((slot, unit)) = self.partition_by else {
            return Date32Array::from(Vec::<i32>::new());
        };
        let timestamps = match slot {
            ColumnSource::Record(index) => match &self.columns[index] {
                ColumnBuilder::Int64(timestamps) => timestamps,
                _ => unreachable!("timestamps are 64-bit numbers"),
            },
            _ => &self.timestamps,
        };
        let mut dates = Primitives::new(timestamps.values.len());
        let mut today = DateCache::new(unit);
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

/// Cache of the current date: most timestamps are of the same day, so few need a division.
struct DateCache {
    unit: TimeUnit,
    day: std::ops::Range<i64>,
    date: Option<i32>,
}

impl DateCache {
    fn new(unit: TimeUnit) -> Self {
        Self { unit, day: 0..0, date: None }
    }

    #[inline]
    fn date_of(&mut self, timestamp: i64) -> Option<i32> {
        if !self.day.contains(&timestamp) {
            self.set_day(timestamp);
        }
        self.date
    }

    fn set_day(&mut self, timestamp: i64) {
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

/// Returns the values and reserves room for as many.
fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
}

/// Creates builders for the columns filled from records, with room for rows and bytes.
fn builders(table: &TableShape, room: impl Fn(usize) -> (usize, usize)) -> Vec<ColumnBuilder> {
    let builders = record_columns(table).enumerate().map(|(index, column)| {
        let (rows, bytes) = room(index);
        ColumnBuilder::new(&column.column_type, rows, bytes)
    });
    builders.collect()
}

fn layout(table: &TableShape) -> Vec<ColumnSource> {
    let mut record_columns = 0..;
    let slots = table.columns.iter().map(|column| match column {
        _ if column.is_named(KAFKA_TOPIC) => ColumnSource::Topic,
        _ if column.is_named(KAFKA_PARTITION) => ColumnSource::Partition,
        _ if column.is_named(KAFKA_OFFSET) => ColumnSource::Offset,
        _ if column.is_named(KAFKA_TIMESTAMP) => ColumnSource::Timestamp,
        _ if column.is_named(KAFKA_KEY) => ColumnSource::Key,
        _ if column.is_named(KAFKA_HEADERS) => ColumnSource::Headers,
        _ if column.is_named(EVENT_DATE) => ColumnSource::EventDate,
        _ => ColumnSource::Record(record_columns.next().expect("numbers do not end")),
    });
    slots.collect()
}

fn partition_slot(
    table: &TableShape,
    layout: &[ColumnSource],
    partition_by: Option<&str>,
) -> Result<Option<(ColumnSource, TimeUnit)>, ShapeError> {
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
