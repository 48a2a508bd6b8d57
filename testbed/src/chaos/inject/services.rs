//! Faults of services, disk and topic.

use std::{sync::Mutex, time::Duration};

use anyhow::{Context as _, Result};
use uuid::Uuid;

use super::{
    consumers::restart,
    outcome::{Outcome, await_moment, free},
};
use crate::{
    catalog::Catalog,
    chaos::environment::{Environment, lock},
    faults::{HeldCatalog, HttpFault, StoreFault},
    kafka_admin::add_partitions,
    raw_records::publish_and_abort,
    services::Service,
};

/// Maximum number of partitions of the topic.
const MAX_PARTITIONS: usize = 12;

pub(super) fn outage<S: Service>(
    environment: &Environment,
    service: &Mutex<S>,
    end: impl FnOnce(&mut S) -> Result<()>,
    duration: Duration,
) -> Result<Outcome> {
    let Some(mut service) = free(service) else { return Ok(Outcome::Skipped) };
    end(&mut service)?;
    environment.sleep(duration);
    service.restart()?;
    Ok(Outcome::Injected)
}

pub(super) fn kill_catalog(environment: &Environment, for_ms: u64) -> Result<Outcome> {
    let postgres = environment.postgres.as_ref().context("scheduled for a server only")?;
    outage(environment, postgres, Service::kill, Duration::from_millis(for_ms))
}

pub(super) fn terminate_sessions(environment: &Environment, rounds: u32) -> Result<Outcome> {
    let postgres = environment.postgres.as_ref().context("scheduled for a server only")?;
    let Some(_server) = free(postgres) else { return Ok(Outcome::Skipped) };
    let mut catalog = Catalog::at(&environment.pipeline.catalog)?;
    let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                     WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let mut rounds_done = 0;
    for _ in 0..rounds {
        // The server may be down.
        rounds_done += u32::from(catalog.rows(terminate).is_ok());
        environment.sleep(Duration::from_millis(150));
    }
    Ok(if rounds_done > 0 { Outcome::Injected } else { Outcome::Skipped })
}

pub(super) fn hold_catalog(environment: &Environment, for_ms: u64) -> Outcome {
    // A SQLite file can be locked, a server can be down.
    let Ok(held) = HeldCatalog::hold(&environment.pipeline.catalog) else {
        return Outcome::Skipped;
    };
    environment.sleep(Duration::from_millis(for_ms));
    held.release();
    Outcome::Injected
}

pub(super) fn pause_broker(environment: &Environment, for_ms: u64) -> Result<Outcome> {
    let Some(mut kafka) = free(&environment.kafka) else { return Ok(Outcome::Skipped) };
    kafka.pause()?;
    environment.sleep(Duration::from_millis(for_ms));
    kafka.resume()?;
    Ok(Outcome::Injected)
}

/// Kills the registry while a consumer starts, which reads schemas then.
pub(super) fn registry_killed(
    environment: &Environment,
    consumer: usize,
    for_ms: u64,
) -> Result<Outcome> {
    let restarted = restart(environment, consumer, "")?;
    let registry = &environment.registry;
    match restarted {
        Outcome::Injected => {
            outage(environment, registry, Service::kill, Duration::from_millis(for_ms))
        }
        Outcome::Skipped => Ok(Outcome::Skipped),
    }
}

pub(super) fn registry_fault(
    environment: &Environment,
    consumer: usize,
    fault: HttpFault,
    for_ms: u64,
) -> Result<Outcome> {
    environment.registry_proxy.set_fault(fault);
    let restarted = restart(environment, consumer, "");
    environment.sleep(Duration::from_millis(for_ms));
    environment.registry_proxy.set_fault(HttpFault::None);
    restarted
}

pub(super) fn fill_disk(environment: &Environment, for_ms: u64) -> Result<Outcome> {
    let Some(disk) = environment.disk.as_ref().and_then(free) else { return Ok(Outcome::Skipped) };
    let filled = disk.fill();
    environment.sleep(Duration::from_millis(for_ms));
    disk.free_space()?;
    filled.map(|()| Outcome::Injected)
}

pub(super) fn read_only_disk(environment: &Environment, for_ms: u64) -> Result<Outcome> {
    let Some(disk) = environment.disk.as_ref().and_then(free) else { return Ok(Outcome::Skipped) };
    if !await_moment(environment, || disk.set_read_only(true).map(|()| true)) {
        return Ok(Outcome::Skipped);
    }
    environment.sleep(Duration::from_millis(for_ms));
    disk.set_read_only(false)?;
    Ok(Outcome::Injected)
}

pub(super) fn disturb_store(
    environment: &Environment,
    fault: StoreFault,
    for_ms: u64,
) -> Result<Outcome> {
    let store = environment.store.as_ref().context("scheduled for an object store only")?;
    let Some(proxy) = free(&store.proxy) else { return Ok(Outcome::Skipped) };
    proxy.set_fault(fault);
    environment.sleep(Duration::from_millis(for_ms));
    proxy.set_fault(StoreFault::None);
    Ok(Outcome::Injected)
}

pub(super) fn add_partition(environment: &Environment) -> Outcome {
    let mut partitions = lock(&environment.partitions);
    if *partitions >= MAX_PARTITIONS {
        return Outcome::Skipped;
    }
    let (servers, topic) = (&environment.pipeline.bootstrap_servers, &environment.pipeline.topic);
    // The broker may be down.
    if add_partitions(servers, topic, *partitions + 1).is_err() {
        return Outcome::Skipped;
    }
    *partitions += 1;
    Outcome::Injected
}

pub(super) fn abort(environment: &Environment, partition: i32, records: usize) -> Outcome {
    let (servers, topic) = (&environment.pipeline.bootstrap_servers, &environment.pipeline.topic);
    let values = (0..records).map(|_| Uuid::new_v4().as_bytes().to_vec());
    // The broker can go down meanwhile; it then aborts the transaction itself.
    match publish_and_abort(servers, topic, partition, values) {
        Ok(()) => Outcome::Injected,
        Err(_) => Outcome::Skipped,
    }
}
