//! Looks at the lake while everything happens: at one moment, by another reader than ours.

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::environment::Environment;
use crate::{catalog::CatalogKind, duckdb_cli::quoted_path, pipeline::TABLE};

/// What one check found.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "all of it is shown where it is not exact")]
struct AuditResult {
    rows: u64,
    duplicates: u64,
    /// Acknowledged records below where their partition stood before, that are not in the table.
    missing: u64,
    /// Rows at or beyond where their partition stood afterwards.
    ahead: u64,
}

/// Looks once. An error means that the lake could not be read, in an outage log.
///
/// The ledger may lag, so only what it already says is asked for; rows that it does not know yet are
/// judged at the end. Progress is read before and after the rows, since two reads are two moments; a
/// partition that was replayed in between is left out.
pub(super) fn check(environment: &Environment, catalog: CatalogKind) -> Result<Option<String>> {
    let schema = if catalog == CatalogKind::Postgres { "public." } else { "" };
    let progress = format!(
        "SELECT \"partition\"::INTEGER AS p, epoch::INTEGER AS e, next_offset::BIGINT AS n
             FROM __ducklake_metadata_lake.{schema}ducktide_progress"
    );
    let sql = format!(
        "CREATE TEMP TABLE before AS {progress};
         CREATE TEMP TABLE stored AS SELECT _kafka_partition AS p, _kafka_offset AS o
             FROM lake.{TABLE};
         CREATE TEMP TABLE after AS {progress};
         CREATE TEMP TABLE judged AS SELECT p, before.n AS low, after.n AS high
             FROM before JOIN after USING (p, e);
         CREATE TEMP TABLE ledger AS SELECT \"partition\" AS p, \"offset\" AS o
             FROM read_csv({ledger}, header = true, nullstr = '', columns = {{
                 topic: 'VARCHAR', \"partition\": 'INTEGER', \"offset\": 'BIGINT',
                 event_id: 'UUID'}}) WHERE event_id IS NOT NULL;
         SELECT (SELECT count(*) FROM stored) AS rows,
             (SELECT count(*) FROM (FROM stored GROUP BY ALL HAVING count(*) > 1)) AS duplicates,
             (SELECT count(*) FROM ledger JOIN judged USING (p) ANTI JOIN stored USING (p, o)
                 WHERE o < low) AS missing,
             (SELECT count(*) FROM stored JOIN judged USING (p) WHERE o >= high) AS ahead",
        ledger = quoted_path(&environment.pipeline.ledger()),
    );
    let rows = environment.pipeline.lake()?.query(&sql).context("check at the lake")?;
    let row = rows.into_iter().next().context("check at the lake: no answer")?;
    let check: AuditResult = serde_json::from_value(row).context("parse what was seen")?;
    let exact = check.duplicates == 0 && check.missing == 0 && check.ahead == 0;
    Ok((!exact).then(|| format!("at a random moment the lake was not exact: {check:?}")))
}

/// Whether an error tells of something worse than an outage: a file that a reader's snapshot needs is
/// gone, or the snapshot itself.
pub(super) fn is_data_lost(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    ["Cannot open file", "No files found", "No snapshot found"]
        .iter()
        .any(|harm| text.contains(harm))
}

/// Looks, and stats what was found. A lake that cannot be read is result at again.
pub(super) fn audit(environment: &Environment, catalog: CatalogKind) -> Result<()> {
    const ATTEMPTS: usize = 4;
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match check(environment, catalog) {
            Ok(found) => {
                environment.stats().audits += 1;
                if let Some(found) = found {
                    environment.add_violation(found);
                }
                return Ok(());
            }
            Err(error) => last = Some(error),
        }
        environment.sleep(std::time::Duration::from_secs(5));
    }
    let error = last.expect("there were attempts");
    // Outages are part of the run.
    if is_data_lost(&error) { Err(error) } else { Ok(()) }
}
