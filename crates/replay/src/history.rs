//! What a partition's ledger says of the range that a replay takes out. Pure.
//!
//! Ranges that lie wholly behind the replay's offset are taken back as the ledger counted them, so
//! that its sums fit again even where somebody else lost or doubled rows. Of the range that the
//! offset cuts, only the tables know which records are behind it.

use ducktide_protocol::commit::{CommitKind, Counts};
use ducktide_protocol::invariants::LedgerEntry;
use ducktide_protocol::position::{Offset, OffsetRange};
use thiserror::Error;

/// A range that is in force, and what became of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    from: i64,
    to: i64,
    counts: Counts,
}

/// The ranges of one partition that no replay took back, in the order of their offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    ranges: Vec<Range>,
    /// The partition's first offset.
    start: Option<i64>,
    /// Dead letters that an operator gave up.
    discarded: Vec<i64>,
}

/// What the tables hold of the range that a replay cuts, at and behind its offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CutRows {
    pub(super) rows: i64,
    /// Letters without a resolution.
    pub(super) dead: i64,
}

/// Tables and ledger do not agree about the range that a replay would cut.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "the table and the ledger disagree about the range that this offset cuts; replay from its \
     beginning, which needs no counting: range_from=`{}` range_to=`{}` rows=`{}` dead=`{}`",
    range.from, range.to, found.rows, found.dead
)]
pub(super) struct CutDisagrees {
    range: OffsetRange,
    found: CutRows,
}

impl History {
    /// Follows the ledger's rows in the order of their commits.
    pub(super) fn of(entries: &[LedgerEntry]) -> Self {
        let mut history = Self::default();
        for entry in entries {
            history.follow(entry);
        }
        history
    }

    fn follow(&mut self, entry: &LedgerEntry) {
        let (from, to) = (entry.step.range.from.0, entry.step.range.to.0);
        match entry.kind {
            CommitKind::Start => self.start = self.start.or(Some(from)),
            CommitKind::Ingest | CommitKind::Skip => {
                self.ranges.push(Range { from, to, counts: entry.step.counts });
            }
            CommitKind::Replay => self.take_back(to, entry.step.counts),
            CommitKind::Retry | CommitKind::Discard => {
                if entry.kind == CommitKind::Discard {
                    self.discarded.push(from);
                }
                let holds = |range: &&mut Range| (range.from..range.to).contains(&from);
                if let Some(range) = self.ranges.iter_mut().find(holds) {
                    range.counts = range.counts.plus(entry.step.counts);
                }
            }
        }
    }

    /// What an earlier replay took out of the range that it cut is the rest of what it took out.
    fn take_back(&mut self, to: i64, removed: Counts) {
        let mut rest = removed;
        self.discarded.retain(|offset| *offset < to);
        while let Some(range) = self.ranges.pop_if(|range| range.from >= to) {
            rest = rest.plus(range.counts);
        }
        if let Some(range) = self.ranges.last_mut().filter(|range| range.to > to) {
            range.to = to;
            range.counts = range.counts.plus(rest);
        }
    }

    /// The partition's first offset; None when it was never started.
    pub(super) fn start(&self) -> Option<Offset> {
        self.start.map(Offset)
    }

    /// The part of a range that a replay to `to` cuts off, if it cuts one.
    pub(super) fn cut(&self, to: Offset) -> Option<OffsetRange> {
        let cut = self.ranges.iter().find(|range| range.from < to.0 && to.0 < range.to)?;
        Some(OffsetRange { from: to, to: Offset(cut.to) })
    }

    /// The part of such a range that the replay leaves, and the counts of the whole range.
    pub(super) fn left(&self, to: Offset) -> Option<(OffsetRange, Counts)> {
        let cut = self.ranges.iter().find(|range| range.from < to.0 && to.0 < range.to)?;
        Some((OffsetRange { from: Offset(cut.from), to }, cut.counts))
    }

    /// The counts of a replay to `to`: all negative or zero, and as many as offsets are taken back.
    pub(super) fn removed(&self, to: Offset, found: CutRows) -> Result<Counts, CutDisagrees> {
        let behind = self.ranges.iter().filter(|range| range.from >= to.0);
        let whole = behind.fold(Counts::default(), |total, range| total.plus(range.counts));
        let cut = self.ranges.iter().find(|range| range.from < to.0 && to.0 < range.to);
        let part = cut.map(|cut| self.part_of(cut, to.0, found)).transpose()?.unwrap_or_default();
        Ok(negative(whole.plus(part)))
    }

    /// What is behind `to` in the range that it cuts. Which of its offsets without a row are gaps,
    /// tombstones or duplicates is not recorded: what the tables do not have is shared out among the
    /// kinds that the range has.
    fn part_of(&self, cut: &Range, to: i64, found: CutRows) -> Result<Counts, CutDisagrees> {
        let all = cut.counts;
        let discarded = self.discarded.iter().filter(|offset| (to..cut.to).contains(*offset));
        let discarded = discarded.count().try_into().unwrap_or(i64::MAX);
        let mut rest = cut.to - to - found.rows - found.dead - discarded;
        let mut take = |available: i64| {
            let taken = available.min(rest).max(0);
            rest -= taken;
            taken
        };
        let (gaps, tombstones) = (take(all.gaps), take(all.tombstones));
        let duplicates = take(all.duplicates);
        // A skipped range is given up as a whole; discarded letters were counted above.
        let given_up = take(all.given_up - discarded) + discarded;
        let fits = rest == 0 && found.rows <= all.rows && found.dead <= all.dead;
        if !fits || discarded > all.given_up {
            let range = OffsetRange { from: Offset(cut.from), to: Offset(cut.to) };
            return Err(CutDisagrees { range, found });
        }
        let CutRows { rows, dead } = found;
        Ok(Counts { rows, dead, duplicates, tombstones, gaps, given_up })
    }
}

const fn negative(counts: Counts) -> Counts {
    Counts {
        rows: -counts.rows,
        dead: -counts.dead,
        duplicates: -counts.duplicates,
        tombstones: -counts.tombstones,
        gaps: -counts.gaps,
        given_up: -counts.given_up,
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
