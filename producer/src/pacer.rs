//! Holds a loop to a rate.

use std::time::Duration;

/// Waits shorter than this, seconds, are left to add up: no timer sleeps that precisely.
const SHORTEST_WAIT_SECONDS: f64 = 0.001;

/// Says how long to wait before the next record, so that a rate is kept on the average since the
/// loop's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    per_second: Option<f64>,
}

impl Pacer {
    /// `None` means as fast as possible.
    pub(crate) const fn new(per_second: Option<f64>) -> Self {
        Self { per_second }
    }

    /// How long to wait before the record that follows `sent` others; `elapsed` is asked only
    /// where there is a rate to keep.
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
    fn a_loop_that_is_ahead_waits_until_its_record_is_due() {
        let pacer = Pacer::new(Some(100.0));
        let wait = pacer.wait(50, || Duration::from_millis(200));
        assert_eq!(wait, Some(Duration::from_millis(300)));
    }

    #[test]
    fn a_loop_that_is_behind_catches_up() {
        assert_eq!(Pacer::new(Some(100.0)).wait(50, || Duration::from_secs(1)), None);
    }

    #[test]
    fn without_a_rate_there_is_no_waiting() {
        assert_eq!(
            Pacer::new(None).wait(u64::MAX, || unreachable!("the clock is not asked")),
            None
        );
    }
}
