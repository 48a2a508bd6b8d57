//! Implementation of [`Lake`] on DuckDB's `ducklake` extension.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ducktide_protocol::commit::{Commit, CommitMessage, CommitOutcome, OutcomeCheck};
use ducktide_protocol::dedupe::{RecentRow, RecentRows};
use ducktide_protocol::error::{LakeError, LakeFault, Result};
use ducktide_protocol::position::{Offset, Partition, Position, SnapshotId, SourceId};
use ducktide_protocol::reason::reason;
use ducktide_protocol::table::{Column, EVENT_DATE, TableName, TableShape, diff};
use ducktide_protocol::{Lake, Source, SourceSpec, Table, TableVersion};

use crate::catalog::lock::{CommitLock, LeaderLock, MaintenanceLock};
use crate::catalog::{self, Installation, Installed, PartitionProgress, sqlite};
use crate::config::{CatalogLocation, LakeConfig, check_data_path};
use crate::consumer_group;
use crate::data_path::{DataPath, DataPathCheck, Owner, OwnerRole, check_free};
use crate::duckdb_error;
use crate::refusals::Refusals;
use crate::rows::MetadataRow;
use crate::session::{Access, LAKE, Session, quote};
use crate::storage;

/// Maximum number of reads of a table's shape while concurrent ALTERs change it.
const SHAPE_READS: usize = 5;

/// Objects that [`DuckLake::init`] created or restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// True if the DuckLake was created.
    pub lake_is_new: bool,
    /// True if Ducktide's tables were created in its catalog.
    pub tables_are_new: bool,
    /// True if triggers were missing, disabled or on another table, and were restored.
    pub triggers_are_restored: bool,
}

/// Resource limits of a DuckDB instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Maximum memory, in bytes; data beyond it is written to `spill`.
    pub memory: u64,
    /// Maximum number of threads.
    pub threads: u16,
    /// Directory for data that does not fit into memory.
    pub spill: PathBuf,
}

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
    /// None after a fatal error of DuckDB; the next call opens a new instance.
    session: Option<Session>,
    /// Claim on the data path; None for read access.
    owner: Option<Owner>,
    pub(crate) lock: CommitLock,
    pub(crate) maintenance_lock: MaintenanceLock,
    pub(crate) leader_lock: LeaderLock,
    resources: Option<Resources>,
    /// Newest committed position that this process has seen, per source and partition.
    committed: HashMap<(SourceId, Partition), Position>,
    /// Result of the check of an unknown commit outcome; None until one is checked.
    pub(crate) outcome_check: Option<OutcomeCheck>,
    /// Consecutive refusals that are classified by their error text alone.
    refusals: Refusals,
}

impl DuckLake {
    /// Creates the lake, and Ducktide's tables in its catalog, if they are missing. Returns what it
    /// created or restored.
    pub fn init(config: &LakeConfig) -> Result<Setup> {
        let mut config = config.clone();
        if let CatalogLocation::Sqlite(path) = &config.catalog {
            let directory = path.parent().unwrap_or(path);
            std::fs::create_dir_all(directory).map_err(|error| {
                let what =
                    format!("create the catalog's directory: path=`{}`", directory.display());
                LakeError::of_io(what, error)
            })?;
        }
        let mut installation = Installation::begin(&config)?;
        if let CatalogLocation::Sqlite(path) = &config.catalog
            && config.data_path.is_none()
            && !path.exists()
        {
            let data_path = default_data_path(path);
            check_data_path(&data_path.to_string_lossy())?;
            config.data_path = Some(data_path);
        }
        if let CatalogLocation::Sqlite(path) = &config.catalog {
            if !path.exists() {
                // Checked before a catalog exists, even as an empty file.
                config.data_path.as_deref().map_or(Ok(()), check_free)?;
            }
            sqlite::prepare_file(path)?;
        }
        let (session, lake_is_new) = match Session::open(&config, Access::Commit, false) {
            Ok(session) => (session, false),
            Err(error) if matches!(error.fault(), Some(LakeFault::NoLake { .. })) => {
                if let Some(path) = &config.data_path {
                    // Checked before the lake is created: no worker could write to it otherwise.
                    check_free(path).map_err(|occupied| occupied.because(error.chain()))?;
                    check_writable(path)?;
                }
                (Session::open(&config, Access::Commit, true)?, true)
            }
            Err(error) => return Err(error),
        };
        set_options(&session)?;
        // Precedes the write test: without its mount, a directory of the same name proves nothing.
        let facts = if catalog::is_installed(&session)? {
            Owner::establish(&session, OwnerRole::Init)?;
            Vec::new()
        } else {
            let mut facts = DataPathCheck::of_uninstalled(&session)?.install()?;
            facts.push(consumer_group::default_group(&session)?);
            facts
        };
        check_writable(DataPath::read(&session)?.root())?;
        // The installation creates Ducktide's tables without DuckDB, which must not have the SQLite
        // file attached at the same time.
        drop(session);
        let installed = installation.install(&facts)?;
        Ok(Setup {
            lake_is_new,
            tables_are_new: installed == Installed::Created,
            triggers_are_restored: installed == Installed::TriggersRestored,
        })
    }

