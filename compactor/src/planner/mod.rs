//! Which files to merge, decided from nothing but their sizes and ages.
//!
//! Files below the target size belong to tiers by their size. A tier of a group (one partition, one
//! shape of the table) is merged when its files together are large enough to leave it:
//!
//! | a tier's files | then |
//! |---|---|
//! | together reach the target | one file, never touched again |
//! | together reach the tier's upper bound, the largest a quarter of them at most | one file, of a higher tier |
//! | are 256 or more, the largest a quarter of them at most | one file, though of the same tier |
//! | nothing new for `cold_after`, in this tier and those above | merged as far as it pays |
//! | anything else | they wait |
//!
//! So each byte is written once for each tier, three times with the defaults, and once more when its
//! partition has become cold. What is merged too early does not leave its tier and is written again
//! with the next files: that is the quadratic rewriting which the second row excludes.
//!
//! Late rows make small files in cold partitions. They are merged with each other, and with a large
//! file only when they are worth its rewriting (`cold::COLD_GROWTH`).

mod cold;
mod group;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::time::Duration;

use ducktide_lake::maintenance::{FileGroup, TableFiles};
use ducktide_lake::table::TableName;
use jiff::Timestamp;

/// When files are merged, and how much at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The size that files grow to, bytes. No output is as large as two of it.
    pub target: u64,
    /// The upper bounds of the tiers below the target's, ascending, bytes.
    pub tiers: Vec<u64>,
    /// A group that got nothing for so long is merged as far as it pays.
    pub cold_after: Duration,
    /// What one operation reads at most, bytes; at least the two smallest files of a merge.
    pub operation_bytes: u64,
    /// How many files one operation reads at most.
    pub operation_files: usize,
}

impl Policy {
    /// The tier of a file of this size.
    pub(crate) fn tier(&self, bytes: u64) -> usize {
        self.tiers.partition_point(|bound| *bound <= bytes)
    }

    /// How many tiers there are below the target.
    #[must_use]
    pub fn tier_count(&self) -> usize {
        self.tiers.len() + 1
    }

    /// What a tier's files must reach together to leave it.
    pub(crate) fn upper_bound(&self, tier: usize) -> u64 {
        self.tiers.get(tier).copied().unwrap_or(self.target)
    }
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// For each tier, whether it is its time.
    pub tiers: Vec<bool>,
    /// Whether cold groups are merged.
    pub cold: bool,
}

impl Due {
    /// Everything.
    #[must_use]
    pub fn all(policy: &Policy) -> Self {
        Self { tiers: vec![true; policy.tier_count()], cold: true }
    }
}

/// Why files are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Together they leave this tier, the smallest of which is 0.
    TierFull(usize),
    /// Their group has been quiet.
    Cold,
}

/// Files that become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge {
    /// What they have in common.
    pub group: FileGroup,
    /// Their ids, in the order of their snapshots.
    pub files: Vec<i64>,
    /// Their bytes together.
    pub bytes: u64,
    /// Why.
    pub reason: Reason,
}

/// Merges of one table that are done in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The table.
    pub table: TableName,
    /// Each of another group.
    pub merges: Vec<Merge>,
}

impl Operation {
    /// How many files it reads.
    #[must_use]
    pub fn files(&self) -> usize {
        self.merges.iter().map(|merge| merge.files.len()).sum()
    }

    /// How many bytes it reads.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.merges.iter().map(|merge| merge.bytes).sum()
    }

    /// By how many files the table has fewer afterwards.
    #[must_use]
    pub fn files_less(&self) -> usize {
        self.files() - self.merges.len()
    }
}

/// All that is to be done now, the tables with the most files to lose first.
#[must_use]
pub fn plan(tables: &[TableFiles], policy: &Policy, due: &Due, now: Timestamp) -> Vec<Operation> {
    let mut of_tables: Vec<_> =
        tables.iter().map(|table| operations(table, policy, due, now)).collect();
    let files_less = |operations: &Vec<Operation>| -> usize {
        operations.iter().map(Operation::files_less).sum()
    };
    of_tables.sort_by_key(|operations| std::cmp::Reverse(files_less(operations)));
    of_tables.into_iter().flatten().collect()
}

/// The operations of one table: no group twice in one, and each within its bounds.
fn operations(table: &TableFiles, policy: &Policy, due: &Due, now: Timestamp) -> Vec<Operation> {
    let mut merges: Vec<_> = table
        .groups
        .iter()
        .flat_map(|(group, files)| group::merges(group, files, policy, due, now))
        .collect();
    // Most files for the least bytes first.
    merges.sort_by_key(|merge| merge.bytes / merge.files.len() as u64);
    let mut operations: Vec<Operation> = Vec::new();
    for merge in merges {
        let fits = |operation: &&mut Operation| {
            operation.bytes() + merge.bytes <= policy.operation_bytes
                && operation.files() + merge.files.len() <= policy.operation_files
                && operation.merges.iter().all(|other| other.group != merge.group)
        };
        match operations.iter_mut().find(fits) {
            Some(operation) => operation.merges.push(merge),
            None => {
                operations.push(Operation { table: table.table.clone(), merges: vec![merge] });
            }
        }
    }
    operations
}
