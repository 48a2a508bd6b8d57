//! Which records of which partition count: the state of every assigned partition. Pure.
//!
//! A record counts if it comes from the reading that its partition is in now, and follows the one
//! before. Offsets may jump, since Kafka's log has gaps (transaction markers, aborted and compacted
//! records), but a jump may also be records that got lost on the way here; taken for a gap, they
//! would be lost for ever. So a jump is believed only when a second fetch from the same offset shows
//! it again.
//!
//! ```text
//! assigned ──▶ Held ──start──▶ Reading ─┐ follows: pass
//!               ▲                 │ ▲───┘ jumps: fetch again, believe the second same answer
//!               └─────hold────────┘
//! ```

use std::collections::HashMap;

use crate::source::TopicPartition;

/// Numbers the readings of partitions; never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Generation(pub(crate) u64);

/// Gaps of a partition that are confirmed before usual ones are believed at sight. A topic with
/// transactions or compaction has a gap every few records, and fetching again for each would be slow;
/// one without has none, ever.
const CONFIRMATIONS: u32 = 16;

/// What to do with a run of records of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They count, as part of this generation, and follow what was passed up to `follows`. The
    /// reader of the records checks that against what it has got: between the two no run may be lost,
    /// or its offsets would look like a gap in the log.
    Pass { generation: Generation, follows: i64 },
    /// They come from an earlier reading.
    Drop,
    /// They do not follow what was passed: fetch again from this offset.
    FetchAgain(i64),
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Not fetched: the lake has not said yet where to start.
    Held,
    /// Fetched; everything before `next` was passed.
    Reading(Reading),
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    generation: Generation,
    next: i64,
    /// The offset further on that was seen instead of `next`, and not believed.
    jump: Option<i64>,
    /// Whether it is to be fetched again: what was polled before that says nothing any more.
    stale: bool,
    /// Whether Kafka refused `next` as out of range, and nothing has come since.
    was_out_of_range: bool,
    gaps: Gaps,
}

/// The gaps that were confirmed.
#[derive(Clone, Copy, Debug, Default)]
struct Gaps {
    confirmed: u32,
    largest: i64,
}

impl Gaps {
    /// Whether a gap needs no confirmation: many were confirmed, and it is not much larger.
    const fn is_usual(self, gap: i64) -> bool {
        self.confirmed >= CONFIRMATIONS && gap <= 2 * self.largest
    }

    fn confirm(&mut self, gap: i64) {
        self.confirmed += 1;
        self.largest = self.largest.max(gap);
    }
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

    /// Stops counting records until the partition is started again. Returns those that were being
    /// fetched, which the caller has to end.
    pub(crate) fn hold(&mut self, partitions: &[TopicPartition]) -> Vec<TopicPartition> {
        let mut fetched = Vec::new();
        for partition in partitions {
            if let Some(state @ State::Reading(_)) = self.partitions.get_mut(partition) {
                *state = State::Held;
                fetched.push(partition.clone());
            }
        }
        fetched
    }

    /// Begins a reading; false if the partition is not ours any more, or is being read.
    pub(crate) fn start(
        &mut self,
        partition: &TopicPartition,
        generation: Generation,
        next: i64,
    ) -> bool {
        let Some(state @ State::Held) = self.partitions.get_mut(partition) else { return false };
        *state = State::Reading(Reading {
            generation,
            next,
            jump: None,
            stale: false,
            was_out_of_range: false,
            gaps: Gaps::default(),
        });
        true
    }

    /// All assigned partitions.
    pub(crate) fn all(&self) -> Vec<TopicPartition> {
        self.partitions.keys().cloned().collect()
    }

    /// Partitions that are being fetched.
    pub(crate) fn reading(&self) -> Vec<TopicPartition> {
        let reading = self.partitions.iter().filter(|(_, state)| !matches!(state, State::Held));
        reading.map(|(partition, _)| partition.clone()).collect()
    }

    /// Judges records of one partition from offset `first` to before `end` (an end of partition has
    /// no records, and both are its offset).
    ///
    /// | state | first offset | verdict |
    /// |---|---|---|
    /// | unknown, held | any | drop |
    /// | reading, next is n | ≤ n | pass; the reader skips what is below n |
    /// | reading, next is n | f > n, seen last time too, or usual | pass: a gap in the log |
    /// | reading, next is n | f > n | fetch again from n |
    /// | reading, to be fetched again | any | drop |
    pub(crate) fn judge(&mut self, partition: &TopicPartition, first: i64, end: i64) -> Verdict {
        let Some(State::Reading(reading)) = self.partitions.get_mut(partition) else {
            return Verdict::Drop;
        };
        if reading.stale {
            // A partition's end that was polled together with the jump, for example: taken for
            // another jump, the two would be seen in turn for ever.
            return Verdict::Drop;
        }
        let gap = first - reading.next;
        if gap > 0 && !reading.gaps.is_usual(gap) {
            if reading.jump != Some(first) {
                (reading.jump, reading.stale) = (Some(first), true);
                return Verdict::FetchAgain(reading.next);
            }
            reading.gaps.confirm(gap);
        }
        (reading.jump, reading.was_out_of_range) = (None, false);
        let follows = reading.next;
        reading.next = end.max(follows);
        Verdict::Pass { generation: reading.generation, follows }
    }

    /// What is polled from now on was fetched again.
    pub(crate) fn fetched_again(&mut self, partition: &TopicPartition) {
        if let Some(State::Reading(reading)) = self.partitions.get_mut(partition) {
            reading.stale = false;
        }
    }

