//! What once was observations stays so: old snapshots, and the changes between them, for as long as they are
//! to be readable.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{audit::is_data_lost, environment::Environment};
use crate::{duckdb_cli::Lake, pipeline::TABLE};

/// Half of what the compactor leaves readable.
const CHECKED_FOR: Duration = Duration::from_mins(1);

/// What was observations.
#[derive(Debug)]
struct Observation {
    from: i64,
    /// The same for the table at one snapshot.
    to: i64,
    at: Instant,
    /// When the oldest of its snapshots was made, by the clock of who made it: seconds since 1970.
    oldest: f64,
    /// Count and hash.
    what: Value,
}

/// What was observations so far, and is to stay.
#[derive(Debug, Default)]
pub(super) struct History {
    observations: Vec<Observation>,
}

impl Observation {
    /// The compactor judges each snapshot by its own time, and some clocks are wrong.
    fn must_be_unchanged(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.at.elapsed() < CHECKED_FOR
            && now.as_secs_f64() - self.oldest < CHECKED_FOR.as_secs_f64()
    }
}

impl History {
    /// Looks at what was observations before, then at what is there now. An error is an outage, or a snapshot
    /// or file that is gone.
    fn check(&mut self, lake: &Lake) -> Result<Vec<String>> {
        self.observations.retain(Observation::must_be_unchanged);
        let changed = self.recheck(lake)?;
        let newest = lake.scalar("SELECT max(snapshot_id)::BIGINT AS id FROM lake.snapshots()")?;
        let newest = newest.as_i64().context("parse the newest snapshot")?;
        self.observe(lake, newest, newest)?;
        if let Some(from) =
            self.observations.iter().map(|observations| observations.to).find(|to| *to < newest)
        {
            self.observe(lake, from + 1, newest)?;
        }
        Ok(changed)
    }

    fn recheck(&self, lake: &Lake) -> Result<Vec<String>> {
        if self.observations.is_empty() {
            return Ok(Vec::new());
        }
        let looks: Vec<_> = self
            .observations
            .iter()
            .map(|observations| state_sql(observations.from, observations.to))
            .collect();
        let now = lake.query(&looks.join(" UNION ALL ")).context("check back")?;
        let by_range = |observations: &Observation| {
            now.iter()
                .find(|now| now["from"] == observations.from && now["to"] == observations.to)
                .cloned()
        };
        let result =
            self.observations.iter().map(|observations| (observations, by_range(observations)));
        let changed = result.filter(|(observations, now)| now.as_ref() != Some(&observations.what));
        Ok(changed
            .map(|(observations, now)| format!("the past changed: {observations:?}, now {now:?}"))
            .collect())
    }

    fn observe(&mut self, lake: &Lake, from: i64, to: i64) -> Result<()> {
        let Some(oldest) = oldest(lake, from, to)? else { return Ok(()) };
        let observations = Observation { from, to, at: Instant::now(), oldest, what: Value::Null };
        // One of a clock that is hours behind expires at once.
        if !observations.must_be_unchanged() {
            return Ok(());
        }
        let mut rows = lake.query(&state_sql(from, to)).context("check at the past")?;
        let what = rows.pop().context("check at the past: no answer")?;
        self.observations.push(Observation { what, ..observations });
        Ok(())
    }
}

/// The earliest time of the snapshots; None when some are expired.
fn oldest(lake: &Lake, from: i64, to: i64) -> Result<Option<f64>> {
    let sql = format!(
        "SELECT CASE WHEN count(*) = {to} - {from} + 1 THEN min(epoch(snapshot_time)) END AS oldest
             FROM lake.snapshots() WHERE snapshot_id BETWEEN {from} AND {to}"
    );
    Ok(lake.scalar(&sql)?.as_f64())
}

/// One snapshot's rows, or the changes of several.
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

/// Looks once, and stats what was found.
pub(super) fn check(environment: &Environment, history: &mut History) {
    let result = environment.pipeline.lake().and_then(|lake| history.check(&lake));
    match result {
        Ok(changed) => {
            environment.stats().history_checks += 1;
            for changed in changed {
                environment.add_violation(changed);
            }
        }
        // A check that took too long may meet what was to stay no longer.
        Err(error)
            if is_data_lost(&error)
                && history.observations.iter().all(Observation::must_be_unchanged) =>
        {
            environment.add_violation(format!("the past is gone: {error:#}"));
        }
        Err(_) => {}
    }
}
