//! What happens to the compactor.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use uuid::Uuid;

use super::{Outcome, free, moment_within};
use crate::{
    chaos::{
        compactor_slot::{CompactorSlot, Exit, STOP_TIMEOUT, start},
        environment::Environment,
    },
    program::RunningProgram,
    wait,
};

/// How long a compactor may take to come to a merge: others that want to kill it wait.
const MERGES_WITHIN: Duration = Duration::from_secs(6);

/// How long one that is started beside another may take to see that.
const SEES_THE_OTHER_WITHIN: Duration = Duration::from_secs(20);

/// A compactor that stands by asks every second, on a machine that does many other things.
const LEADS_WITHIN: Duration = Duration::from_secs(15);

pub(super) fn with_compactor(
    environment: &Environment,
    act: impl FnOnce(&mut CompactorSlot) -> Result<bool>,
) -> Result<Outcome> {
    let Some(mut slot) = free(&environment.compactor) else { return Ok(Outcome::Skipped) };
    Ok(if act(&mut slot)? { Outcome::Injected } else { Outcome::Skipped })
}

pub(super) fn crash_at(environment: &Environment, failpoint: &str, hit: u32) -> Result<Outcome> {
    with_compactor(environment, |slot| {
        if slot.kill()? {
            environment.stats().compactor_kills += 1;
        }
        slot.start(&environment.pipeline, &format!("{failpoint}=crash@{hit}"))?;
        let mut ended = None;
        moment_within(environment, MERGES_WITHIN, || {
            ended = slot.ended()?;
            Ok(ended.is_some())
        });
        match ended {
            Some(Exit::Killed) => Ok(true),
            Some(Exit::Unexpected(how)) => bail!("the compactor ended by itself: {how}"),
            // Nothing was there to merge. It dies all the same.
            None => {
                environment.stats().compactor_kills += u64::from(slot.kill()?);
                Ok(false)
            }
        }
    })
}

pub(super) fn pause(environment: &Environment, for_ms: u64) -> Result<Outcome> {
    with_compactor(environment, |slot| {
        let Some(running) = slot.running() else { return Ok(false) };
        running.pause()?;
        environment.sleep(Duration::from_millis(for_ms));
        running.resume().map(|()| true)
    })
}

/// Only one leads; when it dies, the other one does within seconds, and keeps the slot.
pub(super) fn second(environment: &Environment, for_ms: u64, first_dies: bool) -> Result<Outcome> {
    // Nobody can lead while the server is down.
    let server = environment.postgres.as_ref().map(free);
    if matches!(server, Some(None)) {
        return Ok(Outcome::Skipped);
    }
    with_compactor(environment, |slot| {
        if slot.running().is_none() {
            return Ok(false);
        }
        let label = format!("compactor-{}", Uuid::new_v4().simple());
        let mut second = start(&environment.pipeline, &label, "")?;
        let stands_by = stands_by(environment, &second);
        if stands_by {
            environment.sleep(Duration::from_millis(for_ms));
        }
        if stands_by && first_dies {
            return takes_over(environment, slot, second).map(|()| true);
        }
        second.terminate()?;
        second.succeed(STOP_TIMEOUT).map(|_| stands_by)
    })
}

/// One that was started while the first one was not the leader yet leads instead.
fn stands_by(environment: &Environment, second: &RunningProgram) -> bool {
    moment_within(environment, SEES_THE_OTHER_WITHIN, || Ok(waits(second)? || leads(second)?))
        && waits(second).unwrap_or(false)
}

fn waits(running: &RunningProgram) -> Result<bool> {
    Ok(running.log()?.contains("standby, another"))
}

fn leads(running: &RunningProgram) -> Result<bool> {
    Ok(running.log()?.contains("\"leadership acquired\""))
}

fn takes_over(
    environment: &Environment,
    slot: &mut CompactorSlot,
    second: RunningProgram,
) -> Result<()> {
    slot.kill()?;
    let died_at = Instant::now();
    let led = wait::until("the other compactor leads", LEADS_WITHIN, || leads(&second));
    match led {
        Ok(()) => environment.stats().takeovers.push(died_at.elapsed()),
        Err(error) => {
            environment.add_violation(format!("a dead compactor has no follower: {error:#}"))
        }
    }
    slot.fill(second);
    Ok(())
}
