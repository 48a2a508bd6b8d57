//! Decision whether a refusal of the lake is permanent. Pure.
//!
//! A connection that is lost while DuckDB reads a catalog leaves it with a part of the catalog, and with
//! an error that does not look like an outage. While a catalog is being restored, tables and grants are
//! missing temporarily. Either would end a running worker, and a supervisor would not restart it.

use std::time::{Duration, Instant};

/// Minimum number of refusals, each of a new DuckDB instance, after which a worker may end.
const LEAST_REFUSALS: u32 = 4;

/// Minimum time from the first to the last refusal. Restoring a large catalog takes longer, so operators
/// stop the workers first.
const LEAST_TIME: Duration = Duration::from_secs(15);

/// Refusals since the last operation that the lake accepted.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    count: u32,
    since: Option<Instant>,
}

impl Refusals {
    /// Counts another refusal. Returns whether the lake itself is the reason.
    pub(crate) fn is_certain(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        self.count += 1;
        self.count >= LEAST_REFUSALS && now.saturating_duration_since(since) >= LEAST_TIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_certain_after_enough_refusals_and_enough_time() {
        let begin = Instant::now();
        let mut refusals = Refusals::default();
        let mut after = |seconds| refusals.is_certain(begin + Duration::from_secs(seconds));

        assert_eq!([after(0), after(1), after(2), after(3)], [false; 4], "too short a time");
        assert!(after(15));

        let mut refusals = Refusals::default();
        assert!(!refusals.is_certain(begin));
        assert!(!refusals.is_certain(begin + LEAST_TIME), "too few refusals");
    }
}
