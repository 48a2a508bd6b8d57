//! The locks of a lake: *leader* (a compactor's, for life), *maintenance* (one operation of a
//! compactor, or a replay), *commit*. Always taken in this order.
//!
//! They are for fairness and speed. Correctness never depends on them: taking one has a timeout,
//! and a worker's commit goes on without it afterwards.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ducktide_protocol::error::{LakeError, Result};

use super::postgres::LockConnection;
use super::sqlite;
use crate::config::{CatalogLocation, LakeConfig};
use crate::session::Session;

/// How long a commit waits for its turn: far above a commit's 15-50 ms times the workers of a large
/// pipeline, far below what a stopped holder may cost everyone else.
const COMMIT_LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a waiter for the lock file sleeps between two attempts.
const LOCK_FILE_POLL: Duration = Duration::from_millis(2);

/// One lock of one lake, as this process sees it.
enum LakeLock {
    File(LockFile),
    Advisory(Box<LockConnection>),
}

impl LakeLock {
    fn new(config: &LakeConfig, name: &'static str) -> Self {
        match &config.catalog {
            CatalogLocation::Sqlite(path) => Self::File(LockFile::beside(path, name)),
            CatalogLocation::Postgres(settings) => Self::Advisory(Box::new(LockConnection::new(
                settings,
                &config.metadata_schema,
                name,
            ))),
        }
    }

    /// Whether the lock was free within `timeout`; it is held now.
    fn lock(&mut self, timeout: Duration) -> Result<bool> {
        match self {
            Self::Advisory(connection) => connection.lock(timeout),
            Self::File(file) => file.lock(timeout),
        }
    }

    /// The lock, unless somebody else holds it for longer than `timeout`.
    fn take(&mut self, timeout: Duration) -> Result<Option<Held<'_>>> {
        Ok(self.lock(timeout)?.then_some(Held(self)))
    }

    /// Whether a lock that was taken is still the one that others would wait for.
    fn is_held(&mut self) -> bool {
        match self {
            Self::Advisory(connection) => connection.is_alive(),
            Self::File(file) => file.is_in_place(),
        }
    }

    /// Who holds the lock, where the lock tells.
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
    /// A lock of the lake with this configuration, which is not taken yet.
    #[must_use]
    pub fn new(config: &LakeConfig) -> Self {
        Self(LakeLock::new(config, "commit"))
    }

    /// Takes the lock, or gives up after a while, and checks the catalog's format and triggers.
    pub fn acquire(&mut self, session: &Session) -> Result<CommitGuard<'_>> {
        let started = Instant::now();
        let holder = self.0.holder();
        let mut guard = CommitGuard { held: None, intents_announced: false };
        let lock = &mut self.0;
        if let LakeLock::Advisory(connection) = lock {
            let free = connection.lock(COMMIT_LOCK_TIMEOUT)?;
            match connection.check_triggers() {
                Ok(announced) => guard.intents_announced = announced,
                Err(error) => {
                    connection.unlock();
                    return Err(error);
                }
            }
            guard.held = free.then_some(Held(lock));
        } else {
            guard.held = lock.take(COMMIT_LOCK_TIMEOUT)?;
            guard.intents_announced = sqlite::check_triggers(session)?;
        }
        // Who waits for a replay is told so elsewhere.
        if guard.held.is_none() && !guard.intents_announced {
            let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(elapsed_ms, holder, "commit lock not free in time, going on without it");
        }
        Ok(guard)
    }
}

/// The commit lock, held until dropped, and what the query that took it found.
pub struct CommitGuard<'a> {
    held: Option<Held<'a>>,
    /// Whether any intent is announced, live or not.
    pub intents_announced: bool,
}

/// The maintenance lock: one operation of a compactor, or one replay, at a time.
pub struct MaintenanceLock(LakeLock);

impl MaintenanceLock {
    /// A lock of the lake with this configuration, which is not taken yet.
    #[must_use]
    pub fn new(config: &LakeConfig) -> Self {
        Self(LakeLock::new(config, "maintenance"))
    }

    /// The lock, unless somebody else holds it for longer than `timeout`.
    pub fn take(&mut self, timeout: Duration) -> Result<Option<MaintenanceGuard<'_>>> {
        Ok(self.0.take(timeout)?.map(|held| MaintenanceGuard { _held: held }))
    }
}

/// The maintenance lock, held until dropped.
pub struct MaintenanceGuard<'a> {
    _held: Held<'a>,
}

/// The leader's lock: of all compactors of a lake one works, for as long as it lives.
pub struct LeaderLock {
    lock: LakeLock,
    taken: bool,
}

impl LeaderLock {
    /// A lock of the lake with this configuration, which is not taken yet.
    #[must_use]
    pub fn new(config: &LakeConfig) -> Self {
        Self { lock: LakeLock::new(config, "leader"), taken: false }
    }

    /// Whether this process is the leader, for which it waits `timeout` at most.
    pub fn take(&mut self, timeout: Duration) -> Result<bool> {
        self.taken = self.lock.lock(timeout)?;
        Ok(self.taken)
    }

    /// Errors when this process was the leader and has lost the lock since: PostgreSQL ended its
    /// connection, or somebody removed the lock file. Who never led may go on.
    pub fn check(&mut self) -> Result<()> {
        if !self.taken || self.lock.is_held() {
            return Ok(());
        }
        // Until it takes the lock again, each further check fails too.
        Err(LakeError::unavailable("lead: the leader's lock was lost, another compactor may lead"))
    }

    /// Process that holds the lock, where the catalog tells.
    #[must_use]
    pub fn holder(&self) -> Option<String> {
        self.lock.holder()
    }
}

/// A lock file beside a SQLite catalog. The operating system frees it when its holder dies; the pid
/// inside is for people.
pub struct LockFile {
    path: PathBuf,
    file: Option<File>,
}

impl LockFile {
    #[must_use]
    /// Lock file of this name in the catalog file's folder.
    pub(crate) fn beside(catalog: &Path, name: &str) -> Self {
        let mut path = catalog.as_os_str().to_owned();
        path.push(format!(".{name}-lock"));
        Self { path: path.into(), file: None }
    }

    /// Whether the lock was free within `timeout`.
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
        // A pid that could not be written costs a hint in a warning, nothing else.
        let _ = file.set_len(0).and_then(|()| file.rewind());
        let _ = write!(file, "{}", std::process::id());
        self.file = Some(file);
        Ok(true)
    }

    /// Releases the lock.
    pub(crate) fn unlock(&mut self) {
        self.file = None;
    }

    /// Whether the file that was locked is the one that others would lock.
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
