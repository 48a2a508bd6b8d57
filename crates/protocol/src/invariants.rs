//! Guarantee as predicates over the content of a lake: ledger, progress, rows, files.
//!
//! Pure, so that the model of the protocol, the tests on real services and `verify` use the same code.
//! Each names its invariant of the architecture page. They check one state: pass them ledger, progress
//! and rows of one snapshot.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::commit::{CommitKind, Counts, ProgressDelta};
use crate::ledger::{ChainBreak, PartitionChain};
use crate::position::{Epoch, Offset, Partition, Position, SourceId};

/// Partition of a source.
pub type PartitionKey = (SourceId, Partition);

/// Positions of all partitions.
pub type Progress = BTreeMap<PartitionKey, Position>;

/// Record of Kafka, and its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Table and topic.
    pub source: SourceId,
    /// Kafka's partition number.
    pub partition: Partition,
    /// Offset of the record.
    pub offset: Offset,
}

impl RecordId {
    const fn key(&self) -> PartitionKey {
        (self.source, self.partition)
    }
}

/// Row of `ducktide_ledger`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LedgerEntry {
    /// Rules that applied.
    pub kind: CommitKind,
    /// Step, with the epoch in which it was applied.
    pub step: ProgressDelta,
}

impl LedgerEntry {
    const fn key(&self) -> PartitionKey {
        (self.step.source, self.step.partition)
    }

    /// Returns the position of its partition after it.
    pub(crate) fn after(&self) -> Position {
        let epoch = self.step.epoch.0.saturating_add(i32::from(self.kind.begins_epoch()));
        Position { epoch: Epoch(epoch), next_offset: self.step.range.to }
    }

    /// Returns true if the counts have the sum and the signs of their kind.
    #[must_use]
    pub const fn counts_fit(&self) -> bool {
        let Counts { rows, dead, duplicates, tombstones, gaps, given_up } = self.step.counts;
        let length = self.step.range.len();
        let forward = rows >= 0 && dead >= 0 && duplicates >= 0 && tombstones >= 0 && gaps >= 0;
        let backward = rows <= 0 && dead <= 0 && duplicates <= 0 && tombstones <= 0 && gaps <= 0;
        self.step.counts.total() == length
            && match self.kind {
                CommitKind::Start => length == 0 && rows == 0 && dead == 0 && given_up == 0,
                CommitKind::Ingest => length > 0 && forward && given_up == 0,
                CommitKind::Replay => length < 0 && backward && given_up <= 0,
                CommitKind::Skip => length > 0 && given_up == length,
                CommitKind::Retry => length == 0 && rows == 1 && dead == -1,
                CommitKind::Discard => length == 0 && given_up == 1 && dead == -1,
            }
    }
}

/// Violation of the guarantee.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// Range of a partition without a first position.
    #[error("a range of a partition that was never started: {0:?}")]
    NotStarted(LedgerEntry),
    /// Range that does not start where the one before it ended.
    #[error("a range does not start at the position of progress: expected={expected:?} {entry:?}")]
    NotContiguous {
        /// Position after the partition's earlier ranges.
        expected: Position,
        /// The range.
        entry: LedgerEntry,
    },
    /// Counts of a range with the wrong sum or sign for its kind.
    #[error("counts do not add up: {0:?}")]
    CountMismatch(LedgerEntry),
    /// Progress that differs from the end of the ledger.
    #[error(
        "progress differs from the end of the ledger: {key:?} progress={progress:?} ledger={ledger:?}"
    )]
    ProgressMismatch {
        /// The partition.
        key: PartitionKey,
        /// Position in the table of progress.
        progress: Option<Position>,
        /// Position after the ledger's ranges.
        ledger: Option<Position>,
    },
    /// Number of rows that differs from the ledger.
    #[error("rows do not match the ledger: {key:?} rows={rows} ledger={ledger}")]
    RowCountMismatch {
        /// The partition.
        key: PartitionKey,
        /// Number of rows in the table.
        rows: i64,
        /// Sum over the ledger's ranges.
        ledger: i64,
    },
    /// Record that is in the table more than once.
    #[error("duplicate: {0:?}")]
    Duplicate(RecordId),
    /// Record before the next offset that is not in the table.
    #[error("lost: {0:?}")]
    Lost(RecordId),
    /// Row at or after the next offset, which will be read and written again.
    #[error("a row beyond progress: {0:?}")]
    BeyondProgress(RecordId),
    /// Data file with more than one row in the catalog.
    #[error("registered twice: file=`{0}`")]
    RegisteredTwice(String),
    /// Missing data file of the newest snapshot.
    #[error("missing: file=`{0}`")]
    FileMissing(String),
}

