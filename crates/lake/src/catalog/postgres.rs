//! A PostgreSQL schema as catalog: workers on many machines.
//!
//! Tables are read and written through DuckDB, in the lake's own transactions. The
//! separate connection is for operations that DuckDB lacks: installing triggers and holding the advisory
//! lock.

use std::time::Duration;

use ducktide_protocol::cause::{self, Cause};
use ducktide_protocol::error::{LakeError, Result};
use postgres::{Client, SimpleQueryMessage};

use super::format;
use super::layout::{
    Installed, TRIGGER_TABLES, TRIGGERS, TriggerCheck, check_trigger_version, meta_rows,
    triggers_with_tables,
};
use crate::duckdb_error;
use crate::postgres_settings::PostgresSettings;
use crate::rows::{FromRow as _, Row};

const SCHEMA: &str = include_str!("postgres.sql");

/// Start of the part of the schema with the triggers and their functions.
const FIRST_FUNCTION: &str = "CREATE FUNCTION";

/// Lock held while a lake is created: of two concurrent installations, the second finds the lake
/// created. (PostgreSQL's own `CREATE SCHEMA IF NOT EXISTS` fails in that race.)
pub(crate) struct Installer {
    client: Client,
    schema: String,
}

impl Installer {
    /// Waits for the installation lock, which is released when the connection closes.
    pub(crate) fn lock(settings: &PostgresSettings, schema: &str) -> Result<Self> {
        let mut client = connect(settings)?;
        client
            .batch_execute(&format!("SELECT pg_advisory_lock({})", lock_key("install", schema)))
            .map_err(|error| failed("take the installation lock", error))?;
        Ok(Self { client, schema: schema.to_owned() })
    }

    pub(crate) fn install(&mut self, facts: &[(&str, String)]) -> Result<Installed> {
        let Self { client, schema } = self;
        let failed = |error| failed("create the Ducktide tables", error);
        let mut transaction = client.transaction().map_err(failed)?;
        let installed: bool = transaction
            .query_one(
                "SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = 'ducktide_meta')",
                &[schema],
            )
            .map_err(failed)?
            .get(0);
        if installed {
            drop(transaction);
            return self.restore_triggers();
        }
        transaction
            .batch_execute(&format!(
                "{}; INSERT INTO {schema}.ducktide_meta(key, value) VALUES {}",
                SCHEMA.replace("@S@", schema),
                meta_rows(facts)
            ))
            .and_then(|()| transaction.commit())
            .map(|()| Installed::Created)
            .map_err(failed)
    }

    /// Recreates all triggers and their functions when one of them is missing, disabled, or on another
    /// table.
    fn restore_triggers(&mut self) -> Result<Installed> {
        let Self { client, schema } = self;
        let failed = |error| failed("restore the triggers", error);
        let mut transaction = client.transaction().map_err(failed)?;
        let found: i64 = transaction
            .query_one(
                &format!(
                    "SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
                     JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 \
                     AND (t.tgname, c.relname) IN (VALUES {}) AND t.tgenabled IN ('A', 'O')",
                    triggers_with_tables()
                ),
                &[schema],
            )
            .map_err(failed)?
            .get(0);
        if usize::try_from(found) == Ok(TRIGGERS.len()) {
            return Ok(Installed::Nothing);
        }
        let version =
            format!("SELECT max(value) FROM {schema}.ducktide_meta WHERE key = 'trigger_version'");
        let version: Option<String> = transaction.query_one(&version, &[]).map_err(failed)?.get(0);
        check_trigger_version(version.as_deref())?;
        let (_, triggers) = SCHEMA.split_once(FIRST_FUNCTION).expect("the schema has functions");
        let triggers = format!("{FIRST_FUNCTION}{triggers}")
            .replace(FIRST_FUNCTION, "CREATE OR REPLACE FUNCTION")
            .replace("@S@", schema);
        let on_tables = TRIGGERS.iter().zip(TRIGGER_TABLES);
        let drop: Vec<_> = on_tables
            .map(|(name, table)| format!("DROP TRIGGER IF EXISTS {name} ON {schema}.{table};"))
            .collect();
        let drop = drop.join(" ");
        transaction
            .batch_execute(&format!("{drop}{triggers}"))
            .and_then(|()| transaction.commit())
            .map(|()| Installed::TriggersRestored)
            .map_err(failed)
    }
}

