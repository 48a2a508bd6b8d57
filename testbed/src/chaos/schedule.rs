//! What is done to the pipeline, and when: a pure function of the seed.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use serde::Serialize;

use crate::catalog::CatalogKind;

/// The steps of the commit protocol at which a consumer can be made to die or to sleep, in the order
/// in which a batch meets them.
pub const PLACES: [&str; 10] = [
    "file_writing",
    "file_written",
    "file_synced",
    "lock_taken",
    "transaction_begun",
    "files_added",
    "message_set",
    "commit_answered",
    "offsets_mirroring",
    "offsets_mirrored",
];

/// Something that goes wrong. `consumer` is a consumer's number; times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub(super) enum Fault {
    /// SIGKILL at any moment.
    Kill { consumer: usize },
    /// SIGKILL the instant a new snapshot is visible in the catalog.
    KillAtSnapshot { consumer: usize },
    /// SIGKILL at a step of the protocol.
    CrashAt { consumer: usize, place: &'static str, visit: u32 },
    /// SIGSTOP, longer than the session, then SIGCONT.
    Pause { consumer: usize, for_ms: u64 },
    /// The same at a step of the protocol: it wakes up in the middle of a commit.
    PauseAt { consumer: usize, place: &'static str, visit: u32, for_ms: u64 },
    /// SIGTERM; it is started again.
    Stop { consumer: usize },
    /// Members that join and leave every few seconds.
    Storm { members: usize, rounds: u32 },
    /// Another process under a static member's name.
    SameName { consumer: usize, for_ms: u64 },
    /// Answers to COMMIT that get lost, although it was applied.
    LostAnswers { consumer: usize, commits: usize },
    /// COMMITs that get lost.
    LostCommits { consumer: usize, commits: usize },
    /// A COMMIT on its way, while its sender sleeps and loses its partitions.
    HeldCommit { consumer: usize, for_ms: u64 },
    /// Connections to the catalog that end after so many more bytes.
    CutConnections { consumer: usize, bytes: u64 },
    /// The database server is killed, and started again.
    CatalogKilled { for_ms: u64 },
    /// All its sessions are terminated, several times.
    CatalogTerminated { rounds: u32 },
    /// A client that holds the next snapshot's number in an open transaction.
    CatalogHeld { for_ms: u64 },
    /// The broker is killed and started again: a new leader epoch.
    BrokerKilled,
    /// The same, politely.
    BrokerStopped,
    /// The broker stands still, its connections open.
    BrokerPaused { for_ms: u64 },
    /// The schema registry is killed while a consumer starts.
    RegistryKilled { consumer: usize, for_ms: u64 },
    /// The registry answers with errors while a consumer starts.
    RegistryErrors { consumer: usize, for_ms: u64 },
    /// The registry takes seconds to answer while a consumer starts.
    RegistrySlow { consumer: usize, for_ms: u64 },
    /// No room on the data path.
    DiskFull { for_ms: u64 },
    /// The data path cannot be written to.
    DiskReadOnly { for_ms: u64 },
    /// The disk says that it did not keep a file.
    FilesNotKept { consumer: usize },
    /// The topic gets another partition.
    PartitionAdded,
    /// A transaction of another producer, aborted.
    TransactionAborted { partition: i32, records: usize },
    /// The clock of a consumer is hours off.
    WrongClock { consumer: usize, hours: i32 },
    /// An operator replays the last offsets of a partition; now and then the operator's program is
    /// killed on the way.
    Replayed { partition: i32, offsets: i64, killed_after_ms: Option<u64> },
    /// SIGKILL of the program that merges, expires and cleans up.
    MaintenanceKilled,
}

impl Fault {
    /// Its name in reports.
    #[must_use]
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Kill { .. } => "consumer killed",
            Self::KillAtSnapshot { .. } => "consumer killed at a new snapshot",
            Self::CrashAt { .. } => "consumer killed at a step of the protocol",
            Self::Pause { .. } => "consumer asleep beyond its session",
            Self::PauseAt { .. } => "consumer asleep within a commit",
            Self::Stop { .. } => "consumer stopped politely",
            Self::Storm { .. } => "members join and leave",
            Self::SameName { .. } => "two consumers of one name",
            Self::LostAnswers { .. } => "answers to COMMIT lost",
            Self::LostCommits { .. } => "COMMIT lost",
            Self::HeldCommit { .. } => "COMMIT delayed past a takeover",
            Self::CutConnections { .. } => "catalog connections cut",
            Self::CatalogKilled { .. } => "PostgreSQL killed",
            Self::CatalogTerminated { .. } => "PostgreSQL sessions terminated",
            Self::CatalogHeld { .. } => "catalog held by a frozen client",
            Self::BrokerKilled => "broker killed",
            Self::BrokerStopped => "broker restarted",
            Self::BrokerPaused { .. } => "broker asleep",
            Self::RegistryKilled { .. } => "registry killed",
            Self::RegistryErrors { .. } => "registry answers 500",
            Self::RegistrySlow { .. } => "registry slow",
            Self::DiskFull { .. } => "disk full",
            Self::DiskReadOnly { .. } => "data path read-only",
            Self::FilesNotKept { .. } => "fsync failed",
            Self::PartitionAdded => "partition added",
            Self::TransactionAborted { .. } => "transaction aborted",
            Self::WrongClock { .. } => "wrong clock",
            Self::Replayed { .. } => "replay",
            Self::MaintenanceKilled => "maintenance killed",
        }
    }

    /// Whether it ends with a consumer's SIGKILL.
    #[must_use]
    pub(super) const fn kills_a_consumer(&self) -> bool {
        matches!(self, Self::Kill { .. } | Self::KillAtSnapshot { .. } | Self::CrashAt { .. })
    }
}

