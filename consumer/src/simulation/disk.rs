//! Simulated disk for staged files. Rows are kept as numbers, so that they can be compared with the log.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array as _, RecordBatch};
use arrow_schema::{Schema, SchemaRef};
use ducktide_protocol::table::{KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TIMESTAMP, TableName};
use ducktide_protocol::{FileFooter, StagedFile, Table};

use super::payload::EVENT;
use crate::batch::staging::{ColumnHints, StagingError};
use crate::batch::staging_area::{RowWriter, StagingArea};

/// Row of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredRow {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Number of the record, and of its event; 0 in a dead letter.
    pub(super) id: i64,
    pub(super) event: i64,
    pub(super) timestamp_micros: i64,
}

#[derive(Debug, Default)]
pub(super) struct DiskState {
    files: BTreeMap<PathBuf, Vec<StoredRow>>,
    created: u64,
    /// Files of commits that were attempted.
    attempted: BTreeSet<PathBuf>,
    /// A file that was removed although a commit with it was attempted.
    removed_too_early: Option<PathBuf>,
    is_full: bool,
}

impl DiskState {
    pub(super) fn rows(&self, path: &Path) -> Option<&[StoredRow]> {
        self.files.get(path).map(Vec::as_slice)
    }

    pub(super) fn attempt(&mut self, file: &StagedFile) {
        if !self.attempted.contains(&file.path) {
            self.attempted.insert(file.path.clone());
        }
    }

    /// Returns a violation of I5.
    pub(super) fn removed_too_early(&self) -> Option<&Path> {
        self.removed_too_early.as_deref()
    }

    pub(super) const fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
    }

    fn remove(&mut self, path: &Path) {
        self.files.remove(path);
        if self.attempted.contains(path) {
            self.removed_too_early = Some(path.to_owned());
        }
    }

    /// Creates a file.
    pub(super) fn create(&mut self, table: &TableName, rows: Vec<StoredRow>) -> StagedFile {
        self.created += 1;
        let path = PathBuf::from(format!("/simulated/{table}/{}", self.created));
        let count = rows.len() as u64;
        self.files.insert(path.clone(), rows);
        let footer = FileFooter::default();
        StagedFile { path, table: table.clone(), rows: count, bytes: count * 100, footer }
    }
}

/// Handle to the disk; all processes have the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<DiskState>>);

impl Disk {
    pub(super) fn state(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn full() -> StagingError {
    StagingError::Create { path: "/simulated".into(), source: io::ErrorKind::StorageFull.into() }
}

impl StagingArea for Disk {
    type Writer = SimulatedWriter;

    fn open(
        &self,
        table: &Table,
        schema: SchemaRef,
        _: &ColumnHints,
    ) -> Result<SimulatedWriter, StagingError> {
        let columns = RowColumns::of(&schema);
        let table = table.version.table.clone();
        Ok(SimulatedWriter { disk: self.clone(), table, columns, rows: Vec::new() })
    }

    fn remove(&self, file: &StagedFile) {
        self.state().remove(&file.path);
    }
}

/// Indices of the columns that are kept.
#[derive(Clone, Copy, Debug)]
struct RowColumns {
    partition: usize,
    offset: usize,
    timestamp: usize,
    /// None in a dead-letter table.
    content: Option<(usize, usize)>,
}

impl RowColumns {
    fn of(schema: &Schema) -> Self {
        let index = |name: &str| schema.index_of(name).ok();
        let either = |row: &str, dead: &str| index(row).or(index(dead)).expect("a Kafka column");
        Self {
            partition: either(KAFKA_PARTITION, "partition"),
            offset: either(KAFKA_OFFSET, "offset"),
            timestamp: either(KAFKA_TIMESTAMP, "timestamp"),
            content: index("id").zip(index(EVENT)),
        }
    }
}

/// Writer of one file to the disk.
#[derive(Debug)]
pub(super) struct SimulatedWriter {
    disk: Disk,
    table: TableName,
    columns: RowColumns,
    rows: Vec<StoredRow>,
}

impl RowWriter for SimulatedWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), StagingError> {
        if self.disk.state().is_full {
            return Err(full());
        }
        let columns = &self.columns;
        let long = |index: usize| batch.column(index).as_primitive::<Int64Type>();
        let partitions = batch.column(columns.partition).as_primitive::<Int32Type>();
        let timestamps = batch.column(columns.timestamp).as_primitive::<TimestampMicrosecondType>();
        let offsets = long(columns.offset);
        let content = columns.content.map(|(id, event)| (long(id), long(event)));
        for row in 0..batch.num_rows() {
            let timestamp_micros =
                if timestamps.is_null(row) { i64::MIN } else { timestamps.value(row) };
            self.rows.push(StoredRow {
                partition: partitions.value(row),
                offset: offsets.value(row),
                id: content.map_or(0, |(ids, _)| ids.value(row)),
                event: content.map_or(0, |(_, events)| events.value(row)),
                timestamp_micros,
            });
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<StagedFile>, StagingError> {
        if self.rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut disk = self.disk.state();
        if disk.is_full {
            return Err(full());
        }
        Ok(vec![disk.create(&self.table, std::mem::take(&mut self.rows))])
    }

    fn abandon(&mut self) {
        self.rows.clear();
    }

    fn rows(&self) -> u64 {
        self.rows.len() as u64
    }

    fn bytes(&self) -> u64 {
        self.rows() * 100
    }

    fn memory(&self) -> usize {
        self.rows.len() * 100
    }

    fn is_scattered(&self) -> bool {
        false
    }
}
