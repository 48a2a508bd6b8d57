//! Claim of a lake on its data path, for writers of files.

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

    /// Path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file
    }
}
