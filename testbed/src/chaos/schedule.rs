//! Schedule of faults: a pure function of the seed.

mod fault_sampler;

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use serde::Serialize;

use super::fault::Fault;
use crate::catalog::CatalogKind;

/// Fault with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct ScheduledFault {
    /// Time since the start of the run.
    pub(super) at_ms: u64,
    /// Fault to inject.
    #[serde(flatten)]
    pub(super) fault: Fault,
}

/// Parameters of a schedule.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScheduleParams {
    /// Catalog: a SQLite file has no connections to cut.
    pub(super) catalog: CatalogKind,
    /// True for a lake in object storage: it has faults of the store, and none of a disk.
    pub(super) in_object_storage: bool,
    /// Number of consumers in the group.
    pub(super) consumers: usize,
    /// Duration of the fault injection.
    pub(super) length: Duration,
}

/// Initial partitions of the topic: more than consumers, so that each has some.
pub(super) const PARTITIONS: i32 = 6;

/// Mean time between two faults of the pipeline, in milliseconds. Most faults last longer, so that
/// several overlap.
const MEAN_PAUSE_MS: u64 = 3_500;

/// Mean time between two faults of the compactor, in milliseconds: usually long enough to start and
/// merge.
const LAKE_MEAN_PAUSE_MS: u64 = 2_700;

/// Distinguishes the two sequences of random numbers.
const LAKE_STREAM: u64 = 0x636f_6d70_6163_7400;

/// Returns the schedule of a seed; the same one for the same parameters.
#[must_use]
pub(super) fn schedule(seed: u64, params: &ScheduleParams) -> Vec<ScheduledFault> {
    let mut events = stream(seed, params, MEAN_PAUSE_MS, fault_sampler::pipeline_fault);
    let lake_fault = seed ^ LAKE_STREAM;
    events.extend(stream(lake_fault, params, LAKE_MEAN_PAUSE_MS, fault_sampler::lake_fault));
    events.sort_by_key(|event| event.at_ms);
    events
}

/// Returns a sequence of faults at random times.
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
        let length = Duration::from_mins(minutes);
        ScheduleParams { catalog, in_object_storage: false, consumers: 3, length }
    }

    #[test]
    fn a_seed_gives_the_same_schedule_again() {
        let params = params(CatalogKind::Postgres, 30);
        assert_eq!(schedule(7, &params), schedule(7, &params));
        assert_ne!(schedule(7, &params), schedule(8, &params));
    }

    #[test]
    fn a_longer_run_begins_with_the_faults_of_a_shorter_one() {
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
    fn a_lake_in_object_storage_has_faults_of_the_store_instead_of_the_disk() {
        let params = ScheduleParams { in_object_storage: true, ..params(CatalogKind::Sqlite, 30) };
        let events = schedule(1, &params);
        let names: BTreeSet<_> = events.iter().map(|event| event.fault.name()).collect();
        assert_eq!(names.len(), 33, "{names:?}");
        assert!(names.contains("store unreachable") && !names.contains("disk full"), "{names:?}");
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
