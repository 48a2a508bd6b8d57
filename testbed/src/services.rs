//! Apache Kafka, Apicurio Registry and PostgreSQL on this machine, for tests and demonstrations.
//!
//! Each is a child process by default, with its own folders and with ports on 127.0.0.1 only; with
//! `DUCKTIDE_SERVICES=containers` it is a container with the same interface. All end with this
//! process, even after SIGKILL. Tests that need them are marked `#[ignore]` and run by `cargo xtask
//! test`.

mod azure;
mod backend;
mod bucket_store;
mod container;
mod gcs;
mod kafka;
mod pgbouncer;
mod port;
mod postgres;
mod process;
mod registry;
mod s3;
mod secure_kafka;
mod shared;

use std::{
    env, fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};

pub(crate) use self::s3::{ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY};
pub use self::{
    azure::Azure,
    backend::{Backend, Service},
    bucket_store::BucketStore,
    gcs::Gcs,
    kafka::Kafka,
    pgbouncer::{PgBouncer, PoolMode},
    port::free as free_port,
    postgres::Postgres,
    registry::Registry,
    s3::{Role, S3},
    secure_kafka::{CONSUMER, OPERATOR, PRODUCER, SecureKafka, User},
    shared::{
        azure as shared_azure, exported, gcs as shared_gcs, kafka as shared_kafka,
        postgres as shared_postgres, registry as shared_registry, s3 as shared_s3,
    },
};
use crate::workspace;

/// One broker, one schema registry and one database server.
#[derive(Debug)]
pub struct Services {
    /// Broker.
    pub kafka: Kafka,
    /// Schema registry.
    pub registry: Registry,
    /// Database server.
    pub postgres: Postgres,
}

impl Services {
    /// Starts all three concurrently and waits until each is ready.
    pub fn start(logs: &Path) -> Result<Self> {
        thread::scope(|scope| {
            let kafka = scope.spawn(|| Kafka::start(logs));
            let registry = scope.spawn(|| Registry::start(logs));
            let postgres = scope.spawn(|| Postgres::start(logs));
            Ok(Self {
                kafka: kafka.join().expect("starting Kafka does not panic")?,
                registry: registry.join().expect("starting the registry does not panic")?,
                postgres: postgres.join().expect("starting PostgreSQL does not panic")?,
            })
        })
    }

    /// Lets all three outlive this process. Returns the shell commands that end them.
    #[must_use]
    pub fn leave_running(self) -> [String; 3] {
        let Self { kafka, registry, postgres } = self;
        [kafka.leave_running(), registry.leave_running(), postgres.leave_running()]
    }
}

/// Age at which the logs of a run are removed by a later run.
const LOG_RETENTION: Duration = Duration::from_hours(7 * 24);

/// Creates a folder for the logs of this process: `.ducktide/logs/<name of the program>-<pid>`.
pub fn log_folder() -> Result<PathBuf> {
    let all = workspace::root().join(".ducktide/logs");
    remove_old(&all);
    let program = env::current_exe().context("find the running program")?;
    let program = program.file_name().unwrap_or_default().display().to_string();
    let folder = all.join(format!("{program}-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

/// Removes old folders. Ignores errors: another run can be removing the same folder.
fn remove_old(all: &Path) {
    for folder in fs::read_dir(all).into_iter().flatten().flatten() {
        let age = folder.metadata().and_then(|metadata| metadata.modified());
        let age = age.map(|modified| SystemTime::now().duration_since(modified));
        if age.is_ok_and(|age| age.is_ok_and(|age| age > LOG_RETENTION)) {
            let _ = fs::remove_dir_all(folder.path());
        }
    }
}
