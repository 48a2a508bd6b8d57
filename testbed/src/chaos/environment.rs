//! Services, lake and programs of a run, and its statistics.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    compactor_slot::CompactorSlot,
    consumer_slot::ConsumerSlot,
    foreign_writer::ForeignWriter,
    options::Options,
    recovery_timer::{Positions, RecoveryTimer},
    schedule::PARTITIONS,
};
use crate::{
    catalog::{Catalog, CatalogKind},
    faults::{CommitFault, CommitProxy, HttpFaultProxy, SmallDisk, StoreFaultProxy},
    pipeline::{Pipeline, Protocol},
    services::{BucketStore as _, Kafka, Postgres, Registry, S3, log_folder},
};

/// Size of the disk: enough for an hour of events, including merged copies.
const DISK_MEBIBYTES: u32 = 2048;

/// Services, lake and programs of a run, and its statistics.
pub(super) struct Environment {
    pub(super) kafka: Mutex<Kafka>,
    pub(super) registry: Mutex<Registry>,
    pub(super) postgres: Option<Mutex<Postgres>>,
    pub(super) registry_proxy: HttpFaultProxy,
    /// One proxy for each consumer if the catalog is PostgreSQL; else empty.
    pub(super) proxies: Vec<CommitProxy>,
    /// None for a local directory.
    pub(super) store: Option<ObjectStore>,
    /// None if this process has no permission to mount one, and for object storage.
    pub(super) disk: Option<Mutex<SmallDisk>>,
    pub(super) slots: Vec<Mutex<ConsumerSlot>>,
    /// Compactor that runs all the time.
    pub(super) compactor: Mutex<CompactorSlot>,
    /// Client that writes to another table of the lake.
    pub(super) foreign_writer: Mutex<ForeignWriter>,
    pub(super) partitions: Mutex<usize>,
    pub(super) recoveries: Mutex<RecoveryTimer>,
    pub(super) stats: Mutex<RunStats>,
    stopping: AtomicBool,
    /// Dropped last: its folder can be removed once no disk is mounted in it.
    pub(super) pipeline: Pipeline,
}

/// Object store of a run.
pub(super) struct ObjectStore {
    pub(super) store: S3,
    /// Proxy between the programs and the store.
    pub(super) proxy: Mutex<StoreFaultProxy>,
}

/// Counts of a run.
#[derive(Debug, Default)]
pub(super) struct RunStats {
    /// Number of injections of each fault.
    pub(super) injected: BTreeMap<&'static str, u64>,
    /// Number of times that a fault was skipped: its target had another fault, or does not exist.
    pub(super) skipped: BTreeMap<&'static str, u64>,
    /// Number of killed consumers.
    pub(super) kills: u64,
    /// Number of killed compactors.
    pub(super) compactor_kills: u64,
    /// Times from the kill of a compactor until another one was the leader.
    pub(super) takeovers: Vec<Duration>,
    /// Number of checks of old snapshots and changes.
    pub(super) history_checks: u64,
    /// Number of static members that were fenced by another member with the same instance ID.
    pub(super) members_fenced: u64,
    /// Number of audits during the run.
    pub(super) audits: u64,
    /// Number of entries in the temporary folder after the run.
    pub(super) temporary_leftovers: usize,
    /// Violations of the guarantee.
    pub(super) violations: Vec<String>,
}

impl Environment {
    /// Starts the services and mounts the disk.
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
        let (mut store, mut disk) = (None, None);
        if options.in_object_storage {
            let started = ObjectStore::start(&logs)?;
            let port = lock(&started.proxy).port();
            pipeline = pipeline.in_store(&started.store, port)?;
            store = Some(started);
        } else {
            match SmallDisk::mount(&pipeline.data_path(), DISK_MEBIBYTES) {
                Ok(mounted) => disk = Some(mounted),
                Err(error) => {
                    log(&format!("SKIPPED: faults of the disk; cannot mount one: {error:#}"));
                }
            }
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
            store,
            disk: disk.map(Mutex::new),
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

    /// Records a violation.
    pub(super) fn add_violation(&self, what: String) {
        self.stats().violations.push(what);
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Sleeps for this time, or until the run ends.
    pub(super) fn sleep(&self, duration: Duration) {
        let until = Instant::now() + duration;
        while Instant::now() < until && !self.is_stopping() {
            thread::sleep(Duration::from_millis(20).min(duration));
        }
    }
}

impl ObjectStore {
    fn start(logs: &Path) -> Result<Self> {
        let store = S3::start(logs)?;
        let proxy = Mutex::new(StoreFaultProxy::start(store.port())?);
        Ok(Self { store, proxy })
    }
}

/// Reads the positions of all partitions: epoch and next offset.
pub(super) fn positions(catalog: &mut Catalog) -> Result<Positions> {
    let rows = catalog.rows("SELECT partition, epoch, next_offset FROM ducktide_progress")?;
    let row = |row: Vec<i64>| match row[..] {
        [partition, epoch, next_offset] => Ok((partition, (epoch, next_offset))),
        _ => anyhow::bail!("expected three numbers"),
    };
    rows.into_iter().map(row).collect::<Result<_>>().context("read progress")
}

/// Locks a mutex. Ignores that another holder panicked: the run is reported anyway.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
