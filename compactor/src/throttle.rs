//! Throttling in favour of consumers.
//!
//! While consumers commit, the compactor rests after each operation according to `--share`. If they
//! commit less often during an operation than during the rests, it rests longer, and twice as long
//! for each further such operation.

use std::time::Duration;

/// Commits are slowed if there are fewer than this share of the expected number.
const SLOWED_SHARE: f64 = 0.5;

/// Smallest expected number of commits that allows a conclusion.
const MIN_EXPECTED: f64 = 4.0;

/// Longest rest, so that a backlog does not wait forever.
const MAX_REST: Duration = Duration::from_mins(2);

/// Number of commits within a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Commits {
    pub(crate) count: u64,
    pub(crate) within: Duration,
}

impl Commits {
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    fn per_second(self) -> f64 {
        if self.within.is_zero() { 0.0 } else { self.count as f64 / self.within.as_secs_f64() }
    }
}

/// Calculation of rests.
#[derive(Debug)]
pub(crate) struct Throttle {
    share: f64,
    /// Commits per second during the rests, when consumers are not slowed.
    undisturbed_rate: Option<f64>,
    /// Number of consecutive operations that slowed consumers.
    slowed: u32,
}

impl Throttle {
    pub(crate) const fn new(share: f64) -> Self {
        Self { share, undisturbed_rate: None, slowed: 0 }
    }

    /// Records the commits during a rest.
    pub(crate) fn record_rest(&mut self, commits: Commits) {
        let rate = commits.per_second();
        // A moving average, because the rate of streams changes.
        self.undisturbed_rate =
            Some(self.undisturbed_rate.map_or(rate, |known| known.midpoint(rate)));
    }

    /// Returns the rest after an operation with this number of commits.
    pub(crate) fn rest_after(&mut self, commits: Commits) -> Duration {
        let expected = self.undisturbed_rate.unwrap_or(0.0) * commits.within.as_secs_f64();
        if commits.count == 0 && expected < MIN_EXPECTED {
            // There are no commits, or too few for a conclusion.
            return Duration::ZERO;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let slowed = expected >= MIN_EXPECTED && (commits.count as f64) < expected * SLOWED_SHARE;
        self.slowed = if slowed { (self.slowed + 1).min(8) } else { 0 };
        let fair = commits.within.mul_f64((1.0 - self.share) / self.share);
        let longer = commits.within * (2_u32.pow(self.slowed) - 1);
        (fair + longer).min(MAX_REST)
    }

    /// Reports that the last operation slowed consumers.
    pub(crate) const fn is_slowing_consumers(&self) -> bool {
        self.slowed > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commits(count: u64, seconds: u64) -> Commits {
        Commits { count, within: Duration::from_secs(seconds) }
    }

    #[test]
    fn without_commits_there_is_no_rest() {
        let mut throttle = Throttle::new(0.5);
        throttle.record_rest(commits(0, 10));

        assert_eq!(throttle.rest_after(commits(0, 10)), Duration::ZERO);
    }

    #[test]
    fn half_of_the_time_is_left_to_committing_consumers() {
        let mut throttle = Throttle::new(0.5);
        throttle.record_rest(commits(10, 10));

        assert_eq!(throttle.rest_after(commits(10, 10)), Duration::from_secs(10));
        assert!(!throttle.is_slowing_consumers());
    }

    #[test]
    fn the_rest_doubles_each_time_consumers_are_slowed() {
        let mut throttle = Throttle::new(0.5);
        throttle.record_rest(commits(100, 10));

        let rests: Vec<_> =
            (0..4).map(|_| throttle.rest_after(commits(20, 10)).as_secs()).collect();

        assert_eq!(rests, [20, 40, 80, 120]);
        assert!(throttle.is_slowing_consumers());
        assert_eq!(throttle.rest_after(commits(90, 10)), Duration::from_secs(10));
    }

    #[test]
    fn a_few_commits_allow_no_conclusion() {
        let mut throttle = Throttle::new(1.0);
        throttle.record_rest(commits(3, 10));

        assert_eq!(throttle.rest_after(commits(0, 10)), Duration::ZERO);
        assert_eq!(throttle.rest_after(commits(1, 10)), Duration::ZERO);
    }
}
