//! Operations on the files of a data path.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::file_reader::{FileRange, FileReader};
use crate::file_writer::FileWriter;
use crate::local;
use crate::remote::{Bucket, DuckDbSecret};
use crate::url::ObjectUrl;

/// Storage of the files of a data path: local directories, or a bucket.
#[derive(Clone, Debug)]
pub struct Storage(Backend);

#[derive(Clone, Debug)]
enum Backend {
    Local,
    Remote(Arc<Bucket>),
}

/// A file that was found by a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Path of the file.
    pub path: PathBuf,
    /// Size, in bytes.
    pub bytes: u64,
    /// Time of the last write, by the clock of the storage.
    pub modified: SystemTime,
}

/// Failure of a listing, or of the removal of listed files.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: path=`{}`", path.display())]
pub struct ListError {
    pub(crate) operation: &'static str,
    pub(crate) path: PathBuf,
    /// Cause.
    pub source: io::Error,
}

impl Storage {
    /// Returns the storage of a path: of the bucket of a URL, with settings from the environment; otherwise
    /// the local file system. A bucket is connected once in a process.
    pub fn of(path: &Path) -> io::Result<Self> {
        match ObjectUrl::parse(path) {
            None => Ok(Self(Backend::Local)),
            Some(url) => Bucket::of(&url).map(|bucket| Self(Backend::Remote(bucket))),
        }
    }

    /// Returns whether a path belongs to this storage: to the same bucket, or to the local file system.
    #[must_use]
    pub fn has(&self, path: &Path) -> bool {
        match (&self.0, ObjectUrl::parse(path)) {
            (Backend::Local, None) => true,
            (Backend::Remote(bucket), Some(url)) => bucket.name() == url.bucket,
            _ => false,
        }
    }

    /// Checks at the start of a program that it can write, read and list below a data path, and leaves one
    /// small object there. Permission to delete is not needed. A local directory is not checked: its errors
    /// name the operation themselves.
    pub fn check_access(&self, root: &Path) -> io::Result<()> {
        match &self.0 {
            Backend::Local => Ok(()),
            Backend::Remote(bucket) => bucket.check_access(root),
        }
    }

    /// Checks that this process can write to a directory, and creates it if it is missing.
    pub fn try_to_write(&self, directory: &Path) -> io::Result<()> {
        match &self.0 {
            Backend::Local => local::try_to_write(directory),
            Backend::Remote(bucket) => bucket.check_access(directory),
        }
    }

    /// Returns the minimum time between two checks that a data path still belongs to its lake. A local mount
    /// can disappear at any time, and a check is cheap; a bucket does not, and a check is a request.
    #[must_use]
    pub const fn check_interval(&self) -> Duration {
        match &self.0 {
            Backend::Local => Duration::ZERO,
            Backend::Remote(_) => Duration::from_secs(10),
        }
    }

