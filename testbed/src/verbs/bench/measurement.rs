//! Measurement of a run, and the median of several.

use std::time::Duration;

use ducktide_testbed::program::ProgramExit;
use serde::Serialize;

/// Measurement of one run of one process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Measurement {
    /// Records per second while the process was processing, without its start and end.
    pub(super) records_per_second: f64,
    /// Seconds from the start to the end of the process.
    pub(super) wall_seconds: f64,
    /// User and system time of the process in seconds, per million records.
    pub(super) cpu_seconds_per_million: f64,
    /// Maximum resident set size of the process, in MiB.
    pub(super) peak_memory_mib: f64,
    /// True if the lake was exact; None if that was not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) is_exact: Option<bool>,
}

impl Measurement {
    /// Returns the measurement of a process that processed `records` records in the time `at_work`.
    pub(super) fn new(records: u64, at_work: Duration, finished: &ProgramExit) -> Self {
        let records = as_number(records);
        let usage = finished.usage;
        Self {
            records_per_second: records / at_work.as_secs_f64(),
            wall_seconds: finished.elapsed.as_secs_f64(),
            cpu_seconds_per_million: usage.cpu.as_secs_f64() / (records / 1e6),
            peak_memory_mib: as_number(usage.peak_memory_bytes) / f64::from(1 << 20),
            is_exact: None,
        }
    }

    /// Returns the median of each number separately; exact if all runs are. None without runs.
    pub(super) fn median(runs: &[Self]) -> Option<Self> {
        let of = |number: fn(&Self) -> f64| median(runs.iter().map(number).collect());
        Some(Self {
            records_per_second: of(|run| run.records_per_second)?,
            wall_seconds: of(|run| run.wall_seconds)?,
            cpu_seconds_per_million: of(|run| run.cpu_seconds_per_million)?,
            peak_memory_mib: of(|run| run.peak_memory_mib)?,
            is_exact: runs.iter().map(|run| run.is_exact).reduce(|all, one| Some(all? && one?))?,
        })
    }
}

/// Converts a count; counts are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn as_number(count: u64) -> f64 {
    count as f64
}

pub(super) fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    let upper = *numbers.get(middle)?;
    Some(if numbers.len() % 2 == 1 { upper } else { f64::midpoint(numbers[middle - 1], upper) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn the_median_is_exact_if_all_runs_are() {
        let run = |is_exact| Measurement {
            records_per_second: 1.0,
            wall_seconds: 1.0,
            cpu_seconds_per_million: 1.0,
            peak_memory_mib: 1.0,
            is_exact,
        };
        let exactness = |runs: &[Option<bool>]| {
            let runs: Vec<_> = runs.iter().copied().map(run).collect();
            Measurement::median(&runs).unwrap().is_exact
        };
        assert_eq!(exactness(&[Some(true), Some(true)]), Some(true));
        assert_eq!(exactness(&[Some(true), Some(false), Some(true)]), Some(false));
        assert_eq!(exactness(&[None, None]), None);
    }
}
