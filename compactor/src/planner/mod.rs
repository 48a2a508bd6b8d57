//! Merge planning, based only on the sizes and ages of files.
//!
//! Files below the target size belong to tiers by their size. A tier of a group (one partition, one
//! schema version of the table) is merged when its files together are large enough to leave it:
//!
//! | files of a tier | action |
//! |---|---|
//! | together reach the target size | merge into one file, which is never merged again |
//! | together reach the upper bound of the tier, the largest being at most a quarter of them | merge into one file of a higher tier |
//! | 256 or more, the largest being at most a quarter of them | merge into one file, even of the same tier |
//! | no new files for `cold_after`, in this tier and those above | merge as far as worthwhile |
//! | otherwise | wait |
//!
//! So each byte is written once per tier, three times with the defaults, and once more when its
//! partition has become cold. A merge that is too early does not leave its tier and is rewritten
//! with the next files: the second row excludes this quadratic rewriting.
//!
//! Late rows make small files in cold partitions. They are merged with each other, and with a large
//! file only if they are worth rewriting it (`cold::COLD_GROWTH`).

mod cold;
mod group;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::time::Duration;

use ducktide_maintenance::{FileGroup, TableFiles};
use ducktide_protocol::table::TableName;
use jiff::Timestamp;

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

/// Returns all operations that are due, the tables with the largest reduction of files first.
#[must_use]
pub fn plan(
    tables: &[TableFiles],
    policy: &MergePolicy,
    due: &DueTiers,
    now: Timestamp,
) -> Vec<MergeOperation> {
    let mut of_tables: Vec<_> =
        tables.iter().map(|table| operations(table, policy, due, now)).collect();
    let files_less = |operations: &Vec<MergeOperation>| -> usize {
        operations.iter().map(MergeOperation::files_less).sum()
    };
    of_tables.sort_by_key(|operations| std::cmp::Reverse(files_less(operations)));
    of_tables.into_iter().flatten().collect()
}

/// Returns the operations of one table. Each is within its limits and has at most one merge per
/// group.
fn operations(
    table: &TableFiles,
    policy: &MergePolicy,
    due: &DueTiers,
    now: Timestamp,
) -> Vec<MergeOperation> {
    let mut merges: Vec<_> = table
        .groups
        .iter()
        .flat_map(|(group, files)| group::merges(group, files, policy, due, now))
        .collect();
    // The largest number of files per byte first.
    merges.sort_by_key(|merge| merge.bytes / merge.files.len() as u64);
    let mut operations: Vec<MergeOperation> = Vec::new();
    for merge in merges {
        let fits = |operation: &&mut MergeOperation| {
            operation.bytes() + merge.bytes <= policy.operation_bytes
                && operation.files() + merge.files.len() <= policy.operation_files
                && operation.merges.iter().all(|other| other.group != merge.group)
        };
        match operations.iter_mut().find(fits) {
            Some(operation) => operation.merges.push(merge),
            None => {
                operations.push(MergeOperation { table: table.table.clone(), merges: vec![merge] });
            }
        }
    }
    operations
}
