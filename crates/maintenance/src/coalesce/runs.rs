//! Which ranges of the ledger become one. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ducktide_protocol::commit::Counts;
use ducktide_protocol::position::{Epoch, Offset, OffsetRange, Partition, SnapshotId, SourceId};
use jiff::Timestamp;

const SECONDS_A_DAY: i64 = 86_400;

/// One partition of one source.
type Key = (SourceId, Partition);

/// A row of `ducktide_ledger`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LedgerRange {
    pub(super) id: i64,
    pub(super) source: SourceId,
    pub(super) partition: Partition,
    pub(super) epoch: Epoch,
    pub(super) range: OffsetRange,
    /// None for progress without rows.
    pub(super) snapshot: Option<SnapshotId>,
    /// Whether it says what a worker wrote; all other kinds stay as they are.
    pub(super) is_ingest: bool,
    pub(super) counts: Counts,
    pub(super) committed_at: Timestamp,
}

impl LedgerRange {
    const fn key(&self) -> Key {
        (self.source, self.partition)
    }

    fn day(&self) -> i64 {
        self.committed_at.as_second().div_euclid(SECONDS_A_DAY)
    }

    /// The range together with the one before it.
    fn after(self, earlier: &Self) -> Self {
        let range = OffsetRange { from: earlier.range.from, to: self.range.to };
        let counts = earlier.counts.plus(self.counts);
        Self { range, counts, snapshot: self.snapshot.max(earlier.snapshot), ..self }
    }
}

/// From where on the ledger stays as it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizon {
    pub(super) older_than: Timestamp,
    pub(super) oldest_snapshot: SnapshotId,
}

impl Horizon {
    /// Whether nobody asks for the range by itself any more: it is old, and every snapshot that can
    /// be read has all of it.
    pub(super) fn is_behind(&self, range: &LedgerRange) -> bool {
        range.committed_at < self.older_than
            && range.snapshot.is_none_or(|snapshot| snapshot < self.oldest_snapshot)
    }
}

/// A range that takes in those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Coalesced {
    /// The newest of them, with the counts of all.
    pub(super) survivor: LedgerRange,
    /// The ids of the others.
    pub(super) absorbed: Vec<i64>,
}

/// Follows the ledger of all partitions, in the order of the commits.
pub(super) struct Coalescer {
    horizon: Horizon,
    replayed_to: BTreeSet<(SourceId, Partition, Offset)>,
    open: BTreeMap<Key, Coalesced>,
    /// Partitions that are past the horizon.
    closed: BTreeSet<Key>,
    finished: Vec<Coalesced>,
}

impl Coalescer {
    /// Nothing becomes one across an offset of `replayed_to`: a replay that took whole ranges back
    /// must not look as if it had cut one.
    pub(super) const fn new(
        horizon: Horizon,
        replayed_to: BTreeSet<(SourceId, Partition, Offset)>,
    ) -> Self {
        Self {
            horizon,
            replayed_to,
            open: BTreeMap::new(),
            closed: BTreeSet::new(),
            finished: Vec::new(),
        }
    }

    /// Takes the next range. The first one of a partition that is not behind the horizon ends the
    /// partition: clocks may go back, the order of the commits does not.
    pub(super) fn take(&mut self, range: LedgerRange) {
        let key = range.key();
        if self.closed.contains(&key) {
            return;
        }
        let run = self.open.remove(&key);
        if !self.horizon.is_behind(&range) {
            self.closed.insert(key);
            self.finish(run);
        } else if !range.is_ingest {
            self.finish(run);
        } else {
            let joined = self.join(run, range);
            self.open.insert(key, joined);
        }
    }

    fn join(&mut self, run: Option<Coalesced>, range: LedgerRange) -> Coalesced {
        match run {
            Some(run) if self.are_one(&run.survivor, &range) => {
                let Coalesced { survivor: earlier, mut absorbed } = run;
                absorbed.push(earlier.id);
                Coalesced { survivor: range.after(&earlier), absorbed }
            }
            other => {
                self.finish(other);
                Coalesced { survivor: range, absorbed: Vec::new() }
            }
        }
    }

    fn are_one(&self, earlier: &LedgerRange, later: &LedgerRange) -> bool {
        let between = (later.source, later.partition, later.range.from);
        earlier.epoch == later.epoch
            && earlier.day() == later.day()
            && earlier.range.to == later.range.from
            && !self.replayed_to.contains(&between)
    }

    fn finish(&mut self, run: Option<Coalesced>) {
        self.finished.extend(run.filter(|run| !run.absorbed.is_empty()));
    }

    /// What has become one so far. Runs go on: a survivor may itself be absorbed later.
    pub(super) fn flush(&mut self) -> Vec<Coalesced> {
        let mut flushed = std::mem::take(&mut self.finished);
        for run in self.open.values_mut().filter(|run| !run.absorbed.is_empty()) {
            let absorbed = std::mem::take(&mut run.absorbed);
            flushed.push(Coalesced { survivor: run.survivor.clone(), absorbed });
        }
        flushed
    }
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
