//! Comparison of the lake with the logs.
//!
//! [`Oracle::check`] compares what the last commits added, record by record, and checks the named invariants
//! of the partitions that they touched. [`Oracle::check_all`] checks everything.

use std::collections::BTreeMap;

use ducktide_protocol::commit::{CommitKind, Counts};
use ducktide_protocol::invariants::{self, LedgerEntry, PartitionKey, Progress, RecordId};
use ducktide_protocol::position::Offset;

use super::cluster::Cluster;
use super::disk::StoredRow;
use super::lake::{LakeState, partition_of};
use super::log::{LogRecord, PartitionLog, Slot};
use super::payload::Payload;
use super::violation::Violation;

/// Length of the window of duplicates, microseconds.
pub(super) const DEDUPE_SPAN_MICROS: i64 = 10_000_000;

/// Expected and found outcome of the records of a schedule.
#[derive(Debug)]
pub(super) struct Oracle {
    pub(super) dedupes: bool,
}

impl Oracle {
    /// Checks what was committed since the last check.
    pub(super) fn check(&self, lake: &mut LakeState, cluster: &Cluster) -> Result<(), Violation> {
        for entry in std::mem::take(&mut lake.unchecked) {
            let key = (entry.step.source, entry.step.partition);
            if entry.kind == CommitKind::Ingest {
                self.check_ingest(lake, cluster, &entry)?;
            }
            check_partition(lake, key)?;
        }
        Ok(())
    }

    /// Checks the invariants of all partitions.
    pub(super) fn check_all(lake: &LakeState, cluster: &Cluster) -> Result<(), Violation> {
        let ledger: Vec<LedgerEntry> = lake.ledger.values().flatten().copied().collect();
        let named = |error: invariants::Violation| error.to_string();
        invariants::epoch_and_offset_move_only_by_cas(&ledger, &lake.progress).map_err(named)?;
        invariants::counts_add_up(&ledger).map_err(named)?;
        let rows = record_ids(&lake.rows);
        invariants::no_duplicate(&rows).map_err(named)?;
        invariants::nothing_beyond_progress(&rows, &lake.progress).map_err(named)?;
        let registered = lake.registered.iter().map(|path| path.display());
        invariants::no_file_registered_twice(registered).map_err(named)?;
        check_totals(lake)?;
        check_nothing_lost(lake, cluster)
    }

    /// Compares a committed range with the log.
    fn check_ingest(
        &self,
        lake: &LakeState,
        cluster: &Cluster,
        entry: &LedgerEntry,
    ) -> Result<(), Violation> {
        let step = entry.step;
        let key = (step.source, step.partition);
        let log = cluster.registered_log(&partition_of(lake, key));
        if step.range.to.0 > log.last_stable() {
            return Err(format!("a range beyond the last stable offset: {step:?}"));
        }
        let rows = lake.rows.get(&key).map_or(&[][..], Vec::as_slice);
        let dead = lake.dead_letters.get(&key).map_or(&[][..], Vec::as_slice);
        let within =
            |row: &&StoredRow| step.range.from.0 <= row.offset && row.offset < step.range.to.0;
        let found: BTreeMap<i64, i64> =
            rows.iter().filter(within).map(|row| (row.offset, row.id)).collect();
        let dead: Vec<i64> = dead.iter().filter(within).map(|row| row.offset).collect();
        let mut expected = Counts::default();
        for offset in step.range.from.0..step.range.to.0 {
            let at = RecordPlace { key, offset };
            let (row, dead) = (found.get(&offset), dead.contains(&offset));
            let is_duplicate =
                |record: &LogRecord| self.dedupes && is_duplicate(record, offset, rows);
            let outcome = outcome(log, offset, is_duplicate, row.is_some() || dead);
            at.compare(outcome, row.copied(), dead)?;
            outcome.count(&mut expected);
        }
        if expected != step.counts {
            return Err(format!("counts differ from the log: expected={expected:?} {step:?}"));
        }
        Ok(())
    }
}

/// The outcome that a record must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Row(i64),
    Dead,
    Duplicate,
    Tombstone,
    Gap,
}

impl Outcome {
    const fn count(self, counts: &mut Counts) {
        let count = match self {
            Self::Row(_) => &mut counts.rows,
            Self::Dead => &mut counts.dead,
            Self::Duplicate => &mut counts.duplicates,
            Self::Tombstone => &mut counts.tombstones,
            Self::Gap => &mut counts.gaps,
        };
        *count += 1;
    }
}

fn outcome(
    log: &PartitionLog,
    offset: i64,
    is_duplicate: impl Fn(&LogRecord) -> bool,
    was_read: bool,
) -> Outcome {
    let record = match log.slot(offset) {
        Some(Slot::Record(record)) => record,
        // It may have been read before it was compacted.
        Some(Slot::Compacted(record)) if was_read => record,
        _ => return Outcome::Gap,
    };
    match record.payload {
        Payload::Tombstone => Outcome::Tombstone,
        Payload::Row | Payload::WiderRow if is_duplicate(record) => Outcome::Duplicate,
        Payload::Row | Payload::WiderRow => Outcome::Row(record.id),
        _ => Outcome::Dead,
    }
}

