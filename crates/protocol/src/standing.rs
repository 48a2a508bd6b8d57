//! Where progress stands, seen from a commit: all that is ever asked after a COMMIT.
//!
//! A commit that resolves dead letters moves no progress; there the question is whether its files are
//! registered, and whether its letters are still open.
//!
//! Pure, so that `transaction` and the model of the protocol decide by the same lines.

use crate::commit::ProgressDelta;
use crate::position::Position;

/// What progress, read in a new transaction, says of a commit whose COMMIT did not say ok.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Where the commit starts: it was not applied so far, and may be sent again.
    AtStart,
    /// Where the commit ends: it was applied, if its files are registered.
    AtEnd,
    /// Anywhere else: another worker or an operator moved progress.
    Elsewhere,
}

/// Compares each step with what the catalog says of its partition; `found` is in the steps' order.
///
/// | progress of the steps     | standing  |
/// |---------------------------|-----------|
/// | all at `(epoch, from)`    | at start  |
/// | all at `(epoch, to)`      | at end    |
/// | anything else, or unknown | elsewhere |
#[must_use]
pub fn standing(steps: &[ProgressDelta], found: &[Option<Position>]) -> Standing {
    let all_at = |position: fn(&ProgressDelta) -> Position| {
        steps.iter().zip(found).all(|(step, now)| *now == Some(position(step)))
    };
    if all_at(ProgressDelta::before) {
        Standing::AtStart
    } else if all_at(ProgressDelta::after) {
        Standing::AtEnd
    } else {
        Standing::Elsewhere
    }
}

/// Whether progress is where an applied commit leaves it, or where others took it from there.
///
/// Asked after a COMMIT that said ok: if it is not, nothing compared and swapped, because the
/// triggers are gone.
#[must_use]
pub fn has_moved(steps: &[ProgressDelta], found: &[Option<Position>]) -> bool {
    steps.iter().zip(found).all(|(step, now)| {
        now.is_some_and(|now| {
            now.epoch > step.epoch || now.epoch == step.epoch && now.next_offset >= step.range.to
        })
    })
}

/// What the catalog says of a dead letter that a commit resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetterState {
    /// Where its partition stands.
    pub position: Option<Position>,
    /// Whether the ledger has a resolution of it, which no replay took back.
    pub is_resolved: bool,
}

impl LetterState {
    /// Whether the catalog would apply the step.
    fn is_open(&self, step: &ProgressDelta) -> bool {
        !self.is_resolved
            && self
                .position
                .is_some_and(|now| now.epoch == step.epoch && now.next_offset > step.range.from)
    }
}

/// Compares each step of a resolution with what the catalog says of its letter; `found` is in the
/// steps' order.
///
/// | our files are registered | letters                                     | standing  |
/// |--------------------------|---------------------------------------------|-----------|
/// | yes                      | -                                           | at end    |
/// | no                       | all open, in the steps' epoch, behind us    | at start  |
/// | no                       | anything else                               | elsewhere |
#[must_use]
pub fn resolution_standing(
    steps: &[ProgressDelta],
    found: &[LetterState],
    files_are_registered: bool,
) -> Standing {
    if files_are_registered {
        Standing::AtEnd
    } else if steps.iter().zip(found).all(|(step, letter)| letter.is_open(step)) {
        Standing::AtStart
    } else {
        Standing::Elsewhere
    }
}

/// Whether all letters are resolved, or a replay went on from there.
///
/// Asked after a COMMIT that said ok: if not, the ledger did not hear of it, because the triggers are
/// gone.
#[must_use]
pub fn has_resolved(steps: &[ProgressDelta], found: &[LetterState]) -> bool {
    steps.iter().zip(found).all(|(step, letter)| {
        letter.is_resolved || letter.position.is_some_and(|now| now.epoch > step.epoch)
    })
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

    #[expect(clippy::unnecessary_wraps, reason = "progress that is missing stands beside it")]
    fn at(epoch: i32, next_offset: i64) -> Option<Position> {
        Some(Position { epoch: Epoch(epoch), next_offset: Offset(next_offset) })
    }

    #[test]
    fn a_commit_stands_at_its_start_or_end_only_with_all_its_partitions() {
        let steps = [step(0, 100, 200), step(1, 7, 9)];

        assert_eq!(standing(&steps, &[at(2, 100), at(2, 7)]), Standing::AtStart);
        assert_eq!(standing(&steps, &[at(2, 200), at(2, 9)]), Standing::AtEnd);
        assert_eq!(standing(&steps, &[at(2, 200), at(2, 7)]), Standing::Elsewhere);
        assert_eq!(standing(&steps, &[at(2, 100), None]), Standing::Elsewhere);
    }

    #[test]
    fn the_right_offset_in_another_epoch_is_elsewhere() {
        assert_eq!(standing(&[step(0, 100, 200)], &[at(3, 100)]), Standing::Elsewhere);
        assert_eq!(standing(&[step(0, 100, 200)], &[at(3, 200)]), Standing::Elsewhere);
    }

    #[test]
    fn progress_that_others_took_further_has_moved() {
        let steps = [step(0, 100, 200)];

        assert!(has_moved(&steps, &[at(2, 200)]));
        assert!(has_moved(&steps, &[at(2, 350)]));
        assert!(has_moved(&steps, &[at(3, 50)]));
    }

    #[test]
    fn progress_that_stands_still_after_an_ok_has_not_moved() {
        let steps = [step(0, 100, 200), step(1, 7, 9)];

        assert!(!has_moved(&steps, &[at(2, 100), at(2, 7)]));
        assert!(!has_moved(&steps, &[at(2, 200), at(2, 7)]));
        assert!(!has_moved(&steps, &[at(2, 200), None]));
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

    fn letter(position: Option<Position>, is_resolved: bool) -> LetterState {
        LetterState { position, is_resolved }
    }

    #[test]
    fn a_resolution_whose_files_are_registered_was_applied_whatever_happened_since() {
        let found = [letter(at(3, 5), false)];

        assert_eq!(resolution_standing(&[discard(7)], &found, true), Standing::AtEnd);
    }

    #[test]
    fn a_resolution_of_open_letters_may_be_sent_again() {
        let steps = [discard(7), discard(8)];
        let open = letter(at(2, 100), false);

        assert_eq!(resolution_standing(&steps, &[open, open], false), Standing::AtStart);
    }

    #[test]
    fn a_letter_that_is_resolved_or_was_replayed_is_elsewhere() {
        let states = [
            letter(at(2, 100), true),
            letter(at(3, 100), false),
            letter(at(2, 7), false),
            letter(None, false),
        ];
        for state in states {
            let standing = resolution_standing(&[discard(7)], &[state], false);
            assert_eq!(standing, Standing::Elsewhere, "{state:?}");
        }
    }

    #[test]
    fn letters_that_stay_open_after_an_ok_were_not_heard_of() {
        assert!(has_resolved(&[discard(7)], &[letter(at(2, 100), true)]));
        assert!(has_resolved(&[discard(7)], &[letter(at(3, 5), false)]), "replayed since");
        assert!(!has_resolved(&[discard(7)], &[letter(at(2, 100), false)]));
    }
}
