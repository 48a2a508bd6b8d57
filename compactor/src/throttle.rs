//! Gives way to consumers.
//!
//! While they commit, the compactor rests after each operation for as long as `--share` says. When
//! their commits become rarer during an operation than they were while it rested, it rests longer, and
//! twice as long each time it happens again.

use std::time::Duration;

/// Commits become rarer when there are fewer than this part of what was expected.
const SLOWED: f64 = 0.5;

/// Fewer expected commits than these say nothing.
const LEAST_EXPECTED: f64 = 4.0;

/// The longest rest: a backlog must not wait for ever.
const LONGEST_REST: Duration = Duration::from_mins(2);

/// How many commits there were in some time.
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

/// How long to rest.
#[derive(Debug)]
pub(crate) struct Pace {
    share: f64,
    /// Commits a second while it rested: what consumers do when they are left alone.
    undisturbed: Option<f64>,
    /// How often in a row consumers were slowed.
    slowed: u32,
}

impl Pace {
    pub(crate) const fn new(share: f64) -> Self {
        Self { share, undisturbed: None, slowed: 0 }
    }

    /// Takes note of a rest.
    pub(crate) fn rested(&mut self, commits: Commits) {
        let rate = commits.per_second();
        // A moving average: streams become faster and slower by themselves.
        self.undisturbed = Some(self.undisturbed.map_or(rate, |known| known.midpoint(rate)));
    }

    /// How long to rest after an operation during which there were so many commits.
    pub(crate) fn rest_after(&mut self, commits: Commits) -> Duration {
        let expected = self.undisturbed.unwrap_or(0.0) * commits.within.as_secs_f64();
        if commits.count == 0 && expected < LEAST_EXPECTED {
            // Nobody commits, or too seldom to tell.
            return Duration::ZERO;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let slowed = expected >= LEAST_EXPECTED && (commits.count as f64) < expected * SLOWED;
        self.slowed = if slowed { (self.slowed + 1).min(8) } else { 0 };
        let fair = commits.within.mul_f64((1.0 - self.share) / self.share);
        let longer = commits.within * (2_u32.pow(self.slowed) - 1);
        (fair + longer).min(LONGEST_REST)
    }

    /// Whether the last operation slowed consumers.
    pub(crate) const fn gives_way(&self) -> bool {
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
    fn nobody_is_given_way_to_when_nobody_commits() {
        let mut pace = Pace::new(0.5);
        pace.rested(commits(0, 10));

        assert_eq!(pace.rest_after(commits(0, 10)), Duration::ZERO);
    }

    #[test]
    fn half_of_the_time_is_left_to_those_who_commit() {
        let mut pace = Pace::new(0.5);
        pace.rested(commits(10, 10));

        assert_eq!(pace.rest_after(commits(10, 10)), Duration::from_secs(10));
        assert!(!pace.gives_way());
    }

    #[test]
    fn who_slows_others_rests_longer_each_time() {
        let mut pace = Pace::new(0.5);
        pace.rested(commits(100, 10));

        let rests: Vec<_> = (0..4).map(|_| pace.rest_after(commits(20, 10)).as_secs()).collect();

        assert_eq!(rests, [20, 40, 80, 120]);
        assert!(pace.gives_way());
        assert_eq!(pace.rest_after(commits(90, 10)), Duration::from_secs(10));
    }

    #[test]
    fn a_few_commits_say_nothing() {
        let mut pace = Pace::new(1.0);
        pace.rested(commits(3, 10));

        assert_eq!(pace.rest_after(commits(0, 10)), Duration::ZERO);
        assert_eq!(pace.rest_after(commits(1, 10)), Duration::ZERO);
    }
}
