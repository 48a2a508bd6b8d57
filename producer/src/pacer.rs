//! Limits a loop to a rate.

use std::time::Duration;

/// Shortest wait, seconds. Shorter waits add up to a longer one, because timers are not that
/// precise.
const SHORTEST_WAIT_SECONDS: f64 = 0.001;

/// Calculates the waits that keep a rate on average since the start of the loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    per_second: Option<f64>,
}

impl Pacer {
    /// Creates a pacer; `None` means as fast as possible.
    pub(crate) const fn new(per_second: Option<f64>) -> Self {
        Self { per_second }
    }

    /// Returns the wait before the next record after `sent` records. `elapsed` is called only when
    /// there is a rate.
    pub(crate) fn wait(self, sent: u64, elapsed: impl FnOnce() -> Duration) -> Option<Duration> {
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 records in one loop")]
        let due_seconds = sent as f64 / self.per_second?;
        let wait_seconds = due_seconds - elapsed().as_secs_f64();
        (wait_seconds >= SHORTEST_WAIT_SECONDS).then(|| Duration::from_secs_f64(wait_seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_is_ahead_waits_until_the_next_record_is_due() {
        let pacer = Pacer::new(Some(100.0));
        let wait = pacer.wait(50, || Duration::from_millis(200));
        assert_eq!(wait, Some(Duration::from_millis(300)));
    }

    #[test]
    fn a_loop_that_is_behind_catches_up() {
        assert_eq!(Pacer::new(Some(100.0)).wait(50, || Duration::from_secs(1)), None);
    }

    #[test]
    fn without_a_rate_there_is_no_wait() {
        assert_eq!(Pacer::new(None).wait(u64::MAX, || unreachable!("the clock is not read")), None);
    }
}
