//! Files of a local directory.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry, File};
use std::io::{self, ErrorKind, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread;

use uuid::Uuid;

use crate::storage::{ListError, StoredFile};

/// Number of threads that read sizes: with a network file system they mostly wait.
const THREADS: usize = 8;

pub(crate) fn sync_files<'a>(files: impl IntoIterator<Item = &'a Path>) -> io::Result<()> {
    let mut directories = BTreeSet::new();
    for file in files {
        sync(file)?;
        // Directories of workers are durable when they are created. That of a partition may be made by
        // another program, so its own entry is synced too.
        directories.extend(file.ancestors().skip(1).take(2));
    }
    directories.into_iter().try_for_each(sync)
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path).and_then(|file| file.sync_all())
}

/// Writes a file to a directory and removes it. Creates the directory if it is missing.
pub(crate) fn try_to_write(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let path = directory.join(format!(".ducktide-probe-{}", Uuid::new_v4()));
    let mut file = File::create_new(&path)?;
    let written = file.write_all(b"ducktide").and_then(|()| file.sync_all());
    fs::remove_file(&path).and(written)
}

pub(crate) fn resolve(path: &Path) -> io::Result<PathBuf> {
    for above in path.ancestors() {
        match fs::canonicalize(above) {
            Ok(found) => {
                let rest = path.strip_prefix(above).unwrap_or_else(|_| Path::new(""));
                // `join` would add a slash to a path that exists.
                return Ok(found.join(rest).components().collect());
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(path.to_owned())
}

pub(crate) fn create_directory(directory: &Path, claim: Option<&Path>) -> io::Result<()> {
    let Some(claim) = claim else { return fs::create_dir_all(directory) };
    if !claim.try_exists()? {
        return Err(io::Error::new(
            ErrorKind::NotFound,
            format!(
                "the data path lacks the lake's claim, so its mount is away: claim=`{}`",
                claim.display()
            ),
        ));
    }
    create_durably(directory)
}

fn create_durably(directory: &Path) -> io::Result<()> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<_> = directory.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(directory)?;
    // From the top, as the entries were made.
    let parents = missing.into_iter().rev().filter_map(Path::parent);
    parents.filter(|parent| !parent.as_os_str().is_empty()).try_for_each(sync)
}

pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

pub(crate) fn exists(path: &Path) -> io::Result<bool> {
    match path.try_exists() {
        Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(false),
        answer => answer,
    }
}

pub(crate) fn create(path: &Path, content: &[u8]) -> io::Result<bool> {
    let (directory, written) = write_beside(path, content)?;
    // A hard link appears with its content, and fails if the file exists.
    let created = match fs::hard_link(&written, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) if has_no_hard_links(&error) => fs::rename(&written, path).map(|()| true),
        // After any other error, a rename could replace the file of another program.
        Err(error) => Err(error),
    };
    let _ = fs::remove_file(&written);
    let created = created?;
    sync(&directory)?;
    Ok(created)
}

pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let (directory, written) = write_beside(path, content)?;
    fs::rename(&written, path)?;
    sync(&directory)
}

/// Writes a temporary file to the directory of a path. Returns the directory and the temporary file.
fn write_beside(path: &Path, content: &[u8]) -> io::Result<(PathBuf, PathBuf)> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    fs::create_dir_all(directory)?;
    let written = directory.join(format!("{}-{}", name.to_string_lossy(), Uuid::new_v4()));
    let mut file = File::create_new(&written)?;
    file.write_all(content).and_then(|()| file.sync_all())?;
    Ok((directory.to_owned(), written))
}

/// Reports that the file system has no hard links: FAT answers EPERM, others that it is not supported.
fn has_no_hard_links(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Unsupported
        || error.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error())
}

