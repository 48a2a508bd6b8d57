//! Groups without new files: yesterday's partition, and late rows in older ones.

use ducktide_maintenance::DataFile;
use jiff::Timestamp;

use super::group::take;
use super::policy::MergePolicy;

/// Divisor of the growth from which a file is rewritten: the smaller files merged with it must have
/// at least `1/COLD_GROWTH` of its size, that is half of it. A day of 200 MB is not rewritten for a late row,
/// but sixty files of 4 MB are merged at once, and a byte is rewritten only when its file grows by
/// half.
const COLD_GROWTH: u64 = 2;

/// Returns the files of a cold group that are worth merging.
///
/// Not the whole group must be cold, but all files from some size on: late rows, which make small
/// files, do not prevent the merge of a day's large ones.
pub(super) fn worth_merging<'a>(
    files: &[&'a DataFile],
    policy: &MergePolicy,
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
    by_size.truncate(count_worthwhile(&by_size));
    // Restores the snapshot order.
    let chosen: std::collections::HashSet<_> = by_size.iter().map(|file| file.id).collect();
    let taken = take(files.iter().copied().filter(|file| chosen.contains(&file.id)), policy);
    (taken.len() > 1).then_some(taken)
}

/// Returns the number of files, sorted by size, that are worth merging.
fn count_worthwhile(by_size: &[&DataFile]) -> usize {
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
