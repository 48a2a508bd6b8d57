//! Does what a schedule says, and takes it back.
//!
//! Each fault runs on a thread of its own, so that they overlap; it holds its target meanwhile, and
//! one whose target is busy is left out and counted.

use std::{
    sync::{Mutex, MutexGuard, TryLockError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use uuid::Uuid;

use super::{
    schedule::Fault,
    slot::{self, Slot, lost_its_name, was_killed},
    stage::{self, Stage, lock},
};
use crate::{
    catalog::Catalog,
    faults::{Fault as CommitFault, HeldCatalog, Sickness},
    kafka_admin::add_partitions,
    program::Program,
    raw_records::publish_and_abort,
    services::Service,
    wait, workspace,
};

/// How long a fault that waits for its moment waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// The most partitions that the topic gets.
const MOST_PARTITIONS: usize = 12;

/// What became of a fault.
enum Done {
    /// It happened; the pipeline is to recover from now on.
    Injected,
    /// Its target was busy with another fault, is not there, or its moment did not come.
    LeftOut,
}

/// Carries a fault out, and books it.
pub(super) fn inject(stage: &Stage, fault: Fault) {
    let name = fault.name();
    match carry_out(stage, fault) {
        Ok(Done::Injected) => {
            *stage.books().injected.entry(name).or_default() += 1;
            if fault.kills_a_consumer() {
                stage.books().kills += 1;
            }
        }
        Ok(Done::LeftOut) => *stage.books().left_out.entry(name).or_default() += 1,
        Err(error) => {
            stage.violated(format!("the fault `{name}` could not be injected: {error:#}"));
        }
    }
}

fn carry_out(stage: &Stage, fault: Fault) -> Result<Done> {
    let began = Instant::now();
    let done = match fault {
        Fault::Kill { consumer } => of_consumer(stage, consumer, Slot::kill),
        Fault::KillAtSnapshot { consumer } => kill_at_snapshot(stage, consumer),
        Fault::CrashAt { consumer, place, visit } => crash_at(stage, consumer, place, visit),
        Fault::Pause { consumer, for_ms } => {
            of_consumer(stage, consumer, |slot| pause(stage, slot, Duration::from_millis(for_ms)))
        }
        Fault::PauseAt { consumer, place, visit, for_ms } => {
            pause_at(stage, consumer, &format!("{place}=pause@{visit}"), for_ms)
        }
        Fault::Stop { consumer } => of_consumer(stage, consumer, |slot| slot.stop().map(|()| true)),
        Fault::Storm { members, rounds } => storm(stage, members, rounds),
        Fault::SameName { consumer, for_ms } => same_name(stage, consumer, for_ms),
        Fault::LostAnswers { consumer, commits } => {
            Ok(break_commits(stage, consumer, CommitFault::AnswerLost, commits))
        }
        Fault::LostCommits { consumer, commits } => {
            Ok(break_commits(stage, consumer, CommitFault::CommitLost, commits))
        }
        Fault::HeldCommit { consumer, for_ms } => hold_commit(stage, consumer, for_ms),
        Fault::CutConnections { consumer, bytes } => {
            stage.proxies[consumer].cut_after(bytes);
            Ok(Done::Injected)
        }
        Fault::CatalogKilled { for_ms } => kill_catalog(stage, for_ms),
        Fault::CatalogTerminated { rounds } => terminate_sessions(stage, rounds),
        Fault::CatalogHeld { for_ms } => Ok(hold_catalog(stage, for_ms)),
        Fault::BrokerKilled => outage(stage, &stage.kafka, Service::kill, Duration::ZERO),
        Fault::BrokerStopped => outage(stage, &stage.kafka, Service::stop, Duration::ZERO),
        Fault::BrokerPaused { for_ms } => pause_broker(stage, for_ms),
        Fault::RegistryKilled { consumer, for_ms } => registry_killed(stage, consumer, for_ms),
        Fault::RegistryErrors { consumer, for_ms } => {
            registry_ill(stage, consumer, Sickness::Errors, for_ms)
        }
        Fault::RegistrySlow { consumer, for_ms } => {
            registry_ill(stage, consumer, Sickness::Slow(Duration::from_secs(3)), for_ms)
        }
        Fault::DiskFull { for_ms } => fill_disk(stage, for_ms),
        Fault::DiskReadOnly { for_ms } => read_only_disk(stage, for_ms),
        Fault::FilesNotKept { consumer } => restart(stage, consumer, "file_synced=fail@2"),
        Fault::PartitionAdded => Ok(add_partition(stage)),
        Fault::TransactionAborted { partition, records } => Ok(abort(stage, partition, records)),
        Fault::WrongClock { consumer, hours } => wrong_clock(stage, consumer, hours),
        Fault::MaintenanceKilled => kill_maintenance(stage),
        Fault::Replayed { partition, offsets, killed_after_ms } => {
            replay(stage, partition, offsets, killed_after_ms)
        }
    }?;
    if matches!(done, Done::Injected) {
        // Whoever sleeps or dies is waited for from the first moment, an outage from its end on.
        let since = if is_of_a_consumer(fault) { began } else { Instant::now() };
        lock(&stage.recoveries).begin(fault.name(), since);
    }
    Ok(done)
}

const fn is_of_a_consumer(fault: Fault) -> bool {
    matches!(fault, Fault::Pause { .. } | Fault::PauseAt { .. } | Fault::HeldCommit { .. })
}

/// The target, unless another fault has it.
fn free<T>(target: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match target.try_lock() {
        Ok(target) => Some(target),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Does something to this consumer, or, while another fault has it, to the next one that is free.
fn of_consumer(
    stage: &Stage,
    consumer: usize,
    act: impl FnOnce(&mut Slot) -> Result<bool>,
) -> Result<Done> {
    let order = stage.slots[consumer..].iter().chain(&stage.slots[..consumer]);
    let Some(mut slot) = order.into_iter().find_map(free) else { return Ok(Done::LeftOut) };
    Ok(if act(&mut slot)? { Done::Injected } else { Done::LeftOut })
}

/// Waits for a moment, at most [`PATIENCE`]; whether it came.
fn moment(stage: &Stage, mut is_there: impl FnMut() -> Result<bool>) -> bool {
    let looked =
        wait::until("its moment comes", PATIENCE, || Ok(stage.is_stopping() || is_there()?));
    looked.is_ok() && !stage.is_stopping()
}

/// Between the lake's commit and Kafka's: whoever keeps offsets elsewhere doubles rows here.
fn kill_at_snapshot(stage: &Stage, consumer: usize) -> Result<Done> {
    of_consumer(stage, consumer, |slot| {
        let mut catalog = Catalog::at(&stage.pipeline.catalog)?;
        let Ok(before) = catalog.newest_snapshot() else { return Ok(false) };
        if !moment(stage, || Ok(catalog.newest_snapshot()? > before)) {
            return Ok(false);
        }
        slot.kill()
    })
}

fn restart_armed(stage: &Stage, slot: &mut Slot, failpoints: &str) -> Result<()> {
    slot.stop()?;
    slot.start(&stage.pipeline, failpoints)
}

fn restart(stage: &Stage, consumer: usize, failpoints: &str) -> Result<Done> {
    of_consumer(stage, consumer, |slot| restart_armed(stage, slot, failpoints).map(|()| true))
}

fn crash_at(stage: &Stage, consumer: usize, place: &str, visit: u32) -> Result<Done> {
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

fn pause(stage: &Stage, slot: &mut Slot, duration: Duration) -> Result<bool> {
    let Some(worker) = slot.worker() else { return Ok(false) };
    worker.process().pause()?;
    stage.sleep(duration);
    worker.process().resume()?;
    Ok(true)
}

fn pause_at(stage: &Stage, consumer: usize, failpoint: &str, for_ms: u64) -> Result<Done> {
    of_consumer(stage, consumer, |slot| {
        restart_armed(stage, slot, failpoint)?;
        let worker = slot.worker().context("it was started just now")?;
        let stopped = moment(stage, || Ok(worker.process().is_stopped()));
        stage.sleep(Duration::from_millis(if stopped { for_ms } else { 0 }));
        worker.process().resume()?;
        Ok(stopped)
    })
}

fn storm(stage: &Stage, members: usize, rounds: u32) -> Result<Done> {
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
fn same_name(stage: &Stage, consumer: usize, for_ms: u64) -> Result<Done> {
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

fn break_commits(stage: &Stage, consumer: usize, fault: CommitFault, commits: usize) -> Done {
    let proxy = &stage.proxies[consumer];
    let broken = proxy.injected();
    proxy.arm_with(fault, commits);
    let happened = moment(stage, || Ok(proxy.injected() >= broken + commits));
    let some = proxy.injected() > broken;
    proxy.disarm();
    if happened || some { Done::Injected } else { Done::LeftOut }
}

fn hold_commit(stage: &Stage, consumer: usize, for_ms: u64) -> Result<Done> {
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

fn outage<S: Service>(
    stage: &Stage,
    service: &Mutex<S>,
    end: impl FnOnce(&mut S) -> Result<()>,
    duration: Duration,
) -> Result<Done> {
    let Some(mut service) = free(service) else { return Ok(Done::LeftOut) };
    end(&mut service)?;
    stage.sleep(duration);
    service.start_again()?;
    Ok(Done::Injected)
}

fn kill_catalog(stage: &Stage, for_ms: u64) -> Result<Done> {
    let postgres = stage.postgres.as_ref().context("scheduled for a server only")?;
    outage(stage, postgres, Service::kill, Duration::from_millis(for_ms))
}

fn terminate_sessions(stage: &Stage, rounds: u32) -> Result<Done> {
    let mut catalog = Catalog::at(&stage.pipeline.catalog)?;
    let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                     WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let mut rounds_done = 0;
    for _ in 0..rounds {
        // The server may be down.
        rounds_done += u32::from(catalog.rows(terminate).is_ok());
        stage.sleep(Duration::from_millis(150));
    }
    Ok(if rounds_done > 0 { Done::Injected } else { Done::LeftOut })
}

fn hold_catalog(stage: &Stage, for_ms: u64) -> Done {
    // A busy SQLite file refuses, a server may be down.
    let Ok(held) = HeldCatalog::hold(&stage.pipeline.catalog) else { return Done::LeftOut };
    stage.sleep(Duration::from_millis(for_ms));
    held.let_go();
    Done::Injected
}

fn pause_broker(stage: &Stage, for_ms: u64) -> Result<Done> {
    let Some(mut kafka) = free(&stage.kafka) else { return Ok(Done::LeftOut) };
    kafka.pause()?;
    stage.sleep(Duration::from_millis(for_ms));
    kafka.resume()?;
    Ok(Done::Injected)
}

/// A consumer asks the registry when it starts.
fn registry_killed(stage: &Stage, consumer: usize, for_ms: u64) -> Result<Done> {
    let restarted = restart(stage, consumer, "")?;
    let registry = &stage.registry;
    match restarted {
        Done::Injected => outage(stage, registry, Service::kill, Duration::from_millis(for_ms)),
        Done::LeftOut => Ok(Done::LeftOut),
    }
}

fn registry_ill(stage: &Stage, consumer: usize, sickness: Sickness, for_ms: u64) -> Result<Done> {
    stage.sick_registry.fall_ill(sickness);
    let restarted = restart(stage, consumer, "");
    stage.sleep(Duration::from_millis(for_ms));
    stage.sick_registry.fall_ill(Sickness::None);
    restarted
}

fn fill_disk(stage: &Stage, for_ms: u64) -> Result<Done> {
    let Some(disk) = stage.disk.as_ref().and_then(free) else { return Ok(Done::LeftOut) };
    let filled = disk.fill();
    stage.sleep(Duration::from_millis(for_ms));
    disk.empty()?;
    filled.map(|()| Done::Injected)
}

fn read_only_disk(stage: &Stage, for_ms: u64) -> Result<Done> {
    let Some(disk) = stage.disk.as_ref().and_then(free) else { return Ok(Done::LeftOut) };
    if !moment(stage, || disk.set_read_only(true).map(|()| true)) {
        return Ok(Done::LeftOut);
    }
    stage.sleep(Duration::from_millis(for_ms));
    disk.set_read_only(false)?;
    Ok(Done::Injected)
}

fn add_partition(stage: &Stage) -> Done {
    let mut partitions = lock(&stage.partitions);
    if *partitions >= MOST_PARTITIONS {
        return Done::LeftOut;
    }
    let (servers, topic) = (&stage.pipeline.bootstrap_servers, &stage.pipeline.topic);
    // The broker may be down.
    if add_partitions(servers, topic, *partitions + 1).is_err() {
        return Done::LeftOut;
    }
    *partitions += 1;
    Done::Injected
}

fn abort(stage: &Stage, partition: i32, records: usize) -> Done {
    let (servers, topic) = (&stage.pipeline.bootstrap_servers, &stage.pipeline.topic);
    let values = (0..records).map(|_| Uuid::new_v4().as_bytes().to_vec());
    // The broker may go down meanwhile; it then aborts the transaction by itself.
    match publish_and_abort(servers, topic, partition, values) {
        Ok(()) => Done::Injected,
        Err(_) => Done::LeftOut,
    }
}

fn replay(
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

/// The next to fill a consumer's place lives in another time.
fn wrong_clock(stage: &Stage, consumer: usize, hours: i32) -> Result<Done> {
    let library = workspace::program("libducktide_wrong_clock.so")?;
    let seconds = (hours * 3600).to_string();
    let library = library.display().to_string();
    let variables = [("LD_PRELOAD", &*library), ("DUCKTIDE_WRONG_CLOCK_SECONDS", &*seconds)];
    of_consumer(stage, consumer, |slot| {
        slot.stop()?;
        slot.start_with(&stage.pipeline, &variables).map(|()| true)
    })
}

fn kill_maintenance(stage: &Stage) -> Result<Done> {
    match lock(&stage.maintenance).take() {
        Some(mut maintenance) => maintenance.kill().map(|_| Done::Injected),
        None => Ok(Done::LeftOut),
    }
}

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
