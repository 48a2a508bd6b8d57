//! Connection of a program to a PostgreSQL catalog, without DuckDB.
//!
//! A worker has one: it reads the catalog, commits, and holds the commit lock. The other locks have a
//! connection each, because they are held while the program does other things.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ducktide_protocol::cause::{self, Cause};
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::SourceId;
use postgres::error::{Severity, SqlState};
use postgres::{Client, SimpleQueryMessage, Statement};
use thiserror::Error;

use super::client::CatalogClient;
use super::dialect::Dialect;
use super::format;
use super::layout::{TriggerCheck, triggers_with_tables};
use crate::duckdb_error;
use crate::login;
use crate::postgres_settings::PostgresSettings;
use crate::rows::{FromRow, Row};

/// Name of the lock whose connection also reads and commits.
pub(super) const COMMIT_LOCK: &str = "commit";

/// Settings of the connection that reads and commits: each statement sees what was committed before it,
/// a server that hangs does not hold a worker up, and values have the texts that are parsed.
const COMMIT_SETTINGS: &str = "SET default_transaction_isolation = 'read committed'; \
    SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '30s'; \
    SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET standard_conforming_strings = on";

/// Returns the key of an advisory lock of this lake: two lakes may share one database.
pub(super) fn lock_key(name: &str, schema: &str) -> String {
    format!("hashtextextended('ducktide {name} ' || current_database() || '.{schema}', 0)")
}

/// A connection to the catalog. It is opened when it is first used, and again after it was lost.
pub(crate) struct PostgresConnection {
    settings: PostgresSettings,
    dialect: Dialect,
    schema: String,
    lock_name: &'static str,
    state: Mutex<State>,
}

/// An open connection.
#[derive(Default)]
struct State {
    client: Option<Client>,
    /// The call of the commit function, prepared on this connection.
    commit: Option<Statement>,
}

/// Error of a statement that writes.
#[derive(Debug, Error)]
pub(crate) enum WriteError {
    /// The connection could not be opened.
    #[error("{}", .0.chain())]
    Connect(LakeError),
    /// The statement failed. The error's details can contain values of rows.
    #[error("{}", describe(.0).0)]
    Statement(postgres::Error),
}

impl From<postgres::Error> for WriteError {
    fn from(error: postgres::Error) -> Self {
        Self::Statement(error)
    }
}

impl WriteError {
    /// Returns the error for the operation that failed, an outage or a refusal.
    pub(crate) fn failed(self, what: String) -> LakeError {
        match self {
            Self::Connect(error) => error,
            Self::Statement(error) if is_conflict(&error) => {
                LakeError::unavailable(what).because(describe(&error).0)
            }
            Self::Statement(error) => refused_or_unavailable(what, &error),
        }
    }
}

impl PostgresConnection {
    #[must_use]
    pub(crate) fn new(settings: &PostgresSettings, schema: &str, lock_name: &'static str) -> Self {
        Self {
            settings: settings.clone(),
            dialect: Dialect::Postgres { schema: schema.to_owned() },
            schema: schema.to_owned(),
            lock_name,
            state: Mutex::default(),
        }
    }

    /// Takes the lock; false if it is not free within `timeout`.
    pub(crate) fn lock(&self, timeout: Duration) -> Result<bool> {
        let take = format!(
            "SET lock_timeout = {}; SELECT pg_advisory_lock({})",
            timeout.as_millis().max(1),
            lock_key(self.lock_name, &self.schema)
        );
        let mut state = self.state();
        let client = self.connect(&mut state)?;
        match rows(client, &take) {
            Ok(_) => Ok(true),
            // 55P03: lock_not_available, that is, the lock's timeout.
            Err(error) if error.code().is_some_and(|code| code.code() == "55P03") => Ok(false),
            Err(error) => Err(failed(&format!("take the {} lock", self.lock_name), error)),
        }
    }

    /// Releases the lock. A connection that fails here is closed, which releases the lock too.
    pub(crate) fn unlock(&self) {
        let sql = format!("SELECT pg_advisory_unlock({})", lock_key(self.lock_name, &self.schema));
        let mut state = self.state();
        if state.client.as_mut().is_some_and(|client| rows(client, &sql).is_err()) {
            *state = State::default();
        }
    }

    /// Returns true if the current connection, which took the lock, still works.
    pub(crate) fn is_alive(&self) -> bool {
        let mut state = self.state();
        let client = state.client.as_mut().filter(|client| !client.is_closed());
        client.is_some_and(|client| client.simple_query("SELECT 1").is_ok())
    }

    /// Closes the connection; the next call opens a new one.
    pub(crate) fn close(&self) {
        *self.state() = State::default();
    }

