//! When batches are cut and committed. Pure: events go in, actions come out.
//!
//! ```text
//! batchers:   filling ──cut──▶ closing files ──parts──▶ filling (the next batch) …
//! committer:                                   └──commit──▶ ok │ dropped
//! ```
//! One batch commits while the next one fills; a third is never begun, so a batch is only cut while
//! the committer is free.

use std::time::{Duration, Instant};

use crate::batch::partial_batch::Part;

/// Why a batch was cut; the label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Trigger {
    /// `--flush-interval` after its first record.
    Age,
    /// `--flush-bytes`, `--flush-rows`, memory or too many dates.
    Full,
    /// Partitions go, a held topic is tried again, or the worker ends.
    Demand,
}

impl Trigger {
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
pub(crate) enum Action {
    /// Have all batchers cut, under this number.
    Cut(u64, Trigger),
    /// Nothing before this instant, or before another event.
    Wait(Option<Instant>),
}

/// The state of the pipeline between batchers and committer.
#[derive(Debug)]
pub(crate) struct Flush {
    interval: Duration,
    batchers: usize,
    /// When the batch that fills must be cut at the latest; None while it is empty.
    due: Option<Instant>,
    full: bool,
    /// Somebody waits for everything read so far to be committed.
    demanded: bool,
    cutting: Option<Vec<Part>>,
    number: u64,
    committing: bool,
}

impl Flush {
    pub(crate) const fn new(interval: Duration, batchers: usize) -> Self {
        let (due, cutting) = (None, None);
        let (full, demanded, committing) = (false, false, false);
        Self { interval, batchers, due, full, demanded, cutting, number: 0, committing }
    }

    /// The batch that fills has something. A worker's first batch is cut early: a backlog may wait for
    /// it, and so does somebody who has just started the worker.
    pub(crate) fn opened(&mut self, now: Instant) {
        let interval =
            if self.number == 0 { self.interval / FIRST_BATCH_DIVISOR } else { self.interval };
        self.due.get_or_insert(now + interval);
    }

    /// A batcher has no room for more.
    pub(crate) const fn filled(&mut self) {
        self.full = true;
    }

    /// Everything read so far is to be committed: cut once more, whether there is something or not.
    pub(crate) const fn demand(&mut self) {
        self.demanded = true;
    }

    pub(crate) fn next(&mut self, now: Instant) -> Action {
        if self.cutting.is_some() || self.committing {
            return Action::Wait(None);
        }
        let trigger = if self.demanded {
            Trigger::Demand
        } else if self.full {
            Trigger::Full
        } else if self.due.is_some_and(|due| due <= now) {
            Trigger::Age
        } else {
            return Action::Wait(self.due);
        };
        self.number += 1;
        self.cutting = Some(Vec::with_capacity(self.batchers));
        (self.due, self.full, self.demanded) = (None, false, false);
        Action::Cut(self.number, trigger)
    }

    /// Takes a batcher's part; all parts of the cut once the last one is there.
    pub(crate) fn part(&mut self, number: u64, part: Part) -> Option<Vec<Part>> {
        // A part of a cut that a reset overtook.
        if number != self.number {
            return None;
        }
        let parts = self.cutting.as_mut()?;
        parts.push(part);
        (parts.len() == self.batchers).then(|| self.cutting.take().expect("looked at above"))
    }

    pub(crate) const fn commit_sent(&mut self) {
        self.committing = true;
    }

    pub(crate) const fn commit_ended(&mut self) {
        self.committing = false;
    }

    pub(crate) const fn is_committing(&self) -> bool {
        self.committing
    }

    /// Everything that batchers gathered is dropped; a commit under way is not.
    pub(crate) fn reset(&mut self) {
        self.number += 1;
        (self.due, self.full, self.demanded, self.cutting) = (None, false, false, None);
    }

    /// Whether a demand was met: nothing is being cut or committed any more.
    pub(crate) const fn is_settled(&self) -> bool {
        !self.demanded && self.cutting.is_none() && !self.committing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn flush() -> (Flush, Instant) {
        (Flush::new(SECOND, 2), Instant::now())
    }

    #[test]
    fn an_empty_batch_is_never_cut() {
        let (mut flush, now) = flush();

        assert_eq!(flush.next(now), Action::Wait(None));
    }

    #[test]
    fn a_batch_is_cut_an_interval_after_its_first_record() {
        let (mut flush, now) = flush();
        flush.reset();
        flush.opened(now);
        flush.opened(now + SECOND / 2);

        assert_eq!(flush.next(now), Action::Wait(Some(now + SECOND)));
        assert_eq!(flush.next(now + SECOND), Action::Cut(2, Trigger::Age));
    }

    #[test]
    fn the_first_batch_is_cut_after_a_tenth_of_the_interval() {
        let (mut flush, now) = flush();
        flush.opened(now);

        assert_eq!(flush.next(now + SECOND / 10), Action::Cut(1, Trigger::Age));
    }

    #[test]
    fn a_full_batch_is_cut_at_once() {
        let (mut flush, now) = flush();
        flush.opened(now);
        flush.filled();

        assert_eq!(flush.next(now), Action::Cut(1, Trigger::Full));
    }

    #[test]
    fn a_cut_is_complete_with_every_batchers_part() {
        let (mut flush, now) = flush();
        flush.demand();
        assert_eq!(flush.next(now), Action::Cut(1, Trigger::Demand));

        assert!(flush.part(1, Part::default()).is_none());
        assert_eq!(flush.part(1, Part::default()).map(|parts| parts.len()), Some(2));
        assert!(flush.is_settled());
    }

    #[test]
    fn the_next_batch_waits_for_the_commit_before_it() {
        let (mut flush, now) = flush();
        flush.commit_sent();
        flush.opened(now);
        flush.filled();
        assert_eq!(flush.next(now), Action::Wait(None));

        flush.commit_ended();

        assert_eq!(flush.next(now), Action::Cut(1, Trigger::Full));
    }

    #[test]
    fn parts_from_before_a_reset_are_ignored() {
        let (mut flush, now) = flush();
        flush.demand();
        assert_eq!(flush.next(now), Action::Cut(1, Trigger::Demand));
        flush.reset();
        flush.demand();
        assert_eq!(flush.next(now), Action::Cut(3, Trigger::Demand));

        assert!(flush.part(1, Part::default()).is_none());
        assert!(flush.part(1, Part::default()).is_none());
        assert!(!flush.is_settled());
    }
}
