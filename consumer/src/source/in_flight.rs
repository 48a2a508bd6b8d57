//! How many records, and bytes of them, the poll thread has handed over and the batchers still have.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A gauge with a limit. Both sides only count; the poll thread decides.
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

    /// Whether reading may go on after it was paused: well below the limit, so that pausing, which
    /// costs librdkafka its queue, does not flutter.
    pub(crate) fn is_half_empty(&self) -> bool {
        self.bytes() <= self.limit / 2
    }
}
