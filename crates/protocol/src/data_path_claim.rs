//! Claim of a lake on its data path, for writers of files.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// File that identifies a data path as the lake's. A directory without it is only the mount point: files
/// that are written there are hidden when the data path is mounted again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPathClaim {
    file: PathBuf,
}

impl DataPathClaim {
    /// Creates the claim of this file.
    #[must_use]
    pub const fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// Creates a directory below the data path, durably: the entry of each new directory is synced, so
    /// that a power failure cannot remove the directory of a committed file.
    ///
    /// Fails with [`ErrorKind::NotFound`] while the data path is not mounted.
    pub fn create_directory(&self, directory: &Path) -> io::Result<()> {
        if !self.file.try_exists()? {
            return Err(io::Error::new(
                ErrorKind::NotFound,
                format!(
                    "the data path lacks the lake's claim, so its mount is away: claim=`{}`",
                    self.file.display()
                ),
            ));
        }
        create_durably(directory)
    }
}

fn create_durably(directory: &Path) -> io::Result<()> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<_> = directory.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(directory)?;
    // From the top, as the entries were made.
    let parents = missing.into_iter().rev().filter_map(Path::parent);
    parents
        .filter(|parent| !parent.as_os_str().is_empty())
        .try_for_each(|parent| File::open(parent).and_then(|parent| parent.sync_all()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_created_only_below_a_mounted_data_path() {
        let root = tempfile::tempdir().unwrap();
        let claim = DataPathClaim::new(root.path().join("claim"));
        let partition = root.path().join("main/events/event_date=2026-11-01");

        let refused = claim.create_directory(&partition).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound);
        assert!(!root.path().join("main").exists());

        fs::write(root.path().join("claim"), "lake").unwrap();
        claim.create_directory(&partition).unwrap();
        claim.create_directory(&partition).unwrap();
        assert!(partition.is_dir());
    }

    #[test]
    fn a_file_in_the_place_of_a_directory_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let claim = DataPathClaim::new(root.path().join("claim"));
        fs::write(root.path().join("claim"), "lake").unwrap();
        fs::write(root.path().join("main"), "a file").unwrap();

        assert!(claim.create_directory(&root.path().join("main/events")).is_err());
    }
}
