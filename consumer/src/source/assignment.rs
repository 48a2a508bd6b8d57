//! The state of each assigned partition, which decides whether its records pass. Pure.
//!
//! A record passes if it belongs to the current generation of its partition and follows the previous
//! record. Offsets can jump, because Kafka's log has gaps (transaction markers, aborted and compacted
//! records). But a jump can also mean that records were lost on the way here; accepted as a gap, they
//! would be lost permanently. Therefore a jump is accepted only if a second fetch from the same offset
//! returns it again.
//!
//! ```text
//! assigned ──▶ Held ──start──▶ Reading ─┐ follows: pass
//!               ▲                 │ ▲───┘ jumps: fetch again, accept the same jump the second time
//!               └─────hold────────┘
//! ```

use std::collections::BTreeMap;

use ducktide_protocol::position::Offset;

use super::command::PartitionStart;
use crate::source::topic_partition::TopicPartition;

/// Number of a reading of a partition, from a start to a hold. Unique within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Generation(pub(crate) u64);

/// Number of gaps of a partition that are confirmed before ordinary ones are accepted at once. A topic
/// with transactions or compaction has a gap every few records, and a second fetch for each would be
/// slow. Other topics have no gaps.
const CONFIRMATIONS: u32 = 16;

/// The decision about a run of records of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They pass to this batcher as part of this generation, after everything before `follows`. The batcher
    /// compares that with what it has received, because a run that is lost in between would look like a gap
    /// in the log.
    Pass { batcher: usize, generation: Generation, follows: Offset },
    /// They belong to an earlier generation.
    Drop,
    /// They do not follow the passed records: fetch again from this offset.
    FetchAgain(Offset),
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Not fetched: the position is not known yet.
    Held,
    /// Fetched; everything before `next` has passed.
    Reading(Reading),
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    batcher: usize,
    generation: Generation,
    next: Offset,
    /// The later offset that was fetched instead of `next` and not accepted.
    jump: Option<Offset>,
    /// True until the partition is fetched again: records that are polled before that are outdated.
    stale: bool,
    /// True if Kafka rejected `next` as out of range and no record was fetched since.
    was_out_of_range: bool,
    gaps: Gaps,
    /// True if an end of the partition was passed last. A gap after it is never ordinary: librdkafka's position
    /// may be one too high there, so that a record that was produced since looks like a gap.
    is_at_end: bool,
}

/// Statistics of the confirmed gaps.
#[derive(Clone, Copy, Debug, Default)]
struct Gaps {
    confirmed: u32,
    largest: i64,
}

impl Gaps {
    /// Returns whether a gap needs no confirmation: many were confirmed, and it is at most twice as large.
    const fn is_ordinary(self, gap: i64) -> bool {
        self.confirmed >= CONFIRMATIONS && gap <= 2 * self.largest
    }

    fn confirm(&mut self, gap: i64) {
        self.confirmed += 1;
        self.largest = self.largest.max(gap);
    }
}

/// The assigned partitions of this member.
#[derive(Debug, Default)]
pub(crate) struct Assignment {
    partitions: BTreeMap<TopicPartition, State>,
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

    /// Drops records of partitions until they are started again. Returns those that are being fetched,
    /// which the caller must stop.
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

    /// Holds partitions that are read in an older generation than that of their start. Returns them: the caller
    /// must stop them.
    ///
    /// A start from before a revocation applies to the next assignment if the poll loop handles it only then. The
    /// batcher drops those records, and the start that follows must be applied.
    pub(crate) fn hold_outdated(&mut self, starts: &[PartitionStart]) -> Vec<TopicPartition> {
        let mut outdated = Vec::new();
        for PartitionStart { partition, generation, .. } in starts {
            if let Some(State::Reading(reading)) = self.partitions.get(partition)
                && reading.generation < *generation
            {
                outdated.push(partition.clone());
            }
        }
        self.hold(&outdated)
    }

