//! Rules of merges, and the merges that are planned.

use std::time::Duration;

use ducktide_maintenance::FileGroup;
use ducktide_protocol::table::TableName;

/// Rules and limits of merges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergePolicy {
    /// Target size of files, bytes. No output is as large as twice this size.
    pub target: u64,
    /// Upper bounds of the tiers below the target size, ascending, bytes.
    pub tiers: Vec<u64>,
    /// Time without new files after which a group is merged as far as worthwhile.
    pub cold_after: Duration,
    /// Maximum size that one operation reads, bytes; at least the two smallest files of a merge.
    pub operation_bytes: u64,
    /// Maximum number of files that one operation reads.
    pub operation_files: usize,
}

impl MergePolicy {
    /// Returns the tier of a file of this size.
    pub(crate) fn tier(&self, bytes: u64) -> usize {
        self.tiers.partition_point(|bound| *bound <= bytes)
    }

    /// Returns the number of tiers below the target size.
    #[must_use]
    pub fn tier_count(&self) -> usize {
        self.tiers.len() + 1
    }

    /// Returns the total size at which files leave a tier.
    pub(crate) fn upper_bound(&self, tier: usize) -> u64 {
        self.tiers.get(tier).copied().unwrap_or(self.target)
    }
}

/// Tiers that are due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueTiers {
    /// For each tier, true if it is due.
    pub tiers: Vec<bool>,
    /// True if cold groups are due.
    pub cold: bool,
}

impl DueTiers {
    /// Returns all tiers and cold groups.
    #[must_use]
    pub fn all(policy: &MergePolicy) -> Self {
        Self { tiers: vec![true; policy.tier_count()], cold: true }
    }
}

/// Reason of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MergeReason {
    /// The files together leave this tier; the smallest tier is 0.
    TierFull(usize),
    /// The group had no new files for some time.
    Cold,
}

/// Files that are merged into one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge {
    /// Common properties of the files.
    pub group: FileGroup,
    /// Ids of the files, in snapshot order.
    pub files: Vec<i64>,
    /// Total size of the files, bytes.
    pub bytes: u64,
    /// Reason of the merge.
    pub reason: MergeReason,
}

/// Merges of one table in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeOperation {
    /// Name of the table.
    pub table: TableName,
    /// Merges, each of a different group.
    pub merges: Vec<Merge>,
}

impl MergeOperation {
    /// Returns the number of files that the operation reads.
    #[must_use]
    pub fn files(&self) -> usize {
        self.merges.iter().map(|merge| merge.files.len()).sum()
    }

    /// Returns the size that the operation reads, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.merges.iter().map(|merge| merge.bytes).sum()
    }

    /// Returns the reduction of the number of files.
    #[must_use]
    pub fn files_less(&self) -> usize {
        self.files() - self.merges.len()
    }
}
