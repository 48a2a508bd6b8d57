//! Starts whoever is missing, and says who ended that nobody ended.

use std::time::Duration;

use anyhow::Result;

use super::{
    inject::free,
    slot::{lost_its_name, was_killed},
    stage::{self, Stage, lock},
};

/// Starts whoever is missing. Says how a program ended that nobody ended.
pub(super) fn look_after(stage: &Stage) -> Result<()> {
    start_consumers(stage)?;
    look_after_maintenance(stage)
}

/// The consumers only: they make the lake.
pub(super) fn start_consumers(stage: &Stage) -> Result<()> {
    for slot in &stage.slots {
        let Some(mut slot) = free(slot) else { continue };
        match slot.ended()? {
            None => {}
            // At a step that it reached later than its fault waited for.
            Some(finished) if was_killed(&finished) => stage.books().kills += 1,
            Some(finished) if lost_its_name(&finished) => stage.books().names_lost += 1,
            Some(finished) => {
                stage.violated(format!("a consumer ended by itself: {}", finished.status));
            }
        }
        if let Some(worker) = slot.worker()
            && worker.process().is_stopped()
        {
            worker.process().resume()?;
        }
        if slot.is_vacant() {
            slot.start(&stage.pipeline, "")?;
        }
    }
    Ok(())
}

fn look_after_maintenance(stage: &Stage) -> Result<()> {
    let mut maintenance = lock(&stage.maintenance);
    if let Some(running) = maintenance.as_mut() {
        if running.is_running()? {
            return Ok(());
        }
        let status = running.wait(Duration::ZERO)?.status;
        stage.violated(format!("the maintenance program ended by itself: {status}"));
    }
    *maintenance = Some(stage::start_maintenance(&stage.pipeline)?);
    Ok(())
}
