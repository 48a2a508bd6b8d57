//! Audits of the table during a run, at one moment, with DuckDB's command line.

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::environment::Environment;
use crate::{catalog::CatalogKind, duckdb_cli::quoted_path, pipeline::TABLE};

/// Result of an audit.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "printed with Debug if not exact")]
struct AuditResult {
    rows: u64,
    duplicates: u64,
    /// Acknowledged records below the next offset before the audit that are not in the table.
    missing: u64,
    /// Rows at or above the next offset after the audit.
    ahead: u64,
}

/// Audits the table once. Returns a description if it is not exact. An error means that the lake
/// could not be read, for example in an outage.
///
/// The ledger can lag, so rows that it does not contain yet are only checked at the end of the run.
/// Progress is read before and after the rows, since the reads are not atomic; a partition that was
/// replayed in between is skipped.
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
         CREATE TEMP TABLE checked AS SELECT p, before.n AS low, after.n AS high
             FROM before JOIN after USING (p, e);
         CREATE TEMP TABLE ledger AS SELECT \"partition\" AS p, \"offset\" AS o
             FROM read_csv({ledger}, header = true, nullstr = '', columns = {{
                 topic: 'VARCHAR', \"partition\": 'INTEGER', \"offset\": 'BIGINT',
                 event_id: 'UUID'}}) WHERE event_id IS NOT NULL;
         SELECT (SELECT count(*) FROM stored) AS rows,
             (SELECT count(*) FROM (FROM stored GROUP BY ALL HAVING count(*) > 1)) AS duplicates,
             (SELECT count(*) FROM ledger JOIN checked USING (p) ANTI JOIN stored USING (p, o)
                 WHERE o < low) AS missing,
             (SELECT count(*) FROM stored JOIN checked USING (p) WHERE o >= high) AS ahead",
        ledger = quoted_path(&environment.pipeline.ledger()),
    );
    let rows = environment.pipeline.lake()?.query(&sql).context("audit the table")?;
    let row = rows.into_iter().next().context("audit the table: no result")?;
    let result: AuditResult =
        serde_json::from_value(row).context("parse the result of an audit")?;
    let exact = result.duplicates == 0 && result.missing == 0 && result.ahead == 0;
    Ok((!exact).then(|| format!("the table was not exact in an audit: {result:?}")))
}

/// Returns true if an error means data loss and not an outage: a snapshot is gone, or a file that
/// it needs.
pub(super) fn is_data_lost(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    ["Cannot open file", "No files found", "No snapshot found", "404"]
        .iter()
        .any(|harm| text.contains(harm))
}

/// Audits the table and records violations. Retries if the lake cannot be read.
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
    // An outage is not a violation.
    if is_data_lost(&error) { Err(error) } else { Ok(()) }
}
