//! Checks that old snapshots and the changes between them stay the same as long as they must be
//! readable.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{audit::is_data_lost, environment::Environment};
use crate::{duckdb_cli::Lake, pipeline::TABLE};

/// Age up to which an observation is checked: half of the compactor's retention.
const CHECKED_FOR: Duration = Duration::from_mins(1);

/// Content of a snapshot, or the changes between two snapshots.
#[derive(Debug)]
struct Observation {
    from: i64,
    /// Equal to `from` for the table at one snapshot.
    to: i64,
    at: Instant,
    /// Time of the oldest of its snapshots by the clock of its writer, in seconds since 1970.
    oldest: f64,
    /// Number of rows and their hash.
    content: Value,
}

/// Observations that are checked again.
#[derive(Debug, Default)]
pub(super) struct History {
    observations: Vec<Observation>,
}

impl Observation {
    /// Returns true while the compactor must keep the snapshots. It uses the time in the snapshot,
    /// and some writers have wrong clocks.
    fn must_be_unchanged(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.at.elapsed() < CHECKED_FOR
            && now.as_secs_f64() - self.oldest < CHECKED_FOR.as_secs_f64()
    }
}

impl History {
    /// Compares the earlier observations with the lake, then adds new ones. Returns the
    /// differences. An error is an outage, or a snapshot or file that is gone.
    fn check(&mut self, lake: &Lake) -> Result<Vec<String>> {
        self.observations.retain(Observation::must_be_unchanged);
        let changed = self.recheck(lake)?;
        let newest = lake.scalar("SELECT max(snapshot_id)::BIGINT AS id FROM lake.snapshots()")?;
        let newest = newest.as_i64().context("parse the newest snapshot")?;
        self.observe(lake, newest, newest)?;
        if let Some(from) = self.observations.iter().map(|seen| seen.to).find(|to| *to < newest) {
            self.observe(lake, from + 1, newest)?;
        }
        Ok(changed)
    }

    fn recheck(&self, lake: &Lake) -> Result<Vec<String>> {
        if self.observations.is_empty() {
            return Ok(Vec::new());
        }
        let queries = self.observations.iter().map(|seen| state_sql(seen.from, seen.to));
        let now = lake
            .query(&queries.collect::<Vec<_>>().join(" UNION ALL "))
            .context("read old snapshots")?;
        let violation = |seen: &Observation| {
            let now = now.iter().find(|now| now["from"] == seen.from && now["to"] == seen.to);
            (now != Some(&seen.content))
                .then(|| format!("an old snapshot changed: {seen:?}, now {now:?}"))
        };
        Ok(self.observations.iter().filter_map(violation).collect())
    }

    fn observe(&mut self, lake: &Lake, from: i64, to: i64) -> Result<()> {
        let Some(oldest) = oldest(lake, from, to)? else { return Ok(()) };
        let observation =
            Observation { from, to, at: Instant::now(), oldest, content: Value::Null };
        // A snapshot of a writer whose clock is hours behind expires immediately.
        if !observation.must_be_unchanged() {
            return Ok(());
        }
        let mut rows = lake.query(&state_sql(from, to)).context("read a snapshot")?;
        let content = rows.pop().context("read a snapshot: no result")?;
        self.observations.push(Observation { content, ..observation });
        Ok(())
    }
}

/// Returns the earliest time of the snapshots; None when some are expired.
fn oldest(lake: &Lake, from: i64, to: i64) -> Result<Option<f64>> {
    let sql = format!(
        "SELECT CASE WHEN count(*) = {to} - {from} + 1 THEN min(epoch(snapshot_time)) END AS oldest
             FROM lake.snapshots() WHERE snapshot_id BETWEEN {from} AND {to}"
    );
    Ok(lake.scalar(&sql)?.as_f64())
}

/// Returns the query for the rows of a snapshot, or for the changes of several.
fn state_sql(from: i64, to: i64) -> String {
    let (source, hashed) = if from == to {
        (format!("lake.{TABLE} AT (VERSION => {to})"), "")
    } else {
        (format!("lake.table_changes('{TABLE}', {from}, {to})"), "snapshot_id, change_type, ")
    };
    format!(
        "SELECT {from} AS \"from\", {to} AS \"to\", count(*) AS rows,
             sum(hash({hashed}_kafka_partition, _kafka_offset)::HUGEINT)::VARCHAR AS hash
             FROM {source}"
    )
}

/// Checks the history once, and records violations.
pub(super) fn check(environment: &Environment, history: &mut History) {
    let result = environment.pipeline.lake().and_then(|lake| history.check(&lake));
    match result {
        Ok(changed) => {
            environment.stats().history_checks += 1;
            for changed in changed {
                environment.add_violation(changed);
            }
        }
        // A slow check can read snapshots that need not be readable any more.
        Err(error)
            if is_data_lost(&error)
                && history.observations.iter().all(Observation::must_be_unchanged) =>
        {
            environment.add_violation(format!("an old snapshot is gone: {error:#}"));
        }
        Err(_) => {}
    }
}
