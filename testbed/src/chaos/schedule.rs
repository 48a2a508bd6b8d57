//! What is done to the pipeline, and when: a pure function of the seed.

mod fault_sampler;

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use serde::Serialize;

use super::fault::Fault;
use crate::catalog::CatalogKind;

/// A fault and its moment, counted from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct ScheduledFault {
    /// When.
    pub(super) at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub(super) fault: Fault,
}

/// What a schedule is made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScheduleParams {
    /// The catalog: a file has no connections to cut.
    pub(super) catalog: CatalogKind,
    /// How many consumers share the topic.
    pub(super) consumers: usize,
    /// How long faults are injected.
    pub(super) length: Duration,
}

/// Partitions that the topic begins with: more than consumers, so that each has some.
pub(super) const PARTITIONS: i32 = 6;

/// The mean time between two faults of the pipeline, ms. Most last longer than that, so that several
/// overlap.
const MEAN_PAUSE_MS: u64 = 3_500;

/// The same for what befalls the compactor: long enough for it to start and merge, mostly.
const LAKE_MEAN_PAUSE_MS: u64 = 2_700;

/// Tells the two streams of random numbers apart.
const LAKE_STREAM: u64 = 0x636f_6d70_6163_7400;

/// The schedule of a seed: always the same for the same params.
#[must_use]
pub(super) fn schedule(seed: u64, params: &ScheduleParams) -> Vec<ScheduledFault> {
    let mut events = stream(seed, params, MEAN_PAUSE_MS, fault_sampler::pipeline_fault);
    let lake_fault = seed ^ LAKE_STREAM;
    events.extend(stream(lake_fault, params, LAKE_MEAN_PAUSE_MS, fault_sampler::lake_fault));
    events.sort_by_key(|event| event.at_ms);
    events
}

/// Faults of one kind, one after the other.
fn stream(
    seed: u64,
    params: &ScheduleParams,
    mean_pause_ms: u64,
    fault: fn(&mut Xoshiro256PlusPlus, &ScheduleParams) -> Fault,
) -> Vec<ScheduledFault> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let end = u64::try_from(params.length.as_millis()).unwrap_or(u64::MAX);
    let (mut at_ms, mut events) = (0, Vec::new());
    loop {
        at_ms += random.random_range(mean_pause_ms / 7..mean_pause_ms * 13 / 7);
        if at_ms >= end {
            return events;
        }
        events.push(ScheduledFault { at_ms, fault: fault(&mut random, params) });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn params(catalog: CatalogKind, minutes: u64) -> ScheduleParams {
        ScheduleParams { catalog, consumers: 3, length: Duration::from_mins(minutes) }
    }

    #[test]
    fn a_seed_replays() {
        let params = params(CatalogKind::Postgres, 30);
        assert_eq!(schedule(7, &params), schedule(7, &params));
        assert_ne!(schedule(7, &params), schedule(8, &params));
    }

    #[test]
    fn a_longer_run_begins_like_a_shorter_one() {
        let short = schedule(7, &params(CatalogKind::Sqlite, 1));
        let long = schedule(7, &params(CatalogKind::Sqlite, 30));
        assert_eq!(short, long[..short.len()]);
    }

    #[test]
    fn half_an_hour_has_every_kind_of_fault_and_many_kills() {
        for (catalog, kinds) in [(CatalogKind::Sqlite, 29), (CatalogKind::Postgres, 35)] {
            let events = schedule(1, &params(catalog, 30));
            let names: BTreeSet<_> = events.iter().map(|event| event.fault.name()).collect();
            assert_eq!(names.len(), kinds, "{names:?}");
            let kills = events.iter().filter(|event| event.fault.kills_a_consumer()).count();
            assert!(kills > 150, "{kills}");
        }
    }

    #[test]
    fn ten_minutes_kill_the_compactor_a_hundred_times() {
        for seed in 1..20 {
            let events = schedule(seed, &params(CatalogKind::Sqlite, 10));
            let kills = events.iter().filter(|event| event.fault.kills_a_compactor()).count();
            assert!(kills > 110, "{kills}");
        }
    }
}
