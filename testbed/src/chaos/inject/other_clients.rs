//! Other clients of the lake, which must not be disturbed.

use anyhow::{Context as _, Result};

use super::outcome::{Outcome, free};
use crate::{
    chaos::{
        audit::is_data_lost,
        environment::{Environment, lock},
        fault::ForeignWrite,
    },
    pipeline::TABLE,
};

/// Checks that a long transaction reads the same rows at its start and at its end.
pub(super) fn slow_reader(environment: &Environment, for_ms: u64) -> Result<Outcome> {
    let statistics = format!(
        "SELECT count(*) AS rows, sum(hash(_kafka_partition, _kafka_offset)::HUGEINT) AS hash
             FROM lake.{TABLE}"
    );
    let sql = format!(
        "BEGIN;
         CREATE TEMP TABLE early AS {statistics};
         SELECT sleep_ms({for_ms});
         CREATE TEMP TABLE late AS {statistics};
         SELECT e.rows AS rows, l.rows AS rows_later, e.hash AS hash, l.hash AS hash_later
             FROM early e, late l"
    );
    match environment.pipeline.lake()?.query(&sql) {
        Ok(rows) => {
            let row = rows.first().context("a slow reader got no result")?;
            if row["rows"] != row["rows_later"] || row["hash"] != row["hash_later"] {
                environment
                    .add_violation(format!("a reader's transaction read different rows: {row}"));
            }
            Ok(Outcome::Injected)
        }
        Err(error) if is_data_lost(&error) => Err(error.context("files of a slow reader are gone")),
        // The database server is down.
        Err(_) => Ok(Outcome::Skipped),
    }
}

pub(super) fn foreign_write(environment: &Environment, write: ForeignWrite) -> Result<Outcome> {
    // DuckLake deletes the file of a plain INSERT when the response to its COMMIT is lost, and so
    // breaks the table. Therefore not while the server is killed.
    let server = environment.postgres.as_ref().map(free);
    if matches!(server, Some(None)) {
        return Ok(Outcome::Skipped);
    }
    let mut foreign_writer = lock(&environment.foreign_writer);
    let done = foreign_writer.write(&environment.pipeline.lake()?, write)?;
    Ok(if done { Outcome::Injected } else { Outcome::Skipped })
}
