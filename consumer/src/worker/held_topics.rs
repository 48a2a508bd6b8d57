//! Topics whose partitions wait because files of their tables cannot be written. Pure.
//!
//! ```text
//! failed ──▶ Waiting ──pause──▶ Flushing ──others committed──▶ Reading ──committed──▶ forgotten
//!               ▲                                                 │
//!               └──────────────── failed, longer pause ───────────┘
//! ```
//! A failure drops what was read of all topics, so others are committed before a topic is read again:
//! however short its pauses and however long a batch, they make progress between two attempts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first pause: a full disk is an outage, and writing the same batch again at once would only keep
/// it full.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// The longest pause. Each attempt has other topics read a part of a batch again; the end of an outage
/// is noticed after this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct HeldTopics {
    topics: BTreeMap<Arc<str>, HeldTopic>,
}

#[derive(Debug)]
struct HeldTopic {
    error: String,
    /// Whether waiting does not help.
    is_fault: bool,
    pause: Duration,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not read before this instant.
    Waiting(Instant),
    /// Not read before everything else that was read is committed.
    Flushing,
    /// Read again, and not committed yet.
    Reading,
}

impl HeldTopics {
    /// Holds a topic. Returns whether this is news; an attempt that fails again is not.
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
        // Other batchers may fail with the same topic, at the same time.
        if held.stage == Stage::Reading {
            held.pause = (held.pause * 2).min(LONGEST_PAUSE);
            held.stage = Stage::Waiting(now + held.pause);
        }
        false
    }

    /// Shortens the pauses if none of a member's topics can be written: that is an outage of the whole
    /// storage, and nobody is disturbed by attempts.
    pub(super) fn shorten_if_all(&mut self, topics: &BTreeSet<Arc<str>>, now: Instant) {
        if topics.iter().all(|topic| self.is_waiting(topic)) {
            for held in self.topics.values_mut() {
                held.pause = FIRST_PAUSE;
                held.stage = Stage::Waiting(now + FIRST_PAUSE);
            }
        }
    }

    /// Whether a topic is not to be read now.
    pub(super) fn is_waiting(&self, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|held| held.stage != Stage::Reading)
    }

    /// Why a topic waits, if waiting does not help.
    pub(super) fn fault(&self, topic: &str) -> Option<&str> {
        let held = self.topics.get(topic);
        let held = held.filter(|held| held.is_fault && held.stage != Stage::Reading);
        held.map(|held| held.error.as_str())
    }

    /// Whether the pause of a topic is over: then everything is to be committed that was read of others.
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

    /// The topics that were waiting for that; they are read again now.
    pub(super) fn take_flushed(&mut self) -> Vec<Arc<str>> {
        let flushing = self.topics.iter_mut().filter(|(_, held)| held.stage == Stage::Flushing);
        let flushed = flushing.map(|(topic, held)| {
            held.stage = Stage::Reading;
            Arc::clone(topic)
        });
        flushed.collect()
    }

    /// Forgets a topic if progress of it was committed since it is read again. Returns whether it did.
    pub(super) fn committed(&mut self, topic: &str) -> bool {
        let was_read = self.topics.get(topic).is_some_and(|held| held.stage == Stage::Reading);
        was_read && self.topics.remove(topic).is_some()
    }

    /// Forgets topics of which this member has no partition any more.
    pub(super) fn keep(&mut self, topics: &BTreeSet<Arc<str>>) {
        self.topics.retain(|topic, _| topics.contains(topic));
    }

    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Ready, or why files cannot be written, and of which topics.
    pub(super) fn readiness(&self) -> Result<(), String> {
        let Some(first) = self.topics.values().next() else { return Ok(()) };
        let topics = self.topics.keys().map(|topic| &**topic).collect::<Vec<_>>();
        Err(format!("files cannot be written: {}: topics=`{}`", first.error, topics.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn topics(names: &[&str]) -> BTreeSet<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    /// Ends the pause of a topic, and has it read again.
    fn read_again(held: &mut HeldTopics, now: Instant) -> Vec<Arc<str>> {
        assert!(held.end_pauses(now));
        held.take_flushed()
    }

    #[test]
    fn a_topic_is_read_again_after_its_pause_and_a_flush() {
        let (mut held, now, topic) = (HeldTopics::default(), Instant::now(), Arc::from("a"));
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
        let (mut held, now) = (HeldTopics::default(), Instant::now());
        held.hold(&"a".into(), "no directory", false, now);

        assert!(!held.committed("a"));
        assert!(held.is_waiting("a"));
    }

    #[test]
    fn pauses_grow_with_each_attempt_and_failures_of_the_same_one_are_one() {
        let (mut held, mut now, topic) = (HeldTopics::default(), Instant::now(), Arc::from("a"));
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
        let (mut held, now) = (HeldTopics::default(), Instant::now());
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
    fn topics_that_went_to_another_member_are_forgotten() {
        let (mut held, now) = (HeldTopics::default(), Instant::now());
        held.hold(&"a".into(), "no directory", true, now);
        assert_eq!((held.fault("a"), held.fault("b")), (Some("no directory"), None));

        held.keep(&topics(&["b"]));

        assert!(held.readiness().is_ok() && !held.is_waiting("a"));
    }
}