    /// Makes this catalog the owner of the lake's files. Programs that use another copy of the catalog
    /// can no longer write.
    pub fn adopt(config: &LakeConfig) -> Result<()> {
        let session = Session::open(config, Access::Operate, false)?;
        catalog::check_layout(&session)?;
        Owner::adopt(&session)
    }

    /// Attaches a lake that `init` created.
    pub fn open(config: &LakeConfig, access: Access) -> Result<Self> {
        let open = || {
            let session = Session::open_once(config, access, false)?;
            catalog::check_layout(&session).map(|()| session)
        };
        let session = duckdb_error::confirmed(open)?;
        let owner = match access {
            Access::Read => None,
            Access::Commit | Access::Operate => {
                Some(Owner::establish(&session, OwnerRole::Program)?)
            }
        };
        Ok(Self {
            config: config.clone(),
            access,
            session: Some(session),
            owner,
            lock: CommitLock::new(config),
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

    /// Returns all sources of the lake.
    pub fn sources(&mut self) -> Result<Vec<Source>> {
        catalog::sources(self.session()?)
    }

    /// Returns the progress of a source's partitions, as `status` shows it.
    pub fn progress(&mut self, source: SourceId) -> Result<Vec<PartitionProgress>> {
        catalog::progress(self.session()?, source)
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

    /// Returns the current version of a table; None if it does not exist.
    pub fn find_table(&mut self, table: &TableName) -> Result<Option<Table>> {
        self.session()?;
        let session = self.session.as_ref().expect("opened above");
        for _ in 0..SHAPE_READS {
            let Some(before) = read_layout(session, table)? else { return Ok(None) };
            let shape = read_shape(session, table)?;
            let partitioning = catalog::partitioning::read(session, table)?;
            if read_layout(session, table)?.is_some_and(|after| after.0 == before.0) {
                let (changed_at, directory) = before;
                let version = TableVersion { table: table.clone(), changed_at };
                let claim = self.owner.as_ref().map(Owner::claim);
                if let Some(owner) = &self.owner {
                    owner.data_path().check(&directory)?;
                }
                return Ok(Some(Table { version, shape, directory, partitioning, claim }));
            }
        }
        Err(LakeError::unavailable(format!("the table is being altered: table=`{table}`")))
    }

    /// Returns an error if the data path is unavailable or owned by another catalog. Call it before
    /// files are written, committed or removed: a mount can become unavailable, and another copy of the
    /// catalog can take over the path.
    pub fn check_owner(&mut self) -> Result<()> {
        if self.owner.as_ref().is_none_or(|owner| owner.check().is_ok()) {
            return Ok(());
        }
        // This catalog may have a new claim.
        let owner = Owner::establish(self.session()?, OwnerRole::Program)?;
        self.owner = Some(owner);
        Ok(())
    }

    /// Returns the session. Opens a new one after a fatal error of DuckDB.
    pub fn session(&mut self) -> Result<&Session> {
        if self.session.is_none() {
            let session = Session::open(&self.config, self.access, false)?;
            if let Some(resources) = &self.resources {
                session.limit_resources(resources)?;
            }
            self.session = Some(session);
        }
        Ok(self.session.as_ref().expect("opened above"))
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

    /// Closes the DuckDB instance after an error that only a new instance can recover from.
    pub fn handle_error(&mut self, text: &str) {
        if duckdb_error::is_instance_broken(text) {
            let reason = reason(text);
            tracing::debug!(error = text, "DuckDB instance failed");
            tracing::error!(error = reason, "DuckDB instance failed, opening a new one");
            self.session = None;
        } else if duckdb_error::is_readonly_file(text) {
            // The next open restores write access to the catalog's files, if possible.
            self.session = None;
        }
    }

    /// Classifies a refusal that is known by its error text alone. Returns it as an outage, and closes
    /// the DuckDB instance, until enough new instances are refused too (`Refusals`).
    pub fn confirm_refusal(&mut self, refusal: LakeError) -> LakeError {
        if !refusal.is_refusal() {
            return refusal;
        }
        if self.refusals.is_certain(Instant::now()) {
            return refusal;
        }
        self.session = None;
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

impl Lake for DuckLake {
    fn ensure_table(&mut self, table: &TableName, wanted: &TableShape) -> Result<Table> {
        self.ensure_table_by_date(table, wanted, None)
    }

    fn add_columns(&mut self, table: &TableName, columns: &[Column]) -> Result<Table> {
        let added = crate::alter::add_columns(self, table, columns);
        self.confirm_refusals(added)
    }

    fn recent_rows(
        &mut self,
        wanted: &RecentRows,
        below: &[(Partition, Offset)],
    ) -> Result<Vec<RecentRow>> {
        let read = crate::recent_rows::read(self, wanted, below);
        self.confirm_refusals(read)
    }

    fn register_source(
        &mut self,
        spec: &SourceSpec,
        starts: &[(Partition, Offset)],
    ) -> Result<Source> {
        if let Some(found) = catalog::find_source(self.session()?, spec)? {
            return Ok(found);
        }
        let (session, lock) = self.session_and_lock()?;
        let guard = lock.acquire(session)?;
        let inserted = catalog::insert_source(session, spec, starts);
        if inserted.is_err() {
            let _ = session.execute("ROLLBACK");
        }
        drop(guard);
        if let Some(found) = catalog::find_source(session, spec)? {
            return Ok(found);
        }
        let what = format!("register the source: table=`{}` topic=`{}`", spec.table, spec.topic);
        Err(match inserted {
            Err(error) => duckdb_error::failed(what, error),
            Ok(()) => LakeError::unavailable(what),
        })
    }

    fn start_partitions(&mut self, source: SourceId, starts: &[(Partition, Offset)]) -> Result<()> {
        let (session, lock) = self.session_and_lock()?;
        let guard = lock.acquire(session)?;
        // One message per partition: the refusal of a partition that another worker has started must
        // not undo the others.
        let mut refused = None;
        for start in starts {
            let message = CommitMessage::start(source, std::slice::from_ref(start));
            if let Err(error) = catalog::post(session, &message) {
                tracing::debug!(%source, partition = %start.0, %error, "partition start refused");
                refused = Some(error);
            }
        }
        drop(guard);
        let known = self.positions(source)?;
        let missing =
            starts.iter().find(|(p, _)| known.iter().all(|(partition, _)| partition != p));
        match missing {
            None => Ok(()),
            Some((partition, _)) => {
                let what = format!("start a partition: source=`{source}` partition=`{partition}`");
                Err(match refused {
                    Some(error) => duckdb_error::failed(what, error),
                    None => LakeError::unavailable(what),
                })
            }
        }
    }

    fn positions(&mut self, source: SourceId) -> Result<Vec<(Partition, Position)>> {
        // An idle worker detects here that the data path is unavailable.
        self.check_owner()?;
        let session = self.session()?;
        // Workers that have nothing to commit call this every few seconds.
        let read =
            catalog::format::check(session).and_then(|()| catalog::progress(session, source));
        if let Err(error) = &read {
            self.handle_error(&error.chain());
        }
        let read = self.confirm_refusals(read)?;
        let positions: Vec<_> = read.into_iter().map(|p| (p.partition, p.position)).collect();
        self.check_time_travel(source, &positions);
        Ok(positions)
    }

    fn commit(&mut self, commit: &Commit) -> Result<CommitOutcome> {
        let committed = crate::transaction::commit(self, commit);
        self.confirm_refusals(committed)
    }

    fn take_outcome_check(&mut self) -> Option<OutcomeCheck> {
        self.outcome_check.take()
    }
}

/// Checks that this process can write to the data path. Without this check, `init` would succeed and
/// the workers fail.
fn check_writable(data_path: &Path) -> Result<()> {
    storage::try_to_write(data_path).map_err(|error| {
        let what = format!(
            "the data path is not writable; set another directory with --data-path \
             (DUCKLAKE_DATA_PATH), or grant this user write access: data_path=`{}`",
            data_path.display()
        );
        LakeError::of_io(what, error)
    })
}

/// Returns the data path next to a SQLite catalog: its path with `.files` added, as in DuckLake.
fn default_data_path(catalog: &Path) -> PathBuf {
    let mut path = catalog.as_os_str().to_owned();
    path.push(".files");
    path.into()
}

/// Sets the lake options that Ducktide requires, and defaults for those that are not set.
///
/// Inlined nested data is corrupted on both catalogs (duckdb/ducklake#1435), so nothing is inlined.
/// The retention is DuckLake's own setting; the compactor reads it. Values that an operator has set
/// are kept.
fn set_options(session: &Session) -> Result<()> {
    let inlining = ("data_inlining_row_limit", "0");
    let defaults = [
        ("parquet_compression", "zstd"),
        ("expire_older_than", "7 days"),
        ("delete_older_than", "2 days"),
    ];
    let set = |(name, value): (&str, &str)| {
        session.execute(&format!("CALL {LAKE}.set_option({}, {})", quote(name), quote(value)))
    };
    let known = session.select::<MetadataRow>("WHERE scope IS NULL")?;
    let is_set = |name: &str| known.iter().any(|row| row.key == name);
    std::iter::once(inlining)
        .chain(defaults.into_iter().filter(|(name, _)| !is_set(name)))
        .try_for_each(set)
        .map_err(|error| duckdb_error::failed("set the lake's options", error))
}

/// Returns the SQL that creates table and partition key in one transaction: no client sees the table
/// without its key.
fn create_table_sql(table: &TableName, wanted: &TableShape, date_of: Option<&str>) -> String {
    let name = format!("{LAKE}.{}", table.sql());
    let schema = ducktide_protocol::table::quote_identifier(&table.schema);
    let partitioned = if wanted.is_partitioned() {
        let record = date_of.map(|column| catalog::partitioning::record_sql(table, column) + ";");
        let record = record.unwrap_or_default();
        format!("ALTER TABLE {name} SET PARTITIONED BY ({EVENT_DATE}); {record}")
    } else {
        String::new()
    };
    format!(
        "BEGIN; CREATE SCHEMA IF NOT EXISTS {LAKE}.{schema}; CREATE TABLE {name} ({}); {partitioned} COMMIT",
        wanted.sql()
    )
}

fn read_shape(session: &Session, table: &TableName) -> Result<TableShape> {
    let context = || format!("read the table's columns: table=`{table}`");
    let rows = session
        .query(&format!(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = '{LAKE}' \
             AND schema_name = {} AND table_name = {} ORDER BY column_index",
            quote(&table.schema),
            quote(&table.table)
        ))
        .map_err(|error| duckdb_error::failed(context(), error))?;
    let columns = rows.iter().map(|row| Ok((row.get("column_name")?, row.get("data_type")?)));
    let columns: Vec<(String, String)> = columns.collect::<Result<_>>()?;
    TableShape::from_described(columns)
        .map_err(|error| LakeError::invalid(context()).because(error))
}

crate::row_struct! {
    struct TableLayout {
        changed_at: i64,
        data_path: Option<String>,
        schema_path: Option<String>,
        table_path: Option<String>,
    }
}

/// Returns the snapshot of the table's newest change of columns or partition key, and its directory;
/// None if the table does not exist.
pub fn read_layout(session: &Session, table: &TableName) -> Result<Option<(SnapshotId, PathBuf)>> {
    let native = |name: &str| session.native_table(name);
    let sql = format!(
        "SELECT (SELECT max(s) FROM ( \
           SELECT begin_snapshot AS s FROM {columns} c WHERE c.table_id = t.table_id \
           UNION ALL SELECT end_snapshot FROM {columns} c WHERE c.table_id = t.table_id \
           UNION ALL SELECT begin_snapshot FROM {keys} p WHERE p.table_id = t.table_id \
           UNION ALL SELECT end_snapshot FROM {keys} p WHERE p.table_id = t.table_id) AS changes) AS changed_at, \
         (SELECT value FROM {metadata} WHERE key = 'data_path' AND scope IS NULL) AS data_path, \
         s.path AS schema_path, t.path AS table_path \
         FROM {tables} t JOIN {schemas} s ON s.schema_id = t.schema_id \
         WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL \
         AND s.schema_name = {schema} AND t.table_name = {table}",
        columns = native("ducklake_column"),
        keys = native("ducklake_partition_info"),
        metadata = native("ducklake_metadata"),
        tables = native("ducklake_table"),
        schemas = native("ducklake_schema"),
        schema = quote(&table.schema),
        table = quote(&table.table),
    );
    let found: Vec<TableLayout> = session.catalog_query(&sql)?;
    let Some(found) = found.into_iter().next() else { return Ok(None) };
    // Joining an absolute path replaces the parts before it, as in DuckLake.
    let parts = [found.data_path, found.schema_path, found.table_path];
    Ok(Some((SnapshotId(found.changed_at), parts.into_iter().flatten().collect())))
}

impl DuckLake {
    /// Creates the table if it is missing, and returns it; `date_of` is the column that `event_date` is
    /// the date of. Returns an error with the differences if the wanted shape does not fit the table,
    /// and an error if the table was dropped or renamed after rows were committed to it.
    pub fn ensure_table_by_date(
        &mut self,
        table: &TableName,
        wanted: &TableShape,
        date_of: Option<&str>,
    ) -> Result<Table> {
        if self.find_table(table)?.is_none() {
            let created = self.create_table(table, wanted, date_of);
            // Another worker may have created the table first, even before the check of the name; only
            // the current state counts.
            if let (Err(error), None) = (created, self.find_table(table)?) {
                return Err(error);
            }
        }
        let found = self.find_table(table)?.ok_or_else(|| {
            LakeError::unavailable(format!("the table was dropped concurrently: table=`{table}`"))
        })?;
        let difference = diff(&found.shape, wanted);
        if difference.fits() {
            return Ok(found);
        }
        Err(LakeError::from_fault(LakeFault::TableMismatch { table: table.clone(), difference }))
    }

    fn create_table(
        &mut self,
        table: &TableName,
        wanted: &TableShape,
        date_of: Option<&str>,
    ) -> Result<()> {
        let session = self.session()?;
        catalog::vacant_name::check(session, table)?;
        let Err(error) = session.execute(&create_table_sql(table, wanted, date_of)) else {
            return Ok(());
        };
        let _ = session.execute("ROLLBACK");
        self.handle_error(&error.to_string());
        Err(duckdb_error::failed(format!("create the table: table=`{table}`"), error))
    }

    /// Returns the current version of a table's columns; None if the table does not exist.
    pub fn table_version(&mut self, table: &TableName) -> Result<Option<SnapshotId>> {
        Ok(read_layout(self.session()?, table)?.map(|(changed_at, _)| changed_at))
    }
}
