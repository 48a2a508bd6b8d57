//! Number of batchers that are used, and the batcher of each partition. Pure.
//!
//! Each batcher adds a file to each commit. Therefore a worker uses as few as its rate needs:
//!
//! ```text
//!            ┌──── a batch was full, or the batchers were busy ────┐
//!            ▼                                                     │
//! start ──▶ all ──── fewer were enough for the quiet time ────▶ fewer
//! ```
//! It starts with all of them, because a backlog may exist. The number changes only by a reset after a
//! commit, so that a partition never has records in two batchers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::source::TopicPartition;

/// Load of a batcher above which all are used: share of its time that it works. Below one, because a
/// commit comes late when its batcher is behind.
const BUSY_LOAD: f64 = 0.6;

/// Load of each batcher after a reduction. Half of [`BUSY_LOAD`], so that small changes of the rate do not
/// change the number.
const INTENDED_LOAD: f64 = 0.3;

/// Time for which fewer batchers must be enough before a reduction.
pub(crate) const FIRST_QUIET_TIME: Duration = Duration::from_secs(10);

/// Longest such time. It doubles whenever a reduction was wrong, because each change costs a reset.
pub(crate) const LONGEST_QUIET_TIME: Duration = Duration::from_hours(1);

/// Batchers of a worker, and their partitions.
#[derive(Debug)]
pub(super) struct BatcherSpread {
    all: usize,
    used: usize,
    partitions: BTreeMap<TopicPartition, usize>,
    quiet_time: Duration,
    /// Time since which fewer batchers are enough, and the most that were needed since.
    quiet: Option<(Instant, usize)>,
    last_cut: Option<Instant>,
    /// Number of batchers to use from the next commit on, if it is another one.
    wanted: Option<usize>,
}

impl BatcherSpread {
    pub(super) const fn new(batchers: usize, quiet_time: Duration) -> Self {
        Self {
            all: batchers,
            used: batchers,
            partitions: BTreeMap::new(),
            quiet_time,
            quiet: None,
            last_cut: None,
            wanted: None,
        }
    }

    /// Returns the number of batchers that are used: those with the lowest indices.
    pub(super) const fn used(&self) -> usize {
        self.used
    }

    /// Returns how many times its own share of the limits of a batch each batcher can use.
    pub(super) const fn shares(&self) -> usize {
        self.all / self.used
    }

    /// Chooses the batcher with the fewest partitions for one that is started.
    pub(super) fn assign(&mut self, partition: &TopicPartition) -> usize {
        let mut counts = vec![0_usize; self.used];
        for (_, index) in self.partitions.iter().filter(|(other, _)| *other != partition) {
            counts[*index] += 1;
        }
        let fewest = (0..self.used).min_by_key(|index| counts[*index]).unwrap_or_default();
        self.partitions.insert(partition.clone(), fewest);
        fewest
    }

    pub(super) fn remove(&mut self, partitions: &[TopicPartition]) {
        self.partitions.retain(|partition, _| !partitions.contains(partition));
    }

    /// Forgets all partitions, which are started again later.
    pub(super) fn reset(&mut self) {
        self.partitions.clear();
    }

    /// Returns the number of batchers to use from now on, if it is another one.
    pub(super) const fn wanted(&self) -> Option<usize> {
        self.wanted
    }

    /// Records a cut, and the time for which all batchers together have worked on its batch.
    pub(super) fn record_batch(&mut self, cut: Instant, worked: Duration, is_full: bool) {
        self.wanted = self.number_after(cut, worked, is_full);
    }

    fn number_after(&mut self, cut: Instant, worked: Duration, is_full: bool) -> Option<usize> {
        let since = self.last_cut.replace(cut)?;
        let passed = cut.saturating_duration_since(since).as_secs_f64();
        let load = if passed > 0.0 { worked.as_secs_f64() / passed } else { 0.0 };
        let needed = if is_full { self.all } else { self.needed(load) };
        if needed >= self.used {
            self.quiet = None;
            return (needed > self.used).then_some(needed);
        }
        let (begin, most) = self.quiet.get_or_insert((cut, needed));
        *most = needed.max(*most);
        (cut.saturating_duration_since(*begin) >= self.quiet_time).then_some(*most)
    }

    /// Returns the number of batchers for a load, which is 1 for a batcher that works all the time.
    fn needed(&self, load: f64) -> usize {
        let is_enough = |count: &usize| load <= INTENDED_LOAD * as_float(*count);
        if load > BUSY_LOAD * as_float(self.used) {
            return self.all;
        }
        (1..self.used).find(is_enough).unwrap_or(self.used)
    }

    /// Uses another number of batchers. All partitions must be started again.
    pub(super) fn change_to(&mut self, used: usize) {
        if used > self.used {
            self.quiet_time = (self.quiet_time * 2).min(LONGEST_QUIET_TIME);
        }
        (self.used, self.quiet, self.wanted) = (used, None, None);
        self.reset();
    }
}

/// Converts a number of batchers, of which there are at most 64.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
const fn as_float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
#[path = "spread_tests.rs"]
mod tests;
