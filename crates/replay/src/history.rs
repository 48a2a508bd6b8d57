//! Counts of the ranges that a replay takes back, from the ledger of a partition. Pure.
//!
//! Ranges wholly at or after the replay's offset are taken back as the ledger counted them, so that its
//! sums are right again even where another client lost or duplicated rows. Of the range that the
//! offset divides, only the tables know which records are at or after it.

use ducktide_protocol::commit::Counts;
use ducktide_protocol::invariants::LedgerEntry;
use ducktide_protocol::ledger::{LiveRange, LiveRanges};
use ducktide_protocol::position::{Offset, OffsetRange};
use thiserror::Error;

/// The ranges of one partition that no replay took back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History(LiveRanges);

/// Rows of the tables at and after the offset of a replay, within the range that it divides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DividedRows {
    pub(super) rows: i64,
    /// Dead letters without a resolution.
    pub(super) dead: i64,
}

/// Tables and ledger that disagree about the range that a replay would divide.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "the table and the ledger disagree about the range that this offset divides; replay from the start \
     of the range, which needs no counting: range_from=`{}` range_to=`{}` rows=`{}` dead=`{}`",
    range.from, range.to, found.rows, found.dead
)]
pub(super) struct DividedRangeDiffers {
    range: OffsetRange,
    found: DividedRows,
}

impl History {
    /// Follows the entries of a ledger in the order of their commits.
    pub(super) fn of(entries: &[LedgerEntry]) -> Self {
        Self(LiveRanges::of(entries.iter().copied()))
    }

    /// Returns the partition's first offset; None when it was never started.
    pub(super) const fn start(&self) -> Option<Offset> {
        self.0.start()
    }

    /// Returns the part of a range that a replay to `to` cuts off, if it divides one.
    pub(super) fn part_cut_off(&self, to: Offset) -> Option<OffsetRange> {
        let divided = self.0.divided_by(to)?;
        Some(OffsetRange { from: to, to: divided.range.to })
    }

    /// Returns the part of such a range that the replay leaves, and the counts of the whole range.
    pub(super) fn part_left(&self, to: Offset) -> Option<(OffsetRange, Counts)> {
        let divided = self.0.divided_by(to)?;
        Some((OffsetRange { from: divided.range.from, to }, divided.counts))
    }

    /// Returns the counts of a replay to `to`: all negative or zero, in sum the number of offsets taken
    /// back.
    pub(super) fn removed(
        &self,
        to: Offset,
        found: DividedRows,
    ) -> Result<Counts, DividedRangeDiffers> {
        let whole = self.0.ranges().iter().filter(|live| live.range.from >= to);
        let whole = whole.fold(Counts::default(), |total, live| total.plus(live.counts));
        let divided = self.0.divided_by(to);
        let divided = divided.map(|live| self.counts_after(live, to, found)).transpose()?;
        Ok(negative(whole.plus(divided.unwrap_or_default())))
    }

    /// Returns the counts at and after `to` in the range that it divides. The ledger does not record
    /// which offsets without a row are gaps, tombstones or duplicates: those that the tables do not
    /// have are assigned to the kinds that the range has.
    fn counts_after(
        &self,
        divided: &LiveRange,
        to: Offset,
        found: DividedRows,
    ) -> Result<Counts, DividedRangeDiffers> {
        let (range, all) = (divided.range, divided.counts);
        let is_cut_off = |offset: &&Offset| (to..range.to).contains(*offset);
        let discarded = self.0.discarded().iter().filter(is_cut_off).count();
        let discarded = discarded.try_into().unwrap_or(i64::MAX);
        let mut rest = range.to.0 - to.0 - found.rows - found.dead - discarded;
        let mut take = |available: i64| {
            let taken = available.min(rest).max(0);
            rest -= taken;
            taken
        };
        let (gaps, tombstones) = (take(all.gaps), take(all.tombstones));
        let duplicates = take(all.duplicates);
        // A skipped range is given up as a whole; discarded dead letters were counted above.
        let given_up = take(all.given_up - discarded) + discarded;
        let fits = rest == 0 && found.rows <= all.rows && found.dead <= all.dead;
        if !fits || discarded > all.given_up {
            return Err(DividedRangeDiffers { range, found });
        }
        let DividedRows { rows, dead } = found;
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
