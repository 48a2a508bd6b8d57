//! Objects of a bucket.
//!
//! Calls block their thread while requests run on a small runtime of their own, also within a task of
//! another runtime.

mod azure;
mod client;
mod connect;
mod error;
mod gcs;
mod runtime;
mod s3;
mod secret;
mod store;
mod unfinished;
mod upload;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use futures_util::stream::{self, StreamExt as _};
use object_store::list::{PaginatedListOptions, PaginatedListResult};
use object_store::path::Path as Key;
use object_store::{Error, ObjectMeta, ObjectStoreExt as _, PutMode, PutPayload};

pub use self::runtime::limit_requests;
use self::runtime::{receive, start, wait};
pub use self::secret::{AmbientCredentials, DuckDbSecret, HiddenValue, SecretOption};
use self::store::{Requests, Store};
pub(crate) use self::upload::Upload;
use crate::file_reader::{FileRange, FileReader};
use crate::storage::StoredFile;
use crate::url::ObjectUrl;

/// Maximum number of keys in one request for removals.
const REMOVALS: usize = 1_000;

/// Object that a program writes at its start, to find out whether it can.
const PROBE: &str = ".ducktide-probe";

/// A bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Scheme and bucket, such as `s3://bucket`.
    name: String,
    store: Box<dyn Store>,
}

impl Bucket {
    /// Returns the bucket of a URL; connects it at the first call of the process.
    pub(crate) fn of(url: &ObjectUrl) -> io::Result<Arc<Self>> {
        static BUCKETS: Mutex<BTreeMap<String, Arc<Bucket>>> = Mutex::new(BTreeMap::new());

        let mut buckets = BUCKETS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get(&url.bucket) {
            return Ok(Arc::clone(bucket));
        }
        let store = connect::connect(url)?;
        let bucket = Arc::new(Self { name: url.bucket.clone(), store });
        buckets.insert(url.bucket.clone(), Arc::clone(&bucket));
        Ok(bucket)
    }

