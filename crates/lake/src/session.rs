//! DuckDB instance with the lake attached as `lake`.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use duckdb::{Config, Connection};
use ducktide_protocol::error::{LakeError, LakeFault, Result};

use crate::catalog::client::CatalogClient;
use crate::catalog::dialect::Dialect;
use crate::catalog::{format, sqlite_file};
use crate::config::{CatalogLocation, LakeConfig};
use crate::duckdb_error;
use crate::extensions::Extensions;
use crate::login;
use crate::object_storage::StorageAccess;
use crate::postgres_settings::Resolved;
use crate::rows::{self, CatalogTable, FromRow, QueryError, Row};
pub use crate::sql_text::quote;

/// Name under which the lake is attached.
pub const LAKE: &str = "lake";

/// Access mode of a session, with its limits in PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Commits of a worker: short limits in PostgreSQL, so that a dead client between two statements
    /// does not block every other writer.
    Commit,
    /// Queries of a reader: can idle in a transaction while DuckDB scans, and cannot write.
    Read,
    /// Statements of an operator: can write, and can idle in a transaction like a reader.
    Operate,
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

/// DuckDB instance with the lake attached. DuckDB reconnects to PostgreSQL automatically; after an
/// internal error of DuckDB the instance is unusable and a new session must be opened.
pub struct Session {
    connection: Connection,
    dialect: Dialect,
    /// True between [`begin_reading`](Self::begin_reading) and [`end_reading`](Self::end_reading).
    is_reading: Cell<bool>,
    storage: StorageAccess,
}

impl Session {
    /// Attaches a lake; creates it if it is missing and `create` is true.
    pub fn open(config: &LakeConfig, access: Access, create: bool) -> Result<Self> {
        duckdb_error::confirmed(|| Self::open_once(config, access, create))
    }

    /// Like [`open`](Self::open), for callers that confirm refusals themselves.
    pub(crate) fn open_once(config: &LakeConfig, access: Access, create: bool) -> Result<Self> {
        let extensions = Extensions::find(config);
        let connection = open_duckdb(&extensions)?;
        let session = Self {
            connection,
            dialect: Dialect::of(config),
            is_reading: Cell::new(false),
            storage: StorageAccess::new(extensions.directory().map(Path::to_owned)),
        };
        if let (CatalogLocation::Sqlite(path), false) = (&config.catalog, create)
            && !path.is_file()
        {
            // DuckDB would create an empty file.
            return Err(LakeError::from_fault(LakeFault::NoLake {
                catalog: config.catalog.to_string(),
            }));
        }
        extensions.load(&session.connection)?;
        if let (CatalogLocation::Sqlite(path), true) = (&config.catalog, access != Access::Read) {
            sqlite_file::restore_write_access(path)?;
        }
        if let Some(path) = &config.data_path {
            session.storage.open(&session.connection, path)?;
        }
        session.attach(config, access, create)?;
        format::check(&session)?;
        Ok(session)
    }

    /// Sets DuckDB's memory limit, number of threads and spill directory.
    pub fn limit_resources(&self, resources: &Resources) -> Result<()> {
        let sql = format!(
            "SET memory_limit = '{} bytes'; SET threads = {}; SET temp_directory = {}",
            resources.memory,
            resources.threads,
            quote(&resources.spill.to_string_lossy())
        );
        self.execute(&sql)
            .map_err(|error| LakeError::invalid("set DuckDB's resource limits").because(error))
    }

    /// Passes the present credentials of the object store to DuckDB, if the lake is in one.
    pub(crate) fn renew_storage_access(&self) -> Result<()> {
        self.storage.renew(&self.connection)
    }

    /// Runs statements and discards their results.
    pub fn execute(&self, sql: &str) -> duckdb::Result<()> {
        self.connection.execute_batch(sql)
    }

    /// Returns the DuckDB connection, for the caller's own queries.
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Begins a transaction for all calls of [`catalog_query`](CatalogClient::catalog_query) until
    /// [`end_reading`](Self::end_reading). Returns false if one is already open: the caller must not end
    /// it.
    pub(crate) fn begin_reading(&self) -> Result<bool> {
        if self.is_reading.get() {
            return Ok(false);
        }
        self.execute("BEGIN").map_err(unreadable)?;
        self.is_reading.set(true);
        Ok(true)
    }

    /// Commits the reading transaction, or rolls it back if `is_complete` is false (after an error).
    pub(crate) fn end_reading(&self, is_complete: bool) -> Result<()> {
        self.is_reading.set(false);
        self.execute(if is_complete { "COMMIT" } else { "ROLLBACK" }).map_err(unreadable)
    }

