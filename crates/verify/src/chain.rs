//! The ledger of one partition, range by range in the order of their commits. Pure.
//!
//! Invariant I3: each range starts where the one before it ended, a replay goes backwards, and the
//! sums over all ranges are what is in the lake. A replay may end in the middle of a range; what it
//! takes back is counted in its own negative numbers, so the sums hold all the same.

use std::collections::BTreeSet;

use ducktide_protocol::commit::{CommitKind, Counts, ProgressDelta};
use ducktide_protocol::invariants::LedgerEntry;
use ducktide_protocol::position::{Epoch, Offset, Position, SnapshotId};

use super::finding::FindingKind;

/// One row of `ducktide_ledger`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LedgerRow {
    pub(super) ledger_id: i64,
    /// None for a kind that no Ducktide of this layout writes.
    pub(super) kind: Option<CommitKind>,
    pub(super) step: ProgressDelta,
    pub(super) snapshot: Option<SnapshotId>,
}

impl LedgerRow {
    const fn from(&self) -> i64 {
        self.step.range.from.0
    }

    const fn to(&self) -> i64 {
        self.step.range.to.0
    }

    /// Whether the row settles a dead letter, which moves no progress.
    fn resolves(&self) -> bool {
        self.kind.is_some_and(CommitKind::resolves_dead_letter)
    }

    fn is_replay(&self) -> bool {
        self.kind == Some(CommitKind::Replay)
    }

    /// Why the counts cannot be right. The table's constraints say the same, unless somebody dropped
    /// them.
    fn wrong_counts(&self) -> Option<String> {
        let (counted, length) = (self.step.counts.total(), self.step.range.len());
        if counted != length {
            return Some(format!(
                "counts {counted} records in a range of {length}: {}",
                self.describe()
            ));
        }
        let has_snapshot = self.snapshot.is_some() || !self.step.counts.needs_snapshot();
        let fits = |kind| LedgerEntry { kind, step: self.step }.counts_fit();
        let fits =
            self.from() >= 0 && self.to() >= 0 && has_snapshot && self.kind.is_some_and(fits);
        (!fits).then(|| format!("counts do not fit the kind of range: {}", self.describe()))
    }

    fn describe(&self) -> String {
        let kind = match self.kind {
            Some(kind) => format!("{kind:?}").to_lowercase(),
            None => "unknown kind".to_owned(),
        };
        let (id, epoch) = (self.ledger_id, self.step.epoch);
        format!("ledger_id {id}, {kind} {}..{} in epoch {epoch}", self.from(), self.to())
    }
}

/// Where a partition stands after the ranges seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// None before the first range.
    end: Option<Position>,
    /// The lowest offset that the lake ever was at: records below are none of its business.
    first: i64,
    /// The sums over all ranges.
    pub(super) totals: Counts,
    /// Dead letters that were settled and that no replay took back since.
    resolved: BTreeSet<i64>,
    /// How many ranges there are.
    pub(super) ranges: u64,
}

impl Chain {
    /// Takes the next range; says what is wrong with it. Goes on from the range's own end, so that
    /// one break is one finding.
    pub(super) fn follow(&mut self, row: &LedgerRow) -> Vec<(FindingKind, String)> {
        let mut wrong = Vec::new();
        if let Some(text) = row.wrong_counts() {
            wrong.push((FindingKind::LedgerCounts, text));
        }
        wrong.extend(self.break_before(row));
        self.first = if self.ranges == 0 { row.from() } else { self.first }.min(row.to());
        self.ranges += 1;
        self.totals = self.totals.plus(row.step.counts);
        if row.resolves() {
            self.resolved.insert(row.from());
            return wrong;
        }
        if row.is_replay() {
            self.resolved.split_off(&row.to());
        }
        let begins_epoch = row.kind.is_some_and(CommitKind::begins_epoch);
        let epoch = Epoch(row.step.epoch.0.saturating_add(i32::from(begins_epoch)));
        self.end = Some(Position { epoch, ..row.step.after() });
        wrong
    }

    fn break_before(&self, row: &LedgerRow) -> Option<(FindingKind, String)> {
        let Position { epoch, next_offset: Offset(next) } = self.end?;
        let text = |what: String| format!("{what}: {}", row.describe());
        if row.step.epoch != epoch {
            return Some((
                FindingKind::LedgerEpoch,
                text(format!("the partition was in epoch {epoch} at offset {next}")),
            ));
        }
        if row.resolves() {
            let beyond = row.from() >= next;
            return beyond.then(|| {
                let what = format!("a dead letter beyond offset {next} is settled");
                (FindingKind::LedgerOverlap, text(what))
            });
        }
        match row.from() - next {
            0 => None,
            gap @ 1.. => Some((
                FindingKind::LedgerGap,
                text(format!("{gap} offsets from {next} on are in no range")),
            )),
            _ => Some((
                FindingKind::LedgerOverlap,
                text(format!("the range before it ended at offset {next}")),
            )),
        }
    }

    /// None when the ledger has no range of the partition.
    pub(super) const fn end(&self) -> Option<Position> {
        self.end
    }

    /// The offsets that the lake has dealt with, half-open.
    pub(super) fn covered(&self) -> (i64, i64) {
        (self.first, self.end.map_or(self.first, |end| end.next_offset.0))
    }

    /// How many rows the dead-letter table has for this partition: one for each open letter, two
    /// for each settled one.
    pub(super) fn dead_letter_rows(&self) -> i64 {
        self.totals.dead + 2 * i64::try_from(self.resolved.len()).unwrap_or(i64::MAX / 4)
    }
}

/// A range that is in force: no replay took it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LiveRange {
    pub(super) from: i64,
    pub(super) to: i64,
    /// What became of its records; for a range that a replay cut, at most so many of each.
    pub(super) counts: Counts,
    /// Whether a replay took a part of the range back.
    pub(super) is_cut: bool,
}

impl LiveRange {
    /// Rows that must be there.
    pub(super) fn least_rows(&self) -> i64 {
        let others = self.counts.total() - self.counts.rows;
        if self.is_cut { (self.to - self.from - others).max(0) } else { self.counts.rows }
    }

    /// Records that are no rows, and of which the ledger knows why: all but gaps, which say that
    /// Kafka has no record.
    pub(super) const fn accounted(&self) -> i64 {
        self.counts.dead + self.counts.duplicates + self.counts.tombstones + self.counts.given_up
    }
}

/// The ranges of a partition that are in force, in the order of their offsets.
pub(super) fn live_ranges(rows: &[LedgerRow]) -> Vec<LiveRange> {
    let mut live: Vec<LiveRange> = Vec::new();
    for row in rows {
        if row.resolves() {
            let holds = |range: &&mut LiveRange| (range.from..range.to).contains(&row.from());
            if let Some(range) = live.iter_mut().find(holds) {
                range.counts = range.counts.plus(row.step.counts);
            }
            continue;
        }
        if row.is_replay() {
            take_back(&mut live, row.to());
        } else if row.to() > row.from() {
            let (from, to, counts) = (row.from(), row.to(), row.step.counts);
            live.push(LiveRange { from, to, counts, is_cut: false });
        }
    }
    live
}

fn take_back(live: &mut Vec<LiveRange>, to: i64) {
    live.retain(|range| range.from < to);
    if let Some(range) = live.iter_mut().find(|range| range.to > to) {
        range.to = to;
        range.is_cut = true;
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
