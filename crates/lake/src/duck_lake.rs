//! The lake that DuckDB's `ducklake` extension keeps.

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
use crate::config::{CatalogLocation, LakeConfig};
use crate::consumer_group;
use crate::data_path::{DataPath, DataPathCheck, Owner, OwnerRole, check_free};
use crate::duckdb_error;
use crate::refusals::Refusals;
use crate::rows::MetadataRow;
use crate::session::{Access, LAKE, Session, quote};
use crate::storage;

/// How often a table's shape is read again when an ALTER comes in between.
const SHAPE_READS: usize = 5;

/// What [`DuckLake::init`] made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Whether there was no DuckLake before.
    pub lake_is_new: bool,
    /// Whether there were no Ducktide tables in its catalog before.
    pub tables_are_new: bool,
    /// Whether triggers were missing, disabled or on another table, and are back.
    pub triggers_are_restored: bool,
}

/// What DuckDB may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Memory, bytes; what does not fit is written to `spill`.
    pub memory: u64,
    /// Threads.
    pub threads: u16,
    /// The directory for what does not fit into memory.
    pub spill: PathBuf,
}

/// What an operation of a compactor takes and checks before it writes.
pub struct WriteLocks<'a> {
    /// Commit lock, to be taken around the statements of a transaction.
    pub commit: &'a mut CommitLock,
    /// Leader lock, to be checked before anything is written or removed.
    pub leader: &'a mut LeaderLock,
}

/// One process's view of a DuckLake.
pub struct DuckLake {
    config: LakeConfig,
    access: Access,
    /// None after DuckDB broke; the next call opens a new instance.
    session: Option<Session>,
    /// The claim on the data path; None where nothing may be written.
    owner: Option<Owner>,
    pub(crate) lock: CommitLock,
    pub(crate) maintenance_lock: MaintenanceLock,
    pub(crate) leader_lock: LeaderLock,
    resources: Option<Resources>,
    /// The newest position that this process knows to be committed.
    committed: HashMap<(SourceId, Partition), Position>,
    /// What the catalog said when it was asked how the last commit had ended.
    pub(crate) outcome_check: Option<OutcomeCheck>,
    /// How often in a row the lake refused for reasons that are known by their text alone.
    refusals: Refusals,
}

