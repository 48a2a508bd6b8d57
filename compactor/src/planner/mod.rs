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
mod policy;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use ducktide_maintenance::TableFiles;
use jiff::Timestamp;

pub use policy::{DueTiers, Merge, MergeOperation, MergePolicy, MergeReason};

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
