//! How long it takes after a fault until every partition has moved on. Pure.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Where partitions stand: epoch and next offset.
pub(super) type Positions = BTreeMap<i64, (i64, i64)>;

/// Stopwatches, one for each fault.
#[derive(Debug, Default)]
pub(super) struct RecoveryTimer {
    newest: Positions,
    running: Vec<(&'static str, Instant, Positions)>,
    done: BTreeMap<&'static str, Vec<Duration>>,
}

impl RecoveryTimer {
    /// A fault has happened, or an outage is over: from now on partitions should move again.
    pub(super) fn begin(&mut self, fault: &'static str, now: Instant) {
        self.running.push((fault, now, self.newest.clone()));
    }

    /// Takes note of progress. Says which partitions went back without a new epoch.
    pub(super) fn observe(&mut self, now: Instant, positions: Positions) -> Vec<String> {
        let went_back = positions.iter().filter_map(|(partition, position)| {
            let before = self.newest.get(partition).filter(|before| *before > position)?;
            Some(format!(
                "progress of partition {partition} went back from {before:?} to {position:?}"
            ))
        });
        let went_back = went_back.collect();
        self.newest = positions;
        for (fault, since, baseline) in std::mem::take(&mut self.running) {
            if has_moved(&baseline, &self.newest) {
                self.done.entry(fault).or_default().push(now - since);
            } else {
                self.running.push((fault, since, baseline));
            }
        }
        went_back
    }

    /// The times of each fault, sorted.
    pub(super) fn times(&self) -> BTreeMap<&'static str, Vec<Duration>> {
        let mut times = self.done.clone();
        for times in times.values_mut() {
            times.sort_unstable();
        }
        times
    }
}

/// Epochs count before offsets, as tuples compare.
fn has_moved(before: &Positions, now: &Positions) -> bool {
    before.iter().all(|(partition, then)| now.get(partition).is_some_and(|now| now > then))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(positions: [(i64, i64); 2]) -> Positions {
        (0..).zip(positions).collect()
    }

    #[test]
    fn a_fault_is_over_when_every_partition_has_moved() {
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        let mut recoveries = RecoveryTimer::default();
        recoveries.observe(start, at([(0, 10), (0, 20)]));
        recoveries.begin("killed", second(1));
        recoveries.observe(second(2), at([(0, 11), (0, 20)]));
        assert!(recoveries.times().is_empty());

        recoveries.observe(second(4), at([(0, 12), (0, 25)]));

        assert_eq!(recoveries.times()["killed"], [Duration::from_secs(3)]);
    }

    #[test]
    fn progress_goes_back_only_with_a_new_epoch() {
        let now = Instant::now();
        let mut recoveries = RecoveryTimer::default();
        recoveries.observe(now, at([(0, 10), (0, 20)]));

        assert!(recoveries.observe(now, at([(1, 3), (0, 20)])).is_empty(), "a replay");
        assert_eq!(recoveries.observe(now, at([(1, 3), (0, 19)])).len(), 1);
    }
}
