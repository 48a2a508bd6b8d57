//! Times from a fault until every partition has progressed. Without I/O.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Positions of partitions: epoch and next offset.
pub(super) type Positions = BTreeMap<i64, (i64, i64)>;

/// Recovery times of all faults.
#[derive(Debug, Default)]
pub(super) struct RecoveryTimer {
    newest: Positions,
    running: Vec<(&'static str, Instant, Positions)>,
    done: BTreeMap<&'static str, Vec<Duration>>,
}

impl RecoveryTimer {
    /// Starts the timer of a fault that has happened, or of an outage that has ended.
    pub(super) fn begin(&mut self, fault: &'static str, now: Instant) {
        self.running.push((fault, now, self.newest.clone()));
    }

    /// Records progress. Returns a violation for each partition whose offset decreased in the same
    /// epoch.
    pub(super) fn observe(&mut self, now: Instant, positions: Positions) -> Vec<String> {
        let decreased = positions.iter().filter_map(|(partition, position)| {
            let before = self.newest.get(partition).filter(|before| *before > position)?;
            Some(format!(
                "progress of partition {partition} decreased from {before:?} to {position:?}"
            ))
        });
        let decreased = decreased.collect();
        self.newest = positions;
        for (fault, since, baseline) in std::mem::take(&mut self.running) {
            if has_moved(&baseline, &self.newest) {
                self.done.entry(fault).or_default().push(now - since);
            } else {
                self.running.push((fault, since, baseline));
            }
        }
        decreased
    }

    /// Returns the sorted recovery times of each fault.
    pub(super) fn times(&self) -> BTreeMap<&'static str, Vec<Duration>> {
        let mut times = self.done.clone();
        for times in times.values_mut() {
            times.sort_unstable();
        }
        times
    }
}

/// Returns true if all positions are greater. Epochs are compared before offsets.
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
    fn recovery_ends_when_every_partition_has_progressed() {
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
    fn a_lower_offset_is_a_violation_unless_the_epoch_is_new() {
        let now = Instant::now();
        let mut recoveries = RecoveryTimer::default();
        recoveries.observe(now, at([(0, 10), (0, 20)]));

        assert!(recoveries.observe(now, at([(1, 3), (0, 20)])).is_empty(), "a replay");
        assert_eq!(recoveries.observe(now, at([(1, 3), (0, 19)])).len(), 1);
    }
}