    /// Reads rows by a query in DuckDB's SQL dialect.
    pub fn read<T: FromRow>(&self, sql: &str) -> Result<Vec<T>> {
        let mut found = Vec::new();
        self.for_each(sql, |row| {
            found.push(row);
            Ok(())
        })?;
        Ok(found)
    }

    /// Reads rows by a query in DuckDB's SQL dialect and passes each to `take`, for results of any size.
    pub fn for_each<T: FromRow>(
        &self,
        sql: &str,
        mut take: impl FnMut(T) -> Result<()>,
    ) -> Result<()> {
        let read = rows::each(&self.connection, sql, |row| {
            T::from_row(&row).and_then(&mut take).map_err(QueryError::Row)
        });
        read.map_err(|error| match error {
            QueryError::Query(error) => unreadable(error),
            QueryError::Row(error) => error,
        })
    }

    /// Returns the statement, in DuckDB's SQL dialect, that inserts a row into one of Ducktide's tables.
    pub fn insert_sql<T: CatalogTable>(&self, row: &T) -> String {
        let table = self.catalog_table(T::TABLE);
        let values = row.literals().join(", ");
        format!("INSERT INTO {table}({}) VALUES ({values})", T::columns())
    }

    /// Runs a query in DuckDB's SQL dialect and returns its rows. Values are texts, numbers or booleans.
    pub fn query(&self, sql: &str) -> duckdb::Result<Vec<Row>> {
        rows::query(&self.connection, sql)
    }

    /// Returns a query that the catalog database runs in its own dialect, with every value as text. Run
    /// it inside an explicit transaction; all queries of one transaction see one state of the catalog.
    pub fn native_query(&self, sql: &str) -> String {
        format!("SELECT COLUMNS(*)::VARCHAR FROM {}", self.native_source(sql))
    }

    /// Runs one INSERT, UPDATE or DELETE in the catalog database's own dialect, inside an explicit
    /// transaction; a rollback undoes it.
    ///
    /// The catalog database finds the rows by index; DuckDB would read the whole table. `sqlite_query`
    /// only runs statements that return rows, hence RETURNING.
    pub fn execute_in_catalog(&self, sql: &str) -> duckdb::Result<()> {
        match self.dialect {
            Dialect::Sqlite { .. } => {
                self.query(&self.native_query(&format!("{sql} RETURNING 1 AS changed"))).map(drop)
            }
            Dialect::Postgres { .. } => self.execute(&format!(
                "CALL postgres_execute('__ducklake_metadata_{LAKE}', {})",
                quote(sql)
            )),
        }
    }