    /// Scheme and name, such as `s3://bucket`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn duckdb_extension(&self) -> &'static str {
        self.store.duckdb_extension()
    }

    pub(crate) fn duckdb_secret(&self) -> io::Result<DuckDbSecret> {
        self.store.duckdb_secret(&self.name)
    }

    pub(crate) fn upload(&self, path: &Path) -> io::Result<Upload> {
        Ok(Upload::new(self.requests(), self.store.errors(), key(path)?, path.to_owned()))
    }

    /// Writes, reads and lists one object below a data path. An object that exists is not replaced: Google
    /// Cloud Storage requires permission to delete for it, and a versioned bucket would keep each version.
    pub(crate) fn check_access(&self, root: &Path) -> io::Result<()> {
        let path = root.join(PROBE);
        self.create(&path, b"ducktide\n")?;
        if self.read(&path)?.is_none() {
            return Err(io::Error::other(format!(
                "an object that was written cannot be read: url=`{}`",
                path.display()
            )));
        }
        self.list(root, &|_| true, &mut |_| ControlFlow::Break(()))
    }

    pub(crate) fn read_ranges(&self, ranges: &[FileRange]) -> io::Result<Vec<FileReader>> {
        let start_get = |range: &FileRange| {
            let (store, key, bytes) = (self.requests(), key(&range.path)?, range.bytes.clone());
            start(async move { repeated(|| store.get_range(&key, bytes.clone())).await })
        };
        let started = ranges.iter().map(start_get).collect::<io::Result<Vec<_>>>()?;
        let mut readers = Vec::new();
        for (answer, range) in started.iter().zip(ranges) {
            let bytes = receive(answer)?;
            let bytes = bytes.map_err(|error| self.failed("GET", &range.path, &error))?;
            readers.push(FileReader::remote(bytes, range.bytes.start));
        }
        Ok(readers)
    }

    pub(crate) fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let (store, key) = (self.requests(), key(path)?);
        let read =
            wait(async move { repeated(|| async { store.get(&key).await?.bytes().await }).await })?;
        self.found(read, "GET", path).map(|bytes| bytes.map(|bytes| bytes.to_vec()))
    }

    pub(crate) fn create(&self, path: &Path, content: &[u8]) -> io::Result<bool> {
        match self.put(path, content, PutMode::Create)? {
            Ok(()) => Ok(true),
            // Also the answer to a request that was repeated because its first answer was lost.
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                Ok(self.read(path)?.as_deref() == Some(content))
            }
            Err(error) => Err(self.failed("PUT", path, &error)),
        }
    }

    pub(crate) fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let put = self.put(path, content, PutMode::Overwrite)?;
        put.map_err(|error| self.failed("PUT", path, &error))
    }

    fn put(&self, path: &Path, content: &[u8], mode: PutMode) -> io::Result<Result<(), Error>> {
        let (store, key) = (self.requests(), key(path)?);
        let content = PutPayload::from(content.to_vec());
        wait(async move { store.put_opts(&key, content, mode.into()).await.map(drop) })
    }

    /// Returns the size of an object, in bytes; None if it does not exist.
    pub(crate) fn size(&self, path: &Path) -> io::Result<Option<u64>> {
        let answer = receive(&self.start_head(path)?)?;
        self.found(answer, "HEAD", path).map(|found| found.map(|found| found.size))
    }

    fn start_head(&self, path: &Path) -> io::Result<Receiver<Result<ObjectMeta, Error>>> {
        let (store, key) = (self.requests(), key(path)?);
        start(async move { store.head(&key).await })
    }

    /// Lists the data path. Objects that are not in the list are asked for: a list can be behind.
    pub(crate) fn sizes(
        &self,
        root: &Path,
        paths: &[&Path],
    ) -> io::Result<Vec<Result<u64, ErrorKind>>> {
        let mut sizes: HashMap<&Path, Option<u64>> =
            paths.iter().map(|path| (*path, None)).collect();
        self.list(root, &|_| true, &mut |file| {
            if let Some(size) = sizes.get_mut(file.path.as_path()) {
                *size = Some(file.bytes);
            }
            ControlFlow::Continue(())
        })?;
        let mut unlisted = Vec::new();
        for (path, _) in sizes.iter().filter(|(_, size)| size.is_none()) {
            unlisted.push((*path, self.start_head(path)?));
        }
        for (path, answer) in unlisted {
            let found = self.found(receive(&answer)?, "HEAD", path)?;
            sizes.insert(path, found.map(|found| found.size));
        }
        Ok(paths.iter().map(|path| sizes[path].ok_or(ErrorKind::NotFound)).collect())
    }

    pub(crate) fn list(
        &self,
        directory: &Path,
        descends: &dyn Fn(&str) -> bool,
        take: &mut dyn FnMut(StoredFile) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let prefix = prefix(directory)?;
        let mut page_token = None;
        loop {
            let page = self.list_page(directory, prefix.clone(), page_token)?;
            for object in page.result.objects {
                let location = object.location.as_ref();
                let below = location.strip_prefix(&prefix).unwrap_or(location);
                let mut directories = below.rsplit('/').skip(1);
                if !directories.all(descends) {
                    continue;
                }
                let path = format!("{}/{location}", self.name).into();
                let modified = object.last_modified.into();
                if take(StoredFile { path, bytes: object.size, modified }).is_break() {
                    return Ok(());
                }
            }
            match page.page_token {
                Some(token) => page_token = Some(token),
                None => return Ok(()),
            }
        }
    }

    fn list_page(
        &self,
        directory: &Path,
        prefix: String,
        page_token: Option<String>,
    ) -> io::Result<PaginatedListResult> {
        let store = self.requests();
        let options = PaginatedListOptions { page_token, ..PaginatedListOptions::default() };
        let prefix = Some(prefix).filter(|prefix| !prefix.is_empty());
        let page = wait(async move {
            repeated(|| store.list_paginated(prefix.as_deref(), options.clone())).await
        })?;
        page.map_err(|error| self.failed("LIST", directory, &error))
    }

    /// Removes objects, and passes the path of each to `removed`. An object that does not exist is no error.
    pub(crate) fn remove(&self, paths: &[&Path], removed: &mut dyn FnMut(&Path)) -> io::Result<()> {
        let keys = paths.iter().map(|path| key(path)).collect::<io::Result<Vec<_>>>()?;
        for (keys, paths) in keys.chunks(REMOVALS).zip(paths.chunks(REMOVALS)) {
            let (store, keys) = (self.requests(), keys.to_vec());
            let removal = wait(async move { Removal::of(&*store, keys).await })?;
            for key in &removal.removed {
                removed(Path::new(&format!("{}/{key}", self.name)));
            }
            if let Some(error) = removal.error {
                return Err(self.failed("DELETE", paths[0], &error));
            }
        }
        Ok(())
    }

    /// Aborts multipart uploads below a directory that were begun before a time, and whose names `is_ours`
    /// accepts. Returns their number.
    pub(crate) fn abort_unfinished(
        &self,
        directory: &Path,
        before: SystemTime,
        is_ours: &dyn Fn(&str) -> bool,
    ) -> io::Result<u64> {
        let name = |key: &str| key.rsplit('/').next().is_some_and(is_ours);
        let mut aborted = 0;
        for upload in self.store.unfinished_uploads(&prefix(directory)?, directory)? {
            if !upload.is_older_than(before) || !name(&upload.key) {
                continue;
            }
            let path = PathBuf::from(format!("{}/{}", self.name, upload.key));
            let (store, key, id) = (self.requests(), key(&path)?, upload.upload_id);
            match wait(async move { store.abort_multipart(&key, &id).await })? {
                Ok(()) => aborted += 1,
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed("DELETE upload", &path, &error)),
            }
        }
        Ok(aborted)
    }

    fn requests(&self) -> Arc<dyn Requests> {
        self.store.requests()
    }

    fn failed(&self, operation: &str, path: &Path, error: &Error) -> io::Error {
        self.store.errors().failed(operation, path, error)
    }

    /// Returns None for an object that does not exist.
    fn found<T>(
        &self,
        answer: Result<T, Error>,
        operation: &str,
        path: &Path,
    ) -> io::Result<Option<T>> {
        match answer {
            Ok(found) => Ok(Some(found)),
            Err(error) => match self.failed(operation, path, &error) {
                error if error.kind() == ErrorKind::NotFound => Ok(None),
                error => Err(error),
            },
        }
    }
}

