//! Queries for partitions without an owner, and the reaction to the answers (`owner_check`).

use std::collections::BTreeSet;
use std::time::Instant;

use super::Worker;
use super::effect::{ClusterQuery, Effect, join_names};
use crate::source::{SourceCommand, TopicPartition};

impl Worker {
    /// Asks the brokers for partitions without an owner if a query is due. Only partitions that the lake
    /// knows count: a new one has no owner until the group's leader discovers it.
    pub(super) fn advance_owner_check(&mut self, now: Instant) {
        let is_loaded = self.topics.routes.keys().all(|topic| self.partitions.is_in_lake(topic));
        if !self.is_ending()
            && is_loaded
            && let Some(question) =
                self.queries.owners.as_mut().and_then(|check| check.take_due(now))
        {
            let partitions = self.partitions.in_lake();
            self.send(Effect::Query(ClusterQuery::Unowned { partitions, question }));
        }
    }

    pub(super) fn found_unowned(
        &mut self,
        question: u64,
        unowned: Option<BTreeSet<TopicPartition>>,
    ) {
        let (is_ending, now) = (self.is_ending(), self.now);
        let Some(check) = self.queries.owners.as_mut().filter(|_| !is_ending) else { return };
        if let Some(unowned) = check.answered(question, unowned, now) {
            let unowned: Vec<_> = unowned.into_iter().collect();
            tracing::warn!(
                partitions = join_names(&unowned),
                group_id = self.settings.group.id,
                "partitions without an owner, joining the group again"
            );
            self.send(Effect::Source(SourceCommand::Rejoin));
        }
    }
}