    /// Returns the DuckDB extension that reads this storage. None if it needs none.
    #[must_use]
    pub fn duckdb_extension(&self) -> Option<&'static str> {
        match &self.0 {
            Backend::Local => None,
            Backend::Remote(bucket) => Some(bucket.duckdb_extension()),
        }
    }

    /// Returns the settings with which DuckDB reads this storage, at this moment: credentials can expire.
    /// None if it needs none.
    pub fn duckdb_secret(&self) -> io::Result<Option<DuckDbSecret>> {
        match &self.0 {
            Backend::Local => Ok(None),
            Backend::Remote(bucket) => bucket.duckdb_secret().map(Some),
        }
    }

    /// Resolves the links of a path. Its last components need not exist. Objects have no links.
    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        match &self.0 {
            Backend::Local => local::resolve(path),
            Backend::Remote(_) => Ok(crate::normalize(path)),
        }
    }

    /// Creates the directory of files below a data path, durably: the entry of each new directory is synced,
    /// so that a power failure cannot remove the directory of a committed file. Objects need no directory.
    ///
    /// Fails with [`NotFound`](io::ErrorKind::NotFound) if `claim` is given and does not exist: then the
    /// data path is not mounted.
    pub fn create_directory(&self, directory: &Path, claim: Option<&Path>) -> io::Result<()> {
        match &self.0 {
            Backend::Local => local::create_directory(directory, claim),
            Backend::Remote(_) => Ok(()),
        }
    }

    /// Creates a file, to be written by parts. No file may have the path.
    pub fn create_file(&self, path: &Path) -> io::Result<FileWriter> {
        match &self.0 {
            Backend::Local => std::fs::File::create_new(path).map(FileWriter::local),
            Backend::Remote(bucket) => bucket.upload(path).map(FileWriter::remote),
        }
    }

    /// Syncs files and their directory entries to disk. The catalog must not name a file that a power
    /// failure can remove. Objects are durable when their upload is complete.
    ///
    /// After an error the files must not be used: the kernel may have dropped the pages, and a second
    /// attempt would then succeed.
    pub fn make_durable<'a>(&self, files: impl IntoIterator<Item = &'a Path>) -> io::Result<()> {
        match &self.0 {
            Backend::Local => local::sync_files(files),
            Backend::Remote(_) => Ok(()),
        }
    }

    /// Opens parts of files; those of objects are read, several at a time.
    pub fn open_ranges(&self, ranges: &[FileRange]) -> io::Result<Vec<FileReader>> {
        match &self.0 {
            Backend::Local => {
                let open = |range: &FileRange| std::fs::File::open(&range.path);
                ranges.iter().map(|range| open(range).map(FileReader::local)).collect()
            }
            Backend::Remote(bucket) => bucket.read_ranges(ranges),
        }
    }

    /// Reads a small file. None if it does not exist.
    pub fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match &self.0 {
            Backend::Local => local::read(path),
            Backend::Remote(bucket) => bucket.read(path),
        }
    }

    /// Creates a small file with its content, durably. False if a file of this path exists. Concurrent
    /// callers do not both create it.
    pub fn create(&self, path: &Path, content: &[u8]) -> io::Result<bool> {
        match &self.0 {
            Backend::Local => local::create(path, content),
            Backend::Remote(bucket) => bucket.create(path, content),
        }
    }

    /// Replaces a small file, or creates it, durably.
    pub fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        match &self.0 {
            Backend::Local => local::replace(path, content),
            Backend::Remote(bucket) => bucket.replace(path, content),
        }
    }

    /// Returns whether a file exists.
    pub fn exists(&self, path: &Path) -> io::Result<bool> {
        match &self.0 {
            Backend::Local => local::exists(path),
            Backend::Remote(bucket) => bucket.size(path).map(|size| size.is_some()),
        }
    }

    /// Returns the size of a file, in bytes.
    pub fn size(&self, path: &Path) -> io::Result<u64> {
        match &self.0 {
            Backend::Local => path.metadata().map(|found| found.len()),
            Backend::Remote(bucket) => {
                bucket.size(path)?.ok_or_else(|| io::ErrorKind::NotFound.into())
            }
        }
    }

    /// Returns the sizes of many files below a data path, in their order, or the reason for which a size is
    /// unknown. Local files are read one by one, several at a time; of objects the data path is listed.
    pub fn sizes(
        &self,
        root: &Path,
        paths: &[&Path],
    ) -> io::Result<Vec<Result<u64, io::ErrorKind>>> {
        match &self.0 {
            Backend::Local => Ok(local::sizes(paths)),
            Backend::Remote(bucket) => bucket.sizes(root, paths),
        }
    }

    /// Passes the files below a directory to `take`, until it returns [`ControlFlow::Break`]. Directories
    /// whose names `descends` refuses are skipped. Local links are never followed.
    ///
    /// A directory that does not exist has no files.
    pub fn list(
        &self,
        directory: &Path,
        descends: &dyn Fn(&str) -> bool,
        take: &mut dyn FnMut(StoredFile) -> ControlFlow<()>,
    ) -> Result<(), ListError> {
        match &self.0 {
            Backend::Local => local::list(directory, descends, take),
            Backend::Remote(bucket) => {
                let listed = bucket.list(directory, descends, take);
                listed.map_err(|source| failed("list objects", directory, source))
            }
        }
    }

    /// Removes a file.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            Backend::Local => std::fs::remove_file(path),
            Backend::Remote(bucket) => bucket.remove(&[path], &mut |_| {}),
        }
    }

    /// Returns whether many files are removed with few requests.
    #[must_use]
    pub const fn removes_in_bulk(&self) -> bool {
        matches!(self.0, Backend::Remote(_))
    }

    /// Removes files, also if some of them do not exist.
    pub fn remove_existing(&self, paths: &[&Path]) -> io::Result<()> {
        match &self.0 {
            Backend::Local => paths.iter().try_for_each(|path| match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }),
            Backend::Remote(bucket) => bucket.remove(paths, &mut |_| {}),
        }
    }

    /// Removes listed files, and passes each to `removed`. A local file that has changed since it was listed
    /// is kept; the key of an object is never used for other content.
    pub fn remove_files(
        &self,
        files: &[StoredFile],
        removed: &mut dyn FnMut(&Path),
    ) -> Result<(), ListError> {
        match &self.0 {
            Backend::Local => local::remove_unchanged(files, removed),
            Backend::Remote(bucket) => {
                let paths: Vec<_> = files.iter().map(|file| file.path.as_path()).collect();
                let first = paths.first().copied().unwrap_or_else(|| Path::new(""));
                let done = bucket.remove(&paths, removed);
                done.map_err(|source| failed("remove objects", first, source))
            }
        }
    }

    /// Aborts unfinished uploads below a directory that were begun before a time, and whose file names
    /// `is_ours` accepts. Returns their number. A local directory has none: there they are files.
    pub fn abort_unfinished(
        &self,
        directory: &Path,
        before: SystemTime,
        is_ours: &dyn Fn(&str) -> bool,
    ) -> Result<u64, ListError> {
        match &self.0 {
            Backend::Local => Ok(0),
            Backend::Remote(bucket) => {
                let aborted = bucket.abort_unfinished(directory, before, is_ours);
                aborted.map_err(|source| failed("abort unfinished uploads", directory, source))
            }
        }
    }
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> ListError {
    ListError { operation, path: path.to_owned(), source }
}
