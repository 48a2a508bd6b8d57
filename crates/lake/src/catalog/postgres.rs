//! A PostgreSQL schema as catalog: workers on many machines.
//!
//! Workers commit by the function of `postgres_commit_files.sql`, on a connection of their own. Tables are read
//! through DuckDB, and written in the lake's own transactions. The separate connection also installs
//! triggers and holds the advisory lock.

use std::time::Duration;

use ducktide_protocol::cause::{self, Cause};
use ducktide_protocol::error::{LakeError, Result};
use postgres::error::SqlState;
use postgres::{Client, SimpleQueryMessage, Statement};

use super::format;
use super::layout::{
    Installed, LAYOUT_VERSION, TRIGGER_TABLES, TRIGGERS, TriggerCheck, check_trigger_version,
    meta_rows, raise_version_sql, triggers_with_tables, version_of,
};
use crate::duckdb_error;
use crate::postgres_settings::PostgresSettings;
use crate::rows::{FromRow as _, Row};

const SCHEMA: &str = include_str!("postgres.sql");

/// Function that workers commit with.
const COMMIT_FUNCTION: &str = include_str!("postgres_commit_files.sql");

/// Start of the part of the schema with the triggers and their functions.
const FIRST_FUNCTION: &str = "CREATE FUNCTION";

/// Settings of a connection that calls the commit function: each of its statements sees what was committed
/// before it, and a server that hangs does not hold a worker up.
const COMMIT_SETTINGS: &str = "SET default_transaction_isolation = 'read committed'; \
    SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '30s'";

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
            let restored = self.restore_triggers()?;
            let upgraded = self.upgrade()?;
            return Ok(if restored == Installed::Nothing { upgraded } else { restored });
        }
        transaction
            .batch_execute(&format!(
                "{}; {}; INSERT INTO {schema}.ducktide_meta(key, value) VALUES {}",
                SCHEMA.replace("@S@", schema),
                COMMIT_FUNCTION.replace("@S@", schema),
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

    /// Creates the commit function if it is missing or another one, and raises the layout's version. A
    /// newer layout is not changed.
    fn upgrade(&mut self) -> Result<Installed> {
        let Self { client, schema } = self;
        let failed = |error| failed("create the commit function", error);
        let mut transaction = client.transaction().map_err(failed)?;
        let version =
            format!("SELECT max(value) FROM {schema}.ducktide_meta WHERE key = 'layout_version'");
        let version: Option<String> = transaction.query_one(&version, &[]).map_err(failed)?.get(0);
        let version = version_of(version.as_deref());
        let body = transaction
            .query_opt(
                "SELECT p.prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
                 WHERE n.nspname = $1 AND p.proname = 'ducktide_commit_files' AND p.prosecdef",
                &[schema],
            )
            .map_err(failed)?
            .map(|row| row.get::<_, String>(0));
        let is_current = body.is_some_and(|body| body == commit_function_body(schema));
        if version > LAYOUT_VERSION || version == LAYOUT_VERSION && is_current {
            return Ok(Installed::Nothing);
        }
        let function = COMMIT_FUNCTION
            .replacen(FIRST_FUNCTION, "CREATE OR REPLACE FUNCTION", 1)
            .replace("@S@", schema);
        let raise = raise_version_sql(&format!("{schema}.ducktide_meta"));
        transaction
            .batch_execute(&format!("{function}; {raise}"))
            .and_then(|()| transaction.commit())
            .map(|()| Installed::Upgraded)
            .map_err(failed)
    }
}

/// Returns the body of the commit function, as `pg_proc` has it.
fn commit_function_body(schema: &str) -> String {
    let body = COMMIT_FUNCTION.split("$function$").nth(1).expect("the function has a body");
    body.replace("@S@", schema)
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
    /// The call of the commit function, prepared on this connection.
    commit: Option<Statement>,
}

impl LockConnection {
    #[must_use]
    pub(crate) fn new(settings: &PostgresSettings, schema: &str, name: &'static str) -> Self {
        Self {
            settings: settings.clone(),
            schema: schema.to_owned(),
            name,
            client: None,
            commit: None,
        }
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

    /// Calls the commit function, in one round trip once the connection is prepared. An error of the
    /// inner result means that the call was sent, so that its outcome is unknown.
    pub(crate) fn call_commit_function(
        &mut self,
        message: &str,
    ) -> Result<std::result::Result<String, postgres::Error>> {
        self.connect()?;
        let Some(client) = &mut self.client else {
            return Err(LakeError::unavailable("the connection was closed"));
        };
        if self.commit.is_none() {
            let prepared = client.batch_execute(COMMIT_SETTINGS).and_then(|()| {
                let schema = &self.schema;
                // A parameter: the server does not log it, so that no log has values of rows.
                client.prepare(&format!(
                    "SELECT {schema}.ducktide_commit_files($1::text::jsonb)::text"
                ))
            });
            self.commit = Some(match prepared {
                Ok(statement) => statement,
                // Nothing was sent, but the function may be missing.
                Err(error) => return Ok(Err(error)),
            });
        }
        let Some(statement) = &self.commit else { unreachable!("it was prepared above") };
        let answer = client.query_one(statement, &[&message]).map(|row| row.get(0));
        if answer.as_ref().is_err_and(postgres::Error::is_closed) || client.is_closed() {
            (self.client, self.commit) = (None, None);
        }
        Ok(answer)
    }

    /// Connects, unless there is a connection.
    fn connect(&mut self) -> Result<()> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            // The old one is closed first: the server may allow only one.
            (self.client, self.commit) = (None, None);
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
    let (text, is_fault) = describe(&error);
    let error = if is_fault { LakeError::invalid(what) } else { LakeError::unavailable(what) };
    error.because(duckdb_error::with_remedy(text))
}

/// Returns the server's message, or that of the connection, and true if a retry cannot succeed.
pub(crate) fn describe(error: &postgres::Error) -> (String, bool) {
    let text = match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => chain(error),
    };
    let cause = match error.code() {
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