/// Returns whether an earlier row within the window has the same event.
fn is_duplicate(record: &LogRecord, offset: i64, rows: &[StoredRow]) -> bool {
    let before = || rows.iter().filter(|row| row.offset < offset);
    let time = record.timestamp_ms * 1000;
    let newest = before().map(|row| row.timestamp_micros).max().unwrap_or(time).max(time);
    before()
        .any(|row| row.event == record.event && row.timestamp_micros >= newest - DEDUPE_SPAN_MICROS)
}

#[derive(Clone, Copy)]
struct RecordPlace {
    key: PartitionKey,
    offset: i64,
}

impl RecordPlace {
    fn compare(self, expected: Outcome, row: Option<i64>, dead: bool) -> Result<(), Violation> {
        let fits = match expected {
            Outcome::Row(id) => row == Some(id) && !dead,
            Outcome::Dead => row.is_none() && dead,
            Outcome::Duplicate | Outcome::Tombstone | Outcome::Gap => row.is_none() && !dead,
        };
        if fits {
            return Ok(());
        }
        let Self { key: (source, partition), offset } = self;
        Err(format!(
            "a record with another outcome: source={source} partition={partition} offset={offset} \
             expected={expected:?} row={row:?} dead={dead}"
        ))
    }
}

/// Checks the named invariants of one partition.
fn check_partition(lake: &LakeState, key: PartitionKey) -> Result<(), Violation> {
    let named = |error: invariants::Violation| error.to_string();
    let ledger = lake.ledger.get(&key).map_or(&[][..], Vec::as_slice);
    let progress: Progress = lake.progress.get(&key).map(|at| (key, *at)).into_iter().collect();
    invariants::epoch_and_offset_move_only_by_cas(ledger, &progress).map_err(named)?;
    invariants::counts_add_up(&ledger[ledger.len().saturating_sub(1)..]).map_err(named)?;
    let rows = lake.rows.get(&key).map_or(&[][..], Vec::as_slice);
    let rows: Vec<_> = rows.iter().map(|row| record_id(key, row)).collect();
    invariants::no_duplicate(&rows).map_err(named)?;
    invariants::nothing_beyond_progress(&rows, &progress).map_err(named)
}

/// I3: the sums of the ledger are the live rows and dead letters.
fn check_totals(lake: &LakeState) -> Result<(), Violation> {
    for (key, ledger) in &lake.ledger {
        let totals =
            ledger.iter().fold(Counts::default(), |sum, entry| sum.plus(entry.step.counts));
        let count = |rows: &BTreeMap<PartitionKey, Vec<StoredRow>>| {
            i64::try_from(rows.get(key).map_or(0, Vec::len)).expect("a lake has few rows")
        };
        let (rows, dead) = (count(&lake.rows), count(&lake.dead_letters));
        if (totals.rows, totals.dead) != (rows, dead) {
            return Err(format!(
                "rows do not match the ledger: {key:?} {totals:?} rows={rows} dead={dead}"
            ));
        }
    }
    Ok(())
}

/// No record before the position of its partition is missing.
fn check_nothing_lost(lake: &LakeState, cluster: &Cluster) -> Result<(), Violation> {
    let mut wanted = Vec::new();
    for (key, position) in &lake.progress {
        let log = cluster.registered_log(&partition_of(lake, *key));
        let skipped = lake.skipped.get(key).map_or(&[][..], Vec::as_slice);
        let is_skipped =
            |offset: i64| skipped.iter().any(|range| range.from.0 <= offset && offset < range.to.0);
        // Which of equal events became a row was checked with its commit.
        let is_wanted = |offset: &i64| {
            !is_skipped(*offset)
                && matches!(log.slot(*offset), Some(Slot::Record(record))
                    if record.payload.is_row() && record.event == record.id)
        };
        let offsets = (0..position.next_offset.0).filter(is_wanted);
        wanted.extend(offsets.map(|offset| RecordId {
            source: key.0,
            partition: key.1,
            offset: Offset(offset),
        }));
    }
    invariants::no_loss(&wanted, &record_ids(&lake.rows), &lake.progress)
        .map_err(|error| error.to_string())
}

const fn record_id(key: PartitionKey, row: &StoredRow) -> RecordId {
    RecordId { source: key.0, partition: key.1, offset: Offset(row.offset) }
}

fn record_ids(rows: &BTreeMap<PartitionKey, Vec<StoredRow>>) -> Vec<RecordId> {
    let of_partition = |(key, rows): (&PartitionKey, &Vec<StoredRow>)| {
        rows.iter().map(|row| record_id(*key, row)).collect::<Vec<_>>()
    };
    rows.iter().flat_map(of_partition).collect()
}
