//! The commit lock: workers of a lake commit one after the other.
//!
//! It is for fairness and speed. Correctness never depends on it: taking it has a timeout, and a
//! commit goes on without it afterwards.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::postgres::LockConnection;
use super::sqlite;
use crate::config::{CatalogLocation, LakeConfig};
use crate::error::{LakeError, Result};
use crate::session::Session;

/// How long a commit waits for its turn: far above a commit's 15-50 ms times the workers of a large
/// pipeline, far below what a stopped holder may cost everyone else.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a waiter for the lock file sleeps between two attempts.
const LOCK_FILE_POLL: Duration = Duration::from_millis(2);

/// The lock of one lake, as this process sees it.
pub(crate) enum CommitLock {
    File(LockFile),
    Advisory(Box<LockConnection>),
}

impl CommitLock {
    pub(crate) fn new(config: &LakeConfig) -> Self {
        match &config.catalog {
            CatalogLocation::Sqlite(path) => Self::File(LockFile::beside(path, "commit")),
            CatalogLocation::Postgres(url) => {
                Self::Advisory(Box::new(LockConnection::new(url, &config.metadata_schema)))
            }
        }
    }

    /// Takes the lock, or gives up after a while, and checks that the triggers are there.
    pub(crate) fn acquire(&mut self, session: &Session) -> Result<CommitGuard<'_>> {
        let started = Instant::now();
        let held = match self {
            Self::Advisory(connection) => connection.lock(LOCK_TIMEOUT)?.held,
            Self::File(file) => {
                let held = file.lock(LOCK_TIMEOUT)?;
                if let Err(error) = sqlite::check_triggers(session) {
                    file.unlock();
                    return Err(error);
                }
                held
            }
        };
        if !held {
            let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let holder = self.holder();
            tracing::warn!(elapsed_ms, holder, "commit lock not free in time, going on without it");
        }
        Ok(CommitGuard { lock: self, held })
    }

    fn holder(&self) -> Option<String> {
        match self {
            Self::File(file) => file.holder(),
            Self::Advisory(_) => None,
        }
    }
}

/// The lock, held until dropped.
pub(crate) struct CommitGuard<'a> {
    lock: &'a mut CommitLock,
    held: bool,
}

impl Drop for CommitGuard<'_> {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        match self.lock {
            CommitLock::Advisory(connection) => connection.unlock(),
            CommitLock::File(file) => file.unlock(),
        }
    }
}

/// A lock file beside a SQLite catalog. The operating system frees it when its holder dies; the pid
/// inside is for people.
pub(crate) struct LockFile {
    path: PathBuf,
    file: Option<File>,
}

impl LockFile {
    pub(crate) fn beside(catalog: &Path, name: &str) -> Self {
        let mut path = catalog.as_os_str().to_owned();
        path.push(format!(".{name}-lock"));
        Self { path: path.into(), file: None }
    }

    /// Whether the lock was free within `timeout`.
    pub(crate) fn lock(&mut self, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now() + timeout;
        let failed = |error| {
            LakeError::invalid(format!("use the lock file: path=`{}`", self.path.display()))
                .because(error)
        };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&self.path)
            .map_err(failed)?;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(LOCK_FILE_POLL);
                }
                Err(TryLockError::WouldBlock) => return Ok(false),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        // A pid that could not be written costs a hint in a warning, nothing else.
        let _ = file.set_len(0).and_then(|()| file.rewind());
        let _ = write!(file, "{}", std::process::id());
        self.file = Some(file);
        Ok(true)
    }

    pub(crate) fn unlock(&mut self) {
        self.file = None;
    }

    fn holder(&self) -> Option<String> {
        let mut text = String::new();
        File::open(&self.path).ok()?.read_to_string(&mut text).ok()?;
        Some(format!("pid {}", text.trim()))
    }
}
