//! `cargo xtask services`: starts the local services.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context as _, Result};
use ducktide_testbed::services::{self, Services};

use crate::verbs::signals;

/// Starts the services, prints their environment variables, and stops them on Ctrl-C or SIGTERM.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the exports are the result")]
pub(crate) fn run(logs: Option<PathBuf>) -> Result<()> {
    let logs = logs.map_or_else(services::log_folder, |logs| {
        std::fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
        Ok(logs)
    })?;
    eprintln!("starting Kafka, schema registry and PostgreSQL; logs: {}", logs.display());
    let started = Instant::now();
    let services = Services::start(&logs)?;
    eprintln!(
        "all three are ready after {:.1} s; Ctrl-C stops them",
        started.elapsed().as_secs_f64()
    );
    println!("export KAFKA_BOOTSTRAP_SERVERS={}", services.kafka.bootstrap_servers());
    println!("export SCHEMA_REGISTRY_URL={}", services.registry.url());
    println!("export DUCKLAKE_CATALOG={}", services.postgres.url("postgres"));
    println!("export DUCKLAKE_DATA_PATH={}", logs.join("lake").display());
    let (variable, running) = services::exported(&services);
    println!("export {variable}={running}");
    signals::wait()?;
    eprintln!("stopping the services");
    Ok(())
}
