//! Faults of consumers and of their connections to the catalog.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::outcome::{Outcome, await_moment, with_free_consumer};
use crate::{
    catalog::Catalog,
    chaos::{
        consumer_slot::{self, ConsumerSlot, was_killed},
        environment::Environment,
    },
    faults::CommitFault,
    workspace,
};

/// Kills a consumer between the lake commit and the offset commit: a worker that reads its position
/// from Kafka writes duplicates here.
pub(super) fn kill_at_snapshot(environment: &Environment, consumer: usize) -> Result<Outcome> {
    with_free_consumer(environment, consumer, |slot| {
        let mut catalog = Catalog::at(&environment.pipeline.catalog)?;
        let Ok(before) = catalog.newest_snapshot() else { return Ok(false) };
        if !await_moment(environment, || Ok(catalog.newest_snapshot()? > before)) {
            return Ok(false);
        }
        slot.kill()
    })
}

pub(super) fn restart_armed(
    environment: &Environment,
    slot: &mut ConsumerSlot,
    failpoints: &str,
) -> Result<()> {
    slot.stop()?;
    slot.start(&environment.pipeline, failpoints)
}

pub(super) fn restart(
    environment: &Environment,
    consumer: usize,
    failpoints: &str,
) -> Result<Outcome> {
    with_free_consumer(environment, consumer, |slot| {
        restart_armed(environment, slot, failpoints).map(|()| true)
    })
}

pub(super) fn crash_at(
    environment: &Environment,
    consumer: usize,
    failpoint: &str,
    hit: u32,
) -> Result<Outcome> {
    with_free_consumer(environment, consumer, |slot| {
        restart_armed(environment, slot, &format!("{failpoint}=crash@{hit}"))?;
        let mut finished = None;
        await_moment(environment, || {
            finished = slot.ended()?;
            Ok(finished.is_some())
        });
        match finished {
            Some(finished) if was_killed(&finished) => Ok(true),
            Some(finished) => bail!("the consumer ended unexpectedly: {}", finished.status),
            // A member without partitions never reaches the failpoint.
            None => Ok(false),
        }
    })
}

pub(super) fn pause(
    environment: &Environment,
    slot: &mut ConsumerSlot,
    duration: Duration,
) -> Result<bool> {
    let Some(worker) = slot.worker() else { return Ok(false) };
    worker.process().pause()?;
    environment.sleep(duration);
    worker.process().resume()?;
    Ok(true)
}

pub(super) fn pause_at(
    environment: &Environment,
    consumer: usize,
    failpoint: &str,
    for_ms: u64,
) -> Result<Outcome> {
    with_free_consumer(environment, consumer, |slot| {
        restart_armed(environment, slot, failpoint)?;
        let worker = slot.worker().context("it was started just now")?;
        let stopped = await_moment(environment, || Ok(worker.process().is_stopped()));
        environment.sleep(Duration::from_millis(if stopped { for_ms } else { 0 }));
        worker.process().resume()?;
        Ok(stopped)
    })
}

pub(super) fn member_churn(
    environment: &Environment,
    members: usize,
    rounds: u32,
) -> Result<Outcome> {
    for _ in 0..rounds {
        let joined: Vec<_> = (0..members)
            .map(|n| {
                let name = format!("temporary-{n}");
                consumer_slot::start(
                    &environment.pipeline,
                    &name,
                    &environment.pipeline.catalog,
                    None,
                    &[],
                )
            })
            .collect::<Result<_>>()?;
        environment.sleep(Duration::from_secs(3));
        for mut member in joined {
            // A member that cannot stop because of an outage is killed when it is dropped.
            let _ = member.stop();
        }
        if environment.is_stopping() {
            break;
        }
    }
    Ok(Outcome::Injected)
}

/// Starts a second consumer with the same instance ID: Kafka accepts it and fences the first one.
pub(super) fn duplicate_member(
    environment: &Environment,
    consumer: usize,
    for_ms: u64,
) -> Result<Outcome> {
    with_free_consumer(environment, consumer, |slot| {
        let Some(instance) = slot.instance().cloned() else { return Ok(false) };
        let (pipeline, catalog) = (&environment.pipeline, &environment.pipeline.catalog);
        let mut duplicate =
            consumer_slot::start(pipeline, "duplicate", catalog, Some(&instance), &[])?;
        environment.sleep(Duration::from_millis(for_ms));
        // The second one can have been fenced, too.
        let _ = duplicate.stop();
        // The first one may have ended in any way; supervision restarts it.
        slot.ended().map(|_| true)
    })
}

pub(super) fn break_commits(
    environment: &Environment,
    consumer: usize,
    fault: CommitFault,
    commits: usize,
) -> Outcome {
    let proxy = &environment.proxies[consumer];
    let broken = proxy.injected();
    proxy.arm_with(fault, commits);
    let happened = await_moment(environment, || Ok(proxy.injected() >= broken + commits));
    let some = proxy.injected() > broken;
    proxy.disarm();
    if happened || some { Outcome::Injected } else { Outcome::Skipped }
}

pub(super) fn hold_commit(
    environment: &Environment,
    consumer: usize,
    for_ms: u64,
) -> Result<Outcome> {
    with_free_consumer(environment, consumer, |slot| {
        let proxy = &environment.proxies[slot.number];
        let before = proxy.injected();
        proxy.arm_with(CommitFault::CommitHeld, 1);
        let held = await_moment(environment, || Ok(proxy.injected() > before));
        if let (true, Some(worker)) = (held, slot.worker()) {
            worker.process().pause()?;
            environment.sleep(Duration::from_millis(for_ms));
            proxy.disarm();
            worker.process().resume()?;
        }
        proxy.disarm();
        Ok(held)
    })
}

/// Restarts a consumer with a wrong clock.
pub(super) fn wrong_clock(
    environment: &Environment,
    consumer: usize,
    minutes: i32,
) -> Result<Outcome> {
    let library = workspace::program("libducktide_wrong_clock.so")?;
    let seconds = (minutes * 60).to_string();
    let library = library.display().to_string();
    let variables = [("LD_PRELOAD", &*library), ("DUCKTIDE_WRONG_CLOCK_SECONDS", &*seconds)];
    with_free_consumer(environment, consumer, |slot| {
        slot.stop()?;
        slot.start_with(&environment.pipeline, &variables).map(|()| true)
    })
}
