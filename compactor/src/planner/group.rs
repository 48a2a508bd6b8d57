//! Merges of one group of files.

use ducktide_maintenance::{DataFile, FileGroup};
use jiff::Timestamp;

use super::cold;
use super::policy::{DueTiers, Merge, MergePolicy, MergeReason};

/// Divisor of the largest share: the largest file of a merge has at most `1/LARGEST_SHARE` of its
/// size, unless the result reaches the target size. Otherwise an output slightly below the bound of its tier would be
/// rewritten for every few files.
const LARGEST_SHARE: u64 = 4;

/// Number of files that are merged even if they do not leave their tier: late rows make files of
/// less than a kilobyte, and otherwise a thousand of them would wait.
const MANY_FILES: usize = 256;

/// Returns disjoint merges of the files of a group, which are in snapshot order.
pub(super) fn merges(
    group: &FileGroup,
    files: &[DataFile],
    policy: &MergePolicy,
    due: &DueTiers,
    now: Timestamp,
) -> Vec<Merge> {
    let mut waiting: Vec<&DataFile> =
        files.iter().filter(|file| file.bytes < policy.target).collect();
    let mut merges = Vec::new();
    let merge = |files: &[&DataFile], reason| Merge {
        group: group.clone(),
        files: files.iter().map(|file| file.id).collect(),
        bytes: total(files),
        reason,
    };
    for tier in (0..policy.tier_count()).filter(|tier| due.tiers[*tier]) {
        while let Some(taken) = full_tier(&waiting, tier, policy) {
            merges.push(merge(&taken, MergeReason::TierFull(tier)));
            remove(&mut waiting, &taken);
        }
    }
    if due.cold {
        while let Some(taken) = cold::worth_merging(&waiting, policy, now) {
            merges.push(merge(&taken, MergeReason::Cold));
            remove(&mut waiting, &taken);
        }
    }
    merges
}

/// Returns the files of a tier that leave it together, if there are any. Large files that are not
/// worth rewriting are excluded.
fn full_tier<'a>(
    files: &[&'a DataFile],
    tier: usize,
    policy: &MergePolicy,
) -> Option<Vec<&'a DataFile>> {
    let mut of_tier: Vec<_> =
        files.iter().copied().filter(|file| policy.tier(file.bytes) == tier).collect();
    while of_tier.len() > 1 {
        let taken = take(of_tier.iter().copied(), policy);
        let (bytes, largest) = (total(&taken), largest(&taken));
        let enough = bytes >= policy.upper_bound(tier) || taken.len() >= MANY_FILES;
        if taken.len() > 1 && (bytes >= policy.target || enough && largest * LARGEST_SHARE <= bytes)
        {
            return Some(taken);
        }
        if !enough {
            return None;
        }
        of_tier.retain(|file| file.bytes < largest);
    }
    None
}

/// Returns as many of the files as fit into one output and one operation.
pub(super) fn take<'a>(
    files: impl IntoIterator<Item = &'a DataFile>,
    policy: &MergePolicy,
) -> Vec<&'a DataFile> {
    let mut taken = Vec::new();
    let mut bytes = 0;
    for file in files {
        let too_much = bytes + file.bytes > policy.operation_bytes;
        let is_full = bytes >= policy.target || taken.len() == policy.operation_files;
        if is_full || (taken.len() > 1 && too_much) {
            break;
        }
        bytes += file.bytes;
        taken.push(file);
    }
    taken
}

pub(super) fn total(files: &[&DataFile]) -> u64 {
    files.iter().map(|file| file.bytes).sum()
}

fn largest(files: &[&DataFile]) -> u64 {
    files.iter().map(|file| file.bytes).max().unwrap_or(0)
}

fn remove(waiting: &mut Vec<&DataFile>, taken: &[&DataFile]) {
    let taken: std::collections::HashSet<_> = taken.iter().map(|file| file.id).collect();
    waiting.retain(|file| !taken.contains(&file.id));
}
