//! From groups of files to what their table costs its readers. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;

use super::FileCount;
use super::query::{DayKey, Group, MergeKey, TableEntry};

/// The live files of a table, at the newest snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableHealth {
    /// The table's name with its schema.
    pub table: String,
    /// The size that files are merged up to: the lake's option `target_file_size` for the table, its
    /// schema or the lake, or the threshold's default.
    pub target_bytes: u64,
    /// All data files.
    pub live: FileCount,
    /// The same by size.
    pub sizes: SizeClasses,
    /// Files that have delete files. Merges leave them alone.
    pub with_deletes: u64,
    /// Files that would be fewer if all tiny and small ones were merged with those that they may be
    /// merged with: of the same partition values and schema version, without delete files.
    pub mergeable: u64,
    /// How many groups of files may be merged among each other.
    pub merge_groups: u64,
    /// Schema versions that files belong to. Files of different ones are never merged.
    pub schema_versions: u64,
    /// Different values of the partition key; 0 when no file has one.
    pub partition_values: u64,
    /// What a query of a single day opens; None without files.
    pub one_day: Option<OneDay>,
}

/// Data files by size. A class ends at the target, where that is less than its own bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SizeClasses {
    /// Below [`Thresholds::tiny_bytes`](super::Thresholds::tiny_bytes).
    pub tiny: FileCount,
    /// Below [`Thresholds::small_bytes`](super::Thresholds::small_bytes).
    pub small: FileCount,
    /// Below the target.
    pub medium: FileCount,
    /// Of the target's size or larger; these are never merged.
    pub full: FileCount,
}

/// A day's share of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneDay {
    /// The newest day that is over (UTC), or, where there is none, the day with the most files.
    pub day: Date,
    /// What makes a file the day's.
    pub of: DayOf,
    /// Files that a query of the day opens, delete files among them.
    pub files: u64,
}

/// What makes a file one of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DayOf {
    /// The date that partitions the table: a query with a condition on it opens no other file.
    PartitionKey,
    /// The days of the commits that brought its rows, in a table that no date partitions. What a
    /// query of a day opens there depends on how well times follow the order of arrival.
    Commit,
}

impl TableHealth {
    /// Tiny and small files.
    #[must_use]
    pub const fn small_files(&self) -> u64 {
        self.sizes.tiny.files + self.sizes.small.files
    }

    /// Their part of all files, from 0 to 1.
    #[must_use]
    pub fn small_share(&self) -> f64 {
        share(self.small_files(), self.live.files)
    }

    /// Files that a query without any condition opens, delete files among them.
    #[must_use]
    pub const fn full_scan_files(&self) -> u64 {
        self.live.files + self.with_deletes
    }
}

/// A part of a whole, from 0 to 1; of nothing it is 0.
#[expect(clippy::cast_precision_loss, reason = "a share of that many files is exact enough")]
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Each table with what its groups amount to; groups of a table that was made meanwhile are left out.
pub(super) fn combine(tables: Vec<TableEntry>, groups: &[Group], today: Date) -> Vec<TableHealth> {
    let mut by_table: BTreeMap<i64, Vec<&Group>> = BTreeMap::new();
    for group in groups {
        by_table.entry(group.table_id).or_default().push(group);
    }
    let combined = |table: TableEntry| {
        let groups = by_table.get(&table.id).map_or(&[][..], Vec::as_slice);
        table_health(table, groups, today)
    };
    tables.into_iter().map(combined).collect()
}

fn table_health(table: TableEntry, groups: &[&Group], today: Date) -> TableHealth {
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

impl Group {
    fn live(&self) -> FileCount {
        let mut sum = self.tiny;
        for class in [self.small, self.medium, self.full] {
            sum += class;
        }
        sum
    }

    /// Files that a scan of the group opens.
    fn opened(&self) -> u64 {
        self.live().files + self.with_deletes
    }

    /// The date that partitions its files.
    fn day(&self, key: DayKey) -> Option<Date> {
        let (partition_id, values, _) = &self.merge_key;
        let value = values.get(key.index).filter(|_| *partition_id == Some(key.partition_id))?;
        value.as_ref()?.parse().ok()
    }

    /// Whether a query of that day opens its files: those from before the key was set have no date,
    /// and every query opens them.
    fn is_opened_for(&self, day: Date, key: DayKey) -> bool {
        self.merge_key.0 != Some(key.partition_id) || self.day(key) == Some(day)
    }

    /// Whether some of its rows may be of that day, judged by the days of their commits. Where the
    /// snapshot is gone, the commit is older than all days that are known.
    fn is_committed_on(&self, day: Date) -> bool {
        let (first, last) = self.committed;
        first.is_none_or(|first| first <= day) && last.is_some_and(|last| day <= last)
    }
}

/// Files that merges may join, by what keeps them apart.
fn candidates<'g>(groups: &[&'g Group]) -> BTreeMap<&'g MergeKey, FileCount> {
    let mut candidates = BTreeMap::new();
    for group in groups.iter().filter(|group| group.candidates.files > 0) {
        *candidates.entry(&group.merge_key).or_insert_with(FileCount::default) += group.candidates;
    }
    candidates
}

/// How many of the files go when they are merged up to the target.
fn saved(candidates: FileCount, target_bytes: u64) -> u64 {
    let left = candidates.bytes.div_ceil(target_bytes.max(1)).max(1);
    candidates.files.saturating_sub(left)
}

fn one_day(groups: &[&Group], key: Option<DayKey>, today: Date) -> Option<OneDay> {
    let files = |day: Date| {
        let is_of_day = |group: &&&Group| match key {
            Some(key) => group.is_opened_for(day, key),
            None => group.is_committed_on(day),
        };
        groups.iter().filter(is_of_day).map(|group| group.opened()).sum()
    };
    let day_of = |group: &&Group| match key {
        Some(key) => group.day(key),
        None => group.committed.1,
    };
    let days: BTreeSet<Date> = groups.iter().filter_map(day_of).collect();
    let complete = days.range(..today).next_back().copied();
    let day = complete.or_else(|| days.iter().copied().max_by_key(|day| files(*day)))?;
    let of = if key.is_some() { DayOf::PartitionKey } else { DayOf::Commit };
    Some(OneDay { day, of, files: files(day) })
}

#[cfg(test)]
#[path = "table_health_tests.rs"]
mod tests;
