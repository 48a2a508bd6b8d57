//! A PostgreSQL schema as catalog: workers on many machines.
//!
//! This module creates Ducktide's tables, triggers and functions. Workers read the catalog and commit,
//! by the function of `postgres_commit_files.sql`, on a connection of their own
//! ([`postgres_connection`](super::postgres_connection)).

use ducktide_protocol::error::Result;
use postgres::Client;

use super::layout::{
    Installed, LAYOUT_VERSION, TRIGGER_TABLES, TRIGGERS, check_trigger_version, meta_rows,
    raise_version_sql, triggers_with_tables, version_of,
};
use super::pooler;
use super::postgres_connection::{connect, failed, lock_key};
use crate::postgres_settings::PostgresSettings;

const SCHEMA: &str = include_str!("postgres.sql");

/// Function that workers commit with.
const COMMIT_FUNCTION: &str = include_str!("postgres_commit_files.sql");

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
        pooler::refuse_transaction_pooling(settings)?;
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
