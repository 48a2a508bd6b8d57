//! Restarts programs that have ended, and records unexpected ends.

use anyhow::Result;

use super::{
    compactor_slot::Exit,
    consumer_slot::{was_fenced_by_name, was_killed},
    environment::Environment,
    inject::outcome::free,
};

/// Restarts programs that have ended. Records a violation for an unexpected end.
pub(super) fn supervise(environment: &Environment) -> Result<()> {
    start_consumers(environment)?;
    supervise_compactor(environment)
}

/// Starts the consumers only: they create the lake.
pub(super) fn start_consumers(environment: &Environment) -> Result<()> {
    for slot in &environment.slots {
        let Some(mut slot) = free(slot) else { continue };
        match slot.ended()? {
            None => {}
            // At a failpoint that it reached after the timeout of its fault.
            Some(finished) if was_killed(&finished) => environment.stats().kills += 1,
            Some(finished) if was_fenced_by_name(&finished) => {
                environment.stats().members_fenced += 1;
            }
            Some(finished) => {
                environment
                    .add_violation(format!("a consumer ended unexpectedly: {}", finished.status));
            }
        }
        if let Some(worker) = slot.worker()
            && worker.process().is_stopped()
        {
            worker.process().resume()?;
        }
        if slot.is_vacant() {
            slot.start(&environment.pipeline, "")?;
        }
    }
    Ok(())
}

fn supervise_compactor(environment: &Environment) -> Result<()> {
    let Some(mut slot) = free(&environment.compactor) else { return Ok(()) };
    match slot.ended()? {
        None => {}
        // At a failpoint that it reached after the timeout of its fault.
        Some(Exit::Killed) => environment.stats().compactor_kills += 1,
        Some(Exit::Unexpected(how)) => {
            environment.add_violation(format!("the compactor ended unexpectedly: {how}"));
        }
    }
    if slot.is_vacant() {
        slot.start(&environment.pipeline, "")?;
    }
    Ok(())
}
