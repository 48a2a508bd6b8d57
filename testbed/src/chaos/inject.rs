//! Injects the faults of a schedule, and removes them.
//!
//! Each fault runs on its own thread, so that faults overlap. It locks its target; a fault whose
//! target is locked is skipped and counted.

mod compactor;
mod consumers;
mod operator;
mod other_clients;
pub(super) mod outcome;
mod services;

use std::time::{Duration, Instant};

use anyhow::Result;

use self::{
    consumers::{
        break_commits, crash_at, duplicate_member, hold_commit, kill_at_snapshot, member_churn,
        pause, pause_at, restart, wrong_clock,
    },
    operator::replay,
    outcome::{Outcome, with_free_consumer},
    services::{
        abort, add_partition, disturb_store, fill_disk, hold_catalog, kill_catalog, outage,
        pause_broker, read_only_disk, registry_fault, registry_killed, terminate_sessions,
    },
};
use super::{
    compactor_slot::CompactorSlot,
    consumer_slot::ConsumerSlot,
    environment::{Environment, lock},
    fault::Fault,
};
use crate::{
    faults::{CommitFault, HttpFault},
    services::Service,
};

/// Injects a fault, and counts it.
pub(super) fn inject(environment: &Environment, fault: Fault) {
    let name = fault.name();
    match execute(environment, fault) {
        Ok(Outcome::Injected) => {
            *environment.stats().injected.entry(name).or_default() += 1;
            if fault.kills_a_consumer() {
                environment.stats().kills += 1;
            }
            if fault.kills_a_compactor() {
                environment.stats().compactor_kills += 1;
            }
        }
        Ok(Outcome::Skipped) => *environment.stats().skipped.entry(name).or_default() += 1,
        Err(error) => {
            environment
                .add_violation(format!("the fault `{name}` could not be injected: {error:#}"));
        }
    }
}

fn execute(environment: &Environment, fault: Fault) -> Result<Outcome> {
    let began = Instant::now();
    let done = match fault {
        Fault::Kill { consumer } => with_free_consumer(environment, consumer, ConsumerSlot::kill),
        Fault::KillAtSnapshot { consumer } => kill_at_snapshot(environment, consumer),
        Fault::CrashAt { consumer, failpoint, hit } => {
            crash_at(environment, consumer, failpoint, hit)
        }
        Fault::Pause { consumer, for_ms } => with_free_consumer(environment, consumer, |slot| {
            pause(environment, slot, Duration::from_millis(for_ms))
        }),
        Fault::PauseAt { consumer, failpoint, hit, for_ms } => {
            pause_at(environment, consumer, &format!("{failpoint}=pause@{hit}"), for_ms)
        }
        Fault::Stop { consumer } => {
            with_free_consumer(environment, consumer, |slot| slot.stop().map(|()| true))
        }
        Fault::MemberChurn { members, rounds } => member_churn(environment, members, rounds),
        Fault::DuplicateMember { consumer, for_ms } => {
            duplicate_member(environment, consumer, for_ms)
        }
        Fault::LostResponses { consumer, commits } => {
            Ok(break_commits(environment, consumer, CommitFault::ResponseLost, commits))
        }
        Fault::LostCommits { consumer, commits } => {
            Ok(break_commits(environment, consumer, CommitFault::CommitLost, commits))
        }
        Fault::HeldCommit { consumer, for_ms } => hold_commit(environment, consumer, for_ms),
        Fault::CutConnections { consumer, bytes } => {
            environment.proxies[consumer].cut_after(bytes);
            Ok(Outcome::Injected)
        }
        Fault::CatalogKilled { for_ms } => kill_catalog(environment, for_ms),
        Fault::CatalogTerminated { rounds } => terminate_sessions(environment, rounds),
        Fault::CatalogHeld { for_ms } => Ok(hold_catalog(environment, for_ms)),
        Fault::BrokerKilled => {
            outage(environment, &environment.kafka, Service::kill, Duration::ZERO)
        }
        Fault::BrokerStopped => {
            outage(environment, &environment.kafka, Service::stop, Duration::ZERO)
        }
        Fault::BrokerPaused { for_ms } => pause_broker(environment, for_ms),
        Fault::RegistryKilled { consumer, for_ms } => {
            registry_killed(environment, consumer, for_ms)
        }
        Fault::RegistryErrors { consumer, for_ms } => {
            registry_fault(environment, consumer, HttpFault::InternalServerError, for_ms)
        }
        Fault::RegistrySlow { consumer, for_ms } => {
            registry_fault(environment, consumer, HttpFault::Slow(Duration::from_secs(3)), for_ms)
        }
        Fault::DiskFull { for_ms } => fill_disk(environment, for_ms),
        Fault::DiskReadOnly { for_ms } => read_only_disk(environment, for_ms),
        Fault::FsyncFails { consumer } => restart(environment, consumer, "file_synced=fail@2"),
        Fault::Store { store, for_ms } => disturb_store(environment, store, for_ms),
        Fault::PartitionAdded => Ok(add_partition(environment)),
        Fault::TransactionAborted { partition, records } => {
            Ok(abort(environment, partition, records))
        }
        Fault::WrongClock { consumer, minutes } => wrong_clock(environment, consumer, minutes),
        Fault::CompactorKilled => compactor::with_compactor(environment, CompactorSlot::kill),
        Fault::CompactorCrashAt { failpoint, hit } => {
            compactor::crash_at(environment, failpoint, hit)
        }
        Fault::CompactorPaused { for_ms } => compactor::pause(environment, for_ms),
        Fault::SecondCompactor { for_ms, kills_first } => {
            compactor::second(environment, for_ms, kills_first)
        }
        Fault::SlowReader { for_ms } => other_clients::slow_reader(environment, for_ms),
        Fault::ForeignWrite { write } => other_clients::foreign_write(environment, write),
        Fault::Replayed { partition, offsets, killed_after_ms } => {
            replay(environment, partition, offsets, killed_after_ms)
        }
    }?;
    let is_by_other_client = matches!(fault, Fault::SlowReader { .. } | Fault::ForeignWrite { .. });
    if matches!(done, Outcome::Injected) && !is_by_other_client {
        // The recovery from a paused consumer is measured from its start, that from an outage from
        // its end.
        let since = if pauses_a_consumer(fault) { began } else { Instant::now() };
        lock(&environment.recoveries).begin(fault.name(), since);
    }
    Ok(done)
}

const fn pauses_a_consumer(fault: Fault) -> bool {
    matches!(fault, Fault::Pause { .. } | Fault::PauseAt { .. } | Fault::HeldCommit { .. })
}
