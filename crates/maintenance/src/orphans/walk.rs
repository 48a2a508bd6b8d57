//! Search for files with names of Ducktide and DuckLake in the directories of tables.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ducktide_lake::data_path::{CLAIM_NAME, DataPath, is_claimed, is_file_of_a_lake};
use ducktide_protocol::error::{LakeError, Result};
use ducktide_storage::{Storage, StoredFile};

use super::failed;

/// Finds files with such names that were last written before `newest`, in the directories and the
/// directories of their partitions. Links are never followed, and lakes within the lake's data path, which
/// older versions allowed, are skipped.
pub(super) fn old_files(
    directories: &BTreeSet<PathBuf>,
    data_path: &DataPath,
    newest: SystemTime,
) -> Result<Vec<StoredFile>> {
    let storage = data_path.storage()?;
    let (mut found, mut claimed) = (Vec::new(), BTreeSet::new());
    let is_within = |path: &Path| path != data_path.root() && path.starts_with(data_path.root());
    for directory in directories {
        let above = directory.ancestors().take_while(|path| is_within(path));
        if is_any_claimed(&storage, above)? {
            continue;
        }
        let listed = storage.list(directory, &is_partition, &mut |file| {
            let name = file.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name == CLAIM_NAME {
                claimed.extend(file.path.parent().map(Path::to_owned));
            } else if is_file_of_a_lake(name) && file.modified < newest {
                found.push(file);
            }
            ControlFlow::Continue(())
        });
        listed.map_err(failed)?;
    }
    found.retain(|file| !file.path.ancestors().any(|directory| claimed.contains(directory)));
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    found.dedup();
    Ok(found)
}

fn is_any_claimed<'a>(
    storage: &Storage,
    directories: impl Iterator<Item = &'a Path>,
) -> Result<bool> {
    for directory in directories {
        let is_claimed = is_claimed(storage, directory).map_err(|error| {
            let what = format!("look for the claim of a lake: directory=`{}`", directory.display());
            LakeError::unavailable(what).because(error)
        });
        if is_claimed? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether a directory is named as DuckLake and Ducktide name those of partitions:
/// `event_date=2026-11-01`.
fn is_partition(name: &str) -> bool {
    name.split_once('=').is_some_and(|(column, _)| !column.is_empty())
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        fs::write(table.join("event_date=2026-11-01").join(CLAIM_NAME), "another").unwrap();
        assert_eq!(old_files(&BTreeSet::from([table]), &root, newest).unwrap(), []);
    }
}
