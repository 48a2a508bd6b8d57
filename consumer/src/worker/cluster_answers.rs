//! Reactions of the worker to answers of the cluster.

use std::collections::BTreeSet;
use std::sync::Arc;

use ducktide_protocol::commit::Commit;
use ducktide_protocol::position::Offset;

use super::Worker;
use super::effect::{ClusterQuery, Effect};
use crate::batch::partial_batch::CommitStats;
use crate::batch::topic_route::TopicRoute;
use crate::commit::request::CommitterRequest;
use crate::error::ConsumerError;
use crate::metrics::RetryCause;
use crate::source::inspect::{Identity, Watermarks};
use crate::source::{ClusterAnswer, TopicPartition};

impl Worker {
    pub(super) fn handle_cluster_answer(&mut self, event: ClusterAnswer) {
        let error = match &event {
            ClusterAnswer::Unanswered(error) => Some(error),
            _ => None,
        };
        // A failure of these queries does not indicate an outage.
        let is_optional = matches!(
            event,
            ClusterAnswer::Readers { .. }
                | ClusterAnswer::Unowned { .. }
                | ClusterAnswer::PartitionCounts(_)
        );
        if !is_optional {
            self.blockers.set_kafka_error(error, self.now);
        }
        match event {
            ClusterAnswer::Readers { partitions, members } => {
                self.found_readers(&partitions, members.as_deref());
            }
            ClusterAnswer::Unowned { question, partitions } => {
                self.found_unowned(question, partitions);
            }
            ClusterAnswer::PartitionCounts(counts) => {
                self.queries.partition_counts.answered();
                self.metrics.reading.counted_partitions(&counts);
            }
            ClusterAnswer::Unanswered(_) => {
                self.queries.ends.answered();
                self.metrics.batching.retried(RetryCause::Kafka);
            }
            ClusterAnswer::Ends(ends) => {
                self.queries.ends.answered();
                self.metrics.lag.record_ends(&ends);
            }
            ClusterAnswer::Identity { topic, identity, question } => {
                self.identified(&topic, identity, question);
            }
            ClusterAnswer::Beginnings { topic, starts } => self.load(&topic, starts),
            ClusterAnswer::Range { partition, watermarks } => {
                let offset = self.partitions.next_offset(&partition);
                let route = self.topics.routes.get(&partition.topic).cloned();
                tracing::error!(
                    topic = %partition.topic, partition = partition.partition.0,
                    offset = offset.map(|offset| offset.0),
                    low_watermark = watermarks.low.0, high_watermark = watermarks.high.0,
                    resolve_with = remedy_commands(route.as_deref(), &partition, offset, watermarks),
                    "Kafka does not have the lake's offset, partition stopped; others continue"
                );
            }
        }
    }

    /// Queries the ids of topics. Returns the number of the query.
    pub(super) fn identify(&mut self, topics: BTreeSet<Arc<str>>) -> u64 {
        self.queries.question += 1;
        let question = self.queries.question;
        for topic in topics {
            self.send(Effect::Query(ClusterQuery::Identity { topic, question }));
        }
        question
    }

    /// Commits a batch as soon as its topics are identified.
    pub(super) fn identify_and_commit(&mut self, batch: (Commit, CommitStats)) {
        let (commit, _) = &batch;
        let sources: BTreeSet<_> = commit.progress().iter().map(|delta| delta.source).collect();
        let routes = self.topics.routes.values().filter(|route| sources.contains(&route.source.id));
        let topics: BTreeSet<_> = routes.map(|route| Arc::clone(&route.topic)).collect();
        let question = self.identify(topics.clone());
        self.batches.identify(batch, topics, question, self.now);
    }

    fn identified(&mut self, topic: &Arc<str>, identity: Identity, question: u64) {
        let Some(route) = self.topics.routes.get(topic) else { return };
        let mut seen = route.source.spec.clone();
        (seen.cluster_id, seen.topic_id) = (identity.cluster_id, identity.topic_id);
        if let Err(error) = route.source.check_identity(&seen)
            && !mutated!(TopicIdNotChecked)
        {
            self.reset();
            self.fail(ConsumerError::Identity(error));
            return;
        }
        if self.partitions.topics_loading().contains(topic) {
            self.load(topic, Vec::new());
        }
        if let Some(commit) = self.batches.identified(topic, question) {
            self.traces.identified(self.now);
            self.send(Effect::Committer(CommitterRequest::Commit(commit)));
        }
    }
}

/// Returns the command that resolves a stopped partition: skip the records that Kafka no longer has, or
/// replay those that it has.
fn remedy_commands(
    route: Option<&TopicRoute>,
    partition: &TopicPartition,
    offset: Option<Offset>,
    watermarks: Watermarks,
) -> String {
    let table = route.map(|s| format!(" --table {}", s.source.spec.table)).unwrap_or_default();
    let (topic, number) = (&partition.topic, partition.partition);
    let place = format!("--topic {topic} --partition {number}{table}");
    let Watermarks { low, high } = watermarks;
    if offset.is_some_and(|offset| offset < low) {
        format!("ducktide skip {place} --to-offset {low}")
    } else {
        format!("ducktide replay {place} --from-offset {high}")
    }
}
