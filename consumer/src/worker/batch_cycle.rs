//! Life of a batch in the worker.
//!
//! ```text
//! filling ──cut──▶ cutting ──all partial batches──▶ identifying ──all topics──▶ committing ──▶ ended
//!                     └───────────── reset ─────────────┴──▶ dropped
//! ```
//! One batch moves from the cut to its commit while the next one fills. There is never a third: a batch is
//! cut only while none moves. A reset drops the batch that fills, and the one that moves unless its commit
//! was sent.
//!
//! A batch is committed once the ids of its topics are confirmed. A topic that is deleted and created again
//! need not cause a rebalance, and has other records at the same offsets. Therefore the ids are queried
//! after the records were read and before they are committed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ducktide_protocol::commit::Commit;

use crate::batch::partial_batch::{self, CommitStats, PartialBatch};

/// Reason for which a batch was cut, and label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FlushTrigger {
    /// `--flush-interval` passed since the cut before it.
    Age,
    /// `--flush-bytes`, `--flush-rows`, the memory or the number of dates is reached.
    Full,
    /// Partitions are revoked, a held topic is retried, or the worker stops.
    Demand,
}

impl FlushTrigger {
    /// All reasons, for metrics that begin at 0.
    pub(crate) const ALL: [Self; 3] = [Self::Age, Self::Full, Self::Demand];

    /// Returns the label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Full => "full",
            Self::Demand => "demand",
        }
    }
}

/// Divisor of `--flush-interval` for the shortest time for filling a batch: that of the first batch of a
/// worker, and of the first batch after a time without records.
const SHORTEST_FILL_DIVISOR: u32 = 10;

/// Duration after which a commit counts as stuck. An ordinary commit takes milliseconds, and the timeouts
/// of the catalog, after which it is retried, are 15 seconds and more.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// Next action of the worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FlushAction {
    /// Command all batchers to cut, with this number.
    Cut(u64, FlushTrigger),
    /// Nothing until this instant or another event.
    Wait(Option<Instant>),
}

/// The batch that fills, and the one that moves.
#[derive(Debug)]
pub(super) struct BatchCycle {
    interval: Duration,
    batchers: usize,
    /// Deadline for the cut of the batch that fills; None while it is empty.
    due: Option<Instant>,
    /// Reason to cut the batch that fills before its deadline.
    trigger: Option<FlushTrigger>,
    moving: Moving,
    /// Number of the last cut or reset.
    number: u64,
    /// Time of the last cut, and its reason.
    last_cut: Option<(Instant, FlushTrigger)>,
}

/// State of the batch that was cut last.
#[derive(Debug)]
enum Moving {
    /// There is none.
    Ended,
    /// The batchers close their files.
    Cutting(Vec<PartialBatch>),
    /// Kafka is asked for the ids of its topics.
    Identifying(IdentityCheck),
    /// The commit was sent.
    Committing { since: Instant, stats: CommitStats },
}

/// A batch whose topics are being identified.
#[derive(Debug)]
struct IdentityCheck {
    since: Instant,
    commit: Commit,
    stats: CommitStats,
    question: u64,
    /// The topics that are not identified yet.
    topics: BTreeSet<Arc<str>>,
}

impl BatchCycle {
    pub(super) const fn new(interval: Duration, batchers: usize) -> Self {
        Self {
            interval,
            batchers,
            due: None,
            trigger: None,
            moving: Moving::Ended,
            number: 0,
            last_cut: None,
        }
    }

    /// Records that the batch that fills is not empty. It is cut an interval after the cut before it, so that
    /// a steady flow is committed once in each interval, however long after a cut the first record comes. A
    /// batch after a time without records is cut early: nothing is gained if its rows wait longer.
    pub(super) fn batch_opened(&mut self, now: Instant) {
        let earliest = now + self.interval / SHORTEST_FILL_DIVISOR;
        let due = self.last_cut.map_or(earliest, |(cut, _)| earliest.max(cut + self.interval));
        self.due.get_or_insert(due);
    }

    /// Records that a batcher is full.
    pub(super) fn batch_full(&mut self) {
        self.trigger.get_or_insert(FlushTrigger::Full);
    }

    /// Requests a flush of everything read so far: the next cut happens even if the batch is empty.
    pub(super) const fn request_flush(&mut self) {
        self.trigger = Some(FlushTrigger::Demand);
    }

    /// Returns the time of the last cut, and its reason.
    pub(super) const fn last_cut(&self) -> Option<(Instant, FlushTrigger)> {
        self.last_cut
    }

