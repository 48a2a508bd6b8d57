//! When a refusal is believed. Pure.
//!
//! A connection that is cut at the wrong moment leaves DuckDB with half of a catalog, and with words that
//! fit no outage; while a catalog is being restored, tables and grants are missing for a while. Either
//! would end a running worker, and a supervisor would not start it again.

use std::time::{Duration, Instant};

/// How often the lake has to refuse, each time a new instance of DuckDB, before a worker ends.
const LEAST_REFUSALS: u32 = 4;

/// For how long it has to. Whoever restores a large catalog stops the workers first.
const LEAST_TIME: Duration = Duration::from_secs(15);

/// The refusals since the lake last took something.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    count: u32,
    since: Option<Instant>,
}

impl Refusals {
    /// Takes note of another refusal; whether the lake itself is the reason.
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
    fn a_refusal_counts_when_it_was_repeated_for_a_while() {
        let begin = Instant::now();
        let mut refusals = Refusals::default();
        let mut after = |seconds| refusals.is_certain(begin + Duration::from_secs(seconds));

        assert_eq!([after(0), after(1), after(2), after(3)], [false; 4], "often, but at once");
        assert!(after(15));

        let mut refusals = Refusals::default();
        assert!(!refusals.is_certain(begin));
        assert!(!refusals.is_certain(begin + LEAST_TIME), "long, but once in between");
    }
}
