//! The ledger of one partition, followed entry by entry in the order of the commits.
//!
//! [`PartitionChain`] checks that each entry begins at the position to which the earlier ones led
//! (invariant I3), and adds up their counts. [`LiveRanges`] keeps the ranges that no replay took back. The
//! invariants, the model of the protocol, replays and `verify` follow the ledger with these two.

use std::collections::BTreeSet;

use crate::commit::{CommitKind, Counts};
use crate::invariants::LedgerEntry;
use crate::position::{Offset, OffsetRange, Position};

impl CommitKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Start, Self::Ingest, Self::Replay, Self::Skip, Self::Retry, Self::Discard];

    /// Returns the name in messages and in the ledger.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Ingest => "ingest",
            Self::Replay => "replay",
            Self::Skip => "skip",
            Self::Retry => "retry",
            Self::Discard => "discard",
        }
    }

    /// Returns the kind with a name; None for a name that this version does not know.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// An entry that does not continue the ledger of its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainBreak {
    /// The first entry of a partition is not its start.
    NotStarted,
    /// The partition was in another epoch, at this position.
    Epoch(Position),
    /// Offsets between this position and the entry are in no range.
    Gap(Position),
    /// The entry begins before this position, where the one before it ended; or it resolves a dead
    /// letter at or after it.
    Overlap(Position),
}

/// State of one partition after the entries followed so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionChain {
    end: Option<Position>,
    lowest: Option<Offset>,
    totals: Counts,
    resolved: BTreeSet<Offset>,
    entries: u64,
}

impl PartitionChain {
    /// Follows the next entry, and returns how it fails to continue the ones before it. Continues from
    /// the entry's own end, so that one break is reported once.
    pub fn follow(&mut self, entry: &LedgerEntry) -> Option<ChainBreak> {
        let found = self.break_before(entry);
        let OffsetRange { from, to } = entry.step.range;
        self.lowest = Some(self.lowest.unwrap_or(from).min(to));
        self.entries += 1;
        self.totals = self.totals.plus(entry.step.counts);
        if entry.kind.resolves_dead_letter() {
            self.resolved.insert(from);
            return found;
        }
        if entry.kind == CommitKind::Replay {
            self.resolved.split_off(&to);
        }
        self.end = Some(entry.after());
        found
    }

    fn break_before(&self, entry: &LedgerEntry) -> Option<ChainBreak> {
        let Some(end) = self.end else {
            return (entry.kind != CommitKind::Start).then_some(ChainBreak::NotStarted);
        };
        let (from, next) = (entry.step.range.from, end.next_offset);
        if entry.step.epoch != end.epoch {
            return Some(ChainBreak::Epoch(end));
        }
        if entry.kind.resolves_dead_letter() {
            return (from >= next).then_some(ChainBreak::Overlap(end));
        }
        match from.cmp(&next) {
            std::cmp::Ordering::Less => Some(ChainBreak::Overlap(end)),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(ChainBreak::Gap(end)),
        }
    }

    /// Returns the position to which the entries led; None before the partition was started.
    #[must_use]
    pub const fn end(&self) -> Option<Position> {
        self.end
    }

    /// Returns the range from the lowest offset that progress was ever at to its end.
    #[must_use]
    pub fn covered(&self) -> OffsetRange {
        let from = self.lowest.unwrap_or(Offset(0));
        OffsetRange { from, to: self.end.map_or(from, |end| end.next_offset) }
    }

    /// Returns the sums of the counts of all entries.
    #[must_use]
    pub const fn totals(&self) -> Counts {
        self.totals
    }

    /// Returns the offsets of resolved dead letters that no replay took back.
    #[must_use]
    pub const fn resolved(&self) -> &BTreeSet<Offset> {
        &self.resolved
    }

    /// Returns the number of entries followed.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.entries
    }
}

/// A range that no replay took back as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveRange {
    /// Offsets that are still in force.
    pub range: OffsetRange,
    /// Counts of these offsets, as far as the replay that cut the range counted them.
    pub counts: Counts,
    /// Counts of the whole range, before a replay cut it.
    pub committed: Counts,
    /// True if a replay removed the end of the range.
    pub is_cut: bool,
}

impl LiveRange {
    const fn contains(&self, offset: Offset) -> bool {
        self.range.from.0 <= offset.0 && offset.0 < self.range.to.0
    }
}

/// Ranges of one partition that no replay took back, in the order of their offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveRanges {
    ranges: Vec<LiveRange>,
    start: Option<Offset>,
    discarded: Vec<Offset>,
}

impl LiveRanges {
    /// Follows all entries of a partition.
    pub fn of(entries: impl IntoIterator<Item = LedgerEntry>) -> Self {
        let mut ranges = Self::default();
        for entry in entries {
            ranges.follow(&entry);
        }
        ranges
    }

    /// Follows the next entry.
    pub fn follow(&mut self, entry: &LedgerEntry) {
        let (range, counts) = (entry.step.range, entry.step.counts);
        match entry.kind {
            CommitKind::Start => self.start = self.start.or(Some(range.from)),
            CommitKind::Ingest | CommitKind::Skip => {
                if range.from < range.to {
                    let committed = counts;
                    self.ranges.push(LiveRange { range, counts, committed, is_cut: false });
                }
            }
            CommitKind::Replay => self.take_back(range.to, counts),
            CommitKind::Retry | CommitKind::Discard => {
                if entry.kind == CommitKind::Discard {
                    self.discarded.push(range.from);
                }
                let mut ranges = self.ranges.iter_mut();
                if let Some(found) = ranges.find(|found| found.contains(range.from)) {
                    found.counts = found.counts.plus(counts);
                    found.committed = found.committed.plus(counts);
                }
            }
        }
    }

