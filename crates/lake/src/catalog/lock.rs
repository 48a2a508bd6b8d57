//! The locks of a lake: *leader* (a compactor's, for life), *maintenance* (one operation of a
//! compactor, or a replay), *commit*. Always taken in this order.
//!
//! They are for fairness and speed. Correctness never depends on them: taking one has a timeout,
//! after which a worker's commit continues without it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ducktide_protocol::error::{LakeError, Result};

use super::client::CatalogClient;
use super::postgres_connection::{COMMIT_LOCK, PostgresConnection};
use super::sqlite;
use crate::config::{CatalogLocation, LakeConfig};

/// Longest time that a commit waits for the lock: far above a commit's few milliseconds times the
/// workers of a large pipeline, far below the delay that a stopped holder may cause for all other workers.
const COMMIT_LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between two attempts to lock the lock file.
const LOCK_FILE_POLL: Duration = Duration::from_millis(2);

/// This process's handle of one lock of a lake.
enum LakeLock {
    File(LockFile),
    Advisory(Arc<PostgresConnection>),
}

impl LakeLock {
    fn new(config: &LakeConfig, name: &'static str) -> Self {
        match &config.catalog {
            CatalogLocation::Sqlite(path) => Self::File(LockFile::next_to(path, name)),
            CatalogLocation::Postgres(settings) => Self::Advisory(Arc::new(
                PostgresConnection::new(settings, &config.metadata_schema, name),
            )),
        }
    }

    /// Takes the lock; false if it is not free within `timeout`.
    fn lock(&mut self, timeout: Duration) -> Result<bool> {
        match self {
            Self::Advisory(connection) => connection.lock(timeout),
            Self::File(file) => file.lock(timeout),
        }
    }

    /// Takes the lock; None if another process holds it for longer than `timeout`.
    fn take(&mut self, timeout: Duration) -> Result<Option<Held<'_>>> {
        Ok(if self.lock(timeout)? { Some(Held(self)) } else { None })
    }

    /// Returns true if a lock that was taken is still the one that other processes wait for.
    fn is_held(&mut self) -> bool {
        match self {
            Self::Advisory(connection) => connection.is_alive(),
            Self::File(file) => file.is_in_place(),
        }
    }

    /// Returns the process that holds the lock, if known.
    fn holder(&self) -> Option<String> {
        match self {
            Self::File(file) => file.holder(),
            Self::Advisory(_) => None,
        }
    }
}

/// A lock, held until dropped.
struct Held<'a>(&'a mut LakeLock);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        match self.0 {
            LakeLock::Advisory(connection) => connection.unlock(),
            LakeLock::File(file) => file.unlock(),
        }
    }
}

/// The commit lock: workers of a lake commit one after the other.
pub struct CommitLock(LakeLock);

impl CommitLock {
    /// Creates a handle of the lock without taking it.
    #[must_use]
    pub fn new(config: &LakeConfig) -> Self {
        Self(LakeLock::new(config, COMMIT_LOCK))
    }

    /// Returns the connection that holds the lock; None for a SQLite catalog.
    pub(crate) fn connection(&self) -> Option<Arc<PostgresConnection>> {
        match &self.0 {
            LakeLock::Advisory(connection) => Some(Arc::clone(connection)),
            LakeLock::File(_) => None,
        }
    }

    /// Takes the lock, or continues without it after 5 s.
    pub(crate) fn take(&mut self) -> Result<CommitGuard<'_>> {
        let (started, holder) = (Instant::now(), self.0.holder());
        let held = self.0.take(COMMIT_LOCK_TIMEOUT)?;
        if held.is_none() {
            warn_of_timeout(started, holder.as_deref());
        }
        Ok(CommitGuard { _held: held })
    }

    /// Takes the lock, or continues without it after 5 s; checks the catalog's format and triggers.
    pub fn acquire(&mut self, catalog: &impl CatalogClient) -> Result<CommitGuard<'_>> {
        let (started, holder) = (Instant::now(), self.0.holder());
        let connection = self.connection();
        let held = self.0.take(COMMIT_LOCK_TIMEOUT)?;
        let is_replay_announced = match connection {
            Some(connection) => connection.check_triggers()?,
            None => sqlite::check_triggers(catalog)?,
        };
        // A wait for a replay is logged elsewhere.
        if held.is_none() && !is_replay_announced {
            warn_of_timeout(started, holder.as_deref());
        }
        Ok(CommitGuard { _held: held })
    }
}

