//! Queries that the worker repeats. Pure.

use std::time::{Duration, Instant};

/// A query that is repeated, one at a time.
#[derive(Debug)]
pub(super) struct PeriodicQuery {
    due: Instant,
    is_outstanding: bool,
}

impl PeriodicQuery {
    pub(super) const fn due_at(due: Instant) -> Self {
        Self { due, is_outstanding: false }
    }

    /// Returns whether the query is to be sent.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.is_outstanding && self.due <= now
    }

    /// Records that the query was sent; the next one is due after the interval and the answer.
    pub(super) fn sent(&mut self, now: Instant, interval: Duration) {
        (self.due, self.is_outstanding) = (now + interval, true);
    }

    /// Records the answer, or that there will be none.
    pub(super) const fn answered(&mut self) {
        self.is_outstanding = false;
    }
}
