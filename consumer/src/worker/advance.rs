//! Actions of the worker that follow from its state and the time.

use std::sync::Arc;
use std::time::Instant;

use super::{ENDS_INTERVAL, HEARTBEAT, REFRESH_INTERVAL, Worker};
use crate::batch::batcher::{Batcher, BatcherCommand};
use crate::commit::flush::FlushAction;
use crate::commit::request::CommitterRequest;
use crate::error::ConsumerError;
use crate::source::SourceCommand;

impl Worker {
    /// Performs all actions that are due. Returns the time of the next call.
    pub(super) fn advance(&mut self) -> Instant {
        let now = Instant::now();
        let mut wake = now + HEARTBEAT;
        if self.batchers.iter().any(Batcher::is_dead) {
            self.fail(ConsumerError::Panicked);
        }
        if self.shutdown.is_none() && self.held_topics.end_pauses(now) {
            self.flush.request_flush();
        }
        self.advance_goals(now);
        self.advance_refusal(now);
        self.refresh_positions(now);
        self.refresh_ends(now);
        self.advance_owner_check(now);
        self.deps.metrics.reading.queued(self.in_flight.records(), self.in_flight.bytes());
        self.advance_revocation(now);
        match self.flush.next_action(now) {
            FlushAction::Wait(due) => wake = due.map_or(wake, |due| due.min(wake)),
            FlushAction::Cut(number, trigger) => {
                self.deps.metrics.batching.flushed(trigger);
                let mut forget = Vec::new();
                if let Some(revocation) = &mut self.revocation {
                    revocation.cut = true;
                    forget.clone_from(&revocation.partitions);
                }
                for batcher in &self.batchers {
                    batcher.send(BatcherCommand::Cut { number, forget: forget.clone() });
                }
            }
        }
        self.advance_revocation(now);
        self.advance_held_topics();
        self.advance_alterations();
        self.advance_shutdown();
        wake
    }

    /// Completes a revocation whose partitions are flushed, or whose deadline is over.
    fn advance_revocation(&mut self, now: Instant) {
        let Some(revocation) = &self.revocation else { return };
        let flushed = revocation.cut && self.flush.is_idle();
        if !flushed && revocation.deadline > now {
            return;
        }
        let revocation = self.revocation.take().expect("checked above");
        self.partitions.remove(&revocation.partitions);
        for partition in &revocation.partitions {
            self.deps.metrics.lag.remove(partition);
        }
        if !flushed {
            tracing::warn!("revoked partitions not committed in time, their records are dropped");
            self.committer.send(CommitterRequest::Abandon);
            self.reset();
            self.load_all();
        }
        self.held_topics.keep(&self.partitions.topics());
        self.deps.metrics.batching.held(self.held_topics.len());
        self.deps.metrics.reading.assigned(self.partitions.len());
        // The poll thread may no longer wait.
        let _ = revocation.done.try_send(());
    }

    /// Reads held topics again, once the records of other topics are committed.
    fn advance_held_topics(&mut self) {
        if self.flush.is_idle() {
            for topic in self.held_topics.take_flushed() {
                self.load(&topic, Vec::new());
            }
        }
    }

    /// Leaves the group once all records are committed.
    fn advance_shutdown(&mut self) {
        let settled = self.flush.is_idle();
        if let Some(shutdown) = &mut self.shutdown
            && settled
            && !shutdown.closing
        {
            shutdown.closing = true;
            self.source.send(SourceCommand::Close);
        }
    }

    /// Reads the committed positions at intervals, to detect a replay or skip: a worker that commits nothing
    /// is not fenced.
    fn refresh_positions(&mut self, now: Instant) {
        let busy = self.is_refreshing || self.flush.is_committing();
        // The positions of partitions that wait for them are being loaded already.
        if busy || self.refresh_at > now || self.shutdown.is_some() || self.is_loading() {
            return;
        }
        self.refresh_at = now + if self.goals.is_some() { HEARTBEAT } else { REFRESH_INTERVAL };
        self.is_refreshing = true;
        self.load_all_positions();
    }

    /// Returns whether positions of partitions are being loaded. Partitions of a held topic, or of one that
    /// is not open, wait for something else.
    fn is_loading(&self) -> bool {
        let is_asked = |topic: &Arc<str>| {
            self.routes.contains_key(topic) && !self.held_topics.is_waiting(topic)
        };
        self.partitions.topics_loading().iter().any(is_asked)
    }

    /// Queries the end offsets of this member's partitions at intervals.
    fn refresh_ends(&mut self, now: Instant) {
        if self.is_finding_ends || self.ends_at > now || self.shutdown.is_some() {
            return;
        }
        self.ends_at = now + ENDS_INTERVAL;
        let partitions = self.partitions.all();
        if !partitions.is_empty() {
            self.is_finding_ends = true;
            self.deps.queries.find_ends(partitions);
        }
    }
}
