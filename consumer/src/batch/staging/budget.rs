//! Memory limit for the encoders of open files.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Limit on the encoders of all open files of the writers that share it, bytes.
///
/// An open file needs an encoder for each of its columns, however few rows it has. Writers hold the
/// rows of further files in memory and encode them one column at a time.
#[derive(Clone, Debug)]
pub struct EncoderBudget {
    limit: usize,
    used: Arc<AtomicUsize>,
}

impl EncoderBudget {
    /// Creates a budget of this many bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, used: Arc::new(AtomicUsize::new(0)) }
    }

    /// Returns the budget of a command that writes a few files of one table: enough for a file of
    /// 5,000 text columns.
    #[must_use]
    pub fn of_command() -> Self {
        Self::new(512 << 20)
    }

    /// Reserves memory until the reservation is dropped; None if the rest of the budget is smaller.
    pub(super) fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let with = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with).ok()?;
        Some(Reservation { bytes, used: Arc::clone(&self.used) })
    }
}

/// Reserved share of an [`EncoderBudget`], released when it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    bytes: usize,
    used: Arc<AtomicUsize>,
}

impl Reservation {
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_is_returned_when_it_is_dropped() {
        let budget = EncoderBudget::new(100);
        let first = budget.reserve(60);

        assert!(first.is_some() && budget.clone().reserve(50).is_none());
        drop(first);
        assert!(budget.reserve(100).is_some());
    }
}
