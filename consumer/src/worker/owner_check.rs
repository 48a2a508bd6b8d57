//! The check that each partition has an owner in the consumer group.
//!
//! A cooperative rebalance moves a partition in two steps: an assignment in which it belongs to no
//! member, and a second one after its owner has given it up and joined again. A static member that is
//! killed in between and restarts is not a new member: the broker answers it with the current
//! assignment, and the group does not rebalance (KIP-345). Without this check the partition has no owner
//! until something else causes a rebalance.
//!
//! ```text
//! assigned ──▶ first query ──all owned──▶ done
//!                  ├──rebalancing, or no answer──▶ query again
//!                  └──unowned──▶ second query ──the same unowned──▶ leave the group and join again
//! ```
//! Each static member checks after an assignment. That is enough, because only the return of a static
//! member leads to this state, and librdkafka then reports an assignment, even an empty one.
//!
//! A member leaves and joins again because librdkafka has no other request for a rebalance, and joins of
//! a known member with an unchanged subscription cause none. Its own partitions are committed and
//! revoked, and pause for one rebalance.
//!
//! Members without a `group.instance.id` need no check: after a restart they are new members, which
//! causes a rebalance. Nor does KIP-848: the broker keeps a target assignment in which each partition
//! has an owner, which gets it as soon as the old owner has given it up or is gone.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::source::TopicPartition;
use crate::source::kafka_config::GroupProtocol;

/// Time from an assignment to the first query.
const FIRST_QUERY: Duration = Duration::from_secs(3);

/// Time between two queries in addition to the longest revocation, during which partitions have no
/// owner until their records are committed.
const MARGIN: Duration = Duration::from_secs(5);

/// Upper bound of the part of the interval that differs between members, so that of several that
/// restart together one joins again, and the others see the result. A rebalance takes less.
const JITTER_MILLIS: u64 = 5_000;

/// First pause between two attempts, doubled after each.
const FIRST_PAUSE: Duration = Duration::from_mins(1);

/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// The state of the check since the last assignment.
#[derive(Debug)]
pub(super) struct OwnerCheck {
    interval: Duration,
    /// When the next query is due; None if none is.
    query_at: Option<Instant>,
    /// The number of the last query. Answers to earlier ones are outdated.
    question: u64,
    /// The partitions without an owner at the last query.
    unowned: BTreeSet<TopicPartition>,
    /// No attempt before this instant.
    not_before: Option<Instant>,
    pause: Duration,
}

impl OwnerCheck {
    /// Creates the check of a member that needs it: a static one under the classic protocol.
    pub(super) fn for_member(config: &Config) -> Option<Self> {
        let instance_id = config.source.group_instance_id.as_deref()?;
        let is_classic = config.source.group_protocol == GroupProtocol::Classic;
        is_classic.then(|| Self::new(instance_id, config.process.revocation_timeout))
    }

    fn new(instance_id: &str, revocation_timeout: Duration) -> Self {
        let mut hasher = DefaultHasher::new();
        instance_id.hash(&mut hasher);
        let jitter = Duration::from_millis(hasher.finish() % JITTER_MILLIS);
        Self {
            interval: revocation_timeout + MARGIN + jitter,
            query_at: None,
            question: 0,
            unowned: BTreeSet::new(),
            not_before: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Starts the check again, because the last answers belong to an earlier assignment.
    pub(super) fn assigned(&mut self, now: Instant) {
        self.question += 1;
        self.unowned.clear();
        self.query_at = Some(now + FIRST_QUERY);
    }

    /// Returns the number of the query that is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<u64> {
        self.query_at.take_if(|at| *at <= now && !mutated!(OwnersNotChecked))?;
        self.question += 1;
        Some(self.question)
    }

    /// Handles an answer, which is None while the group rebalances. Returns the partitions for which the
    /// member joins the group again.
    pub(super) fn answered(
        &mut self,
        question: u64,
        unowned: Option<BTreeSet<TopicPartition>>,
        now: Instant,
    ) -> Option<BTreeSet<TopicPartition>> {
        if question != self.question {
            return None;
        }
        let known = std::mem::take(&mut self.unowned);
        if unowned.as_ref().is_some_and(BTreeSet::is_empty) {
            (self.not_before, self.pause) = (None, FIRST_PAUSE);
            return None;
        }
        self.query_at = Some(now + self.interval);
        self.unowned = unowned?;
        let lasting: BTreeSet<_> = self.unowned.intersection(&known).cloned().collect();
        if lasting.is_empty() || self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        self.not_before = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Some(lasting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const SECOND: Duration = Duration::from_secs(1);

    fn set(partitions: &[i32]) -> BTreeSet<TopicPartition> {
        partitions.iter().map(|&partition| TopicPartition::new("events", partition)).collect()
    }

    fn check() -> (OwnerCheck, Instant) {
        let (mut check, now) = (OwnerCheck::new("one", 10 * SECOND), Clock::manual().now());
        assert!((15..20).contains(&check.interval.as_secs()), "{:?}", check.interval);
        check.assigned(now);
        assert_eq!(check.take_due(now), None);
        (check, now + FIRST_QUERY)
    }

    /// Lets the time pass until the next query, and answers it.
    fn query(
        check: &mut OwnerCheck,
        now: &mut Instant,
        unowned: Option<&[i32]>,
    ) -> Option<BTreeSet<TopicPartition>> {
        *now = (*now).max(check.query_at.unwrap());
        let question = check.take_due(*now).unwrap();
        assert_eq!(check.take_due(*now), None, "one query at a time");
        check.answered(question, unowned.map(set), *now)
    }

    #[test]
    fn one_answer_in_which_all_partitions_are_owned_ends_the_check() {
        let (mut check, mut now) = check();

        assert_eq!(query(&mut check, &mut now, Some(&[])), None);

        assert_eq!(check.query_at, None);
    }

    #[test]
    fn a_partition_without_an_owner_in_two_answers_is_returned() {
        let (mut check, mut now) = check();

        assert_eq!(query(&mut check, &mut now, Some(&[0, 1])), None);
        assert_eq!(query(&mut check, &mut now, Some(&[2])), None, "others than before");
        assert_eq!(query(&mut check, &mut now, None), None, "a rebalance");
        assert_eq!(query(&mut check, &mut now, Some(&[2])), None);
        assert_eq!(query(&mut check, &mut now, Some(&[1, 2])), Some(set(&[2])));
    }

    #[test]
    fn an_answer_from_before_an_assignment_is_ignored() {
        let (mut check, mut now) = check();
        assert_eq!(query(&mut check, &mut now, Some(&[0])), None);
        now = check.query_at.unwrap();
        let question = check.take_due(now).unwrap();

        check.assigned(now);

        assert_eq!(check.answered(question, Some(set(&[0])), now), None);
        assert_eq!(query(&mut check, &mut now, Some(&[0])), None, "the first of this assignment");
    }

    #[test]
    fn attempts_that_change_nothing_become_rare() {
        let (mut check, mut now) = check();
        let (begin, mut attempts) = (now, Vec::new());
        while now < begin + Duration::from_hours(8) {
            if query(&mut check, &mut now, Some(&[0])).is_some() {
                attempts.push(now);
                check.assigned(now);
            }
        }

        let pauses = attempts.windows(2).map(|pair| (pair[1] - pair[0]).as_secs() / 60);
        assert_eq!(pauses.collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60]);
    }
}
