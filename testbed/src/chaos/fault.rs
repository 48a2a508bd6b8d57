//! Faults of a schedule.

use serde::Serialize;

use crate::faults::StoreFault;

/// Failpoints of the commit protocol at which a consumer can be killed or paused, in the order of a
/// batch.
pub const FAILPOINTS: [&str; 8] = [
    "file_writing",
    "file_written",
    "file_synced",
    "lock_taken",
    "message_set",
    "commit_answered",
    "offsets_mirroring",
    "offsets_mirrored",
];

/// Failpoints of a merge at which a compactor can be killed.
pub const MERGE_FAILPOINTS: [&str; 2] = ["files_merged", "files_exchanged"];

/// Fault. `consumer` is the number of a consumer; times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub(super) enum Fault {
    /// SIGKILL of a consumer at any moment.
    Kill { consumer: usize },
    /// SIGKILL as soon as a new snapshot is visible in the catalog.
    KillAtSnapshot { consumer: usize },
    /// SIGKILL at a failpoint, the `hit`th time that it is reached.
    CrashAt { consumer: usize, failpoint: &'static str, hit: u32 },
    /// SIGSTOP for longer than the session, then SIGCONT.
    Pause { consumer: usize, for_ms: u64 },
    /// SIGSTOP at a failpoint for longer than the session: it resumes in the middle of a commit.
    PauseAt { consumer: usize, failpoint: &'static str, hit: u32, for_ms: u64 },
    /// SIGTERM, then a restart.
    Stop { consumer: usize },
    /// Members that join and leave every few seconds.
    MemberChurn { members: usize, rounds: u32 },
    /// Second process with the instance ID of a static member.
    DuplicateMember { consumer: usize, for_ms: u64 },
    /// Lost responses to COMMITs that were applied.
    LostResponses { consumer: usize, commits: usize },
    /// COMMITs that do not reach the server.
    LostCommits { consumer: usize, commits: usize },
    /// COMMIT delayed until its sender, which is paused, has lost its partitions.
    HeldCommit { consumer: usize, for_ms: u64 },
    /// Connections to the catalog that are closed after `bytes` more bytes.
    CutConnections { consumer: usize, bytes: u64 },
    /// SIGKILL of the database server, then a restart.
    CatalogKilled { for_ms: u64 },
    /// Termination of all database sessions, several times.
    CatalogTerminated { rounds: u32 },
    /// Client with an open transaction that contains the next snapshot ID.
    CatalogHeld { for_ms: u64 },
    /// SIGKILL of the broker, then a restart: a new leader epoch.
    BrokerKilled,
    /// Graceful restart of the broker.
    BrokerStopped,
    /// SIGSTOP of the broker, then SIGCONT; its connections stay open.
    BrokerPaused { for_ms: u64 },
    /// SIGKILL of the schema registry while a consumer starts.
    RegistryKilled { consumer: usize, for_ms: u64 },
    /// Errors of the registry while a consumer starts.
    RegistryErrors { consumer: usize, for_ms: u64 },
    /// Slow responses of the registry while a consumer starts.
    RegistrySlow { consumer: usize, for_ms: u64 },
    /// Full disk at the data path.
    DiskFull { for_ms: u64 },
    /// Read-only data path.
    DiskReadOnly { for_ms: u64 },
    /// Failed fsync of a file.
    FsyncFails { consumer: usize },
    /// Fault of the object store.
    Store { store: StoreFault, for_ms: u64 },
    /// Additional partition of the topic.
    PartitionAdded,
    /// Aborted transaction of another producer.
    TransactionAborted { partition: i32, records: usize },
    /// Consumer with a clock that is minutes or hours ahead or behind.
    WrongClock { consumer: usize, minutes: i32 },
    /// Replay of the last offsets of a partition; sometimes the replay is killed.
    Replayed { partition: i32, offsets: i64, killed_after_ms: Option<u64> },
    /// SIGKILL of the compactor at any moment.
    CompactorKilled,
    /// SIGKILL of the compactor at a failpoint of a merge.
    CompactorCrashAt { failpoint: &'static str, hit: u32 },
    /// SIGSTOP of the compactor, then SIGCONT.
    CompactorPaused { for_ms: u64 },
    /// Second compactor, started by mistake; sometimes the first one is killed meanwhile.
    SecondCompactor { for_ms: u64, kills_first: bool },
    /// Reader with a long transaction.
    SlowReader { for_ms: u64 },
    /// Write of another client to its own table of the lake.
    ForeignWrite { write: ForeignWrite },
}

impl Fault {
    /// Returns the name in reports.
    #[must_use]
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Kill { .. } => "consumer killed",
            Self::KillAtSnapshot { .. } => "consumer killed at a new snapshot",
            Self::CrashAt { .. } => "consumer killed at a failpoint",
            Self::Pause { .. } => "consumer paused beyond its session",
            Self::PauseAt { .. } => "consumer paused within a commit",
            Self::Stop { .. } => "consumer stopped",
            Self::MemberChurn { .. } => "members join and leave",
            Self::DuplicateMember { .. } => "two consumers with one instance ID",
            Self::LostResponses { .. } => "responses to COMMIT lost",
            Self::LostCommits { .. } => "COMMIT lost",
            Self::HeldCommit { .. } => "COMMIT delayed past a takeover",
            Self::CutConnections { .. } => "catalog connections cut",
            Self::CatalogKilled { .. } => "PostgreSQL killed",
            Self::CatalogTerminated { .. } => "PostgreSQL sessions terminated",
            Self::CatalogHeld { .. } => "catalog held by a frozen client",
            Self::BrokerKilled => "broker killed",
            Self::BrokerStopped => "broker restarted",
            Self::BrokerPaused { .. } => "broker paused",
            Self::RegistryKilled { .. } => "registry killed",
            Self::RegistryErrors { .. } => "registry returns 500",
            Self::RegistrySlow { .. } => "registry slow",
            Self::DiskFull { .. } => "disk full",
            Self::DiskReadOnly { .. } => "data path read-only",
            Self::FsyncFails { .. } => "fsync failed",
            Self::Store { store, .. } => match store {
                StoreFault::None => "store undisturbed",
                StoreFault::Throttled { .. } => "store throttles",
                StoreFault::Failing => "store returns 500",
                StoreFault::AnswersLost { .. } => "answers of the store lost",
                StoreFault::Torn { .. } => "connections to the store torn",
                StoreFault::ListsBehind => "lists of the store behind",
                StoreFault::TokensExpire => "session tokens expire",
                StoreFault::Delayed(_) => "store slow",
                StoreFault::Unreachable => "store unreachable",
            },
            Self::PartitionAdded => "partition added",
            Self::TransactionAborted { .. } => "transaction aborted",
            Self::WrongClock { .. } => "wrong clock",
            Self::Replayed { .. } => "replay",
            Self::CompactorKilled => "compactor killed",
            Self::CompactorCrashAt { .. } => "compactor killed at a failpoint",
            Self::CompactorPaused { .. } => "compactor paused",
            Self::SecondCompactor { kills_first: false, .. } => "two compactors",
            Self::SecondCompactor { kills_first: true, .. } => {
                "two compactors, the first one killed"
            }
            Self::SlowReader { .. } => "slow reader",
            Self::ForeignWrite { .. } => "another client writes",
        }
    }

    /// Returns true if it kills a consumer.
    #[must_use]
    pub(super) const fn kills_a_consumer(&self) -> bool {
        matches!(self, Self::Kill { .. } | Self::KillAtSnapshot { .. } | Self::CrashAt { .. })
    }

    /// Returns true if it kills a compactor.
    #[must_use]
    pub(super) const fn kills_a_compactor(&self) -> bool {
        matches!(
            self,
            Self::CompactorKilled
                | Self::CompactorCrashAt { .. }
                | Self::SecondCompactor { kills_first: true, .. }
        )
    }
}

/// Write of another client to its own table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ForeignWrite {
    /// Single rows, each in its own commit and file.
    Inserts(u32),
    /// Update of the rows whose ID modulo 7 is this number.
    Update(i64),
    /// Deletion of the rows whose ID modulo 7 is this number.
    Delete(i64),
}