    /// Runs a query and returns its values, which must be texts or NULL.
    pub fn rows(&self, sql: &str) -> duckdb::Result<Vec<Vec<Option<String>>>> {
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let columns = row.as_ref().column_count();
            found.push((0..columns).map(|i| row.get(i)).collect::<duckdb::Result<_>>()?);
        }
        Ok(found)
    }

    /// Runs a query with one column of texts and returns its values, without those that are NULL.
    pub fn texts(&self, sql: &str) -> duckdb::Result<Vec<String>> {
        Ok(self.rows(sql)?.into_iter().flatten().flatten().collect())
    }

    /// Returns the qualified name of a catalog table in DuckDB. It always includes the schema: without
    /// it DuckDB reads `public`, which can belong to another lake.
    pub fn catalog_table(&self, name: &str) -> String {
        format!("__ducklake_metadata_{LAKE}.{}", self.dialect.table(name))
    }

    /// Returns the FROM item of a query that the catalog database runs in its own dialect. Run it inside
    /// an explicit transaction.
    pub fn native_source(&self, sql: &str) -> String {
        let function = match self.dialect {
            Dialect::Sqlite { .. } => "sqlite_query",
            Dialect::Postgres { .. } => "postgres_query",
        };
        format!("{function}('__ducklake_metadata_{LAKE}', {})", quote(sql))
    }

    /// Runs several statements of [`execute_in_catalog`](Self::execute_in_catalog) in one transaction:
    /// all of them, or none.
    pub fn execute_all_in_catalog(&self, statements: &[String]) -> duckdb::Result<()> {
        self.in_transaction(|| {
            statements.iter().try_for_each(|statement| self.execute_in_catalog(statement))
        })
    }

    /// Commits what `write` does, or rolls it back after an error.
    pub(crate) fn in_transaction<T>(
        &self,
        write: impl FnOnce() -> duckdb::Result<T>,
    ) -> duckdb::Result<T> {
        self.execute("BEGIN")?;
        let done = write().and_then(|written| self.execute("COMMIT").map(|()| written));
        if done.is_err() {
            // A failed COMMIT has already ended the transaction; this ROLLBACK then fails too.
            let _ = self.execute("ROLLBACK");
        }
        done
    }

    /// Rewrites the times in `ducklake_files_scheduled_for_deletion` in the format that `DuckLake`
    /// compares with. The value of each time stays the same.
    ///
    /// A SQLite catalog stores them as text, `2026-11-24 19:06:41+00`, and `DuckLake` compares that with
    /// `2026-11-24T…`, as text: it would remove files of the same day regardless of their age, while
    /// readers still use them (measured on 1.5.5).
    pub fn normalize_schedule_timestamps(&self) -> duckdb::Result<()> {
        match self.dialect {
            Dialect::Postgres { .. } => Ok(()),
            Dialect::Sqlite { .. } => self.execute(&format!(
                "UPDATE {} SET schedule_start = replace(schedule_start, ' ', 'T') \
                 WHERE schedule_start LIKE '% %'",
                self.catalog_table("ducklake_files_scheduled_for_deletion")
            )),
        }
    }

    fn attach(&self, config: &LakeConfig, access: Access, create: bool) -> Result<()> {
        let mut options = vec![format!("CREATE_IF_NOT_EXISTS {create}")];
        if let Some(path) = &config.data_path {
            options.push(format!("DATA_PATH {}", quote(&format!("{}/", path.display()))));
        }
        if access == Access::Read {
            options.push("READ_ONLY".to_owned());
        }
        let mut used = None;
        let target = match &config.catalog {
            CatalogLocation::Sqlite(path) => format!("ducklake:sqlite:{}", path.display()),
            CatalogLocation::Postgres(settings) => {
                let schema = quote(&config.metadata_schema);
                options.push(format!("METADATA_SCHEMA {schema}"));
                if !create {
                    // Without it, DuckDB reads the columns of all schemas, including PostgreSQL's own.
                    options.push(format!("META_SCHEMA {schema}"));
                }
                let resolved = settings
                    .resolve()
                    .map_err(|error| LakeError::setting(format!("DUCKLAKE_CATALOG: {error}")))?;
                self.give_password(resolved.get("password"))?;
                let target = with_limits(&resolved, access);
                used = Some(resolved);
                format!("ducklake:postgres:{target}")
            }
        };
        let sql = format!("ATTACH {} AS {LAKE} ({})", quote(&target), options.join(", "));
        let attached = match self.execute(&sql) {
            // DuckLake attaches a lake in object storage only with the extension that reads it.
            Err(_) if self.open_recorded_storage(config)? => self.execute(&sql),
            attached => attached,
        };
        attached.map_err(|error| {
            // DuckLake's error suggests a migration to a format that this program does not support.
            let migrated =
                self.unattached_format(config).and_then(|f| format::require(Some(&f)).err());
            migrated.unwrap_or_else(|| duckdb_error::attach(config, &error))
        })?;
        if let Some(used) = &used {
            login::accepted(used);
        }
        // DuckLake's own retries only cover the race for the next snapshot ID. They are few and at a
        // constant interval (10 x 5 ms): its backoff has no cap, and the outer retry is Ducktide's.
        self.execute(
            "SET ducklake_max_retry_count = 10; SET ducklake_retry_wait_ms = 5; \
             SET ducklake_retry_backoff = 1.0; SET TimeZone = 'UTC'",
        )
        .map_err(|error| LakeError::invalid("set DuckLake's retry options").because(error))
    }
}

impl Session {
    /// Gives DuckDB access to the data path that an unattached catalog has, if that is in object storage.
    /// Returns whether access was added.
    fn open_recorded_storage(&self, config: &LakeConfig) -> Result<bool> {
        if self.storage.is_open() {
            return Ok(false);
        }
        let metadata = self.native_table("ducklake_metadata");
        let sql =
            format!("(SELECT value FROM {metadata} WHERE key = 'data_path' AND scope IS NULL)");
        match self.unattached_value(config, &sql) {
            Some(path) => self.storage.open(&self.connection, Path::new(&path)),
            None => Ok(false),
        }
    }

    /// Returns the format of a catalog that DuckLake does not attach; None if it cannot be read.
    fn unattached_format(&self, config: &LakeConfig) -> Option<String> {
        self.unattached_value(config, &format::value_sql(&self.native_table("ducklake_metadata")))
    }

