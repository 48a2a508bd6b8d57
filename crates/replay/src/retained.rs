//! Rows that a replay keeps of the files that it ends, in new files. Pure.
//!
//! The rows of many small files go to one new file: a statement for each file would look at every file of the
//! table each time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ducktide_protocol::StagedFile;
use ducktide_protocol::table::TableName;

use super::files::AffectedFile;

/// Maximum size of the original files of a new file, in bytes.
const GROUP_BYTES: u64 = 256 << 20;

/// Maximum number of original files of a new file. Between two new files the intent is renewed.
const GROUP_FILES: usize = 1_000;

/// New files of one replay.
#[derive(Default)]
pub(super) struct RetainedRows {
    files: Vec<RetainedFile>,
}

struct RetainedFile {
    originals: BTreeSet<AffectedFile>,
    file: StagedFile,
}

impl RetainedRows {
    pub(super) fn add(&mut self, originals: Vec<AffectedFile>, file: StagedFile) {
        self.files.push(RetainedFile { originals: originals.into_iter().collect(), file });
    }

    /// Drops the new files of a table whose originals have changed since. On disk they are orphans.
    pub(super) fn drop_outdated(&mut self, table: &TableName, straddling: &BTreeSet<AffectedFile>) {
        let is_current =
            |new: &RetainedFile| new.file.table != *table || new.originals.is_subset(straddling);
        self.files.retain(is_current);
    }

    /// Returns the straddling files whose rows are in no new file, one group for each new file to write.
    pub(super) fn unwritten(&self, straddling: &BTreeSet<AffectedFile>) -> Vec<Vec<AffectedFile>> {
        let written: BTreeSet<_> = self.files.iter().flat_map(|new| &new.originals).collect();
        group(straddling.iter().filter(|file| !written.contains(file)))
    }

    /// Returns the new files of all tables.
    pub(super) fn files(&self) -> impl Iterator<Item = &StagedFile> {
        self.files.iter().map(|new| &new.file)
    }
}

/// Groups files of the same directory: DuckLake reads partition values from the path.
fn group<'a>(files: impl Iterator<Item = &'a AffectedFile>) -> Vec<Vec<AffectedFile>> {
    let mut directories: BTreeMap<Option<&Path>, Vec<&AffectedFile>> = BTreeMap::new();
    for file in files {
        directories.entry(Path::new(&file.path).parent()).or_default().push(file);
    }
    directories.into_values().flat_map(|files| split(&files)).collect()
}

/// Splits the files of a directory into groups of at most [`GROUP_FILES`] and [`GROUP_BYTES`]; a larger file is
/// a group of its own.
fn split(files: &[&AffectedFile]) -> Vec<Vec<AffectedFile>> {
    let mut groups: Vec<Vec<AffectedFile>> = Vec::new();
    let mut bytes = 0;
    for &file in files {
        bytes += file.bytes;
        match groups.last_mut() {
            Some(group) if group.len() < GROUP_FILES && bytes <= GROUP_BYTES => {
                group.push(file.clone());
            }
            _ => {
                groups.push(vec![file.clone()]);
                bytes = file.bytes;
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use ducktide_protocol::FileFooter;

    use super::*;

    fn file(path: &str, bytes: u64) -> AffectedFile {
        AffectedFile { path: path.to_owned(), removed: 1, rows: 2, bytes }
    }

    fn straddling(files: &[AffectedFile]) -> BTreeSet<AffectedFile> {
        files.iter().cloned().collect()
    }

    fn paths(groups: &[Vec<AffectedFile>]) -> Vec<Vec<&str>> {
        groups.iter().map(|group| group.iter().map(|file| file.path.as_str()).collect()).collect()
    }

    fn table(name: &str) -> TableName {
        TableName { schema: "main".to_owned(), table: name.to_owned() }
    }

    fn new_file(name: &str) -> StagedFile {
        let (path, table) = ("/t/new.parquet".into(), table(name));
        StagedFile { path, table, rows: 1, bytes: 1, footer: FileFooter::default() }
    }

    #[test]
    fn files_of_one_directory_share_a_new_file() {
        let files = straddling(&[file("/t/a", 1), file("/t/d=1/b", 1), file("/t/z", 1)]);

        let groups = RetainedRows::default().unwritten(&files);

        assert_eq!(paths(&groups), [vec!["/t/a", "/t/z"], vec!["/t/d=1/b"]]);
    }

    #[test]
    fn a_group_ends_at_the_limits_of_size_and_number() {
        let large = straddling(&[
            file("/t/a", 2 * GROUP_BYTES),
            file("/t/b", GROUP_BYTES - 1),
            file("/t/c", 1),
            file("/t/d", 1),
        ]);
        let groups = RetainedRows::default().unwritten(&large);
        assert_eq!(paths(&groups), [vec!["/t/a"], vec!["/t/b", "/t/c"], vec!["/t/d"]]);

        let many: BTreeSet<_> = (0..=GROUP_FILES).map(|n| file(&format!("/t/{n:05}"), 1)).collect();
        let groups = RetainedRows::default().unwritten(&many);
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [GROUP_FILES, 1]);
    }

    #[test]
    fn a_new_file_is_dropped_when_one_of_its_originals_changed() {
        let (first, second, third) = (file("/t/a", 1), file("/t/b", 1), file("/t/c", 1));
        let mut retained = RetainedRows::default();
        retained.add(vec![first.clone(), second.clone()], new_file("events"));
        retained.add(vec![third.clone()], new_file("events"));
        retained.add(vec![file("/d/x", 1)], new_file("dead"));

        let changed = AffectedFile { rows: 1, ..second };
        let now = straddling(&[first.clone(), changed.clone(), third]);
        retained.drop_outdated(&table("events"), &now);

        assert_eq!(retained.unwritten(&now), [vec![first, changed]]);
        assert_eq!(retained.files().count(), 2, "the third file's, and the other table's");
    }
}