    /// Changes the number of batchers of the next cut. A reset must follow: a batcher that is no longer cut
    /// may have records.
    pub(super) const fn use_batchers(&mut self, batchers: usize) {
        self.batchers = batchers;
    }

    pub(super) fn next_action(&mut self, now: Instant) -> FlushAction {
        if !matches!(self.moving, Moving::Ended) {
            return FlushAction::Wait(None);
        }
        let aged = self.due.filter(|due| *due <= now).map(|_| FlushTrigger::Age);
        let Some(trigger) = self.trigger.or(aged) else { return FlushAction::Wait(self.due) };
        self.number += 1;
        self.moving = Moving::Cutting(Vec::with_capacity(self.batchers));
        (self.due, self.trigger, self.last_cut) = (None, None, Some((now, trigger)));
        FlushAction::Cut(self.number, trigger)
    }

    /// Adds the partial batch of a batcher. Returns the commit when the last one is added, if there is
    /// progress; it waits for [`Self::identify`].
    pub(super) fn add_partial_batch(
        &mut self,
        number: u64,
        part: PartialBatch,
    ) -> Option<(Commit, CommitStats)> {
        // From before a reset.
        if number != self.number && !mutated!(PartOfOldCutAccepted) {
            return None;
        }
        let Moving::Cutting(parts) = &mut self.moving else { return None };
        parts.push(part);
        if parts.len() < self.batchers {
            return None;
        }
        let parts = std::mem::take(parts);
        self.moving = Moving::Ended;
        partial_batch::merge(parts)
    }

    /// Keeps a commit until its topics are identified by the answers to this query.
    pub(super) fn identify(
        &mut self,
        (commit, stats): (Commit, CommitStats),
        topics: BTreeSet<Arc<str>>,
        question: u64,
        now: Instant,
    ) {
        let check = IdentityCheck { since: now, commit, stats, question, topics };
        self.moving = Moving::Identifying(check);
    }

    /// Records that a topic was identified. Returns the commit to send after the last one. Answers to
    /// earlier queries do not cover records that were read since.
    pub(super) fn identified(&mut self, topic: &str, question: u64) -> Option<Commit> {
        match &mut self.moving {
            Moving::Identifying(check) if check.question == question => check.topics.remove(topic),
            _ => return None,
        };
        match std::mem::replace(&mut self.moving, Moving::Ended) {
            Moving::Identifying(IdentityCheck { since, commit, stats, topics, .. })
                if topics.is_empty() =>
            {
                self.moving = Moving::Committing { since, stats };
                Some(commit)
            }
            waiting => {
                self.moving = waiting;
                None
            }
        }
    }

    /// Ends the commit with any result. Returns its statistics.
    pub(super) fn end_commit(&mut self) -> CommitStats {
        match std::mem::replace(&mut self.moving, Moving::Ended) {
            Moving::Committing { stats, .. } => stats,
            other => {
                self.moving = other;
                CommitStats::default()
            }
        }
    }

    /// Returns whether a commit waits for its topics or was sent.
    pub(super) const fn is_committing(&self) -> bool {
        matches!(self.moving, Moving::Identifying(_) | Moving::Committing { .. })
    }

    /// Drops the state of uncut and unsent records. A commit in progress is not affected.
    pub(super) fn reset(&mut self) {
        self.number += 1;
        (self.due, self.trigger) = (None, None);
        if !matches!(self.moving, Moving::Committing { .. }) {
            self.moving = Moving::Ended;
        }
    }

    /// Returns whether no flush is requested, being cut or being committed.
    pub(super) fn is_idle(&self) -> bool {
        self.trigger != Some(FlushTrigger::Demand) && matches!(self.moving, Moving::Ended)
    }

    /// Errors if the commit takes so long that an operator should know.
    pub(super) fn readiness(&self, now: Instant) -> Result<(), String> {
        let since = match &self.moving {
            Moving::Identifying(IdentityCheck { since, .. }) | Moving::Committing { since, .. } => {
                *since
            }
            Moving::Ended | Moving::Cutting(_) => return Ok(()),
        };
        let waited = now.saturating_duration_since(since);
        if waited <= STUCK_AFTER {
            return Ok(());
        }
        Err(format!("a commit does not end: {} s so far", waited.as_secs()))
    }
}

#[cfg(test)]
#[path = "batch_cycle_tests.rs"]
mod tests;