    /// Judges Kafka's answer that a partition cannot be read where it is.
    ///
    /// The first time it is fetched again: at a partition's end librdkafka's position is one too far
    /// (its batch call counts the end itself as a record), and whenever a rebalance pauses the
    /// partition there, that is what it asks Kafka for (seen with 2.12.1,
    /// `rd_kafka_q_serve_rkmessages`). The second time it is true, and the partition is held.
    pub(crate) fn handle_out_of_range(&mut self, partition: &TopicPartition) -> OutOfRangeAction {
        match self.partitions.get_mut(partition) {
            Some(State::Reading(reading)) if !reading.was_out_of_range => {
                reading.was_out_of_range = true;
                OutOfRangeAction::FetchAgain(reading.next)
            }
            Some(state @ State::Reading(_)) => {
                *state = State::Held;
                OutOfRangeAction::OutOfRange
            }
            Some(State::Held) | None => OutOfRangeAction::Ignore,
        }
    }
}

/// What to do when Kafka says that an offset is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutOfRangeAction {
    /// Fetch again from this offset, which may be another than was asked for.
    FetchAgain(i64),
    /// Kafka does not have the offset.
    OutOfRange,
    /// It is about an earlier reading.
    Ignore,
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
    fn records_pass_from_the_start_offset_on() {
        let (mut assignment, partition) = started(100);

        assert_eq!(assignment.judge(&partition, 100, 120), pass(100));
        assert_eq!(assignment.judge(&partition, 120, 130), pass(120));
        assert_eq!(assignment.judge(&partition, 130, 130), pass(130));
    }

    #[test]
    fn records_delivered_again_pass_and_move_nothing_back() {
        let (mut assignment, partition) = started(100);
        assert_eq!(assignment.judge(&partition, 100, 120), pass(100));

        assert_eq!(assignment.judge(&partition, 90, 110), pass(120));
        assert_eq!(assignment.judge(&partition, 120, 130), pass(120));
    }

    #[test]
    fn a_jump_is_believed_only_when_a_second_fetch_shows_it_too() {
        let (mut assignment, partition) = started(100);

        assert_eq!(assignment.judge(&partition, 250, 260), Verdict::FetchAgain(100));
        assignment.fetched_again(&partition);
        assert_eq!(assignment.judge(&partition, 250, 260), pass(100));
    }

    #[test]
    fn an_end_that_was_polled_together_with_a_jump_is_no_other_jump() {
        let (mut assignment, partition) = started(100);
        for _ in 0..2 {
            match assignment.judge(&partition, 151, 160) {
                Verdict::FetchAgain(from) => assert_eq!(from, 100),
                believed => return assert_eq!(believed, pass(100)),
            }
            assert_eq!(assignment.judge(&partition, 160, 160), Verdict::Drop);
            assignment.fetched_again(&partition);
        }
        panic!("the same jump is believed when it is seen again");
    }

    #[test]
    fn lost_records_do_not_look_like_a_gap() {
        let (mut assignment, partition) = started(100);
        assert_eq!(assignment.judge(&partition, 100, 150), pass(100));

        assert_eq!(assignment.judge(&partition, 250, 260), Verdict::FetchAgain(150));
        assignment.fetched_again(&partition);
        assert_eq!(assignment.judge(&partition, 150, 260), pass(150));
    }

    #[test]
    fn an_end_far_ahead_is_not_believed_at_sight() {
        let (mut assignment, partition) = started(100);

        assert_eq!(assignment.judge(&partition, 9000, 9000), Verdict::FetchAgain(100));
        assignment.fetched_again(&partition);
        assert_eq!(assignment.judge(&partition, 100, 200), pass(100));
    }

    #[test]
    fn a_topic_full_of_gaps_is_believed_after_a_while() {
        let (mut assignment, partition) = started(0);
        let mut next = 0;
        let mut fetched_again = 0;
        for _ in 0..100 {
            let first = next + 3;
            while let Verdict::FetchAgain(from) = assignment.judge(&partition, first, first + 1) {
                assert_eq!(from, next);
                assignment.fetched_again(&partition);
                fetched_again += 1;
            }
            next = first + 1;
        }

        assert_eq!(fetched_again, CONFIRMATIONS);
        assert_eq!(assignment.judge(&partition, next + 50, next + 51), Verdict::FetchAgain(next));
    }

    #[test]
    fn an_offset_is_out_of_range_when_kafka_says_so_twice_in_a_row() {
        let (mut assignment, partition) = started(100);
        assert_eq!(assignment.handle_out_of_range(&partition), OutOfRangeAction::FetchAgain(100));
        assert_eq!(assignment.judge(&partition, 100, 120), pass(100));

        assert_eq!(assignment.handle_out_of_range(&partition), OutOfRangeAction::FetchAgain(120));
        assert_eq!(assignment.handle_out_of_range(&partition), OutOfRangeAction::OutOfRange);
        assert_eq!(assignment.handle_out_of_range(&partition), OutOfRangeAction::Ignore);
    }

    #[test]
    fn a_held_partition_passes_nothing_until_it_is_started_again() {
        let (mut assignment, partition) = started(100);
        assert_eq!(assignment.hold(std::slice::from_ref(&partition)).len(), 1);
        assert_eq!(assignment.hold(std::slice::from_ref(&partition)).len(), 0);

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
