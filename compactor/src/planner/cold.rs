//! Groups that get nothing any more: yesterday's partition, and late rows in older ones.

use ducktide_lake::maintenance::DataFile;
use jiff::Timestamp;

use super::Policy;
use super::group::take;

/// A file is written again when the smaller files that are merged with it have at least this part of
/// its size: one half. A day of 200 MB is not rewritten for a late row, but sixty files of 4 MB are
/// merged at once; and a byte is written again only when the file it is in grows by a half.
const COLD_GROWTH: u64 = 2;

/// The files of a quiet group that are worth merging.
///
/// Quiet is not the whole group but everything from some size on: late rows, which make small files,
/// do not keep a day's large ones from being merged.
pub(super) fn worth_merging<'a>(
    files: &[&'a DataFile],
    policy: &Policy,
    now: Timestamp,
) -> Option<Vec<&'a DataFile>> {
    let quiet = |file: &&DataFile| {
        file.changed_at.is_none_or(|at| at.duration_until(now).unsigned_abs() >= policy.cold_after)
    };
    let newest_active =
        files.iter().filter(|file| !quiet(file)).map(|f| policy.tier(f.bytes)).max();
    let is_cold =
        |file: &&&DataFile| newest_active.is_none_or(|tier| policy.tier(file.bytes) > tier);
    let mut by_size: Vec<&DataFile> = files.iter().filter(is_cold).copied().collect();
    by_size.sort_by_key(|file| file.bytes);
    by_size.truncate(paying(&by_size));
    // In the order of their snapshots again.
    let chosen: std::collections::HashSet<_> = by_size.iter().map(|file| file.id).collect();
    let taken = take(files.iter().copied().filter(|file| chosen.contains(&file.id)), policy);
    (taken.len() > 1).then_some(taken)
}

/// How many of the files, which come by size, are worth merging.
fn paying(by_size: &[&DataFile]) -> usize {
    let mut smaller = 0;
    let mut count = 0;
    for (index, file) in by_size.iter().enumerate() {
        if index > 0 && file.bytes <= smaller * COLD_GROWTH {
            count = index + 1;
        }
        smaller += file.bytes;
    }
    count
}
