//! Search for files with names of Ducktide and DuckLake in the directories of tables.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ducktide_lake::data_path::{DataPath, is_claimed, is_file_of_a_lake};
use ducktide_protocol::error::Result;

use super::{Orphan, failed};

/// Finds files with such names that were last written before `newest`, in the directories and the
/// directories of their partitions. Links are never followed, and lakes within the lake's data path, which
/// older versions allowed, are skipped.
pub(super) fn old_files(
    directories: &BTreeSet<PathBuf>,
    data_path: &DataPath,
    newest: SystemTime,
) -> Result<Vec<Orphan>> {
    let mut found = Vec::new();
    let is_within = |path: &Path| path != data_path.root() && path.starts_with(data_path.root());
    let is_another_lakes =
        |directory: &Path| directory.ancestors().take_while(|path| is_within(path)).any(is_claimed);
    let mut pending: Vec<_> = directories.iter().cloned().collect();
    while let Some(directory) = pending.pop() {
        if is_another_lakes(&directory) {
            continue;
        }
        for entry in entries(&directory)? {
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(failed("read the metadata of a file", &entry.path(), error));
                }
            };
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if kind.is_dir() && is_partition(name) {
                pending.push(entry.path());
            } else if kind.is_file() && is_file_of_a_lake(name) {
                found.extend(old_file(&entry, newest)?);
            }
        }
    }
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    found.dedup();
    Ok(found)
}

/// Lists a directory; a table without files has none.
fn entries(directory: &Path) -> Result<Vec<DirEntry>> {
    // A directory that was replaced by a link after it was listed would lead elsewhere.
    match fs::symlink_metadata(directory) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read the metadata of a directory", directory, error)),
    }
    let entries = fs::read_dir(directory).and_then(Iterator::collect);
    entries.map_err(|error| failed("list a directory", directory, error))
}

fn old_file(entry: &DirEntry, newest: SystemTime) -> Result<Option<Orphan>> {
    let path = entry.path();
    let found = match fs::symlink_metadata(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read the metadata of a file", &path, error)),
    };
    let modified =
        found.modified().map_err(|error| failed("read the time of a file", &path, error))?;
    let is_old = found.is_file() && modified < newest;
    Ok(is_old.then_some(Orphan { bytes: found.len(), path, modified }))
}

/// Returns whether a directory is named as DuckLake and Ducktide name those of partitions:
/// `event_date=2026-11-01`.
fn is_partition(name: &str) -> bool {
    name.split_once('=').is_some_and(|(column, _)| !column.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "0193f2a1-7c3e-7b1a-9d2f-0123456789ab";

    #[test]
    fn links_and_foreign_directories_are_skipped() {
        let outside = tempfile::tempdir().unwrap();
        let lake = tempfile::tempdir().unwrap();
        let name = format!("ducktide-{UUID}.parquet");
        let table = lake.path().join("main/events");
        for directory in ["event_date=2026-11-01", "backup"] {
            fs::create_dir_all(table.join(directory)).unwrap();
            fs::write(table.join(directory).join(&name), "x").unwrap();
        }
        fs::write(outside.path().join(&name), "x").unwrap();
        std::os::unix::fs::symlink(outside.path(), table.join("event_date=link")).unwrap();
        std::os::unix::fs::symlink(outside.path().join(&name), table.join(&name)).unwrap();

        let root = DataPath::new(lake.path());
        let newest = SystemTime::now() + std::time::Duration::from_mins(1);
        let found = old_files(&BTreeSet::from([table.clone()]), &root, newest).unwrap();

        let paths: Vec<_> = found.iter().map(|orphan| orphan.path.clone()).collect();
        assert_eq!(paths, [table.join("event_date=2026-11-01").join(&name)]);
        assert_eq!(
            old_files(&BTreeSet::from([table.clone()]), &root, SystemTime::UNIX_EPOCH).unwrap(),
            []
        );

        // A claim of another lake within this lake's table.
        let claim = ducktide_lake::data_path::CLAIM_NAME;
        fs::write(table.join("event_date=2026-11-01").join(claim), "another").unwrap();
        assert_eq!(old_files(&BTreeSet::from([table]), &root, newest).unwrap(), []);
    }
}
