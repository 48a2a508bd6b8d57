//! What an operator does meanwhile.

use std::time::Duration;

use anyhow::Result;
use uuid::Uuid;

use super::{Done, PATIENCE};
use crate::{catalog::Catalog, chaos::stage::Stage, program::Program};

pub(super) fn replay(
    stage: &Stage,
    partition: i32,
    offsets: i64,
    killed_after_ms: Option<u64>,
) -> Result<Done> {
    let pipeline = &stage.pipeline;
    let Ok(stands) = Catalog::at(&pipeline.catalog)?.next_offset(partition) else {
        return Ok(Done::LeftOut);
    };
    let from = (stands - offsets).max(0).to_string();
    let mut replay = Program::named("ducktide")?
        .args(["replay", "--topic", &pipeline.topic, "--partition", &partition.to_string()])
        .args(["--from-offset", &from, "--max-transaction", "10"])
        .args(["--catalog", &pipeline.catalog])
        .args(["--bootstrap-servers", &pipeline.bootstrap_servers])
        .start(pipeline.logs(), &format!("replay-{}", Uuid::new_v4().simple()))?;
    if let Some(after) = killed_after_ms {
        stage.sleep(Duration::from_millis(after));
        return replay.kill().map(|_| Done::Injected);
    }
    let finished = replay.wait(PATIENCE * 6)?;
    // In an outage, or beside another replay, it refuses.
    Ok(if finished.status.success() { Done::Injected } else { Done::LeftOut })
}