/// Returns the key of an advisory lock of this lake: two lakes may share one database.
fn lock_key(name: &str, schema: &str) -> String {
    format!("hashtextextended('ducktide {name} ' || current_database() || '.{schema}', 0)")
}

/// The connection that holds an advisory lock.
pub(crate) struct LockConnection {
    settings: PostgresSettings,
    schema: String,
    name: &'static str,
    client: Option<Client>,
}

impl LockConnection {
    #[must_use]
    pub(crate) fn new(settings: &PostgresSettings, schema: &str, name: &'static str) -> Self {
        Self { settings: settings.clone(), schema: schema.to_owned(), name, client: None }
    }

    /// Takes the lock; false if it is not free within `timeout`.
    pub(crate) fn lock(&mut self, timeout: Duration) -> Result<bool> {
        let take = format!(
            "SET lock_timeout = {}; SELECT pg_advisory_lock({})",
            timeout.as_millis().max(1),
            lock_key(self.name, &self.schema)
        );
        self.connect()?;
        match self.query(&take) {
            Ok(_) => Ok(true),
            // 55P03: lock_not_available, that is, the lock's timeout.
            Err(error) if error.code().is_some_and(|code| code.code() == "55P03") => Ok(false),
            Err(error) => Err(failed(&format!("take the {} lock", self.name), error)),
        }
    }

    /// Releases the lock. A connection that fails here is closed, which releases the lock too.
    pub(crate) fn unlock(&mut self) {
        let sql = format!("SELECT pg_advisory_unlock({})", lock_key(self.name, &self.schema));
        if self.client.is_some() && self.query(&sql).is_err() {
            self.client = None;
        }
    }

    /// Returns true if the current connection, which took the lock, still works.
    pub(crate) fn is_alive(&mut self) -> bool {
        let client = self.client.as_mut().filter(|client| !client.is_closed());
        client.is_some_and(|client| client.simple_query("SELECT 1").is_ok())
    }

    /// Checks the catalog's format, and presence and version of the triggers; returns true if an intent
    /// is announced.
    pub(crate) fn check_triggers(&mut self) -> Result<bool> {
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
        self.connect()?;
        let row = self.query(&sql).map_err(|error| failed("check the triggers", error))?;
        let found = row.as_ref().map(TriggerCheck::from_row).transpose()?;
        TriggerCheck::check(found.as_ref())
    }

    /// Connects, unless there is a connection.
    fn connect(&mut self) -> Result<()> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            // The old one is closed first: the server may allow only one.
            self.client = None;
            self.client = Some(connect(&self.settings)?);
        }
        Ok(())
    }

    /// Runs statements on the connection, and returns the last row.
    fn query(&mut self, sql: &str) -> Result<Option<Row>, postgres::Error> {
        let mut last = None;
        let Some(client) = &mut self.client else { return Ok(last) };
        for message in client.simple_query(sql)? {
            if let SimpleQueryMessage::Row(row) = message {
                let columns = row.columns().iter().enumerate();
                let cells: Vec<_> =
                    columns.map(|(i, column)| (column.name(), row.get(i))).collect();
                last = Some(Row::of(&cells));
            }
        }
        Ok(last)
    }
}

/// Opens a connection to the catalog.
fn connect(settings: &PostgresSettings) -> Result<Client> {
    let what = "connect to the catalog (DUCKLAKE_CATALOG)";
    let resolved = settings.resolve().and_then(|resolved| resolved.client());
    let (config, tls) =
        resolved.map_err(|error| LakeError::setting(format!("DUCKLAKE_CATALOG: {error}")))?;
    config.connect(tls).map_err(|error| failed(what, error))
}

/// Classifies an error by its SQL state: unavailable if a retry helps, else invalid. Without a SQL state
/// the connection failed, which is unavailable unless the cause is a setting such as a certificate.
#[expect(clippy::needless_pass_by_value, reason = "the signature that `map_err` calls")]
fn failed(what: &str, error: postgres::Error) -> LakeError {
    let text = match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => chain(&error),
    };
    let cause = match error.code() {
        Some(code) => cause::of_sqlstate(code.code()),
        None if is_about_settings(&text) => Cause::Fault,
        None => Cause::Outage,
    };
    let error = match cause {
        Cause::Outage => LakeError::unavailable(what),
        Cause::Fault => LakeError::invalid(what),
    };
    error.because(duckdb_error::with_remedy(text))
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
