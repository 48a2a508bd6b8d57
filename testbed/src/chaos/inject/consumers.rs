//! What happens to consumers, and to what they say to the catalog.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{Done, moment, of_consumer};
use crate::{
    catalog::Catalog,
    chaos::{
        slot::{self, Slot, was_killed},
        stage::Stage,
    },
    faults::Fault as CommitFault,
    workspace,
};

/// Between the lake's commit and Kafka's: whoever keeps offsets elsewhere doubles rows here.
pub(super) fn kill_at_snapshot(stage: &Stage, consumer: usize) -> Result<Done> {
    of_consumer(stage, consumer, |slot| {
        let mut catalog = Catalog::at(&stage.pipeline.catalog)?;
        let Ok(before) = catalog.newest_snapshot() else { return Ok(false) };
        if !moment(stage, || Ok(catalog.newest_snapshot()? > before)) {
            return Ok(false);
        }
        slot.kill()
    })
}

pub(super) fn restart_armed(stage: &Stage, slot: &mut Slot, failpoints: &str) -> Result<()> {
    slot.stop()?;
    slot.start(&stage.pipeline, failpoints)
}

pub(super) fn restart(stage: &Stage, consumer: usize, failpoints: &str) -> Result<Done> {
    of_consumer(stage, consumer, |slot| restart_armed(stage, slot, failpoints).map(|()| true))
}

pub(super) fn crash_at(stage: &Stage, consumer: usize, place: &str, visit: u32) -> Result<Done> {
    of_consumer(stage, consumer, |slot| {
        restart_armed(stage, slot, &format!("{place}=crash@{visit}"))?;
        let mut finished = None;
        moment(stage, || {
            finished = slot.ended()?;
            Ok(finished.is_some())
        });
        match finished {
            Some(finished) if was_killed(&finished) => Ok(true),
            Some(finished) => bail!("the consumer ended by itself: {}", finished.status),
            // A member without partitions never gets there.
            None => Ok(false),
        }
    })
}

pub(super) fn pause(stage: &Stage, slot: &mut Slot, duration: Duration) -> Result<bool> {
    let Some(worker) = slot.worker() else { return Ok(false) };
    worker.process().pause()?;
    stage.sleep(duration);
    worker.process().resume()?;
    Ok(true)
}

pub(super) fn pause_at(
    stage: &Stage,
    consumer: usize,
    failpoint: &str,
    for_ms: u64,
) -> Result<Done> {
    of_consumer(stage, consumer, |slot| {
        restart_armed(stage, slot, failpoint)?;
        let worker = slot.worker().context("it was started just now")?;
        let stopped = moment(stage, || Ok(worker.process().is_stopped()));
        stage.sleep(Duration::from_millis(if stopped { for_ms } else { 0 }));
        worker.process().resume()?;
        Ok(stopped)
    })
}

pub(super) fn storm(stage: &Stage, members: usize, rounds: u32) -> Result<Done> {
    for _ in 0..rounds {
        let joined: Vec<_> = (0..members)
            .map(|n| {
                let name = format!("passing-{n}");
                slot::start(&stage.pipeline, &name, &stage.pipeline.catalog, None, &[])
            })
            .collect::<Result<_>>()?;
        stage.sleep(Duration::from_secs(3));
        for mut member in joined {
            // One that is in an outage when it is told to go is killed by its drop.
            let _ = member.stop();
        }
        if stage.is_stopping() {
            break;
        }
    }
    Ok(Done::Injected)
}

/// Kafka lets the later one in, and tells the earlier one that it is fenced.
pub(super) fn same_name(stage: &Stage, consumer: usize, for_ms: u64) -> Result<Done> {
    of_consumer(stage, consumer, |slot| {
        let Some(instance) = slot.instance().cloned() else { return Ok(false) };
        let (pipeline, catalog) = (&stage.pipeline, &stage.pipeline.catalog);
        let mut double = slot::start(pipeline, "double", catalog, Some(&instance), &[])?;
        stage.sleep(Duration::from_millis(for_ms));
        // It may have been fenced in turn.
        let _ = double.stop();
        // However the earlier one ended, its place is filled again.
        slot.ended().map(|_| true)
    })
}

pub(super) fn break_commits(
    stage: &Stage,
    consumer: usize,
    fault: CommitFault,
    commits: usize,
) -> Done {
    let proxy = &stage.proxies[consumer];
    let broken = proxy.injected();
    proxy.arm_with(fault, commits);
    let happened = moment(stage, || Ok(proxy.injected() >= broken + commits));
    let some = proxy.injected() > broken;
    proxy.disarm();
    if happened || some { Done::Injected } else { Done::LeftOut }
}

pub(super) fn hold_commit(stage: &Stage, consumer: usize, for_ms: u64) -> Result<Done> {
    of_consumer(stage, consumer, |slot| {
        let proxy = &stage.proxies[slot.number];
        let before = proxy.injected();
        proxy.arm_with(CommitFault::CommitHeld, 1);
        let held = moment(stage, || Ok(proxy.injected() > before));
        if let (true, Some(worker)) = (held, slot.worker()) {
            worker.process().pause()?;
            stage.sleep(Duration::from_millis(for_ms));
            proxy.disarm();
            worker.process().resume()?;
        }
        proxy.disarm();
        Ok(held)
    })
}

/// The next to fill a consumer's place lives in another time.
pub(super) fn wrong_clock(stage: &Stage, consumer: usize, hours: i32) -> Result<Done> {
    let library = workspace::program("libducktide_wrong_clock.so")?;
    let seconds = (hours * 3600).to_string();
    let library = library.display().to_string();
    let variables = [("LD_PRELOAD", &*library), ("DUCKTIDE_WRONG_CLOCK_SECONDS", &*seconds)];
    of_consumer(stage, consumer, |slot| {
        slot.stop()?;
        slot.start_with(&stage.pipeline, &variables).map(|()| true)
    })
}
