//! What happens to the compactor.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use uuid::Uuid;

use super::{Done, free, moment_within};
use crate::{
    chaos::{
        compactor::{ENDS_WITHIN, Ended, Place, start},
        stage::Stage,
    },
    program::Running,
    wait,
};

/// How long a compactor may take to come to a merge: others that want to kill it wait.
const MERGES_WITHIN: Duration = Duration::from_secs(6);

/// How long one that is started beside another may take to see that.
const SEES_THE_OTHER_WITHIN: Duration = Duration::from_secs(20);

/// A compactor that stands by asks every second, on a machine that does many other things.
const LEADS_WITHIN: Duration = Duration::from_secs(15);

pub(super) fn of_compactor(
    stage: &Stage,
    act: impl FnOnce(&mut Place) -> Result<bool>,
) -> Result<Done> {
    let Some(mut place) = free(&stage.compactor) else { return Ok(Done::LeftOut) };
    Ok(if act(&mut place)? { Done::Injected } else { Done::LeftOut })
}

pub(super) fn crash_at(stage: &Stage, place_of_merge: &str, visit: u32) -> Result<Done> {
    of_compactor(stage, |place| {
        if place.kill()? {
            stage.books().compactor_kills += 1;
        }
        place.start(&stage.pipeline, &format!("{place_of_merge}=crash@{visit}"))?;
        let mut ended = None;
        moment_within(stage, MERGES_WITHIN, || {
            ended = place.ended()?;
            Ok(ended.is_some())
        });
        match ended {
            Some(Ended::Killed) => Ok(true),
            Some(Ended::ByItself(how)) => bail!("the compactor ended by itself: {how}"),
            // Nothing was there to merge. It dies all the same.
            None => {
                stage.books().compactor_kills += u64::from(place.kill()?);
                Ok(false)
            }
        }
    })
}

pub(super) fn pause(stage: &Stage, for_ms: u64) -> Result<Done> {
    of_compactor(stage, |place| {
        let Some(running) = place.running() else { return Ok(false) };
        running.pause()?;
        stage.sleep(Duration::from_millis(for_ms));
        running.resume().map(|()| true)
    })
}

/// Only one leads; when it dies, the other one does within seconds, and keeps the place.
pub(super) fn second(stage: &Stage, for_ms: u64, first_dies: bool) -> Result<Done> {
    // Nobody can lead while the server is down.
    let server = stage.postgres.as_ref().map(free);
    if matches!(server, Some(None)) {
        return Ok(Done::LeftOut);
    }
    of_compactor(stage, |place| {
        if place.running().is_none() {
            return Ok(false);
        }
        let label = format!("compactor-{}", Uuid::new_v4().simple());
        let mut second = start(&stage.pipeline, &label, "")?;
        let stands_by = stands_by(stage, &second);
        if stands_by {
            stage.sleep(Duration::from_millis(for_ms));
        }
        if stands_by && first_dies {
            return takes_over(stage, place, second).map(|()| true);
        }
        second.terminate()?;
        second.succeed(ENDS_WITHIN).map(|_| stands_by)
    })
}

/// One that was started while the first one was not the leader yet leads instead.
fn stands_by(stage: &Stage, second: &Running) -> bool {
    moment_within(stage, SEES_THE_OTHER_WITHIN, || Ok(waits(second)? || leads(second)?))
        && waits(second).unwrap_or(false)
}

fn waits(running: &Running) -> Result<bool> {
    Ok(running.log()?.contains("standby, another"))
}

fn leads(running: &Running) -> Result<bool> {
    Ok(running.log()?.contains("\"leadership acquired\""))
}

fn takes_over(stage: &Stage, place: &mut Place, second: Running) -> Result<()> {
    place.kill()?;
    let died_at = Instant::now();
    let led = wait::until("the other compactor leads", LEADS_WITHIN, || leads(&second));
    match led {
        Ok(()) => stage.books().takeovers.push(died_at.elapsed()),
        Err(error) => stage.violated(format!("a dead compactor has no follower: {error:#}")),
    }
    place.fill(second);
    Ok(())
}
