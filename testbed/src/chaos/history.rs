//! What once was seen stays so: old snapshots, and the changes between them, for as long as they are
//! to be readable.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{audit::is_harm_done, stage::Stage};
use crate::{duckdb_cli::Lake, pipeline::TABLE};

/// Half of what the compactor leaves readable.
const STAYS_FOR: Duration = Duration::from_mins(1);

/// What was seen.
#[derive(Debug)]
struct Seen {
    from: i64,
    /// The same for the table at one snapshot.
    to: i64,
    at: Instant,
    /// When the oldest of its snapshots was made, by the clock of who made it: seconds since 1970.
    oldest: f64,
    /// Count and hash.
    what: Value,
}

/// What was seen so far, and is to stay.
#[derive(Debug, Default)]
pub(super) struct History {
    seen: Vec<Seen>,
}

impl Seen {
    /// The compactor judges each snapshot by its own time, and some clocks are wrong.
    fn is_to_stay(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.at.elapsed() < STAYS_FOR && now.as_secs_f64() - self.oldest < STAYS_FOR.as_secs_f64()
    }
}

impl History {
    /// Looks at what was seen before, then at what is there now. An error is an outage, or a snapshot
    /// or file that is gone.
    fn look(&mut self, lake: &Lake) -> Result<Vec<String>> {
        self.seen.retain(Seen::is_to_stay);
        let changed = self.look_back(lake)?;
        let newest = lake.scalar("SELECT max(snapshot_id)::BIGINT AS id FROM lake.snapshots()")?;
        let newest = newest.as_i64().context("parse the newest snapshot")?;
        self.remember(lake, newest, newest)?;
        if let Some(from) = self.seen.iter().map(|seen| seen.to).find(|to| *to < newest) {
            self.remember(lake, from + 1, newest)?;
        }
        Ok(changed)
    }

    fn look_back(&self, lake: &Lake) -> Result<Vec<String>> {
        if self.seen.is_empty() {
            return Ok(Vec::new());
        }
        let looks: Vec<_> = self.seen.iter().map(|seen| look_sql(seen.from, seen.to)).collect();
        let now = lake.query(&looks.join(" UNION ALL ")).context("look back")?;
        let by_range = |seen: &Seen| {
            now.iter().find(|now| now["from"] == seen.from && now["to"] == seen.to).cloned()
        };
        let looked = self.seen.iter().map(|seen| (seen, by_range(seen)));
        let changed = looked.filter(|(seen, now)| now.as_ref() != Some(&seen.what));
        Ok(changed.map(|(seen, now)| format!("the past changed: {seen:?}, now {now:?}")).collect())
    }

    fn remember(&mut self, lake: &Lake, from: i64, to: i64) -> Result<()> {
        let Some(oldest) = oldest(lake, from, to)? else { return Ok(()) };
        let seen = Seen { from, to, at: Instant::now(), oldest, what: Value::Null };
        // One of a clock that is hours behind expires at once.
        if !seen.is_to_stay() {
            return Ok(());
        }
        let mut rows = lake.query(&look_sql(from, to)).context("look at the past")?;
        let what = rows.pop().context("look at the past: no answer")?;
        self.seen.push(Seen { what, ..seen });
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
fn look_sql(from: i64, to: i64) -> String {
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

/// Looks once, and books what was found.
pub(super) fn look(stage: &Stage, history: &mut History) {
    let looked = stage.pipeline.lake().and_then(|lake| history.look(&lake));
    match looked {
        Ok(changed) => {
            stage.books().looks_back += 1;
            for changed in changed {
                stage.violated(changed);
            }
        }
        // A look that took too long may meet what was to stay no longer.
        Err(error) if is_harm_done(&error) && history.seen.iter().all(Seen::is_to_stay) => {
            stage.violated(format!("the past is gone: {error:#}"));
        }
        Err(_) => {}
    }
}
