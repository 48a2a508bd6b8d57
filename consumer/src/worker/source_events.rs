//! Reactions of the worker to events of the poll loop: rebalances, refusals, the static name.

use std::mem;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::effect::{ClusterQuery, Effect, join_names};
use super::{Ending, Phase, Revocation, Worker};
use crate::error::ConsumerError;
use crate::metrics::{Rebalance, RetryCause};
use crate::source::{SourceEvent, TopicPartition};

impl Worker {
    pub(super) fn handle_source(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Assigned(partitions) => {
                self.end_unanswered_revocation();
                tracing::info!(partitions = join_names(&partitions), "partitions assigned");
                let mut topics = partitions.iter().map(|partition| &partition.topic);
                if self.blockers.end_group_refusal()
                    || topics.any(|topic| self.blockers.end_topic_refusal(topic))
                {
                    self.refusal_lifted();
                }
                self.partitions.assigned(&partitions);
                self.metrics.reading.assigned(self.partitions.len());
                self.metrics.reading.rebalanced(Rebalance::Assigned);
                if let Some(check) = &mut self.queries.owners {
                    check.assigned(self.now);
                }
                self.identify(self.partitions.topics_loading());
                self.open_new_topics();
            }
            SourceEvent::Revoking { partitions, lost, done } => {
                tracing::info!(partitions = join_names(&partitions), lost, "partitions revoked");
                let event = if lost { Rebalance::Lost } else { Rebalance::Revoked };
                self.metrics.reading.rebalanced(event);
                self.revoke(partitions, lost, done);
            }
            SourceEvent::OutOfRange(partition, error) => {
                tracing::debug!(%partition, error, "offset out of range, querying the offsets of the partition");
                if !self.partitions.stop(&partition) {
                    return;
                }
                // A topic that was created again usually has fewer records.
                self.identify([Arc::clone(&partition.topic)].into());
                self.send(Effect::Query(ClusterQuery::Range(partition)));
            }
            SourceEvent::NameTaken if mutated!(ZombieTrusted) => {}
            SourceEvent::NameTaken => {
                let name = self.settings.config.source.group_instance_id.clone();
                self.fail(ConsumerError::NameTaken(name.unwrap_or_default()));
            }
            SourceEvent::NameHeld => {
                let group_instance_id = self.settings.config.source.group_instance_id.as_deref();
                tracing::warn!(
                    group_instance_id,
                    "another member of the group has this worker's --group-instance-id; waiting until it \
                     leaves or its session ends"
                );
                self.blockers.set_name_held(true);
            }
            SourceEvent::NameReleased => {
                tracing::info!("the group has released this worker's --group-instance-id");
                self.blockers.set_name_held(false);
            }
            SourceEvent::Refused { topic, refusal } => self.refused(topic, refusal),
            SourceEvent::Fatal(text) => self.fail(ConsumerError::Kafka(text)),
            SourceEvent::Closed => self.left(),
        }
    }

    /// Records a refusal of Kafka. It is reported at each attempt and logged once.
    fn refused(&mut self, topic: Option<Arc<str>>, refusal: String) {
        self.metrics.batching.retried(RetryCause::Kafka);
        self.metrics.reading.refused(true);
        if self.blockers.is_new_refusal(&refusal) {
            tracing::error!(error = refusal, "Kafka refuses a request, retrying");
        }
        self.blockers.refused(topic, refusal, self.now);
    }

    pub(super) fn refusal_lifted(&self) {
        self.metrics.reading.refused(false);
        tracing::info!("Kafka no longer refuses the request");
    }

    fn revoke(&mut self, partitions: Vec<TopicPartition>, lost: bool, done: mpsc::SyncSender<()>) {
        if matches!(self.phase, Phase::Leaving(_)) {
            // All records are committed or dropped.
            self.send(Effect::ReleasePartitions(done));
            return;
        }
        self.end_unanswered_revocation();
        // Commits for lost partitions would be rejected, and would delay their next owner.
        let wait =
            if lost { Duration::ZERO } else { self.settings.config.process.revocation_timeout };
        let deadline = self.now + wait;
        self.revocation = Some(Revocation { partitions, done, deadline, is_cut: false });
        self.batches.request_flush();
    }

    /// Ends the worker, whose poll loop has left the group.
    fn left(&mut self) {
        self.phase = match mem::replace(&mut self.phase, Phase::Running) {
            Phase::Draining(Ending { result, .. }) | Phase::Leaving(Ending { result, .. }) => {
                Phase::Left(result)
            }
            // It leaves only on command, or after an error that it has reported.
            Phase::Running | Phase::Left(_) => Phase::Left(Ok(())),
        };
    }
}
