//! Connection of one process to a lake, and all that it can do there.
//!
//! | file | contents |
//! |---|---|
//! | `init` | creation of a lake |
//! | `worker` | implementation of [`Lake`](ducktide_protocol::Lake) |
//! | `tables`, `columns` | creation and columns of tables |
//! | `queries` | sources, progress, ledger, file directories |
//! | `intents`, `pins`, `consumer_group` | rows that operators and workers write next to progress |

pub(crate) mod columns;
pub(crate) mod consumer_group;
pub(crate) mod init;
mod intents;
mod pins;
mod queries;
pub(crate) mod tables;
mod worker;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ducktide_protocol::commit::{Commit, OutcomeCheck};
use ducktide_protocol::error::{ErrorKind, LakeError, Result};
use ducktide_protocol::position::{Partition, Position, SourceId};
use ducktide_protocol::reason::reason;

use crate::catalog::client::{CatalogClient, WorkerCatalog};
use crate::catalog::lock::{CommitLock, LeaderLock, MaintenanceLock};
use crate::catalog::postgres_connection::PostgresConnection;
use crate::catalog::{format, layout, pooler};
use crate::config::{CatalogLocation, LakeConfig};
use crate::data_path::{DataPath, Owner, OwnerRole};
use crate::duckdb_error;
use crate::extensions::Extensions;
use crate::refusals::Refusals;
use crate::session::{Access, Resources, Session};

/// Time without use after which a worker closes its DuckDB instance: longer than the pauses between the
/// tables of one topic, and between the partitions of one assignment. An open instance keeps connections
/// to the catalog.
const SESSION_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Locks that a compactor operation takes or checks before it writes.
pub struct WriteLocks<'a> {
    /// Commit lock, held around the statements of a transaction.
    pub commit: &'a mut CommitLock,
    /// Leader lock, checked before anything is written or removed.
    pub leader: &'a mut LeaderLock,
}

/// Connection of one process to a DuckLake.
pub struct DuckLake {
    config: LakeConfig,
    access: Access,
    /// DuckDB instance. None until it is needed, and after a fatal error of DuckDB.
    session: Option<Session>,
    /// Time when the session was last used.
    session_used: Instant,
    /// Connection on which a worker reads a PostgreSQL catalog; None for everything that reads through
    /// DuckDB. It is the connection that commits.
    connection: Option<Arc<PostgresConnection>>,
    /// Claim on the data path; None for read access.
    owner: Option<Owner>,
    /// Time of the last successful check of the claim.
    owner_checked: Option<Instant>,
    lock: CommitLock,
    maintenance_lock: MaintenanceLock,
    leader_lock: LeaderLock,
    resources: Option<Resources>,
    /// Newest committed position that this process has seen, per source and partition.
    committed: HashMap<(SourceId, Partition), Position>,
    /// Result of the check of an unknown commit outcome; None until one is checked.
    pub(crate) outcome_check: Option<OutcomeCheck>,
    /// Consecutive refusals that are classified by their error text alone.
    refusals: Refusals,
}

impl DuckLake {
    /// Opens a lake that `init` created. A worker on PostgreSQL opens it without DuckDB.
    pub fn open(config: &LakeConfig, access: Access) -> Result<Self> {
        if let CatalogLocation::Postgres(settings) = &config.catalog
            && access != Access::Read
        {
            pooler::refuse_transaction_pooling(settings)?;
        }
        let lock = CommitLock::new(config);
        let connection = lock.connection().filter(|_| access == Access::Commit);
        let claimed = match &connection {
            Some(connection) => open_without_duckdb(config, connection)?,
            None => None,
        };
        let (session, owner) = if claimed.is_some() {
            (None, claimed)
        } else {
            let (session, owner) = attach(config, access)?;
            (Some(session), owner)
        };
        Ok(Self {
            config: config.clone(),
            access,
            session,
            session_used: Instant::now(),
            connection,
            owner,
            owner_checked: None,
            lock,
            maintenance_lock: MaintenanceLock::new(config),
            leader_lock: LeaderLock::new(config),
            resources: None,
            committed: HashMap::new(),
            outcome_check: None,
            refusals: Refusals::default(),
        })
    }

    /// Sets DuckDB's resource limits. The default is one thread and 256 MB, as workers need.
    pub fn limit_resources(&mut self, resources: Resources) -> Result<()> {
        self.session()?.limit_resources(&resources)?;
        self.resources = Some(resources);
        Ok(())
    }

    /// Takes the leadership among the lake's compactors, and waits at most `timeout` for it. Returns
    /// true if this process leads; it leads until it exits or its connection ends.
    pub fn lead(&mut self, timeout: Duration) -> Result<bool> {
        self.leader_lock.take(timeout)
    }

    /// Checks the leadership. Returns an error if this process has lost it.
    pub fn check_leadership(&mut self) -> Result<()> {
        self.leader_lock.check()
    }

