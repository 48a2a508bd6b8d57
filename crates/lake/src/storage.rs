//! Durability of the lake's files on a local disk.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use ducktide_protocol::StagedFile;
use uuid::Uuid;

/// Syncs files and their directory entries to disk. DuckLake itself never syncs a local file
/// (measured), and the catalog must not name a file that a power failure can remove.
///
/// After an error the files must not be used: the kernel may have dropped the pages, and a second
/// attempt would then succeed.
pub fn make_durable<'a>(files: impl IntoIterator<Item = &'a StagedFile>) -> io::Result<()> {
    sync_files(files.into_iter().map(|file| file.path.as_path()))
}

/// Syncs files, given by path, and their directory entries to disk.
pub fn sync_files<'a>(files: impl IntoIterator<Item = &'a Path>) -> io::Result<()> {
    let mut directories = BTreeSet::new();
    for file in files {
        sync(file)?;
        // Directories of workers are durable when they are created. That of a partition may be made by
        // another program, so its own entry is synced too.
        directories.extend(file.ancestors().skip(1).take(2));
    }
    directories.into_iter().try_for_each(sync)
}

/// Writes a file to a directory and removes it. Creates the directory if it is missing.
pub fn try_to_write(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let path = directory.join(format!(".ducktide-probe-{}", Uuid::new_v4()));
    let mut file = File::create_new(&path)?;
    let written = file.write_all(b"ducktide").and_then(|()| file.sync_all());
    fs::remove_file(&path).and(written)
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path).and_then(|file| file.sync_all())
}