impl DuckLake {
    /// Makes the lake and our tables in its catalog, unless they are there. Says what it had to make.
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
            config.data_path = Some(default_data_path(path));
        }
        if let CatalogLocation::Sqlite(path) = &config.catalog {
            if !path.exists() {
                // Before there is a catalog, also where it is only an empty file.
                config.data_path.as_deref().map_or(Ok(()), check_free)?;
            }
            sqlite::prepare_file(path)?;
        }
        let (session, lake_is_new) = match Session::open(&config, Access::Commit, false) {
            Ok(session) => (session, false),
            Err(error) if matches!(error.fault(), Some(LakeFault::NoLake { .. })) => {
                if let Some(path) = &config.data_path {
                    // Before there is a lake that no worker could fill.
                    check_free(path).map_err(|occupied| occupied.because(error.chain()))?;
                    check_writable(path)?;
                }
                (Session::open(&config, Access::Commit, true)?, true)
            }
            Err(error) => return Err(error),
        };
        set_options(&session)?;
        // Before the path is tried: where the mount is away, a directory of its name says nothing.
        let facts = if catalog::is_installed(&session)? {
            Owner::establish(&session, OwnerRole::Init)?;
            Vec::new()
        } else {
            let mut facts = DataPathCheck::of_uninstalled(&session)?.install()?;
            facts.push(consumer_group::default_group(&session)?);
            facts
        };
        check_writable(DataPath::read(&session)?.root())?;
        // Our own tables are made by other means than DuckDB, which must not have a SQLite file
        // attached meanwhile.
        drop(session);
        let installed = installation.install(&facts)?;
        Ok(Setup {
            lake_is_new,
            tables_are_new: installed == Installed::Created,
            triggers_are_restored: installed == Installed::TriggersRestored,
        })
    }

    /// Makes this catalog the one that owns the lake's files, among its copies. Programs that use another
    /// copy may not write from then on.
    pub fn adopt(config: &LakeConfig) -> Result<()> {
        let session = Session::open(config, Access::Operate, false)?;
        catalog::check_layout(&session)?;
        Owner::adopt(&session)
    }

    /// Attaches a lake that `init` made.
    pub fn open(config: &LakeConfig, access: Access) -> Result<Self> {
        let open = || {
            let session = Session::open(config, access, false)?;
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

    /// Has DuckDB use so much; without it, what workers need: one thread and 256 MB.
    pub fn limit_resources(&mut self, resources: Resources) -> Result<()> {
        self.session()?.limit_resources(&resources)?;
        self.resources = Some(resources);
        Ok(())
    }

    /// Whether this process is the lake's leader among compactors, for which it waits `timeout` at
    /// most; it stays the leader until it ends or its connection does.
    pub fn lead(&mut self, timeout: Duration) -> Result<bool> {
        self.leader_lock.take(timeout)
    }

    /// Errors when this process has led and does not any more.
    pub fn check_leadership(&mut self) -> Result<()> {
        self.leader_lock.check()
    }

    /// Who leads, where the catalog tells.
    #[must_use]
    pub fn leader(&self) -> Option<String> {
        self.leader_lock.holder()
    }

    /// All sources of the lake.
    pub fn sources(&mut self) -> Result<Vec<Source>> {
        catalog::sources(self.session()?)
    }

    /// The progress of a source's partitions as `status` shows it.
    pub fn progress(&mut self, source: SourceId) -> Result<Vec<PartitionProgress>> {
        catalog::progress(self.session()?, source)
    }

    /// Reads from the catalog in one transaction: what is read is of one moment, and PostgreSQL is asked
    /// three times for each query instead of eight. For short reads only, which wait for nothing else: a
    /// SQLite catalog cannot be written to meanwhile.
    pub fn read_together<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let begun = self.session()?.begin_reading()?;
        let answer = read(self);
        // The session is gone if DuckDB broke meanwhile, and the transaction with it.
        let ended = match &self.session {
            Some(session) if begun => session.end_reading(answer.is_ok()),
            _ => Ok(()),
        };
        answer.and_then(|answer| ended.map(|()| answer))
    }

    /// The DuckDB connection with the lake attached as `lake`, for the user's own queries.
    pub fn connection(&mut self) -> Result<&duckdb::Connection> {
        Ok(self.session()?.connection())
    }

    /// The table as it stands, or None.
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

    /// Errors unless the data path is there, and this catalog's. To be asked before files are written,
    /// committed or removed: mounts go away, and another copy of the catalog may take the path over.
    pub fn check_owner(&mut self) -> Result<()> {
        if self.owner.as_ref().is_none_or(|owner| owner.check().is_ok()) {
            return Ok(());
        }
        // Perhaps this catalog has a new claim.
        let owner = Owner::establish(self.session()?, OwnerRole::Program)?;
        self.owner = Some(owner);
        Ok(())
    }

    /// The session, opened again if DuckDB broke.
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

    /// Session and lock together.
    pub fn session_and_lock(&mut self) -> Result<(&Session, &mut CommitLock)> {
        self.session()?;
        let session = self.session.as_ref().expect("opened above");
        Ok((session, &mut self.lock))
    }

    /// Session, commit lock and maintenance lock together.
    pub fn session_and_locks(
        &mut self,
    ) -> Result<(&Session, &mut CommitLock, &mut MaintenanceLock)> {
        self.session()?;
        let session = self.session.as_ref().expect("opened above");
        Ok((session, &mut self.lock, &mut self.maintenance_lock))
    }

    /// Session, maintenance lock, and what an operation needs to write.
    pub fn session_and_write_locks(
        &mut self,
    ) -> Result<(&Session, &mut MaintenanceLock, WriteLocks<'_>)> {
        self.session()?;
        let session = self.session.as_ref().expect("opened above");
        let writing = WriteLocks { commit: &mut self.lock, leader: &mut self.leader_lock };
        Ok((session, &mut self.maintenance_lock, writing))
    }

    /// Gives DuckDB up; the next call opens a new instance.
    pub fn close_session(&mut self) {
        self.session = None;
    }

    /// Gives DuckDB up after an error that leaves the instance unusable.
    pub fn handle_error(&mut self, text: &str) {
        if duckdb_error::is_instance_broken(text) {
            let reason = reason(text);
            tracing::debug!(error = text, "DuckDB broke");
            tracing::error!(error = reason, "DuckDB broke, opening a new instance");
            self.session = None;
        } else if duckdb_error::is_readonly_file(text) {
            // Opening the catalog again makes its files writable, where that is possible.
            self.session = None;
        }
    }

    /// What a refusal that is known by its text alone means: an outage, until a new instance of DuckDB
    /// and then another one are refused as well.
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

    /// Takes note that the lake took what it was given.
    pub fn reset_refusals(&mut self) {
        self.refusals = Refusals::default();
    }

    /// The same for whatever a running worker was answered.
    fn confirm_refusals<T>(&mut self, answer: Result<T>) -> Result<T> {
        answer.map_err(|error| self.confirm_refusal(error))
    }

    /// Remembers what is committed, to notice a catalog that went back in time.
    pub fn record_committed(&mut self, commit: &Commit) {
        for delta in commit.progress() {
            self.committed.insert((delta.source, delta.partition), delta.after());
        }
    }

    /// A catalog restored to an older state reuses snapshot and table ids, and DuckDB caches by id:
    /// progress behind what this process saw committed calls for a new instance.
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
                "the catalog is older than what this process committed; was it restored?"
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
        // One message each: a partition that another worker started meanwhile is refused, and must
        // not take the others with it.
        let mut refused = None;
        for start in starts {
            let message = CommitMessage::start(source, std::slice::from_ref(start));
            if let Err(error) = catalog::post(session, &message) {
                tracing::debug!(%source, partition = %start.0, %error, "start was not taken");
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
        // An idle worker notices here that the data path is away.
        self.check_owner()?;
        let session = self.session()?;
        // Workers that have nothing to commit ask this every few seconds.
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

/// Refuses a data path that this process cannot write to, rather than leaving that to the workers.
fn check_writable(data_path: &Path) -> Result<()> {
    storage::try_to_write(data_path).map_err(|error| {
        let what = format!(
            "the lake's files cannot be written there; name another directory with --data-path \
             (DUCKLAKE_DATA_PATH), or let this user write to it: data_path=`{}`",
            data_path.display()
        );
        LakeError::of_io(what, error)
    })
}

/// Beside the catalog, as DuckLake itself does it.
fn default_data_path(catalog: &Path) -> PathBuf {
    let mut path = catalog.as_os_str().to_owned();
    path.push(".files");
    path.into()
}

/// The options that a lake needs to be filled by Ducktide.
///
/// Inlined nested data is corrupted on both catalogs (duckdb/ducklake#1435), so nothing is inlined.
/// The retention is DuckLake's own setting; the compactor reads it. What an operator has set stays.
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

/// Table and partition key in one transaction: nobody sees the table without its key.
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

/// The snapshot of the table's newest change of columns or partition key, and its directory.
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
    // Joining an absolute path replaces what came before it, as DuckLake means it.
    let parts = [found.data_path, found.schema_path, found.table_path];
    Ok(Some((SnapshotId(found.changed_at), parts.into_iter().flatten().collect())))
}

impl DuckLake {
    /// Creates the table if it is missing, and returns it; `date_of` is the column that `event_date` is
    /// the date of. A table that the wanted shape does not fit is refused, with the differences; so is
    /// one that was dropped or renamed after rows were committed to it.
    pub fn ensure_table_by_date(
        &mut self,
        table: &TableName,
        wanted: &TableShape,
        date_of: Option<&str>,
    ) -> Result<Table> {
        if self.find_table(table)?.is_none() {
            let created = self.create_table(table, wanted, date_of);
            // Another worker may have been first, also before the name was found to be taken; what
            // matters is what is there now.
            if let (Err(error), None) = (created, self.find_table(table)?) {
                return Err(error);
            }
        }
        let found = self.find_table(table)?.ok_or_else(|| {
            LakeError::unavailable(format!("the table was dropped meanwhile: table=`{table}`"))
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

    /// The version of a table's columns as it is now; None when the table is gone.
    pub fn table_version(&mut self, table: &TableName) -> Result<Option<SnapshotId>> {
        Ok(read_layout(self.session()?, table)?.map(|(changed_at, _)| changed_at))
    }
}
