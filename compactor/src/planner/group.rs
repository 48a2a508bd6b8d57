//! The merges of one group of files.

use ducktide_lake::maintenance::{DataFile, FileGroup};
use jiff::Timestamp;

use super::{Due, Merge, Policy, Reason, cold};

/// The largest file of a merge is this part of it at most, unless the result has the target size: an
/// output that just missed its tier's bound would else be written again for every few files.
const LARGEST_SHARE: u64 = 4;

/// So many files of a tier are merged although they do not leave it: late rows make files of less than
/// a kilobyte, a thousand of which would wait.
const MANY: usize = 256;

/// Disjoint merges of a group's files, which come in the order of their snapshots.
pub(super) fn merges(
    group: &FileGroup,
    files: &[DataFile],
    policy: &Policy,
    due: &Due,
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
        while let Some(taken) = full(&waiting, tier, policy) {
            merges.push(merge(&taken, Reason::TierFull(tier)));
            remove(&mut waiting, &taken);
        }
    }
    if due.cold {
        while let Some(taken) = cold::worth_merging(&waiting, policy, now) {
            merges.push(merge(&taken, Reason::Cold));
            remove(&mut waiting, &taken);
        }
    }
    merges
}

/// The files of a tier that leave it together, if they do; large ones that are not worth their
/// rewriting stay behind.
fn full<'a>(files: &[&'a DataFile], tier: usize, policy: &Policy) -> Option<Vec<&'a DataFile>> {
    let mut of_tier: Vec<_> =
        files.iter().copied().filter(|file| policy.tier(file.bytes) == tier).collect();
    while of_tier.len() > 1 {
        let taken = take(of_tier.iter().copied(), policy);
        let (bytes, largest) = (total(&taken), largest(&taken));
        let enough = bytes >= policy.upper_bound(tier) || taken.len() >= MANY;
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

/// As many of the files as one output, and one operation, takes.
pub(super) fn take<'a>(
    files: impl IntoIterator<Item = &'a DataFile>,
    policy: &Policy,
) -> Vec<&'a DataFile> {
    let mut taken = Vec::new();
    let mut bytes = 0;
    for file in files {
        let too_much = bytes + file.bytes > policy.operation_bytes;
        let full = bytes >= policy.target || taken.len() == policy.operation_files;
        if full || (taken.len() > 1 && too_much) {
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
