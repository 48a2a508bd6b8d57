//! State of a commit, decided by the progress that is read after COMMIT.
//!
//! A commit that resolves dead letters moves no progress; its state depends on the registration of its
//! files, and on whether its dead letters are still open.
//!
//! Pure, so that `transaction` and the model of the protocol decide with the same code.

use crate::commit::ProgressDelta;
use crate::position::Position;

/// State of a commit whose COMMIT failed, by the progress that is read in a new transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitState {
    /// Progress is at the start of the commit: it was not applied so far, and may be sent again.
    NotApplied,
    /// Progress is at the end of the commit: it was applied, if its files are registered.
    Applied,
    /// Progress is elsewhere: another worker or an operator moved it.
    Superseded,
}

/// Compares each step with the position of its partition in the catalog; `found` is in the order of the
/// steps.
///
/// | progress of the steps     | state       |
/// |---------------------------|-------------|
/// | all at `(epoch, from)`    | not applied |
/// | all at `(epoch, to)`      | applied     |
/// | anything else, or unknown | superseded  |
#[must_use]
pub fn commit_state(steps: &[ProgressDelta], found: &[Option<Position>]) -> CommitState {
    let all_at = |position: fn(&ProgressDelta) -> Position| {
        steps.iter().zip(found).all(|(step, now)| *now == Some(position(step)))
    };
    if all_at(ProgressDelta::before) {
        CommitState::NotApplied
    } else if all_at(ProgressDelta::after) {
        CommitState::Applied
    } else {
        CommitState::Superseded
    }
}

/// State in the catalog of a dead letter that a commit resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetterState {
    /// Position of its partition.
    pub position: Option<Position>,
    /// True if the ledger has a resolution of it that no replay reverted.
    pub is_resolved: bool,
}

impl DeadLetterState {
    /// Returns true if the catalog would apply the step.
    fn is_open(&self, step: &ProgressDelta) -> bool {
        !self.is_resolved
            && self
                .position
                .is_some_and(|now| now.epoch == step.epoch && now.next_offset > step.range.from)
    }
}

/// Compares each step of a resolution with the state of its dead letter; `found` is in the order of the
/// steps.
///
/// | files are registered | dead letters                                             | state       |
/// |----------------------|----------------------------------------------------------|-------------|
/// | yes                  | -                                                        | applied     |
/// | no                   | all open, in the steps' epoch, below the next offset     | not applied |
/// | no                   | anything else                                            | superseded  |
#[must_use]
pub fn resolution_state(
    steps: &[ProgressDelta],
    found: &[DeadLetterState],
    files_are_registered: bool,
) -> CommitState {
    if files_are_registered {
        CommitState::Applied
    } else if steps.iter().zip(found).all(|(step, dead_letter)| dead_letter.is_open(step)) {
        CommitState::NotApplied
    } else {
        CommitState::Superseded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::Counts;
    use crate::dead_letter::Resolution;
    use crate::position::{Epoch, Offset, OffsetRange, Partition, SourceId};

    fn step(partition: i32, from: i64, to: i64) -> ProgressDelta {
        ProgressDelta {
            source: SourceId(1),
            partition: Partition(partition),
            epoch: Epoch(2),
            range: OffsetRange { from: Offset(from), to: Offset(to) },
            counts: Counts { rows: to - from, ..Counts::default() },
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "missing progress is None next to it")]
    fn at(epoch: i32, next_offset: i64) -> Option<Position> {
        Some(Position { epoch: Epoch(epoch), next_offset: Offset(next_offset) })
    }

    #[test]
    fn a_commit_is_applied_or_not_only_with_all_its_partitions() {
        let steps = [step(0, 100, 200), step(1, 7, 9)];

        assert_eq!(commit_state(&steps, &[at(2, 100), at(2, 7)]), CommitState::NotApplied);
        assert_eq!(commit_state(&steps, &[at(2, 200), at(2, 9)]), CommitState::Applied);
        assert_eq!(commit_state(&steps, &[at(2, 200), at(2, 7)]), CommitState::Superseded);
        assert_eq!(commit_state(&steps, &[at(2, 100), None]), CommitState::Superseded);
    }

    #[test]
    fn the_right_offset_in_another_epoch_is_superseded() {
        assert_eq!(commit_state(&[step(0, 100, 200)], &[at(3, 100)]), CommitState::Superseded);
        assert_eq!(commit_state(&[step(0, 100, 200)], &[at(3, 200)]), CommitState::Superseded);
    }

    fn discard(offset: i64) -> ProgressDelta {
        let (partition, epoch) = (Partition(0), Epoch(2));
        ProgressDelta::resolving(
            SourceId(1),
            partition,
            epoch,
            Offset(offset),
            Resolution::Discarded,
        )
    }

    fn dead_letter(position: Option<Position>, is_resolved: bool) -> DeadLetterState {
        DeadLetterState { position, is_resolved }
    }

    #[test]
    fn a_resolution_whose_files_are_registered_was_applied_whatever_happened_since() {
        let found = [dead_letter(at(3, 5), false)];

        assert_eq!(resolution_state(&[discard(7)], &found, true), CommitState::Applied);
    }

    #[test]
    fn a_resolution_of_open_dead_letters_may_be_sent_again() {
        let steps = [discard(7), discard(8)];
        let open = dead_letter(at(2, 100), false);

        assert_eq!(resolution_state(&steps, &[open, open], false), CommitState::NotApplied);
    }

    #[test]
    fn a_resolved_or_replayed_dead_letter_is_superseded() {
        let states = [
            dead_letter(at(2, 100), true),
            dead_letter(at(3, 100), false),
            dead_letter(at(2, 7), false),
            dead_letter(None, false),
        ];
        for state in states {
            let found = resolution_state(&[discard(7)], &[state], false);
            assert_eq!(found, CommitState::Superseded, "{state:?}");
        }
    }
}
