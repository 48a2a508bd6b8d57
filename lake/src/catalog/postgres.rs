//! A PostgreSQL schema as catalog: workers on many machines.
//!
//! Tables are read and written through DuckDB, in the lake's own transactions. This connection of
//! our own is for what DuckDB cannot do: to install triggers, and to hold the advisory lock.

use std::time::Duration;

use native_tls::{Certificate, TlsConnector};
use postgres::config::SslMode;
use postgres::{Client, Config, SimpleQueryMessage};
use postgres_native_tls::MakeTlsConnector;

use super::{Installed, TRIGGER_TABLES, TRIGGER_VERSION, TRIGGERS, format, meta_rows, parse};
use crate::error::{LakeError, Result};

const SCHEMA: &str = include_str!("postgres.sql");

/// Begins the part of the schema with the triggers and their functions.
const FIRST_FUNCTION: &str = "CREATE FUNCTION";

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Held while a lake is made: of two programs that make one at the same time, the second finds it
/// made. (PostgreSQL's own `CREATE SCHEMA IF NOT EXISTS` fails in that race.)
pub(crate) struct Installer {
    client: Client,
    schema: String,
}

impl Installer {
    /// Waits for its turn; the lock goes with the connection.
    pub(crate) fn lock(url: &str, schema: &str) -> Result<Self> {
        let mut client = connect(url)?;
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

    /// Creates all triggers and their functions anew when one of them is missing, disabled, or on
    /// another table.
    fn restore_triggers(&mut self) -> Result<Installed> {
        let Self { client, schema } = self;
        let failed = |error| failed("restore the triggers", error);
        let mut transaction = client.transaction().map_err(failed)?;
        let names = TRIGGERS.iter().zip(TRIGGER_TABLES);
        let names: Vec<_> = names.map(|(name, table)| format!("('{name}', '{table}')")).collect();
        let found: i64 = transaction
            .query_one(
                &format!(
                    "SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
                     JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 \
                     AND (t.tgname, c.relname) IN (VALUES {}) AND t.tgenabled IN ('A', 'O')",
                    names.join(", ")
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
        super::check_trigger_version(version.as_deref())?;
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

/// The key of an advisory lock of this lake: two lakes may share one database.
fn lock_key(name: &str, schema: &str) -> String {
    format!("hashtextextended('ducktide {name} ' || current_database() || '.{schema}', 0)")
}

/// The connection that holds an advisory lock.
pub(crate) struct LockConnection {
    url: String,
    schema: String,
    name: &'static str,
    client: Option<Client>,
}

impl LockConnection {
    pub(crate) fn new(url: &str, schema: &str, name: &'static str) -> Self {
        Self { url: url.to_owned(), schema: schema.to_owned(), name, client: None }
    }

    /// Whether the lock was free within `timeout`.
    pub(crate) fn lock(&mut self, timeout: Duration) -> Result<bool> {
        let take = format!(
            "SET lock_timeout = {}; SELECT pg_advisory_lock({})",
            timeout.as_millis().max(1),
            lock_key(self.name, &self.schema)
        );
        match self.query(&take) {
            Ok(_) => Ok(true),
            // 55P03: lock_not_available, that is, the lock's timeout.
            Err(error) if error.code().is_some_and(|code| code.code() == "55P03") => Ok(false),
            Err(error) => Err(failed(&format!("take the {} lock", self.name), error)),
        }
    }

    /// Gives the lock back. A connection that fails here is closed, and the lock goes with it.
    pub(crate) fn unlock(&mut self) {
        let sql = format!("SELECT pg_advisory_unlock({})", lock_key(self.name, &self.schema));
        if self.query(&sql).is_err() {
            self.client = None;
        }
    }

    /// Whether the connection that took the lock is the one that there is.
    pub(crate) fn is_alive(&mut self) -> bool {
        let client = self.client.as_mut().filter(|client| !client.is_closed());
        client.is_some_and(|client| client.simple_query("SELECT 1").is_ok())
    }

    /// Checks the catalog's format, and presence and version of the triggers; says whether an intent is announced.
    pub(crate) fn check_triggers(&mut self) -> Result<bool> {
        let names = TRIGGERS.map(|name| format!("'{name}'")).join(", ");
        let schema = &self.schema;
        let sql = format!(
            "SELECT (SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
               JOIN pg_namespace n ON n.oid = c.relnamespace \
              WHERE n.nspname = '{schema}' AND t.tgname IN ({names}) AND t.tgenabled IN ('A', 'O')), \
             (SELECT value FROM {schema}.ducktide_meta WHERE key = 'oldest_compatible_triggers'), \
             (SELECT count(*) FROM {schema}.ducktide_intent), {}",
            format::value_sql(&format!("{schema}.ducklake_metadata"))
        );
        let row = self.query(&sql).map_err(|error| failed("check the triggers", error))?;
        let mut row = row.into_iter();
        let found: usize = parse(row.next().flatten())?;
        let version: u32 = parse(row.next().flatten())?;
        let intents: u32 = parse(row.next().flatten())?;
        format::require(row.next().flatten().as_deref())?;
        super::require_triggers(found, version, TRIGGER_VERSION).map(|()| intents > 0)
    }

    /// Runs statements; the values of the last row come back as text.
    fn query(&mut self, sql: &str) -> Result<Vec<Option<String>>, postgres::Error> {
        let client = match &mut self.client {
            Some(client) if !client.is_closed() => client,
            slot => slot.insert(connect_raw(&self.url)?),
        };
        let mut last = Vec::new();
        for message in client.simple_query(sql)? {
            if let SimpleQueryMessage::Row(row) = message {
                last = (0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect();
            }
        }
        Ok(last)
    }
}

fn connect(url: &str) -> Result<Client> {
    connect_raw(url).map_err(|error| failed("connect to the catalog (DUCKLAKE_CATALOG)", error))
}

fn connect_raw(url: &str) -> Result<Client, postgres::Error> {
    let (url, tls) = split_tls(url);
    let mut config: Config = url.parse()?;
    config
        .application_name("ducktide")
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(20));
    if let Some(mode) = tls.mode {
        config.ssl_mode(mode);
    }
    config.connect(MakeTlsConnector::new(tls.connector))
}

struct Tls {
    mode: Option<SslMode>,
    connector: TlsConnector,
}

/// Takes libpq's TLS parameters out of the URL: the client knows fewer values of them than libpq.
/// As in libpq, certificates are only checked for `verify-ca` and `verify-full`.
fn split_tls(url: &str) -> (String, Tls) {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mut kept = Vec::new();
    let mut mode = None;
    let mut builder = TlsConnector::builder();
    builder.danger_accept_invalid_certs(true).danger_accept_invalid_hostnames(true);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", "disable")) => mode = Some(SslMode::Disable),
            Some(("sslmode", "require")) => mode = Some(SslMode::Require),
            Some(("sslmode", "verify-ca")) => {
                mode = Some(SslMode::Require);
                builder.danger_accept_invalid_certs(false);
            }
            Some(("sslmode", "verify-full")) => {
                mode = Some(SslMode::Require);
                builder.danger_accept_invalid_certs(false).danger_accept_invalid_hostnames(false);
            }
            Some(("sslmode", _)) => {}
            Some(("sslrootcert", path)) => {
                if let Some(certificate) =
                    std::fs::read(path).ok().and_then(|pem| Certificate::from_pem(&pem).ok())
                {
                    builder.add_root_certificate(certificate);
                }
            }
            _ => kept.push(pair),
        }
    }
    let url = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
    let connector = builder.build().expect("the platform's TLS library accepts its own defaults");
    (url, Tls { mode, connector })
}

/// Whether waiting helps: PostgreSQL answered with an SQL state, or it did not answer at all.
#[expect(clippy::needless_pass_by_value, reason = "the signature that `map_err` calls")]
fn failed(what: &str, error: postgres::Error) -> LakeError {
    let passing = error.code().is_none_or(|code| {
        // 08 connection, 53 resources, 55 busy objects, 57 operator intervention, 40 serialization.
        ["08", "53", "55", "57", "40"].iter().any(|class| code.code().starts_with(class))
    });
    let text = match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => format!("{error}"),
    };
    if passing { LakeError::unavailable(what) } else { LakeError::invalid(what) }.because(text)
}
