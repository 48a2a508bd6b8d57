//! Draws faults, each kind as likely as its weight says.

use rand::{RngExt as _, rngs::Xoshiro256PlusPlus};

use super::{PARTITIONS, Terms};
use crate::{
    catalog::CatalogKind,
    chaos::fault::{Fault, MERGE_PLACES, PLACES, Visit},
};

/// One of the kinds, each as likely as its weight says: kills, aimed ones before all, come most
/// often; what stops everything for seconds seldom.
pub(super) fn of_the_pipeline(random: &mut Xoshiro256PlusPlus, terms: &Terms) -> Fault {
    let everywhere: &[(u32, Make)] = &[
        (10, |d| Fault::Kill { consumer: d.consumer() }),
        (20, |d| Fault::KillAtSnapshot { consumer: d.consumer() }),
        (30, |d| Fault::CrashAt { consumer: d.consumer(), place: d.place(), visit: d.visit() }),
        (5, |d| Fault::Pause { consumer: d.consumer(), for_ms: d.beyond_a_session() }),
        (10, |d| Fault::PauseAt {
            consumer: d.consumer(),
            place: d.place(),
            visit: d.visit(),
            for_ms: d.beyond_a_session(),
        }),
        (4, |d| Fault::Stop { consumer: d.consumer() }),
        (3, |d| Fault::Storm { members: d.up_to(2), rounds: 3 }),
        (2, |d| Fault::SameName { consumer: d.consumer(), for_ms: 8_000 }),
        (2, |d| Fault::CatalogHeld { for_ms: d.between(1_000, 8_000) }),
        (2, |_| Fault::BrokerKilled),
        (1, |_| Fault::BrokerStopped),
        (3, |d| Fault::BrokerPaused { for_ms: d.between(500, 8_000) }),
        (1, |d| Fault::RegistryKilled { consumer: d.consumer(), for_ms: 3_000 }),
        (1, |d| Fault::RegistryErrors { consumer: d.consumer(), for_ms: 4_000 }),
        (1, |d| Fault::RegistrySlow { consumer: d.consumer(), for_ms: 6_000 }),
        (3, |d| Fault::DiskFull { for_ms: d.between(1_000, 6_000) }),
        (2, |d| Fault::DiskReadOnly { for_ms: d.between(1_000, 6_000) }),
        (3, |d| Fault::FilesNotKept { consumer: d.consumer() }),
        (1, |_| Fault::PartitionAdded),
        (2, |d| Fault::TransactionAborted { partition: d.partition(), records: d.up_to(50) }),
        (2, |d| Fault::WrongClock { consumer: d.consumer(), hours: d.hours() }),
        (5, |d| Fault::Replayed {
            partition: d.partition(),
            offsets: d.offsets(),
            killed_after_ms: d.now_and_then(100, 3_000),
        }),
    ];
    let with_a_server: &[(u32, Make)] = &[
        (5, |d| Fault::LostAnswers { consumer: d.consumer(), commits: d.up_to(3) }),
        (3, |d| Fault::LostCommits { consumer: d.consumer(), commits: d.up_to(3) }),
        (5, |d| Fault::HeldCommit { consumer: d.consumer(), for_ms: d.beyond_a_session() }),
        (5, |d| Fault::CutConnections { consumer: d.consumer(), bytes: d.between(0, 40_000) }),
        (2, |d| Fault::CatalogKilled { for_ms: d.between(0, 5_000) }),
        (3, |d| Fault::CatalogTerminated { rounds: 5 + u32::from(d.visit() > 1) * 10 }),
    ];
    let of_the_catalog = if terms.catalog == CatalogKind::Postgres { with_a_server } else { &[] };
    draw(&mut Dice { random, consumers: terms.consumers }, &[everywhere, of_the_catalog])
}

/// One of what befalls the compactor, and those who come to the lake meanwhile.
pub(super) fn of_the_lake(random: &mut Xoshiro256PlusPlus, terms: &Terms) -> Fault {
    let all: &[(u32, Make)] = &[
        (40, |_| Fault::CompactorKilled),
        (25, |d| Fault::CompactorCrashAt {
            place: d.step_of_a_merge(),
            visit: d.first_or_second(),
        }),
        (5, |d| Fault::CompactorPaused { for_ms: d.between(1_000, 9_000) }),
        (5, |d| Fault::SecondCompactor {
            for_ms: d.between(500, 4_000),
            first_dies: d.now_and_then(0, 1).is_some(),
        }),
        (4, |d| Fault::SlowReader { for_ms: d.between(15_000, 25_000) }),
        (16, |d| Fault::Visited { visit: d.visit_of_a_client() }),
    ];
    draw(&mut Dice { random, consumers: terms.consumers }, &[all])
}

type Make = fn(&mut Dice) -> Fault;

fn draw(dice: &mut Dice, kinds: &[&[(u32, Make)]]) -> Fault {
    let all = || kinds.iter().copied().flatten();
    let mut ticket = dice.random.random_range(0..all().map(|(weight, _)| weight).sum());
    for (weight, make) in all() {
        if ticket < *weight {
            return make(dice);
        }
        ticket -= weight;
    }
    unreachable!("a ticket is below the sum of all weights")
}

/// Draws what a fault needs to know.
struct Dice<'a> {
    random: &'a mut Xoshiro256PlusPlus,
    consumers: usize,
}

impl Dice<'_> {
    fn consumer(&mut self) -> usize {
        self.random.random_range(0..self.consumers)
    }

    fn place(&mut self) -> &'static str {
        PLACES[self.random.random_range(0..PLACES.len())]
    }

    fn step_of_a_merge(&mut self) -> &'static str {
        MERGE_PLACES[self.random.random_range(0..MERGE_PLACES.len())]
    }

    fn first_or_second(&mut self) -> u32 {
        self.random.random_range(1..=2)
    }

    fn visit_of_a_client(&mut self) -> Visit {
        match self.random.random_range(0..4) {
            0 => Visit::Update(self.random.random_range(0..7)),
            1 => Visit::Delete(self.random.random_range(0..7)),
            _ => Visit::Inserts(self.random.random_range(1..8)),
        }
    }

    fn visit(&mut self) -> u32 {
        self.random.random_range(1..5)
    }

    fn beyond_a_session(&mut self) -> u64 {
        self.between(5_000, 9_000)
    }

    fn between(&mut self, from: u64, to: u64) -> u64 {
        self.random.random_range(from..to)
    }

    fn now_and_then(&mut self, from: u64, to: u64) -> Option<u64> {
        self.random.random_ratio(1, 3).then(|| self.between(from, to))
    }

    fn up_to(&mut self, most: usize) -> usize {
        self.random.random_range(1..=most)
    }

    fn partition(&mut self) -> i32 {
        self.random.random_range(0..PARTITIONS)
    }

    fn offsets(&mut self) -> i64 {
        self.random.random_range(1..20_000)
    }

    fn hours(&mut self) -> i32 {
        let hours = self.random.random_range(1..48);
        if self.random.random() { hours } else { -hours }
    }
}
