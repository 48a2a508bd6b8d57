//! Topics that are held because files of their tables cannot be written. Pure.
//!
//! ```text
//! failed ──▶ Waiting ──pause──▶ Flushing ──others committed──▶ Reading ──committed──▶ removed
//!               ▲                                                 │
//!               └──────────────── failed, longer pause ───────────┘
//! ```
//! A failure drops the uncommitted records of all topics. Therefore other topics are committed before a
//! held topic is read again, so that they progress between two attempts, however long their batches are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// First pause. A full disk is an outage, and an immediate retry would only keep it full.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// Longest pause, after which the end of an outage is detected. Each attempt makes other topics read a
/// part of a batch again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct HeldTopics {
    topics: BTreeMap<Arc<str>, HeldTopic>,
}

#[derive(Debug)]
struct HeldTopic {
    error: String,
    /// True if waiting does not resolve the error.
    is_fault: bool,
    pause: Duration,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not read before this instant.
    Waiting(Instant),
    /// Not read before the records of other topics are committed.
    Flushing,
    /// Read again; no record is committed yet.
    Reading,
}

impl HeldTopics {
    /// Holds a topic. Returns false if it was held already, as after another failed attempt.
    pub(super) fn hold(
        &mut self,
        topic: &Arc<str>,
        error: &str,
        is_fault: bool,
        now: Instant,
    ) -> bool {
        let error = error.to_owned();
        let Some(held) = self.topics.get_mut(topic) else {
            let (pause, stage) = (FIRST_PAUSE, Stage::Waiting(now + FIRST_PAUSE));
            self.topics.insert(Arc::clone(topic), HeldTopic { error, is_fault, pause, stage });
            return true;
        };
        (held.error, held.is_fault) = (error, is_fault);
        // Several batchers may fail with the same topic at the same time.
        if held.stage == Stage::Reading {
            held.pause = (held.pause * 2).min(LONGEST_PAUSE);
            held.stage = Stage::Waiting(now + held.pause);
        }
        false
    }

    /// Shortens the pauses if none of a member's topics can be written. That is an outage of the whole
    /// storage, and attempts disturb no other topic.
    pub(super) fn shorten_if_all(&mut self, topics: &BTreeSet<Arc<str>>, now: Instant) {
        if topics.iter().all(|topic| self.is_waiting(topic)) {
            for held in self.topics.values_mut() {
                held.pause = FIRST_PAUSE;
                held.stage = Stage::Waiting(now + FIRST_PAUSE);
            }
        }
    }

