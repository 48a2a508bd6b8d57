//! Replays by an operator.

use std::time::Duration;

use anyhow::Result;
use uuid::Uuid;

use super::outcome::{MOMENT_TIMEOUT, Outcome};
use crate::{catalog::Catalog, chaos::environment::Environment};

pub(super) fn replay(
    environment: &Environment,
    partition: i32,
    offsets: i64,
    killed_after_ms: Option<u64>,
) -> Result<Outcome> {
    let pipeline = &environment.pipeline;
    let Ok(next_offset) = Catalog::at(&pipeline.catalog)?.next_offset(partition) else {
        return Ok(Outcome::Skipped);
    };
    let from = (next_offset - offsets).max(0).to_string();
    let mut replay = pipeline
        .ducktide(&["replay", "--topic", &pipeline.topic, "--partition", &partition.to_string()])?
        .args(["--from-offset", &from, "--max-transaction", "10"])
        .start(pipeline.logs(), &format!("replay-{}", Uuid::new_v4().simple()))?;
    if let Some(after) = killed_after_ms {
        environment.sleep(Duration::from_millis(after));
        return replay.kill().map(|_| Outcome::Injected);
    }
    let finished = replay.wait(MOMENT_TIMEOUT * 6)?;
    // It fails in an outage, or while another replay is running.
    Ok(if finished.status.success() { Outcome::Injected } else { Outcome::Skipped })
}
