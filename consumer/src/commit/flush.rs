//! Schedule of cuts and commits. Pure: it takes events and returns actions.
//!
//! ```text
//! batchers:   filling ──cut──▶ closing files ──partial batches──▶ filling (the next batch) …
//! committer:                                        └──commit──▶ committed │ dropped
//! ```
//! One batch is committed while the next one fills. There is never a third: a batch is cut only while the
//! committer is idle.

use std::time::{Duration, Instant};

use crate::batch::partial_batch::PartialBatch;

/// Reason for which a batch was cut, and label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FlushTrigger {
    /// `--flush-interval` passed since its first record.
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

/// Divisor of `--flush-interval` for the first batch of a worker.
const FIRST_BATCH_DIVISOR: u32 = 10;

/// Next action of the worker.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FlushAction {
    /// Command all batchers to cut, with this number.
    Cut(u64, FlushTrigger),
    /// Nothing until this instant or another event.
    Wait(Option<Instant>),
}

/// State of the pipeline between batchers and committer.
#[derive(Debug)]
pub(crate) struct FlushScheduler {
    interval: Duration,
    batchers: usize,
    /// Deadline for the cut of the batch that fills; None while it is empty.
    due: Option<Instant>,
    is_full: bool,
    /// True if a flush of everything read so far was requested.
    is_requested: bool,
    cutting: Option<Vec<PartialBatch>>,
    number: u64,
    is_committing: bool,
}

impl FlushScheduler {
    pub(crate) const fn new(interval: Duration, batchers: usize) -> Self {
        let (due, cutting) = (None, None);
        let (is_full, is_requested, is_committing) = (false, false, false);
        Self { interval, batchers, due, is_full, is_requested, cutting, number: 0, is_committing }
    }

    /// Records that the batch that fills is not empty. The first batch of a worker is cut early: a
    /// backlog may exist, and the operator who started the worker waits for the first rows.
    pub(crate) fn batch_opened(&mut self, now: Instant) {
        let interval =
            if self.number == 0 { self.interval / FIRST_BATCH_DIVISOR } else { self.interval };
        self.due.get_or_insert(now + interval);
    }

    /// Records that a batcher is full.
    pub(crate) const fn batch_full(&mut self) {
        self.is_full = true;
    }

    /// Requests a flush of everything read so far: the next cut happens even if the batch is empty.
    pub(crate) const fn request_flush(&mut self) {
        self.is_requested = true;
    }

    pub(crate) fn next_action(&mut self, now: Instant) -> FlushAction {
        if self.cutting.is_some() || self.is_committing {
            return FlushAction::Wait(None);
        }
        let trigger = if self.is_requested {
            FlushTrigger::Demand
        } else if self.is_full {
            FlushTrigger::Full
        } else if self.due.is_some_and(|due| due <= now) {
            FlushTrigger::Age
        } else {
            return FlushAction::Wait(self.due);
        };
        self.number += 1;
        self.cutting = Some(Vec::with_capacity(self.batchers));
        (self.due, self.is_full, self.is_requested) = (None, false, false);
        FlushAction::Cut(self.number, trigger)
    }

    /// Adds the partial batch of a batcher. Returns all of the cut when the last one is added.
    pub(crate) fn add_partial_batch(
        &mut self,
        number: u64,
        part: PartialBatch,
    ) -> Option<Vec<PartialBatch>> {
        // From before a reset.
        if number != self.number {
            return None;
        }
        let parts = self.cutting.as_mut()?;
        parts.push(part);
        (parts.len() == self.batchers).then(|| self.cutting.take().expect("checked above"))
    }

    pub(crate) const fn commit_sent(&mut self) {
        self.is_committing = true;
    }

    pub(crate) const fn commit_ended(&mut self) {
        self.is_committing = false;
    }

    pub(crate) const fn is_committing(&self) -> bool {
        self.is_committing
    }

    /// Drops the state of uncut and uncommitted records. A commit in progress is not affected.
    pub(crate) fn reset(&mut self) {
        self.number += 1;
        (self.due, self.is_full, self.is_requested, self.cutting) = (None, false, false, None);
    }

    /// Returns whether no flush is requested, being cut or being committed.
    pub(crate) const fn is_idle(&self) -> bool {
        !self.is_requested && self.cutting.is_none() && !self.is_committing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn flush() -> (FlushScheduler, Instant) {
        (FlushScheduler::new(SECOND, 2), Instant::now())
    }

    #[test]
    fn an_empty_batch_is_never_cut() {
        let (mut flush, now) = flush();

        assert_eq!(flush.next_action(now), FlushAction::Wait(None));
    }

    #[test]
    fn a_batch_is_cut_an_interval_after_its_first_record() {
        let (mut flush, now) = flush();
        flush.reset();
        flush.batch_opened(now);
        flush.batch_opened(now + SECOND / 2);

        assert_eq!(flush.next_action(now), FlushAction::Wait(Some(now + SECOND)));
        assert_eq!(flush.next_action(now + SECOND), FlushAction::Cut(2, FlushTrigger::Age));
    }

    #[test]
    fn the_first_batch_is_cut_after_a_tenth_of_the_interval() {
        let (mut flush, now) = flush();
        flush.batch_opened(now);

        assert_eq!(flush.next_action(now + SECOND / 10), FlushAction::Cut(1, FlushTrigger::Age));
    }

    #[test]
    fn a_full_batch_is_cut_at_once() {
        let (mut flush, now) = flush();
        flush.batch_opened(now);
        flush.batch_full();

        assert_eq!(flush.next_action(now), FlushAction::Cut(1, FlushTrigger::Full));
    }

    #[test]
    fn a_cut_is_complete_with_the_partial_batches_of_all_batchers() {
        let (mut flush, now) = flush();
        flush.request_flush();
        assert_eq!(flush.next_action(now), FlushAction::Cut(1, FlushTrigger::Demand));

        assert!(flush.add_partial_batch(1, PartialBatch::default()).is_none());
        assert_eq!(
            flush.add_partial_batch(1, PartialBatch::default()).map(|parts| parts.len()),
            Some(2)
        );
        assert!(flush.is_idle());
    }

    #[test]
    fn the_next_batch_waits_for_the_commit_before_it() {
        let (mut flush, now) = flush();
        flush.commit_sent();
        flush.batch_opened(now);
        flush.batch_full();
        assert_eq!(flush.next_action(now), FlushAction::Wait(None));

        flush.commit_ended();

        assert_eq!(flush.next_action(now), FlushAction::Cut(1, FlushTrigger::Full));
    }

    #[test]
    fn partial_batches_from_before_a_reset_are_ignored() {
        let (mut flush, now) = flush();
        flush.request_flush();
        assert_eq!(flush.next_action(now), FlushAction::Cut(1, FlushTrigger::Demand));
        flush.reset();
        flush.request_flush();
        assert_eq!(flush.next_action(now), FlushAction::Cut(3, FlushTrigger::Demand));

        assert!(flush.add_partial_batch(1, PartialBatch::default()).is_none());
        assert!(flush.add_partial_batch(1, PartialBatch::default()).is_none());
        assert!(!flush.is_idle());
    }
}