    /// Starts a generation. Returns false if the partition is not assigned or is already being read.
    pub(crate) fn start(&mut self, start: &PartitionStart) -> bool {
        let &PartitionStart { ref partition, generation, offset: next, batcher } = start;
        let Some(state @ State::Held) = self.partitions.get_mut(partition) else { return false };
        *state = State::Reading(Reading {
            batcher,
            generation,
            next,
            jump: None,
            stale: false,
            was_out_of_range: false,
            gaps: Gaps::default(),
            is_at_end: false,
        });
        true
    }

    /// Returns all assigned partitions.
    pub(crate) fn all(&self) -> Vec<TopicPartition> {
        self.partitions.keys().cloned().collect()
    }

    /// Returns the partitions that are being fetched.
    pub(crate) fn reading(&self) -> Vec<TopicPartition> {
        let reading = self.partitions.iter().filter(|(_, state)| !matches!(state, State::Held));
        reading.map(|(partition, _)| partition.clone()).collect()
    }

    /// Decides about records of one partition from offset `first` to before `end`. An end of partition has
    /// no records: both are its offset.
    ///
    /// | state | first offset | verdict |
    /// |---|---|---|
    /// | unknown, held | any | drop |
    /// | reading, next is n | ≤ n | pass; the batcher skips records below n |
    /// | reading, next is n | f > n, and fetched twice, or ordinary and not after an end | pass: a gap in the log |
    /// | reading, next is n | f > n | fetch again from n |
    /// | reading, to be fetched again | any | drop |
    pub(crate) fn judge(
        &mut self,
        partition: &TopicPartition,
        first: Offset,
        end: Offset,
    ) -> Verdict {
        let Some(State::Reading(reading)) = self.partitions.get_mut(partition) else {
            return Verdict::Drop;
        };
        if reading.stale {
            // For example an end of partition that was polled together with the jump. If it counted as
            // another jump, the two would alternate forever.
            return Verdict::Drop;
        }
        let gap = first.0 - reading.next.0;
        let gap = if mutated!(OffByOneAccepted) { gap - 1 } else { gap };
        let is_ordinary = reading.gaps.is_ordinary(gap)
            && (!reading.is_at_end || mutated!(GapAtEndAcceptedAtOnce));
        if gap > 0 && !mutated!(JumpAcceptedAtOnce) && !is_ordinary {
            if reading.jump != Some(first) {
                (reading.jump, reading.stale) = (Some(first), true);
                return Verdict::FetchAgain(reading.next);
            }
            reading.gaps.confirm(gap);
        }
        (reading.jump, reading.was_out_of_range) = (None, false);
        reading.is_at_end = first == end;
        let follows = reading.next;
        reading.next = end.max(follows);
        Verdict::Pass { batcher: reading.batcher, generation: reading.generation, follows }
    }

    /// Records that are polled from now on were fetched again.
    pub(crate) fn fetched_again(&mut self, partition: &TopicPartition) {
        if let Some(State::Reading(reading)) = self.partitions.get_mut(partition) {
            reading.stale = false;
        }
    }

