//! Who comes to the lake meanwhile, and expects to be left alone.

use anyhow::{Context as _, Result};

use super::{Done, free};
use crate::{
    chaos::{
        audit::is_harm_done,
        fault::Visit,
        stage::{Stage, lock},
    },
    pipeline::TABLE,
};

/// One transaction sees one lake, however long it lasts.
pub(super) fn slow_reader(stage: &Stage, for_ms: u64) -> Result<Done> {
    let look = format!(
        "SELECT count(*) AS rows, sum(hash(_kafka_partition, _kafka_offset)::HUGEINT) AS hash
             FROM lake.{TABLE}"
    );
    let sql = format!(
        "BEGIN;
         CREATE TEMP TABLE early AS {look};
         SELECT sleep_ms({for_ms});
         CREATE TEMP TABLE late AS {look};
         SELECT e.rows AS rows, l.rows AS rows_later, e.hash AS hash, l.hash AS hash_later
             FROM early e, late l"
    );
    match stage.pipeline.lake()?.query(&sql) {
        Ok(rows) => {
            let row = rows.first().context("a slow reader got no answer")?;
            if row["rows"] != row["rows_later"] || row["hash"] != row["hash_later"] {
                stage.violated(format!("a reader's transaction saw two lakes: {row}"));
            }
            Ok(Done::Injected)
        }
        Err(error) if is_harm_done(&error) => Err(error.context("a slow reader lost its files")),
        // The catalog's server went down.
        Err(_) => Ok(Done::LeftOut),
    }
}

pub(super) fn visit(stage: &Stage, visit: Visit) -> Result<Done> {
    // DuckLake itself removes the file of a plain INSERT when the answer to its COMMIT is lost, and
    // breaks the table: not while the server is killed.
    let server = stage.postgres.as_ref().map(free);
    if matches!(server, Some(None)) {
        return Ok(Done::LeftOut);
    }
    let mut guest = lock(&stage.guest);
    let done = guest.visit(&stage.pipeline.lake()?, visit)?;
    Ok(if done { Done::Injected } else { Done::LeftOut })
}
