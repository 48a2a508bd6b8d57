//! Records in flight from the poll thread to the batchers.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Number and bytes of records that were delivered to batchers and not released by them. The poll
/// thread compares the bytes with the limit.
#[derive(Debug)]
pub(crate) struct InFlight {
    records: AtomicUsize,
    bytes: AtomicUsize,
    limit: usize,
}

impl InFlight {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { records: AtomicUsize::new(0), bytes: AtomicUsize::new(0), limit }
    }

    pub(crate) fn add(&self, records: usize, bytes: usize) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, records: usize, bytes: usize) {
        self.records.fetch_sub(records, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn records(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes() > self.limit
    }

    /// Returns whether paused partitions can be resumed. Well below the limit: each pause discards
    /// the queue of librdkafka.
    pub(crate) fn is_half_empty(&self) -> bool {
        self.bytes() <= self.limit / 2
    }
}