    /// Returns whether a topic must not be read now.
    pub(super) fn is_waiting(&self, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|held| held.stage != Stage::Reading)
    }

    /// Returns the error of a topic that waiting does not resolve.
    pub(super) fn fault(&self, topic: &str) -> Option<&str> {
        let held = self.topics.get(topic);
        let held = held.filter(|held| held.is_fault && held.stage != Stage::Reading);
        held.map(|held| held.error.as_str())
    }

    /// Returns whether the pause of a topic is over, so that the records of other topics must be committed.
    pub(super) fn end_pauses(&mut self, now: Instant) -> bool {
        let mut ended = false;
        for held in self.topics.values_mut() {
            if matches!(held.stage, Stage::Waiting(until) if until <= now) {
                held.stage = Stage::Flushing;
                ended = true;
            }
        }
        ended
    }

    /// Takes the topics that waited for that commit, which are read again.
    pub(super) fn take_flushed(&mut self) -> Vec<Arc<str>> {
        let flushing = self.topics.iter_mut().filter(|(_, held)| held.stage == Stage::Flushing);
        let flushed = flushing.map(|(topic, held)| {
            held.stage = Stage::Reading;
            Arc::clone(topic)
        });
        flushed.collect()
    }

    /// Removes a topic of which progress was committed since it is read again. Returns whether it was held.
    pub(super) fn committed(&mut self, topic: &str) -> bool {
        let was_read = self.topics.get(topic).is_some_and(|held| held.stage == Stage::Reading);
        was_read && self.topics.remove(topic).is_some()
    }

    /// Removes topics of which this member no longer has a partition.
    pub(super) fn keep(&mut self, topics: &BTreeSet<Arc<str>>) {
        self.topics.retain(|topic, _| topics.contains(topic));
    }

    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Errors with the first reason and all held topics, if there are any.
    pub(super) fn readiness(&self) -> Result<(), String> {
        let Some(first) = self.topics.values().next() else { return Ok(()) };
        let topics = self.topics.keys().map(|topic| &**topic).collect::<Vec<_>>();
        Err(format!("files cannot be written: {}: topics=`{}`", first.error, topics.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const SECOND: Duration = Duration::from_secs(1);

    fn topics(names: &[&str]) -> BTreeSet<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    /// Ends the pause of a topic and takes it.
    fn read_again(held: &mut HeldTopics, now: Instant) -> Vec<Arc<str>> {
        assert!(held.end_pauses(now));
        held.take_flushed()
    }

    #[test]
    fn a_topic_is_read_again_after_its_pause_and_a_flush() {
        let (mut held, now, topic) = (HeldTopics::default(), Clock::manual().now(), Arc::from("a"));
        assert!(held.hold(&topic, "no directory", false, now));
        assert!(held.is_waiting("a") && !held.is_waiting("b"));
        assert!(held.readiness().unwrap_err().contains("no directory: topics=`a`"));

        assert!(!held.end_pauses(now + SECOND));
        assert!(held.take_flushed().is_empty());
        assert!(held.end_pauses(now + 2 * SECOND) && !held.end_pauses(now + 2 * SECOND));
        assert!(held.is_waiting("a"), "others are committed first");
        assert_eq!(held.take_flushed(), [Arc::from("a")]);

        assert!(!held.is_waiting("a") && held.readiness().is_err());
        assert!(held.committed("a") && held.readiness().is_ok());
        assert!(!held.committed("a"));
    }

    #[test]
    fn a_commit_of_records_from_before_the_failure_does_not_end_it() {
        let (mut held, now) = (HeldTopics::default(), Clock::manual().now());
        held.hold(&"a".into(), "no directory", false, now);

        assert!(!held.committed("a"));
        assert!(held.is_waiting("a"));
    }

    #[test]
    fn pauses_grow_with_each_attempt_and_failures_of_the_same_one_are_one() {
        let (mut held, mut now, topic) =
            (HeldTopics::default(), Clock::manual().now(), Arc::from("a"));
        for seconds in [2, 4, 8, 16, 30, 30] {
            held.hold(&topic, "no directory", false, now);
            assert!(!held.hold(&topic, "no directory", false, now));
            assert!(!held.end_pauses(now + (seconds - 1) * SECOND));
            now += seconds * SECOND;
            assert_eq!(read_again(&mut held, now).len(), 1);
        }
    }

    #[test]
    fn pauses_are_short_while_no_topic_can_be_written() {
        let (mut held, now) = (HeldTopics::default(), Clock::manual().now());
        let own = topics(&["a", "b"]);
        held.hold(&"a".into(), "disk is full", false, now);
        read_again(&mut held, now + 2 * SECOND);
        held.hold(&"a".into(), "disk is full", false, now);
        held.shorten_if_all(&own, now);
        assert!(!held.end_pauses(now + 2 * SECOND));

        held.hold(&"b".into(), "disk is full", false, now);
        held.shorten_if_all(&own, now);

        assert!(held.end_pauses(now + 2 * SECOND));
        assert_eq!(held.take_flushed().len(), 2);
    }

    #[test]
    fn topics_of_other_members_are_removed() {
        let (mut held, now) = (HeldTopics::default(), Clock::manual().now());
        held.hold(&"a".into(), "no directory", true, now);
        assert_eq!((held.fault("a"), held.fault("b")), (Some("no directory"), None));

        held.keep(&topics(&["b"]));

        assert!(held.readiness().is_ok() && !held.is_waiting("a"));
    }
}
