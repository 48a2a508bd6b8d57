//! Which records of which partition count: the state of every assigned partition. Pure.
//!
//! A record counts if it comes from the reading that its partition is in now. Records of an earlier
//! one may still be on their way after a seek, a reset or a reassignment; taken for new ones they
//! would look like a legal jump in offsets, and what lies between would be lost.
//!
//! ```text
//! assigned ──▶ Held ──start──▶ Starting ──first record where it should be──▶ Flowing
//!               ▲                  │ first record further on: seek again, and believe
//!               └──── hold ────────┘ the second answer if it is the same
//! ```

use std::collections::HashMap;

use crate::source::TopicPartition;

/// Numbers the readings of partitions; never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Generation(pub(crate) u64);

/// What to do with a run of records of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They count, as part of this generation, and follow what was passed up to `follows`. The
    /// reader of the records checks that against what it has got: between the two no run may be lost,
    /// or its offsets would look like a gap in the log.
    Pass { generation: Generation, follows: i64 },
    /// They come from an earlier reading.
    Drop,
    /// The first offset after a seek is not the one that was sought: seek there again, to tell a
    /// gap in the log from records that were under way.
    SeekAgain(i64),
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Assigned and paused; the lake has not said yet where to start.
    Held,
    /// Sought to `start`, nothing seen yet. `jump` is the further offset seen first, once before.
    Starting { generation: Generation, start: i64, jump: Option<i64> },
    /// Records follow each other; everything before `next` was passed.
    Flowing { generation: Generation, next: i64 },
}

/// The partitions of this member.
#[derive(Debug, Default)]
pub(crate) struct Assignment {
    partitions: HashMap<TopicPartition, State>,
}

impl Assignment {
    pub(crate) fn assigned(&mut self, partitions: &[TopicPartition]) {
        self.partitions.extend(partitions.iter().map(|partition| (partition.clone(), State::Held)));
    }

    pub(crate) fn revoked(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.partitions.remove(partition);
        }
    }

    /// Stops counting records until the partition is started again.
    pub(crate) fn hold(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            if let Some(state) = self.partitions.get_mut(partition) {
                *state = State::Held;
            }
        }
    }

    /// Begins a reading; false if the partition is not ours any more.
    pub(crate) fn start(
        &mut self,
        partition: &TopicPartition,
        generation: Generation,
        start: i64,
    ) -> bool {
        let state = self.partitions.get_mut(partition);
        state.is_some_and(|state| {
            *state = State::Starting { generation, start, jump: None };
            true
        })
    }

    /// Partitions whose records count, or will.
    pub(crate) fn reading(&self) -> Vec<TopicPartition> {
        let reading = self.partitions.iter().filter(|(_, state)| !matches!(state, State::Held));
        reading.map(|(partition, _)| partition.clone()).collect()
    }

    /// Judges records of one partition from offset `first` to before `next` (an end of partition has
    /// no records, and both are its offset).
    ///
    /// | state | first offset | verdict |
    /// |---|---|---|
    /// | unknown, held | any | drop |
    /// | starting at s | ≤ s | pass; the reader skips what is below s |
    /// | starting at s | f > s, not seen before | seek again |
    /// | starting at s | f > s, the same as before | pass: a gap in the log |
    /// | flowing | any | pass |
    pub(crate) fn judge(&mut self, partition: &TopicPartition, first: i64, next: i64) -> Verdict {
        let Some(state) = self.partitions.get_mut(partition) else { return Verdict::Drop };
        match *state {
            State::Held => Verdict::Drop,
            State::Flowing { generation, next: follows } => {
                *state = State::Flowing { generation, next: next.max(follows) };
                Verdict::Pass { generation, follows }
            }
            State::Starting { generation, start, jump }
                if first <= start || jump == Some(first) =>
            {
                *state = State::Flowing { generation, next: next.max(start) };
                Verdict::Pass { generation, follows: start }
            }
            State::Starting { generation, start, .. } => {
                *state = State::Starting { generation, start, jump: Some(first) };
                Verdict::SeekAgain(start)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const G: Generation = Generation(1);

    const fn pass(follows: i64) -> Verdict {
        Verdict::Pass { generation: G, follows }
    }

    fn started(start: i64) -> (Assignment, TopicPartition) {
        let partition = TopicPartition::new("events", 0);
        let mut assignment = Assignment::default();
        assignment.assigned(std::slice::from_ref(&partition));
        assert!(assignment.start(&partition, G, start));
        (assignment, partition)
    }

    #[test]
    fn a_partition_without_a_start_offset_passes_nothing() {
        let partition = TopicPartition::new("events", 0);
        let mut assignment = Assignment::default();
        assignment.assigned(std::slice::from_ref(&partition));

        assert_eq!(assignment.judge(&partition, 0, 10), Verdict::Drop);
    }

    #[test]
    fn records_of_an_unknown_partition_are_dropped() {
        let (mut assignment, _) = started(0);

        assert_eq!(assignment.judge(&TopicPartition::new("events", 1), 0, 10), Verdict::Drop);
    }

    #[test]
    fn records_flow_from_the_offset_that_was_sought() {
        let (mut assignment, partition) = started(100);

        assert_eq!(assignment.judge(&partition, 100, 120), pass(100));
        assert_eq!(assignment.judge(&partition, 250, 260), pass(120));
        assert_eq!(assignment.judge(&partition, 265, 265), pass(260));
        assert_eq!(assignment.judge(&partition, 270, 280), pass(265));
    }

    #[test]
    fn a_jump_after_a_seek_is_believed_only_when_a_second_seek_shows_it_too() {
        let (mut assignment, partition) = started(100);

        assert_eq!(assignment.judge(&partition, 250, 260), Verdict::SeekAgain(100));
        assert_eq!(assignment.judge(&partition, 250, 260), pass(100));
    }

    #[test]
    fn records_under_way_before_a_seek_do_not_look_like_a_gap() {
        let (mut assignment, partition) = started(100);

        assert_eq!(assignment.judge(&partition, 250, 260), Verdict::SeekAgain(100));
        assert_eq!(assignment.judge(&partition, 100, 150), pass(100));
    }

    #[test]
    fn a_held_partition_passes_nothing_until_it_is_started_again() {
        let (mut assignment, partition) = started(100);
        assignment.hold(std::slice::from_ref(&partition));

        assert_eq!(assignment.judge(&partition, 100, 110), Verdict::Drop);

        assert!(assignment.start(&partition, Generation(2), 100));
        let passed = assignment.judge(&partition, 100, 110);
        assert_eq!(passed, Verdict::Pass { generation: Generation(2), follows: 100 });
    }

    #[test]
    fn a_revoked_partition_cannot_be_started() {
        let (mut assignment, partition) = started(100);
        assignment.revoked(std::slice::from_ref(&partition));

        assert!(!assignment.start(&partition, Generation(2), 100));
    }
}
