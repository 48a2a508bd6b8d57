//! State and settings of the batchers of a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::batch::dedupe::IdBudget;
use crate::clock::Clock;
use crate::config::BadRecordArgs;
use crate::metrics::Metrics;
use crate::source::in_flight::InFlight;

/// Limits of one batcher's share of a batch while all batchers are used. A batcher that reaches one is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) memory: usize,
}

impl BatchLimits {
    /// Returns the limits of a batcher that also uses the shares of others.
    pub(super) const fn of_shares(self, shares: usize) -> Self {
        let Self { rows, bytes, memory } = self;
        Self {
            rows: rows.saturating_mul(shares as u64),
            bytes: bytes.saturating_mul(shares as u64),
            memory: memory.saturating_mul(shares),
        }
    }

    /// Returns the memory limit for decoded rows of one table that the Parquet writer has not
    /// encoded, bytes.
    pub(super) const fn decoded_bytes(&self) -> usize {
        self.memory / 4
    }

    /// Returns the memory limit for the encoders of all open files before they have values, bytes.
    pub(super) const fn encoder_bytes(&self) -> usize {
        self.memory / 2
    }
}

/// State and settings that all batchers of a worker share.
#[derive(Clone)]
pub(crate) struct BatcherContext {
    pub(crate) limits: BatchLimits,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    /// Number of rows until `--max-rows`; None without a limit.
    pub(crate) rows_left: Option<Arc<AtomicI64>>,
    pub(crate) bad_records: BadRecordArgs,
    /// Memory for the ids of recent rows, by which duplicates are found.
    pub(crate) ids: Arc<IdBudget>,
}

impl BatcherContext {
    pub(super) fn is_exhausted(&self) -> bool {
        self.rows_left.as_ref().is_some_and(|left| left.load(Ordering::Relaxed) <= 0)
    }

    /// Takes one of the rows until `--max-rows`; returns false if none is left.
    pub(super) fn claim_row(&self) -> bool {
        let one_less = |left: i64| (left > 0).then(|| left - 1);
        self.rows_left.as_ref().is_none_or(|left| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
        })
    }

    /// Returns a row to `--max-rows`: the record did not become one.
    pub(super) fn unclaim_row(&self) {
        if let Some(left) = &self.rows_left {
            left.fetch_add(1, Ordering::Relaxed);
        }
    }
}
