//! When batches are cut and committed. Pure: events go in, actions come out.
//!
//! ```text
//! batchers:   filling ──cut──▶ closing files ──parts──▶ filling (the next batch) …
//! committer:                                   └──commit──▶ ok │ dropped
//! ```
//! One batch commits while the next one fills; a third is never begun, so a batch is only cut while
//! the committer is free.

use std::time::{Duration, Instant};

use crate::batch::partial_batch::PartialBatch;

/// Why a batch was cut; the label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FlushTrigger {
    /// `--flush-interval` after its first record.
    Age,
    /// `--flush-bytes`, `--flush-rows`, memory or too many dates.
    Full,
    /// Partitions go, a held topic is tried again, or the worker ends.
    Demand,
}

impl FlushTrigger {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Age, Self::Full, Self::Demand];

    /// The label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Full => "full",
            Self::Demand => "demand",
        }
    }
}

/// The part of `--flush-interval` after which a worker's first batch is cut.
const FIRST_BATCH_DIVISOR: u32 = 10;

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FlushAction {
    /// Have all batchers cut, under this number.
    Cut(u64, FlushTrigger),
    /// Nothing before this instant, or before another event.
    Wait(Option<Instant>),
}

/// The state of the pipeline between batchers and committer.
#[derive(Debug)]
pub(crate) struct FlushScheduler {
    interval: Duration,
    batchers: usize,
    /// When the batch that fills must be cut at the latest; None while it is empty.
    due: Option<Instant>,
    is_full: bool,
    /// Somebody waits for everything read so far to be committed.
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

    /// The batch that fills has something. A worker's first batch is cut early: a backlog may wait for
    /// it, and so does somebody who has just started the worker.
    pub(crate) fn batch_opened(&mut self, now: Instant) {
        let interval =
            if self.number == 0 { self.interval / FIRST_BATCH_DIVISOR } else { self.interval };
        self.due.get_or_insert(now + interval);
    }

    /// A batcher has no room for more.
    pub(crate) const fn batch_full(&mut self) {
        self.is_full = true;
    }

    /// Everything read so far is to be committed: cut once more, whether there is something or not.
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

    /// Takes a batcher's part; all parts of the cut once the last one is there.
    pub(crate) fn add_partial_batch(
        &mut self,
        number: u64,
        part: PartialBatch,
    ) -> Option<Vec<PartialBatch>> {
        // A part of a cut that a reset overtook.
        if number != self.number {
            return None;
        }
        let parts = self.cutting.as_mut()?;
        parts.push(part);
        (parts.len() == self.batchers).then(|| self.cutting.take().expect("looked at above"))
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

    /// Everything that batchers gathered is dropped; a commit under way is not.
    pub(crate) fn reset(&mut self) {
        self.number += 1;
        (self.due, self.is_full, self.is_requested, self.cutting) = (None, false, false, None);
    }

    /// Whether a demand was met: nothing is being cut or committed any more.
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
    fn a_cut_is_complete_with_every_batchers_part() {
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
    fn parts_from_before_a_reset_are_ignored() {
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
