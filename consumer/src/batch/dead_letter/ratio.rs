//! Guards against burying a whole topic: a few bad records are dead letters, many are a mistake that
//! somebody has to see. Pure.

/// Records that must have been seen before a ratio means anything: one bad record among two is no
/// reason to stop.
const LEAST_RECORDS: u64 = 1_000;

/// Records after which what was seen counts half, so that the ratio is that of the newest 10,000 to
/// 20,000 records, and a long good past does not hide a bad presence.
const WINDOW: u64 = 10_000;

/// How many of the newest records could not be decoded.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetterRatio {
    limit: f64,
    records: u64,
    dead: u64,
}

impl DeadLetterRatio {
    /// Nothing seen yet; `limit` is the largest part of all records that may be dead letters.
    pub(crate) const fn new(limit: f64) -> Self {
        Self { limit, records: 0, dead: 0 }
    }

    /// Takes note of records, good and bad, before they are decoded.
    pub(crate) const fn record_batch(&mut self, records: usize) {
        self.records += records as u64;
        while self.records >= 2 * WINDOW {
            self.records /= 2;
            self.dead /= 2;
        }
    }

    /// Takes note that one of them is bad; whether there are too many of them now.
    pub(crate) fn record_failure(&mut self) -> bool {
        self.dead += 1;
        self.records >= LEAST_RECORDS && self.value() > self.limit
    }

    /// The part of the newest records that was bad.
    #[expect(clippy::cast_precision_loss, reason = "both numbers are below 20,000")]
    pub(crate) fn value(&self) -> f64 {
        self.dead as f64 / self.records.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether any of the bad records exceeds the limit.
    fn bury(ratio: &mut DeadLetterRatio, records: usize, bad: usize) -> bool {
        ratio.record_batch(records);
        (0..bad).fold(false, |exceeded, _| ratio.record_failure() || exceeded)
    }

    #[test]
    fn one_bad_record_among_two_is_buried() {
        assert!(!bury(&mut DeadLetterRatio::new(0.1), 2, 1));
    }

    #[test]
    fn a_topic_of_garbage_is_not() {
        assert!(bury(&mut DeadLetterRatio::new(0.1), 1_000, 1_000));
    }

    #[test]
    fn as_many_as_allowed_are_buried() {
        let mut ratio = DeadLetterRatio::new(0.1);

        assert!(!bury(&mut ratio, 1_000, 100));
        assert!(bury(&mut ratio, 0, 1), "one more");
    }

    #[test]
    fn a_long_good_past_does_not_hide_a_bad_presence() {
        let mut ratio = DeadLetterRatio::new(0.1);
        (0..1_000).for_each(|_| ratio.record_batch(4_000));

        assert!(bury(&mut ratio, 4_000, 4_000));
    }

    #[test]
    fn a_bad_past_is_forgotten() {
        let mut ratio = DeadLetterRatio::new(0.1);
        assert!(!bury(&mut ratio, 10_000, 900));
        (0..20).for_each(|_| ratio.record_batch(4_000));

        assert!(ratio.value() < 0.01, "{}", ratio.value());
    }

    #[test]
    fn a_limit_of_one_buries_everything() {
        assert!(!bury(&mut DeadLetterRatio::new(1.0), 10_000, 10_000));
    }
}
