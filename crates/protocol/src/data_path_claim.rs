//! The claim of a lake on its data path, for those who write files there.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The file by which a data path is known to be the lake's. A directory without it is only where the data
/// path's mount belongs: what is written there disappears below the mount when it is back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPathClaim {
    file: PathBuf,
}

impl DataPathClaim {
    /// The claim in this file.
    #[must_use]
    pub const fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// Creates a directory below the data path.
    ///
    /// Errors with [`ErrorKind::NotFound`] while the data path is away.
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
