//! Random selection of faults by weight.

use std::time::Duration;

use rand::{RngExt as _, rngs::Xoshiro256PlusPlus};

use super::{PARTITIONS, ScheduleParams};
use crate::{
    catalog::CatalogKind,
    chaos::fault::{FAILPOINTS, Fault, ForeignWrite, MERGE_FAILPOINTS},
    faults::StoreFault,
};

/// Returns a random fault of the pipeline. Kills have the highest weights, above all those at
/// failpoints; outages of a service have low ones.
pub(super) fn pipeline_fault(random: &mut Xoshiro256PlusPlus, params: &ScheduleParams) -> Fault {
    let everywhere: &[(u32, MakeFault)] = &[
        (10, |d| Fault::Kill { consumer: d.consumer() }),
        (20, |d| Fault::KillAtSnapshot { consumer: d.consumer() }),
        (30, |d| Fault::CrashAt { consumer: d.consumer(), failpoint: d.failpoint(), hit: d.hit() }),
        (5, |d| Fault::Pause { consumer: d.consumer(), for_ms: d.longer_than_session() }),
        (10, |d| Fault::PauseAt {
            consumer: d.consumer(),
            failpoint: d.failpoint(),
            hit: d.hit(),
            for_ms: d.longer_than_session(),
        }),
        (4, |d| Fault::Stop { consumer: d.consumer() }),
        (3, |d| Fault::MemberChurn { members: d.at_most(2), rounds: 3 }),
        (2, |d| Fault::DuplicateMember { consumer: d.consumer(), for_ms: 8_000 }),
        (2, |d| Fault::CatalogHeld { for_ms: d.between(1_000, 8_000) }),
        (2, |_| Fault::BrokerKilled),
        (1, |_| Fault::BrokerStopped),
        (3, |d| Fault::BrokerPaused { for_ms: d.between(500, 8_000) }),
        (1, |d| Fault::RegistryKilled { consumer: d.consumer(), for_ms: 3_000 }),
        (1, |d| Fault::RegistryErrors { consumer: d.consumer(), for_ms: 4_000 }),
        (1, |d| Fault::RegistrySlow { consumer: d.consumer(), for_ms: 6_000 }),
        (1, |_| Fault::PartitionAdded),
        (2, |d| Fault::TransactionAborted { partition: d.partition(), records: d.at_most(50) }),
        (5, |d| Fault::Replayed {
            partition: d.partition(),
            offsets: d.offsets(),
            killed_after_ms: d.one_in_three(100, 3_000),
        }),
    ];
    let with_a_disk: &[(u32, MakeFault)] = &[
        (3, |d| Fault::DiskFull { for_ms: d.between(1_000, 6_000) }),
        (2, |d| Fault::DiskReadOnly { for_ms: d.between(1_000, 6_000) }),
        (3, |d| Fault::FsyncFails { consumer: d.consumer() }),
        (2, |d| d.wrong_clock(48 * 60)),
    ];
    let with_a_store: &[(u32, MakeFault)] = &[
        (3, |d| d.store_fault(StoreFault::Throttled { every: 3 })),
        (2, |d| d.store_fault(StoreFault::Failing)),
        (3, |d| d.store_fault(StoreFault::AnswersLost { every: 3 })),
        (3, |d| d.store_fault(StoreFault::Torn { every: 4 })),
        (2, |d| d.store_fault(StoreFault::Delayed(Duration::from_millis(300)))),
        (2, |d| d.store_fault(StoreFault::Unreachable)),
        (2, |d| d.store_fault(StoreFault::ListsBehind)),
        // S3 refuses requests whose time differs from its own by over 15 minutes.
        (2, |d| d.wrong_clock(14)),
    ];
    let with_a_server: &[(u32, MakeFault)] = &[
        (5, |d| Fault::LostResponses { consumer: d.consumer(), commits: d.at_most(3) }),
        (3, |d| Fault::LostCommits { consumer: d.consumer(), commits: d.at_most(3) }),
        (5, |d| Fault::HeldCommit { consumer: d.consumer(), for_ms: d.longer_than_session() }),
        (5, |d| Fault::CutConnections { consumer: d.consumer(), bytes: d.between(0, 40_000) }),
        (2, |d| Fault::CatalogKilled { for_ms: d.between(0, 5_000) }),
        (3, |d| Fault::CatalogTerminated { rounds: 5 + u32::from(d.hit() > 1) * 10 }),
    ];
    let of_the_catalog = if params.catalog == CatalogKind::Postgres { with_a_server } else { &[] };
    let of_the_storage = if params.in_object_storage { with_a_store } else { with_a_disk };
    let kinds = [everywhere, of_the_storage, of_the_catalog];
    draw(&mut FaultSampler { random, consumers: params.consumers }, &kinds)
}