    /// Returns the name of the leader, if the catalog reports it.
    #[must_use]
    pub fn leader(&self) -> Option<String> {
        self.leader_lock.holder()
    }

    /// Runs several catalog reads in one transaction: they see one state, and each query takes three
    /// round trips to PostgreSQL instead of eight. For short reads that do not wait for anything else:
    /// a SQLite catalog cannot be written to during the transaction.
    pub fn read_together<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let begun = self.session()?.begin_reading()?;
        let answer = read(self);
        // After a fatal error of DuckDB there is neither a session nor a transaction.
        let ended = match &self.session {
            Some(session) if begun => session.end_reading(answer.is_ok()),
            _ => Ok(()),
        };
        answer.and_then(|answer| ended.map(|()| answer))
    }

    /// Returns the DuckDB connection with the lake attached as `lake`, for the user's own queries.
    pub fn connection(&mut self) -> Result<&duckdb::Connection> {
        Ok(self.session()?.connection())
    }

    /// Returns an error if the data path is unavailable or owned by another catalog. Call it before
    /// files are written, committed or removed: a mount can become unavailable, and another copy of the
    /// catalog can take over the path.
    pub fn check_owner(&mut self) -> Result<()> {
        let Some(owner) = &self.owner else { return Ok(()) };
        let interval = owner.data_path().storage()?.check_interval();
        if self.owner_checked.is_some_and(|checked| checked.elapsed() < interval) {
            return Ok(());
        }
        if owner.check().is_err() {
            // This catalog may have a new claim.
            self.owner_checked = None;
            let owner = Owner::establish(&self.catalog()?, OwnerRole::Program)?;
            self.owner = Some(owner);
        }
        self.owner_checked = Some(Instant::now());
        Ok(())
    }

    /// Returns the session. Opens one if there is none.
    pub fn session(&mut self) -> Result<&Session> {
        self.session_used = Instant::now();
        if self.session.is_none() {
            let session = Session::open(&self.config, self.access, false)?;
            if let Some(resources) = &self.resources {
                session.limit_resources(resources)?;
            }
            self.session = Some(session);
        }
        let session = self.session.as_ref().expect("opened above");
        session.renew_storage_access()?;
        Ok(session)
    }

    /// Returns the client that reads the catalog.
    pub(crate) fn catalog(&mut self) -> Result<WorkerCatalog<'_>> {
        Ok(self.catalog_and_owner()?.0)
    }

    /// Returns the client that reads the catalog, and the claim on the data path.
    fn catalog_and_owner(&mut self) -> Result<(WorkerCatalog<'_>, Option<&Owner>)> {
        self.open_catalog()?;
        Ok((worker_catalog(self.connection.as_ref(), self.session.as_ref()), self.owner.as_ref()))
    }

    /// Returns the client that reads the catalog, and the commit lock.
    fn catalog_and_lock(&mut self) -> Result<(WorkerCatalog<'_>, &mut CommitLock)> {
        self.open_catalog()?;
        Ok((worker_catalog(self.connection.as_ref(), self.session.as_ref()), &mut self.lock))
    }

    fn open_catalog(&mut self) -> Result<()> {
        if self.connection.is_none() {
            self.session()?;
        }
        Ok(())
    }

    /// Returns the location of the catalog.
    pub(crate) const fn location(&self) -> &CatalogLocation {
        &self.config.catalog
    }

    /// Returns the connection to a PostgreSQL catalog that commits, which also holds the commit lock.
    pub(crate) fn commit_connection(&self) -> Result<Arc<PostgresConnection>> {
        self.lock.connection().ok_or_else(|| LakeError::invalid("the catalog is not PostgreSQL"))
    }

    /// Returns the session and the commit lock.
    pub fn session_and_lock(&mut self) -> Result<(&Session, &mut CommitLock)> {
        self.session()?;
        let session = self.session.as_ref().expect("opened above");
        Ok((session, &mut self.lock))
    }

    /// Returns the session, the commit lock and the maintenance lock.
    pub fn session_and_locks(
        &mut self,
    ) -> Result<(&Session, &mut CommitLock, &mut MaintenanceLock)> {
        self.session()?;
        let session = self.session.as_ref().expect("opened above");
        Ok((session, &mut self.lock, &mut self.maintenance_lock))
    }

    /// Returns the session, the maintenance lock, and the locks that an operation needs to write.
    pub fn session_and_write_locks(
        &mut self,
    ) -> Result<(&Session, &mut MaintenanceLock, WriteLocks<'_>)> {
        self.session()?;
        let session = self.session.as_ref().expect("opened above");
        let writing = WriteLocks { commit: &mut self.lock, leader: &mut self.leader_lock };
        Ok((session, &mut self.maintenance_lock, writing))
    }

    /// Closes the DuckDB instance; the next call opens a new one.
    pub fn close_session(&mut self) {
        self.session = None;
    }

    /// Closes the DuckDB instance of a worker that has not used it for a while and reads the catalog
    /// without it.
    fn close_idle_session(&mut self) {
        let is_idle = self.session_used.elapsed() >= SESSION_IDLE_TIMEOUT;
        if self.connection.is_some() && self.session.is_some() && is_idle {
            tracing::debug!("DuckDB instance closed, it is not needed any more");
            self.close_session();
        }
    }

    /// Closes the DuckDB instance after an error that only a new instance can recover from.
    pub fn handle_error(&mut self, text: &str) {
        if duckdb_error::is_instance_broken(text) {
            let reason = reason(text);
            tracing::debug!(error = text, "DuckDB instance failed");
            tracing::error!(error = reason, "DuckDB instance failed, opening a new one");
            self.session = None;
        } else if duckdb_error::is_readonly_file(text) || duckdb_error::is_refused_password(text) {
            // The next open restores write access to the catalog's files, if possible, and reads the
            // password again.
            self.session = None;
        }
    }

    /// Classifies a refusal that is known by its error text alone. Returns it as an outage, and closes
    /// the DuckDB instance or the connection, until enough new instances are refused too (`Refusals`).
    pub fn confirm_refusal(&mut self, refusal: LakeError) -> LakeError {
        if !refusal.is_refusal() {
            return refusal;
        }
        if self.refusals.is_certain(Instant::now()) {
            return refusal;
        }
        self.session = None;
        if let Some(connection) = &self.connection {
            connection.close();
        }
        refusal.into_unavailable()
    }

    /// Resets the count of refusals after a successful commit.
    pub fn reset_refusals(&mut self) {
        self.refusals = Refusals::default();
    }

    /// Applies [`confirm_refusal`](Self::confirm_refusal) to the result of a worker's call.
    fn confirm_refusals<T>(&mut self, answer: Result<T>) -> Result<T> {
        answer.map_err(|error| self.confirm_refusal(error))
    }

    /// Records the committed positions, to detect a catalog that was restored to an older state.
    pub fn record_committed(&mut self, commit: &Commit) {
        for delta in commit.progress() {
            self.committed.insert((delta.source, delta.partition), delta.after());
        }
    }

    /// Closes the DuckDB instance if progress is older than what this process has seen committed. A
    /// catalog restored to an older state reuses snapshot and table IDs, and DuckDB caches by ID.
    fn check_time_travel(&mut self, source: SourceId, positions: &[(Partition, Position)]) {
        let went_back = positions.iter().any(|(partition, now)| {
            self.committed.get(&(source, *partition)).is_some_and(|seen| {
                now.epoch < seen.epoch
                    || now.epoch == seen.epoch && now.next_offset < seen.next_offset
            })
        });
        if went_back {
            tracing::error!(
                %source,
                "catalog is older than the progress that this process committed; was it restored?"
            );
            self.session = None;
            self.committed.retain(|(of, _), _| *of != source);
        }
    }
}

