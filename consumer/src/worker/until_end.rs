//! The end of a worker with `--until-end`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Worker;
use super::awaited_members::{OtherMembersWait, REFUSAL_LIMIT};
use super::effect::{ClusterQuery, Effect, join_names};
use crate::error::ConsumerError;
use crate::source::group_members::GroupMember;
use crate::source::topic_partition::TopicPartition;

/// Time without own partitions to read after which the group is described. By then a rebalance is complete,
/// and members have committed what they read.
const OTHERS_AFTER: Duration = Duration::from_secs(5);

impl Worker {
    /// Ends the worker when the lake has reached the goals, also by commits of other members.
    pub(super) fn advance_goals(&mut self, now: Instant) {
        let Some(goals) = &self.settings.goals else { return };
        if self.is_ending() {
            return;
        }
        let open = self.partitions.behind(goals);
        let (stopped, open): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|partition| self.partitions.is_stopped(partition));
        let faults = open.iter().map(|partition| self.topics.held.fault(&partition.topic));
        if let Some(faults) = faults.collect::<Option<Vec<_>>>() {
            let result = if let Some(fault) = faults.first() {
                Err(ConsumerError::Files((*fault).to_owned()))
            } else if stopped.is_empty() {
                tracing::info!("all records up to the end offsets at the start are committed");
                Ok(())
            } else {
                Err(ConsumerError::OffsetsGone(join_names(&stopped)))
            };
            self.end(result);
            return;
        }
        if open.iter().any(|partition| self.partitions.is_owned(partition)) {
            self.others.since = None;
            return;
        }
        let since = *self.others.since.get_or_insert(now);
        if !self.others.is_asked && now.saturating_duration_since(since) >= OTHERS_AFTER {
            self.others.is_asked = true;
            self.send(Effect::Query(ClusterQuery::Readers(open)));
        }
    }

    /// Logs the other members that read the partitions. `members` is None if the brokers do not describe the
    /// group.
    pub(super) fn found_readers(
        &mut self,
        partitions: &[TopicPartition],
        members: Option<&[GroupMember]>,
    ) {
        let reads = |member: &&GroupMember| {
            partitions.iter().any(|partition| member.partitions.contains(partition))
        };
        let readers: Vec<_> = members.unwrap_or_default().iter().filter(reads).collect();
        if members.is_some() && readers.is_empty() {
            // The group is about to assign them.
            self.others = OtherMembersWait::default();
            return;
        }
        let own = &self.settings.group.client_id;
        let is_foreign = readers.iter().any(|member| member.is_of_another_lake(own));
        let readers: BTreeSet<_> = readers.into_iter().map(ToString::to_string).collect();
        let members = readers.into_iter().collect::<Vec<_>>().join(" ");
        let (partitions, group_id) = (join_names(partitions), &self.settings.group.id);
        if is_foreign {
            tracing::warn!(
                partitions,
                group_id,
                members,
                "--until-end waits for partitions that another lake's consumers read; give each lake's \
                 consumers a --group-id of their own"
            );
        } else {
            tracing::info!(
                partitions,
                group_id,
                members,
                "--until-end waits for partitions that other members of the group read"
            );
        }
    }

    /// Ends the worker if Kafka refuses a request for too long.
    pub(super) fn advance_refusal(&mut self, now: Instant) {
        if self.settings.goals.is_some()
            && !self.is_ending()
            && let Some((since, refusal)) = self.blockers.refusal()
            && now.saturating_duration_since(since) >= REFUSAL_LIMIT
        {
            self.fail(ConsumerError::KafkaRefuses(refusal));
        }
    }
}
