//! Steps of a replay: the partitions that go back, and their checks. Pure.

use ducktide_protocol::commit::{Counts, ProgressDelta};
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::{Offset, OffsetRange, Partition, Position, SourceId};
use thiserror::Error;

use super::history::{DividedRangeDiffers, DividedRows, History};

/// Counts of a replay that cannot be determined. A retry does not help.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum NotCountable {
    #[error(transparent)]
    DividedRangeDiffers(#[from] DividedRangeDiffers),
    /// The ranges of the ledger are not continuous, because it or progress was edited by hand.
    #[error(
        "the partition's ledger is broken, so a replay cannot count what it takes back: `ducktide \
         verify` names the break; no command repairs a ledger: restore the catalog, or fill another \
         table with `ducktide replay --into` and use that: partition=`{partition}` \
         offsets_back=`{offsets}` records_counted=`{counted}`"
    )]
    LedgerBroken { partition: Partition, offsets: i64, counted: i64 },
}

/// One partition of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReplayStep {
    pub(super) partition: Partition,
    pub(super) position: Position,
    pub(super) to: Offset,
    pub(super) history: History,
}

impl ReplayStep {
    /// Checks an offset against the position of the partition; None when it is there already.
    pub(super) fn new(
        partition: Partition,
        position: Option<Position>,
        to: Offset,
        history: History,
    ) -> Result<Option<Self>> {
        let (Some(position), Some(start)) = (position, history.start()) else {
            return Err(LakeError::invalid(format!(
                "the lake has no such partition: partition=`{partition}`"
            )));
        };
        let next = position.next_offset;
        if to > next {
            return Err(LakeError::invalid(format!(
                "the lake is not there yet; a replay goes back: partition=`{partition}` \
                 offset=`{to}` next_offset=`{next}`"
            )));
        }
        if to < start {
            return Err(LakeError::invalid(format!(
                "the table begins later; fill another one from there with --into: \
                 partition=`{partition}` offset=`{to}` first_offset=`{start}`"
            )));
        }
        Ok((to < next).then_some(Self { partition, position, to, history }))
    }

    /// Returns the part of a range whose rows must be counted in the tables.
    pub(super) fn cut(&self) -> Option<OffsetRange> {
        self.history.part_cut_off(self.to)
    }

    /// Returns the part of such a range that stays, and the counts of the whole range.
    pub(super) fn left(&self) -> Option<(OffsetRange, Counts)> {
        self.history.part_left(self.to)
    }

    /// Returns the step for the catalog.
    pub(super) fn delta(
        &self,
        source: SourceId,
        found: DividedRows,
    ) -> Result<ProgressDelta, NotCountable> {
        let range = OffsetRange { from: self.position.next_offset, to: self.to };
        let counts = self.history.removed(self.to, found)?;
        if counts.total() != range.len() {
            return Err(NotCountable::LedgerBroken {
                partition: self.partition,
                offsets: -range.len(),
                counted: -counts.total(),
            });
        }
        let (partition, epoch) = (self.partition, self.position.epoch);
        Ok(ProgressDelta { source, partition, epoch, range, counts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ducktide_protocol::commit::CommitKind;
    use ducktide_protocol::invariants::LedgerEntry;
    use ducktide_protocol::position::Epoch;

    fn step_to(to: i64) -> Result<Option<ReplayStep>> {
        let start = ProgressDelta {
            source: SourceId(1),
            partition: Partition(0),
            epoch: Epoch(0),
            range: OffsetRange { from: Offset(100), to: Offset(100) },
            counts: Counts::default(),
        };
        let history = History::of(&[LedgerEntry { kind: CommitKind::Start, step: start }]);
        let position = Position { epoch: Epoch(0), next_offset: Offset(200) };
        ReplayStep::new(Partition(0), Some(position), Offset(to), history)
    }

    #[test]
    fn a_replay_goes_back_at_most_to_the_start_of_the_table() {
        assert!(step_to(100).unwrap().is_some());
        assert!(step_to(200).unwrap().is_none(), "it is there already");
        assert!(step_to(201).unwrap_err().to_string().contains("a replay goes back"));
        assert!(step_to(99).unwrap_err().to_string().contains("--into"));
    }

    #[test]
    fn a_ledger_that_does_not_end_at_progress_is_refused_before_any_change() {
        let step = |next: i64| {
            let range = OffsetRange { from: Offset(100), to: Offset(150) };
            let counts = Counts { rows: 50, ..Counts::default() };
            let (source, partition, epoch) = (SourceId(1), Partition(0), Epoch(0));
            let step = ProgressDelta { source, partition, epoch, range, counts };
            let history = History::of(&[LedgerEntry { kind: CommitKind::Ingest, step }]);
            let position = Position { epoch, next_offset: Offset(next) };
            let step = ReplayStep { partition, position, to: Offset(100), history };
            step.delta(source, DividedRows::default())
        };

        assert_eq!(step(150).unwrap().counts.rows, -50);
        for (next, offsets) in [(120, 20), (200, 100)] {
            let broken =
                NotCountable::LedgerBroken { partition: Partition(0), offsets, counted: 50 };
            assert_eq!(step(next), Err(broken));
        }
    }

    #[test]
    fn an_unknown_partition_is_refused() {
        let error = ReplayStep::new(Partition(7), None, Offset(0), History::default()).unwrap_err();

        assert!(error.to_string().contains("no such partition: partition=`7`"));
    }
}
