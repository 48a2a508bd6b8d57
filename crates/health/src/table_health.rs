//! Health of tables, from groups of files. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;

use super::query::{DayKey, FileGroup, MergeKey, TableEntry};
use crate::figures::FileCount;

/// Live files of a table, at the newest snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableHealth {
    /// Name of the table with its schema.
    pub table: String,
    /// Target size of merges: the option `target_file_size` of the table, its schema or the lake, or the
    /// default of the thresholds.
    pub target_bytes: u64,
    /// All data files.
    pub live: FileCount,
    /// Data files by size.
    pub sizes: SizeClasses,
    /// Number of files with delete files, which are not merged.
    pub with_deletes: u64,
    /// Number of files that merges would save: tiny and small files with the same partition values and
    /// schema version, without delete files.
    pub mergeable: u64,
    /// Number of groups of files that can be merged.
    pub merge_groups: u64,
    /// Number of schema versions of the files. Files of different ones are not merged.
    pub schema_versions: u64,
    /// Number of values of the partition key; 0 if no file has one.
    pub partition_values: u64,
    /// Files that a query of a single day opens; None without files.
    pub one_day: Option<DayScan>,
}

/// Data files by size. A class ends at the target if that is less than its own limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SizeClasses {
    /// Below [`Thresholds::tiny_bytes`](super::Thresholds::tiny_bytes).
    pub tiny: FileCount,
    /// Below [`Thresholds::small_bytes`](super::Thresholds::small_bytes).
    pub small: FileCount,
    /// Below the target.
    pub medium: FileCount,
    /// Of the target size or larger; these are not merged.
    pub full: FileCount,
}

/// Files of one day in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayScan {
    /// Newest complete day (UTC) or, without one, the day with the most files.
    pub day: Date,
    /// Assignment of files to the day.
    pub of: DayAssignment,
    /// Number of files that a query of the day opens, including delete files.
    pub files: u64,
}

/// Assignment of files to days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DayAssignment {
    /// By the date in the partition key: a query with a condition on it opens no other file.
    PartitionKey,
    /// By the days of the commits of its rows, in a table without a date in the partition key. The files
    /// that a query of a day opens there depend on the order of arrival.
    Commit,
}

impl TableHealth {
    /// Returns the number of tiny and small files.
    #[must_use]
    pub const fn small_files(&self) -> u64 {
        self.sizes.tiny.files + self.sizes.small.files
    }

    /// Returns the share of tiny and small files, from 0 to 1.
    #[must_use]
    pub fn small_share(&self) -> f64 {
        share(self.small_files(), self.live.files)
    }

    /// Returns the number of files that a full scan opens, including delete files.
    #[must_use]
    pub const fn full_scan_files(&self) -> u64 {
        self.live.files + self.with_deletes
    }
}

/// Returns the share of a part in a whole, from 0 to 1; 0 for an empty whole.
#[expect(clippy::cast_precision_loss, reason = "a share of that many files is exact enough")]
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Combines tables with their groups; groups of a table that was created meanwhile are ignored.
pub(super) fn combine(
    tables: Vec<TableEntry>,
    groups: &[FileGroup],
    today: Date,
) -> Vec<TableHealth> {
    let mut by_table: BTreeMap<i64, Vec<&FileGroup>> = BTreeMap::new();
    for group in groups {
        by_table.entry(group.table_id).or_default().push(group);
    }
    let combined = |table: TableEntry| {
        let groups = by_table.get(&table.id).map_or(&[][..], Vec::as_slice);
        table_health(table, groups, today)
    };
    tables.into_iter().map(combined).collect()
}

fn table_health(table: TableEntry, groups: &[&FileGroup], today: Date) -> TableHealth {
    let mut sizes = SizeClasses::default();
    for group in groups {
        sizes.tiny += group.tiny;
        sizes.small += group.small;
        sizes.medium += group.medium;
        sizes.full += group.full;
    }
    let versions: BTreeSet<_> = groups.iter().map(|group| group.merge_key.2).collect();
    let values = groups.iter().filter(|group| group.merge_key.0.is_some());
    let values: BTreeSet<_> = values.map(|group| (group.merge_key.0, &group.merge_key.1)).collect();
    let candidates = candidates(groups);
    TableHealth {
        table: table.name,
        target_bytes: table.target_bytes,
        live: groups.iter().fold(FileCount::default(), |mut sum, group| {
            sum += group.live();
            sum
        }),
        sizes,
        with_deletes: groups.iter().map(|group| group.with_deletes).sum(),
        mergeable: candidates.values().map(|of| saved(*of, table.target_bytes)).sum(),
        merge_groups: candidates.len() as u64,
        schema_versions: versions.len() as u64,
        partition_values: values.len() as u64,
        one_day: one_day(groups, table.day_key, today),
    }
}

impl FileGroup {
    fn live(&self) -> FileCount {
        let mut sum = self.tiny;
        for class in [self.small, self.medium, self.full] {
            sum += class;
        }
        sum
    }

    /// Returns the number of files that a scan of the group opens.
    fn opened(&self) -> u64 {
        self.live().files + self.with_deletes
    }

    /// Returns the date in the partition key of its files.
    fn day(&self, key: DayKey) -> Option<Date> {
        let (partition_id, values, _) = &self.merge_key;
        let value = values.get(key.index).filter(|_| *partition_id == Some(key.partition_id))?;
        value.as_ref()?.parse().ok()
    }

    /// Returns true if a query of that day opens its files. Files from before the key was set have no date,
    /// and every query opens them.
    fn is_opened_for(&self, day: Date, key: DayKey) -> bool {
        self.merge_key.0 != Some(key.partition_id) || self.day(key) == Some(day)
    }

    /// Returns true if some of its rows may be of that day, by the days of their commits. Without its
    /// snapshot, a commit is older than all known days.
    fn is_committed_on(&self, day: Date) -> bool {
        let (first, last) = self.committed;
        first.is_none_or(|first| first <= day) && last.is_some_and(|last| day <= last)
    }
}

/// Returns the files that can be merged, by merge key.
fn candidates<'g>(groups: &[&'g FileGroup]) -> BTreeMap<&'g MergeKey, FileCount> {
    let mut candidates = BTreeMap::new();
    for group in groups.iter().filter(|group| group.candidates.files > 0) {
        *candidates.entry(&group.merge_key).or_insert_with(FileCount::default) += group.candidates;
    }
    candidates
}

/// Returns the number of files that a merge up to the target saves.
fn saved(candidates: FileCount, target_bytes: u64) -> u64 {
    let left = candidates.bytes.div_ceil(target_bytes.max(1)).max(1);
    candidates.files.saturating_sub(left)
}

fn one_day(groups: &[&FileGroup], key: Option<DayKey>, today: Date) -> Option<DayScan> {
    let files = |day: Date| {
        let is_of_day = |group: &&&FileGroup| match key {
            Some(key) => group.is_opened_for(day, key),
            None => group.is_committed_on(day),
        };
        groups.iter().filter(is_of_day).map(|group| group.opened()).sum()
    };
    let day_of = |group: &&FileGroup| match key {
        Some(key) => group.day(key),
        None => group.committed.1,
    };
    let days: BTreeSet<Date> = groups.iter().filter_map(day_of).collect();
    let complete = days.range(..today).next_back().copied();
    let day = complete.or_else(|| days.iter().copied().max_by_key(|day| files(*day)))?;
    let of = if key.is_some() { DayAssignment::PartitionKey } else { DayAssignment::Commit };
    Some(DayScan { day, of, files: files(day) })
}

#[cfg(test)]
#[path = "table_health_tests.rs"]
mod tests;
