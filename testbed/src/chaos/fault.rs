//! What can go wrong.

use serde::Serialize;

/// The steps of the commit protocol at which a consumer can be made to die or to sleep, in the order
/// in which a batch meets them.
pub const FAILPOINTS: [&str; 10] = [
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

/// The steps of a merge at which a compactor can be made to die.
pub const MERGE_FAILPOINTS: [&str; 2] = ["files_merged", "files_exchanged"];

/// Something that goes wrong. `consumer` is a consumer's number; times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub(super) enum Fault {
    /// SIGKILL at any moment.
    Kill { consumer: usize },
    /// SIGKILL the instant a new snapshot is visible in the catalog.
    KillAtSnapshot { consumer: usize },
    /// SIGKILL at a step of the protocol.
    CrashAt { consumer: usize, failpoint: &'static str, hit: u32 },
    /// SIGSTOP, longer than the session, then SIGCONT.
    Pause { consumer: usize, for_ms: u64 },
    /// The same at a step of the protocol: it wakes up in the middle of a commit.
    PauseAt { consumer: usize, failpoint: &'static str, hit: u32, for_ms: u64 },
    /// SIGTERM; it is started again.
    Stop { consumer: usize },
    /// Members that join and leave every few seconds.
    MemberChurn { members: usize, rounds: u32 },
    /// Another process under a static member's name.
    DuplicateMember { consumer: usize, for_ms: u64 },
    /// Answers to COMMIT that get lost, although it was applied.
    LostResponses { consumer: usize, commits: usize },
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
    /// The disk says that it did not write_schedule a file.
    FsyncFails { consumer: usize },
    /// The topic gets another partition.
    PartitionAdded,
    /// A transaction of another producer, aborted.
    TransactionAborted { partition: i32, records: usize },
    /// The clock of a consumer is hours off.
    WrongClock { consumer: usize, hours: i32 },
    /// An operator replays the last offsets of a partition; now and then the operator's program is
    /// killed on the way.
    Replayed { partition: i32, offsets: i64, killed_after_ms: Option<u64> },
    /// SIGKILL of the compactor at any moment.
    CompactorKilled,
    /// SIGKILL of the compactor at a step of a merge.
    CompactorCrashAt { failpoint: &'static str, hit: u32 },
    /// SIGSTOP of the compactor, then SIGCONT.
    CompactorPaused { for_ms: u64 },
    /// A second compactor, started by mistake; now and then the first one dies meanwhile.
    SecondCompactor { for_ms: u64, first_dies: bool },
    /// A reader whose transaction lasts.
    SlowReader { for_ms: u64 },
    /// Somebody writes to another table of the lake.
    ForeignWrite { write: ForeignWrite },
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
            Self::MemberChurn { .. } => "members join and leave",
            Self::DuplicateMember { .. } => "two consumers of one name",
            Self::LostResponses { .. } => "answers to COMMIT lost",
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
            Self::FsyncFails { .. } => "fsync failed",
            Self::PartitionAdded => "partition added",
            Self::TransactionAborted { .. } => "transaction aborted",
            Self::WrongClock { .. } => "wrong clock",
            Self::Replayed { .. } => "replay",
            Self::CompactorKilled => "compactor killed",
            Self::CompactorCrashAt { .. } => "compactor killed at a step of a merge",
            Self::CompactorPaused { .. } => "compactor asleep",
            Self::SecondCompactor { first_dies: false, .. } => "two compactors",
            Self::SecondCompactor { first_dies: true, .. } => "two compactors, the first one dies",
            Self::SlowReader { .. } => "slow reader",
            Self::ForeignWrite { .. } => "another client writes",
        }
    }

    /// Whether it ends with a consumer's SIGKILL.
    #[must_use]
    pub(super) const fn kills_a_consumer(&self) -> bool {
        matches!(self, Self::Kill { .. } | Self::KillAtSnapshot { .. } | Self::CrashAt { .. })
    }

    /// Whether it ends with the SIGKILL of a compactor.
    #[must_use]
    pub(super) const fn kills_a_compactor(&self) -> bool {
        matches!(
            self,
            Self::CompactorKilled
                | Self::CompactorCrashAt { .. }
                | Self::SecondCompactor { first_dies: true, .. }
        )
    }
}

/// What somebody does to a table of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ForeignWrite {
    /// Single rows, each a commit and a file.
    Inserts(u32),
    /// The rows of every seventh number, from this one on.
    Update(i64),
    /// The same rows go.
    Delete(i64),
}
