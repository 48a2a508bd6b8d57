//! What happens to the services, to the disk and to the topic.

use std::{sync::Mutex, time::Duration};

use anyhow::{Context as _, Result};
use uuid::Uuid;

use super::{Done, consumers::restart, free, moment};
use crate::{
    catalog::Catalog,
    chaos::stage::{Stage, lock},
    faults::{HeldCatalog, Sickness},
    kafka_admin::add_partitions,
    raw_records::publish_and_abort,
    services::Service,
};

/// The most partitions that the topic gets.
const MOST_PARTITIONS: usize = 12;

pub(super) fn outage<S: Service>(
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

pub(super) fn kill_catalog(stage: &Stage, for_ms: u64) -> Result<Done> {
    let postgres = stage.postgres.as_ref().context("scheduled for a server only")?;
    outage(stage, postgres, Service::kill, Duration::from_millis(for_ms))
}

pub(super) fn terminate_sessions(stage: &Stage, rounds: u32) -> Result<Done> {
    let postgres = stage.postgres.as_ref().context("scheduled for a server only")?;
    let Some(_server) = free(postgres) else { return Ok(Done::LeftOut) };
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

pub(super) fn hold_catalog(stage: &Stage, for_ms: u64) -> Done {
    // A busy SQLite file refuses, a server may be down.
    let Ok(held) = HeldCatalog::hold(&stage.pipeline.catalog) else { return Done::LeftOut };
    stage.sleep(Duration::from_millis(for_ms));
    held.let_go();
    Done::Injected
}

pub(super) fn pause_broker(stage: &Stage, for_ms: u64) -> Result<Done> {
    let Some(mut kafka) = free(&stage.kafka) else { return Ok(Done::LeftOut) };
    kafka.pause()?;
    stage.sleep(Duration::from_millis(for_ms));
    kafka.resume()?;
    Ok(Done::Injected)
}

/// A consumer asks the registry when it starts.
pub(super) fn registry_killed(stage: &Stage, consumer: usize, for_ms: u64) -> Result<Done> {
    let restarted = restart(stage, consumer, "")?;
    let registry = &stage.registry;
    match restarted {
        Done::Injected => outage(stage, registry, Service::kill, Duration::from_millis(for_ms)),
        Done::LeftOut => Ok(Done::LeftOut),
    }
}

pub(super) fn registry_ill(
    stage: &Stage,
    consumer: usize,
    sickness: Sickness,
    for_ms: u64,
) -> Result<Done> {
    stage.sick_registry.fall_ill(sickness);
    let restarted = restart(stage, consumer, "");
    stage.sleep(Duration::from_millis(for_ms));
    stage.sick_registry.fall_ill(Sickness::None);
    restarted
}

pub(super) fn fill_disk(stage: &Stage, for_ms: u64) -> Result<Done> {
    let Some(disk) = stage.disk.as_ref().and_then(free) else { return Ok(Done::LeftOut) };
    let filled = disk.fill();
    stage.sleep(Duration::from_millis(for_ms));
    disk.empty()?;
    filled.map(|()| Done::Injected)
}

pub(super) fn read_only_disk(stage: &Stage, for_ms: u64) -> Result<Done> {
    let Some(disk) = stage.disk.as_ref().and_then(free) else { return Ok(Done::LeftOut) };
    if !moment(stage, || disk.set_read_only(true).map(|()| true)) {
        return Ok(Done::LeftOut);
    }
    stage.sleep(Duration::from_millis(for_ms));
    disk.set_read_only(false)?;
    Ok(Done::Injected)
}

pub(super) fn add_partition(stage: &Stage) -> Done {
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

pub(super) fn abort(stage: &Stage, partition: i32, records: usize) -> Done {
    let (servers, topic) = (&stage.pipeline.bootstrap_servers, &stage.pipeline.topic);
    let values = (0..records).map(|_| Uuid::new_v4().as_bytes().to_vec());
    // The broker may go down meanwhile; it then aborts the transaction by itself.
    match publish_and_abort(servers, topic, partition, values) {
        Ok(()) => Done::Injected,
        Err(_) => Done::LeftOut,
    }
}