/// Attaches the lake in DuckDB, and claims its data path for a program that may write.
fn attach(config: &LakeConfig, access: Access) -> Result<(Session, Option<Owner>)> {
    let open = || {
        let session = Session::open_once(config, access, false)?;
        layout::check_layout(&session, access).map(|()| session)
    };
    let session = duckdb_error::confirmed(open)?;
    let owner = match access {
        Access::Read => None,
        Access::Commit | Access::Operate => Some(own(&session, &DataPath::read(&session)?)?),
    };
    Ok((session, owner))
}

/// Claims the data path for a program that may write, and checks that it can.
fn own(catalog: &impl CatalogClient, path: &DataPath) -> Result<Owner> {
    path.check_access()?;
    Owner::establish(catalog, OwnerRole::Program)
}

/// Checks a lake as attaching it does, and claims its data path. None if the lake cannot be used as it is:
/// DuckDB then finds the reason.
fn open_without_duckdb(
    config: &LakeConfig,
    connection: &PostgresConnection,
) -> Result<Option<Owner>> {
    let check = || {
        format::check(connection)?;
        layout::check_layout(connection, Access::Commit)?;
        DataPath::read(connection)
    };
    if !Extensions::are_available(config) {
        // Otherwise the first new column would end the worker.
        return Ok(None);
    }
    match check() {
        Ok(path)
            if config.data_path.as_ref().is_none_or(|given| DataPath::new(given) == path)
                && Extensions::can_read(config, &path.storage()?) =>
        {
            own(connection, &path).map(Some)
        }
        Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
        _ => Ok(None),
    }
}

/// Returns the client of a worker that has a connection or an open session.
fn worker_catalog<'a>(
    connection: Option<&'a Arc<PostgresConnection>>,
    session: Option<&'a Session>,
) -> WorkerCatalog<'a> {
    match (connection, session) {
        (Some(connection), _) => WorkerCatalog::Postgres(connection),
        (None, Some(session)) => WorkerCatalog::Session(session),
        (None, None) => unreachable!("the catalog was opened before"),
    }
}
