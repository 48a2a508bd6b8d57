//! Actions of the worker that follow from its state and the time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch_cycle::FlushAction;
use super::effect::{ClusterQuery, Effect};
use super::periodic_query::PeriodicQuery;
use super::{Ending, Phase, Revocation, Worker};
use crate::batch::batcher::BatcherCommand;
use crate::commit::request::CommitterRequest;
use crate::source::SourceCommand;

/// Longest time between two steps: checks that have no timer of their own are that late at most.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Longest time after which a worker that commits nothing detects a replay or skip. A refresh is one small
/// query for each topic.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);

/// Time between two queries for the end offsets of partitions, for the lag in metrics, and to detect an
/// outage while there is nothing to commit. A query is one request to each broker.
const ENDS_INTERVAL: Duration = Duration::from_secs(5);

/// Time between two counts of partitions, a request for each topic.
const PARTITION_COUNTS_INTERVAL: Duration = Duration::from_secs(30);

impl Worker {
    /// Performs all actions that are due. Returns the time of the next call.
    pub(super) fn advance(&mut self) -> Instant {
        let now = self.now;
        if !self.is_ending() && self.topics.held.end_pauses(now) {
            self.batches.request_flush();
        }
        self.advance_goals(now);
        self.advance_refusal(now);
        self.refresh_positions(now);
        self.refresh_ends(now);
        self.refresh_partition_counts(now);
        self.advance_owner_check(now);
        self.advance_revocation(now);
        let cut_due = self.advance_batches(now);
        self.advance_revocation(now);
        self.advance_held_topics();
        self.advance_alterations();
        self.advance_ending();
        let revocation_due = self.revocation.as_ref().map(|revocation| revocation.deadline);
        let ending_due = match &self.phase {
            Phase::Draining(ending) | Phase::Leaving(ending) => Some(ending.deadline),
            Phase::Running | Phase::Left(_) => None,
        };
        let deadlines = [cut_due, revocation_due, ending_due];
        deadlines.into_iter().flatten().fold(now + HEARTBEAT, Instant::min)
    }

    /// Cuts the batch that fills if it is due. Returns the time of the next cut.
    fn advance_batches(&mut self, now: Instant) -> Option<Instant> {
        let (number, trigger) = match self.batches.next_action(now) {
            FlushAction::Wait(due) => return due,
            FlushAction::Cut(number, trigger) => (number, trigger),
        };
        self.metrics.batching.flushed(trigger);
        self.traces.batch_cut(now);
        let mut forget = Vec::new();
        if let Some(revocation) = &mut self.revocation {
            revocation.is_cut = true;
            forget.clone_from(&revocation.partitions);
        }
        // The others have no records.
        for index in 0..self.spread.used() {
            let forget = forget.clone();
            self.send(Effect::Batcher(index, BatcherCommand::Cut { number, forget }));
        }
        None
    }

    /// Completes a revocation whose partitions are flushed, or whose deadline is over.
    fn advance_revocation(&mut self, now: Instant) {
        let Some(revocation) = &self.revocation else { return };
        let flushed =
            revocation.is_cut && (self.batches.is_idle() || mutated!(RevokedBeforeCommit));
        if !flushed && revocation.deadline > now {
            return;
        }
        let revocation = self.revocation.take().expect("checked above");
        self.end_revocation(revocation, flushed);
    }

    /// Ends a revocation for which the poll loop no longer waits: it reports the next rebalance. The
    /// partitions may be assigned again by it.
    pub(super) fn end_unanswered_revocation(&mut self) {
        if let Some(revocation) = self.revocation.take() {
            self.end_revocation(revocation, false);
        }
    }

    fn end_revocation(&mut self, revocation: Revocation, flushed: bool) {
        self.partitions.remove(&revocation.partitions);
        self.spread.remove(&revocation.partitions);
        for partition in &revocation.partitions {
            self.metrics.lag.remove(partition);
        }
        if !flushed {
            tracing::warn!("revoked partitions not committed in time, their records are dropped");
            self.send(Effect::Committer(CommitterRequest::Abandon));
            if !mutated!(RevokedRecordsKept) {
                self.reset();
            }
            self.load_all();
        }
        self.topics.held.keep(&self.partitions.topics());
        self.metrics.batching.held(self.topics.held.len());
        self.metrics.reading.assigned(self.partitions.len());
        self.send(Effect::ReleasePartitions(revocation.done));
    }

    /// Reads held topics again, once the records of other topics are committed.
    fn advance_held_topics(&mut self) {
        if self.batches.is_idle() {
            for topic in self.topics.held.take_flushed() {
                self.load(&topic, Vec::new());
            }
        }
    }

    /// Leaves the group once all records are committed.
    fn advance_ending(&mut self) {
        if !self.batches.is_idle() {
            return;
        }
        if let Phase::Draining(Ending { result, deadline }) = &mut self.phase {
            let result = std::mem::replace(result, Ok(()));
            self.phase = Phase::Leaving(Ending { result, deadline: *deadline });
            self.send(Effect::Source(SourceCommand::Close));
        }
    }

    /// Reads the committed positions at intervals, to detect a replay or skip: a worker that commits nothing
    /// is not fenced.
    fn refresh_positions(&mut self, now: Instant) {
        // The positions of partitions that wait for them are being loaded already.
        let is_busy = self.batches.is_committing() || self.is_ending() || self.is_loading();
        if is_busy || !self.queries.positions.is_due(now) {
            return;
        }
        let is_awaited = self.settings.goals.is_some();
        let interval = if is_awaited { HEARTBEAT } else { REFRESH_INTERVAL };
        self.queries.positions.sent(now, interval);
        self.load_all_positions();
    }

    /// Returns whether positions of partitions are being loaded. Partitions of a held topic, or of one that
    /// is not open, wait for something else.
    fn is_loading(&self) -> bool {
        let is_asked = |topic: &Arc<str>| {
            self.topics.routes.contains_key(topic) && !self.topics.held.is_waiting(topic)
        };
        self.partitions.topics_loading().iter().any(is_asked)
    }

    /// Queries the end offsets of this member's partitions at intervals.
    fn refresh_ends(&mut self, now: Instant) {
        if self.is_ending() || !self.queries.ends.is_due(now) {
            return;
        }
        let partitions = self.partitions.all();
        if partitions.is_empty() {
            self.queries.ends = PeriodicQuery::due_at(now + ENDS_INTERVAL);
            return;
        }
        self.queries.ends.sent(now, ENDS_INTERVAL);
        self.send(Effect::Query(ClusterQuery::Ends(partitions)));
    }

    /// Queries the numbers of partitions of all topics at intervals, also of those that this member reads
    /// nothing of: the metric shows partitions that no member reads.
    fn refresh_partition_counts(&mut self, now: Instant) {
        let topics: Vec<_> = self.topics.routes.keys().map(Arc::clone).collect();
        if self.is_ending() || topics.is_empty() || !self.queries.partition_counts.is_due(now) {
            return;
        }
        self.queries.partition_counts.sent(now, PARTITION_COUNTS_INTERVAL);
        self.send(Effect::Query(ClusterQuery::PartitionCounts(topics)));
    }
}
