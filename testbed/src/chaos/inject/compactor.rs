//! Faults of the compactor.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use uuid::Uuid;

use super::outcome::{Outcome, await_moment_within, free};
use crate::{
    chaos::{
        compactor_slot::{CompactorSlot, Exit, STOP_TIMEOUT, start},
        environment::Environment,
    },
    program::RunningProgram,
    wait,
};

/// Maximum wait for a merge: other faults of the compactor wait meanwhile.
const MERGE_TIMEOUT: Duration = Duration::from_secs(6);

/// Maximum time until a second compactor has tried to become the leader.
const STANDBY_TIMEOUT: Duration = Duration::from_secs(20);

/// Maximum time until a standby compactor is the leader. It tries every second, on a busy machine.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(15);

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
        await_moment_within(environment, MERGE_TIMEOUT, || {
            ended = slot.ended()?;
            Ok(ended.is_some())
        });
        match ended {
            Some(Exit::Killed) => Ok(true),
            Some(Exit::Unexpected(how)) => bail!("the compactor ended unexpectedly: {how}"),
            // There was nothing to merge. It is killed anyway.
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

/// Starts a second compactor. Only one is the leader; when it is killed, the other one takes over
/// within seconds and stays in the slot.
pub(super) fn second(environment: &Environment, for_ms: u64, kills_first: bool) -> Result<Outcome> {
    // No compactor can become the leader while the server is down.
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
        let is_standby = is_standby(environment, &second);
        if is_standby {
            environment.sleep(Duration::from_millis(for_ms));
        }
        if is_standby && kills_first {
            return check_takeover(environment, slot, second).map(|()| true);
        }
        second.terminate()?;
        second.succeed(STOP_TIMEOUT).map(|_| is_standby)
    })
}

/// Waits until the second compactor is standby or leader, and returns true if it is standby. It
/// becomes the leader if it starts before the first one is.
fn is_standby(environment: &Environment, second: &RunningProgram) -> bool {
    await_moment_within(environment, STANDBY_TIMEOUT, || {
        Ok(logged_standby(second)? || logged_leadership(second)?)
    }) && logged_standby(second).unwrap_or(false)
}

fn logged_standby(running: &RunningProgram) -> Result<bool> {
    Ok(running.log()?.contains("standby, another"))
}

fn logged_leadership(running: &RunningProgram) -> Result<bool> {
    Ok(running.log()?.contains("\"leadership acquired\""))
}

fn check_takeover(
    environment: &Environment,
    slot: &mut CompactorSlot,
    second: RunningProgram,
) -> Result<()> {
    slot.kill()?;
    let killed_at = Instant::now();
    let led = wait::until("the other compactor is the leader", TAKEOVER_TIMEOUT, || {
        logged_leadership(&second)
    });
    match led {
        Ok(()) => environment.stats().takeovers.push(killed_at.elapsed()),
        Err(error) => environment
            .add_violation(format!("no compactor took over from a killed one: {error:#}")),
    }
    slot.fill(second);
    Ok(())
}
