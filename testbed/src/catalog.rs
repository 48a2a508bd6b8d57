//! Direct connection to the catalog database of a lake, without DuckDB: to see a snapshot as soon
//! as it is committed, and to make changes that DuckDB does not allow.
//!
//! Must not be used for a SQLite file that this process has also attached with DuckDB: two copies
//! of the SQLite library in one process break each other's locks.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use postgres::{Client, NoTls, SimpleQueryMessage};
use rusqlite::{Connection, OpenFlags};

/// Database that holds the catalog of a lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatalogKind {
    /// SQLite; each lake has its own file.
    Sqlite,
    /// PostgreSQL; each lake has its own database.
    Postgres,
}

/// Catalog database, connected at the first query.
pub struct Catalog {
    address: Address,
    connection: Option<OpenCatalog>,
}

enum Address {
    Sqlite(PathBuf),
    Postgres(String),
}

enum OpenCatalog {
    Sqlite(Connection),
    Postgres(Client),
}

/// Maximum time that a statement waits for the write lock of a SQLite file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

impl Catalog {
    /// Returns the catalog at an address: `sqlite:PATH` or `postgres://…`.
    pub fn at(address: &str) -> Result<Self> {
        let address = match address.split_once(':') {
            Some(("sqlite", path)) => Address::Sqlite(path.into()),
            Some(("postgres" | "postgresql", _)) => Address::Postgres(address.to_owned()),
            _ => bail!("a catalog is `sqlite:PATH` or `postgres://…`, not `{address}`"),
        };
        Ok(Self { address, connection: None })
    }

    /// Returns the number of a query with one row and one column.
    pub fn number(&mut self, sql: &str) -> Result<i64> {
        let sql = format!("SELECT CAST(({sql}) AS BIGINT)");
        self.with_connection(|catalog| match catalog {
            OpenCatalog::Sqlite(sqlite) => Ok(sqlite.query_row(&sql, [], |row| row.get(0))?),
            OpenCatalog::Postgres(client) => Ok(client.query_one(&sql, &[])?.try_get(0)?),
        })
        .with_context(|| format!("query the catalog sql=`{sql}`"))
    }

    /// Returns the rows of a query whose columns are integers.
    pub fn rows(&mut self, sql: &str) -> Result<Vec<Vec<i64>>> {
        self.with_connection(|catalog| match catalog {
            OpenCatalog::Sqlite(sqlite) => sqlite_rows(sqlite, sql),
            OpenCatalog::Postgres(client) => {
                let rows =
                    client.simple_query(sql)?.into_iter().filter_map(|message| match message {
                        SimpleQueryMessage::Row(row) => Some(row),
                        _ => None,
                    });
                rows.map(|row| {
                    let value =
                        |i| row.get(i).context("a number is missing")?.parse().context("no number");
                    (0..row.len()).map(value).collect()
                })
                .collect()
            }
        })
        .with_context(|| format!("query the catalog sql=`{sql}`"))
    }

    /// Returns the newest snapshot that a reader sees.
    pub fn newest_snapshot(&mut self) -> Result<i64> {
        self.number("SELECT max(snapshot_id) FROM ducklake_snapshot")
    }

    /// Returns the sum of the next offsets of all partitions: the number of committed offsets if
    /// all partitions start at 0.
    pub fn committed_offsets(&mut self) -> Result<i64> {
        self.number("SELECT coalesce(sum(next_offset), 0) FROM ducktide_progress")
    }

    /// Returns the next offset of a partition.
    pub fn next_offset(&mut self, partition: i32) -> Result<i64> {
        self.number(&format!(
            "SELECT next_offset FROM ducktide_progress WHERE partition = {partition}"
        ))
    }

    /// Runs statements.
    pub fn execute(&mut self, sql: &str) -> Result<()> {
        self.with_connection(|catalog| match catalog {
            OpenCatalog::Sqlite(sqlite) => Ok(sqlite.execute_batch(sql)?),
            OpenCatalog::Postgres(client) => Ok(client.batch_execute(sql)?),
        })
        .with_context(|| format!("change the catalog sql=`{sql}`"))
    }

    /// Drops the connection after an error: the server may have been restarted.
    fn with_connection<T>(
        &mut self,
        query: impl FnOnce(&mut OpenCatalog) -> Result<T>,
    ) -> Result<T> {
        let mut catalog = match self.connection.take() {
            Some(catalog) => catalog,
            None => self.address.open()?,
        };
        let result = query(&mut catalog)?;
        self.connection = Some(catalog);
        Ok(result)
    }
}

impl Address {
    fn open(&self) -> Result<OpenCatalog> {
        match self {
            Self::Sqlite(path) => open_sqlite(path).map(OpenCatalog::Sqlite),
            Self::Postgres(url) => Client::connect(url, NoTls)
                .map(OpenCatalog::Postgres)
                .context("connect to the catalog"),
        }
    }
}

fn sqlite_rows(sqlite: &Connection, sql: &str) -> Result<Vec<Vec<i64>>> {
    let mut statement = sqlite.prepare(sql)?;
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|i| row.get(i)).collect())?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Opens an existing file; by default the library creates an empty one.
fn open_sqlite(path: &Path) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .with_context(|| format!("open the catalog {}", path.display()))?;
    connection.busy_timeout(BUSY_TIMEOUT).context("set the catalog's timeout")?;
    Ok(connection)
}