/// Returns a random fault of the compactor or action of another client.
pub(super) fn lake_fault(random: &mut Xoshiro256PlusPlus, params: &ScheduleParams) -> Fault {
    let all: &[(u32, MakeFault)] = &[
        (40, |_| Fault::CompactorKilled),
        (25, |d| Fault::CompactorCrashAt {
            failpoint: d.merge_failpoint(),
            hit: d.first_or_second(),
        }),
        (5, |d| Fault::CompactorPaused { for_ms: d.between(1_000, 9_000) }),
        (5, |d| Fault::SecondCompactor {
            for_ms: d.between(500, 4_000),
            kills_first: d.one_in_three(0, 1).is_some(),
        }),
        (4, |d| Fault::SlowReader { for_ms: d.between(15_000, 25_000) }),
        (16, |d| Fault::ForeignWrite { write: d.foreign_write() }),
    ];
    draw(&mut FaultSampler { random, consumers: params.consumers }, &[all])
}

type MakeFault = fn(&mut FaultSampler) -> Fault;

fn draw(fault_sampler: &mut FaultSampler, kinds: &[&[(u32, MakeFault)]]) -> Fault {
    let all = || kinds.iter().copied().flatten();
    let mut remaining = fault_sampler.random.random_range(0..all().map(|(weight, _)| weight).sum());
    for (weight, make) in all() {
        if remaining < *weight {
            return make(fault_sampler);
        }
        remaining -= weight;
    }
    unreachable!("the random number is below the sum of all weights")
}

/// Random parameters of faults.
struct FaultSampler<'a> {
    random: &'a mut Xoshiro256PlusPlus,
    consumers: usize,
}

impl FaultSampler<'_> {
    fn consumer(&mut self) -> usize {
        self.random.random_range(0..self.consumers)
    }

    fn failpoint(&mut self) -> &'static str {
        FAILPOINTS[self.random.random_range(0..FAILPOINTS.len())]
    }

    fn merge_failpoint(&mut self) -> &'static str {
        MERGE_FAILPOINTS[self.random.random_range(0..MERGE_FAILPOINTS.len())]
    }

    fn first_or_second(&mut self) -> u32 {
        self.random.random_range(1..=2)
    }

    fn foreign_write(&mut self) -> ForeignWrite {
        match self.random.random_range(0..4) {
            0 => ForeignWrite::Update(self.random.random_range(0..7)),
            1 => ForeignWrite::Delete(self.random.random_range(0..7)),
            _ => ForeignWrite::Inserts(self.random.random_range(1..8)),
        }
    }

    fn hit(&mut self) -> u32 {
        self.random.random_range(1..5)
    }

    fn store_fault(&mut self, store: StoreFault) -> Fault {
        Fault::Store { store, for_ms: self.between(1_000, 8_000) }
    }

    fn longer_than_session(&mut self) -> u64 {
        self.between(5_000, 9_000)
    }

    fn between(&mut self, from: u64, to: u64) -> u64 {
        self.random.random_range(from..to)
    }

    fn one_in_three(&mut self, from: u64, to: u64) -> Option<u64> {
        self.random.random_ratio(1, 3).then(|| self.between(from, to))
    }

    fn at_most(&mut self, most: usize) -> usize {
        self.random.random_range(1..=most)
    }

    fn partition(&mut self) -> i32 {
        self.random.random_range(0..PARTITIONS)
    }

    fn offsets(&mut self) -> i64 {
        self.random.random_range(1..20_000)
    }

    /// Returns a clock that is ahead or behind, less than a maximum.
    fn wrong_clock(&mut self, max_minutes: i32) -> Fault {
        let minutes = self.random.random_range(1..max_minutes);
        let minutes = if self.random.random() { minutes } else { -minutes };
        Fault::WrongClock { consumer: self.consumer(), minutes }
    }
}