pub(crate) fn sizes(paths: &[&Path]) -> Vec<Result<u64, ErrorKind>> {
    let size = |path: &&Path| fs::metadata(path).map(|found| found.len()).map_err(|e| e.kind());
    let length = paths.len().div_ceil(THREADS).max(1);
    thread::scope(|scope| {
        let chunks = paths.chunks(length);
        let chunks = chunks.map(|paths| scope.spawn(move || paths.iter().map(size).collect()));
        // All threads are started before the first is joined.
        let started: Vec<thread::ScopedJoinHandle<'_, Vec<_>>> = chunks.collect();
        let results = started.into_iter().map(thread::ScopedJoinHandle::join);
        results.flat_map(|sizes| sizes.expect("reading a size does not panic")).collect()
    })
}

pub(crate) fn list(
    directory: &Path,
    descends: &dyn Fn(&str) -> bool,
    take: &mut dyn FnMut(StoredFile) -> ControlFlow<()>,
) -> Result<(), ListError> {
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in entries(&directory)? {
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(failed("read the metadata of a file", &entry.path(), error));
                }
            };
            let name = entry.file_name();
            if kind.is_dir() && name.to_str().is_some_and(descends) {
                pending.push(entry.path());
            } else if kind.is_file()
                && let Some(file) = stored_file(entry.path())?
                && take(file).is_break()
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Lists a directory; one that does not exist is empty.
fn entries(directory: &Path) -> Result<Vec<DirEntry>, ListError> {
    // A directory that was replaced by a link after it was listed would lead elsewhere.
    match fs::symlink_metadata(directory) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Ok(Vec::new()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read the metadata of a directory", directory, error)),
    }
    let entries = fs::read_dir(directory).and_then(Iterator::collect);
    entries.map_err(|error| failed("list a directory", directory, error))
}

fn stored_file(path: PathBuf) -> Result<Option<StoredFile>, ListError> {
    let found = match fs::symlink_metadata(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read the metadata of a file", &path, error)),
    };
    let modified = found.modified();
    let modified = modified.map_err(|error| failed("read the time of a file", &path, error))?;
    Ok(found.is_file().then_some(StoredFile { bytes: found.len(), path, modified }))
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> ListError {
    ListError { operation, path: path.to_owned(), source }
}

pub(crate) fn remove_unchanged(
    files: &[StoredFile],
    removed: &mut dyn FnMut(&Path),
) -> Result<(), ListError> {
    for file in files.iter().filter(|file| is_unchanged(file)) {
        match fs::remove_file(&file.path) {
            Ok(()) => removed(&file.path),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed("remove an orphan", &file.path, error)),
        }
    }
    Ok(())
}

fn is_unchanged(file: &StoredFile) -> bool {
    let found = fs::symlink_metadata(&file.path);
    found.is_ok_and(|now| {
        now.is_file()
            && now.len() == file.bytes
            && now.modified().is_ok_and(|modified| modified == file.modified)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_created_only_below_a_mounted_data_path() {
        let root = tempfile::tempdir().unwrap();
        let claim = root.path().join("claim");
        let partition = root.path().join("main/events/event_date=2026-11-01");

        let refused = create_directory(&partition, Some(&claim)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound);
        assert!(!root.path().join("main").exists());

        fs::write(&claim, "lake").unwrap();
        create_directory(&partition, Some(&claim)).unwrap();
        create_directory(&partition, Some(&claim)).unwrap();
        assert!(partition.is_dir());
    }

    #[test]
    fn a_file_in_the_place_of_a_directory_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let claim = root.path().join("claim");
        fs::write(&claim, "lake").unwrap();
        fs::write(root.path().join("main"), "a file").unwrap();

        assert!(create_directory(&root.path().join("main/events"), Some(&claim)).is_err());
    }

    #[test]
    fn a_changed_file_is_not_removed() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("f"), "x").unwrap();
        let mut files = Vec::new();
        list(root.path(), &|_| true, &mut |file| {
            files.push(file);
            ControlFlow::Continue(())
        })
        .unwrap();

        fs::write(root.path().join("f"), "other").unwrap();
        remove_unchanged(&files, &mut |_| panic!("a changed file was removed")).unwrap();
        assert!(root.path().join("f").exists());
    }

    #[test]
    fn links_are_not_followed() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("f"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("f"), root.path().join("f")).unwrap();

        list(root.path(), &|_| true, &mut |file| panic!("{} was listed", file.path.display()))
            .unwrap();
    }
}
