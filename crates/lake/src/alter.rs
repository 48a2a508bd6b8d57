//! Adds the columns of newer schemas: the first worker adds them, the others continue.
//!
//! An ALTER ends the open transactions of all other writers to the table. They detect the
//! change, read their records again, and write files of the new shape: a file of the old shape is never
//! registered.

use std::time::Instant;

use ducktide_protocol::Table;
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::table::{Column, TableName, TableShape, quote_identifier};

use crate::catalog::intent::{self, Intent};
use crate::catalog::vacant_name;
use crate::duck_lake::DuckLake;
use crate::duckdb_error;
use crate::session::{LAKE, Session};

/// Maximum number of attempts when the ALTER conflicts with that of another worker.
const ATTEMPTS: usize = 5;

/// Adds the missing columns in one transaction; returns the table.
pub(crate) fn add_columns(
    lake: &mut DuckLake,
    table: &TableName,
    columns: &[Column],
) -> Result<Table> {
    let failed = || format!("add columns: table=`{table}`");
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let Some(found) = lake.find_table(table)? else {
            return Err(vacant_name::dropped(&lake.catalog()?, table)?);
        };
        let missing = missing(&found.shape, columns);
        if missing.is_empty() {
            return Ok(found);
        }
        let (session, lock) = lake.session_and_lock()?;
        await_replays(session, table)?;
        let guard = lock.acquire(session)?;
        let altered = session.execute(&add_columns_sql(table, &missing));
        if altered.is_err() {
            // The transaction may have ended already.
            let _ = session.execute("ROLLBACK");
        }
        drop(guard);
        match altered {
            Ok(()) => tracing::info!(%table, columns = names(&missing), "columns added"),
            Err(error) => {
                // Another worker may have been first; the next attempt reads the current columns.
                tracing::debug!(%table, %error, "columns could not be added");
                lake.handle_error(&error.to_string());
                last = Some(error);
            }
        }
    }
    Err(match last {
        Some(error) => duckdb_error::failed(failed(), error),
        None => LakeError::unavailable(failed()),
    })
}

/// Returns the columns that a table does not have with any type.
fn missing(shape: &TableShape, columns: &[Column]) -> Vec<Column> {
    columns.iter().filter(|column| !shape.has_path(&column.name)).cloned().collect()
}

/// Waits for announced replays of the table: an ALTER would make a replay's DELETE fail.
fn await_replays(session: &Session, table: &TableName) -> Result<()> {
    let name = table.to_string();
    let concerns = |intent: &Intent| intent.table == name;
    if intent::is_replay_announced(session, concerns)? {
        intent::await_replays(session, Instant::now() + intent::LONGEST_WAIT, concerns)?;
    }
    Ok(())
}

/// Returns the transaction. It omits IF NOT EXISTS, which accepts a column of another type.
fn add_columns_sql(table: &TableName, columns: &[Column]) -> String {
    let name = format!("{LAKE}.{}", table.sql());
    let statements = columns.iter().map(|column| {
        let path = column.name.split('.').map(quote_identifier).collect::<Vec<_>>().join(".");
        format!("ALTER TABLE {name} ADD COLUMN {path} {}; ", column.column_type.sql())
    });
    format!(
        "BEGIN; {}CALL {LAKE}.set_commit_message('ducktide-consumer', 'add columns'); COMMIT",
        statements.collect::<String>()
    )
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(" ")
}
