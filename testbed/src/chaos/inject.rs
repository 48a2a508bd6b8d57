//! Does what a schedule says, and takes it back.
//!
//! Each fault runs on a thread of its own, so that they overlap; it holds its target meanwhile, and
//! one whose target is busy is left out and counted.

mod compactor;
mod consumers;
mod operator;
mod services;
mod visitors;

use std::{
    sync::{Mutex, MutexGuard, TryLockError},
    time::{Duration, Instant},
};

use anyhow::Result;

use self::{
    consumers::{
        break_commits, crash_at, hold_commit, kill_at_snapshot, pause, pause_at, restart,
        same_name, storm, wrong_clock,
    },
    operator::replay,
    services::{
        abort, add_partition, fill_disk, hold_catalog, kill_catalog, outage, pause_broker,
        read_only_disk, registry_ill, registry_killed, terminate_sessions,
    },
};
use super::{
    compactor::Place,
    fault::Fault,
    slot::Slot,
    stage::{Stage, lock},
};
use crate::{
    faults::{Fault as CommitFault, Sickness},
    services::Service,
    wait,
};

/// How long a fault that waits for its moment waits.
const PATIENCE: Duration = Duration::from_secs(20);

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
            if fault.kills_a_compactor() {
                stage.books().compactor_kills += 1;
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
        Fault::CompactorKilled => compactor::of_compactor(stage, Place::kill),
        Fault::CompactorCrashAt { place, visit } => compactor::crash_at(stage, place, visit),
        Fault::CompactorPaused { for_ms } => compactor::pause(stage, for_ms),
        Fault::SecondCompactor { for_ms, first_dies } => {
            compactor::second(stage, for_ms, first_dies)
        }
        Fault::SlowReader { for_ms } => visitors::slow_reader(stage, for_ms),
        Fault::Visited { visit } => visitors::visit(stage, visit),
        Fault::Replayed { partition, offsets, killed_after_ms } => {
            replay(stage, partition, offsets, killed_after_ms)
        }
    }?;
    let is_a_guest = matches!(fault, Fault::SlowReader { .. } | Fault::Visited { .. });
    if matches!(done, Done::Injected) && !is_a_guest {
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
pub(super) fn free<T>(target: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
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
fn moment(stage: &Stage, is_there: impl FnMut() -> Result<bool>) -> bool {
    moment_within(stage, PATIENCE, is_there)
}

fn moment_within(
    stage: &Stage,
    patience: Duration,
    mut is_there: impl FnMut() -> Result<bool>,
) -> bool {
    let looked =
        wait::until("its moment comes", patience, || Ok(stage.is_stopping() || is_there()?));
    looked.is_ok() && !stage.is_stopping()
}