    /// Returns the value of an SQL expression in a catalog that DuckLake does not attach; None if it cannot
    /// be read.
    fn unattached_value(&self, config: &LakeConfig, sql: &str) -> Option<String> {
        const PROBE: &str = "ducktide_probe";
        let (target, of, function) = match &config.catalog {
            CatalogLocation::Sqlite(path) => (path.display().to_string(), "sqlite", "sqlite_query"),
            CatalogLocation::Postgres(settings) => {
                (with_limits(&settings.resolve().ok()?, Access::Read), "postgres", "postgres_query")
            }
        };
        let attach = format!("ATTACH {} AS {PROBE} (TYPE {of}, READ_ONLY)", quote(&target));
        self.execute(&attach).ok()?;
        let query =
            format!("FROM {function}('{PROBE}', {})", quote(&format!("SELECT {sql} AS value")));
        let found = self.execute("BEGIN").and_then(|()| self.query(&query));
        // The probe is detached after a failed query too.
        let _ = self.execute("ROLLBACK");
        let _ = self.execute(&format!("DETACH {PROBE}"));
        found.ok()?.first()?.first().ok()
    }

    /// Passes a password to DuckDB as a secret: `duckdb_databases()` and errors show the text of an
    /// ATTACH statement.
    ///
    /// Without a password the secret is empty. It is created nevertheless: DuckDB would otherwise use
    /// one of the user's persistent secrets, which are for other servers.
    fn give_password(&self, password: Option<&str>) -> Result<()> {
        let password = password.map(|text| format!(", PASSWORD {}", quote(text)));
        let sql = format!("CREATE SECRET (TYPE postgres{})", password.unwrap_or_default());
        // The error is dropped because it can contain the statement.
        self.execute(&sql).map_err(|_| LakeError::invalid("pass the catalog's password to DuckDB"))
    }
}

impl CatalogClient for Session {
    type Error = duckdb::Error;

    fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// Uses the reading transaction if one is open, its own transaction otherwise.
    ///
    /// The transaction is explicit because `sqlite_query` keeps the handle of the transaction in which
    /// it was prepared; an implicit transaction ends before the query runs.
    fn catalog_query<T: FromRow>(&self, sql: &str) -> Result<Vec<T>> {
        let begun = self.begin_reading()?;
        let read = self.read(&self.native_query(sql));
        let ended = if begun { self.end_reading(read.is_ok()) } else { Ok(()) };
        read.and_then(|rows| ended.map(|()| rows))
    }

    fn written_table(&self, name: &str) -> String {
        self.catalog_table(name)
    }

    fn write(&self, sql: &str) -> duckdb::Result<()> {
        self.execute(sql)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Without DETACH a closed connection leaks some megabytes (measured on 1.5.5). DETACH fails if
        // the instance is broken or was never attached; the failure has no consequence.
        let _ = self.connection.execute_batch(&format!("ROLLBACK; DETACH {LAKE}"));
        let _ = self.connection.execute_batch(&format!("DETACH {LAKE}"));
    }
}

fn unreadable(error: duckdb::Error) -> LakeError {
    duckdb_error::failed("read the catalog", error)
}

/// Opens a DuckDB in memory that may load these extensions.
pub(crate) fn open_duckdb(extensions: &Extensions) -> Result<Connection> {
    // Reading Parquet footers and writing catalog rows needs little memory; the worker's own memory
    // budget is separate (invariant I9).
    let config = Config::default()
        .max_memory("256MB")
        .and_then(|config| config.threads(1))
        .and_then(|config| config.with("autoinstall_known_extensions", "false"))
        // Neither this process nor another reads the secrets later.
        .and_then(|config| config.with("allow_persistent_secrets", "false"))
        .and_then(|config| extensions.permit(config));
    config
        .and_then(Connection::open_in_memory_with_flags)
        .map_err(|error| LakeError::invalid("start DuckDB").because(error))
}

/// Returns the connection string with keepalives and with PostgreSQL's limits for the access mode
/// (hazards: one dead client between two statements must not block every writer; a reader idles while
/// DuckDB works).
fn with_limits(resolved: &Resolved, access: Access) -> String {
    let network = [
        ("keepalives", "1"),
        ("keepalives_idle", "10"),
        ("keepalives_interval", "5"),
        ("keepalives_count", "3"),
        ("tcp_user_timeout", "20000"),
        ("connect_timeout", "5"),
        ("application_name", "ducktide"),
    ];
    let limits = match access {
        Access::Commit => {
            "-c idle_in_transaction_session_timeout=30s -c lock_timeout=15s -c statement_timeout=30s"
        }
        Access::Read | Access::Operate => "",
    };
    resolved.connection_string(&network, limits)
}