    /// Checks the catalog's format, and presence and version of the triggers; returns true if an intent
    /// is announced.
    pub(crate) fn check_triggers(&self) -> Result<bool> {
        let (names, schema) = (triggers_with_tables(), &self.schema);
        let sql = format!(
            "SELECT (SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
               JOIN pg_namespace n ON n.oid = c.relnamespace \
              WHERE n.nspname = '{schema}' AND (t.tgname, c.relname) IN (VALUES {names}) \
               AND t.tgenabled IN ('A', 'O')) AS triggers, \
             (SELECT value FROM {schema}.ducktide_meta WHERE key = 'oldest_compatible_triggers') \
               AS oldest_compatible, \
             (SELECT count(*) FROM {schema}.ducktide_intent) AS intents, {} AS format",
            format::value_sql(&format!("{schema}.ducklake_metadata"))
        );
        let mut state = self.state();
        let client = self.connect(&mut state)?;
        let found = rows(client, &sql).map_err(|error| failed("check the triggers", error))?;
        let found = found.last().map(TriggerCheck::from_row).transpose()?;
        TriggerCheck::check(found.as_ref())
    }

    /// Calls the commit function, in one round trip once the connection is prepared. An error of the
    /// inner result means that the call was sent, so that its outcome is unknown.
    pub(crate) fn call_commit_function(
        &self,
        message: &str,
    ) -> Result<std::result::Result<String, postgres::Error>> {
        let mut state = self.state();
        self.connect(&mut state)?;
        let State { client: Some(client), commit } = &mut *state else {
            return Err(LakeError::unavailable("the connection was closed"));
        };
        if commit.is_none() {
            // A parameter: the server does not log it, so that no log has values of rows.
            let call =
                format!("SELECT {}.ducktide_commit_files($1::text::jsonb)::text", self.schema);
            *commit = Some(match client.prepare(&call) {
                Ok(statement) => statement,
                // Nothing was sent, but the function may be missing.
                Err(error) => return Ok(Err(error)),
            });
        }
        let Some(statement) = &*commit else { unreachable!("it was prepared above") };
        let answer = client.query_one(statement, &[&message]).map(|row| row.get(0));
        if answer.as_ref().is_err_and(postgres::Error::is_closed) || client.is_closed() {
            *state = State::default();
        }
        Ok(answer)
    }

    /// Inserts a source, and the message with the first positions of its partitions, in one transaction.
    /// `insert` returns the source's ID; `post` returns the statement for the message, if there is one.
    pub(super) fn insert_source(
        &self,
        insert: &str,
        post: impl FnOnce(SourceId) -> Option<String>,
    ) -> Result<(), WriteError> {
        let mut state = self.state();
        let client = self.connect(&mut state).map_err(WriteError::Connect)?;
        // Dropping it rolls it back.
        let mut transaction = client.transaction()?;
        let id: i32 = transaction.query_one(insert, &[])?.get(0);
        if let Some(post) = post(SourceId(id)) {
            transaction.batch_execute(&post)?;
        }
        Ok(transaction.commit()?)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in between leaves a connection whose next statement fails, at worst.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects, unless there is a connection.
    fn connect<'a>(&self, state: &'a mut State) -> Result<&'a mut Client> {
        if state.client.as_ref().is_none_or(Client::is_closed) {
            // The old one is closed first: the server may allow only one.
            *state = State::default();
            let mut client = connect(&self.settings)?;
            if self.lock_name == COMMIT_LOCK {
                client
                    .batch_execute(COMMIT_SETTINGS)
                    .map_err(|error| failed("set the connection's limits", error))?;
            }
            state.client = Some(client);
        }
        Ok(state.client.as_mut().expect("opened above"))
    }

    /// Reads rows. Repeats the query on a new connection if it finds the old one lost.
    fn read(&self, sql: &str) -> Result<Vec<Row>> {
        let mut state = self.state();
        let was_open = state.client.is_some();
        let mut answer = rows(self.connect(&mut state)?, sql);
        if was_open && answer.as_ref().is_err_and(is_lost) {
            *state = State::default();
            answer = rows(self.connect(&mut state)?, sql);
        }
        if answer.as_ref().is_err_and(is_lost) {
            *state = State::default();
        }
        answer.map_err(|error| refused_or_unavailable("read the catalog".to_owned(), &error))
    }
}

impl CatalogClient for PostgresConnection {
    type Error = WriteError;

    fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    fn catalog_query<T: FromRow>(&self, sql: &str) -> Result<Vec<T>> {
        self.read(sql)?.iter().map(T::from_row).collect()
    }

    fn written_table(&self, name: &str) -> String {
        self.dialect.table(name)
    }

    fn write(&self, sql: &str) -> Result<(), WriteError> {
        let mut state = self.state();
        let client = self.connect(&mut state).map_err(WriteError::Connect)?;
        let written = client.batch_execute(sql);
        if written.as_ref().is_err_and(is_lost) {
            *state = State::default();
        }
        Ok(written?)
    }

