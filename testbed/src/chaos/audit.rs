//! Looks at the lake while everything happens: at one moment, by another reader than ours.

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::stage::Stage;
use crate::{catalog::CatalogKind, duckdb_cli::quoted_path, pipeline::TABLE};

/// What one look found.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "all of it is shown where it is not exact")]
struct Look {
    rows: u64,
    doubled: u64,
    /// Acknowledged records below the progress of their partition that are not in the table.
    missing: u64,
    /// Rows at or beyond the progress of their partition.
    ahead: u64,
}

/// Looks once. An error means that the lake could not be read, in an outage say.
///
/// The ledger may lag, so only what it already says is asked for; rows that it does not know yet are
/// judged at the end.
pub(super) fn look(stage: &Stage, catalog: CatalogKind) -> Result<Option<String>> {
    let schema = if catalog == CatalogKind::Postgres { "public." } else { "" };
    let sql = format!(
        "BEGIN;
         CREATE TEMP TABLE progress AS SELECT \"partition\"::INTEGER AS p, next_offset::BIGINT AS n
             FROM __ducklake_metadata_lake.{schema}ducktide_progress;
         CREATE TEMP TABLE stored AS SELECT _kafka_partition AS p, _kafka_offset AS o
             FROM lake.{TABLE};
         COMMIT;
         CREATE TEMP TABLE ledger AS SELECT \"partition\" AS p, \"offset\" AS o
             FROM read_csv({ledger}, header = true, nullstr = '', columns = {{
                 topic: 'VARCHAR', \"partition\": 'INTEGER', \"offset\": 'BIGINT',
                 event_id: 'UUID'}});
         SELECT (SELECT count(*) FROM stored) AS rows,
             (SELECT count(*) FROM (FROM stored GROUP BY ALL HAVING count(*) > 1)) AS doubled,
             (SELECT count(*) FROM ledger JOIN progress USING (p) ANTI JOIN stored USING (p, o)
                 WHERE o < n) AS missing,
             (SELECT count(*) FROM stored LEFT JOIN progress USING (p)
                 WHERE n IS NULL OR o >= n) AS ahead",
        ledger = quoted_path(&stage.pipeline.ledger()),
    );
    let rows = stage.pipeline.lake()?.query(&sql).context("look at the lake")?;
    let row = rows.into_iter().next().context("look at the lake: no answer")?;
    let look: Look = serde_json::from_value(row).context("parse what was seen")?;
    let exact = look.doubled == 0 && look.missing == 0 && look.ahead == 0;
    Ok((!exact).then(|| format!("at a random moment the lake was not exact: {look:?}")))
}

/// Looks, and books what was found. A lake that cannot be read is looked at again.
pub(super) fn audit(stage: &Stage, catalog: CatalogKind) -> Result<()> {
    const ATTEMPTS: usize = 4;
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match look(stage, catalog) {
            Ok(found) => {
                stage.books().audits += 1;
                if let Some(found) = found {
                    stage.violated(found);
                }
                return Ok(());
            }
            Err(error) => last = Some(error),
        }
        stage.sleep(std::time::Duration::from_secs(5));
    }
    let error = last.expect("there were attempts");
    // Outages are part of the run; files that a reader's snapshot needs must be there.
    ensure!(!format!("{error:#}").contains("Cannot open file"), "{error:#}");
    Ok(())
}
