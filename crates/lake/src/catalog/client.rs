//! Access to the catalog database.
//!
//! | implementation | used by |
//! |---|---|
//! | [`Session`] | operators' programs, the compactor, and workers on SQLite |
//! | [`PostgresConnection`] | workers on PostgreSQL: no DuckDB instance |
//! | [`WorkerCatalog`] | code of workers, on either |

use ducktide_protocol::error::{LakeError, Result};
use thiserror::Error;

use super::dialect::Dialect;
use super::postgres_connection::{self, PostgresConnection};
use crate::duckdb_error;
use crate::rows::{CatalogTable, FromRow, FromValue, Row};
use crate::session::Session;

/// Client of the catalog database.
pub trait CatalogClient {
    /// Error of a statement that writes.
    type Error: std::error::Error + Send + Sync + 'static;

    /// SQL dialect of the catalog database, in which queries are written.
    fn dialect(&self) -> &Dialect;

    /// Reads rows by a query in the catalog database's own SQL dialect.
    fn catalog_query<T: FromRow>(&self, sql: &str) -> Result<Vec<T>>;

    /// Returns the qualified name of a catalog table for [`write`](Self::write).
    fn written_table(&self, name: &str) -> String;

    /// Runs statements of standard SQL that write to catalog tables. Several statements must contain
    /// their own transaction; after an error the caller calls [`roll_back`](Self::roll_back).
    fn write(&self, sql: &str) -> Result<(), Self::Error>;

    /// Ends a transaction of [`write`](Self::write) that failed. An error has no consequence: the
    /// transaction has ended already.
    fn roll_back(&self) {
        let _ = self.write("ROLLBACK");
    }

    /// Returns the qualified name of a catalog table for queries.
    fn native_table(&self, name: &str) -> String {
        self.dialect().table(name)
    }

    /// Reads rows of one table; `rest` is the part of the SELECT after the table name.
    fn select<T: CatalogTable>(&self, rest: &str) -> Result<Vec<T>> {
        let table = self.native_table(T::TABLE);
        self.catalog_query(&format!("SELECT {} FROM {table} {rest}", T::columns()))
    }

    /// Reads the values of a query with one column.
    fn catalog_values<T: FromValue>(&self, sql: &str) -> Result<Vec<T>> {
        let rows: Vec<Row> = self.catalog_query(sql)?;
        rows.iter().map(Row::first).collect()
    }

    /// Reads the value of a query with one row and one column; a result without rows is NULL.
    fn catalog_scalar<T: FromValue>(&self, sql: &str) -> Result<T> {
        let rows: Vec<Row> = self.catalog_query(sql)?;
        rows.first().unwrap_or(&Row::of(&[("", None)])).first()
    }
}

/// Client of a worker.
#[derive(Clone, Copy)]
pub(crate) enum WorkerCatalog<'a> {
    /// Through DuckDB.
    Session(&'a Session),
    /// On the connection that commits.
    Postgres(&'a PostgresConnection),
}

/// Error of a worker's statement.
#[derive(Debug, Error)]
pub(crate) enum WriteError {
    /// Error of DuckDB.
    #[error(transparent)]
    Session(#[from] duckdb::Error),
    /// Error of the connection.
    #[error(transparent)]
    Postgres(#[from] postgres_connection::WriteError),
}

impl WriteError {
    /// Returns the error for the operation that failed, an outage or a refusal.
    pub(crate) fn failed(self, what: String) -> LakeError {
        match self {
            Self::Session(error) => duckdb_error::failed(what, error),
            Self::Postgres(error) => error.failed(what),
        }
    }
}

impl CatalogClient for WorkerCatalog<'_> {
    type Error = WriteError;

    fn dialect(&self) -> &Dialect {
        match self {
            Self::Session(session) => session.dialect(),
            Self::Postgres(connection) => connection.dialect(),
        }
    }

    fn catalog_query<T: FromRow>(&self, sql: &str) -> Result<Vec<T>> {
        match self {
            Self::Session(session) => session.catalog_query(sql),
            Self::Postgres(connection) => connection.catalog_query(sql),
        }
    }

    fn written_table(&self, name: &str) -> String {
        match self {
            Self::Session(session) => session.written_table(name),
            Self::Postgres(connection) => connection.written_table(name),
        }
    }

    fn write(&self, sql: &str) -> Result<(), WriteError> {
        match self {
            Self::Session(session) => Ok(session.write(sql)?),
            Self::Postgres(connection) => Ok(connection.write(sql)?),
        }
    }
}