/// Result of a removal of several objects.
#[derive(Default)]
struct Removal {
    removed: Vec<Key>,
    /// First error; that an object does not exist is none.
    error: Option<Error>,
}

impl Removal {
    /// Removes objects. If an answer is lost, the removal of those that were not confirmed is sent again.
    async fn of(store: &dyn Requests, keys: Vec<Key>) -> Self {
        let mut first = Self::once(store, keys.clone()).await;
        if !matches!(first.error, Some(Error::Generic { .. })) {
            return first;
        }
        let unconfirmed = keys.into_iter().filter(|key| !first.removed.contains(key)).collect();
        let second = Self::once(store, unconfirmed).await;
        first.removed.extend(second.removed);
        Self { error: second.error, ..first }
    }

    async fn once(store: &dyn Requests, keys: Vec<Key>) -> Self {
        let mut removal = Self::default();
        let mut answers = store.delete_stream(stream::iter(keys.into_iter().map(Ok)).boxed());
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(key) => removal.removed.push(key),
                Err(Error::NotFound { .. }) => {}
                Err(error) => removal.error = removal.error.or(Some(error)),
            }
        }
        removal
    }
}

/// Sends a request again whose answer was cut off: the client repeats a request until its answer begins, not
/// until it ends.
async fn repeated<T, F: Future<Output = Result<T, Error>>>(
    request: impl Fn() -> F,
) -> Result<T, Error> {
    match request().await {
        Err(Error::Generic { .. }) => request().await,
        answer => answer,
    }
}

/// Returns the prefix of the keys below a directory.
fn prefix(directory: &Path) -> io::Result<String> {
    let key = key(directory)?.to_string();
    Ok(if key.is_empty() { key } else { format!("{key}/") })
}

/// Returns the key of an object by its URL.
fn key(path: &Path) -> io::Result<Key> {
    let url = ObjectUrl::parse(path);
    let key = url.map_or_else(|| path.to_string_lossy().into_owned(), |url| url.key);
    Key::parse(&key).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))
}
