//! Limit on the ratio of dead letters: a few undecodable records become dead letters, many indicate
//! a mistake that an operator has to fix. Pure.

/// Minimum number of records before the ratio is compared: one undecodable record of two is no
/// reason to stop.
const LEAST_RECORDS: u64 = 1_000;

/// Number of records after which older ones count half. The ratio is that of the newest 10,000 to
/// 20,000 records, so that many decodable records in the past do not hide undecodable ones now.
const WINDOW: u64 = 10_000;

/// Ratio of dead letters among the newest records.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetterRatio {
    limit: f64,
    records: u64,
    dead: u64,
}

impl DeadLetterRatio {
    /// Creates a ratio without records. `limit` is the largest ratio that is allowed, 0 to 1.
    pub(crate) const fn new(limit: f64) -> Self {
        Self { limit, records: 0, dead: 0 }
    }

    /// Counts records before they are decoded.
    pub(crate) const fn record_batch(&mut self, records: usize) {
        self.records += records as u64;
        while self.records >= 2 * WINDOW {
            self.records /= 2;
            self.dead /= 2;
        }
    }

    /// Counts an undecodable record; returns whether the limit is exceeded now.
    pub(crate) fn record_failure(&mut self) -> bool {
        self.dead += 1;
        self.records >= LEAST_RECORDS && self.value() > self.limit
    }

    /// Returns the ratio, 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "both numbers are below 20,000")]
    pub(crate) fn value(&self) -> f64 {
        self.dead as f64 / self.records.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether any of the undecodable records exceeds the limit.
    fn is_exceeded(ratio: &mut DeadLetterRatio, records: usize, undecodable: usize) -> bool {
        ratio.record_batch(records);
        (0..undecodable).fold(false, |exceeded, _| ratio.record_failure() || exceeded)
    }

    #[test]
    fn one_undecodable_record_of_two_is_within_the_limit() {
        assert!(!is_exceeded(&mut DeadLetterRatio::new(0.1), 2, 1));
    }

    #[test]
    fn a_topic_without_decodable_records_exceeds_the_limit() {
        assert!(is_exceeded(&mut DeadLetterRatio::new(0.1), 1_000, 1_000));
    }

    #[test]
    fn a_ratio_equal_to_the_limit_is_allowed() {
        let mut ratio = DeadLetterRatio::new(0.1);

        assert!(!is_exceeded(&mut ratio, 1_000, 100));
        assert!(is_exceeded(&mut ratio, 0, 1), "one more");
    }

    #[test]
    fn many_decodable_records_do_not_hide_newer_failures() {
        let mut ratio = DeadLetterRatio::new(0.1);
        (0..1_000).for_each(|_| ratio.record_batch(4_000));

        assert!(is_exceeded(&mut ratio, 4_000, 4_000));
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut ratio = DeadLetterRatio::new(0.1);
        assert!(!is_exceeded(&mut ratio, 10_000, 900));
        (0..20).for_each(|_| ratio.record_batch(4_000));

        assert!(ratio.value() < 0.01, "{}", ratio.value());
    }

    #[test]
    fn a_limit_of_one_is_never_exceeded() {
        assert!(!is_exceeded(&mut DeadLetterRatio::new(1.0), 10_000, 10_000));
    }
}