    /// Decides about Kafka's error that the offset of a partition is out of range.
    ///
    /// After the first error the partition is fetched again: at its end, librdkafka's position is one too
    /// high, because its batch call counts the end as a record, and after a pause by a rebalance it
    /// requests that position (observed with 2.12.1, `rd_kafka_q_serve_rkmessages`). After a second error
    /// the partition is held.
    pub(crate) fn handle_out_of_range(&mut self, partition: &TopicPartition) -> OutOfRangeAction {
        match self.partitions.get_mut(partition) {
            Some(State::Reading(reading))
                if !reading.was_out_of_range && !mutated!(OutOfRangeTrustedAtOnce) =>
            {
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

/// The reaction to an offset that is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutOfRangeAction {
    /// Fetch again from this offset, which may differ from the requested one.
    FetchAgain(Offset),
    /// Kafka does not have the offset.
    OutOfRange,
    /// The error belongs to an earlier generation.
    Ignore,
}

#[cfg(test)]
mod tests {
    use super::*;

    const G: Generation = Generation(1);

    const fn pass(follows: i64) -> Verdict {
        Verdict::Pass { batcher: 1, generation: G, follows: Offset(follows) }
    }

    fn start_of(partition: &TopicPartition, generation: Generation, offset: i64) -> PartitionStart {
        let partition = partition.clone();
        PartitionStart { partition, generation, offset: Offset(offset), batcher: 1 }
    }

    fn started(start: i64) -> (Assignment, TopicPartition) {
        let partition = TopicPartition::new("events", 0);
        let mut assignment = Assignment::default();
        assignment.assigned(std::slice::from_ref(&partition));
        assert!(assignment.start(&start_of(&partition, G, start)));
        (assignment, partition)
    }

    #[test]
    fn a_partition_without_a_start_offset_passes_nothing() {
        let partition = TopicPartition::new("events", 0);
        let mut assignment = Assignment::default();
        assignment.assigned(std::slice::from_ref(&partition));

        assert_eq!(assignment.judge(&partition, Offset(0), Offset(10)), Verdict::Drop);
    }

    #[test]
    fn records_of_an_unknown_partition_are_dropped() {
        let (mut assignment, _) = started(0);

        assert_eq!(
            assignment.judge(&TopicPartition::new("events", 1), Offset(0), Offset(10)),
            Verdict::Drop
        );
    }

    #[test]
    fn records_pass_from_the_start_offset_on() {
        let (mut assignment, partition) = started(100);

        assert_eq!(assignment.judge(&partition, Offset(100), Offset(120)), pass(100));
        assert_eq!(assignment.judge(&partition, Offset(120), Offset(130)), pass(120));
        assert_eq!(assignment.judge(&partition, Offset(130), Offset(130)), pass(130));
    }

    #[test]
    fn records_delivered_again_pass_and_move_nothing_back() {
        let (mut assignment, partition) = started(100);
        assert_eq!(assignment.judge(&partition, Offset(100), Offset(120)), pass(100));

        assert_eq!(assignment.judge(&partition, Offset(90), Offset(110)), pass(120));
        assert_eq!(assignment.judge(&partition, Offset(120), Offset(130)), pass(120));
    }

    #[test]
    fn a_jump_is_accepted_only_if_a_second_fetch_returns_it_too() {
        let (mut assignment, partition) = started(100);

        assert_eq!(
            assignment.judge(&partition, Offset(250), Offset(260)),
            Verdict::FetchAgain(Offset(100))
        );
        assignment.fetched_again(&partition);
        assert_eq!(assignment.judge(&partition, Offset(250), Offset(260)), pass(100));
    }

    #[test]
    fn an_end_polled_together_with_a_jump_is_not_another_jump() {
        let (mut assignment, partition) = started(100);
        for _ in 0..2 {
            match assignment.judge(&partition, Offset(151), Offset(160)) {
                Verdict::FetchAgain(from) => assert_eq!(from, Offset(100)),
                accepted => return assert_eq!(accepted, pass(100)),
            }
            assert_eq!(assignment.judge(&partition, Offset(160), Offset(160)), Verdict::Drop);
            assignment.fetched_again(&partition);
        }
        panic!("the same jump is accepted the second time");
    }

    #[test]
    fn lost_records_do_not_look_like_a_gap() {
        let (mut assignment, partition) = started(100);
        assert_eq!(assignment.judge(&partition, Offset(100), Offset(150)), pass(100));

        assert_eq!(
            assignment.judge(&partition, Offset(250), Offset(260)),
            Verdict::FetchAgain(Offset(150))
        );
        assignment.fetched_again(&partition);
        assert_eq!(assignment.judge(&partition, Offset(150), Offset(260)), pass(150));
    }

    #[test]
    fn an_end_far_ahead_is_not_accepted_at_once() {
        let (mut assignment, partition) = started(100);

        assert_eq!(
            assignment.judge(&partition, Offset(9000), Offset(9000)),
            Verdict::FetchAgain(Offset(100))
        );
        assignment.fetched_again(&partition);
        assert_eq!(assignment.judge(&partition, Offset(100), Offset(200)), pass(100));
    }

    #[test]
    fn ordinary_gaps_are_accepted_at_once_after_many_confirmations() {
        let (mut assignment, partition) = started(0);
        let mut next = 0;
        let mut fetched_again = 0;
        for _ in 0..100 {
            let first = next + 3;
            while let Verdict::FetchAgain(from) =
                assignment.judge(&partition, Offset(first), Offset(first + 1))
            {
                assert_eq!(from, Offset(next));
                assignment.fetched_again(&partition);
                fetched_again += 1;
            }
            next = first + 1;
        }

        assert_eq!(fetched_again, CONFIRMATIONS);
        assert_eq!(
            assignment.judge(&partition, Offset(next + 50), Offset(next + 51)),
            Verdict::FetchAgain(Offset(next))
        );
    }

    #[test]
    fn a_gap_after_an_end_is_never_ordinary() {
        let (mut assignment, partition) = started(0);
        let mut next = 0;
        for _ in 0..=CONFIRMATIONS {
            for _ in 0..2 {
                assignment.judge(&partition, Offset(next + 1), Offset(next + 2));
                assignment.fetched_again(&partition);
            }
            next += 2;
        }
        let end = Offset(next);
        assert_eq!(assignment.judge(&partition, end, end), pass(next));

        let after = assignment.judge(&partition, Offset(next + 1), Offset(next + 2));

        assert_eq!(after, Verdict::FetchAgain(end));
    }

    #[test]
    fn an_offset_is_out_of_range_after_two_errors_in_a_row() {
        let (mut assignment, partition) = started(100);
        assert_eq!(
            assignment.handle_out_of_range(&partition),
            OutOfRangeAction::FetchAgain(Offset(100))
        );
        assert_eq!(assignment.judge(&partition, Offset(100), Offset(120)), pass(100));

        assert_eq!(
            assignment.handle_out_of_range(&partition),
            OutOfRangeAction::FetchAgain(Offset(120))
        );
        assert_eq!(assignment.handle_out_of_range(&partition), OutOfRangeAction::OutOfRange);
        assert_eq!(assignment.handle_out_of_range(&partition), OutOfRangeAction::Ignore);
    }

    #[test]
    fn a_held_partition_passes_nothing_until_it_is_started_again() {
        let (mut assignment, partition) = started(100);
        assert_eq!(assignment.hold(std::slice::from_ref(&partition)).len(), 1);
        assert_eq!(assignment.hold(std::slice::from_ref(&partition)).len(), 0);

        assert_eq!(assignment.judge(&partition, Offset(100), Offset(110)), Verdict::Drop);

        assert!(assignment.start(&start_of(&partition, Generation(2), 100)));
        let passed = assignment.judge(&partition, Offset(100), Offset(110));
        assert_eq!(
            passed,
            Verdict::Pass { batcher: 1, generation: Generation(2), follows: Offset(100) }
        );
    }

    #[test]
    fn a_start_replaces_one_from_before_a_revocation() {
        let (mut assignment, partition) = started(100);
        let newer = start_of(&partition, Generation(2), 90);
        assert!(!assignment.start(&newer), "it is being read");

        let held = assignment.hold_outdated(std::slice::from_ref(&newer));

        assert_eq!(held, std::slice::from_ref(&partition));
        assert!(assignment.start(&newer));

        let older = start_of(&partition, G, 100);
        assert!(assignment.hold_outdated(&[older]).is_empty());
    }

    #[test]
    fn a_revoked_partition_cannot_be_started() {
        let (mut assignment, partition) = started(100);
        assignment.revoked(std::slice::from_ref(&partition));

        assert!(!assignment.start(&start_of(&partition, Generation(2), 100)));
    }
}
