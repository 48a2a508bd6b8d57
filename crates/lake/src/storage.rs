//! Durability of the lake's files.

use std::io;
use std::path::Path;

use ducktide_protocol::StagedFile;
use ducktide_storage::Storage;

/// Makes files durable. DuckLake itself never syncs a local file (measured), and the catalog must not name
/// a file that a power failure can remove.
///
/// After an error the files must not be used: the kernel may have dropped the pages, and a second
/// attempt would then succeed.
pub fn make_durable<'a>(files: impl IntoIterator<Item = &'a StagedFile>) -> io::Result<()> {
    sync_files(files.into_iter().map(|file| file.path.as_path()))
}

/// Makes files of one data path, given by path, durable.
pub fn sync_files<'a>(files: impl IntoIterator<Item = &'a Path>) -> io::Result<()> {
    let files: Vec<_> = files.into_iter().collect();
    match files.first() {
        Some(first) => Storage::of(first)?.make_durable(files),
        None => Ok(()),
    }
}
