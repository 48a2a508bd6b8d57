//! Limits a loop to a rate.

use std::time::{Duration, Instant};

/// Shortest wait, seconds. Shorter waits add up to a longer one, because timers are not that
/// precise.
const SHORTEST_WAIT_SECONDS: f64 = 0.001;

/// Calculates the waits that keep a rate on average since the last pause.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    per_second: Option<f64>,
    since: Instant,
    sent: u64,
}

impl Pacer {
    /// Creates a pacer; `None` means as fast as possible.
    pub(crate) fn new(per_second: Option<f64>) -> Self {
        Self { per_second, since: Instant::now(), sent: 0 }
    }

    /// Starts a new average after a pause, whose records are not made up for.
    pub(crate) fn restart(&mut self) {
        *self = Self::new(self.per_second);
    }

    /// Counts a record, and returns the wait before it is due.
    pub(crate) fn next(&mut self) -> Option<Duration> {
        let per_second = self.per_second?;
        let wait = wait(self.sent, per_second, self.since.elapsed());
        self.sent += 1;
        wait
    }
}

/// Returns the wait before the next record after `sent` records.
fn wait(sent: u64, per_second: f64, elapsed: Duration) -> Option<Duration> {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 records")]
    let wait_seconds = sent as f64 / per_second - elapsed.as_secs_f64();
    (wait_seconds >= SHORTEST_WAIT_SECONDS).then(|| Duration::from_secs_f64(wait_seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_is_ahead_waits_until_the_next_record_is_due() {
        let ahead = wait(50, 100.0, Duration::from_millis(200));
        assert_eq!(ahead, Some(Duration::from_millis(300)));
    }

    #[test]
    fn a_loop_that_is_behind_catches_up() {
        assert_eq!(wait(50, 100.0, Duration::from_secs(1)), None);
    }

    #[test]
    fn without_a_rate_there_is_no_wait() {
        let mut pacer = Pacer::new(None);
        assert!((0..1_000).all(|_| pacer.next().is_none()));
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut pacer = Pacer::new(Some(0.001));
        assert_eq!(pacer.next(), None);
        assert!(pacer.next().is_some());
        pacer.restart();
        assert_eq!(pacer.next(), None);
    }
}
