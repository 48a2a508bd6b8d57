//! Where progress stands, seen from a commit: all that is ever asked after a COMMIT.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::Counts;
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
}
