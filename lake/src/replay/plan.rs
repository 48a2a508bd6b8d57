//! Which partitions go back, and whether they can. Pure.

use super::history::{CutDisagrees, CutRows, History};
use crate::commit::ProgressDelta;
use crate::error::{LakeError, Result};
use crate::position::{Offset, OffsetRange, Partition, Position, SourceId};

/// One partition's way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) partition: Partition,
    pub(super) position: Position,
    pub(super) to: Offset,
    pub(super) history: History,
}

impl Step {
    /// Checks an offset against where the partition stands; None when it stands there already.
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

    /// The part of a range that the tables must be asked about.
    pub(super) fn cut(&self) -> Option<OffsetRange> {
        self.history.cut(self.to)
    }

    /// The step for the catalog.
    pub(super) fn delta(
        &self,
        source: SourceId,
        found: CutRows,
    ) -> Result<ProgressDelta, CutDisagrees> {
        Ok(ProgressDelta {
            source,
            partition: self.partition,
            epoch: self.position.epoch,
            range: OffsetRange { from: self.position.next_offset, to: self.to },
            counts: self.history.removed(self.to, found)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::{CommitKind, Counts};
    use crate::invariants::LedgerEntry;
    use crate::position::Epoch;

    fn step_to(to: i64) -> Result<Option<Step>> {
        let start = ProgressDelta {
            source: SourceId(1),
            partition: Partition(0),
            epoch: Epoch(0),
            range: OffsetRange { from: Offset(100), to: Offset(100) },
            counts: Counts::default(),
        };
        let history = History::of(&[LedgerEntry { kind: CommitKind::Start, step: start }]);
        let position = Position { epoch: Epoch(0), next_offset: Offset(200) };
        Step::new(Partition(0), Some(position), Offset(to), history)
    }

    #[test]
    fn a_replay_goes_back_and_not_beyond_the_tables_beginning() {
        assert!(step_to(100).unwrap().is_some());
        assert!(step_to(200).unwrap().is_none(), "it is there already");
        assert!(step_to(201).unwrap_err().to_string().contains("a replay goes back"));
        assert!(step_to(99).unwrap_err().to_string().contains("--into"));
    }

    #[test]
    fn a_partition_that_the_lake_does_not_know_is_refused() {
        let error = Step::new(Partition(7), None, Offset(0), History::default()).unwrap_err();

        assert!(error.to_string().contains("no such partition: partition=`7`"));
    }
}
