//! Staged files on a local disk.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;

use crate::staged_file::StagedFile;

/// Makes files and their directory entries durable: DuckLake itself never syncs a local file
/// (measured), and the catalog must not name a file that a power cut can take away.
///
/// After an error the files must not be used: the kernel may have dropped the pages and would call
/// a second attempt a success.
pub(crate) fn make_durable(files: &[StagedFile]) -> io::Result<()> {
    sync_files(files.iter().map(|file| file.path.as_path()))
}

/// The same for files by their paths.
pub(crate) fn sync_files<'a>(files: impl IntoIterator<Item = &'a Path>) -> io::Result<()> {
    let mut directories = BTreeSet::new();
    for file in files {
        sync(file)?;
        // The partition's directory may be new, so its own entry counts too.
        directories.extend(file.ancestors().skip(1).take(2));
    }
    directories.into_iter().try_for_each(sync)
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path).and_then(|file| file.sync_all())
}
