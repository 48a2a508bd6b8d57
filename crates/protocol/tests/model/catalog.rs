//! Catalog of the lake, and its data files.
//!
//! [`Catalog::apply`] is one DuckLake transaction with the triggers of `crates/lake/src/catalog/*.sql`:
//! `ducktide_once` checks the files, `ducktide_unpack` turns the message into ledger rows, and
//! `ducktide_advance` runs the compare-and-swap. A transaction that the database ends (a serialization
//! failure, a lock timeout, a restart) is a request that never arrives.

use std::fmt;

use ducktide_protocol::commit::{CommitKind, Counts, ProgressDelta};
use ducktide_protocol::invariants::{LedgerEntry, PartitionKey, Progress, RecordId};
use ducktide_protocol::position::{Epoch, Offset, OffsetRange, Partition, Position};

use crate::design::{Content, Design, Omission, PARTITIONS, SOURCE};

/// Name of a file: its writer and a number, as unique as the UUID in a real name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FileName {
    Worker {
        worker: usize,
        number: u8,
    },
    /// Rows that a replay retains of the files that it rewrites.
    Retained {
        number: u8,
    },
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker { worker, number } => write!(f, "{worker}-{number}"),
            Self::Retained { number } => write!(f, "retained-{number}"),
        }
    }
}

/// Batch of a worker: the steps, and the file with their rows. Without rows there is no file, and the
/// message goes through the mailbox, with the same effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Batch {
    pub(crate) name: FileName,
    pub(crate) kind: CommitKind,
    pub(crate) steps: Vec<ProgressDelta>,
    pub(crate) rows: Vec<RecordId>,
}

impl Batch {
    pub(crate) fn file(&self) -> Option<FileName> {
        (!self.rows.is_empty()).then_some(self.name)
    }
}

/// Row of `ducklake_data_file`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DataFile {
    pub(crate) name: FileName,
    pub(crate) rows: Vec<RecordId>,
    /// True if it is part of the newest snapshot.
    pub(crate) live: bool,
}

/// Transaction that was rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused;

/// State that all workers share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Catalog {
    pub(crate) progress: Progress,
    pub(crate) ledger: Vec<LedgerEntry>,
    pub(crate) files: Vec<DataFile>,
}

/// Returns the number of a new file. Real names are never reused; here the number of a file that left no
/// trace is, so that states do not differ only in names.
pub(crate) fn lowest_free(is_taken: impl Fn(u8) -> bool) -> u8 {
    (0..=u8::MAX).find(|number| !is_taken(*number)).expect("a model has few files")
}

pub(crate) fn key(partition: usize) -> PartitionKey {
    (SOURCE, Partition(i32::try_from(partition).expect("a model has few partitions")))
}

pub(crate) fn record(partition: usize, offset: i64) -> RecordId {
    let (source, partition) = key(partition);
    RecordId { source, partition, offset: Offset(offset) }
}

/// Returns the step over `range`, with the counts of the topic's content.
pub(crate) fn step(
    partition: usize,
    log: &[Content],
    epoch: Epoch,
    range: OffsetRange,
) -> ProgressDelta {
    let mut counts = Counts::default();
    for (offset, content) in (0..).zip(log) {
        if (range.from.0..range.to.0).contains(&offset) {
            match content {
                Content::Row => counts.rows += 1,
                Content::Tombstone => counts.tombstones += 1,
            }
        }
    }
    let (source, partition) = key(partition);
    ProgressDelta { source, partition, epoch, range, counts }
}

impl Catalog {
    /// Creates a lake with a registered source, all partitions at their beginning.
    pub(crate) fn new() -> Self {
        let at = Position { epoch: Epoch(0), next_offset: Offset(0) };
        let range = OffsetRange { from: Offset(0), to: Offset(0) };
        let start = |partition| LedgerEntry {
            kind: CommitKind::Start,
            step: step(partition, &[], Epoch(0), range),
        };
        Self {
            progress: (0..PARTITIONS).map(|partition| (key(partition), at)).collect(),
            ledger: (0..PARTITIONS).map(start).collect(),
            files: Vec::new(),
        }
    }

