//! Reasons for which the worker is not ready. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::source::cluster_error::{ClusterError, ClusterErrorKind};

const NAME_HELD: &str =
    "another member has this worker's --group-instance-id until it leaves or its session ends";

/// The current reasons. Each is removed when the same operation succeeds.
#[derive(Debug, Default)]
pub(crate) struct ReadinessBlockers {
    lake: Option<String>,
    kafka: Option<String>,
    /// Time since which Kafka refuses queries.
    kafka_refuses_since: Option<Instant>,
    /// The refusal that the group or a broker has reported.
    refusal: Option<KafkaRefusal>,
    /// True while another member has this one's `group.instance.id`.
    is_name_held: bool,
    /// Errors of the schema registry, by the number of the batcher that waits.
    registry: BTreeMap<usize, String>,
}

/// A request that the group or a broker refuses until an operator changes something.
#[derive(Debug)]
struct KafkaRefusal {
    since: Instant,
    /// None if the group is refused.
    topic: Option<Arc<str>>,
    text: String,
}

impl ReadinessBlockers {
    pub(crate) fn lake_failed(&mut self, error: String) {
        self.lake = Some(error);
    }

    pub(crate) fn lake_answered(&mut self) {
        self.lake = None;
    }

    /// Records the error of the last query to Kafka; None if it succeeded.
    pub(crate) fn set_kafka_error(&mut self, failed: Option<&ClusterError>, now: Instant) {
        self.kafka = failed.map(ToString::to_string);
        let refuses = failed.is_some_and(|error| error.kind() == ClusterErrorKind::Refusal);
        self.kafka_refuses_since = refuses.then(|| self.kafka_refuses_since.unwrap_or(now));
    }

    pub(crate) fn is_new_refusal(&self, refusal: &str) -> bool {
        self.refusal.as_ref().is_none_or(|known| known.text != refusal)
    }

    /// Records a refusal of the group or a broker.
    pub(crate) fn refused(&mut self, topic: Option<Arc<str>>, text: String, now: Instant) {
        let since = self.refusal.as_ref().map_or(now, |refusal| refusal.since);
        self.refusal = Some(KafkaRefusal { since, topic, text });
    }

    /// Removes a refusal of the group, after an assignment. Returns whether there was one.
    pub(crate) fn end_group_refusal(&mut self) -> bool {
        self.refusal.take_if(|refusal| refusal.topic.is_none()).is_some()
    }

    /// Removes a refusal of a topic, after a read. Returns whether there was one.
    pub(crate) fn end_topic_refusal(&mut self, topic: &str) -> bool {
        self.refusal.take_if(|refusal| refusal.topic.as_deref() == Some(topic)).is_some()
    }

    /// Returns what Kafka refuses, with the time of the first refusal.
    pub(crate) fn refusal(&self) -> Option<(Instant, String)> {
        let reported = self.refusal.as_ref().map(|refusal| (refusal.since, refusal.text.clone()));
        reported.or_else(|| self.kafka_refuses_since.zip(self.kafka.clone()))
    }

    /// Records whether another member has this one's `group.instance.id`.
    pub(crate) const fn set_name_held(&mut self, is_held: bool) {
        self.is_name_held = is_held;
    }

    /// Records the error for which a batcher waits for the registry; None if it no longer waits.
    pub(crate) fn set_registry_error(&mut self, batcher: usize, waits_for: Option<String>) {
        match waits_for {
            Some(error) => self.registry.insert(batcher, error),
            None => self.registry.remove(&batcher),
        };
    }

    /// Errors with the first reason if the worker is not ready.
    pub(crate) fn readiness(&self) -> Result<(), String> {
        let reasons = [
            ("the lake does not answer", self.lake.clone()),
            ("waiting for the group", self.is_name_held.then(|| NAME_HELD.to_owned())),
            ("Kafka refuses", self.refusal.as_ref().map(|refusal| refusal.text.clone())),
            ("Kafka does not answer", self.kafka.clone()),
            ("waiting for the schema registry", self.registry.values().next().cloned()),
        ];
        let first =
            reasons.into_iter().find_map(|(what, why)| why.map(|why| format!("{what}: {why}")));
        first.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::error::{KafkaError, RDKafkaErrorCode};

    use super::*;
    use crate::clock::Clock;

    fn error(code: RDKafkaErrorCode) -> ClusterError {
        ClusterError::new(KafkaError::MetadataFetch(code), None)
    }

    #[test]
    fn a_refusal_counts_from_its_beginning_until_it_is_lifted() {
        let mut blockers = ReadinessBlockers::default();
        let begin = Clock::manual().now();
        let later = begin + std::time::Duration::from_secs(3);
        assert!(blockers.is_new_refusal("other members"));
        blockers.refused(None, "other members".to_owned(), begin);
        blockers.refused(None, "other members".to_owned(), later);

        assert!(!blockers.is_new_refusal("other members"));
        assert_eq!(blockers.refusal().unwrap().0, begin);
        assert_eq!(blockers.readiness().unwrap_err(), "Kafka refuses: other members");
        assert!(!blockers.end_topic_refusal("events"));
        assert!(blockers.end_group_refusal() && blockers.refusal().is_none());

        blockers.refused(Some("events".into()), "not allowed".to_owned(), begin);
        assert!(!blockers.end_group_refusal() && !blockers.end_topic_refusal("others"));
        assert!(blockers.end_topic_refusal("events") && blockers.refusal().is_none());

        let refusal = error(RDKafkaErrorCode::TopicAuthorizationFailed);
        blockers.set_kafka_error(Some(&refusal), begin);
        blockers.set_kafka_error(Some(&refusal), later);
        assert_eq!(blockers.refusal().unwrap().0, begin);
        blockers.set_kafka_error(Some(&error(RDKafkaErrorCode::OperationTimedOut)), later);
        assert!(blockers.refusal().is_none());
    }

    #[test]
    fn each_reason_is_reported_and_removed() {
        let mut blockers = ReadinessBlockers::default();
        let now = Clock::manual().now();
        let why = |blockers: &ReadinessBlockers| blockers.readiness().unwrap_err();
        assert_eq!(blockers.readiness(), Ok(()));

        blockers.lake_failed("connection refused".to_owned());
        assert_eq!(why(&blockers), "the lake does not answer: connection refused");
        blockers.lake_answered();
        blockers.set_kafka_error(Some(&error(RDKafkaErrorCode::OperationTimedOut)), now);
        assert!(why(&blockers).contains("Kafka"));
        blockers.set_kafka_error(None, now);
        blockers.set_name_held(true);
        assert!(why(&blockers).contains("--group-instance-id"));
        blockers.set_name_held(false);

        assert_eq!(blockers.readiness(), Ok(()));
    }

    #[test]
    fn the_registry_blocks_readiness_until_no_batcher_waits_for_it() {
        let mut blockers = ReadinessBlockers::default();
        blockers.set_registry_error(0, Some("refused".to_owned()));
        blockers.set_registry_error(1, Some("refused".to_owned()));
        blockers.set_registry_error(0, None);
        assert!(blockers.readiness().unwrap_err().contains("registry"));

        blockers.set_registry_error(1, None);

        assert_eq!(blockers.readiness(), Ok(()));
    }
}