/// A fault and its moment, counted from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Event {
    /// When.
    pub(super) at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub(super) fault: Fault,
}

/// What a schedule is made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// The catalog: a file has no connections to cut.
    pub(super) catalog: CatalogKind,
    /// How many consumers share the topic.
    pub(super) consumers: usize,
    /// How long faults are injected.
    pub(super) length: Duration,
}

/// Partitions that the topic begins with: more than consumers, so that each has some.
pub(super) const PARTITIONS: i32 = 6;

/// The mean time between two faults, ms. Most last longer than that, so that several overlap.
const MEAN_PAUSE_MS: u64 = 3_500;

/// The schedule of a seed: always the same for the same terms.
#[must_use]
pub(super) fn schedule(seed: u64, terms: &Terms) -> Vec<Event> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let end = u64::try_from(terms.length.as_millis()).unwrap_or(u64::MAX);
    let (mut at_ms, mut events) = (0, Vec::new());
    loop {
        at_ms += random.random_range(MEAN_PAUSE_MS / 7..MEAN_PAUSE_MS * 13 / 7);
        if at_ms >= end {
            return events;
        }
        events.push(Event { at_ms, fault: fault(&mut random, terms) });
    }
}

/// One of the kinds, each as likely as its weight says: kills, aimed ones before all, come most
/// often; what stops everything for seconds seldom.
fn fault(random: &mut Xoshiro256PlusPlus, terms: &Terms) -> Fault {
    type Make = fn(&mut Dice) -> Fault;
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
        (4, |_| Fault::MaintenanceKilled),
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
    let all = || everywhere.iter().chain(of_the_catalog);
    let mut ticket = random.random_range(0..all().map(|(weight, _)| weight).sum());
    for (weight, make) in all() {
        if ticket < *weight {
            return make(&mut Dice { random, consumers: terms.consumers });
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn terms(catalog: CatalogKind, minutes: u64) -> Terms {
        Terms { catalog, consumers: 3, length: Duration::from_mins(minutes) }
    }

    #[test]
    fn a_seed_replays() {
        let terms = terms(CatalogKind::Postgres, 30);
        assert_eq!(schedule(7, &terms), schedule(7, &terms));
        assert_ne!(schedule(7, &terms), schedule(8, &terms));
    }

    #[test]
    fn a_longer_run_begins_like_a_shorter_one() {
        let short = schedule(7, &terms(CatalogKind::Sqlite, 1));
        let long = schedule(7, &terms(CatalogKind::Sqlite, 30));
        assert_eq!(short, long[..short.len()]);
    }

    #[test]
    fn half_an_hour_has_every_kind_of_fault_and_many_kills() {
        for (catalog, kinds) in [(CatalogKind::Sqlite, 23), (CatalogKind::Postgres, 29)] {
            let events = schedule(1, &terms(catalog, 30));
            let names: BTreeSet<_> = events.iter().map(|event| event.fault.name()).collect();
            assert_eq!(names.len(), kinds, "{names:?}");
            let kills = events.iter().filter(|event| event.fault.kills_a_consumer()).count();
            assert!(kills > 150, "{kills}");
        }
    }
}
