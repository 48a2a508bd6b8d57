//! Apache Kafka, Apicurio Registry and PostgreSQL on this machine, for tests and for trying out.
//!
//! Each is a child process by default, with folders of its own and ports on 127.0.0.1 only; with
//! `DUCKTIDE_SERVICES=containers` a container, behind the same interface. All end with this process,
//! however it ends. Tests that need them are marked `#[ignore]` and run by `cargo xtask test`.

mod backend;
mod container;
mod kafka;
mod port;
mod postgres;
mod process;
mod registry;
mod shared;

use std::{
    env, fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};

pub use self::{
    backend::{Backend, Service},
    kafka::Kafka,
    port::free as free_port,
    postgres::Postgres,
    registry::Registry,
    shared::{
        exported, kafka as shared_kafka, postgres as shared_postgres, registry as shared_registry,
    },
};
use crate::workspace;

/// One of each.
#[derive(Debug)]
pub struct Services {
    /// The broker.
    pub kafka: Kafka,
    /// The schema registry.
    pub registry: Registry,
    /// The database server.
    pub postgres: Postgres,
}

impl Services {
    /// Starts all three at once and waits until each check_ready.
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

/// Logs of runs that nobody looked at within this time are removed by a later run.
const LOG_RETENTION: Duration = Duration::from_hours(7 * 24);

/// A fresh folder for the logs of this process: `.ducktide/logs/<name of the program>-<pid>`.
pub fn log_folder() -> Result<PathBuf> {
    let all = workspace::root().join(".ducktide/logs");
    remove_old(&all);
    let program = env::current_exe().context("find the running program")?;
    let program = program.file_name().unwrap_or_default().display().to_string();
    let folder = all.join(format!("{program}-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

/// Errors are left alone: another run may be removing the same folder.
fn remove_old(all: &Path) {
    for folder in fs::read_dir(all).into_iter().flatten().flatten() {
        let age = folder.metadata().and_then(|metadata| metadata.modified());
        let age = age.map(|modified| SystemTime::now().duration_since(modified));
        if age.is_ok_and(|age| age.is_ok_and(|age| age > LOG_RETENTION)) {
            let _ = fs::remove_dir_all(folder.path());
        }
    }
}