fn warn_of_timeout(started: Instant, holder: Option<&str>) {
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::warn!(elapsed_ms, holder, "commit lock timed out, continuing without it");
}

/// The commit lock, held until dropped.
pub struct CommitGuard<'a> {
    _held: Option<Held<'a>>,
}

/// The maintenance lock: one operation of a compactor, or one replay, at a time.
pub struct MaintenanceLock(LakeLock);

impl MaintenanceLock {
    /// Creates a handle of the lock without taking it.
    #[must_use]
    pub fn new(config: &LakeConfig) -> Self {
        Self(LakeLock::new(config, "maintenance"))
    }

    /// Takes the lock; None if another process holds it for longer than `timeout`.
    pub fn take(&mut self, timeout: Duration) -> Result<Option<MaintenanceGuard<'_>>> {
        Ok(self.0.take(timeout)?.map(|held| MaintenanceGuard { _held: held }))
    }
}

/// The maintenance lock, held until dropped.
pub struct MaintenanceGuard<'a> {
    _held: Held<'a>,
}

/// The leader lock: only one compactor of a lake runs operations, until it ends.
pub struct LeaderLock {
    lock: LakeLock,
    taken: bool,
}

impl LeaderLock {
    /// Creates a handle of the lock without taking it.
    #[must_use]
    pub fn new(config: &LakeConfig) -> Self {
        Self { lock: LakeLock::new(config, "leader"), taken: false }
    }

    /// Tries to become the leader for at most `timeout`; returns true on success.
    pub fn take(&mut self, timeout: Duration) -> Result<bool> {
        self.taken = self.lock.lock(timeout)?;
        Ok(self.taken)
    }

    /// Returns an error if this process was the leader and has lost the lock: PostgreSQL ended its
    /// connection, or another process removed the lock file. Ok for a process that never led.
    pub fn check(&mut self) -> Result<()> {
        if !self.taken || self.lock.is_held() {
            return Ok(());
        }
        // Until it takes the lock again, each further check fails too.
        Err(LakeError::unavailable("lead: the leader's lock was lost, another compactor may lead"))
    }

    /// Returns the process that holds the lock; None for a PostgreSQL catalog.
    #[must_use]
    pub fn holder(&self) -> Option<String> {
        self.lock.holder()
    }
}

/// A lock file next to a SQLite catalog. The operating system frees it when its holder dies; the pid
/// inside is for operators.
pub struct LockFile {
    path: PathBuf,
    file: Option<File>,
}

impl LockFile {
    /// Returns the lock file of this name in the catalog file's folder.
    #[must_use]
    pub(crate) fn next_to(catalog: &Path, name: &str) -> Self {
        let mut path = catalog.as_os_str().to_owned();
        path.push(format!(".{name}-lock"));
        Self { path: path.into(), file: None }
    }

    /// Takes the lock; false if it is not free within `timeout`.
    pub fn lock(&mut self, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now() + timeout;
        let failed = |error: std::io::Error| {
            let context = format!("use the lock file: path=`{}`", self.path.display());
            LakeError::of_io(context, error)
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
        // If the pid cannot be written, only a hint in a warning is lost.
        let _ = file.set_len(0).and_then(|()| file.rewind());
        let _ = write!(file, "{}", std::process::id());
        self.file = Some(file);
        Ok(true)
    }

    /// Releases the lock.
    pub(crate) fn unlock(&mut self) {
        self.file = None;
    }

    /// Returns true if the locked file is still the one at the path.
    fn is_in_place(&self) -> bool {
        let locked = self.file.as_ref().and_then(|file| file.metadata().ok());
        let named = std::fs::metadata(&self.path).ok();
        locked.zip(named).is_some_and(|(locked, named)| locked.ino() == named.ino())
    }

    fn holder(&self) -> Option<String> {
        let mut text = String::new();
        File::open(&self.path).ok()?.read_to_string(&mut text).ok()?;
        Some(format!("pid {}", text.trim()))
    }
}
