//! Claim of a lake on its data path, for writers of files.

use std::fs;
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

    /// Creates a directory below the data path.
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
        fs::create_dir_all(directory)
    }
}
