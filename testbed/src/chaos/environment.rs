//! Everything that runs, and what is known of it.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    Options,
    compactor_slot::CompactorSlot,
    consumer_slot::ConsumerSlot,
    foreign_writer::ForeignWriter,
    recovery_timer::{Positions, RecoveryTimer},
    schedule::PARTITIONS,
};
use crate::{
    catalog::{Catalog, CatalogKind},
    faults::{CommitFault, CommitProxy, HttpFaultProxy, SmallDisk},
    pipeline::{Pipeline, Protocol},
    services::{Kafka, Postgres, Registry, log_folder},
};

/// Room for what an hour of a gentle producer brings, its merged copies included.
const DISK_MEBIBYTES: u32 = 2048;

/// The services, the lake, the consumers, and the stats that are kept of a run.
pub(super) struct Environment {
    pub(super) kafka: Mutex<Kafka>,
    pub(super) registry: Mutex<Registry>,
    pub(super) postgres: Option<Mutex<Postgres>>,
    pub(super) registry_proxy: HttpFaultProxy,
    /// One before each consumer, where the catalog is a server.
    pub(super) proxies: Vec<CommitProxy>,
    /// None where this process may not mount one.
    pub(super) disk: Option<Mutex<SmallDisk>>,
    pub(super) slots: Vec<Mutex<ConsumerSlot>>,
    /// Merges, expires and cleans up all the while.
    pub(super) compactor: Mutex<CompactorSlot>,
    /// Another client, with a table of its own.
    pub(super) foreign_writer: Mutex<ForeignWriter>,
    pub(super) partitions: Mutex<usize>,
    pub(super) recoveries: Mutex<RecoveryTimer>,
    pub(super) stats: Mutex<RunStats>,
    stopping: AtomicBool,
    /// Dropped last: its folder can be removed once no disk is mounted in it.
    pub(super) pipeline: Pipeline,
}

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct RunStats {
    /// How often each fault happened.
    pub(super) injected: BTreeMap<&'static str, u64>,
    /// How often a fault could not be had: its target was busy with another one, or is not there.
    pub(super) skipped: BTreeMap<&'static str, u64>,
    /// How many consumers were killed.
    pub(super) kills: u64,
    /// How many compactors were killed.
    pub(super) compactor_kills: u64,
    /// How long it took another compactor to lead after the first one's death.
    pub(super) takeovers: Vec<Duration>,
    /// How often old snapshots and changes were result at again.
    pub(super) history_checks: u64,
    /// How many static members ended because Kafka had given their name away.
    pub(super) members_fenced: u64,
    /// How often the lake was result at while everything ran.
    pub(super) audits: u64,
    /// What killed merges left in the temporary folder.
    pub(super) temporary_leftovers: usize,
    /// What must never be.
    pub(super) violations: Vec<String>,
}

impl Environment {
    /// Starts services of the run's own, and mounts its disk.
    pub(super) fn start(options: &Options, log: &mut dyn FnMut(&str)) -> Result<Self> {
        let logs = log_folder()?.join(format!("chaos-{}", options.seed));
        let with_server = options.catalog == CatalogKind::Postgres;
        let (kafka, registry, postgres) = thread::scope(|scope| {
            let kafka = scope.spawn(|| Kafka::start(&logs));
            let registry = scope.spawn(|| Registry::start(&logs));
            let postgres = with_server.then(|| Postgres::start(&logs)).transpose()?;
            let kafka = kafka.join().expect("starting Kafka does not panic")?;
            let registry = registry.join().expect("starting the registry does not panic")?;
            anyhow::Ok((kafka, registry, postgres))
        })?;
        let registry_proxy = HttpFaultProxy::start(registry.port())?;
        let registry_url = registry.url_at(registry_proxy.port());
        let name = format!("chaos_{}", options.seed);
        let database = postgres.as_ref().map(|server| server.create_database(&name)).transpose()?;
        let mut pipeline =
            Pipeline::new(&name, &kafka.bootstrap_servers(), &registry_url, database)?;
        pipeline.protocol =
            if options.seed.is_multiple_of(2) { Protocol::Classic } else { Protocol::Consumer };
        kafka.create_topic(&name, PARTITIONS, &[])?;
        let disk = SmallDisk::mount(&pipeline.data_path(), DISK_MEBIBYTES);
        if let Err(error) = &disk {
            log(&format!(
                "SKIPPED: no full and no read-only disk, since none can be mounted: {error:#}"
            ));
        }
        let proxies: Vec<_> = (0..options.consumers * usize::from(with_server))
            .map(|_| CommitProxy::start(&pipeline.catalog, CommitFault::ResponseLost))
            .collect::<Result<_>>()?;
        let slots = (0..options.consumers).map(|number| {
            let catalog = match proxies.get(number) {
                Some(proxy) => proxy.url(&pipeline.catalog)?,
                None => pipeline.catalog.clone(),
            };
            Ok(Mutex::new(ConsumerSlot::new(number, catalog, pipeline.protocol)))
        });
        Ok(Self {
            slots: slots.collect::<Result<_>>()?,
            kafka: Mutex::new(kafka),
            registry: Mutex::new(registry),
            postgres: postgres.map(Mutex::new),
            registry_proxy,
            proxies,
            disk: disk.ok().map(Mutex::new),
            compactor: Mutex::default(),
            foreign_writer: Mutex::default(),
            partitions: Mutex::new(usize::try_from(PARTITIONS)?),
            recoveries: Mutex::new(RecoveryTimer::default()),
            stats: Mutex::new(RunStats::default()),
            stopping: AtomicBool::new(false),
            pipeline,
        })
    }

    pub(super) fn stats(&self) -> MutexGuard<'_, RunStats> {
        lock(&self.stats)
    }

    /// Takes note of something that must never be.
    pub(super) fn add_violation(&self, what: String) {
        self.stats().violations.push(what);
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Sleeps, less long when the run ends.
    pub(super) fn sleep(&self, duration: Duration) {
        let until = Instant::now() + duration;
        while Instant::now() < until && !self.is_stopping() {
            thread::sleep(Duration::from_millis(20).min(duration));
        }
    }
}

/// Where the partitions stand: epoch and next offset.
pub(super) fn positions(catalog: &mut Catalog) -> Result<Positions> {
    let rows = catalog.rows("SELECT partition, epoch, next_offset FROM ducktide_progress")?;
    let row = |row: Vec<i64>| match row[..] {
        [partition, epoch, next_offset] => Ok((partition, (epoch, next_offset))),
        _ => anyhow::bail!("expected three numbers"),
    };
    rows.into_iter().map(row).collect::<Result<_>>().context("read progress")
}

/// A lock whose holder panicked is as good as any: a run reports what happened all the same.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