    fn roll_back(&self) {
        // A lost connection has been rolled back by the server.
        if let Some(client) = &mut self.state().client {
            let _ = client.batch_execute("ROLLBACK");
        }
    }
}

/// Runs statements, and returns their rows, with every value as text.
pub(super) fn rows(client: &mut Client, sql: &str) -> Result<Vec<Row>, postgres::Error> {
    let mut found = Vec::new();
    for message in client.simple_query(sql)? {
        if let SimpleQueryMessage::Row(row) = message {
            let columns = row.columns().iter().enumerate();
            let cells: Vec<_> = columns.map(|(i, column)| (column.name(), row.get(i))).collect();
            found.push(Row::of(&cells));
        }
    }
    Ok(found)
}

/// Returns true if another client was first: a trigger refused the row, or its key exists. The next attempt
/// reads what that client wrote.
fn is_conflict(error: &postgres::Error) -> bool {
    let conflicts =
        |code: &SqlState| *code == SqlState::RAISE_EXCEPTION || code.code().starts_with("23");
    error.code().is_some_and(conflicts)
}

/// Returns true if the connection cannot be used any more: the server, or a connection pooler, has ended
/// it.
fn is_lost(error: &postgres::Error) -> bool {
    let Some(db) = error.as_db_error() else { return true };
    let ends = matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
    ends || db.code().code().starts_with("08")
}

/// Opens a connection to the catalog.
pub(super) fn connect(settings: &PostgresSettings) -> Result<Client> {
    let what = "connect to the catalog (DUCKLAKE_CATALOG)";
    let invalid = |error| LakeError::setting(format!("DUCKLAKE_CATALOG: {error}"));
    let resolved = settings.resolve().map_err(invalid)?;
    let (config, tls) = resolved.client().map_err(invalid)?;
    let client = config.connect(tls).map_err(|error| failed(what, error))?;
    login::accepted(&resolved);
    Ok(client)
}

/// Classifies an error by its SQL state: unavailable if a retry helps, else invalid. Without a SQL state
/// the connection failed, which is unavailable unless the cause is a setting such as a certificate.
#[expect(clippy::needless_pass_by_value, reason = "the signature that `map_err` calls")]
pub(super) fn failed(what: &str, error: postgres::Error) -> LakeError {
    let (text, is_fault) = describe(&error);
    let error = if is_fault { LakeError::invalid(what) } else { LakeError::unavailable(what) };
    error.because(duckdb_error::with_remedy(text))
}

/// Classifies an error of a statement by its SQL state. A refusal is not final: tables and grants are
/// missing while a catalog is being restored.
fn refused_or_unavailable(what: String, error: &postgres::Error) -> LakeError {
    let (text, is_fault) = describe(error);
    let kind = if is_fault { LakeError::refused(what) } else { LakeError::unavailable(what) };
    kind.because(duckdb_error::with_remedy(text))
}

/// Returns the server's message, or that of the connection, and true if a retry cannot succeed.
pub(crate) fn describe(error: &postgres::Error) -> (String, bool) {
    let text = match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => chain(error),
    };
    let cause = match error.code() {
        Some(code) if *code == SqlState::INVALID_PASSWORD => login::cause_of_refused_password(),
        Some(code) => cause::of_sqlstate(code.code()),
        None if is_about_settings(&text) => Cause::Fault,
        None => Cause::Outage,
    };
    (text, cause == Cause::Fault)
}

/// Returns true if the server does not have the function that was called.
pub(crate) fn is_undefined_function(error: &postgres::Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_FUNCTION)
}

/// Recognizes messages of the client library and of OpenSSL, which have no SQL state.
fn is_about_settings(text: &str) -> bool {
    const FAULTS: [&str; 5] = [
        "certificate verify failed",
        "server does not support TLS",
        "password missing",
        "unsupported authentication method",
        "SASL",
    ];
    FAULTS.iter().any(|fault| text.contains(fault))
}

/// Returns the error with its causes, such as the certificate behind a handshake that failed.
fn chain(error: &postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let line = error.to_string();
        if !text.contains(&line) {
            text = format!("{text}: {line}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_and_password_errors_are_about_settings() {
        for text in [
            "error performing TLS handshake: certificate verify failed",
            "error performing TLS handshake: server does not support TLS",
            "invalid configuration: password missing",
            "authentication error: unsupported authentication method",
            "authentication error: unsupported SASL mechanism",
        ] {
            assert!(is_about_settings(text), "{text}");
        }
        assert!(!is_about_settings(
            "error connecting to server: Connection refused (os error 111)"
        ));
        assert!(!is_about_settings("connection closed"));
    }
}