    pub(crate) fn position(&self, partition: usize) -> Position {
        self.progress[&key(partition)]
    }

    /// Returns the positions of the steps' partitions, as `transaction::read_progress` does.
    pub(crate) fn found(&self, steps: &[ProgressDelta]) -> Vec<Option<Position>> {
        let find =
            |step: &ProgressDelta| self.progress.get(&(step.source, step.partition)).copied();
        steps.iter().map(find).collect()
    }

    /// Returns true if a file has a row in the catalog, ended or not, as `catalog::registered_files` does.
    pub(crate) fn is_registered(&self, name: FileName) -> bool {
        self.files.iter().any(|file| file.name == name)
    }

    pub(crate) fn live_files(&self) -> impl Iterator<Item = &DataFile> {
        self.files.iter().filter(|file| file.live)
    }

    /// Applies a worker's transaction completely, or not at all.
    pub(crate) fn apply(&mut self, design: Design, batch: &Batch) -> Result<(), Refused> {
        let again = batch.file().is_some_and(|name| self.is_registered(name));
        if again && !design.has(Omission::NoOnceTrigger) {
            return Err(Refused);
        }
        let mut progress = self.progress.clone();
        for step in &batch.steps {
            compare_and_swap(design, &mut progress, batch.kind, step)?;
        }
        self.progress = progress;
        batch.steps.iter().for_each(|step| self.record(batch.kind, *step));
        self.register(batch.name, batch.rows.clone());
        Ok(())
    }

    /// Applies an operator's replay: removes the rows at and after `to`, by whole files or with their
    /// retained rows rewritten, and moves progress back into a new epoch.
    pub(crate) fn replay(&mut self, log: &[Content], partition: usize, to: Offset) {
        let Position { epoch, next_offset } = self.position(partition);
        let removed = step(partition, log, epoch, OffsetRange { from: to, to: next_offset });
        let Counts { rows, tombstones, .. } = removed.counts;
        let counts = Counts { rows: -rows, tombstones: -tombstones, ..Counts::default() };
        let range = OffsetRange { from: next_offset, to };
        self.record(CommitKind::Replay, ProgressDelta { range, counts, ..removed });
        let position = Position { epoch: Epoch(epoch.0 + 1), next_offset: to };
        self.progress.insert(key(partition), position);
        self.remove_rows(partition, to);
    }

    /// Adds a row to the ledger, sorted by partition: states that differ only in the order of partitions
    /// are equal.
    fn record(&mut self, kind: CommitKind, step: ProgressDelta) {
        self.ledger.push(LedgerEntry { kind, step });
        self.ledger.sort_by_key(|entry| entry.step.partition);
    }

    fn remove_rows(&mut self, partition: usize, to: Offset) {
        let (first, mut retained) = (record(partition, to.0), Vec::new());
        let goes = |row: &RecordId| row.partition == first.partition && row.offset >= to;
        for file in self.files.iter_mut().filter(|file| file.live && file.rows.iter().any(goes)) {
            file.live = false;
            retained.extend(file.rows.iter().copied().filter(|row| !goes(row)));
        }
        let number = lowest_free(|number| self.is_registered(FileName::Retained { number }));
        self.register(FileName::Retained { number }, retained);
    }

    fn register(&mut self, name: FileName, rows: Vec<RecordId>) {
        if !rows.is_empty() {
            self.files.push(DataFile { name, rows, live: true });
            self.files.sort_by_key(|file| file.name);
        }
    }
}

/// Applies the trigger `ducktide_advance`.
fn compare_and_swap(
    design: Design,
    progress: &mut Progress,
    kind: CommitKind,
    step: &ProgressDelta,
) -> Result<(), Refused> {
    let now = progress.get_mut(&(step.source, step.partition)).ok_or(Refused)?;
    let matches = design.has(Omission::NoCompareAndSwap)
        || now.next_offset == step.range.from
            && (now.epoch == step.epoch || design.has(Omission::NoEpochs));
    if !matches {
        return Err(Refused);
    }
    let epoch = Epoch(now.epoch.0 + i32::from(kind.begins_epoch()));
    *now = Position { epoch, next_offset: step.range.to };
    Ok(())
}
