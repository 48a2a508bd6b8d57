//! Planted defects, which the simulation must find. The hooks are calls of `mutated!` in the cores.

use std::cell::Cell;

thread_local! {
    static PLANTED: Cell<Option<Mutation>> = const { Cell::new(None) };
}

/// A defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// A batcher accepts records of an earlier generation.
    StaleGenerationAccepted,
    /// The worker keeps its uncommitted records after a fence.
    NoResetAfterFence,
    /// A batch that was dropped because its table changed counts as committed.
    BatchKeptAfterTableChanged,
    /// A revocation ends before the records of its partitions are committed.
    RevokedBeforeCommit,
    /// Records of a revocation that took too long are kept.
    RevokedRecordsKept,
    /// A batcher accepts records of revoked partitions.
    RevokedPartitionNotForgotten,
    /// Partitions are fetched from the offsets of the group.
    ProgressReadFromGroup,
    /// Missing records count as a gap without a second fetch.
    JumpAcceptedAtOnce,
    /// One missing record counts as a gap.
    OffByOneAccepted,
    /// Positions that were loaded before a reset start partitions after it.
    OutdatedLoadAccepted,
    /// A gap after an end of partition counts as ordinary.
    GapAtEndAcceptedAtOnce,
    /// An end of partition is committed past records that are not decoded.
    IdleEndBeforeDecoding,
    /// A commit is sent again with other files.
    ResentWithOtherFiles,
    /// A commit whose outcome is unknown counts as committed.
    UnknownOutcomeTakenAsCommitted,
    /// The ids of rows that were never committed are remembered.
    WindowSurvivesReset,
    /// The ids of rows of other workers are not read.
    RecentRowsIgnored,
    /// A dead letter is counted twice.
    DeadLetterCountedTwice,
    /// An offset counts as out of range after one error.
    OutOfRangeTrustedAtOnce,
    /// A process continues although another one has its `group.instance.id`.
    ZombieTrusted,
    /// A topic that was created again is read.
    TopicIdNotChecked,
    /// A replay or skip is not noticed by a worker without commits.
    EpochNotCompared,
    /// A partial batch of an earlier cut is merged.
    PartOfOldCutAccepted,
    /// Records become dead letters while the registry is unavailable.
    RegistryOutageTakenAsAnswer,
    /// One answer that a schema does not exist is final.
    AbsenceNotConfirmed,
    /// Partitions without an owner are not looked for.
    OwnersNotChecked,
    /// A dropped run of records stays in flight.
    DroppedRunStaysInFlight,
    /// The number of batchers changes while they have records.
    BatchersChangedWithoutReset,
}

/// Returns whether the current run has a defect.
pub(crate) fn is_planted(mutation: Mutation) -> bool {
    PLANTED.get() == Some(mutation)
}

/// Runs with a defect.
pub(super) fn with<T>(mutation: Mutation, run: impl FnOnce() -> T) -> T {
    PLANTED.set(Some(mutation));
    let result = run();
    PLANTED.set(None);
    result
}