/// I2 and I3: in the ledger's order every range of a partition starts at the `(epoch, next_offset)` where
/// the one before it ended, and progress is at the end of the last one.
pub fn epoch_and_offset_move_only_by_cas(
    ledger: &[LedgerEntry],
    progress: &Progress,
) -> Result<(), Violation> {
    let mut chains: BTreeMap<PartitionKey, PartitionChain> = BTreeMap::new();
    for entry in ledger {
        match chains.entry(entry.key()).or_default().follow(entry) {
            None => {}
            Some(ChainBreak::NotStarted) => return Err(Violation::NotStarted(*entry)),
            Some(
                ChainBreak::Epoch(expected)
                | ChainBreak::Gap(expected)
                | ChainBreak::Overlap(expected),
            ) => {
                return Err(Violation::NotContiguous { expected, entry: *entry });
            }
        }
    }
    let keys: BTreeSet<_> = chains.keys().chain(progress.keys()).collect();
    for key in keys {
        let ledger = chains.get(key).and_then(PartitionChain::end);
        let progress = progress.get(key).copied();
        if ledger != progress {
            return Err(Violation::ProgressMismatch { key: *key, progress, ledger });
        }
    }
    Ok(())
}

/// I3: the counts of every range add up to its length, with the signs of its kind.
pub fn counts_add_up(ledger: &[LedgerEntry]) -> Result<(), Violation> {
    match ledger.iter().find(|entry| !entry.counts_fit()) {
        Some(entry) => Err(Violation::CountMismatch(*entry)),
        None => Ok(()),
    }
}

/// I1 and I3: for each partition the sum over all ranges is the number of live rows.
pub fn rows_conserved(ledger: &[LedgerEntry], rows: &[RecordId]) -> Result<(), Violation> {
    let mut balance: BTreeMap<PartitionKey, (i64, i64)> = BTreeMap::new();
    for entry in ledger {
        balance.entry(entry.key()).or_default().0 += entry.step.counts.rows;
    }
    for row in rows {
        balance.entry(row.key()).or_default().1 += 1;
    }
    match balance.into_iter().find(|(_, (ledger, rows))| ledger != rows) {
        Some((key, (ledger, rows))) => Err(Violation::RowCountMismatch { key, rows, ledger }),
        None => Ok(()),
    }
}

/// Guarantee, part "no duplicates": no record is in the table more than once.
pub fn no_duplicate(rows: &[RecordId]) -> Result<(), Violation> {
    let mut seen = BTreeSet::new();
    match rows.iter().find(|row| !seen.insert(**row)) {
        Some(row) => Err(Violation::Duplicate(*row)),
        None => Ok(()),
    }
}

/// Guarantee, part "no loss": every one of `records` before its partition's next offset is in the table.
/// `records` are those of the topic that must become rows.
pub fn no_loss(
    records: &[RecordId],
    rows: &[RecordId],
    progress: &Progress,
) -> Result<(), Violation> {
    let rows: BTreeSet<_> = rows.iter().collect();
    let passed = |record: &RecordId| {
        progress.get(&record.key()).is_some_and(|at| record.offset < at.next_offset)
    };
    match records.iter().find(|record| passed(record) && !rows.contains(record)) {
        Some(record) => Err(Violation::Lost(*record)),
        None => Ok(()),
    }
}

/// I1: no row is in the table before progress has passed it; it would be written again.
pub fn nothing_beyond_progress(rows: &[RecordId], progress: &Progress) -> Result<(), Violation> {
    let is_beyond =
        |row: &&RecordId| progress.get(&row.key()).is_none_or(|at| row.offset >= at.next_offset);
    match rows.iter().find(is_beyond) {
        Some(row) => Err(Violation::BeyondProgress(*row)),
        None => Ok(()),
    }
}

/// I6: no data file has more than one row in the catalog, including ended ones. Otherwise the cleanup of
/// the ended one removes the file of the live one.
pub fn no_file_registered_twice(
    registered: impl IntoIterator<Item = impl ToString>,
) -> Result<(), Violation> {
    let mut seen = BTreeSet::new();
    let mut names = registered.into_iter().map(|name| name.to_string());
    match names.find(|name| !seen.insert(name.clone())) {
        Some(name) => Err(Violation::RegisteredTwice(name)),
        None => Ok(()),
    }
}

/// I5, I10 and I11: every data file that the newest snapshot needs exists.
pub fn no_live_file_is_missing<N: ToString>(
    live: impl IntoIterator<Item = N>,
    is_there: impl Fn(&N) -> bool,
) -> Result<(), Violation> {
    match live.into_iter().find(|name| !is_there(name)) {
        Some(name) => Err(Violation::FileMissing(name.to_string())),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "invariants_tests.rs"]
mod tests;
