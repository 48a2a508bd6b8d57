//! Starts whoever is missing, and says who ended that nobody ended.

use anyhow::Result;

use super::{
    compactor::Ended,
    inject::free,
    slot::{lost_its_name, was_killed},
    stage::Stage,
};

/// Starts whoever is missing. Says how a program ended that nobody ended.
pub(super) fn look_after(stage: &Stage) -> Result<()> {
    start_consumers(stage)?;
    look_after_compactor(stage)
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

fn look_after_compactor(stage: &Stage) -> Result<()> {
    let Some(mut place) = free(&stage.compactor) else { return Ok(()) };
    match place.ended()? {
        None => {}
        // At a step that it reached later than its fault waited for.
        Some(Ended::Killed) => stage.books().compactor_kills += 1,
        Some(Ended::ByItself(how)) => {
            stage.violated(format!("the compactor ended by itself: {how}"));
        }
    }
    if place.is_vacant() {
        place.start(&stage.pipeline, "")?;
    }
    Ok(())
}
