//! Selection of the ledger rows that are coalesced. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ducktide_lake::catalog::ledger::LedgerRow;
use ducktide_protocol::commit::CommitKind;
use ducktide_protocol::invariants::PartitionKey;
use ducktide_protocol::position::{Offset, OffsetRange, SnapshotId};
use jiff::Timestamp;

const SECONDS_PER_DAY: i64 = 86_400;

/// Offsets to which replays went back, by partition.
pub(super) type ReplayTargets = BTreeSet<(PartitionKey, Offset)>;

/// Limit behind which the ledger is not changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizon {
    pub(super) older_than: Timestamp,
    pub(super) oldest_snapshot: SnapshotId,
}

impl Horizon {
    /// Returns whether a row is old and every readable snapshot has all of its range, so that no reader
    /// needs its commit.
    pub(super) fn is_before(&self, row: &LedgerRow) -> bool {
        row.committed_at < self.older_than
            && row.snapshot.is_none_or(|snapshot| snapshot < self.oldest_snapshot)
    }
}

/// Consecutive rows that become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CoalescedRows {
    /// The newest of them, with the range and the counts of all.
    pub(super) row: LedgerRow,
    /// IDs of the others, which are removed.
    pub(super) removed: Vec<i64>,
}

/// Fold over the ledger of all partitions, in the order of the commits.
pub(super) struct Coalescer {
    horizon: Horizon,
    replay_targets: ReplayTargets,
    open: BTreeMap<PartitionKey, CoalescedRows>,
    /// Partitions that have a row after the horizon.
    closed: BTreeSet<PartitionKey>,
    finished: Vec<CoalescedRows>,
}

impl Coalescer {
    /// Returns a coalescer that joins no rows across an offset of `replay_targets`: a replay that took
    /// back whole ranges must not look as if it had divided one.
    pub(super) const fn new(horizon: Horizon, replay_targets: ReplayTargets) -> Self {
        Self {
            horizon,
            replay_targets,
            open: BTreeMap::new(),
            closed: BTreeSet::new(),
            finished: Vec::new(),
        }
    }

    /// Adds the next row. The first one of a partition that is not before the horizon ends the
    /// partition: clocks may go back, the order of the commits does not.
    pub(super) fn push(&mut self, row: LedgerRow) {
        let key = row.key();
        if self.closed.contains(&key) {
            return;
        }
        let run = self.open.remove(&key);
        if !self.horizon.is_before(&row) {
            self.closed.insert(key);
            self.finish(run);
        } else if row.kind != Some(CommitKind::Ingest) {
            self.finish(run);
        } else {
            let run = self.extend(run, row);
            self.open.insert(key, run);
        }
    }

    fn extend(&mut self, run: Option<CoalescedRows>, row: LedgerRow) -> CoalescedRows {
        match run {
            Some(run) if self.can_join(&run.row, &row) => {
                let CoalescedRows { row: earlier, mut removed } = run;
                removed.push(earlier.ledger_id);
                CoalescedRows { row: join(&earlier, row), removed }
            }
            other => {
                self.finish(other);
                CoalescedRows { row, removed: Vec::new() }
            }
        }
    }

    fn can_join(&self, earlier: &LedgerRow, later: &LedgerRow) -> bool {
        let boundary = later.step.range.from;
        earlier.step.epoch == later.step.epoch
            && day(earlier) == day(later)
            && earlier.step.range.to == boundary
            && !self.replay_targets.contains(&(later.key(), boundary))
    }

    fn finish(&mut self, run: Option<CoalescedRows>) {
        self.finished.extend(run.filter(|run| !run.removed.is_empty()));
    }

    /// Returns the rows coalesced so far. The newest row of an open run may be joined to later ones.
    pub(super) fn flush(&mut self) -> Vec<CoalescedRows> {
        let mut flushed = std::mem::take(&mut self.finished);
        for run in self.open.values_mut().filter(|run| !run.removed.is_empty()) {
            let removed = std::mem::take(&mut run.removed);
            flushed.push(CoalescedRows { row: run.row, removed });
        }
        flushed
    }
}

fn day(row: &LedgerRow) -> i64 {
    row.committed_at.as_second().div_euclid(SECONDS_PER_DAY)
}

/// Returns the later row with the range and the counts of both.
fn join(earlier: &LedgerRow, mut later: LedgerRow) -> LedgerRow {
    later.step.range = OffsetRange { from: earlier.step.range.from, to: later.step.range.to };
    later.step.counts = earlier.step.counts.plus(later.step.counts);
    later.snapshot = later.snapshot.max(earlier.snapshot);
    later
}

#[cfg(test)]
#[path = "coalescer_tests.rs"]
mod tests;