    /// The counts of a replay are negative. Without those of the ranges that it took back as a whole
    /// they are the counts of the part that it cut off.
    fn take_back(&mut self, to: Offset, removed: Counts) {
        let mut rest = removed;
        self.discarded.retain(|offset| *offset < to);
        while let Some(found) = self.ranges.pop_if(|found| found.range.from >= to) {
            rest = rest.plus(found.counts);
        }
        if let Some(found) = self.ranges.last_mut().filter(|found| found.range.to > to) {
            found.range.to = to;
            found.counts = found.counts.plus(rest);
            found.is_cut = true;
        }
    }

    /// Returns the ranges.
    #[must_use]
    pub fn ranges(&self) -> &[LiveRange] {
        &self.ranges
    }

    /// Returns the range that an offset divides, if there is one.
    #[must_use]
    pub fn divided_by(&self, offset: Offset) -> Option<&LiveRange> {
        self.ranges.iter().find(|found| found.contains(offset) && found.range.from < offset)
    }

    /// Returns the first offset of the partition; None when it was never started.
    #[must_use]
    pub const fn start(&self) -> Option<Offset> {
        self.start
    }

    /// Returns the offsets of dead letters that were discarded.
    #[must_use]
    pub fn discarded(&self) -> &[Offset] {
        &self.discarded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::ProgressDelta;
    use crate::position::{Epoch, Partition, SourceId};

    fn entry(kind: CommitKind, epoch: i32, from: i64, to: i64) -> LedgerEntry {
        let counts = Counts { rows: to - from, ..Counts::default() };
        let range = OffsetRange { from: Offset(from), to: Offset(to) };
        let (source, partition, epoch) = (SourceId(1), Partition(0), Epoch(epoch));
        LedgerEntry { kind, step: ProgressDelta { source, partition, epoch, range, counts } }
    }

    fn position(epoch: i32, next_offset: i64) -> Position {
        Position { epoch: Epoch(epoch), next_offset: Offset(next_offset) }
    }

    fn breaks(entries: &[LedgerEntry]) -> Vec<ChainBreak> {
        let mut chain = PartitionChain::default();
        entries.iter().filter_map(|entry| chain.follow(entry)).collect()
    }

    #[test]
    fn names_of_kinds_are_those_of_messages() {
        for kind in CommitKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert_eq!(CommitKind::of_name(kind.as_str()), Some(kind));
        }
        assert_eq!(CommitKind::of_name("merge"), None);
    }

    #[test]
    fn each_break_is_reported_once() {
        use CommitKind::{Discard, Ingest, Replay, Start};
        let start = entry(Start, 0, 5, 5);
        assert_eq!(breaks(&[start, start, entry(Ingest, 0, 5, 9)]), []);
        assert_eq!(breaks(&[entry(Ingest, 0, 5, 9)]), [ChainBreak::NotStarted]);
        let gap = [start, entry(Ingest, 0, 7, 9), entry(Ingest, 0, 9, 12)];
        assert_eq!(breaks(&gap), [ChainBreak::Gap(position(0, 5))]);
        let overlap = [start, entry(Ingest, 0, 5, 9), entry(Ingest, 0, 8, 12)];
        assert_eq!(breaks(&overlap), [ChainBreak::Overlap(position(0, 9))]);
        let epoch = [start, entry(Ingest, 0, 5, 9), entry(Replay, 0, 9, 5), entry(Ingest, 0, 5, 9)];
        assert_eq!(breaks(&epoch), [ChainBreak::Epoch(position(1, 5))]);
        let beyond = [start, entry(Ingest, 0, 5, 9), entry(Discard, 0, 9, 9)];
        assert_eq!(breaks(&beyond), [ChainBreak::Overlap(position(0, 9))]);
    }

    #[test]
    fn a_replay_takes_back_ranges_and_resolutions() {
        use CommitKind::{Discard, Ingest, Replay, Start};
        let entries = [
            entry(Start, 0, 5, 5),
            entry(Ingest, 0, 5, 15),
            entry(Ingest, 0, 15, 25),
            entry(Discard, 0, 7, 7),
            entry(Discard, 0, 20, 20),
            entry(Replay, 0, 25, 12),
        ];
        let mut chain = PartitionChain::default();
        assert!(entries.iter().all(|entry| chain.follow(entry).is_none()));
        assert_eq!(chain.end(), Some(position(1, 12)));
        assert_eq!(chain.covered(), OffsetRange { from: Offset(5), to: Offset(12) });
        assert_eq!(chain.resolved().iter().collect::<Vec<_>>(), [&Offset(7)]);
        assert_eq!((chain.totals().rows, chain.entries()), (7, 6));

        let live = LiveRanges::of(entries);
        assert_eq!((live.start(), live.discarded()), (Some(Offset(5)), &[Offset(7)][..]));
        let [cut] = live.ranges() else { panic!("{live:?}") };
        assert_eq!((cut.range.to, cut.is_cut), (Offset(12), true));
        assert_eq!((cut.counts.rows, cut.committed.rows), (7, 10));
        assert_eq!(live.divided_by(Offset(8)), Some(cut));
        assert_eq!((live.divided_by(Offset(5)), live.divided_by(Offset(12))), (None, None));
    }
}
